//! Opening: lock, format, index, the journal's tail; and the rebuild of the index.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::committer::{Committer, Indexed};
use super::feeder::Feeder;
use super::queue::{Figures, Queue, Shared};
use super::{EmbeddedConfig, IndexMode, OnProgress, Progress};
use crate::runtime::Runtime;
use crate::runtime::disk::{Disk, Lock, Locking};
use crate::store::OpenError;
use crate::store::book::{Book, Impossible, Standing};
use crate::store::index::{Below, Filter, Index, Loaded, Unusable};
use crate::store::journal::{Frame, Journal, Position, Segments, recover};

/// The version of the directory's layout.
const FORMAT_VERSION: u32 = 1;

/// What the format file begins with.
const FORMAT_WORDS: &str = "order-router store ";

/// How many rows a rebuild gives to the index at once.
const REBUILD_ROWS: usize = 16_384;

/// After how many journal bytes progress is told.
const PROGRESS_BYTES: u64 = 4 << 20;

/// Where things are in the directory.
pub(crate) struct Places {
    pub dir: PathBuf,
    pub journal: PathBuf,
    pub index: PathBuf,
    pub index_new: PathBuf,
    pub index_old: PathBuf,
    /// How many changes the index has taken over, for other processes' figures.
    pub fed: PathBuf,
    lock: PathBuf,
    format: PathBuf,
}

impl Places {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            journal: dir.join("journal"),
            index: dir.join("index"),
            index_new: dir.join("index.new"),
            index_old: dir.join("index.old"),
            fed: dir.join("index.fed"),
            lock: dir.join("lock"),
            format: dir.join("format"),
        }
    }
}

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
    let places = Places::new(dir);
    let lock = lock_and_check(&disk, &places)?;
    let (book, journal, indexed) = match config.index {
        IndexMode::Memory => {
            let mut book = Book::new(false);
            let journal = replay(&disk, &places, &config, &mut book, &mut |_, _| Ok(()))?;
            (book, journal, None)
        }
        IndexMode::Sled => {
            let ready = with_index(&disk, &places, &config)?;
            (ready.book, ready.journal, Some((ready.below, ready.pieces, ready.fed_changes)))
        }
    };
    let shared = Arc::new(Shared {
        queue: Queue::new(),
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

/// Creates the directory if need be, locks it, and checks that its layout is known.
pub(crate) fn lock_and_check(disk: &Arc<dyn Disk>, places: &Places) -> Result<Lock, OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| OpenError::io(&path, error)
    };
    disk.create_dir(&places.journal).map_err(io(&places.dir))?;
    let lock = match disk.lock(&places.lock).map_err(io(&places.lock))? {
        Locking::Held(lock) => lock,
        Locking::Taken(pid) => return Err(OpenError::InUse { pid }),
    };
    match disk.open_read(&places.format) {
        Ok(file) => {
            let mut bytes = [0; 64];
            let read = file.read_at(&mut bytes, 0).map_err(io(&places.format))?;
            check_format(&bytes[..read])?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_format(disk, places)?;
        }
        Err(error) => return Err(OpenError::io(&places.format, error)),
    }
    Ok(lock)
}

fn check_format(bytes: &[u8]) -> Result<(), OpenError> {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
    match text.strip_prefix(FORMAT_WORDS).and_then(|number| number.parse::<u32>().ok()) {
        Some(FORMAT_VERSION) => Ok(()),
        Some(found) if found > FORMAT_VERSION => {
            Err(OpenError::NewerVersion { found, known: FORMAT_VERSION })
        }
        _ => Err(OpenError::lost("the format file does not say which version wrote it".to_owned())),
    }
}

/// Writes the format file: the first thing of a new store, before any segment.
fn create_format(disk: &Arc<dyn Disk>, places: &Places) -> Result<(), OpenError> {
    if !Segments::find(disk.clone(), &places.journal)?.files.is_empty() {
        return Err(OpenError::lost(
            "the format file is missing, and a journal is there".to_owned(),
        ));
    }
    let write = || -> io::Result<()> {
        let unfinished = places.format.with_extension("new");
        if disk.open_read(&unfinished).is_ok() {
            disk.remove(&unfinished)?;
        }
        let file = disk.open(&unfinished, true)?;
        file.write_at(format!("{FORMAT_WORDS}{FORMAT_VERSION}\n").as_bytes(), 0)?;
        file.sync()?;
        disk.rename(&unfinished, &places.format)?;
        disk.sync_dir(&places.journal)?;
        disk.sync_dir(&places.dir)?;
        match places.dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => disk.sync_dir(parent),
            None => Ok(()),
        }
    };
    write().map_err(|error| OpenError::io(&places.format, error))
}

