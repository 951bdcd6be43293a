//! What a driver owes the lane: it carries out effects, keeps the store and its guards, and tells
//! callers. The lane itself is the crate's own.

use order_router::protocol::lane::{Effect, Event, Lane, Restored, Told, Write, Written};
use order_router::protocol::{
    Attempt, Clause, Fingerprint, IntentId, Learnt, Moment, Serial, State, Verdict,
};
use order_router::{Item, ItemsDigest};

use super::setup::{Setup, TICK, base};
use super::world::{
    Caller, End, List, Pending, Post, Row, Shared, Stage, Unrest, World, reference,
};

/// What is delivered for an intent (rule 13).
pub fn kind(setup: &Setup, intent: IntentId) -> ItemsDigest {
    let product = if setup.two_kinds && reference(intent) == 1 { "y" } else { "x" };
    ItemsDigest::delivered(&[Item::new(product, 1).expect("an item")], false)
}

/// Until when an intent that comes now is worth sending.
pub fn good_until(setup: &Setup) -> Moment {
    match setup.good_for {
        Some(ticks) => base().plus(TICK * u32::from(ticks)),
        None => Moment::after_origin(std::time::Duration::MAX),
    }
}

impl World {
    pub fn start(setup: &Setup) -> Self {
        Self {
            lane: Shared::new(Lane::default()),
            rows: Shared::new(Vec::new()),
            held: false,
            writes: Vec::new(),
            permits: Vec::new(),
            posts: Vec::new(),
            list: None,
            callers: Vec::new(),
            gone: 0,
            faults: setup.faults,
            desk: setup.account.map(|_| Box::new(setup.desk())),
            shown: Vec::new(),
            serial: 1,
            undead: None,
            misled: false,
            passed_over: false,
            kept_before: None,
            changed: false,
            unrest: None,
        }
    }

    pub fn attempt(&mut self) -> Attempt {
        let seq = Serial(self.serial);
        self.serial += 1;
        Attempt { seq, fingerprint: Fingerprint(1), floor: self.floor() }
    }

    /// The lane takes an event at `now`, and its effects are carried out.
    pub fn feed(&mut self, setup: &Setup, event: Event, now: Moment) {
        let (lane, effects) = setup.stepped(&self.lane, event, now);
        self.take(setup, lane, &effects);
    }

    /// The lane as it is now, and what it asks for.
    fn take(&mut self, setup: &Setup, lane: Shared<Lane>, effects: &[Effect]) {
        if setup.fairness {
            self.look_for_the_passed_over(effects);
        }
        self.lane = lane;
        let follows = setup.fairness && self.lane.keeps_a_list();
        self.kept_before = follows.then(|| self.kept_before.unwrap_or(self.serial));
        effects.iter().for_each(|effect| self.carry_out(setup, effect.clone()));
    }

    fn carry_out(&mut self, setup: &Setup, effect: Effect) {
        match effect {
            Effect::Write(write) => self.submit(setup, write),
            Effect::AskPermit { intent } => self.permits.push(intent),
            Effect::Send { intent, seq } => self.hand_out(setup, intent, seq),
            Effect::List { since, .. } => self.list = Some(List::Asked { since }),
            Effect::Tell { intent, told } => self.tell(setup, intent, told),
            Effect::Orphans { .. } => self.unrest = Some(Unrest::Orphan),
            Effect::Alarm(_) => self.unrest = Some(Unrest::Alarm),
            // The exchange of identical orders: the books are compared at the end.
            Effect::Stray { .. } => {}
            Effect::Released { .. } => {
                if let Some(desk) = &mut self.desk {
                    desk.look_due |= setup.listed_again();
                }
            }
            Effect::ReturnPermit { .. } => {}
        }
    }

