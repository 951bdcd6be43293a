//! POSTs: who may send when, and the tasks that send.
//!
//! A permit is a rate token and a place among the POSTs under way. It is taken before the attempt
//! is recorded (rule 2) and given back with the first outcome. Payments come before new orders: an order
//! that is not paid expires. What is limited is counted before it wants a permit ([`limits`]). The tasks live on tokio, outside any
//! actor: nothing that stops an actor cuts a POST off.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::actors::{LaneMessage, PayMessage, Shared};
use crate::config::Config;
use crate::order::{ItemsHash, Price};

use crate::protocol::{IntentId, Moment, Why};
use crate::store::Lease;

mod effects;
mod limits;
mod pay;
mod post;
mod switch;

use limits::Asked;
pub(crate) use limits::{Found, Used};
pub(crate) use pay::{PayJob, PayReports, send_pay};
pub(crate) use post::{Job, LateSockets, Unreported, send};
pub(crate) use switch::Switch;

/// How long sending is slowed after a 429, and refusals in a row that pause the account.
const SLOW_FOR: Duration = Duration::from_secs(60);
const REFUSALS_MAX: u32 = 50;
/// How long a 429 without `Retry-After` stops sending.
const DRAIN_DEFAULT: Duration = Duration::from_secs(1);
/// The first and the longest pause; it doubles while the cause comes back.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The first and the longest wait after a POST that could not leave: nobody is there.
const UNREACHABLE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Hands out permits, first come first served.
pub(crate) struct Dispatch {
    /// Orders or money are limited.
    limited: bool,
    permits: Mutex<Permits>,
}

/// The state behind the permits.
struct Permits {
    /// Nothing is recorded to be sent while it does not last.
    lease: Option<Arc<Lease>>,
    /// Nor while this is on.
    switch: Arc<Switch>,
    /// The router was started to send at all.
    sends: bool,
    /// The list was understood and the account is known (rules 14 and 15).
    ready: bool,
    /// Nothing more is sent: shutdown, or the store has failed.
    closed: bool,
    /// POSTs under way, and how many there may be.
    posts: usize,
    posts_max: usize,
    doubts: Doubts,
    pay_doubts: Doubts,
    doubts_max: usize,
    /// How much the doubts may cost.
    amount_max: Option<Price>,
    limits: limits::Limits,
    /// Payments that wait.
    paying: VecDeque<IntentId>,
    waiting: VecDeque<(ItemsHash, IntentId)>,
    /// Tokens a second; `None`: no limit of our own.
    rate: Option<f64>,
    tokens: f64,
    refilled: Moment,
    slow_until: Moment,
    blocked_until: Moment,
    paused: Option<Pause>,
    pause_next: Duration,
    paused_last: Moment,
    refusals: u32,
    /// How long to wait after the next POST that could not leave; it doubles.
    unreachable_next: Duration,
    /// A timer that pumps is set for this moment.
    timer: Option<Moment>,
}

/// What is in doubt on the account.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Doubts {
    pub(crate) count: usize,
    /// What they cost, as far as they have price guards.
    pub(crate) amount: Price,
    /// How many of them have a line without one.
    pub(crate) unpriced: usize,
}

impl Doubts {
    /// Both together.
    fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            amount: self.amount.plus(other.amount),
            unpriced: self.unpriced + other.unpriced,
        }
    }
}

/// Why the account does not send, and until when at least.
struct Pause {
    why: Why,
    until: Moment,
    /// It is for want of balance, and ends with one that covers this.
    wants: Option<Wanted>,
}

/// What a balance must cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The least that a refused order cost; `None`: none of them had a price.
    pub(crate) price: Option<Price>,
}

/// Why there is no permit now, and when there may be one by itself.
enum NotNow {
    Until(Moment),
    UntilTold,
}

