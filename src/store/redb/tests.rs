//! What becomes of a lease: over a backend that waits as it is told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::store::Bookmark;
use crate::store::lease::{Asked, LeaseTerms};

/// A file that is read slowly, and counts how often its lease was prolonged.
#[derive(Clone)]
struct Slow {
    file: File,
    load: Duration,
    renewed: Arc<AtomicUsize>,
}

impl Backend for Slow {
    const ROWS_MAX: usize = 8;

    async fn write(&self, batch: &Batch) -> Result<(), Fault> {
        self.file.write(batch).await
    }

    async fn is_ours(&self, _: u64) -> Result<bool, Fault> {
        Ok(true)
    }

    async fn load(&self) -> Result<Kept, Fault> {
        tokio::time::sleep(self.load).await;
        self.file.load().await
    }

    async fn rows(&self, refs: &[ClientRef]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        self.file.rows(refs).await
    }

    async fn claims(&self, ids: &[OrderId]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        self.file.claims(ids).await
    }

    async fn claims_since(&self, since: Serial) -> Result<Vec<SealedClaim>, Fault> {
        self.file.claims_since(since).await
    }

    async fn some(&self, from: &Bookmark) -> Result<(Vec<Vec<u8>>, Option<Bookmark>), Fault> {
        self.file.some(from).await
    }

    async fn renew(&self, _: &Lease) -> Result<bool, Fault> {
        self.renewed.fetch_add(1, Ordering::SeqCst);
        Ok(true)
    }

    async fn release(&self, _: u64) {}

    fn place(&self) -> String {
        self.file.place()
    }
}

fn slow(dir: &Path, load: Duration) -> Slow {
    let path = dir.join("store.redb");
    let database = Database::create(&path).expect("a file");
    let write = database.begin_write().expect("writes");
    write.open_table(BOOKS).expect("a table");
    write.open_table(ROWS).expect("a table");
    write.open_table(ACTIVE).expect("a table");
    write.commit().expect("commits");
    let file = File { database: Arc::new(database), place: path.display().to_string() };
    Slow { file, load, renewed: Arc::default() }
}

fn lease(length: Duration) -> Arc<Lease> {
    let terms = LeaseTerms { length, margin: length / 10, pause_max: Duration::ZERO };
    Lease::taken(terms, 1, Asked::now())
}

/// The next holder has it at once, while orders of this one may still be at their gates.
#[tokio::test]
async fn lease_that_is_given_back_opens_no_gate_any_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let lease = lease(Duration::from_secs(60));
    let store = LedgerStore::open(
        slow(dir.path(), Duration::ZERO),
        Some(lease.clone()),
        Durability::Synced,
    );
    let store = store.await.expect("opens");
    assert!(lease.may_send());
    store.close().await.expect("closes");
    assert!(!lease.may_send());
}

/// A start that reads for longer than the lease lasts does not lose it on the way.
#[tokio::test]
async fn lease_is_prolonged_while_the_store_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let (length, load) = (Duration::from_millis(300), Duration::from_millis(700));
    let (lease, backend) = (lease(length), slow(dir.path(), load));
    let store = LedgerStore::open(backend.clone(), Some(lease.clone()), Durability::Synced);
    let store = store.await.expect("opens");
    assert!(backend.renewed.load(Ordering::SeqCst) >= 3);
    assert!(lease.may_send(), "it is still this router's");
    store.close().await.expect("closes");
}
