//! What must hold in every state, and what must happen in some.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use order_router::protocol::lane::Write;
use order_router::protocol::{Learnt, State};
use stateright::{Model, Property};

use super::Setup;
use super::steps::Action;
use super::world::{Change, Pending, Stage, World};
use crate::model::props::{BUDGET, CLAIMED, ENDS, LOST, NOTHING, ORPHAN, PEACE, TOLD};
use crate::model::world::{End, Row, maker};

/// Steps of a fair continuation after which all must have ended.
const STEPS_MAX: usize = 500;

pub fn all(setup: &Setup) -> Vec<Property<Setup>> {
    let mut all = vec![
        Property::always(BUDGET, |setup: &Setup, world| setup.holds(budget(world))),
        Property::always(CLAIMED, |setup: &Setup, world| setup.holds(claimed_once(world))),
        Property::always(TOLD, |setup: &Setup, world| setup.holds(told_is_stored(world))),
        Property::always(NOTHING, |setup: &Setup, world| setup.holds(nothing_was_bought(world))),
        Property::always(ORPHAN, |setup: &Setup, world| setup.holds(no_orphan_at_rest(world))),
    ];
    if !setup.money_only {
        let lost = |setup: &Setup, world: &World| setup.holds(nothing_is_lost(world));
        all.push(Property::always(LOST, lost));
    }
    if setup.is_whole() {
        let at_peace = |_: &Setup, world: &World| world.unrest.is_none() && !world.held;
        all.push(Property::always(PEACE, at_peace));
        all.push(Property::always(ENDS, ends));
        all.extend(sometimes(setup));
    }
    all
}

/// What shows that a run goes where it should.
fn sometimes(setup: &Setup) -> Vec<Property<Setup>> {
    let mut all = vec![
        Property::sometimes("a gate closes with its lease", |_, world| gate_closed(world)),
        Property::sometimes("bytes leave after the lease", |_, world| leaves_late(world)),
        Property::sometimes("a router is refused, and stops", |_, world| refused(world)),
        Property::sometimes("the new router finds the order of the old one", |_, world| {
            found(world)
        }),
        Property::sometimes("not placed", |_, world| has_end(world, &End::NotPlaced)),
    ];
    if setup.tries_max > 1 {
        let anew = |_: &Setup, world: &World| bought_anew(world);
        all.push(Property::sometimes("the new router buys what the old one did not", anew));
    }
    if setup.intents > 1 {
        all.push(Property::sometimes("identical orders are exchanged", |_, w| exchanged(w)));
    }
    if setup.take_overs > 1 {
        all.push(Property::sometimes("three routers", |_, world: &World| world.routers.len() == 3));
    }
    all
}

/// Orders and POSTs that may still land are covered by intents placed or open.
fn budget(world: &World) -> bool {
    let orders = world.orders().count();
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
    ids.iter().collect::<BTreeSet<_>>().len() == ids.len()
}

/// No caller was told two ends, by one router or by two, nor one that is not durable.
fn told_is_stored(world: &World) -> bool {
    let agrees =
        |(intent, end): (_, &End)| world.row(intent).and_then(Row::end).as_ref() == Some(end);
    let told = world.callers.iter().filter_map(|c| Some((c.intent, c.end.as_ref()?)));
    !world.changed && told.into_iter().all(agrees)
}

/// No order that nobody has, and none to come, is of a POST of an intent that bought nothing.
fn nothing_was_bought(world: &World) -> bool {
    let gave_up = |row: &Row| matches!(row.end(), Some(End::Refused | End::NotPlaced));
    let is_of = |intent| world.row(intent).is_some_and(gave_up);
    let free = world.orders().filter(|(id, _)| world.owner(id).is_none()).map(|(_, post)| post);
    let flying = world.posts.iter().filter(|post| post.may_land());
    !free.chain(flying).any(|post| is_of(post.intent))
}

/// What was accepted is in the store, and what is there and has not ended is driven by the router
/// that has the lease.
fn nothing_is_lost(world: &World) -> bool {
    let stored = |intent| world.row(intent).is_some();
    let Some(lane) = &world.holder().lane else { return true };
    let heard_of = |intent| {
        let is_it = |p: &Pending| matches!(p.change, Change::Lane(Write::Accept { intent: i, .. }) if i == intent);
        lane.standing(intent).is_some() || world.holder().writes.iter().any(is_it)
    };
    let open = world.rows.iter().filter(|row| row.end().is_none());
    world.callers.iter().all(|caller| !caller.accepted || stored(caller.intent))
        && open.into_iter().all(|row| heard_of(row.restored.intent))
}

