//! Which attempts of a lane were open together, in two generations: how far back a list must reach
//! for an attempt, and until when an answer may have taken its order.
//!
//! Two intents of a lane can end with each other's orders: a row goes to the oldest doubt, whoever
//! bought it, and an answer may name another order than its POST made. What the first of them
//! bought is then the other's, and the list that releases the other must show it: it must reach
//! back to the first one's floor. So an attempt is recorded with the lowest floor of all that it
//! can have exchanged orders with ([`Clause::PlacedInReach`]); after a restart it is there still.
//!
//! Kept only while attempts overlap, and then in constant space: an attempt belongs to the newer
//! era; when everybody of the older era has ended, and everybody whom those met, the newer one
//! takes its place. It does so earlier where a list proves that nothing of the older era is to come:
//! complete, reaching back to its floor, and requested when all of its POSTs were settled. Whatever
//! they made has an owner then.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Attempt, AttemptSeq, Clause, Fingerprint, Lane, Left, Moment, Reach, Rules, Sent};

/// At most two eras.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Eras {
    older: Era,
    newer: Option<Era>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Era {
    /// The lowest floor of its attempts.
    floor: Option<Timestamp>,
    /// What they were sent with; `None`: not all with the same.
    fingerprint: Option<Fingerprint>,
    /// The newest of its attempts.
    own: AttemptSeq,
    /// When all of these had ended.
    ended: Option<Moment>,
    /// The newest whose orders may have been exchanged for theirs.
    exchanged: AttemptSeq,
    /// Up to there all have ended, and none of them met a newer one than this.
    met: Option<AttemptSeq>,
    /// When an intent was last placed by its own answer while others were open.
    answered: Option<Moment>,
}

impl Era {
    fn of(attempt: Attempt) -> Self {
        Self {
            floor: attempt.floor,
            fingerprint: Some(attempt.fingerprint),
            own: attempt.seq,
            ended: None,
            exchanged: attempt.seq,
            met: None,
            answered: None,
        }
    }

    fn add(&mut self, attempt: Attempt) {
        self.floor = self.floor.min(attempt.floor);
        self.fingerprint = self.fingerprint.filter(|same| *same == attempt.fingerprint);
        self.own = self.own.max(attempt.seq);
        self.exchanged = self.exchanged.max(attempt.seq);
    }
}

impl Eras {
    /// Of attempts that are open.
    fn of(mut open: impl Iterator<Item = Attempt>) -> Option<Self> {
        let mut older = Era::of(open.next()?);
        open.for_each(|attempt| older.add(attempt));
        Some(Self { older, newer: None })
    }

    fn add(&mut self, attempt: Attempt) {
        match &mut self.newer {
            Some(newer) => newer.add(attempt),
            None => self.newer = Some(Era::of(attempt)),
        }
    }

    fn floor(&self) -> Option<Timestamp> {
        self.newer.iter().map(|era| era.floor).fold(self.older.floor, Ord::min)
    }

    fn newest(&self) -> AttemptSeq {
        let newer = self.newer.as_ref().map_or(self.older.own, |newer| newer.own);
        newer.max(self.older.own)
    }

    fn answered(&self) -> Option<Moment> {
        self.older.answered.max(self.newer.as_ref().and_then(|newer| newer.answered))
    }

    /// Goes on as far as attempts have ended, and says whether anything is left. `is_open`: whether
    /// any attempt is open up to this one.
    fn turn(&mut self, now: Moment, is_open: impl Fn(AttemptSeq) -> bool) -> bool {
        if self.older.ended.is_none() && !is_open(self.older.own) {
            self.older.ended = Some(now);
        }
        if self.older.met.is_none() && !is_open(self.older.exchanged) {
            self.older.met = Some(self.newest());
        }
        self.older.met.is_none_or(is_open) || self.next()
    }

