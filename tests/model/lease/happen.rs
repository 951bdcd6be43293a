//! What comes of what happens. The lanes are the crate's own.

use jiff::Timestamp;
use order_router::protocol::lane::{Candidate, Effect, Event, Lane, ListView, Reach, Told};
use order_router::protocol::{
    Attempt, AttemptSeq, Clause, Fingerprint, IntentId, Moment, Outcome, Serial,
};
use order_router::{Item, ItemsDigest};

use super::steps::Action;
use super::world::{Change, List, Pending, Post, Renewal, Router, Stage, World};
use super::{Setup, Slip};
use crate::model::setup::{TICK, base};
use crate::model::world::{Caller, End, Shared, Unrest, order};

/// What is delivered: all intents are of one kind.
pub fn kind() -> ItemsDigest {
    ItemsDigest::delivered(&[Item::new("x", 1).expect("an item")], false)
}

/// No intent is ever too late.
pub fn good_until() -> Moment {
    Moment::after_origin(std::time::Duration::MAX)
}

impl Setup {
    /// Carries an action out.
    pub fn happen(&self, world: &mut World, action: Action) {
        match action {
            Action::Comes(at, intent) => {
                world.callers.push(Caller { intent, accepted: false, end: None });
                world.callers.sort_by_key(|caller| caller.intent);
                let permit = Some(world.attempt());
                let (delivered, good_until) = (kind(), good_until());
                self.feed(world, at, Event::Submitted { intent, delivered, good_until, permit });
            }
            Action::Durable(at) => {
                world.sync(self, at);
                if !self.split_writes {
                    self.hear(world, at);
                }
            }
            Action::Heard(at) => self.hear(world, at),
            Action::Permit(at, intent) => {
                world.routers[at].permits.retain(|other| *other != intent);
                let attempt = world.attempt();
                self.feed(world, at, Event::Permitted { intent, attempt });
            }
            Action::Gate(seq) => self.gate(world, seq),
            Action::Leaves(seq) => world.on(seq, |post| {
                post.stage = Stage::Out;
                post.until = self.landing;
            }),
            Action::Lands(seq) => self.lands(world, seq),
            Action::Answers(seq) => {
                world.on(seq, |post| post.open = false);
                let created = Outcome::Created { id: order(seq, false), created_at: None };
                self.report(world, seq, created, true);
            }
            Action::TimesOut(seq) => self.report(world, seq, Outcome::Unknown("".into()), true),
            Action::ListRead(at, rows) => world.routers[at].list = Some(List::Read(rows)),
            Action::ListArrives(at) => self.list_arrives(world, at),
            Action::Wakes(at) => self.feed(world, at, Event::Woke),
            Action::Tick => self.tick(world),
            Action::Acquires => self.acquire(world),
            Action::AsksToRenew(at) => {
                world.renewals -= 1;
                world.routers[at].renewal = Some(Renewal { age: 0, granted: false });
            }
            Action::Renewed(at) => world.renew(self, at),
            Action::HearsOfRenewal(at) => {
                let router = &mut world.routers[at];
                let Some(renewal) = router.renewal.take() else { return };
                let counts = self.slip != Some(Slip::CountsFromAnswer);
                let age = if counts { renewal.age } else { 0 };
                router.lease = router.lease.max(self.lease.saturating_sub(age));
            }
            Action::HandsOver(at) => {
                world.hand_overs -= 1;
                // What its gates have yielded was yielded before this moment.
                world.hurry(at, self.pause);
                world.routers[at].stop();
                world.free_in = 0;
            }
            Action::Rebuild(at) => {
                world.rebuilds -= 1;
                while world.routers[at].writes.iter().any(|pending| pending.answer.is_none()) {
                    world.sync(self, at);
                }
                self.rebuild(world, at);
            }
        }
    }

    /// Whether the gate of a POST yields its bytes, if it is asked now.
    pub fn yields(&self, world: &World, post: &Post) -> bool {
        let in_time = self.window.is_none() || post.stage != (Stage::Handed { window: 0 });
        let again = match self.slip {
            // The process of its router may have the lease again.
            Some(Slip::AnyEpoch) => world.newest() % 2 == post.router % 2,
            _ => false,
        };
        let lasts = again && self.believes(world.holder())
            || self.believes(&world.routers[post.router])
            || !self.keeps(Clause::LeaseChecked);
        in_time && lasts
    }

