//! What is too large to be gone through: three intents with two attempts each, a landing bound of
//! three ticks, and a crash. To a depth, and at random.

use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, Model, UniformChooser};

use super::setup::{Faults, Setup};

fn large() -> Setup {
    let faults = Faults { crashes: 1, ..Faults::default() };
    Setup { intents: 3, landing: 3, faults, ..Setup::default() }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// No property was seen to fail.
#[track_caller]
fn conclude(name: &str, checker: &impl Checker<Setup>, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let (states, depth) = (checker.state_count(), checker.max_depth());
    let unique = checker.unique_state_count();
    println!("{name}: {states} states ({unique}), at most {depth} steps deep, {seconds:.0} s");
    for property in checker.model().properties() {
        let found = checker.discovery(property.name);
        match property.expectation {
            Expectation::Sometimes => println!("    {}: {}", property.name, found.is_some()),
            Expectation::Always | Expectation::Eventually => {
                let path = found.map(|path| super::words::told(path.into_vec()));
                assert_eq!(path, None, "{name}: {}", property.name);
            }
        }
    }
}

#[test]
#[ignore = "minutes: run by `just model`; MODEL_DEPTH sets the depth"]
fn three_intents_with_two_attempts_and_a_crash_to_a_depth() {
    #[allow(clippy::disallowed_methods, reason = "only the time that a run took is told")]
    let began = Instant::now();
    let depth = setting("MODEL_DEPTH", 14);
    let checker = large().checker().threads(2).target_max_depth(depth as usize);
    conclude("B to a depth", &checker.spawn_bfs().join(), began);
}

#[test]
#[ignore = "minutes: run by `just model`; MODEL_SECONDS and MODEL_SEED set how long and which"]
fn three_intents_with_two_attempts_and_a_crash_at_random() {
    #[allow(clippy::disallowed_methods, reason = "only the time that a run took is told")]
    let began = Instant::now();
    let (seconds, seed) = (setting("MODEL_SECONDS", 120), setting("MODEL_SEED", 1));
    let checker = large().checker().threads(2).timeout(Duration::from_secs(seconds));
    conclude("B at random", &checker.spawn_simulation(seed, UniformChooser).join(), began);
}
