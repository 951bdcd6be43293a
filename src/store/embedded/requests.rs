//! Requests on their way to the one who commits, by themselves: `tests/loom.rs` includes this file
//! and runs it under every interleaving.

use std::time::Duration;

use super::sync::{Condvar, Mutex, MutexGuard, PoisonError, wait_while};

/// Requests `R` from any number of callers to one committer; closed for a reason `E`.
pub(crate) struct Requests<R, E> {
    inner: Mutex<Inner<R, E>>,
    wake: Condvar,
}

struct Inner<R, E> {
    requests: Vec<R>,
    /// At how many requests the committer wants to be woken; it sleeps only while this is not
    /// [`NEVER`].
    wake_at: usize,
    closed: Option<E>,
}

const NEVER: usize = usize::MAX;

impl<R, E: Clone> Requests<R, E> {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner { requests: Vec::new(), wake_at: NEVER, closed: None }),
            wake: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<R, E>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a request over; `false` if the store is closed.
    pub(super) fn push(&self, request: R) -> bool {
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
    pub(super) fn take(&self, into: &mut Vec<R>) {
        std::mem::swap(&mut self.lock().requests, into);
    }

    /// Whether nothing is there.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().requests.is_empty()
    }

    /// Waits until there are `wanted` requests or the time is up; without a time, for ever.
    /// Whether there is any.
    pub(super) fn wait(&self, wanted: usize, at_most: Option<Duration>) -> bool {
        let mut inner = self.lock();
        if inner.requests.len() < wanted {
            inner.wake_at = wanted;
            inner = wait_while(&self.wake, inner, at_most, |inner| {
                inner.requests.len() < wanted && inner.wake_at != NEVER
            });
            inner.wake_at = NEVER;
        }
        !inner.requests.is_empty()
    }

    /// Refuses everything from now on and gives back what nobody will answer.
    pub(super) fn close(&self, why: E) -> Vec<R> {
        let mut inner = self.lock();
        inner.closed.get_or_insert(why);
        std::mem::take(&mut inner.requests)
    }

    /// Why requests are refused.
    pub(super) fn why_closed(&self) -> Option<E> {
        self.lock().closed.clone()
    }
}
