//! Compaction: a new journal that holds how everything stands, and takes the old one's place.
//!
//! The new journal is what a migration into an empty store writes: the mark of a store that is being
//! filled, what is known of the account, every intent with [`Change::Adopt`], and the mark taken away.
//! So nothing reads it that does not read every journal. Until it is whole, synced, read back and
//! compared, nobody knows of it; then the file that says which journal holds is renamed into its place
//! ([`Places`]). Before that rename the store is the old one, after it the new one, whatever happens.
//!
//! The index is marked as damaged before the rename, for its watermark is a place in the old journal: a
//! start at any moment since makes it anew. So does the compaction itself, at its end.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::open::{clear_leftovers, lock_and_check, rebuild};
use super::places::FORMAT_VERSION;
use super::telling::Telling;
use super::{EmbeddedConfig, IndexMode, Places};
use crate::crash;
use crate::protocol::limits::Spent;
use crate::protocol::{Change, IDS_PER_RECORD_MAX};
use crate::runtime::disk::Disk;
use crate::store::book::{Book, NoBase, Totals};
use crate::store::journal::{Frame, Position, Segments, recover};
use crate::store::record::{Row, encode_change};
use crate::store::{Mark, OpenError, Rehydration, StoreError};

/// Bytes of a new journal beside its records: headers of frames and segments, room allocated ahead.
const OVERHEAD_BYTES: u64 = 1 << 20;

/// What the store is marked with, in the new journal alone, while that is written.
const PLACE: &str = "the journal before";

/// What a compaction did.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the journal before.
    pub bytes_before: u64,
    /// Bytes of the journal now.
    pub bytes: u64,
    /// Changes in the journal before.
    pub changes_before: u64,
    /// Changes in the journal now.
    pub changes: u64,
    /// Intents that have not ended: they are as they were.
    pub open: u64,
    /// Intents that have ended.
    pub ended: u64,
    /// Ended intents whose items were dropped now.
    pub items_dropped: u64,
}

