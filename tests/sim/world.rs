//! What outlives the router: the supplier's account, the bytes that are under way, the books.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use order_router::protocol::Change;
use order_router::protocol::evidence::Means;
use order_router::simulator::{ListFault, PostFault};
use order_router::store::{Committed, StoreError, Stored};
use order_router::supplier::Row;
use order_router::{ClientRef, EchoProfile, EchoedItem, End, Item, ItemsHash, OrderId};

use crate::clock::{SimClock, wall_at};
use crate::oracle::Oracle;

pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
pub const LANDING_BOUND: Duration = Duration::from_secs(20);
pub const WIRE_BOUND: Duration = Duration::from_secs(2);
/// How much older than now a stale list may be: part of the landing bound (A1).
pub const STALE: Duration = Duration::from_secs(4);

/// What a seed makes of the supplier and the schedule.
#[derive(Debug, Clone)]
pub struct Profile {
    pub post_fault: f64,
    pub post_faults: Vec<PostFault>,
    pub list_fault: f64,
    pub late: f64,
    pub slow_answer: f64,
    pub stall: f64,
    pub no_connection: f64,
    pub foreign_other: f64,
    pub foreign_identical: f64,
    pub odd_echo: f64,
    pub list_lag_ms: u64,
    pub store_delay_ms: u64,
    pub page_limit: u32,
    pub rate_limited: Means,
    /// A spell in which lists show nothing at all, or another account.
    pub blind_from: Duration,
}

impl Profile {
    pub fn draw(rng: &mut Rng) -> Self {
        let often = |rng: &mut Rng, share: f64, most: f64| {
            if rng.f64() < share { rng.f64() * most } else { 0.0 }
        };
        let unknown = rng.bool();
        let kinds = 1 + rng.usize(..PostFault::ALL.len());
        let mut post_faults: Vec<_> = PostFault::ALL.to_vec();
        // A supplier that creates what it answers with 429 must be known to.
        post_faults.retain(|fault| unknown || *fault != PostFault::RateLimited429After);
        rng.shuffle(&mut post_faults);
        post_faults.truncate(kinds);
        Self {
            post_fault: 0.1 + rng.f64() * 0.7,
            post_faults,
            list_fault: often(rng, 0.7, 0.5),
            late: often(rng, 0.6, 0.6),
            slow_answer: often(rng, 0.5, 0.5),
            stall: often(rng, 0.3, 0.3),
            no_connection: often(rng, 0.3, 0.3),
            foreign_other: often(rng, 0.15, 0.3),
            foreign_identical: often(rng, 0.1, 0.2),
            odd_echo: often(rng, 0.05, 0.2),
            list_lag_ms: if rng.bool() { rng.u64(..4000) } else { 0 },
            store_delay_ms: *rng.choice(&[0, 0, 3, 40, 800]).unwrap(),
            page_limit: rng.u32(2..12),
            rate_limited: if unknown { Means::Unknown } else { Means::NotSent },
            blind_from: Duration::from_millis(rng.u64(..60_000)),
        }
    }
}

/// One order of the account.
#[derive(Debug, Clone)]
pub struct SoldOrder {
    pub id: OrderId,
    pub lines: Vec<(String, u32)>,
    pub at: Duration,
    pub visible_at: Duration,
    pub odd: bool,
    pub ends: &'static str,
}

/// A POST whose bytes are under way and will land.
struct Landing {
    lines: Vec<(String, u32)>,
    lane: ItemsHash,
    lag: Duration,
    id: OrderId,
}

pub struct Inner {
    pub rng: Rng,
    schedule: Rng,
    pub profile: Profile,
    pub faults: bool,
    pub orders: Vec<SoldOrder>,
    under_way: BTreeMap<(Duration, u64), Landing>,
    count: u64,
    pub oracle: Oracle,
    hash: u64,
    pub events: u64,
    pub log: Option<Vec<String>>,
    pub seen: BTreeMap<&'static str, u64>,
}

pub struct World {
    pub clock: SimClock,
    pub inner: Mutex<Inner>,
}

impl World {
    pub fn new(seed: u64, logs: bool) -> Arc<Self> {
        let mut rng = Rng::with_seed(seed);
        let profile = Profile::draw(&mut rng);
        let schedule = Rng::with_seed(rng.u64(..));
        let inner = Inner {
            rng,
            schedule,
            profile,
            faults: true,
            orders: Vec::new(),
            under_way: BTreeMap::new(),
            count: 0,
            oracle: Oracle::default(),
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            log: logs.then(Vec::new),
            seen: BTreeMap::new(),
        };
        Arc::new(Self { clock: SimClock::default(), inner: Mutex::new(inner) })
    }

