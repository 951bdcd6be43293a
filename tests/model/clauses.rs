//! Each clause of the lane, left out: the shortest way to lose money, or peace.

use order_router::protocol::Clause;
use stateright::{Checker, HasDiscoveries, Model};

use super::setup::{Faults, Setup};
use super::words;

/// A violated property, with the shortest path to it.
pub struct Counterexample {
    pub property: &'static str,
    pub steps: Vec<String>,
    pub states: usize,
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
    let found = found.map(|(property, path)| Counterexample {
        property,
        steps: words::told(path.into_vec()),
        states,
    });
    (found, states)
}

fn base(clause: Clause) -> Setup {
    Setup { without: Some(clause), peace: false, ends: false, ..Setup::default() }
}

/// The smallest world in which a clause bites.
pub fn world_of(clause: Clause) -> Setup {
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
        LateAnswerGuarded | LateAnswerCounts => {
            Setup { late_answers: true, ..with(&one, Faults { refusals: 1, ..Faults::default() }) }
        }
        WireBound => Setup { wire: 1, ..one },
        ListComplete => Setup { partial: true, ..one },
        NearMissHeld => with(&one, Faults { garbled: 1, ..Faults::default() }),
        SameFingerprint => with(&one, Faults { other_keys: 1, ..Faults::default() }),
        SurplusHolds => with(&one, Faults { twice: 1, ..Faults::default() }),
        RecordBeforeSend => Setup { window: Some(1), ..one },
        SettledFromReport | LandingBound | SettledItself => one,
        ToldAfterDurable | ClaimWithPlaced => with(&two, crash),
        PlacedRemembered => Setup {
            window: Some(1),
            report: Some(1),
            ..with(&two, Faults { rebuilds: 1, ..Faults::default() })
        },
        NotTogether => Setup { two_kinds: true, ..two },
        UnsentInFlight => Setup { window: Some(1), ..two },
        _ => two,
    }
}
