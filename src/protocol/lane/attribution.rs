//! Rules 8 to 10: what a list says about the attempts in doubt.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    Alarm, Asked, Clause, Effect, Fingerprint, From, IntentId, Lane, Left, Moment, Phase, Rules,
    Sent, Verdict, Write, absent, settles_at,
};
use crate::order::OrderId;
use crate::protocol::{AttemptSeq, Learnt, Serial};

/// What a list shows to one lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListView {
    /// Which question this answers.
    pub ask: u64,
    /// Every row with the lane's items-hash, whatever its status, that nobody has claimed and that
    /// is neither orphan nor history; oldest first. Claims need no complete list.
    pub candidates: Vec<Candidate>,
    /// How far the list proves absence; `None`: it is no evidence of absence (assumption A2, or
    /// the echo of such an order was never seen, A4).
    pub proof: Option<Reach>,
    /// An unclaimed row that shares a product with the lane's order without matching it, that
    /// cannot be read, or that names a product which none of our orders named (rule 9).
    pub near_miss: Option<OrderId>,
}

/// A row that an attempt in doubt may claim.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// The supplier's order.
    pub id: OrderId,
    /// When it was created, by the supplier's clock.
    pub created_at: Timestamp,
}

/// How far a complete list reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reach {
    /// Back to this moment of the supplier's clock; `None`: to the very end.
    pub since: Option<Timestamp>,
    /// What it was fetched with.
    pub fingerprint: Fingerprint,
}

impl Reach {
    /// Whether an order that is no older than the floor could not hide from the list.
    pub(super) fn covers(&self, floor: Option<Timestamp>) -> bool {
        match (self.since, floor) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(since), Some(floor)) => since <= floor,
        }
    }
}

/// The first list that has not been used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kept {
    /// What was settled when it was asked for.
    settled: BTreeSet<AttemptSeq>,
    /// When that was.
    at: Moment,
    /// Attempts below this number were recorded when it arrived; only they can own its rows.
    before: AttemptSeq,
    view: ListView,
    /// The attempts that its rows were given to, once that is so; releases are next.
    claimed: Option<Vec<AttemptSeq>>,
    /// A claim failed: somebody else has a row that this list called free.
    contradicted: bool,
}

#[cfg(any(test, feature = "testing"))]
impl Kept {
    /// Moves when it was asked for.
    pub(super) fn rebase(&mut self, at: Moment) {
        self.at = at;
    }

    /// Forgets the attempts that are gone.
    pub(super) fn forget(&mut self, live: &BTreeSet<AttemptSeq>) {
        self.view.ask = 0;
        self.settled.retain(|seq| live.contains(seq));
        if let Some(claimed) = &mut self.claimed {
            claimed.retain(|seq| live.contains(seq));
        }
    }
}

#[cfg(feature = "testing")]
impl Kept {
    /// Whether a row that is still to be given away names an order.
    pub(super) fn has(&self, id: &OrderId, taken: &BTreeSet<OrderId>) -> bool {
        let is_free = self.claimed.is_none() && !taken.contains(id);
        is_free && self.view.candidates.iter().any(|row| row.id == *id)
    }

    /// Takes other names, and forgets the rows that are not to be given away any more.
    pub(super) fn rename(&mut self, names: &super::Names<'_>, taken: &BTreeSet<OrderId>) {
        self.settled = names.those(self.settled.iter()).collect();
        self.before = Serial(names.attempt(Serial(self.before.0.saturating_sub(1))).0 + 1);
        let is_free = |row: &Candidate| !taken.contains(&row.id);
        self.view.candidates.retain(|row| self.claimed.is_none() && is_free(row));
        self.view.candidates.iter_mut().for_each(|row| row.id = (names.order)(&row.id));
        self.view.near_miss = self.view.near_miss.as_ref().map(|id| (names.order)(id));
        self.claimed = self.claimed.take().map(|all| names.those(all.iter()).collect());
    }
}

