//! The files of the embedded store, over loom's locks.

#![allow(dead_code, unreachable_pub, reason = "not every model uses every method")]

pub(crate) mod sync {
    use std::ops::{Deref, DerefMut};
    pub(super) use std::sync::{PoisonError, TryLockError};
    use std::time::Duration;

    pub(super) use loom::sync::Condvar;
    use loom::sync::atomic::{AtomicBool, Ordering};

    /// loom's mutex, whose guard knows where it is from.
    ///
    /// loom does not try what else might have happened where a `try_lock` fails. So the ones here
    /// go by a flag, which it does try; a mutex is locked in one of the two ways, never in both.
    pub(super) struct Mutex<T> {
        tried: AtomicBool,
        inner: loom::sync::Mutex<T>,
    }

    pub(super) struct MutexGuard<'a, T> {
        mutex: &'a Mutex<T>,
        inner: Option<loom::sync::MutexGuard<'a, T>>,
        tried: bool,
    }

    impl<T> Mutex<T> {
        pub(super) fn new(state: T) -> Self {
            Self { tried: AtomicBool::new(false), inner: loom::sync::Mutex::new(state) }
        }

        fn guard(&self, tried: bool) -> MutexGuard<'_, T> {
            let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            MutexGuard { mutex: self, inner: Some(inner), tried }
        }

        pub(super) fn lock(&self) -> Result<MutexGuard<'_, T>, PoisonError<MutexGuard<'_, T>>> {
            Ok(self.guard(false))
        }

        pub(super) fn try_lock(
            &self,
        ) -> Result<MutexGuard<'_, T>, TryLockError<MutexGuard<'_, T>>> {
            let taken =
                self.tried.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
            taken.map(|_| self.guard(true)).map_err(|_| TryLockError::WouldBlock)
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            drop(self.inner.take());
            if self.tried {
                self.mutex.tried.store(false, Ordering::Release);
            }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.inner.as_ref().expect("held")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.inner.as_mut().expect("held")
        }
    }

    /// Waits until the condition is no longer met. A timed wait is over as soon as anybody else
    /// has had a turn: time may be up at any moment.
    pub(super) fn wait_while<'a, T>(
        condvar: &Condvar,
        mut guard: MutexGuard<'a, T>,
        at_most: Option<Duration>,
        mut condition: impl FnMut(&T) -> bool,
    ) -> MutexGuard<'a, T> {
        if at_most.is_some() {
            let mutex = guard.mutex;
            drop(guard);
            loom::thread::yield_now();
            return mutex.guard(false);
        }
        while condition(&guard) {
            let held = guard.inner.take().expect("held");
            guard.inner = Some(condvar.wait(held).unwrap_or_else(PoisonError::into_inner));
        }
        guard
    }
}

#[path = "../../src/store/embedded/answers.rs"]
mod answers;
#[path = "../../src/store/embedded/requests.rs"]
mod requests;
#[path = "../../src/store/embedded/serve.rs"]
mod serve;
#[path = "../../src/store/embedded/turns.rs"]
mod turns;

#[path = "commits.rs"]
mod commits;
#[path = "model.rs"]
mod model;
