//! Who runs the committer: a thread of its own, or whoever hands something over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::Committing;
use super::committer::{Committer, Request, refuse};
use super::open::Opened;
use super::queue::Shared;
use super::serve::{Commits, serve};
use super::turns::Turns;
use crate::runtime::disk::Lock;
use crate::store::{OpenError, StoreError};

/// The committer and the lock of its directory, which outlives everything that writes there.
pub(super) struct Running {
    committer: Committer,
    _lock: Lock,
}

/// See the module.
pub(super) enum Drive {
    Thread(Mutex<Option<JoinHandle<()>>>),
    Inline(Arc<Shared>, Turns<Option<Box<Running>>>),
}

impl Drive {
    pub(super) fn start(committing: Committing, opened: Opened) -> Result<Self, OpenError> {
        let running = Box::new(Running { committer: opened.committer, _lock: opened.lock });
        if committing == Committing::Inline {
            return Ok(Self::Inline(opened.shared, Turns::new(Some(running))));
        }
        let thread = std::thread::Builder::new()
            .name("order-store".to_owned())
            .spawn(move || work(&opened.shared, running))
            .map_err(|error| OpenError::io(&opened.dir, error))?;
        Ok(Self::Thread(Mutex::new(Some(thread))))
    }

    /// Something was handed over: without a thread it is done here and now.
    pub(super) fn run(&self) {
        let Self::Inline(shared, turns) = self else { return };
        let mut batch = Vec::new();
        let work = |slot: &mut Option<Box<Running>>| {
            shared.queue.take(&mut batch);
            if batch.is_empty() {
                return false;
            }
            let Some(mut running) = slot.take() else {
                batch.drain(..).for_each(|request| refuse(request, StoreError::Closed));
                return true;
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
            true
        };
        turns.run(work, || shared.queue.is_empty());
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
    let serving = catch_unwind(AssertUnwindSafe(|| serve(&shared.queue, &mut running.committer)));
    let why = match serving {
        Ok(()) => StoreError::Closed,
        Err(_) => StoreError::Failed("the committer panicked".into()),
    };
    close(shared, running, why);
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
