//! Items-hash to lane: at most one actor lives for each, and none is lost while it sleeps.
//!
//! A message is counted under the map's entry lock before it is sent. An actor is removed under
//! the same lock, and only if nothing is counted: so a lane never stops with a message on its way,
//! and two actors of one lane never live at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use actix::dev::channel;
use actix::{Addr, Context};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::Shared;
use super::lane::{LaneActor, LaneMessage};
use crate::order::ItemsHash;
use crate::protocol::{Clause, LeftOut, Moment, Why};
use crate::store::Stored;
use passivation::{LockedEntry, Slot};

mod passivation;

/// The lanes of one account.
#[derive(Default)]
pub(crate) struct Registry {
    lanes: DashMap<ItemsHash, Slot<Lane>>,
    /// Lanes of a former process that have not been woken yet.
    dormant: DashMap<ItemsHash, Dormant>,
    left_out: LeftOut,
}

/// A lane that lives.
struct Lane {
    addr: Addr<LaneActor>,
    gauge: Arc<Gauge>,
}

impl<A> LockedEntry<A> for Entry<'_, ItemsHash, Slot<A>> {
    fn slot(&mut self) -> Option<&mut Slot<A>> {
        match self {
            Self::Occupied(entry) => Some(entry.get_mut()),
            Self::Vacant(_) => None,
        }
    }

    fn fill(self, slot: Slot<A>) {
        self.insert(slot);
    }

    fn remove(self) {
        if let Self::Occupied(entry) = self {
            entry.remove();
        }
    }
}

/// What the lookout sees of a lane without asking it.
#[derive(Default)]
pub(crate) struct Gauge {
    /// Open attempts. Raised before an attempt can leave, lowered once its end is durable.
    pub(crate) open_attempts: AtomicUsize,
    /// The products of the lane's orders.
    pub(crate) products: std::sync::OnceLock<Arc<[Arc<str>]>>,
    /// When the lane wants to be woken, where that is too far off for a timer of its own;
    /// nanoseconds after the clock's origin, 0 if never.
    pub(crate) far_wake: AtomicU64,
}

/// What a lane wakes with.
#[derive(Default)]
pub(crate) struct Dormant {
    pub(crate) intents: Vec<Stored>,
    pub(crate) hold: Option<Why>,
}

impl Dormant {
    fn open_attempts(&self) -> usize {
        self.intents.iter().filter(|stored| stored.state.attempt().is_some()).count()
    }

    /// The products of the lane: those of any of its orders.
    fn products(&self) -> Vec<Arc<str>> {
        let with_items = self.intents.iter().find(|stored| !stored.items.is_empty());
        let items = with_items.into_iter().flat_map(|stored| stored.items.iter());
        items.map(|item| item.id().into()).collect()
    }
}

impl Registry {
    pub(crate) fn new(left_out: LeftOut) -> Self {
        Self { left_out, ..Self::default() }
    }

    pub(crate) fn deliver(&self, shared: &Arc<Shared>, lane: ItemsHash, message: LaneMessage) {
        let Some(threads) = shared.threads.get() else { return };
        let start = || {
            // Also while it wakes, its attempts explain rows.
            let gauge = Arc::new(self.dormant_gauge(&lane));
            let (shared, seen) = (shared.clone(), gauge.clone());
            // Bounds are ours, so the mailbox has none from the first message on: one that
            // refuses would lose an answer. (`start_in_arbiter` begins with 16.)
            let (sender, receiver) = channel::channel(0);
            threads.arbiter(&lane).spawn_fn(move || {
                let actor = LaneActor::new(shared, lane, seen);
                drop(actix::spawn(Context::with_receiver(receiver).into_future(actor)));
            });
            Lane { addr: Addr::new(sender), gauge }
        };
        let send = |lane: &Lane| lane.addr.try_send(message);
        let sent = passivation::deliver(self.lanes.entry(lane), start, send);
        if sent.is_err() {
            // The mailbox has no bound, so its thread is gone: the router has stopped. What the
            // message told is found again in the store at the next start.
            tracing::debug!(%lane, "a message came after the stop");
        }
    }

    /// A message was handled to its end. True if the lane is removed, because it has nothing to do
    /// and no message is on its way to it: its actor must stop.
    pub(crate) fn handled(&self, lane: &ItemsHash, idle: bool) -> bool {
        let gone = passivation::handled(self.lanes.entry(*lane), idle);
        if idle && !gone && !self.left_out.keeps(Clause::PassivationCounted) {
            return self.lanes.remove(lane).is_some();
        }
        gone
    }

    /// Removes a lane that has nothing to do, unless a message is on its way to it.
    pub(crate) fn remove_idle(&self, lane: &ItemsHash) -> bool {
        passivation::remove_idle(self.lanes.entry(*lane))
    }

    fn dormant_gauge(&self, lane: &ItemsHash) -> Gauge {
        let gauge = Gauge::default();
        if let Some(dormant) = self.dormant.get(lane) {
            gauge.open_attempts.store(dormant.open_attempts(), Ordering::SeqCst);
            let products = dormant.products();
            if !products.is_empty() {
                gauge.products.get_or_init(|| products.into());
            }
        }
        gauge
    }

    /// Puts a lane of a former process to bed.
    pub(crate) fn lay_down(&self, lane: ItemsHash, dormant: Dormant) {
        self.dormant.insert(lane, dormant);
    }

    /// What a lane wakes with, once.
    pub(crate) fn take_dormant(&self, lane: &ItemsHash) -> Option<Dormant> {
        if self.dormant.is_empty() {
            return None;
        }
        self.dormant.remove(lane).map(|(_, dormant)| dormant)
    }

    /// The lanes that sleep, in an order that does not depend on the map's.
    pub(crate) fn dormant_lanes(&self) -> Vec<ItemsHash> {
        let mut lanes: Vec<_> = self.dormant.iter().map(|entry| *entry.key()).collect();
        lanes.sort_unstable();
        lanes
    }

    /// Messages that are on their way to lanes.
    pub(crate) fn pending(&self) -> usize {
        self.lanes.iter().map(|slot| slot.pending).sum()
    }

    /// How many lanes live.
    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// The lanes that want to be woken by then, and have no timer of their own for it, in an order
    /// that does not depend on the map's.
    pub(crate) fn far_wakes(&self, by: Moment) -> Vec<ItemsHash> {
        let by = u64::try_from(by.since_origin().as_nanos()).unwrap_or(u64::MAX);
        let due = |slot: &Slot<Lane>| {
            (1..=by).contains(&slot.actor.gauge.far_wake.load(Ordering::Relaxed))
        };
        let due = self.lanes.iter().filter(|slot| due(slot));
        let mut lanes: Vec<_> = due.map(|slot| *slot.key()).collect();
        lanes.sort_unstable();
        lanes
    }

    /// Every lane with an open attempt, and its products.
    ///
    /// The sleeping ones first: one that wakes meanwhile lives before it is taken from them, so it
    /// is seen at least once. The later word on a lane counts.
    pub(crate) fn open_lanes(&self, mut each: impl FnMut(ItemsHash, usize, Vec<Arc<str>>)) {
        for entry in &self.dormant {
            let attempts = entry.value().open_attempts();
            if attempts > 0 {
                each(*entry.key(), attempts, entry.value().products());
            }
        }
        for slot in &self.lanes {
            let attempts = slot.actor.gauge.open_attempts.load(Ordering::SeqCst);
            if attempts > 0 {
                let products =
                    slot.actor.gauge.products.get().map_or_else(Vec::new, |p| p.to_vec());
                each(*slot.key(), attempts, products);
            }
        }
    }
}
