//! Every limit, timeout and interval of the router, with unit, default and consequence.

use std::path::PathBuf;
use std::time::Duration;

use crate::order::Price;
use crate::protocol::balance::BalanceRules;
use crate::protocol::lane::Rules;
use crate::protocol::limits::Limits;
use crate::protocol::{LeftOut, PaysOn};

mod balance;
mod error;
mod limits;

pub use error::ConfigError;

/// What a router is set to. Start from [`Config::default`] and change what must differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub(crate) name: String,
    pub(crate) request_timeout: Duration,
    pub(crate) landing_bound: Option<Duration>,
    pub(crate) send_window: Duration,
    pub(crate) tries_max: u8,
    pub(crate) good_for: Duration,
    pub(crate) answer_within: Option<Duration>,
    pub(crate) posts_max: usize,
    pub(crate) lane_posts_max: usize,
    pub(crate) doubts_max: usize,
    pub(crate) doubts_amount_max: Option<Price>,
    pub(crate) order_quantity_max: Option<u64>,
    pub(crate) order_amount_max: Option<Price>,
    pub(crate) limits: Limits,
    pub(crate) resend_without_guard: bool,
    pub(crate) open_max: usize,
    pub(crate) callers_max: usize,
    pub(crate) late_sockets_max: usize,
    pub(crate) rate_per_minute: Option<u32>,
    pub(crate) list_interval: Duration,
    pub(crate) list_margin: Duration,
    pub(crate) clock_margin: Duration,
    pub(crate) probe_limit: Duration,
    pub(crate) look_again: (Duration, Duration),
    pub(crate) guard_distinguishes: bool,
    pub(crate) trust_echo: bool,
    pub(crate) poll_interval: Duration,
    pub(crate) poll_limit: Duration,
    pub(crate) pays_on: PaysOn,
    pub(crate) pay_watch: Duration,
    pub(crate) balance_interval: Option<Duration>,
    pub(crate) balance_rules: BalanceRules,
    pub(crate) shards: usize,
    pub(crate) start: StartAnswer,
    pub(crate) stop_file: Option<PathBuf>,
    pub(crate) events_max: usize,
    pub(crate) left_out: LeftOut,
}

/// A person's answer to what the account shows at start (rule 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartAnswer {
    /// None: orders that the store does not know stop the start.
    #[default]
    Ask,
    /// The account is new to this store: what is on it is history, never a candidate. Taken only
    /// when the store is empty.
    NewAccount,
    /// Orders that the store does not know are somebody else's: kept as orphans, never candidates.
    /// Wrong after a backup was restored: what was bought since would be bought again.
    Adopt,
    /// The store was put back from an older state. It is settled, and nothing is sent in this process: once
    /// nothing of the lost process can land any more, the account is read, orders that the store does
    /// not know are kept as orphans, and lanes with their items are held for a person. The next start,
    /// without this answer, goes on.
    Restored,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            request_timeout: Duration::from_secs(30),
            landing_bound: Some(Duration::from_secs(15 * 60)),
            send_window: Duration::from_secs(2),
            tries_max: 3,
            good_for: Duration::from_secs(60 * 60),
            answer_within: None,
            posts_max: 512,
            lane_posts_max: 512,
            doubts_max: 100,
            doubts_amount_max: None,
            order_quantity_max: None,
            order_amount_max: None,
            limits: Limits::default(),
            resend_without_guard: false,
            open_max: 1_000_000,
            callers_max: 1_000_000,
            late_sockets_max: 1024,
            rate_per_minute: None,
            list_interval: Duration::from_millis(500),
            list_margin: Duration::from_secs(10),
            clock_margin: Duration::from_secs(60 * 60),
            probe_limit: Duration::from_secs(60),
            look_again: (Duration::from_secs(2), Duration::from_secs(60)),
            guard_distinguishes: false,
            trust_echo: false,
            poll_interval: Duration::from_secs(3),
            poll_limit: Duration::from_secs(10 * 60),
            pays_on: PaysOn::Create,
            pay_watch: Duration::from_secs(10),
            balance_interval: Some(Duration::from_secs(60)),
            balance_rules: BalanceRules::default(),
            shards: 1,
            start: StartAnswer::Ask,
            stop_file: None,
            events_max: 4096,
            left_out: LeftOut::default(),
        }
    }
}

