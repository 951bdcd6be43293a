//! What can happen next.

use std::fmt;

use order_router::OrderId;
use order_router::protocol::{AttemptSeq, IntentId, Serial};
use stateright::{Model, Property};

use super::world::{List, Post, Router, Stage, World};
use super::{Setup, props};
use crate::model::setup::base;
use crate::model::steps::letter;
use crate::model::world::maker;

/// One thing that happens. A number is a router's place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    Comes(usize, IntentId),
    /// The oldest write of a router reaches the store.
    Durable(usize),
    Heard(usize),
    Permit(usize, IntentId),
    /// The gate of a POST is asked.
    Gate(AttemptSeq),
    Leaves(AttemptSeq),
    Lands(AttemptSeq),
    Answers(AttemptSeq),
    TimesOut(AttemptSeq),
    ListRead(usize, Vec<OrderId>),
    ListArrives(usize),
    Wakes(usize),
    Tick,
    Acquires,
    AsksToRenew(usize),
    Renewed(usize),
    HearsOfRenewal(usize),
    HandsOver(usize),
    Rebuild(usize),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Comes(r, a) => write!(f, "{} comes to router {}", letter(*a), r + 1),
            Self::Durable(r) => write!(f, "a write of router {} reaches the store", r + 1),
            Self::Heard(r) => write!(f, "router {} hears of it", r + 1),
            Self::Permit(r, a) => write!(f, "{} may be sent by router {}", letter(*a), r + 1),
            Self::Gate(p) => write!(f, "the gate of @{} is asked", p.0),
            Self::Leaves(p) => write!(f, "@{} leaves", p.0),
            Self::Lands(p) => write!(f, "@{} lands", p.0),
            Self::Answers(p) => write!(f, "@{} is answered", p.0),
            Self::TimesOut(p) => write!(f, "@{} times out", p.0),
            Self::ListRead(r, rows) => {
                let rows: Vec<_> = rows.iter().map(|row| format!("@{}", maker(row).0)).collect();
                write!(f, "router {} reads a complete list, with [{}]", r + 1, rows.join(" "))
            }
            Self::ListArrives(_) => f.write_str("it arrives"),
            Self::Wakes(r) => write!(f, "router {} wakes", r + 1),
            Self::Tick => f.write_str("a tick passes"),
            Self::Acquires => f.write_str("the lease is over: the next router has it"),
            Self::AsksToRenew(r) => write!(f, "router {} asks for more of its lease", r + 1),
            Self::Renewed(r) => write!(f, "the store gives router {} more", r + 1),
            Self::HearsOfRenewal(r) => write!(f, "router {} hears that it has more", r + 1),
            Self::HandsOver(r) => write!(f, "router {} stops, and gives its lease back", r + 1),
            Self::Rebuild(r) => write!(f, "the lane of router {} is lost and rebuilt", r + 1),
        }
    }
}

impl Model for Setup {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::start(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (at, router) in world.routers.iter().enumerate() {
            self.router_actions(world, at, router, actions);
        }
        world.posts.iter().for_each(|post| self.post_actions(world, post, actions));
        if world.posts.iter().all(|post| post.stage != Stage::Yielded { within: 0 }) {
            actions.push(Action::Tick);
        }
        if world.free_in == 0 && world.newest() < usize::from(self.take_overs) {
            actions.push(Action::Acquires);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        self.happen(&mut world, action);
        world.tidy(self);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        props::all(self)
    }
}

impl Setup {
    fn router_actions(&self, world: &World, at: usize, router: &Router, actions: &mut Vec<Action>) {
        let Some(lane) = &router.lane else { return };
        let mut when = |possible: bool, action| actions.extend(possible.then_some(action));
        when(router.writes.iter().any(|p| p.answer.is_none()), Action::Durable(at));
        let newest = at == world.newest();
        if !newest && self.stalls {
            return;
        }
        let stranger = |n: &u8| world.callers.iter().all(|caller| caller.intent.0 != u64::from(*n));
        let next = (1..=self.intents).find(stranger).map(|n| Serial(u64::from(n)));
        if self.believes(router) {
            next.into_iter().for_each(|intent| when(true, Action::Comes(at, intent)));
            let permits = router.permits.iter();
            permits.for_each(|intent| when(true, Action::Permit(at, *intent)));
        }
        when(router.writes.first().is_some_and(|p| p.answer.is_some()), Action::Heard(at));
        match &router.list {
            Some(List::Asked) => {
                self.lists(world)
                    .into_iter()
                    .for_each(|rows| when(true, Action::ListRead(at, rows)));
            }
            Some(List::Read(_)) => when(true, Action::ListArrives(at)),
            None => {}
        }
        let due = lane.wakes_at(&self.rules()).is_some_and(|due| due <= base());
        when(due && self.sleeps(world, at), Action::Wakes(at));
        match router.renewal {
            None => when(world.renewals > 0, Action::AsksToRenew(at)),
            Some(renewal) if renewal.granted => when(true, Action::HearsOfRenewal(at)),
            Some(_) => when(true, Action::Renewed(at)),
        }
        when(newest && world.hand_overs > 0 && router.writes.is_empty(), Action::HandsOver(at));
        when(newest && world.rebuilds > 0, Action::Rebuild(at));
    }

    fn post_actions(&self, world: &World, post: &Post, actions: &mut Vec<Action>) {
        let seq = post.seq;
        match post.stage {
            Stage::Handed { .. } => return actions.push(Action::Gate(seq)),
            Stage::Yielded { .. } => return actions.push(Action::Leaves(seq)),
            Stage::Out if post.may_land() => actions.push(Action::Lands(seq)),
            Stage::Out | Stage::Landed => {}
        }
        if world.routers[post.router].lane.is_none() {
            return;
        }
        if post.open && !self.mute && post.stage == Stage::Landed {
            actions.push(Action::Answers(seq));
        }
        if !post.reported {
            actions.push(Action::TimesOut(seq));
        }
    }

    /// Every list that may be read now. An order must be shown once it is older than the bound.
    fn lists(&self, world: &World) -> Vec<Vec<OrderId>> {
        let rows: Vec<_> = world.orders().filter(|(id, _)| world.owner(id).is_none()).collect();
        let masks = 0..1_u32 << rows.len();
        let has = |mask: u32, at: usize| mask & (1 << at) != 0;
        let may_be = |mask: &u32| {
            let mut rows = rows.iter().enumerate();
            rows.all(|(at, (_, post))| has(*mask, at) || (self.lag && post.until > 0))
        };
        let chosen = |mask: u32| {
            let shown = (0..rows.len()).filter(|at| has(mask, *at));
            shown.map(|at| rows[at].0.clone()).collect()
        };
        masks.filter(may_be).map(chosen).collect()
    }

    /// It sends, as far as it knows: its lease lasts, less the margin.
    pub fn believes(&self, router: &Router) -> bool {
        router.lane.is_some() && router.lease > self.margin
    }

    /// A router may stand still while time passes: one that has lost its lease, or any.
    pub fn sleeps(&self, world: &World, at: usize) -> bool {
        self.sleepy || at != world.newest()
    }
}
