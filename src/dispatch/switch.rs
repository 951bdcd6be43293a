//! The kill switch: while it is on, no order leaves. Reading goes on, and so do doubts.
//!
//! It has two halves. The host's is durable in the store, so it is on again after a restart. The
//! file's is on while the file is there: a person, a script or another program makes it, without
//! asking the router. Both are looked at before an order is recorded to be sent, and once more by
//! its gate, so that what was recorded and has not left stays as well.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::Why;

/// Most bytes of the file that are shown as the reason.
const WHY_BYTES_MAX: usize = 200;

/// Whether orders may leave.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    host: Mutex<Option<Why>>,
    file: Option<PathBuf>,
    /// What was told last.
    told: Mutex<Option<Why>>,
}

impl Switch {
    /// `host`: the reason that the store has, if it was on.
    pub(crate) fn new(host: Option<Why>, file: Option<PathBuf>) -> Self {
        Self { host: Mutex::new(host), file, told: Mutex::default() }
    }

    /// Whether nothing may leave now.
    pub(crate) fn is_on(&self) -> bool {
        lock(&self.host).is_some() || self.file.as_deref().is_some_and(is_there)
    }

    /// Why nothing may leave, if so.
    pub(crate) fn why(&self) -> Option<Why> {
        if let Some(why) = lock(&self.host).clone() {
            return Some(why);
        }
        let file = self.file.as_deref().filter(|file| is_there(file))?;
        Some(format!("{} is there{}", file.display(), reason(file)).into())
    }

    /// Switches the host's half.
    pub(crate) fn set(&self, why: Option<Why>) {
        *lock(&self.host) = why;
    }

    /// What there is to tell since it was asked last: `Some(None)`, it was switched off.
    pub(crate) fn news(&self) -> Option<Option<Why>> {
        let now = self.why();
        let mut told = lock(&self.told);
        let news = *told != now;
        news.then(|| {
            told.clone_from(&now);
            now
        })
    }
}

/// Nothing in here panics while a lock is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What cannot be looked at counts as there: nothing leaves.
fn is_there(file: &Path) -> bool {
    match file.symlink_metadata() {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// The first line of the file, as far as it is plain text.
fn reason(file: &Path) -> String {
    use std::io::Read;
    let mut text = Vec::new();
    // A fifo would block for ever, and a reason is only for people.
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return String::new();
    }
    let read = std::fs::File::open(file)
        .and_then(|file| file.take(WHY_BYTES_MAX as u64).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let line: String =
        text.lines().next().unwrap_or("").chars().filter(|c| !c.is_control()).collect();
    match read.is_ok() && !line.trim().is_empty() {
        true => format!(": {}", line.trim()),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_on_while_the_file_is_there_or_the_host_says_so() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("STOP");
        let switch = Switch::new(None, Some(file.clone()));
        assert!(!switch.is_on());
        assert_eq!(switch.news(), None);
        std::fs::write(&file, "prices are wrong\nsecond line").expect("a file");
        assert!(switch.is_on());
        let why = switch.news().flatten().expect("news");
        assert!(why.ends_with("STOP is there: prices are wrong"), "{why}");
        assert_eq!(switch.news(), None);
        switch.set(Some("the host".into()));
        assert_eq!(switch.why().as_deref(), Some("the host"));
        std::fs::remove_file(&file).expect("removed");
        assert!(switch.is_on());
        switch.set(None);
        assert!(!switch.is_on());
        assert_eq!(switch.news(), Some(None));
    }

    #[test]
    fn what_cannot_be_looked_at_stops() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("a file");
        // A path through a file: it can be neither there nor looked at.
        assert!(Switch::new(None, Some(file.join("STOP"))).is_on());
        // A link that leads nowhere is there.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).expect("a link");
        assert!(Switch::new(None, Some(link)).is_on());
    }
}