impl Config {
    /// The router's name, the label `router` of its [figures](crate::telemetry). Default: empty; set it
    /// where several accounts are in one process.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long an answer to a POST is waited for before the attempt counts as in doubt.
    ///
    /// Default: 30 s. Too short costs doubts, never money.
    #[must_use]
    pub fn request_timeout(mut self, span: Duration) -> Self {
        self.request_timeout = span;
        self
    }

    /// How long after its last byte could have left a POST may still take effect, and show in the
    /// list (assumption A1).
    ///
    /// Default: 15 min. Only orders that really were not created wait for it, so long is nearly
    /// free; too short is the one setting that buys twice. `None`: an attempt in doubt is never
    /// released, a person decides. Refused below twice the request timeout.
    #[must_use]
    pub fn landing_bound(mut self, bound: Option<Duration>) -> Self {
        self.landing_bound = bound;
        self
    }

    /// How long after its record an attempt may still begin to leave (rule 2).
    ///
    /// Default: 2 s. A process that was stopped for longer sends nothing.
    #[must_use]
    pub fn send_window(mut self, window: Duration) -> Self {
        self.send_window = window;
        self
    }

    /// How many attempts may be proved absent before an intent ends not placed. Default: 3.
    #[must_use]
    pub fn tries_max(mut self, tries: u8) -> Self {
        self.tries_max = tries;
        self
    }

    /// How long an order that names no `good_until` is worth sending. Default: 1 h.
    #[must_use]
    pub fn good_for(mut self, span: Duration) -> Self {
        self.good_for = span;
        self
    }

    /// How long `submit` waits for the end before it answers "in doubt, ask again".
    ///
    /// Default: the request timeout and 10 s.
    #[must_use]
    pub fn answer_within(mut self, span: Duration) -> Self {
        self.answer_within = Some(span);
        self
    }

    /// Most POSTs of the account at once. Default: 512; each needs a socket.
    #[must_use]
    pub fn posts_max(mut self, posts: usize) -> Self {
        self.posts_max = posts;
        self
    }

    /// Most POSTs of one lane at once. Default: 512; 1 is strictly one after the other.
    #[must_use]
    pub fn lane_posts_max(mut self, posts: usize) -> Self {
        self.lane_posts_max = posts;
        self
    }

    /// Most attempts in doubt on the account: reached, nothing more is sent until some are decided.
    ///
    /// Default: 100. The circuit breaker for a supplier that answers every POST with 502. What is under
    /// way when it is reached, at most `posts_max`, may come into doubt as well.
    #[must_use]
    pub fn doubts_max(mut self, doubts: usize) -> Self {
        self.doubts_max = doubts;
        self
    }

    /// Most money in doubt on the account, in the currency of the price guards: reached, nothing more is
    /// sent until some orders are decided. Default: none.
    ///
    /// Counted as the [price guards](crate::Item::total_price) of all that is in doubt, orders and
    /// payments; payments stop only at as much of their own. One order in doubt
    /// with a line without a guard is as much as all that is allowed: nobody can say what it costs.
    /// What is under way when the bound is reached may come into doubt as well.
    #[must_use]
    pub fn doubts_amount_max(mut self, amount: Option<Price>) -> Self {
        self.doubts_amount_max = amount;
        self
    }

    /// Most intents that have not ended; over it, callers get `Overloaded` at once. Default: 1 M.
    #[must_use]
    pub fn open_max(mut self, intents: usize) -> Self {
        self.open_max = intents;
        self
    }

    /// Most callers waiting at once; over it, callers get `Overloaded` at once. Default: 1 M.
    #[must_use]
    pub fn callers_max(mut self, callers: usize) -> Self {
        self.callers_max = callers;
        self
    }

