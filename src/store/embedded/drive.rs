//! Who runs the committer: a thread of its own, or whoever hands something over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;

use super::Committing;
use super::committer::{Committer, Request, refuse};
use super::open::Opened;
use super::queue::Shared;
use crate::runtime::disk::Lock;
use crate::store::{OpenError, StoreError};

/// From how many changes in the last batch on it is worth waiting for company.
const GATHER_FROM: usize = 8;

/// The committer and the lock of its directory, which outlives everything that writes there.
pub(super) struct Running {
    committer: Committer,
    _lock: Lock,
}

/// See the module.
pub(super) enum Drive {
    Thread(Mutex<Option<JoinHandle<()>>>),
    Inline(Arc<Shared>, Mutex<Option<Box<Running>>>),
}

impl Drive {
    pub(super) fn start(committing: Committing, opened: Opened) -> Result<Self, OpenError> {
        let running = Box::new(Running { committer: opened.committer, _lock: opened.lock });
        if committing == Committing::Inline {
            return Ok(Self::Inline(opened.shared, Mutex::new(Some(running))));
        }
        let thread = std::thread::Builder::new()
            .name("order-store".to_owned())
            .spawn(move || work(&opened.shared, running))
            .map_err(|error| OpenError::io(&opened.dir, error))?;
        Ok(Self::Thread(Mutex::new(Some(thread))))
    }

    /// Something was handed over: without a thread it is done here and now.
    pub(super) fn run(&self) {
        let Self::Inline(shared, running) = self else { return };
        let mut batch = Vec::new();
        loop {
            // Whoever holds the lock looks at the queue again before he is done.
            let mut slot = match running.try_lock() {
                Ok(slot) => slot,
                Err(TryLockError::Poisoned(slot)) => slot.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            shared.queue.take(&mut batch);
            if batch.is_empty() {
                return;
            }
            let Some(mut running) = slot.take() else {
                batch.drain(..).for_each(|request| refuse(request, StoreError::Closed));
                return;
            };
            running.committer.run(&mut batch);
            if running.committer.is_closing() {
                close(shared, running, StoreError::Closed);
            } else {
                if running.committer.could_feed() {
                    running.committer.feed_all();
                }
                *slot = Some(running);
            }
        }
    }

    /// Waits until everything is closed.
    pub(super) fn join(&self) {
        if let Self::Thread(thread) = self {
            let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(thread) = thread {
                let _ = thread.join();
            }
        }
    }
}

fn work(shared: &Shared, mut running: Box<Running>) {
    let serving = catch_unwind(AssertUnwindSafe(|| serve(shared, &mut running.committer)));
    let why = match serving {
        Ok(()) => StoreError::Closed,
        Err(_) => StoreError::Failed("the committer panicked".into()),
    };
    close(shared, running, why);
}

/// Serves until somebody asks to close.
fn serve(shared: &Shared, committer: &mut Committer) {
    let mut batch = Vec::new();
    let mut held = Vec::new();
    while !committer.is_closing() || committer.is_feeding() {
        if committer.must_wait() {
            shared.queue.wait(1, None);
            shared.queue.take(&mut batch);
            // Only the feeder's word counts now; everything else keeps its place.
            let mut fed: Vec<_> = Vec::new();
            for request in batch.drain(..) {
                let to = if matches!(request, Request::Fed(_)) { &mut fed } else { &mut held };
                to.push(request);
            }
            committer.run(&mut fed);
            continue;
        }
        batch.append(&mut held);
        if batch.is_empty() {
            await_company(shared, committer);
            shared.queue.take(&mut batch);
        }
        committer.run(&mut batch);
    }
}

/// Waits for requests; meanwhile the index may be fed.
fn await_company(shared: &Shared, committer: &mut Committer) {
    let config = &committer.config;
    let (gather, idle) = (config.gather, config.feed_after_idle);
    if committer.last_batch >= GATHER_FROM {
        shared.queue.wait(committer.last_batch, Some(gather));
    }
    if committer.could_feed() && !shared.queue.wait(1, Some(idle)) {
        committer.feed_all();
    }
    shared.queue.wait(1, None);
}

/// Closes everything, the lock last, and then says so.
fn close(shared: &Shared, mut running: Box<Running>, why: StoreError) {
    let finishing = catch_unwind(AssertUnwindSafe(|| running.committer.finish()));
    let (waiting, result) = running.committer.closed();
    let why = running.committer.latched().cloned().unwrap_or(why);
    let left = shared.queue.close(why.clone());
    drop(running);
    if finishing.is_err() {
        tracing::warn!(
            "the index could not be closed cleanly; it may be rebuilt at the next start"
        );
    }
    for answer in waiting {
        let _ = answer.send(result.clone());
    }
    for request in left {
        match request {
            Request::Close(answer) => drop(answer.send(result.clone())),
            other => refuse(other, why.clone()),
        }
    }
}
