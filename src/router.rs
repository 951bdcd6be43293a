//! The handle that a host holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

use crate::actors::{
    Dormant, Follow, Handover, LaneMessage, LookoutMessage, Money, Parts, Resolve, Resolved,
    Shared, Start, Threads, end_of, progress_of,
};
use crate::config::{Config, StartAnswer};
use crate::dispatch::Found;
use crate::error::{ResolveError, StartError, SubmitError};
use crate::money::{Amount, Balance, Currency};
use crate::order::{ClientRef, Order, OrderId, Price};
use crate::protocol::account::{Account, AccountRules};
use crate::protocol::balance;
use crate::protocol::fulfilment::Delivery;
use crate::protocol::lane::Decision;
use crate::protocol::{Change, Learnt, PaysOn, Serial, Shape, State, Why};
use crate::runtime::Runtime;
use crate::shared_gate::{self, GateStats, SharedGate};
use crate::store::{HistoryLine, IntentStore, Mark, Rehydration, StoreError, StoreStats, Stored};
use crate::supplier::Supplier;

mod payment;
mod progress;

pub(crate) use progress::{Reader, Teller, slot};

/// How an order ended. It never changes any more (promise P4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Bought: this supplier order is this reference's alone.
    Placed {
        /// The supplier's order.
        order_id: OrderId,
        /// How that was learnt.
        learnt: Learnt,
    },
    /// The supplier refused it: nothing was bought and nothing will be.
    Refused {
        /// Why: the supplier's error code.
        why: Why,
    },
    /// Given up: nothing was bought and nothing will be.
    NotPlaced {
        /// Why.
        why: Why,
    },
    /// Created at the supplier, never paid, and it will not be: it expired, was cancelled, or its
    /// payment was refused. Nothing was debited. Only under [`PaysOn::Pay`].
    Unpaid {
        /// The supplier's order.
        order_id: OrderId,
        /// Why.
        why: Why,
    },
}

impl End {
    /// Its name in results and tables.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Placed { .. } => "placed",
            Self::Refused { .. } => "refused",
            Self::NotPlaced { .. } => "not_placed",
            Self::Unpaid { .. } => "unpaid",
        }
    }
}

impl std::fmt::Debug for Fulfilment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fulfilment({}, {}, {} bytes)", self.order_id, self.status, self.raw.len())
    }
}

/// How far a submitted order has come. Later values replace earlier ones.
#[derive(Debug, Clone)]
pub enum Progress {
    /// Handed over, not durable yet.
    Submitted,
    /// Durable: it will be driven to an end, over any crash.
    Accepted,
    /// This supplier order is its own, and is to be paid ([`PaysOn::Pay`]).
    Created {
        /// The supplier's order.
        order_id: OrderId,
    },
    /// It may have been bought; the router finds out.
    InDoubt,
    /// It may have been bought; a person is asked.
    Held(Why),
    /// The end.
    Ended(End),
    /// It was not taken, or its lane or the router stopped.
    Failed(SubmitError),
}

/// Follows one submitted order. Dropping it cancels nothing.
#[derive(Debug)]
pub struct Ticket {
    progress: Reader,
    failed: watch::Receiver<Option<StoreError>>,
    _place: CallerPlace,
}

/// A caller's place among those who wait; given back when it is dropped.
#[derive(Debug)]
struct CallerPlace(Arc<AtomicUsize>);

impl CallerPlace {
    fn take(callers: &Arc<AtomicUsize>, bound: usize) -> Result<Self, SubmitError> {
        let place = Self(callers.clone());
        if callers.fetch_add(1, Ordering::Relaxed) >= bound {
            return Err(SubmitError::Overloaded { what: "the number of waiting callers", bound });
        }
        Ok(place)
    }
}

impl Drop for CallerPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ticket {
    /// A ticket that somebody else tells, and its caller's place.
    pub(crate) fn told(
        callers: &Arc<AtomicUsize>,
        bound: usize,
    ) -> Result<(Teller, Self), SubmitError> {
        let place = CallerPlace::take(callers, bound)?;
        let (teller, progress) = slot(Progress::Submitted, false);
        // No store of its own: it never fails by it.
        let failed = watch::Sender::new(None).subscribe();
        Ok((teller, Self { progress, failed, _place: place }))
    }