    fn gate(&self, world: &mut World, seq: AttemptSeq) {
        let Some(post) = world.posts.iter().find(|post| post.seq == seq) else { return };
        if self.yields(world, post) {
            // Counted from the end of this tick, the last moment at which it may have yielded.
            let within = self.pause + 1;
            world.on(seq, |post| post.stage = Stage::Yielded { within });
            return;
        }
        self.report(world, seq, Outcome::NotSent("".into()), false);
        world.posts.retain(|post| post.seq != seq);
    }

    fn lands(&self, world: &mut World, seq: AttemptSeq) {
        world.on(seq, |post| post.stage = Stage::Landed);
        // It is the newest order.
        if let Some(at) = world.posts.iter().position(|post| post.seq == seq) {
            let post = world.posts.remove(at);
            world.posts.push(post);
        }
    }

    fn report(&self, world: &mut World, seq: AttemptSeq, outcome: Outcome, yielded: bool) {
        let Some(post) = world.posts.iter().find(|post| post.seq == seq) else { return };
        let (at, intent) = (post.router, post.intent);
        world.on(seq, |post| post.reported = true);
        let left = yielded.then(base);
        self.feed(world, at, Event::Answered { intent, seq, outcome, left });
    }

    fn list_arrives(&self, world: &mut World, at: usize) {
        let Some(List::Read(rows)) = world.routers[at].list.take() else { return };
        let orphans = &world.routers[at].orphans;
        let free = rows.into_iter().filter(|id| world.owner(id).is_none() && !orphans.contains(id));
        let created_at = Timestamp::UNIX_EPOCH;
        let candidates = free.map(|id| Candidate { id, created_at }).collect();
        let proof = Some(Reach { since: None, fingerprint: Fingerprint(1) });
        let view = ListView { ask: 1, candidates, proof, near_miss: None };
        self.feed(world, at, Event::Listed(view));
    }

    /// The next router gets the lease, and reads the store.
    pub fn acquire(&self, world: &mut World) {
        let cover = if self.keeps(Clause::PauseCovered) { self.pause } else { 0 };
        world.routers.push(Router::new(self, world.orphans.clone(), cover));
        world.free_in = self.store_lease();
        self.restore(world, world.newest(), cover);
    }

    /// The lane is lost, its process lives.
    pub fn rebuild(&self, world: &mut World, at: usize) {
        let router = &mut world.routers[at];
        router.writes.clear();
        router.permits.clear();
        router.list = None;
        let cover = if self.slip == Some(Slip::RebuiltFromNow) { 0 } else { router.cover };
        self.restore(world, at, cover);
    }

    /// Everything is settled a landing bound after `cover` ticks, but what the router's own tasks
    /// have not reported.
    fn restore(&self, world: &mut World, at: usize, cover: u8) {
        let open = world.rows.iter().filter(|row| row.end().is_none() || row.restored.unsettled);
        let mut restored: Vec<_> = open.map(|row| row.restored.clone()).collect();
        for one in &mut restored {
            let mut posts = world.posts.iter().filter(|post| post.router == at && !post.reported);
            one.unreported = posts.any(|post| Some(post.seq) == one.last_attempt);
        }
        let hold = world.held.then(|| "more orders than attempts in doubt".into());
        let left = base().plus(TICK * u32::from(cover));
        let (lane, effects) = Lane::rehydrate(&self.rules(), &restored, hold, left, base());
        self.take(world, at, lane, effects, base());
    }

    fn tick(&self, world: &mut World) {
        for post in &mut world.posts {
            match &mut post.stage {
                Stage::Yielded { within } => *within = within.saturating_sub(1),
                Stage::Handed { window } => *window = window.saturating_sub(1),
                Stage::Out | Stage::Landed => post.until = post.until.saturating_sub(1),
            }
        }
        world.free_in = world.free_in.saturating_sub(1);
        let now = base().plus(TICK);
        for at in 0..world.routers.len() {
            let sleeps = self.sleeps(world, at);
            let router = &mut world.routers[at];
            router.lease = router.lease.saturating_sub(1);
            router.cover = router.cover.saturating_sub(1);
            // Older than a lease it is worth nothing.
            let older = |age: u8| age.saturating_add(1).min(self.lease);
            router.renewal.iter_mut().for_each(|renewal| renewal.age = older(renewal.age));
            let Some(lane) = &router.lane else { continue };
            let due = lane.wakes_at(&self.rules()).is_some_and(|due| due <= now);
            if due && !sleeps {
                self.feed_at(world, at, Event::Woke, now);
            } else {
                let lane = Lane::clone(lane).rebased(&self.rules(), now, base());
                router.lane = Some(Shared::new(lane));
            }
        }
    }

