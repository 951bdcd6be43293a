//! The actors and what they share.
//!
//! ```text
//! caller ──track──▶ Registry: items-hash ─▶ LaneActor ──commit──▶ IntentStore
//!                                             │  ▲  ▲
//!                     ask, give back ◀────────┤  │  └── Listed ── Lookout (one listing for all)
//!                     Dispatch ── Permitted ──┼──┘
//!                     POST tasks ─ Answered ──┘
//!
//! LaneActor ── created, to be paid ──▶ Cashier: one task, a bill for each order (payments)
//! ```
//!
//! A lane's actor receives, calls the core's `step`, keeps the state and hands out the effects. It
//! decides nothing and does no I/O of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use dashmap::DashSet;
use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

use crate::config::Config;
use crate::dispatch::{Dispatch, Doubts, Found, LateSockets, Switch, Unreported};
use crate::order::{EchoProfile, Item, ItemsHash, OrderId, Price};
use crate::protocol::account::Account;
use crate::protocol::evidence::EvidencePolicy;
use crate::protocol::lane::Rules;
use crate::protocol::listing::Sheet;
use crate::protocol::payment::evidence::is_paid;
use crate::protocol::{
    Change, Clause, Fingerprint, IDS_PER_RECORD_MAX, IntentId, Moment, PaysOn, Verdict, Why,
};
use crate::router::RouterEvent;
use crate::runtime::Runtime;
use crate::shared_gate::SharedGate;
use crate::store::{IntentStore, Lease, StoreError};
use crate::supplier::Supplier;
use crate::telemetry::{Count, Standing, Telemetry};

mod balance;
mod lane;
mod lookout;
mod payments;
mod registry;
mod replacing;
mod threads;

pub(crate) use balance::Money;
pub(crate) use lane::{FAR, Handover, LaneMessage, Resolve, Resolved, end_of, progress_of};
pub(crate) use lookout::{Follow, LookoutMessage, Start};
pub(crate) use payments::{PayEntry, PayMessage, Payments, Source};
pub(crate) use registry::{Dormant, Registry};
pub(crate) use threads::Threads;

/// What the list shows, as orders are told apart by it.
pub(crate) fn echo(supplier: &dyn Supplier, config: &Config) -> EchoProfile {
    let echo = supplier.capabilities().echo;
    let by_tag = |_: &_| config.left_out.keeps(Clause::TagDecides);
    EchoProfile { tag: echo.tag.filter(by_tag), ..echo }
}

/// What every part of one router has in common.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) rules: Rules,
    pub(crate) policy: EvidencePolicy,
    pub(crate) echo: EchoProfile,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) supplier: Arc<dyn Supplier>,
    pub(crate) store: Arc<dyn IntentStore>,
    pub(crate) runtime: Runtime,
    pub(crate) registry: Registry,
    pub(crate) dispatch: Dispatch,
    /// While it is on, nothing leaves.
    pub(crate) switch: Arc<Switch>,
    pub(crate) late_sockets: LateSockets,
    pub(crate) unreported: Unreported,
    /// Orders whose price guard failed: they are sent without it from now on.
    pub(crate) unguarded: DashSet<IntentId>,
    pub(crate) payments: Payments,
    /// The balances, and what they must be.
    pub(crate) money: Money,
    pub(crate) threads: OnceLock<Threads>,
    account: Mutex<Account>,
    /// Unclaimed rows, by the moment of the list that first showed them.
    free_rows: Mutex<BTreeMap<OrderId, Moment>>,
    pub(crate) telemetry: Telemetry,
    pub(crate) events: broadcast::Sender<RouterEvent>,
    /// Intents that have not ended.
    pub(crate) open: AtomicUsize,
    /// Writes of lanes that are under way.
    pub(crate) busy: AtomicUsize,
    pub(crate) listings: AtomicU64,
    /// Doubts by lane: how many, and the oldest floor of their attempts.
    doubts: Mutex<BTreeMap<ItemsHash, LaneDoubts>>,
    /// Products that an order of ours ever named in this process.
    products: DashSet<Arc<str>>,
    /// The lease under which the store is written, where it is shared (rule 16).
    pub(crate) lease: Option<Arc<Lease>>,
    /// Asked before an order reaches its lane, where nodes have different stores.
    pub(crate) gate: Option<Arc<SharedGate>>,
    /// One at a time asks the supplier whether an order may be replaced.
    pub(crate) replacing: tokio::sync::Mutex<()>,
    /// Settling of attempts of a former process counts from here: when this process held the lock,
    /// and under a lease, by when a former holder's orders have left it (rules 7 and 16).
    pub(crate) locked_at: Moment,
    /// Set once the store has failed: nobody is answered and nothing is sent any more.
    pub(crate) failed: watch::Sender<Option<StoreError>>,
}