    /// Waits until the order has come further than when this was last asked, and says how far.
    /// `None` after the end. Once the store has failed it says [`Progress::Failed`], always.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub async fn next(&mut self) -> Option<Progress> {
        // A store that was closed is no failure: the router is stopping, and the lanes tell.
        let failure = |failed: &Option<StoreError>| {
            failed.as_ref().is_some_and(|error| !matches!(error, StoreError::Closed))
        };
        tokio::select! {
            biased;
            progress = self.progress.next() => progress,
            Ok(failed) = self.failed.wait_for(failure) => {
                let source = failed.clone().unwrap_or(StoreError::Closed);
                Some(Progress::Failed(SubmitError::Store { may_exist: true, source }))
            }
        }
    }
}

/// What a delivered order holds.
#[derive(Clone)]
pub struct Fulfilment {
    /// The supplier's order.
    pub order_id: OrderId,
    /// The supplier's word for where it stands: `completed`, `cancelled`, `failed`, …
    pub status: String,
    /// What that means.
    pub delivery: Delivery,
    /// The supplier's whole answer, raw: the codes are in `items[].externalData`. Not stored and
    /// never logged: this is the only copy.
    pub raw: Bytes,
}

/// Something that happened, for operators: no notes, no codes, no keys.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouterEvent {
    /// An order came into doubt.
    InDoubt {
        /// The caller's reference.
        client_ref: ClientRef,
    },
    /// An order is held for a person.
    Held {
        /// The caller's reference.
        client_ref: ClientRef,
        /// Why.
        why: Why,
    },
    /// An order ended.
    Ended {
        /// The caller's reference.
        client_ref: ClientRef,
        /// How.
        end: End,
    },
    /// A placed order that somebody asked for has ended at the supplier.
    Fulfilled {
        /// The caller's reference.
        client_ref: ClientRef,
        /// The supplier's order.
        order_id: OrderId,
        /// How.
        delivery: Delivery,
    },
    /// Orders on the account that no intent has.
    Orphans {
        /// Their ids.
        ids: Vec<OrderId>,
    },
    /// Sending on the account has stopped or goes on.
    Sending {
        /// Why it has stopped; `None`: it goes on.
        stopped: Option<Why>,
    },
    /// An assumption is broken, or something else that a person should know.
    Alarm {
        /// What, in plain words.
        what: String,
    },
    /// The balances were read.
    Balances {
        /// One for each currency that the supplier shows.
        balances: Vec<Balance>,
    },
    /// A balance is low, or is not any more.
    BalanceLow {
        /// The balance.
        balance: Balance,
        /// Why it is low; `None`: it is not any more.
        why: Option<Why>,
    },
    /// The account spent more than the orders that are known: somebody else buys, or an order was bought twice.
    Unexplained {
        /// In which currency.
        currency: Currency,
        /// How much more.
        amount: Amount,
    },
    /// A listing was finished.
    Listed {
        /// Rows read.
        rows: usize,
        /// Why it is no evidence of absence, if it is none.
        no_evidence: Option<String>,
    },
    /// This reader was too slow and has missed so many events.
    Missed {
        /// How many.
        events: u64,
    },
}

/// Reads the router's events; bounded, so a slow reader misses some and is told how many.
#[derive(Debug)]
pub struct Events {
    receiver: tokio::sync::broadcast::Receiver<RouterEvent>,
}

impl Events {
    /// The next event; `None` once the router has stopped.
    pub async fn next(&mut self) -> Option<RouterEvent> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(tokio::sync::broadcast::error::RecvError::Lagged(events)) => {
                Some(RouterEvent::Missed { events })
            }
            Err(tokio::sync::broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// A person's decision about an order in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// This supplier order is the intent's. Checked: it exists, was not there before the first
    /// start, its items match, nobody has it.
    Placed(OrderId),
    /// Nothing was bought and nothing will be, by any attempt so far.
    Absent,
    /// A created order is paid. Refused where the supplier shows that it is not.
    Paid,
    /// A created order is not paid, and nothing that was sent will pay it: it is not paid any more.
    /// Refused where the supplier shows it as paid.
    Unpaid,
}

/// How the router is doing. That the store has failed is told by [`OrderRouter::failed`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouterStats {
    /// Orders that have not ended, those in doubt and held as well; at `open_max` no more are taken.
    pub open: usize,
    /// Orders in doubt or held; at `doubts_max` nothing more is sent until some are decided.
    pub in_doubt: usize,
    /// POSTs under way.
    pub posts: usize,
    /// Lanes in memory.
    pub lanes: usize,
    /// Listings begun.
    pub listings: u64,
    /// How long an order was seen to need, at least, from its answer until a list shows it
    /// (assumption A1). The landing bound should be far above it.
    pub list_lag_seen: Duration,
    /// Why nothing is sent at the moment, if so.
    pub sending_stopped: Option<Why>,
    /// The balances, where the supplier has them.
    pub balance: Option<BalanceStats>,
    /// The shared gate's figures, if there is one.
    pub gate: Option<GateStats>,
    /// The store's figures.
    pub store: StoreStats,
}

