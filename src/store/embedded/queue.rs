//! What callers and the committer share: the queue of requests, and figures.

use std::sync::atomic::{AtomicU64, Ordering};

use super::committer::Request;
use super::requests::Requests;
use crate::store::{StoreError, StoreStats};

/// What callers and the committer share.
pub(crate) struct Shared {
    pub queue: Requests<Request, StoreError>,
    pub next_serial: AtomicU64,
    pub figures: Figures,
}

/// Figures, as of the last batch.
#[derive(Default)]
pub(crate) struct Figures {
    pub open: AtomicU64,
    pub ended: AtomicU64,
    pub bytes: AtomicU64,
    pub lag: AtomicU64,
    pub syncs: AtomicU64,
    pub changes: AtomicU64,
}

impl Shared {
    /// Why requests are refused.
    pub(super) fn why_closed(&self) -> StoreError {
        self.queue.why_closed().unwrap_or(StoreError::Closed)
    }

    pub(super) fn stats(&self) -> StoreStats {
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        StoreStats {
            open: read(&self.figures.open),
            ended: read(&self.figures.ended),
            bytes: read(&self.figures.bytes),
            index_lag: read(&self.figures.lag),
            syncs: read(&self.figures.syncs),
            changes: read(&self.figures.changes),
        }
    }
}
