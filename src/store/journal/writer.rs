//! Appending: one frame and one sync per batch.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::frame::{self, FRAME_BYTES_MAX, Position, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::read::segment_name;
use crate::crash;
use crate::protocol::Change;
use crate::runtime::disk::{Disk, DiskFile};
use crate::store::StoreError;
use crate::store::book::Standing;
use crate::store::record::{encode_change, put_u32};

/// From how many bytes on a frame is written without waiting for more changes.
pub(super) const FRAME_BYTES_FULL: usize = 1 << 20;

/// How far ahead room is allocated, in bytes: an `fdatasync` of bytes that overwrite allocated
/// ones need not write the file's metadata as well.
pub(super) const AHEAD_BYTES: usize = 256 << 10;

/// The journal, open for appending. Latches on its first error.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    record_bytes_max: usize,
    file: Arc<dyn DiskFile>,
    /// Where the next frame goes.
    next: Position,
    /// The last synced frame.
    last: Position,
    allocated: u64,
    bytes_before: u64,
    buffer: Vec<u8>,
    records: u32,
    failed: Option<Arc<str>>,
}

/// Where appending goes on.
pub(super) struct Resume {
    pub file: Arc<dyn DiskFile>,
    pub next: Position,
    pub last: Position,
    /// Bytes in all segments before this one.
    pub bytes_before: u64,
}

impl Journal {
    pub(super) fn resume(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        segment_bytes: u64,
        record_bytes_max: usize,
        resume: Resume,
    ) -> Self {
        let mut buffer = Vec::with_capacity(FRAME_BYTES_FULL / 4);
        frame::begin(&mut buffer);
        Self {
            disk,
            dir,
            segment_bytes,
            record_bytes_max: record_bytes_max.min(FRAME_BYTES_MAX / 4),
            file: resume.file,
            allocated: resume.next.offset,
            next: resume.next,
            last: resume.last,
            bytes_before: resume.bytes_before,
            buffer,
            records: 0,
            failed: None,
        }
    }

    /// Creates a segment with its header, durably.
    pub(super) fn create_segment(
        disk: &dyn Disk,
        dir: &std::path::Path,
        header: SegmentHeader,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let file = disk.open(&dir.join(segment_name(header.segment)), true)?;
        crash::point("segment.created");
        file.write_at(&header.encode(), 0)?;
        crash::point("segment.header_written");
        file.sync()?;
        crash::point("segment.header_synced");
        disk.sync_dir(dir)?;
        crash::point("segment.dir_synced");
        Ok(file)
    }

    /// Adds a change to the frame under way.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`]; the frame is as it was.
    pub(crate) fn add(&mut self, change: &Change) -> Result<(), StoreError> {
        let start = self.buffer.len();
        put_u32(&mut self.buffer, 0);
        encode_change(change, &mut self.buffer);
        let bytes = self.buffer.len() - start - 4;
        if bytes > self.record_bytes_max {
            self.buffer.truncate(start);
            return Err(StoreError::TooLarge { bytes, bytes_max: self.record_bytes_max });
        }
        let length = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.records += 1;
        Ok(())
    }

    /// Whether the frame under way is so large that it should be written now.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= FRAME_BYTES_FULL
    }

    /// How many changes are in the frame under way.
    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    /// The last synced frame.
    pub(crate) fn last(&self) -> Position {
        self.last
    }

    /// Bytes in all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_before + self.next.offset
    }

    /// Writes the frame under way and makes it durable. Without one it does nothing.
    ///
    /// # Errors
    /// [`StoreError::Failed`], and from then on always.
    pub(crate) fn write(&mut self, standing: &Standing) -> Result<(), StoreError> {
        if let Some(failed) = &self.failed {
            return Err(StoreError::Failed(failed.clone()));
        }
        if self.records == 0 {
            return Ok(());
        }
        self.append(standing).map_err(|error| {
            let failed: Arc<str> = format!("the journal cannot be written: {error}").into();
            self.failed = Some(failed.clone());
            StoreError::Failed(failed)
        })
    }

    fn append(&mut self, standing: &Standing) -> io::Result<()> {
        let bytes = self.buffer.len() as u64;
        let begun = self.next.offset > SEGMENT_HEADER_BYTES as u64;
        if begun && self.next.offset + bytes > self.segment_bytes {
            self.rotate()?;
        }
        let Position { segment, offset, seq } = self.next;
        frame::finish(&mut self.buffer, segment, seq, standing, self.records);
        let end = offset + bytes;
        if end > self.allocated {
            // The zeros behind the frame go out with the same write: no second call, no gap.
            let room = self.segment_bytes.saturating_sub(end).min(AHEAD_BYTES as u64);
            let ahead = usize::try_from(room).unwrap_or(0);
            self.buffer.resize(self.buffer.len() + ahead, 0);
            self.allocated = end + room;
        }
        crash::point("journal.appending");
        self.file.write_at(&self.buffer, offset)?;
        crash::point("journal.appended");
        self.file.sync()?;
        crash::point("journal.synced");
        self.last = self.next;
        self.next = Position { segment, offset: end, seq: seq + 1 };
        frame::begin(&mut self.buffer);
        self.records = 0;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        crash::point("segment.rotating");
        let header = SegmentHeader { segment: self.next.segment + 1, first_seq: self.next.seq };
        self.file = Self::create_segment(&*self.disk, &self.dir, header)?;
        self.bytes_before += self.next.offset;
        self.next = Position {
            segment: header.segment,
            offset: SEGMENT_HEADER_BYTES as u64,
            seq: self.next.seq,
        };
        self.allocated = self.next.offset;
        Ok(())
    }
}
