//! Limits of orders and money: what may leave next is counted durably before it may.
//!
//! An order that wants a permit waits here first. As many as the windows have room for are counted in
//! one durable change, a reservation; only then they come to the permits. A reservation is good for
//! [`LIFE`]: the gate of what it counts closes by then. What is proved not to have left, or to have
//! bought nothing, is counted out again with a later reservation; whatever is not known is spent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Dispatch, Permits};
use crate::actors::Shared;
use crate::crash;
use crate::order::{ItemsHash, Price};
use crate::protocol::limits::{
    BACK_PER_RECORD_MAX, Clocks, Limits as Most, Spend, Spent, Sum, carried_on,
};
use crate::protocol::{Change, IntentId, Moment, PaysOn, Why};

/// How long a reservation is good for.
const LIFE: Duration = Duration::from_secs(30);
/// How often it is looked whether a window has room again.
const LOOK: Duration = Duration::from_millis(500);
/// After how long what was not spent is counted out, where nothing else is reserved.
const COUNT_OUT: Duration = Duration::from_secs(2);
/// Most reservations that wait for their permits, and for how long permits are expected to suffice.
const READY_MAX: usize = 256;
const READY_SECONDS: f64 = 5.0;

/// What became of a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Used {
    /// Not a byte left.
    Not,
    /// It left, and is proved to have bought nothing.
    ForNothing,
    /// It left: it has bought something, or nobody knows.
    Fully,
}

/// What wants a permit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) intent: IntentId,
    /// The lane of an order; `None`: a payment.
    pub(super) lane: Option<ItemsHash>,
    pub(super) amount: Option<Price>,
    /// From then on nobody wants it any more.
    pub(super) until: Option<Moment>,
}

/// A reservation that is not used up.
struct Held {
    wanted: Asked,
    at: u64,
    sum: Sum,
    since: Moment,
}

/// Money that an open order will cost: under [`PaysOn::Pay`] it is counted from before the order is sent
/// until it is paid or will not be, whatever its age.
struct Owed {
    amount: Price,
    /// A payment of this process may have been taken.
    paid_here: bool,
    /// A former process may have paid it, which the store has counted.
    found: bool,
}

/// See the module.
pub(super) struct Limits {
    most: Most,
    later: bool,
    /// How long after a reservation what it counts may leave at most, in seconds.
    hold: u64,
    /// The limit clock at a moment; `None`: not known yet.
    clock: Option<(Duration, Moment)>,
    spent: Spent,
    in_flight: Sum,
    held: BTreeMap<IntentId, Held>,
    owed: BTreeMap<IntentId, Owed>,
    waiting: VecDeque<Asked>,
    paying: VecDeque<Asked>,
    back: BTreeMap<u64, Sum>,
    writing: bool,
    supplier: Option<(Timestamp, Moment)>,
    full: Option<Why>,
}

