//! The committer's loop, by itself: `tests/loom.rs` includes this file and runs it under every
//! interleaving.

use std::time::Duration;

use super::requests::Requests;

/// From how many changes in the last batch on it is worth waiting for company.
const GATHER_FROM: usize = 8;

/// Who commits, as far as its loop has to know it.
pub(super) trait Commits {
    type Request;

    /// Handles a batch: when it returns, everything in it is durable and answered.
    fn run(&mut self, batch: &mut Vec<Self::Request>);

    /// Whether a request is the feeder's word that it has finished.
    fn is_fed(request: &Self::Request) -> bool;

    /// How many changes the last batch had.
    fn last_batch(&self) -> usize;

    /// How long to wait for company, and after how long without a request to feed the index.
    fn spans(&self) -> (Duration, Duration);

    /// Whether somebody asked to close.
    fn is_closing(&self) -> bool;

    /// Whether the index is at work.
    fn is_feeding(&self) -> bool;

    /// Whether the index is so far behind that changes have to wait for it.
    fn must_wait(&self) -> bool;

    /// Whether there is something for the index to take over and nobody gives it to it.
    fn could_feed(&self) -> bool;

    /// Nothing else is to be done: the index may take over everything.
    fn feed_all(&mut self);
}

/// Serves until somebody asks to close.
pub(super) fn serve<C: Commits, E: Clone>(queue: &Requests<C::Request, E>, committer: &mut C) {
    let mut batch = Vec::new();
    let mut held = Vec::new();
    while !committer.is_closing() || committer.is_feeding() {
        if committer.must_wait() {
            queue.wait(1, None);
            queue.take(&mut batch);
            // Only the feeder's word counts now; everything else keeps its place.
            let mut fed: Vec<_> = Vec::new();
            for request in batch.drain(..) {
                let to = if C::is_fed(&request) { &mut fed } else { &mut held };
                to.push(request);
            }
            committer.run(&mut fed);
            continue;
        }
        batch.append(&mut held);
        if batch.is_empty() {
            await_company(queue, committer);
            queue.take(&mut batch);
        }
        committer.run(&mut batch);
    }
}

/// Waits for requests; meanwhile the index may be fed.
fn await_company<C: Commits, E: Clone>(queue: &Requests<C::Request, E>, committer: &mut C) {
    let (gather, idle) = committer.spans();
    if committer.last_batch() >= GATHER_FROM {
        queue.wait(committer.last_batch(), Some(gather));
    }
    if committer.could_feed() && !queue.wait(1, Some(idle)) {
        committer.feed_all();
    }
    queue.wait(1, None);
}
