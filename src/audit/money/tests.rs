use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::order::EchoedItem;
use crate::protocol::{Learnt, Serial};
use crate::{ClientRef, Item, ItemsDigest};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a moment")
}

fn amount(text: &str) -> Amount {
    text.parse().expect("an amount")
}

fn row(name: &str, product: &str, status: &str, cost: Option<&str>) -> Row {
    let item = EchoedItem { id: product.into(), quantity: Some(1), note: None };
    let currency = Currency::new("USD");
    let cost = cost.map(|text| Cost { amount: amount(text), currency });
    let (id, created_at) = (OrderId::new(name).expect("an id"), at(2_000));
    Row { id, status: status.into(), created_at, items: Some(vec![item]), cost }
}

fn intent(name: &str, product: &str, price: Option<&str>) -> Stored {
    let mut item = Item::new(product, 1).expect("an item");
    if let Some(price) = price {
        item = item.total_price(price.parse().expect("a price"));
    }
    let items: Arc<[Item]> = vec![item].into();
    let id = OrderId::new(name).expect("an id");
    Stored {
        id: Serial(1),
        client_ref: ClientRef::new(format!("ref-{name}")).expect("a reference"),
        lane: ItemsHash::of(&items, EchoProfile::default()),
        as_sent: ItemsDigest::as_sent(&items),
        delivered: ItemsDigest::delivered(&items, false),
        items,
        good_until: at(9_000),
        accepted_at: at(0),
        state: State::Placed { id, learnt: Learnt::Answer, created_at: Some(at(2_000)) },
        tries: 0,
        last_attempt: None,
        unsettled: false,
    }
}

fn books(opening: &str, closing: &str) -> Vec<Books> {
    let (opening, closing) = (amount(opening), amount(closing));
    vec![Books { currency: None, opening, closing, topped_up: Amount::ZERO }]
}

fn spend_of(rows: &[Row], intents: &[Stored], books: Vec<Books>) -> Spend {
    let settled_after = Duration::from_secs(900);
    let span = Span { since: Some(at(1_000)), margin: Duration::ZERO, settled_after };
    let mut report = Report::default();
    let terms = MoneyTerms { books, ..MoneyTerms::default() };
    report.add_money(rows, intents, EchoProfile::default(), span, &terms);
    assert_eq!(report.money.len(), 1, "{report:?}");
    report.money.remove(0)
}

#[test]
fn spending_is_known_by_the_list_or_by_price_guards_and_adds_up_exactly() {
    let rows = [
        row("1", "x", "completed", Some("0.1")),
        row("2", "y", "processing", None),
        // Nobody has it, but an order of ours is for the same.
        row("2b", "y", "completed", None),
    ];
    let intents = [intent("1", "x", Some("0.1")), intent("2", "y", Some("0.20"))];
    let spend = spend_of(&rows, &intents, books("10", "9.5"));
    assert_eq!((spend.debited, spend.known, spend.unpriced), (amount("0.5"), amount("0.3"), 0));
    let equation = spend.equation.expect("books were given");
    assert!(equation.adds_up(), "{equation:?}");
    assert_eq!(spend.by_status["completed"], StatusSpend { orders: 2, amount: amount("0.3") });
    let off = spend_of(&rows, &intents, books("10", "9.4999")).equation.expect("books");
    assert!(!off.adds_up());
    assert_eq!(off.difference, amount("0.0001"));
    let less = spend_of(&rows, &intents, books("10", "9.6")).equation.expect("books");
    assert_eq!((less.adds_up(), less.difference), (false, amount("-0.1")));
}

#[test]
fn refunds_are_told_apart_and_only_those_that_there_can_be() {
    let rows = [
        row("1", "x", "completed", Some("10")),
        row("2", "x", "failed", Some("3")),
        row("3", "x", "cancelled", Some("5")),
    ];
    for (closing, refunded) in [("82", "0"), ("85", "3"), ("87", "5"), ("90", "8")] {
        let spend = spend_of(&rows, &[], books("100", closing));
        assert_eq!((spend.debited, spend.refundable), (amount("10"), amount("8")));
        let equation = spend.equation.expect("books");
        assert!(equation.adds_up(), "{equation:?}");
        assert_eq!(equation.refunded, amount(refunded));
    }
    // No refunds leave 16: 15 at most, and one is gone beyond that.
    let off = spend_of(&rows, &[], books("100", "84")).equation.expect("books");
    assert_eq!((off.adds_up(), off.difference), (false, amount("1")));
}

#[test]
fn an_order_whose_cost_nobody_knows_is_not_said_to_add_up() {
    let rows = [row("1", "x", "completed", None)];
    let spend = spend_of(&rows, &[intent("1", "x", None)], books("10", "10"));
    assert_eq!(spend.unpriced, 1);
    assert!(!spend.equation.expect("books").adds_up());
}

#[test]
fn lanes_with_two_prices_say_nothing_of_what_nobody_has() {
    let rows = [row("1b", "x", "completed", None)];
    let intents = [intent("1", "x", Some("1")), intent("2", "x", Some("2"))];
    assert_eq!(spend_of(&rows, &intents, Vec::new()).unpriced, 1);
}

#[test]
fn many_refunds_are_bounded() {
    let rows: Vec<_> = (0..200)
        .map(|n| {
            row(&format!("o{n}"), "x", "failed", Some(&format!("{}.{:03}", n + 1, n * 7 % 1000)))
        })
        .collect();
    let spend = spend_of(&rows, &[], books("100000", "99000"));
    assert!(spend.equation.expect("books").adds_up());
    let spend = spend_of(&rows, &[], books("100000", "1"));
    assert!(!spend.equation.expect("books").adds_up());
}
