//! `--store URL`: which store a router is started on.

use std::path::PathBuf;
use std::sync::Arc;

use order_router::runtime::Runtime;
use order_router::store::IntentStore;
use order_router::store::postgres::{PostgresConfig, PostgresError, PostgresStore};

use super::failure::Failure;
use super::open::embedded;
use super::settings::RouterArgs;

/// What a URL names.
enum Place {
    Directory(PathBuf),
    Postgres(Box<PostgresConfig>),
}

fn place(args: &RouterArgs) -> Result<Place, Failure> {
    match args.store.as_deref() {
        None => Ok(Place::Directory(args.data.data.clone())),
        Some(url) => match url.strip_prefix("embedded:") {
            Some(dir) => Ok(Place::Directory(dir.into())),
            None => match PostgresConfig::new(url) {
                Ok(config) => Ok(Place::Postgres(Box::new(config))),
                Err(error) => Err(not_opened(&error)),
            },
        },
    }
}

/// For commands about orders that there are already: see `DataArgs::existing`.
pub fn existing(args: &RouterArgs) -> Result<(), Failure> {
    match place(args)? {
        Place::Directory(data) => super::settings::DataArgs { data }.existing(),
        Place::Postgres(_) => Ok(()),
    }
}

/// Opens the store that the flags name.
pub async fn open(args: &RouterArgs, runtime: &Runtime) -> Result<Arc<dyn IntentStore>, Failure> {
    match place(args)? {
        Place::Directory(dir) => embedded(&dir, runtime).await,
        Place::Postgres(config) => {
            let store = PostgresStore::open(*config).await;
            Ok(Arc::new(store.map_err(|error| not_opened(&error))?))
        }
    }
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