impl Lane {
    pub(super) fn listed(&mut self, rules: &Rules, view: ListView, effects: &mut Vec<Effect>) {
        let Some(asked) = self.asked.take_if(|asked| asked.ask == view.ask) else { return };
        if !self.has_open_attempt() {
            // Rule 12: nobody in this lane can own them.
            self.orphan(&view, effects);
            return;
        }
        if self.kept.is_some() && rules.keeps(Clause::FirstListKept) {
            return;
        }
        let newest = self.open().map(|sent| sent.attempt.seq).max();
        self.kept = Some(Box::new(Kept {
            settled: asked.settled,
            at: asked.at,
            before: Serial(newest.map_or(0, |seq| seq.0 + 1)),
            view,
            claimed: None,
            contradicted: false,
        }));
    }

    fn orphan(&self, view: &ListView, effects: &mut Vec<Effect>) {
        let free = view.candidates.iter().map(|c| &c.id).filter(|id| !self.taken.contains(*id));
        let ids: Vec<_> = free.cloned().collect();
        if !ids.is_empty() {
            effects.push(Effect::Orphans { ids });
        }
    }

    /// Uses the kept list once every attempt below its number has ended or is in doubt.
    pub(super) fn use_kept(&mut self, rules: &Rules, now: Moment, effects: &mut Vec<Effect>) {
        let Some(before) = self.kept.as_ref().map(|kept| kept.before) else { return };
        let open = |id| self.intents.get(&id).and_then(|i| i.open());
        let waits = |sent: Sent| sent.attempt.seq < before && rules.keeps(Clause::ListWaits);
        if self.index.under_way().filter_map(open).any(waits) {
            return;
        }
        let Some(mut kept) = self.kept.take() else { return };
        if self.hold.is_some() {
            return;
        }
        if kept.claimed.is_none() {
            if !self.has_open_attempt() {
                self.orphan(&kept.view, effects);
                return;
            }
            let claimed = self.claim(rules, &kept, effects);
            let is_writing = !claimed.is_empty();
            kept.claimed = Some(claimed);
            if is_writing {
                self.kept = Some(kept);
                return;
            }
        }
        if self.hold.is_none() && !kept.contradicted {
            self.release(rules, &kept, now, effects);
        }
        self.look_pause = (self.look_pause * 2).clamp(rules.look_again_min, rules.look_again_max);
        self.look_at = Some(now.plus(self.look_pause));
    }

    /// The attempts in doubt, oldest first.
    fn doubts_by_age(&self) -> Vec<(AttemptSeq, IntentId)> {
        let mut doubts: Vec<_> = self.doubts().map(|(id, sent)| (sent.attempt.seq, id)).collect();
        doubts.sort_unstable();
        doubts
    }

    /// Rule 8: gives the rows to the oldest attempts in doubt, and says to which. Each is a write
    /// under way.
    fn claim(&mut self, rules: &Rules, kept: &Kept, effects: &mut Vec<Effect>) -> Vec<AttemptSeq> {
        let taken = |id| self.taken.contains(id) && rules.keeps(Clause::CandidateUnclaimed);
        let free = kept.view.candidates.iter().filter(|c| !taken(&c.id));
        let free: Vec<_> = free.cloned().collect();
        let mut doubts = self.doubts_by_age();
        doubts.retain(|(seq, _)| *seq < kept.before);
        if !rules.keeps(Clause::OldestFirst) {
            doubts.reverse();
        }
        if free.len() > doubts.len() && rules.keeps(Clause::SurplusHolds) {
            self.hold_lane(free.len(), &doubts, effects);
            return Vec::new();
        }
        let pairs: Vec<_> = free.into_iter().zip(&doubts).collect();
        for (row, (_, id)) in &pairs {
            let verdict = Verdict::Placed {
                id: row.id.clone(),
                learnt: Learnt::List,
                created_at: Some(row.created_at),
            };
            self.decide_doubt(*id, verdict, effects);
        }
        pairs.iter().map(|(_, (seq, _))| *seq).collect()
    }

    fn decide_doubt(&mut self, id: IntentId, verdict: Verdict, effects: &mut Vec<Effect>) {
        if let Some(Phase::InDoubt { held }) = self.intents.get(&id).map(|i| i.phase.clone()) {
            self.decide(id, verdict, From::InDoubt { held }, effects);
        }
    }

