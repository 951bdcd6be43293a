//! An account book without what cannot matter any more, for a model checker: two books that will
//! judge the same from now on are then equal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::{Account, Entry, Moment, OrderId, Shape, Silence};

/// What an [`Account`] knows, as data that can be compared. For model checkers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Contents {
    history: (Option<Timestamp>, BTreeSet<OrderId>),
    orphans: BTreeSet<OrderId>,
    echo_seen: BTreeSet<Shape>,
    tag_seen: bool,
    book: BTreeMap<OrderId, Entry>,
    newest: Option<Timestamp>,
    silence: Option<Silence>,
    differing: BTreeSet<OrderId>,
    distrust: Option<OrderId>,
    missing: Option<OrderId>,
}

impl Account {
    /// The same book, as if `now` were `base`, and as if nothing were known for longer than
    /// `oldest`: that must be above the landing bound and the time that a list may take.
    ///
    /// The supplier's clock and the lag that was measured are forgotten.
    #[must_use]
    pub fn rebased(mut self, now: Moment, base: Moment, oldest: Duration) -> Self {
        let moved = |at: Moment| {
            let age = now.since(at).min(oldest);
            Moment::after_origin(base.since(Moment::ORIGIN).saturating_sub(age))
        };
        for entry in self.book.values_mut() {
            entry.sheet = 0;
            entry.seen = entry.seen.map(moved);
            if let Some(claim) = &mut entry.claim {
                claim.since = moved(claim.since);
            }
        }
        if let Some(silence) = &mut self.silence {
            silence.arrived = moved(silence.arrived);
        }
        self.sheets = 0;
        (self.clock, self.lag_seen, self.bound_alarmed) = (None, Duration::ZERO, true);
        self
    }

    /// What the book knows.
    #[must_use]
    pub fn contents(&self) -> Contents {
        Contents {
            history: (self.history_before, self.history_ids.clone()),
            orphans: self.orphans.clone(),
            echo_seen: self.echo_seen.clone(),
            tag_seen: self.tag_seen,
            book: self.book.iter().map(|(id, entry)| (id.clone(), entry.clone())).collect(),
            newest: self.newest,
            silence: self.silence,
            differing: self.differing.clone(),
            distrust: self.distrust.clone(),
            missing: self.missing.clone(),
        }
    }
}
