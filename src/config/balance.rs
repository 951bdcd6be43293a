//! What is set of the balances of the account.

use std::time::Duration;

use super::{Config, ConfigError};
use crate::money::Currency;
use crate::order::Price;
use crate::protocol::PaysOn;
use crate::protocol::balance::BalanceRules;

impl Config {
    /// How often the balances are read, where the supplier has them. Default: 60 s; `None`: never by a
    /// timer.
    ///
    /// A reading takes no permit, and is not repeated before its next turn. It decides nothing: it is for
    /// [`OrderRouter::balance`](crate::OrderRouter::balance), the alarm of a low balance, and that of spending
    /// that no order explains, as far as orders have price guards.
    #[must_use]
    pub fn balance_interval(mut self, span: Option<Duration>) -> Self {
        self.balance_interval = span;
        self
    }

    /// The currency of the price guards, in which orders are paid. Default: the only one that the supplier
    /// shows; with several and none named there is no floor, and no spending is held against orders.
    #[must_use]
    pub fn balance_currency(mut self, currency: Option<Currency>) -> Self {
        self.balance_rules.currency = currency;
        self
    }

    /// A balance that lasts for less than this, at the spending of the [window](Config::balance_window),
    /// rings, once; it ends at one and a half times as much. Default: 1 h.
    #[must_use]
    pub fn balance_lasts(mut self, span: Duration) -> Self {
        self.balance_rules.lasts = span;
        self
    }

    /// The span over which spending is measured. Default: 15 min. A sudden burst is told by this much
    /// late at most, so it must be shorter than [`Config::balance_lasts`].
    #[must_use]
    pub fn balance_window(mut self, span: Duration) -> Self {
        self.balance_rules.window = span;
        self
    }

    /// A balance below this rings, whatever is spent; it ends a tenth above. Default: none.
    #[must_use]
    pub fn balance_floor(mut self, amount: Option<Price>) -> Self {
        self.balance_rules.floor = amount;
        self
    }

    /// How late a debit may show in a balance, and how old a balance may be. Default: 60 s. Too short, an
    /// alarm of spending that no order explains may be false; too long, one comes later.
    #[must_use]
    pub fn balance_lag(mut self, span: Duration) -> Self {
        self.balance_rules.lag = span;
        self
    }

    /// The [currency](Config::balance_currency) in which orders are paid, if it is named.
    #[must_use]
    pub fn balance_currency_set(&self) -> Option<&Currency> {
        self.balance_rules.currency.as_ref()
    }

    /// When the supplier [debits](Config::pays_on).
    #[must_use]
    pub fn pays_on_set(&self) -> PaysOn {
        self.pays_on
    }

    pub(crate) fn balance_rules(&self) -> BalanceRules {
        self.balance_rules.clone()
    }

    pub(super) fn check_balance(&self) -> Result<(), ConfigError> {
        let BalanceRules { window, lasts, .. } = self.balance_rules;
        if let Some(interval) = self.balance_interval
            && (window >= lasts || window < interval)
        {
            return Err(ConfigError::BalanceWindow { window, lasts, interval });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_tells_too_late_is_refused() {
        let refused = |config: Config, expected: &str| {
            let error = config.check().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        let hour = Duration::from_secs(3600);
        refused(Config::default().balance_window(hour), "must be shorter");
        refused(Config::default().balance_interval(Some(hour)), "no shorter than its interval");
        Config::default().balance_interval(None).balance_window(hour).check().unwrap();
        refused(Config::default().balance_interval(Some(Duration::ZERO)), "must not be 0");
    }
}
