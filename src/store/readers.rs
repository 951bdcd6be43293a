//! The readers of what is on the disk, for tests that feed them what others may have written.

use super::index::{decode_meta, encode_meta, seal, unsealed};
use super::journal::{Frame, begin, finish};
use super::record::{
    Reader, RecordError, decode_account, decode_change, decode_claim, decode_row, encode_account,
    encode_change, encode_claim, encode_row, journal_keys, put_u32,
};
use crate::order::OrderId;
use crate::protocol::{Change, Serial};
use crate::store::book::{Standing, Totals};

/// A change's record.
#[must_use]
pub fn change_bytes(change: &Change) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_change(change, &mut bytes);
    bytes
}

/// Reads a change's record, to its last byte.
///
/// # Errors
/// [`RecordError`], with nothing of the record in its text.
pub fn change(bytes: &[u8]) -> Result<Change, RecordError> {
    decode_change(bytes)
}

/// The reference or the order id that a change's record brings first, as it is read without the rest.
///
/// # Errors
/// [`RecordError`].
pub fn key_of_change(bytes: &[u8]) -> Result<Option<String>, RecordError> {
    Ok(journal_keys(bytes)?[0].map(|key| match key {
        super::record::JournalKey::Reference(key) | super::record::JournalKey::Order(key) => {
            key.to_owned()
        }
    }))
}

/// A frame of the journal with records as they are given, right in everything but perhaps them.
/// `standing`: changes, highest serial, and the seven totals.
#[must_use]
pub fn frame_bytes(segment: u64, seq: u64, standing: [u64; 9], records: &[&[u8]]) -> Vec<u8> {
    let [changes, highest, open, active, active_xor, ended, ended_xor, claims, claims_xor] =
        standing;
    let totals = Totals { open, active, active_xor, ended, ended_xor, claims, claims_xor };
    let standing = Standing { changes, highest: Serial(highest), totals, newest_known: None };
    let mut bytes = Vec::new();
    begin(&mut bytes);
    for record in records {
        put_u32(&mut bytes, u32::try_from(record.len()).unwrap_or(u32::MAX));
        bytes.extend_from_slice(record);
    }
    finish(&mut bytes, segment, seq, &standing, u32::try_from(records.len()).unwrap_or(u32::MAX));
    bytes
}

/// What a frame holds.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameRead {
    /// Its sequence number.
    pub seq: u64,
    /// Its size in bytes, with its header.
    pub bytes: usize,
    /// Its changes, or why they cannot be read.
    pub changes: Result<Vec<Change>, RecordError>,
    /// How many keys its records bring, or why they cannot be told.
    pub keys: Result<usize, RecordError>,
}

/// The frame that begins here, if a whole one of this segment does.
#[must_use]
pub fn frame(bytes: &[u8], segment: u64) -> Option<FrameRead> {
    let frame = Frame::parse(bytes, segment)?;
    let mut keys = 0;
    let counted = frame.keys(&mut |_| keys += 1);
    Some(FrameRead {
        seq: frame.seq,
        bytes: frame.bytes,
        changes: frame.decode().map(|(_, changes)| changes),
        keys: counted.map(|()| keys),
    })
}

/// Makes a value of the index: puts the CRC over key and value before it.
#[must_use]
pub fn index_value(key: &[u8], record: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    seal(&mut value, key, |into| into.extend_from_slice(record));
    value
}

/// Reads a value of the index as the key says what it is, and writes it again.
///
/// # Errors
/// Why it is none, with nothing of it in the text.
pub fn reread_index_value(key: &[u8], value: &[u8]) -> Result<Vec<u8>, String> {
    let record = unsealed(key, value).map_err(|why| why.0)?;
    let reread = || -> Result<Vec<u8>, RecordError> {
        let mut into = Vec::new();
        match key {
            [b'a' | b'r', ..] => encode_row(&decode_row(record)?, true, &mut into),
            [b'o', id @ ..] => {
                let id = std::str::from_utf8(id).ok().and_then(OrderId::new);
                let id = id.ok_or(RecordError::Invalid("order id"))?;
                encode_claim(&decode_claim(id, record)?, &mut into);
            }
            [b'm', 0, 0, 0, 0] => {
                let (watermark, standing, pieces) = decode_meta(record)?;
                encode_meta(watermark, &standing, pieces, &mut into);
            }
            [b'm', ..] => encode_account(&decode_account(record)?, &mut into),
            _ => Reader::new(record).end()?,
        }
        Ok(into)
    };
    reread().map_err(|why| why.to_string())
}
