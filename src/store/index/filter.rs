//! Which keys the journal has, as fingerprints: whether a key is new, without asking sled.
//!
//! It is filled from the journal at every start, so it knows of keys that a damaged index lost.
//! "No" is certain. "Yes" is wrong about once in a hundred million times.
//!
//! Tables of 32-bit fingerprints with linear probing, each twice as large as the one before: 6 to
//! 11 bytes a key. A table that is full stays as it is.

use std::hash::Hasher;

use crate::store::record::JournalKey;

/// Slots of the smallest table.
const SLOTS_MIN: usize = 1 << 16;

struct Table {
    slots: Vec<u32>,
    room: usize,
}

/// See the module.
pub(crate) struct Filter(Vec<Table>);

impl Filter {
    /// A filter that holds so many keys in its first table.
    pub(crate) fn with_room(keys: u64) -> Self {
        let wanted = usize::try_from(keys).unwrap_or(usize::MAX / 4).saturating_mul(4) / 3;
        Self(vec![Table::new(wanted.next_power_of_two().max(SLOTS_MIN))])
    }

    /// Adds a key; adding it again changes nothing.
    pub(crate) fn insert(&mut self, key: &[u8]) {
        let hash = hash(key);
        if self.has(hash) {
            return;
        }
        let slots = match self.0.last() {
            Some(table) if table.room > 0 => 0,
            Some(table) => table.slots.len() * 2,
            None => SLOTS_MIN,
        };
        if slots > 0 {
            self.0.push(Table::new(slots));
        }
        if let Some(table) = self.0.last_mut() {
            table.insert(hash);
        }
    }

    /// Whether a key was added; `false` is certain.
    pub(crate) fn may_have(&self, key: &[u8]) -> bool {
        self.has(hash(key))
    }

    fn has(&self, hash: u64) -> bool {
        self.0.iter().any(|table| table.find(hash).is_ok())
    }
}

impl Table {
    fn new(slots: usize) -> Self {
        Self { slots: vec![0; slots], room: slots / 4 * 3 }
    }

    /// Where a hash is, or where it would go.
    fn find(&self, hash: u64) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(hash >> 20).unwrap_or(0) & mask;
        loop {
            match self.slots[at] {
                0 => return Err(at),
                found if found == fingerprint(hash) => return Ok(at),
                _ => at = (at + 1) & mask,
            }
        }
    }

    fn insert(&mut self, hash: u64) {
        if let Err(at) = self.find(hash) {
            self.slots[at] = fingerprint(hash);
            self.room = self.room.saturating_sub(1);
        }
    }
}

/// Never 0, which marks an empty slot. Its bits are mixed once more, so that they say something
/// beside what the slot says.
fn fingerprint(hash: u64) -> u32 {
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    u32::try_from(mixed).unwrap_or(1).max(1)
}

/// The same in every process: nothing decides by it.
fn hash(key: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

/// The keys that the journal has.
pub(crate) struct Keys {
    /// References of intents, open and ended.
    pub references: Filter,
    /// Order ids of claims.
    pub orders: Filter,
}

impl Keys {
    /// Notes the key that a change brings.
    pub(crate) fn note(&mut self, key: JournalKey<'_>) {
        match key {
            JournalKey::Reference(reference) => self.references.insert(reference.as_bytes()),
            JournalKey::Order(id) => self.orders.insert(id.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_never_denies_a_key_and_hardly_ever_invents_one() {
        let mut filter = Filter::with_room(0);
        let key = |n: u32| n.to_le_bytes();
        (0..300_000).for_each(|n| filter.insert(&key(n)));
        (0..300_000).for_each(|n| filter.insert(&key(n)));
        assert!((0..300_000).all(|n| filter.may_have(&key(n))));
        let invented = (300_000..2_000_000).filter(|n| filter.may_have(&key(*n))).count();
        assert!(invented < 4, "{invented} of 1,700,000");
    }
}
