//! The simulated supplier behind `trait Supplier`, with every fault of the crate's own simulator.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use order_router::protocol::evidence::EvidencePolicy;
use order_router::protocol::{Fingerprint, LeftOut};
use order_router::runtime::Clock;
use order_router::simulator::{ListFault, PostFault};
use order_router::supplier::{
    Answer, Capabilities, Exchange, Fetched, Gate, Page, PageRequest, ReadError, Supplier,
};
use order_router::{Item, OrderId};

use crate::profile::ListTrouble;
use crate::world::{Inner, SoldOrder, World};

/// Orders of this product are refused.
pub const REFUSED_PRODUCT: &str = "sold-out";

pub struct SimSupplier {
    pub world: Arc<World>,
    pub left_out: LeftOut,
}

/// The same account, for a router that is to be seen to start, and must not buy.
pub struct LooksOnly(pub SimSupplier);

/// What comes back for a POST, and after how long.
pub struct Posted {
    at: Duration,
    reply: Reply,
    /// The reply names this order, which the POST made.
    names: Option<OrderId>,
}

enum Reply {
    Answer(u16, Option<String>),
    Broken(&'static str),
    Never,
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn body_of(id: &OrderId, lines: &[(String, u32)], with_id: bool) -> String {
    let lines: Vec<_> = lines
        .iter()
        .map(|(id, n)| serde_json::json!({"product": {"id": id}, "quantity": n}))
        .collect();
    let mut body = serde_json::json!({"status": "pending", "items": lines});
    if with_id {
        body["id"] = id.as_str().into();
    }
    body.to_string()
}

const ERROR: &str = r#"{"code":"FAILED","message":"it failed"}"#;
const PAGE: &str = "<html><body>gateway</body></html>";

impl Inner {
    /// The fate of a POST whose bytes have left.
    pub fn post(&mut self, now: Duration, items: &[Item], was_slow: bool) -> Posted {
        let error = |at, status| {
            let reply = Reply::Answer(status, Some(ERROR.to_owned()));
            Posted { at, reply, names: None }
        };
        if items.iter().any(|item| item.id() == REFUSED_PRODUCT) {
            return error(now + millis(100), 422);
        }
        let (faults, p) = (self.faults, self.profile.clone());
        if self.account != 0 {
            return error(now + millis(100), 401);
        }
        if p.refuses > 0.0 && faults && self.rng.f64() < p.refuses {
            let after = millis(self.rng.u64(..p.slow_answer_ms));
            self.note(now, "sent, and refused for now");
            return error(now + after, 422);
        }
        let fault = (faults && self.rng.f64() < p.post_fault)
            .then(|| *self.rng.choice(&p.post_faults).unwrap());
        let is_silent = faults && p.slow_is_silent && was_slow;
        let fault = if is_silent { Some(PostFault::WithheldAfterCreation) } else { fault };
        let late = is_silent
            || faults && (fault == Some(PostFault::CreatedLate) || self.rng.f64() < p.late);
        let creates = fault.is_none_or(PostFault::creates);
        let lines: Vec<_> = items.iter().map(|i| (i.id().to_owned(), i.quantity())).collect();
        if faults && self.rng.f64() < p.foreign_identical {
            self.foreign(lines.clone(), now);
        }
        if faults && self.rng.f64() < p.foreign_other {
            self.foreign(vec![("foreign".to_owned(), 1)], now);
        }
        let other = self
            .orders
            .iter()
            .rev()
            .find(|o| o.at <= now && !self.oracle.foreign.contains(&o.id))
            .cloned();
        let is_first = !self.seen.contains_key(PostFault::WrongId201.name());
        let other = other.filter(|_| is_first || !p.wrong_id_once);
        // An answer that names the order comes once it exists; others come when they like.
        let names = match fault {
            None | Some(PostFault::CreatedLate) => true,
            Some(PostFault::WrongId201) => !p.wrong_id_once || other.is_none(),
            Some(_) => false,
        };
        let (at, id) = self.sent(now, items, creates, late, names);
        self.note(now, &format!("sent {id} {fault:?} lands {at:?}"));
        self.count(fault.map_or("no fault", PostFault::name));
        let slow = faults && self.rng.f64() < p.slow_answer;
        let after = millis(self.rng.u64(if slow { 0..p.slow_answer_ms } else { 0..300 }));
        let full = |status| Reply::Answer(status, Some(body_of(&id, &lines, true)));
        let error = |status| Reply::Answer(status, Some(ERROR.to_owned()));
        let reply = match fault {
            None | Some(PostFault::CreatedLate) => full(201),
            Some(PostFault::WithheldAfterCreation | PostFault::WithheldNeverCreated) => {
                Reply::Never
            }
            Some(PostFault::Status500Before | PostFault::Status500After) => error(500),
            Some(PostFault::Status502Before | PostFault::Status502After) => error(502),
            Some(PostFault::Status503Before) => error(503),
            Some(PostFault::Status408After) => error(408),
            Some(PostFault::Conflict409After) => {
                Reply::Answer(409, Some(r#"{"code":"ORDER_ALREADY_EXISTS"}"#.to_owned()))
            }
            Some(PostFault::ResetBefore | PostFault::ResetAfter) => Reply::Broken("reset"),
            Some(PostFault::Cut201) => Reply::Answer(201, None),
            Some(PostFault::WrongId201) => match other {
                Some(other) => Reply::Answer(201, Some(body_of(&other.id, &other.lines, true))),
                None => full(201),
            },
            Some(PostFault::NoId201) => Reply::Answer(201, Some(body_of(&id, &lines, false))),
            Some(PostFault::Empty201) => Reply::Answer(201, Some(String::new())),
            Some(PostFault::RateLimited429 | PostFault::RateLimited429After) => error(429),
            Some(PostFault::GatewayPage403) => Reply::Answer(403, Some(PAGE.to_owned())),
            Some(PostFault::GatewayPage502) => Reply::Answer(502, Some(PAGE.to_owned())),
            Some(PostFault::Redirect) => Reply::Answer(307, Some(String::new())),
            Some(other) => panic!("a fault that this supplier does not know: {other:?}"),
        };
        let from = if names { at.unwrap_or(now) } else { now };
        let at = from + p.ticks(from, after);
        let own = names && fault != Some(PostFault::WrongId201);
        Posted { at, reply, names: own.then_some(id) }
    }

    fn page(&mut self, now: Duration, request: PageRequest) -> (Duration, Result<Page, ReadError>) {
        let trouble = self.list_fault(now);
        if request.offset == 0 && request.limit > 1 {
            self.listings = [self.listings[1], now];
        }
        let wait = millis(self.rng.u64(1..60));
        let mut wait = self.profile.ticks(now, wait);
        let (mut as_of, mut limit) = (now, request.limit as usize);
        let mut offset = usize::try_from(request.offset).unwrap_or(usize::MAX);
        let refused = match trouble {
            None | Some(ListTrouble::Of(ListFault::Empty | ListFault::Unsorted)) => None,
            Some(ListTrouble::OtherKey | ListTrouble::Overflow) => None,
            Some(ListTrouble::Clamped) => {
                limit = 1;
                None
            }
            Some(ListTrouble::Cut) => None,
            Some(ListTrouble::Skips) => {
                offset += if offset > 0 { self.rng.usize(1..3) } else { 0 };
                None
            }
            Some(ListTrouble::Cached) => Some(ReadError::Cached),
            Some(ListTrouble::Refused) => Some(ReadError::KeyRefused(401)),
            Some(ListTrouble::Of(ListFault::Stale)) => {
                as_of = now.saturating_sub(self.profile.bounds.stale);
                None
            }
            Some(ListTrouble::Of(ListFault::Slow)) => {
                wait += millis(self.rng.u64(..8000));
                None
            }
            Some(ListTrouble::Of(ListFault::Status500)) => Some(ReadError::Status(500)),
            Some(ListTrouble::Of(ListFault::Status429)) => Some(ReadError::RateLimited(None)),
            Some(ListTrouble::Of(ListFault::Malformed | ListFault::WrongEnvelope)) => {
                Some(ReadError::NotUnderstood("malformed".into()))
            }
            Some(ListTrouble::Of(other)) => panic!("unknown list fault {other:?}"),
        };
        self.note(now, &format!("list {offset}+{limit} {trouble:?}"));
        if let Some(error) = refused {
            return (wait, Err(error));
        }
        let mut rows = self.rows(as_of);
        match trouble {
            Some(ListTrouble::Of(ListFault::Empty)) => rows.clear(),
            Some(ListTrouble::OtherKey) => rows.retain(|row| row.id.as_str().ends_with('0')),
            Some(ListTrouble::Overflow) if offset >= rows.len() => {
                offset = rows.len().saturating_sub(limit);
            }
            _ => {}
        }
        let is_cut = matches!(trouble, Some(ListTrouble::Cut)) && offset > 0;
        let total = (self.rng.bool() || is_cut).then_some(rows.len() as u64);
        offset = if is_cut { usize::MAX } else { offset };
        self.shown_this_life |= !rows.is_empty() && !is_cut;
        let mut rows: Vec<_> = rows.into_iter().skip(offset).take(limit).collect();
        if matches!(trouble, Some(ListTrouble::Of(ListFault::Unsorted))) {
            self.rng.shuffle(&mut rows);
        }
        (wait, Ok(Page { rows, total, date: None }))
    }
}

async fn place(world: Arc<World>, items: Arc<[Item]>, gate: Arc<Gate>) -> Exchange {
    let now = world.clock.elapsed();
    let (connect, was_slow, fails, before, between) = world.schedule(|rng, p| {
        let stalls = |rng: &mut fastrand::Rng, most: u64| {
            if rng.f64() < p.stall { millis(rng.u64(..most)) } else { Duration::ZERO }
        };
        let slow = rng.f64() < p.slow_connect.unwrap_or(p.stall);
        let connect = millis(rng.u64(if slow { 0..p.connect_ms } else { 0..20 }));
        let connect = p.ticks(now, connect);
        let fails = rng.f64() < p.no_connection;
        let (before, mut between) = (stalls(rng, p.stall_ms), stalls(rng, p.stall_ms));
        if slow && p.stall_behind > 0.0 && rng.f64() < p.stall_behind {
            between = millis(rng.u64(..p.stall_ms));
        }
        (connect, slow, fails, before, between)
    });
    let (fails, stalls) = (fails && world.faults(), world.faults());
    tokio::time::sleep(connect).await;
    if fails {
        return Exchange::Broken { why: "connect".into() };
    }
    if stalls {
        world.clock.stall(before);
    }
    if !gate.ask(world.clock.now()) {
        world.note(|| "the gate is closed".to_owned());
        return Exchange::Broken { why: "the gate is closed".into() };
    }
    world.leaves(&items);
    if stalls {
        world.clock.stall(between);
    }
    let Posted { at, reply, names } = {
        let (mut inner, now) = world.now();
        inner.post(now, &items, was_slow)
    };
    tokio::time::sleep(at.saturating_sub(world.clock.elapsed())).await;
    if let Some(id) = names {
        world.answered(&id);
    }
    match reply {
        Reply::Broken(why) => Exchange::Broken { why: why.into() },
        Reply::Answer(status, body) => Exchange::Answer(Answer {
            status,
            retry_after: (status == 429).then_some(Duration::from_secs(1)),
            date: None,
            body: body.map(Bytes::from),
        }),
        Reply::Never => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Exchange::Broken { why: "closed".into() }
        }
    }
}

impl Supplier for SimSupplier {
    fn capabilities(&self) -> Capabilities {
        let page_limit = self.world.schedule(|_, profile| profile.page_limit);
        let echo = self.world.inner.lock().unwrap().echo;
        Capabilities { echo, newest_first: true, page_limit }
    }

    fn evidence_policy(&self) -> EvidencePolicy {
        let rate_limited = self.world.schedule(|_, profile| profile.rate_limited);
        EvidencePolicy { rate_limited, left_out: self.left_out, ..EvidencePolicy::default() }
    }

    fn wire_bound(&self) -> Duration {
        self.world.schedule(|_, profile| profile.bounds.wire)
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint(7 + self.world.inner.lock().unwrap().account)
    }

    fn place(&self, items: Arc<[Item]>, gate: Arc<Gate>) -> BoxFuture<'static, Exchange> {
        place(self.world.clone(), items, gate).boxed()
    }

    fn can_pay(&self) -> bool {
        true
    }

    fn pay(&self, id: OrderId, gate: Arc<Gate>) -> BoxFuture<'static, Exchange> {
        crate::pay::pay(self.world.clone(), id, gate).boxed()
    }

    fn list(&self, request: PageRequest) -> BoxFuture<'static, Result<Page, ReadError>> {
        let world = self.world.clone();
        async move {
            // The page is as of its request, and takes a while to arrive.
            let (wait, page) = {
                let (mut inner, now) = world.now();
                inner.page(now, request)
            };
            tokio::time::sleep(wait).await;
            page
        }
        .boxed()
    }

