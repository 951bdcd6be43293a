//! Folded states do what the states do that they stand for, and what is wrong is still found.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use order_router::protocol::Clause;
use stateright::{Expectation, Model};

use super::deep::{Seen, search};
use super::marks::{Hashed, mark};
use super::props;
use super::setup::{Faults, Setup};
use super::world::World;

const LONG: Duration = Duration::from_secs(24 * 60 * 60);

fn with_crashes(crashes: u8) -> Setup {
    Setup { folds: true, faults: Faults { crashes, ..Faults::default() }, ..Setup::default() }
}

/// What can be seen of a state: which properties hold, whether all is over, and what can come of
/// it, folded.
fn seen_of(setup: &Setup, world: &World) -> (Vec<bool>, bool, BTreeSet<u64>, Vec<World>) {
    let always = setup.properties().into_iter();
    let always = always.filter(|property| property.expectation == Expectation::Always);
    let holds = always.map(|property| (property.condition)(setup, world)).collect();
    let mut actions = Vec::new();
    setup.actions(world, &mut actions);
    let next = |action| setup.next_state(world, action);
    let next: Vec<_> = actions.into_iter().filter_map(next).collect();
    // A step that changes nothing but what is left out is none.
    let here = mark(&setup.folded(world.clone()));
    let folded = next.iter().map(|next| mark(&setup.folded(next.clone())));
    let folded = folded.filter(|there| *there != here).collect();
    (holds, props::is_over(world), folded, next)
}

/// In each state: the folded one keeps the same properties, and the same comes of it.
fn check_folding(name: &str, setup: Setup, states: usize, folded_states: usize) {
    let setup = Setup { ends: false, ..setup };
    let (mut seen, mut forms) = (HashSet::<u64, Hashed>::default(), HashSet::<u64, Hashed>::default());
    let mut stack = vec![World::start(&setup)];
    while let Some(world) = stack.pop() {
        if !seen.insert(mark(&world)) {
            continue;
        }
        let folded = setup.folded(world.clone());
        forms.insert(mark(&folded));
        let (holds, _, nexts, all) = seen_of(&setup, &world);
        let (folded_holds, folded_over, folded_nexts, _) = seen_of(&setup, &folded);
        // The same once what is left out is durable; and nothing else before.
        let mut later = world.clone();
        later.leave_out_settled();
        let (_, over, later_nexts, _) = seen_of(&setup, &later);
        assert_eq!((holds, over), (folded_holds, folded_over), "{name}: {world:#?}\n{folded:#?}");
        assert_eq!(later_nexts, folded_nexts, "{name}: something else comes: {world:#?}\n{folded:#?}");
        assert!(nexts.is_subset(&folded_nexts), "{name}: more comes: {world:#?}\n{folded:#?}");
        stack.extend(all.into_iter().filter(|next| !seen.contains(&mark(next))));
    }
    println!("{name}: {} states, {} folded", seen.len(), forms.len());
    assert_eq!((seen.len(), forms.len()), (states, folded_states), "{name}: states, folded");
}

#[test]
fn folded_states_do_the_same() {
    let small = Setup { tries_max: 1, landing: 1, ..with_crashes(1) };
    check_folding("two intents, one attempt, a crash", small, 0, 0);
    let again = Setup { intents: 1, ..with_crashes(1) };
    check_folding("one intent, two attempts, a crash", again, 0, 0);
}

#[test]
#[ignore = "minutes: run by `just model`"]
fn folded_states_do_the_same_in_larger_worlds() {
    let again = Setup { landing: 1, ..with_crashes(1) };
    check_folding("two intents, two attempts, a crash", again, 0, 0);
    let three = Setup { intents: 3, tries_max: 1, landing: 1, ..with_crashes(0) };
    check_folding("three intents, one attempt", three, 0, 0);
}

/// Goes through all folded states.
#[track_caller]
pub fn check(name: &str, setup: &Setup, states: usize) {
    let Seen { states: seen, exhausted, missing, violated, .. } = search(name, setup, LONG);
    assert_eq!(violated, None, "{name}");
    assert!(exhausted, "{name}");
    assert_eq!(missing, [""; 0], "{name}: what is to happen at some time");
    assert_eq!(seen, states, "{name}: the number of states");
}

/// The same states as breadth first, where none are folded.
#[test]
fn deep_search_sees_every_state() {
    let setup = Setup { tries_max: 1, ..Setup::default() };
    check("two intents, one attempt each, depth first", &setup, 15_553);
    check("the same, folded", &Setup { folds: true, ..setup }, 0);
}

/// What is left out is caught among folded states too, where the same property says so.
#[test]
fn what_is_left_out_is_caught_among_folded_states() {
    let one = |crashes| Setup { intents: 1, ..with_crashes(crashes) };
    let lines = [
        (Clause::SettledFromReport, one(0), props::BUDGET),
        (Clause::LandingBound, one(0), props::BUDGET),
        (Clause::SettledItself, one(0), props::BUDGET),
        (Clause::JudgedAtRequest, one(0), props::BUDGET),
        (Clause::SettledFromLock, one(1), props::BUDGET),
        (Clause::RestartInDoubt, one(1), props::BUDGET),
        (Clause::AcceptBeforeTold, one(1), props::LOST),
        (Clause::ToldAfterDurable, with_crashes(1), props::TOLD),
        (Clause::ClaimWithPlaced, with_crashes(1), props::ORPHAN),
        (Clause::CandidateUnclaimed, Setup { folds: false, ..with_crashes(0) }, props::ENDS),
        (Clause::SettledPlaced, with_crashes(0), props::BUDGET),
        (Clause::SettledPlacedNow, with_crashes(0), props::BUDGET),
        (Clause::ListWaits, with_crashes(0), props::BUDGET),
    ];
    let mut wrong = Vec::new();
    for (clause, setup, property) in lines {
        let ends = property == props::ENDS;
        let setup = Setup { without: Some(clause), peace: false, ends, ..setup };
        let seen = search(&format!("without {clause:?}"), &setup, LONG);
        let found = seen.violated.as_ref().map(|(found, _)| *found);
        println!("    {found:?} after {:?}", seen.violated.map(|(_, path)| path.join("; ")));
        if found != Some(property) {
            wrong.push((clause, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
#[ignore = "an experiment"]
fn sizes() {
    let get = |name: &str, default: u8| -> u8 {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let setup = Setup {
        intents: get("INTENTS", 2),
        tries_max: get("TRIES", 2),
        landing: get("LANDING", 1),
        folds: get("FOLDS", 1) == 1,
        unseen: get("UNSEEN", 1) == 1,
        mute: get("MUTE", 0) == 1,
        ..with_crashes(get("CRASHES", 1))
    };
    let minutes = u64::from(get("MINUTES", 5));
    let setup = Setup { folds: get("FOLDS", 1) == 1, ..setup };
    let seen = search("sizes", &setup, Duration::from_secs(60 * minutes));
    println!(
        "{} states, exhausted {}, missing {:?}, violated {:?}",
        seen.states, seen.exhausted, seen.missing, seen.violated
    );
}
