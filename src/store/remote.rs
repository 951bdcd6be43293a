//! What stores on a server have in common: a thread of their own, a queue of changes for one writer,
//! and questions that are asked beside it.
//!
//! ```text
//! callers ──changes──▶ queue ──what is waiting──▶ writer: one batch, answered once it is durable
//!    └────questions──▶ asked when what was handed over before them is done with
//! ```

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};

use super::record::encode_change;
use super::{Committed, RECORD_BYTES_MAX, StoreError, StoreStats};
use crate::protocol::{Change, Serial};

type Answer = oneshot::Sender<Result<Committed, StoreError>>;

/// What a batch's changes are answered with.
pub(super) type Answers = Vec<Result<Committed, StoreError>>;

/// What is handed to the writer.
pub(super) enum Request {
    /// Write this.
    Commit(Change, Answer),
    /// Write what is before this, then end.
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// What the handle and the writer share.
pub(super) struct Shared {
    next_serial: AtomicU64,
    figures: Mutex<StoreStats>,
    /// Why nothing can be written any more.
    latched: OnceLock<StoreError>,
    /// How many of the changes that were handed over are done with.
    done: watch::Sender<u64>,
}

impl Shared {
    /// Nothing is written or answered any more.
    pub(super) fn latch(&self, error: StoreError) {
        if self.latched.set(error.clone()).is_ok() {
            tracing::error!(%error, "the store is latched");
        }
        self.done.send_replace(u64::MAX);
    }

    pub(super) fn is_latched(&self) -> bool {
        self.latched.get().is_some()
    }

    /// A serial that was not handed out yet.
    pub(super) fn next_serial(&self) -> u64 {
        self.next_serial.load(Ordering::Acquire)
    }

    /// Waits until everything that was handed over is done with: an answer shows it.
    async fn done_with(&self, handed: u64) -> Result<(), StoreError> {
        let mut done = self.done.subscribe();
        // It lives as long as this does.
        let _ = done.wait_for(|done| *done >= handed).await;
        self.latched.get().cloned().map_or(Ok(()), Err)
    }

    fn figures(&self) -> MutexGuard<'_, StoreStats> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch is durable.
    pub(super) fn wrote(&self, open: u64, ended: u64, changes: usize) {
        let mut figures = self.figures();
        (figures.open, figures.ended) = (open, ended);
        figures.syncs += 1;
        figures.changes += u64::try_from(changes).unwrap_or(u64::MAX);
    }
}

/// Makes batches durable, one after the other.
pub(super) trait Write {
    /// Writes a batch that is not empty and says what came of each change. An error latches the
    /// store.
    fn write(
        &mut self,
        shared: &Shared,
        changes: &[Change],
    ) -> impl Future<Output = Result<Answers, StoreError>>;

    /// Gives back what it holds. Nothing is written after it.
    fn close(&mut self) -> impl Future<Output = ()>;
}

/// What a store's opening found.
pub(super) struct Started<W, R> {
    pub(super) writer: W,
    pub(super) reader: R,
    pub(super) next_serial: u64,
    pub(super) open: u64,
    pub(super) ended: u64,
}

/// The handle's part of a store on a server.
pub(super) struct Remote {
    pub(super) shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    queue: Mutex<Queue>,
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
}

/// The way to the writer.
struct Queue {
    /// `None` once the store is closed.
    sender: Option<UnboundedSender<Request>>,
    /// How many changes were handed over.
    handed: u64,
}

/// How long a store that is dropped waits for what is under way.
const DROP_PATIENCE: Duration = Duration::from_secs(5);

impl Remote {
    /// Opens a store in a thread of its own, which then writes until the store is closed.
    ///
    /// `lost` makes an error of a thread that could not go on.
    pub(super) async fn open<W, R, E, F>(
        name: &str,
        batch_max: usize,
        start: impl FnOnce() -> F + Send + 'static,
        lost: impl Fn(String) -> E + Clone + Send + 'static,
    ) -> Result<(Self, R), E>
    where
        W: Write + 'static,
        R: Send + 'static,
        E: Send + 'static,
        F: Future<Output = Result<Started<W, R>, E>>,
    {
        let (opened, open) = oneshot::channel();
        let (running, ended) = std::sync::mpsc::channel();
        let no_thread = lost.clone();
        let thread = std::thread::Builder::new().name(name.into());
        thread
            .spawn(move || {
                // Dropped when the thread ends.
                let _running: std::sync::mpsc::Sender<()> = running;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                match runtime {
                    Ok(runtime) => runtime.block_on(drive(batch_max, start, opened)),
                    Err(error) => drop(opened.send(Err(lost(error.to_string())))),
                }
            })
            .map_err(|error| no_thread(error.to_string()))?;
        let parts = open.await.map_err(|_| no_thread("its thread ended".into()))??;
        let queue = Mutex::new(Queue { sender: Some(parts.queue), handed: 0 });
        let ended = Mutex::new(ended);
        Ok((Self { shared: parts.shared, runtime: parts.runtime, queue, ended }, parts.reader))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_serial(&self) -> Serial {
        Serial(self.shared.next_serial.fetch_add(1, Ordering::AcqRel))
    }

    /// Hands a change over.
    pub(super) fn commit(
        &self,
        change: Change,
    ) -> BoxFuture<'static, Result<Committed, StoreError>> {
        let refused = |error| std::future::ready(Err(error)).boxed();
        let mut record = Vec::new();
        encode_change(&change, &mut record);
        if record.len() > RECORD_BYTES_MAX {
            let bytes = record.len();
            return refused(StoreError::TooLarge { bytes, bytes_max: RECORD_BYTES_MAX });
        }
        // Serials that were chosen elsewhere are not handed out again.
        let highest = match &change {
            Change::Accept { intent, attempt } => {
                attempt.as_ref().map_or(intent.id, |attempt| attempt.seq.max(intent.id))
            }
            Change::Record { attempt, .. } => attempt.seq,
            Change::Adopt { intent, handed_out } => intent.stored.id.max(*handed_out),
            _ => Serial(0),
        };
        if i64::try_from(highest.0).is_err() {
            return std::future::ready(Ok(Committed::Stale)).boxed();
        }
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.queue();
            let latched = self.shared.is_latched();
            let Some(sender) = queue.sender.as_ref().filter(|_| !latched) else {
                return refused(why_closed(&self.shared));
            };
            self.shared.next_serial.fetch_max(highest.0 + 1, Ordering::AcqRel);
            if sender.send(Request::Commit(change, answer)).is_err() {
                return refused(why_closed(&self.shared));
            }
            queue.handed += 1;
        }
        let shared = self.shared.clone();
        async move { answered.await.unwrap_or_else(|_| Err(why_closed(&shared))) }.boxed()
    }

