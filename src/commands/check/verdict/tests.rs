use super::*;

use Outcome::{Accepted, Conflict, Held, InDoubt, Invalid, NotPlaced, Placed, Refused};

fn key(item: &str) -> ItemsKey {
    ItemsKey::new([(item, 1)])
}

/// `sold`: id and item, others' with a `!` before the id. `told`: reference, item, outcome, id.
#[track_caller]
fn check(
    sold: &[(&str, &str)],
    told: &[(&str, &str, Outcome, &str)],
    expected: &[(&str, u64)],
) -> Verdict {
    let mut books = Books::default();
    for (id, item) in sold {
        let foreign = id.starts_with('!');
        books.sold(id.trim_start_matches('!'), key(item), foreign);
    }
    for (client_ref, item, outcome, id) in told {
        let id = (!id.is_empty()).then_some(*id);
        books.told(client_ref, || key(item), *outcome, id);
    }
    let verdict = books.verdict();
    let wrong = verdict.defects().into_iter().filter(|(_, defect)| defect.count > 0);
    let wrong: Vec<_> = wrong.map(|(name, defect)| (name, defect.count)).collect();
    assert_eq!(wrong, expected, "{verdict:?}");
    assert_eq!(verdict.is_clean(), expected.is_empty());
    verdict
}

#[test]
fn every_order_placed_once_is_clean() {
    let told = [("a", "x", Accepted, ""), ("a", "x", Placed, "1"), ("b", "x", Placed, "2")];
    let verdict = check(&[("1", "x"), ("2", "x")], &told, &[]);
    assert_eq!((verdict.wanted, verdict.bought, verdict.placed), (2, 2, 2));
}

#[test]
fn the_same_end_told_in_several_runs_is_one() {
    check(&[("1", "x")], &[("a", "x", Placed, "1"), ("a", "x", Placed, "1")], &[]);
}

#[test]
fn the_order_of_lines_does_not_matter_and_equal_lines_add_up() {
    let one = ItemsKey::new([("b", 1), ("a", 2), ("b", 3)]);
    assert_eq!(one, ItemsKey::new([("a", 2), ("b", 4)]));
    assert_ne!(ItemsKey::new([("a*1;1:b", 1)]), ItemsKey::new([("a", 1), ("b", 1)]));
}

#[test]
fn what_others_bought_is_not_ours() {
    let verdict = check(&[("1", "x"), ("!2", "x")], &[("a", "x", Placed, "1")], &[]);
    assert_eq!(verdict.bought, 1);
}

#[test]
fn a_second_order_is_bought_twice_and_nobody_has_it() {
    let expected = [("bought twice", 1), ("claimed by nobody", 1)];
    let verdict = check(&[("1", "x"), ("2", "x")], &[("a", "x", Placed, "1")], &expected);
    assert_eq!(verdict.nobodys, ["2"]);
    assert_eq!(verdict.claimed_by_nobody.example.as_deref(), Some("2"));
}

#[test]
fn one_reference_with_two_orders_is_bought_twice() {
    let told = [("a", "x", Placed, "1"), ("a", "x", Placed, "2")];
    check(&[("1", "x"), ("2", "x")], &told, &[("bought twice", 1)]);
}

#[test]
fn an_order_that_no_reference_wanted_is_bought_twice() {
    let expected = [("bought twice", 1), ("claimed by nobody", 1)];
    check(&[("1", "x"), ("9", "z")], &[("a", "x", Placed, "1")], &expected);
}

#[test]
fn one_order_for_two_customers_loses_the_second() {
    let told = [("a", "x", Placed, "1"), ("b", "x", Placed, "1")];
    check(&[("1", "x")], &told, &[("lost", 1), ("given to two customers", 1)]);
    let expected = [("claimed by nobody", 1), ("lost", 1), ("given to two customers", 1)];
    check(&[("1", "x"), ("2", "x")], &told, &expected);
}

#[test]
fn an_order_with_other_items_has_the_wrong_customer() {
    let expected = [("claimed by nobody", 1), ("wrong customer", 1)];
    check(
        &[("1", "x"), ("2", "y")],
        &[("a", "x", Placed, "2"), ("b", "y", InDoubt, "")],
        &[("claimed by nobody", 1), ("wrong customer", 1)],
    );
    check(&[("1", "x"), ("!2", "x")], &[("a", "x", Placed, "2")], &expected);
}

#[test]
fn placed_with_an_order_that_does_not_exist_is_lost() {
    check(&[], &[("a", "x", Placed, "1")], &[("lost", 1)]);
    check(&[], &[("a", "x", Placed, "")], &[("lost", 1)]);
}

#[test]
fn accepted_without_an_end_is_lost() {
    check(&[], &[("a", "x", Accepted, "")], &[("lost", 1)]);
    check(&[("1", "x")], &[("a", "x", Accepted, "")], &[("lost", 1)]);
}

#[test]
fn in_doubt_may_match_one_order_or_none() {
    let verdict = check(&[], &[("a", "x", InDoubt, ""), ("b", "x", Held, "")], &[]);
    assert_eq!(verdict.open, 2);
    check(&[("1", "x")], &[("a", "x", InDoubt, "")], &[]);
    let expected = [("bought twice", 1), ("claimed by nobody", 1)];
    check(&[("1", "x"), ("2", "x")], &[("a", "x", InDoubt, "")], &expected);
}

#[test]
fn failed_where_an_order_exists_is_falsely_failed() {
    check(&[], &[("a", "x", Refused, ""), ("b", "x", NotPlaced, "")], &[]);
    let expected = [("claimed by nobody", 1), ("falsely failed", 1)];
    check(&[("1", "x")], &[("a", "x", NotPlaced, "")], &expected);
    // Of three identical orders two were bought, and only one customer was told so.
    let told = [("a", "x", Placed, "1"), ("b", "x", Refused, ""), ("c", "x", Refused, "")];
    check(&[("1", "x"), ("2", "x")], &told, &expected);
}

#[test]
fn an_end_that_changes_is_falsely_failed() {
    let told = [("a", "x", NotPlaced, ""), ("a", "x", Placed, "1")];
    check(&[("1", "x")], &told, &[("falsely failed", 1)]);
}

#[test]
fn lines_that_are_no_orders_or_in_conflict_want_nothing() {
    let told = [("a", "x", Placed, "1"), ("a", "y", Conflict, ""), ("b", "x", Invalid, "")];
    assert_eq!(check(&[("1", "x")], &told, &[]).wanted, 1);
}

#[test]
fn an_order_that_was_debited_again_was_bought_twice() {
    let mut books = Books::default();
    books.sold("1", key("x"), false);
    books.debited_again("1", 2);
    books.told("a", || key("x"), Placed, Some("1"));
    let verdict = books.verdict();
    assert_eq!(verdict.bought_twice.count, 2);
    assert!(!verdict.is_clean());
}

#[test]
fn an_order_that_was_told_unpaid_must_not_have_been_bought() {
    check(&[], &[("a", "x", Outcome::Unpaid, "1")], &[]);
    let told = [("a", "x", Outcome::Unpaid, "1")];
    check(&[("1", "x")], &told, &[("claimed by nobody", 1), ("falsely failed", 1)]);
}
