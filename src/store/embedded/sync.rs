//! The locks of the small types here. `tests/loom.rs` includes those files with locks of its own.

pub(super) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// Waits until the condition is no longer met or the time is up; without a time, for ever.
pub(super) fn wait_while<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    at_most: Option<Duration>,
    mut condition: impl FnMut(&T) -> bool,
) -> MutexGuard<'a, T> {
    match at_most {
        Some(span) => {
            let waited = condvar.wait_timeout_while(guard, span, |state| condition(state));
            waited.unwrap_or_else(PoisonError::into_inner).0
        }
        None => {
            let waited = condvar.wait_while(guard, |state| condition(state));
            waited.unwrap_or_else(PoisonError::into_inner)
        }
    }
}
