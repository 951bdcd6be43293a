//! The threads that ask a gate's server: both clients block.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::url::Address;
use super::{GateError, GateServer, Question, Reply};

/// How many questions are asked at once, each on a connection of its own.
const THREADS: usize = 4;
/// How many may wait for them.
const WAITING_MAX: usize = 4096;
/// How long a server may take to answer before its connection is given up. Callers wait as long as
/// their own limit says.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A connection to a gate's server.
pub(super) trait Connection: Sized {
    /// Connects and logs in, both within [`PATIENCE`].
    fn open(address: &Address) -> Result<Self, GateError>;

    /// Asks. After an error the connection is not used any more.
    fn ask(
        &mut self,
        address: &Address,
        key: &str,
        question: &Question,
        ttl: Duration,
    ) -> Result<Reply, GateError>;
}

struct Job {
    key: String,
    question: Question,
    ttl: Duration,
    answer: oneshot::Sender<Result<Reply, GateError>>,
}

/// A server that threads ask.
struct Asked {
    jobs: SyncSender<Job>,
    place: String,
}

/// Starts the threads; they end when the server is dropped.
pub(super) fn start<C: Connection>(address: Address) -> Result<Arc<dyn GateServer>, GateError> {
    let (jobs, waiting) = sync_channel(WAITING_MAX);
    let (address, waiting) = (Arc::new(address), Arc::new(Mutex::new(waiting)));
    let place = address.place();
    for _ in 0..THREADS {
        let (address, waiting) = (address.clone(), waiting.clone());
        let thread = std::thread::Builder::new().name("order-router-gate".to_owned());
        let started = thread.spawn(move || serve::<C>(&address, &waiting));
        started.map_err(|error| {
            let why = format!("a thread could not be started: {error}");
            GateError::Unusable { place: place.clone(), why }
        })?;
    }
    Ok(Arc::new(Asked { jobs, place }))
}

fn serve<C: Connection>(address: &Address, waiting: &Mutex<Receiver<Job>>) {
    let mut connection: Option<C> = None;
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { key, question, ttl, answer }) = job else { return };
        // Nobody waits for it any more: a key that is added now would stand there for nobody.
        if answer.is_closed() {
            continue;
        }
        let waited_for = || !answer.is_closed();
        let reply = ask(&mut connection, address, waited_for, (&key, &question, ttl));
        // Nobody may wait any more.
        let _ = answer.send(reply);
    }
}

/// Asks; where the connection broke, once more on a new one, which changes nothing that was done
/// already: the server may have been restarted since it was used last.
fn ask<C: Connection>(
    connection: &mut Option<C>,
    address: &Address,
    waited_for: impl Fn() -> bool,
    (key, question, ttl): (&str, &Question, Duration),
) -> Result<Reply, GateError> {
    let mut first = true;
    loop {
        let mut open = match connection.take() {
            Some(open) => open,
            None => C::open(address)?,
        };
        match open.ask(address, key, question, ttl) {
            Ok(reply) => {
                *connection = Some(open);
                return Ok(reply);
            }
            Err(GateError::Unreachable { .. }) if first && waited_for() => first = false,
            Err(error) => return Err(error),
        }
    }
}

impl GateServer for Asked {
    fn ask(
        &self,
        key: String,
        question: Question,
        ttl: Duration,
    ) -> BoxFuture<'static, Result<Reply, GateError>> {
        let (answer, told) = oneshot::channel();
        let sent = self.jobs.try_send(Job { key, question, ttl, answer });
        let place = self.place.clone();
        Box::pin(async move {
            let why = match sent {
                Ok(()) => match told.await {
                    Ok(reply) => return reply,
                    Err(_) => "its thread has stopped",
                },
                Err(TrySendError::Full(_)) => "too many questions wait for it",
                Err(TrySendError::Disconnected(_)) => "its threads have stopped",
            };
            Err(GateError::Unusable { place, why: why.to_owned() })
        })
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}
