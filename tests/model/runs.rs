//! The runs: what each contains, and how many states that is.
//!
//! A count that changes says that the model is another one: look why before it is written anew.

use std::time::Instant;

use stateright::{Checker, Expectation, Model};

use super::account::Ledger;
use super::setup::{Faults, Setup};

/// Goes through every state of a run. Each property holds in each state, each thing that should
/// happen does, and there are so many states.
#[track_caller]
fn check(name: &str, setup: Setup, states: usize) {
    #[allow(clippy::disallowed_methods, reason = "only the time that a run took is told")]
    let began = Instant::now();
    let properties = setup.properties();
    let checker = setup.checker().threads(2).spawn_bfs().join();
    let (seen, depth) = (checker.unique_state_count(), checker.max_depth());
    let seconds = began.elapsed().as_secs_f64();
    println!("{name}: {seen} states, {depth} steps deep, {seconds:.1} s");
    let wrong = |expectation, found| (expectation == Expectation::Sometimes) != found;
    let mut failed = false;
    for property in properties {
        let found = checker.discovery(property.name);
        if !wrong(property.expectation.clone(), found.is_some()) {
            continue;
        }
        failed = true;
        println!("{name} fails: {} ({:?})", property.name, property.expectation);
        let path = found.map(|path| super::words::told(path.into_vec()));
        path.into_iter().flatten().for_each(|step| println!("    {step}"));
    }
    assert!(!failed, "{name}: a property does not hold");
    assert_eq!(seen, states, "{name}: the number of states");
}

fn one() -> Setup {
    Setup { intents: 1, ..Setup::default() }
}

fn faults(change: impl FnOnce(&mut Faults)) -> Faults {
    let mut faults = Faults::default();
    change(&mut faults);
    faults
}

#[test]
fn one_intent_with_crash_and_refusal() {
    let faults = faults(|f| (f.crashes, f.refusals) = (1, 1));
    let setup = Setup { window: Some(1), partial: true, wire: 1, faults, ..one() };
    check("one intent, a crash, a refusal", setup, 3_940);
}

#[test]
fn one_intent_with_a_lane_that_is_rebuilt() {
    let faults = faults(|f| (f.rebuilds, f.closings) = (1, 1));
    let setup = Setup { window: Some(1), report: Some(1), split_writes: true, faults, ..one() };
    check("one intent, a rebuild, a gate that closes", setup, 2_934);
}

#[test]
fn one_intent_that_waits_for_its_permit_and_may_be_too_late() {
    let faults = faults(|f| f.crashes = 1);
    let setup = Setup { permit_at_intake: false, good_for: Some(3), faults, ..one() };
    check("one intent, too late at times", setup, 1_953);
}

#[test]
fn one_caller_that_comes_twice() {
    let faults = faults(|f| (f.crashes, f.repeats) = (1, 1));
    check("one caller, twice", Setup { faults, ..one() }, 3_265);
}

#[test]
fn one_intent_where_an_assumption_is_broken() {
    let crash = |change: fn(&mut Faults)| {
        faults(|f| {
            f.crashes = 1;
            change(f);
        })
    };
    let garbled = crash(|f| f.garbled = 1);
    check("an order is echoed with other items", Setup { faults: garbled, ..one() }, 991);
    let twice = crash(|f| f.twice = 1);
    check("a POST lands twice", Setup { faults: twice, ..one() }, 857);
    let other = crash(|f| f.other_keys = 1);
    check("a list of another account", Setup { faults: other, ..one() }, 1_559);
}

#[test]
fn two_intents_of_two_kinds() {
    let setup = Setup { landing: 1, two_kinds: true, ..Setup::default() };
    check("two intents of two kinds", setup, 2_927);
}

#[test]
fn two_intents_with_one_attempt_each() {
    let setup = Setup { tries_max: 1, ..Setup::default() };
    check("two intents, one attempt each", setup, 15_553);
}

/// One intent whose lists are read by the account's book; another lane has bought before.
fn one_on_an_account() -> Setup {
    let account = Some(Ledger { trust_echo: true, known: true, ..Ledger::default() });
    Setup { intents: 1, landing: 1, account, ..Setup::default() }
}

#[test]
fn one_intent_on_an_account_with_a_crash() {
    let setup = Setup { faults: faults(|f| f.crashes = 1), ..one_on_an_account() };
    check("an account, one intent, a crash", setup, 6_724);
}

#[test]
fn one_intent_on_an_account_that_echoes_it_otherwise() {
    let setup = Setup { faults: faults(|f| f.garbled = 1), ..one_on_an_account() };
    check("an account that echoes an order with other items", setup, 2_569);
}

#[test]
#[ignore = "minutes: run by `just model`"]
fn two_intents_on_an_account_with_a_crash() {
    let faults = faults(|f| (f.crashes, f.knowns) = (1, 1));
    // One list may show what the next one does not: the account rings for that (`WitnessMissing`).
    let setup = Setup { intents: 2, tries_max: 1, mute: true, peace: false, ..one_on_an_account() };
    let setup = Setup { faults, ..setup };
    check("an account, two intents, one attempt, a crash, another lane buys", setup, 1_851_791);
}

#[test]
#[ignore = "minutes: run by `just model`"]
fn two_intents_with_two_crashes() {
    let setup = Setup { faults: faults(|f| f.crashes = 2), ..Setup::default() };
    check(
        "A: two intents, two attempts, window 2, two crashes, a list that lags",
        setup,
        1_777_350,
    );
}

#[test]
#[ignore = "minutes: run by `just model`"]
fn two_intents_with_incomplete_lists_and_split_writes() {
    let faults = faults(|f| f.crashes = 1);
    let landing = 1;
    let setup = Setup { landing, partial: true, split_writes: true, faults, ..Setup::default() };
    check("two intents, a crash, incomplete lists, writes heard of later", setup, 989_461);
}

#[test]
#[ignore = "minutes: run by `just model`"]
fn two_intents_with_a_send_window_and_a_rebuild() {
    let faults = faults(|f| f.rebuilds = 1);
    let setup = Setup { window: Some(1), report: Some(1), faults, ..Setup::default() };
    check("two intents, a send window, a lane that is rebuilt", setup, 1_313_712);
}

#[test]
#[ignore = "minutes: run by `just model`"]
fn three_intents_with_one_attempt_each_and_a_crash() {
    let faults = faults(|f| f.crashes = 1);
    let setup = Setup { intents: 3, tries_max: 1, landing: 1, faults, ..Setup::default() };
    check("three intents, one attempt each, window 1, a crash", setup, 1_284_394);
}

#[test]
#[ignore = "a minute: run by `just model`"]
fn two_intents_where_an_answer_names_another_order() {
    let faults = faults(|f| f.wrong_ids = 1);
    let setup = Setup { landing: 1, faults, ..Setup::default() };
    check("two intents, an answer that names another order", setup, 151_982);
}
