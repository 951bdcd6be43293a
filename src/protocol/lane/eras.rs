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
//! takes its place.

use jiff::Timestamp;

use super::{Attempt, AttemptSeq, Clause, Lane, Left, Moment, Rules, Sent};

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
    /// The newest of its attempts.
    newest: AttemptSeq,
    /// All of its attempts have ended, and none of them met a newer one than this.
    met: Option<AttemptSeq>,
    /// When an intent was last placed by its own answer while others were open.
    answered: Option<Moment>,
}

impl Era {
    fn of(attempt: Attempt) -> Self {
        Self { floor: attempt.floor, newest: attempt.seq, met: None, answered: None }
    }

    fn add(&mut self, attempt: Attempt) {
        self.floor = self.floor.min(attempt.floor);
        self.newest = self.newest.max(attempt.seq);
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
        self.newer.as_ref().map_or(self.older.newest, |newer| newer.newest)
    }

    fn answered(&self) -> Option<Moment> {
        self.older.answered.max(self.newer.as_ref().and_then(|newer| newer.answered))
    }

    /// Goes on as far as attempts have ended, and says whether anything is left. `is_open`: whether
    /// any attempt is open up to this one.
    fn turn(&mut self, is_open: impl Fn(AttemptSeq) -> bool) -> bool {
        if self.older.met.is_none() && !is_open(self.older.newest) {
            self.older.met = Some(self.newest());
        }
        if self.older.met.is_none_or(is_open) {
            return true;
        }
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
            eras.older.met = eras.older.met.map(|_| newest);
        }
    }

    /// When an intent was last placed by its own answer while others were open.
    pub(super) fn answered_last(&self) -> Option<Moment> {
        self.eras.as_ref().and_then(|eras| eras.answered())
    }

    /// Forgets who was open together as far as that is over.
    pub(super) fn turn_eras(&mut self) {
        if let Some(mut eras) = self.eras.take() {
            let is_open = |seq| self.open().any(|sent| sent.attempt.seq <= seq);
            self.eras = eras.turn(is_open).then_some(eras);
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl Eras {
    /// Moves its moments, or forgets them.
    pub(super) fn rebase(&mut self, moved: impl Fn(Moment) -> Option<Moment>) {
        for era in [Some(&mut self.older), self.newer.as_mut()].into_iter().flatten() {
            era.answered = era.answered.and_then(&moved);
        }
    }
}
