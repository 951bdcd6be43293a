//! The store, overheard by the oracle: slow to answer at times, with bugs of the router's own code
//! where a world has them, and without what a clause demands of it where that is left out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use order_router::protocol::{Change, Clause, Learnt, LeftOut, Serial, Verdict};
use order_router::store::{
    Claim, Committed, Durability, EmbeddedStore, IntentStore, Known, Rehydration, StoreError,
    StoreStats, Stored,
};
use order_router::{ClientRef, OrderId};

use crate::world::World;

/// How long a write takes that was answered before it was made.
const LATE_WRITE: Duration = Duration::from_millis(50);
/// How long answers take once the run is over: so long that it ends.
const OVER: Duration = Duration::from_secs(10);
/// What a panic on purpose says.
pub const PANIC: &str = "a bug of the simulation's";

type Answer<T> = BoxFuture<'static, Result<T, StoreError>>;

pub struct SlowStore {
    core: Arc<Core>,
}

struct Core {
    inner: EmbeddedStore,
    world: Arc<World>,
    left_out: LeftOut,
    /// Changes that were answered and are not written yet, in their order.
    early: Mutex<VecDeque<Change>>,
    /// The error of such a write.
    failed: Mutex<Option<StoreError>>,
}

/// Decisions that somebody else keeps and writes again.
pub type Repeated = Mutex<VecDeque<Change>>;
/// Claims that were written before what they belong to.
pub type ClaimsAlone = Mutex<BTreeMap<OrderId, Claim>>;

impl SlowStore {
    pub fn new(inner: EmbeddedStore, world: Arc<World>, left_out: LeftOut) -> Self {
        let (early, failed) = (Mutex::default(), Mutex::default());
        Self { core: Arc::new(Core { inner, world, left_out, early, failed }) }
    }

    /// The store works at once; its answer takes as long as the schedule says.
    fn later<T: Send + 'static>(&self, answer: BoxFuture<'static, T>) -> BoxFuture<'static, T> {
        let world = &self.core.world;
        // Once something is broken the run is over, also if the router goes round in circles.
        let is_over = world.violation().is_some();
        let delay = if is_over { OVER } else { world.ticks(world.store_delay()) };
        async move {
            let answer = answer.await;
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            answer
        }
        .boxed()
    }
}

impl Core {
    fn write(&self, change: Change) -> Result<Committed, StoreError> {
        let answer = self.inner.commit(change.clone()).now_or_never().expect("inline");
        self.world.committed(&change, &answer);
        answer
    }

    /// Writes what was answered before.
    fn catch_up(&self) {
        loop {
            let Some(change) = self.early.lock().unwrap().pop_front() else { return };
            if let Err(error) = self.write(change) {
                self.failed.lock().unwrap().get_or_insert(error);
            }
        }
    }

    /// The answer to a change that was written a moment after it was asked for.
    fn done(&self) -> Result<Committed, StoreError> {
        self.failed.lock().unwrap().clone().map_or(Ok(Committed::Done), Err)
    }

    fn stored(&self, name: &ClientRef) -> Option<Stored> {
        self.inner.find(name.clone()).now_or_never().and_then(Result::ok).flatten()
    }

    fn claim(&self, id: &OrderId) -> Option<Claim> {
        let claims = self.inner.claims(vec![id.clone()]).now_or_never().and_then(Result::ok)?;
        claims.into_iter().next().flatten()
    }

    /// Whether a clause that is left out lets this be answered before it is durable.
    fn is_early(&self, change: &Change) -> bool {
        let without = |clause| !self.left_out.keeps(clause);
        match change {
            Change::Accept { intent, attempt } => {
                let without = without(Clause::AcceptBeforeTold)
                    || (attempt.is_some() && without(Clause::RecordBeforeSend));
                without && self.stored(&intent.client_ref).is_none()
            }
            Change::Record { .. } => without(Clause::RecordBeforeSend),
            Change::Decide { verdict: Verdict::Placed { id, .. }, .. } => {
                without(Clause::ToldAfterDurable) && self.claim(id).is_none()
            }
            _ => false,
        }
    }

