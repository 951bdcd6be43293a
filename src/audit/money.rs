//! The spending of an account: what the list says that its orders cost, what the store knows, and what the
//! balance lost.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Report, Span};
use crate::money::{Amount, Cost, Currency};
use crate::order::{EchoProfile, ItemsHash, OrderId, Price};
use crate::protocol::payment::evidence::is_paid;
use crate::protocol::{PaysOn, State};
use crate::store::Stored;
use crate::supplier::Row;

/// So many sums of refunds are told apart; with more, any between none and all is believed.
const SUMS_MAX: usize = 4_096;

/// What a person, or the supplier, says of the balance in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Books {
    /// Which; `None`: the one in which orders are paid.
    pub currency: Option<Currency>,
    /// The balance when the span began.
    pub opening: Amount,
    /// The balance at its end.
    pub closing: Amount,
    /// What was paid in meanwhile.
    pub topped_up: Amount,
}

/// How money is counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MoneyTerms {
    /// The currency of the price guards; `None`: the only one that is seen.
    pub currency: Option<Currency>,
    /// When the supplier debits.
    pub pays_on: PaysOn,
    /// The balances to compare with; none: nothing is compared.
    pub books: Vec<Books>,
}

/// The orders of one status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct StatusSpend {
    /// How many.
    pub orders: usize,
    /// What they cost together, as far as that is known.
    pub amount: Amount,
}

/// The spending in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Spend {
    /// Which; `None`: nobody says.
    pub currency: Option<Currency>,
    /// What was debited for listed orders and stays so.
    pub debited: Amount,
    /// What failed and cancelled orders cost: it may have been paid back.
    pub refundable: Amount,
    /// What the store knows to be bought by orders of ours in the span.
    pub known: Amount,
    /// Debited orders whose cost nobody knows.
    pub unpriced: usize,
    /// The listed orders by the supplier's word for where they stand.
    pub by_status: BTreeMap<String, StatusSpend>,
    /// Whether it adds up with a balance, where one is given.
    pub equation: Option<Equation>,
    #[serde(skip)]
    refunds: Vec<Amount>,
}

/// Opening + topped up − debited + refunded = closing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Equation {
    /// The balance when the span began.
    pub opening: Amount,
    /// What was paid in.
    pub topped_up: Amount,
    /// The balance at its end.
    pub closing: Amount,
    /// What the account lost.
    pub spent: Amount,
    /// What must have been paid back of what can have been.
    pub refunded: Amount,
    /// What no order explains: above zero, more was spent; below, less.
    pub difference: Amount,
    /// Orders whose cost nobody knows: the difference may be theirs.
    pub unpriced: usize,
}

impl Equation {
    /// Whether it is shown to.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.difference == Amount::ZERO && self.unpriced == 0
    }
}

/// What an order of ours says of costs.
struct Prices {
    /// By the supplier's order: what it costs, and whether it was ended as never paid.
    orders: BTreeMap<OrderId, (Option<Price>, bool)>,
    /// By lane, where all say the same.
    lanes: BTreeMap<ItemsHash, Option<Price>>,
    bought: Vec<(OrderId, Option<jiff::Timestamp>, Option<Price>)>,
}

impl Prices {
    fn of<'a>(intents: impl IntoIterator<Item = &'a Stored>) -> Self {
        let (orders, lanes) = (BTreeMap::new(), BTreeMap::new());
        let mut prices = Self { orders, lanes, bought: Vec::new() };
        for Stored { lane, items, state, .. } in intents {
            let price = Price::total(items);
            let same = prices.lanes.entry(*lane).or_insert(price);
            *same = same.filter(|same| price == Some(*same));
            let Some(ordered) = state.order() else { continue };
            let unpaid = matches!(state, State::Unpaid { .. });
            prices.orders.insert(ordered.id.clone(), (price, unpaid));
            if matches!(state, State::Placed { .. }) {
                prices.bought.push((ordered.id.clone(), ordered.created_at, price));
            }
        }
        prices
    }
}

