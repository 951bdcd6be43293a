//! The gate that an order's bytes leave through, once (rule 2).

use std::sync::{Arc, Mutex, MutexGuard};

use crate::dispatch::Switch;
use crate::protocol::Moment;
use crate::store::Lease;

pub use crate::protocol::evidence::GateState;

/// The gate of one POST: it hands out its bytes at most once, only within the send window, and
/// remembers the moment.
///
/// A gate that never yielded proves that not a byte of the order left, whatever the error was.
#[derive(Debug)]
pub struct Gate {
    closes: Moment,
    lease: Option<Arc<Lease>>,
    switch: Option<Arc<Switch>>,
    state: Mutex<GateState>,
}

impl Gate {
    /// A gate that yields until `closes` (monotonic; rule 2's send window, default 2 s).
    #[must_use]
    pub fn new(closes: Moment) -> Self {
        Self { closes, lease: None, switch: None, state: Mutex::new(GateState::Unasked) }
    }

    /// A gate that closes with a lease as well, less its margin (rule 16).
    #[must_use]
    pub fn under(mut self, lease: Option<Arc<Lease>>) -> Self {
        self.lease = lease;
        self
    }

    /// A gate that is closed by the kill switch as well.
    #[must_use]
    pub(crate) fn unless(mut self, switch: &Arc<Switch>) -> Self {
        self.switch = Some(switch.clone());
        self
    }

    fn state_mut(&self) -> MutexGuard<'_, GateState> {
        // Nothing in here can panic while the lock is held; a poisoned one still tells the truth.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Asks for the bytes at `now`. True exactly once, and only within the window.
    #[must_use]
    pub fn ask(&self, now: Moment) -> bool {
        let mut state = self.state_mut();
        let leased = self.lease.as_ref().is_none_or(|lease| lease.may_send());
        let stopped = self.switch.as_ref().is_some_and(|switch| switch.is_on());
        let yields = *state == GateState::Unasked && now < self.closes && leased && !stopped;
        if yields {
            *state = GateState::Yielded(now);
        } else if *state == GateState::Unasked {
            *state = GateState::Closed;
        }
        yields
    }

    /// Closes the gate if nobody has asked yet, and says where it stands now.
    pub fn close(&self) -> GateState {
        let mut state = self.state_mut();
        if *state == GateState::Unasked {
            *state = GateState::Closed;
        }
        *state
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> GateState {
        *self.state_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::{Asked, LeaseTerms};

    fn at(millis: u64) -> Moment {
        Moment::after_origin(Duration::from_millis(millis))
    }

    #[test]
    fn gate_yields_once_and_notes_the_moment() {
        let gate = Gate::new(at(10));
        assert_eq!(gate.state(), GateState::Unasked);
        assert!(gate.ask(at(9)));
        assert!(!gate.ask(at(9)));
        assert_eq!(gate.close(), GateState::Yielded(at(9)));
    }

    #[test]
    fn gate_asked_at_the_end_of_its_window_yields_nothing_for_ever() {
        let gate = Gate::new(at(10));
        assert!(!gate.ask(at(10)));
        assert!(!gate.ask(at(1)));
        assert_eq!(gate.state(), GateState::Closed);
    }

    #[test]
    fn gate_under_a_lease_that_has_ended_yields_nothing_for_ever() {
        let lease = Lease::taken(LeaseTerms::default(), 1, Asked::now());
        let gate = || Gate::new(at(10)).under(Some(lease.clone()));
        assert!(gate().ask(at(9)));
        let late = gate();
        lease.lose();
        assert!(!late.ask(at(9)));
        assert_eq!(late.state(), GateState::Closed);
    }

    #[test]
    fn gate_asked_while_the_kill_switch_is_on_yields_nothing_for_ever() {
        let switch = Arc::new(Switch::new(Some("stopped".into()), None));
        let gate = Gate::new(at(10)).unless(&switch);
        assert!(!gate.ask(at(1)));
        switch.set(None);
        assert!(!gate.ask(at(1)));
        assert!(Gate::new(at(10)).unless(&switch).ask(at(1)));
    }

    #[test]
    fn closed_gate_yields_nothing() {
        let gate = Gate::new(at(10));
        assert_eq!(gate.close(), GateState::Closed);
        assert!(!gate.ask(at(1)));
    }
}
