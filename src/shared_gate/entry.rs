//! What stands under a key of the gate, and what it means for an order: pure.

use std::fmt;

use super::OnFailure;
use crate::order::ItemsDigest;

/// The version of the form.
const VERSION: &str = "1";

/// How far the node has come that holds a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has asked; its intent is not known to be durable.
    Recording,
    /// Its intent is durable.
    Recorded,
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Recorded => "recorded",
        }
    }
}

/// Who holds a reference, with which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) node: String,
    pub(super) phase: Phase,
    pub(super) order: ItemsDigest,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION} {} {} ", self.phase.word(), self.node)?;
        self.order.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Entry {
    /// Reads what stands under a key; `None` if it is not of this form.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next()? != VERSION {
            return None;
        }
        let phase = match words.next()? {
            "recording" => Phase::Recording,
            "recorded" => Phase::Recorded,
            _ => return None,
        };
        let node = words.next().filter(|node| !node.is_empty())?.to_owned();
        let hex = words.next().filter(|hex| hex.len() == 32 && hex.is_ascii())?;
        if words.next().is_some() {
            return None;
        }
        let mut bytes = [0; 16];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self { node, phase, order: ItemsDigest::from_bytes(bytes) })
    }
}

/// What was found when the key was to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing: it is added, for this node.
    Added,
    /// Somebody's, perhaps this node's own.
    Held(Entry),
    /// It is not known: the gate did not answer, or something else stands there.
    Unknown,
}

/// What becomes of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on to its lane, where the store's guards decide.
    Go,
    /// The same, but nothing keeps another node from taking it too.
    GoUnguarded,
    /// This node's store has it, and the gate says that another node has it as well.
    GoBoth(String),
    /// Whether this node's store has the reference is to be found out first.
    AskStore,
    /// Nothing is recorded.
    Refuse(Refusal),
}

/// Why an order is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another node has the same order.
    Elsewhere { node: String, recorded: bool },
    /// Another node has another order under the reference.
    Conflict,
    /// This node recorded the reference, and its store does not have it.
    Forgotten,
    /// The gate did not answer.
    NoAnswer,
}

/// The table in `ARCHITECTURE.md`, *The shared gate*. `in_store`: whether this node's store has the
/// reference, once that was asked.
pub(super) fn decide(
    found: &Found,
    me: &str,
    order: ItemsDigest,
    in_store: Option<bool>,
    on_failure: OnFailure,
) -> Verdict {
    match (found, in_store) {
        (Found::Added, _) => Verdict::Go,
        (Found::Held(entry), _) if entry.node == me && entry.phase == Phase::Recording => {
            Verdict::Go
        }
        // The gate says no: the word of this node's own store goes before its.
        (Found::Held(_) | Found::Unknown, None) => Verdict::AskStore,
        (Found::Held(entry), Some(true)) if entry.node != me => Verdict::GoBoth(entry.node.clone()),
        (Found::Held(_) | Found::Unknown, Some(true)) => Verdict::Go,
        (Found::Held(entry), Some(false)) => Verdict::Refuse(if entry.node == me {
            Refusal::Forgotten
        } else if entry.order == order {
            let recorded = entry.phase == Phase::Recorded;
            Refusal::Elsewhere { node: entry.node.clone(), recorded }
        } else {
            Refusal::Conflict
        }),
        (Found::Unknown, Some(false)) => match on_failure {
            OnFailure::Closed => Verdict::Refuse(Refusal::NoAnswer),
            OnFailure::Open => Verdict::GoUnguarded,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Item;

    const ME: &str = "eu-1/00000001";
    const OTHER: &str = "us-1/00000002";

    fn order(quantity: u32) -> ItemsDigest {
        ItemsDigest::as_sent(&[Item::new("x", quantity).expect("an item")])
    }

    fn held(node: &str, phase: Phase) -> Found {
        Found::Held(Entry { node: node.to_owned(), phase, order: order(1) })
    }

    #[track_caller]
    fn check(found: &Found, in_store: Option<bool>, expected: Verdict) {
        for on_failure in [OnFailure::Closed, OnFailure::Open] {
            assert_eq!(decide(found, ME, order(1), in_store, on_failure), expected, "{found:?}");
        }
    }

    #[test]
    fn a_key_that_was_added_or_is_of_an_order_that_this_node_began_lets_it_pass() {
        for in_store in [None, Some(false), Some(true)] {
            check(&Found::Added, in_store, Verdict::Go);
            check(&held(ME, Phase::Recording), in_store, Verdict::Go);
        }
    }

    #[test]
    fn an_order_that_is_begun_here_with_other_items_is_left_to_the_stores_guard() {
        let found = held(ME, Phase::Recording);
        assert_eq!(decide(&found, ME, order(2), None, OnFailure::Closed), Verdict::Go);
    }

    #[test]
    fn nobody_is_refused_before_this_nodes_store_was_asked() {
        for node in [ME, OTHER] {
            check(&held(node, Phase::Recorded), None, Verdict::AskStore);
        }
        check(&held(OTHER, Phase::Recording), None, Verdict::AskStore);
        check(&Found::Unknown, None, Verdict::AskStore);
    }

    #[test]
    fn what_this_nodes_store_has_is_never_refused() {
        check(&held(ME, Phase::Recorded), Some(true), Verdict::Go);
        check(&Found::Unknown, Some(true), Verdict::Go);
        for phase in [Phase::Recording, Phase::Recorded] {
            check(&held(OTHER, phase), Some(true), Verdict::GoBoth(OTHER.to_owned()));
        }
    }

    #[test]
    fn another_nodes_order_is_refused_with_its_name() {
        for (phase, recorded) in [(Phase::Recording, false), (Phase::Recorded, true)] {
            let refusal = Refusal::Elsewhere { node: OTHER.to_owned(), recorded };
            check(&held(OTHER, phase), Some(false), Verdict::Refuse(refusal));
            let found = held(OTHER, phase);
            let verdict = decide(&found, ME, order(2), Some(false), OnFailure::Open);
            assert_eq!(verdict, Verdict::Refuse(Refusal::Conflict));
        }
    }

    #[test]
    fn what_this_node_recorded_and_its_store_does_not_have_is_refused() {
        let refused = Verdict::Refuse(Refusal::Forgotten);
        check(&held(ME, Phase::Recorded), Some(false), refused);
    }

    #[test]
    fn no_answer_is_what_the_setting_says() {
        let decided = |on_failure| decide(&Found::Unknown, ME, order(1), Some(false), on_failure);
        assert_eq!(decided(OnFailure::Closed), Verdict::Refuse(Refusal::NoAnswer));
        assert_eq!(decided(OnFailure::Open), Verdict::GoUnguarded);
    }

    #[test]
    fn an_entry_comes_back_as_it_was_written_and_nothing_else_is_one() {
        for phase in [Phase::Recording, Phase::Recorded] {
            let entry = Entry { node: ME.to_owned(), phase, order: order(3) };
            let text = entry.to_string();
            assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
            assert_eq!(Entry::read(&text), Some(entry));
            for cut in 0..text.len() {
                assert_eq!(Entry::read(&text[..cut]), None, "{}", &text[..cut]);
            }
            assert_eq!(Entry::read(&format!("{text} more")), None);
            assert_eq!(Entry::read(&text.replacen('1', "2", 1)), None, "a newer version");
        }
        let odd = format!("1 recorded n {}", "ü".repeat(16));
        for text in ["", "canary", "1 recorded  00", &*odd] {
            assert_eq!(Entry::read(text), None, "{text}");
        }
    }
}
