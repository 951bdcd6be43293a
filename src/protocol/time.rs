//! Time as the core sees it: a moment handed in, never a clock read.

use std::fmt;
use std::time::Duration;

/// A moment of the monotonic clock of this process, counted from its origin.
///
/// It means nothing in another process and is never stored (rule 7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The origin of the clock.
    pub const ORIGIN: Self = Self(0);

    /// The moment `since_origin` after the origin; saturates after 584 years.
    #[must_use]
    pub fn after_origin(since_origin: Duration) -> Self {
        Self(u64::try_from(since_origin.as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long after the origin.
    #[must_use]
    pub fn since_origin(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// This much later; saturates.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier`; zero if it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.since_origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_counted_from_the_origin_and_saturate() {
        let second = Duration::from_secs(1);
        let moment = Moment::after_origin(second);
        assert_eq!(moment.since_origin(), second);
        assert_eq!(moment.plus(second).since(moment), second);
        assert_eq!(moment.since(moment.plus(second)), Duration::ZERO);
        assert_eq!(Moment::after_origin(Duration::MAX), moment.plus(Duration::MAX));
        assert_eq!(
            Moment::after_origin(Duration::MAX).since_origin(),
            Duration::from_nanos(u64::MAX)
        );
        assert_eq!(format!("{moment:?}"), "1s");
    }
}
