//! A path in plain words.

use std::collections::BTreeMap;

use order_router::protocol::Clause;

use super::Setup;
use super::steps::Action;
use super::world::{Change, World};
use crate::model::steps::letter;
use crate::model::words::{durable, named};
use crate::model::world::maker;

/// The steps of a path, each in words; of each step, the state before it.
pub fn told(setup: &Setup, path: Vec<(World, Option<Action>)>) -> Vec<String> {
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    let mut tries: BTreeMap<char, usize> = BTreeMap::new();
    let mut lines = Vec::new();
    for (world, action) in path {
        let Some(action) = action else { break };
        if let Action::Comes(_, intent) | Action::Permit(_, intent) = action {
            let tries = tries.entry(letter(intent)).or_default();
            *tries += 1;
            names.insert(world.serial, format!("{}{tries}", letter(intent)));
        }
        let text = match action {
            Action::Durable(at) => write(setup, &world, at),
            Action::Acquires => {
                format!("the lease is over, router {} has it", world.routers.len() + 1)
            }
            Action::Gate(seq) => {
                let mut posts = world.posts.iter().filter(|post| post.seq == seq);
                let yields = posts.next().is_some_and(|post| setup.yields(&world, post));
                format!("the gate of @{} {}", seq.0, if yields { "yields" } else { "closes" })
            }
            _ => action.to_string(),
        };
        lines.push(named(&text, &names));
    }
    lines
}

/// What becomes of the oldest write of a router.
fn write(setup: &Setup, world: &World, at: usize) -> String {
    let mut pending = world.routers[at].writes.iter().filter(|pending| pending.answer.is_none());
    let text = match pending.next().map(|pending| &pending.change) {
        Some(Change::Lane(write)) => durable(write, false),
        Some(Change::Orphans(ids)) => {
            let ids: Vec<_> = ids.iter().map(|id| format!("@{}", maker(id).0)).collect();
            format!("the order of {} is nobody's", ids.join(" "))
        }
        None => String::new(),
    };
    match at == world.newest() {
        true if at == 0 => text,
        true => format!("router {}: {text}", at + 1),
        false if setup.keeps(Clause::Fenced) => {
            format!("router {} is refused \"{text}\", and stops", at + 1)
        }
        false => format!("router {}, late: {text}", at + 1),
    }
}
