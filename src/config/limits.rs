//! Limits of orders and money.

use super::{Config, ConfigError};
use crate::order::{Item, Price};
use crate::protocol::Why;

impl Config {
    /// Most pieces in one order, all its lines together. Default: none. An order of more is refused at
    /// once, and nothing of it is recorded.
    #[must_use]
    pub fn order_quantity_max(mut self, pieces: Option<u64>) -> Self {
        self.order_quantity_max = pieces;
        self
    }

    /// Most money for one order, in the currency of the price guards. Default: none. An order of more is
    /// refused at once, and nothing of it is recorded.
    ///
    /// With this or another limit of money an order is refused as well if a line has no
    /// [price guard](crate::Item::total_price): nobody can say what it costs.
    #[must_use]
    pub fn order_amount_max(mut self, amount: Option<Price>) -> Self {
        self.order_amount_max = amount;
        self
    }

    /// Most orders that are sent in any sixty seconds. Default: none.
    ///
    /// Counted is every POST of an order, those that are sent again too, before it leaves and durably: over
    /// a restart and at the next router on a shared store as well. An order over it is taken, and waits
    /// for as long as it is good; those behind it wait with it.
    #[must_use]
    pub fn orders_per_minute_max(mut self, orders: Option<u64>) -> Self {
        self.limits.minute.orders = orders;
        self
    }

    /// Most money that is sent in any sixty seconds. Default: none. Counted as
    /// [orders](Self::orders_per_minute_max) are, by their price guards; an order by itself over it is
    /// refused at once. With [`PaysOn::Pay`](crate::protocol::PaysOn::Pay) an order's money counts from
    /// before the order is sent until it ends, and then in the window of its payment.
    #[must_use]
    pub fn amount_per_minute_max(mut self, amount: Option<Price>) -> Self {
        self.limits.minute.amount = amount;
        self
    }

    /// Most orders that are sent in any 24 hours, as [those in a minute](Self::orders_per_minute_max).
    /// Default: none.
    #[must_use]
    pub fn orders_per_day_max(mut self, orders: Option<u64>) -> Self {
        self.limits.day.orders = orders;
        self
    }

    /// Most money that is sent in any 24 hours, as [that in a minute](Self::amount_per_minute_max).
    /// Default: none.
    #[must_use]
    pub fn amount_per_day_max(mut self, amount: Option<Price>) -> Self {
        self.limits.day.amount = amount;
        self
    }

    /// Whether an order whose price guard failed (`OFFER_PRICE_NOT_MATCHED`) is sent again without it, at
    /// whatever it costs. Default: no, it ends refused, and its caller is told.
    ///
    /// The refusal is the supplier's word that nothing was bought; what is not so clear is in doubt as ever.
    /// It is no try, and the order is sent without a guard until it ends or the process does. Refused
    /// together with a limit of money: without a guard nobody can say what is spent.
    #[must_use]
    pub fn resend_without_guard(mut self, yes: bool) -> Self {
        self.resend_without_guard = yes;
        self
    }

    /// Why an order is over a limit by itself, if it is.
    pub(crate) fn over_limit(&self, items: &[Item]) -> Option<Why> {
        let pieces: u64 = items.iter().map(|item| u64::from(item.quantity())).sum();
        if let Some(most) = self.order_quantity_max.filter(|most| pieces > *most) {
            return Some(
                format!("its quantity of {pieces} is over order_quantity_max = {most}").into(),
            );
        }
        let amounts = self.limits_of_money();
        if amounts.iter().all(|(_, most)| most.is_none()) {
            return None;
        }
        let Some(amount) = Price::total(items) else {
            let why = "money is limited and what it costs is not known: give a total price with every line";
            return Some(why.into());
        };
        amounts.into_iter().find_map(|(name, most)| {
            let most = most.filter(|most| amount > *most)?;
            Some(format!("its amount of {amount} is over {name} = {most}").into())
        })
    }

    fn limits_of_money(&self) -> [(&'static str, Option<Price>); 3] {
        [
            ("order_amount_max", self.order_amount_max),
            ("amount_per_minute_max", self.limits.minute.amount),
            ("amount_per_day_max", self.limits.day.amount),
        ]
    }

    /// Checks that the limits let anything through, and agree.
    pub(super) fn check_limits(&self) -> Result<(), ConfigError> {
        let orders = [
            ("order_quantity_max", self.order_quantity_max),
            ("orders_per_minute_max", self.limits.minute.orders),
            ("orders_per_day_max", self.limits.day.orders),
        ];
        if let Some((name, _)) = orders.into_iter().find(|(_, most)| *most == Some(0)) {
            return Err(ConfigError::Zero(name));
        }
        let amounts = self.limits_of_money();
        if let Some((name, _)) =
            amounts.into_iter().find(|(_, most)| *most == Some(Price::default()))
        {
            return Err(ConfigError::Zero(name));
        }
        let in_doubt = ("doubts_amount_max", self.doubts_amount_max);
        let limited = amounts.into_iter().chain([in_doubt]).find(|(_, most)| most.is_some());
        match limited {
            Some((name, _)) if self.resend_without_guard => {
                Err(ConfigError::Guardless { limit: name })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(text: &str) -> Price {
        text.parse().expect("an amount")
    }

    fn items(prices: &[Option<&str>]) -> Vec<Item> {
        let item = |(at, text): (usize, &Option<&str>)| {
            let item = Item::new(format!("p{at}"), 2).expect("an item");
            text.map_or(item.clone(), |text| item.total_price(price(text)))
        };
        prices.iter().enumerate().map(item).collect()
    }

    #[test]
    fn an_order_is_over_a_limit_by_its_pieces_its_money_or_its_missing_price() {
        let over = |config: &Config, prices: &[Option<&str>]| config.over_limit(&items(prices));
        let pieces = Config::default().order_quantity_max(Some(4));
        assert_eq!(over(&pieces, &[None, None]), None);
        assert!(over(&pieces, &[None, None, None]).is_some_and(|why| why.contains("6 is over")));
        let most = Some(price("10"));
        let limits = [
            Config::default().order_amount_max(most),
            Config::default().amount_per_minute_max(most),
            Config::default().amount_per_day_max(most),
        ];
        for config in limits {
            assert_eq!(over(&config, &[Some("4.5"), Some("5.50")]), None);
            assert!(over(&config, &[Some("4.5"), Some("5.51")]).is_some());
            let unknown = over(&config, &[Some("1"), None]).expect("refused");
            assert!(unknown.contains("give a total price"), "{unknown}");
        }
        assert_eq!(over(&Config::default().orders_per_day_max(Some(1)), &[None]), None);
    }

    #[test]
    fn limits_of_nothing_and_guards_that_are_dropped_are_refused() {
        let refused = |config: Config| config.check().expect_err("refused").to_string();
        let most = Some(price("10"));
        assert!(refused(Config::default().order_quantity_max(Some(0))).contains("must not be 0"));
        assert!(
            refused(Config::default().amount_per_day_max(Some(price("0.0")))).contains("day_max")
        );
        let without = || Config::default().resend_without_guard(true);
        without().orders_per_day_max(Some(3)).check().expect("a count needs no price");
        for config in [
            without().order_amount_max(most),
            without().amount_per_minute_max(most),
            without().amount_per_day_max(most),
            without().doubts_amount_max(most),
        ] {
            assert!(refused(config).contains("resend_without_guard"));
        }
    }
}
