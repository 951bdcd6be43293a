//! Orders that are paid later: the supplier's `…/pay`, what goes wrong with it, and what it debits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use order_router::OrderId;
use order_router::protocol::{Change, PayStep, PayVerdict};
use order_router::runtime::Clock;
use order_router::supplier::{Answer, Exchange, Fetched, Gate, ReadError};

use crate::oracle::Phase;
use crate::profile::Bounds;
use crate::world::{Inner, SoldOrder, World};

/// What goes wrong with a payment. Each as often as any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    WithheldAfter,
    WithheldNever,
    Late,
    LateUnanswered,
    ErrorBefore,
    ErrorAfter,
    ResetBefore,
    ResetAfter,
    ConflictAfter,
    RateLimited,
    NotFound,
    Refused,
    /// Paid, and answered with an order that does not show it yet.
    Accepted,
}

const FAULTS: [Fault; 13] = [
    Fault::WithheldAfter,
    Fault::WithheldNever,
    Fault::Late,
    Fault::LateUnanswered,
    Fault::ErrorBefore,
    Fault::ErrorAfter,
    Fault::ResetBefore,
    Fault::ResetAfter,
    Fault::ConflictAfter,
    Fault::RateLimited,
    Fault::NotFound,
    Fault::Refused,
    Fault::Accepted,
];

impl Fault {
    fn pays(self) -> bool {
        !matches!(
            self,
            Self::WithheldNever
                | Self::ErrorBefore
                | Self::ResetBefore
                | Self::RateLimited
                | Self::NotFound
                | Self::Refused
        )
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "pay",
            Self::WithheldAfter => "pay withheld after",
            Self::WithheldNever => "pay withheld never",
            Self::Late => "pay late",
            Self::LateUnanswered => "pay late, unanswered",
            Self::ErrorBefore => "pay 500 before",
            Self::ErrorAfter => "pay 500 after",
            Self::ResetBefore => "pay reset before",
            Self::ResetAfter => "pay reset after",
            Self::ConflictAfter => "pay 409 after",
            Self::RateLimited => "pay 429",
            Self::NotFound => "pay 404",
            Self::Refused => "pay 422",
            Self::Accepted => "pay accepted",
        }
    }
}

struct Payment {
    order: OrderId,
    /// How long after it took effect it shows.
    lag: Duration,
}

/// The supplier's book of payments.
pub struct PayBook {
    rng: Rng,
    fault: f64,
    expires_after: Duration,
    /// Creating an order debits it, and a payment debits it again (A6 is broken).
    creating_pays: bool,
    /// Every debit, and from when on it shows.
    debits: BTreeMap<OrderId, Vec<(Duration, Duration)>>,
    under_way: BTreeMap<(Duration, u64), Payment>,
    /// Orders of which a payment is durably recorded, and not done with.
    recorded: BTreeSet<OrderId>,
    count: u64,
}

impl PayBook {
    /// With chance of its own: what happens to orders that are created is not changed by it.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x9a71_a7e5);
        let fault = 0.2 + rng.f64() * 0.7;
        let expires_after = Duration::from_secs(*rng.choice(&[30, 60, 200, 900]).unwrap());
        let (debits, under_way) = (BTreeMap::new(), BTreeMap::new());
        let recorded = BTreeSet::new();
        let creating_pays = Rng::with_seed(seed ^ 0xa6).u8(..8) == 0;
        Self { rng, fault, expires_after, creating_pays, debits, under_way, recorded, count: 0 }
    }

    fn debits(&self, id: &OrderId) -> usize {
        self.debits.get(id).map_or(0, Vec::len)
    }

    fn may_land(&self, id: &OrderId) -> bool {
        self.under_way.values().any(|payment| payment.order == *id)
    }

    /// The supplier's word for where an order stands, and why it was cancelled.
    pub fn status(&self, order: &SoldOrder, now: Duration) -> (&'static str, Option<&'static str>) {
        let paid = self.debits.get(&order.id).and_then(|debits| debits.first());
        match paid {
            Some((_, shows)) if now >= *shows + Duration::from_secs(8) => {
                (order.ends, (order.ends == "cancelled").then_some("user_request"))
            }
            Some((_, shows)) if now >= *shows => ("paid", None),
            None if now >= order.at + self.expires_after => {
                ("cancelled", Some("payment_expiration"))
            }
            _ => ("active", None),
        }
    }
}

enum Reply {
    Order,
    Error(u16, &'static str),
    Broken,
    Never,
}

impl Inner {
    /// An order was created: where that pays, it is debited, and shows so a little later.
    pub fn created(&mut self, id: &OrderId, at: Duration) {
        let Some(book) = self.pays.as_mut().filter(|book| book.creating_pays) else { return };
        let lag = Duration::from_millis(book.rng.u64(..2000));
        book.debits.insert(id.clone(), vec![(at, at + lag)]);
        self.count("debited when created");
    }