    /// A write is under way.
    fn submit(&mut self, setup: &Setup, write: Write) {
        let records = match &write {
            Write::Accept { intent, attempt } => attempt.map(|attempt| (*intent, attempt.seq)),
            Write::Record { intent, attempt } => Some((*intent, attempt.seq)),
            _ => None,
        };
        match &write {
            Write::Accept { intent, .. } if !setup.keeps(Clause::AcceptBeforeTold) => {
                self.tell(setup, *intent, Told::Accepted);
            }
            Write::Decide { intent, verdict, .. } if !setup.keeps(Clause::ToldAfterDurable) => {
                if let Some(told) = told_of(verdict) {
                    self.tell(setup, *intent, told);
                }
            }
            _ => {}
        }
        self.writes.push(Pending { write, answer: None, half: false });
        if let Some((intent, seq)) = records.filter(|_| !setup.keeps(Clause::RecordBeforeSend)) {
            self.hand_out(setup, intent, seq);
        }
    }

    fn hand_out(&mut self, setup: &Setup, intent: IntentId, seq: Serial) {
        if self.posts.iter().any(|post| post.seq == seq) {
            return;
        }
        self.posts.push(Post {
            intent,
            seq,
            stage: setup.window.map_or(Stage::Out, |window| Stage::Handed { window }),
            until: setup.bound(),
            due: setup.report.unwrap_or(0),
            reported: false,
            open: true,
            refused: None,
            twice: false,
            garbled: false,
            date: 0,
            failed: false,
            told: false,
            known: self.shown.clone(),
        });
    }

    fn tell(&mut self, setup: &Setup, intent: IntentId, told: Told) {
        let at = self.callers.iter().position(|caller| caller.intent == intent);
        let at = at.unwrap_or_else(|| {
            self.callers.push(Caller { intent, accepted: false, end: None });
            self.callers.len() - 1
        });
        let end = match told {
            Told::Accepted => {
                self.callers[at].accepted = true;
                return;
            }
            Told::Placed { id, learnt, .. } => {
                self.learnt(setup, &id, learnt);
                End::Placed(id)
            }
            Told::Refused(_) => End::Refused,
            Told::NotPlaced(_) => End::NotPlaced,
            Told::InDoubt | Told::Held(_) | Told::LaneHeld(_) | Told::NotInDoubt => return,
        };
        let caller = &mut self.callers[at];
        self.changed |= caller.end.as_ref().is_some_and(|old| *old != end);
        caller.end = Some(end);
    }

    /// Makes the oldest write durable.
    pub fn sync(&mut self, setup: &Setup) {
        let Some(at) = self.writes.iter().position(|pending| pending.answer.is_none()) else {
            return;
        };
        let Pending { write, half, .. } = self.writes[at].clone();
        let mut stale = false;
        let is_claim = matches!(&write, Write::Decide { verdict: Verdict::Placed { .. }, .. });
        let mut rows = Vec::clone(&self.rows);
        if half {
            let Write::Decide { intent, .. } = write else { return };
            let mut mine = rows.iter_mut().filter(|row| row.restored.intent == intent);
            mine.by_ref().for_each(|row| row.unclaimed = false);
            self.writes[at].answer = Some(Written::Done);
        } else {
            match self.apply(setup, &mut rows, &write) {
                Some(Written::Done) if is_claim && !setup.keeps(Clause::ClaimWithPlaced) => {
                    let Write::Decide { intent, .. } = write else { return };
                    let mine = rows.iter_mut().filter(|row| row.restored.intent == intent);
                    mine.for_each(|row| row.unclaimed = true);
                    self.writes[at].half = true;
                }
                Some(answer) => self.writes[at].answer = Some(answer),
                None => stale = self.writes.remove(at).write.is_verdict(),
            }
        }
        self.rows = Shared::new(rows);
        if stale {
            // The store knows better: the lane is built anew.
            self.rebuild(setup);
        }
    }

    /// A write of the old process comes through.
    pub fn sync_undead(&mut self, setup: &Setup) {
        let Some(write) = self.undead.take() else { return };
        let mut rows = Vec::clone(&self.rows);
        self.apply(setup, &mut rows, &write);
        self.rows = Shared::new(rows);
    }