/// Nothing is open and nothing may land: every order is somebody's, or a person is asked.
fn no_orphan_at_rest(world: &World) -> bool {
    let moves = world.posts.iter().any(|post| post.may_land() || !post.reported);
    let writes = world.routers.iter().any(|router| !router.writes.is_empty());
    let open = world.rows.iter().any(|row| row.end().is_none());
    moves
        || writes
        || open
        || world.held
        || world.orders().all(|(id, _)| world.owner(&id).is_some())
}

fn gate_closed(world: &World) -> bool {
    let unsent = |row: &Row| {
        let row = &row.restored;
        row.state == State::Queued && row.last_attempt.is_some() && row.tries == 0
    };
    world.rows.iter().any(unsent)
}

fn leaves_late(world: &World) -> bool {
    let is_late = |post: &super::world::Post| {
        matches!(post.stage, Stage::Yielded { .. }) && world.routers[post.router].lease == 0
    };
    world.newest() > 0 && world.posts.iter().any(is_late)
}

fn refused(world: &World) -> bool {
    world.newest() > 0 && world.routers[0].lane.is_none()
}

/// The router that made an order.
fn router_of(world: &World, order: &order_router::OrderId) -> Option<usize> {
    world.posts.iter().find(|post| post.seq == maker(order)).map(|post| post.router)
}

fn found(world: &World) -> bool {
    let is_old = |row: &Row| match &row.restored.state {
        State::Placed { id, learnt: Learnt::List, .. } => router_of(world, id) == Some(0),
        _ => false,
    };
    world.newest() > 0 && world.rows.iter().any(is_old)
}

fn bought_anew(world: &World) -> bool {
    let is_new = |row: &Row| match &row.restored.state {
        State::Placed { id, .. } => router_of(world, id).is_some_and(|at| at > 0),
        _ => false,
    };
    world.rows.iter().any(|row| is_new(row) && row.restored.tries > 0)
}

fn has_end(world: &World, end: &End) -> bool {
    world.callers.iter().any(|caller| caller.end.as_ref() == Some(end))
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
fn is_over(world: &World) -> bool {
    let ended = |row: &Row| row.end().is_some() || matches!(row.restored.state, State::Held(..));
    let holder = world.holder();
    let still = holder.writes.is_empty() && holder.permits.is_empty();
    still && (world.held || world.rows.iter().all(ended))
}

/// The next state once nothing goes wrong any more: a router has the lease and keeps it, and the
/// others do nothing.
fn fair(setup: &Setup, world: &World) -> Option<World> {
    let mut next = world.clone();
    let newest = world.newest();
    let holder = &mut next.routers[newest];
    if holder.lane.is_some() && !setup.believes(holder) {
        (holder.lease, holder.renewal, next.free_in) = (setup.lease, None, setup.store_lease());
        return Some(next);
    }
    if holder.lane.is_none() && next.free_in == 0 {
        setup.acquire(&mut next);
        next.tidy(setup);
        return Some(next);
    }
    let mut actions = Vec::new();
    setup.actions(world, &mut actions);
    let is_its = |seq: &_| world.posts.iter().any(|post| post.seq == *seq && post.router == newest);
    let rank = |action: &Action| match action {
        Action::Leaves(_) => Some(0),
        Action::Heard(at) if *at == newest => Some(1),
        Action::Durable(at) if *at == newest => Some(2),
        Action::Permit(at, _) if *at == newest => Some(3),
        Action::Gate(seq) if is_its(seq) => Some(4),
        Action::Answers(seq) if is_its(seq) => Some(5),
        Action::TimesOut(seq) if is_its(seq) => Some(6),
        Action::ListArrives(at) if *at == newest => Some(7),
        Action::ListRead(at, _) if *at == newest => Some(8),
        Action::Wakes(at) if *at == newest => Some(9),
        Action::Tick => Some(10),
        _ => None,
    };
    // Of several lists, the one that shows all: it is the last one.
    let ranked = actions.into_iter().enumerate().filter_map(|(i, a)| Some((rank(&a)?, i, a)));
    let best =
        ranked.min_by_key(|(rank, i, _)| (*rank, if *rank == 8 { usize::MAX - i } else { *i }));
    best.and_then(|(_, _, action)| setup.next_state(world, action))
}

/// From here, once nothing goes wrong any more, everything ends. States that were seen to end are
/// remembered.
fn ends(setup: &Setup, world: &World) -> bool {
    let mut seen = Vec::new();
    let mut world = world.clone();
    while seen.len() < STEPS_MAX {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        let mark = hasher.finish();
        if is_over(&world) || setup.ended.has(mark) {
            setup.ended.note(&seen);
            return true;
        }
        seen.push(mark);
        let Some(next) = fair(setup, &world) else { return false };
        world = next;
    }
    false
}