/// The doubts of one lane.
#[derive(Clone, Copy)]
pub(crate) struct LaneDoubts {
    pub(crate) count: usize,
    /// What they cost, as far as they have price guards.
    pub(crate) amount: Price,
    /// How many of them have a line without one.
    pub(crate) unpriced: usize,
    /// Since when the lane has had some without a break.
    pub(crate) since: Moment,
    /// The oldest floor of an open attempt; `None`: one knew no order at all.
    pub(crate) floor: Option<Timestamp>,
}

/// What a router is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) supplier: Arc<dyn Supplier>,
    pub(crate) store: Arc<dyn IntentStore>,
    pub(crate) runtime: Runtime,
    pub(crate) account: Account,
    pub(crate) gate: Option<Arc<SharedGate>>,
    /// Orders are sent.
    pub(crate) sends: bool,
    /// Why the host has stopped sending, as the store has it.
    pub(crate) stopped: Option<Why>,
    /// What counts against limits, as the store has it.
    pub(crate) found: Found,
}

impl Shared {
    pub(crate) fn new(parts: Parts, locked_at: Moment) -> Self {
        let Parts { config, supplier, store, runtime, account, gate, sends, stopped, found } =
            parts;
        let (events, _) = broadcast::channel(config.events_max.max(1));
        let lease = store.lease();
        let switch = Arc::new(Switch::new(stopped, config.stop_file.clone()));
        let covered = config.left_out.keeps(Clause::PauseCovered);
        let pause = lease.as_ref().filter(|_| covered).map(|lease| lease.terms().pause_max);
        Self {
            rules: config.rules(supplier.wire_bound()),
            policy: supplier.evidence_policy(),
            echo: echo(&*supplier, &config),
            fingerprint: supplier.fingerprint(),
            dispatch: Dispatch::new(
                &config,
                sends,
                runtime.now(),
                lease.clone(),
                switch.clone(),
                found,
            ),
            switch,
            registry: Registry::new(config.left_out),
            late_sockets: LateSockets::default(),
            unreported: Unreported::default(),
            unguarded: DashSet::default(),
            payments: Payments::default(),
            money: Money::new(&config, &*supplier, runtime.now()),
            threads: OnceLock::new(),
            account: Mutex::new(account),
            free_rows: Mutex::default(),
            telemetry: Telemetry::new(&config.name),
            events,
            open: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            listings: AtomicU64::new(0),
            doubts: Mutex::default(),
            products: DashSet::default(),
            lease,
            gate,
            replacing: tokio::sync::Mutex::default(),
            locked_at: locked_at.plus(pause.unwrap_or_default()),
            failed: watch::channel(None).0,
            config,
            supplier,
            store,
            runtime,
        }
    }

    pub(crate) fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doubts(&self) -> MutexGuard<'_, BTreeMap<ItemsHash, LaneDoubts>> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a message to a lane, starting its actor where it is asleep.
    pub(crate) fn deliver(self: &Arc<Self>, lane: ItemsHash, message: LaneMessage) {
        self.registry.deliver(self, lane, message);
    }

