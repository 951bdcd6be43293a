//! What is known better stays; what a clause, a status or a moment changes.

use super::*;

fn without(clause: crate::protocol::Clause) -> Account {
    account_with(AccountRules { left_out: LeftOut::only(clause), ..rules() })
}

#[track_caller]
fn evidence(account: &mut Account, shown: Sheet, minute: u64) -> Result<(), NoEvidence> {
    account.see(shown, &open(&[("card", 9)]), minute).evidence.map(|_| ())
}

fn missing(n: i64) -> Result<(), NoEvidence> {
    Err(NoEvidence::WitnessMissing(id(n)))
}

const NO_WITNESS: Result<(), NoEvidence> = Err(NoEvidence::NoWitness);

#[test]
fn a_clock_that_stays_off_is_told_once() {
    let mut account = account();
    let mut told = |skew: i64| {
        account.supplier_clock(at(100_000 + skew), at(100_000));
        account.see(sheet(None, &[]), &open(&[]), 1).alarms.len()
    };
    assert_eq!([told(1_800), told(1_801), told(1_900), told(0), told(1_801)], [0, 1, 0, 0, 1]);
}

#[test]
fn a_clause_that_is_left_out_is_not_asked() {
    let old = sheet(None, &[row(1, 50, "card")]);
    let line = HistoryLine { newest: Some(at(10_000)), ids: vec![id(1)] };
    let mut account = without(Clause::HistoryExcluded);
    account.set_history(&line);
    assert_eq!(account.unknown_ids(&old), [id(1)]);
    let mut account = account_with(rules());
    account.set_history(&line);
    assert!(account.unknown_ids(&old).is_empty());
}

#[test]
fn who_has_an_order_is_not_learnt_anew() {
    let mut account = account();
    account.learnt(answered(1, 100, "card"), minute(0));
    account.learnt(Known { learnt: Learnt::List, ..answered(1, 100, "card") }, minute(1));
    // A row of a list must show at once, an own answer within the bound.
    assert_eq!(evidence(&mut account, sheet(None, &[]), 2), NO_WITNESS);
    assert_eq!(evidence(&mut account, sheet(None, &[]), 16), missing(1));
}

#[test]
fn an_order_is_known_since_its_claim_was_read_first() {
    let mut account = account();
    account.see_claims(sheet(None, &[]), vec![claim(1, "card", Learnt::Answer)], &open(&[]), 0);
    account.learnt(answered(1, 100, "card"), minute(14));
    assert_eq!(evidence(&mut account, sheet(None, &[]), 15), NO_WITNESS);
    assert_eq!(evidence(&mut account, sheet(None, &[]), 17), missing(1));
}

#[test]
fn what_a_list_says_of_a_date_prevails_and_nothing_else_does() {
    let mut account = account();
    account.learnt(answered(1, 100, "card"), minute(0));
    account.learnt(answered(1, 200, "card"), minute(0));
    assert_eq!(evidence(&mut account, sheet(Some(150), &[]), 30), NO_WITNESS);
    assert_eq!(evidence(&mut account, sheet(Some(100), &[]), 31), missing(1));
    evidence(&mut account, sheet(None, &[row(1, 50, "card")]), 32).expect("evidence");
    assert_eq!(evidence(&mut account, sheet(Some(60), &[]), 33), NO_WITNESS);
    assert_eq!(evidence(&mut account, sheet(Some(50), &[]), 34), missing(1));
}

#[test]
fn a_date_that_is_learnt_later_counts() {
    let mut account = account();
    account.learnt(Known { created_at: None, ..answered(1, 0, "card") }, minute(0));
    assert_eq!(evidence(&mut account, sheet(Some(50), &[]), 30), NO_WITNESS);
    account.learnt(answered(1, 100, "card"), minute(31));
    assert_eq!(evidence(&mut account, sheet(Some(50), &[]), 32), missing(1));
}

#[test]
fn an_order_of_any_status_is_a_candidate() {
    let candidates = |mut account: Account| {
        let rows = ["failed", "cancelled", "active"].into_iter().zip(1..);
        let rows = rows.map(|(status, n)| Row { status: status.into(), ..row(n, 100, "card") });
        let seen = account.see(sheet(None, &rows.collect::<Vec<_>>()), &open(&[("card", 3)]), 1);
        seen.view_of("card").candidates.len()
    };
    assert_eq!(candidates(account()), 3);
    assert_eq!(candidates(without(Clause::AnyStatus)), 1);
}

#[test]
fn a_list_that_was_not_read_to_its_end_is_no_evidence() {
    let broken = || Sheet { reach: Err(NoEvidence::Gap), ..sheet(None, &[row(1, 100, "card")]) };
    let mut account = account();
    evidence(&mut account, sheet(None, &[row(1, 100, "card")]), 0).expect_err("no witness yet");
    assert_eq!(evidence(&mut account, broken(), 30), Err(NoEvidence::Gap));
    let mut account = without(Clause::ListComplete);
    evidence(&mut account, broken(), 0).expect_err("no witness yet");
    assert_eq!(evidence(&mut account, broken(), 30), Ok(()));
}

#[test]
fn an_order_is_compared_once_and_only_with_a_hash_of_its_kind() {
    let mut account = account();
    account.learnt(answered(1, 100, "card"), minute(0));
    let mut alarms = |product: &str| {
        account.see(sheet(None, &[row(1, 100, product)]), &open(&[]), 1).alarms.len()
    };
    assert_eq!([alarms("card"), alarms("voucher")], [0, 0]);
    let with_notes = EchoProfile { quantity: true, note: true, tag: None };
    let mut account = account_with(rules());
    let items = [Item::new("card", 1).expect("item")];
    let lane = ItemsHash::of(&items, with_notes);
    account.learnt(Known { lane, ..answered(1, 100, "card") }, minute(0));
    let seen = account.see(sheet(None, &[row(1, 100, "voucher")]), &open(&[]), 1);
    assert!(seen.alarms.is_empty(), "{:?}", seen.alarms);
}

#[test]
fn a_bound_of_twice_the_timeout_and_the_lag_is_long_enough() {
    for (lag, is_short) in [(2, false), (3, true)] {
        let minutes = |n| Duration::from_secs(60 * n);
        let mut account = account_with(AccountRules {
            landing_bound: Some(minutes(4)),
            request_timeout: minutes(1),
            ..rules()
        });
        account.learnt(answered(1, 100, "card"), minute(0));
        let seen = account.see(sheet(None, &[]), &open(&[]), lag);
        let short = AccountAlarm::BoundShort { bound: minutes(4), lag: minutes(lag) };
        assert_eq!(seen.alarms, if is_short { vec![short] } else { Vec::new() });
        assert_eq!(account.lag_seen(), minutes(lag));
    }
}

#[test]
fn history_is_what_stands_around_the_line_and_what_is_older_than_it_by_the_margin() {
    let account = account_since(Some(4_500), &[1]);
    assert!(account.is_history(&id(1), at(5_500)));
    assert!(account.is_history(&id(2), at(899)));
    assert!(!account.is_history(&id(3), at(900)), "the clocks may differ");
    assert!(!account_since(None, &[]).is_history(&id(3), at(0)));
}
