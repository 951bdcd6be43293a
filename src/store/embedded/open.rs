//! Opening: lock, format, index, the journal's tail; and the rebuild of the index.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::committer::{Committer, Indexed};
use super::feeder::Feeder;
use super::places::{FORMAT_PLAIN, Places};
use super::queue::{Figures, Shared};
use super::requests::Requests;
use super::telling::Telling;
use super::{EmbeddedConfig, IndexMode};
use crate::crash;
use crate::runtime::Runtime;
use crate::runtime::disk::{Disk, Lock, Locking};
use crate::store::book::{Book, Impossible, Standing};
use crate::store::index::{Below, Filter, Index, Keys, Loaded, Unusable};
use crate::store::journal::{Frame, Journal, Position, SEGMENT_HEADER_BYTES, Segments, recover};
use crate::store::record::JournalKey;
use crate::store::{OpenError, StoreError};

/// How many rows a rebuild gives to the index at once.
///
/// More are faster, being sorted, and take memory: about a kilobyte each.
const REBUILD_ROWS: usize = 131_072;

/// A rebuild that fails with less than this free, in bytes, failed for want of room: sled writes its
/// file in pieces of this size.
const FULL_BYTES: u64 = 4 << 20;

/// A store, open, with nobody to run it yet.
pub(super) struct Opened {
    pub shared: Arc<Shared>,
    pub committer: Committer,
    pub lock: Lock,
    pub dir: PathBuf,
}

pub(super) fn open(
    dir: &Path,
    config: EmbeddedConfig,
    runtime: &Runtime,
) -> Result<Opened, OpenError> {
    let disk = runtime.disk.clone();
    let (lock, places) = lock_and_check(&disk, dir)?;
    let (book, journal, indexed) = match config.index {
        IndexMode::Memory => {
            let mut book = Book::new(false).leaving_out(config.left_out);
            let journal = replay(&disk, &places, &config, &mut book, &mut |_, _| Ok(()))?;
            (book, journal, None)
        }
        IndexMode::Sled => {
            let ready = with_index(&disk, &places, &config)?;
            (ready.book, ready.journal, Some((ready.below, ready.pieces, ready.fed_changes)))
        }
    };
    let shared = Arc::new(Shared {
        queue: Requests::new(),
        next_serial: AtomicU64::new(book.standing().highest.0.saturating_add(1)),
        figures: Figures::default(),
    });
    let mut fed_changes = 0;
    let indexed = match indexed {
        Some((below, pieces, fed)) => {
            fed_changes = fed;
            let index = below.index.clone();
            let feeder = Feeder::start(shared.clone(), index, pieces, places.fed.clone())
                .map_err(|error| OpenError::io(dir, error))?;
            Some(Indexed { below, feeder })
        }
        None => None,
    };
    let committer = Committer::new(
        shared.clone(),
        config,
        (disk, dir.to_owned()),
        (book, fed_changes),
        journal,
        indexed,
    );
    Ok(Opened { shared, committer, lock, dir: dir.to_owned() })
}

/// Creates the directory if need be, locks it, checks that its layout is known, and takes away what a
/// compaction left.
pub(super) fn lock_and_check(
    disk: &Arc<dyn Disk>,
    dir: &Path,
) -> Result<(Lock, Places), OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| OpenError::io(&path, error)
    };
    disk.create_dir(dir).map_err(io(dir))?;
    let lock = Places::new(dir).lock;
    let lock = match disk.lock(&lock).map_err(io(&lock))? {
        Locking::Held(lock) => lock,
        Locking::Taken(pid) => return Err(OpenError::InUse { pid }),
    };
    let places = Places::find(disk, dir)?;
    disk.create_dir(&places.journal).map_err(io(&places.journal))?;
    if places.layout(disk)? {
        if Segments::find(disk.clone(), &places.journal)?.files.is_empty() {
            return Err(OpenError::lost("the journal is gone".to_owned()));
        }
        places.clear_others(disk)?;
    } else {
        create_store(disk, &places)?;
    }
    Ok((lock, places))
}

