//! The store in a Postgres database: every guard is decided by SQL, in the transaction that writes.
//!
//! ```text
//! callers ──changes──▶ queue ──what is waiting──▶ writer: one transaction, answered after COMMIT
//!    └────questions──▶ reader: a connection of its own
//! ```
//!
//! One schema is one account. One router has it at a time: its writing session holds an advisory
//! lock, and every transaction checks that the router's row still names it. Both connections are
//! plain TCP: there is no TLS for Postgres in this build.
//!
//! Whoever collects `log` records of `tokio_postgres` at the level debug gets the parameters of
//! statements, notes of orders included.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};

use super::record::encode_change;
use super::{
    Claim, Committed, Durability, IntentStore, Known, RECORD_BYTES_MAX, Rehydration, StoreError,
    StoreStats, Stored,
};
use crate::order::{ClientRef, OrderId};
use crate::protocol::{Change, Serial};

mod config;
mod connect;
mod error;
mod reader;
mod rows;
mod schema;
mod statements;
mod writer;

pub use config::PostgresConfig;
use connect::{Books, Connector};
pub use error::PostgresError;
use reader::Reader;
pub use schema::SCHEMA_VERSION;
use writer::{Request, Writer};

/// What the handle, the writer and the reader share.
struct Shared {
    next_serial: AtomicU64,
    figures: Mutex<StoreStats>,
    /// Why nothing can be written any more.
    latched: OnceLock<StoreError>,
    /// How many of the changes that were handed over are done with.
    done: watch::Sender<u64>,
}

/// The way to the writer.
struct Queue {
    /// `None` once the store is closed.
    sender: Option<UnboundedSender<Request>>,
    /// How many changes were handed over.
    handed: u64,
}

impl Shared {
    fn latch(&self, error: StoreError) {
        if self.latched.set(error.clone()).is_ok() {
            tracing::error!(%error, "the store is latched");
        }
        self.done.send_replace(u64::MAX);
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
    fn wrote(&self, books: &Books, changes: usize) {
        let mut figures = self.figures();
        figures.open = u64::try_from(books.open).unwrap_or(0);
        figures.ended = u64::try_from(books.ended).unwrap_or(0);
        figures.syncs += 1;
        figures.changes += u64::try_from(changes).unwrap_or(u64::MAX);
    }
}

/// The [`IntentStore`] of one router in one schema of a Postgres database.
///
/// An answered change survives what the server's log survives: a kill of the server and a power cut
/// with `fsync=on` (which is checked), and a failover to a standby only if it is synchronous.
pub struct PostgresStore {
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    runtime: tokio::runtime::Handle,
    queue: Mutex<Queue>,
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
    unsynced: bool,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// How long a store that is dropped waits for what is under way.
const DROP_PATIENCE: Duration = Duration::from_secs(5);

impl PostgresStore {
    /// Connects, makes or brings up to date the tables, and takes the schema for this router.
    ///
    /// The store has a thread of its own: it works from any runtime.
    ///
    /// # Errors
    /// See [`PostgresError`]; in every case nothing may be sent.
    pub async fn open(config: PostgresConfig) -> Result<Self, PostgresError> {
        let unsynced = config.accept_unsynced;
        let place = config.place();
        let lost = |why: String| PostgresError::Failed { place: place.clone(), why };
        let (opened, open) = oneshot::channel();
        let (running, ended) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("order-router-postgres".into());
        thread
            .spawn(move || {
                // Dropped when the thread ends.
                let _running: std::sync::mpsc::Sender<()> = running;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                match runtime {
                    Ok(runtime) => runtime.block_on(drive(config, opened)),
                    Err(error) => drop(opened.send(Err(PostgresError::Failed {
                        place: config.place(),
                        why: error.to_string(),
                    }))),
                }
            })
            .map_err(|error| lost(error.to_string()))?;
        let parts = open.await.map_err(|_| lost("its thread ended".into()))??;
        Ok(Self {
            shared: parts.shared,
            reader: parts.reader,
            runtime: parts.runtime,
            queue: Mutex::new(Queue { sender: Some(parts.queue), handed: 0 }),
            ended: Mutex::new(ended),
            unsynced,
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn why_closed(shared: &Shared) -> StoreError {
        shared.latched.get().cloned().unwrap_or(StoreError::Closed)
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let handed = {
            let queue = self.queue();
            if queue.sender.is_none() || self.shared.latched.get().is_some() {
                return std::future::ready(Err(Self::why_closed(&self.shared))).boxed();
            }
            queue.handed
        };
        let (shared, before) = (self.shared.clone(), self.shared.clone());
        let asked = self.runtime.spawn(async move {
            before.done_with(handed).await?;
            question.await
        });
        async move {
            let answer = asked.await.unwrap_or_else(|_| Err(Self::why_closed(&shared)));
            answer.inspect_err(|error| {
                if matches!(error, StoreError::Failed(_)) {
                    shared.latch(error.clone());
                }
            })
        }
        .boxed()
    }
}

/// What an opened store's thread hands out.
struct Opened {
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    runtime: tokio::runtime::Handle,
    queue: UnboundedSender<Request>,
}

/// Opens the store, tells, and writes until it is closed.
async fn drive(config: PostgresConfig, opened: oneshot::Sender<Result<Opened, PostgresError>>) {
    let connector = Connector::new(config);
    let session = match connector.open().await {
        Ok(session) => session,
        Err(error) => return drop(opened.send(Err(error))),
    };
    let figures = StoreStats {
        open: u64::try_from(session.books.open).unwrap_or(0),
        ended: u64::try_from(session.books.ended).unwrap_or(0),
        ..StoreStats::default()
    };
    let shared = Arc::new(Shared {
        next_serial: AtomicU64::new(u64::try_from(session.books.serial_next).unwrap_or(1)),
        figures: Mutex::new(figures),
        latched: OnceLock::new(),
        done: watch::Sender::new(0),
    });
    let (queue, requests) = unbounded_channel();
    let reader = Arc::new(Reader::new(connector.clone()));
    let runtime = tokio::runtime::Handle::current();
    let writer = Writer::new(shared.clone(), connector, session);
    if opened.send(Ok(Opened { shared, reader, runtime, queue })).is_ok() {
        writer.run(requests).await;
    }
}

impl IntentStore for PostgresStore {
    fn next_serial(&self) -> Serial {
        Serial(self.shared.next_serial.fetch_add(1, Ordering::AcqRel))
    }

    fn commit(&self, change: Change) -> BoxFuture<'static, Result<Committed, StoreError>> {
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
            _ => Serial(0),
        };
        if i64::try_from(highest.0).is_err() {
            return std::future::ready(Ok(Committed::Stale)).boxed();
        }
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.queue();
            let latched = self.shared.latched.get().is_some();
            let Some(sender) = queue.sender.as_ref().filter(|_| !latched) else {
                return refused(Self::why_closed(&self.shared));
            };
            self.shared.next_serial.fetch_max(highest.0 + 1, Ordering::AcqRel);
            if sender.send(Request::Commit(change, answer)).is_err() {
                return refused(Self::why_closed(&self.shared));
            }
            queue.handed += 1;
        }
        let shared = self.shared.clone();
        async move { answered.await.unwrap_or_else(|_| Err(Self::why_closed(&shared))) }.boxed()
    }

