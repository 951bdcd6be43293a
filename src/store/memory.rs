//! A store in memory, for hosts' tests: it forgets everything with the process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt, ready};

use super::book::{Book, NoBase};
use super::record::{RECORD_BYTES_MAX, encode_change};
use super::{
    Bookmark, Claim, Committed, Durability, IntentStore, Known, Page, Rehydration, StoreError,
    StoreStats, Stored,
};
use crate::order::{ClientRef, OrderId};
use crate::protocol::{Change, Serial};

/// Intents in a page of reading through.
const PAGE: usize = 1024;

/// An [`IntentStore`] that keeps everything in memory, for tests: nothing survives the process, so
/// an order in doubt may be bought again after a restart.
///
/// It decides by the same code as the embedded store and refuses the same records.
pub struct MemoryStore {
    book: Mutex<Book>,
    next: AtomicU64,
    closed: AtomicBool,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            book: Mutex::new(Book::new(false)),
            next: AtomicU64::new(1),
            closed: AtomicBool::new(false),
        }
    }

    /// Leaves out a clause of the rules.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn leaving_out(left_out: crate::protocol::LeftOut) -> Self {
        Self { book: Mutex::new(Book::new(false).leaving_out(left_out)), ..Self::new() }
    }

    fn open(&self) -> Result<MutexGuard<'_, Book>, StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        Ok(self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn apply(&self, change: Change) -> Result<Committed, StoreError> {
        let mut book = self.open()?;
        if let Some(refused) = book.guard(&NoBase, &change)? {
            return Ok(refused);
        }
        let mut record = Vec::new();
        encode_change(&change, &mut record);
        if record.len() > RECORD_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes: record.len(), bytes_max: RECORD_BYTES_MAX });
        }
        book.handed_out(Serial(self.next.load(Ordering::Acquire).saturating_sub(1)));
        book.apply(change).map_err(|_| StoreError::Failed("a change follows on nothing".into()))?;
        // Serials that were chosen elsewhere are not handed out again.
        self.next.fetch_max(book.standing().highest.0.saturating_add(1), Ordering::AcqRel);
        Ok(Committed::Done)
    }
}

impl IntentStore for MemoryStore {
    fn next_serial(&self) -> Serial {
        Serial(self.next.fetch_add(1, Ordering::AcqRel))
    }

    fn commit(&self, change: Change) -> BoxFuture<'static, Result<Committed, StoreError>> {
        ready(self.apply(change)).boxed()
    }

    fn find(
        &self,
        client_ref: ClientRef,
    ) -> BoxFuture<'static, Result<Option<Stored>, StoreError>> {
        ready(self.open().and_then(|book| book.find(&NoBase, &client_ref))).boxed()
    }

    fn claims(
        &self,
        ids: Vec<OrderId>,
    ) -> BoxFuture<'static, Result<Vec<Option<Claim>>, StoreError>> {
        let claims = self.open().and_then(|book| {
            ids.iter().map(|id| Ok(book.claim(&NoBase, id)?.map(|row| row.claim()))).collect()
        });
        ready(claims).boxed()
    }

    fn rehydrate(&self) -> BoxFuture<'static, Result<Rehydration, StoreError>> {
        ready(self.open().map(|book| book.rehydrate())).boxed()
    }

    fn known_since(&self, since: Serial) -> BoxFuture<'static, Result<Vec<Known>, StoreError>> {
        ready(self.open().map(|book| Book::known(&book.witnesses_since(since).0))).boxed()
    }

    fn read_through(&self, from: Bookmark) -> BoxFuture<'static, Result<Page, StoreError>> {
        let after = <[u8; 8]>::try_from(from.parts().1).ok();
        let after = after.map(|bytes| Serial(u64::from_be_bytes(bytes)));
        let page = self.open().map(|book| {
            let (intents, more) = book.some_after(after, PAGE);
            let last = intents.last().filter(|_| more).map(|last| last.stored.id.0.to_be_bytes());
            Page { intents, next: last.map(|last| Bookmark::new(0, &last)) }
        });
        ready(page).boxed()
    }

    fn stats(&self) -> StoreStats {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = book.standing();
        StoreStats {
            open: standing.totals.open,
            ended: standing.totals.intents() - standing.totals.open,
            changes: standing.changes,
            ..StoreStats::default()
        }
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.closed.store(true, Ordering::Release);
        ready(Ok(())).boxed()
    }
}