impl Report {
    /// Adds what the orders cost, and holds that against the balances. The rows are those of the audit.
    pub fn add_money<'a>(
        &mut self,
        rows: &[Row],
        intents: impl IntoIterator<Item = &'a Stored>,
        echo: EchoProfile,
        span: Span,
        terms: &MoneyTerms,
    ) {
        let prices = Prices::of(intents);
        let rows = rows.iter().filter(|row| Some(row.created_at) >= span.since);
        let rows: Vec<_> = rows.collect();
        let currency = terms.currency.clone().or_else(|| only_currency(&rows, &terms.books));
        let mut all: BTreeMap<Option<Currency>, Spend> = BTreeMap::new();
        let mut costs = BTreeMap::new();
        for row in &rows {
            let cost = cost_of(row, &prices, echo, &currency);
            let of = cost.as_ref().map_or(&currency, |cost| &cost.currency);
            let spend = all.entry(of.clone()).or_default();
            spend.count(row, cost.as_ref().map(|cost| cost.amount), &prices, terms.pays_on);
            costs.extend(cost.map(|cost| (&row.id, cost)));
        }
        let shown: BTreeSet<_> = rows.iter().map(|row| &row.id).collect();
        for (id, created_at, price) in &prices.bought {
            let in_span = created_at.is_some() && *created_at >= span.since;
            if in_span || shown.contains(id) {
                let shown = costs.get(id).cloned();
                let own = || price.map(|p| Cost { amount: p.into(), currency: currency.clone() });
                if let Some(cost) = own().or(shown) {
                    let spend = all.entry(cost.currency).or_default();
                    spend.known = spend.known.plus(cost.amount);
                }
            }
        }
        for finding in &mut self.findings {
            finding.cost = costs.get(&finding.order_id).cloned().or_else(|| {
                let (price, _) = prices.orders.get(&finding.order_id)?;
                price.map(|price| Cost { amount: price.into(), currency: currency.clone() })
            });
        }
        for books in &terms.books {
            let of = books.currency.clone().or_else(|| currency.clone());
            let spend = all.entry(of).or_default();
            spend.equation = Some(spend.held_against(books));
        }
        self.findings.sort();
        self.money = all.into_iter().map(|(currency, s)| Spend { currency, ..s }).collect();
    }
}

/// The only currency that anything names, if there is one.
fn only_currency(rows: &[&Row], books: &[Books]) -> Option<Currency> {
    let named = rows.iter().filter_map(|row| row.cost.as_ref()?.currency.as_ref());
    let named = named.chain(books.iter().filter_map(|books| books.currency.as_ref()));
    let all: BTreeSet<_> = named.collect();
    (all.len() == 1).then(|| all.into_iter().next().cloned()).flatten()
}

/// What a row cost: by its own word, else by the price guards of the order of ours that has it, else by
/// those of orders of ours for the same items.
fn cost_of(
    row: &Row,
    prices: &Prices,
    echo: EchoProfile,
    currency: &Option<Currency>,
) -> Option<Cost> {
    if let Some(Cost { amount, currency: shown }) = &row.cost {
        let currency = shown.clone().or_else(|| currency.clone());
        return Some(Cost { amount: *amount, currency });
    }
    let price = match prices.orders.get(&row.id) {
        Some((price, _)) => *price,
        None => {
            let lane = row.items.as_deref().and_then(|items| ItemsHash::of_row(items, echo));
            lane.and_then(|lane| prices.lanes.get(&lane).copied()).flatten()
        }
    };
    price.map(|price| Cost { amount: price.into(), currency: currency.clone() })
}

impl Spend {
    /// Counts one row.
    fn count(&mut self, row: &Row, amount: Option<Amount>, prices: &Prices, pays_on: PaysOn) {
        let of = self.by_status.entry(row.status.clone()).or_default();
        of.orders += 1;
        of.amount = of.amount.plus(amount.unwrap_or_default());
        let ended_unpaid = prices.orders.get(&row.id).is_some_and(|(_, unpaid)| *unpaid);
        let may_be_back = matches!(row.status.as_str(), "failed" | "cancelled");
        // An order that waits for its payment costs nothing where creating it does not.
        let waits = pays_on == PaysOn::Pay && row.status == "active";
        if waits || (ended_unpaid && !is_paid(&row.status)) {
            return;
        }
        let Some(amount) = amount else {
            self.unpriced += 1;
            return;
        };
        if may_be_back {
            self.refundable = self.refundable.plus(amount);
            self.refunds.push(amount);
        } else {
            self.debited = self.debited.plus(amount);
        }
    }

    fn held_against(&self, books: &Books) -> Equation {
        let Books { opening, closing, topped_up, .. } = *books;
        let spent = opening.plus(topped_up).minus(closing);
        let most = self.debited.plus(self.refundable);
        // The most that is spent for orders and is no more than what is gone.
        let mut sums = BTreeSet::from([self.debited]);
        for refund in &self.refunds {
            let more: Vec<_> = sums.iter().map(|sum| sum.plus(*refund)).collect();
            sums.extend(more);
            if sums.len() > SUMS_MAX {
                sums = BTreeSet::from([spent.max(self.debited).min(most)]);
                break;
            }
        }
        let explained = sums.range(..=spent).next_back().copied().unwrap_or(self.debited);
        Equation {
            opening,
            topped_up,
            closing,
            spent,
            refunded: most.minus(explained),
            difference: spent.minus(explained),
            unpriced: self.unpriced,
        }
    }
}

#[cfg(test)]
mod tests;
