//! The one seam to threads, clock, randomness, spawning and disk.
//!
//! Everything else takes these from here, so that a simulation can put its own in their place.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;

use crate::protocol::Moment;

pub mod disk;

/// The clocks: one that only goes forward and decides, one that people read.
pub trait Clock: Send + Sync + 'static {
    /// The monotonic moment. Goes on through a stopped process and a suspended machine where the
    /// system has such a clock.
    fn now(&self) -> Moment;

    /// The wall clock. Nothing about safety is decided by it.
    fn wall(&self) -> Timestamp;
}

/// The system's clocks. Follows tokio's paused time where that is in use.
///
/// All of one process agree: a gate whose supplier has one and whose router has another closes when
/// it should.
#[derive(Debug)]
pub struct SystemClock {
    origin: tokio::time::Instant,
}

impl SystemClock {
    /// A clock whose origin is the start of the first one in this process.
    #[must_use]
    pub fn start() -> Self {
        static ORIGIN: OnceLock<tokio::time::Instant> = OnceLock::new();
        #[allow(clippy::disallowed_methods, reason = "this is the seam")]
        Self { origin: *ORIGIN.get_or_init(tokio::time::Instant::now) }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        #[allow(clippy::disallowed_methods, reason = "this is the seam")]
        Moment::after_origin(tokio::time::Instant::now().duration_since(self.origin))
    }

    fn wall(&self) -> Timestamp {
        #[allow(clippy::disallowed_methods, reason = "this is the seam")]
        Timestamp::now()
    }
}

/// Where the router's actors and tasks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Threading {
    /// On threads of the router's own, whatever runtime the host has. The default.
    #[default]
    Own,
    /// On the actix system that `start` is called on, and on that thread alone. For simulations: one
    /// thread has one order of events. Dropping that system ends the router at once, as a kill does.
    Here,
}

/// What the router takes from the machine.
#[derive(Clone)]
pub struct Runtime {
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The disk that the embedded store writes to.
    pub disk: Arc<dyn disk::Disk>,
    /// Where its actors and tasks run.
    pub threading: Threading,
}

impl Runtime {
    /// The system's own.
    #[must_use]
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock::start()),
            disk: Arc::new(disk::SystemDisk),
            threading: Threading::Own,
        }
    }

    /// The monotonic moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Waits until a moment of the monotonic clock; at once if it has passed.
    pub async fn sleep_until(&self, moment: Moment) {
        self.sleep(moment.since(self.now())).await;
    }

    /// Waits for a span.
    pub async fn sleep(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clocks_that_were_started_at_different_times_agree() {
        let first = SystemClock::start();
        tokio::time::advance(Duration::from_secs(5)).await;
        let second = SystemClock::start();
        assert_eq!(first.now(), second.now());
        assert!(second.now().since(Moment::after_origin(Duration::ZERO)) > Duration::from_secs(1));
    }
}
