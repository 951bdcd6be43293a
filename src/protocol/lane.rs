//! One lane: all intents of an account whose items the supplier's list cannot tell apart.
//!
//! # The budget
//!
//! Every step keeps
//!
//! ```text
//! orders at the supplier + POSTs that may still land <= intents Placed + intents with an open attempt
//! ```
//!
//! A new POST adds one to both sides; an answer or a claim moves one on each side. Only a release
//! (an attempt in doubt is declared absent) takes one from the right alone. So only a release needs
//! proof, and nothing else has to stop: a lane goes on buying while some of its attempts are in
//! doubt.
//!
//! # How it is driven
//!
//! [`Lane::step`] takes one [`Event`] and the time, and returns the [`Effect`]s to carry out, in
//! order. Whoever drives it owes an answer to each [`Effect::Write`] ([`Event::Written`]), to each
//! [`Effect::Send`] ([`Event::Answered`]), to each [`Effect::List`] ([`Event::Listed`]), and an
//! [`Event::Woke`] at [`Lane::wakes_at`]. At most one write per intent is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::clause::{Clause, LeftOut};
use super::intent::{Attempt, AttemptSeq, Fingerprint, IntentId, Learnt, Outcome, Verdict, Why};
use super::time::Moment;
use crate::order::{ItemsDigest, OrderId};

mod attribution;
#[cfg(any(test, feature = "testing"))]
mod canonical;
mod eras;
mod events;
mod index;
mod rehydrate;
#[cfg(feature = "testing")]
mod renamed;
mod written;

pub use attribution::{Candidate, ListView, Reach};
pub use events::{Alarm, Decision, Effect, Event, Told, Write, Written};
pub use rehydrate::Restored;
#[cfg(feature = "testing")]
pub use renamed::Names;

/// What the rules of a lane are set to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rules {
    /// How many attempts may be proved absent before the intent ends `NotPlaced`. Default: 3.
    pub tries_max: u8,
    /// How long after the task's report bytes of it may still leave this machine: the connections'
    /// `TCP_USER_TIMEOUT` (rule 7). Default: the request timeout.
    pub wire_bound: Duration,
    /// How long after its last byte could have left a POST may still take effect, and show in the
    /// list (assumption A1). Default: 15 min. Too short is the one setting that buys twice.
    /// `None`: never released by the router, a person decides.
    pub landing_bound: Option<Duration>,
    /// Most POSTs of one lane at once; 1 is strictly one after the other. Default: 512.
    pub in_flight_max: usize,
    /// How long to wait before looking again for an order in doubt; doubles up to
    /// [`look_again_max`](Self::look_again_max). Default: 2 s.
    pub look_again_min: Duration,
    /// Default: 60 s.
    pub look_again_max: Duration,
    /// The clause that a test leaves out. Default: none.
    pub left_out: LeftOut,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            tries_max: 3,
            wire_bound: Duration::from_secs(30),
            landing_bound: Some(Duration::from_secs(15 * 60)),
            in_flight_max: 512,
            look_again_min: Duration::from_secs(2),
            look_again_max: Duration::from_secs(60),
            left_out: LeftOut::default(),
        }
    }
}

impl Rules {
    /// Whether a clause is kept: always, but in a test that leaves it out.
    pub(crate) fn keeps(&self, clause: Clause) -> bool {
        self.left_out.keeps(clause)
    }
}

/// The state of one lane. Plain data; see the module's text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Lane {
    /// Every intent that has not ended.
    /// Boxed: most lanes hold one, and a map's node has room for eleven.
    intents: BTreeMap<IntentId, Box<Intent>>,
    index: index::Index,
    /// POSTs of intents that were placed from a list, by attempt: they may still land (rule 9).
    posts: BTreeMap<AttemptSeq, Post>,
    /// Which attempts were open together; `None`: none were.
    eras: Option<Box<eras::Eras>>,
    /// Orders claimed here while a list is under way: that list may not know it.
    taken: BTreeSet<OrderId>,
    /// The list that was asked for and has not come.
    asked: Option<Asked>,
    /// The first list that has not been used (rule 8).
    kept: Option<Box<attribution::Kept>>,
    /// Only a person frees the lane (rule 10).
    hold: Option<Why>,
    /// When to look again, and the pause after that.
    look_at: Option<Moment>,
    look_pause: Duration,
    /// When the last list was asked for.
    asked_last: Option<Moment>,
    asks: u64,
}

