//! One row for each client.

use std::collections::HashMap;

use comfy_table::{CellAlignment, Table, TableComponent, presets};
use order_router::simulator::Simulator;
use serde::Serialize;

use super::orders::price;
use crate::commands::check::verdict::Verdict;
use crate::commands::output::outln;

/// What came of one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    client: &'static str,
    pub(super) wanted: u64,
    bought: u64,
    bought_twice: u64,
    claimed_by_nobody: u64,
    /// With other items, or another customer's order.
    wrong_customer: u64,
    lost: u64,
    falsely_failed: u64,
    /// What the orders cost that nobody has.
    money_lost_cents: u64,
    /// Orders that have no end yet.
    open: u64,
}

impl Row {
    pub(super) fn new(client: &'static str, verdict: &Verdict, supplier: &Simulator) -> Self {
        let ledger = supplier.ledger();
        let by_id: HashMap<_, _> = ledger.iter().map(|entry| (&*entry.id, entry)).collect();
        let cents = verdict
            .nobodys
            .iter()
            .filter_map(|id| by_id.get(&**id))
            .map(|entry| price(entry.items.iter().map(|item| (&*item.item_id, item.quantity))));
        Self {
            client,
            wanted: verdict.wanted,
            bought: verdict.bought,
            bought_twice: verdict.bought_twice.count,
            claimed_by_nobody: verdict.claimed_by_nobody.count,
            wrong_customer: verdict.wrong_customer.count + verdict.given_twice.count,
            lost: verdict.lost.count,
            falsely_failed: verdict.falsely_failed.count,
            money_lost_cents: cents.sum(),
            open: verdict.open,
        }
    }

    /// Everything that should be zero.
    fn wrongs(&self) -> [u64; 6] {
        [
            self.bought_twice,
            self.claimed_by_nobody,
            self.wrong_customer,
            self.lost,
            self.falsely_failed,
            self.money_lost_cents,
        ]
    }

    fn is_clean(&self) -> bool {
        self.wrongs() == [0; 6] && self.open == 0 && self.bought == self.wanted
    }
}

/// The last row, the router's, is all zero, and no other is.
pub(super) fn as_promised(rows: &[Row]) -> bool {
    match rows.split_last() {
        Some((router, others)) => router.is_clean() && !others.iter().any(Row::is_clean),
        None => false,
    }
}

pub(super) fn print_json(rows: &[Row]) {
    outln!("{}", serde_json::to_string(rows).expect("texts and numbers are plain JSON"));
}

pub(super) fn print(rows: &[Row]) {
    outln!("{}", table(rows));
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_style(TableComponent::HeaderLines, '─').set_header([
        "",
        "wanted",
        "bought",
        "bought\ntwice",
        "claimed\nby\nnobody",
        "wrong\ncustomer",
        "lost",
        "falsely\nfailed",
        "money\nlost",
    ]);
    for row in rows {
        let numbers = [
            row.wanted,
            row.bought,
            row.bought_twice,
            row.claimed_by_nobody,
            row.wrong_customer,
            row.lost,
            row.falsely_failed,
        ];
        let money = format!("{}.{:02}", row.money_lost_cents / 100, row.money_lost_cents % 100);
        let mut cells = vec![row.client.to_owned()];
        cells.extend(numbers.iter().map(u64::to_string));
        cells.push(money);
        table.add_row(cells);
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if at > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(client: &'static str, bought_twice: u64) -> Row {
        Row {
            client,
            wanted: 330,
            bought: 330 + bought_twice,
            bought_twice,
            claimed_by_nobody: bought_twice,
            wrong_customer: 0,
            lost: 0,
            falsely_failed: 0,
            money_lost_cents: bought_twice * 99_999,
            open: 0,
        }
    }

    #[test]
    fn the_table_fits_into_eighty_columns() {
        let rows = [row("blind retry", 99), row("check, then retry", 5), row("order-router", 0)];
        let text = table(&rows).to_string();
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{text}");
        assert!(text.contains("98999.01"), "{text}");
    }

    #[test]
    fn a_clean_router_beside_clean_clients_shows_nothing() {
        let (clean, wrong) = (row("a", 0), row("b", 1));
        assert!(as_promised(&[wrong.clone(), wrong.clone(), clean.clone()]));
        assert!(!as_promised(&[wrong.clone(), clean.clone(), clean.clone()]));
        assert!(!as_promised(&[wrong.clone(), wrong.clone(), wrong.clone()]));
        let lost = Row { lost: 1, ..clean.clone() };
        let open = Row { open: 1, ..clean };
        assert!(!as_promised(&[wrong.clone(), wrong.clone(), lost]));
        assert!(!as_promised(&[wrong.clone(), wrong, open]));
    }
}
