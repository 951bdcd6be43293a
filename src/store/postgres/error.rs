//! Why the database was not opened, by what to do about it; and what an error in the middle means.

use std::sync::Arc;

use tokio_postgres::error::{DbError, Severity, SqlState};

/// The store was not opened, and nothing in it was decided or sent.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum PostgresError {
    /// The URL is not understood. Nothing of it is shown: it may hold a password.
    #[error(
        "the URL of the store is not understood: {0}; it is postgres://USER:PASSWORD@HOST:PORT/DATABASE?schema=NAME"
    )]
    Url(&'static str),
    /// The certificates that `sslrootcert` names are not usable, or the system's.
    #[error("sslrootcert: {0}")]
    Tls(String),
    /// No server was reached. See that it runs and that this machine may reach it.
    #[error("no Postgres server is reached at {place}: {why}")]
    Unreachable {
        /// Where.
        place: String,
        /// What the system says.
        why: String,
    },
    /// The server refuses the user, the password or the database.
    #[error("the server at {place} refuses to let us in: {why}; check user, password and database")]
    Refused {
        /// Where.
        place: String,
        /// What the server says.
        why: String,
    },
    /// The server cannot be written to: a standby, or a database that is set read-only.
    #[error("the server at {place} is read-only: name the primary")]
    ReadOnly {
        /// Where.
        place: String,
    },
    /// Another router has the schema. Stop it, or use another schema and another account.
    #[error("another router has the store at {place}{}", holder(.pid))]
    InUse {
        /// Where.
        place: String,
        /// The process of the server that serves it.
        pid: Option<i32>,
    },
    /// The tables are from a newer version of the program. They are whole: run that version.
    #[error("the tables are of version {found}, this program knows up to {known}: run a newer one")]
    NewerVersion {
        /// The version of the tables.
        found: i32,
        /// The newest that this program knows.
        known: i32,
    },
    /// What the server acknowledges does not survive a power cut.
    #[error(
        "the server at {place} runs with {setting}: what it acknowledges can be lost; change that, or accept it with `accept_unsynced`"
    )]
    Unsynced {
        /// Where.
        place: String,
        /// Which setting.
        setting: String,
    },
    /// The database is not what is needed.
    #[error("the database at {place} cannot be used: {why}")]
    Unusable {
        /// Where.
        place: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The server answers with something else.
    #[error("the database at {place} failed: {why}")]
    Failed {
        /// Where.
        place: String,
        /// What it says.
        why: String,
    },
}

fn holder(pid: &Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (the server's process {pid})"))
}

impl PostgresError {
    /// Whether the same try a moment later may succeed: the server restarts or fails over.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::ReadOnly { .. } | Self::Failed { .. } => true,
            Self::Url(_)
            | Self::Tls(_)
            | Self::Refused { .. }
            | Self::InUse { .. }
            | Self::NewerVersion { .. }
            | Self::Unsynced { .. }
            | Self::Unusable { .. } => false,
        }
    }

    /// By what the client says while connecting and looking around.
    pub(super) fn of(place: &str, error: &tokio_postgres::Error) -> Self {
        let (place, why) = (place.to_owned(), said(error));
        let Some(code) = error.code() else {
            return Self::Unreachable { place, why };
        };
        if code.code().starts_with("28") || *code == SqlState::INVALID_CATALOG_NAME {
            return Self::Refused { place, why };
        }
        if code.code().starts_with("57P") || *code == SqlState::TOO_MANY_CONNECTIONS {
            return Self::Unreachable { place, why };
        }
        if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
            return Self::ReadOnly { place };
        }
        if *code == SqlState::INSUFFICIENT_PRIVILEGE {
            let why = format!("{why}; the user needs CREATE on the database, or on the schema");
            return Self::Unusable { place, why };
        }
        if *code == SqlState::INVALID_SCHEMA_NAME {
            let why = format!("{why}; the user may not use the schema: it needs USAGE and CREATE");
            return Self::Unusable { place, why };
        }
        if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN {
            let why = format!("{why}; the schema holds other tables, or some are missing");
            return Self::Unusable { place, why };
        }
        Self::Failed { place, why }
    }
}

/// The error and its causes in one line. The server's messages hold no value of a column; what it
/// adds as detail may, and is left out.
pub(super) fn said(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What an error in the middle of a batch means.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The transaction is rolled back; the same again may succeed.
    Again(String),
    /// The connection is of no use any more, and whether the batch is in is not known.
    Reconnect(String),
    /// It will not succeed.
    Fatal(Arc<str>),
}

impl Fault {
    /// Judges an error of a statement.
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        let why = said(error);
        let Some(db) = error.as_db_error() else { return Self::Reconnect(why) };
        match () {
            () if ends_the_connection(db) => Self::Reconnect(why),
            () if passes(db.code()) => Self::Again(why),
            () => Self::Fatal(why.into()),
        }
    }

    /// Judges an error of the trip with `COMMIT`: where it may have taken effect, a new session
    /// has to read back.
    pub(super) fn of_commit(error: &tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) if code.code() != "40003" => Self::of(error),
            _ => Self::Reconnect(said(error)),
        }
    }
}

/// The server closes the connection, has failed over, or has forgotten what was prepared.
fn ends_the_connection(db: &DbError) -> bool {
    let code = db.code();
    matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
        || ["08", "57P"].iter().any(|class| code.code().starts_with(class))
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        || *code == SqlState::INVALID_SQL_STATEMENT_NAME
        || *code == SqlState::FEATURE_NOT_SUPPORTED
}

/// Errors that roll back and pass: conflicts with others, locks, a full disk, a cancelled query.
fn passes(code: &SqlState) -> bool {
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        // Another writer claimed the order at the same moment: the guard sees it next time.
        SqlState::UNIQUE_VIOLATION,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
    ]
    .contains(code)
        || code.code().starts_with("53")
}
