//! Committing without a thread, by itself: `tests/loom.rs` includes this file and runs it under
//! every interleaving.

use super::sync::{Mutex, TryLockError};

/// What is worked with by whoever comes, one at a time; nobody waits for his turn.
pub(super) struct Turns<T>(Mutex<T>);

impl<T> Turns<T> {
    pub(super) fn new(state: T) -> Self {
        Self(Mutex::new(state))
    }

    /// Works off what is there, or leaves it to him who is at it already. `work` does what is there
    /// and says whether there was any; `is_empty` whether nothing is there.
    ///
    /// Whoever hands something over calls this afterwards. If he finds another at work, that one
    /// looks again *after* he has let go: what was handed over meanwhile is not left lying.
    pub(super) fn run(&self, mut work: impl FnMut(&mut T) -> bool, is_empty: impl Fn() -> bool) {
        loop {
            let mut state = match self.0.try_lock() {
                Ok(state) => state,
                Err(TryLockError::Poisoned(state)) => state.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            while work(&mut state) {}
            drop(state);
            if is_empty() {
                return;
            }
        }
    }
}
