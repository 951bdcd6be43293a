//! The runs of the model of one payment.

use order_router::protocol::Clause;
use order_router::protocol::lane::Rules;
use order_router::protocol::payment::{Bill, PayStep, Payment};
use stateright::{Checker, HasDiscoveries, Model};

use super::{Pays, at};

#[track_caller]
fn check(name: &str, pays: Pays, states: usize) {
    let checker = pays.clone().checker().threads(1).spawn_bfs().join();
    let seen = checker.unique_state_count();
    println!("{name}: {seen} states, {} steps deep", checker.max_depth());
    for property in pays.properties() {
        let found = checker.discovery(property.name);
        let is_sometimes = property.expectation == stateright::Expectation::Sometimes;
        let path = found.as_ref().map(|path| path.clone().into_actions());
        assert_eq!(is_sometimes, found.is_some(), "{name}: {}: {path:?}", property.name);
    }
    assert_eq!(seen, states, "{name}: the number of states");
}

#[test]
fn one_payment_and_a_crash() {
    let pays = Pays { ticks: 5, crashes: 1, expires: false, without: None, ends: true };
    check("one payment, a crash", pays, 482_475);
}

#[test]
fn one_payment_of_an_order_that_may_expire() {
    let pays = Pays { ticks: 5, crashes: 0, expires: true, without: None, ends: true };
    check("one payment, an order that may expire", pays, 150_502);
}

#[test]
#[ignore = "long: three million states"]
fn one_payment_a_crash_and_more_time() {
    let pays = Pays { ticks: 7, crashes: 1, expires: false, without: None, ends: true };
    check("one payment, a crash, more time", pays, 3_382_477);
}

#[test]
#[ignore = "long: a million states"]
fn one_payment_of_an_order_that_may_expire_and_more_time() {
    let pays = Pays { ticks: 7, crashes: 0, expires: true, without: None, ends: true };
    check("one payment, an order that may expire, more time", pays, 1_026_637);
}

/// Each clause of payments left out: the shortest way to lose money.
#[test]
fn each_clause_of_payments_left_out_is_caught() {
    let mut caught = Vec::new();
    for clause in [Clause::PayRecorded, Clause::PaySettled, Clause::PayLookedAfter] {
        let without = Some(clause);
        let pays = Pays { ticks: 5, crashes: 1, expires: false, without, ends: false };
        let checker = pays.checker().threads(1).finish_when(HasDiscoveries::AnyFailures);
        let checker = checker.spawn_bfs().join();
        let sometimes = ["paid", "unpaid", "a second payment", "paid by a look"];
        let mut found = checker.discoveries();
        found.retain(|name, _| !sometimes.contains(name));
        let (name, path) = found.into_iter().next().expect("a counterexample");
        let acts = path.into_actions();
        println!("{clause:?}: {name}, {} steps: {acts:?}", acts.len());
        caught.push((clause, acts.len()));
    }
    let wanted = [(Clause::PayRecorded, 8), (Clause::PaySettled, 14), (Clause::PayLookedAfter, 18)];
    assert_eq!(caught, wanted);
}

/// What is due again is at the step that it says.
#[test]
fn a_payment_that_was_stored_is_where_it_was() {
    let rules = Rules::default();
    for step in [PayStep::Due, PayStep::Sending, PayStep::InDoubt, PayStep::Held] {
        let stored = Payment { pays: 1, ..Payment::NEW.at(step) };
        let bill = Bill::restored(stored, None, false, &rules, at(0), at(0));
        assert_eq!(bill.payment(), stored);
    }
}
