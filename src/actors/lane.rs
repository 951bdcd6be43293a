//! The actor of one lane, its messages and its handlers.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message};
use actix::{SpawnHandle, WrapFuture};
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::registry::Gauge;
use super::{LaneDoubts, Shared};
use crate::error::SubmitError;
use crate::order::{ClientRef, Item, ItemsDigest, ItemsHash, Order, Price};
use crate::protocol::lane::{Decision, Event, Lane, ListView, Restored, Told};
use crate::protocol::{Attempt, AttemptSeq, IntentId, Moment, NewIntent, Outcome, PayStep, State};
use crate::router::{End, Progress, Teller};
use crate::store::Stored;

mod effects;
mod waking;

/// From how far off on a moment is left to the lookout, which looks at all lanes twice in that time.
pub(crate) const FAR: Duration = Duration::from_secs(60);

/// A caller's order on its way to its lane.
pub(crate) struct Handover {
    pub(crate) order: Order,
    pub(crate) good_until: Timestamp,
    pub(crate) progress: Teller,
    /// Whoever else wants to hear what comes of it first.
    pub(crate) seen: Option<Teller>,
}

/// A person's checked decision on its way to its lane.
pub(crate) struct Resolve {
    pub(crate) intent: IntentId,
    pub(crate) decision: Decision,
    pub(crate) answer: oneshot::Sender<Resolved>,
}

/// What came of a person's decision.
#[derive(Debug)]
pub(crate) enum Resolved {
    /// It is durable.
    Done,
    /// The intent is not in doubt.
    NotInDoubt,
    /// Another intent has the order.
    Taken,
}

/// What a lane is told.
pub(crate) enum LaneMessage {
    /// A caller hands an order over.
    Submit(Box<Handover>),
    /// A caller waits for an intent that was accepted before; dropped if it has ended.
    Attach { intent: IntentId, client_ref: ClientRef, progress: Teller },
    /// A permit to send.
    Permitted { intent: IntentId },
    /// The outcome of a POST.
    Answered { intent: IntentId, seq: AttemptSeq, outcome: Outcome, left: Option<Moment> },
    /// A list that was asked for, in this epoch of the lane.
    Listed { view: Box<ListView>, epoch: u64 },
    /// A person's decision.
    Resolve(Resolve),
    /// A person ends the hold.
    Free { done: oneshot::Sender<()> },
    /// Wakes a lane: one of a former process, or one whose far moment is near.
    Wake,
    /// Fails on purpose: what follows is the proof that a panic loses nothing.
    #[cfg(test)]
    Panic,
}

impl Message for LaneMessage {
    type Result = ();
}

/// One intent of the lane, as far as the core need not know it.
struct Open {
    client_ref: ClientRef,
    items: Arc<[Item]>,
    /// What the store is given when it is accepted; gone after that.
    new: Option<Box<NewIntent>>,
    waiters: Vec<Teller>,
    span: tracing::Span,
}

/// Owns the in-flight orders of one items-hash, so that duplicates are serialised in memory.
pub(crate) struct LaneActor {
    shared: Arc<Shared>,
    hash: ItemsHash,
    lane: Lane,
    /// Boxed for the same reason as in the core.
    orders: BTreeMap<IntentId, Box<Open>>,
    resolving: BTreeMap<IntentId, oneshot::Sender<Resolved>>,
    gauge: Arc<Gauge>,
    timer: Option<(Moment, SpawnHandle)>,
    doubts: usize,
    /// Futures of this actor that are under way.
    busy: usize,
    /// Counts rebuilds: what was under way before one is not for the lane after it.
    epoch: u64,
    /// Messages that wait for the rebuild after a panic.
    rebuilding: Option<Vec<LaneMessage>>,
}

impl Actor for LaneActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(dormant) = self.shared.registry.take_dormant(&self.hash) {
            let left = self.shared.locked_at;
            self.guarded(ctx, |lane, ctx| lane.wake(dormant, left, ctx));
        }
    }
}

impl Handler<LaneMessage> for LaneActor {
    type Result = ();

    fn handle(&mut self, message: LaneMessage, ctx: &mut Self::Context) {
        self.take(message, ctx);
        let idle = self.is_idle();
        if self.shared.registry.handled(&self.hash, idle) {
            ctx.stop();
        }
    }
}