/// Makes a new store: its first segment, and then the format file, so that a store with that file
/// and no segment is one that lost its journal, and not a new one.
fn create_store(disk: &Arc<dyn Disk>, places: &Places) -> Result<(), OpenError> {
    // No more than an interrupted start leaves.
    let begun = Segments::find(disk.clone(), &places.journal)?.bytes()?;
    if begun > SEGMENT_HEADER_BYTES as u64 {
        return Err(OpenError::lost(
            "the format file is missing, and a journal is there".to_owned(),
        ));
    }
    let sizes = (0, 0);
    recover(disk, &places.journal, Position::default(), sizes, &mut |_, _| Ok(()))?;
    crash::point("store.segment_made");
    // What it stands in is durable before it is seen: whoever finds it takes the store for whole.
    let synced = disk.sync_dir(&places.journal).and_then(|()| disk.sync_dir(&places.dir));
    let synced = synced.and_then(|()| sync_parents(&**disk, &places.dir));
    synced.map_err(|error| OpenError::io(&places.dir, error))?;
    places.write_format(disk, FORMAT_PLAIN)
}

/// Syncs every directory above one: any of them may have been created with it.
///
/// Only the nearest must be: those that were created with it take a sync as it does, and the others
/// may be another user's, or on a file system that syncs no directories.
fn sync_parents(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    // A relative path begins in the working directory.
    let named =
        |dir: &'_ Path| if dir.as_os_str().is_empty() { ".".into() } else { dir.to_owned() };
    let mut parents = dir.ancestors().skip(1).map(|parent| disk.sync_dir(&named(parent)));
    let nearest = parents.next().unwrap_or(Ok(()));
    parents.for_each(drop);
    nearest
}

/// A book, its journal and its index, agreeing.
pub(super) struct Ready {
    book: Book,
    journal: Journal,
    below: Below,
    pieces: u32,
    fed_changes: u64,
}

/// Why an attempt to use the index as it is did not end in a store.
enum Miss {
    /// The index is to be rebuilt.
    Index(Unusable),
    /// The store does not open.
    Open(OpenError),
}

impl From<OpenError> for Miss {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

fn with_index(
    disk: &Arc<dyn Disk>,
    places: &Places,
    config: &EmbeddedConfig,
) -> Result<Ready, OpenError> {
    clear_leftovers(places)?;
    match load_index(disk, places, config) {
        Ok(ready) => return Ok(ready),
        Err(Miss::Open(error)) => return Err(error),
        Err(Miss::Index(why)) => {
            tracing::warn!(why = why.0, "the index cannot be used: it is rebuilt from the journal");
        }
    }
    rebuild(disk, places, config)
}

/// What a rebuild that was interrupted left behind.
pub(super) fn clear_leftovers(places: &Places) -> Result<(), OpenError> {
    for path in [&places.index_new, &places.index_old] {
        remove_all(path).map_err(|error| OpenError::io(path, error))?;
    }
    Ok(())
}

fn remove_all(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The index's side of a start.
fn open_index(
    places: &Places,
    config: &EmbeddedConfig,
) -> Result<(Index, Option<Loaded>), Unusable> {
    if places.condemned.exists() {
        return Err(Unusable("it was seen to be damaged".to_owned()));
    }
    create_private(&places.index)?;
    let index = Index::open(&places.index, config.keep_items)?;
    let loaded = index.load()?;
    Ok((index, loaded))
}

fn load_index(
    disk: &Arc<dyn Disk>,
    places: &Places,
    config: &EmbeddedConfig,
) -> Result<Ready, Miss> {
    let unusable = |why: &str| Miss::Index(Unusable(why.to_owned()));
    // Both take their time; the machine has more than one core.
    let (keys, opened) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_keys(disk, &places.journal));
        let opened = open_index(places, config);
        let died = || OpenError::lost("reading the journal panicked".to_owned());
        (reading.join().unwrap_or_else(|_| Err(died())), opened)
    });
    let (index, loaded) = opened.map_err(Miss::Index)?;
    let loaded = match loaded {
        Some(loaded) => loaded,
        None if Segments::find(disk.clone(), &places.journal)?.newest_standing()?.is_some() => {
            return Err(unusable("it is missing or empty"));
        }
        None => Loaded::default(),
    };
    let (is, says) = (loaded.totals, loaded.standing.totals);
    if (is.open, is.active, is.active_xor) != (says.open, says.active, says.active_xor) {
        return Err(unusable("rows are missing, old or too many"));
    }
    let (watermark, standing, pieces) = (loaded.watermark, loaded.standing, loaded.pieces);
    let mut book = Book::restored(loaded.active, loaded.account, standing);
    let mut disagrees = false;
    let mut visit = |position: Position, frame: &Frame<'_>| {
        if position.seq == watermark.seq {
            let says = frame.standing().map_err(|error| (places.journal.as_path(), error))?;
            disagrees |= !says.agrees_with(&standing);
        } else if !disagrees {
            disagrees |= apply_frame(&mut book, frame, &places.journal)?.is_err();
        }
        Ok(())
    };
    let sizes = (config.segment_bytes, config.record_bytes_max);
    let journal = recover(disk, &places.journal, watermark, sizes, &mut visit)?;
    if disagrees {
        return Err(unusable("it does not agree with the journal"));
    }
    let below = below(disk, places, Arc::new(index), keys?);
    Ok(Ready { book, journal, below, pieces, fed_changes: standing.changes })
}

