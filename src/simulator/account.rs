//! The account: its orders, its balance, and the seeded plan of what happens to each request.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rust_decimal::Decimal;
use uuid::Uuid;

use super::config::{Contract, PayTime, SimulatorConfig};
use super::faults::{Faults, ListFault, PayFault, PostFault};
use super::latency::delay;
use super::ledger::{self, LedgerEntry, Stats};
use super::order::{Fate, OrderItem, Refusal, Row, Wanted};
use super::time::{Clock, Micros, micros};

/// What all connections of one simulated supplier share.
pub(super) struct Shared {
    pub clock: Clock,
    pub contract: Contract,
    pub required_key: Option<String>,
    pub open_connections: AtomicU64,
    pub connections: AtomicU64,
    account: Mutex<Account>,
}

impl Shared {
    pub(super) fn new(config: SimulatorConfig) -> Self {
        Self {
            clock: Clock::start(config.contract.clock_ahead_ms),
            account: Mutex::new(Account::new(&config)),
            contract: config.contract,
            required_key: config.required_key,
            open_connections: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }

    /// The account, locked. A panic of another holder leaves at worst one order without its
    /// counter, so the data is used on.
    pub(super) fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> Stats {
        let account = self.account();
        let counts = &account.counts;
        let fired = |of: &[u64], n: usize| (of[n] > 0).then_some(of[n]);
        let post = PostFault::ALL.iter().enumerate();
        let list = ListFault::ALL.iter().enumerate();
        let pay = PayFault::ALL.iter().enumerate();
        Stats {
            posts: counts.posts,
            orders: account.rows.len() as u64,
            foreign_orders: counts.foreign_orders,
            refused: counts.refused,
            unauthorized: counts.unauthorized,
            listings: counts.listings,
            list_pages: counts.list_pages,
            fetches: counts.fetches,
            pays: counts.pays,
            balances: counts.balances,
            faults: post.filter_map(|(n, f)| Some((*f, fired(&counts.post_faults, n)?))).collect(),
            list_faults: list
                .filter_map(|(n, f)| Some((*f, fired(&counts.list_faults, n)?)))
                .collect(),
            pay_faults: pay
                .filter_map(|(n, f)| Some((*f, fired(&counts.pay_faults, n)?)))
                .collect(),
            open_connections: self.open_connections.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
        }
    }

    /// Books money in, or out where it is negative, without an order. False: there is no such currency.
    pub(super) fn book(&self, currency: Option<&str>, amount: Decimal) -> bool {
        let places = 0..=self.contract.other_balances.len();
        let is_it = |place: &usize| currency.is_none_or(|c| c == self.contract.currency_at(*place));
        let place = places.into_iter().find(is_it);
        if let Some(place) = place {
            self.account().change(self.clock.now(), place, amount);
        }
        place.is_some()
    }

    /// The ledger's entries `range`, cut to those that exist.
    pub(super) fn ledger(&self, from: usize, count: usize) -> Vec<LedgerEntry> {
        let now = self.clock.now();
        let account = self.account();
        let rows = account.rows.iter().skip(from).take(count);
        rows.map(|row| ledger::entry(row, now, &self.contract)).collect()
    }
}

/// What was counted so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub posts: u64,
    pub refused: u64,
    pub unauthorized: u64,
    pub listings: u64,
    pub list_pages: u64,
    pub fetches: u64,
    pub pays: u64,
    pub balances: u64,
    pub foreign_orders: u64,
    pub post_faults: Vec<u64>,
    pub list_faults: Vec<u64>,
    pub pay_faults: Vec<u64>,
}

/// Ids are random already: half of one is a hash.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }
}

pub(super) struct Account {
    pub faults: Faults,
    pub rows: Vec<Row>,
    pub mock_rows: usize,
    pub hidden_rows: usize,
    /// What there is in each currency, the account's own first.
    balances: Vec<Decimal>,
    /// Every change of one of them.
    changes: Vec<(Micros, usize, Decimal)>,
    /// Orders that will be paid back.
    refundable: Vec<usize>,
    pub counts: Counts,
    by_id: HashMap<u128, usize, BuildHasherDefault<IdHasher>>,
    seed: u64,
    foreign_without_note: bool,
    arrivals: u64,
    /// For lists and for orders bought through the administration port: how often they are asked
    /// for must not change what happens to the POSTs.
    pub rng: fastrand::Rng,
}

