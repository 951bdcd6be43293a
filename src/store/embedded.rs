//! The embedded store: a journal that is the truth, sled above it as the index.
//!
//! ```text
//! callers ──requests──▶ queue ──batch──▶ committer: guard, append, sync, apply, answer
//!                                            │  rows that changed, behind the hot path
//!                                            ▼
//!                                         feeder ──one atomic batch──▶ sled
//! ```
//!
//! The committer is one thread and owns the [book](super::book): everything active, and everything
//! since the index's watermark. Questions go through the same queue as changes, so that an answer
//! never shows what is not durable.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::oneshot;

use super::{
    Bookmark, Claim, Committed, Durability, IntentStore, Known, OpenError, Page, RECORD_BYTES_MAX,
    Rehydration, StoreError, StoreStats, Stored,
};
use crate::order::{ClientRef, OrderId};
use crate::protocol::{Change, LeftOut, Serial};
use crate::runtime::Runtime;

mod answers;
mod committer;
mod compact;
mod drive;
mod feeder;
mod open;
mod places;
mod queue;
mod reading;
mod requests;
mod serve;
mod sync;
mod telling;
mod turns;

use committer::Request;
pub(crate) use compact::compact;
pub use compact::{CompactError, Compacted};
use drive::Drive;
pub(crate) use open::rebuild_index;
#[cfg(test)]
pub(crate) use places::FORMAT_VERSION;
pub(crate) use places::Places;
use queue::Shared;

/// Where the index is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IndexMode {
    /// In sled, beside the journal. The default.
    #[default]
    Sled,
    /// In memory, read from the whole journal at every start. For tests and simulations: it grows
    /// with every order that was ever accepted.
    Memory,
}

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Committing {
    /// A thread of the store's own. The default.
    #[default]
    Thread,
    /// Whoever hands over a change, at once, one change per sync. For simulations, which have no
    /// threads: deterministic, and slow on a real disk.
    Inline,
}

/// How far something long has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Journal bytes read so far.
    pub bytes: u64,
    /// Journal bytes in all.
    pub bytes_total: u64,
    /// Changes read so far.
    pub changes: u64,
}

/// Is told how far something long has come, a few times a second at most.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// How an embedded store keeps its data. Every field has a default.
#[derive(Clone)]
pub struct EmbeddedConfig {
    /// Size of a journal segment in bytes. Default: 64 MiB. Smaller ones mean more files; a segment
    /// takes at least one frame, whatever its size.
    pub segment_bytes: u64,
    /// Largest record in bytes. Default: [`RECORD_BYTES_MAX`], which holds the largest order.
    pub record_bytes_max: usize,
    /// New orders are refused while less than this is free on the disk, in bytes. Default: 64 MiB.
    /// It is the room in which the outcomes of all open orders are still written.
    pub reserve_bytes: u64,
    /// How many changes the index may be behind. Default: 200,000. It is fed when nothing else
    /// happens, or from half of this on; at this, changes wait for it. More lag costs memory (about
    /// half a kilobyte each) and time at the next start (a second per million).
    pub lag_max: u64,
    /// How many intents are fed to the index at once. Default: 4,096.
    pub feed_rows: usize,
    /// After how long without a request the index is fed. Default: 20 ms.
    pub feed_after_idle: Duration,
    /// How long the committer waits for company when the last batch had eight changes or more.
    /// Default: 200 µs.
    pub gather: Duration,
    /// The index keeps the items of ended orders. Default: yes. Without, it is smaller, and a join
    /// of an ended order shows no items; the journal has them all the same.
    pub keep_items: bool,
    /// Where the index is kept.
    pub index: IndexMode,
    /// Who writes.
    pub committing: Committing,
    /// Is told how a rebuild comes along. Default: nobody; it is logged either way.
    pub on_progress: Option<OnProgress>,
    /// The clause that a test leaves out. Default: none.
    pub left_out: LeftOut,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            record_bytes_max: RECORD_BYTES_MAX,
            reserve_bytes: 64 << 20,
            lag_max: 200_000,
            feed_rows: 4096,
            feed_after_idle: Duration::from_millis(20),
            gather: Duration::from_micros(200),
            keep_items: true,
            index: IndexMode::Sled,
            committing: Committing::Thread,
            on_progress: None,
            left_out: LeftOut::default(),
        }
    }
}

