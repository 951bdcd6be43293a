//! What outlives the router: the supplier's account, the bytes that are under way, the books.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use order_router::protocol::Change;
use order_router::simulator::ListFault;
use order_router::store::{Committed, StoreError, Stored};
use order_router::supplier::Row;
use order_router::{
    ClientRef, EchoProfile, EchoedItem, End, Item, ItemsHash, Note, OrderId, TagKey,
};

use crate::clock::{SimClock, wall_at};
use crate::kinds::Kind;
use crate::oracle::Oracle;
use crate::pay::PayBook;
use crate::profile::{ListTrouble, Odd, Profile};
use crate::store::{ClaimsAlone, Repeated};
use crate::supplier::REFUSED_PRODUCT;

/// A POST whose order shows as late as it may lands within this time.
const LANDS_AT_ONCE: Duration = Duration::from_millis(500);
/// Within this time an answer that names its order ends it.
const ANSWER_USED: Duration = Duration::from_secs(5);
/// And an order that shows is claimed within two request timeouts, a send window, and the time that
/// two listings take.
const CLAIMED_WITHIN: Duration = Duration::from_secs(10);

/// One order of the account.
#[derive(Debug, Clone)]
pub struct SoldOrder {
    pub id: OrderId,
    pub lines: Vec<(String, u32)>,
    /// What every line's note is, where orders carry tags.
    pub tag: Option<Note>,
    pub at: Duration,
    pub visible_at: Duration,
    pub odd: bool,
    pub ends: &'static str,
}

/// A POST whose bytes are under way and will land.
#[derive(Clone)]
struct Landing {
    lines: Vec<(String, u32)>,
    tag: Option<Note>,
    lane: ItemsHash,
    lag: Duration,
    id: OrderId,
    /// An answer names it.
    answered: bool,
}

pub struct Inner {
    pub rng: Rng,
    schedule: Rng,
    pub profile: Profile,
    /// What the list shows of items.
    pub echo: EchoProfile,
    pub faults: bool,
    pub orders: Vec<SoldOrder>,
    under_way: BTreeMap<(Duration, u64), Landing>,
    count: u64,
    pub oracle: Oracle,
    hash: u64,
    pub events: u64,
    pub log: Option<Vec<String>>,
    pub seen: BTreeMap<&'static str, u64>,
    /// Whose key this life has; 0 is the account that is bought on.
    pub account: u64,
    /// When the spell began in which lists show nothing, where an order began it.
    blind_since: Option<Duration>,
    /// When the last two listings were requested.
    pub listings: [Duration; 2],
    /// A list has shown an order in this life.
    pub shown_this_life: bool,
    /// Answers that named their order, and when.
    answers: Vec<(Duration, OrderId)>,
    /// Where orders are paid later.
    pub pays: Option<PayBook>,
}

pub struct World {
    pub clock: SimClock,
    pub inner: Mutex<Inner>,
    pub repeated: Repeated,
    pub claims_alone: ClaimsAlone,
}

impl World {
    pub fn new(seed: u64, kind: Kind, logs: bool) -> Arc<Self> {
        let mut rng = Rng::with_seed(seed);
        let profile = kind.profile(&mut rng);
        let schedule = Rng::with_seed(rng.u64(..));
        let mut oracle = Oracle::default();
        let tag = TagKey::new("order_ref").ok().filter(|_| kind == Kind::Tagged);
        oracle.odd_products = profile.odd == Odd::Product;
        oracle.tagged = tag.is_some();
        let inner = Inner {
            rng,
            schedule,
            profile,
            echo: EchoProfile { tag, ..EchoProfile::default() },
            faults: true,
            orders: Vec::new(),
            under_way: BTreeMap::new(),
            count: 0,
            oracle,
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            log: logs.then(Vec::new),
            seen: BTreeMap::new(),
            account: 0,
            blind_since: None,
            listings: [Duration::ZERO; 2],
            shown_this_life: false,
            answers: Vec::new(),
            pays: (kind == Kind::Pays).then(|| PayBook::new(seed)),
        };
        Arc::new(Self {
            clock: SimClock::default(),
            inner: Mutex::new(inner),
            repeated: Repeated::default(),
            claims_alone: ClaimsAlone::default(),
        })
    }