    /// Where that clause is left out: the claim is written now, and the end a moment later.
    fn claims_alone(&self, change: &Change) -> bool {
        let Change::Decide { intent, verdict: Verdict::Placed { id, learnt, .. }, .. } = change
        else {
            return false;
        };
        if self.left_out.keeps(Clause::ClaimWithPlaced) || self.claim(id).is_some() {
            return false;
        }
        let Some(lane) = self.world.lane_of(id) else { return false };
        let claim = Claim { id: id.clone(), intent: *intent, lane, learnt: *learnt };
        self.world.claims_alone.lock().unwrap().insert(id.clone(), claim);
        true
    }

    /// A bug of ours, before or after a write of a lane.
    fn panics(&self, change: &Change) {
        let of_a_lane = matches!(change, Change::Record { .. } | Change::Decide { .. });
        if of_a_lane && self.world.panics() {
            self.panic();
        }
    }

    /// And after an intent came in doubt, or was placed from a list.
    fn panics_decided(&self, change: &Change) {
        let Change::Decide { verdict, .. } = change else { return };
        let of_a_list = matches!(verdict, Verdict::Placed { learnt: Learnt::List, .. });
        if (of_a_list || matches!(verdict, Verdict::InDoubt(_))) && self.world.panics_decided() {
            self.panic();
        }
    }

    fn panic(&self) {
        self.world.note(|| PANIC.to_owned());
        panic!("{PANIC}");
    }

    /// Somebody else writes what was written before.
    fn repeat(&self, change: &Change) {
        let mut repeated = self.world.repeated.lock().unwrap();
        // A doubt that is written over a lane that is held would be asked of nobody (A5).
        let decides = |verdict: &Verdict| !matches!(verdict, Verdict::InDoubt(_));
        let is_decision = matches!(change, Change::Decide { verdict, .. } if decides(verdict));
        if is_decision && self.world.repeats() {
            repeated.push_back(change.clone());
        }
        if repeated.len() > 2 || (!repeated.is_empty() && self.world.repeats()) {
            let again = repeated.pop_front();
            drop(repeated);
            if let Some(again) = again {
                self.world.note(|| "somebody else writes:".to_owned());
                let _ = self.write(again);
            }
        }
    }
}

impl IntentStore for SlowStore {
    fn next_serial(&self) -> Serial {
        self.core.inner.next_serial()
    }

    fn commit(&self, change: Change) -> Answer<Committed> {
        let core = &self.core;
        core.catch_up();
        if core.is_early(&change) || core.claims_alone(&change) {
            core.early.lock().unwrap().push_back(change.clone());
            let (core, is_early) = (core.clone(), core.is_early(&change));
            let write = async move {
                tokio::time::sleep(LATE_WRITE).await;
                core.catch_up();
                core.done()
            };
            if !is_early {
                return write.boxed();
            }
            drop(tokio::spawn(write));
            return std::future::ready(Ok(Committed::Done)).boxed();
        }
        core.panics(&change);
        let answer = core.write(change.clone());
        core.repeat(&change);
        core.panics(&change);
        core.panics_decided(&change);
        core.world.stall_write();
        self.later(std::future::ready(answer).boxed())
    }

    fn find(&self, name: ClientRef) -> Answer<Option<Stored>> {
        self.core.catch_up();
        self.later(self.core.inner.find(name))
    }

    fn claims(&self, ids: Vec<OrderId>) -> Answer<Vec<Option<Claim>>> {
        let alone = self.core.world.claims_alone.lock().unwrap().clone();
        let asked = ids.clone();
        let claims = self.core.inner.claims(ids).map(move |claims| {
            let either =
                |(id, claim): (&OrderId, Option<Claim>)| claim.or_else(|| alone.get(id).cloned());
            claims.map(|claims| asked.iter().zip(claims).map(either).collect())
        });
        self.later(claims.boxed())
    }

    fn rehydrate(&self) -> Answer<Rehydration> {
        self.core.catch_up();
        self.later(self.core.inner.rehydrate())
    }

    fn known_since(&self, since: Serial) -> Answer<Vec<Known>> {
        self.later(self.core.inner.known_since(since))
    }

    fn stats(&self) -> StoreStats {
        self.core.inner.stats()
    }

    fn durability(&self) -> Durability {
        self.core.inner.durability()
    }

    fn close(&self) -> Answer<()> {
        self.core.inner.close()
    }
}
