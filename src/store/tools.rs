//! Reading a store from outside: without its lock, without opening sled, on the journal alone.
//!
//! A router may be at work in the directory meanwhile: what is read is what was durable, or about
//! to be, when it was read. Nothing is decided by it.

mod backup;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::book::{Book, NoBase};
use super::embedded::{
    CompactError, Compacted, EmbeddedConfig, OnProgress, Places, Progress, rebuild_index,
};
use super::journal::{Frame, Position, Segments, Tail};
use super::{OpenError, Rehydration, Stored};
use crate::order::ClientRef;
use crate::protocol::{Change, Serial};
use crate::runtime::disk::{Disk, SystemDisk};

pub use backup::{backup, restore};

/// Where a change stands in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeAt {
    /// The batch that it was made durable with.
    pub frame: u64,
    /// Its number, counted over the whole journal from 1.
    pub number: u64,
}

/// What reading a journal came upon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalEnd {
    /// Segments.
    pub segments: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Batches.
    pub frames: u64,
    /// Changes.
    pub changes: u64,
    /// Bytes of a write that was cut off, or is under way right now.
    pub torn_bytes: u64,
}

/// Shows every change of a store's journal, in order.
///
/// # Errors
/// [`OpenError::Corrupt`] where records are damaged or gone, after everything before was shown;
/// what the disk says.
pub fn read_journal(
    dir: impl AsRef<Path>,
    visit: &mut dyn FnMut(ChangeAt, Change),
) -> Result<JournalEnd, OpenError> {
    let mut number = 0;
    read_frames(dir.as_ref(), &mut |position, frame, journal| {
        for change in frame.decode().map_err(|error| (journal, error))?.1 {
            number += 1;
            visit(ChangeAt { frame: position.seq, number }, change);
        }
        Ok(())
    })
    .map(|end| JournalEnd { changes: number, ..end })
}

/// Finds the segments of a store, if this program knows its layout.
fn find(dir: &Path) -> Result<(Places, Segments), OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let places = Places::find(&disk, dir)?;
    places.layout(&disk)?;
    let segments = Segments::find(disk, &places.journal)?;
    Ok((places, segments))
}

type VisitFrame<'a> = dyn FnMut(Position, &Frame<'_>, &Path) -> Result<(), OpenError> + 'a;

fn read_frames(dir: &Path, visit: &mut VisitFrame<'_>) -> Result<JournalEnd, OpenError> {
    let (places, segments) = find(dir)?;
    let journal = places.journal;
    let mut end = JournalEnd {
        segments: segments.files.len() as u64,
        bytes: segments.bytes()?,
        ..JournalEnd::default()
    };
    let tail = segments.read_all(&mut |position, frame| {
        end.frames += 1;
        visit(position, frame, &journal)
    })?;
    if let Tail::Torn { bytes } = tail {
        end.torn_bytes = bytes;
    }
    Ok(end)
}

/// Everything that a store held at a moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Every intent, by its serial.
    pub intents: BTreeMap<Serial, Stored>,
    /// What actors would start from.
    pub rehydration: Rehydration,
    /// What the journal had.
    pub journal: JournalEnd,
}

impl Snapshot {
    /// Reads the whole journal of a store. Takes memory for every intent.
    ///
    /// # Errors
    /// As [`read_journal`].
    pub fn read(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        let (book, journal, _) = replay(dir.as_ref(), false, None)?;
        Ok(Self { intents: book.all(), rehydration: book.rehydrate(), journal })
    }

    /// The intent with a reference.
    #[must_use]
    pub fn find(&self, client_ref: &ClientRef) -> Option<&Stored> {
        self.intents.values().find(|stored| stored.client_ref == *client_ref)
    }
}

/// What checking a store found. That there is a report means that the journal is whole.
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// What the journal has.
    pub journal: JournalEnd,
    /// Intents that have not ended.
    pub open: u64,
    /// Intents that have ended.
    pub ended: u64,
    /// Supplier orders that intents have.
    pub claims: u64,
    /// Changes that should have been refused when they were written: none, unless the program is
    /// wrong. The numbers of the first hundred.
    pub unguarded: Vec<u64>,
}

/// Reads the whole journal of a store and checks it: every checksum, the sequence, every guard
/// again, and the counts and hashes in every batch.
///
/// # Errors
/// [`OpenError::Corrupt`] with what is damaged and what to do; what the disk says.
pub fn verify(
    dir: impl AsRef<Path>,
    on_progress: Option<OnProgress>,
) -> Result<VerifyReport, OpenError> {
    let (book, journal, unguarded) = replay(dir.as_ref(), true, on_progress)?;
    let totals = book.standing().totals;
    Ok(VerifyReport {
        journal,
        open: totals.open,
        ended: totals.intents() - totals.open,
        claims: totals.claims,
        unguarded,
    })
}