impl Dispatch {
    pub(crate) fn new(
        config: &Config,
        sends: bool,
        now: Moment,
        lease: Option<Arc<Lease>>,
        switch: Arc<Switch>,
        found: Found,
    ) -> Self {
        let pause = lease.as_ref().map(|lease| lease.terms().pause_max).unwrap_or_default();
        let limits = limits::Limits::new(config.limits, config.pays_on, pause, found);
        let rate = config.rate_per_minute.map(|rate| f64::from(rate) / 60.0);
        Self {
            limited: limits.is_on(),
            permits: Mutex::new(Permits {
                limits,
                lease,
                switch,
                sends,
                ready: false,
                closed: false,
                posts: 0,
                posts_max: config.posts_max,
                doubts: Doubts::default(),
                pay_doubts: Doubts::default(),
                paying: VecDeque::new(),
                doubts_max: config.doubts_max,
                amount_max: config.doubts_amount_max,
                waiting: VecDeque::new(),
                rate,
                tokens: 1.0,
                refilled: now,
                slow_until: now,
                blocked_until: now,
                paused: None,
                pause_next: PAUSE.0,
                paused_last: now,
                refusals: 0,
                unreachable_next: UNREACHABLE.0,
                timer: None,
            }),
        }
    }

    fn permits(&self) -> MutexGuard<'_, Permits> {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a permit if one is free and nobody waits for one.
    pub(crate) fn try_take(&self, now: Moment) -> bool {
        let mut permits = self.permits();
        let nobody = permits.waiting.is_empty() && permits.paying.is_empty();
        nobody && !self.limited && permits.take(now, For::Order).is_ok()
    }

    /// Asks for a permit; it comes as a message to the lane.
    pub(crate) fn ask(
        &self,
        shared: &Arc<Shared>,
        (lane, intent): (ItemsHash, IntentId),
        amount: Option<Price>,
        until: Option<Moment>,
    ) {
        let wanted = Asked { intent, lane: Some(lane), amount, until };
        if self.limited(shared, wanted).is_some() {
            self.permits().waiting.push_back((lane, intent));
        }
        self.pump(shared);
    }

    /// Asks for a permit to pay; it comes as a message to the payments.
    pub(crate) fn ask_to_pay(&self, shared: &Arc<Shared>, intent: IntentId, amount: Option<Price>) {
        let wanted = Asked { intent, lane: None, amount, until: None };
        if self.limited(shared, wanted).is_some() {
            self.permits().paying.push_back(intent);
        }
        self.pump(shared);
    }

    /// Gives a permit back: its POST has an outcome, or it was not needed.
    pub(crate) fn give_back(&self, shared: &Arc<Shared>, intent: IntentId, used: Used) {
        self.counted(shared, intent, used);
        self.done(shared);
    }

    /// What became of a reservation. To be said before the outcome is told: by that the same order may ask
    /// anew, and what is said then would be of its next reservation.
    pub(crate) fn counted(&self, shared: &Shared, intent: IntentId, used: Used) {
        if self.limited {
            self.permits().limits.release(intent, used, shared.runtime.now());
        }
    }

    /// Gives the permit of a POST back whose reservation is counted.
    pub(crate) fn done(&self, shared: &Arc<Shared>) {
        let mut permits = self.permits();
        permits.posts = permits.posts.saturating_sub(1);
        let pumps = !permits.waiting.is_empty()
            || !permits.paying.is_empty()
            || permits.limits.are_waited_for();
        drop(permits);
        if pumps {
            self.pump(shared);
        } else if self.limited {
            self.released(shared);
        }
    }

    /// Tells what is in doubt on the account.
    pub(crate) fn doubts(&self, shared: &Arc<Shared>, doubts: Doubts) {
        self.count_doubts(shared, |permits| permits.doubts = doubts);
    }

    /// Tells which payments are in doubt.
    pub(crate) fn pay_doubts(&self, shared: &Arc<Shared>, doubts: Doubts) {
        self.count_doubts(shared, |permits| permits.pay_doubts = doubts);
    }