    /// The world as of now: everything that was to land by now has landed.
    pub fn now(&self) -> (MutexGuard<'_, Inner>, Duration) {
        let now = self.clock.elapsed();
        let mut inner = self.inner.lock().unwrap();
        inner.land(now);
        inner.land_payments(now);
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

    /// Whether the router's code panics here.
    pub fn panics(&self) -> bool {
        let mut inner = self.inner.lock().unwrap();
        let share = inner.profile.panics;
        share > 0.0 && inner.faults && inner.schedule.f64() < share
    }

    /// And just after an intent came in doubt or was placed from a list.
    pub fn panics_decided(&self) -> bool {
        let mut inner = self.inner.lock().unwrap();
        let share = inner.profile.panics_decided;
        share > 0.0 && inner.faults && inner.schedule.f64() < share
    }

    /// The process may be stopped while a write is being made durable.
    pub fn stall_write(&self) {
        let mut inner = self.inner.lock().unwrap();
        let (share, most) = (inner.profile.stall_write, inner.profile.stall_ms);
        if share > 0.0 && inner.faults && inner.schedule.f64() < share {
            self.clock.stall(Duration::from_millis(inner.schedule.u64(..most)));
        }
    }

    /// A gate has yielded the bytes of an order.
    pub fn leaves(&self, items: &[Item]) {
        let now = self.clock.elapsed();
        let mut inner = self.inner.lock().unwrap();
        let lane = ItemsHash::of(items, inner.echo);
        inner.oracle.leaves(lane, now);
    }

    /// Whether somebody else repeats a write.
    pub fn repeats(&self) -> bool {
        let mut inner = self.inner.lock().unwrap();
        let share = inner.profile.repeats;
        share > 0.0 && inner.faults && inner.schedule.f64() < share
    }

    /// The lane of an order of the account.
    pub fn lane_of(&self, id: &OrderId) -> Option<ItemsHash> {
        self.inner.lock().unwrap().oracle.ledger.get(id).copied()
    }

    /// A delay as this world has them.
    pub fn ticks(&self, delay: Duration) -> Duration {
        let now = self.clock.elapsed();
        self.inner.lock().unwrap().profile.ticks(now, delay)
    }

    pub fn committed(&self, change: &Change, answer: &Result<Committed, StoreError>) {
        let (mut inner, now) = self.now();
        inner.note(now, &format!("commit {change:?} -> {answer:?}"));
        if let Ok(answer) = answer {
            let requested = inner.listings.into_iter().filter(|at| *at < now).max();
            inner.oracle.committed(change, answer, requested.unwrap_or_default());
            if let (Change::Accept { intent, .. }, Committed::Done) = (change, answer) {
                inner.oracle.good_until(&intent.client_ref, self.clock.at(intent.good_until));
            }
            if *answer == Committed::Done {
                inner.check_payment(change);
            }
        }
    }

    /// An answer has reached the router.
    pub fn answered(&self, id: &OrderId) {
        let now = self.clock.elapsed();
        let mut inner = self.inner.lock().unwrap();
        if inner.profile.answers_count {
            inner.answers.push((now, id.clone()));
        }
    }

    /// What the rules say must be so by now, beyond the promise; `since`: this life sends.
    pub fn check_in_time(&self, since: Duration) {
        let (mut inner, now) = self.now();
        inner.check_in_time(since, now);
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
        if let Some(stored) = stored {
            inner.oracle.good_until(name, self.clock.at(stored.good_until));
        }
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
            let Landing { id, lines, tag, lane, lag, answered } = landing;
            self.sell((id, lines, tag), lane, at, lag, answered);
            self.oracle.check_lane(lane);
        }
    }

