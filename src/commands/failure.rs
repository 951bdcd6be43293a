//! Why a command did not start, in three sentences: what happened, what was bought, what to do.

use std::fmt;
use std::process::ExitCode;

use super::output::errln;

/// Nothing was started.
#[derive(Debug)]
pub struct Failure {
    what: String,
    bought: &'static str,
    next: String,
}

impl Failure {
    /// Nothing was bought, and nothing will be before the next try.
    pub fn nothing_bought(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), bought: "nothing was bought", next: next.into() }
    }

    /// Nothing was bought now, but orders that were accepted before are still in the store.
    pub fn nothing_sent(what: impl Into<String>, next: impl Into<String>) -> Self {
        let bought = "nothing was sent by this run; orders accepted by earlier runs are kept, \
            and driven on at the next start that succeeds";
        Self { what: what.into(), bought, next: next.into() }
    }

    /// For commands that never buy.
    pub fn unread(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), bought: "nothing was changed", next: next.into() }
    }

    /// For a migration that began: nothing was bought, and no order was changed or lost.
    pub fn unmoved(what: impl Into<String>, next: impl Into<String>) -> Self {
        let bought = "nothing was bought, and the source has every order as before";
        Self { what: what.into(), bought, next: next.into() }
    }

    /// Prints it to standard error. The exit code of everything that was not started is 2.
    pub fn report(&self) -> ExitCode {
        errln!("{self}");
        ExitCode::from(2)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, bought, next } = self;
        write!(f, "error: {what}\n  bought: {bought}\n  to do: {next}")
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // An outer message that repeats its cause says it once.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
