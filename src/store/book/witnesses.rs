//! The newest claims, in the order in which they were made: the witnesses of a listing.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protocol::Serial;
use crate::store::record::ClaimRow;

/// From how many on it is worth looking for some that nobody will ask for.
const LONG: usize = 1 << 16;

/// Most claims kept in memory (about 200 bytes each); what is older is read from the index.
const MAX: usize = 1 << 20;

/// See the module.
pub(super) struct Witnesses {
    claims: VecDeque<Arc<ClaimRow>>,
    /// Every claim made when this serial or a higher one had been handed out is here.
    complete_from: Serial,
    trim_at: usize,
}

impl Default for Witnesses {
    fn default() -> Self {
        Self::complete_from(Serial(0))
    }
}

impl Witnesses {
    pub(super) fn complete_from(serial: Serial) -> Self {
        Self { claims: VecDeque::new(), complete_from: serial, trim_at: LONG }
    }

    pub(super) fn push(&mut self, claim: Arc<ClaimRow>) {
        self.claims.push_back(claim);
    }

    /// Puts a claim where it belongs: it was made in another store, at any time.
    pub(super) fn put(&mut self, claim: Arc<ClaimRow>) {
        let at = self.claims.partition_point(|other| other.ended_at <= claim.ended_at);
        self.claims.insert(at, claim);
    }

    pub(super) fn since(&self, since: Serial) -> (Vec<Arc<ClaimRow>>, bool) {
        let first = self.claims.partition_point(|claim| claim.ended_at < since);
        (self.claims.range(first..).cloned().collect(), since >= self.complete_from)
    }

    pub(super) fn is_long(&self) -> bool {
        self.claims.len() >= self.trim_at
    }

    /// Drops claims from before the oldest open attempt, and the oldest beyond the limit, as far
    /// as the index holds them.
    pub(super) fn trim(&mut self, oldest: Serial, fed_changes: u64) {
        while let Some(front) = self.claims.front() {
            let wanted = front.ended_at >= oldest && self.claims.len() <= MAX;
            if wanted || front.changed > fed_changes {
                break;
            }
            self.complete_from = Serial(front.ended_at.0.saturating_add(1));
            self.claims.pop_front();
        }
        self.trim_at = LONG.max(self.claims.len() * 2).min(self.claims.len() + LONG * 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{EchoProfile, ItemsHash, OrderId};
    use crate::protocol::{Learnt, Shape};

    fn claim(n: u64) -> Arc<ClaimRow> {
        Arc::new(ClaimRow {
            id: OrderId::new(format!("o{n}")).expect("an id"),
            intent: Serial(n),
            lane: ItemsHash::of(&[], EchoProfile::default()),
            shape: Shape::default(),
            learnt: Learnt::Answer,
            created_at: None,
            ended_at: Serial(n),
            changed: n,
        })
    }

    fn seen(witnesses: &Witnesses, since: u64) -> (usize, bool) {
        let (claims, all) = witnesses.since(Serial(since));
        assert!(claims.iter().all(|claim| claim.ended_at >= Serial(since)));
        (claims.len(), all)
    }

    #[test]
    fn trimmed_witnesses_say_that_they_are_not_all() {
        let mut witnesses = Witnesses::default();
        (1..=100).for_each(|n| witnesses.push(claim(n)));
        assert_eq!(seen(&witnesses, 0), (100, true));
        assert_eq!(seen(&witnesses, 41), (60, true));
        witnesses.trim(Serial(41), 30);
        assert_eq!(seen(&witnesses, 0), (70, false), "what the index lacks stays");
        assert_eq!(seen(&witnesses, 31), (70, true));
        witnesses.trim(Serial(41), 100);
        assert_eq!(seen(&witnesses, 40), (60, false));
        assert_eq!(seen(&witnesses, 41), (60, true));
    }
}
