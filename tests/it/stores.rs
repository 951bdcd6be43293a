//! The stores, from outside: the conformance suite, and what happens to directories.

use std::sync::{Arc, Mutex};

use futures_util::future::{BoxFuture, FutureExt, ready};
use jiff::Timestamp;
use order_router::protocol::{Attempt, Change, Fingerprint, Learnt, NewIntent, Serial, Verdict};
use order_router::runtime::Runtime;
use order_router::store::{
    Committed, Committing, EmbeddedConfig, EmbeddedStore, IndexMode, IntentStore, MemoryStore,
    OpenError, StoreError, tools,
};
use order_router::testing::conformance::{self, MakeStore, Store};
use order_router::{ClientRef, EchoProfile, Item, ItemsDigest, ItemsHash, OrderId};
use tempfile::TempDir;

/// Embedded stores, each in a directory of its own.
struct Embedded {
    config: EmbeddedConfig,
    dirs: Mutex<Vec<TempDir>>,
}

impl Embedded {
    fn new(config: EmbeddedConfig) -> Self {
        Self { config, dirs: Mutex::default() }
    }

    fn open(&self, dir: &TempDir) -> Store {
        let store = EmbeddedStore::open(dir.path(), self.config.clone(), &Runtime::system());
        Arc::new(store.expect("opens"))
    }
}

