//! The lookout: one listing at a time, for every lane that asked before it was requested.
//!
//! It also reads the account at the start (rules 14 and 15), looks again after every release for
//! what landed too late (rule 12), and follows the status of placed orders in bulk.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use futures_util::FutureExt;
use jiff::Timestamp;

use super::{FAR, LaneMessage, Shared};
use crate::crash;
use crate::order::{ItemsHash, OrderId};
use crate::protocol::account::{Assessment, LANDING_BOUND, OpenLane};
use crate::protocol::listing::{Checkpoint, Sheet};
use crate::protocol::{Change, Clause, Moment, Shape};
use crate::router::RouterEvent;
use crate::store::{Claim, StoreError};

mod follow;
mod read;
mod start;

pub(crate) use follow::Follow;
use follow::Follows;
pub(crate) use start::Start;

/// After every release the account is listed again at these times (rule 12).
const LATE_LANDINGS: [Duration; 6] = [
    Duration::from_secs(60),
    Duration::from_secs(2 * 60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(24 * 60 * 60),
];
/// How often what no listing can reach any more is forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// A lane's question.
pub(crate) struct Ask {
    pub(crate) lane: ItemsHash,
    pub(crate) ask: u64,
    /// Which lane asks: one that was rebuilt since does not take the answer.
    pub(crate) epoch: u64,
    pub(crate) since: Option<Timestamp>,
    pub(crate) products: Arc<[Arc<str>]>,
    pub(crate) shapes: BTreeSet<Shape>,
}

/// What the lookout is told.
pub(crate) enum LookoutMessage {
    /// A lane wants a list that is requested from now on.
    Ask(Ask),
    /// An attempt was released: look for late landings, back to its floor.
    Released { floor: Option<Timestamp> },
    /// Sending was paused: look whether the supplier answers as itself again.
    Probe,
    /// Somebody follows a placed order.
    Follow(Follow),
    /// Read the account, then begin to send.
    Start(Start),
}

impl Message for LookoutMessage {
    type Result = ();
}

/// The actor.
pub(crate) struct Lookout {
    shared: Arc<Shared>,
    asks: Vec<Ask>,
    reading: bool,
    began: Option<Moment>,
    timer: Option<actix::SpawnHandle>,
    /// Looks for late landings: when, and how far back.
    late: BTreeSet<(Moment, Option<Timestamp>)>,
    /// Up to here the account was read by a list that is evidence: what landed late has a later
    /// `createdAt`, but for the landing bound, within which a row may come to be shown.
    read_up_to: Option<Timestamp>,
    checkpoint: Option<Checkpoint>,
    follows: Follows,
    probing: bool,
    /// It was time to forget while a listing was read.
    prune_due: bool,
    /// Floors of some moments ago: what is on the wire now cannot be older.
    floors: Vec<(Moment, Option<Timestamp>)>,
}

impl Actor for Lookout {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        ctx.run_interval(PRUNE_EVERY, |lookout, _| {
            lookout.shared.dispatch.look_at_switch(&lookout.shared);
            lookout.shared.record_standing();
            lookout.prune();
        });
        ctx.run_interval(FAR / 2, |lookout, _| {
            let shared = &lookout.shared;
            for lane in shared.registry.far_wakes(shared.runtime.now().plus(FAR)) {
                shared.deliver(lane, LaneMessage::Wake);
            }
        });
    }
}

impl Handler<LookoutMessage> for Lookout {
    type Result = ();

    fn handle(&mut self, message: LookoutMessage, ctx: &mut Self::Context) {
        match message {
            LookoutMessage::Ask(ask) => {
                self.asks.push(ask);
                self.begin(ctx);
            }
            LookoutMessage::Released { floor } => {
                if !self.shared.config.left_out.keeps(Clause::ListedAgain) {
                    return;
                }
                let now = self.shared.runtime.now();
                self.late.extend(LATE_LANDINGS.map(|after| (now.plus(after), floor)));
                self.begin(ctx);
            }
            LookoutMessage::Probe => self.probe(ctx),
            LookoutMessage::Follow(follow) => self.follow(follow, ctx),
            LookoutMessage::Start(start) => {
                let shared = self.shared.clone();
                ctx.spawn(start::prepare(shared, start).into_actor(self));
            }
        }
    }
}