    /// Rule 10: more candidates than doubts. Somebody else buys here, or a POST landed twice.
    fn hold_lane(
        &mut self,
        candidates: usize,
        doubts: &[(AttemptSeq, IntentId)],
        effects: &mut Vec<Effect>,
    ) {
        let why = super::Why::from("more orders than attempts in doubt");
        self.hold = Some(why.clone());
        effects.push(Effect::Alarm(Alarm::Surplus { candidates, doubts: doubts.len() }));
        effects.push(Effect::Write(Write::HoldLane { why: why.clone() }));
    }

    /// Whoever is in doubt while the lane is held waits for a person, and shows it: also an attempt
    /// that came in doubt since, or whose lane was held just before a crash.
    pub(super) fn hold_doubts(&mut self, effects: &mut Vec<Effect>) {
        let Some(why) = self.hold.clone() else { return };
        let is_held = |id| {
            matches!(self.intents.get(id).map(|i| &i.phase), Some(Phase::InDoubt { held: true }))
        };
        let open: Vec<_> = self.index.doubts.iter().filter(|id| !is_held(id)).copied().collect();
        for id in open {
            self.decide_doubt(id, Verdict::Held(why.clone()), effects);
        }
    }

    /// Rule 9: declares absent what this list, requested after it was settled, proves absent.
    fn release(&mut self, rules: &Rules, kept: &Kept, now: Moment, effects: &mut Vec<Effect>) {
        let Some(reach) = kept.view.proof else { return };
        let judged_late = (!rules.keeps(Clause::JudgedAtRequest)).then(|| self.settled(rules, now));
        let noted = judged_late.as_ref().unwrap_or(&kept.settled);
        // The POST of every intent placed with a row of a list, also of this very list.
        let mut settled = self.posts.keys().all(|seq| {
            let by_this_list = kept.claimed.as_ref().is_some_and(|claimed| claimed.contains(seq));
            let clause =
                if by_this_list { Clause::SettledPlacedNow } else { Clause::SettledPlaced };
            noted.contains(seq) || !rules.keeps(clause)
        });
        let requested = if judged_late.is_some() { now } else { kept.at };
        let is_clear = |answered| {
            settles_at(rules, Left::At(answered)).is_some_and(|at| at <= requested)
                || !rules.keeps(Clause::SettledAnswered)
        };
        let is_settled = |at| settles_at(rules, Left::At(at)).is_some_and(|at| at <= requested);
        if kept.view.near_miss.is_none() {
            let noted = noted.clone();
            self.note_proved(reach, is_settled, &noted);
        }
        let answered = self.answered_last();
        let (mut absentees, mut waiting) = (Vec::new(), Vec::new());
        for (seq, id) in self.doubts_by_age() {
            // Every older attempt still in doubt, and itself.
            if !settled {
                break;
            }
            let itself = noted.contains(&seq);
            settled = itself || !rules.keeps(Clause::SettledOlder);
            if !itself && rules.keeps(Clause::SettledItself) {
                continue;
            }
            let Some(intent) = self.intents.get(&id) else { continue };
            let Some(sent) = intent.attempt else { continue };
            let same = sent.attempt.fingerprint == reach.fingerprint;
            if !same && rules.keeps(Clause::SameFingerprint) {
                let (attempt, list) = (sent.attempt.fingerprint, reach.fingerprint);
                effects.push(Effect::Alarm(Alarm::OtherKey { attempt, list }));
            } else if reach.covers(sent.attempt.floor) {
                match sent.answered.or(answered) {
                    Some(last) if !is_clear(last) => waiting.push((id, last)),
                    _ => absentees.push((id, intent.tries)),
                }
            }
        }
        let near_miss = kept.view.near_miss.as_ref();
        let Some(row) = near_miss.filter(|_| rules.keeps(Clause::NearMissHeld)) else {
            for (id, tries) in absentees {
                self.decide_doubt(id, absent(rules, tries, "not bought in any try"), effects);
            }
            waiting.into_iter().for_each(|(id, last)| self.wait_for_answered(id, last));
            return;
        };
        // A near miss is a question for a person, never absence.
        let waiting = waiting.into_iter().map(|(id, _)| id);
        for id in absentees.into_iter().map(|(id, _)| id).chain(waiting) {
            let held = Some(Phase::InDoubt { held: true });
            if self.intents.get(&id).map(|intent| &intent.phase) != held.as_ref() {
                effects.push(Effect::Alarm(Alarm::NearMiss { id: row.clone() }));
                self.decide_doubt(id, Verdict::Held("a similar order is there".into()), effects);
            }
        }
    }

