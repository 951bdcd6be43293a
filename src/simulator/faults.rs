//! What goes wrong, how often, and the seeded choice of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::latency::LatencyShape;
use super::update;

mod draw;
mod names;

pub use names::UnknownFault;

/// Makes [`Faults`], [`PostFault`], [`ListFault`] and [`PayFault`] from one table, so that a fault's name in
/// the ledger, at the administration port and on the command line cannot differ.
macro_rules! faults {
    (
        post { $( $(#[$pm:meta])* $pv:ident = $pf:ident, )* }
        list { $( $(#[$lm:meta])* $lv:ident = $lf:ident, )* }
        pay { $( $(#[$ym:meta])* $yv:ident = $yf:ident, )* }
        share { $( $(#[$sm:meta])* $sf:ident, )* }
        settings { $( $(#[$om:meta])* $of:ident : $ot:ty = $od:expr, )* }
    ) => {
        /// What can go wrong with one POST of an order. At most one of them happens to it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum PostFault { $( $(#[$pm])* $pv, )* }

        impl PostFault {
            /// Every fault of a POST, in the order in which the seeded choice goes through them.
            pub const ALL: &'static [Self] = &[ $( Self::$pv, )* ];

            /// The name in the ledger, in `POST /admin/faults` and, with dashes, of the flag.
            pub fn name(self) -> &'static str {
                match self { $( Self::$pv => stringify!($pf), )* }
            }
        }

        /// What can go wrong with one list request. At most one of them happens to it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum ListFault { $( $(#[$lm])* $lv, )* }

        impl ListFault {
            /// Every fault of a list request, in the order in which the seeded choice goes
            /// through them.
            pub const ALL: &'static [Self] = &[ $( Self::$lv, )* ];

            /// The name in `POST /admin/faults` and, with dashes, of the flag.
            pub fn name(self) -> &'static str {
                match self { $( Self::$lv => stringify!($lf), )* }
            }
        }

        /// What can go wrong with one payment of an order. At most one of them happens to it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum PayFault { $( $(#[$ym])* $yv, )* }

        impl PayFault {
            /// Every fault of a payment, in the order in which the seeded choice goes through them.
            pub const ALL: &'static [Self] = &[ $( Self::$yv, )* ];

            /// The name in `POST /admin/faults` and, with dashes, of the flag.
            pub fn name(self) -> &'static str {
                match self { $( Self::$yv => stringify!($yf), )* }
            }
        }

        /// Every fault, delay and foreign order, each with its probability or its duration.
        ///
        /// The default is a supplier without a fault and without a delay. The probabilities of
        /// the POST faults together must not exceed 1, nor those of the list faults. All of it
        /// can be changed while the supplier runs, with [`Simulator::set_faults`] or with
        /// `POST /admin/faults`, where the keys are the names of these fields.
        ///
        /// [`Simulator::set_faults`]: super::Simulator::set_faults
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[cfg_attr(feature = "cli", derive(clap::Args))]
        pub struct Faults {
            $( $(#[$pm])*
            #[cfg_attr(feature = "cli", arg(long, default_value_t = 0.0, value_name = "P",
                hide_default_value = true, help_heading = "Faults of a POST (probabilities)"))]
            pub $pf: f64, )*
            $( $(#[$lm])*
            #[cfg_attr(feature = "cli", arg(long, default_value_t = 0.0, value_name = "P",
                hide_default_value = true, help_heading = "Faults of a list (probabilities)"))]
            pub $lf: f64, )*
            $( $(#[$ym])*
            #[cfg_attr(feature = "cli", arg(long, default_value_t = 0.0, value_name = "P",
                hide_default_value = true, help_heading = "Faults of a payment (probabilities)"))]
            pub $yf: f64, )*
            $( #[cfg_attr(feature = "cli", arg(long, default_value_t = 0.0, value_name = "P",
                hide_default_value = true, help_heading = "Others and unhappy ends (probabilities)"))]
            $(#[$sm])*
            pub $sf: f64, )*
            $( $(#[$om])* pub $of: $ot, )*
            /// Faults for the next POSTs, in their order of arrival, before any is drawn; `None`
            /// (in JSON: `null`) is a POST without a fault. Default: empty.
            #[cfg_attr(feature = "cli", arg(skip))]
            pub script: VecDeque<Option<PostFault>>,
            /// Faults for the next list requests, as `script` is for POSTs. Default: empty.
            #[cfg_attr(feature = "cli", arg(skip))]
            pub list_script: VecDeque<Option<ListFault>>,
            /// Faults for the next payments, as `script` is for POSTs. Default: empty.
            #[cfg_attr(feature = "cli", arg(skip))]
            pub pay_script: VecDeque<Option<PayFault>>,
            /// How many more times a POST fault may be drawn; 0 is never again. A fault that is
            /// not named has no such limit. The script does not count. Default: empty.
            #[cfg_attr(feature = "cli", arg(skip))]
            pub budget: BTreeMap<PostFault, u64>,
            /// The same for list faults. Default: empty.
            #[cfg_attr(feature = "cli", arg(skip))]
            pub list_budget: BTreeMap<ListFault, u64>,
        }

        impl Default for Faults {
            fn default() -> Self {
                Self {
                    $( $pf: 0.0, )* $( $lf: 0.0, )* $( $yf: 0.0, )* $( $sf: 0.0, )*
                    $( $of: $od, )*
                    script: VecDeque::new(),
                    list_script: VecDeque::new(),
                    pay_script: VecDeque::new(),
                    budget: BTreeMap::new(),
                    list_budget: BTreeMap::new(),
                }
            }
        }

        impl Faults {
            /// The probability of one POST fault.
            pub fn post(&self, fault: PostFault) -> f64 {
                match fault { $( PostFault::$pv => self.$pf, )* }
            }

            /// The probability of one list fault.
            pub fn list(&self, fault: ListFault) -> f64 {
                match fault { $( ListFault::$lv => self.$lf, )* }
            }

            /// The probability of one fault of a payment.
            pub fn pay(&self, fault: PayFault) -> f64 {
                match fault { $( PayFault::$yv => self.$yf, )* }
            }

            /// Sets the probability of one POST fault; the others stay.
            #[must_use]
            pub fn with_post(mut self, fault: PostFault, probability: f64) -> Self {
                match fault { $( PostFault::$pv => self.$pf = probability, )* }
                self
            }

            /// Sets the probability of one list fault; the others stay.
            #[must_use]
            pub fn with_list(mut self, fault: ListFault, probability: f64) -> Self {
                match fault { $( ListFault::$lv => self.$lf = probability, )* }
                self
            }

            /// Changes what one key of an update names.
            fn set(&mut self, key: &str, value: &serde_json::Value) -> Result<(), String> {
                match key {
                    $( stringify!($pf) => self.$pf = update::probability(value)?, )*
                    $( stringify!($lf) => self.$lf = update::probability(value)?, )*
                    $( stringify!($yf) => self.$yf = update::probability(value)?, )*
                    $( stringify!($sf) => self.$sf = update::probability(value)?, )*
                    $( stringify!($of) => self.$of = update::Setting::read(value)?, )*
                    "script" => self.script = update::plain(value)?,
                    "list_script" => self.list_script = update::plain(value)?,
                    "pay_script" => self.pay_script = update::plain(value)?,
                    "budget" => self.budget = update::plain(value)?,
                    "list_budget" => self.list_budget = update::plain(value)?,
                    _ => return Err("there is no such fault or setting".to_owned()),
                }
                Ok(())
            }

            fn probabilities(&self) -> impl Iterator<Item = (&'static str, f64)> {
                [ $( (stringify!($pf), self.$pf), )* $( (stringify!($lf), self.$lf), )*
                  $( (stringify!($yf), self.$yf), )* $( (stringify!($sf), self.$sf), )* ].into_iter()
            }
        }
    };
}

faults! {
    post {
        /// Created, but no answer: the connection is held until the client goes
        WithheldAfterCreation = withheld_after_creation,
        /// Created `late_after` its arrival, even if the client has gone by then; answered then
        CreatedLate = created_late,
        /// Not created and not answered: the connection is held until the client goes
        WithheldNeverCreated = withheld_never_created,
        /// 500 with a JSON error, nothing created
        Status500Before = status_500_before,
        /// 502 with a JSON error, nothing created
        Status502Before = status_502_before,
        /// 503 with a JSON error, nothing created
        Status503Before = status_503_before,
        /// Created, then 500 with a JSON error
        Status500After = status_500_after,
        /// Created, then 502 with a JSON error
        Status502After = status_502_after,
        /// Created, then 408 with a JSON error
        Status408After = status_408_after,
        /// Created, then 409 with the code `ORDER_ALREADY_EXISTS`
        Conflict409After = conflict_409_after,
        /// The connection is reset, nothing created
        ResetBefore = reset_before,
        /// Created, then the connection is reset
        ResetAfter = reset_after,
        /// Created; the 201 announces more bytes than come before the connection closes
        Cut201 = cut_201,
        /// Created; the 201 carries the id of the newest other order (no fault while there is none)
        WrongId201 = wrong_id_201,
        /// Created; the 201 has everything but an id
        NoId201 = no_id_201,
        /// Created; the 201 has no body
        Empty201 = empty_201,
        /// 429 with a JSON error and `Retry-After: 1`, nothing created
        RateLimited429 = rate_limited_429,
        /// Created all the same, then 429 with a JSON error and `Retry-After: 1`
        RateLimited429After = rate_limited_429_after,
        /// 403 with a firewall's HTML page, nothing created
        GatewayPage403 = gateway_page_403,
        /// 502 with a gateway's HTML page, nothing created
        GatewayPage502 = gateway_page_502,
        /// 307 to the same address, nothing created; whoever follows it posts again
        Redirect = redirect,
    }
    list {
        /// The list as it was `list_stale_by` ago
        Stale = list_stale,
        /// A valid page without rows
        Empty = list_empty,
        /// The right answer after `list_slow_by`
        Slow = list_slow,
        /// 500 with a JSON error
        Status500 = list_status_500,
        /// 429 with a JSON error and `Retry-After: 1`
        Status429 = list_status_429,
        /// 200 whose JSON ends in the middle
        Malformed = list_malformed,
        /// The rows under a key that nobody expects
        WrongEnvelope = list_wrong_envelope,
        /// The rows of the page in random order
        Unsorted = list_unsorted,
    }
    pay {
        /// Paid, but no answer: the connection is held until the client goes
        WithheldAfter = pay_withheld_after,
        /// Not paid and not answered: the connection is held until the client goes
        WithheldNever = pay_withheld_never,
        /// Paid `late_after` its arrival, even if the client has gone by then; answered then
        Late = pay_late,
        /// 500 with a JSON error, nothing paid
        Status500Before = pay_500_before,
        /// Paid, then 500 with a JSON error
        Status500After = pay_500_after,
        /// The connection is reset, nothing paid
        ResetBefore = pay_reset_before,
        /// Paid, then the connection is reset
        ResetAfter = pay_reset_after,
        /// Paid, then 409 with the code `ORDER_ALREADY_PAID`: something in between asked twice
        Conflict409After = pay_409_after,
        /// 429 with a JSON error and `Retry-After: 1`, nothing paid
        RateLimited429 = pay_429,
        /// 404 with a JSON error, nothing paid: the order is not known there yet
        NotFound404 = pay_404,
        /// 422 with a JSON error, nothing paid
        Refused422 = pay_422,
    }
    share {
        /// Each row of a list is left out with this probability
        #[cfg_attr(feature = "cli", arg(help_heading = "Faults of a list (probabilities)"))]
        list_missing_row,
        /// An order's notes are lost: it is delivered, and shows none
        note_lost,
        /// The balances come after `balance_slow_by`
        #[cfg_attr(feature = "cli", arg(help_heading = "Faults of the balances (probabilities)"))]
        balance_slow,
        /// Balances: 500 with a JSON error
        #[cfg_attr(feature = "cli", arg(help_heading = "Faults of the balances (probabilities)"))]
        balance_status_500,
        /// Balances: 200 whose JSON ends in the middle
        #[cfg_attr(feature = "cli", arg(help_heading = "Faults of the balances (probabilities)"))]
        balance_malformed,
        /// Balances: the account's own currency is not among them
        #[cfg_attr(feature = "cli", arg(help_heading = "Faults of the balances (probabilities)"))]
        balance_missing,
        /// The balances as they were `balance_stale_by` ago
        #[cfg_attr(feature = "cli", arg(help_heading = "Faults of the balances (probabilities)"))]
        balance_stale,
        /// With each POST somebody else buys the same items on this account
        foreign_identical,
        /// With each POST somebody else buys another product on this account
        foreign_other,
        /// An order ends failed
        order_failed,
        /// An order ends cancelled, with a cancelReason
        order_cancelled,
        /// An order completes with an error instead of codes on one of its items
        order_partial,
        /// An order goes through a status that nobody has heard of before it completes
        order_unknown_status,
    }
    settings {
        /// How long after its arrival a `created_late` order is created [default: 1.5s]
        #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "1.5s",
            value_parser = super::parse_duration, hide_default_value = true,
            help_heading = "Delays (durations such as 300ms, 1.5s, 15m)"))]
        #[serde(serialize_with = "update::write_duration")]
        late_after: Duration = Duration::from_millis(1500),
        /// How long a withheld connection is held at most; then it is closed [default: 1h]
        #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "1h",
            value_parser = super::parse_duration, hide_default_value = true,
            help_heading = "Delays (durations such as 300ms, 1.5s, 15m)"))]
        #[serde(serialize_with = "update::write_duration")]
        withhold_for: Duration = Duration::from_secs(3600),
        /// How long after its creation an order appears in the list [default: 0s]
        #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "0s",
            value_parser = super::parse_duration, hide_default_value = true,
            help_heading = "Delays (durations such as 300ms, 1.5s, 15m)"))]
        #[serde(serialize_with = "update::write_duration")]
        list_lag: Duration = Duration::ZERO,
        /// Up to this much more list lag, uniform for each order, so that a newer order can
        /// appear before an older one [default: 0s]
        #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "0s",
            value_parser = super::parse_duration, hide_default_value = true,
            help_heading = "Delays (durations such as 300ms, 1.5s, 15m)"))]
        #[serde(serialize_with = "update::write_duration")]
        list_lag_jitter: Duration = Duration::ZERO,
        /// How long after its creation `GET /api/orders/{id}` still answers 404 [default: 0s]
        #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "0s",
            value_parser = super::parse_duration, hide_default_value = true,
            help_heading = "Delays (durations such as 300ms, 1.5s, 15m)"))]
        #[serde(serialize_with = "update::write_duration")]
        fetch_lag: Duration = Duration::ZERO,
        /// How old a `list_stale` list is [default: 2s]
        #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "2s",
            value_parser = super::parse_duration, hide_default_value = true,
            help_heading = "Delays (durations such as 300ms, 1.5s, 15m)"))]
        #[serde(serialize_with = "update::write_duration")]
        list_stale_by: Duration = Duration::from_secs(2),
        /// How long a `list_slow` list takes [default: 2s]
        #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "2s",
            value_parser = super::parse_duration, hide_default_value = true,
            help_heading = "Delays (durations such as 300ms, 1.5s, 15m)"))]
        #[serde(serialize_with = "update::write_duration")]
        list_slow_by: Duration = Duration::from_secs(2),
        /// How late `balance_slow` balances are [default: 2s]
        #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "2s",
            value_parser = super::parse_duration, hide_default_value = true,
            help_heading = "Delays (durations such as 300ms, 1.5s, 15m)"))]
        #[serde(serialize_with = "update::write_duration")]
        balance_slow_by: Duration = Duration::from_secs(2),
        /// How old `balance_stale` balances are [default: 2s]
        #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "2s",
            value_parser = super::parse_duration, hide_default_value = true,
            help_heading = "Delays (durations such as 300ms, 1.5s, 15m)"))]
        #[serde(serialize_with = "update::write_duration")]
        balance_stale_by: Duration = Duration::from_secs(2),
        /// How long an answer to a POST takes at least; the order is created before [default: 0s]
        #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "0s",
            value_parser = super::parse_duration, hide_default_value = true,
            help_heading = "Delays (durations such as 300ms, 1.5s, 15m)"))]
        #[serde(serialize_with = "update::write_duration")]
        latency: Duration = Duration::ZERO,
        /// How much longer a POST takes by chance; see `latency_shape` [default: 0s]
        #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "0s",
            value_parser = super::parse_duration, hide_default_value = true,
            help_heading = "Delays (durations such as 300ms, 1.5s, 15m)"))]
        #[serde(serialize_with = "update::write_duration")]
        latency_jitter: Duration = Duration::ZERO,
        /// How long an answer to a GET takes at least [default: 0s]
        #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "0s",
            value_parser = super::parse_duration, hide_default_value = true,
            help_heading = "Delays (durations such as 300ms, 1.5s, 15m)"))]
        #[serde(serialize_with = "update::write_duration")]
        get_latency: Duration = Duration::ZERO,
        /// How much longer a GET takes by chance; see `latency_shape` [default: 0s]
        #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "0s",
            value_parser = super::parse_duration, hide_default_value = true,
            help_heading = "Delays (durations such as 300ms, 1.5s, 15m)"))]
        #[serde(serialize_with = "update::write_duration")]
        get_latency_jitter: Duration = Duration::ZERO,
        /// The distribution of the jitter of both latencies [default: uniform]
        #[cfg_attr(feature = "cli", arg(long, value_enum, default_value = "uniform",
            hide_default_value = true,
            help_heading = "Delays (durations such as 300ms, 1.5s, 15m)"))]
        latency_shape: LatencyShape = LatencyShape::Uniform,
        /// A `list_stale` list says so with an `Age` header, as an honest cache does
        #[cfg_attr(feature = "cli", arg(long, help_heading = "Faults of a list (probabilities)"))]
        list_stale_age_header: bool = false,
    }
}