/// What is known of the balances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BalanceStats {
    /// When they were read last, by the wall clock; `None`: not yet.
    pub read_at: Option<Timestamp>,
    /// Why they were not read the last time, if so: what is below is older.
    pub failure: Option<String>,
    /// How each currency stands.
    pub currencies: Vec<balance::Standing>,
}

/// What a shutdown leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shutdown {
    /// Orders that are still open; the next start drives them on.
    pub open: usize,
    /// Of those, the ones in doubt.
    pub in_doubt: usize,
}

/// Builds a router: `OrderRouter::builder(supplier, store)`, settings, `start`.
pub struct Builder {
    supplier: Arc<dyn Supplier>,
    store: Arc<dyn IntentStore>,
    config: Config,
    runtime: Runtime,
    gate: Option<Arc<SharedGate>>,
    sends: bool,
}

impl Builder {
    /// Sets the configuration. Default: [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets what the router takes from the machine. Default: the system's own.
    #[must_use]
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = runtime;
        self
    }

    /// Sets a gate that is asked before an order is taken: for nodes with different stores. Default:
    /// none.
    #[must_use]
    pub fn gate(mut self, gate: Arc<SharedGate>) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Starts a router that sends no order, whatever it accepts or finds in the store: it reads the
    /// account, and takes a person's decisions. What is to be sent is sent by the next router.
    /// Default: orders are sent.
    #[must_use]
    pub fn without_sending(mut self) -> Self {
        self.sends = false;
        self
    }

    /// Starts the router. It accepts orders at once and sends them as soon as it is
    /// [`OrderRouter::ready`].
    ///
    /// # Errors
    /// [`StartError`] if the settings contradict each other or the store cannot be read.
    pub async fn start(self) -> Result<OrderRouter, StartError> {
        let Self { supplier, store, config, runtime, gate, sends } = self;
        config.check()?;
        let locked_at = runtime.now();
        let found = store.rehydrate().await?;
        let accepted = |mark: &Mark| {
            matches!((mark, config.start), (Mark::Restored(_), StartAnswer::Restored))
        };
        if let Some(mark) = found.mark.as_ref().filter(|mark| !accepted(mark)) {
            return Err(StartError::Marked { mark: mark.clone() });
        }
        // It settles what was restored; the next start sends.
        let sends = sends && config.start != StartAnswer::Restored;
        let echo = crate::actors::echo(&*supplier, &config);
        // Another key of tags is another kind of lane, which shows by working it out again.
        let is_other = |stored: &&Stored| {
            !stored.lane.is_of(echo)
                || (echo.tag.is_some()
                    && !stored.items.is_empty()
                    && stored.lane != echo.lane(&stored.client_ref, &stored.items))
        };
        let open = found.intents.iter().filter(is_other).count();
        if open > 0 {
            return Err(StartError::EchoChanged { open });
        }
        let to_pay = |stored: &Stored| matches!(stored.state, State::Created { .. });
        let pays = config.pays_on == PaysOn::Pay || found.intents.iter().any(to_pay);
        if pays && sends && !supplier.can_pay() {
            return Err(StartError::CannotPay);
        }
        let oldest = found.intents.iter().filter_map(|stored| stored.state.attempt());
        let unseen = unseen_shapes(&found, &config);
        let known = match oldest.map(|attempt| attempt.seq).min() {
            // Any order that was answered will do, to see how it is echoed.
            Some(_) if !unseen.is_empty() => store.known_since(Serial(0)).await?,
            Some(oldest) => store.known_since(oldest).await?,
            None => Vec::new(),
        };
        let rules = AccountRules {
            landing_bound: config.landing_bound,
            request_timeout: config.request_timeout,
            list_margin: config.list_margin,
            clock_margin: config.clock_margin,
            trust_echo: config.trust_echo,
            echo,
            fingerprint: supplier.fingerprint(),
            left_out: config.left_out,
        };
        let stopped = found.paused;
        let newest_order = found.newest_known;
        let before = |line: &HistoryLine| line.newest?.checked_sub(config.clock_margin).ok();
        let newest_known = found.newest_known.or(found.history.as_ref().and_then(before));
        let has_history = found.history.is_some();
        let owed = |stored: &Stored| {
            let paid_later = match &stored.state {
                State::Created { .. } => true,
                state => config.pays_on == PaysOn::Pay && state.attempt().is_some(),
            };
            paid_later.then(|| (stored.id, Price::total(&stored.items).unwrap_or_default()))
        };
        let owed = found.intents.iter().filter_map(owed).collect();
        let counted = Found { spent: found.spent, owed };
        let account = Account::new(
            rules,
            found.history,
            found.orphans,
            found.echo_seen,
            known,
            newest_known,
            locked_at,
        );
        let parts = Parts {
            config,
            supplier,
            store,
            runtime,
            account,
            gate,
            sends,
            stopped,
            found: counted,
        };
        let shared = Arc::new(Shared::new(parts, locked_at));
        lay_down(&shared, found.intents, found.held_lanes);
        let threads = Threads::start(shared.clone()).await.map_err(StartError::Thread)?;
        // Set once, here.
        let _ = shared.threads.set(threads);
        shared.payments.start(&shared);
        if sends {
            Money::start(&shared);
        }
        shared_gate::keep(&shared);
        let (answer, first) = oneshot::channel();
        let start = Start { newest_known, newest_order, has_history, unseen, answer };
        shared.look(LookoutMessage::Start(start));
        Ok(OrderRouter {
            inner: Arc::new(Inner {
                shared,
                callers: Arc::new(AtomicUsize::new(0)),
                stopping: AtomicBool::new(false),
                ready: tokio::sync::Mutex::new(Readiness::Waiting(first)),
                switching: tokio::sync::Mutex::default(),
            }),
        })
    }
}

