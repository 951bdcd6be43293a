//! The words of the protocol: intents, attempts, outcomes, and what is written of them.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::payment::{PayVerdict, Payment};
use crate::order::{ClientRef, Item, ItemsDigest, ItemsHash, OrderId};
use crate::store::{Adopted, Mark};

/// A number that a store hands out once, ever growing, over restarts too. It names intents and
/// attempts: of two attempts the one with the lower serial is the older.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct Serial(pub u64);

/// The store's name of an intent.
pub type IntentId = Serial;

/// The number of an attempt: its place in its lane's sequence.
pub type AttemptSeq = Serial;

/// Key, base URL and account that a request is made with, as a hash.
///
/// A list proves absence only of attempts with the same fingerprint (assumption A2, iv).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct Fingerprint(pub u64);

/// Why an attempt's outcome is what it is, why an intent is held: a short word, no secrets.
///
/// Our own words and the supplier's error code, never a message of the supplier's.
pub type Why = std::borrow::Cow<'static, str>;

/// What one POST is known to have done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The supplier's own answer names the order that it created.
    Created {
        /// Its id.
        id: OrderId,
        /// When the supplier says that it created it, if it says so.
        created_at: Option<Timestamp>,
    },
    /// Nothing was created, and sending it again is pointless.
    Refused(Why),
    /// Nothing was created: not a byte left, or the supplier says so. It may be sent again.
    NotSent(Why),
    /// It may have created an order. Only looking can tell.
    Unknown(Why),
}

/// How a claim was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Learnt {
    /// From the supplier's answer to the attempt itself.
    Answer,
    /// From a row of a list.
    List,
    /// A person said so.
    Person,
}

/// One POST for one intent, as it is recorded before it is sent (rule 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attempt {
    /// Its place in the lane's sequence.
    pub seq: AttemptSeq,
    /// What it is sent with.
    pub fingerprint: Fingerprint,
    /// The newest `createdAt` that was known on the account when it was recorded: its order cannot
    /// be older, so a list need not be read further back. `None`: the account knew no order.
    pub floor: Option<Timestamp>,
}

/// An intent as it is accepted: everything that is needed to send it, now or after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewIntent {
    /// The store's name of it.
    pub id: IntentId,
    /// The caller's name of it.
    pub client_ref: ClientRef,
    /// Its lane.
    pub lane: ItemsHash,
    /// What a repeat under the same reference must equal.
    pub as_sent: ItemsDigest,
    /// What of it must be equal for two orders of the lane to be interchangeable (rule 13).
    pub delivered: ItemsDigest,
    /// The lines.
    pub items: Arc<[Item]>,
    /// Until when it is worth sending.
    pub good_until: Timestamp,
    /// When it was accepted, by the wall clock: for people, nothing is decided by it.
    pub accepted_at: Timestamp,
}

/// How an open attempt is decided: one durable write, guarded by (intent, attempt, still open).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// The intent has this supplier order, and no other intent has it.
    Placed {
        /// The supplier's order.
        id: OrderId,
        /// How it was learnt.
        learnt: Learnt,
        /// When the supplier says that it was created.
        created_at: Option<Timestamp>,
    },
    /// The same, and the order is to be paid yet ([`PaysOn::Pay`](super::payment::PaysOn::Pay)).
    Created {
        /// The supplier's order.
        id: OrderId,
        /// How it was learnt.
        learnt: Learnt,
        /// When the supplier says that it was created.
        created_at: Option<Timestamp>,
    },
    /// The supplier refused it; nothing was bought.
    Refused(Why),
    /// It was not sent: the intent is queued again, no try is used up.
    NotSent(Why),
    /// It may have landed.
    InDoubt(Why),
    /// In doubt, and a person is asked.
    Held(Why),
    /// Proved absent: queued again, a try is used up.
    Absent,
    /// Proved absent, and no try is left: ended, nothing bought.
    NotPlaced(Why),
}

impl Verdict {
    /// The order that it claims, if it claims one, and when the supplier says that it was created.
    #[must_use]
    pub fn order(&self) -> Option<(&OrderId, Option<Timestamp>)> {
        match self {
            Self::Placed { id, created_at, .. } | Self::Created { id, created_at, .. } => {
                Some((id, *created_at))
            }
            Self::Refused(_)
            | Self::NotSent(_)
            | Self::InDoubt(_)
            | Self::Held(_)
            | Self::Absent
            | Self::NotPlaced(_) => None,
        }
    }
}