    /// The world as of now: everything that was to land by now has landed.
    pub fn now(&self) -> (MutexGuard<'_, Inner>, Duration) {
        let now = self.clock.elapsed();
        let mut inner = self.inner.lock().unwrap();
        inner.land(now);
        (inner, now)
    }

    pub fn note(&self, what: impl FnOnce() -> String) {
        let now = self.clock.elapsed();
        self.inner.lock().unwrap().note(now, &what());
    }

    pub fn schedule<T>(&self, draw: impl FnOnce(&mut Rng, &Profile) -> T) -> T {
        let mut inner = self.inner.lock().unwrap();
        let Inner { schedule, profile, .. } = &mut *inner;
        draw(schedule, profile)
    }

    pub fn faults(&self) -> bool {
        self.inner.lock().unwrap().faults
    }

    pub fn store_delay(&self) -> Duration {
        let mut inner = self.inner.lock().unwrap();
        let most = inner.profile.store_delay_ms;
        if most == 0 || !inner.faults {
            return Duration::ZERO;
        }
        Duration::from_millis(inner.schedule.u64(..=most))
    }

    pub fn committed(&self, change: &Change, answer: &Result<Committed, StoreError>) {
        let (mut inner, now) = self.now();
        inner.note(now, &format!("commit {change:?} -> {answer:?}"));
        if let Ok(answer) = answer {
            inner.oracle.committed(change, answer);
        }
    }

    pub fn told(&self, name: &ClientRef, end: &End) {
        let (mut inner, now) = self.now();
        inner.note(now, &format!("{name} told {end:?}"));
        inner.oracle.told(name, end);
    }

    pub fn told_accepted(&self, name: &ClientRef) {
        let (mut inner, now) = self.now();
        inner.note(now, &format!("{name} told accepted"));
        inner.oracle.told_accepted(name);
    }

    pub fn found(&self, name: &ClientRef, stored: Option<&Stored>) {
        let (mut inner, now) = self.now();
        inner.note(now, &format!("{name} found {:?}", stored.map(|s| &s.state)));
        inner.oracle.found(name, stored);
    }

    pub fn violation(&self) -> Option<String> {
        self.inner.lock().unwrap().oracle.violation.clone()
    }

    pub fn hash(&self) -> u64 {
        self.inner.lock().unwrap().hash
    }
}

