//! Counts and hashes of what a book holds: what a copy of it is compared by.

use std::hash::Hasher;

use crate::protocol::Serial;
use crate::store::record::{Reader, RecordError, Row, put_u64};

/// Counts, and XORs of hashes, of the rows and claims of a store.
///
/// A row's hash changes with every change to it, so a copy that lost a row, kept one too many or
/// holds an old one does not agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Intents that have not ended.
    pub open: u64,
    /// Rows that actors start from: open intents, and ended ones whose POST may still land.
    pub active: u64,
    /// XOR of their hashes.
    pub active_xor: u64,
    /// All other rows.
    pub ended: u64,
    /// XOR of their hashes.
    pub ended_xor: u64,
    /// Claimed orders.
    pub claims: u64,
    /// XOR of their hashes.
    pub claims_xor: u64,
}

impl Totals {
    /// Their size in bytes.
    pub(crate) const BYTES: usize = 56;

    /// Counts a row in.
    pub(crate) fn enter(&mut self, row: &Row) {
        self.open += u64::from(!row.stored.state.is_end());
        let (count, xor) = self.side(row);
        *count += 1;
        *xor ^= hash(row.stored.id.0, row.changed);
    }

    /// Counts a row out.
    pub(crate) fn leave(&mut self, row: &Row) {
        self.open = self.open.saturating_sub(u64::from(!row.stored.state.is_end()));
        let (count, xor) = self.side(row);
        *count = count.saturating_sub(1);
        *xor ^= hash(row.stored.id.0, row.changed);
    }

    /// Counts a claim in.
    pub(crate) fn claim(&mut self, intent: Serial) {
        self.claims += 1;
        self.claims_xor ^= hash(intent.0, u64::MAX);
    }

    /// Intents in all.
    pub(crate) fn intents(&self) -> u64 {
        self.active + self.ended
    }

    fn side(&mut self, row: &Row) -> (&mut u64, &mut u64) {
        if row.is_active() {
            (&mut self.active, &mut self.active_xor)
        } else {
            (&mut self.ended, &mut self.ended_xor)
        }
    }

    /// Appends them.
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        let fields = [
            self.open,
            self.active,
            self.active_xor,
            self.ended,
            self.ended_xor,
            self.claims,
            self.claims_xor,
        ];
        fields.iter().for_each(|field| put_u64(into, *field));
    }

    /// Takes them.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok(Self {
            open: reader.u64()?,
            active: reader.u64()?,
            active_xor: reader.u64()?,
            ended: reader.u64()?,
            ended_xor: reader.u64()?,
            claims: reader.u64()?,
            claims_xor: reader.u64()?,
        })
    }
}

/// Two numbers well mixed (the finalizer of splitmix64).
fn hash(one: u64, two: u64) -> u64 {
    let mut z = one.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ two.rotate_left(32);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Hashes serials, which are handed out by the store itself and need no defence.
#[derive(Default)]
pub(crate) struct SerialHasher(u64);

impl Hasher for SerialHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = hash(self.0, u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = hash(value, 0);
    }
}