/// Shapes of orders with an open attempt whose echo was never seen (A4): nothing of them is released
/// before it is.
fn unseen_shapes(found: &Rehydration, config: &Config) -> BTreeSet<Shape> {
    if config.trust_echo {
        return BTreeSet::new();
    }
    let open = found.intents.iter().filter(|stored| stored.state.attempt().is_some());
    open.map(|stored| Shape::of(&stored.items))
        .filter(|shape| !found.echo_seen.contains(shape))
        .collect()
}

/// Puts the lanes of a former process to bed; they wake once the account is known, or when an order
/// for them comes.
fn lay_down(
    shared: &Arc<Shared>,
    intents: Vec<Stored>,
    mut holds: BTreeMap<crate::ItemsHash, Why>,
) {
    // What is to be paid is counted by the cashier.
    let open = intents.iter().filter(|stored| !stored.state.is_decided()).count();
    shared.open.store(open, Ordering::Relaxed);
    let mut lanes: BTreeMap<_, Dormant> = BTreeMap::new();
    for stored in intents {
        shared.name_products(&stored.items);
        if shared.payments.lay_down(shared, &stored) && !stored.unsettled {
            continue;
        }
        lanes.entry(stored.lane).or_default().intents.push(stored);
    }
    for lane in holds.keys() {
        lanes.entry(*lane).or_default();
    }
    for (lane, mut dormant) in lanes {
        dormant.hold = holds.remove(&lane);
        shared.registry.lay_down(lane, dormant);
    }
}

/// A running router: one account, one store. Cheap to clone; every clone is the same router.
#[derive(Clone)]
pub struct OrderRouter {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    callers: Arc<AtomicUsize>,
    stopping: AtomicBool,
    ready: tokio::sync::Mutex<Readiness>,
    /// One at a time switches sending off and on.
    switching: tokio::sync::Mutex<()>,
}

/// What is known of the first reading of the account.
enum Readiness {
    Waiting(oneshot::Receiver<Result<(), StartError>>),
    Ready,
    /// It failed, and the reason was told.
    Failed,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.dispatch.close();
        if let Some(threads) = self.shared.threads.get() {
            threads.stop();
        }
    }
}