/// A listing with everything that it is judged by.
struct Arrived {
    sheet: Sheet,
    requested: Moment,
    arrived: Moment,
    open: BTreeMap<ItemsHash, OpenLane>,
    claims: Result<Vec<Claim>, StoreError>,
}

impl Lookout {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            asks: Vec::new(),
            reading: false,
            began: None,
            timer: None,
            late: BTreeSet::new(),
            read_up_to: None,
            checkpoint: None,
            follows: Follows::default(),
            probing: false,
            prune_due: false,
            floors: Vec::new(),
        }
    }

    /// Begins a listing where one is due: single flight, and not oftener than `list_interval`.
    fn begin(&mut self, ctx: &mut Context<Self>) {
        if self.reading {
            return;
        }
        let now = self.shared.runtime.now();
        let late = self.late.first().map(|(at, _)| *at);
        let wanted = if self.asks.is_empty() { late } else { Some(now) };
        let Some(wanted) = wanted else { return };
        let next = self.began.map_or(now, |began| began.plus(self.shared.config.list_interval));
        let at = wanted.max(next);
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if at > now {
            let span = at.since(now) + Duration::from_millis(1);
            self.timer = Some(ctx.run_later(span, |lookout, ctx| {
                lookout.timer = None;
                lookout.begin(ctx);
            }));
            return;
        }
        self.read(now, ctx);
    }

    fn read(&mut self, now: Moment, ctx: &mut Context<Self>) {
        self.reading = true;
        self.began = Some(now);
        self.shared.listings.fetch_add(1, Ordering::Relaxed);
        let asks = std::mem::take(&mut self.asks);
        let later = self.late.split_off(&(now.plus(Duration::from_nanos(1)), None));
        let late = std::mem::replace(&mut self.late, later);
        let late = late.iter().map(|(_, floor)| self.not_read_since(*floor));
        let since = asks.iter().map(|ask| ask.since).chain(late).min().flatten();
        let floor = self.shared.account().floor(now);
        let shared = self.shared.clone();
        let checkpoint = self.checkpoint.take();
        let reading = async move { arrive(&shared, since, checkpoint).await };
        let reading = AssertUnwindSafe(reading).catch_unwind();
        let done = reading.into_actor(self).map(move |arrived, lookout, ctx| {
            lookout.reading = false;
            let mut asks = asks;
            if !lookout.shared.config.left_out.keeps(Clause::ListAfterNote) {
                asks.append(&mut lookout.asks);
            }
            let done = arrived.and_then(|arrived| {
                catch_unwind(AssertUnwindSafe(|| lookout.arrived(arrived, &asks, floor)))
            });
            if done.is_err() {
                // A bug, ours or the supplier's client's. Lanes wait for an answer: read again. Who
                // had one already ignores the second.
                lookout.shared.alarm("a listing has panicked; it is read again");
                lookout.asks.extend(asks);
            }
            if std::mem::take(&mut lookout.prune_due) {
                lookout.prune();
            }
            lookout.begin(ctx);
        });
        ctx.spawn(done);
    }

    fn arrived(&mut self, arrived: Arrived, asks: &[Ask], floor: Option<Timestamp>) {
        let Arrived { mut sheet, requested, arrived, open, claims } = arrived;
        self.checkpoint = sheet.checkpoint.take();
        self.ring_for_reversed(&sheet.rows);
        self.shared.supplier_clock(sheet.date);
        let claims = match claims {
            Ok(claims) => claims,
            Err(error) => return self.shared.fail(&error),
        };
        let shared = &self.shared;
        shared.seen_paid(&sheet);
        let names = |id: &str| shared.names_product(id);
        let assessment = shared.account().assess(sheet, claims, &open, &names, requested, arrived);
        if assessment.evidence.is_ok() {
            self.read_up_to = floor;
        }
        let is_evidence = assessment.evidence.is_ok();
        shared.remember_free_rows(&assessment.free_ids(), is_evidence, arrived);
        for ask in asks {
            let view = assessment.view(ask.ask, ask.lane, &ask.products, &ask.shapes);
            let (view, epoch) = (Box::new(view), ask.epoch);
            shared.deliver(ask.lane, LaneMessage::Listed { view, epoch });
        }
        crash::point("list.handed_out");
        shared.telemetry.listed(arrived.since(requested), assessment.rows);
        self.conclude(assessment);
    }

    /// What a listing says of the account as a whole.
    fn conclude(&self, assessment: Assessment) {
        let shared = &self.shared;
        for alarm in &assessment.alarms {
            shared.alarm(&alarm.to_string());
        }
        shared.orphans(assessment.orphans, "no lane has an open attempt for it");
        for shape in assessment.echo_seen {
            let shared = shared.clone();
            shared.clone().spawn(async move {
                if let Err(error) = shared.store.commit(Change::EchoSeen { shape }).await {
                    shared.fail(&error);
                }
            });
        }
        let no_evidence = assessment.evidence.as_ref().err().map(ToString::to_string);
        tracing::debug!(rows = assessment.rows, ?no_evidence, "listed");
        shared.tell(|| RouterEvent::Listed { rows: assessment.rows, no_evidence });
    }

    /// How far back a look for late landings must reach, given what was read meanwhile.
    fn not_read_since(&self, floor: Option<Timestamp>) -> Option<Timestamp> {
        let bound = self.shared.config.landing_bound.unwrap_or(LANDING_BOUND);
        let read = self.read_up_to.and_then(|at| at.checked_sub(bound).ok());
        floor.max(read)
    }

    /// Forgets what no listing can reach any more. Not while one is read: an order that was known when
    /// the store was asked for the others would look like nobody's when the list is judged.
    fn prune(&mut self) {
        self.prune_due = self.reading;
        if self.reading {
            return;
        }
        let now = self.shared.runtime.now();
        let mut account = self.shared.account();
        self.floors.push((now, account.floor(now)));
        let config = &self.shared.config;
        let wire = config.request_timeout + config.send_window + Duration::from_secs(10);
        let old = self.floors.partition_point(|(at, _)| now.since(*at) > wire);
        // The newest floor that is older than anything on the wire.
        let Some((_, on_wire)) = old.checked_sub(1).and_then(|i| self.floors.get(i)) else {
            return;
        };
        let on_wire = *on_wire;
        self.floors.drain(..old - 1);
        let late = self.late.iter().map(|(_, floor)| self.not_read_since(*floor));
        let oldest = self.shared.oldest_doubt().into_iter().chain(late).chain([on_wire]).min();
        if let Some(Some(oldest)) = oldest {
            account.prune(Some(oldest));
        }
    }

    /// Looks, once the pause has lasted, whether the supplier answers as itself again.
    fn probe(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.probing, true) {
            return;
        }
        let shared = self.shared.clone();
        let probing = async move { read::until_understood(&shared).await };
        ctx.spawn(probing.into_actor(self).map(|(), lookout, _| {
            lookout.probing = false;
            lookout.shared.dispatch.resume(&lookout.shared);
        }));
    }
}

