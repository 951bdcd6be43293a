//! What is counted and hashed of a store that is read through.

use std::collections::HashMap;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::protocol::Serial;
use crate::store::Adopted;

/// How many intents a store has, and a hash of them all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Intents.
    pub intents: u64,
    /// Of these, those that have not ended.
    pub open: u64,
    /// Of these, those with a supplier order, paid or not.
    pub placed: u64,
    /// XOR of the SHA-256 of each: the same in whatever order they are read.
    pub hash: [u8; 32],
}

impl Tally {
    /// Counts an intent in. Each is to be counted once.
    pub fn add(&mut self, intent: &Adopted) {
        let state = &intent.stored.state;
        self.intents += 1;
        self.open += u64::from(!state.is_end());
        self.placed += u64::from(state.order().is_some());
        let one: [u8; 32] = Sha256::digest(super::bytes_of(intent)).into();
        self.hash.iter_mut().zip(one).for_each(|(all, byte)| *all ^= byte);
    }

    /// The hash in hexadecimal digits.
    #[must_use]
    pub fn hash_text(&self) -> String {
        self.hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { intents, open, placed, .. } = self;
        let hash = self.hash_text();
        write!(f, "{intents} orders, {open} open, {placed} placed, hash {}", &hash[..16])
    }
}

/// Which intents were seen: a bit for each serial, as serials are dense.
#[derive(Debug, Default)]
pub(in crate::store) struct Seen(HashMap<u64, u64>);

impl Seen {
    /// Notes one; whether it is the first time.
    pub(in crate::store) fn is_new(&mut self, id: Serial) -> bool {
        let bit = 1 << (id.0 % 64);
        let bits = self.0.entry(id.0 / 64).or_default();
        let new = *bits & bit == 0;
        *bits |= bit;
        new
    }
}
