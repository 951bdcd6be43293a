//! Each clause of the lane, left out: the shortest way to lose money, or peace.

use order_router::protocol::Clause;
use stateright::{Checker, HasDiscoveries, Model};

use super::account::Ledger;
use super::setup::{Faults, Setup};
use super::{props, words};

/// A violated property, with the shortest path to it.
pub struct Counterexample {
    pub property: &'static str,
    pub steps: Vec<String>,
}

/// The shortest path to a violated property.
pub fn counterexample(setup: &Setup) -> (Option<Counterexample>, usize) {
    let setup = Setup { first_only: true, found: Default::default(), ..setup.clone() };
    let setup = Setup { ended: Default::default(), ..setup };
    let checker = setup.checker().threads(1).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let states = checker.unique_state_count();
    let found = checker.discoveries().into_iter().find(|(name, _)| {
        let classification = checker.discovery_classification(name).to_string();
        classification == "counterexample"
    });
    let found = found
        .map(|(property, path)| Counterexample { property, steps: words::told(path.into_vec()) });
    (found, states)
}

fn base(clause: Clause) -> Setup {
    Setup { without: Some(clause), peace: false, ends: false, ..Setup::default() }
}

/// The smallest world in which a clause bites.
fn world_of(clause: Clause) -> Setup {
    use Clause::*;
    let one = Setup { intents: 1, ..base(clause) };
    let two = base(clause);
    let with = |setup: &Setup, faults| Setup { faults, ..setup.clone() };
    let crash = Faults { crashes: 1, ..Faults::default() };
    match clause {
        AcceptBeforeTold | SettledFromLock | RestartInDoubt => with(&one, crash),
        ReferenceUnique => with(&one, Faults { repeats: 1, ..Faults::default() }),
        GateCloses => Setup {
            window: Some(1),
            report: Some(1),
            ..with(&one, Faults { rebuilds: 1, ..Faults::default() })
        },
        LateAnswerCounts => Setup { fairness: true, ..one },
        LateAnswerGuarded => {
            Setup { late_answers: true, ..with(&one, Faults { refusals: 1, ..Faults::default() }) }
        }
        WireBound => Setup { wire: 1, ..one },
        ListComplete => Setup { partial: true, ..one },
        NearMissHeld => with(&one, Faults { garbled: 1, ..Faults::default() }),
        SameFingerprint => with(&one, Faults { other_keys: 1, ..Faults::default() }),
        SurplusHolds => with(&one, Faults { twice: 1, ..Faults::default() }),
        RefusedByEvidence => with(&one, Faults { errors: 1, ..Faults::default() }),
        ConflictRefused => with(&one, Faults { conflicts: 1, ..Faults::default() }),
        OutcomeGuarded => {
            let faults = Faults { crashes: 1, undead: 1, ..Faults::default() };
            Setup { landing: 1, ..with(&one, faults) }
        }
        OldestFirst => Setup { fairness: true, tries_max: 1, landing: 1, ..two },
        FirstListKept => {
            Setup { fairness: true, intents: 3, mute: true, tries_max: 1, landing: 1, ..two }
        }
        SettledAnswered => {
            Setup { landing: 1, ..with(&two, Faults { wrong_ids: 1, ..Faults::default() }) }
        }
        RecordBeforeSend => Setup { window: Some(1), ..one },
        SettledFromReport | LandingBound | SettledItself => one,
        ToldAfterDurable | ClaimWithPlaced => with(&two, crash),
        AnyStatus | HistoryExcluded | OrphansExcluded | StartStops | ListedAgain | EchoSeen
        | Witnesses | PlacedInReach | PlacedRemembered | TagDecides | UntaggedHeld | OwnTagHeld => {
            account_of(clause)
        }
        NotTogether => Setup { two_kinds: true, ..two },
        UnsentInFlight => Setup { window: Some(1), ..two },
        _ => two,
    }
}