/// Most change numbers in [`VerifyReport::unguarded`].
const UNGUARDED_MAX: usize = 100;

fn replay(
    dir: &Path,
    guard: bool,
    on_progress: Option<OnProgress>,
) -> Result<(Book, JournalEnd, Vec<u64>), OpenError> {
    let mut book = Book::new(false);
    let mut unguarded = Vec::new();
    let (mut bytes, mut told) = (0, 0);
    let bytes_total = find(dir)?.1.bytes()?;
    let mut end = read_frames(dir, &mut |position, frame, journal| {
        let (standing, changes) = frame.decode().map_err(|error| (journal, error))?;
        book.handed_out(standing.highest);
        for change in changes {
            let refused = guard && !matches!(book.guard(&NoBase, &change), Ok(None));
            if refused && unguarded.len() < UNGUARDED_MAX {
                unguarded.push(book.standing().changes + 1);
            }
            book.apply(change).map_err(|_| does_not_follow(position))?;
        }
        if !standing.agrees_with(book.standing()) {
            return Err(does_not_follow(position));
        }
        bytes += frame.bytes as u64;
        if let Some(on) = on_progress.as_ref().filter(|_| bytes - told >= 4 << 20) {
            told = bytes;
            on(Progress { bytes, bytes_total, changes: standing.changes });
        }
        Ok(())
    })?;
    end.changes = book.standing().changes;
    Ok((book, end, unguarded))
}

fn does_not_follow(position: Position) -> OpenError {
    OpenError::lost(format!(
        "frame {} of the journal does not follow on the frames before it",
        position.seq
    ))
}

/// Figures of a store, read from its newest segment.
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiskStats {
    /// Journal segments.
    pub segments: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Intents that have not ended.
    pub open: u64,
    /// Intents that have ended.
    pub ended: u64,
    /// Changes in all.
    pub changes: u64,
    /// Bytes of journal and index for each ended intent; `None` while there is none.
    pub bytes_per_ended: Option<f64>,
    /// Changes that the index has not taken over; `None` if it does not say.
    pub index_lag: Option<u64>,
}

/// Figures of a store.
///
/// # Errors
/// As [`read_journal`], for the newest segments alone.
pub fn stats(dir: impl AsRef<Path>) -> Result<DiskStats, OpenError> {
    let (places, segments) = find(dir.as_ref())?;
    let standing = segments.newest_standing()?.unwrap_or_default();
    let journal_bytes = segments.bytes()?;
    let index_bytes = bytes_below(&places.index);
    let ended = standing.totals.intents() - standing.totals.open;
    let fed = std::fs::read_to_string(&places.fed).ok().and_then(|text| text.parse::<u64>().ok());
    Ok(DiskStats {
        segments: segments.files.len() as u64,
        journal_bytes,
        index_bytes,
        open: standing.totals.open,
        ended,
        changes: standing.changes,
        bytes_per_ended: (ended > 0).then(|| (journal_bytes + index_bytes) as f64 / ended as f64),
        index_lag: fed.map(|fed| standing.changes.saturating_sub(fed)),
    })
}

pub(super) fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Rebuilds the index of a store from its journal. Takes the lock: no router may be at work there.
///
/// `config` is what the store is opened with: it says whether the new index keeps the items of
/// ended orders, and who is told how the rebuild comes along.
///
/// # Errors
/// As [`EmbeddedStore::open`](super::EmbeddedStore::open).
pub fn rebuild(dir: impl AsRef<Path>, config: &EmbeddedConfig) -> Result<VerifyReport, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let standing = rebuild_index(&disk, dir.as_ref(), config)?;
    let places = Places::find(&disk, dir.as_ref())?;
    let totals = standing.totals;
    let segments = Segments::find(disk, &places.journal)?;
    Ok(VerifyReport {
        journal: JournalEnd {
            segments: segments.files.len() as u64,
            bytes: segments.bytes()?,
            changes: standing.changes,
            ..JournalEnd::default()
        },
        open: totals.open,
        ended: totals.intents() - totals.open,
        claims: totals.claims,
        unguarded: Vec::new(),
    })
}

/// Writes the journal of a store anew: how everything stands, and not how it came to that. Takes the lock:
/// no router may be at work there. Takes memory for every intent, as [`verify`] does.
///
/// Every reference, end, order id and items-hash is kept. Of intents that have ended and were accepted
/// before `drop_before`, the items are dropped, with their notes and price guards; `None`: of none.
/// `config` is what the store is opened with.
///
/// A kill or a power cut at any moment leaves the store as it was or compacted.
///
/// # Errors
/// [`CompactError`]; the store is as it was, or compacted with an index that the next start makes.
pub fn compact(
    dir: impl AsRef<Path>,
    config: &EmbeddedConfig,
    drop_before: Option<jiff::Timestamp>,
) -> Result<Compacted, CompactError> {
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    super::embedded::compact(&disk, dir.as_ref(), config, drop_before)
}
