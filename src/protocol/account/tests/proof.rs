//! A2 and A4: what a list proves.

use super::*;

fn reach(since: Option<i64>) -> Result<Reach, NoEvidence> {
    Ok(Reach { since: since.map(at), fingerprint: Fingerprint(7) })
}

fn missing(n: i64) -> Result<Reach, NoEvidence> {
    Err(NoEvidence::WitnessMissing(id(n)))
}

const NO_WITNESS: Result<Reach, NoEvidence> = Err(NoEvidence::NoWitness);

#[track_caller]
fn check(account: &mut Account, shown: Sheet, minute: u64, evidence: Result<Reach, NoEvidence>) {
    // A lane is open, so that the rows of these tests stay free.
    assert_eq!(account.see(shown, &open(&[("card", 9)]), minute).evidence, evidence);
}

#[test]
fn a_list_must_show_every_order_answered_a_landing_bound_before() {
    let mut account = account();
    account.learnt(answered(1, 100, "card"), minute(0));
    account.learnt(answered(2, 110, "card"), minute(1));
    let shown = || sheet(Some(100), &[row(1, 100, "card")]);
    check(&mut account, shown(), 16, reach(Some(100)));
    check(&mut account, shown(), 17, missing(2));
    let both = sheet(Some(100), &[row(1, 100, "card"), row(2, 110, "card")]);
    check(&mut account, both, 18, reach(Some(100)));
}

#[test]
fn an_empty_list_is_no_evidence_where_an_order_is_known() {
    let mut account = account();
    account.learnt(answered(1, 100, "card"), minute(0));
    check(&mut account, sheet(None, &[]), 16, missing(1));
}

#[test]
fn an_order_outside_the_span_is_no_witness() {
    let mut account = account();
    account.learnt(answered(1, 99, "card"), minute(0));
    check(&mut account, sheet(Some(100), &[]), 30, NO_WITNESS);
    check(&mut account, sheet(Some(100), &[row(1, 99, "card")]), 31, NO_WITNESS);
    check(&mut account, sheet(Some(99), &[row(1, 99, "card")]), 32, reach(Some(99)));
}

#[test]
fn an_undated_order_is_a_witness_of_lists_to_the_very_end() {
    let mut account = account();
    account.learnt(Known { created_at: None, ..answered(1, 0, "card") }, minute(0));
    check(&mut account, sheet(Some(0), &[]), 16, NO_WITNESS);
    check(&mut account, sheet(None, &[]), 16, missing(1));
    check(&mut account, sheet(None, &[row(1, 5, "card")]), 16, reach(None));
    // Dated by its row, it is one of shorter lists as well.
    check(&mut account, sheet(Some(5), &[]), 17, missing(1));
}

#[test]
fn an_order_that_a_person_named_need_not_be_shown() {
    let mut account = account();
    account.learnt(Known { learnt: Learnt::Person, ..answered(1, 100, "card") }, minute(0));
    check(&mut account, sheet(Some(100), &[]), 30, NO_WITNESS);
}

#[test]
fn an_order_claimed_from_a_list_must_be_shown_at_once() {
    let mut account = account();
    account.learnt(Known { learnt: Learnt::List, ..answered(1, 100, "card") }, minute(0));
    check(&mut account, sheet(Some(100), &[]), 1, missing(1));
}

#[test]
fn a_list_must_show_every_row_that_an_earlier_list_showed() {
    let mut account = account_since(Some(10_000), &[1]);
    let old = [row(1, 10_000, "card"), row(2, 10_001, "card"), unreadable(3, 10_002)];
    let open = open(&[("card", 1)]);
    account.see(sheet(None, &old), &open, 1);
    for gone in 0..3 {
        let mut rows = old.to_vec();
        let row = rows.remove(gone);
        let seen = account.see(sheet(Some(10_000), &rows), &open, 2);
        assert_eq!(seen.evidence, Err(NoEvidence::WitnessMissing(row.id.clone())));
        assert_eq!(seen.alarms, [AccountAlarm::WitnessMissing { id: row.id }]);
    }
    // Beyond the span it need not.
    let seen = account.see(sheet(Some(10_001), &old[1..]), &open, 30);
    assert_eq!(seen.evidence, reach(Some(10_001)));
}

#[test]
fn rows_of_a_list_that_was_no_evidence_must_stay_too() {
    let mut account = account();
    let mut broken = sheet(None, &[row(1, 100, "card")]);
    broken.reach = Err(NoEvidence::Gap);
    check(&mut account, broken, 0, Err(NoEvidence::Gap));
    check(&mut account, sheet(None, &[]), 30, missing(1));
}