/// One durable change. Atomic; the store answers once it cannot be lost any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Creates an intent if its reference is new, with its first attempt when it can leave at once.
    Accept {
        /// The intent.
        intent: NewIntent,
        /// Its first attempt, recorded in the same write.
        attempt: Option<Attempt>,
    },
    /// Records an attempt of a queued intent before it is sent.
    Record {
        /// The intent.
        intent: IntentId,
        /// The attempt.
        attempt: Attempt,
    },
    /// Decides an attempt.
    Decide {
        /// The intent.
        intent: IntentId,
        /// The attempt: the write is refused if it is not the newest or not open any more.
        attempt: AttemptSeq,
        /// The verdict.
        verdict: Verdict,
    },
    /// The payment of a created order goes on or ends.
    Pay {
        /// The intent.
        intent: IntentId,
        /// Where its payment stands: the write is refused if it stands elsewhere.
        was: Payment,
        /// What becomes of it.
        to: PayVerdict,
    },
    /// Ends a queued intent unsent: its `good_until` has passed, or it was cancelled.
    Expire {
        /// The intent.
        intent: IntentId,
        /// Why.
        why: Why,
    },
    /// Nothing of the POST of an intent that was placed from a list can land any more.
    Settle {
        /// The intent.
        intent: IntentId,
    },
    /// A lane shows more orders than doubts: only a person ends this (rule 10).
    HoldLane {
        /// The lane.
        lane: ItemsHash,
        /// Why.
        why: Why,
    },
    /// A person has ended the hold.
    FreeLane {
        /// The lane.
        lane: ItemsHash,
    },
    /// Orders on the account that no intent has: never candidates (rule 12).
    Orphans {
        /// Their ids, at most [`IDS_PER_RECORD_MAX`] a record.
        ids: Vec<OrderId>,
        /// Why they are known to be nobody's.
        why: Why,
    },
    /// The history line of the account (rule 14).
    History {
        /// The newest `createdAt` at the router's first start; `None`: the account had no order.
        newest: Option<Timestamp>,
        /// Ids around the line, at most [`IDS_PER_RECORD_MAX`] a record; further records add ids.
        ids: Vec<OrderId>,
    },
    /// The list was seen to echo orders of this shape faithfully (assumption A4).
    EchoSeen {
        /// The shape.
        shape: Shape,
    },
    /// Sending on the account is stopped, over restarts too.
    Pause {
        /// Why.
        why: Why,
    },
    /// Sending on the account goes on.
    Resume,
    /// Counts what may leave next against the limits of orders and money.
    Spend(super::limits::Spend),
    /// Says all that was spent of late. Only a migration writes this.
    Spent(super::limits::Spent),
    /// Takes over an intent as another store kept it. Only a migration writes this, into a store
    /// that is marked as being filled.
    Adopt {
        /// The intent.
        intent: Box<Adopted>,
        /// The highest serial that the other store had handed out.
        handed_out: Serial,
    },
    /// Marks the store, or takes its mark away. Only a migration writes this.
    Mark {
        /// The mark; `None`: the store is one like any other.
        mark: Option<Mark>,
    },
}

/// Most ids in one `Orphans` or `History` record.
pub const IDS_PER_RECORD_MAX: usize = 64;

/// What an echo has to be seen for, once each (assumption A4).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct Shape {
    /// More than one line.
    pub several_lines: bool,
    /// At least one line has a note.
    pub with_note: bool,
}

impl Shape {
    /// The shape of an order.
    #[must_use]
    pub fn of(items: &[Item]) -> Self {
        Self {
            several_lines: items.len() > 1,
            with_note: items.iter().any(|i| i.note_ref().is_some()),
        }
    }
}

/// Where an intent stands, as it is stored and shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Accepted, nothing is under way.
    Queued,
    /// An attempt is recorded; it may be on the wire.
    Sending(Attempt),
    /// An attempt may have landed.
    InDoubt(Attempt, Why),
    /// In doubt, and a person is asked.
    Held(Attempt, Why),
    /// This order is this intent's, and is to be paid yet.
    Created {
        /// The supplier's order.
        id: OrderId,
        /// How it was learnt.
        learnt: Learnt,
        /// When the supplier says that it was created.
        created_at: Option<Timestamp>,
        /// Where its payment stands.
        payment: Payment,
        /// Why it stands there, where there is something to say; else empty.
        why: Why,
    },
    /// Bought: this order is this intent's.
    Placed {
        /// The supplier's order.
        id: OrderId,
        /// How it was learnt.
        learnt: Learnt,
        /// When the supplier says that it was created.
        created_at: Option<Timestamp>,
    },
    /// The supplier refused it; nothing was bought.
    Refused(Why),
    /// Proved absent or never sent, and given up; nothing was bought.
    NotPlaced(Why),
    /// This order is this intent's, was not paid, and will not be: nothing was debited.
    Unpaid {
        /// The supplier's order.
        id: OrderId,
        /// How it was learnt.
        learnt: Learnt,
        /// When the supplier says that it was created.
        created_at: Option<Timestamp>,
        /// Why.
        why: Why,
    },
}

