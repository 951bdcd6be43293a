//! The store on a Redis server (7.0 or newer, or what says that it is, as Valkey does): one script
//! writes a batch, all of it or nothing.
//!
//! ```text
//! callers ──changes──▶ queue ──what is waiting──▶ the book decides, one script checks and writes
//!    └────questions──▶ a connection of their own
//! ```
//!
//! One namespace is one account. All of its keys begin with `{NAME}`, so that one node of a cluster
//! has them all; redirections of a cluster are followed from the node that the URL names.
//!
//! | key | holds | until |
//! |---|---|---|
//! | `{NAME}:books` | version, epoch, holder, count of changes, standing, account | for ever |
//! | `{NAME}:lease` | the epoch of the lease that lasts | the lease ends |
//! | `{NAME}:active` | orders that are open or not settled | they are ended |
//! | `{NAME}:r:REFERENCE` | how an order ended, without its items | for ever |
//! | `{NAME}:b:REFERENCE` | the same with its items | [`RedisConfig::retention`] after its end |
//! | `{NAME}:o:ORDER`, `{NAME}:claimed` | who has a supplier's order; orders by when that was | for ever |
//! | `{NAME}:queue`, `{NAME}:asked`, `{NAME}:p:KEY` | requests of other routers, and replies | they are answered; ten minutes |
//!
//! # What an answered change survives
//!
//! - `appendonly yes` with `appendfsync always` (and `no-appendfsync-on-rewrite no`): a kill of the
//!   server and a power cut ([`Durability::Synced`](super::Durability::Synced)). Every other setting is refused, unless
//!   [`RedisConfig::accept_unsynced`]: then [`Durability::Unsynced`](super::Durability::Unsynced), and a crash of the machine loses
//!   up to two seconds with `everysec`, everything since the last snapshot without a log. The settings
//!   are read at each connect and each time the lease is prolonged; where they become worse, the store
//!   is latched.
//! - A failover: **no promise.** Replication is asynchronous, so a replica that takes over may lack
//!   changes that were answered. That is not prevented. It is noticed at the next write, by the count
//!   of changes and the lease's holder, and the store is latched; a router that starts only then finds
//!   a whole, older store, and only the supplier's list tells it (rule 15). The lease may be lost as
//!   well: two routers may send for up to its length, and an order that both have is bought twice.
//!   [`RedisConfig::replicas_min`] makes each batch wait until replicas have it in memory, which helps
//!   if the failover picks one of them and they do not lose power together.
//! - Eviction: a `maxmemory-policy` other than `noeviction` is refused. When memory is full, the
//!   server refuses to write; after [`RedisConfig::give_up_after`] the store is latched.
//!
//! # Assumptions
//!
//! The lease lasts by the server's clock, which Redis takes from the system: a jump of it by more
//! than [`LeaseTerms::margin`](crate::store::LeaseTerms) ahead ends the lease early, while its holder
//! may still send. Nothing else writes to the namespace.
//!
//! # Left out
//!
//! TLS (`rediss://` is refused, not ignored), Sentinel (name an address that follows the primary), more
//! than one node of a cluster in the URL. Memory grows by every ended order, since nothing of its
//! reference and claim is ever forgotten.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;

use super::lease::Asked;
use super::ledger::{Backend, Fault, LedgerLook, LedgerStore, SharedLedger};
use super::look::Look;
use super::{Holder, IntentStore, Lease, SharedStore, StoreError};

mod backend;
mod config;
mod connect;
mod error;
mod meeting;
mod reading;
#[cfg(test)]
mod tests;

pub(crate) use backend::Server;
use backend::{Given, VERSION};
pub use config::RedisConfig;
pub use error::RedisError;

/// What is wrong where keys are left without the one that all depend on.
const GONE: &str = "acknowledged changes are gone: some of its keys were deleted; put them back, or \
    use an empty namespace after every order of the account was looked at";

/// How often a lease that another router has is asked for again.
const AGAIN: Duration = Duration::from_millis(100);

/// Opens the [`IntentStore`] of one router in one namespace of a Redis server.
#[derive(Debug)]
#[non_exhaustive]
pub struct RedisStore;

impl RedisStore {
    /// Connects and takes the lease of the namespace. If another router has it, this waits for as
    /// long as a lease lasts: it may have been killed.
    ///
    /// The store has a thread of its own: it works from any runtime.
    ///
    /// # Errors
    /// See [`RedisError`]; in every case nothing may be sent.
    pub async fn open(config: RedisConfig) -> Result<Arc<dyn IntentStore>, RedisError> {
        let server = Server::connect(&config).await?;
        let lease = take(&server, &config).await?;
        let (epoch, durability) = (lease.epoch(), server.durability());
        match LedgerStore::open(server.clone(), Some(lease), durability).await {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => {
                server.release(epoch).await;
                let why = match error {
                    StoreError::Failed(why) => why.to_string(),
                    other => other.to_string(),
                };
                Err(RedisError::Unusable { place: config.place(), why })
            }
        }
    }
}

/// Looks at a namespace, without its lease, whatever the server's settings are.
///
/// # Errors
/// See [`RedisError`].
pub async fn look(mut config: RedisConfig) -> Result<Box<dyn Look>, RedisError> {
    config.accept_unsynced = true;
    let server = Server::connect(&config).await?;
    let place = config.place();
    let version = server.version().await.map_err(|fault| match fault {
        Fault::Passes(why) => RedisError::Unreachable { place: place.clone(), why },
        Fault::Fatal(why) => RedisError::Unusable { place: place.clone(), why },
    })?;
    if let Some(found) = version.filter(|found| *found > VERSION) {
        return Err(RedisError::NewerVersion { found, known: VERSION });
    }
    let grade = server.grade().await;
    Ok(Box::new(LedgerLook { backend: server, grade, place: config.url() }))
}

/// Takes the lease, once nobody else has it.
async fn take(server: &Server, config: &RedisConfig) -> Result<Arc<Lease>, RedisError> {
    let (terms, place) = (config.lease, config.place());
    let node = Holder::name_alone(&config.node);
    let began = Asked::now();
    loop {
        let asked = Asked::now();
        let why = match server.ask_lease(&node, terms.length).await {
            Ok(Given::Taken(epoch)) => return Ok(Lease::taken(terms, epoch, asked)),
            Ok(Given::Newer(found)) => {
                return Err(RedisError::NewerVersion { found, known: VERSION });
            }
            Ok(Given::Gone) => return Err(RedisError::Unusable { place, why: GONE.into() }),
            Err(Fault::Fatal(why)) => return Err(RedisError::Unusable { place, why }),
            Ok(Given::Held { holder, left }) => {
                RedisError::InUse { place: place.clone(), holder, left }
            }
            Err(Fault::Passes(why)) => RedisError::Unreachable { place: place.clone(), why },
        };
        let left = (terms.length + AGAIN).saturating_sub(began.ago());
        if left.is_zero() {
            return Err(why);
        }
        tokio::time::sleep(left.min(AGAIN)).await;
    }
}

/// A namespace of a Redis server that several routers share; nothing is connected yet.
#[must_use]
pub fn shared(config: RedisConfig) -> Arc<dyn SharedStore> {
    let (terms, place) = (config.lease, config.place());
    let connect = move || {
        let config = config.clone();
        async move {
            let server = Server::connect(&config).await.map_err(|error| error.to_string())?;
            let durability = server.durability();
            Ok((server, durability))
        }
        .boxed()
    };
    Arc::new(SharedLedger::new(Box::new(connect), terms, place))
}