#[test]
fn a_missing_witness_is_told_once_while_it_is_missing() {
    let mut account = account();
    account.learnt(answered(1, 100, "card"), minute(0));
    let mut alarms =
        |rows: &[Row], minute| account.see(sheet(None, rows), &open(&[]), minute).alarms.len();
    assert_eq!(alarms(&[], 20), 1);
    assert_eq!(alarms(&[], 21), 0);
    assert_eq!(alarms(&[row(1, 100, "card")], 22), 0);
    assert_eq!(alarms(&[], 23), 1);
}

#[test]
fn a_row_is_a_witness_once_it_was_seen_a_landing_bound_before() {
    let mut account = account();
    let shown = || sheet(Some(100), &[row(1, 100, "card")]);
    // First seen in minute 1.
    check(&mut account, shown(), 0, NO_WITNESS);
    check(&mut account, shown(), 16, NO_WITNESS);
    check(&mut account, shown(), 17, reach(Some(100)));
}

#[test]
fn two_equal_empty_lists_a_landing_bound_apart_are_evidence() {
    let mut account = account();
    check(&mut account, sheet(None, &[]), 0, NO_WITNESS);
    check(&mut account, sheet(None, &[]), 15, NO_WITNESS);
    check(&mut account, sheet(None, &[]), 16, reach(None));
}

#[test]
fn two_lists_with_nothing_in_the_span_are_evidence_of_no_longer_span() {
    let old = || [row(1, 90, "card")];
    let mut account = account();
    check(&mut account, sheet(Some(100), &old()), 0, NO_WITNESS);
    check(&mut account, sheet(Some(95), &old()), 16, NO_WITNESS);
    check(&mut account, sheet(Some(100), &old()), 31, NO_WITNESS);
    check(&mut account, sheet(Some(100), &old()), 32, reach(Some(100)));
    // A longer one begins anew.
    check(&mut account, sheet(Some(91), &old()), 33, NO_WITNESS);
}

#[test]
fn an_empty_list_that_is_followed_by_a_row_proves_nothing() {
    let mut account = account();
    check(&mut account, sheet(None, &[]), 0, NO_WITNESS);
    check(&mut account, sheet(None, &[row(1, 100, "card")]), 16, NO_WITNESS);
    check(&mut account, sheet(None, &[]), 40, missing(1));
}

#[test]
fn without_a_landing_bound_lists_are_judged_by_15_minutes() {
    let mut account = account_with(AccountRules { landing_bound: None, ..rules() });
    account.learnt(answered(1, 100, "card"), minute(0));
    check(&mut account, sheet(Some(100), &[]), 15, NO_WITNESS);
    check(&mut account, sheet(Some(100), &[]), 16, missing(1));
}

#[test]
fn a_sheet_without_reach_is_no_evidence_whatever_it_shows() {
    let mut account = account();
    account.learnt(answered(1, 100, "card"), minute(0));
    let mut shown = sheet(None, &[row(1, 100, "card")]);
    shown.reach = Err(NoEvidence::TooLong);
    check(&mut account, shown, 30, Err(NoEvidence::TooLong));
}

#[test]
fn no_proof_for_a_shape_whose_echo_was_never_seen() {
    let mut account = account();
    account.learnt(answered(1, 100, "card"), minute(0));
    let plain = Shape::default();
    let noted = Shape { with_note: true, ..plain };
    let shown = || sheet(Some(100), &[row(1, 100, "card")]);
    let seen = account.see(shown(), &open(&[("coin", 1)]), 20);
    assert_eq!(seen.echo_seen, [plain]);
    let proof = |shapes: &[Shape]| {
        seen.view(1, lane("coin"), &["coin".into()], &shapes.iter().copied().collect()).proof
    };
    assert_eq!(proof(&[plain]).map(Ok), Some(reach(Some(100))));
    assert_eq!(proof(&[noted]), None);
    assert_eq!(proof(&[plain, noted]), None);
    assert!(account.see(shown(), &open(&[]), 21).echo_seen.is_empty());
}

#[test]
fn an_echo_seen_is_remembered_over_a_restart_and_trust_needs_none() {
    let noted = Shape { with_note: true, ..Shape::default() };
    let trusting = account_with(AccountRules { trust_echo: true, ..rules() });
    let restored =
        Account::new(rules(), None, Vec::new(), vec![noted], Vec::new(), None, minute(0));
    for (mut account, is_proof) in [(trusting, true), (restored, true), (account(), false)] {
        account.see(sheet(None, &[]), &open(&[]), 0);
        let seen = account.see(sheet(None, &[]), &open(&[]), 20);
        let view = seen.view(1, lane("coin"), &[], &BTreeSet::from([noted]));
        assert_eq!(view.proof.is_some(), is_proof);
    }
}

