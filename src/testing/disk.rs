//! The disk that forgets: in memory, with what is written and what would survive kept apart.
//!
//! Every write stays in the cache until its file is synced, every name until its directory is. The
//! power can be cut at any sync, or right now; what the cache held is then lost, kept, or torn at
//! a place that a seed chooses. Writes and syncs can be made to fail, and after a failed sync the
//! cache still shows what the disk will never have, as on a real system.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::runtime::disk::{Disk, DiskFile, Lock, Locking};

mod file;

use file::FileState;

/// What becomes of what was written and not synced when the power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// None of it reached the disk.
    Lost,
    /// All of it did, although nobody was told so.
    Kept,
    /// Some of it did: of each file the writes up to a place that the seed chooses, the last of
    /// them in part.
    Torn(u64),
}

/// See the module. Clones are the same disk.
#[derive(Clone, Default)]
pub struct ForgetfulDisk(Arc<Mutex<Inner>>);

/// What is called at every sync.
type AtSync = Arc<dyn Fn(u64) + Send + Sync>;

#[derive(Clone, Default)]
struct Inner {
    files: BTreeMap<u64, FileState>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
    durable_dirs: BTreeSet<PathBuf>,
    locked: BTreeSet<PathBuf>,
    next_file: u64,
    syncs: u64,
    writes: u64,
    cut_at_sync: Option<u64>,
    fail_sync: Option<u64>,
    at_sync: Option<AtSync>,
    fail_write: Option<u64>,
    full: bool,
    free_bytes: Option<u64>,
    off: bool,
}

impl std::fmt::Debug for ForgetfulDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForgetfulDisk").field("syncs", &self.syncs()).finish_non_exhaustive()
    }
}

impl ForgetfulDisk {
    /// An empty disk that works.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many syncs of files and directories were asked for.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.inner().syncs
    }

    /// How many writes were asked for.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.inner().writes
    }

    /// The power goes when the `n`-th sync (from 1) is asked for: it and all later calls fail.
    pub fn cut_at_sync(&self, n: u64) {
        self.inner().cut_at_sync = Some(n);
    }

    /// The power goes now.
    pub fn cut(&self) {
        self.inner().off = true;
    }

    /// Whether the power is off.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.inner().off
    }

    /// The `n`-th sync (from 1) fails, once: what it was to sync stays in the cache and never
    /// reaches the disk.
    pub fn fail_sync(&self, n: u64) {
        self.inner().fail_sync = Some(n);
    }

    /// Calls this at every sync that is asked for, with its number (from 1), before anything
    /// reaches the disk.
    pub fn at_sync(&self, look: impl Fn(u64) + Send + Sync + 'static) {
        self.inner().at_sync = Some(Arc::new(look));
    }

    fn sync_begins(&self) {
        let (look, n) = {
            let inner = self.inner();
            (inner.at_sync.clone(), inner.syncs + 1)
        };
        if let Some(look) = look {
            look(n);
        }
    }

    /// The `n`-th write (from 1) fails, once, half written.
    pub fn fail_write(&self, n: u64) {
        self.inner().fail_write = Some(n);
    }

    /// From now on every write that makes a file longer finds the disk full, or not any more.
    pub fn set_full(&self, full: bool) {
        self.inner().full = full;
    }

    /// How many bytes it says are free. Default: very many.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.inner().free_bytes = Some(bytes);
    }

    /// The disk as the machine finds it when the power is back.
    #[must_use]
    pub fn after_cut(&self, fate: Fate) -> Self {
        let mut inner = self.inner().clone();
        let mut dice = match fate {
            Fate::Torn(seed) => Some(Dice(seed)),
            Fate::Lost | Fate::Kept => None,
        };
        let keep_names = match &mut dice {
            Some(dice) => dice.roll(2) == 1,
            None => fate == Fate::Kept,
        };
        if !keep_names {
            inner.names = inner.durable_names.clone();
            inner.dirs = inner.durable_dirs.clone();
        }
        let dirs = inner.dirs.clone();
        let reachable = |path: &Path| path.parent().is_some_and(|dir| is_there(&dirs, dir));
        inner.names.retain(|path, _| reachable(path));
        for file in inner.files.values_mut() {
            file.cut(fate, &mut dice);
        }
        inner.restarted();
        inner.durable_names = inner.names.clone();
        inner.durable_dirs = inner.dirs.clone();
        Self(Arc::new(Mutex::new(inner)))
    }

    /// The disk as the next process finds it after this one was killed: the cache is still there.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let mut inner = self.inner().clone();
        inner.restarted();
        Self(Arc::new(Mutex::new(inner)))
    }

    /// The files that there are.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.inner().names.keys().cloned().collect()
    }

    /// What a file shows.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.inner();
        Some(inner.files[inner.names.get(path)?].live.clone())
    }

    /// Damages a file, in the cache and on the disk alike.
    pub fn damage(&self, path: &Path, damage: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.inner();
        let Some(id) = inner.names.get(path).copied() else { return };
        if let Some(file) = inner.files.get_mut(&id) {
            damage(&mut file.live);
            file.settle();
        }
    }
}