    /// What has been paid by now.
    pub fn land_payments(&mut self, now: Duration) {
        let Some(mut book) = self.pays.take() else { return };
        while let Some(first) = book.under_way.first_entry()
            && first.key().0 <= now
        {
            let ((at, _), Payment { order: id, lag }) = first.remove_entry();
            let order = self.orders.iter().find(|order| order.id == id);
            let expired = order.is_none_or(|order| at >= order.at + book.expires_after);
            if expired && book.debits(&id) == 0 {
                self.note(at, &format!("the payment of {id} comes too late"));
                continue;
            }
            self.note(at, &format!("{id} is debited"));
            book.debits.entry(id.clone()).or_default().push((at, at + lag));
            if book.debits(&id) > 1 {
                self.oracle.violated(format!("{id} is debited twice"));
            }
            if self.oracle.kept.values().any(|kept| kept.phase == Phase::Unpaid(id.clone())) {
                self.oracle.violated(format!("{id} is debited, and was said to be unpaid"));
            }
        }
        self.pays = Some(book);
    }

    /// A change of a payment is durable: what it says must be so, now and for ever.
    pub fn check_payment(&mut self, change: &Change) {
        let (Some(book), Change::Pay { intent, to, .. }) = (&mut self.pays, change) else { return };
        let kept = self.oracle.kept.values().find(|kept| kept.id == *intent);
        let Some(id) = kept.and_then(|kept| kept.phase.order()).cloned() else { return };
        match to {
            PayVerdict::Open { payment, .. } if payment.step == PayStep::Due => {
                book.recorded.remove(&id);
            }
            PayVerdict::Open { .. } => drop(book.recorded.insert(id.clone())),
            PayVerdict::Paid | PayVerdict::Unpaid(_) => {}
        }
        let (debits, may_land) = (book.debits(&id), book.may_land(&id));
        let wrong = match to {
            PayVerdict::Open { .. } => false,
            PayVerdict::Paid => debits != 1,
            PayVerdict::Unpaid(_) => debits > 0,
        };
        if wrong {
            let what = format!("{id} has {debits} debits, may land {may_land}, and becomes {to:?}");
            self.oracle.violated(what);
        }
    }

    /// At rest: what is placed was debited once, what is unpaid never.
    pub fn payments_at_rest(&mut self) {
        let Some(book) = &self.pays else { return };
        let wrong = self.oracle.kept.iter().find_map(|(name, kept)| {
            let debits = kept.phase.order().map(|id| book.debits(id))?;
            let wanted = usize::from(matches!(kept.phase, Phase::Placed(_)));
            (debits != wanted)
                .then(|| format!("{name} is {:?}, debited {debits} times", kept.phase))
        });
        if let Some(what) = wrong {
            self.oracle.violated(what);
        }
    }

    /// What a person finds out of an order: whether it was paid, once nothing may land any more.
    pub fn was_paid(&self, id: &OrderId) -> Option<bool> {
        let book = self.pays.as_ref()?;
        (!book.may_land(id)).then(|| book.debits(id) > 0)
    }

    /// The bytes of a payment have left.
    fn pay_sent(&mut self, now: Duration, id: &OrderId, bounds: &Bounds) -> (Duration, Reply) {
        let faults = self.faults;
        let Some(mut book) = self.pays.take() else { return (now, Reply::Broken) };
        let hit = faults && book.rng.f64() < book.fault;
        let fault = if hit { *book.rng.choice(&FAULTS).unwrap() } else { Fault::None };
        let lag = Duration::from_millis(book.rng.u64(..2000));
        let margin = Duration::from_millis(100);
        let limit = bounds.wire + bounds.landing - lag - margin;
        let limit = u64::try_from(limit.as_millis()).unwrap();
        let after = match fault {
            Fault::Late | Fault::LateUnanswered if book.rng.bool() => limit,
            Fault::Late | Fault::LateUnanswered => book.rng.u64(..=limit),
            _ => book.rng.u64(..400),
        };
        let lands = now + Duration::from_millis(after);
        let answers = now + Duration::from_millis(book.rng.u64(400..900));
        let slow = faults && book.rng.u8(..6) == 0;
        let answers =
            answers + Duration::from_millis(if slow { book.rng.u64(..12_000) } else { 0 });
        if !book.recorded.contains(id) {
            self.oracle.violated(format!("a payment of {id} leaves, and is not recorded"));
        }
        if fault.pays() {
            // The budget of one order: what was debited, and what may still be.
            if book.debits(id) > 0 || book.may_land(id) {
                self.oracle.violated(format!("{id} may be debited twice"));
            }
            book.count += 1;
            let payment = Payment { order: id.clone(), lag };
            book.under_way.insert((lands, book.count), payment);
        }
        self.pays = Some(book);
        self.note(now, &format!("pay {id} {fault:?} lands {lands:?}"));
        self.count(fault.name());
        let error = |status, code| (answers, Reply::Error(status, code));
        match fault {
            Fault::None | Fault::Accepted => (answers, Reply::Order),
            Fault::Late => (lands.max(answers), Reply::Order),
            Fault::WithheldAfter | Fault::WithheldNever | Fault::LateUnanswered => {
                (now, Reply::Never)
            }
            Fault::ErrorBefore | Fault::ErrorAfter => error(500, "FAILED"),
            Fault::ResetBefore | Fault::ResetAfter => (answers, Reply::Broken),
            Fault::ConflictAfter => error(409, "ORDER_ALREADY_PAID"),
            Fault::RateLimited => error(429, "RATE_LIMITED"),
            Fault::NotFound => error(404, "ORDER_NOT_FOUND"),
            Fault::Refused => error(422, "PAYMENT_REFUSED"),
        }
    }

