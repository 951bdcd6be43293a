//! Stores by their places: opened for a migration, or looked at beside a running router.

use std::path::Path;
use std::sync::Arc;

use order_router::runtime::Runtime;
use order_router::settings::StorePlace;
#[cfg(any(feature = "dynamodb", feature = "postgres", feature = "redb", feature = "redis"))]
use order_router::store::Mark;
use order_router::store::look::Look;
use order_router::store::migrate::Side;
use order_router::store::tools::Snapshot;
use order_router::store::{Bookmark, EmbeddedConfig, EmbeddedStore, LeaseTerms, StoreError};

use super::failure::Failure;
use super::{open, settings};

/// A runtime for commands that ask a store and end.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().map_err(|error| {
        Failure::unread(format!("a runtime could not be started: {error}"), "run again")
    })
}

/// What a store says when it fails.
pub fn failed(place: &str, error: &StoreError) -> Failure {
    let what = format!("the store {place} cannot be read: {error}");
    Failure::unread(what, "see that its server is reached from here, then run again")
}

/// The URL of a directory: with its whole path.
pub fn directory_url(dir: &Path) -> String {
    format!("embedded:{}", std::path::absolute(dir).unwrap_or_else(|_| dir.into()).display())
}

/// Opens a store under its lock or lease. `unsynced`: also one that answers before it is on disk.
/// `must_exist`: one that is not there is not made.
pub async fn side(
    place: &StorePlace,
    (terms, unsynced): (LeaseTerms, bool),
    must_exist: bool,
) -> Result<Side, Failure> {
    match place {
        StorePlace::Directory(dir) => {
            if must_exist {
                settings::existing(dir)?;
            }
            let (path, place) = (dir.clone(), directory_url(dir));
            let opening = tokio::task::spawn_blocking(move || {
                let config =
                    EmbeddedConfig { on_progress: Some(open::told()), ..Default::default() };
                EmbeddedStore::open(&path, config, &Runtime::system())
            });
            let store = opening.await.expect("opening a store does not panic");
            let store = store.map_err(|error| open::not_opened(dir, &error))?;
            Ok(Side { store: Arc::new(store), place })
        }
        #[cfg(any(
            feature = "dynamodb",
            feature = "postgres",
            feature = "redb",
            feature = "redis"
        ))]
        StorePlace::Database(url) => {
            use super::database;
            let place = database::url(url)?;
            if must_exist {
                existing(url).await?;
            }
            let store = database::open(url, terms, unsynced).await?;
            Ok(Side { store, place })
        }
        #[cfg(not(any(
            feature = "dynamodb",
            feature = "postgres",
            feature = "redb",
            feature = "redis"
        )))]
        StorePlace::Database(_) => {
            let _ = (terms, unsynced);
            Err(Failure::unread("the store is not in this build", "name another"))
        }
    }
}

/// Refuses a store that was never used: a mistyped name would become one.
#[cfg(any(feature = "dynamodb", feature = "postgres", feature = "redb", feature = "redis"))]
async fn existing(url: &secrecy::SecretString) -> Result<(), Failure> {
    let look = look(url).await?;
    let figures = look.figures().await.map_err(|error| failed(&look.place(), &error))?;
    if figures.changes > 0 {
        return Ok(());
    }
    let what = format!("there is nothing in the store {}", look.place());
    Err(Failure::unread(what, "name the one that `submit` uses with --store"))
}

/// Looks at a store that is no directory.
pub async fn look(url: &secrecy::SecretString) -> Result<Box<dyn Look>, Failure> {
    #[cfg(any(feature = "dynamodb", feature = "postgres", feature = "redb", feature = "redis"))]
    return super::database::look(url).await;
    #[cfg(not(any(
        feature = "dynamodb",
        feature = "postgres",
        feature = "redb",
        feature = "redis"
    )))]
    {
        let _ = url;
        Err(Failure::unread("the store is not in this build", "name another"))
    }
}

/// What a migration has made of a store, if it can be looked at now.
#[cfg(any(feature = "dynamodb", feature = "postgres", feature = "redb", feature = "redis"))]
pub async fn mark(url: &secrecy::SecretString) -> Option<Mark> {
    look(url).await.ok()?.rehydrate().await.ok()?.mark
}

/// What is wanted of a store's orders.
#[derive(Clone, Copy)]
pub enum Wanted<'a> {
    /// One order.
    One(&'a order_router::ClientRef),
    /// Those that have not ended.
    Open,
    /// All of them.
    All,
}

/// Reads orders, of a directory or of any other store; where they are, for people.
pub fn orders(place: &StorePlace, wanted: Wanted<'_>) -> Result<(String, Snapshot), Failure> {
    let url = match place {
        StorePlace::Directory(dir) => {
            settings::existing(dir)?;
            let snapshot = Snapshot::read(dir).map_err(|error| open::not_opened(dir, &error))?;
            return Ok((dir.display().to_string(), snapshot));
        }
        StorePlace::Database(url) => url,
    };
    runtime()?.block_on(async {
        let look = look(url).await?;
        let place = look.place();
        let read = read(&*look, wanted).await;
        read.map_err(|error| failed(&place, &error)).map(|snapshot| (place.clone(), snapshot))
    })
}

async fn read(look: &dyn Look, wanted: Wanted<'_>) -> Result<Snapshot, StoreError> {
    let mut snapshot = Snapshot { rehydration: look.rehydrate().await?, ..Snapshot::default() };
    match wanted {
        Wanted::One(client_ref) => {
            let found = look.find(client_ref.clone()).await?;
            snapshot.intents.extend(found.map(|stored| (stored.id, stored)));
        }
        Wanted::Open => {
            let open = snapshot.rehydration.intents.iter().filter(|one| !one.state.is_end());
            snapshot.intents.extend(open.map(|stored| (stored.id, stored.clone())));
        }
        Wanted::All => {
            let mut next = Some(Bookmark::default());
            while let Some(from) = next {
                let page = look.read_through(from).await?;
                let stored = page.intents.into_iter().map(|intent| intent.stored);
                snapshot.intents.extend(stored.map(|stored| (stored.id, stored)));
                next = page.next;
            }
        }
    }
    Ok(snapshot)
}