/// A supplier order that an intent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ordered<'a> {
    /// The supplier's order.
    pub id: &'a OrderId,
    /// How it was learnt.
    pub learnt: Learnt,
    /// When the supplier says that it was created.
    pub created_at: Option<Timestamp>,
}

impl State {
    /// Whether this is an end that never changes any more.
    #[must_use]
    pub fn is_end(&self) -> bool {
        match self {
            Self::Placed { .. } | Self::Refused(_) | Self::NotPlaced(_) | Self::Unpaid { .. } => {
                true
            }
            Self::Queued
            | Self::Sending(_)
            | Self::InDoubt(..)
            | Self::Held(..)
            | Self::Created { .. } => false,
        }
    }

    /// The order that it has, if it has one: paid, to be paid, or never paid.
    #[must_use]
    pub fn order(&self) -> Option<Ordered<'_>> {
        match self {
            Self::Created { id, learnt, created_at, .. }
            | Self::Placed { id, learnt, created_at }
            | Self::Unpaid { id, learnt, created_at, .. } => {
                Some(Ordered { id, learnt: *learnt, created_at: *created_at })
            }
            Self::Queued
            | Self::Sending(_)
            | Self::InDoubt(..)
            | Self::Held(..)
            | Self::Refused(_)
            | Self::NotPlaced(_) => None,
        }
    }

    /// Whether its lane is done with it: it has its order, or has ended without one.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.is_end() || self.order().is_some()
    }

    /// The open attempt, if there is one.
    #[must_use]
    pub fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Sending(a) | Self::InDoubt(a, _) | Self::Held(a, _) => Some(a),
            Self::Queued
            | Self::Created { .. }
            | Self::Placed { .. }
            | Self::Refused(_)
            | Self::NotPlaced(_)
            | Self::Unpaid { .. } => None,
        }
    }

    /// Its name in results and tables.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending(_) => "sending",
            Self::InDoubt(..) => "in_doubt",
            Self::Held(..) => "held",
            Self::Created { .. } => "created",
            Self::Placed { .. } => "placed",
            Self::Refused(_) => "refused",
            Self::NotPlaced(_) => "not_placed",
            Self::Unpaid { .. } => "unpaid",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Note;

    #[test]
    fn a_shape_is_told_by_the_lines_and_their_notes() {
        let plain = Item::new("p", 1).expect("an item");
        let noted = plain.clone().note(Note::new(&serde_json::json!({})).expect("a note"));
        let shape = |several_lines, with_note| Shape { several_lines, with_note };
        assert_eq!(Shape::of(std::slice::from_ref(&plain)), shape(false, false));
        assert_eq!(Shape::of(&[plain.clone(), plain.clone()]), shape(true, false));
        assert_eq!(Shape::of(std::slice::from_ref(&noted)), shape(false, true));
        assert_eq!(Shape::of(&[plain, noted]), shape(true, true));
    }

    #[test]
    fn a_state_says_whether_it_is_an_end_what_is_open_and_its_name() {
        let why: Why = "why".into();
        let attempt = Attempt { seq: Serial(1), fingerprint: Fingerprint(2), floor: None };
        let id = OrderId::new("7").expect("an id");
        let (learnt, created_at) = (Learnt::List, None);
        let placed = State::Placed { id: id.clone(), learnt, created_at };
        let payment = Payment::NEW;
        let created =
            State::Created { id: id.clone(), learnt, created_at, payment, why: why.clone() };
        let unpaid = State::Unpaid { id, learnt, created_at, why: why.clone() };
        let states = [
            (State::Queued, false, false, "queued"),
            (State::Sending(attempt), false, true, "sending"),
            (State::InDoubt(attempt, why.clone()), false, true, "in_doubt"),
            (State::Held(attempt, why.clone()), false, true, "held"),
            (created, false, false, "created"),
            (placed, true, false, "placed"),
            (unpaid, true, false, "unpaid"),
            (State::Refused(why.clone()), true, false, "refused"),
            (State::NotPlaced(why), true, false, "not_placed"),
        ];
        for (state, is_end, is_open, name) in states {
            assert_eq!((state.is_end(), state.name()), (is_end, name));
            assert_eq!(state.attempt(), is_open.then_some(&attempt));
        }
    }
}