/// An order that was drawn at its arrival and may yet have to be created.
pub(super) struct Draft {
    id: Uuid,
    fate: Fate,
    /// The share of the list lag's jitter.
    lag_share: f64,
    fault: Option<PostFault>,
    foreign: bool,
    wanted: Wanted,
}

/// What happens to one POST.
pub(super) struct Arrival {
    pub fault: Option<PostFault>,
    pub delay: Duration,
    pub draft: Draft,
    /// Somebody else's order: created before or after ours.
    foreign: Option<(bool, Draft)>,
}

/// The same lines, with or without their notes.
fn without_notes(items: &Arc<[OrderItem]>, without: bool) -> Arc<[OrderItem]> {
    if !without {
        return Arc::clone(items);
    }
    let line = |item: &OrderItem| OrderItem {
        item_id: item.item_id.clone(),
        quantity: item.quantity,
        note: None,
        total: item.total,
    };
    items.iter().map(line).collect()
}

impl Account {
    fn new(config: &SimulatorConfig) -> Self {
        let counts = Counts {
            post_faults: vec![0; PostFault::ALL.len()],
            list_faults: vec![0; ListFault::ALL.len()],
            pay_faults: vec![0; PayFault::ALL.len()],
            ..Counts::default()
        };
        Self {
            faults: config.faults.clone(),
            rows: Vec::new(),
            mock_rows: 0,
            hidden_rows: 0,
            balances: std::iter::once(config.contract.balance)
                .chain(config.contract.other_balances.iter().map(|other| other.amount))
                .collect(),
            changes: Vec::new(),
            refundable: Vec::new(),
            counts,
            by_id: HashMap::default(),
            seed: config.seed,
            foreign_without_note: config.contract.foreign_without_note,
            arrivals: 0,
            rng: fastrand::Rng::with_seed(config.seed ^ 0x6c69_7374),
        }
    }

    /// Draws everything about one POST: a function of the seed, its number and the faults set.
    pub(super) fn arrive(&mut self, wanted: Wanted) -> Arrival {
        self.arrivals += 1;
        let number = self.arrivals.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut rng = fastrand::Rng::with_seed(self.seed.wrapping_add(number));
        let fault = self.faults.draw_post(&mut rng);
        let point = rng.f64();
        let before = rng.bool();
        let items = if point < self.faults.foreign_identical {
            Some(without_notes(&wanted.items, self.foreign_without_note))
        } else if point < self.faults.foreign_identical + self.faults.foreign_other {
            Some(self.other_items(&mut rng))
        } else {
            None
        };
        let mut draft = self.draft(&mut rng, wanted, false);
        draft.fault = fault;
        let foreign = items.map(|items| {
            let Wanted { amount, currency, .. } = draft.wanted;
            let wanted = Wanted { items, amount, currency, mock: false };
            (before, self.draft(&mut rng, wanted, true))
        });
        let f = &self.faults;
        let delay = delay(&mut rng, f.latency, f.latency_jitter, f.latency_shape);
        Arrival { fault, delay, draft, foreign }
    }

    /// The items of an earlier order, or, for the first, a product that nobody else buys.
    fn other_items(&self, rng: &mut fastrand::Rng) -> Arc<[OrderItem]> {
        if let Some(row) = rng.choice(&self.rows) {
            return without_notes(&row.items, self.foreign_without_note);
        }
        let item = OrderItem {
            item_id: "foreign-product".into(),
            quantity: 1,
            note: None,
            total: Decimal::ONE,
        };
        Arc::new([item])
    }