    fn count_doubts(&self, shared: &Arc<Shared>, count: impl FnOnce(&mut Permits)) {
        let mut permits = self.permits();
        let stops = |permits: &Permits| (permits.too_much_in_doubt(), permits.pays_stop());
        let (orders, pays) = stops(&permits);
        count(&mut permits);
        let (orders_now, pays_now) = stops(&permits);
        let reached = !orders && orders_now;
        let reopened = (orders && !orders_now) || (pays && !pays_now);
        drop(permits);
        if reached {
            shared.alarm("as much is in doubt as is allowed: nothing more is sent until some orders are decided");
        }
        if reopened {
            self.pump(shared);
        }
    }

    /// Begins to send: the account is known.
    pub(crate) fn open(&self, shared: &Arc<Shared>) {
        self.start_limits(shared);
        self.permits().ready = true;
        self.pump(shared);
    }

    /// Sends nothing more.
    pub(crate) fn close(&self) {
        self.permits().closed = true;
    }

    /// POSTs under way.
    pub(crate) fn posts(&self) -> usize {
        self.permits().posts
    }

    /// Why nothing is sent, if so.
    pub(crate) fn stopped(&self) -> Option<Why> {
        let permits = self.permits();
        if permits.closed {
            return Some("the router is stopping".into());
        }
        if !permits.sends {
            return Some("the router was started without sending".into());
        }
        if let Some(why) = permits.switch.why() {
            return Some(why);
        }
        if !permits.ready {
            return Some("the supplier's list was not understood yet".into());
        }
        if permits.lease.as_ref().is_some_and(|lease| !lease.may_send()) {
            return Some("the lease of the store has ended".into());
        }
        if permits.too_much_in_doubt() {
            return Some("too many orders are in doubt".into());
        }
        permits.paused.as_ref().map(|pause| pause.why.clone()).or_else(|| permits.limits.full())
    }

    /// Tells of the kill switch, and goes on where it was switched off.
    pub(crate) fn look_at_switch(&self, shared: &Arc<Shared>) {
        let switch = self.permits().switch.clone();
        if let Some(why) = switch.news() {
            shared.sending_stopped(why);
        }
        // It may have been on and off again since this was asked last.
        if !switch.is_on() {
            self.pump(shared);
        }
    }

    /// Whether a pause is over by time, so that a probe may end it; else how long it lasts.
    pub(crate) fn pause_left(&self, now: Moment) -> Option<Duration> {
        self.permits().paused.as_ref().map(|pause| pause.until.since(now))
    }

    /// What a balance must cover to end the pause, if it is one for want of balance.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        self.permits().paused.as_ref().and_then(|pause| pause.wants)
    }

    /// How long the supplier wants to be left alone after a 429.
    pub(crate) fn blocked_for(&self, now: Moment) -> Duration {
        self.permits().blocked_until.since(now)
    }

    /// Ends the pause: the supplier was seen to answer as itself.
    pub(crate) fn resume(&self, shared: &Arc<Shared>) {
        let ended = self.permits().paused.take().is_some();
        if ended {
            shared.sending_stopped(None);
            self.pump(shared);
        }
    }

    /// Hands out permits while there are any.
    pub(crate) fn pump(&self, shared: &Arc<Shared>) {
        let now = shared.runtime.now();
        if self.limited {
            self.reserve(shared);
        }
        loop {
            let mut permits = self.permits();
            let pays = !permits.paying.is_empty() && !permits.pays_stop();
            if !pays && permits.waiting.is_empty() {
                return;
            }
            if self.limited && permits.reserve_anew(pays, now) {
                drop(permits);
                self.reserve(shared);
                continue;
            }
            match permits.take(now, if pays { For::Payment } else { For::Order }) {
                Ok(()) if pays => {
                    let Some(intent) = permits.paying.pop_front() else { return };
                    drop(permits);
                    shared.payments.send(shared, PayMessage::Permitted { intent });
                }
                Ok(()) => {
                    let Some((lane, intent)) = permits.waiting.pop_front() else { return };
                    drop(permits);
                    shared.deliver(lane, LaneMessage::Permitted { intent });
                }
                Err(NotNow::UntilTold) => return,
                Err(NotNow::Until(at)) => {
                    drop(permits);
                    return self.pump_by(shared, at);
                }
            }
        }
    }

    /// Pumps at this moment at the latest.
    fn pump_by(&self, shared: &Arc<Shared>, at: Moment) {
        let now = shared.runtime.now();
        {
            let mut permits = self.permits();
            if permits.timer.is_some_and(|set| now < set && set <= at) {
                return;
            }
            permits.timer = Some(at);
        }
        let shared = shared.clone();
        shared.clone().spawn(async move {
            shared.runtime.sleep_until(at).await;
            shared.dispatch.permits().timer = None;
            shared.dispatch.pump(&shared);
        });
    }
}