    fn sell(
        &mut self,
        (id, lines, tag): (OrderId, Vec<(String, u32)>, Option<Note>),
        lane: ItemsHash,
        at: Duration,
        lag: Duration,
        answered: bool,
    ) {
        let for_ever = self.profile.odd == Odd::Product;
        let odd = (self.faults || for_ever) && self.rng.f64() < self.profile.odd_echo;
        let unanswered = matches!(self.profile.odd, Odd::Unanswered | Odd::Tag);
        let odd = odd && !(answered && unanswered);
        // What hides the order in doubt alone is a lie that nobody can see through (A2).
        let seen_through = self.shown_this_life;
        if self.profile.blind_after_landing && self.faults && !answered && seen_through {
            self.blind_since.get_or_insert(at);
        }
        let ends =
            *self.rng.choice(&["completed", "completed", "failed", "cancelled", "odd"]).unwrap();
        self.oracle.ledger.insert(id.clone(), lane);
        self.created(&id, at);
        self.orders.push(SoldOrder { id, lines, tag, at, visible_at: at + lag, odd, ends });
    }

    fn check_in_time(&mut self, since: Duration, now: Duration) {
        let used =
            |(at, id): &(Duration, OrderId)| *at + ANSWER_USED > now || self.oracle.is_claimed(id);
        let unused = self.answers.iter().find(|answer| !used(answer)).map(|(_, id)| id.clone());
        if let Some(id) = unused {
            self.oracle.violated(format!("an answer named {id}, and its intent goes on waiting"));
        }
        if !self.profile.claims_in_time {
            return;
        }
        let bounds = self.profile.bounds;
        let limit = bounds.request_timeout * 2 + CLAIMED_WITHIN;
        let late = self.orders.iter().find(|order| {
            let ours = !self.oracle.foreign.contains(&order.id);
            ours && order.visible_at.max(since) + limit < now && !self.oracle.is_claimed(&order.id)
        });
        if let Some(id) = late.map(|order| order.id.clone()) {
            self.oracle.violated(format!("{id} has shown for {limit:?} and nobody has claimed it"));
        }
    }

    /// A life is over: what was on its way to it is lost.
    pub fn life_over(&mut self) {
        self.answers.clear();
        self.shown_this_life = false;
    }

    pub fn new_id(&mut self) -> OrderId {
        self.count += 1;
        OrderId::new(format!("o-{}-{:04x}", self.count, self.rng.u16(..))).unwrap()
    }

    /// Somebody else buys here, or has bought here.
    pub fn foreign(&mut self, lines: Vec<(String, u32)>, at: Duration) {
        let items: Vec<_> = lines.iter().map(|(id, n)| Item::new(id, *n).unwrap()).collect();
        let lane = ItemsHash::of(&items, self.echo);
        let id = self.new_id();
        self.note(at, &format!("foreign {id}"));
        self.oracle.foreign.insert(id.clone());
        self.sell((id, lines, None), lane, at, Duration::ZERO, false);
    }

