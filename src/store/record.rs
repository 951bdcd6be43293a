//! The versioned stored form: changes as the journal holds them, rows as the index holds them.
//!
//! A record is one byte of version, one byte of kind, then its fields, little-endian, texts with
//! their length in front. It is read to the last byte or refused: nothing is skipped, nothing is
//! guessed, and no length found in it is allocated before that many bytes were seen to be there.
//!
//! A later version may add kinds and forms under a higher version byte; this one refuses them with
//! [`RecordError::Newer`] instead of reading half of them.

mod change;
mod fields;
mod row;
mod short;
mod spent;

pub(crate) use change::{JournalKey, decode_change, encode_change, journal_keys};
pub(crate) use fields::{Reader, put_timestamp, put_u32, put_u64};
pub(crate) use row::{
    ClaimRow, Row, decode_account, decode_claim, decode_row, encode_account, encode_claim,
    encode_row,
};

/// The newest version of the stored form that this build reads and writes: 2 has orders that are
/// paid later, 3 has ended intents in short and what is counted against limits. What a record needs not is
/// not written: without them it is of version 1, and an earlier build reads it.
pub const RECORD_VERSION: u8 = 3;

/// The version of a record of an order that is paid later.
pub(crate) const RECORD_PAID_LATER: u8 = 2;

/// The version of a record of an ended intent in short.
pub(crate) const RECORD_SHORT: u8 = 3;

/// The version of a record with what was spent.
pub(crate) const RECORD_SPENT: u8 = 3;

/// The version of a record without what version 2 added.
pub(crate) const RECORD_PLAIN: u8 = 1;

/// Default of the largest record, in bytes: the largest order (ten lines with the longest names
/// and notes) and the longest list of ids both fit.
pub const RECORD_BYTES_MAX: usize = 20 << 10;

/// Why stored bytes are no record.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It was written by a newer version of the program. It is not damaged: run that version.
    #[error("a record of version {0} is from a newer version of the program")]
    Newer(u8),
    /// It ends in the middle of a field.
    #[error("a record ends in the middle of a field")]
    Short,
    /// It goes on behind its last field.
    #[error("a record goes on behind its last field")]
    Long,
    /// A field holds what it cannot hold.
    #[error("a record's {0} is not valid")]
    Invalid(&'static str),
}

#[cfg(test)]
mod tests;
