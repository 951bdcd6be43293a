//! What must hold in every state, and what must happen in some.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use order_router::OrderId;
use order_router::protocol::lane::Write;
use order_router::protocol::{Serial, State, Verdict};
use stateright::{Model, Property};

use super::driver::{About, kind};
use super::marks::{Hashed, mark};
use super::setup::Setup;
use super::steps::Action;
use super::world::{End, List, Pending, Proof, Row, Stage, World, maker, order, reference};

pub const BUDGET: &str = "the budget";
pub const ORPHAN: &str = "no orphan at rest";
pub const CLAIMED: &str = "an order is claimed once";
pub const TOLD: &str = "what was told does not change";
pub const NOTHING: &str = "refused or given up, there is no order";
pub const LOST: &str = "nothing is lost";
pub const ONCE: &str = "a reference is bought once";
pub const GOODS: &str = "what is delivered is what was ordered";
pub const ENDS: &str = "every intent ends";
pub const OURS: &str = "what is placed is an order of ours";
pub const OLDEST: &str = "the oldest doubt is given the row";
pub const WAITS: &str = "a list waits for no more than when it came";
pub const ANSWERS: &str = "an answer that came counts";
pub const PEACE: &str = "no false alarm, no false hold";

/// Steps of a fair continuation after which all must have ended.
const STEPS_MAX: usize = 500;

pub fn all(setup: &Setup) -> Vec<Property<Setup>> {
    let mut all = vec![
        Property::always(BUDGET, |setup: &Setup, w| setup.holds(is_broken(setup, w) || budget(w))),
        Property::always(CLAIMED, |setup: &Setup, world| setup.holds(claimed_once(world))),
        Property::always(TOLD, |setup: &Setup, world| setup.holds(told_is_stored(world))),
        Property::always(NOTHING, |setup: &Setup, w| {
            setup.holds(is_broken(setup, w) || nothing_was_bought(w))
        }),
        Property::always(LOST, |setup: &Setup, world| setup.holds(nothing_is_lost(world))),
        Property::always(ONCE, |setup: &Setup, world| setup.holds(bought_once(world))),
        Property::always(GOODS, |setup: &Setup, world| setup.holds(goods(setup, world))),
        Property::always(ORPHAN, |setup: &Setup, world| {
            setup.holds(no_orphan_at_rest(setup, world))
        }),
    ];
    if setup.fairness {
        all.extend([
            Property::always(OLDEST, |setup: &Setup, world| setup.holds(!world.passed_over)),
            Property::always(WAITS, |setup: &Setup, world| setup.holds(waits_for_no_more(world))),
            Property::always(ANSWERS, |setup: &Setup, world| setup.holds(answers_count(world))),
        ]);
    }
    if setup.account.is_some() {
        all.push(Property::always(OURS, |setup: &Setup, world| setup.holds(ours(world))));
    }
    if setup.ends {
        all.push(Property::always(ENDS, |setup: &Setup, world| setup.holds(ends(setup, world))));
    }
    if setup.peace && setup.is_faithful() {
        all.push(Property::always(PEACE, |setup: &Setup, world| setup.holds(at_peace(world))));
    }
    all.extend([
        Property::sometimes("it lands after the list was read", |_, world| late_landing(world)),
        Property::sometimes("placed", |_, world| has_end(world, |e| matches!(e, End::Placed(_)))),
        Property::sometimes("not placed", |_, world| has_end(world, |e| *e == End::NotPlaced)),
    ]);
    if setup.tries_max > 1 {
        all.push(Property::sometimes("a second attempt", |_, world| second_attempt(world)));
    }
    if setup.intents > 1 && !setup.two_kinds {
        all.push(Property::sometimes("identical orders are exchanged", |_, w| exchanged(w)));
    }
    if setup.faults.refusals > 0 {
        all.push(Property::sometimes("refused", |_, w| has_end(w, |e| *e == End::Refused)));
    }
    if setup.faults.garbled + setup.faults.twice > 0 {
        all.push(Property::sometimes("held", |_, world| someone_is_asked(world)));
    }
    all
}

fn someone_is_asked(world: &World) -> bool {
    let held = |row: &Row| matches!(row.restored.state, State::Held(..));
    world.held || world.rows.iter().any(held)
}

fn at_peace(world: &World) -> bool {
    world.unrest.is_none() && !world.held && !world.is_stopped()
}

/// What the budget stands on has been broken: a POST landed after its bound, or the store is gone.
fn is_broken(setup: &Setup, world: &World) -> bool {
    world.is_rolled_back() || world.faults.late < setup.faults.late
}

/// Orders and POSTs that may still land are covered by intents placed or open.
fn budget(world: &World) -> bool {
    let orders: usize =
        world.posts.iter().map(|post| usize::from(post.stage == Stage::Landed)).sum();
    let flying = world.posts.iter().filter(|post| post.may_land()).count();
    let covers = |row: &&Row| {
        matches!(row.restored.state, State::Placed { .. }) || row.restored.state.attempt().is_some()
    };
    orders + flying <= world.rows.iter().filter(covers).count()
}

