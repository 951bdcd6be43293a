//! Copying a store, also while a router is at work in it.
//!
//! A backup has the journal and no format file, so that nobody opens it as a store by mistake: what it
//! knows is past, and a router that goes on from a past buys again. The file `backup` is written last,
//! and taken away while the copy is renewed. The index is left out: it is made from the journal.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use super::{VerifyReport, find, verify};
use crate::crash;
use crate::protocol::Change;
use crate::runtime::Runtime;
use crate::store::embedded::{OnProgress, Progress};
use crate::store::journal::Segments;
use crate::store::{
    EmbeddedConfig, EmbeddedStore, IndexMode, IntentStore, Mark, OpenError, StoreError,
};

/// The file that says that a backup is whole.
const WHOLE: &str = "backup";
/// How often the newest segment is copied again where the copy looks damaged: the router wrote while it
/// was read.
const TRIES_MAX: u32 = 5;
/// Bytes copied at once.
const CHUNK: usize = 1 << 20;

/// Copies the store in `dir` to `to`, and checks the copy as [`verify`] does. A router may be at work in
/// `dir`: the copy has what was durable when it began, and perhaps more.
///
/// `to` is made, or is an earlier backup of the same store, of which only what is new is copied.
///
/// # Errors
/// [`OpenError::Corrupt`] if the store, or its copy, is damaged; what the disk says. `to` is then no
/// backup, or still an unfinished one.
pub fn backup(
    dir: impl AsRef<Path>,
    to: impl AsRef<Path>,
    on_progress: Option<OnProgress>,
) -> Result<VerifyReport, OpenError> {
    let to = to.as_ref();
    let (_, segments) = find(dir.as_ref())?;
    if segments.files.is_empty() {
        return Err(OpenError::lost(format!("{} has no journal", dir.as_ref().display())));
    }
    let journal = to.join("journal");
    let whole = to.join(WHOLE);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| OpenError::io(&path, error)
    };
    if to.join("format").exists() {
        return Err(OpenError::lost(format!("{} is a store, and no backup", to.display())));
    }
    fs::create_dir_all(&journal).map_err(io(&journal))?;
    let kept = same_past(to, &segments)?;
    match fs::remove_file(&whole) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(&whole)(error)),
        _ => sync_dir(to)?,
    }
    let bytes_total = segments.bytes()?;
    let mut bytes = 0;
    let last = segments.files.len() - 1;
    for (at, (_, from)) in segments.files.iter().enumerate() {
        let copy = journal.join(from.file_name().unwrap_or_default());
        let length = fs::metadata(from).map_err(io(from))?.len();
        // A full segment never changes, and a copy that has a later one has it full.
        if at >= kept {
            copy_file(from, &copy)?;
        }
        bytes += length;
        if let Some(on) = &on_progress {
            on(Progress { bytes, bytes_total, changes: 0 });
        }
    }
    let mut checked = verify(to, None);
    for _ in 1..TRIES_MAX {
        if !matches!(checked, Err(OpenError::Corrupt { .. })) {
            break;
        }
        let (_, newest) = &segments.files[last];
        copy_file(newest, &journal.join(newest.file_name().unwrap_or_default()))?;
        checked = verify(to, None);
    }
    let report = checked?;
    sync_dir(&journal)?;
    let mut file = File::create(&whole).map_err(io(&whole))?;
    let said = format!(
        "order-router backup 1\nchanges {}\nThis is no data directory: `order-router store restore` makes one of it.\n",
        report.journal.changes
    );
    file.write_all(said.as_bytes()).and_then(|()| file.sync_all()).map_err(io(&whole))?;
    sync_dir(to)?;
    Ok(report)
}