/// Why a store was not compacted. It is as it was.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is part of a migration, or was restored and not settled.
    #[error("the store is not to be compacted: {0}")]
    Marked(Mark),
    /// Its journal has changes that should have been refused: they are to be looked at first.
    #[error(
        "change {0} of the journal should have been refused when it was written: please report this"
    )]
    Unguarded(u64),
    /// The disk has not the room for both journals and a new index.
    #[error("too little room on the disk: {free_bytes} bytes are free, {wanted_bytes} are wanted")]
    Room {
        /// Free bytes.
        free_bytes: u64,
        /// Wanted bytes.
        wanted_bytes: u64,
    },
    /// The new journal cannot be written.
    #[error("the new journal cannot be written")]
    Write(#[from] StoreError),
    /// The new journal, read back, is not what the old one is. Nobody will use it.
    #[error("the new journal does not hold what the old one does: {0}")]
    Unequal(&'static str),
}

/// Writes the journal of a store anew, without the history of each order, and the index with it. Takes
/// the lock. Of intents that have ended and were accepted before `drop_before`, the items are dropped.
///
/// # Errors
/// [`CompactError`]: the store is as it was. After the new journal has taken over, the index alone can
/// fail, which the next start makes anew.
pub(crate) fn compact(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    config: &EmbeddedConfig,
    drop_before: Option<Timestamp>,
) -> Result<Compacted, CompactError> {
    let (_lock, old) = lock_and_check(disk, dir)?;
    let book = read(disk, &old, config)?;
    let found = book.rehydrate();
    if let Some(mark) = found.mark {
        return Err(CompactError::Marked(mark));
    }
    let totals = book.standing().totals;
    let content = Content { rows: book.rows(), found, drop_before };
    let mut done = Compacted {
        bytes_before: Segments::find(disk.clone(), &old.journal)?.bytes()?,
        changes_before: book.standing().changes,
        open: totals.open,
        ended: totals.intents() - totals.open,
        items_dropped: content.rows.iter().filter(|row| content.drops(row)).count() as u64,
        ..Compacted::default()
    };
    let highest = book.standing().highest;
    drop(book);
    look_for_room(disk, &old, config, &content)?;
    let new = old.next();
    let io = |error| OpenError::io(&new.journal, error);
    disk.create_dir(&new.journal).map_err(io)?;
    crash::point("compact.begun");
    let mut written = Book::new(true);
    written.handed_out(highest);
    write(disk, &new, config, &content, &mut written)?;
    crash::point("compact.written");
    let found = compare(disk, &new, content)?;
    verify(disk, &new, &found, totals)?;
    crash::point("compact.verified");
    done.changes = written.standing().changes;
    done.bytes = Segments::find(disk.clone(), &new.journal)?.bytes()?;
    old.write_format(disk, FORMAT_VERSION)?;
    if config.index == IndexMode::Sled {
        condemn(&old)?;
    }
    crash::point("compact.condemned");
    new.take_over(disk)?;
    new.clear_others(disk)?;
    crash::point("compact.removed");
    if config.index == IndexMode::Sled {
        clear_leftovers(&new)?;
        rebuild(disk, &new, config)?;
    }
    crash::point("compact.done");
    Ok(done)
}

/// Reads the old journal and checks it as `store verify` does; a torn tail is cut off.
fn read(
    disk: &Arc<dyn Disk>,
    places: &Places,
    config: &EmbeddedConfig,
) -> Result<Book, CompactError> {
    let mut book = Book::new(false);
    let mut unguarded = None;
    let bytes_total = Segments::find(disk.clone(), &places.journal)?.bytes()?;
    let mut telling = Telling::new(config.on_progress.clone(), bytes_total);
    let sizes = (config.segment_bytes, config.record_bytes_max);
    recover(disk, &places.journal, Position::default(), sizes, &mut |position, frame| {
        unguarded = unguarded.or(replay(&mut book, &places.journal, position, frame)?);
        telling.read(frame.bytes as u64, book.standing().changes);
        Ok(())
    })?;
    match unguarded {
        None => Ok(book),
        Some(number) => Err(CompactError::Unguarded(number)),
    }
}

/// Applies a frame; the number of a change that should have been refused, if there is one.
fn replay(
    book: &mut Book,
    journal: &Path,
    position: Position,
    frame: &Frame<'_>,
) -> Result<Option<u64>, OpenError> {
    let follows_not = || {
        OpenError::lost(format!(
            "frame {} of the journal does not follow on the frames before it",
            position.seq
        ))
    };
    let (standing, changes) = frame.decode().map_err(|error| (journal, error))?;
    book.handed_out(standing.highest);
    let mut unguarded = None;
    for change in changes {
        if !matches!(book.guard(&NoBase, &change), Ok(None)) {
            unguarded = unguarded.or(Some(book.standing().changes + 1));
        }
        book.apply(change).map_err(|_| follows_not())?;
    }
    if !standing.agrees_with(book.standing()) {
        return Err(follows_not());
    }
    Ok(unguarded)
}

/// What the new journal is to hold.
struct Content {
    rows: Vec<Arc<Row>>,
    found: Rehydration,
    drop_before: Option<Timestamp>,
}

impl Content {
    /// Whether the items of this intent are dropped now.
    fn drops(&self, row: &Row) -> bool {
        let stored = &row.stored;
        !row.is_active()
            && !stored.items.is_empty()
            && self.drop_before.is_some_and(|before| stored.accepted_at < before)
    }

    /// Its records, in order.
    fn changes(&self) -> impl Iterator<Item = Change> {
        let filled = Some(Mark::FilledFrom(PLACE.to_owned()));
        let before = [Change::Mark { mark: filled }].into_iter().chain(self.account());
        let adopted = self.rows.iter().map(|row| {
            let mut intent = row.adopted();
            if self.drops(row) {
                intent.stored.items = [].into();
            }
            Change::Adopt { handed_out: intent.ended_at, intent: Box::new(intent) }
        });
        before.chain(adopted).chain([Change::Mark { mark: None }])
    }

    fn account(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        let found = &self.found;
        for (lane, why) in &found.held_lanes {
            changes.push(Change::HoldLane { lane: *lane, why: why.clone() });
        }
        for ids in found.orphans.chunks(IDS_PER_RECORD_MAX) {
            changes.push(Change::Orphans { ids: ids.to_vec(), why: "kept".into() });
        }
        if let Some(line) = &found.history {
            let newest = line.newest;
            changes.push(Change::History { newest, ids: Vec::new() });
            for ids in line.ids.chunks(IDS_PER_RECORD_MAX) {
                changes.push(Change::History { newest, ids: ids.to_vec() });
            }
        }
        changes.extend(found.echo_seen.iter().map(|shape| Change::EchoSeen { shape: *shape }));
        changes.extend(found.paused.iter().map(|why| Change::Pause { why: why.clone() }));
        if found.spent != Spent::default() {
            changes.push(Change::Spent(found.spent.clone()));
        }
        changes
    }
}

/// Whether both journals and a new index have room beside what intake keeps free.
fn look_for_room(
    disk: &Arc<dyn Disk>,
    places: &Places,
    config: &EmbeddedConfig,
    content: &Content,
) -> Result<(), CompactError> {
    let mut record = Vec::new();
    let mut wanted_bytes = OVERHEAD_BYTES + config.reserve_bytes;
    for change in content.changes() {
        record.clear();
        encode_change(&change, &mut record);
        wanted_bytes += record.len() as u64 + 4;
    }
    if config.index == IndexMode::Sled {
        // The new one is not larger, and is written while the old one is there.
        wanted_bytes += crate::store::tools::bytes_below(&places.index);
    }
    let io = |error| OpenError::io(&places.dir, error);
    let free_bytes = disk.free_bytes(&places.dir).map_err(io)?;
    if free_bytes < wanted_bytes {
        return Err(CompactError::Room { free_bytes, wanted_bytes });
    }
    Ok(())
}

/// Writes the new journal. The book lets go of what is written and has ended.
fn write(
    disk: &Arc<dyn Disk>,
    places: &Places,
    config: &EmbeddedConfig,
    content: &Content,
    book: &mut Book,
) -> Result<(), CompactError> {
    let sizes = (config.segment_bytes, config.record_bytes_max);
    let nothing = &mut |_: Position, _: &Frame<'_>| Ok(());
    let mut journal = recover(disk, &places.journal, Position::default(), sizes, nothing)?;
    for change in content.changes() {
        journal.add(&change)?;
        let impossible = |_| StoreError::Failed("a change follows on nothing".into());
        book.apply(change).map_err(impossible)?;
        if journal.is_full() {
            journal.write(book.standing())?;
            let fed = book.take_feed();
            book.let_go(&fed);
        }
    }
    journal.write(book.standing())?;
    drop(journal);
    // Once more: what was allocated ahead is cut off, and file and directories are synced.
    recover(disk, &places.journal, Position::default(), sizes, nothing)?;
    Ok(())
}

/// Reads the new journal back: it has the very records that it is to have. Gives back what a start is to
/// find, and frees the rest.
fn compare(
    disk: &Arc<dyn Disk>,
    places: &Places,
    content: Content,
) -> Result<Rehydration, CompactError> {
    let mut wanted = content.changes();
    let mut same = true;
    Segments::find(disk.clone(), &places.journal)?.read_all(&mut |_, frame| {
        let (_, changes) = frame.decode().map_err(|error| (places.journal.as_path(), error))?;
        same &= changes.into_iter().all(|change| wanted.next() == Some(change));
        Ok(())
    })?;
    if !same || wanted.next().is_some() {
        return Err(CompactError::Unequal("its records"));
    }
    drop(wanted);
    Ok(content.found)
}

/// Checks the new journal as `store verify` does, and that a start finds the same, and as many intents
/// and claims.
fn verify(
    disk: &Arc<dyn Disk>,
    places: &Places,
    found: &Rehydration,
    old: Totals,
) -> Result<(), CompactError> {
    let mut book = Book::new(false);
    let mut unguarded = None;
    Segments::find(disk.clone(), &places.journal)?.read_all(&mut |position, frame| {
        unguarded = unguarded.or(replay(&mut book, &places.journal, position, frame)?);
        Ok(())
    })?;
    let new = book.standing().totals;
    let counts = |totals: Totals| (totals.open, totals.active, totals.ended, totals.claims);
    if unguarded.is_some() {
        return Err(CompactError::Unequal("its guards"));
    }
    if counts(new) != counts(old) || new.claims_xor != old.claims_xor {
        return Err(CompactError::Unequal("its counts"));
    }
    if book.rehydrate() != *found {
        return Err(CompactError::Unequal("what a start finds"));
    }
    Ok(())
}

/// Makes every start from now on write the index anew.
fn condemn(places: &Places) -> Result<(), OpenError> {
    let condemn = || -> std::io::Result<()> {
        std::fs::File::create(&places.condemned)?.sync_all()?;
        let _ = std::fs::remove_file(&places.fed);
        std::fs::File::open(&places.dir)?.sync_all()
    };
    condemn().map_err(|error| OpenError::io(&places.condemned, error))
}
