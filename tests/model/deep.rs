//! A search of its own, depth first: of each state 64 bits are kept, and whole only those that are
//! still to be gone on from.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use stateright::{Expectation, Model, Property};

use super::marks::{Hashed, mark};
use super::props::{self, fairest, is_over};
use super::setup::Setup;
use super::steps::Action;
use super::world::{Stage, World};

/// What a search has seen.
pub struct Seen {
    pub states: usize,
    /// Whether there was time for every state.
    pub exhausted: bool,
    /// What is to happen at some time, and has not.
    pub missing: Vec<&'static str>,
    /// The first violation. With the path to it, where a clause is left out; names are those of
    /// the state before each step.
    pub violated: Option<(&'static str, Vec<String>)>,
}

/// A state whose fair continuations are being followed.
struct Open {
    mark: u64,
    left: Vec<World>,
}

struct Search<'a> {
    setup: &'a Setup,
    always: Vec<Property<Setup>>,
    sometimes: Vec<Property<Setup>>,
    seen: HashSet<u64, Hashed>,
    /// How states were come to; only where a clause is left out.
    from: HashMap<u64, (u64, Action), Hashed>,
    /// States that are to be gone on from.
    waiting: Vec<World>,
    /// The way from one of these by fair steps alone.
    fair: Vec<Open>,
    steps: u64,
    began: Instant,
}

type Violation = (&'static str, u64, Option<Action>);

/// Goes through every state, or as many as there is time for.
///
/// *Every intent ends*: from each state all fair continuations are followed before anything else.
/// Each is over, or comes to a state that was seen before, all of whose fair continuations have
/// ended; or it comes back to a state of its own way, or cannot go on.
pub fn search(name: &str, setup: &Setup, time: Duration) -> Seen {
    assert!(!setup.folds || setup.may_fold(), "{name}: there is more than names in it");
    #[allow(clippy::disallowed_methods, reason = "only the time that a run took is told")]
    let began = Instant::now();
    let all = Setup { ends: false, ..setup.clone() }.properties();
    let (always, sometimes) =
        all.into_iter().partition(|property| property.expectation == Expectation::Always);
    let mut search = Search {
        setup,
        always,
        sometimes,
        seen: HashSet::default(),
        from: HashMap::default(),
        waiting: vec![World::start(setup)],
        fair: Vec::new(),
        steps: 0,
        began,
    };
    let mut exhausted = true;
    let mut violated = None;
    while let Some(world) = search.waiting.pop() {
        violated = search.follow(world);
        exhausted = began.elapsed() < time;
        if violated.is_some() || !exhausted {
            break;
        }
    }
    search.report(name);
    Seen {
        states: search.seen.len(),
        exhausted,
        missing: search.sometimes.iter().map(|property| property.name).collect(),
        violated: violated.map(|violation| (violation.0, search.path(violation))),
    }
}

impl Search<'_> {
    /// What is to happen at some time, and does here, is not looked for any more.
    fn look_for_the_missing(&mut self, world: &World) {
        let setup = self.setup;
        self.sometimes.retain(|property| !(property.condition)(setup, world));
    }

    /// What a state violates.
    fn judge(&self, world: &World) -> Option<&'static str> {
        let setup = self.setup;
        let landed = setup.unseen.then(|| world.all_landed());
        let world = landed.as_ref().unwrap_or(world);
        let mut wrong = self.always.iter().filter(|property| !(property.condition)(setup, world));
        wrong.next().map(|property| property.name)
    }

    /// Follows all fair continuations of a state, if it is new.
    fn follow(&mut self, world: World) -> Option<Violation> {
        if !self.seen.contains(&mark(&world)) {
            let wrong = self.expand(&world);
            if wrong.is_some() {
                return wrong;
            }
        }
        while let Some(open) = self.fair.last_mut() {
            let Some(world) = open.left.pop() else {
                self.fair.pop();
                continue;
            };
            let there = mark(&world);
            if self.fair.iter().any(|open| open.mark == there) {
                return Some((props::ENDS, there, None));
            }
            if !self.seen.contains(&there) {
                let wrong = self.expand(&world);
                if wrong.is_some() {
                    return wrong;
                }
            }
        }
        None
    }

    /// A new state: all that can come of it.
    fn expand(&mut self, world: &World) -> Option<Violation> {
        let here = mark(world);
        self.seen.insert(here);
        if self.seen.len().is_multiple_of(1 << 20) {
            self.report("    so far");
        }
        let mut actions = Vec::new();
        self.setup.actions(world, &mut actions);
        let is_fair = match self.setup.ends && !is_over(world) {
            true => fair_ones(self.setup, world, &actions),
            false => vec![false; actions.len()],
        };
        if self.setup.ends && !is_over(world) && !is_fair.contains(&true) {
            return Some((props::ENDS, here, None));
        }
        let mut left = Vec::new();
        for (action, is_fair) in actions.into_iter().zip(is_fair) {
            let Some(next) = self.setup.next_state(world, action.clone()) else { continue };
            self.steps += 1;
            if !self.sometimes.is_empty() {
                self.look_for_the_missing(&next);
            }
            let folded = self.setup.folds.then(|| self.setup.folded(next.clone()));
            let there = mark(folded.as_ref().unwrap_or(&next));
            if self.seen.contains(&there) {
                if is_fair && (there == here || self.fair.iter().any(|open| open.mark == there)) {
                    return Some((props::ENDS, here, Some(action)));
                }
                continue;
            }
            if let Some(wrong) = self.judge(&next) {
                return Some((wrong, here, Some(action)));
            }
            if self.setup.without.is_some() {
                self.from.entry(there).or_insert((here, action));
            }
            let next = folded.unwrap_or(next);
            if is_fair { left.push(next) } else { self.waiting.push(next) }
        }
        self.fair.push(Open { mark: here, left });
        None
    }

    fn path(&self, (_, mut at, last): Violation) -> Vec<String> {
        let mut path: Vec<_> = last.iter().map(ToString::to_string).collect();
        while let Some((before, action)) = self.from.get(&at).filter(|_| path.len() < 1_000) {
            path.push(action.to_string());
            at = *before;
        }
        path.reverse();
        path
    }

    fn report(&self, name: &str) {
        let (states, seconds) = (self.seen.len(), self.began.elapsed().as_secs_f64());
        let (steps, waiting) = (self.steps, self.waiting.len());
        println!("{name}: {states} states, {steps} steps, {waiting} waiting, {seconds:.1} s");
    }
}