impl LaneActor {
    pub(crate) fn new(shared: Arc<Shared>, hash: ItemsHash, gauge: Arc<Gauge>) -> Self {
        Self {
            shared,
            hash,
            lane: Lane::default(),
            orders: BTreeMap::new(),
            resolving: BTreeMap::new(),
            gauge,
            timer: None,
            doubts: 0,
            busy: 0,
            epoch: 0,
            rebuilding: None,
        }
    }

    fn is_idle(&self) -> bool {
        self.busy == 0 && self.rebuilding.is_none() && self.orders.is_empty() && self.lane.is_idle()
    }

    /// Does something that must not panic; if it does, the lane is rebuilt from the store, with its
    /// attempts in doubt. A panic is our bug: nothing of the state is believed after it.
    fn guarded(
        &mut self,
        ctx: &mut Context<Self>,
        work: impl FnOnce(&mut Self, &mut Context<Self>),
    ) {
        if catch_unwind(AssertUnwindSafe(|| work(self, ctx))).is_err() {
            self.shared.alarm(&format!(
                "lane {} has panicked and is rebuilt from the store; its attempts are in doubt",
                self.hash
            ));
            self.rebuild(ctx);
        }
    }

    /// Handles a message, or keeps it until the lane is rebuilt.
    fn take(&mut self, message: LaneMessage, ctx: &mut Context<Self>) {
        match &mut self.rebuilding {
            Some(waiting) => waiting.push(message),
            None => self.guarded(ctx, |lane, ctx| lane.receive(message, ctx)),
        }
    }

    fn receive(&mut self, message: LaneMessage, ctx: &mut Context<Self>) {
        match message {
            LaneMessage::Submit(handover) => self.submit(*handover, ctx),
            LaneMessage::Attach { intent, client_ref, progress } => {
                self.attach(intent, &client_ref, progress);
            }
            LaneMessage::Permitted { intent } => {
                let attempt = self.attempt();
                self.feed(Event::Permitted { intent, attempt }, ctx);
            }
            LaneMessage::Answered { intent, seq, outcome, left } => {
                self.feed(Event::Answered { intent, seq, outcome, left }, ctx);
            }
            LaneMessage::Listed { view, epoch } if epoch == self.epoch => {
                self.feed(Event::Listed(*view), ctx);
            }
            // Asked for before a rebuild: what was claimed since the lane does not remember, and
            // would take for orders of somebody else. It has asked anew.
            LaneMessage::Listed { .. } => {}
            LaneMessage::Resolve(resolve) => self.resolve(resolve, ctx),
            LaneMessage::Free { done } => {
                self.feed(Event::Freed, ctx);
                // Nobody waits any more if this fails.
                let _ = done.send(());
            }
            LaneMessage::Wake => self.feed(Event::Woke, ctx),
            #[cfg(test)]
            LaneMessage::Panic => panic!("told to"),
        }
    }

    /// The next attempt of this lane, as of now.
    fn attempt(&self) -> Attempt {
        Attempt {
            seq: self.shared.store.next_serial(),
            fingerprint: self.shared.fingerprint,
            floor: self.shared.account().floor(self.shared.runtime.now()),
        }
    }

    fn submit(&mut self, handover: Handover, ctx: &mut Context<Self>) {
        let Handover { order, good_until, progress, seen } = handover;
        let shared = self.shared.clone();
        let (now, wall) = (shared.runtime.now(), shared.runtime.clock.wall());
        let id = shared.store.next_serial();
        let new = NewIntent {
            id,
            client_ref: order.client_ref().clone(),
            lane: self.hash,
            as_sent: ItemsDigest::as_sent(order.items()),
            delivered: ItemsDigest::delivered(order.items(), shared.config.guard_distinguishes),
            items: order.items_shared(),
            good_until,
            accepted_at: wall,
        };
        let delivered = new.delivered;
        let (client_ref, items) = (new.client_ref.clone(), new.items.clone());
        let open = self.enter(id, &client_ref, &items, Some(Box::new(new)));
        open.waiters.extend([progress].into_iter().chain(seen));
        if let Some(why) = shared.config.over_limit(&items) {
            let refused = SubmitError::OverLimit { client_ref, why };
            return self.turn_away(id, refused, ctx);
        }
        let permit = shared.dispatch.try_take(now).then(|| self.attempt());
        let good_until = now.plus(until(wall, good_until));
        self.feed(Event::Submitted { intent: id, delivered, good_until, permit }, ctx);
    }