    /// The bytes of a POST are in the network: its fate is drawn, and when it lands.
    pub fn sent(
        &mut self,
        now: Duration,
        items: &[Item],
        creates: bool,
        late: bool,
        answered: bool,
    ) -> (Option<Duration>, OrderId) {
        let lane = ItemsHash::of(items, self.echo);
        let tag =
            items.first().and_then(Item::note_ref).filter(|_| self.echo.tag.is_some()).cloned();
        let lines: Vec<_> = items.iter().map(|i| (i.id().to_owned(), i.quantity())).collect();
        let id = self.new_id();
        if !creates {
            return (None, id);
        }
        let most = self.profile.list_lag_ms;
        let mut lag = Duration::from_millis(if most > 0 { self.rng.u64(..=most) } else { 0 });
        let bounds = self.profile.bounds;
        if let Some(share) = self.profile.lag_at_limit {
            let lags = !answered && self.faults && self.rng.f64() < share;
            lag = if lags { bounds.wire + bounds.landing - LANDS_AT_ONCE } else { Duration::ZERO };
        }
        let margin = Duration::from_millis(if self.profile.at_limit > 1 { 1 } else { 100 });
        let limit = bounds.wire + bounds.landing - bounds.stale - lag - margin;
        let limit = u64::try_from(limit.as_millis()).unwrap();
        let mut after = match (late, self.rng.u8(..4)) {
            (true, die) if die < self.profile.at_limit => limit,
            (true, _) => self.rng.u64(..=limit),
            (false, _) => self.rng.u64(..400),
        };
        let (twice, too_late) = (self.profile.twice, self.profile.too_late);
        if !answered && too_late > 0.0 && self.faults && self.rng.f64() < too_late {
            after = limit + self.rng.u64(1000..90_000);
            self.oracle.broken(lane);
        }
        let at = now + self.profile.ticks(now, Duration::from_millis(after));
        self.count += 1;
        let landing = Landing { lines, tag, lane, lag, id: id.clone(), answered };
        if !answered && twice > 0.0 && self.faults && self.rng.f64() < twice {
            let (twin, lines) = (self.new_id(), landing.lines.clone());
            self.note(now, &format!("and {twin} beside {id}"));
            self.oracle.twins(lane, &id, &twin, at + lag);
            let twin = Landing { lines, id: twin, ..landing.clone() };
            self.under_way.insert((at, self.count), twin);
            self.oracle.sold.entry(lane).or_default().may_land += 1;
            self.count += 1;
        }
        self.under_way.insert((at, self.count), landing);
        self.oracle.sold.entry(lane).or_default().may_land += 1;
        let plain = |item: &Item| Item::new(item.id(), item.quantity()).unwrap();
        match self.echo.tag {
            Some(_) => self.oracle.ordered(&id, &items.iter().map(plain).collect::<Vec<_>>()),
            None => self.oracle.ordered(&id, items),
        }
        self.oracle.check_lane(lane);
        (Some(at), id)
    }

    /// An order as the supplier shows it, in the list or by itself.
    pub fn row(&self, order: &SoldOrder, now: Duration, listed: bool) -> Row {
        let other = order.odd && self.profile.odd == Odd::Product && listed;
        let no_tag = order.odd && self.faults && self.profile.odd == Odd::Tag;
        let extra = u32::from(order.odd && self.faults && !other && !no_tag);
        let items = order.lines.iter().map(|(id, quantity)| EchoedItem {
            id: if other { REFUSED_PRODUCT.to_owned() } else { id.clone() },
            quantity: Some(quantity + extra),
            note: order.tag.clone().filter(|_| !no_tag),
        });
        let paid_later = self.pays.as_ref().map(|book| book.status(order, now).0);
        let paid = if now > order.at + Duration::from_secs(8) { order.ends } else { "pending" };
        let status = paid_later.unwrap_or(paid);
        Row {
            id: order.id.clone(),
            status: status.to_owned(),
            created_at: wall_at(order.at),
            items: Some(items.collect()),
            cost: None,
        }
    }

    /// The list as of a moment, newest first.
    pub fn rows(&self, as_of: Duration) -> Vec<Row> {
        let mine = |o: &&SoldOrder| o.visible_at <= as_of && self.account == 0;
        let mut shown: Vec<_> = self.orders.iter().filter(mine).collect();
        shown.sort_by(|a, b| (b.at, &b.id).cmp(&(a.at, &a.id)));
        shown.into_iter().map(|order| self.row(order, as_of, true)).collect()
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
        let spell = self.profile.bounds.landing * 3 / 4;
        let is_over = |since: Duration| now < since || now >= since + spell;
        if self.faults && self.blind_since.is_some_and(|since| !is_over(since)) {
            return Some(ListTrouble::Of(ListFault::Empty));
        }
        if !self.faults || self.rng.f64() >= self.profile.list_fault {
            return None;
        }
        if let Some(trouble) = self.rng.choice(&self.profile.list_troubles) {
            return Some(*trouble);
        }
        // The first list of all is believed (rule 14): it may not hide anything.
        let blind = !is_over(self.profile.blind_from) && !self.seen.is_empty();
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