/// Makes a store in `dir`, which must not be there yet, of a backup. It is marked as restored: no router
/// starts on it before a person has said that this is so ([`StartAnswer::Restored`](crate::StartAnswer)).
///
/// It is made beside and put in its place whole: what an interrupted restore leaves is no store.
///
/// # Errors
/// [`OpenError::Corrupt`] if `from` is no whole backup, or is damaged; what the disk says.
pub async fn restore(
    from: impl AsRef<Path>,
    dir: impl AsRef<Path>,
) -> Result<VerifyReport, OpenError> {
    let (from, dir) = (from.as_ref(), dir.as_ref());
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| OpenError::io(&path, error)
    };
    if !is_whole(from) {
        return Err(OpenError::lost(format!("{} is no whole backup", from.display())));
    }
    if dir.symlink_metadata().is_ok() {
        let exists = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(OpenError::io(dir, exists));
    }
    let report = verify(from, None)?;
    // A journal that lost its end is as whole as one that was never longer.
    let (said, has) = (changes_of(from)?, report.journal.changes);
    if said != Some(has) {
        let said = said.map_or_else(|| "another number".into(), |said| said.to_string());
        let what = format!("{} has {has} changes, and had {said}", from.display());
        return Err(OpenError::lost(what));
    }
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let beside = dir.with_file_name(format!("{name}.restoring"));
    match fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(&beside)(error)),
        _ => {}
    }
    // A new store has a first segment of its own; that of the backup takes its place.
    let config = || EmbeddedConfig { index: IndexMode::Memory, ..EmbeddedConfig::default() };
    let open = |beside: &Path| EmbeddedStore::open(beside, config(), &Runtime::system());
    let close = |error: StoreError| io(dir)(io::Error::other(error));
    open(&beside)?.close().await.map_err(close)?;
    for (_, segment) in &find(from)?.1.files {
        copy_file(segment, &beside.join("journal").join(segment.file_name().unwrap_or_default()))?;
    }
    sync_dir(&beside.join("journal"))?;
    crash::point("restore.copied");
    let store = open(&beside)?;
    // Another store goes on with its orders, or may: they would be bought from both.
    let marked = store.rehydrate().await.map_err(close)?.mark;
    if let Some(mark) = marked.filter(|mark| !matches!(mark, Mark::Restored(_))) {
        return Err(OpenError::lost(format!("{}: {mark}", from.display())));
    }
    let mark = Some(Mark::Restored(from.display().to_string()));
    store.commit(Change::Mark { mark }).await.map_err(close)?;
    store.close().await.map_err(close)?;
    drop(store);
    sync_dir(&beside)?;
    crash::point("restore.marked");
    fs::rename(&beside, dir).map_err(io(dir))?;
    sync_dir(dir.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    Ok(report)
}

/// Whether a directory is a whole backup.
fn is_whole(dir: &Path) -> bool {
    dir.join(WHOLE).is_file()
}

/// How many changes a whole backup says that it has.
fn changes_of(dir: &Path) -> Result<Option<u64>, OpenError> {
    let path = dir.join(WHOLE);
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(CHUNK as u64).read_to_string(&mut text));
    read.map_err(|error| OpenError::io(&path, error))?;
    Ok(text.lines().find_map(|line| line.strip_prefix("changes ")?.parse().ok()))
}

/// How many segments of an earlier copy need not be copied again. What is a copy of something else is left
/// as it is.
fn same_past(to: &Path, store: &Segments) -> Result<usize, OpenError> {
    let (_, copied) = find(to)?;
    let Some(newest) = copied.files.len().checked_sub(1) else { return Ok(0) };
    let other = || {
        let what = format!(
            "{} is a backup of something else, or of a store before it was compacted, and was left as it is",
            to.display()
        );
        OpenError::lost(what)
    };
    if newest >= store.files.len() {
        return Err(other());
    }
    // The first frames of two stores differ: each has a reference or an id of its own, or a moment.
    let end = copied.read(0, 0, 1, &mut |_, _| Ok(()))?.end.min(CHUNK as u64);
    let read = |path: &Path| {
        let mut bytes = Vec::new();
        let file = File::open(path).and_then(|file| file.take(end).read_to_end(&mut bytes));
        file.map_err(|error| OpenError::io(path, error)).map(|_| bytes)
    };
    match read(&copied.files[0].1)? == read(&store.files[0].1)? {
        true => Ok(newest),
        false => Err(other()),
    }
}

/// Copies a file, durable, readable by the owner alone.
fn copy_file(from: &Path, to: &Path) -> Result<(), OpenError> {
    let copy = || -> io::Result<()> {
        let mut from = File::open(from)?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut copy = options.open(to)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            match from.read(&mut chunk)? {
                0 => break,
                read => copy.write_all(&chunk[..read])?,
            }
        }
        copy.sync_all()
    };
    copy().map_err(|error| OpenError::io(to, error))
}

fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| OpenError::io(dir, error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::order::ClientRef;
    use crate::protocol::{Change, IntentId, NewIntent};
    use crate::runtime::Runtime;
    use crate::store::{EmbeddedConfig, EmbeddedStore, IntentStore, tools};
    use crate::{Item, ItemsDigest, ItemsHash};

    fn intent(id: IntentId, name: &str) -> NewIntent {
        let items: Arc<[Item]> = vec![Item::new("x", 1).expect("an item")].into();
        NewIntent {
            id,
            client_ref: ClientRef::new(name).expect("a reference"),
            lane: ItemsHash::of(&items, crate::EchoProfile::default()),
            as_sent: ItemsDigest::as_sent(&items),
            delivered: ItemsDigest::delivered(&items, false),
            items,
            good_until: jiff::Timestamp::MAX,
            accepted_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn open(dir: &Path) -> EmbeddedStore {
        let config = EmbeddedConfig { segment_bytes: 16 << 10, ..EmbeddedConfig::default() };
        EmbeddedStore::open(dir, config, &Runtime::system()).expect("a store")
    }

    async fn accept(store: &EmbeddedStore, name: &str) {
        let intent = intent(store.next_serial(), name);
        store.commit(Change::Accept { intent, attempt: None }).await.expect("accepted");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_backup_beside_a_router_at_work_has_all_that_was_durable_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, to) = (dir.path().join("data"), dir.path().join("to"));
        let store = Arc::new(open(&data));
        for n in 0..500 {
            accept(&store, &format!("before-{n}")).await;
        }
        let writer = store.clone();
        let writing = tokio::spawn(async move {
            for n in 0..3_000 {
                accept(&writer, &format!("during-{n}")).await;
            }
        });
        let mut copies = 0;
        while !writing.is_finished() {
            let (data, to) = (data.clone(), to.clone());
            let copied = tokio::task::spawn_blocking(move || backup(&data, &to, None));
            let report = copied.await.expect("no panic").expect("a backup");
            assert!(report.open >= 500 && report.unguarded.is_empty(), "{report:?}");
            copies += 1;
        }
        writing.await.expect("written");
        assert!(copies > 1, "{copies} copies while it was written");
        let report = backup(&data, &to, None).expect("a backup");
        assert_eq!(report.open, 3_500);
        assert!(report.journal.segments > 3 && is_whole(&to));
        assert_eq!(tools::Snapshot::read(&to).expect("it is read").intents.len(), 3_500);
    }

    #[tokio::test]
    async fn a_backup_is_no_store_and_a_store_no_backup() {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, to) = (dir.path().join("data"), dir.path().join("to"));
        accept(&open(&data), "one").await;
        backup(&data, &to, None).expect("a backup");
        let config = EmbeddedConfig::default();
        let error = EmbeddedStore::open(&to, config, &Runtime::system()).expect_err("no store");
        assert!(error.to_string().contains("format file is missing"), "{error}");
        assert!(is_whole(&to));
        let error = backup(&to, &data, None).expect_err("no backup");
        assert!(error.to_string().contains("is a store"), "{error}");
    }

    #[tokio::test]
    async fn a_backup_of_another_store_is_not_written_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, other) = (dir.path().join("data"), dir.path().join("other"));
        let to = dir.path().join("to");
        let store = open(&data);
        for n in 0..400 {
            accept(&store, &format!("one-{n}")).await;
        }
        backup(&data, &to, None).expect("a backup");
        accept(&open(&other), "another").await;
        let error = backup(&other, &to, None).expect_err("of something else");
        assert!(error.to_string().contains("something else"), "{error}");
        assert!(is_whole(&to));
        // Nor one that is longer.
        let longer = open(&other);
        for n in 0..1_000 {
            accept(&longer, &format!("other-{n}")).await;
        }
        backup(&other, &to, None).expect_err("of something else");
        assert!(is_whole(&to));
        accept(&store, "more").await;
        assert_eq!(backup(&data, &to, None).expect("a backup").open, 401);
    }
}
