//! A clock for tests of what clocks do.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use order_router::protocol::Moment;
use order_router::runtime::Clock;

/// A clock whose wall can be put forward and back while everything runs.
pub(super) struct JumpingClock {
    pub(super) steady: Arc<dyn Clock>,
    pub(super) ahead_seconds: AtomicI64,
}

impl Clock for JumpingClock {
    fn now(&self) -> Moment {
        self.steady.now()
    }

    fn wall(&self) -> Timestamp {
        let ahead = SignedDuration::from_secs(self.ahead_seconds.load(Ordering::Relaxed));
        self.steady.wall().checked_add(ahead).expect("in range")
    }
}
