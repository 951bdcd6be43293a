//! Figures for operators, through the facade of the crate `metrics` (feature `metrics`).
//!
//! Nothing is exported here: a host installs the recorder that it likes. Every metric has the label
//! `router`, the [name](crate::Config::name) of the router, so that several accounts in one process can be
//! told apart. No reference, note, code or key is ever a label. Without the feature nothing is recorded and
//! nothing is paid for it.
//!
//! | metric | kind | what |
//! |---|---|---|
//! | `order_router_open` | gauge | orders that have not ended |
//! | `order_router_posts` | gauge | POSTs under way |
//! | `order_router_doubts` | gauge | orders and payments in doubt or held |
//! | `order_router_doubt_age_seconds` | gauge | for how long the lane that has had doubts longest has had some |
//! | `order_router_doubt_amount` | gauge | what the orders and payments in doubt cost, as far as they have a price guard |
//! | `order_router_sending` | gauge | 1 while orders are sent, 0 while something stops them |
//! | `order_router_list_lag_seconds` | gauge | how long an order was seen to need, at least, until a list shows it (A1) |
//! | `order_router_index_lag` | gauge | changes that the store's index has not taken over yet |
//! | `order_router_attempts_total` | counter | attempts to create, not to pay, by `outcome`: `created`, `refused`, `not_sent`, `unknown` |
//! | `order_router_verdicts_total` | counter | ends by `verdict`: `placed`, `refused`, `not_placed`, `unpaid` |
//! | `order_router_in_doubt_total` | counter | orders that came into doubt |
//! | `order_router_held_total` | counter | orders that were handed to a person |
//! | `order_router_joined_total` | counter | submissions that joined an order under the same reference |
//! | `order_router_orphans_total` | counter | orders on the account that no intent has |
//! | `order_router_alarms_total` | counter | alarms |
//! | `order_router_commit_seconds` | histogram | from handing a change to the store until it is durable |
//! | `order_router_listing_seconds` | histogram | how long a listing took, all its pages |
//! | `order_router_listing_rows` | histogram | rows that a listing read |

use std::sync::Arc;
use std::time::Duration;

use crate::order::Price;

/// Records the figures of one router.
#[derive(Clone)]
pub(crate) struct Telemetry {
    #[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "nothing is recorded"))]
    router: Arc<str>,
}

/// What is counted.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "nothing is recorded"))]
pub(crate) enum Count {
    Attempt(&'static str),
    Verdict(&'static str),
    InDoubt,
    Held,
    Joined,
    Orphans(usize),
    Alarm,
}

/// How a router stands, now and then.
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "nothing is recorded"))]
pub(crate) struct Standing {
    pub(crate) open: usize,
    pub(crate) posts: usize,
    pub(crate) doubts: usize,
    pub(crate) doubt_age: Duration,
    pub(crate) doubt_amount: Price,
    pub(crate) sending: bool,
    pub(crate) list_lag: Duration,
    pub(crate) index_lag: u64,
}

impl Telemetry {
    /// Of the router of this name.
    pub(crate) fn new(router: &str) -> Self {
        Self { router: router.into() }
    }
}

#[cfg(not(feature = "metrics"))]
impl Telemetry {
    pub(crate) fn count(&self, _: Count) {}

    pub(crate) fn standing(&self, _: impl FnOnce() -> Standing) {}

    pub(crate) fn committed(&self, _: Duration) {}

    pub(crate) fn listed(&self, _: Duration, _: usize) {}
}

#[cfg(feature = "metrics")]
impl Telemetry {
    pub(crate) fn count(&self, count: Count) {
        let router = || self.router.to_string();
        let (counter, by) = match count {
            Count::Attempt(outcome) => {
                let name = "order_router_attempts_total";
                (metrics::counter!(name, "router" => router(), "outcome" => outcome), 1)
            }
            Count::Verdict(verdict) => {
                let name = "order_router_verdicts_total";
                (metrics::counter!(name, "router" => router(), "verdict" => verdict), 1)
            }
            Count::InDoubt => {
                (metrics::counter!("order_router_in_doubt_total", "router" => router()), 1)
            }
            Count::Held => (metrics::counter!("order_router_held_total", "router" => router()), 1),
            Count::Joined => {
                (metrics::counter!("order_router_joined_total", "router" => router()), 1)
            }
            Count::Orphans(orders) => {
                (metrics::counter!("order_router_orphans_total", "router" => router()), orders)
            }
            Count::Alarm => {
                (metrics::counter!("order_router_alarms_total", "router" => router()), 1)
            }
        };
        counter.increment(by as u64);
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn standing(&self, standing: impl FnOnce() -> Standing) {
        let now = standing();
        let set = |name: &'static str, value: f64| {
            metrics::gauge!(name, "router" => self.router.to_string()).set(value);
        };
        set("order_router_open", now.open as f64);
        set("order_router_posts", now.posts as f64);
        set("order_router_doubts", now.doubts as f64);
        set("order_router_doubt_age_seconds", now.doubt_age.as_secs_f64());
        set("order_router_doubt_amount", now.doubt_amount.rounded());
        set("order_router_sending", if now.sending { 1.0 } else { 0.0 });
        set("order_router_list_lag_seconds", now.list_lag.as_secs_f64());
        set("order_router_index_lag", now.index_lag as f64);
    }

    pub(crate) fn committed(&self, span: Duration) {
        let router = self.router.to_string();
        metrics::histogram!("order_router_commit_seconds", "router" => router)
            .record(span.as_secs_f64());
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn listed(&self, span: Duration, rows: usize) {
        let router = || self.router.to_string();
        metrics::histogram!("order_router_listing_seconds", "router" => router())
            .record(span.as_secs_f64());
        metrics::histogram!("order_router_listing_rows", "router" => router()).record(rows as f64);
    }
}