impl OrderRouter {
    /// Begins to build a router for an account over a store.
    #[must_use]
    pub fn builder(supplier: Arc<dyn Supplier>, store: Arc<dyn IntentStore>) -> Builder {
        let (config, runtime) = (Config::default(), Runtime::system());
        Builder { supplier, store, config, runtime, gate: None, sends: true }
    }

    /// Waits until the supplier's list was understood and the account's orders are known (rules 14
    /// and 15): from then on orders are sent.
    ///
    /// # Errors
    /// [`StartError`] if that failed: nothing was sent and nothing will be until a new start.
    /// Whoever asks first gets the reason, later callers [`StartError::Stopped`].
    pub async fn ready(&self) -> Result<(), StartError> {
        let mut ready = self.inner.ready.lock().await;
        if let Readiness::Waiting(first) = &mut *ready {
            let result = first.await.unwrap_or(Err(StartError::Stopped));
            *ready = if result.is_ok() { Readiness::Ready } else { Readiness::Failed };
            return result;
        }
        match *ready {
            Readiness::Ready => Ok(()),
            Readiness::Failed | Readiness::Waiting(_) => Err(StartError::Stopped),
        }
    }

    /// Buys an order, once, and says how it ended.
    ///
    /// The same reference again joins the same order and gets its answer.
    ///
    /// # Errors
    /// [`SubmitError`]: each says whether anything was or may have been bought.
    ///
    /// # Cancel safety
    /// Dropping the future cancels nothing: the order goes on.
    pub async fn submit(&self, order: Order) -> Result<End, SubmitError> {
        let client_ref = order.client_ref().clone();
        let limit = self.shared().config.answer_within_or_default();
        let deadline = self.shared().runtime.now().plus(limit);
        let ticket = self.hand_over(order, true)?;
        match self.follow(ticket, &client_ref, limit).await {
            // Its lane has let go of it: it was rebuilt, or the router has stopped.
            Err(SubmitError::Unknown { .. }) => {
                let left = deadline.since(self.shared().runtime.now());
                self.wait(&client_ref, left).await
            }
            told => told,
        }
    }

    /// Hands an order over and follows it: for callers who want to know when it is accepted and
    /// when it comes into doubt.
    ///
    /// # Errors
    /// [`SubmitError::Overloaded`] or [`SubmitError::Stopped`]: nothing was recorded.
    pub fn track(&self, order: Order) -> Result<Ticket, SubmitError> {
        self.hand_over(order, false)
    }

    fn hand_over(&self, order: Order, ends_only: bool) -> Result<Ticket, SubmitError> {
        let shared = self.shared();
        self.going()?;
        if shared.echo.tag.is_some_and(|key| !key.fits(order.items())) {
            return Err(SubmitError::NoRoomForTag { client_ref: order.client_ref().clone() });
        }
        let place = self.take_place()?;
        let open = shared.open.fetch_add(1, Ordering::Relaxed);
        if open >= shared.config.open_max {
            shared.open.fetch_sub(1, Ordering::Relaxed);
            let (what, bound) = ("the number of open orders", shared.config.open_max);
            return Err(SubmitError::Overloaded { what, bound });
        }
        let good_until =
            order.good_until_set().unwrap_or_else(|| self.later(shared.config.good_for));
        let lane = shared.echo.lane(order.client_ref(), &order.items_shared());
        let (progress, ticket) = slot(Progress::Submitted, ends_only);
        let handover = Box::new(Handover { order, good_until, progress, seen: None });
        shared.take_in(lane, handover);
        let failed = shared.failed.subscribe();
        Ok(Ticket { progress: ticket, failed, _place: place })
    }

    /// Where an order stands, as the store has it; `None` if the reference is unknown.
    ///
    /// # Errors
    /// What the store says.
    pub async fn status(&self, client_ref: &ClientRef) -> Result<Option<Stored>, StoreError> {
        self.shared().store.find(client_ref.clone()).await
    }

