//! Folded states do what the states do that they stand for, and what is wrong is still found.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use order_router::protocol::Clause;
use stateright::{Expectation, Model};

use super::deep::{Seen, search};
use super::marks::{Hashed, mark};
use super::props;
use super::setup::{Faults, Setup};
use super::steps::in_every_order;
use super::world::{Post, Stage, World, order};

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
    let here = setup.form(world.clone());
    let folded = next.iter().map(|next| setup.form(next.clone()));
    let folded = folded.filter(|there| *there != here).collect();
    (holds, props::is_over(world), folded, next)
}

/// In each state: the folded one keeps the same properties, and the same comes of it.
fn check_folding(name: &str, setup: Setup, states: usize, folded_states: usize) {
    let setup = Setup { ends: false, ..setup };
    let (mut seen, mut forms) =
        (HashSet::<u64, Hashed>::default(), HashSet::<u64, Hashed>::default());
    let mut stack = vec![World::start(&setup)];
    while let Some(world) = stack.pop() {
        if !seen.insert(mark(&world)) {
            continue;
        }
        let folded = setup.folded(world.clone());
        forms.insert(setup.form(world.clone()));
        let (holds, _, nexts, all) = seen_of(&setup, &world);
        let (folded_holds, folded_over, folded_nexts, _) = seen_of(&setup, &folded);
        // The same once what is left out is durable; and nothing else before.
        let mut later = world.clone();
        later.leave_out_settled();
        let (_, over, later_nexts, _) = seen_of(&setup, &later);
        assert_eq!((holds, over), (folded_holds, folded_over), "{name}: {world:#?}\n{folded:#?}");
        assert_eq!(
            later_nexts, folded_nexts,
            "{name}: something else comes: {world:#?}\n{folded:#?}"
        );
        assert!(nexts.is_subset(&folded_nexts), "{name}: more comes: {world:#?}\n{folded:#?}");
        stack.extend(all.into_iter().filter(|next| !seen.contains(&mark(next))));
    }
    println!("{name}: {} states, {} folded", seen.len(), forms.len());
    assert_eq!((seen.len(), forms.len()), (states, folded_states), "{name}: states, folded");
}

#[test]
fn folded_states_do_the_same() {
    let small = Setup { tries_max: 1, landing: 1, ..with_crashes(1) };
    check_folding("two intents, one attempt, a crash", small, 12_317, 10_218);
    let again = Setup { intents: 1, ..with_crashes(1) };
    check_folding("one intent, two attempts, a crash", again, 575, 458);
}

#[test]
#[ignore = "minutes: run by `just model`"]
fn folded_states_do_the_same_in_larger_worlds() {
    let again = Setup { landing: 1, ..with_crashes(1) };
    check_folding("two intents, two attempts, a crash", again, 262_771, 64_222);
    let three = Setup { intents: 3, tries_max: 1, landing: 1, mute: true, ..with_crashes(1) };
    check_folding("three intents, one attempt, no answers, a crash", three, 174_748, 132_555);
}

/// The states that are meant where it is open what has landed.
fn meant(setup: &Setup, world: &World) -> Vec<World> {
    let is_open = |post: &Post| post.stage == Stage::Out;
    let open = world.posts.iter().filter(|post| is_open(post)).count();
    let one = |mask: u32| {
        let mut world = world.clone();
        let mut at = 0..open;
        world.posts.retain_mut(|post| {
            let Some(at) = is_open(post).then(|| at.next()).flatten() else { return true };
            if mask & (1 << at) != 0 {
                post.stage = Stage::Landed;
            }
            post.stage == Stage::Landed || !post.reported || post.until > 0
        });
        world
    };
    let worlds = (0..1 << open).map(one);
    let in_order = |world: World| {
        let holder = |post: &Post| world.holder(&order(post.seq, false));
        let is_free = |post: &Post| post.stage == Stage::Landed && holder(post).is_none();
        let (free, rest): (Vec<_>, Vec<_>) = world.posts.iter().cloned().partition(is_free);
        let put = |free: Vec<Post>| {
            let posts = rest.iter().cloned().chain(free).collect();
            let mut world = World { posts, ..world.clone() };
            setup.tidy(&mut world);
            world
        };
        in_every_order(&free).into_iter().map(put).collect::<Vec<_>>()
    };
    worlds.flat_map(in_order).collect()
}

/// Every state that can be reached.
fn all(setup: &Setup) -> HashMap<u64, World, Hashed> {
    let mut all = HashMap::default();
    let mut stack = vec![World::start(setup)];
    while let Some(world) = stack.pop() {
        let mut actions = Vec::new();
        setup.actions(&world, &mut actions);
        if all.insert(mark(&world), world.clone()).is_none() {
            let next = actions.into_iter().filter_map(|action| setup.next_state(&world, action));
            stack.extend(next.filter(|next| !all.contains_key(&mark(next))));
        }
    }
    all
}

/// Each state is meant by one in which it is open what has landed, and breaks what that one breaks.
fn check_unseen(name: &str, setup: &Setup, states: usize, unseen_states: usize) {
    let known = all(setup);
    let unseen = all(&Setup { unseen: true, ..setup.clone() });
    let meant = unseen.values().flat_map(|world| meant(setup, world));
    let meant: HashSet<u64, Hashed> = meant.map(|world| mark(&world)).collect();
    let missing = known.iter().find(|(mark, _)| !meant.contains(*mark));
    println!("{name}: {} states, {} unseen mean {}", known.len(), unseen.len(), meant.len());
    assert!(missing.is_none(), "{name}: {missing:#?}");
    assert_eq!((known.len(), unseen.len()), (states, unseen_states), "{name}: states, unseen");
}

