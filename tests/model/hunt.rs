//! What a mend has to stand: answers that name another order, beside everything else.

use order_router::protocol::{Clause, Serial};
use stateright::{Expectation, Model};

use super::account::Ledger;
use super::clauses::counterexample;
use super::props;
use super::setup::{Faults, Setup};
use super::steps::Action;
use super::world::{Proof, World, order};

fn answers(faults: Faults) -> Setup {
    let faults = Faults { wrong_ids: 1, ..faults };
    Setup { landing: 1, peace: false, ends: false, faults, ..Setup::default() }
}

#[track_caller]
fn hunt(name: &str, setup: &Setup) {
    let (found, states) = counterexample(setup);
    let found = found.map(|found| (found.property, found.steps.len(), found.steps.join("; ")));
    println!("{name}: {states} states");
    assert_eq!(found, None, "{name}");
}

#[test]
#[ignore = "minutes: run by `just model`"]
fn wrong_answer_and_a_crash() {
    let setup = answers(Faults { crashes: 1, ..Faults::default() });
    hunt("an answer that names another order, a crash", &setup);
}

#[test]
#[ignore = "minutes: run by `just model`"]
fn wrong_answer_and_three_intents() {
    let setup = Setup { intents: 3, tries_max: 1, ..answers(Faults::default()) };
    hunt("an answer that names another order, three intents", &setup);
}

#[test]
#[ignore = "minutes: run by `just model`"]
fn wrong_answer_on_an_account() {
    let account = Some(Ledger { trust_echo: true, known: true, ..Ledger::default() });
    let faults = Faults { knowns: 1, ..Faults::default() };
    let setup = Setup { tries_max: 1, account, ..answers(faults) };
    hunt("an answer that names another order, an account", &setup);
}

/// Goes one way through the model; the property that the last step violates, if any. Each step
/// but the last two must be possible; nothing may be violated before the last.
fn walk(setup: &Setup, steps: &[Action]) -> Option<&'static str> {
    let mut world = World::start(setup);
    let violated = |world: &World| {
        let always = setup.properties().into_iter();
        let always = always.filter(|property| property.expectation == Expectation::Always);
        let mut wrong = always.filter(|property| !(property.condition)(setup, world));
        wrong.next().map(|property| property.name)
    };
    for (at, step) in steps.iter().enumerate() {
        let mut possible = Vec::new();
        setup.actions(&world, &mut possible);
        if at + 2 >= steps.len() && !possible.contains(step) {
            return None;
        }
        assert!(possible.contains(step), "step {at}: {step:?} is not among {possible:?}");
        world = setup.next_state(&world, step.clone())?;
        let wrong = violated(&world);
        if wrong.is_some() {
            assert_eq!(at + 1, steps.len(), "{wrong:?} too early");
            return wrong;
        }
    }
    None
}

/// Too far away for a search: a lane is lost and rebuilt twice within a send window, so that a POST
/// is still with its task when its intent has been placed from a list, and an answer then names the
/// order of an attempt that is younger than the second rebuild.
#[test]
fn an_intent_placed_from_a_list_is_remembered_over_a_rebuild() {
    use Action::*;
    let (a, b, c) = (Serial(1), Serial(2), Serial(3));
    let lands = |seq| Lands { seq, twice: false, garbled: false };
    let read = |rows: &[_]| {
        let rows = rows.iter().map(|seq| order(*seq, false)).collect();
        ListRead { rows, proof: Proof::Complete }
    };
    let arrives = ListArrives { fresh: true };
    #[rustfmt::skip]
    let steps = [
        Comes(a), Durable, Comes(b), Durable, Rebuild, Durable, Durable,
        Leaves(b), lands(b), read(&[b]), arrives.clone(), Durable,
        Rebuild, read(&[]), arrives.clone(),
        Comes(c), Durable, Leaves(c), lands(c), Mixes { seq: b, names: c }, Durable,
        TimesOut(c), Durable, read(&[]), arrives.clone(), Tick, read(&[]), arrives,
        Durable, Leaves(a),
    ];
    let whole = Setup {
        intents: 3,
        tries_max: 1,
        window: Some(1),
        ..answers(Faults { rebuilds: 2, ..Faults::default() })
    };
    assert_eq!(walk(&whole, &steps), None, "C is not given up while A1 may land");
    let without = Setup { without: Some(Clause::PlacedRemembered), ..whole };
    assert_eq!(walk(&without, &steps), Some(props::BUDGET));
}
