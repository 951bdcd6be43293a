//! A path through the model in plain words.

use std::collections::BTreeMap;

use order_router::protocol::lane::Write;
use order_router::protocol::{IntentId, Serial, Verdict};

use super::account::Other;
use super::steps::{Action, letter};
use super::world::{World, maker};

/// The steps of a path, each in words; of each step, the state before it.
pub fn told(path: Vec<(World, Option<Action>)>) -> Vec<String> {
    let others = (100..128).filter_map(|n| Some((n, Other::name(Serial(n))?)));
    let mut names: BTreeMap<u64, String> = others.collect();
    let mut tries: BTreeMap<char, usize> = BTreeMap::new();
    let mut lines = Vec::new();
    for (world, action) in path {
        let Some(action) = action else { break };
        if let Action::Comes(intent) | Action::Permit(intent) = action {
            let tries = tries.entry(letter(intent)).or_default();
            *tries += 1;
            names.insert(world.serial, format!("{}{tries}", letter(intent)));
        }
        let text = match action {
            Action::Durable => {
                let mut writes = world.writes.iter().filter(|pending| pending.answer.is_none());
                writes.next().map(|p| durable(&p.write, p.half)).unwrap_or_default()
            }
            _ => action.to_string(),
        };
        lines.push(named(&text, &names));
    }
    lines
}

/// What is durable now.
pub fn durable(write: &Write, half: bool) -> String {
    let name = |intent: &IntentId| letter(*intent);
    match write {
        Write::Accept { intent, attempt: None } => format!("{} is accepted", name(intent)),
        Write::Accept { intent, attempt: Some(attempt) } => {
            format!("{} is accepted and @{} recorded", name(intent), attempt.seq.0)
        }
        Write::Record { attempt, .. } => format!("@{} is recorded", attempt.seq.0),
        Write::Expire { intent, .. } => format!("{} is too late", name(intent)),
        Write::Settle { intent } => format!("the POST of {} counts as settled", name(intent)),
        Write::HoldLane { .. } => "the lane is held".to_owned(),
        Write::FreeLane => "the lane is freed".to_owned(),
        Write::Decide { intent, seq, verdict } => match verdict {
            Verdict::Placed { .. } if half => "that claim is durable".to_owned(),
            Verdict::Placed { id, .. } | Verdict::Created { id, .. } => {
                format!("{} is placed with the order of @{}", name(intent), maker(id).0)
            }
            Verdict::Refused(_) => format!("{} is refused", name(intent)),
            Verdict::NotSent(_) => format!("{} is queued again, @{} unsent", name(intent), seq.0),
            Verdict::InDoubt(_) => format!("@{} is in doubt", seq.0),
            Verdict::Held(_) => format!("a person is asked about @{}", seq.0),
            Verdict::Absent => format!("@{} is released", seq.0),
            Verdict::NotPlaced(_) => format!("{} is given up", name(intent)),
        },
    }
}

/// Puts the names of attempts in the place of their numbers.
pub fn named(text: &str, names: &BTreeMap<u64, String>) -> String {
    let mut parts = text.split('@');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.chars().take_while(char::is_ascii_digit).count();
        let name = part[..digits].parse().ok().and_then(|n: u64| names.get(&n));
        out.push_str(name.map_or("?", String::as_str));
        out.push_str(&part[digits..]);
    }
    out
}