impl Limits {
    /// `owed`: what open orders of a former process may cost yet.
    pub(super) fn new(most: Most, pays_on: PaysOn, pause_max: Duration, found: Found) -> Self {
        let owed = found.owed.into_iter();
        Self {
            most,
            later: pays_on == PaysOn::Pay,
            hold: (LIFE + pause_max).as_secs() + 1,
            clock: None,
            spent: found.spent,
            in_flight: Sum::default(),
            held: BTreeMap::new(),
            owed: owed
                .map(|(intent, amount)| (intent, Owed { amount, paid_here: false, found: true }))
                .collect(),
            waiting: VecDeque::new(),
            paying: VecDeque::new(),
            back: BTreeMap::new(),
            writing: false,
            supplier: None,
            full: None,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.most.is_any()
    }

    pub(super) fn full(&self) -> Option<Why> {
        self.full.clone()
    }

    pub(super) fn are_waited_for(&self) -> bool {
        !self.waiting.is_empty() || !self.paying.is_empty()
    }

    fn clocks(&self, now: Moment, wall: Timestamp) -> Clocks {
        let supplier = self.supplier.and_then(|(date, at)| date.checked_add(now.since(at)).ok());
        Clocks { wall, supplier }
    }

    /// Sets the limit clock: it goes on where the last record left it.
    fn start(&mut self, now: Moment, wall: Timestamp) {
        let clocks = self.clocks(now, wall);
        let at = match self.spent.clocks() {
            None => Duration::from_secs(u64::try_from(wall.as_second()).unwrap_or(0)),
            Some(then) => {
                Duration::from_secs(self.spent.now()).saturating_add(carried_on(then, clocks))
            }
        };
        self.clock = Some((at, now));
    }

    /// The limit clock, in whole seconds that have passed.
    fn seconds(&self, now: Moment) -> Option<u64> {
        let (base, at) = self.clock?;
        Some(base.saturating_add(now.since(at)).as_secs())
    }

    /// What is counted whatever its age.
    fn beside(&self) -> Sum {
        let owed = self.owed.values().fold(Price::default(), |sum, owed| sum.plus(owed.amount));
        self.in_flight.plus(Sum { orders: 0, amount: owed })
    }

    /// What an order or a payment is counted as when it leaves.
    fn sum(&self, wanted: &Asked) -> Sum {
        let amount = wanted.amount.unwrap_or_default();
        match (wanted.lane, self.later) {
            // An order that is paid later costs nothing yet: what it will cost is owed.
            (Some(_), true) => Sum { orders: 1, amount: Price::default() },
            (Some(_), false) => Sum { orders: 1, amount },
            (None, _) => Sum { orders: 0, amount },
        }
    }

    /// What has no room for an order, if anything.
    fn no_room(&self, wanted: &Asked, seconds: u64) -> Option<Why> {
        let more = Sum { orders: 1, amount: wanted.amount.unwrap_or_default() };
        let mut beside = self.beside();
        if let Some(owed) = self.owed.get(&wanted.intent) {
            beside.amount = beside.amount.minus(owed.amount);
        }
        self.most.full(&self.spent, beside, more, seconds)
    }

    /// Counts one as on its way.
    fn take(&mut self, wanted: Asked, at: u64, now: Moment) -> Sum {
        let sum = self.sum(&wanted);
        if wanted.lane.is_some() {
            self.in_flight = self.in_flight.plus(sum);
            if self.later {
                let amount = wanted.amount.unwrap_or_default();
                let owed = Owed { amount, paid_here: false, found: false };
                self.owed.insert(wanted.intent, owed);
            }
        }
        self.held.insert(wanted.intent, Held { wanted, at, sum, since: now });
        sum
    }

    /// As many as there is room for, counted: their reservation.
    fn choose(&mut self, most: usize, payments: usize, now: Moment, wall: Timestamp) -> Chosen {
        let Some(seconds) = self.seconds(now) else { return Chosen::default() };
        let at = seconds.saturating_add(self.hold);
        let mut chosen = Chosen::default();
        let mut sum = Sum::default();
        while chosen.wanted.len() < payments
            && let Some(wanted) = self.paying.pop_front()
        {
            sum = sum.plus(self.take(wanted, at, now));
            chosen.wanted.push(wanted);
        }
        while chosen.wanted.len() < most
            && let Some(wanted) = self.waiting.front().copied()
        {
            if wanted.until.is_some_and(|until| until <= now) {
                self.waiting.pop_front();
                continue;
            }
            if self.held.contains_key(&wanted.intent) {
                // Asked for twice: the former one may be on its way yet.
                self.release(wanted.intent, Used::Fully, now);
            }
            chosen.full = self.no_room(&wanted, seconds);
            if chosen.full.is_some() {
                break;
            }
            self.waiting.pop_front();
            sum = sum.plus(self.take(wanted, at, now));
            chosen.wanted.push(wanted);
        }
        let back = self.back.range(..at).take(BACK_PER_RECORD_MAX);
        let back: Vec<_> = back.map(|(at, sum)| (*at, *sum)).collect();
        if !chosen.wanted.is_empty() || !back.is_empty() {
            for (at, _) in &back {
                self.back.remove(at);
            }
            let clocks = self.clocks(now, wall);
            chosen.spend = Some(Spend { now: seconds, at, sum, back, clocks });
        }
        chosen
    }

    /// A reservation is done with.
    pub(super) fn release(&mut self, intent: IntentId, used: Used, now: Moment) {
        let (Some(held), Some(seconds)) = (self.held.remove(&intent), self.seconds(now)) else {
            return;
        };
        let not_spent = match used {
            Used::Not => held.sum,
            Used::ForNothing => Sum { orders: 0, amount: held.sum.amount },
            Used::Fully => Sum::default(),
        };
        if not_spent != Sum::default() {
            let back = self.back.entry(held.at).or_default();
            *back = back.plus(not_spent);
        }
        if held.wanted.lane.is_none() {
            if let Some(owed) = self.owed.get_mut(&intent).filter(|_| used == Used::Fully) {
                owed.paid_here = true;
            }
            return;
        }
        self.in_flight = self.in_flight.minus(held.sum);
        // Now, not when its gate was asked: it has left by now, whatever held this process up.
        self.spent.add(seconds.saturating_add(1), held.sum.minus(not_spent), seconds);
        if used != Used::Fully {
            self.owed.remove(&intent);
        }
    }

    /// An order has ended: nothing of it is owed any more.
    fn ended(&mut self, intent: IntentId, paid: bool, now: Moment) {
        let (Some(owed), Some(seconds)) = (self.owed.remove(&intent), self.seconds(now)) else {
            return;
        };
        if paid && (owed.paid_here || !owed.found) {
            self.spent.add(
                seconds.saturating_add(1),
                Sum { orders: 0, amount: owed.amount },
                seconds,
            );
        }
    }

    /// Whether a reservation is too old to leave with.
    fn is_stale(&self, intent: IntentId, now: Moment) -> bool {
        self.held.get(&intent).is_some_and(|held| now >= held.since.plus(LIFE))
    }
}

/// What a start finds in the store.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) spent: Spent,
    /// What open orders may cost yet that are paid later.
    pub(crate) owed: BTreeMap<IntentId, Price>,
}