    /// Runs a task on the router's own threads, outside any actor.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(threads) = self.threads.get() {
            threads.spawn(task);
        }
    }

    /// Tells the operator's readers, if there are any.
    pub(crate) fn tell(&self, event: impl FnOnce() -> RouterEvent) {
        if self.events.receiver_count() > 0 {
            // Fails only when the last reader left in between.
            let _ = self.events.send(event());
        }
    }

    /// Something that a person should know.
    pub(crate) fn alarm(&self, what: &str) {
        tracing::warn!(what, "alarm");
        self.telemetry.count(Count::Alarm);
        self.tell(|| RouterEvent::Alarm { what: what.to_owned() });
    }

    pub(crate) fn sending_stopped(&self, why: Option<Why>) {
        match &why {
            Some(why) => tracing::warn!(%why, "sending has stopped"),
            None => tracing::info!("sending goes on"),
        }
        self.tell(|| RouterEvent::Sending { stopped: why });
    }

    /// Looks, after a pause, whether the supplier answers as itself again.
    pub(crate) fn probe_after_pause(&self) {
        self.look(LookoutMessage::Probe);
    }

    /// Hands a message to the lookout.
    pub(crate) fn look(&self, message: LookoutMessage) {
        if let Some(threads) = self.threads.get() {
            threads.look(message);
        }
    }

    /// The store has failed: nobody is answered and nothing is sent any more.
    pub(crate) fn fail(&self, error: &StoreError) {
        self.dispatch.close();
        let first = self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert_with(|| error.clone());
            first
        });
        // A store that was closed is no failure: the router is stopping.
        if first && !matches!(error, StoreError::Closed) {
            tracing::error!(%error, "the store has failed: nothing is sent or answered any more");
            self.tell(|| RouterEvent::Alarm {
                what: format!("the store has failed: {error}; nothing is sent any more"),
            });
        }
    }

    /// What an order costs that is sent in this process; not known if it goes without its price guard.
    pub(crate) fn price_of(&self, intent: IntentId, items: &[Item]) -> Option<Price> {
        let guarded = !self.config.resend_without_guard || !self.unguarded.contains(&intent);
        guarded.then(|| Price::total(items)).flatten()
    }

    /// What an order costs that the store has; not known if it may have gone without its price guard.
    pub(crate) fn price_then(&self, items: &[Item]) -> Option<Price> {
        (!self.config.resend_without_guard).then(|| Price::total(items)).flatten()
    }

    /// Measures the supplier's clock.
    pub(crate) fn supplier_clock(&self, date: Option<Timestamp>) {
        let wall = self.runtime.clock.wall();
        self.dispatch.supplier_says(date, self.runtime.now());
        match date {
            Some(date) => self.account().supplier_clock(date, wall),
            None => self.account().assume_clock(wall, self.runtime.now()),
        }
    }

    /// Whether a list had shown this id, to nobody's claim, before the attempt was recorded.
    pub(crate) fn seen_before(&self, id: &OrderId, recorded: Moment) -> bool {
        let rows = self.free_rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.get(id).is_some_and(|seen| *seen <= recorded) || self.account().is_nobodys(id)
    }

    /// Notes the unclaimed rows of a list. One that is evidence says of the others that they are
    /// not unclaimed any more.
    pub(crate) fn remember_free_rows(&self, ids: &[OrderId], is_evidence: bool, now: Moment) {
        let mut rows = self.free_rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept: BTreeMap<_, _> =
            ids.iter().map(|id| (id.clone(), rows.get(id).copied().unwrap_or(now))).collect();
        if !is_evidence {
            kept.append(&mut rows);
        }
        *rows = kept;
    }

    /// Notes how many attempts of a lane are in doubt.
    pub(crate) fn lane_doubts(self: &Arc<Self>, lane: ItemsHash, doubts: LaneDoubts) {
        let mut all = self.doubts();
        if doubts.count == 0 {
            all.remove(&lane);
        } else {
            let since = all.get(&lane).map_or(doubts.since, |before| before.since);
            all.insert(lane, LaneDoubts { since, ..doubts });
        }
        let sum = all.values().map(|lane| lane.count).sum();
        let amount = amount(&all);
        let unpriced = all.values().map(|lane| lane.unpriced).sum();
        // Told before the lock is free: an older sum must not be the last word.
        self.dispatch.doubts(self, Doubts { count: sum, amount, unpriced });
    }

    /// Records how this router stands, for its figures.
    pub(crate) fn record_standing(&self) {
        self.telemetry.standing(|| self.standing());
    }

    fn standing(&self) -> Standing {
        let (doubt_age, of_orders) = {
            let doubts = self.doubts();
            let oldest = doubts.values().map(|lane| lane.since).min();
            let now = self.runtime.now();
            (oldest.map(|since| now.since(since)).unwrap_or_default(), amount(&doubts))
        };
        Standing {
            open: self.open_count(),
            posts: self.dispatch.posts(),
            doubts: self.doubts_count(),
            doubt_age,
            doubt_amount: of_orders.plus(self.payments.doubts().amount),
            sending: self.dispatch.stopped().is_none(),
            list_lag: self.account().lag_seen(),
            index_lag: self.store.stats().index_lag,
            balance_age: self.money.age(self.runtime.now()),
        }
    }

    pub(crate) fn doubts_count(&self) -> usize {
        let lanes: usize = self.doubts().values().map(|lane| lane.count).sum();
        lanes + self.payments.doubts().count
    }

    /// The oldest floor of an attempt in doubt; `None`: nothing is in doubt.
    pub(crate) fn oldest_doubt(&self) -> Option<Option<Timestamp>> {
        self.doubts().values().map(|lane| lane.floor).min()
    }

    /// Remembers the products of an order.
    pub(crate) fn name_products(&self, items: &[Item]) {
        for item in items {
            if !self.products.contains(item.id()) {
                self.products.insert(item.id_shared());
            }
        }
    }

    pub(crate) fn names_product(&self, id: &str) -> bool {
        self.products.contains(id)
    }

    /// Keeps orders that no intent has: never candidates again (rule 12).
    pub(crate) fn orphans(self: &Arc<Self>, ids: Vec<OrderId>, why: &'static str) {
        if !ids.is_empty() {
            let shared = self.clone();
            self.account().orphan(ids.iter().cloned());
            self.spawn(async move {
                if let Err(error) = shared.keep_orphans(ids, why).await {
                    shared.fail(&error);
                }
            });
        }
    }

    /// The same, durable when it returns.
    pub(crate) async fn keep_orphans(
        &self,
        ids: Vec<OrderId>,
        why: &'static str,
    ) -> Result<(), StoreError> {
        self.account().orphan(ids.iter().cloned());
        self.telemetry.count(Count::Orphans(ids.len()));
        self.alarm(&format!("{} orders on the account that no intent has: {why}", ids.len()));
        for ids in ids.chunks(IDS_PER_RECORD_MAX) {
            self.store.commit(Change::Orphans { ids: ids.to_vec(), why: why.into() }).await?;
        }
        self.tell(|| RouterEvent::Orphans { ids });
        Ok(())
    }

    /// What is written for a verdict: an order that is not paid by being created is to be paid.
    fn as_it_pays(&self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Placed { id, learnt, created_at } if self.config.pays_on == PaysOn::Pay => {
                Verdict::Created { id, learnt, created_at }
            }
            other => other,
        }
    }

    /// Passes on which orders to be paid a list shows as paid.
    fn seen_paid(&self, sheet: &Sheet) {
        if self.payments.is_any() {
            let paid = sheet.rows.iter().filter(|row| is_paid(&row.status));
            let ids: Vec<_> = paid.map(|row| row.id.clone()).collect();
            self.payments.send(self, PayMessage::SeenPaid(ids));
        }
    }

    /// Whether no POST is under way and every answer has been written. In this order: an order at the
    /// gate and a POST become a message to their lane, and that becomes a write, before the former is
    /// counted off.
    pub(crate) fn is_quiet(&self) -> bool {
        self.gate.as_ref().is_none_or(|gate| gate.is_quiet())
            && self.dispatch.posts() == 0
            && self.registry.pending() == 0
            && self.busy.load(Ordering::SeqCst) == 0
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// What all doubts cost together.
fn amount(doubts: &BTreeMap<ItemsHash, LaneDoubts>) -> Price {
    doubts.values().fold(Price::default(), |sum, lane| sum.plus(lane.amount))
}

#[cfg(all(test, feature = "simulator"))]
mod tests;
