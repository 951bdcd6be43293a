//! What comes of what happens.

use jiff::Timestamp;
use order_router::OrderId;
use order_router::protocol::lane::{Candidate, Event, ListView, Reach};
use order_router::protocol::{AttemptSeq, Clause, Fingerprint, IntentId, Outcome, Serial};

use super::driver::{good_until, kind};
use super::setup::{Setup, TICK, base};
use super::steps::Action;
use super::world::{self, List, Post, Proof, Refusal, Row, Shared, Stage, World, order};

impl Setup {
    /// Carries an action out.
    pub fn happen(&self, world: &mut World, action: Action) {
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
            Action::CrashAs(order) => {
                world.faults.crashes -= 1;
                world.shuffle(order);
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
        if self.unseen {
            on(world, seq, |post| post.stage = Stage::Landed);
        }
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
        if self.unseen {
            world.settle_unseen(&rows);
        }
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
        if world.lane.wakes_at(&self.rules()).is_some_and(|at| at <= base().plus(TICK)) {
            world.feed(self, Event::Woke, base().plus(TICK));
        } else {
            world.lane = self.aged(&world.lane);
        }
    }

    /// Forgets what cannot matter any more, and orders what has no order.
    pub fn tidy(&self, world: &mut World) {
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
            Stage::Out => post.may_land() || post.open || !post.reported || late || self.unseen,
        });
        let mut posts = std::mem::take(&mut world.posts);
        let is_held = |post: &Post| world.holder(&order(post.seq, false)).is_some();
        for post in &mut posts {
            if post.reported && !post.open && !post.twice && is_held(post) && world.desk.is_none() {
                post.until = 0;
            }
        }
        world.posts = posts;
        world.put_in_order(self);
    }
}

impl World {
    /// What has no order of its own.
    pub fn put_in_order(&mut self, setup: &Setup) {
        let mut posts = std::mem::take(&mut self.posts);
        posts.sort_by_cached_key(|post| match post.stage {
            Stage::Handed { .. } | Stage::Out => (0, post.seq),
            Stage::Landed if self.holder(&order(post.seq, false)).is_some() => (1, post.seq),
            Stage::Landed if setup.unseen => (2, post.seq),
            Stage::Landed => (2, Serial(0)),
        });
        self.posts = posts;
        self.permits.sort_unstable();
    }

    /// A complete list shows these: they are there. What it had to show, and did not, is not.
    fn settle_unseen(&mut self, rows: &[OrderId]) {
        self.posts.retain_mut(|post| {
            let is_shown = rows.contains(&order(post.seq, false));
            if is_shown {
                post.stage = Stage::Landed;
            }
            is_shown || post.stage != Stage::Out || post.until > 0
        });
    }

    /// The state in which all has landed that may have: it has the most orders.
    pub fn all_landed(&self) -> Self {
        let mut world = self.clone();
        for post in &mut world.posts {
            if post.stage == Stage::Out {
                post.stage = Stage::Landed;
            }
        }
        world
    }
}

fn on(world: &mut World, seq: AttemptSeq, change: impl FnOnce(&mut Post)) {
    world.posts.iter_mut().find(|post| post.seq == seq).map(change).unwrap_or_default();
}
