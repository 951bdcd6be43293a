//! How many lines stand where.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::commands::results::Outcome;

/// Counted by all tasks of a run.
#[derive(Default)]
pub struct Tally {
    /// Lines read.
    pub lines: AtomicU64,
    /// Lines that another try may take: nothing was recorded for them.
    pub not_taken: AtomicU64,
    /// Lines that have not ended.
    pub followed: AtomicU64,
    /// In doubt now.
    pub in_doubt: AtomicU64,
    /// Held now.
    pub held: AtomicU64,
    /// How lines of the input were left.
    pub input: Counts,
    /// How open orders of earlier runs that are not in the input were left.
    pub earlier: Counts,
}

/// One count for each outcome.
#[derive(Default)]
pub struct Counts([AtomicU64; 10]);

/// Counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Bought.
    pub placed: u64,
    /// Refused by the supplier.
    pub refused: u64,
    /// Given up, not bought.
    pub not_placed: u64,
    /// Created, and never paid.
    pub unpaid: u64,
    /// Waiting for a person.
    pub held: u64,
    /// In doubt, or still under way.
    pub in_doubt: u64,
    /// The reference belongs to another order.
    pub conflict: u64,
    /// No order.
    pub invalid: u64,
    /// With another node.
    #[serde(skip_serializing_if = "is_zero")]
    pub elsewhere: u64,
}

impl Counts {
    /// Counts one.
    pub fn add(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts now.
    pub fn read(&self) -> Snapshot {
        let count = |outcome: Outcome| self.0[outcome as usize].load(Ordering::Relaxed);
        Snapshot {
            placed: count(Outcome::Placed),
            refused: count(Outcome::Refused),
            not_placed: count(Outcome::NotPlaced),
            unpaid: count(Outcome::Unpaid),
            held: count(Outcome::Held),
            in_doubt: count(Outcome::InDoubt),
            conflict: count(Outcome::Conflict),
            invalid: count(Outcome::Invalid),
            elsewhere: count(Outcome::Elsewhere),
        }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Snapshot {
    /// Neither bought for certain nor not bought for certain.
    pub fn open(&self) -> u64 {
        self.held + self.in_doubt
    }

    /// Ended, and nothing was bought.
    pub fn failed(&self) -> u64 {
        let nothing = self.refused + self.not_placed + self.unpaid;
        nothing + self.conflict + self.invalid + self.elsewhere
    }

    /// In words, without what is zero.
    pub fn words(&self) -> String {
        let all = [
            (self.placed, "placed"),
            (self.refused, "refused"),
            (self.not_placed, "not placed"),
            (self.unpaid, "unpaid"),
            (self.conflict, "in conflict"),
            (self.invalid, "invalid"),
            (self.elsewhere, "at another node"),
            (self.held, "held"),
            (self.in_doubt, "in doubt"),
        ];
        let words: Vec<_> = all
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| format!("{count} {name}"))
            .collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    }
}
