//! How one caller is told how far its order has come: the newest state, and a wake-up.
//!
//! A `watch` channel would do; this one has one reader, costs one allocation, and does not wake a
//! caller who waits only for the end.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::Progress;

struct Slot(Mutex<State>);

struct State {
    progress: Progress,
    /// Told and not read yet.
    fresh: bool,
    /// Nothing more will be told.
    closed: bool,
    /// The reader is woken only by an end or a failure.
    ends_only: bool,
    reader: Option<Waker>,
    /// Nobody reads any more.
    unread: bool,
    teller: Option<Waker>,
}

impl State {
    /// Whether nobody is there to be told, of an order that goes on without being followed.
    fn is_abandoned(&self) -> bool {
        self.unread && !matches!(self.progress, Progress::Submitted)
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells. When it is dropped the reader learns that nothing more will come.
pub(crate) struct Teller(Arc<Slot>);

/// Reads what was told last.
pub(crate) struct Reader(Arc<Slot>);

/// A slot that holds `first`, to be read later; `ends_only`: see [`State::ends_only`].
pub(crate) fn slot(first: Progress, ends_only: bool) -> (Teller, Reader) {
    let state = State {
        progress: first,
        fresh: false,
        closed: false,
        ends_only,
        reader: None,
        unread: false,
        teller: None,
    };
    let slot = Arc::new(Slot(Mutex::new(state)));
    (Teller(slot.clone()), Reader(slot))
}

impl Teller {
    pub(crate) fn tell(&self, progress: Progress) {
        let mut state = self.0.state();
        let is_end = matches!(progress, Progress::Ended(_) | Progress::Failed(_));
        state.progress = progress;
        state.fresh = true;
        let reader = if is_end || !state.ends_only { state.reader.take() } else { None };
        let teller = if state.is_abandoned() { state.teller.take() } else { None };
        drop(state);
        for waker in reader.into_iter().chain(teller) {
            waker.wake();
        }
    }

    /// Waits until nobody reads any more and the order was told to be accepted at least: from then
    /// on it goes on by itself.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub(crate) async fn abandoned(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.0.state();
            if state.is_abandoned() {
                return Poll::Ready(());
            }
            state.teller = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.unread = true;
        let teller = state.teller.take();
        drop(state);
        if let Some(teller) = teller {
            teller.wake();
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Reader {
    /// What was told last.
    pub(crate) fn last(&self) -> Progress {
        self.0.state().progress.clone()
    }

    /// Waits for something that was not read yet; `None` once nothing more will come.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub(crate) async fn next(&mut self) -> Option<Progress> {
        std::future::poll_fn(|context| {
            let mut state = self.0.state();
            if std::mem::take(&mut state.fresh) {
                return Poll::Ready(Some(state.progress.clone()));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            state.reader = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reader").field(&self.last()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_state_is_read_once_and_the_end_of_telling_is_seen() {
        let (teller, mut reader) = slot(Progress::Submitted, false);
        teller.tell(Progress::Accepted);
        teller.tell(Progress::InDoubt);
        assert!(matches!(reader.next().await, Some(Progress::InDoubt)));
        drop(teller);
        assert!(reader.next().await.is_none());
        assert!(matches!(reader.last(), Progress::InDoubt));
    }

    #[tokio::test]
    async fn what_was_told_before_the_teller_went_is_still_read() {
        let (teller, mut reader) = slot(Progress::Submitted, true);
        teller.tell(Progress::Accepted);
        drop(teller);
        assert!(matches!(reader.next().await, Some(Progress::Accepted)));
        assert!(reader.next().await.is_none());
    }

    #[tokio::test]
    async fn a_teller_learns_that_nobody_reads_once_the_order_is_accepted() {
        let (teller, reader) = slot(Progress::Submitted, false);
        let teller = Arc::new(teller);
        let waiting = teller.clone();
        let task = tokio::spawn(async move { waiting.abandoned().await });
        tokio::task::yield_now().await;
        drop(reader);
        tokio::task::yield_now().await;
        assert!(!task.is_finished(), "it may not be handed over yet");
        teller.tell(Progress::Accepted);
        task.await.expect("no panic");
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken_by_an_end() {
        let (teller, mut reader) = slot(Progress::Submitted, true);
        let task = tokio::spawn(async move { reader.next().await });
        tokio::task::yield_now().await;
        teller.tell(Progress::Ended(super::super::End::Refused { why: "NO".into() }));
        assert!(matches!(task.await.expect("no panic"), Some(Progress::Ended(_))));
    }
}