    /// Takes an intent in.
    fn enter(
        &mut self,
        intent: IntentId,
        client_ref: &ClientRef,
        items: &Arc<[Item]>,
        new: Option<Box<NewIntent>>,
    ) -> &mut Open {
        let span = tracing::info_span!(
            "order",
            %client_ref,
            items_hash = %self.hash,
            verdict = tracing::field::Empty,
        );
        self.gauge.products.get_or_init(|| items.iter().map(Item::id_shared).collect());
        self.shared.name_products(items);
        let (client_ref, items) = (client_ref.clone(), items.clone());
        let open = Open { client_ref, items, new, waiters: Vec::new(), span };
        self.orders.entry(intent).or_insert(Box::new(open))
    }

    fn attach(&mut self, intent: IntentId, client_ref: &ClientRef, progress: Teller) {
        // Once another router has taken the store over, it gives numbers of this one's out anew.
        let open = self.orders.get_mut(&intent).filter(|open| open.client_ref == *client_ref);
        if let Some(open) = open {
            if let Some(standing) = self.lane.standing(intent) {
                progress.tell(told_progress(&standing));
            }
            open.waiters.push(progress);
        }
    }

    fn resolve(&mut self, resolve: Resolve, ctx: &mut Context<Self>) {
        let Resolve { intent, decision, answer } = resolve;
        self.resolving.insert(intent, answer);
        self.feed(Event::Resolved { intent, decision }, ctx);
    }

    fn resolved(&mut self, intent: IntentId, outcome: Resolved) {
        if let Some(answer) = self.resolving.remove(&intent) {
            // Nobody waits any more if this fails.
            let _ = answer.send(outcome);
        }
    }

    /// Steps the core, carries its effects out, and settles what follows from the new state.
    fn feed(&mut self, event: Event, ctx: &mut Context<Self>) {
        let now = self.shared.runtime.now();
        let effects = self.lane.step(&self.shared.rules, event, now);
        // Before anything of it can leave: rows of a list are explained from here on.
        let open = self.lane.open_attempts();
        if open > self.gauge.open_attempts.load(Ordering::Relaxed) {
            self.gauge.open_attempts.store(open, Ordering::SeqCst);
        }
        for effect in effects {
            self.carry_out(effect, ctx);
        }
        self.gauge.open_attempts.store(self.lane.open_attempts(), Ordering::SeqCst);
        self.note_doubts();
        self.set_timer(now, ctx);
    }

    fn note_doubts(&mut self) {
        let count = self.lane.doubts_count();
        if count != self.doubts {
            self.doubts = count;
            let floor = self.lane.oldest_floor();
            let since = self.shared.runtime.now();
            let orders = self.lane.intents_in_doubt().filter_map(|id| self.orders.get(&id));
            let (mut amount, mut unpriced) = (Price::default(), 0);
            for order in orders {
                match Price::total(&order.items) {
                    Some(price) => amount = amount.plus(price),
                    None => unpriced += 1,
                }
            }
            let doubts = LaneDoubts { count, amount, unpriced, since, floor };
            self.shared.lane_doubts(self.hash, doubts);
        }
    }