#[test]
fn the_echo_of_an_order_claimed_from_a_list_shows_nothing() {
    let mut account = account();
    account.learnt(Known { learnt: Learnt::List, ..answered(1, 100, "card") }, minute(0));
    let seen = account.see(sheet(Some(100), &[row(1, 100, "card")]), &open(&[]), 20);
    assert!(seen.echo_seen.is_empty());
}

#[test]
fn an_echo_that_differs_is_an_alarm_and_nobodys_evidence_from_then_on() {
    for wrong in [row(1, 100, "coin"), row_of(1, 100, &[("card", 2)]), unreadable(1, 100)] {
        let mut account = account_with(AccountRules { trust_echo: true, ..rules() });
        account.learnt(answered(1, 100, "card"), minute(0));
        account.learnt(answered(2, 101, "gem"), minute(0));
        let both = || sheet(Some(100), &[wrong.clone(), row(2, 101, "gem")]);
        let seen = account.see(both(), &open(&[]), 20);
        assert_eq!(seen.evidence, Err(NoEvidence::EchoDiffers(id(1))));
        assert_eq!(seen.alarms, [AccountAlarm::EchoDiffers { id: id(1), lane: lane("card") }]);
        // Also by a list that does not reach back to it.
        let seen = account.see(sheet(Some(101), &[row(2, 101, "gem")]), &open(&[]), 21);
        assert_eq!(seen.evidence, Err(NoEvidence::EchoDiffers(id(1))));
        assert!(seen.alarms.is_empty());
        account.trust();
        let seen = account.see(both(), &open(&[]), 22);
        assert_eq!((seen.evidence, seen.alarms.len()), (reach(Some(100)), 0));
    }
}

#[test]
fn a_claim_by_answer_that_the_store_names_is_compared_as_well() {
    let claims = || vec![claim(1, "card", Learnt::Answer)];
    let seen = account().see_claims(sheet(None, &[row(1, 1, "coin")]), claims(), &open(&[]), 1);
    assert_eq!(seen.evidence, Err(NoEvidence::EchoDiffers(id(1))));
    // The store's claim names no shape: its echo counts once the order is known.
    let mut account = account();
    let shown = || sheet(None, &[row(1, 100, "card")]);
    assert!(account.see_claims(shown(), claims(), &open(&[]), 1).echo_seen.is_empty());
    account.learnt(answered(1, 100, "card"), minute(3));
    assert_eq!(account.see(shown(), &open(&[]), 4).echo_seen, [Shape::default()]);
}

#[test]
fn a_row_with_a_lanes_hash_that_another_lane_has_is_the_same_alarm() {
    for learnt in [Learnt::List, Learnt::Person] {
        let shown = || sheet(None, &[row(1, 100, "coin")]);
        let claims = || vec![claim(1, "card", learnt)];
        let seen = account().see_claims(shown(), claims(), &open(&[("coin", 1)]), 1);
        assert_eq!(seen.evidence, Err(NoEvidence::EchoDiffers(id(1))));
        // A person may say that a row which looks like nobody's is the order.
        let seen = account().see_claims(shown(), claims(), &open(&[("gem", 1)]), 1);
        assert_eq!(seen.evidence, NO_WITNESS);
        assert!(seen.alarms.is_empty());
    }
}

#[test]
fn a_clock_off_by_more_than_half_the_margin_is_no_evidence() {
    for sign in [1, -1] {
        let mut account = account();
        account.learnt(answered(1, 100, "card"), minute(0));
        let shown = || sheet(Some(100), &[row(1, 100, "card")]);
        account.supplier_clock(at(10_000 + sign * 1_800), at(10_000));
        check(&mut account, shown(), 20, reach(Some(100)));
        account.supplier_clock(at(10_000 + sign * 1_801), at(10_000));
        let seen = account.see(shown(), &open(&[]), 21);
        assert_eq!(seen.evidence, Err(NoEvidence::ClockOff));
        let skew = Duration::from_secs(1_801);
        assert_eq!(seen.alarms, [AccountAlarm::ClockOff { skew }]);
        assert!(account.see(shown(), &open(&[]), 22).alarms.is_empty());
        account.supplier_clock(at(10_000), at(10_000));
        check(&mut account, shown(), 23, reach(Some(100)));
    }
}