/// The keys that a journal has; reads all of it, and so checks all of it.
fn read_keys(disk: &Arc<dyn Disk>, journal: &Path) -> Result<Keys, OpenError> {
    let segments = Segments::find(disk.clone(), journal)?;
    let intents = segments.newest_standing()?.map_or(0, |standing| standing.totals.intents());
    let mut keys = Keys {
        references: Filter::with_room(intents + intents / 4),
        orders: Filter::with_room(intents + intents / 4),
    };
    segments.read_all(&mut |_, frame| {
        let see = &mut |key: JournalKey<'_>| keys.note(key);
        frame.keys(see).map_err(|error| OpenError::from((journal, error)))
    })?;
    Ok(keys)
}

/// The index with its guards.
fn below(disk: &Arc<dyn Disk>, places: &Places, index: Arc<Index>, keys: Keys) -> Below {
    let (disk, journal) = (disk.clone(), places.journal.clone());
    let in_segments = move |wanted: JournalKey<'_>| {
        let mut found = false;
        let read = Segments::find(disk.clone(), &journal).and_then(|segments| {
            segments.read_all(&mut |_, frame| {
                let see = &mut |key: JournalKey<'_>| found |= key == wanted;
                frame.keys(see).map_err(|error| OpenError::from((journal.as_path(), error)))
            })
        });
        match read {
            Ok(_) => Ok(found),
            Err(error) => Err(StoreError::Failed(error.to_string().into())),
        }
    };
    let condemned = places.condemned.clone();
    let condemn = move || {
        if let Err(error) = std::fs::File::create(&condemned).and_then(|file| file.sync_all()) {
            tracing::warn!(%error, "the index could not be marked as damaged");
        }
    };
    Below { index, keys, in_segments: Box::new(in_segments), condemn: Arc::new(condemn) }
}

fn create_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Applies a frame; `Err(Impossible)` inside if it does not follow on the book.
fn apply_frame(
    book: &mut Book,
    frame: &Frame<'_>,
    journal: &Path,
) -> Result<Result<(), Impossible>, OpenError> {
    let (standing, changes) = frame.decode().map_err(|error| (journal, error))?;
    book.handed_out(standing.highest);
    for change in changes {
        if book.apply(change).is_err() {
            return Ok(Err(Impossible));
        }
    }
    Ok(if standing.agrees_with(book.standing()) { Ok(()) } else { Err(Impossible) })
}