fn claimed_once(world: &World) -> bool {
    let id = |row: &Row| match row.end()? {
        End::Placed(id) => Some(id),
        End::Refused | End::NotPlaced => None,
    };
    let ids: Vec<_> = world.rows.iter().filter_map(id).collect();
    let distinct: BTreeSet<_> = ids.iter().collect();
    distinct.len() == ids.len()
}

fn told_is_stored(world: &World) -> bool {
    let agrees = |(end, row): (&End, &Row)| row.end().is_none_or(|stored| stored == *end);
    let told = world.callers.iter().filter_map(|caller| {
        let row = world.row(caller.intent)?;
        Some((caller.end.as_ref()?, row))
    });
    !world.changed && told.into_iter().all(agrees)
}

/// No order that nobody has, and none to come, is of a POST of an intent that bought nothing.
fn nothing_was_bought(world: &World) -> bool {
    let gave_up = |row: &Row| matches!(row.end(), Some(End::Refused | End::NotPlaced));
    let is_of = |intent| world.row(intent).is_some_and(gave_up);
    let free = world.orders().filter(|(id, _)| world.holder(id).is_none()).map(|(_, post)| post);
    let flying = world.posts.iter().filter(|post| post.may_land());
    !free.chain(flying).any(|post| is_of(post.intent))
}

/// What was accepted is in the store, and what is there and has not ended is with the lane.
fn nothing_is_lost(world: &World) -> bool {
    let on_its_way = |intent| {
        let is_it = |p: &Pending| matches!(p.write, Write::Accept { intent: i, .. } if i == intent);
        world.writes.iter().any(is_it)
    };
    let stored = |intent| world.row(intent).is_some() || on_its_way(intent);
    let open = world.rows.iter().filter(|row| row.end().is_none());
    world.is_rolled_back()
        || world.callers.iter().all(|caller| !caller.accepted || stored(caller.intent))
            && open.into_iter().all(|row| world.lane.standing(row.restored.intent).is_some())
}

fn bought_once(world: &World) -> bool {
    let references: BTreeSet<_> =
        world.rows.iter().map(|row| reference(row.restored.intent)).collect();
    let orders = world.posts.iter().filter(|post| post.stage == Stage::Landed);
    let bought: Vec<_> = orders.map(|post| reference(post.intent)).collect();
    let distinct: BTreeSet<_> = bought.iter().collect();
    references.len() == world.rows.len()
        && (!world.is_rolled_back() || distinct.len() == bought.len())
}

fn goods(setup: &Setup, world: &World) -> bool {
    let first = world.row(Serial(1)).and_then(Row::end);
    let is_misled = world.misled && matches!(first, Some(End::Placed(_)));
    !is_misled
        && world.rows.iter().all(|row| match row.end() {
            Some(End::Placed(id)) => {
                let post = world.posts.iter().find(|post| post.seq == maker(&id));
                post.is_none_or(|post| kind(setup, post.intent) == row.restored.delivered)
            }
            Some(End::Refused | End::NotPlaced) | None => true,
        })
}

/// Nothing is open and nothing may land: every order is somebody's, or a person is asked.
fn no_orphan_at_rest(setup: &Setup, world: &World) -> bool {
    let moves = |post: &super::world::Post| {
        post.may_land() || matches!(post.stage, Stage::Handed { .. }) || !post.reported
    };
    let is_open = |row: &Row| row.end().is_none();
    let at_rest = world.writes.is_empty()
        && !world.posts.iter().any(moves)
        && !world.rows.iter().any(is_open)
        && world.callers.iter().all(|c| world.lane.standing(c.intent).is_none());
    let is_seen = |id: &OrderId| match &world.desk {
        Some(desk) if setup.faults.late > 0 => desk.look_due || desk.orphans.contains(id),
        Some(_) | None => world.is_rolled_back(),
    };
    !at_rest
        || world.held
        || world.orders().all(|(id, _)| world.holder(&id).is_some() || is_seen(&id))
}

/// Nobody was given an order that somebody else has bought.
fn ours(world: &World) -> bool {
    world.rows.iter().all(|row| match row.end() {
        Some(End::Placed(id)) => world.posts.iter().any(|post| post.seq == maker(&id)),
        Some(End::Refused | End::NotPlaced) | None => true,
    })
}

/// A list that is kept waits for an attempt that was recorded when it, or the one that it
/// replaced, came.
fn waits_for_no_more(world: &World) -> bool {
    let Some(before) = world.kept_before else { return true };
    let is_sent = |row: &Row| match &row.restored.state {
        State::Sending(attempt) => attempt.seq.0 < before,
        _ => false,
    };
    let is_written = |pending: &Pending| match &pending.write {
        Write::Accept { attempt, .. } => attempt.is_some_and(|attempt| attempt.seq.0 < before),
        Write::Record { attempt, .. } => attempt.seq.0 < before,
        Write::Decide { seq, .. } => seq.0 < before,
        _ => false,
    };
    world.rows.iter().any(is_sent) || world.writes.iter().any(is_written)
}