    pub fn feed(&self, world: &mut World, at: usize, event: Event) {
        self.feed_at(world, at, event, base());
    }

    /// The lane of a router takes an event at `now`, and its effects are carried out.
    fn feed_at(&self, world: &mut World, at: usize, event: Event, now: Moment) {
        let Some(lane) = &world.routers[at].lane else { return };
        let mut lane = Lane::clone(lane);
        let effects = lane.step(&self.rules(), event, now);
        self.take(world, at, lane, effects, now);
    }

    fn take(&self, world: &mut World, at: usize, lane: Lane, effects: Vec<Effect>, now: Moment) {
        let lane = lane.rebased(&self.rules(), now, base());
        world.routers[at].lane = Some(Shared::new(lane));
        effects.into_iter().for_each(|effect| self.carry_out(world, at, effect));
    }

    fn carry_out(&self, world: &mut World, at: usize, effect: Effect) {
        let newest = world.newest();
        let router = &mut world.routers[at];
        match effect {
            Effect::Write(write) => {
                router.writes.push(Pending { change: Change::Lane(write), answer: None });
            }
            Effect::AskPermit { intent } => router.permits.push(intent),
            Effect::Send { intent, seq } => self.hand_out(world, at, intent, seq),
            Effect::List { .. } => router.list = Some(List::Asked),
            Effect::Tell { intent, told } => world.tell(intent, told),
            Effect::Orphans { ids } => {
                router.orphans.extend(ids.iter().cloned());
                router.orphans.sort_unstable();
                router.orphans.dedup();
                router.writes.push(Pending { change: Change::Orphans(ids), answer: None });
            }
            // One that has lost its lease sees orders that it knows nothing of.
            Effect::Alarm(_) if at == newest => world.unrest = Some(Unrest::Alarm),
            Effect::Alarm(_) => {}
            // The exchange of identical orders: the books are compared at the end.
            Effect::Stray { .. } | Effect::Released { .. } | Effect::ReturnPermit { .. } => {}
        }
    }

    fn hand_out(&self, world: &mut World, router: usize, intent: IntentId, seq: AttemptSeq) {
        let window = self.window.unwrap_or(0);
        let (stage, until) = (Stage::Handed { window }, 0);
        world.posts.push(Post { router, intent, seq, stage, until, reported: false, open: true });
    }
}

impl World {
    fn attempt(&mut self) -> Attempt {
        let seq = Serial(self.serial);
        self.serial += 1;
        Attempt { seq, fingerprint: Fingerprint(1), floor: None }
    }

    /// The bytes that a router's gates have yielded leave within so many ticks.
    fn hurry(&mut self, router: usize, ticks: u8) {
        for post in self.posts.iter_mut().filter(|post| post.router == router) {
            if let Stage::Yielded { within } = &mut post.stage {
                *within = ticks.min(*within);
            }
        }
    }

    /// The store asks whether the router's epoch is the newest, and gives it more time.
    fn renew(&mut self, setup: &Setup, at: usize) {
        if at != self.newest() {
            self.refused(at);
            return;
        }
        self.free_in = setup.store_lease();
        let renewal = self.routers[at].renewal.iter_mut();
        renewal.for_each(|renewal| renewal.granted = true);
    }

    fn tell(&mut self, intent: IntentId, told: Told) {
        let Some(caller) = self.callers.iter_mut().find(|caller| caller.intent == intent) else {
            return;
        };
        let end = match told {
            Told::Accepted => {
                caller.accepted = true;
                return;
            }
            Told::Placed { id, .. } => End::Placed(id),
            Told::Refused(_) => End::Refused,
            Told::NotPlaced(_) => End::NotPlaced,
            Told::InDoubt | Told::Held(_) | Told::LaneHeld(_) | Told::NotInDoubt => return,
        };
        self.changed |= caller.end.as_ref().is_some_and(|old| *old != end);
        caller.end = Some(end);
    }
}