    fn set_timer(&mut self, now: Moment, ctx: &mut Context<Self>) {
        let wakes_at = self.lane.wakes_at(&self.shared.rules);
        // What is far off needs no timer, which costs memory in every lane: the lookout wakes the
        // lane when it is near.
        let far = wakes_at.filter(|at| at.since(now) > FAR);
        let nanos = far.map_or(0, |at| u64::try_from(at.since_origin().as_nanos()).unwrap_or(0));
        self.gauge.far_wake.store(nanos, Ordering::Relaxed);
        let at = wakes_at.filter(|_| far.is_none());
        if self.timer.map(|(set, _)| set) == at {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        self.timer = at.map(|at| {
            // A moment later rather than earlier: a timer that comes too early comes again.
            let span = at.since(now) + Duration::from_millis(1);
            let handle = ctx.run_later(span, |lane, ctx| {
                lane.timer = None;
                if lane.rebuilding.is_none() {
                    lane.guarded(ctx, |lane, ctx| lane.feed(Event::Woke, ctx));
                }
                lane.rest(ctx);
            });
            (at, handle)
        });
    }

    /// Stops if there is nothing to do and no message is on its way.
    fn rest(&mut self, ctx: &mut Context<Self>) {
        if self.is_idle() && self.shared.registry.remove_idle(&self.hash) {
            ctx.stop();
        }
    }

    /// Runs a future of this actor's, then goes on with its result.
    fn after<T: 'static>(
        &mut self,
        ctx: &mut Context<Self>,
        future: impl Future<Output = T> + 'static,
        then: impl FnOnce(&mut Self, T, &mut Context<Self>) + 'static,
    ) {
        self.busy += 1;
        self.shared.busy.fetch_add(1, Ordering::SeqCst);
        let epoch = self.epoch;
        let future = future.into_actor(self).map(move |result, lane, ctx| {
            lane.busy -= 1;
            if lane.epoch == epoch {
                lane.guarded(ctx, |lane, ctx| then(lane, result, ctx));
            } else {
                lane.rebuild_once_quiet(ctx);
            }
            lane.shared.busy.fetch_sub(1, Ordering::SeqCst);
            lane.rest(ctx);
        });
        ctx.spawn(future);
    }
}

/// How long until a wall-clock moment; nothing if it has passed.
fn until(wall: Timestamp, moment: Timestamp) -> Duration {
    Duration::try_from(moment.duration_since(wall)).unwrap_or(Duration::ZERO)
}

/// What callers see of what the core tells.
fn told_progress(told: &Told) -> Progress {
    match told.clone() {
        Told::Accepted | Told::NotInDoubt => Progress::Accepted,
        Told::InDoubt => Progress::InDoubt,
        Told::Held(why) => Progress::Held(why),
        Told::LaneHeld(why) => Progress::Failed(SubmitError::LaneHeld { why }),
        Told::Placed { id, learnt, .. } => Progress::Ended(End::Placed { order_id: id, learnt }),
        Told::Refused(why) => Progress::Ended(End::Refused { why }),
        Told::NotPlaced(why) => Progress::Ended(End::NotPlaced { why }),
    }
}

/// An intent of the store as the core takes it back.
fn restored(stored: &Stored, wall: Timestamp, now: Moment) -> Restored {
    Restored {
        intent: stored.id,
        delivered: stored.delivered,
        good_until: now.plus(until(wall, stored.good_until)),
        tries: stored.tries,
        state: stored.state.clone(),
        last_attempt: stored.last_attempt,
        unsettled: stored.unsettled,
        unreported: false,
    }
}

/// The end that a stored state is, if it is one.
pub(crate) fn end_of(state: &State) -> Option<End> {
    match state {
        State::Placed { id, learnt, .. } => {
            Some(End::Placed { order_id: id.clone(), learnt: *learnt })
        }
        State::Refused(why) => Some(End::Refused { why: why.clone() }),
        State::NotPlaced(why) => Some(End::NotPlaced { why: why.clone() }),
        State::Unpaid { id, why, .. } => {
            Some(End::Unpaid { order_id: id.clone(), why: why.clone() })
        }
        State::Queued
        | State::Sending(_)
        | State::InDoubt(..)
        | State::Held(..)
        | State::Created { .. } => None,
    }
}

/// What callers see of a stored state.
pub(crate) fn progress_of(state: &State) -> Progress {
    match (end_of(state), state) {
        (Some(end), _) => Progress::Ended(end),
        (None, State::InDoubt(..)) => Progress::InDoubt,
        (None, State::Held(_, why)) => Progress::Held(why.clone()),
        (None, State::Created { id, payment, why, .. }) => match payment.step {
            PayStep::Due | PayStep::Sending => Progress::Created { order_id: id.clone() },
            PayStep::InDoubt => Progress::InDoubt,
            PayStep::Held => Progress::Held(why.clone()),
        },
        (None, _) => Progress::Accepted,
    }
}
