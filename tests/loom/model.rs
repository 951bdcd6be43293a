//! Callers, a disk and a committer that is as small as its loop lets it be.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};

use super::answers::Answers;
use super::requests::Requests;
use super::serve::Commits;

/// Why nothing is taken any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

/// A place where one answer is waited for. An answer that is dropped says so, as a channel does.
#[derive(Clone, Default)]
pub(super) struct Awaited(Arc<(Mutex<Option<Told>>, Condvar)>);

type Told = Result<(), Closed>;

pub(super) struct Answer(Option<Awaited>);

impl Awaited {
    pub(super) fn new() -> (Answer, Self) {
        let awaited = Self::default();
        (Answer(Some(awaited.clone())), awaited)
    }

    pub(super) fn wait(&self) -> Result<(), Closed> {
        let (place, wake) = &*self.0;
        let mut answer = place.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match answer.take() {
                Some(answer) => return answer,
                None => answer = wake.wait(answer).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn set(&self, answer: Result<(), Closed>) {
        let (place, wake) = &*self.0;
        let before = place.lock().unwrap_or_else(PoisonError::into_inner).replace(answer);
        assert!(before.is_none(), "answered twice");
        wake.notify_one();
    }
}

impl Answer {
    pub(super) fn give(mut self, answer: Result<(), Closed>) {
        if let Some(awaited) = self.0.take() {
            awaited.set(answer);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(awaited) = self.0.take() {
            awaited.set(Err(Closed));
        }
    }
}

/// What is asked.
pub(super) enum Request {
    /// Changes are bits, so that a number can hold what is durable.
    Commit(usize, Answer),
    Fed,
    Close(Answer),
}

pub(super) type Queue = Requests<Request, Closed>;

/// What callers, committer and feeder share.
pub(super) struct Shared {
    pub(super) queue: Queue,
    /// The changes that the disk has.
    pub(super) durable: AtomicUsize,
    /// Whether the feeder has something to do, and whether it is to stop.
    pub(super) job: Mutex<(bool, bool)>,
    pub(super) given: Condvar,
}

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: Requests::new(),
            durable: AtomicUsize::new(0),
            job: Mutex::new((false, false)),
            given: Condvar::new(),
        })
    }

    /// Asks for a change and waits: whoever is told that it is done finds it on the disk.
    pub(super) fn commit(&self, change: usize, after: impl FnOnce()) -> bool {
        let (answer, awaited) = Awaited::new();
        let taken = self.queue.push(Request::Commit(change, answer));
        if taken {
            after();
        }
        let done = awaited.wait().is_ok();
        let durable = self.durable.load(Ordering::SeqCst) & change != 0;
        assert!(!done || durable, "answered before it was durable");
        assert!(taken || !durable, "refused, and written");
        done
    }

    /// Asks to close and waits for it.
    pub(super) fn close(&self, after: impl FnOnce()) {
        let (answer, awaited) = Awaited::new();
        if self.queue.push(Request::Close(answer)) {
            after();
        }
        let _ = awaited.wait();
    }

    /// The feeder's thread.
    pub(super) fn feed(&self) {
        let mut job = self.job.lock().expect("whole");
        loop {
            match *job {
                (true, _) => {
                    job.0 = false;
                    drop(job);
                    self.queue.push(Request::Fed);
                    job = self.job.lock().expect("whole");
                }
                (false, true) => return,
                (false, false) => job = self.given.wait(job).expect("whole"),
            }
        }
    }

    pub(super) fn tell_feeder(&self, has_job: bool, stops: bool) {
        let mut job = self.job.lock().expect("whole");
        *job = (job.0 || has_job, job.1 || stops);
        drop(job);
        self.given.notify_one();
    }
}

/// Decides nothing, appends everything, and has an index that may be one change behind.
pub(super) struct Committer {
    shared: Arc<Shared>,
    appended: usize,
    held: Answers<Answer>,
    closing: Vec<Answer>,
    /// Whether there is a feeder.
    pub(super) feeds: bool,
    /// Gives answers before the disk has the batch: the mistake.
    pub(super) hasty: bool,
    lag: usize,
    feeding: bool,
}

impl Committer {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: shared.clone(),
            appended: 0,
            held: Answers::new(),
            closing: Vec::new(),
            feeds: false,
            hasty: false,
            lag: 0,
            feeding: false,
        }
    }

    /// Refuses everything from now on, and answers who is left.
    pub(super) fn close(mut self) {
        let left = self.shared.queue.close(Closed);
        self.closing.drain(..).for_each(|answer| answer.give(Ok(())));
        for request in left {
            match request {
                Request::Close(answer) => answer.give(Ok(())),
                Request::Commit(_, answer) => answer.give(Err(Closed)),
                Request::Fed => {}
            }
        }
    }
}

impl Commits for Committer {
    type Request = Request;

    fn run(&mut self, batch: &mut Vec<Request>) {
        for request in batch.drain(..) {
            match request {
                Request::Commit(_, answer) if self.hasty => answer.give(Ok(())),
                Request::Commit(change, answer) => {
                    self.appended |= change;
                    self.lag += 1;
                    self.held.hold(answer);
                }
                Request::Fed => {
                    self.feeding = false;
                    self.lag = 0;
                }
                Request::Close(answer) => self.closing.push(answer),
            }
        }
        let (shared, appended) = (&self.shared, self.appended);
        let sync = || {
            shared.durable.store(appended, Ordering::SeqCst);
            Ok::<_, Closed>(())
        };
        let settled = self.held.settle(sync, |answer, synced| answer.give(synced.map_err(|e| *e)));
        assert_eq!(settled, Ok(()));
    }

    fn is_fed(request: &Request) -> bool {
        matches!(request, Request::Fed)
    }

    fn last_batch(&self) -> usize {
        0
    }

    fn spans(&self) -> (Duration, Duration) {
        (Duration::ZERO, Duration::ZERO)
    }

    fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    fn is_feeding(&self) -> bool {
        self.feeding
    }

    fn must_wait(&self) -> bool {
        self.feeding && self.lag > 0
    }

    fn could_feed(&self) -> bool {
        self.feeds && !self.feeding && self.lag > 0
    }

    fn feed_all(&mut self) {
        self.feeding = true;
        self.shared.tell_feeder(true, false);
    }
}
