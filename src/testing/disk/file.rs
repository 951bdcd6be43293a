//! A file of the disk that forgets.

use std::io;

use super::{Dice, Fate, ForgetfulDisk};
use crate::runtime::disk::DiskFile;

/// One thing done to a file.
#[derive(Debug, Clone)]
enum Done {
    Written { offset: usize, bytes: Vec<u8> },
    Resized(usize),
}

impl Done {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Written { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*offset..end].copy_from_slice(bytes);
            }
            Self::Resized(bytes) => to.resize(*bytes, 0),
        }
    }

    /// The first part of it.
    fn part(&self, dice: &mut Dice) -> Option<Self> {
        match self {
            Self::Written { offset, bytes } => {
                let kept = usize::try_from(dice.roll(bytes.len() as u64 + 1)).unwrap_or(0);
                Some(Self::Written { offset: *offset, bytes: bytes[..kept].to_vec() })
            }
            Self::Resized(_) => None,
        }
    }
}

/// What a file shows, what the disk has of it, and what lies between.
#[derive(Debug, Clone, Default)]
pub(super) struct FileState {
    pub live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Done>,
}

impl FileState {
    fn act(&mut self, done: Done) {
        done.apply(&mut self.live);
        self.unsynced.push(done);
    }

    fn sync(&mut self) {
        for done in self.unsynced.drain(..) {
            done.apply(&mut self.durable);
        }
    }

    /// The disk has what the file shows.
    pub(super) fn settle(&mut self) {
        self.durable.clone_from(&self.live);
        self.unsynced.clear();
    }

    pub(super) fn cut(&mut self, fate: Fate, dice: &mut Option<Dice>) {
        let kept = match (fate, dice) {
            (Fate::Lost, _) => 0,
            (Fate::Torn(_), Some(dice)) if !self.unsynced.is_empty() => {
                let whole = usize::try_from(dice.roll(self.unsynced.len() as u64)).unwrap_or(0);
                if let Some(part) = self.unsynced[whole].part(dice) {
                    self.unsynced.insert(whole, part);
                    whole + 1
                } else {
                    whole
                }
            }
            (Fate::Kept | Fate::Torn(_), _) => self.unsynced.len(),
        };
        self.unsynced.truncate(kept);
        self.sync();
        self.live.clone_from(&self.durable);
    }
}

/// An open file of the disk that forgets.
pub(super) struct ForgetfulFile {
    pub disk: ForgetfulDisk,
    pub id: u64,
}

impl ForgetfulFile {
    fn state<T>(&self, on: impl FnOnce(&mut FileState) -> T) -> io::Result<T> {
        let mut inner = self.disk.inner();
        inner.on()?;
        inner.files.get_mut(&self.id).map(on).ok_or_else(super::not_found)
    }
}

impl DiskFile for ForgetfulFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (fails, full) = {
            let mut inner = self.disk.inner();
            inner.on()?;
            inner.writes += 1;
            (inner.fail_write == Some(inner.writes), inner.full)
        };
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.state(|file| {
            if full && offset + bytes.len() > file.live.len() {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            let written = if fails { &bytes[..bytes.len() / 2] } else { bytes };
            file.act(Done::Written { offset, bytes: written.to_vec() });
            if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
        })?
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.state(|file| {
            let rest = file.live.get(offset..).unwrap_or_default();
            let count = rest.len().min(into.len());
            into[..count].copy_from_slice(&rest[..count]);
            count
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync_begins();
        let fails = self.disk.inner().sync_asked()?;
        self.state(|file| {
            if fails {
                // The system says it once, and from then on counts the pages as written.
                file.unsynced.clear();
                return Err(io::Error::from_raw_os_error(5));
            }
            file.sync();
            Ok(())
        })?
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        self.state(|file| file.act(Done::Resized(bytes)))
    }

    fn len(&self) -> io::Result<u64> {
        self.state(|file| file.live.len() as u64)
    }
}
