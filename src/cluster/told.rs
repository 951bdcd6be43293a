//! What is said of trouble that lasts: at once, and then now and again.

use std::time::{Duration, Instant};

/// How often the same is said again.
const AGAIN: Duration = Duration::from_secs(10);

/// What was said last, and when.
#[derive(Default)]
pub(super) struct Told {
    last: Option<(String, Instant)>,
}

impl Told {
    /// Whether this is to be said now: it is new, or was said a while ago.
    pub(super) fn is_due(&mut self, what: &str) -> bool {
        let again = |(last, at): &(String, Instant)| last == what && at.elapsed() < AGAIN;
        let due = !self.last.as_ref().is_some_and(again);
        if due {
            self.last = Some((what.to_owned(), Instant::now()));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_and_something_else_at_once() {
        let mut told = Told::default();
        let due = ["a", "a", "b", "b", "a"].map(|what| told.is_due(what));
        assert_eq!(due, [true, false, true, false, true]);
        told.last = told.last.map(|(what, at)| (what, at.checked_sub(AGAIN).unwrap_or(at)));
        assert!(told.is_due("a"));
    }
}