    /// Waits up to `limit` for the end of an order that was submitted before.
    ///
    /// # Errors
    /// [`SubmitError`], as for [`OrderRouter::submit`]; [`SubmitError::Unknown`] if there is none.
    ///
    /// # Cancel safety
    /// Dropping the future cancels nothing.
    pub async fn wait(&self, client_ref: &ClientRef, limit: Duration) -> Result<End, SubmitError> {
        let shared = self.shared();
        let deadline = shared.runtime.now().plus(limit);
        loop {
            self.going()?;
            let stored = self.stored(client_ref).await?;
            if let Some(end) = end_of(&stored.state) {
                return Ok(end);
            }
            let (progress, ticket) = slot(progress_of(&stored.state), true);
            if let Err(waiters) = shared.payments.enter(shared, &stored, vec![progress]) {
                for progress in waiters {
                    let (intent, client_ref) = (stored.id, client_ref.clone());
                    let attach = LaneMessage::Attach { intent, client_ref, progress };
                    shared.deliver(stored.lane, attach);
                }
            }
            let (failed, _place) = (shared.failed.subscribe(), self.take_place()?);
            let ticket = Ticket { progress: ticket, failed, _place };
            let left = deadline.since(shared.runtime.now());
            match self.follow(ticket, &stored.client_ref, left).await {
                // It ended in between: the store knows how.
                Err(SubmitError::Unknown { .. }) => {}
                told => return told,
            }
        }
    }

    /// Follows a placed order's status until it is terminal, and returns the supplier's whole
    /// answer with the delivered codes. Reads in bulk: one list refreshes many orders. The order is
    /// followed on, and told as an event, when nobody waits any more; whatever comes of it, it is never
    /// bought again by itself: that is for the caller to decide, under a new reference.
    ///
    /// # Errors
    /// [`SubmitError`] if the order does not end placed within `limit`, or its status does not
    /// become terminal; [`SubmitError::UnderWay`] says to ask again.
    pub async fn fulfilled(
        &self,
        client_ref: &ClientRef,
        limit: Duration,
    ) -> Result<Fulfilment, SubmitError> {
        let shared = self.shared();
        let deadline = shared.runtime.now().plus(limit);
        self.wait(client_ref, limit).await?;
        let stored = self.stored(client_ref).await?;
        let State::Placed { id, created_at, .. } = stored.state else {
            return Err(SubmitError::NotBought { client_ref: client_ref.clone() });
        };
        let (answer, told) = oneshot::channel();
        let client_ref = client_ref.clone();
        let follow = Follow { order_id: id, client_ref, created_at, answer };
        shared.look(LookoutMessage::Follow(follow));
        let client_ref = stored.client_ref;
        let left = deadline.since(shared.runtime.now());
        match tokio::time::timeout(left, told).await {
            Ok(Ok(fulfilment)) => Ok(fulfilment),
            Ok(Err(_)) => Err(SubmitError::Stopped),
            Err(_) => Err(SubmitError::UnderWay {
                client_ref,
                ask_again_at: self.later(shared.config.poll_interval),
            }),
        }
    }

    /// Decides an order that is in doubt or held: what a person says, checked, then durable. The
    /// reason stands in the log.
    ///
    /// # Errors
    /// [`ResolveError`]; nothing was changed.
    pub async fn resolve(
        &self,
        client_ref: &ClientRef,
        resolution: Resolution,
        reason: &str,
    ) -> Result<(), ResolveError> {
        if reason.trim().is_empty() {
            return Err(ResolveError::NoReason);
        }
        let stored = self.status(client_ref).await?;
        let Some(stored) = stored else {
            return Err(ResolveError::Unknown { client_ref: client_ref.clone() });
        };
        let not_in_doubt = |state: &State| ResolveError::NotInDoubt {
            client_ref: client_ref.clone(),
            state: state.name(),
        };
        if let Resolution::Paid | Resolution::Unpaid = resolution {
            return self.resolve_payment(&stored, &resolution, reason).await;
        }
        if !matches!(stored.state, State::InDoubt(..) | State::Held(..) | State::Sending(_)) {
            return Err(not_in_doubt(&stored.state));
        }
        let decision = match &resolution {
            Resolution::Placed(id) => self.checked(&stored, id).await?,
            _ => Decision::Absent,
        };
        let (answer, told) = oneshot::channel();
        let resolve = Resolve { intent: stored.id, decision, answer };
        self.shared().deliver(stored.lane, LaneMessage::Resolve(resolve));
        match (told.await, resolution) {
            (Ok(Resolved::Done), _) => {
                tracing::warn!(%client_ref, reason, "decided by a person");
                Ok(())
            }
            (Ok(Resolved::Taken), Resolution::Placed(id)) => Err(ResolveError::Taken { id }),
            (Ok(Resolved::NotInDoubt | Resolved::Taken), _) => Err(not_in_doubt(&stored.state)),
            (Err(_), _) => Err(ResolveError::Stopped),
        }
    }

