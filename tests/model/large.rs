//! What is too large to be gone through: three intents with two attempts each, a landing bound of
//! three ticks, and a crash. To a depth, and at random.

use std::time::{Duration, Instant};

use stateright::{Checker, Chooser, Expectation, Model};

use super::account::Ledger;
use super::setup::{Faults, Setup};
use super::steps::Action;
use super::world::World;

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

/// Leans towards what brings a release near: doubts, lists and time. At the uniform choice most
/// runs end with answers.
#[derive(Debug, Clone)]
struct Leaning;

impl Leaning {
    fn weight(action: &Action) -> u64 {
        match action {
            Action::Crash | Action::Rebuild | Action::Known | Action::Look => 1,
            Action::Answers(_) | Action::Refuses(..) | Action::GateCloses(_) | Action::Errs(_) => 2,
            Action::Lands { .. } => 3,
            Action::Comes(_) | Action::TimesOut(_) | Action::Mixes { .. } | Action::Tick => 6,
            _ => 8,
        }
    }
}

impl Chooser<Setup> for Leaning {
    /// SplitMix64.
    type State = u64;

    fn new_state(&self, seed: u64) -> u64 {
        seed
    }

    fn choose_initial_state(&self, _: &mut u64, _: &[World]) -> usize {
        0
    }

    fn choose_action(&self, state: &mut u64, _: &World, actions: &[Action]) -> usize {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut dice = *state;
        dice = (dice ^ (dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        dice = (dice ^ (dice >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        dice ^= dice >> 31;
        let all: u64 = actions.iter().map(Self::weight).sum();
        let mut left = dice % all.max(1);
        let is_it = |action: &Action| {
            let weight = Self::weight(action);
            let is_it = left < weight;
            left = left.saturating_sub(weight);
            is_it
        };
        actions.iter().position(is_it).unwrap_or(0)
    }
}

/// Goes at random, for a while.
#[track_caller]
fn wander(name: &str, setup: Setup) {
    #[allow(clippy::disallowed_methods, reason = "only the time that a run took is told")]
    let began = Instant::now();
    let (seconds, seed) = (setting("MODEL_SECONDS", 60), setting("MODEL_SEED", 1));
    let checker = setup.checker().threads(2).timeout(Duration::from_secs(seconds));
    conclude(name, &checker.spawn_simulation(seed, Leaning).join(), began);
}

#[test]
#[ignore = "minutes: run by `just model`; MODEL_SECONDS and MODEL_SEED set how long and which"]
fn three_intents_with_two_attempts_and_a_crash_at_random() {
    wander("B at random", large());
}

/// Everything at once that the assumptions allow.
#[test]
#[ignore = "minutes: run by `just model`; MODEL_SECONDS and MODEL_SEED set how long and which"]
fn three_intents_with_all_faults_at_random() {
    let faults = Faults {
        crashes: 1,
        rebuilds: 1,
        refusals: 1,
        closings: 1,
        wrong_ids: 1,
        errors: 1,
        ..Faults::default()
    };
    let times = Setup { window: Some(1), report: Some(1), landing: 2, wire: 1, ..large() };
    let setup = Setup { partial: true, split_writes: true, faults, ..times };
    wander("all faults at random", setup);
}

#[test]
#[ignore = "minutes: run by `just model`; MODEL_SECONDS and MODEL_SEED set how long and which"]
fn three_intents_on_an_account_at_random() {
    let account = Some(Ledger { trust_echo: true, known: true, ..Ledger::default() });
    let faults = Faults { crashes: 1, wrong_ids: 1, knowns: 2, fails: 1, ..Faults::default() };
    let setup = Setup { account, partial: true, landing: 1, faults, ..large() };
    wander("an account at random", setup);
}