    fn find(
        &self,
        client_ref: ClientRef,
    ) -> BoxFuture<'static, Result<Option<Stored>, StoreError>> {
        let reader = self.reader.clone();
        self.ask(async move { reader.find(client_ref).await })
    }

    fn claims(
        &self,
        ids: Vec<OrderId>,
    ) -> BoxFuture<'static, Result<Vec<Option<Claim>>, StoreError>> {
        let reader = self.reader.clone();
        self.ask(async move { reader.claims(ids).await })
    }

    fn rehydrate(&self) -> BoxFuture<'static, Result<Rehydration, StoreError>> {
        let reader = self.reader.clone();
        self.ask(async move { reader.rehydrate().await })
    }

    fn known_since(&self, since: Serial) -> BoxFuture<'static, Result<Vec<Known>, StoreError>> {
        let reader = self.reader.clone();
        self.ask(async move { reader.known_since(since).await })
    }

    fn stats(&self) -> StoreStats {
        self.shared.figures().clone()
    }

    fn durability(&self) -> Durability {
        if self.unsynced { Durability::Unsynced } else { Durability::Synced }
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue().sender.take();
        let shared = self.shared.clone();
        let sent = queue.is_some_and(|queue| queue.send(Request::Close(answer)).is_ok());
        async move {
            match sent {
                true => answered.await.unwrap_or_else(|_| Err(Self::why_closed(&shared))),
                false => Err(Self::why_closed(&shared)),
            }
        }
        .boxed()
    }
}

impl Drop for PostgresStore {
    /// Writes what is under way and closes. Blocks for as long as that takes, at most five seconds.
    fn drop(&mut self) {
        drop(self.queue().sender.take());
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent: it ends when the thread does.
        let _ = ended.recv_timeout(DROP_PATIENCE);
    }
}