/// Replays a whole journal into an empty book and opens it for appending. `after` is called after
/// every frame.
///
/// # Errors
/// [`OpenError::Corrupt`] if the frames are not of one history; what `after` says.
fn replay(
    disk: &Arc<dyn Disk>,
    places: &Places,
    config: &EmbeddedConfig,
    book: &mut Book,
    after: &mut dyn FnMut(&mut Book, Position) -> Result<(), OpenError>,
) -> Result<Journal, OpenError> {
    let bytes_total = Segments::find(disk.clone(), &places.journal)?.bytes()?;
    let mut telling = Telling::new(config.on_progress.clone(), bytes_total);
    let sizes = (config.segment_bytes, config.record_bytes_max);
    recover(disk, &places.journal, Position::default(), sizes, &mut |position, frame| {
        if apply_frame(book, frame, &places.journal)?.is_err() {
            return Err(OpenError::lost(format!(
                "frame {} of the journal does not follow on the frames before it",
                position.seq
            )));
        }
        telling.read(frame.bytes as u64, book.standing().changes);
        after(book, position)
    })
}

/// Rebuilds the index, in a fresh directory beside the old one, and swaps them.
pub(super) fn rebuild(
    disk: &Arc<dyn Disk>,
    places: &Places,
    config: &EmbeddedConfig,
) -> Result<Ready, OpenError> {
    let io = |error| OpenError::io(&places.index_new, error);
    let failed = |why: Unusable| match disk.free_bytes(&places.dir) {
        Ok(free) if free < FULL_BYTES => OpenError::Full { path: places.index_new.clone() },
        Ok(_) | Err(_) => io(io::Error::other(why.0)),
    };
    create_private(&places.index_new).map_err(io)?;
    let index = Index::open(&places.index_new, config.keep_items).map_err(failed)?;
    crash::point("rebuild.begun");
    let mut book = Book::new(true);
    let mut pieces = 0;
    let journal = replay(disk, places, config, &mut book, &mut |book, _| {
        if book.dirty() >= REBUILD_ROWS {
            let feed = book.take_feed();
            index.fill(&feed.rows).map_err(failed)?;
            book.let_go(&feed);
            book.account_changed();
        }
        Ok(())
    })?;
    crash::point("rebuild.replayed");
    if journal.last().seq > 0 {
        let mut feed = book.take_feed();
        index.fill(&feed.rows).map_err(failed)?;
        book.let_go(&feed);
        feed.rows.clear();
        index.feed(&feed, journal.last(), &mut pieces, false).map_err(failed)?;
    }
    crash::point("rebuild.fed");
    index.sync().map_err(failed)?;
    crash::point("rebuild.synced");
    drop(index);
    let swap = || -> io::Result<()> {
        if places.index.exists() {
            std::fs::rename(&places.index, &places.index_old)?;
            crash::point("rebuild.old_aside");
        }
        std::fs::rename(&places.index_new, &places.index)?;
        crash::point("rebuild.swapped");
        std::fs::File::open(&places.dir)?.sync_all()?;
        if places.condemned.exists() {
            std::fs::remove_file(&places.condemned)?;
        }
        remove_all(&places.index_old)
    };
    swap().map_err(io)?;
    crash::point("rebuild.done");
    let index = Arc::new(Index::open(&places.index, config.keep_items).map_err(failed)?);
    let below = below(disk, places, index, read_keys(disk, &places.journal)?);
    let fed_changes = book.standing().changes;
    tracing::info!(changes = fed_changes, "the index was rebuilt");
    Ok(Ready { book, journal, below, pieces, fed_changes })
}

/// Rebuilds the index of a store that is not open, and closes it again.
pub(crate) fn rebuild_index(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    config: &EmbeddedConfig,
) -> Result<Standing, OpenError> {
    let (_lock, places) = lock_and_check(disk, dir)?;
    clear_leftovers(&places)?;
    Ok(*rebuild(disk, &places, config)?.book.standing())
}
