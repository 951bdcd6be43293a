//! Reading segments: for recovery, which holds the lock, and for tools, which do not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{Frame, Position, SEGMENT_HEADER_BYTES, SEGMENT_VERSION, SegmentHeader};
use crate::runtime::disk::{Disk, DiskFile};
use crate::store::OpenError;
use crate::store::book::Standing;

/// How far past the expected sequence number a frame may be and still count as one that follows.
const SEQ_LEAP_MAX: u64 = 1 << 20;

/// How often the newest segment is read again where it looks damaged: a router may have written
/// between the reading of one page and of the next. What is damaged stays so.
const READ_AGAIN_MAX: u32 = 5;

/// The file name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:016}.seg")
}

/// The segments of a journal, in order.
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    /// Number and path of each, without a gap.
    pub files: Vec<(u64, PathBuf)>,
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// With its last frame, or with zeros behind it.
    Clean,
    /// With bytes that are no frame, and nothing readable behind them.
    Torn {
        /// How many bytes that are not zero at the end.
        bytes: u64,
    },
}

/// What was read of a segment.
pub(crate) struct SegmentRead {
    /// Its header; `None` if there is none and nothing behind it either.
    pub header: Option<SegmentHeader>,
    /// Where its last whole frame begins.
    pub last: Option<Position>,
    /// Where its last whole frame ends.
    pub end: u64,
    /// The sequence number after its last frame.
    pub next_seq: u64,
    /// How it ends.
    pub tail: Tail,
}

