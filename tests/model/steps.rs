//! What can happen next.

use std::fmt;

use order_router::OrderId;
use order_router::protocol::{AttemptSeq, Clause, IntentId, Serial};
use stateright::{Model, Property};

use super::account::{Desk, LIST_AGE_MAX};
use super::setup::Setup;
use super::world::{List, Post, Proof, Refusal, Stage, World, order};
use super::{props, world};

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    Comes(IntentId),
    Durable,
    Heard,
    Permit(IntentId),
    Leaves(AttemptSeq),
    GateCloses(AttemptSeq),
    Lands {
        seq: AttemptSeq,
        twice: bool,
        garbled: bool,
    },
    Refuses(AttemptSeq, Refusal),
    Answers(AttemptSeq),
    /// A 201 with the order of another POST.
    Mixes {
        seq: AttemptSeq,
        names: AttemptSeq,
    },
    TimesOut(AttemptSeq),
    ListRead {
        rows: Vec<OrderId>,
        proof: Proof,
    },
    ListArrives {
        fresh: bool,
    },
    Tick,
    Crash,
    /// The same; the store hands out what was sent in another order.
    CrashAs(u8),
    Rebuild,
    /// A caller comes with another order under the first one's reference.
    Conflicts,
    /// The supplier answers a POST with an error.
    Errs(AttemptSeq),
    Undead,
    Known,
    Stranger,
    Look,
    Fails(AttemptSeq),
    RollBack,
}

/// Names an intent by the letter of its reference.
pub fn letter(intent: IntentId) -> char {
    char::from(b'A' + world::reference(intent) as u8)
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Comes(a) => write!(f, "{} comes", letter(*a)),
            Self::Durable => f.write_str("the oldest write is durable"),
            Self::Heard => f.write_str("the lane hears of it"),
            Self::Permit(a) => write!(f, "{} may be sent", letter(*a)),
            Self::Leaves(p) => write!(f, "@{} leaves", p.0),
            Self::GateCloses(p) => write!(f, "the gate of @{} closes, nothing has left", p.0),
            Self::Lands { seq, twice: true, .. } => write!(f, "@{} lands twice", seq.0),
            Self::Lands { seq, garbled: true, .. } => {
                write!(f, "@{} lands, and is echoed with other items", seq.0)
            }
            Self::Lands { seq, .. } => write!(f, "@{} lands", seq.0),
            Self::Refuses(p, Refusal::ForGood) => write!(f, "the supplier refuses @{}", p.0),
            Self::Refuses(p, Refusal::ForNow) => write!(f, "the supplier puts @{} off", p.0),
            Self::Answers(p) => write!(f, "@{} is answered", p.0),
            Self::Mixes { seq, names } => {
                write!(f, "@{} is answered with the order of @{}", seq.0, names.0)
            }
            Self::TimesOut(p) => write!(f, "@{} times out", p.0),
            Self::ListRead { rows, proof } => {
                let how = match proof {
                    Proof::Complete => "a complete list",
                    Proof::Partial => "an incomplete list",
                    Proof::OtherKey => "a list of another account",
                    Proof::Stale => "an old list that looks complete",
                };
                let rows: Vec<_> = rows.iter().map(|r| format!("@{}", world::maker(r).0)).collect();
                write!(f, "{how} is read, with [{}]", rows.join(" "))
            }
            Self::ListArrives { fresh: true } => f.write_str("the list arrives"),
            Self::ListArrives { fresh: false } => {
                f.write_str("the list arrives, its claims read before")
            }
            Self::Tick => f.write_str("a tick passes"),
            Self::Crash | Self::CrashAs(_) => f.write_str("crash, restart"),
            Self::Rebuild => f.write_str("the lane is lost and rebuilt"),
            Self::Conflicts => f.write_str("another order comes under A's reference"),
            Self::Errs(p) => write!(f, "@{} is answered with an error of the server", p.0),
            Self::Undead => f.write_str("a write of the old process is durable"),
            Self::Known => f.write_str("another lane buys, and is answered"),
            Self::Stranger => f.write_str("somebody else buys the same, and a list shows it"),
            Self::Look => f.write_str("the account is listed again"),
            Self::Fails(p) => write!(f, "the order of @{} fails", p.0),
            Self::RollBack => f.write_str("the store is lost, an old one is started with"),
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
        if world.is_stopped() {
            return;
        }
        let come = world.callers.len() + usize::from(world.gone);
        if come < usize::from(self.intents) {
            actions.push(Action::Comes(Serial(come as u64 + 1)));
        } else if world.faults.repeats > 0 {
            actions.push(Action::Comes(Serial(5)));
        }
        if world.writes.iter().any(|pending| pending.answer.is_none()) {
            actions.push(Action::Durable);
        }
        if world.writes.first().is_some_and(|pending| pending.answer.is_some()) {
            actions.push(Action::Heard);
        }
        actions.extend(world.permits.iter().map(|intent| Action::Permit(*intent)));
        world.posts.iter().for_each(|post| self.post_actions(world, post, actions));
        match &world.list {
            Some(List::Asked { since }) => match world.sheets(self, *since) {
                Some(sheets) => actions.extend(sheets),
                None => self.list_actions(world, actions),
            },
            Some(List::Read { rows, .. }) => {
                actions.push(Action::ListArrives { fresh: true });
                if world.desk.is_none() && rows.iter().any(|id| world.holder(id).is_some()) {
                    actions.push(Action::ListArrives { fresh: false });
                }
            }
            None => {}
        }
        if self.may_tick(world) {
            actions.push(Action::Tick);
        }
        if world.faults.crashes > 0 {
            actions.push(Action::Crash);
            actions.extend((1..self.orders_of_restart(world)).map(Action::CrashAs));
        }
        if world.faults.rebuilds > 0 {
            actions.push(Action::Rebuild);
        }
        if world.faults.conflicts > 0 && !world.rows.is_empty() {
            actions.push(Action::Conflicts);
        }
        if world.undead.is_some() {
            actions.push(Action::Undead);
        }
        if let Some(desk) = &world.desk {
            self.account_actions(world, desk, actions);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        self.happen(&mut world, action);
        self.tidy(&mut world);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        props::all(self)
    }
}

