//! What a gate asks of its server.

use std::time::Duration;

use futures_util::future::BoxFuture;

/// One atomic step under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What stands there?
    Get,
    /// Put this there if nothing is.
    Add(String),
    /// Put `new` there if `old` is, and let it last for the whole TTL again; also if `new` is there
    /// already.
    Swap {
        /// What must be there.
        old: String,
        /// What is put there.
        new: String,
    },
    /// Take this away if it is there.
    Remove(String),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// Something else is there: this.
    Other(String),
    /// Nothing is there.
    Nothing,
}

/// The gate cannot be asked. What was asked may have been done: a question may be repeated.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The URL is not understood. Nothing of it is shown: it may hold a password.
    #[error(
        "the URL of the gate is not understood: {0}; it is memcached://HOST:PORT?namespace=NAME or redis://HOST:PORT/DB?namespace=NAME, with USER:PASSWORD@ before the host where they are wanted"
    )]
    Url(&'static str),
    /// The certificates that `sslrootcert` names are not usable.
    #[error("sslrootcert: {0}")]
    Tls(String),
    /// A limit is out of range.
    #[error("{0}")]
    Terms(&'static str),
    /// No server is reached, or it went away. See that it runs and is reached from here.
    #[error("no gate is reached at {place}: {why}")]
    Unreachable {
        /// Where.
        place: String,
        /// What the system or the server says.
        why: String,
    },
    /// It did not answer in time.
    #[error("the gate at {place} did not answer within {limit:?}")]
    Slow {
        /// Where.
        place: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// It refuses user or password, or wants some. Correct them.
    #[error("the gate at {place} refuses: {why}; check user and password")]
    Refused {
        /// Where.
        place: String,
        /// What it says.
        why: String,
    },
    /// What answers there is no gate, or cannot be one now.
    #[error("the gate at {place} cannot be used: {why}")]
    Unusable {
        /// Where.
        place: String,
        /// Why.
        why: String,
    },
}

/// A server whose keys all nodes see, each for as long as its TTL at most. It may forget at any time.
pub trait GateServer: Send + Sync + 'static {
    /// Does one step under one key, atomically. What is put there lasts for `ttl`.
    fn ask(
        &self,
        key: String,
        question: Question,
        ttl: Duration,
    ) -> BoxFuture<'static, Result<Reply, GateError>>;

    /// Where it is, for people: no user and no password.
    fn place(&self) -> String;
}
