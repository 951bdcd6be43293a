//! Marks of 64 bits in the place of whole values.

use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Of two values that differ, the marks are equal once in 2^64.
pub fn mark<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = Mixer::default();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Every step is one to one in what was before, so a difference is not lost on the way.
#[derive(Debug, Clone, Default)]
struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, word: u64) {
        let mixed = (self.0.rotate_left(25) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        let mut end = self.0 ^ 0x2545_f491_4f6c_dd1d;
        end = (end ^ (end >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        end = (end ^ (end >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        end ^ (end >> 31)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(bytes.len() as u64);
    }

    fn write_u8(&mut self, n: u8) {
        self.mix(u64::from(n));
    }

    fn write_u16(&mut self, n: u16) {
        self.mix(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.mix(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }

    fn write_isize(&mut self, n: isize) {
        self.mix(n as u64);
    }
}

/// Of tables whose keys are marks.
pub type Hashed = BuildHasherDefault<Itself>;

/// A mark is its own hash.
#[derive(Debug, Clone, Default)]
pub struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("the keys are marks");
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}