    /// Checks that a supplier order can be an intent's: it exists, is no history (rule 14), and its
    /// items match. That nobody has it is checked by the write itself.
    async fn checked(&self, stored: &Stored, id: &OrderId) -> Result<Decision, ResolveError> {
        let shared = self.shared();
        let fetched = shared.supplier.fetch(id.clone()).await;
        let row =
            fetched.map_err(|source| ResolveError::NotFetched { id: id.clone(), source })?.row;
        if shared.account().is_history(&row.id, row.created_at) {
            return Err(ResolveError::History { id: id.clone() });
        }
        let hash = |echo| crate::ItemsHash::of_row(row.items.as_deref()?, echo);
        // An order whose tag is not shown is a person's to tell by its items; one with another's is not.
        let by_items = crate::EchoProfile { tag: None, ..shared.echo };
        let fits = match hash(shared.echo) {
            Some(shown) if shown.tag().is_none() && shared.echo.tag.is_some() => {
                Some(crate::ItemsHash::of(&stored.items, by_items)) == hash(by_items)
            }
            shown => shown == Some(stored.lane),
        };
        if !fits {
            return Err(ResolveError::OtherItems { id: id.clone() });
        }
        Ok(Decision::Placed { id: id.clone(), created_at: Some(row.created_at) })
    }

    /// Frees a lane that rule 10 holds, once a person has looked: the orders that nobody has are to
    /// be resolved first. `client_ref` names any order of that lane.
    ///
    /// # Errors
    /// [`ResolveError`]; nothing was changed.
    pub async fn free_lane(&self, client_ref: &ClientRef) -> Result<(), ResolveError> {
        let Some(stored) = self.status(client_ref).await? else {
            return Err(ResolveError::Unknown { client_ref: client_ref.clone() });
        };
        let (done, told) = oneshot::channel();
        self.shared().deliver(stored.lane, LaneMessage::Free { done });
        told.await.map_err(|_| ResolveError::Stopped)
    }

    /// The kill switch: from when this is called no order leaves, and once it returns none will after a
    /// restart either, until [`OrderRouter::resume_sending`]. What has left is followed, and doubts are
    /// decided; orders are taken, and wait as long as they are good.
    ///
    /// # Errors
    /// What the store says: nothing leaves in this process, but the next one would send.
    pub async fn stop_sending(&self, why: impl Into<Why>) -> Result<(), StoreError> {
        let (shared, why) = (self.shared(), why.into());
        shared.switch.set(Some(why.clone()));
        // Whatever else switches meanwhile: what is durable last holds here, too.
        let _turn = self.inner.switching.lock().await;
        shared.switch.set(Some(why.clone()));
        shared.dispatch.look_at_switch(shared);
        shared.store.commit(Change::Pause { why }).await.map(drop)
    }

    /// Switches it off. A [stop file](Config::stop_file) that is there stops on.
    ///
    /// # Errors
    /// What the store says: nothing leaves, now as before.
    pub async fn resume_sending(&self) -> Result<(), StoreError> {
        let shared = self.shared();
        let _turn = self.inner.switching.lock().await;
        shared.store.commit(Change::Resume).await?;
        shared.switch.set(None);
        shared.dispatch.look_at_switch(shared);
        Ok(())
    }

