//! One run: hands lines over, waits for their ends, gives up when it is told to.

use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use order_router::store::StoreError;
use order_router::{ClientRef, Item, SubmitError};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::SubmitArgs;
use super::follow::{Left, follow};
use super::report::{Reporter, Summary};
use super::tally::Tally;
use crate::commands::buyer::Buyer;
use crate::commands::failure::chain;
use crate::commands::input::{Input, Line};
use crate::commands::output::errln;
use crate::commands::results::{Outcome, ResultLine, Results};
use crate::commands::signals::Signals;

/// Most lines that have not ended at once, those in doubt and held as well.
const OPEN_LINES_MAX: u32 = 100_000;
/// Lines read ahead.
const LINES_AHEAD: usize = 256;
/// How long POSTs that are under way may still be answered when a run is told to stop.
const GRACE: Duration = Duration::from_secs(2);
/// One wait for an order of an earlier run; it is only asked for again.
const WAIT_LIMIT: Duration = Duration::from_secs(1);
/// How many orders of earlier runs are waited for at once; the router drives all of them.
const EARLIER_AT_ONCE: usize = 256;

/// What the tasks of a run share.
pub(super) struct Shared {
    pub(super) router: Buyer,
    pub(super) results: Results,
    pub(super) tally: Tally,
    /// Nobody waits any more: every task writes where its line stands, and ends.
    pub(super) given_up: watch::Sender<bool>,
    trouble: watch::Sender<Option<Trouble>>,
    /// Open when the run began, and not met in the input so far.
    earlier: Mutex<HashMap<ClientRef, Arc<[Item]>>>,
}

/// Why the router cannot go on.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// The store failed or is full.
    Store { what: String, full: bool },
    /// The router has stopped by itself.
    Stopped,
}

impl Trouble {
    fn is_full(&self) -> bool {
        matches!(self, Self::Store { full: true, .. })
    }
}

/// Why no more lines were taken.
#[derive(Debug, Clone)]
pub(super) enum Stop {
    /// All were.
    EndOfInput,
    /// The input broke off.
    Unreadable(String),
    /// A signal came.
    Signal,
    /// The results cannot be written.
    Results,
    /// The router cannot go on, or take more.
    Trouble {
        /// Orders that were accepted are still driven.
        full: bool,
    },
}

impl Shared {
    /// Remembers the first reason why the router cannot go on; that it takes no more is less.
    pub(super) fn trouble(&self, trouble: Trouble) {
        self.trouble.send_if_modified(|known| {
            let news = known.as_ref().is_none_or(|known| known.is_full() && !trouble.is_full());
            if news {
                *known = Some(trouble);
            }
            news
        });
    }

    fn met(&self, client_ref: &ClientRef) {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner).remove(client_ref);
    }
}

/// One run.
pub(super) struct Session {
    shared: Arc<Shared>,
    reporter: Reporter,
    concurrency: usize,
    give_up_after: Option<Duration>,
    held_pause: Duration,
}

impl Session {
    /// Looks up what earlier runs left open.
    pub(super) async fn begin(
        args: &SubmitArgs,
        request_timeout: Duration,
        router: Buyer,
        results: Results,
    ) -> Result<Self, StoreError> {
        let open = router.open_orders().await?;
        let earlier = open.into_iter().map(|stored| (stored.client_ref, stored.items)).collect();
        let shared = Arc::new(Shared {
            router,
            results,
            tally: Tally::default(),
            given_up: watch::Sender::new(false),
            trouble: watch::Sender::new(None),
            earlier: Mutex::new(earlier),
        });
        Ok(Self {
            reporter: Reporter::start(Arc::clone(&shared)),
            shared,
            concurrency: args.concurrency as usize,
            give_up_after: args.give_up_after,
            held_pause: request_timeout,
        })
    }

    /// Runs to the end.
    pub(super) async fn run(self, input: Input, signals: &mut Signals) -> Summary {
        let room = Arc::new(Semaphore::new(OPEN_LINES_MAX as usize));
        let mut stop = self.hand_over(input, &room, signals).await;
        let earlier = tokio::spawn(finish_earlier(Arc::clone(&self.shared)));
        let shared = &self.shared;
        let all_ended = async {
            earlier.await.expect("the task that waits for earlier orders does not panic");
            drop(room.acquire_many(OPEN_LINES_MAX).await.expect("it is never closed"));
        };
        tokio::pin!(all_ended);
        let waits =
            matches!(stop, Stop::EndOfInput | Stop::Unreadable(_) | Stop::Trouble { full: true });
        if waits {
            tokio::select! {
                _ = &mut all_ended => return self.end(stop).await,
                () = self.given_up() => {}
                why = self.interrupted(signals, false) => stop = why,
            }
        }
        errln!("no longer waiting: writing where each order stands");
        let finish = async {
            shared.router.stop(GRACE).await;
            shared.given_up.send_replace(true);
            all_ended.await;
        };
        tokio::select! {
            () = finish => {}
            () = signals.next() => super::end_at_once(),
        }
        self.end(stop).await
    }

    async fn end(self, stop: Stop) -> Summary {
        self.shared.router.stop(GRACE).await;
        self.reporter.stop().await;
        Summary::new(&self.shared.tally, stop, self.shared.trouble.borrow().clone())
    }

