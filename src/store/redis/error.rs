//! Why the server was not opened, by what to do about it; and what an error in the middle means.

use std::time::Duration;

use redis::ErrorKind;

use super::RedisConfig;
use crate::store::ledger::Fault;

/// The store was not opened, and nothing in it was decided or sent.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum RedisError {
    /// The URL is not understood. Nothing of it is shown: it may hold a password.
    #[error(
        "the URL of the store is not understood: {0}; it is redis://USER:PASSWORD@HOST:PORT/DB?namespace=NAME"
    )]
    Url(&'static str),
    /// The certificates that `sslrootcert` names are not usable.
    #[error("sslrootcert: {0}")]
    Tls(String),
    /// The terms of the lease contradict one another.
    #[error("the terms of the lease are wrong: {0}")]
    Terms(&'static str),
    /// No server was reached, or it is not ready. See that it runs and that this machine may reach it.
    #[error("no Redis server is reached at {place}: {why}")]
    Unreachable {
        /// Where.
        place: String,
        /// What the system or the server says.
        why: String,
    },
    /// The server refuses the user or the password, or a command to the user.
    #[error("the server at {place} refuses: {why}; check user, password and the user's ACL")]
    Refused {
        /// Where.
        place: String,
        /// What the server says.
        why: String,
    },
    /// The server is a replica. Name the primary.
    #[error("the server at {place} is a replica and read-only: name the primary")]
    ReadOnly {
        /// Where.
        place: String,
    },
    /// Another router has the namespace. Stop it, or use another namespace and another account.
    #[error(
        "another router has the store at {place}: {holder}, for {left:?} unless it is prolonged"
    )]
    InUse {
        /// Where.
        place: String,
        /// How it calls itself.
        holder: String,
        /// How long its lease lasts if it is not prolonged.
        left: Duration,
    },
    /// A newer version of the program wrote the keys. They are whole: run that version.
    #[error("the keys are of version {found}, this program knows up to {known}: run a newer one")]
    NewerVersion {
        /// The version of the keys.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// The server may lose what it acknowledges when it crashes.
    #[error(
        "the server at {place} runs with {setting}: when it crashes, {window} can be lost and is bought again; set appendonly yes and appendfsync always, or accept that with `accept_unsynced`"
    )]
    Unsynced {
        /// Where.
        place: String,
        /// Which setting.
        setting: String,
        /// What can be lost.
        window: &'static str,
    },
    /// The server throws keys away when its memory is full: references would be forgotten.
    #[error(
        "the server at {place} runs with maxmemory-policy {policy}, which throws orders away when memory is short, and they are bought again: set noeviction"
    )]
    Evicts {
        /// Where.
        place: String,
        /// The policy.
        policy: String,
    },
    /// The server or what it holds is not what is needed.
    #[error("the server at {place} cannot be used: {why}")]
    Unusable {
        /// Where.
        place: String,
        /// What is wrong, and what to do.
        why: String,
    },
}

impl RedisError {
    /// Whether the same try a moment later may succeed: the server restarts or fails over. The client
    /// says that the password is wrong also where the server has too many connections.
    fn passes(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::ReadOnly { .. } | Self::Refused { .. })
    }

    /// By what the client says while connecting and looking around.
    pub(super) fn of(config: &RedisConfig, error: &redis::RedisError) -> Self {
        let (place, why) = (config.place(), said(config, error));
        if error.kind() == ErrorKind::AuthenticationFailed {
            return Self::Refused { place, why };
        }
        match code(error).as_deref() {
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => Self::Refused { place, why },
            Some("READONLY") => Self::ReadOnly { place },
            Some(code) if passes(code) => Self::Unreachable { place, why },
            None if error.is_io_error() => Self::Unreachable { place, why },
            None if error.kind() == ErrorKind::Parse => {
                let why = format!("what answers there is not Redis ({why})");
                Self::Unusable { place, why }
            }
            _ if why.contains("max number of clients") => Self::Unreachable { place, why },
            _ => Self::Unusable { place, why },
        }
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        let why = error.to_string();
        if error.passes() { Self::Passes(why) } else { Self::Fatal(why) }
    }
}

/// The server's word for what went wrong.
pub(super) fn code(error: &redis::RedisError) -> Option<String> {
    // Of a transaction that was aborted it is the reason.
    let errors = error.clone().into_server_errors();
    let first = errors.as_ref().and_then(|errors| errors.first());
    first.map(|(_, error)| error.code().to_owned()).or_else(|| error.code().map(str::to_owned))
}

/// Errors after which the same may succeed; nothing was written.
fn passes(code: &str) -> bool {
    is_elsewhere(code) || matches!(code, "BUSY" | "OOM" | "NOREPLICAS" | "MISCONF")
}

/// The server is not the one to ask any more, or not yet.
fn is_elsewhere(code: &str) -> bool {
    let codes = ["LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "MOVED", "ASK"];
    codes.contains(&code)
}

/// What an error in the middle means, and whether the connection is of no use any more.
pub(super) fn judged(config: &RedisConfig, error: &redis::RedisError) -> (Fault, bool) {
    let why = said(config, error);
    match code(error) {
        Some(code) => {
            let fault = if passes(&code) { Fault::Passes(why) } else { Fault::Fatal(why) };
            (fault, is_elsewhere(&code))
        }
        // No answer, or none that is understood.
        None => (Fault::Passes(why), true),
    }
}

/// The error in one line. What the server repeats of what it was sent is left out.
fn said(config: &RedisConfig, error: &redis::RedisError) -> String {
    let mut text = error.to_string();
    if let Some(at) = text.find(", with args beginning with") {
        text.truncate(at);
    }
    config.without_password(text.lines().next().unwrap_or_default().to_owned())
}
