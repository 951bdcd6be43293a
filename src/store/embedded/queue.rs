//! What callers and the committer share: the queue of requests, and figures.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::committer::Request;
use crate::store::{StoreError, StoreStats};

/// Requests on their way to the committer.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
}

struct Inner {
    requests: Vec<Request>,
    /// At how many requests the committer wants to be woken; it sleeps only while this is not
    /// [`NEVER`].
    wake_at: usize,
    closed: Option<StoreError>,
}

const NEVER: usize = usize::MAX;

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner { requests: Vec::new(), wake_at: NEVER, closed: None }),
            wake: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a request over; `false` if the store is closed.
    pub(super) fn push(&self, request: Request) -> bool {
        let mut inner = self.lock();
        if inner.closed.is_some() {
            return false;
        }
        inner.requests.push(request);
        if inner.requests.len() >= inner.wake_at {
            inner.wake_at = NEVER;
            drop(inner);
            self.wake.notify_one();
        }
        true
    }

    /// Takes everything that is there, in exchange for an empty vector.
    pub(super) fn take(&self, into: &mut Vec<Request>) {
        std::mem::swap(&mut self.lock().requests, into);
    }

    /// Waits until there are `wanted` requests or the time is up; without a time, for ever.
    /// Whether there is any.
    pub(super) fn wait(&self, wanted: usize, at_most: Option<Duration>) -> bool {
        let mut inner = self.lock();
        if inner.requests.len() < wanted {
            inner.wake_at = wanted;
            inner = match at_most {
                Some(span) => {
                    let waiting = self.wake.wait_timeout_while(inner, span, |inner| {
                        inner.requests.len() < wanted && inner.wake_at != NEVER
                    });
                    waiting.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .wake
                    .wait_while(inner, |inner| inner.requests.len() < wanted)
                    .unwrap_or_else(PoisonError::into_inner),
            };
            inner.wake_at = NEVER;
        }
        !inner.requests.is_empty()
    }

    /// Refuses everything from now on and gives back what nobody will answer.
    pub(super) fn close(&self, why: StoreError) -> Vec<Request> {
        let mut inner = self.lock();
        inner.closed.get_or_insert(why);
        std::mem::take(&mut inner.requests)
    }

    /// Why requests are refused.
    pub(super) fn why_closed(&self) -> StoreError {
        self.lock().closed.clone().unwrap_or(StoreError::Closed)
    }
}

/// What callers and the committer share.
pub(crate) struct Shared {
    pub queue: Queue,
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
