//! What is wrong with settings.

use std::time::Duration;

/// Settings that contradict each other. Nothing was started.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A POST that is still awaited could land after the bound.
    #[error(
        "landing bound {bound:?} is below twice the request timeout ({timeout:?}): orders would be bought twice"
    )]
    LandingBound {
        /// The landing bound.
        bound: Duration,
        /// The request timeout.
        timeout: Duration,
    },
    /// The first pause between two looks is longer than the longest.
    #[error(
        "the first pause before another look ({first:?}) is longer than the longest ({longest:?})"
    )]
    LookAgain {
        /// The first pause.
        first: Duration,
        /// The longest.
        longest: Duration,
    },
    /// A balance that lasts for less than it is measured over would be told too late.
    #[error(
        "the window of the balance ({window:?}) must be shorter than what a balance must last for ({lasts:?}), and \
         no shorter than its interval ({interval:?})"
    )]
    BalanceWindow {
        /// The window over which spending is measured.
        window: Duration,
        /// What a balance must last for.
        lasts: Duration,
        /// How often it is read.
        interval: Duration,
    },
    /// What is sent without a price guard costs nobody knows what.
    #[error(
        "resend_without_guard and {limit} contradict each other: without a price guard nobody can say what an order costs"
    )]
    Guardless {
        /// The limit.
        limit: &'static str,
    },
    /// A limit of 0 would stop everything.
    #[error("{0} must not be 0")]
    Zero(&'static str),
}
