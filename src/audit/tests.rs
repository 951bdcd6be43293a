use std::sync::Arc;

use super::*;
use crate::order::EchoedItem;
use crate::protocol::{Attempt, Fingerprint, Learnt, Payment, Serial};
use crate::{Item, ItemsDigest};

const DAY: i64 = 24 * 60 * 60;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a moment")
}

fn id(text: &str) -> OrderId {
    OrderId::new(text).expect("an id")
}

fn row(name: &str, product: &str, second: i64) -> Row {
    let item = EchoedItem { id: product.into(), quantity: Some(1), note: None };
    let (status, created_at) = ("completed".into(), at(second));
    Row { id: id(name), status, created_at, items: Some(vec![item]), cost: None }
}

fn intent(reference: &str, product: &str, state: State) -> Stored {
    let items: Arc<[Item]> = vec![Item::new(product, 1).expect("an item")].into();
    Stored {
        id: Serial(1),
        client_ref: ClientRef::new(reference).expect("a reference"),
        lane: ItemsHash::of(&items, EchoProfile::default()),
        as_sent: ItemsDigest::as_sent(&items),
        delivered: ItemsDigest::delivered(&items, false),
        items,
        good_until: at(DAY),
        accepted_at: at(0),
        state,
        tries: 0,
        last_attempt: None,
        unsettled: false,
    }
}

fn placed(name: &str, second: i64) -> State {
    State::Placed { id: id(name), learnt: Learnt::Answer, created_at: Some(at(second)) }
}

fn in_doubt() -> State {
    let attempt = Attempt { seq: Serial(2), fingerprint: Fingerprint(1), floor: None };
    State::InDoubt(attempt, "timeout".into())
}

/// An audit of these rows and intents since second 1,000, long after.
fn audited(rows: &[Row], intents: Vec<Stored>, known: &Rehydration) -> Report {
    let since = Some(at(1_000));
    let span =
        Span { since, margin: Duration::from_secs(10), settled_after: Duration::from_secs(900) };
    audit(rows, intents, known, EchoProfile::default(), span, at(DAY))
}

#[track_caller]
fn finds(report: &Report, expected: &[(Kind, &str, Option<&str>)]) {
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|f| (f.kind, f.order_id.as_str(), f.client_ref.as_ref().map(ClientRef::as_str)))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn what_is_as_it_should_be_is_no_finding() {
    let rows = [row("1", "x", 2_000), row("2", "y", 2_001), row("0", "x", 500)];
    let intents = vec![
        intent("a", "x", placed("1", 2_000)),
        intent("b", "y", placed("2", 2_001)),
        // Older than the span, and not expected in it.
        intent("old", "z", placed("0", 500)),
        intent("gone", "z", placed("00", 400)),
        intent("no", "x", State::Refused("why".into())),
    ];
    let report = audited(&rows, intents, &Rehydration::default());
    finds(&report, &[]);
    assert_eq!((report.orders, report.matched), (2, 2));
}

#[test]
fn each_kind_is_found_and_nothing_else() {
    let mut unpaid = row("4", "u", 2_004);
    unpaid.status = "active".into();
    let rows = [
        row("1", "x", 2_000),
        row("1b", "x", 2_001),
        row("2", "q", 2_002),
        row("3", "r", 2_003),
        unpaid,
        row("5", "other", 2_005),
        row("h", "x", 1_500),
    ];
    let intents = vec![
        intent("a", "x", placed("1", 2_000)),
        intent("m", "m", placed("missing", 2_006)),
        intent("u", "u", placed("4", 2_004)),
        intent("e", "e", placed("5", 2_005)),
        // Too young to be missed.
        intent("young", "m", placed("young", DAY - 5)),
    ];
    let line = HistoryLine { newest: Some(at(1_501)), ids: vec![] };
    let known =
        Rehydration { orphans: vec![id("2")], history: Some(line), ..Rehydration::default() };
    let report = audited(&rows, intents, &known);
    finds(
        &report,
        &[
            (Kind::Double, "1b", Some("a")),
            (Kind::Orphan, "2", None),
            (Kind::Foreign, "3", None),
            (Kind::Unmatched, "missing", Some("m")),
            (Kind::OtherItems, "5", Some("e")),
            (Kind::Unpaid, "4", Some("u")),
        ],
    );
    assert_eq!((report.orders, report.matched, report.history), (7, 1, 1));
}

#[test]
fn what_an_open_attempt_may_have_bought_is_its_business_and_no_more() {
    let rows = [row("1", "x", 2_000), row("2", "x", 2_001)];
    let report = audited(&rows, vec![intent("a", "x", in_doubt())], &Rehydration::default());
    finds(&report, &[(Kind::Double, "2", Some("a"))]);
    assert_eq!(report.in_doubt, 1);
    // Once the router has filed it, no doubt explains it.
    let known = Rehydration { orphans: vec![id("1")], ..Rehydration::default() };
    let report = audited(&rows[..1], vec![intent("a", "x", in_doubt())], &known);
    finds(&report, &[(Kind::Double, "1", Some("a"))]);
}

#[test]
fn an_intent_that_is_read_twice_counts_as_it_was_read_last() {
    let rows = [row("1", "x", 2_000), row("2", "x", 2_001)];
    let twice = vec![intent("a", "x", in_doubt()), intent("a", "x", placed("1", 2_000))];
    let report = audited(&rows, twice, &Rehydration::default());
    finds(&report, &[(Kind::Double, "2", Some("a"))]);
    assert_eq!((report.in_doubt, report.matched), (0, 1));
}

#[test]
fn orders_that_are_paid_later_are_found_only_where_their_payment_is_off() {
    let (learnt, why) = (Learnt::Answer, || "expired".into());
    let created = |name: &str, second| State::Created {
        id: id(name),
        learnt,
        created_at: Some(at(second)),
        payment: Payment::NEW,
        why: why(),
    };
    let unpaid = |name: &str| State::Unpaid {
        id: id(name),
        learnt,
        created_at: Some(at(2_000)),
        why: why(),
    };
    let shown = |name: &str, second, status: &str| Row {
        status: status.into(),
        ..row(name, &format!("of-{name}"), second)
    };
    let rows = [
        shown("waits", DAY - 5, "active"),
        shown("waits-long", 2_000, "active"),
        shown("cancelled", 2_000, "cancelled"),
        shown("left", 2_000, "active"),
        shown("debited", 2_000, "processing"),
    ];
    let of = |name: &str, state| intent(name, &format!("of-{name}"), state);
    let intents = vec![
        of("waits", created("waits", DAY - 5)),
        of("waits-long", created("waits-long", 2_000)),
        of("cancelled", unpaid("cancelled")),
        of("left", unpaid("left")),
        of("debited", unpaid("debited")),
        // Not shown any more: it cost nothing.
        of("gone", unpaid("gone")),
    ];
    let report = audited(&rows, intents, &Rehydration::default());
    finds(
        &report,
        &[
            (Kind::Unpaid, "waits-long", Some("waits-long")),
            (Kind::PaidAfterAll, "debited", Some("debited")),
        ],
    );
    assert_eq!((report.orders, report.matched), (5, 3));
}
