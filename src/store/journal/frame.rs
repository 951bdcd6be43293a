//! Bytes of segments and frames: put and taken, nothing read or written.

use crate::protocol::{Change, Serial};
use crate::store::book::{Standing, Totals};
use crate::store::record::{
    JournalKey, Reader, RecordError, decode_change, journal_keys, put_u32, put_u64,
};

/// The first bytes of a segment.
const MAGIC: &[u8; 8] = b"ordrjrnl";

/// The version of segments that this build writes, and the newest that it reads.
pub(crate) const SEGMENT_VERSION: u32 = 1;

/// Bytes of a segment's header.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 36;

/// Bytes of a frame before its body.
pub(crate) const FRAME_HEADER_BYTES: usize = 16;

/// Bytes of a frame's body before its records.
const BODY_FIXED_BYTES: usize = 8 + 8 + Totals::BYTES + 4;

/// Largest frame body that is taken for one: no length beyond it is followed.
pub(crate) const FRAME_BYTES_MAX: usize = 4 << 20;

/// Where a frame is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Its segment.
    pub segment: u64,
    /// Where it begins in the segment.
    pub offset: u64,
    /// Its sequence number; 0: before the first frame.
    pub seq: u64,
}

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub segment: u64,
    pub first_seq: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        put_u32(&mut bytes, SEGMENT_VERSION);
        put_u32(&mut bytes, 0);
        put_u64(&mut bytes, self.segment);
        put_u64(&mut bytes, self.first_seq);
        let crc = crc32c::crc32c(&bytes);
        put_u32(&mut bytes, crc);
        bytes
    }

    /// `Ok(None)`: no header; `Err`: one of a newer version.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Self>, u32> {
        let Some(head) = bytes.get(..SEGMENT_HEADER_BYTES) else { return Ok(None) };
        let Some((head, crc)) = head.split_last_chunk::<4>() else { return Ok(None) };
        if crc32c::crc32c(head) != u32::from_le_bytes(*crc) || !head.starts_with(MAGIC) {
            return Ok(None);
        }
        let mut reader = Reader::new(&head[MAGIC.len()..]);
        let mut fields = || -> Result<(u32, Self), RecordError> {
            let version = reader.u32()?;
            reader.u32()?;
            Ok((version, Self { segment: reader.u64()?, first_seq: reader.u64()? }))
        };
        match fields() {
            Ok((version, _)) if version > SEGMENT_VERSION => Err(version),
            Ok((_, header)) => Ok(Some(header)),
            Err(_) => Ok(None),
        }
    }
}

/// Begins a frame in an empty buffer: room for everything that is known only at its end.
pub(crate) fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(FRAME_HEADER_BYTES + BODY_FIXED_BYTES, 0);
}

/// Ends a frame: fills in what [`begin`] left room for.
pub(crate) fn finish(buffer: &mut [u8], segment: u64, seq: u64, standing: &Standing, records: u32) {
    let mut fixed = Vec::with_capacity(BODY_FIXED_BYTES);
    put_u64(&mut fixed, standing.highest.0);
    put_u64(&mut fixed, standing.changes);
    standing.totals.encode(&mut fixed);
    put_u32(&mut fixed, records);
    let body_bytes = u32::try_from(buffer.len() - FRAME_HEADER_BYTES).unwrap_or(u32::MAX);
    let (header, body) = buffer.split_at_mut(FRAME_HEADER_BYTES);
    body[..BODY_FIXED_BYTES].copy_from_slice(&fixed);
    header[..4].copy_from_slice(&body_bytes.to_le_bytes());
    header[4..8].copy_from_slice(&checksum(segment, seq, body_bytes, body).to_le_bytes());
    header[8..].copy_from_slice(&seq.to_le_bytes());
}

fn checksum(segment: u64, seq: u64, body_bytes: u32, body: &[u8]) -> u32 {
    let mut seed = [0; 20];
    seed[..8].copy_from_slice(&segment.to_le_bytes());
    seed[8..16].copy_from_slice(&seq.to_le_bytes());
    seed[16..].copy_from_slice(&body_bytes.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&seed), body)
}

/// A whole frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// Its sequence number.
    pub seq: u64,
    /// Its size with its header.
    pub bytes: usize,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame that begins here, if a whole one does.
    pub(crate) fn parse(bytes: &'a [u8], segment: u64) -> Option<Self> {
        let header = bytes.get(..FRAME_HEADER_BYTES)?;
        let (length, rest) = header.split_first_chunk::<4>()?;
        let (crc, seq) = rest.split_first_chunk::<4>()?;
        let body_bytes = u32::from_le_bytes(*length);
        let seq = u64::from_le_bytes(seq.try_into().ok()?);
        let length = body_bytes as usize;
        if !(BODY_FIXED_BYTES..=FRAME_BYTES_MAX).contains(&length) {
            return None;
        }
        let body = bytes.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + length)?;
        (checksum(segment, seq, body_bytes, body) == u32::from_le_bytes(*crc)).then_some(Self {
            seq,
            bytes: FRAME_HEADER_BYTES + length,
            body,
        })
    }

    /// What it holds: the standing after it (without the newest date) and its changes.
    pub(crate) fn decode(&self) -> Result<(Standing, Vec<Change>), RecordError> {
        let mut reader = Reader::new(self.body);
        let standing = Standing {
            highest: Serial(reader.u64()?),
            changes: reader.u64()?,
            totals: Totals::decode(&mut reader)?,
            newest_known: None,
        };
        let count = reader.u32()?;
        let mut changes = Vec::with_capacity((count as usize).min(self.body.len() / 6));
        for _ in 0..count {
            let bytes = reader.u32()? as usize;
            changes.push(decode_change(reader.bytes(bytes)?)?);
        }
        reader.end()?;
        Ok((standing, changes))
    }

    /// Shows the keys that its changes bring, without reading the rest of them.
    pub(crate) fn keys(&self, see: &mut dyn FnMut(JournalKey<'_>)) -> Result<(), RecordError> {
        let mut reader = Reader::new(self.body);
        reader.bytes(BODY_FIXED_BYTES - 4)?;
        for _ in 0..reader.u32()? {
            let bytes = reader.u32()? as usize;
            journal_keys(reader.bytes(bytes)?)?.into_iter().flatten().for_each(&mut *see);
        }
        Ok(())
    }

    /// Shows its records as they are.
    #[cfg(test)]
    pub(crate) fn records(&self, see: &mut dyn FnMut(&[u8])) {
        let mut reader = Reader::new(&self.body[BODY_FIXED_BYTES..]);
        while !reader.is_empty() {
            let bytes = reader.u32().expect("a length") as usize;
            see(reader.bytes(bytes).expect("a record"));
        }
    }

    /// The standing after it alone.
    pub(crate) fn standing(&self) -> Result<Standing, RecordError> {
        let mut reader = Reader::new(self.body);
        Ok(Standing {
            highest: Serial(reader.u64()?),
            changes: reader.u64()?,
            totals: Totals::decode(&mut reader)?,
            newest_known: None,
        })
    }
}