/// Whether a directory and all above it are there.
fn is_there(dirs: &BTreeSet<PathBuf>, dir: &Path) -> bool {
    dir.ancestors().all(|dir| is_root(dir) || dirs.contains(dir))
}

fn is_root(dir: &Path) -> bool {
    dir.parent().is_none() || dir.as_os_str().is_empty()
}

impl Inner {
    /// A machine or process that has just started: nothing is broken, nothing counted.
    fn restarted(&mut self) {
        self.locked.clear();
        (self.syncs, self.writes) = (0, 0);
        (self.cut_at_sync, self.fail_sync, self.fail_write) = (None, None, None);
        self.at_sync = None;
        self.off = false;
    }

    fn on(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Counts a sync; whether it is to fail.
    fn sync_asked(&mut self) -> io::Result<bool> {
        self.on()?;
        self.syncs += 1;
        if self.cut_at_sync == Some(self.syncs) {
            self.off = true;
            self.on()?;
        }
        Ok(self.fail_sync == Some(self.syncs))
    }
}

/// A small generator of numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides.max(1)
    }
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Disk for ForgetfulDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.on()?;
        let missing = dir.ancestors().filter(|dir| !is_root(dir)).map(Path::to_owned);
        inner.dirs.extend(missing);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let inner = self.inner();
        inner.on()?;
        if !is_there(&inner.dirs, dir) {
            return Err(not_found());
        }
        Ok(inner.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner();
        inner.on()?;
        let id = match (inner.names.get(path).copied(), create) {
            (Some(_), true) => return Err(io::Error::from(io::ErrorKind::AlreadyExists)),
            (None, false) => return Err(not_found()),
            (Some(id), false) => id,
            (None, true) => {
                if !path.parent().is_some_and(|dir| is_there(&inner.dirs, dir)) {
                    return Err(not_found());
                }
                inner.next_file += 1;
                let id = inner.next_file;
                inner.files.insert(id, FileState::default());
                inner.names.insert(path.to_owned(), id);
                id
            }
        };
        Ok(Arc::new(file::ForgetfulFile { disk: self.clone(), id }))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path, false)
    }

    fn lock(&self, path: &Path) -> io::Result<Locking> {
        let mut inner = self.inner();
        inner.on()?;
        if !inner.locked.insert(path.to_owned()) {
            return Ok(Locking::Taken(Some(std::process::id())));
        }
        Ok(Locking::Held(Lock::new(Held { disk: self.clone(), path: path.to_owned() })))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.on()?;
        let id = inner.names.remove(from).ok_or_else(not_found)?;
        inner.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.on()?;
        inner.names.remove(path).map(|_| ()).ok_or_else(not_found)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.on()?;
        if inner.names.keys().any(|path| path.parent() == Some(dir)) {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
        }
        inner.dirs.remove(dir).then_some(()).ok_or_else(not_found)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.sync_begins();
        let mut inner = self.inner();
        if inner.sync_asked()? {
            return Err(io::Error::from_raw_os_error(5));
        }
        let dir = dir.strip_prefix(".").unwrap_or(dir);
        let inside = |path: &Path| path.parent() == Some(dir);
        let Inner { names, durable_names, dirs, durable_dirs, .. } = &mut *inner;
        durable_names.retain(|path, _| !inside(path));
        durable_names.extend(
            names.iter().filter(|(path, _)| inside(path)).map(|(path, id)| (path.clone(), *id)),
        );
        durable_dirs.retain(|path| !inside(path));
        durable_dirs.extend(dirs.iter().filter(|path| inside(path)).cloned());
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let inner = self.inner();
        inner.on()?;
        Ok(inner.free_bytes.unwrap_or(u64::MAX))
    }
}

/// Lets go of a lock.
struct Held {
    disk: ForgetfulDisk,
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.disk.inner().locked.remove(&self.path);
    }
}
