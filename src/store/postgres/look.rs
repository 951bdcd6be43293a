//! A schema that is looked at, without its lock.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use tokio_postgres::Client;

use super::connect::Connector;
use super::reader::Reader;
use super::{PostgresConfig, PostgresError, SCHEMA_VERSION, rows};
use crate::order::{ClientRef, OrderId};
use crate::store::look::{Figures, Look};
use crate::store::{Bookmark, Claim, Grade, Page, Rehydration, StoreError, Stored};

/// Looks at a schema, without its lock, whatever the server's settings are. No table is made or
/// changed.
///
/// # Errors
/// See [`PostgresError`].
pub async fn look(mut config: PostgresConfig) -> Result<Box<dyn Look>, PostgresError> {
    config.accept_unsynced = true;
    let (place, url) = (config.place(), config.url());
    let connector = Connector::new(config, super::connect::Sharing::Alone);
    let link = connector.reading().await?;
    let version = version(&link.client, &place).await?;
    if version > SCHEMA_VERSION {
        return Err(PostgresError::NewerVersion { found: version, known: SCHEMA_VERSION });
    }
    if version < SCHEMA_VERSION {
        let why = match version {
            0 => "there is no store in this schema".to_owned(),
            _ => format!(
                "its tables are of version {version}: the next start of a router brings them to \
                 version {SCHEMA_VERSION}"
            ),
        };
        return Err(PostgresError::Unusable { place, why });
    }
    let grade = grade(&link.client).await.map_err(|e| PostgresError::of(&place, &e))?;
    Ok(Box::new(Looked { reader: Arc::new(Reader::new(connector)), grade, url }))
}

/// Zero: there are no tables.
async fn version(client: &Client, place: &str) -> Result<i32, PostgresError> {
    let of = |e| PostgresError::of(place, &e);
    let there = "SELECT to_regclass('order_router_schema') IS NOT NULL";
    if !client.query_one(there, &[]).await.and_then(|row| row.try_get(0)).map_err(of)? {
        return Ok(0);
    }
    let version = client.query_one("SELECT max(version) FROM order_router_schema", &[]).await;
    let version = version.and_then(|row| row.try_get::<_, Option<i32>>(0)).map_err(of)?;
    Ok(version.unwrap_or(0))
}

/// As a router's session would have it: that raises what can be raised.
async fn grade(client: &Client) -> Result<Grade, tokio_postgres::Error> {
    let weak = "SELECT 'off' IN (current_setting('fsync'), current_setting('full_page_writes'), \
        current_setting('synchronous_commit'))";
    let weak: bool = client.query_one(weak, &[]).await?.try_get(0)?;
    Ok(if weak { Grade::POSTGRES_UNSYNCED } else { Grade::POSTGRES })
}

struct Looked {
    reader: Arc<Reader>,
    grade: Grade,
    url: String,
}

const FIGURES: &str = "SELECT changes, ended, (SELECT count(*) FROM order_intents \
    WHERE active AND resolved_at IS NULL) FROM order_router WHERE one = $1";

impl Look for Looked {
    fn find(&self, client_ref: ClientRef) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        self.reader.find(client_ref).boxed()
    }

    fn claims(&self, ids: Vec<OrderId>) -> BoxFuture<'_, Result<Vec<Option<Claim>>, StoreError>> {
        self.reader.claims(ids).boxed()
    }

    fn rehydrate(&self) -> BoxFuture<'_, Result<Rehydration, StoreError>> {
        self.reader.rehydrate().boxed()
    }

    fn read_through(&self, from: Bookmark) -> BoxFuture<'_, Result<Page, StoreError>> {
        async move { self.reader.read_some(&from).await }.boxed()
    }

    fn figures(&self) -> BoxFuture<'_, Result<Figures, StoreError>> {
        async move {
            let found = self.reader.query(FIGURES, true).await?;
            let row = found.first().ok_or_else(|| rows::unreadable("the router's row is gone"))?;
            let number = |at: usize| {
                let count = row.try_get::<_, i64>(at).map_err(rows::unreadable)?;
                Ok::<_, StoreError>(u64::try_from(count).unwrap_or(0))
            };
            Ok(Figures { changes: number(0)?, ended: number(1)?, open: number(2)? })
        }
        .boxed()
    }

    fn grade(&self) -> Grade {
        self.grade
    }

    fn place(&self) -> String {
        self.url.clone()
    }
}
