//! Time: one line through all lives of the router, and a wall clock that a person may put wrong.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use order_router::protocol::Moment;
use order_router::runtime::Clock;
use tokio::time::Instant;

/// 2026-01-01T00:00:00Z.
const START_SECONDS: i64 = 1_767_225_600;

#[derive(Default)]
struct Inner {
    /// Time that is over: former lives, pauses between them, and stops of the whole process.
    past: Duration,
    /// Since when this life's timers run.
    origin: Option<Instant>,
    ahead: SignedDuration,
}

/// The clock of a simulation. Clones are the same.
#[derive(Clone, Default)]
pub struct SimClock(Arc<Mutex<Inner>>);

impl SimClock {
    /// A life begins; called inside its runtime.
    #[allow(clippy::disallowed_methods, reason = "tokio's paused clock drives the simulation")]
    pub fn begin(&self) {
        self.0.lock().unwrap().origin = Some(Instant::now());
    }

    /// The life is over; called inside its runtime.
    pub fn end(&self) {
        let now = self.elapsed();
        let mut inner = self.0.lock().unwrap();
        (inner.past, inner.origin) = (now, None);
    }

    /// The process is stopped for a while (SIGSTOP), or nobody lives.
    pub fn stall(&self, span: Duration) {
        self.0.lock().unwrap().past += span;
    }

    pub fn set_ahead(&self, seconds: i64) {
        self.0.lock().unwrap().ahead = SignedDuration::from_secs(seconds);
    }

    #[allow(clippy::disallowed_methods, reason = "tokio's paused clock drives the simulation")]
    pub fn elapsed(&self) -> Duration {
        let inner = self.0.lock().unwrap();
        inner.past + inner.origin.map_or(Duration::ZERO, |origin| Instant::now() - origin)
    }

    /// When this process takes it to be that moment of its wall clock.
    pub fn at(&self, wall: Timestamp) -> Duration {
        let left = wall.duration_since(self.wall());
        Duration::try_from(left).map_or(Duration::ZERO, |left| self.elapsed() + left)
    }

    /// The supplier's clock.
    pub fn true_wall(&self) -> Timestamp {
        wall_at(self.elapsed())
    }
}

pub fn wall_at(at: Duration) -> Timestamp {
    let at = SignedDuration::try_from(at).unwrap();
    Timestamp::from_second(START_SECONDS).unwrap() + at
}

impl Clock for SimClock {
    fn now(&self) -> Moment {
        Moment::after_origin(self.elapsed())
    }

    fn wall(&self) -> Timestamp {
        let ahead = self.0.lock().unwrap().ahead;
        self.true_wall() + ahead
    }
}