/// What may be reserved now.
#[derive(Default)]
struct Chosen {
    wanted: Vec<Asked>,
    spend: Option<Spend>,
    /// Why the next one has to wait.
    full: Option<Why>,
}

impl Permits {
    /// How many orders and payments may be reserved now.
    fn reservable(&self) -> (usize, usize) {
        let stopped = self.closed || !self.sends || !self.ready || self.paused.is_some();
        if stopped || self.limits.writing || self.switch.is_on() {
            return (0, 0);
        }
        let of_rate = |rate: f64| ((rate * READY_SECONDS).ceil() as usize).clamp(1, READY_MAX);
        let most = self.rate.map_or(READY_MAX, of_rate);
        let left = most.saturating_sub(self.waiting.len() + self.paying.len());
        let payments = if self.pays_stop() { 0 } else { left };
        (
            if self.too_much_in_doubt() { payments.min(self.limits.paying.len()) } else { left },
            payments,
        )
    }

    /// Sends what was reserved too long ago back to where it came from; whether there was any.
    pub(super) fn reserve_anew(&mut self, pays: bool, now: Moment) -> bool {
        let front = match pays {
            true => self.paying.front().copied(),
            false => self.waiting.front().map(|(_, intent)| *intent),
        };
        let Some(intent) = front.filter(|intent| self.limits.is_stale(*intent, now)) else {
            return false;
        };
        let wanted = self.limits.held.get(&intent).map(|held| held.wanted);
        self.limits.release(intent, Used::Not, now);
        match pays {
            true => drop(self.paying.pop_front()),
            false => drop(self.waiting.pop_front()),
        }
        match pays {
            true => self.limits.paying.extend(wanted),
            false => wanted.into_iter().for_each(|wanted| self.limits.waiting.push_front(wanted)),
        }
        true
    }
}

