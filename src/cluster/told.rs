//! What is said of trouble that lasts: at once, and then now and again.

use std::time::Duration;

use crate::protocol::Moment;

/// How often the same is said again.
const AGAIN: Duration = Duration::from_secs(10);

/// What was said last, and when.
#[derive(Default)]
pub(super) struct Told {
    last: Option<(String, Moment)>,
}

impl Told {
    /// Whether this is to be said now: it is new, or was said a while ago.
    pub(super) fn is_due(&mut self, what: &str, now: Moment) -> bool {
        let again = |(last, at): &(String, Moment)| last == what && now.since(*at) < AGAIN;
        let due = !self.last.as_ref().is_some_and(again);
        if due {
            self.last = Some((what.to_owned(), now));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_and_something_else_at_once() {
        let (mut told, now) = (Told::default(), Moment::ORIGIN);
        let due = ["a", "a", "b", "b", "a"].map(|what| told.is_due(what, now));
        assert_eq!(due, [true, false, true, false, true]);
        assert!(!told.is_due("a", now.plus(AGAIN / 2)));
        assert!(told.is_due("a", now.plus(AGAIN)));
    }
}
