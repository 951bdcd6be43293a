//! Why a store does not open, by what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The store was not opened, and nothing in it was decided or sent.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory open. Stop it, or use another directory and account.
    #[error("the directory is in use{}", holder(*.pid))]
    InUse {
        /// The process, where it is known.
        pid: Option<u32>,
    },
    /// The directory or a file in it cannot be read and written by this user.
    #[error("{} cannot be read and written", .path.display())]
    NotWritable {
        /// What cannot.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// A newer version of the program wrote the store. It is whole: run that version.
    #[error("the store is of version {found}, this program knows up to {known}: run a newer one")]
    NewerVersion {
        /// The store's version.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// Records that were acknowledged are damaged or gone. To go on could buy orders twice.
    #[error("{what}; {next}")]
    Corrupt {
        /// What was found.
        what: String,
        /// What to do.
        next: &'static str,
    },
    /// The disk is full. Make room and start again.
    #[error("no room is left on the disk of {}", .path.display())]
    Full {
        /// Where.
        path: PathBuf,
    },
    /// The disk failed.
    #[error("{} failed", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}

/// What to do when acknowledged records are gone.
const RESTORE: &str = "acknowledged orders may be missing, so nothing is sent: put the directory \
    back from where it is whole, or start an empty one after every order of the account was looked at";

impl OpenError {
    /// By what the system says of a path.
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NotWritable { path, source: Arc::new(error) }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, source: Arc::new(error) },
        }
    }

    /// Acknowledged records are gone.
    pub(crate) fn lost(what: String) -> Self {
        Self::Corrupt { what, next: RESTORE }
    }
}

impl From<(&Path, crate::store::RecordError)> for OpenError {
    fn from((path, error): (&Path, crate::store::RecordError)) -> Self {
        match error {
            crate::store::RecordError::Newer(found) => Self::NewerVersion {
                found: found.into(),
                known: crate::store::RECORD_VERSION.into(),
            },
            other => Self::lost(format!("{}: {other}", path.display())),
        }
    }
}
