//! The runs: what each contains, how many states that is, and what is caught where something is
//! left out.

use std::time::Instant;

use order_router::protocol::Clause;
use stateright::{Checker, Expectation, HasDiscoveries, Model};

use super::{Setup, Slip, words};
use crate::model::props::{BUDGET, LOST};

/// Goes through every state of a run.
#[track_caller]
fn check(name: &str, setup: Setup, states: usize) {
    #[allow(clippy::disallowed_methods, reason = "only the time that a run took is told")]
    let began = Instant::now();
    let properties = setup.properties();
    let checker = setup.clone().checker().threads(2).spawn_bfs().join();
    let (seen, depth) = (checker.unique_state_count(), checker.max_depth());
    let seconds = began.elapsed().as_secs_f64();
    println!("{name}: {seen} states, {depth} steps deep, {seconds:.1} s");
    let mut failed = false;
    for property in properties {
        let found = checker.discovery(property.name);
        if (property.expectation == Expectation::Sometimes) == found.is_some() {
            continue;
        }
        failed = true;
        println!("{name} fails: {} ({:?})", property.name, property.expectation);
        let path = found.map(|path| words::told(&setup, path.into_vec()));
        path.into_iter().flatten().for_each(|step| println!("    {step}"));
    }
    assert!(!failed, "{name}: a property does not hold");
    assert_eq!(seen, states, "{name}: the number of states");
}

#[test]
fn explore() {
    check("one", Setup { intents: 1, tries_max: 2, ..Setup::default() }, 0);
}

#[test]
fn explore_two() {
    check("two", Setup::default(), 0);
}