/// What a permit is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Order,
    /// That others are in doubt does not stop it: what is created already expires unpaid.
    Payment,
}

impl Permits {
    /// Whether the payments in doubt are at the bound by themselves.
    fn pays_stop(&self) -> bool {
        self.is_too_much(self.pay_doubts)
    }

    fn take(&mut self, now: Moment, what: For) -> Result<(), NotNow> {
        if self.closed
            || !self.sends
            || !self.ready
            || self.paused.is_some()
            || self.posts >= self.posts_max
            || self.switch.is_on()
            || (what == For::Order && self.too_much_in_doubt())
        {
            return Err(NotNow::UntilTold);
        }
        if self.lease.as_ref().is_some_and(|lease| !lease.may_send()) {
            return Err(NotNow::Until(now.plus(UNREACHABLE.0)));
        }
        if now < self.blocked_until {
            return Err(NotNow::Until(self.blocked_until));
        }
        if let Some(rate) = self.rate {
            let rate = if now < self.slow_until { rate / 2.0 } else { rate };
            let burst = rate.max(1.0);
            let gained = now.since(self.refilled).as_secs_f64() * rate;
            self.tokens = (self.tokens + gained).min(burst);
            self.refilled = now;
            if self.tokens < 1.0 {
                let wait = Duration::from_secs_f64((1.0 - self.tokens) / rate);
                return Err(NotNow::Until(now.plus(wait + Duration::from_millis(1))));
            }
            self.tokens -= 1.0;
        }
        self.posts += 1;
        Ok(())
    }

    /// Whether the doubts are at their bound, those of payments too.
    fn too_much_in_doubt(&self) -> bool {
        self.is_too_much(self.doubts.and(self.pay_doubts))
    }

    /// By number or by money.
    fn is_too_much(&self, doubts: Doubts) -> bool {
        let Doubts { count, amount, unpriced } = doubts;
        count >= self.doubts_max
            || self.amount_max.is_some_and(|most| unpriced > 0 || amount >= most)
    }

    /// Begins a pause; false if one was on already.
    fn pause(&mut self, why: Why, now: Moment, wants: Option<Wanted>) -> bool {
        if let Some(pause) = &mut self.paused {
            // The least of all that were refused: one large order must not stop the others for ever.
            if let (Some(before), Some(more)) = (&mut pause.wants, wants) {
                let prices = [before.price, more.price].into_iter().flatten();
                before.price = prices.min();
            }
            return false;
        }
        let calm = now.since(self.paused_last) > 2 * self.pause_next;
        let span = if calm { PAUSE.0 } else { self.pause_next };
        self.pause_next = (span * 2).min(PAUSE.1);
        self.paused_last = now.plus(span);
        self.paused = Some(Pause { why, until: now.plus(span), wants });
        true
    }
}

#[cfg(test)]
mod tests;