    /// Takes lines until there are no more, or it has to stop.
    async fn hand_over(&self, input: Input, open: &Arc<Semaphore>, signals: &mut Signals) -> Stop {
        let slots = Arc::new(Semaphore::new(self.concurrency));
        let mut lines = read_ahead(input);
        let interrupted = self.interrupted(signals, true);
        tokio::pin!(interrupted);
        loop {
            let next = async {
                // Neither is ever closed.
                let room = Arc::clone(open).acquire_owned().await.ok()?;
                let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
                Some((lines.recv().await?, slot, room))
            };
            let next = tokio::select! {
                biased;
                why = &mut interrupted => return why,
                next = next => next,
            };
            let (line, slot, room) = match next {
                None => return Stop::EndOfInput,
                Some((Err(error), ..)) => return Stop::Unreadable(error.to_string()),
                Some((Ok(line), slot, room)) => (line, slot, room),
            };
            self.shared.tally.lines.fetch_add(1, Ordering::Relaxed);
            match line.order {
                Ok(order) => {
                    self.shared.met(order.client_ref());
                    tokio::spawn(follow(Arc::clone(&self.shared), line.number, order, slot, room));
                }
                Err(bad) => {
                    errln!("line {}: {}", line.number, bad.why);
                    self.shared.tally.input.add(Outcome::Invalid);
                    let result = ResultLine {
                        client_ref: bad.client_ref.map(Into::into),
                        items: [].into(),
                        outcome: Outcome::Invalid,
                        order_id: None,
                        line: Some(line.number),
                        reason: Some(bad.why.into()),
                        at: Timestamp::now(),
                    };
                    self.shared.results.write(result).await;
                }
            }
        }
    }

    /// Waits until the run has to stop; with `full`, also until the store takes no more.
    async fn interrupted(&self, signals: &mut Signals, full: bool) -> Stop {
        let mut trouble = self.shared.trouble.subscribe();
        tokio::select! {
            () = signals.next() => Stop::Signal,
            () = self.shared.results.failed() => Stop::Results,
            error = self.shared.router.failed() => {
                self.shared.trouble(Trouble::Store { what: chain(&error), full: false });
                Stop::Trouble { full: false }
            }
            Ok(trouble) = trouble.wait_for(|known| {
                known.as_ref().is_some_and(|known| full || !known.is_full())
            }) => Stop::Trouble { full: trouble.as_ref().is_some_and(Trouble::is_full) },
        }
    }

    /// Waits for the time to give up after the last line, or until only a person can help.
    async fn given_up(&self) {
        let begun = Instant::now();
        let limit = async {
            match self.give_up_after {
                Some(span) => sleep_until(begun + span).await,
                None => pending().await,
            }
        };
        let only_held = async {
            let mut since = Instant::now();
            loop {
                sleep(Duration::from_millis(200)).await;
                let followed = self.shared.tally.followed.load(Ordering::Relaxed);
                let held = self.shared.tally.held.load(Ordering::Relaxed);
                let earlier_open =
                    !self.shared.earlier.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
                // A late answer still decides one that is held.
                match followed > held || held == 0 || earlier_open {
                    true => since = Instant::now(),
                    false if since.elapsed() >= self.held_pause => return,
                    false => {}
                }
            }
        };
        tokio::select! {
            () = limit => {}
            () = only_held => {}
        }
    }
}

/// Reads on a thread of its own: a pipe may give nothing for hours.
fn read_ahead(mut input: Input) -> mpsc::Receiver<std::io::Result<Line>> {
    let (lines, receiver) = mpsc::channel(LINES_AHEAD);
    let read = move || {
        while let Some(line) = input.next().transpose() {
            let broken = line.is_err();
            if lines.blocking_send(line).is_err() || broken {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("input".to_owned())
        .spawn(read)
        .expect("a thread can be started: the router has just started its own");
    receiver
}

/// Waits for what earlier runs left open and the input does not name.
async fn finish_earlier(shared: Arc<Shared>) {
    let earlier: Vec<_> = {
        let earlier = shared.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        earlier.iter().map(|(client_ref, items)| (client_ref.clone(), items.clone())).collect()
    };
    let each = futures_util::stream::iter(earlier);
    each.for_each_concurrent(EARLIER_AT_ONCE, |(client_ref, items)| {
        let shared = Arc::clone(&shared);
        async move {
            let mut given_up = shared.given_up.subscribe();
            let left = tokio::select! {
                biased;
                left = end_of_earlier(&shared, &client_ref) => left,
                _ = given_up.wait_for(|yes| *yes) => still_open(),
            };
            shared.tell(&client_ref, items, None, left).await;
            shared.met(&client_ref);
        }
    })
    .await;
}

fn still_open() -> Left {
    Left::because(Outcome::InDoubt, "accepted by an earlier run, and still open: run again")
}

async fn end_of_earlier(shared: &Shared, client_ref: &ClientRef) -> Left {
    loop {
        match shared.router.wait(client_ref, WAIT_LIMIT).await {
            Ok(end) => return Left::by(end),
            Err(SubmitError::Held { why, .. }) => return Left::because(Outcome::Held, why),
            Err(SubmitError::InDoubt { .. } | SubmitError::UnderWay { .. }) => {}
            Err(_) => return still_open(),
        }
    }
}