    fn draft(&self, rng: &mut fastrand::Rng, wanted: Wanted, foreign: bool) -> Draft {
        let id = uuid::Builder::from_random_bytes(rng.u128(..).to_be_bytes()).into_uuid();
        let (point, detail) = (rng.f64(), rng.u8(..));
        let f = &self.faults;
        let mut fates = [
            (f.order_failed, Fate::Fails),
            (f.order_cancelled, Fate::Cancelled(cancel_reason(detail))),
            (f.order_partial, Fate::Partial(detail)),
            (f.order_unknown_status, Fate::Unheard),
        ]
        .into_iter();
        let mut below = 0.0;
        let fate = fates.find(|(p, _)| {
            below += p;
            point < below
        });
        let fate = fate.map_or(Fate::Completes, |(_, fate)| fate);
        let lag_share = rng.f64();
        // Drawn last, and only where it is set: seeds keep what they had.
        let is_lost = f.note_lost > 0.0 && !foreign && rng.f64() < f.note_lost;
        let wanted = Wanted { items: without_notes(&wanted.items, is_lost), ..wanted };
        Draft { id, fate, lag_share, fault: None, foreign, wanted }
    }

    /// Whether the balance covers an order that is debited when it is created.
    pub(super) fn afford(
        &mut self,
        now: Micros,
        wanted: &Wanted,
        contract: &Contract,
    ) -> Result<(), Refusal> {
        let debited = contract.pays_on == PayTime::Create && !wanted.mock;
        self.refund(now, contract);
        if debited && contract.enforce_balance && self.balances[wanted.currency] < wanted.amount {
            return Err(insufficient());
        }
        Ok(())
    }

    /// Creates an order; from here on it exists. Answers with its row.
    pub(super) fn create(&mut self, draft: Draft, now: Micros, contract: &Contract) -> usize {
        let Wanted { items, amount, currency, mock } = draft.wanted;
        let lag = self.faults.list_lag + self.faults.list_lag_jitter.mul_f64(draft.lag_share);
        let visible = now.saturating_add(micros(lag));
        let paid = contract.pays_on == PayTime::Create || mock;
        let debits = u32::from(paid && !mock);
        let index = self.rows.len();
        if debits > 0 {
            self.change(now, currency, -amount);
        }
        if contract.refunds && matches!(draft.fate, Fate::Fails | Fate::Cancelled(_)) {
            self.refundable.push(index);
        }
        let floor = self.rows.last().map_or(visible, |last| last.visible_floor.max(visible));
        self.mock_rows += usize::from(mock);
        self.counts.foreign_orders += u64::from(draft.foreign);
        self.by_id.insert(draft.id.as_u128(), index);
        self.rows.push(Row {
            id: draft.id,
            items,
            created: now,
            visible,
            visible_floor: floor,
            paid: paid.then_some(now),
            amount,
            currency,
            debits,
            pays: 0,
            fault: draft.fault,
            fate: draft.fate,
            foreign: draft.foreign,
            mock,
            hidden: false,
        });
        index
    }

    /// Somebody else buys these items now.
    pub(super) fn buy_foreign(&mut self, wanted: Wanted, now: Micros, contract: &Contract) -> &Row {
        let mut rng = self.rng.fork();
        let draft = self.draft(&mut rng, wanted, true);
        let index = self.create(draft, now, contract);
        &self.rows[index]
    }

    /// The list shows an order no more.
    pub(super) fn hide(&mut self, index: usize) {
        let row = &mut self.rows[index];
        self.hidden_rows += usize::from(!std::mem::replace(&mut row.hidden, true));
    }

    /// An order is shown with another product from now on.
    pub(super) fn alter(&mut self, index: usize, item_id: &str) {
        let row = &mut self.rows[index];
        let item_id = item_id.into();
        row.items = Arc::new([OrderItem { item_id, quantity: 1, note: None, total: row.amount }]);
    }

    /// The row of an order.
    pub(super) fn find(&self, id: Uuid) -> Option<usize> {
        self.by_id.get(&id.as_u128()).copied()
    }

    /// Pays an order from the balance.
    pub(super) fn pay(
        &mut self,
        index: usize,
        now: Micros,
        contract: &Contract,
    ) -> Result<(), Refusal> {
        let row = &self.rows[index];
        let conflict =
            |code, detail: &str| Err(Refusal { status: 409, code, detail: detail.to_owned() });
        if row.paid.is_none() && row.status(now, contract) != super::order::Status::Active {
            return conflict("ORDER_PAYMENT_NOT_POSSIBLE", "the order is cancelled");
        }
        if row.paid.is_some() && contract.repeated_pay_accepted {
            return Ok(());
        }
        if row.paid.is_some() && !contract.repeated_pay_debits {
            return conflict("ORDER_ALREADY_PAID", "the order is paid");
        }
        let (amount, currency) = (row.amount, row.currency);
        self.refund(now, contract);
        if contract.enforce_balance && self.balances[currency] < amount {
            return Err(insufficient());
        }
        self.change(now, currency, -amount);
        let row = &mut self.rows[index];
        row.debits += 1;
        row.paid.get_or_insert(now);
        Ok(())
    }