/// The steps that may be next once nothing goes wrong any more. One, where it is known what has
/// landed. Else each that is next in any of the states that are meant: an answer to whatever may
/// have landed; what comes without one, unless one must come; every list.
fn fair_ones(setup: &Setup, world: &World, actions: &[Action]) -> Vec<bool> {
    let only = |at: Option<usize>| (0..actions.len()).map(|it| Some(it) == at).collect();
    let Some(first) = fairest(actions) else { return only(None) };
    let is_answer = |action: &Action| matches!(action, Action::Answers(_));
    let is_list = |action: &Action| matches!(action, Action::ListRead { .. });
    if !setup.unseen || !(is_answer(&actions[first]) || is_list(&actions[first])) {
        return only(Some(first));
    }
    let mut fair: Vec<_> = actions.iter().map(is_answer).collect();
    let is_sure = |post: &super::world::Post| post.open && post.stage == Stage::Landed;
    if is_answer(&actions[first]) && world.posts.iter().any(is_sure) {
        return fair;
    }
    let rest: Vec<_> = actions.iter().filter(|action| !is_answer(action)).cloned().collect();
    let next = fairest(&rest).map(|at| rest[at].clone());
    for (fair, action) in fair.iter_mut().zip(actions) {
        let both = next.as_ref().is_some_and(|next| is_list(next) && is_list(action));
        *fair |= both || next.as_ref() == Some(action);
    }
    fair
}