    /// The newer era takes the place of the older one, if there is one.
    fn next(&mut self) -> bool {
        self.newer.take().map(|newer| self.older = newer).is_some()
    }
}

impl Lane {
    /// Takes an attempt that is about to be recorded.
    pub(super) fn recorded(&mut self, rules: &Rules, own: Attempt, now: Moment) -> Sent {
        let mut attempt = own;
        if self.has_open_attempt() {
            self.meet();
            if let Some(eras) = &mut self.eras {
                attempt.floor = eras.floor().min(own.floor);
                eras.add(own);
            }
        }
        let attempt = if rules.keeps(Clause::PlacedInReach) { attempt } else { own };
        Sent { attempt, left: Left::recorded(rules, now), answered: None }
    }

    /// From here on it counts who is open together.
    fn meet(&mut self) {
        if self.eras.is_none() {
            self.eras = Eras::of(self.open().map(|sent| sent.attempt)).map(Box::new);
        }
    }

    /// An intent is being placed by its own answer. Whose order that is, is not sure if others are
    /// open.
    pub(super) fn note_answered(&mut self, now: Moment) {
        if self.index.open() > 1 {
            self.meet();
            if let Some(eras) = &mut self.eras {
                let era = eras.newer.as_mut().unwrap_or(&mut eras.older);
                era.answered = Some(now);
            }
        }
    }

    /// An intent is being placed by a list, or a person: who met its attempt has met whoever is
    /// open now.
    pub(super) fn note_exchanged(&mut self) {
        if let Some(eras) = &mut self.eras {
            let newest = eras.newest();
            eras.older.exchanged = newest;
            eras.older.met = eras.older.met.map(|_| newest);
        }
    }

    /// When an intent was last placed by its own answer while others were open.
    pub(super) fn answered_last(&self) -> Option<Moment> {
        self.eras.as_ref().and_then(|eras| eras.answered())
    }

    /// Forgets who was open together as far as that is over.
    pub(super) fn turn_eras(&mut self, now: Moment) {
        if let Some(mut eras) = self.eras.take() {
            let is_open = |seq| self.open().any(|sent| sent.attempt.seq <= seq);
            self.eras = eras.turn(now, is_open).then_some(eras);
        }
    }

    /// Takes a complete list whose rows all have owners. `is_settled`: whether what ended at a
    /// moment was settled when it was requested; `noted`: the POSTs that were.
    pub(super) fn note_proved(
        &mut self,
        reach: Reach,
        is_settled: impl Fn(Moment) -> bool,
        noted: &BTreeSet<AttemptSeq>,
    ) {
        let Some(mut eras) = self.eras.take() else { return };
        let older = &eras.older;
        let mut posts = self.posts.range(..=older.own);
        let is_over = older.ended.is_some_and(is_settled)
            && posts.all(|(seq, _)| noted.contains(seq))
            && reach.covers(older.floor)
            && older.fingerprint == Some(reach.fingerprint);
        self.eras = (!is_over || eras.next()).then_some(eras);
    }
}

#[cfg(any(test, feature = "testing"))]
impl Eras {
    /// Moves its moments, or forgets them.
    pub(super) fn rebase(&mut self, moved: impl Fn(Moment) -> Option<Moment>) {
        for era in [Some(&mut self.older), self.newer.as_mut()].into_iter().flatten() {
            era.answered = era.answered.and_then(&moved);
            // What settled before the last list was asked for is as good as of old.
            era.ended = era.ended.map(|at| moved(at).unwrap_or(Moment::ORIGIN));
        }
    }

    /// Gives its attempts other numbers.
    #[cfg(feature = "testing")]
    pub(super) fn rename(&mut self, named: impl Fn(AttemptSeq) -> AttemptSeq) {
        for era in [Some(&mut self.older), self.newer.as_mut()].into_iter().flatten() {
            era.own = named(era.own);
            era.exchanged = named(era.exchanged);
            era.met = era.met.map(&named);
        }
    }
}