impl std::fmt::Debug for EmbeddedConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedConfig")
            .field("segment_bytes", &self.segment_bytes)
            .field("record_bytes_max", &self.record_bytes_max)
            .field("reserve_bytes", &self.reserve_bytes)
            .field("lag_max", &self.lag_max)
            .field("feed_rows", &self.feed_rows)
            .field("feed_after_idle", &self.feed_after_idle)
            .field("gather", &self.gather)
            .field("keep_items", &self.keep_items)
            .field("index", &self.index)
            .field("committing", &self.committing)
            .finish_non_exhaustive()
    }
}

/// The [`IntentStore`] of one process in one directory. Every change that it answers survives a
/// power cut.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    drive: Drive,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens or creates the store in a directory, for this process alone.
    ///
    /// Blocks: it reads the journal behind the index's watermark, and rebuilds the index from the
    /// whole journal if it is missing, damaged or does not agree with it.
    ///
    /// # Errors
    /// See [`OpenError`]; in every case nothing may be sent.
    pub fn open(
        dir: impl AsRef<Path>,
        config: EmbeddedConfig,
        runtime: &Runtime,
    ) -> Result<Self, OpenError> {
        let committing = config.committing;
        let opened = open::open(dir.as_ref(), config, runtime)?;
        let shared = opened.shared.clone();
        let drive = Drive::start(committing, opened)?;
        Ok(Self { shared, drive })
    }

    fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        if !self.shared.queue.push(request(answer)) {
            return std::future::ready(Err(self.shared.why_closed())).boxed();
        }
        self.drive.run();
        let shared = self.shared.clone();
        async move { answered.await.unwrap_or_else(|_| Err(shared.why_closed())) }.boxed()
    }
}

impl IntentStore for EmbeddedStore {
    fn next_serial(&self) -> Serial {
        Serial(self.shared.next_serial.fetch_add(1, Ordering::AcqRel))
    }

    fn commit(&self, change: Change) -> BoxFuture<'static, Result<Committed, StoreError>> {
        self.ask(|answer| Request::Commit(change, answer))
    }

    fn find(
        &self,
        client_ref: ClientRef,
    ) -> BoxFuture<'static, Result<Option<Stored>, StoreError>> {
        self.ask(|answer| Request::Find(client_ref, answer))
    }

    fn claims(
        &self,
        ids: Vec<OrderId>,
    ) -> BoxFuture<'static, Result<Vec<Option<Claim>>, StoreError>> {
        self.ask(|answer| Request::Claims(ids, answer))
    }

    fn rehydrate(&self) -> BoxFuture<'static, Result<Rehydration, StoreError>> {
        self.ask(Request::Rehydrate)
    }

    fn known_since(&self, since: Serial) -> BoxFuture<'static, Result<Vec<Known>, StoreError>> {
        self.ask(|answer| Request::KnownSince(since, answer))
    }

    fn read_through(&self, from: Bookmark) -> BoxFuture<'static, Result<Page, StoreError>> {
        self.ask(|answer| Request::Read(from, answer))
    }

    fn stats(&self) -> StoreStats {
        self.shared.stats()
    }

    fn durability(&self) -> Durability {
        Durability::Synced
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.ask(Request::Close)
    }
}

impl Drop for EmbeddedStore {
    /// Writes what is under way and closes. Blocks for as long as that takes: some milliseconds.
    fn drop(&mut self) {
        let (answer, _) = oneshot::channel();
        if self.shared.queue.push(Request::Close(answer)) {
            self.drive.run();
        }
        self.drive.join();
    }
}

#[cfg(test)]
mod tests;