/// One intent of the lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Intent {
    delivered: ItemsDigest,
    good_until: Moment,
    tries: u8,
    phase: Phase,
    /// The newest attempt; open unless the phase says that none is.
    attempt: Option<Sent>,
    /// An answer that came while a write was under way.
    late: Option<Box<Outcome>>,
}

/// An attempt as the lane follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Sent {
    attempt: Attempt,
    left: Left,
    /// The last answer that may have named its order, once a list has shown every order that it can
    /// have made: what comes later cannot (rule 9).
    answered: Option<Moment>,
}

/// When the last byte of an attempt could have left (rule 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Left {
    /// The sending task has not reported: it is not settled.
    Unreported,
    /// The task reported that its gate had yielded or that it gave up.
    At(Moment),
    /// Nothing of it can land: the supplier said so.
    Nothing,
}

impl Left {
    /// Before the task's report.
    fn recorded(rules: &Rules, now: Moment) -> Self {
        if rules.keeps(Clause::SettledFromReport) { Self::Unreported } else { Self::At(now) }
    }

    /// Takes the task's report. Of two moments the later one counts: what a lane that was rebuilt
    /// supposes may be too early.
    fn report(self, rules: &Rules, left: Option<Moment>) -> Self {
        match (self, left.filter(|_| rules.keeps(Clause::SettledFromReport))) {
            (Self::Unreported, Some(at)) => Self::At(at),
            (Self::At(known), Some(at)) => Self::At(known.max(at)),
            (known, _) => known,
        }
    }
}

/// The POST of an intent that was placed from a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Post {
    intent: IntentId,
    left: Left,
}

/// A list that was asked for, with what was settled at that moment. It is requested later, so what
/// is noted here was settled at request (rule 9); it is never judged again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked {
    ask: u64,
    at: Moment,
    settled: BTreeSet<AttemptSeq>,
}

/// What is under way for an intent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    /// Being accepted; with an attempt, it is sent as soon as it is durable.
    Accepting,
    /// Accepted; a permit to send was asked for or not.
    Queued { permit_asked: bool },
    /// Its attempt is being recorded.
    Recording,
    /// Recorded; the POST is with the dispatcher.
    Sending,
    /// In doubt; `held`: a person is asked.
    InDoubt { held: bool },
    /// A verdict on its newest attempt is being written; `open`: the attempt was open before.
    Deciding { verdict: Box<Verdict>, from: From },
    /// Its end is being written: unsent and too late.
    Expiring,
}

/// Where a verdict started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum From {
    Sending,
    InDoubt { held: bool },
    Queued,
}

impl Intent {
    /// Its open attempt: from the record being written until the outcome is durable.
    fn open(&self) -> Option<Sent> {
        match &self.phase {
            Phase::Queued { .. } | Phase::Expiring => None,
            Phase::Deciding { from: From::Queued, .. } => None,
            Phase::Accepting
            | Phase::Recording
            | Phase::Sending
            | Phase::InDoubt { .. }
            | Phase::Deciding { .. } => self.attempt,
        }
    }

    /// Its open attempt, if that is in doubt and nothing about it is being written.
    fn doubt(&self) -> Option<Sent> {
        matches!(self.phase, Phase::InDoubt { .. }).then_some(self.attempt).flatten()
    }
}

impl Lane {
    /// Takes one event at `now` and says what to do.
    #[must_use]
    pub fn step(&mut self, rules: &Rules, event: Event, now: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        let about = event.intent();
        match event {
            Event::Submitted { intent, delivered, good_until, permit } => {
                let in_time = permit.filter(|_| now < good_until);
                effects.extend((permit != in_time).then_some(Effect::ReturnPermit { intent }));
                let new = (intent, delivered, good_until);
                self.submitted(rules, new, in_time, now, &mut effects);
            }
            Event::Permitted { intent, attempt } => {
                self.permitted(rules, intent, attempt, now, &mut effects);
            }
            Event::Written { intent, written } => {
                self.written(rules, intent, written, now, &mut effects);
            }
            Event::Answered { intent, seq, outcome, left } => {
                self.answered(rules, intent, seq, outcome, left, &mut effects);
            }
            Event::Listed(view) => self.listed(rules, view, &mut effects),
            Event::Resolved { intent, decision } => {
                self.resolved(rules, intent, decision, &mut effects);
            }
            Event::Freed => {
                if self.hold.take().is_some() {
                    self.look_soon(rules, now);
                    effects.push(Effect::Write(Write::FreeLane));
                }
            }
            Event::Woke => {}
        }
        about.into_iter().for_each(|id| self.note(id));
        self.go_on(rules, now, &mut effects);
        effects
    }