impl MakeStore for Embedded {
    fn make(&self) -> BoxFuture<'_, Store> {
        let dir = tempfile::tempdir().expect("a directory");
        let store = self.open(&dir);
        self.dirs.lock().expect("not poisoned").push(dir);
        ready(store).boxed()
    }

    fn reopen(&self) -> BoxFuture<'_, Option<Store>> {
        let dirs = self.dirs.lock().expect("not poisoned");
        ready(dirs.last().map(|dir| self.open(dir))).boxed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_store_conforms() {
    conformance::test_all(&|| Arc::new(MemoryStore::new()) as Store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn embedded_store_conforms() {
    conformance::test_all(&Embedded::new(EmbeddedConfig::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn embedded_store_with_an_eager_index_and_tiny_segments_conforms() {
    let config = EmbeddedConfig {
        segment_bytes: 1024,
        feed_rows: 1,
        lag_max: 2,
        feed_after_idle: std::time::Duration::ZERO,
        gather: std::time::Duration::ZERO,
        ..EmbeddedConfig::default()
    };
    conformance::test_all(&Embedded::new(config)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn embedded_store_without_index_or_thread_conforms() {
    let config = EmbeddedConfig {
        index: IndexMode::Memory,
        committing: Committing::Inline,
        ..EmbeddedConfig::default()
    };
    conformance::test_all(&Embedded::new(config)).await;
}

#[test]
fn second_process_on_a_directory_is_told_who_has_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || EmbeddedStore::open(dir.path(), EmbeddedConfig::default(), &Runtime::system());
    let first = open().expect("opens");
    match open() {
        Err(OpenError::InUse { pid }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    drop(first);
    open().expect("opens once the first is closed");
}

/// Fifty orders in a directory, forty-five of them ended, and the store closed.
async fn filled(dir: &std::path::Path) -> Vec<(String, order_router::protocol::State)> {
    let store = Arc::new(open(dir).expect("opens"));
    let mut expected = Vec::new();
    for at in 0..50_u64 {
        let name = format!("r{at}");
        let (change, id, seq) = accept(&*store, &name);
        assert_eq!(store.commit(change).await.expect("works"), Committed::Done);
        if at % 10 > 0 {
            let verdict = Verdict::Placed {
                id: OrderId::new(format!("o{at}")).expect("an id"),
                learnt: Learnt::Answer,
                created_at: None,
            };
            let decide = Change::Decide { intent: id, attempt: seq, verdict };
            assert_eq!(store.commit(decide).await.expect("works"), Committed::Done);
        }
        let stored = store.find(ClientRef::new(&name).expect("ok")).await.expect("works");
        expected.push((name, stored.expect("there").state));
    }
    store.close().await.expect("closes");
    expected
}

fn open(dir: &std::path::Path) -> Result<EmbeddedStore, OpenError> {
    EmbeddedStore::open(dir, EmbeddedConfig::default(), &Runtime::system())
}

fn accept(store: &dyn IntentStore, name: &str) -> (Change, Serial, Serial) {
    let items = [Item::new("a", 1).expect("an item")];
    let (id, seq) = (store.next_serial(), store.next_serial());
    let intent = NewIntent {
        id,
        client_ref: ClientRef::new(name).expect("a reference"),
        lane: ItemsHash::of(&items, EchoProfile::default()),
        as_sent: ItemsDigest::as_sent(&items),
        delivered: ItemsDigest::delivered(&items, false),
        items: items.into(),
        good_until: Timestamp::MAX,
        accepted_at: Timestamp::UNIX_EPOCH,
    };
    let attempt = Attempt { seq, fingerprint: Fingerprint(1), floor: None };
    (Change::Accept { intent, attempt: Some(attempt) }, id, seq)
}

/// Every order is as it was, joins, and keeps its claim; nothing else is there.
async fn check(store: &EmbeddedStore, expected: &[(String, order_router::protocol::State)]) {
    for (name, state) in expected {
        let stored = store.find(ClientRef::new(name).expect("ok")).await.expect("works");
        assert_eq!(stored.expect("there").state, *state, "{name}");
        let joined = store.commit(accept(store, name).0).await.expect("works");
        assert!(matches!(joined, Committed::Joined(_)), "{name}: {joined:?}");
    }
    let ids = (0..50).map(|at| OrderId::new(format!("o{at}")).expect("an id")).collect();
    let claims = store.claims(ids).await.expect("works");
    assert_eq!(claims.iter().flatten().count(), 45);
    assert_eq!((store.stats().open, store.stats().ended), (5, 45));
}

/// What may be done to the index, the journal being whole: it must end in a right store.
async fn survives(what: &str, damage: impl Fn(&std::path::Path)) {
    let dir = tempfile::tempdir().expect("a directory");
    let expected = filled(dir.path()).await;
    damage(dir.path());
    let store = open(dir.path()).unwrap_or_else(|e| panic!("{what}: {e}"));
    check(&store, &expected).await;
    drop(store);
    let again = open(dir.path()).unwrap_or_else(|e| panic!("{what}, once more: {e}"));
    check(&again, &expected).await;
}

fn index_file(dir: &std::path::Path) -> std::path::PathBuf {
    dir.join("index").join("db")
}

fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("creates");
    for entry in std::fs::read_dir(from).expect("reads") {
        let entry = entry.expect("reads");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("reads").is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

#[tokio::test]
async fn index_that_agrees_is_not_rebuilt() {
    let dir = tempfile::tempdir().expect("a directory");
    let expected = filled(dir.path()).await;
    // A rebuild exchanges the directory.
    let mark = dir.path().join("index").join("mark");
    std::fs::write(&mark, []).expect("writes");
    for _ in 0..2 {
        let store = open(dir.path()).expect("opens");
        check(&store, &expected).await;
        // A serial that is handed out and not used, then a question: no change, no frame.
        store.next_serial();
        store.stats();
        drop(store);
        assert!(mark.exists());
    }
    std::fs::write(dir.path().join("index.damaged"), []).expect("writes");
    check(&open(dir.path()).expect("opens"), &expected).await;
    assert!(!mark.exists() && !dir.path().join("index.damaged").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_answered_before_a_close_in_the_middle_is_there_afterwards() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = EmbeddedConfig { feed_rows: 16, lag_max: 64, ..EmbeddedConfig::default() };
    let store = EmbeddedStore::open(dir.path(), config, &Runtime::system()).expect("opens");
    let store = Arc::new(store);
    let writers: Vec<_> = (0..32)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut answered = Vec::new();
                for at in 0.. {
                    let name = format!("w{writer}-{at}");
                    let (change, id, seq) = accept(&*store, &name);
                    match store.commit(change).await {
                        Ok(committed) => assert_eq!(committed, Committed::Done),
                        Err(StoreError::Closed) => return answered,
                        Err(other) => panic!("{other:?}"),
                    }
                    let id_text = OrderId::new(&name).expect("an id");
                    let verdict =
                        Verdict::Placed { id: id_text, learnt: Learnt::Answer, created_at: None };
                    let decided =
                        store.commit(Change::Decide { intent: id, attempt: seq, verdict }).await;
                    answered.push((name, decided.is_ok()));
                }
                unreachable!("only a close ends a writer")
            })
        })
        .collect();
    while store.stats().ended < 3000 {
        tokio::task::yield_now().await;
    }
    store.close().await.expect("closes");
    let mut told = Vec::new();
    for writer in writers {
        told.extend(writer.await.expect("no writer panicked"));
    }
    drop(store);
    let store = open(dir.path()).expect("opens");
    assert!(told.len() >= 3000);
    for (name, ended) in told {
        let stored = store.find(ClientRef::new(&name).expect("ok")).await.expect("works");
        let state = stored.expect("answered, so there").state;
        assert!(state.is_end() || !ended, "{name}: {state:?}");
    }
    tools::verify(dir.path(), None).expect("whole");
}

#[tokio::test]
async fn index_that_is_gone_short_or_unopenable_is_rebuilt() {
    survives("deleted", |dir| {
        std::fs::remove_dir_all(dir.join("index")).expect("removes");
    })
    .await;
    survives("emptied", |dir| {
        std::fs::write(index_file(dir), []).expect("writes");
    })
    .await;
    survives("no configuration", |dir| {
        std::fs::write(dir.join("index").join("conf"), b"nonsense").expect("writes");
    })
    .await;
    survives("nonsense", |dir| {
        std::fs::write(index_file(dir), [0xa5; 100_000]).expect("writes");
    })
    .await;
    survives("an interrupted rebuild", |dir| {
        std::fs::rename(dir.join("index"), dir.join("index.new")).expect("renames");
    })
    .await;
    for eighth in 1..8 {
        survives("cut", |dir| {
            let file = std::fs::File::options().write(true).open(index_file(dir)).expect("opens");
            let used = used_bytes(&index_file(dir));
            file.set_len(used * eighth / 8).expect("cuts");
        })
        .await;
    }
}

/// The index as the store opens it.
///
/// A thread of sled, or a process that another test is just starting, may have the lock of an index
/// that was dropped for some moments more. sled fails on it at once.
fn open_sled(dir: &std::path::Path) -> sled::Db {
    let file = std::fs::File::open(index_file(dir)).expect("opens");
    file.lock().and_then(|()| file.unlock()).expect("locks");
    let config = sled::Config::new().path(dir.join("index")).segment_size(4 << 20);
    config.open().expect("opens")
}

/// Up to where a file is not zeros.
fn used_bytes(path: &std::path::Path) -> u64 {
    let bytes = std::fs::read(path).expect("reads");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

/// A process that is being started has every descriptor of its parent until it runs its program,
/// and with them the locks.
#[test]
fn store_opens_again_while_processes_are_started() {
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().expect("a directory");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                // Its own group makes the time between fork and program longer.
                let child = std::process::Command::new("true").process_group(0).status();
                assert!(child.expect("runs").success());
            }
        });
        let opened: Vec<_> = (0..100).map(|_| open(dir.path()).map(drop)).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for (round, result) in opened.into_iter().enumerate() {
            result.unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
    });
}

#[tokio::test]
async fn index_with_a_flipped_bit_is_rebuilt_or_right() {
    let dir = tempfile::tempdir().expect("a directory");
    let expected = filled(dir.path()).await;
    let used = used_bytes(&index_file(dir.path()));
    for trial in 0..40 {
        let copy = tempfile::tempdir().expect("a directory");
        copy_all(dir.path(), copy.path());
        let mut bytes = std::fs::read(index_file(copy.path())).expect("reads");
        let at = usize::try_from(used * trial / 40).expect("small");
        bytes[at] ^= 1 << (trial % 8);
        std::fs::write(index_file(copy.path()), bytes).expect("writes");
        let store = open(copy.path()).unwrap_or_else(|e| panic!("byte {at}: {e}"));
        check(&store, &expected).await;
    }
}

#[tokio::test]
async fn ended_rows_that_the_index_lost_are_missed_and_rebuilt() {
    let dir = tempfile::tempdir().expect("a directory");
    let expected = filled(dir.path()).await;
    // Damage that no checksum shows: rows are gone, everything else agrees.
    let db = open_sled(dir.path());
    assert!(db.remove(b"rr7").expect("removes").is_some());
    db.flush().expect("flushes");
    drop(db);
    for change in ["rr7", "oo8"] {
        let store = open(dir.path()).expect("opens: nothing shows that rows are gone");
        let answer = match change {
            "rr7" => store.commit(accept(&store, "r7").0).await,
            _ => {
                let (intent, id, seq) = accept(&store, "thief");
                assert_eq!(store.commit(intent).await.expect("works"), Committed::Done);
                let id_taken = OrderId::new("o8").expect("an id");
                let verdict =
                    Verdict::Placed { id: id_taken, learnt: Learnt::List, created_at: None };
                store.commit(Change::Decide { intent: id, attempt: seq, verdict }).await
            }
        };
        assert!(matches!(answer, Err(StoreError::Failed(_))), "{change}: {answer:?}");
        drop(store);
        if change == "rr7" {
            // The rebuilt index has both again: take the other one out once more.
            check(&open(dir.path()).expect("opens"), &expected).await;
            let db = open_sled(dir.path());
            assert!(db.remove(b"oo8").expect("removes").is_some());
            db.flush().expect("flushes");
        }
    }
    let store = open(dir.path()).expect("opens");
    let id = OrderId::new("o8").expect("an id");
    assert!(store.claims(vec![id]).await.expect("works")[0].is_some());
    for (name, state) in &expected {
        let stored = store.find(ClientRef::new(name).expect("ok")).await.expect("works");
        assert_eq!(stored.expect("there").state, *state);
    }
}

#[tokio::test]
async fn index_rolled_back_to_an_older_copy_is_brought_up_to_date() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path()).expect("opens");
    let (change, ..) = accept(&store, "first");
    store.commit(change).await.expect("works");
    drop(store);
    let old = tempfile::tempdir().expect("a directory");
    copy_all(&dir.path().join("index"), old.path());
    let expected = filled(dir.path()).await;
    std::fs::remove_dir_all(dir.path().join("index")).expect("removes");
    copy_all(old.path(), &dir.path().join("index"));
    let store = open(dir.path()).expect("opens");
    for (name, state) in &expected {
        let stored = store.find(ClientRef::new(name).expect("ok")).await.expect("works");
        assert_eq!(stored.expect("there").state, *state);
    }
    assert_eq!((store.stats().open, store.stats().ended), (6, 45));
}

#[tokio::test]
async fn journal_rolled_back_behind_its_index_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path()).expect("opens");
    store.commit(accept(&store, "first").0).await.expect("works");
    drop(store);
    let old = tempfile::tempdir().expect("a directory");
    copy_all(&dir.path().join("journal"), old.path());
    filled(dir.path()).await;
    for journal in [Some(old.path()), None] {
        std::fs::remove_dir_all(dir.path().join("journal")).expect("removes");
        match journal {
            Some(old) => copy_all(old, &dir.path().join("journal")),
            // With or without the directory and an index: the format file says that it was one.
            None => std::fs::remove_dir_all(dir.path().join("index")).expect("removes"),
        }
        match open(dir.path()) {
            Err(OpenError::Corrupt { what, next }) => {
                let says = ["the index knows of frame", "the journal is gone"];
                assert!(what.contains(says[usize::from(journal.is_none())]), "{what}");
                assert!(next.contains("nothing is sent"), "{next}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn tools_read_a_store_that_is_in_use() {
    let dir = tempfile::tempdir().expect("a directory");
    let expected = filled(dir.path()).await;
    let store = open(dir.path()).expect("opens");
    let snapshot = tools::Snapshot::read(dir.path()).expect("reads");
    assert_eq!(snapshot.intents.len(), 50);
    assert_eq!(snapshot.rehydration.intents.len(), 5);
    for (name, state) in &expected {
        let stored = snapshot.find(&ClientRef::new(name).expect("ok")).expect("there");
        assert_eq!(stored.state, *state);
    }
    let report = tools::verify(dir.path(), None).expect("whole");
    assert_eq!((report.open, report.ended, report.claims), (5, 45, 45));
    assert_eq!((report.journal.changes, report.unguarded.len()), (95, 0));
    let mut changes = 0;
    let end = tools::read_journal(dir.path(), &mut |at, _| {
        changes += 1;
        assert_eq!(at.number, changes);
    });
    assert_eq!(end.expect("whole").changes, changes);
    let stats = tools::stats(dir.path()).expect("reads");
    assert_eq!((stats.open, stats.ended, stats.changes), (5, 45, 95));
    assert_eq!(stats.index_lag, Some(0));
    let config = EmbeddedConfig::default();
    assert!(matches!(tools::rebuild(dir.path(), &config), Err(OpenError::InUse { .. })));
    drop(store);
    let rebuilt = tools::rebuild(dir.path(), &config).expect("rebuilds");
    assert_eq!((rebuilt.open, rebuilt.ended, rebuilt.claims), (5, 45, 45));
    check(&open(dir.path()).expect("opens"), &expected).await;
}

#[tokio::test]
async fn rebuilt_index_keeps_items_only_where_the_store_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let expected = filled(dir.path()).await;
    for keep_items in [false, true] {
        let config = EmbeddedConfig { keep_items, ..EmbeddedConfig::default() };
        tools::rebuild(dir.path(), &config).expect("rebuilds");
        let store = EmbeddedStore::open(dir.path(), config, &Runtime::system()).expect("opens");
        check(&store, &expected).await;
        for (name, state) in &expected {
            let stored = store.find(ClientRef::new(name).expect("ok")).await.expect("works");
            let items = stored.expect("there").items.len();
            assert_eq!(items, usize::from(keep_items || !state.is_end()), "{name}");
        }
    }
}

#[tokio::test]
async fn tools_name_a_newer_layout() {
    let dir = tempfile::tempdir().expect("a directory");
    filled(dir.path()).await;
    std::fs::write(dir.path().join("format"), "order-router store 3\n").expect("writes");
    let newer = |error| matches!(error, OpenError::NewerVersion { found: 3, known: 2 });
    assert!(tools::verify(dir.path(), None).is_err_and(newer));
    assert!(tools::Snapshot::read(dir.path()).is_err_and(newer));
    assert!(tools::stats(dir.path()).is_err_and(newer));
}

#[test]
fn directory_and_files_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().expect("a directory");
    let dir = parent.path().join("data");
    drop(open(&dir).expect("opens"));
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    };
    for path in [dir.clone(), dir.join("journal"), dir.join("index")] {
        assert_eq!(mode(&path), 0o700, "{}", path.display());
    }
    for name in ["lock", "format", "journal/0000000000000001.seg", "index/db"] {
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    }
}

#[test]
fn directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "in the way").expect("writes");
    let error = open(&file.join("data")).expect_err("a file is in the way");
    assert!(error.to_string().contains("data"), "{error}");
}