/// Nobody is in doubt whose own answer came, while nobody has that order.
fn answers_count(world: &World) -> bool {
    let is_given = |id: &OrderId| {
        let gives = |p: &Pending| matches!(&p.write, Write::Decide { verdict: Verdict::Placed { id: given, .. }, .. } if given == id);
        world.holder(id).is_some() || world.writes.iter().any(gives)
    };
    world.posts.iter().filter(|post| post.told).all(|post| {
        let Some(row) = world.row(post.intent) else { return true };
        let mine = row.restored.state.attempt().is_some_and(|a| a.seq == post.seq);
        let in_doubt = matches!(row.restored.state, State::InDoubt(..)) && mine;
        !in_doubt
            || world.writes.iter().any(|p| p.write.is_about(post.intent))
            || is_given(&order(post.seq, false))
    })
}

fn has_end(world: &World, is: impl Fn(&End) -> bool) -> bool {
    world.callers.iter().filter_map(|caller| caller.end.as_ref()).any(is)
}

fn second_attempt(world: &World) -> bool {
    let again = |row: &Row| row.restored.tries == 1 && row.restored.state.attempt().is_some();
    world.rows.iter().any(again)
}

/// A complete list without it is on its way, and it is there.
fn late_landing(world: &World) -> bool {
    let Some(List::Read { rows, proof: Proof::Complete, .. }) = &world.list else { return false };
    world
        .orders()
        .any(|(id, post)| post.reported && world.holder(&id).is_none() && !rows.contains(&id))
}

/// Two intents have each other's orders.
fn exchanged(world: &World) -> bool {
    let has_other = |row: &Row| match row.end() {
        Some(End::Placed(id)) => {
            world.posts.iter().any(|p| p.seq == maker(&id) && p.intent != row.restored.intent)
        }
        Some(End::Refused | End::NotPlaced) | None => false,
    };
    world.rows.iter().filter(|row| has_other(row)).count() > 1
}

/// Whether all that is to be ended has ended, or waits for a person.
pub fn is_over(world: &World) -> bool {
    let ended = |row: &Row| row.end().is_some() || matches!(row.restored.state, State::Held(..));
    let still = world.writes.is_empty() && world.permits.is_empty();
    world.is_stopped() || still && (world.held || world.rows.iter().all(ended))
}

/// The next step once nothing goes wrong any more.
fn fair(setup: &Setup, world: &World) -> Option<Action> {
    let mut actions = Vec::new();
    setup.actions(world, &mut actions);
    fairest(&actions).map(|at| actions.swap_remove(at))
}

/// Which of the things that can happen is next, once nothing goes wrong any more.
pub fn fairest(actions: &[Action]) -> Option<usize> {
    let rank = |action: &Action| match action {
        Action::Heard => Some(0),
        Action::Durable => Some(1),
        Action::Permit(_) => Some(2),
        Action::Leaves(_) => Some(3),
        Action::Answers(_) => Some(4),
        Action::TimesOut(_) => Some(5),
        Action::ListArrives { fresh: true } => Some(6),
        Action::ListRead { proof: Proof::Complete, .. } => Some(7),
        Action::Tick => Some(8),
        Action::Comes(_)
        | Action::GateCloses(_)
        | Action::Lands { .. }
        | Action::Refuses(..)
        | Action::Mixes { .. }
        | Action::Conflicts
        | Action::Errs(_)
        | Action::Undead
        | Action::Known
        | Action::Stranger
        | Action::Look
        | Action::Fails(_)
        | Action::RollBack
        | Action::ListRead { .. }
        | Action::ListArrives { .. }
        | Action::Crash
        | Action::CrashAs(_)
        | Action::Rebuild => None,
    };
    // Of several lists, the one that shows all: it is the last one.
    let ranked = actions.iter().enumerate().filter_map(|(i, a)| Some((rank(a)?, i)));
    let (_, at) = ranked.min_by_key(|(r, i)| (*r, if *r == 7 { usize::MAX - i } else { *i }))?;
    Some(at)
}

/// From here, once nothing goes wrong any more, everything ends: there is no dead end, and no
/// circle without progress. States that were seen to end are remembered.
fn ends(setup: &Setup, world: &World) -> bool {
    let mut seen = Vec::new();
    let mut world = world.clone();
    while seen.len() < STEPS_MAX {
        let mark = mark(&world);
        if is_over(&world) || setup.ended.has(mark) {
            setup.ended.note(&seen);
            return true;
        }
        seen.push(mark);
        let Some(next) = fair(setup, &world).and_then(|a| setup.next_state(&world, a)) else {
            return false;
        };
        world = next;
    }
    false
}

/// States that were seen to end.
#[derive(Debug, Default)]
pub struct Ended([Mutex<HashSet<u64, Hashed>>; 16]);

impl Ended {
    fn shard(&self, mark: u64) -> MutexGuard<'_, HashSet<u64, Hashed>> {
        self.0[(mark % 16) as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn has(&self, mark: u64) -> bool {
        self.shard(mark).contains(&mark)
    }

    pub fn note(&self, marks: &[u64]) {
        for mark in marks {
            self.shard(*mark).insert(*mark);
        }
    }
}