impl Setup {
    fn post_actions(&self, world: &World, post: &Post, actions: &mut Vec<Action>) {
        let seq = post.seq;
        match post.stage {
            Stage::Handed { .. } => {
                actions.push(Action::Leaves(seq));
                if world.faults.closings > 0 {
                    actions.push(Action::GateCloses(seq));
                }
                return;
            }
            Stage::Out if self.unseen => {}
            Stage::Out if post.may_land() || self.is_late(world, post) => {
                let lands = |twice, garbled| Action::Lands { seq, twice, garbled };
                actions.push(lands(false, false));
                if world.faults.twice > 0 {
                    actions.push(lands(true, false));
                }
                if world.faults.garbled > 0 {
                    actions.push(lands(false, true));
                }
                if world.faults.refusals > 0 {
                    actions.push(Action::Refuses(seq, Refusal::ForGood));
                    actions.push(Action::Refuses(seq, Refusal::ForNow));
                }
            }
            Stage::Out | Stage::Landed => {}
        }
        if post.open && world.faults.errors > 0 {
            actions.push(Action::Errs(seq));
        }
        let is_there = post.stage == Stage::Landed || self.unseen;
        if post.open && !self.mute && (is_there || post.refused.is_some()) {
            actions.push(Action::Answers(seq));
            self.mixed_up(world, post, actions);
        }
        if !post.reported {
            actions.push(Action::TimesOut(seq));
        }
    }

    /// An answer that names the order of another POST. The evidence takes none that a list had
    /// shown before the POST was sent.
    fn mixed_up(&self, world: &World, post: &Post, actions: &mut Vec<Action>) {
        if world.faults.wrong_ids == 0 || post.stage != Stage::Landed {
            return;
        }
        let is_free = |other: &&Post| {
            let id = order(other.seq, false);
            other.seq != post.seq && !post.known.contains(&other.seq) && world.holder(&id).is_none()
        };
        let landed = world.posts.iter().filter(|other| other.stage == Stage::Landed);
        let names = landed.filter(is_free).map(|other| other.seq);
        actions.extend(names.map(|names| Action::Mixes { seq: post.seq, names }));
    }