    /// When an [`Event::Woke`] is due, if ever.
    #[must_use]
    pub fn wakes_at(&self, rules: &Rules) -> Option<Moment> {
        let unsent = self.index.first_expiry().map(|(at, _)| at);
        let idle = self.asked.is_none() && self.kept.is_none();
        let posts = self.posts.values().filter(|_| idle);
        let posts = posts.filter_map(|post| settles_at(rules, post.left));
        let looks = (idle && self.hold.is_none() && !self.index.doubts.is_empty())
            .then(|| self.look_at.into_iter().chain(self.releasable_at(rules)))
            .into_iter()
            .flatten();
        unsent.into_iter().chain(posts).chain(looks).min()
    }

    /// Whether nothing is kept here that the store does not know and no event is awaited.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.intents.is_empty()
            && self.posts.is_empty()
            && self.asked.is_none()
            && self.hold.is_none()
    }

    /// Attempts in doubt: those that count against the account's bound.
    #[must_use]
    pub fn doubts_count(&self) -> usize {
        self.index.doubts.len() + self.index.deciding.len()
    }

    /// The intents whose attempts are in doubt.
    pub fn intents_in_doubt(&self) -> impl Iterator<Item = IntentId> + '_ {
        self.index.doubts.iter().chain(self.index.deciding.iter()).copied()
    }

    /// Whether any attempt is open: rows with the lane's items-hash are then explained by it.
    #[must_use]
    pub fn has_open_attempt(&self) -> bool {
        self.index.open() > 0
    }

    /// How many attempts are open.
    #[must_use]
    pub fn open_attempts(&self) -> usize {
        self.index.open()
    }

    /// The intents with permits for attempts that were not sent yet.
    pub fn permits_held(&self) -> impl Iterator<Item = IntentId> + '_ {
        let unsent = |i: &Intent| {
            matches!(i.phase, Phase::Recording)
                || (i.phase == Phase::Accepting && i.attempt.is_some())
        };
        self.intents.iter().filter(move |(_, i)| unsent(i)).map(|(id, _)| *id)
    }

    /// How far back a list must reach: to the oldest floor of an open attempt. `None`: to the end.
    #[must_use]
    pub fn oldest_floor(&self) -> Option<jiff::Timestamp> {
        self.open().map(|sent| sent.attempt.floor).min().flatten()
    }

    /// The open attempts.
    fn open(&self) -> impl Iterator<Item = Sent> + '_ {
        self.index.open_ids().filter_map(|id| self.intents.get(&id)?.open())
    }

    /// How an intent of this lane stands, as those who wait for it are told.
    #[must_use]
    pub fn standing(&self, id: IntentId) -> Option<Told> {
        Some(match self.intents.get(&id)?.phase {
            Phase::InDoubt { held: true } => Told::Held("a person is asked".into()),
            Phase::InDoubt { held: false } | Phase::Deciding { from: From::InDoubt { .. }, .. } => {
                Told::InDoubt
            }
            Phase::Accepting
            | Phase::Queued { .. }
            | Phase::Recording
            | Phase::Sending
            | Phase::Deciding { .. }
            | Phase::Expiring => Told::Accepted,
        })
    }

    /// Until when an intent of this lane is worth sending.
    #[must_use]
    pub fn good_until(&self, id: IntentId) -> Option<Moment> {
        self.intents.get(&id).map(|intent| intent.good_until)
    }

    /// Why only a person frees the lane, if that is so (rule 10).
    #[must_use]
    pub fn hold(&self) -> Option<&Why> {
        self.hold.as_ref()
    }

    /// The attempts in doubt, by intent, that nothing is being written about.
    fn doubts(&self) -> impl Iterator<Item = (IntentId, Sent)> + '_ {
        self.index.doubts.iter().filter_map(|id| Some((*id, self.intents.get(id)?.doubt()?)))
    }

    fn submitted(
        &mut self,
        rules: &Rules,
        (id, delivered, good_until): (IntentId, ItemsDigest, Moment),
        permit: Option<Attempt>,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(why) = &self.hold {
            // Rule 10: callers are told at once and nothing is recorded.
            effects.extend(permit.map(|_| Effect::ReturnPermit { intent: id }));
            effects.push(Effect::Tell { intent: id, told: Told::LaneHeld(why.clone()) });
            return;
        }
        let waiting = !self.index.queued.is_empty();
        let attempt = permit.filter(|_| !waiting && self.may_send(rules, delivered));
        if permit.is_some() && attempt.is_none() {
            effects.push(Effect::ReturnPermit { intent: id });
        }
        let attempt = attempt.map(|attempt| self.recorded(rules, attempt, now));
        let intent = Intent {
            delivered,
            good_until,
            tries: 0,
            phase: Phase::Accepting,
            attempt,
            late: None,
        };
        self.intents.insert(id, Box::new(intent));
        let attempt = attempt.map(|sent| sent.attempt);
        effects.push(Effect::Write(Write::Accept { intent: id, attempt }));
    }

    /// Rule 13: not interchangeable, not together; and no more at once than is set.
    fn may_send(&self, rules: &Rules, delivered: ItemsDigest) -> bool {
        // All that are open are of one kind, so one of each set speaks for it.
        let together = |open| open == delivered || !rules.keeps(Clause::NotTogether);
        self.delivered_open().all(together)
            && self.index.sending.len() < rules.in_flight_max
            && self.hold.is_none()
    }

    /// What is delivered for those that are open, one of each way to be open.
    fn delivered_open(&self) -> impl Iterator<Item = ItemsDigest> + '_ {
        let index = &self.index;
        let one_of_each = [index.sending.first(), index.deciding.first(), index.doubts.first()];
        one_of_each.into_iter().flatten().filter_map(|id| Some(self.intents.get(id)?.delivered))
    }

    fn permitted(
        &mut self,
        rules: &Rules,
        id: IntentId,
        attempt: Attempt,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let wants = self.intents.get(&id).and_then(|i| {
            let queued = matches!(i.phase, Phase::Queued { .. });
            (queued && now < i.good_until).then_some(i.delivered)
        });
        let goes = wants.is_some_and(|delivered| self.may_send(rules, delivered));
        let sent = goes.then(|| self.recorded(rules, attempt, now));
        let Some((intent, sent)) = self.intents.get_mut(&id).zip(sent) else {
            effects.push(Effect::ReturnPermit { intent: id });
            if let Some(Phase::Queued { permit_asked }) =
                self.intents.get_mut(&id).map(|intent| &mut intent.phase)
            {
                *permit_asked = false;
            }
            return;
        };
        intent.phase = Phase::Recording;
        intent.attempt = Some(sent);
        effects.push(Effect::Write(Write::Record { intent: id, attempt: sent.attempt }));
    }

    fn answered(
        &mut self,
        rules: &Rules,
        id: IntentId,
        seq: AttemptSeq,
        outcome: Outcome,
        left: Option<Moment>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(post) = self.posts.get_mut(&seq) {
            // Rule 5: placed from a list; the answer only tells about its own POST. A `Created`
            // does not settle it: an answer may carry another order's id. A definite "nothing was
            // created" does.
            post.left = post.left.report(rules, left);
            match outcome {
                Outcome::Refused(_) | Outcome::NotSent(_) => post.left = Left::Nothing,
                Outcome::Created { id: order, .. } => {
                    effects.push(Effect::Stray { intent: id, seq, id: order, exchanged: true });
                }
                Outcome::Unknown(_) => {}
            }
            return;
        }
        let Some(intent) = self.intents.get_mut(&id) else {
            stray(id, seq, outcome, effects);
            return;
        };
        let is_newest =
            |sent: &Sent| sent.attempt.seq == seq || !rules.keeps(Clause::LateAnswerGuarded);
        let newest = intent.attempt.filter(is_newest);
        let Some(sent) = newest else {
            stray(id, seq, outcome, effects);
            return;
        };
        intent.attempt = Some(Sent { left: sent.left.report(rules, left), ..sent });
        let from = match intent.phase {
            Phase::Sending => From::Sending,
            Phase::InDoubt { held } => From::InDoubt { held },
            Phase::Queued { .. } => From::Queued,
            Phase::Deciding { .. } => {
                if !matches!(outcome, Outcome::Unknown(_)) {
                    intent.late = Some(Box::new(outcome));
                }
                return;
            }
            Phase::Accepting | Phase::Recording | Phase::Expiring => {
                stray(id, seq, outcome, effects);
                return;
            }
        };
        if from != From::Sending && !rules.keeps(Clause::LateAnswerCounts) {
            return;
        }
        let verdict = match (outcome, from) {
            (Outcome::Created { id, created_at }, _) => {
                Verdict::Placed { id, learnt: Learnt::Answer, created_at }
            }
            // Nothing open, and nothing bought: it stays queued.
            (_, From::Queued) => return,
            (Outcome::Refused(why), _) => Verdict::Refused(why),
            (Outcome::NotSent(why), _) => Verdict::NotSent(why),
            (Outcome::Unknown(why), From::Sending) => Verdict::InDoubt(why),
            (Outcome::Unknown(_), From::InDoubt { .. }) => return,
        };
        self.decide(id, verdict, from, effects);
    }

    /// Starts the one durable write that decides an intent's newest attempt (rule 3).
    fn decide(&mut self, id: IntentId, verdict: Verdict, from: From, effects: &mut Vec<Effect>) {
        let Some((intent, sent)) =
            self.intents.get_mut(&id).and_then(|i| i.attempt.map(|sent| (i, sent)))
        else {
            return;
        };
        intent.phase = Phase::Deciding { verdict: Box::new(verdict.clone()), from };
        let seq = sent.attempt.seq;
        effects.push(Effect::Write(Write::Decide { intent: id, seq, verdict }));
        self.note(id);
    }

    fn resolved(
        &mut self,
        rules: &Rules,
        id: IntentId,
        decision: Decision,
        effects: &mut Vec<Effect>,
    ) {
        let Some((intent, held)) = self.intents.get(&id).and_then(|i| match i.phase {
            Phase::InDoubt { held } => Some((i, held)),
            _ => None,
        }) else {
            effects.push(Effect::Tell { intent: id, told: Told::NotInDoubt });
            return;
        };
        let verdict = match decision {
            Decision::Placed { id, created_at } => {
                Verdict::Placed { id, learnt: Learnt::Person, created_at }
            }
            Decision::Absent => absent(rules, intent.tries, "resolved by a person"),
        };
        self.decide(id, verdict, From::InDoubt { held }, effects);
    }

    /// What follows from time and state alone, after every event.
    fn go_on(&mut self, rules: &Rules, now: Moment, effects: &mut Vec<Effect>) {
        self.use_kept(rules, now, effects);
        self.hold_doubts(effects);
        self.turn_eras(now);
        self.prune_posts(rules, now, effects);
        if self.asked.is_none() && self.kept.is_none() {
            self.taken.clear();
        }
        self.look(rules, now, effects);
        self.send_queued(rules, now, effects);
    }

    /// Expires what is unsent and too late, and asks for permits for what may leave, first come
    /// first served.
    fn send_queued(&mut self, rules: &Rules, now: Moment, effects: &mut Vec<Effect>) {
        while let Some((_, id)) = self.index.first_expiry().filter(|(at, _)| *at <= now) {
            if let Some(intent) = self.intents.get_mut(&id) {
                intent.phase = Phase::Expiring;
            }
            self.note(id);
            let why = "too late to send".into();
            effects.push(Effect::Write(Write::Expire { intent: id, why }));
        }
        if self.hold.is_some() {
            return;
        }
        let mut open = self.delivered_open().next();
        let room = rules.in_flight_max.saturating_sub(self.index.sending.len());
        for (id, _) in self.index.queued.iter().take(room) {
            let Some(intent) = self.intents.get_mut(id) else { continue };
            let together = *open.get_or_insert(intent.delivered) == intent.delivered;
            if !together && rules.keeps(Clause::NotTogether) {
                return;
            }
            if let Phase::Queued { permit_asked: asked @ false } = &mut intent.phase {
                *asked = true;
                effects.push(Effect::AskPermit { intent: *id });
            }
        }
    }
}

/// When an attempt is settled: nothing of it can land any more (rule 7). `None`: never by itself.
fn settles_at(rules: &Rules, left: Left) -> Option<Moment> {
    match left {
        Left::Unreported => None,
        Left::At(left) => {
            let kept = |clause, bound| if rules.keeps(clause) { bound } else { Duration::ZERO };
            let wire = kept(Clause::WireBound, rules.wire_bound);
            let landing = kept(Clause::LandingBound, rules.landing_bound?);
            Some(left.plus(wire).plus(landing))
        }
        Left::Nothing => Some(Moment::ORIGIN),
    }
}

/// An attempt is proved absent: try again or give up.
fn absent(rules: &Rules, tries: u8, why: &'static str) -> Verdict {
    if tries.saturating_add(1) < rules.tries_max {
        Verdict::Absent
    } else {
        Verdict::NotPlaced(why.into())
    }
}

/// An answer for an attempt that is not the intent's newest, or of an intent that has ended.
fn stray(intent: IntentId, seq: AttemptSeq, outcome: Outcome, effects: &mut Vec<Effect>) {
    if let Outcome::Created { id, .. } = outcome {
        effects.push(Effect::Stray { intent, seq, id, exchanged: false });
    }
}

#[cfg(test)]
mod tests;