    /// Books money in or out, for an order or for nothing that anybody sees.
    pub(super) fn change(&mut self, now: Micros, currency: usize, by: Decimal) {
        let balance = &mut self.balances[currency];
        *balance = balance.checked_add(by).unwrap_or(Decimal::MIN);
        self.changes.push((now, currency, by));
    }

    /// Pays back what has ended without goods by now.
    fn refund(&mut self, now: Micros, contract: &Contract) {
        let mut due = std::mem::take(&mut self.refundable);
        due.retain(|index| {
            let row = &self.rows[*index];
            let is_due = row.is_refunded(now, contract);
            if is_due {
                let by = row.amount * Decimal::from(row.debits);
                self.change(now, row.currency, by);
            }
            !is_due
        });
        self.refundable.append(&mut due);
    }

    /// What there was in each currency at one moment, the account's own first.
    pub(super) fn balances(
        &mut self,
        as_of: Micros,
        now: Micros,
        contract: &Contract,
    ) -> Vec<Decimal> {
        self.refund(now, contract);
        let mut balances = self.balances.clone();
        for (_, currency, by) in self.changes.iter().rev().take_while(|(at, ..)| *at > as_of) {
            balances[*currency] -= *by;
        }
        balances
    }

    /// Whether something with this probability happens to a reading request.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        // Drawn only where it can be: what else is drawn stays as it was.
        probability > 0.0 && self.rng.f64() < probability
    }

    /// Counts a fault of a POST that happens.
    pub(super) fn count_post_fault(&mut self, fault: PostFault) {
        self.counts.post_faults[fault as usize] += 1;
    }

    /// Draws the fault of a payment and counts it: a function of the seed, the order and how often it
    /// was to be paid before.
    pub(super) fn pay_fault(&mut self, index: usize) -> Option<PayFault> {
        let row = &mut self.rows[index];
        row.pays += 1;
        let number = u64::from(row.pays).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (high, low) = row.id.as_u64_pair();
        let mut rng = fastrand::Rng::with_seed(self.seed ^ high ^ low ^ number);
        let fault = self.faults.draw_pay(&mut rng)?;
        self.counts.pay_faults[fault as usize] += 1;
        Some(fault)
    }

    /// Draws the fault of a list request and counts it.
    pub(super) fn list_fault(&mut self) -> Option<ListFault> {
        let fault = self.faults.draw_list(&mut self.rng)?;
        self.counts.list_faults[fault as usize] += 1;
        Some(fault)
    }

    /// How long the answer to a GET takes.
    pub(super) fn get_delay(&mut self) -> Duration {
        let f = &self.faults;
        delay(&mut self.rng, f.get_latency, f.get_latency_jitter, f.latency_shape)
    }
}

impl Arrival {
    /// Somebody else's order that comes before ours, or after it.
    pub(super) fn take_foreign(&mut self, before: bool) -> Option<Draft> {
        self.foreign.take_if(|(comes_before, _)| *comes_before == before).map(|(_, draft)| draft)
    }

    /// Makes this a POST without a fault.
    pub(super) fn forgive(&mut self) {
        self.fault = None;
        self.draft.fault = None;
    }
}

impl Draft {
    /// What the order asks for.
    pub(super) fn wanted(&self) -> &Wanted {
        &self.wanted
    }
}

fn insufficient() -> Refusal {
    Refusal {
        status: 402,
        code: "BALANCE_INSUFFICIENT",
        detail: "the balance does not cover the order".to_owned(),
    }
}

fn cancel_reason(detail: u8) -> &'static str {
    ["payment_failure", "payment_expiration", "user_request"][usize::from(detail) % 3]
}