/// Reads one listing and everything that it is judged by.
///
/// The order matters: which lanes have open attempts is noted before the claims are read, so that
/// an attempt that ends in between shows as the one or the other.
async fn arrive(
    shared: &Arc<Shared>,
    since: Option<Timestamp>,
    checkpoint: Option<Checkpoint>,
) -> Arrived {
    let requested = shared.runtime.now();
    crash::point("list.requested");
    let sheet = read::sheet(shared, since, checkpoint.as_ref()).await;
    let arrived = shared.runtime.now();
    crash::point("list.arrived");
    let mut open = BTreeMap::new();
    shared.registry.open_lanes(|lane, attempts, products| {
        open.insert(lane, OpenLane { attempts, products });
    });
    let unknown = shared.account().unknown_ids(&sheet);
    let claims = claims(shared, unknown).await;
    crash::point("list.claims_read");
    Arrived { sheet, requested, arrived, open, claims }
}

/// Reads a list for somebody who only wants to see its rows.
pub(super) async fn sheet(shared: &Arc<Shared>, since: Option<Timestamp>) -> Sheet {
    read::sheet(shared, since, None).await
}

/// Who has these orders, as far as anybody has.
async fn claims(shared: &Shared, ids: Vec<OrderId>) -> Result<Vec<Claim>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(shared.store.claims(ids).await?.into_iter().flatten().collect())
}

#[cfg(all(test, feature = "simulator"))]
mod tests;