/// The smallest world with an account in which a clause bites.
fn account_of(clause: Clause) -> Setup {
    use Clause::*;
    let trusting = Some(Ledger { trust_echo: true, known: true, ..Ledger::default() });
    let one = Setup { intents: 1, tries_max: 1, landing: 1, account: trusting, ..base(clause) };
    let with = |faults| Setup { faults, ..one.clone() };
    let none = Faults::default();
    let tagged = |loses_tags, faults| Setup {
        account: trusting.map(|ledger| Ledger { tagged: true, loses_tags, ..ledger }),
        ..with(faults)
    };
    match clause {
        AnyStatus => with(Faults { fails: 1, ..none }),
        OrphansExcluded => with(Faults { strangers: 1, ..none }),
        StartStops => Setup { mute: true, ..with(Faults { rollbacks: 1, repeats: 1, ..none }) },
        ListedAgain => with(Faults { late: 1, ..none }),
        EchoSeen => Setup {
            account: Some(Ledger { echo_is_short: true, known: true, ..Ledger::default() }),
            ..one
        },
        Witnesses => with(Faults { stale: 1, ..none }),
        PlacedInReach => Setup { intents: 2, mute: true, ..with(Faults { knowns: 1, ..none }) },
        PlacedRemembered => {
            Setup { intents: 2, mute: true, ..with(Faults { knowns: 1, crashes: 1, ..none }) }
        }
        HistoryExcluded => Setup { account: Some(Ledger::default()), ..one },
        TagDecides => tagged(false, Faults { strangers: 1, ..none }),
        UntaggedHeld => tagged(true, Faults { garbled: 1, ..none }),
        OwnTagHeld => tagged(false, Faults { garbled: 1, ..none }),
        _ => one,
    }
}