impl Dispatch {
    /// Has what wants a permit counted first, if anything is limited; else gives it back.
    pub(super) fn limited(&self, shared: &Arc<Shared>, wanted: Asked) -> Option<Asked> {
        let mut permits = self.permits();
        let limits = &mut permits.limits;
        if !limits.is_on() {
            return Some(wanted);
        }
        if wanted.amount.is_none() && limits.most.is_of_money() {
            drop(permits);
            shared.alarm(
                "an order whose amount is not known was accepted before money was limited: it is not sent \
                 or paid while there is a limit of money",
            );
            return None;
        }
        match wanted.lane {
            Some(_) => limits.waiting.push_back(wanted),
            None => limits.paying.push_back(wanted),
        }
        None
    }

    /// The supplier's clock, as an answer that has come now tells it.
    pub(crate) fn supplier_says(&self, date: Option<Timestamp>, now: Moment) {
        if let Some(date) = date {
            self.permits().limits.supplier = Some((date, now));
        }
    }

    /// Sets the limit clock.
    pub(super) fn start_limits(&self, shared: &Shared) {
        let (now, wall) = (shared.runtime.now(), shared.runtime.clock.wall());
        self.permits().limits.start(now, wall);
    }

    /// A permit was given back: what of it was not spent is counted out soon, if nothing else is
    /// reserved before.
    pub(super) fn released(&self, shared: &Arc<Shared>) {
        if !self.permits().limits.back.is_empty() {
            self.pump_by(shared, shared.runtime.now().plus(COUNT_OUT));
        }
    }

    /// By when what was reserved must have left.
    pub(super) fn leaves_by(&self, intent: IntentId) -> Option<Moment> {
        self.permits().limits.held.get(&intent).map(|held| held.since.plus(LIFE))
    }

    /// An order has ended, paid or not: nothing of it is owed any more.
    pub(crate) fn ended(&self, shared: &Shared, intent: IntentId, paid: bool) {
        let mut permits = self.permits();
        if permits.limits.is_on() {
            permits.limits.ended(intent, paid, shared.runtime.now());
        }
    }

    /// Counts what has room, durably, and brings it to the permits.
    pub(super) fn reserve(&self, shared: &Arc<Shared>) {
        let (now, wall) = (shared.runtime.now(), shared.runtime.clock.wall());
        let mut permits = self.permits();
        if !permits.limits.are_waited_for() {
            let was = permits.limits.full.take();
            let nothing = permits.limits.back.is_empty();
            drop(permits);
            if was.is_some() {
                shared.sending_stopped(None);
            }
            if nothing {
                return;
            }
            permits = self.permits();
        }
        if now < permits.blocked_until {
            let until = permits.blocked_until;
            drop(permits);
            return self.pump_by(shared, until);
        }
        let (most, payments) = permits.reservable();
        if most == 0 {
            return;
        }
        let Chosen { wanted, spend, full } = permits.limits.choose(most, payments, now, wall);
        permits.limits.writing = spend.is_some();
        let news = full.is_some() && permits.limits.full.is_none();
        if full.is_some() {
            permits.limits.full.clone_from(&full);
        }
        drop(permits);
        if let Some(why) = full {
            if news {
                shared.sending_stopped(Some(why));
            }
            self.pump_by(shared, now.plus(LOOK));
        }
        if let Some(spend) = spend {
            self.write(shared, spend, wanted);
        }
    }

    fn write(&self, shared: &Arc<Shared>, spend: Spend, wanted: Vec<Asked>) {
        crash::point("spend.writing");
        let commit = shared.store.commit(Change::Spend(spend));
        let shared = shared.clone();
        shared.clone().spawn(async move {
            let result = commit.await;
            if let Err(error) = result {
                return shared.fail(&error);
            }
            crash::point("spend.durable");
            let dispatch = &shared.dispatch;
            let mut permits = dispatch.permits();
            permits.limits.writing = false;
            for Asked { intent, lane, .. } in wanted {
                match lane {
                    Some(lane) => permits.waiting.push_back((lane, intent)),
                    None => permits.paying.push_back(intent),
                }
            }
            drop(permits);
            dispatch.pump(&shared);
        });
    }
}
