//! The stores, from outside: the conformance suite, and what happens to directories.

use std::sync::{Arc, Mutex};

use order_router::runtime::Runtime;
use order_router::store::{
    Committing, EmbeddedConfig, EmbeddedStore, IndexMode, MemoryStore, OpenError,
};
use order_router::testing::conformance::{self, MakeStore, Store};
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
    fn make(&self) -> Store {
        let dir = tempfile::tempdir().expect("a directory");
        let store = self.open(&dir);
        self.dirs.lock().expect("not poisoned").push(dir);
        store
    }

    fn reopen(&self) -> Option<Store> {
        Some(self.open(self.dirs.lock().expect("not poisoned").last()?))
    }
}

#[tokio::test]
async fn memory_store_conforms() {
    conformance::test_all(&|| Arc::new(MemoryStore::new()) as Store).await;
}

#[tokio::test]
async fn embedded_store_conforms() {
    conformance::test_all(&Embedded::new(EmbeddedConfig::default())).await;
}

#[tokio::test]
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

#[tokio::test]
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