    /// Every list that may be read now. An order must be shown once it is older than the bound.
    fn list_actions(&self, world: &World, actions: &mut Vec<Action>) {
        if self.unseen {
            self.unseen_lists(world, actions);
            return;
        }
        let shown = |id: &OrderId, post: &Post| {
            !post.garbled && (world.holder(id).is_none() || !self.keeps(Clause::CandidateUnclaimed))
        };
        let rows: Vec<_> = world.orders().filter(|(id, post)| shown(id, post)).collect();
        for mask in 0..1_u32 << rows.len() {
            let has = |at: usize| mask & (1 << at) != 0;
            let chosen = |at: &usize| has(*at);
            let ids = (0..rows.len()).filter(chosen).map(|at| rows[at].0.clone()).collect();
            let hides = |post: &Post| self.lag && post.until > 0 && !post.twice;
            let is_complete = rows.iter().enumerate().all(|(at, (_, p))| has(at) || hides(p));
            if is_complete {
                actions.push(Action::ListRead { rows: ids, proof: Proof::Complete });
            } else if self.partial {
                actions.push(Action::ListRead { rows: ids, proof: Proof::Partial });
            }
        }
        if world.faults.other_keys > 0 {
            actions.push(Action::ListRead { rows: Vec::new(), proof: Proof::OtherKey });
        }
    }

    /// The same where it is open what has landed: of that a list may show anything, in every order.
    fn unseen_lists(&self, world: &World, actions: &mut Vec<Action>) {
        let is_free = |post: &&Post| {
            let holder = world.holder(&order(post.seq, false));
            holder.is_none() || !self.keeps(Clause::CandidateUnclaimed)
        };
        let posts: Vec<_> = world.posts.iter().filter(is_free).collect();
        for mask in 0..1_u32 << posts.len() {
            let has = |at: &usize| mask & (1 << at) != 0;
            let hides = |post: &Post| post.stage == Stage::Out || self.lag && post.until > 0;
            if (0..posts.len()).all(|at| has(&at) || hides(posts[at])) {
                let ids: Vec<_> =
                    (0..posts.len()).filter(has).map(|at| order(posts[at].seq, false)).collect();
                let all = in_every_order(&ids);
                let read = |rows| Action::ListRead { rows, proof: Proof::Complete };
                actions.extend(all.into_iter().map(read));
            }
        }
    }

    /// It may land although its bound is over.
    fn is_late(&self, world: &World, post: &Post) -> bool {
        world.faults.late > 0 && post.stage == Stage::Out && post.refused.is_none()
    }

    fn account_actions(&self, world: &World, desk: &Desk, actions: &mut Vec<Action>) {
        let is_still = |post: &Post| post.stage == Stage::Landed && post.until == 0;
        let (nothing_open, all_landed) =
            (!world.lane.has_open_attempt(), world.posts.iter().all(is_still));
        let is_read = matches!(world.list, Some(List::Read { .. }));
        let landed = world.posts.iter().filter(|p| p.stage == Stage::Landed && !p.failed);
        let fails = landed
            .filter(|_| world.faults.fails > 0 && !is_read)
            .map(|post| Action::Fails(post.seq));
        actions.extend(fails);
        let when = |possible: bool, action| possible.then_some(action);
        actions.extend(when(world.faults.knowns > 0, Action::Known));
        actions.extend(when(
            world.faults.strangers > 0 && (nothing_open || self.has_tags()),
            Action::Stranger,
        ));
        actions.extend(when(desk.look_due, Action::Look));
        actions.extend(when(world.faults.rollbacks > 0 && all_landed, Action::RollBack));
    }

    fn may_tick(&self, world: &World) -> bool {
        let is_over = matches!(&world.list, Some(List::Read { age, .. }) if *age >= LIST_AGE_MAX);
        if world.desk.is_some() && is_over {
            return false;
        }
        world.posts.iter().all(|post| match post.stage {
            Stage::Handed { window } => window > 0 || !self.keeps(Clause::GateCloses),
            Stage::Out | Stage::Landed => self.report.is_none() || post.reported || post.due > 0,
        })
    }
}

/// Every order of some things.
pub fn in_every_order<T: Clone>(all: &[T]) -> Vec<Vec<T>> {
    if all.is_empty() {
        return vec![Vec::new()];
    }
    let mut orders = Vec::new();
    for at in 0..all.len() {
        let mut rest = all.to_vec();
        let first = rest.remove(at);
        orders.extend(in_every_order(&rest).into_iter().map(|mut order| {
            order.insert(0, first.clone());
            order
        }));
    }
    orders
}
