//! The whole router under a simulated supplier, disk, clock and schedule: one process, one thread,
//! one seed.
//!
//! `SIM_SEED=n cargo test --test sim one_seed` replays a seed and prints what happened.

#[path = "sim/clock.rs"]
mod clock;
#[path = "sim/naive.rs"]
mod naive;
#[path = "sim/oracle.rs"]
mod oracle;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/store.rs"]
mod store;
#[path = "sim/supplier.rs"]
mod supplier;
#[path = "sim/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use order_router::protocol::Clause;
use run::run;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    for seed in 0..20 {
        let (first, second) = (run(seed, None, true), run(seed, None, true));
        let differs = first.log.iter().zip(&second.log).find(|(a, b)| a != b);
        assert_eq!(first.hash, second.hash, "seed {seed}: {differs:?}");
    }
    assert_ne!(run(1, None, false).hash, run(2, None, false).hash);
}

#[test]
fn one_seed() {
    let Ok(seed) = std::env::var("SIM_SEED") else { return };
    let ran = run(seed.parse().expect("a number"), None, true);
    for line in &ran.log {
        println!("{line}");
    }
    println!("seed {seed}: {} lives, {} events, trace {:016x}", ran.lives, ran.events, ran.hash);
    assert_eq!(ran.violation, None);
}

#[test]
fn many_seeds() {
    let (from, count) = (number("SIM_FROM", 0), number("SIM_SEEDS", 1_000));
    let threads = number("SIM_THREADS", 2).max(1);
    let workers: Vec<_> = (0..threads)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                let (mut lives, mut events) = (0, 0);
                let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
                for seed in (from + thread..from + count).step_by(usize::try_from(threads).unwrap()) {
                    let ran = run(seed, None, false);
                    lives += u64::from(ran.lives);
                    events += ran.events;
                    for (fault, times) in ran.seen {
                        *seen.entry(fault).or_default() += times;
                    }
                    if let Some(what) = ran.violation {
                        println!("seed {seed}: {what}\n  replay: SIM_SEED={seed} cargo test --all-features --test sim one_seed -- --nocapture");
                        failed.push(seed);
                    }
                }
                (failed, lives, events, seen)
            })
        })
        .collect();
    let (mut failed, mut lives, mut events) = (Vec::new(), 0, 0);
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for worker in workers {
        let (f, l, e, s) = worker.join().expect("a worker");
        for (fault, times) in s {
            *seen.entry(fault).or_default() += times;
        }
        failed.extend(f);
        lives += l;
        events += e;
    }
    println!("POSTs by fault: {seen:?}");
    println!("{count} seeds from {from}: {lives} lives, {events} events, {} failed", failed.len());
    assert!(failed.is_empty(), "failed seeds: {failed:?}");
}

#[test]
fn the_usual_ways_to_buy_are_seen_to_fail() {
    for pattern in [naive::Pattern::BlindRetry, naive::Pattern::CheckThenRetry] {
        let mut sum = naive::Harm::default();
        for seed in 0..200 {
            let harm = naive::run(seed, pattern);
            sum.orders += harm.orders;
            sum.bought_too_many += harm.bought_too_many;
            sum.told_anothers += harm.told_anothers;
        }
        println!(
            "{pattern:?}: of {} orders, {} bought too many, {} told another's",
            sum.orders, sum.bought_too_many, sum.told_anothers
        );
        assert!(sum.bought_too_many > 0, "{pattern:?}");
        if pattern == naive::Pattern::CheckThenRetry {
            assert!(sum.told_anothers > 0, "{pattern:?}");
        }
    }
}

/// How many seeds until a run without this clause is seen to break a promise, and how.
fn seeds_until_caught(clause: Clause, most: u64) -> Option<(u64, String)> {
    (0..most).find_map(|seed| {
        let ran = catch_unwind(AssertUnwindSafe(|| run(seed, Some(clause), false)));
        match ran {
            Ok(ran) => ran.violation.map(|what| (seed + 1, what)),
            Err(_) => Some((seed + 1, "the router panicked".to_owned())),
        }
    })
}

#[test]
fn clauses_left_out_are_caught() {
    for clause in QUICK {
        let caught = seeds_until_caught(clause, 80);
        assert!(caught.is_some(), "{clause:?} was left out and nothing was seen");
    }
}

/// The whole table; long.
#[test]
#[ignore = "minutes: every clause, up to SIM_SEEDS seeds each"]
fn table_of_clauses() {
    let most = number("SIM_SEEDS", 300);
    println!("| clause left out | seeds until caught | what was seen |\n|---|---|---|");
    let only = std::env::var("SIM_CLAUSE").ok();
    let asked = |clause: &&Clause| only.as_ref().is_none_or(|name| *name == format!("{clause:?}"));
    for clause in ALL.iter().filter(asked) {
        match seeds_until_caught(*clause, most) {
            Some((seeds, what)) => println!("| {clause:?} | {seeds} | {what} |"),
            None => println!("| {clause:?} | not in {most} | |"),
        }
    }
}

/// Caught within a few seeds: what CI asks for.
const QUICK: [Clause; 6] = [
    Clause::ReferenceUnique,
    Clause::ConflictRefused,
    Clause::RecordBeforeSend,
    Clause::ToldAfterDurable,
    Clause::AcceptBeforeTold,
    Clause::AnswerAfterSync,
];

const ALL: &[Clause] = &[
    Clause::AcceptBeforeTold,
    Clause::ReferenceUnique,
    Clause::ConflictRefused,
    Clause::RecordBeforeSend,
    Clause::GateCloses,
    Clause::UnsentInFlight,
    Clause::OutcomeGuarded,
    Clause::ClaimedOnce,
    Clause::ClaimWithPlaced,
    Clause::ToldAfterDurable,
    Clause::LateAnswerGuarded,
    Clause::LateAnswerCounts,
    Clause::RefusedByEvidence,
    Clause::SettledFromReport,
    Clause::WireBound,
    Clause::LandingBound,
    Clause::SettledFromLock,
    Clause::AnyStatus,
    Clause::OldestFirst,
    Clause::FirstListKept,
    Clause::ListWaits,
    Clause::CandidateUnclaimed,
    Clause::SettledItself,
    Clause::SettledOlder,
    Clause::SettledPlaced,
    Clause::SettledPlacedNow,
    Clause::PlacedInReach,
    Clause::JudgedAtRequest,
    Clause::PlacedRemembered,
    Clause::ListComplete,
    Clause::NearMissHeld,
    Clause::Witnesses,
    Clause::SameFingerprint,
    Clause::EchoSeen,
    Clause::SurplusHolds,
    Clause::RestartInDoubt,
    Clause::OrphansExcluded,
    Clause::ListedAgain,
    Clause::NotTogether,
    Clause::HistoryExcluded,
    Clause::StartStops,
    Clause::AnswerAfterSync,
    Clause::PassivationCounted,
    Clause::ListAfterNote,
];
