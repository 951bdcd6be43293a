//! What can happen next, and what comes of it.

use std::fmt;

use jiff::Timestamp;
use order_router::OrderId;
use order_router::protocol::lane::{Candidate, Event, Lane, ListView, Reach};
use order_router::protocol::{AttemptSeq, Clause, Fingerprint, IntentId, Outcome, Serial};
use stateright::{Model, Property};

use super::account::{Desk, LIST_AGE_MAX};
use super::driver::{good_until, kind};
use super::setup::{Setup, TICK, base};
use super::world::{List, Post, Proof, Refusal, Row, Shared, Stage, World, order};
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
            Self::Crash => f.write_str("crash, restart"),
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
        if world.callers.len() < usize::from(self.intents) {
            actions.push(Action::Comes(Serial(world.callers.len() as u64 + 1)));
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
        if post.open && !self.mute && (post.stage == Stage::Landed || post.refused.is_some()) {
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
        actions.extend(when(world.faults.strangers > 0 && nothing_open, Action::Stranger));
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

    fn happen(&self, world: &mut World, action: Action) {
        match action {
            Action::Comes(intent) => self.comes(world, intent),
            Action::Durable => {
                world.sync(self);
                if !self.split_writes {
                    world.hear(self);
                }
            }
            Action::Heard => world.hear(self),
            Action::Permit(intent) => {
                world.permits.retain(|other| *other != intent);
                let attempt = world.attempt();
                world.feed(self, Event::Permitted { intent, attempt }, base());
            }
            Action::Leaves(seq) => on(world, seq, |post| post.stage = Stage::Out),
            Action::GateCloses(seq) => {
                world.faults.closings -= 1;
                self.report(world, seq, Outcome::NotSent("".into()), false);
                world.posts.retain(|post| post.seq != seq);
            }
            Action::Lands { seq, twice, garbled } => self.lands(world, seq, twice, garbled),
            Action::Refuses(seq, refusal) => {
                world.faults.refusals -= 1;
                on(world, seq, |post| post.refused = Some(refusal));
            }
            Action::Answers(seq) => self.answers(world, seq, seq),
            Action::Mixes { seq, names } => {
                world.faults.wrong_ids -= 1;
                self.answers(world, seq, names);
            }
            Action::TimesOut(seq) => self.report(world, seq, Outcome::Unknown("".into()), true),
            Action::ListRead { rows, proof } => self.list_read(world, rows, proof),
            Action::ListArrives { fresh } => self.list_arrives(world, fresh),
            Action::Tick => self.tick(world),
            Action::Crash => {
                world.faults.crashes -= 1;
                world.crash(self);
            }
            Action::Rebuild => {
                world.faults.rebuilds -= 1;
                world.rebuild(self);
            }
            Action::Conflicts => self.conflicts(world),
            Action::Errs(seq) => {
                world.faults.errors -= 1;
                on(world, seq, |post| post.open = false);
                let outcome = self.judged(500, None, b"");
                self.report(world, seq, outcome, true);
            }
            Action::Undead => world.sync_undead(self),
            Action::Known => world.known_order(self),
            Action::Stranger => world.stranger(self),
            Action::Look => world.look(self),
            Action::Fails(seq) => {
                world.faults.fails -= 1;
                on(world, seq, |post| post.failed = true);
            }
            Action::RollBack => {
                world.faults.rollbacks -= 1;
                world.rows = Shared::new(Vec::new());
                if let Some(desk) = &mut world.desk {
                    desk.rolled_back = true;
                }
                world.crash(self);
            }
        }
    }

    fn comes(&self, world: &mut World, intent: IntentId) {
        if intent.0 > 4 {
            world.faults.repeats -= 1;
        } else {
            let (accepted, end) = (false, None);
            world.callers.push(world::Caller { intent, accepted, end });
        }
        let permit = self.permit_at_intake.then(|| world.attempt());
        let (delivered, good_until) = (kind(self, intent), good_until(self));
        world.feed(self, Event::Submitted { intent, delivered, good_until, permit }, base());
    }

    fn lands(&self, world: &mut World, seq: AttemptSeq, twice: bool, garbled: bool) {
        world.faults.twice -= u8::from(twice);
        world.faults.garbled -= u8::from(garbled);
        let is_late = world.posts.iter().any(|post| post.seq == seq && post.until == 0);
        world.faults.late -= u8::from(is_late);
        let date = world.next_date();
        on(world, seq, |post| {
            post.date = date;
            post.stage = Stage::Landed;
            (post.twice, post.garbled) = (twice, garbled);
            post.open &= !twice;
        });
        // It is the newest order.
        let is_it = |post: &Post| post.seq == seq;
        if let Some(at) = world.posts.iter().position(is_it) {
            let post = world.posts.remove(at);
            world.posts.push(post);
        }
    }

    fn answers(&self, world: &mut World, seq: AttemptSeq, names: AttemptSeq) {
        let Some(post) = world.posts.iter().find(|post| post.seq == seq) else { return };
        let outcome = match post.refused {
            None => {
                let body = format!(r#"{{"id":"{}"}}"#, order(names, false).as_str());
                self.judged(201, None, body.as_bytes())
            }
            Some(Refusal::ForGood) => self.judged(400, None, br#"{"code":"NO"}"#),
            Some(Refusal::ForNow) => self.judged(429, Some(TICK), b""),
        };
        let is_told = self.fairness && post.refused.is_none();
        on(world, seq, |post| (post.open, post.told) = (false, is_told));
        self.report(world, seq, outcome, true);
    }

    fn report(&self, world: &mut World, seq: AttemptSeq, outcome: Outcome, yielded: bool) {
        let Some(intent) = world.posts.iter().find(|p| p.seq == seq).map(|p| p.intent) else {
            return;
        };
        on(world, seq, |post| post.reported = true);
        let left = yielded.then(base);
        world.feed(self, Event::Answered { intent, seq, outcome, left }, base());
    }

    fn list_read(&self, world: &mut World, rows: Vec<OrderId>, proof: Proof) {
        world.faults.other_keys -= u8::from(proof == Proof::OtherKey);
        let near = world.orders().find(|(_, post)| post.garbled).map(|(id, _)| id);
        let near = near.filter(|id| proof == Proof::Complete && world.holder(id).is_none());
        let since = match world.list {
            Some(List::Asked { since }) => since,
            Some(List::Read { .. }) | None => None,
        };
        world.list = Some(List::Read { rows, near, proof, since, age: 0 });
    }

    fn list_arrives(&self, world: &mut World, fresh: bool) {
        let list = world.list.take();
        if world.desk.is_some() {
            if let Some(view) = list.and_then(|list| world.view(self, list)) {
                world.feed(self, Event::Listed(view), base());
            }
            return;
        }
        let Some(List::Read { rows, near, proof, .. }) = list else { return };
        self.show(world, &rows);
        let keeps = self.keeps(Clause::CandidateUnclaimed);
        let is_free = |id: &OrderId| !fresh || !keeps || world.holder(id).is_none();
        let created_at = Timestamp::UNIX_EPOCH;
        let candidates = rows.into_iter().filter(is_free);
        let candidates = candidates.map(|id| Candidate { id, created_at }).collect();
        let reach = |key| Some(Reach { since: None, fingerprint: Fingerprint(key) });
        let proof = match proof {
            Proof::Partial if self.keeps(Clause::ListComplete) => None,
            Proof::Complete | Proof::Partial | Proof::Stale => reach(1),
            Proof::OtherKey => reach(2),
        };
        let view = ListView { ask: 1, candidates, proof, near_miss: near };
        world.feed(self, Event::Listed(view), base());
    }

    /// The rows that nobody has are known from now on.
    fn show(&self, world: &mut World, rows: &[OrderId]) {
        if self.faults.wrong_ids == 0 {
            return;
        }
        let free = rows.iter().filter(|id| world.holder(id).is_none());
        let free: Vec<_> = free.map(world::maker).collect();
        world.shown.extend(free);
        world.shown.sort_unstable();
        world.shown.dedup();
    }

    fn tick(&self, world: &mut World) {
        if let (Some(_), Some(List::Read { age, .. })) = (&world.desk, &mut world.list) {
            *age += 1;
        }
        world.account_ages(self);
        for post in &mut world.posts {
            if let Stage::Handed { window } = &mut post.stage {
                *window = window.saturating_sub(1);
            } else if post.reported {
                post.until = post.until.saturating_sub(1);
            } else {
                post.due = post.due.saturating_sub(1);
            }
        }
        if self.good_for.is_some() {
            let mut rows = Vec::clone(&world.rows);
            let earlier = |at: order_router::protocol::Moment| {
                base().plus(at.since(base()).saturating_sub(TICK))
            };
            rows.iter_mut().for_each(|Row { restored, .. }| {
                restored.good_until = earlier(restored.good_until);
            });
            world.rows = Shared::new(rows);
        }
        let now = base().plus(TICK);
        if world.lane.wakes_at(&self.rules()).is_some_and(|at| at <= now) {
            world.feed(self, Event::Woke, now);
        } else {
            let lane = Lane::clone(&world.lane).rebased(&self.rules(), now, base());
            world.lane = Shared::new(lane);
        }
    }

    /// Forgets what cannot matter any more, and orders what has no order.
    fn tidy(&self, world: &mut World) {
        for post in &mut world.posts {
            let is_over = post.reported && post.until == 0 && !self.late_answers;
            let is_silent = post.stage == Stage::Out && post.until == 0 && post.refused.is_none();
            post.open &= !(is_over || (post.reported && is_silent));
            if post.reported {
                post.due = 0;
            }
        }
        let late = world.faults.late > 0;
        world.posts.retain(|post| match post.stage {
            Stage::Handed { .. } | Stage::Landed => true,
            Stage::Out => post.may_land() || post.open || !post.reported || late,
        });
        let mut posts = std::mem::take(&mut world.posts);
        let is_held = |post: &Post| world.holder(&order(post.seq, false)).is_some();
        for post in &mut posts {
            if post.reported && !post.open && !post.twice && is_held(post) && world.desk.is_none() {
                post.until = 0;
            }
        }
        posts.sort_by_key(|post| match post.stage {
            Stage::Handed { .. } | Stage::Out => (0, post.seq),
            Stage::Landed if is_held(post) => (1, post.seq),
            Stage::Landed => (2, Serial(0)),
        });
        world.posts = posts;
        world.permits.sort_unstable();
    }
}

fn on(world: &mut World, seq: AttemptSeq, change: impl FnOnce(&mut Post)) {
    world.posts.iter_mut().find(|post| post.seq == seq).map(change).unwrap_or_default();
}
