//! The lease of a schema: columns of the router's row, by the server's clock.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

use super::PostgresError;
use super::connect::Connector;
use super::error::Fault;
use super::reader::Reader;
use crate::store::lease::{Asked, Lease, LeaseTerms};

/// Takes the router's row, if nobody's lease lasts; the epoch. Without a lease of its own a router
/// also waits until what a former holder may have sent has left it.
const TAKE: &str = "UPDATE order_router SET owner = $1, epoch = epoch + 1, \
    lease_until = clock_timestamp() + $2::text::interval, lease_pause = $3::text::interval \
    WHERE lease_until IS NULL OR lease_until + CASE WHEN $2::text IS NULL THEN lease_pause \
    ELSE interval '0' END < clock_timestamp() RETURNING epoch";

const RENEW: &str = "UPDATE order_router SET lease_until = clock_timestamp() + $2::text::interval \
    WHERE owner = $1 AND lease_until IS NOT NULL";

const RELEASE: &str =
    "UPDATE order_router SET lease_until = NULL, lease_pause = NULL WHERE owner = $1";

/// Whether the lease of whoever has the lock has ended. Without one it never ends.
const ENDED: &str = "SELECT lease_until < clock_timestamp() FROM order_router";

const END_HOLDER: &str = "SELECT pg_terminate_backend($1)";

fn interval(span: Duration) -> String {
    format!("{} milliseconds", span.as_millis())
}

impl Connector {
    /// Ends the session that holds the lock, if its lease has ended: its process is stopped, cut off
    /// or gone, and its gate has closed. A server that knows no lease of it says no.
    pub(super) async fn ends(&self, client: &Client, pid: i32) -> bool {
        if self.config.lease.is_none() || self.enter(client).await.is_err() {
            return false;
        }
        let ended = client.query_opt(ENDED, &[]).await.ok().flatten();
        let ended = ended.and_then(|row| row.try_get::<_, Option<bool>>(0).ok()).flatten();
        ended == Some(true) && client.execute(END_HOLDER, &[&pid]).await.is_ok()
    }

    /// Makes the router's row this store's; the lease, if there is to be one.
    pub(super) async fn take(&self, client: &Client) -> Result<Option<Arc<Lease>>, PostgresError> {
        let terms = self.config.lease;
        let (length, pause) =
            (terms.map(|t| interval(t.length)), terms.map(|t| interval(t.pause_max)));
        let asked = Asked::now();
        let taken = client.query_opt(TAKE, &[&self.owner, &length, &pause]).await;
        let Some(row) = taken.map_err(|e| PostgresError::of(&self.place, &e))? else {
            let rows = client.query_one("SELECT count(*) FROM order_router", &[]).await;
            let rows: i64 = rows
                .and_then(|row| row.try_get(0))
                .map_err(|e| PostgresError::of(&self.place, &e))?;
            let place = self.place.clone();
            if rows == 0 {
                let why = "the table order_router has no row: was it emptied? Put a backup back";
                return Err(PostgresError::Unusable { place, why: why.into() });
            }
            return Err(PostgresError::InUse { place, pid: None });
        };
        let epoch: i64 = row.try_get(0).map_err(|e| PostgresError::of(&self.place, &e))?;
        let epoch = u64::try_from(epoch).unwrap_or(0);
        Ok(terms.map(|terms| Lease::taken(terms, epoch, asked)))
    }

    /// Gives the row back. What fails is not repeated: a lease ends by itself.
    pub(super) async fn release(&self, client: &Client) {
        let release = async { client.execute(RELEASE, &[&self.owner]).await };
        let _ = tokio::time::timeout(self.config.reply_timeout, release).await;
    }
}

/// Prolongs the lease until another has it.
pub(super) async fn renew(reader: Arc<Reader>, lease: Arc<Lease>, owner: String) {
    let LeaseTerms { length, .. } = lease.terms();
    let prolong = move || {
        let (reader, owner) = (reader.clone(), owner.clone());
        async move {
            let rows = reader.execute_once(RENEW, (owner, interval(length))).await;
            rows.map(|rows| rows == 1).map_err(|fault| match fault {
                Fault::Again(why) | Fault::Reconnect(why) => why,
                Fault::Fatal(why) => why.to_string(),
            })
        }
    };
    crate::store::lease::keep(lease, prolong).await;
}
