//! The runs.

use std::time::Instant;

use stateright::{Checker, Expectation, Model};

use order_router::protocol::Clause;

use super::clauses;
use super::setup::{Faults, Setup};

fn check(name: &str, setup: Setup) -> usize {
    let began = Instant::now();
    let properties = setup.properties();
    let checker = setup.checker().threads(2).spawn_bfs().join();
    let unique = checker.unique_state_count();
    let (depth, seconds) = (checker.max_depth(), began.elapsed().as_secs_f64());
    println!("{name}: {unique} states, depth {depth}, {seconds:.1} s");
    for property in properties {
        let found = checker.discovery(property.name);
        match (property.expectation, found) {
            (Expectation::Sometimes, Some(path)) => {
                println!("  happens: {} ({} steps)", property.name, path.into_actions().len());
            }
            (Expectation::Sometimes, None) => println!("  NEVER: {}", property.name),
            (_, Some(path)) => {
                println!("  VIOLATED: {}", property.name);
                path.into_actions().iter().for_each(|action| println!("    {action}"));
            }
            (_, None) => {}
        }
    }
    unique
}

fn var(name: &str, default: u8) -> u8 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

#[test]
fn explore() {
    let faults = Faults {
        crashes: var("CRASHES", 0),
        rebuilds: var("REBUILDS", 0),
        refusals: var("REFUSALS", 0),
        closings: var("CLOSINGS", 0),
        repeats: var("REPEATS", 0),
        other_keys: var("KEYS", 0),
        garbled: var("GARBLED", 0),
        twice: var("TWICE", 0),
    };
    let some = |n: u8| (n < 99).then_some(n);
    let setup = Setup {
        intents: var("INTENTS", 1),
        two_kinds: var("KINDS", 0) > 0,
        tries_max: var("TRIES", 2),
        landing: var("LANDING", 2),
        wire: var("WIRE", 0),
        window: some(var("WINDOW", 99)),
        report: some(var("REPORT", 99)),
        good_for: some(var("GOOD", 99)),
        permit_at_intake: var("PERMIT", 1) > 0,
        split_writes: var("SPLIT", 0) > 0,
        lag: var("LAG", 1) > 0,
        partial: var("PARTIAL", 0) > 0,
        late_answers: var("LATE", 0) > 0,
        ends: var("ENDS", 1) > 0,
        faults,
        ..Setup::default()
    };
    check("explore", setup);
}

const LANE_CLAUSES: &[Clause] = &[
    Clause::AcceptBeforeTold,
    Clause::ReferenceUnique,
    Clause::RecordBeforeSend,
    Clause::GateCloses,
    Clause::UnsentInFlight,
    Clause::OutcomeGuarded,
    Clause::ClaimedOnce,
    Clause::ClaimWithPlaced,
    Clause::ToldAfterDurable,
    Clause::LateAnswerGuarded,
    Clause::LateAnswerCounts,
    Clause::SettledFromReport,
    Clause::WireBound,
    Clause::LandingBound,
    Clause::SettledFromLock,
    Clause::OldestFirst,
    Clause::FirstListKept,
    Clause::ListWaits,
    Clause::CandidateUnclaimed,
    Clause::SettledItself,
    Clause::SettledOlder,
    Clause::SettledPlaced,
    Clause::SettledPlacedNow,
    Clause::JudgedAtRequest,
    Clause::PlacedRemembered,
    Clause::ListComplete,
    Clause::NearMissHeld,
    Clause::SameFingerprint,
    Clause::SurplusHolds,
    Clause::RestartInDoubt,
    Clause::NotTogether,
];

#[test]
fn mutants() {
    let only = std::env::var("ONLY").ok();
    for clause in LANE_CLAUSES {
        let name = format!("{clause:?}");
        if only.as_ref().is_some_and(|only| !only.split(',').any(|o| o == name)) {
            continue;
        }
        let setup = clauses::world_of(*clause);
        let (mut found, mut states) = clauses::counterexample(&setup);
        if found.is_none() {
            println!("{name}: safe over {states} states");
            let peaceful = Setup { peace: true, ends: true, ..setup };
            (found, states) = clauses::counterexample(&peaceful);
        }
        match found {
            Some(found) => {
                let steps = found.steps.len();
                println!("{name}: {} ({steps} steps, {} states)", found.property, found.states);
                println!("    {}", found.steps.join("; "));
            }
            None => println!("{name}: NOT CAUGHT over {states} states"),
        }
    }
}