    fn fetch(&self, id: OrderId) -> BoxFuture<'static, Result<Fetched, ReadError>> {
        let world = self.world.clone();
        async move {
            if let Some(read) = crate::pay::fetch(&world, &id).await {
                return read;
            }
            tokio::time::sleep(millis(5)).await;
            let (inner, now) = world.now();
            let mine = |order: &&SoldOrder| order.id == id && inner.account == 0;
            let order = inner.orders.iter().find(mine);
            let order = order.ok_or(ReadError::NotFound)?;
            Ok(Fetched { row: inner.row(order, now, false), raw: inner.written(order, now) })
        }
        .boxed()
    }
}

impl Supplier for LooksOnly {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn evidence_policy(&self) -> EvidencePolicy {
        self.0.evidence_policy()
    }

    fn wire_bound(&self) -> Duration {
        self.0.wire_bound()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint()
    }

    fn place(&self, _items: Arc<[Item]>, _gate: Arc<Gate>) -> BoxFuture<'static, Exchange> {
        std::future::ready(Exchange::Broken { why: "nothing is bought here".into() }).boxed()
    }

    fn list(&self, request: PageRequest) -> BoxFuture<'static, Result<Page, ReadError>> {
        self.0.list(request)
    }

    fn fetch(&self, id: OrderId) -> BoxFuture<'static, Result<Fetched, ReadError>> {
        self.0.fetch(id)
    }
}