    /// Of the attempts in doubt, the oldest are given the rows.
    fn look_for_the_passed_over(&mut self, effects: &[Effect]) {
        let by_list = |effect: &Effect| match effect {
            Effect::Write(Write::Decide { seq, verdict, .. }) => {
                matches!(verdict, Verdict::Placed { learnt: Learnt::List, .. }).then_some(*seq)
            }
            _ => None,
        };
        let given: Vec<_> = effects.iter().filter_map(by_list).collect();
        let written = |intent| self.writes.iter().any(|p| p.write.is_about(intent));
        let in_doubt = |row: &&Row| {
            matches!(row.restored.state, State::InDoubt(..)) && !written(row.restored.intent)
        };
        let doubts = self.rows.iter().filter(in_doubt).filter_map(|r| r.restored.state.attempt());
        let mut left = doubts.map(|attempt| attempt.seq).filter(|seq| !given.contains(seq));
        self.passed_over |= left.any(|left| given.iter().any(|given| *given > left));
    }

    /// The store's own guards (rules 1 and 3). `None`: the write needs no answer.
    fn apply(&mut self, setup: &Setup, rows: &mut Vec<Row>, write: &Write) -> Option<Written> {
        match write {
            Write::Accept { intent, attempt } => {
                let same = |r: &Row| reference(r.restored.intent) == reference(*intent);
                if rows.iter().any(same) && setup.keeps(Clause::ReferenceUnique) {
                    return Some(Written::NotNew);
                }
                let restored = Restored {
                    intent: *intent,
                    delivered: kind(setup, *intent),
                    good_until: good_until(setup),
                    tries: 0,
                    state: attempt.map_or(State::Queued, State::Sending),
                    last_attempt: attempt.map(|a| a.seq),
                    unsettled: false,
                    unreported: false,
                };
                rows.push(Row { restored, unclaimed: false });
            }
            Write::Record { intent, attempt } => {
                let row = &mut row_of(rows, *intent)?.restored;
                row.state = State::Sending(*attempt);
                row.last_attempt = Some(attempt.seq);
            }
            Write::Decide { intent, seq, verdict } => {
                return self.decide(setup, rows, *intent, *seq, verdict);
            }
            Write::Expire { intent, .. } => {
                row_of(rows, *intent)?.restored.state = State::NotPlaced("".into());
            }
            Write::Settle { intent } => {
                row_of(rows, *intent)?.restored.unsettled = false;
                return None;
            }
            Write::HoldLane { .. } => {
                self.held = true;
                return None;
            }
            Write::FreeLane => {
                self.held = false;
                return None;
            }
        }
        Some(Written::Done)
    }

    fn decide(
        &mut self,
        setup: &Setup,
        rows: &mut [Row],
        intent: IntentId,
        seq: Serial,
        verdict: &Verdict,
    ) -> Option<Written> {
        let row = &mut row_of(rows, intent)?.restored;
        let is_answer = matches!(verdict, Verdict::Placed { learnt: Learnt::Answer, .. });
        let is_open = row.state.attempt().is_some() || (row.state == State::Queued && is_answer);
        if !(is_open && row.last_attempt == Some(seq)) {
            // A second line of defence: the lane has asked already.
            self.unrest = Some(Unrest::GuardFailed);
            if setup.keeps(Clause::OutcomeGuarded) {
                return None;
            }
        }
        let anew = || Attempt { seq, fingerprint: Fingerprint(1), floor: None };
        let attempt = row.state.attempt().copied().unwrap_or_else(anew);
        row.state = match verdict {
            Verdict::Placed { id, learnt, .. } | Verdict::Created { id, learnt, .. } => {
                let holder = self.holder(id).filter(|_| setup.keeps(Clause::ClaimedOnce));
                if let Some(State::Placed { learnt, .. }) = holder.map(|h| &h.restored.state) {
                    let (holder, learnt) = (holder?.restored.intent, *learnt);
                    return Some(Written::IdTaken { holder, learnt, same_lane: true });
                }
                row.unsettled = *learnt != Learnt::Answer;
                State::Placed { id: id.clone(), learnt: *learnt, created_at: None }
            }
            Verdict::Refused(_) => State::Refused("".into()),
            Verdict::NotSent(_) => State::Queued,
            Verdict::Absent => {
                row.tries += 1;
                State::Queued
            }
            Verdict::NotPlaced(_) => State::NotPlaced("".into()),
            Verdict::InDoubt(_) => State::InDoubt(attempt, "".into()),
            Verdict::Held(_) => State::Held(attempt, "".into()),
        };
        Some(Written::Done)
    }

