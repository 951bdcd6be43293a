//! Opening a journal for appending, after whatever happened to it.

use std::path::Path;
use std::sync::Arc;

use super::frame::{Frame, Position, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::read::Segments;
use super::writer::{Journal, Resume};
use crate::crash;
use crate::runtime::disk::Disk;
use crate::store::OpenError;

/// What reading a journal on from a watermark shows of each frame.
pub(crate) type Visit<'a> = dyn FnMut(Position, &Frame<'_>) -> Result<(), OpenError> + 'a;

/// Reads the frames of a journal from a watermark on, the watermark's own first, cuts off a torn
/// tail, makes what is kept durable, and opens the journal for appending.
///
/// # Errors
/// [`OpenError::Corrupt`] when acknowledged records are gone; what `visit` says; what the disk
/// says.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    from: Position,
    (segment_bytes, record_bytes_max): (u64, usize),
    visit: &mut Visit<'_>,
) -> Result<Journal, OpenError> {
    let mut segments = Segments::find(disk.clone(), dir)?;
    drop_unborn(disk, &mut segments)?;
    let io = |e| OpenError::io(dir, e);
    let resume = if segments.files.is_empty() {
        if from.seq > 0 {
            return Err(OpenError::lost(format!(
                "the index knows of frame {}, and the journal is empty",
                from.seq
            )));
        }
        let header = SegmentHeader { segment: 1, first_seq: 1 };
        let file = Journal::create_segment(&**disk, dir, header).map_err(io)?;
        let next = Position { segment: 1, offset: SEGMENT_HEADER_BYTES as u64, seq: 1 };
        Resume { file, next, last: Position::default(), bytes_before: 0 }
    } else {
        read_on(disk, &segments, from, visit)?
    };
    settle(disk, dir, &resume)?;
    Ok(Journal::resume(disk.clone(), dir.to_owned(), segment_bytes, record_bytes_max, resume))
}

/// Removes a last segment that was being created: it has no header, and nothing in it.
fn drop_unborn(disk: &Arc<dyn Disk>, segments: &mut Segments) -> Result<(), OpenError> {
    let Some(last) = segments.files.len().checked_sub(1) else { return Ok(()) };
    if segments.header(last)?.is_some() {
        return Ok(());
    }
    // Reading it refuses it if anything was written behind the header.
    segments.read(last, 0, 0, &mut |_, _| Ok(()))?;
    let (_, path) = segments.files.remove(last);
    crash::point("recover.unborn_found");
    disk.remove(&path).map_err(|e| OpenError::io(&path, e))?;
    crash::point("recover.unborn_removed");
    Ok(())
}

fn read_on(
    disk: &Arc<dyn Disk>,
    segments: &Segments,
    from: Position,
    visit: &mut Visit<'_>,
) -> Result<Resume, OpenError> {
    let first = usize::try_from(from.segment.saturating_sub(1)).unwrap_or(usize::MAX);
    let beyond = |end: u64| {
        OpenError::lost(format!(
            "the index knows of frame {}, and the journal ends with frame {end}",
            from.seq
        ))
    };
    if first >= segments.files.len() {
        return Err(beyond(0));
    }
    let mut next_seq = from.seq.max(1);
    let mut last = Position::default();
    let mut end = 0;
    for at in first..segments.files.len() {
        let offset = if at == first { from.offset } else { 0 };
        let read = segments.read(at, offset, next_seq, visit)?;
        if read.header.is_none() {
            return Err(OpenError::lost(format!(
                "{} has no readable header",
                segments.files[at].1.display()
            )));
        }
        next_seq = read.next_seq;
        last = read.last.unwrap_or(last);
        end = read.end;
    }
    if last.seq < from.seq {
        return Err(beyond(next_seq.saturating_sub(1)));
    }
    let (number, path) = &segments.files[segments.files.len() - 1];
    let mut bytes_before = 0;
    for (_, path) in &segments.files[..segments.files.len() - 1] {
        bytes_before += segments.open(path)?.len().map_err(|e| OpenError::io(path, e))?;
    }
    Ok(Resume {
        file: disk.open(path, false).map_err(|e| OpenError::io(path, e))?,
        next: Position { segment: *number, offset: end, seq: next_seq },
        last,
        bytes_before,
    })
}

/// Writes what was recovered of the last frame again, cuts off what is behind it, and syncs.
///
/// Every frame before the last was synced by whoever wrote the last (only one write is ever under
/// way). The last one may be in the page cache alone, also when a sync of it has failed and its
/// pages count as clean: so it is written again, not only synced.
fn settle(disk: &Arc<dyn Disk>, dir: &Path, resume: &Resume) -> Result<(), OpenError> {
    let io = |e| OpenError::io(dir, e);
    // Where no frame was read, the last one is in no segment.
    let same = resume.last.segment == resume.next.segment;
    let start = if same { resume.last.offset } else { 0 };
    let mut kept = vec![0; usize::try_from(resume.next.offset - start).unwrap_or(0)];
    let read = resume.file.read_at(&mut kept, start).map_err(io)?;
    if read != kept.len() {
        return Err(OpenError::lost("the journal became shorter while it was read".to_owned()));
    }
    crash::point("recover.read");
    resume.file.set_len(resume.next.offset).map_err(io)?;
    crash::point("recover.cut");
    resume.file.write_at(&kept, start).map_err(io)?;
    crash::point("recover.rewritten");
    resume.file.sync().map_err(io)?;
    crash::point("recover.synced");
    disk.sync_dir(dir).map_err(io)?;
    if let Some(parent) = dir.parent() {
        disk.sync_dir(parent).map_err(io)?;
    }
    crash::point("recover.dirs_synced");
    Ok(())
}