impl Inner {
    pub fn note(&mut self, at: Duration, what: &str) {
        let line = format!("{:>12.3} {what}", at.as_secs_f64());
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.events += 1;
        if let Some(log) = &mut self.log {
            log.push(line);
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn land(&mut self, now: Duration) {
        while let Some(first) = self.under_way.first_entry()
            && first.key().0 <= now
        {
            let ((at, _), landing) = first.remove_entry();
            let sold = self.oracle.sold.entry(landing.lane).or_default();
            sold.may_land -= 1;
            sold.orders += 1;
            self.note(at, &format!("landed {}", landing.id));
            self.sell(landing.id, landing.lines, landing.lane, at, landing.lag);
            self.oracle.check_lane(landing.lane);
        }
    }

    fn sell(
        &mut self,
        id: OrderId,
        lines: Vec<(String, u32)>,
        lane: ItemsHash,
        at: Duration,
        lag: Duration,
    ) {
        let odd = self.faults && self.rng.f64() < self.profile.odd_echo;
        let ends =
            *self.rng.choice(&["completed", "completed", "failed", "cancelled", "odd"]).unwrap();
        self.oracle.ledger.insert(id.clone(), lane);
        self.orders.push(SoldOrder { id, lines, at, visible_at: at + lag, odd, ends });
    }

    pub fn new_id(&mut self) -> OrderId {
        self.count += 1;
        OrderId::new(format!("o-{}-{:04x}", self.count, self.rng.u16(..))).unwrap()
    }

    /// Somebody else buys here, or has bought here.
    pub fn foreign(&mut self, lines: Vec<(String, u32)>, at: Duration) {
        let items: Vec<_> = lines.iter().map(|(id, n)| Item::new(id, *n).unwrap()).collect();
        let lane = ItemsHash::of(&items, EchoProfile::default());
        let id = self.new_id();
        self.note(at, &format!("foreign {id}"));
        self.oracle.foreign.insert(id.clone());
        self.sell(id, lines, lane, at, Duration::ZERO);
    }

    /// The bytes of a POST are in the network: its fate is drawn, and when it lands.
    pub fn sent(
        &mut self,
        now: Duration,
        items: &[Item],
        creates: bool,
        late: bool,
    ) -> (Option<Duration>, OrderId) {
        let lane = ItemsHash::of(items, EchoProfile::default());
        let lines: Vec<_> = items.iter().map(|i| (i.id().to_owned(), i.quantity())).collect();
        let id = self.new_id();
        if !creates {
            return (None, id);
        }
        let most = self.profile.list_lag_ms;
        let lag = Duration::from_millis(if most > 0 { self.rng.u64(..=most) } else { 0 });
        let limit = WIRE_BOUND + LANDING_BOUND - STALE - lag - Duration::from_millis(100);
        let limit = u64::try_from(limit.as_millis()).unwrap();
        let after = match (late, self.rng.u8(..4)) {
            (true, 0) => limit,
            (true, _) => self.rng.u64(..=limit),
            (false, _) => self.rng.u64(..400),
        };
        let at = now + Duration::from_millis(after);
        self.count += 1;
        let landing = Landing { lines, lane, lag, id: id.clone() };
        self.under_way.insert((at, self.count), landing);
        self.oracle.sold.entry(lane).or_default().may_land += 1;
        self.oracle.check_lane(lane);
        (Some(at), id)
    }

    pub fn row(&self, order: &SoldOrder, now: Duration) -> Row {
        let extra = u32::from(order.odd && self.faults);
        let items = order.lines.iter().map(|(id, quantity)| EchoedItem {
            id: id.clone(),
            quantity: Some(quantity + extra),
            note: None,
        });
        let status = if now > order.at + Duration::from_secs(8) { order.ends } else { "pending" };
        Row {
            id: order.id.clone(),
            status: status.to_owned(),
            created_at: wall_at(order.at),
            items: Some(items.collect()),
        }
    }

    /// The list as of a moment, newest first.
    pub fn rows(&self, as_of: Duration) -> Vec<Row> {
        let mut shown: Vec<_> = self.orders.iter().filter(|o| o.visible_at <= as_of).collect();
        shown.sort_by(|a, b| (b.at, &b.id).cmp(&(a.at, &a.id)));
        shown.into_iter().map(|order| self.row(order, as_of)).collect()
    }

    /// Orders of a lane that are ours and that no intent has, oldest first; and whether more may
    /// still land.
    pub fn unclaimed(&self, lane: ItemsHash) -> (Vec<OrderId>, bool) {
        let ours = self.orders.iter().filter(|order| {
            self.oracle.ledger.get(&order.id) == Some(&lane)
                && !self.oracle.foreign.contains(&order.id)
                && !self.oracle.is_claimed(&order.id)
        });
        let may_land = self.oracle.sold.get(&lane).is_some_and(|sold| sold.may_land > 0);
        (ours.map(|order| order.id.clone()).collect(), may_land)
    }

    pub fn list_fault(&mut self, now: Duration) -> Option<ListTrouble> {
        if !self.faults || self.rng.f64() >= self.profile.list_fault {
            return None;
        }
        let blind =
            now >= self.profile.blind_from && now < self.profile.blind_from + LANDING_BOUND * 3 / 4;
        let own = [
            ListTrouble::OtherKey,
            ListTrouble::Cached,
            ListTrouble::Clamped,
            ListTrouble::Overflow,
            ListTrouble::Refused,
        ];
        let all = ListFault::ALL.iter().map(|fault| ListTrouble::Of(*fault)).chain(own);
        // What shows nothing is a lie that only witnesses can see through; they may be missing.
        let hides = |trouble: &ListTrouble| {
            matches!(trouble, ListTrouble::OtherKey | ListTrouble::Of(ListFault::Empty))
        };
        let possible: Vec<_> = all.filter(|trouble| blind || !hides(trouble)).collect();
        Some(*self.rng.choice(&possible).unwrap())
    }
}

/// What goes wrong with one page.
#[derive(Debug, Clone, Copy)]
pub enum ListTrouble {
    Of(ListFault),
    /// The rows of another account.
    OtherKey,
    /// A cache answers, and says so.
    Cached,
    /// Fewer rows than asked for.
    Clamped,
    /// Past the end the last page comes again.
    Overflow,
    /// 401 with the supplier's error.
    Refused,
}