/// Clause, property that is violated without it, and the number of steps until then.
type Line = (Clause, &'static str, usize);

/// Caught within a few thousand states.
const SMALL: &[Line] = &[
    (Clause::AcceptBeforeTold, props::LOST, 2),
    (Clause::ReferenceUnique, props::ONCE, 4),
    (Clause::RecordBeforeSend, props::BUDGET, 2),
    (Clause::GateCloses, props::BUDGET, 11),
    (Clause::ClaimWithPlaced, props::ORPHAN, 6),
    (Clause::LateAnswerGuarded, props::BUDGET, 14),
    (Clause::SettledFromReport, props::BUDGET, 9),
    (Clause::WireBound, props::BUDGET, 9),
    (Clause::LandingBound, props::BUDGET, 7),
    (Clause::SettledFromLock, props::BUDGET, 7),
    (Clause::RestartInDoubt, props::BUDGET, 5),
    (Clause::SettledItself, props::BUDGET, 7),
    (Clause::JudgedAtRequest, props::BUDGET, 10),
    (Clause::ListComplete, props::BUDGET, 10),
    (Clause::NearMissHeld, props::BUDGET, 10),
    (Clause::SameFingerprint, props::BUDGET, 10),
    (Clause::SurplusHolds, props::ORPHAN, 8),
    (Clause::NotTogether, props::GOODS, 12),
    (Clause::SettledAnswered, props::BUDGET, 14),
    (Clause::UnsentInFlight, props::BUDGET, 13),
];

/// Caught within some hundred thousand states.
const LARGE: &[Line] = &[
    (Clause::ToldAfterDurable, props::TOLD, 12),
    (Clause::ListWaits, props::BUDGET, 17),
    (Clause::SettledPlacedNow, props::BUDGET, 15),
    (Clause::SettledPlaced, props::BUDGET, 17),
];

/// Caught in a large world with an account.
const REACH: &[Line] = &[(Clause::PlacedInReach, props::BUDGET, 20)];

/// Nothing is bought twice without it, but something never ends or is held for nothing.
const PEACE: &[Line] = &[(Clause::CandidateUnclaimed, props::ENDS, 4)];

/// As [`Line`], with the number of states of the same world where nothing is left out, and
/// every property holds.
type WholeLine = (Clause, &'static str, usize, usize);

/// Caught where answers and references are judged, where another process writes, and by who is
/// served first.
const EDGE: &[WholeLine] = &[
    (Clause::RefusedByEvidence, props::BUDGET, 4, 383),
    (Clause::ConflictRefused, props::GOODS, 6, 376),
    (Clause::OutcomeGuarded, props::LOST, 10, 870),
    (Clause::LateAnswerCounts, props::ANSWERS, 6, 193),
    (Clause::OldestFirst, props::OLDEST, 11, 5_773),
];

/// The same, within some hundred thousand states.
const EDGE_LARGE: &[WholeLine] = &[(Clause::FirstListKept, props::WAITS, 14, 57_351)];

/// Caught in a world with an account.
const ACCOUNT: &[WholeLine] = &[
    (Clause::AnyStatus, props::BUDGET, 10, 968),
    (Clause::HistoryExcluded, props::OURS, 7, 512),
    (Clause::OrphansExcluded, props::OURS, 8, 2_090),
    (Clause::StartStops, props::ONCE, 9, 7_116),
    (Clause::ListedAgain, props::ORPHAN, 9, 861),
    (Clause::EchoSeen, props::BUDGET, 9, 433),
    (Clause::Witnesses, props::BUDGET, 9, 900),
    (Clause::TagDecides, props::OURS, 8, 3_466),
    (Clause::UntaggedHeld, props::BUDGET, 9, 910),
    (Clause::OwnTagHeld, props::BUDGET, 9, 910),
];

/// Each is caught, and with all clauses kept nothing is wrong in the same world.
fn check_both(lines: &[WholeLine]) {
    let mut wrong = Vec::new();
    for (clause, _, _, states) in lines {
        let whole = Setup { without: None, ..world_of(*clause) };
        let (found, seen) = counterexample(&whole);
        let found = found.map(|found| (found.property, found.steps.join("; ")));
        if (&found, seen) != (&None, *states) {
            wrong.push(format!("{clause:?} kept: {seen} states {found:?}"));
        }
    }
    let lines: Vec<_> = lines.iter().map(|(clause, p, steps, _)| (*clause, *p, *steps)).collect();
    check(&lines, false);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Each is caught, as the table says.
fn check(lines: &[Line], peace: bool) {
    let mut wrong = Vec::new();
    for (clause, property, steps) in lines {
        let setup = Setup { peace, ends: peace, ..world_of(*clause) };
        let (found, states) = counterexample(&setup);
        let Some(found) = found else {
            wrong.push(format!("{clause:?}: not caught over {states} states"));
            continue;
        };
        let count = found.steps.len();
        println!("{clause:?}: {}, {count} steps", found.property);
        println!("    {}", found.steps.join("; "));
        if (found.property, count) != (*property, *steps) {
            wrong.push(format!("{clause:?}: {} after {count} steps", found.property));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_clause_that_is_left_out_is_caught() {
    check(SMALL, false);
}

#[test]
fn a_clause_of_the_account_that_is_left_out_is_caught() {
    check_both(ACCOUNT);
}

#[test]
fn a_clause_at_the_edge_of_the_lane_that_is_left_out_is_caught() {
    check_both(EDGE);
}

#[test]
#[ignore = "minutes: run by `just model`"]
fn a_clause_that_is_left_out_is_caught_in_a_larger_world() {
    check(LARGE, false);
    check(REACH, false);
    check(PEACE, true);
    check_both(EDGE_LARGE);
}

#[test]
#[ignore = "minutes: run by `just model`"]
fn what_breaks_nothing_when_it_is_left_out() {
    let older = world_of(Clause::SettledOlder);
    let three = Setup { intents: 3, tries_max: 1, landing: 1, ..older.clone() };
    let faults = Faults { wrong_ids: 1, ..Faults::default() };
    let wrong = Setup { landing: 1, faults, ..older.clone() };
    let peaceful = Setup { peace: true, ends: true, ..older };
    let remembered = world_of(Clause::PlacedRemembered);
    let runs = [(peaceful, 288_708), (three, 612_972), (wrong, 179_398), (remembered, 1_857_857)];
    let mut counts = Vec::new();
    for (setup, states) in runs {
        let clause = setup.without;
        let (found, seen) = counterexample(&setup);
        let found = found.map(|found| (found.property, found.steps));
        println!("{clause:?}: every property holds over {seen} states");
        assert_eq!(found, None, "{clause:?}");
        counts.push((seen, states));
    }
    assert!(counts.iter().all(|(seen, pinned)| seen == pinned), "states, pinned: {counts:?}");
}
