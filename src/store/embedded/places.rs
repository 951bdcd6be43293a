//! Where things are in the directory, and which of its journals holds.
//!
//! A store that was compacted has a new journal in a directory of its own, `journal.2` and on. Which one
//! holds, the file `generation` says, and nothing else: to rename it into its place is what a
//! compaction comes down to. Without that file it is `journal`. A directory with that file has layout
//! 2, so that an earlier build, which would take `journal`, says that it does not know it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::crash;
use crate::runtime::disk::Disk;
use crate::store::OpenError;

/// The newest version of the directory's layout: 2 may have another journal than `journal`.
pub(crate) const FORMAT_VERSION: u32 = 2;

/// The version of a directory that was never compacted.
pub(super) const FORMAT_PLAIN: u32 = 1;

/// What the format file begins with.
const FORMAT_WORDS: &str = "order-router store ";

/// What the file begins with that names the journal.
const GENERATION_WORDS: &str = "order-router journal ";

/// Where things are in the directory.
pub(crate) struct Places {
    pub dir: PathBuf,
    pub journal: PathBuf,
    pub index: PathBuf,
    pub index_new: PathBuf,
    pub index_old: PathBuf,
    /// There if the index was seen to be damaged.
    pub condemned: PathBuf,
    /// How many changes the index has taken over, for other processes' figures.
    pub fed: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) format: PathBuf,
    /// Says which journal holds.
    generation: PathBuf,
    /// Its number, from 1.
    number: u64,
}

fn journal(dir: &Path, number: u64) -> PathBuf {
    if number == 1 { dir.join("journal") } else { dir.join(format!("journal.{number}")) }
}

impl Places {
    /// Those of a store that was never compacted.
    pub(crate) fn new(dir: &Path) -> Self {
        Self::of(dir, 1)
    }

    fn of(dir: &Path, number: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            journal: journal(dir, number),
            index: dir.join("index"),
            index_new: dir.join("index.new"),
            index_old: dir.join("index.old"),
            condemned: dir.join("index.damaged"),
            fed: dir.join("index.fed"),
            lock: dir.join("lock"),
            format: dir.join("format"),
            generation: dir.join("generation"),
            number,
        }
    }

    /// Those of the store as it is: with the journal that holds.
    pub(crate) fn find(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self, OpenError> {
        let places = Self::new(dir);
        let Some(text) = read(disk, &places.generation)? else { return Ok(places) };
        let number = text.strip_prefix(GENERATION_WORDS).and_then(|number| number.parse().ok());
        match number {
            Some(number @ 1..) => Ok(Self::of(dir, number)),
            _ => Err(OpenError::lost("the file `generation` names no journal".to_owned())),
        }
    }

    /// Those that a compaction makes.
    pub(super) fn next(&self) -> Self {
        Self::of(&self.dir, self.number + 1)
    }

    /// Whether the format file is there, and says that this program knows the directory's layout.
    pub(crate) fn layout(&self, disk: &Arc<dyn Disk>) -> Result<bool, OpenError> {
        match read(disk, &self.format)? {
            Some(text) => check_format(&text).map(|()| true),
            None => Ok(false),
        }
    }

    /// Writes the format file, durably.
    pub(super) fn write_format(&self, disk: &Arc<dyn Disk>, version: u32) -> Result<(), OpenError> {
        let text = format!("{FORMAT_WORDS}{version}\n");
        let before = || crash::point("store.format_written");
        write(disk, &self.dir, &self.format, &text, before)?;
        crash::point("store.format_renamed");
        Ok(())
    }

    /// Makes this journal the one that holds, durably.
    pub(super) fn take_over(&self, disk: &Arc<dyn Disk>) -> Result<(), OpenError> {
        let text = format!("{GENERATION_WORDS}{}\n", self.number);
        write(disk, &self.dir, &self.generation, &text, || crash::point("compact.taking_over"))?;
        crash::point("compact.took_over");
        Ok(())
    }

    /// Takes away the journals that do not hold: one that was not finished, one that was compacted.
    pub(super) fn clear_others(&self, disk: &Arc<dyn Disk>) -> Result<(), OpenError> {
        let older = (self.number > 1).then(|| self.number - 1);
        for number in older.into_iter().chain([self.number + 1]) {
            clear_journal(disk, &self.dir, &journal(&self.dir, number))?;
        }
        Ok(())
    }
}

/// Takes away a journal that does not hold.
fn clear_journal(disk: &Arc<dyn Disk>, dir: &Path, journal: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::io(journal, error);
    let files = match disk.list(journal) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    // After a kill the name of the file that says which one holds may be in the page cache alone.
    disk.sync_dir(dir).map_err(io)?;
    files.iter().try_for_each(|file| disk.remove(file)).map_err(io)?;
    disk.remove_dir(journal).map_err(io)
}

/// The text of a small file without its end of line; `None` if it is not there.
fn read(disk: &Arc<dyn Disk>, path: &Path) -> Result<Option<String>, OpenError> {
    let io = |error| OpenError::io(path, error);
    match disk.open_read(path) {
        Ok(file) => {
            let mut bytes = [0; 64];
            let read = file.read_at(&mut bytes, 0).map_err(io)?;
            let text = std::str::from_utf8(&bytes[..read]).unwrap_or_default();
            Ok(Some(text.trim().to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(error)),
    }
}

/// Puts a small file in its place, whole or not at all, durably. `before` is called before it is there.
fn write(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    path: &Path,
    text: &str,
    before: impl FnOnce(),
) -> Result<(), OpenError> {
    let write = move || -> io::Result<()> {
        let unfinished = path.with_extension("new");
        if disk.open_read(&unfinished).is_ok() {
            disk.remove(&unfinished)?;
        }
        let file = disk.open(&unfinished, true)?;
        file.write_at(text.as_bytes(), 0)?;
        file.sync()?;
        before();
        disk.rename(&unfinished, path)?;
        disk.sync_dir(dir)
    };
    write().map_err(|error| OpenError::io(path, error))
}

fn check_format(text: &str) -> Result<(), OpenError> {
    match text.strip_prefix(FORMAT_WORDS).and_then(|number| number.parse::<u32>().ok()) {
        Some(FORMAT_PLAIN..=FORMAT_VERSION) => Ok(()),
        Some(found) if found > FORMAT_VERSION => {
            Err(OpenError::NewerVersion { found, known: FORMAT_VERSION })
        }
        _ => Err(OpenError::lost("the format file does not say which version wrote it".to_owned())),
    }
}
