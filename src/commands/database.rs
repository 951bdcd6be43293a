//! A store in a database.

use std::sync::Arc;

use order_router::store::postgres::{PostgresConfig, PostgresError, PostgresStore, SharedPostgres};
use order_router::store::{IntentStore, LeaseTerms, SharedStore};
use secrecy::{ExposeSecret, SecretString};

use super::failure::Failure;

/// Opens the store that a URL names.
pub async fn open(url: &SecretString) -> Result<Arc<dyn IntentStore>, Failure> {
    let config = PostgresConfig::new(url.expose_secret()).map_err(|error| not_opened(&error))?;
    let store = PostgresStore::open(config).await;
    Ok(Arc::new(store.map_err(|error| not_opened(&error))?))
}

/// The store that a URL names, to be shared with other routers.
pub fn shared(url: &SecretString, terms: LeaseTerms) -> Result<Arc<dyn SharedStore>, Failure> {
    let mut config =
        PostgresConfig::new(url.expose_secret()).map_err(|error| not_opened(&error))?;
    config.lease = Some(terms);
    Ok(Arc::new(SharedPostgres::new(config)))
}

/// Why the database was not opened, and what to do. Nothing of the URL is shown.
fn not_opened(error: &PostgresError) -> Failure {
    let next = match error {
        PostgresError::Url(_) => "name embedded:DIR or a postgres:// URL with --store",
        PostgresError::Tls => "connect over a private network or a tunnel, without sslmode",
        PostgresError::Unreachable { .. } => "start the server, see that it is reached from here",
        PostgresError::Refused { .. } => "correct user, password and database of the URL",
        PostgresError::ReadOnly { .. } => "name the primary, or make the database writable",
        PostgresError::InUse { .. } => {
            "wait for the other router to end, or stop it; another schema for the same account is \
             no way out: it would buy again"
        }
        PostgresError::NewerVersion { .. } => {
            "run the version of order-router that made the tables, or a newer"
        }
        PostgresError::Unsynced { .. } => "change the setting in the server's configuration",
        PostgresError::Unusable { .. } | PostgresError::Failed { .. } => {
            "look at the database; see the message"
        }
        _ => "see the message",
    };
    Failure::nothing_sent(format!("the store was not opened: {error}"), next)
}