    /// Asks something, on the store's own thread, once what was handed over before is done with.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let handed = {
            let queue = self.queue();
            if queue.sender.is_none() || self.shared.is_latched() {
                return std::future::ready(Err(why_closed(&self.shared))).boxed();
            }
            queue.handed
        };
        let (shared, before) = (self.shared.clone(), self.shared.clone());
        let asked = self.runtime.spawn(async move {
            before.done_with(handed).await?;
            question.await
        });
        async move {
            let answer = asked.await.unwrap_or_else(|_| Err(why_closed(&shared)));
            answer.inspect_err(|error| {
                if matches!(error, StoreError::Failed(_)) {
                    shared.latch(error.clone());
                }
            })
        }
        .boxed()
    }

    pub(super) fn stats(&self) -> StoreStats {
        self.shared.figures().clone()
    }

    /// Writes what is under way, then closes.
    pub(super) fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue().sender.take();
        let shared = self.shared.clone();
        let sent = queue.is_some_and(|queue| queue.send(Request::Close(answer)).is_ok());
        async move {
            match sent {
                true => answered.await.unwrap_or_else(|_| Err(why_closed(&shared))),
                false => Err(why_closed(&shared)),
            }
        }
        .boxed()
    }
}

impl Drop for Remote {
    /// Writes what is under way and closes. Blocks for as long as that takes, at most five seconds.
    fn drop(&mut self) {
        drop(self.queue().sender.take());
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent: it ends when the thread does.
        let _ = ended.recv_timeout(DROP_PATIENCE);
    }
}

fn why_closed(shared: &Shared) -> StoreError {
    shared.latched.get().cloned().unwrap_or(StoreError::Closed)
}

/// What an opened store's thread hands out.
struct Opened<R> {
    shared: Arc<Shared>,
    reader: R,
    runtime: tokio::runtime::Handle,
    queue: UnboundedSender<Request>,
}

/// Opens the store, tells, and writes until it is closed.
async fn drive<W, R, E, F>(
    batch_max: usize,
    start: impl FnOnce() -> F,
    opened: oneshot::Sender<Result<Opened<R>, E>>,
) where
    W: Write,
    F: Future<Output = Result<Started<W, R>, E>>,
{
    let started = match start().await {
        Ok(started) => started,
        Err(error) => return drop(opened.send(Err(error))),
    };
    let Started { mut writer, reader, next_serial, open, ended } = started;
    let shared = Arc::new(Shared {
        next_serial: AtomicU64::new(next_serial),
        figures: Mutex::new(StoreStats { open, ended, ..StoreStats::default() }),
        latched: OnceLock::new(),
        done: watch::Sender::new(0),
    });
    let (queue, requests) = unbounded_channel();
    let runtime = tokio::runtime::Handle::current();
    let parts = Opened { shared: shared.clone(), reader, runtime, queue };
    if opened.send(Ok(parts)).is_ok() {
        serve(&shared, &mut writer, requests, batch_max.max(1)).await;
    } else {
        writer.close().await;
    }
}

/// Writes until it is told to close, everybody has gone, or the store is latched.
async fn serve(
    shared: &Shared,
    writer: &mut impl Write,
    mut requests: UnboundedReceiver<Request>,
    batch_max: usize,
) {
    let (mut waiting, mut closing) = (Vec::new(), None);
    while closing.is_none() && requests.recv_many(&mut waiting, batch_max).await > 0 {
        let (mut changes, mut answers) = (Vec::new(), Vec::new());
        for request in waiting.drain(..) {
            match request {
                Request::Commit(change, answer) => {
                    changes.push(change);
                    answers.push(answer);
                }
                Request::Close(answer) => closing = Some(answer),
            }
        }
        let written = match (changes.is_empty(), shared.latched.get()) {
            (true, _) => Ok(Vec::new()),
            (false, Some(error)) => Err(error.clone()),
            (false, None) => writer.write(shared, &changes).await,
        };
        match written {
            Ok(results) => {
                for (answer, result) in answers.into_iter().zip(results) {
                    // A caller that has gone is told by its reference.
                    let _ = answer.send(result);
                }
                let done = u64::try_from(changes.len()).unwrap_or(u64::MAX);
                shared.done.send_modify(|all| *all = all.saturating_add(done));
            }
            Err(error) => {
                shared.latch(error.clone());
                answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone()))));
                closing.into_iter().for_each(|answer| drop(answer.send(Err(error.clone()))));
                return;
            }
        }
    }
    writer.close().await;
    if let Some(answer) = closing {
        let _ = answer.send(Ok(()));
    }
}
