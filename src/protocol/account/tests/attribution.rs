//! Rules 8, 9, 12, 14 and 15: whose a row may be.

use super::*;

#[test]
fn candidates_are_the_free_rows_of_the_lane_oldest_first() {
    let mut account = account_since(Some(10_000), &[1]);
    account.learnt(answered(2, 10_001, "card"), minute(0));
    account.orphan([id(3)]);
    let rows = [
        row(1, 9_999, "card"),
        row(2, 10_001, "card"),
        row(3, 10_002, "card"),
        row(4, 10_009, "card"),
        row(6, 10_007, "card"),
        row(5, 10_007, "card"),
        row(7, 10_008, "card"),
        row(8, 10_008, "coin"),
        row_of(9, 10_008, &[("card", 2)]),
    ];
    let (claims, open) = (vec![claim(7, "card", Learnt::List)], open(&[("card", 3), ("coin", 1)]));
    let seen = account.see_claims(sheet(None, &rows), claims, &open, 1);
    let view = seen.view_of("card");
    let candidates: Vec<_> = view.candidates.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(candidates, ["#5", "#6", "#4"]);
    assert_eq!(view.ask, 3);
    assert_eq!(ids(&seen.free_ids()), ["#4", "#5", "#6", "#8", "#9"]);
}

#[test]
fn candidates_need_no_evidence() {
    let mut shown = sheet(None, &[row(1, 1, "card")]);
    shown.reach = Err(NoEvidence::Gap);
    let seen = account().see(shown, &open(&[("card", 1)]), 1);
    assert_eq!(seen.evidence, Err(NoEvidence::Gap));
    let view = seen.view_of("card");
    assert_eq!((view.candidates.len(), view.proof), (1, None));
}

#[test]
fn a_free_row_that_shares_a_product_is_a_near_miss() {
    let rows = [row_of(1, 5, &[("card", 1), ("coin", 1)]), row_of(2, 4, &[("card", 2)])];
    let seen = account().see(sheet(None, &rows), &open(&[("card", 1), ("gem", 1)]), 1);
    seen.check_near_miss("card", Some(2));
    seen.check_near_miss("gem", None);
    let seen = account().see(sheet(None, &rows), &open(&[("coin", 1)]), 1);
    seen.check_near_miss("coin", Some(1));
    assert_eq!(ids(&seen.orphans), ["#2"]);
}

#[test]
fn a_row_that_cannot_be_read_is_a_near_miss_of_every_lane() {
    let seen = account().see(sheet(None, &[unreadable(1, 5)]), &open(&[("card", 1)]), 1);
    seen.check_near_miss("card", Some(1));
    seen.check_near_miss("gem", Some(1));
    let mut row = row(2, 5, "card");
    row.items.as_mut().expect("items")[0].quantity = None;
    let seen = account().see(sheet(None, &[row]), &open(&[("gem", 1)]), 1);
    seen.check_near_miss("gem", Some(2));
}

#[test]
fn a_row_of_a_product_that_nobody_named_is_a_near_miss_of_every_lane() {
    let rows = [row_of(1, 5, &[("coin", 1), ("alien", 1)])];
    let seen = account().see(sheet(None, &rows), &open(&[("card", 1)]), 1);
    seen.check_near_miss("card", Some(1));
    assert!(seen.orphans.is_empty());
}

#[test]
fn a_lanes_own_candidates_are_no_near_miss_of_it() {
    let rows = [row(1, 5, "card"), row(2, 6, "card")];
    let seen = account().see(sheet(None, &rows), &open(&[("card", 1)]), 1);
    seen.check_near_miss("card", None);
}

#[test]
fn a_near_miss_is_explained_by_an_attempt_in_another_lane() {
    let lane = |attempts| OpenLane { attempts, products: vec!["card".into()] };
    let mut lanes = open(&[("card", 1)]);
    let row = row_of(1, 5, &[("card", 2)]);
    lanes.insert(lane_of(&[("card", 2)]), lane(1));
    account().see(sheet(None, std::slice::from_ref(&row)), &lanes, 1).check_near_miss("card", None);
    lanes.insert(lane_of(&[("card", 2)]), lane(0));
    account().see(sheet(None, &[row]), &lanes, 1).check_near_miss("card", Some(1));
}

#[test]
fn one_attempt_in_another_lane_explains_one_row() {
    let mut lanes = open(&[("card", 1)]);
    let two = OpenLane { attempts: 1, products: vec!["card".into()] };
    lanes.insert(lane_of(&[("card", 2)]), two);
    let rows = [row_of(1, 5, &[("card", 2)]), row_of(2, 6, &[("card", 2)])];
    let seen = account().see(sheet(None, &rows), &lanes, 1);
    seen.check_near_miss("card", Some(2));
    let view = seen.view(1, lane_of(&[("card", 2)]), &["card".into()], &BTreeSet::new());
    assert_eq!((view.candidates.len(), view.near_miss), (2, None));
    assert!(seen.orphans.is_empty());
}

#[test]
fn the_near_miss_is_the_oldest_row_that_is_not_the_lanes_own() {
    let rows = [
        row(1, 1, "card"),
        row(2, 2, "card"),
        row(3, 3, "card"),
        row_of(4, 4, &[("card", 3)]),
        row_of(5, 5, &[("card", 2)]),
    ];
    let mut lanes = open(&[("card", 1)]);
    let two = OpenLane { attempts: 1, products: vec!["card".into()] };
    lanes.insert(lane_of(&[("card", 3)]), two);
    let seen = account().see(sheet(None, &rows), &lanes, 1);
    seen.check_near_miss("card", Some(5));
    let view = seen.view(1, lane_of(&[("card", 3)]), &["card".into()], &BTreeSet::new());
    assert_eq!(view.near_miss, Some(id(2)));
}