impl Segments {
    /// Finds the segments of a journal.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] if one is missing between others.
    pub(crate) fn find(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, OpenError> {
        let mut files = Vec::new();
        for path in disk.list(dir).map_err(|e| OpenError::io(dir, e))? {
            let number = path.file_name().and_then(|n| n.to_str()).and_then(|name| {
                name.strip_suffix(".seg").filter(|digits| digits.len() == 16)?.parse::<u64>().ok()
            });
            if let Some(number) = number {
                files.push((number, path));
            }
        }
        files.sort_unstable();
        for (at, (number, _)) in files.iter().enumerate() {
            let wanted = at as u64 + 1;
            if *number != wanted {
                return Err(OpenError::lost(format!(
                    "segment {} of the journal is missing",
                    segment_name(wanted)
                )));
            }
        }
        Ok(Self { disk, files })
    }

    /// Opens a segment's file, for reading.
    pub(crate) fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, OpenError> {
        self.disk.open_read(path).map_err(|e| OpenError::io(path, e))
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> Result<u64, OpenError> {
        let lengths = self
            .files
            .iter()
            .map(|(_, path)| self.open(path)?.len().map_err(|e| OpenError::io(path, e)));
        lengths.sum()
    }

    /// The header of a segment.
    pub(crate) fn header(&self, at: usize) -> Result<Option<SegmentHeader>, OpenError> {
        let (number, path) = &self.files[at];
        let bytes = read_from(&*self.open(path)?, path, 0, SEGMENT_HEADER_BYTES as u64)?;
        header_of(&bytes, *number)
    }

    /// Reads all of it and shows every frame.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn read_all(
        &self,
        visit: &mut dyn FnMut(Position, &Frame<'_>) -> Result<(), OpenError>,
    ) -> Result<Tail, OpenError> {
        let (mut next_seq, mut tail) = (1, Tail::Clean);
        for at in 0..self.files.len() {
            let read = self.read(at, 0, next_seq, visit)?;
            (next_seq, tail) = (read.next_seq, read.tail);
        }
        Ok(tail)
    }

    /// The standing after the newest frame.
    pub(crate) fn newest_standing(&self) -> Result<Option<Standing>, OpenError> {
        // The newest segment may not have a frame yet.
        for at in (0..self.files.len()).rev() {
            let Some(header) = self.header(at)? else { continue };
            let mut standing = None;
            self.read(at, 0, header.first_seq, &mut |_, frame| {
                let path = self.files[at].1.as_path();
                standing = Some(frame.standing().map_err(|error| (path, error))?);
                Ok(())
            })?;
            if standing.is_some() {
                return Ok(standing);
            }
        }
        Ok(None)
    }

    /// Reads a segment from a position on and shows every frame.
    ///
    /// `from` is where a frame begins, or 0 for the first one of the segment; `expected` is the
    /// sequence number that must come there.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] for a frame that is damaged although others follow, for a gap, and
    /// for a header that is damaged although something follows; what `visit` says.
    pub(crate) fn read(
        &self,
        at: usize,
        from: u64,
        expected: u64,
        visit: &mut dyn FnMut(Position, &Frame<'_>) -> Result<(), OpenError>,
    ) -> Result<SegmentRead, OpenError> {
        let (number, path) = &self.files[at];
        let is_last = at + 1 == self.files.len();
        let file = self.open(path)?;
        let length = file.len().map_err(|e| OpenError::io(path, e))?;
        let head = read_from(&*file, path, 0, SEGMENT_HEADER_BYTES as u64)?;
        let header = header_of(&head, *number)?;
        let start = from.max(SEGMENT_HEADER_BYTES as u64);
        let mut bytes = read_from(&*file, path, start, length.saturating_sub(start))?;
        let mut read =
            SegmentRead { header, last: None, end: start, next_seq: expected, tail: Tail::Clean };
        match header {
            Some(header) if from == 0 && header.first_seq != expected => {
                return Err(OpenError::lost(format!(
                    "{} begins with frame {} where frame {expected} must come",
                    path.display(),
                    header.first_seq
                )));
            }
            Some(_) => {}
            // The header is synced before the first frame is written.
            None if bytes.iter().any(|byte| *byte != 0) => {
                return Err(OpenError::lost(format!(
                    "{} has no readable header, and records behind it",
                    path.display()
                )));
            }
            None => {
                read.end = 0;
                return Ok(read);
            }
        }
        let mut again = READ_AGAIN_MAX;
        loop {
            let scan = Scan { bytes: &bytes, number: *number, path, start: read.end, is_last };
            let at = scan.frames(&mut read, visit)?;
            match scan.tail(at, read.next_seq) {
                Err(_) if is_last && again > 0 => {
                    again -= 1;
                    let rest = length.saturating_sub(read.end);
                    bytes = read_from(&*file, path, read.end, rest)?;
                }
                tail => {
                    read.tail = tail?;
                    return Ok(read);
                }
            }
        }
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    number: u64,
    path: &'a Path,
    start: u64,
    is_last: bool,
}

impl Scan<'_> {
    /// Shows the frames up to the first that is none, and says where that is.
    fn frames(
        &self,
        read: &mut SegmentRead,
        visit: &mut dyn FnMut(Position, &Frame<'_>) -> Result<(), OpenError>,
    ) -> Result<usize, OpenError> {
        let mut at = 0;
        while let Some(frame) = Frame::parse(&self.bytes[at..], self.number) {
            if frame.seq != read.next_seq {
                return Err(OpenError::lost(format!(
                    "{} has frame {} at byte {} where frame {} must come",
                    self.path.display(),
                    frame.seq,
                    self.start + at as u64,
                    read.next_seq
                )));
            }
            let position =
                Position { segment: self.number, offset: self.start + at as u64, seq: frame.seq };
            visit(position, &frame)?;
            read.last = Some(position);
            read.next_seq += 1;
            at += frame.bytes;
            read.end = self.start + at as u64;
        }
        Ok(at)
    }

    /// Judges what is no frame.
    fn tail(&self, at: usize, expected: u64) -> Result<Tail, OpenError> {
        let rest = &self.bytes[at..];
        let dirty = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if dirty == 0 {
            return Ok(Tail::Clean);
        }
        let follows = !self.is_last
            || (1..dirty).any(|later| {
                let ahead = rest.get(later + 8..later + 16).and_then(|seq| seq.try_into().ok());
                let seq = ahead.map_or(0, u64::from_le_bytes);
                let near = (expected..expected.saturating_add(SEQ_LEAP_MAX)).contains(&seq);
                near && Frame::parse(&rest[later..], self.number).is_some()
            });
        if follows {
            return Err(OpenError::lost(format!(
                "{} is damaged at byte {}, and later frames are not",
                self.path.display(),
                self.start + at as u64
            )));
        }
        Ok(Tail::Torn { bytes: dirty as u64 })
    }
}

fn header_of(bytes: &[u8], number: u64) -> Result<Option<SegmentHeader>, OpenError> {
    match SegmentHeader::decode(bytes) {
        Ok(Some(header)) if header.segment != number => Err(OpenError::lost(format!(
            "segment {} of the journal says that it is segment {}",
            number, header.segment
        ))),
        Ok(header) => Ok(header),
        Err(version) => Err(OpenError::NewerVersion { found: version, known: SEGMENT_VERSION }),
    }
}

/// Reads up to `count` bytes; fewer only at the end of the file.
fn read_from(
    file: &dyn DiskFile,
    path: &Path,
    offset: u64,
    count: u64,
) -> Result<Vec<u8>, OpenError> {
    let mut bytes = vec![0; usize::try_from(count).unwrap_or(usize::MAX)];
    let read = file.read_at(&mut bytes, offset).map_err(|e| OpenError::io(path, e))?;
    bytes.truncate(read);
    Ok(bytes)
}