/// A book, its journal and its index, agreeing.
struct Ready {
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
fn clear_leftovers(places: &Places) -> Result<(), OpenError> {
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

fn load_index(
    disk: &Arc<dyn Disk>,
    places: &Places,
    config: &EmbeddedConfig,
) -> Result<Ready, Miss> {
    let unusable = |why: &str| Miss::Index(Unusable(why.to_owned()));
    create_private(&places.index).map_err(|error| OpenError::io(&places.index, error))?;
    let index = Index::open(&places.index, config.keep_items).map_err(Miss::Index)?;
    let (mut references, mut orders) = (Filter::default(), Filter::default());
    let loaded = index.load(&mut references, &mut orders).map_err(Miss::Index)?;
    let loaded = match loaded {
        Some(loaded) => loaded,
        None if !Segments::find(disk.clone(), &places.journal)?.files.is_empty() => {
            return Err(unusable("it is missing or empty"));
        }
        None => Loaded {
            watermark: Position::default(),
            standing: Standing::default(),
            totals: crate::store::book::Totals::default(),
            active: Vec::new(),
            account: crate::store::book::Account::default(),
            pieces: 0,
        },
    };
    if loaded.totals != loaded.standing.totals {
        return Err(unusable("rows are missing, old or too many"));
    }
    let (watermark, standing, pieces) = (loaded.watermark, loaded.standing, loaded.pieces);
    let mut book = Book::restored(loaded.active, loaded.account, standing);
    let mut disagrees = false;
    let mut visit = |position: Position, frame: &Frame<'_>| {
        if position.seq == watermark.seq {
            let says = frame.standing().map_err(|error| (places.journal.as_path(), error))?;
            disagrees |= !agree(&says, &standing);
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
    let below = Below { index: Arc::new(index), references, orders };
    Ok(Ready { book, journal, below, pieces, fed_changes: standing.changes })
}

fn create_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Whether two standings are of the same moment; the newest date is not in the journal.
fn agree(one: &Standing, two: &Standing) -> bool {
    (one.changes, one.highest, one.totals) == (two.changes, two.highest, two.totals)
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
    Ok(if agree(&standing, book.standing()) { Ok(()) } else { Err(Impossible) })
}

/// Replays a whole journal into an empty book and opens it for appending. `after` is called after
/// every frame.
///
/// # Errors
/// [`OpenError::Corrupt`] if the frames are not of one history; what `after` says.
pub(crate) fn replay(
    disk: &Arc<dyn Disk>,
    places: &Places,
    config: &EmbeddedConfig,
    book: &mut Book,
    after: &mut dyn FnMut(&mut Book, Position) -> Result<(), OpenError>,
) -> Result<Journal, OpenError> {
    let bytes_total = Segments::find(disk.clone(), &places.journal)?.bytes()?;
    let mut telling = Telling { on: config.on_progress.clone(), bytes_total, bytes: 0, told: 0 };
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

/// Tells how far a replay has come.
struct Telling {
    on: Option<OnProgress>,
    bytes_total: u64,
    bytes: u64,
    told: u64,
}

impl Telling {
    fn read(&mut self, bytes: u64, changes: u64) {
        self.bytes += bytes;
        if self.bytes - self.told < PROGRESS_BYTES {
            return;
        }
        self.told = self.bytes;
        let Self { bytes, bytes_total, .. } = *self;
        tracing::info!(bytes, bytes_total, changes, "the journal is read");
        if let Some(on) = &self.on {
            on(Progress { bytes, bytes_total, changes });
        }
    }
}

/// Rebuilds the index, in a fresh directory beside the old one, and swaps them.
fn rebuild(
    disk: &Arc<dyn Disk>,
    places: &Places,
    config: &EmbeddedConfig,
) -> Result<Ready, OpenError> {
    let io = |error| OpenError::io(&places.index_new, error);
    let failed = |why: Unusable| io(io::Error::other(why.0));
    create_private(&places.index_new).map_err(io)?;
    let index = Index::open(&places.index_new, config.keep_items).map_err(failed)?;
    let mut below =
        Below { index: Arc::new(index), references: Filter::default(), orders: Filter::default() };
    let mut book = Book::new(true);
    let mut pieces = 0;
    let mut last = Position::default();
    let mut feed = |book: &mut Book, position: Position, rows: usize| {
        last = position;
        if book.dirty() < rows {
            return Ok(());
        }
        let feed = book.take_feed();
        below.index.feed(&feed, position, &mut pieces, false).map_err(failed)?;
        below.took_over(&feed);
        book.let_go(&feed);
        Ok(())
    };
    let journal = replay(disk, places, config, &mut book, &mut |book, position| {
        feed(book, position, REBUILD_ROWS)
    })?;
    if journal.last().seq > 0 {
        feed(&mut book, journal.last(), 1)?;
    }
    let Below { index, references, orders } = below;
    index.sync().map_err(failed)?;
    drop(index);
    let swap = || -> io::Result<()> {
        if places.index.exists() {
            std::fs::rename(&places.index, &places.index_old)?;
        }
        std::fs::rename(&places.index_new, &places.index)?;
        std::fs::File::open(&places.dir)?.sync_all()?;
        remove_all(&places.index_old)
    };
    swap().map_err(io)?;
    let index = Arc::new(Index::open(&places.index, config.keep_items).map_err(failed)?);
    let below = Below { index, references, orders };
    let fed_changes = book.standing().changes;
    tracing::info!(changes = fed_changes, "the index was rebuilt");
    Ok(Ready { book, journal, below, pieces, fed_changes })
}

/// Rebuilds the index of a store that is not open, and closes it again.
pub(crate) fn rebuild_index(
    disk: &Arc<dyn Disk>,
    places: &Places,
    config: &EmbeddedConfig,
) -> Result<Standing, OpenError> {
    let _lock = lock_and_check(disk, places)?;
    clear_leftovers(places)?;
    Ok(*rebuild(disk, places, config)?.book.standing())
}