    /// Whatever this attempt made, this list has shown, and somebody has it. An intent that was
    /// placed by its answer up to `last` may have it instead of its own, which must show first; one
    /// that is placed later cannot.
    fn wait_for_answered(&mut self, id: IntentId, last: Moment) {
        if let Some(sent) = self.intents.get_mut(&id).and_then(|i| i.attempt.as_mut()) {
            sent.answered.get_or_insert(last);
        }
    }

    /// Marks the list that is being used as contradicted by the store.
    pub(super) fn contradict(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.contradicted = true;
        }
    }

    /// Looks soon: something new is in doubt.
    pub(super) fn look_soon(&mut self, rules: &Rules, now: Moment) {
        self.look_pause = rules.look_again_min / 2;
        self.look_at = Some(self.look_at.map_or(now, |at| at.min(now)));
    }

    /// The next moment, after the last list was asked for, at which one more attempt could be
    /// released by a new list.
    pub(super) fn releasable_at(&self, rules: &Rules) -> Option<Moment> {
        let mut latest = Moment::ORIGIN;
        for post in self.posts.values() {
            latest = latest.max(settles_at(rules, post.left)?);
        }
        for (_, id) in self.doubts_by_age() {
            let sent = self.intents.get(&id)?.attempt?;
            latest = latest.max(settles_at(rules, sent.left)?);
            let answered = sent.answered.and_then(|last| settles_at(rules, Left::At(last)));
            let at = answered.map_or(latest, |answered| answered.max(latest));
            if self.asked_last.is_none_or(|asked| asked < at) {
                return Some(at);
            }
        }
        None
    }

    /// Asks for a list where one is due.
    pub(super) fn look(&mut self, rules: &Rules, now: Moment, effects: &mut Vec<Effect>) {
        let first_is_kept = self.kept.is_some() && rules.keeps(Clause::FirstListKept);
        if self.asked.is_some() || first_is_kept || self.hold.is_some() {
            return;
        }
        if self.index.doubts.is_empty() {
            return;
        }
        let due = [self.look_at, self.releasable_at(rules)];
        if !due.into_iter().flatten().any(|at| at <= now) {
            return;
        }
        self.asks += 1;
        self.asked_last = Some(now);
        self.look_at = None;
        self.asked = Some(Asked { ask: self.asks, at: now, settled: self.settled(rules, now) });
        effects.push(Effect::List { ask: self.asks, since: self.oldest_floor() });
    }

    /// What is settled at `now`: noted when a list is asked for, never judged later.
    fn settled(&self, rules: &Rules, now: Moment) -> BTreeSet<AttemptSeq> {
        let is_settled = |left: Left| settles_at(rules, left).is_some_and(|at| at <= now);
        let sending = self.open().filter(|_| !rules.keeps(Clause::UnsentInFlight));
        let unsent = sending.filter(|sent| sent.left == Left::Unreported);
        let doubts = self.doubts().filter(|(_, sent)| is_settled(sent.left));
        let posts = self.posts.iter().filter(|(_, post)| is_settled(post.left));
        let attempts = doubts.map(|(_, sent)| sent).chain(unsent);
        attempts.map(|sent| sent.attempt.seq).chain(posts.map(|(seq, _)| *seq)).collect()
    }

    /// Forgets the POSTs that are settled. Never while a list that was asked for before is still to
    /// be used: that one must not release anything on the strength of what settled since.
    pub(super) fn prune_posts(&mut self, rules: &Rules, now: Moment, effects: &mut Vec<Effect>) {
        if self.posts.is_empty() || self.asked.is_some() || self.kept.is_some() {
            return;
        }
        self.posts.retain(|_, post| {
            let settled = settles_at(rules, post.left).is_some_and(|at| at <= now);
            if settled {
                effects.push(Effect::Write(Write::Settle { intent: post.intent }));
            }
            !settled
        });
    }
}