    /// Most sockets that are read on after their request timeout; the oldest is dropped, which
    /// costs time, not money. Default: 1,024.
    #[must_use]
    pub fn late_sockets_max(mut self, sockets: usize) -> Self {
        self.late_sockets_max = sockets;
        self
    }

    /// Most POSTs a minute on the account. Default: none; a 429 is obeyed in any case.
    #[must_use]
    pub fn rate_per_minute(mut self, rate: Option<u32>) -> Self {
        self.rate_per_minute = rate;
        self
    }

    /// Least time between the starts of two listings. Default: 500 ms.
    #[must_use]
    pub fn list_interval(mut self, span: Duration) -> Self {
        self.list_interval = span;
        self
    }

    /// How much further back than the oldest attempt in doubt a listing reads, by the supplier's
    /// clock: it covers rows whose `createdAt` is slightly out of order. Default: 10 s.
    #[must_use]
    pub fn list_margin(mut self, span: Duration) -> Self {
        self.list_margin = span;
        self
    }

    /// By how much the supplier's `createdAt` may be off: only rows older than the history line by
    /// more are history (rule 14). Default: 1 h. Beyond half of it nothing is released.
    #[must_use]
    pub fn clock_margin(mut self, span: Duration) -> Self {
        self.clock_margin = span;
        self
    }

    /// How long the start may try to read one list that is understood. Default: 60 s.
    #[must_use]
    pub fn probe_limit(mut self, span: Duration) -> Self {
        self.probe_limit = span;
        self
    }

    /// First and longest pause between two looks for an order in doubt. Default: 2 s and 60 s.
    #[must_use]
    pub fn look_again(mut self, first: Duration, longest: Duration) -> Self {
        self.look_again = (first, longest);
        self
    }

    /// Whether orders that differ in the price guard alone are kept apart (rule 13). Default: no.
    #[must_use]
    pub fn guard_distinguishes(mut self, yes: bool) -> Self {
        self.guard_distinguishes = yes;
        self
    }

    /// Whether the list is trusted to echo items faithfully before that was seen (assumption A4).
    ///
    /// Default: no: nothing is released until a row of an order known by its own answer was seen to
    /// match. A person who says yes has looked.
    #[must_use]
    pub fn trust_echo(mut self, yes: bool) -> Self {
        self.trust_echo = yes;
        self
    }

    /// How often the status of placed orders that somebody follows is read, in bulk: each order after this
    /// at first, then after half as much more every time, up to five times as long. Default: 3 s.
    #[must_use]
    pub fn poll_interval(mut self, span: Duration) -> Self {
        self.poll_interval = span;
        self
    }

    /// How long a placed order may take to end at the supplier before an alarm rings; from then on it is
    /// looked at a hundred times less often than at first, for ever. Default: 10 min.
    #[must_use]
    pub fn poll_limit(mut self, span: Duration) -> Self {
        self.poll_limit = span;
        self
    }

    /// When the supplier debits the balance.
    ///
    /// Default: [`PaysOn::Create`]. With [`PaysOn::Pay`] an order is created, and then paid with a
    /// POST of its own, under the same rules: it is placed once it is paid. Refused at the start for a
    /// supplier that cannot be paid. Wrong, orders are never paid, or paid twice (assumption A6).
    #[must_use]
    pub fn pays_on(mut self, pays_on: PaysOn) -> Self {
        self.pays_on = pays_on;
        self
    }

    /// How old an order must be before its being unpaid says that creating it did not pay it
    /// (assumption A6). Until one was seen so, the orders of a new process are looked at before they
    /// are paid. Default: 10 s, twice what the supplier says that it takes.
    #[must_use]
    pub fn pay_watch(mut self, span: Duration) -> Self {
        self.pay_watch = span;
        self
    }

    /// How many threads the lanes are spread over. Default: 1.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// The answer to what the account shows at start (rule 15). Default: none, it stops the start.
    #[must_use]
    pub fn start(mut self, answer: StartAnswer) -> Self {
        self.start = answer;
        self
    }

