//! A Bloom filter that grows: whether the index may have a key.
//!
//! A feed holds sled's lock for its whole batch, and a look into sled would wait for it. New
//! references and new order ids, which are nearly all that are asked for, are told here. "No" is
//! certain; "yes" is wrong about once in ten thousand times and costs a look.

use std::hash::Hasher;

/// Bits per key.
const BITS_PER_KEY: u64 = 24;

/// Probes per key.
const PROBES: u64 = 8;

/// Keys of the first layer: 3 bytes each.
const FIRST_KEYS: u64 = 1 << 16;

struct Layer {
    bits: Vec<u64>,
    room: u64,
}

/// See the module.
pub(crate) struct Filter(Vec<Layer>);

impl Default for Filter {
    fn default() -> Self {
        Self(vec![Layer::new(FIRST_KEYS)])
    }
}

impl Filter {
    /// Adds a key.
    pub(crate) fn insert(&mut self, key: &[u8]) {
        let hash = hash(key);
        let mut keys = FIRST_KEYS;
        if let Some(layer) = self.0.last_mut() {
            if layer.room > 0 {
                layer.insert(hash);
                return;
            }
            keys = layer.bits.len() as u64 * 64 / BITS_PER_KEY * 2;
        }
        let mut layer = Layer::new(keys);
        layer.insert(hash);
        self.0.push(layer);
    }

    /// Whether a key may have been added; `false` is certain.
    pub(crate) fn may_have(&self, key: &[u8]) -> bool {
        let hash = hash(key);
        self.0.iter().any(|layer| layer.may_have(hash))
    }
}

impl Layer {
    fn new(keys: u64) -> Self {
        let words = keys.saturating_mul(BITS_PER_KEY) / 64;
        Self { bits: vec![0; usize::try_from(words).unwrap_or(0).max(1)], room: keys }
    }

    fn insert(&mut self, hash: u64) {
        self.room = self.room.saturating_sub(1);
        for probe in 0..PROBES {
            let (word, bit) = self.place(hash, probe);
            self.bits[word] |= bit;
        }
    }

    fn may_have(&self, hash: u64) -> bool {
        (0..PROBES).all(|probe| {
            let (word, bit) = self.place(hash, probe);
            self.bits[word] & bit != 0
        })
    }

    fn place(&self, hash: u64, probe: u64) -> (usize, u64) {
        let step = hash.rotate_left(32) | 1;
        let mixed = hash.wrapping_add(probe.wrapping_mul(step));
        let bits = self.bits.len() as u64 * 64;
        let at = mixed % bits;
        (usize::try_from(at / 64).unwrap_or(0), 1 << (at % 64))
    }
}

/// The same in every process: nothing decides by it.
fn hash(key: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_never_denies_a_key_and_seldom_invents_one() {
        let mut filter = Filter::default();
        let key = |n: u32| n.to_le_bytes();
        (0..200_000).for_each(|n| filter.insert(&key(n)));
        assert!((0..200_000).all(|n| filter.may_have(&key(n))));
        let invented = (200_000..400_000).filter(|n| filter.may_have(&key(*n))).count();
        assert!(invented < 100, "{invented} of 200,000");
    }
}