/// Assumption A9: an order dated 6 s before what was known when it left; the margin is 10 s.
#[test]
fn an_order_of_ours_dated_too_early_ends_all_evidence_and_is_told_once() {
    let mut account = account();
    account.learnt(answered(1, 100, "card"), minute(0));
    let shown = || sheet(Some(100), &[row(1, 100, "card")]);
    assert_eq!(account.own_date(at(95), account.floor(minute(1))), None);
    assert_eq!(account.own_date(at(95), None), None);
    check(&mut account, shown(), 20, reach(Some(100)));
    let by = Duration::from_secs(6);
    let floor = account.floor(minute(1));
    assert_eq!(account.own_date(at(94), floor), Some(AccountAlarm::DatedBack { by }));
    assert_eq!(account.own_date(at(94), floor), None);
    let seen = account.see(shown(), &open(&[]), 21);
    assert_eq!(seen.evidence, Err(NoEvidence::DatedBack));
}

/// An order dated an hour ahead must not shorten the listings that look for later ones, also where
/// the supplier shows no clock.
#[test]
fn without_the_suppliers_clock_this_machines_bounds_the_floor() {
    let mut account = account();
    account.learnt(answered(1, 3_700, "card"), minute(0));
    assert_eq!(account.floor(minute(0)), Some(at(3_700)));
    account.assume_clock(at(100), minute(0));
    account.assume_clock(at(9_000), minute(1));
    assert_eq!(account.floor(minute(1)), Some(at(160)), "the first one counts, and goes on");
    account.read_clock(Some(at(200)), minute(1));
    account.assume_clock(at(100), minute(1));
    assert_eq!(account.floor(minute(2)), Some(at(260)), "the supplier's own goes before");
}

#[test]
fn the_longest_lag_until_an_order_shows_is_measured_and_a_short_bound_is_told_once() {
    let bound = Duration::from_secs(5 * 60);
    let mut account = account_with(AccountRules { landing_bound: Some(bound), ..rules() });
    account.learnt(answered(1, 100, "card"), minute(0));
    account.learnt(answered(2, 110, "card"), minute(10));
    let shown = || sheet(Some(100), &[row(1, 100, "card")]);
    // Answered two minutes before, and not shown: well within the bound.
    let assessment = account.see(shown(), &open(&[("card", 9)]), 12);
    assert_eq!(account.lag_seen(), Duration::from_secs(2 * 60));
    assert!(assessment.alarms.is_empty(), "{:?}", assessment.alarms);
    let lag = Duration::from_secs(5 * 60);
    let assessment = account.see(shown(), &open(&[("card", 9)]), 15);
    assert_eq!(assessment.alarms, [AccountAlarm::BoundShort { bound, lag }]);
    let both = sheet(Some(100), &[row(1, 100, "card"), row(2, 110, "card")]);
    let assessment = account.see(both, &open(&[("card", 9)]), 16);
    assert!(assessment.alarms.is_empty(), "told once: {:?}", assessment.alarms);
    assert_eq!(account.lag_seen(), lag, "the longest stays");
}

#[test]
fn an_echo_is_looked_for_back_to_the_newest_answered_order_of_each_shape() {
    let several = Shape { several_lines: true, with_note: false };
    let known = vec![
        answered(1, 100, "card"),
        answered(2, 110, "card"),
        Known { learnt: Learnt::List, ..answered(3, 120, "card") },
        Known { created_at: None, ..answered(4, 130, "card") },
        Known { shape: several, ..answered(5, 90, "coin") },
    ];
    let mut account = Account::new(rules(), None, Vec::new(), Vec::new(), known, None, minute(0));
    let both = BTreeSet::from([Shape::default(), several]);
    assert_eq!(account.echo_back(&both), Some(at(90)));
    assert_eq!(account.echo_back(&BTreeSet::from([Shape::default()])), Some(at(110)));
    let with_note = Shape { several_lines: false, with_note: true };
    assert_eq!(account.echo_back(&BTreeSet::from([with_note])), None);
    // One that is placed from a list has shown nothing; the answered one has, once.
    let shown = sheet(Some(110), &[row(2, 110, "card"), row(3, 120, "card")]);
    assert_eq!(account.see_echo(&shown, &open(&[])), (vec![Shape::default()], vec![]));
    assert_eq!(account.see_echo(&shown, &open(&[])), (vec![], vec![]));
    // One that is shown with other items rings.
    let (seen, alarms) = account.see_echo(&sheet(Some(90), &[row(5, 90, "card")]), &open(&[]));
    assert!(seen.is_empty());
    assert!(matches!(alarms[..], [AccountAlarm::EchoDiffers { .. }]), "{alarms:?}");
}