#[test]
fn claimed_rows_orphans_and_history_are_no_near_miss() {
    let mut account = account_since(Some(10_000), &[1]);
    account.orphan([id(2)]);
    let rows = [
        row_of(1, 9_999, &[("card", 2)]),
        row_of(2, 10_001, &[("card", 2)]),
        row_of(3, 10_001, &[("card", 2)]),
        unreadable(4, 6_399),
    ];
    let claims = vec![Claim { lane: lane_of(&[("card", 2)]), ..claim(3, "card", Learnt::List) }];
    let seen = account.see_claims(sheet(None, &rows), claims, &open(&[("card", 1)]), 1);
    seen.check_near_miss("card", None);
}

#[test]
fn a_free_row_without_open_attempt_or_near_lane_is_an_orphan_from_then_on() {
    let mut account = account();
    let rows = [row(1, 5, "coin"), row(2, 6, "card"), row_of(3, 7, &[("card", 2)])];
    let seen = account.see(sheet(None, &rows), &open(&[("card", 1), ("coin", 0)]), 1);
    assert_eq!(ids(&seen.orphans), ["#1"]);
    assert!(account.is_nobodys(&id(1)));
    assert!(seen.view_of("coin").candidates.is_empty());
    assert_eq!(ids(&seen.free_ids()), ["#2", "#3"]);
    // Never a candidate again, also when its lane buys.
    let seen = account.see(sheet(None, &rows), &open(&[("card", 1), ("coin", 1)]), 2);
    assert!(seen.view_of("coin").candidates.is_empty());
    assert!(seen.orphans.is_empty());
}

#[test]
fn while_nothing_is_open_every_free_row_is_an_orphan() {
    let rows = [row(1, 5, "coin"), unreadable(2, 6), row(3, 7, "alien")];
    let seen = account().see(sheet(None, &rows), &open(&[("card", 0)]), 1);
    assert_eq!(ids(&seen.orphans), ["#1", "#2", "#3"]);
    assert!(seen.free_ids().is_empty());
    seen.check_near_miss("card", None);
}

#[test]
fn history_is_older_than_the_line_by_more_than_the_margin_or_among_its_ids() {
    let mut account = account_since(Some(10_000), &[3]);
    let rows =
        [row(1, 6_399, "card"), row(2, 6_400, "card"), row(3, 10_000, "card"), row(4, 1, "card")];
    let seen = account.see(sheet(None, &rows), &open(&[("card", 9)]), 1);
    assert_eq!(ids(&seen.free_ids()), ["#2"]);
}

#[test]
fn a_history_line_without_order_excludes_nothing() {
    let mut account = account_since(None, &[]);
    let seen = account.see(sheet(None, &[row(1, 1, "card")]), &open(&[("card", 1)]), 1);
    assert_eq!(ids(&seen.free_ids()), ["#1"]);
}

#[test]
fn drawing_the_line_makes_history_of_every_row() {
    let mut account = account();
    let rows = [row(1, 10_000, "card"), row(2, 6_400, "card"), row(3, 6_399, "card")];
    let line = account.draw_history(&sheet(None, &rows));
    assert_eq!((line.newest, ids(&line.ids)), (Some(at(10_000)), vec!["#1", "#2"]));
    assert_eq!(account.floor(Moment::ORIGIN), Some(at(10_000 - 3_600)));
    assert!(account.unknown_ids(&sheet(None, &rows)).is_empty());
    let empty = super::account().draw_history(&sheet(None, &[]));
    assert_eq!(empty, HistoryLine::default());
}

#[test]
fn drawn_by_a_list_that_does_not_reach_around_its_newest_row_the_line_is_at_its_reach() {
    let mut account = account();
    // Read back to second 20,000; the newest order is older, and the rows around it were not read.
    let line = account.draw_history(&sheet(Some(20_000), &[row(1, 15_000, "card")]));
    assert_eq!((line.newest, line.ids.len()), (Some(at(23_600)), 0));
    let unread = [row(2, 14_999, "card"), row(1, 15_000, "card"), row(3, 20_000, "card")];
    assert_eq!(account.unknown_ids(&sheet(None, &unread)), [id(3)]);
}

#[test]
fn rule_15_counts_k_of_n_rows_as_explained() {
    let account = account_since(Some(10_000), &[1]);
    let rows = [
        row(1, 10_000, "card"),
        row(2, 10_002, "card"),
        row(3, 10_001, "card"),
        row(4, 10_003, "card"),
        row(5, 10_004, "coin"),
        row(6, 10_005, "coin"),
        unreadable(7, 10_006),
    ];
    let claims = [claim(6, "coin", Learnt::Answer)];
    let unexplained =
        |open: &BTreeMap<_, _>| account.unexplained(&sheet(None, &rows), &claims, open);
    assert_eq!(ids(&unexplained(&open(&[]))), ["#3", "#2", "#4", "#5", "#7"]);
    assert_eq!(ids(&unexplained(&open(&[("card", 2)]))), ["#4", "#5", "#7"]);
    let more = open(&[("card", 5), ("coin", 1), ("gem", 9)]);
    assert_eq!(ids(&unexplained(&more)), ["#7"]);
}