#[test]
fn every_state_is_meant_where_it_is_open_what_has_landed() {
    let small = Setup { tries_max: 1, landing: 1, folds: false, ..with_crashes(1) };
    check_unseen("two intents, one attempt, a crash", &small, 11_946, 9_020);
    let again = Setup { intents: 1, folds: false, ..with_crashes(1) };
    check_unseen("one intent, two attempts, a crash", &again, 575, 536);
}

#[test]
#[ignore = "minutes: run by `just model`"]
fn every_state_is_meant_in_larger_worlds() {
    let again = Setup { landing: 1, folds: false, ..with_crashes(1) };
    check_unseen("two intents, two attempts, a crash", &again, 240_250, 177_555);
}

/// Goes through all states.
#[track_caller]
fn check(name: &str, setup: &Setup, states: usize) {
    let Seen { states: seen, exhausted, missing, violated } = search(name, setup, LONG);
    assert_eq!(violated, None, "{name}");
    assert!(exhausted, "{name}");
    assert_eq!(missing, [""; 0], "{name}: what is to happen at some time");
    assert_eq!(seen, states, "{name}: the number of states");
}

/// As many states as breadth first, where none are folded.
#[test]
fn deep_search_sees_every_state() {
    let setup = Setup { tries_max: 1, ..Setup::default() };
    check("two intents, one attempt each, depth first", &setup, 15_553);
    check("the same, folded", &Setup { folds: true, ..setup.clone() }, 13_461);
    check("the same, landings unseen", &Setup { folds: true, unseen: true, ..setup }, 9_100);
}

/// Run A again, and the same folded.
#[test]
#[ignore = "a minute: run by `just model`"]
fn two_intents_with_two_crashes_depth_first() {
    let setup = Setup { folds: false, ..with_crashes(2) };
    check("A, depth first", &setup, 1_777_350);
    check("A, folded, landings unseen", &Setup { folds: true, unseen: true, ..setup }, 233_086);
}

fn three() -> Setup {
    Setup { intents: 3, unseen: true, ..with_crashes(1) }
}

/// Run B where no answer comes.
#[test]
#[ignore = "minutes: run by `just model`"]
fn three_intents_with_two_attempts_and_a_crash_without_answers() {
    check("B without answers", &Setup { landing: 3, mute: true, ..three() }, 5_901_937);
}

#[test]
#[ignore = "minutes: run by `just model`"]
fn three_intents_with_two_attempts_and_a_crash_at_a_short_bound() {
    check("B with a landing bound of 1", &Setup { landing: 1, ..three() }, 8_990_250);
}

/// Run B as far as there is time: MODEL_MINUTES.
#[test]
#[ignore = "minutes: run by `just model`; MODEL_MINUTES sets how many"]
fn three_intents_with_two_attempts_and_a_crash_depth_first() {
    let minutes = std::env::var("MODEL_MINUTES").ok().and_then(|text| text.parse().ok());
    let setup = Setup { landing: 3, ..three() };
    let seen = search("B", &setup, Duration::from_secs(60 * minutes.unwrap_or(1)));
    println!("B: exhausted: {}, not seen: {:?}", seen.exhausted, seen.missing);
    assert_eq!(seen.violated, None);
}

/// The clauses that bite in worlds that may be folded, and the property that says so.
fn lines() -> Vec<(Clause, Setup, &'static str)> {
    let one = |crashes| Setup { intents: 1, ..with_crashes(crashes) };
    vec![
        (Clause::SettledFromReport, one(0), props::BUDGET),
        (Clause::LandingBound, one(0), props::BUDGET),
        (Clause::SettledItself, one(0), props::BUDGET),
        (Clause::JudgedAtRequest, one(0), props::BUDGET),
        (Clause::SettledFromLock, one(1), props::BUDGET),
        (Clause::RestartInDoubt, one(1), props::BUDGET),
        (Clause::AcceptBeforeTold, one(1), props::LOST),
        (Clause::ToldAfterDurable, with_crashes(1), props::TOLD),
        (Clause::SettledPlaced, with_crashes(0), props::BUDGET),
        (Clause::SettledPlacedNow, with_crashes(0), props::BUDGET),
        (Clause::ListWaits, with_crashes(0), props::BUDGET),
        // What folding forgets is what this clause is about.
        (Clause::CandidateUnclaimed, Setup { folds: false, ..with_crashes(0) }, props::ENDS),
    ]
}

#[test]
fn what_is_left_out_is_caught_among_folded_states() {
    let mut wrong = Vec::new();
    let both = lines().into_iter().flat_map(|line| [(line.clone(), false), (line, true)]);
    for ((clause, setup, property), unseen) in both {
        let setup = Setup {
            without: Some(clause),
            peace: false,
            ends: property == props::ENDS,
            unseen,
            ..setup
        };
        let seen = search(&format!("without {clause:?}"), &setup, LONG);
        let found = seen.violated.map(|(found, path)| (found, path.len()));
        if found.as_ref().map(|(found, _)| *found) != Some(property) {
            wrong.push((clause, unseen, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
