//! Several routers on one schema: the lease, and requests passed on in a table.

use std::sync::{Arc, OnceLock};

use futures_util::future::{BoxFuture, FutureExt};

use super::connect::{Connector, Sharing};
use super::reader::Reader;
use super::{PostgresConfig, PostgresError, PostgresStore, rows};
use crate::order::ClientRef;
use crate::store::{Holder, IntentStore, Request, SettledRequest, SharedStore, StoreError, Stored};
use crate::supplier::AccountId;

const PUT: &str = "INSERT INTO order_router_requests (key, asked) \
    SELECT * FROM unnest($1::text[], $2::bytea[]) ON CONFLICT (key) DO UPDATE \
    SET asked = excluded.asked, asked_at = now(), reply = NULL \
    WHERE order_router_requests.reply IS NOT NULL";

/// Whoever has the lease.
const HOLDER: &str = "SELECT owner FROM order_router WHERE lease_until > clock_timestamp() AND $1";

const REQUESTS: &str = "SELECT key, asked FROM order_router_requests WHERE reply IS NULL \
    ORDER BY asked_at LIMIT $1";

const DONE: &str = "DELETE FROM order_router_requests WHERE key = ANY($1) \
    OR (reply IS NOT NULL AND asked_at < now() - interval '10 minutes')";

const REPLY: &str = "UPDATE order_router_requests AS r SET reply = u.reply, asked_at = now() \
    FROM unnest($1::text[], $2::bytea[]) AS u (key, reply) WHERE r.key = u.key";

const REPLIES: &str =
    "SELECT key, reply FROM order_router_requests WHERE key = ANY($1) AND reply IS NOT NULL";

/// A schema of a Postgres database that several routers share.
pub struct SharedPostgres {
    config: PostgresConfig,
    reader: Arc<Reader>,
    account: OnceLock<AccountId>,
}

impl std::fmt::Debug for SharedPostgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedPostgres").field("config", &self.config).finish_non_exhaustive()
    }
}

impl SharedPostgres {
    /// Names the schema; nothing is connected yet. Without terms in the configuration, the lease has
    /// the default ones.
    #[must_use]
    pub fn new(mut config: PostgresConfig) -> Self {
        config.lease = Some(config.lease.unwrap_or_default());
        let reader = Arc::new(Reader::new(Connector::new(config.clone(), Sharing::With(None))));
        Self { config, reader, account: OnceLock::new() }
    }
}

impl SharedStore for SharedPostgres {
    fn introduce(&self, account: AccountId) {
        let _ = self.account.set(account);
    }

    fn holder(&self) -> BoxFuture<'static, Result<Option<Holder>, StoreError>> {
        let reader = self.reader.clone();
        async move {
            let found = reader.query(HOLDER, true).await?;
            let name = found.first().map(|row| row.try_get::<_, String>(0)).transpose();
            Ok(name.map_err(rows::unreadable)?.map(|name| Holder::named(&name)))
        }
        .boxed()
    }

    fn open(&self) -> BoxFuture<'static, Result<Option<Arc<dyn IntentStore>>, StoreError>> {
        let (config, account) = (self.config.clone(), self.account.get().copied());
        async move {
            match PostgresStore::open_now(config, Sharing::With(account)).await {
                Ok(store) => Ok(Some(Arc::new(store) as Arc<dyn IntentStore>)),
                Err(PostgresError::InUse { .. }) => Ok(None),
                Err(error) => Err(StoreError::Failed(error.to_string().into())),
            }
        }
        .boxed()
    }

    fn find(
        &self,
        refs: Vec<ClientRef>,
    ) -> BoxFuture<'static, Result<Vec<Option<Stored>>, StoreError>> {
        let reader = self.reader.clone();
        async move { reader.find_all(&refs).await }.boxed()
    }

    fn put_requests(&self, requests: Vec<Request>) -> BoxFuture<'static, Result<(), StoreError>> {
        let reader = self.reader.clone();
        async move {
            let (keys, orders): (Vec<_>, Vec<_>) =
                requests.into_iter().map(|request| (request.key, request.order)).unzip();
            reader.execute(PUT, (keys, orders)).await
        }
        .boxed()
    }

    fn requests(&self, most: usize) -> BoxFuture<'static, Result<Vec<Request>, StoreError>> {
        let reader = self.reader.clone();
        async move {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let found = reader.query(REQUESTS, most).await?;
            let read = |row: &tokio_postgres::Row| {
                Ok(Request { key: row.try_get(0)?, order: row.try_get(1)? })
            };
            found
                .iter()
                .map(|row| {
                    read(row).map_err(|error: tokio_postgres::Error| rows::unreadable(error))
                })
                .collect()
        }
        .boxed()
    }

    fn settle_requests(
        &self,
        settled: Vec<SettledRequest>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let reader = self.reader.clone();
        async move {
            let (mut done, mut replied, mut replies) = (Vec::new(), Vec::new(), Vec::new());
            for (key, reply) in settled {
                match reply {
                    None => done.push(key),
                    Some(reply) => {
                        replied.push(key);
                        replies.push(reply);
                    }
                }
            }
            if !replied.is_empty() {
                reader.execute(REPLY, (replied, replies)).await?;
            }
            reader.execute_one(DONE, done).await
        }
        .boxed()
    }

    fn replies(
        &self,
        keys: Vec<String>,
    ) -> BoxFuture<'static, Result<Vec<Option<Vec<u8>>>, StoreError>> {
        let reader = self.reader.clone();
        async move {
            let found = reader.query(REPLIES, keys.clone()).await?;
            let mut replies = std::collections::BTreeMap::<String, Vec<u8>>::new();
            for row in &found {
                let key = row.try_get(0).map_err(rows::unreadable)?;
                replies.insert(key, row.try_get(1).map_err(rows::unreadable)?);
            }
            Ok(keys.iter().map(|key| replies.remove(key)).collect())
        }
        .boxed()
    }

    fn place(&self) -> String {
        self.config.place()
    }
}
