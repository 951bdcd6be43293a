//! The store in a redb file.

use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::{BoxFuture, FutureExt};
use order_router::store::redb;
use order_router::testing::conformance::{self, MakeStore, Store};
use tempfile::TempDir;

/// Stores in files of their own; where the last one is.
struct Files(Mutex<TempDir>);

impl Files {
    fn open(&self) -> BoxFuture<'_, Store> {
        let path = self.last().path().join("store.redb");
        async move { redb::open(&path).await.expect("opens") as Store }.boxed()
    }

    fn last(&self) -> MutexGuard<'_, TempDir> {
        self.0.lock().expect("not poisoned")
    }
}

impl MakeStore for Files {
    fn make(&self) -> BoxFuture<'_, Store> {
        *self.last() = tempfile::tempdir().expect("a directory");
        self.open()
    }

    fn reopen(&self) -> BoxFuture<'_, Option<Store>> {
        self.open().map(Some).boxed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb_store_conforms() {
    let first = tempfile::tempdir().expect("a directory");
    conformance::test_all(&Files(Mutex::new(first))).await;
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