    /// The lane hears of the oldest write that is durable.
    pub fn hear(&mut self, setup: &Setup) {
        if self.writes.first().is_none_or(|pending| pending.answer.is_none()) {
            return;
        }
        let Pending { write, answer, .. } = self.writes.remove(0);
        let intent = match write {
            Write::Accept { intent, .. }
            | Write::Record { intent, .. }
            | Write::Decide { intent, .. }
            | Write::Expire { intent, .. } => intent,
            Write::Settle { .. } | Write::HoldLane { .. } | Write::FreeLane => return,
        };
        let Some(written) = answer else { return };
        self.feed(setup, Event::Written { intent, written }, base());
    }

    /// The process dies and comes back: memory and what was not durable is gone.
    pub fn crash(&mut self, setup: &Setup) {
        let is_verdict = |p: &Pending| matches!(p.write, Write::Decide { .. }) && !p.half;
        let last = self.writes.iter().rev().find(|p| p.answer.is_none() && is_verdict(p));
        if let Some(last) = last.filter(|_| self.faults.undead > 0) {
            self.faults.undead -= 1;
            self.undead = Some(last.write.clone());
        }
        self.writes.clear();
        self.shown.clear();
        self.posts.retain(|post| !matches!(post.stage, Stage::Handed { .. }));
        for post in &mut self.posts {
            (post.open, post.told) = (false, false);
            post.reported = true;
        }
        self.restore(setup, base(), true);
    }

    /// The lane is lost, its process lives: what it has written is waited for.
    pub fn rebuild(&mut self, setup: &Setup) {
        while self.writes.iter().any(|pending| pending.answer.is_none()) {
            self.sync(setup);
        }
        self.writes.clear();
        let window = TICK * u32::from(setup.window.unwrap_or(0));
        self.restore(setup, base().plus(window), false);
    }

    fn restore(&mut self, setup: &Setup, left: Moment, died: bool) {
        self.list = None;
        self.permits.clear();
        let open = |row: &&Row| row.end().is_none() || row.restored.unsettled;
        let restored: Vec<_> = self.rows.iter().filter(open).map(|r| r.restored.clone()).collect();
        let hold = self.held.then(|| "more orders than attempts in doubt".into());
        let (lane, effects) = Lane::rehydrate(&setup.rules(), &restored, hold, left, base());
        let lane = Shared::new(lane.rebased(&setup.rules(), base(), base()));
        self.lane = lane.clone();
        if died {
            self.reopen(setup);
        }
        if self.is_stopped() {
            return;
        }
        self.take(setup, lane, &effects);
    }
}

fn row_of(rows: &mut [Row], intent: IntentId) -> Option<&mut Row> {
    rows.iter_mut().find(|row| row.restored.intent == intent)
}

fn told_of(verdict: &Verdict) -> Option<Told> {
    match verdict.clone() {
        Verdict::Placed { id, learnt, created_at }
        | Verdict::Created { id, learnt, created_at } => {
            Some(Told::Placed { id, learnt, created_at })
        }
        Verdict::Refused(why) => Some(Told::Refused(why)),
        Verdict::NotPlaced(why) => Some(Told::NotPlaced(why)),
        Verdict::NotSent(_) | Verdict::InDoubt(_) | Verdict::Held(_) | Verdict::Absent => None,
    }
}

/// What is asked of a write.
pub trait About {
    fn is_verdict(&self) -> bool;
    fn is_about(&self, intent: IntentId) -> bool;
}

impl About for Write {
    fn is_verdict(&self) -> bool {
        matches!(self, Self::Decide { .. })
    }

    fn is_about(&self, intent: IntentId) -> bool {
        match self {
            Self::Accept { intent: it, .. }
            | Self::Record { intent: it, .. }
            | Self::Decide { intent: it, .. }
            | Self::Expire { intent: it, .. }
            | Self::Settle { intent: it } => *it == intent,
            Self::HoldLane { .. } | Self::FreeLane => false,
        }
    }
}