/// Why a set of faults was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {why}")]
pub struct InvalidFaults {
    /// The field, or what was added up.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
}

impl Faults {
    /// Checks every probability and the sums.
    ///
    /// # Errors
    /// When a probability is not between 0 and 1, or those of the POST faults, of the list
    /// faults, of the foreign orders or of the unhappy ends add up to more than 1.
    pub fn check(&self) -> Result<(), InvalidFaults> {
        let invalid = |key: &str, why: String| Err(InvalidFaults { key: key.to_owned(), why });
        for (key, p) in self.probabilities() {
            if !(0.0..=1.0).contains(&p) {
                return invalid(key, format!("{p} is not a probability between 0 and 1"));
            }
        }
        let sums = [
            ("POST faults", PostFault::ALL.iter().map(|f| self.post(*f)).sum::<f64>()),
            ("payment faults", PayFault::ALL.iter().map(|f| self.pay(*f)).sum()),
            ("list faults", ListFault::ALL.iter().map(|f| self.list(*f)).sum()),
            ("foreign orders", self.foreign_identical + self.foreign_other),
            (
                "ends of an order",
                self.order_failed
                    + self.order_cancelled
                    + self.order_partial
                    + self.order_unknown_status,
            ),
        ];
        for (key, sum) in sums {
            // Ten faults of 0.1 are 1 to a person, and a hair more in binary.
            if sum > 1.0 + 1e-9 {
                return invalid(key, format!("the probabilities add up to {sum}, more than 1"));
            }
        }
        Ok(())
    }

    /// Changes the fields that a JSON object names, and no others.
    ///
    /// # Errors
    /// When a key is unknown or a value has the wrong type, and as [`Faults::check`] says. Then
    /// nothing is changed.
    pub fn update(
        &mut self,
        changes: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<(), InvalidFaults> {
        let mut changed = self.clone();
        for (key, value) in changes {
            changed.set(key, value).map_err(|why| InvalidFaults { key: key.clone(), why })?;
        }
        changed.check()?;
        *self = changed;
        Ok(())
    }
}