    /// The kill switch: while this file is there, no order leaves, over restarts too. What has left is
    /// followed, and doubts are decided; orders are taken, and wait as long as they are good. Default: none.
    ///
    /// It is looked at before an order is recorded to be sent, and again when its bytes leave. A path
    /// that cannot be looked at counts as there. Its first line is shown as the reason.
    #[must_use]
    pub fn stop_file(mut self, file: Option<PathBuf>) -> Self {
        self.stop_file = file;
        self
    }

    /// How many events a slow reader may lag behind before it misses some. Default: 4,096.
    #[must_use]
    pub fn events_max(mut self, events: usize) -> Self {
        self.events_max = events;
        self
    }

    /// Leaves out one clause of the rules, or with a second call two, to see that a suite notices:
    /// money is lost.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn leave_out(mut self, clause: crate::protocol::Clause) -> Self {
        self.left_out = self.left_out.and(clause);
        self
    }

    /// Checks that the settings agree.
    ///
    /// # Errors
    /// What contradicts what.
    pub fn check(&self) -> Result<(), ConfigError> {
        let zeros = [
            ("posts_max", self.posts_max == 0),
            ("lane_posts_max", self.lane_posts_max == 0),
            ("doubts_max", self.doubts_max == 0),
            ("doubts_amount_max", self.doubts_amount_max == Some(Price::default())),
            ("shards", self.shards == 0),
            ("tries_max", self.tries_max == 0),
            ("request_timeout", self.request_timeout.is_zero()),
            ("send_window", self.send_window.is_zero()),
            ("balance_interval", self.balance_interval.is_some_and(|span| span.is_zero())),
        ];
        if let Some((name, _)) = zeros.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(ConfigError::Zero(name));
        }
        self.check_limits()?;
        let (first, longest) = self.look_again;
        if first > longest {
            return Err(ConfigError::LookAgain { first, longest });
        }
        self.check_balance()?;
        match self.landing_bound {
            Some(bound) if bound < self.request_timeout.saturating_mul(2) => {
                Err(ConfigError::LandingBound { bound, timeout: self.request_timeout })
            }
            _ => Ok(()),
        }
    }

    /// What an audit of a router that is set to this takes for settled; all of the account.
    #[must_use]
    pub fn audit_span(&self) -> crate::audit::Span {
        let bound = self.landing_bound.unwrap_or(crate::protocol::account::LANDING_BOUND);
        crate::audit::Span { since: None, margin: self.list_margin, settled_after: bound }
    }

    pub(crate) fn answer_within_or_default(&self) -> Duration {
        self.answer_within.unwrap_or(self.request_timeout.saturating_add(Duration::from_secs(10)))
    }

    pub(crate) fn rules(&self, wire_bound: Duration) -> Rules {
        Rules {
            tries_max: self.tries_max,
            wire_bound,
            landing_bound: self.landing_bound,
            in_flight_max: self.lane_posts_max,
            look_again_min: self.look_again.0,
            look_again_max: self.look_again.1,
            left_out: self.left_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(config: Config, expected: &str) {
        let error = config.check().expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn settings_that_would_stop_everything_or_buy_twice_are_refused() {
        let (second, none) = (Duration::from_secs(1), Duration::ZERO);
        Config::default().check().unwrap();
        refused(Config::default().posts_max(0), "posts_max must not be 0");
        let nothing = Some("0.00".parse().unwrap());
        refused(Config::default().doubts_amount_max(nothing), "doubts_amount_max must not be 0");
        // Every order would be too late to leave, for ever.
        refused(Config::default().send_window(none), "send_window must not be 0");
        refused(Config::default().request_timeout(none), "request_timeout must not be 0");
        refused(Config::default().landing_bound(Some(second)), "bought twice");
        refused(Config::default().request_timeout(Duration::MAX), "bought twice");
        refused(Config::default().look_again(2 * second, second), "longer than the longest");
        let for_ever = Config::default().request_timeout(Duration::MAX).landing_bound(None);
        for_ever.check().unwrap();
        assert_eq!(for_ever.answer_within_or_default(), Duration::MAX);
    }
}
