//! The store in a redb file.

use std::sync::{Arc, Mutex};

use order_router::store::redb;
use order_router::testing::conformance::{self, MakeStore, Store};
use tempfile::TempDir;

/// Stores in files of their own.
#[derive(Default)]
struct Files(Mutex<Vec<TempDir>>);

fn open(dir: &TempDir) -> Store {
    // The suite's maker is not async.
    let path = dir.path().join("store.redb");
    let opening = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(redb::open(&path)).expect("opens")
    });
    opening.join().expect("opens")
}

impl MakeStore for Files {
    fn make(&self) -> Store {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir);
        self.0.lock().expect("not poisoned").push(dir);
        store
    }

    fn reopen(&self) -> Option<Store> {
        Some(open(self.0.lock().expect("not poisoned").last()?))
    }
}

#[tokio::test]
async fn redb_store_conforms() {
    conformance::test_all(&Files::default()).await;
}

#[tokio::test]
async fn second_process_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store.redb");
    let store: Arc<_> = redb::open(&path).await.expect("opens");
    let second = redb::open(&path).await.map(|_| ());
    assert!(matches!(second, Err(redb::RedbError::InUse { .. })), "{second:?}");
    store.close().await.expect("closes");
}

#[tokio::test]
async fn file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store.redb");
    std::fs::write(&path, vec![7; 5000]).expect("written");
    let opened = redb::open(&path).await.map(|_| ());
    assert!(matches!(opened, Err(redb::RedbError::Unusable { .. })), "{opened:?}");
}
