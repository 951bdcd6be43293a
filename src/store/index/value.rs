//! Values of the index: sealed with a CRC over key and value, and the watermark's own.

use super::Unusable;
use crate::store::book::{Standing, Totals};
use crate::store::journal::Position;
use crate::store::record::{RECORD_PLAIN, Reader, RecordError, put_timestamp, put_u32, put_u64};

pub(crate) fn meta_key(number: u32) -> [u8; 5] {
    let mut key = [b'm', 0, 0, 0, 0];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Makes a value: its CRC, then what `fill` appends.
pub(crate) fn seal(value: &mut Vec<u8>, key: &[u8], fill: impl FnOnce(&mut Vec<u8>)) {
    value.clear();
    put_u32(value, 0);
    fill(value);
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &value[4..]);
    value[..4].copy_from_slice(&crc.to_le_bytes());
}

/// A value without its CRC, if that is right.
pub(crate) fn unsealed<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Unusable> {
    let (crc, rest) = value.split_first_chunk::<4>().ok_or(RecordError::Short)?;
    if crc32c::crc32c_append(crc32c::crc32c(key), rest) != u32::from_le_bytes(*crc) {
        return Err(Unusable("a row is damaged".to_owned()));
    }
    Ok(rest)
}

pub(crate) fn encode_meta(
    watermark: Position,
    standing: &Standing,
    pieces: u32,
    into: &mut Vec<u8>,
) {
    into.push(RECORD_PLAIN);
    put_u64(into, watermark.segment);
    put_u64(into, watermark.offset);
    put_u64(into, watermark.seq);
    put_u64(into, standing.changes);
    put_u64(into, standing.highest.0);
    standing.totals.encode(into);
    put_u32(into, pieces);
    into.push(u8::from(standing.newest_known.is_some()));
    if let Some(newest) = standing.newest_known {
        put_timestamp(into, newest);
    }
}

pub(crate) fn decode_meta(bytes: &[u8]) -> Result<(Position, Standing, u32), RecordError> {
    let mut reader = Reader::versioned(bytes)?;
    let watermark = Position { segment: reader.u64()?, offset: reader.u64()?, seq: reader.u64()? };
    let mut standing = Standing {
        changes: reader.u64()?,
        highest: reader.serial()?,
        totals: Totals::decode(&mut reader)?,
        newest_known: None,
    };
    let pieces = reader.u32()?;
    standing.newest_known = reader.option(Reader::timestamp)?;
    reader.end()?;
    Ok((watermark, standing, pieces))
}