    /// An order by itself, as the supplier writes it.
    pub fn written(&self, order: &SoldOrder, now: Duration) -> Bytes {
        let Some(book) = &self.pays else { return Bytes::new() };
        let (status, reason) = book.status(order, now);
        let mut body = serde_json::json!({"id": order.id.as_str(), "status": status});
        if let Some(reason) = reason {
            body["cancelReason"] = reason.into();
        }
        Bytes::from(body.to_string())
    }

    /// How long connecting takes, whether it fails, and for how long the process stops before and
    /// behind the gate.
    fn pay_schedule(&mut self) -> (Duration, bool, [Duration; 2]) {
        let (faults, stall) = (self.faults, self.profile.stall);
        let Some(book) = self.pays.as_mut().filter(|_| faults) else {
            return (Duration::from_millis(5), false, [Duration::ZERO; 2]);
        };
        let rng = &mut book.rng;
        let connect = Duration::from_millis(if rng.u8(..8) == 0 { rng.u64(..6000) } else { 5 });
        let fails = rng.u8(..12) == 0;
        let mut stop = || {
            let stops = rng.f64() < stall;
            Duration::from_millis(if stops { rng.u64(..60_000) } else { 0 })
        };
        (connect, fails, [stop(), stop()])
    }
}

/// Reads an order where orders are paid later: as of its request, and it may take long to arrive.
pub async fn fetch(world: &Arc<World>, id: &OrderId) -> Option<Result<Fetched, ReadError>> {
    let (wait, read) = {
        let (mut inner, now) = world.now();
        let faults = inner.faults;
        let rng = &mut inner.pays.as_mut()?.rng;
        let slow = faults && rng.u8(..4) == 0;
        let wait = Duration::from_millis(if slow { rng.u64(..12_000) } else { 5 });
        let fails = faults && rng.u8(..8) == 0;
        let order = inner.orders.iter().find(|order| order.id == *id);
        let read = order.filter(|_| !fails).map(|order| Fetched {
            row: inner.row(order, now, false),
            raw: inner.written(order, now),
        });
        (wait, read)
    };
    tokio::time::sleep(wait).await;
    Some(read.ok_or(ReadError::NotFound))
}

/// Pays an order.
pub async fn pay(world: Arc<World>, id: OrderId, gate: Arc<Gate>) -> Exchange {
    let (connect, fails, [before, between]) = {
        let (mut inner, _) = world.now();
        inner.pay_schedule()
    };
    tokio::time::sleep(connect).await;
    if fails {
        return Exchange::Broken { why: "connect".into() };
    }
    world.clock.stall(before);
    if !gate.ask(world.clock.now()) {
        world.note(|| "the gate of a payment is closed".to_owned());
        return Exchange::Broken { why: "the gate is closed".into() };
    }
    world.clock.stall(between);
    let (at, reply) = {
        let (mut inner, now) = world.now();
        let bounds = inner.profile.bounds;
        inner.pay_sent(now, &id, &bounds)
    };
    tokio::time::sleep(at.saturating_sub(world.clock.elapsed())).await;
    let answer = |status, body: Bytes| {
        Exchange::Answer(Answer {
            status,
            retry_after: (status == 429).then_some(Duration::from_secs(1)),
            date: None,
            body: Some(body),
        })
    };
    match reply {
        Reply::Order => {
            let (inner, now) = world.now();
            let order = inner.orders.iter().find(|order| order.id == id);
            answer(200, order.map(|order| inner.written(order, now)).unwrap_or_default())
        }
        Reply::Error(status, code) => {
            answer(status, Bytes::from(serde_json::json!({"code": code}).to_string()))
        }
        Reply::Broken => Exchange::Broken { why: "reset".into() },
        Reply::Never => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Exchange::Broken { why: "closed".into() }
        }
    }
}
