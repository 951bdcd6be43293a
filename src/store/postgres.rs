//! The store in a Postgres database: every guard is decided by SQL, in the transaction that writes.
//!
//! ```text
//! callers ──changes──▶ queue ──what is waiting──▶ writer: one transaction, answered after COMMIT
//!    └────questions──▶ reader: a connection of its own
//! ```
//!
//! One schema is one account. One router has it at a time: its writing session holds an advisory
//! lock, every transaction checks that the router's row still names it, and it sends only while its
//! lease lasts. All connections are plain TCP: there is no TLS for Postgres in this build.
//!
//! Whoever collects `log` records of `tokio_postgres` at the level debug gets the parameters of
//! statements, notes of orders included.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::lease::Asked;
use super::remote::{Remote, Started};
use super::{
    Bookmark, Claim, Committed, Durability, IntentStore, Known, Lease, Page, Rehydration,
    StoreError, StoreStats, Stored,
};
use crate::order::{ClientRef, OrderId};
use crate::protocol::{Change, Serial};

mod adopt;
mod config;
mod connect;
mod error;
mod lease;
mod look;
mod reader;
mod rows;
mod schema;
mod shared;
mod spent;
mod statements;
mod writer;

pub use config::PostgresConfig;
use connect::{Connector, Sharing};
pub use error::PostgresError;
pub use look::look;
use reader::Reader;
pub use schema::SCHEMA_VERSION;
pub use shared::SharedPostgres;
use writer::Writer;

/// How often a schema that another router has is asked for again.
const AGAIN: Duration = Duration::from_millis(100);

/// The [`IntentStore`] of one router in one schema of a Postgres database.
///
/// An answered change survives what the server's log survives: a kill of the server and a power cut
/// with `fsync=on` (which is checked), and a failover to a standby only if it is synchronous.
pub struct PostgresStore {
    remote: Remote,
    reader: Arc<Reader>,
    lease: Option<Arc<Lease>>,
    unsynced: bool,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects, makes or brings up to date the tables, and takes the schema for this router. Under a
    /// lease, another router's is waited for as long as one lasts: it may have been killed.
    ///
    /// The store has a thread of its own: it works from any runtime.
    ///
    /// # Errors
    /// See [`PostgresError`]; in every case nothing may be sent.
    pub async fn open(config: PostgresConfig) -> Result<Self, PostgresError> {
        let patience = config.lease.map_or(Duration::ZERO, |terms| terms.length + AGAIN);
        let began = Asked::now();
        loop {
            match Self::open_now(config.clone(), Sharing::Alone).await {
                Err(PostgresError::InUse { .. }) if began.ago() < patience => {
                    tokio::time::sleep(AGAIN).await;
                }
                opened => return opened,
            }
        }
    }

    /// The same; a schema that another router has is not waited for.
    async fn open_now(config: PostgresConfig, sharing: Sharing) -> Result<Self, PostgresError> {
        let (unsynced, batch_max) = (config.accept_unsynced, config.batch_max);
        let place = config.place();
        let lost = move |why: String| PostgresError::Failed { place: place.clone(), why };
        let name = "order-router-postgres";
        let opened = Remote::open(name, batch_max, move || start(config, sharing), lost).await?;
        let (remote, (reader, lease)) = opened;
        Ok(Self { remote, reader, lease, unsynced })
    }
}

async fn start(
    config: PostgresConfig,
    sharing: Sharing,
) -> Result<Started<Writer, (Arc<Reader>, Option<Arc<Lease>>)>, PostgresError> {
    let connector = Connector::new(config, sharing);
    let (session, lease) = connector.open().await?;
    let reader = Arc::new(Reader::new(connector.clone()));
    let renewing = lease.as_ref().map(|lease| {
        // A connection of its own: it is not to wait for questions.
        let own = Arc::new(Reader::new(connector.clone()));
        tokio::spawn(lease::renew(own, lease.clone(), connector.owner.clone()))
    });
    let number = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(Started {
        next_serial: number(session.books.serial_next).max(1),
        open: number(session.books.open),
        ended: number(session.books.ended),
        writer: Writer::new(connector, session, lease.clone(), renewing),
        reader: (reader, lease),
    })
}

impl IntentStore for PostgresStore {
    fn next_serial(&self) -> Serial {
        self.remote.next_serial()
    }

    fn commit(&self, change: Change) -> BoxFuture<'static, Result<Committed, StoreError>> {
        self.remote.commit(change)
    }

    fn find(
        &self,
        client_ref: ClientRef,
    ) -> BoxFuture<'static, Result<Option<Stored>, StoreError>> {
        let reader = self.reader.clone();
        self.remote.ask(async move { reader.find(client_ref).await })
    }

    fn claims(
        &self,
        ids: Vec<OrderId>,
    ) -> BoxFuture<'static, Result<Vec<Option<Claim>>, StoreError>> {
        let reader = self.reader.clone();
        self.remote.ask(async move { reader.claims(ids).await })
    }

    fn rehydrate(&self) -> BoxFuture<'static, Result<Rehydration, StoreError>> {
        let reader = self.reader.clone();
        self.remote.ask(async move { reader.rehydrate().await })
    }

    fn known_since(&self, since: Serial) -> BoxFuture<'static, Result<Vec<Known>, StoreError>> {
        let reader = self.reader.clone();
        self.remote.ask(async move { reader.known_since(since).await })
    }

    fn read_through(&self, from: Bookmark) -> BoxFuture<'static, Result<Page, StoreError>> {
        let reader = self.reader.clone();
        self.remote.ask(async move { reader.read_some(&from).await })
    }

    fn stats(&self) -> StoreStats {
        self.remote.stats()
    }

    fn durability(&self) -> Durability {
        if self.unsynced { Durability::Unsynced } else { Durability::Synced }
    }

    fn lease(&self) -> Option<Arc<Lease>> {
        self.lease.clone()
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.remote.close()
    }
}
