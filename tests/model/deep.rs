//! A search of its own, depth first: of each state 64 bits are kept, and whole only those that are
//! still to be gone on from.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use stateright::{Expectation, Model, Property};

use super::marks::{Hashed, mark};
use super::memo::remembered_count;
use super::props::{self, fairest, is_over};
use super::setup::Setup;
use super::steps::Action;
use super::world::World;

/// What a search has seen.
pub struct Seen {
    pub states: usize,
    pub transitions: u64,
    pub depth: usize,
    /// Whether there was time for every state.
    pub exhausted: bool,
    /// What is to happen at some time, and has not.
    pub missing: Vec<&'static str>,
    /// The first violation, with the path to it; names are those of the state before each step.
    pub violated: Option<(&'static str, Vec<String>)>,
}

/// A state that is to be gone on from.
struct Next {
    world: World,
    depth: usize,
    by: Option<Action>,
    /// It is what comes next once nothing goes wrong any more.
    is_fair: bool,
}

struct Search<'a> {
    setup: &'a Setup,
    always: Vec<Property<Setup>>,
    sometimes: Vec<Property<Setup>>,
    seen: HashSet<u64, Hashed>,
    stack: Vec<Next>,
    path: Vec<Action>,
    /// The states of the fair continuation that is being followed.
    chain: Vec<u64>,
    transitions: u64,
    depth: usize,
}

/// Goes through every state, or as many as there is time for.
///
/// *Every intent ends*: of each state the fair continuation is followed before anything else. It
/// is over, or comes to a state that was seen before and whose own continuation has ended, or
/// comes back to itself, or cannot go on.
pub fn search(name: &str, setup: &Setup, time: Duration) -> Seen {
    #[allow(clippy::disallowed_methods, reason = "only the time that a run took is told")]
    let began = Instant::now();
    assert!(!setup.folds || setup.may_fold(), "{name}: there is more than names in it");
    let all = Setup { ends: false, ..setup.clone() }.properties();
    let (always, sometimes) =
        all.into_iter().partition(|property| property.expectation == Expectation::Always);
    let mut search = Search {
        setup,
        always,
        sometimes,
        seen: HashSet::default(),
        stack: Vec::new(),
        path: Vec::new(),
        chain: Vec::new(),
        transitions: 0,
        depth: 0,
    };
    let world = World::start(setup);
    let mut violated = search.judge(&world);
    search.stack.push(Next { world, depth: 0, by: None, is_fair: false });
    let mut exhausted = true;
    while violated.is_none() {
        let Some(next) = search.stack.pop() else { break };
        violated = search.go_on(next);
        if search.seen.len() % 4_000_000 == 1 || search.seen.len() % 65_536 == 1 {
            exhausted = began.elapsed() < time;
            if search.seen.len() % 4_000_000 == 1 {
                search.report(name, began.elapsed());
            }
            if !exhausted {
                break;
            }
        }
    }
    search.report(name, began.elapsed());
    let path = search.path.iter().map(ToString::to_string).collect();
    Seen {
        states: search.seen.len(),
        transitions: search.transitions,
        depth: search.depth,
        exhausted,
        missing: search.sometimes.iter().map(|property| property.name).collect(),
        violated: violated.map(|property| (property, path)),
    }
}

impl Search<'_> {
    /// What a state violates. What is to happen at some time, and does here, is not looked for any
    /// more.
    fn judge(&mut self, world: &World) -> Option<&'static str> {
        let setup = self.setup;
        self.sometimes.retain(|property| !(property.condition)(setup, world));
        let mut wrong = self.always.iter().filter(|property| !(property.condition)(setup, world));
        wrong.next().map(|property| property.name)
    }

    fn go_on(&mut self, next: Next) -> Option<&'static str> {
        let Next { world, depth, by, is_fair } = next;
        let here = mark(&world);
        if !self.seen.insert(here) {
            return None;
        }
        self.path.truncate(depth.saturating_sub(1));
        self.path.extend(by);
        self.depth = self.depth.max(depth);
        if !is_fair {
            self.chain.clear();
        }
        self.chain.push(here);
        let mut actions = Vec::new();
        self.setup.actions(&world, &mut actions);
        let fair = if !self.setup.ends || is_over(&world) {
            None
        } else {
            Some(fairest(&actions))
        };
        if fair == Some(None) {
            return Some(props::ENDS);
        }
        let fair = fair.flatten();
        let mut first = None;
        for (at, action) in actions.into_iter().enumerate() {
            let Some(next) = self.setup.next_state(&world, action.clone()) else { continue };
            self.transitions += 1;
            let folded = if self.setup.folds { self.setup.folded(next.clone()) } else { next.clone() };
            let there = mark(&folded);
            let is_fair = fair == Some(at);
            if self.seen.contains(&there) {
                if is_fair && self.chain.contains(&there) {
                    self.path.push(action);
                    return Some(props::ENDS);
                }
                continue;
            }
            if let Some(wrong) = self.judge(&next) {
                self.path.push(action);
                return Some(wrong);
            }
            let next = Next { world: folded, depth: depth + 1, by: Some(action), is_fair };
            if is_fair { first = Some(next) } else { self.stack.push(next) }
        }
        self.stack.extend(first);
        None
    }

    fn report(&self, name: &str, time: Duration) {
        let (states, seconds) = (self.seen.len(), time.as_secs_f64());
        let (steps, lanes) = remembered_count();
        println!(
            "{name}: {states} states, {} steps, {} waiting, at most {} deep, {seconds:.0} s, {:.0} a \
             second; {steps} steps and {lanes} forms of lanes",
            self.transitions,
            self.stack.len(),
            self.depth,
            states as f64 / seconds.max(0.001),
        );
    }
}