    /// Waits until the store has failed, and says how; never ends while all is well.
    ///
    /// From then on nothing is sent or answered, and no order is taken, until a new start: what was
    /// under way may have been bought, and the new start finds out. A full disk is no failure: the
    /// router takes no more orders, and decides those that it has.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub async fn failed(&self) -> StoreError {
        let mut failed = self.shared().failed.subscribe();
        // The sender is this router's own.
        let known = failed.wait_for(Option::is_some).await;
        known.ok().and_then(|error| error.clone()).unwrap_or(StoreError::Closed)
    }

    /// What happens, from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        Events { receiver: self.shared().events.subscribe() }
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> RouterStats {
        let shared = self.shared();
        RouterStats {
            open: shared.open_count(),
            in_doubt: shared.doubts_count(),
            posts: shared.dispatch.posts(),
            lanes: shared.registry.len(),
            listings: shared.listings.load(Ordering::Relaxed),
            list_lag_seen: shared.account().lag_seen(),
            sending_stopped: shared.dispatch.stopped(),
            balance: shared.money.stats(),
            gate: shared.gate.as_ref().map(|gate| gate.stats()),
            store: shared.store.stats(),
        }
    }

    /// The balances as they were read last; `None` if the supplier has none. It is for people, never a
    /// reason to buy again: what it lost may be anybody's.
    #[must_use]
    pub fn balance(&self) -> Option<BalanceStats> {
        self.shared().money.stats()
    }

    /// The intents that have not ended, as the store has them.
    ///
    /// # Errors
    /// What the store says.
    pub async fn open_orders(&self) -> Result<Vec<Stored>, StoreError> {
        let found = self.shared().store.rehydrate().await?;
        Ok(found.intents.into_iter().filter(|stored| !stored.state.is_end()).collect())
    }

    /// Takes no more orders, waits up to `limit` for POSTs that are under way, and stops. What is
    /// open is driven on at the next start.
    ///
    /// # Errors
    /// What the store says when it is closed.
    pub async fn shutdown(&self, limit: Duration) -> Result<Shutdown, StoreError> {
        let shared = self.shared();
        self.inner.stopping.store(true, Ordering::SeqCst);
        shared.dispatch.close();
        let deadline = shared.runtime.now().plus(limit);
        while !shared.is_quiet() && shared.runtime.now() < deadline {
            shared.runtime.sleep(Duration::from_millis(2)).await;
        }
        let left = Shutdown { open: shared.open_count(), in_doubt: shared.doubts_count() };
        // Writes that are under way become durable before the threads go.
        let closed = shared.store.close().await;
        if let Some(threads) = shared.threads.get() {
            threads.stop();
        }
        closed.map(|()| left)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// A moment of the wall clock, this much later.
    fn later(&self, span: Duration) -> Timestamp {
        self.shared().runtime.clock.wall().checked_add(span).unwrap_or(Timestamp::MAX)
    }

    fn going(&self) -> Result<(), SubmitError> {
        if let Some(source) = self.shared().failed.borrow().clone() {
            return Err(SubmitError::Store { may_exist: false, source });
        }
        if self.inner.stopping.load(Ordering::SeqCst) {
            return Err(SubmitError::Stopped);
        }
        Ok(())
    }

    fn take_place(&self) -> Result<CallerPlace, SubmitError> {
        CallerPlace::take(&self.inner.callers, self.shared().config.callers_max)
    }

    async fn stored(&self, client_ref: &ClientRef) -> Result<Stored, SubmitError> {
        let found = self.status(client_ref).await;
        found
            .map_err(|source| SubmitError::Store { may_exist: true, source })?
            .ok_or_else(|| SubmitError::Unknown { client_ref: client_ref.clone() })
    }

    /// Follows a ticket to its end, at most for `limit`.
    async fn follow(
        &self,
        mut ticket: Ticket,
        client_ref: &ClientRef,
        limit: Duration,
    ) -> Result<End, SubmitError> {
        let shared = self.shared();
        let until = tokio::time::sleep(limit);
        tokio::pin!(until);
        loop {
            tokio::select! {
                biased;
                progress = ticket.progress.next() => match progress {
                    Some(Progress::Ended(end)) => return Ok(end),
                    Some(Progress::Failed(error)) => return Err(error),
                    Some(_) => {}
                    // The lane has let go of it: the store knows.
                    None => return Err(SubmitError::Unknown { client_ref: client_ref.clone() }),
                },
                // What it returns is a lock for reading, held to the end of this branch: to borrow
                // again here waits for ever once somebody wants to write.
                Ok(failed) = ticket.failed.wait_for(Option::is_some) => {
                    let source = failed.clone().unwrap_or(StoreError::Closed);
                    return Err(SubmitError::Store { may_exist: true, source });
                }
                () = &mut until => break,
            }
        }
        let client_ref = client_ref.clone();
        let soon = Duration::from_secs(10);
        let ask_again_at = self.later(shared.config.landing_bound.map_or(soon, |b| b.min(soon)));
        Err(match ticket.progress.last() {
            Progress::Held(why) => SubmitError::Held { client_ref, why },
            Progress::InDoubt => SubmitError::InDoubt { client_ref, ask_again_at },
            _ => SubmitError::UnderWay { client_ref, ask_again_at },
        })
    }
}
