//! The store in a table of DynamoDB: the router decides, one transaction per batch keeps.
//!
//! ```text
//! a batch = TransactWriteItems: the namespace's item, if it has the batch's epoch and count
//!           + per intent: its reference if absent, its row, its claim if absent
//! a start = Query of the active partitions with ConsistentRead, between two equal counts
//! ```
//!
//! One namespace of the table is one account. One router has it at a time, by a lease that is an item:
//! DynamoDB has no clock to ask, and clocks of nodes may differ, so whoever wants the lease watches
//! it, by its own monotonic clock, for as long as it lasts, and takes it only if it was not renewed
//! meanwhile. Whatever a former holder still sends, its epoch is not the newest: nothing is written.
//!
//! No request is repeated by the client by itself. What is repeated is a whole batch, under the same
//! token: the service answers it as the first time, and a condition keeps it from being written
//! twice after that.
//!
//! An answered change survives what the service survives: it is kept in three places before it is
//! answered. What a local server behind `endpoint` survives cannot be told; one for tests that keeps
//! all in memory forgets all, and the router stops when it sees that.
//!
//! TLS is rustls. Whoever collects `tracing` records of the crates `aws_…` and `hyper…` at the levels
//! debug and trace gets requests, notes of orders included.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{
    BehaviorVersion, Region, SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls;
use futures_util::future::FutureExt;

use super::ledger::{
    Backend, Batch, Fault, Kept, LedgerLook, LedgerStore, SealedClaim, SharedLedger,
};
use super::look::Look;
use super::{Bookmark, Durability, Grade, IntentStore, Lease, SharedStore, StoreError};
use crate::order::{ClientRef, OrderId};
use crate::protocol::Serial;

mod config;
mod create;
mod error;
mod items;
mod lease;
mod read;
mod reading;
mod requests;
#[cfg(test)]
mod tests;
mod write;

pub use aws_sdk_dynamodb::config::{Credentials, ProvideCredentials};
pub use config::DynamoDbConfig;
pub use create::create_table;
pub use error::DynamoDbError;
use error::Trouble;
use items::{Item, Key, Keys, Meta};

/// The version of what is kept in a namespace.
pub const FORMAT_VERSION: u64 = 1;

/// One namespace of a table.
#[derive(Clone)]
pub(crate) struct Table {
    client: Client,
    config: Arc<DynamoDbConfig>,
    provider: SharedCredentialsProvider,
    name: String,
    keys: Keys,
    place: String,
    retention: Duration,
    remembered: Arc<Remembered>,
}

/// What this process knows beside.
#[derive(Default)]
struct Remembered {
    /// In the tokens of this process's batches: no other process's is the same.
    nonce: uuid::Uuid,
    /// The lease of another node, as it was first seen.
    watched: Mutex<Option<lease::Watched>>,
    /// The newest batch and when its bodies expire: a repeated one is the same to the letter.
    expiry: Mutex<Option<(String, i64)>>,
    /// The request that was read last.
    cursor: Mutex<Option<String>>,
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn client(config: &DynamoDbConfig, credentials: SharedCredentialsProvider) -> Client {
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(provider).build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(config.connect_timeout)
        .operation_timeout(config.connect_timeout + config.reply_timeout)
        .operation_attempt_timeout(config.connect_timeout + config.reply_timeout)
        .read_timeout(config.reply_timeout)
        .build();
    let mut settings = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .region(Region::new(config.region.clone()))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    settings.set_endpoint_url(config.endpoint.clone());
    Client::from_conf(settings.build())
}

impl Table {
    /// Looks whether the table is there, lets us in and is of a version that is known.
    pub(crate) async fn connect(config: &DynamoDbConfig) -> Result<Self, DynamoDbError> {
        if let Some(wrong) = config.lease.wrong() {
            return Err(DynamoDbError::Terms(wrong));
        }
        let table = Self::at(config)?;
        let unusable = |why| DynamoDbError::Unusable { place: config.place(), why };
        let item = table.get(table.keys.meta()).await.map_err(|error| error.opening(config))?;
        let meta = match item.as_ref().map(Meta::read) {
            None => return Ok(table),
            Some(Ok(meta)) => meta,
            Some(Err(Fault::Passes(why) | Fault::Fatal(why))) => return Err(unusable(why)),
        };
        if meta.version > FORMAT_VERSION {
            let (found, known) = (meta.version, FORMAT_VERSION);
            return Err(DynamoDbError::NewerVersion { found, known });
        }
        Ok(table)
    }

    fn at(config: &DynamoDbConfig) -> Result<Self, DynamoDbError> {
        let provider = config.provider()?;
        let remembered = Remembered { nonce: uuid::Uuid::new_v4(), ..Remembered::default() };
        Ok(Self {
            client: client(config, provider.clone()),
            config: Arc::new(config.clone()),
            provider,
            name: config.table.clone(),
            keys: Keys(config.namespace.clone()),
            place: config.place(),
            retention: config.retention,
            remembered: Arc::new(remembered),
        })
    }

    /// One item, as of the last write.
    async fn get(&self, key: Key) -> Result<Option<Item>, Trouble> {
        let asked = self.client.get_item().table_name(&self.name).set_key(Some(key.item()));
        Ok(asked.consistent_read(true).send().await?.item)
    }

    async fn meta(&self) -> Result<Option<Meta>, Fault> {
        let item = self.get(self.keys.meta()).await.map_err(Trouble::fault)?;
        item.as_ref().map(Meta::read).transpose()
    }
}

impl Backend for Table {
    const ROWS_MAX: usize = write::ROWS_MAX;

    async fn write(&self, batch: &Batch) -> Result<(), Fault> {
        self.write_batch(batch).await
    }

    async fn is_ours(&self, epoch: u64) -> Result<bool, Fault> {
        Ok(self.meta().await?.is_some_and(|meta| meta.epoch == epoch))
    }

    async fn load(&self) -> Result<Kept, Fault> {
        self.read_all().await
    }

    async fn rows(&self, refs: &[ClientRef]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        self.read_rows(refs).await
    }

    async fn claims(&self, ids: &[OrderId]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        self.read_claims(ids).await
    }

    async fn claims_since(&self, since: Serial) -> Result<Vec<SealedClaim>, Fault> {
        self.read_claims_since(since).await
    }

    async fn some(&self, from: &Bookmark) -> Result<(Vec<Vec<u8>>, Option<Bookmark>), Fault> {
        self.read_some(from).await
    }

    async fn renew(&self, lease: &Lease) -> Result<bool, Fault> {
        self.renew_lease(lease.epoch()).await
    }

    async fn release(&self, epoch: u64) {
        self.release_lease(epoch).await;
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn give_up_after(&self) -> Duration {
        self.config.give_up_after
    }

    fn afresh(&self) -> Self {
        Self { client: client(&self.config, self.provider.clone()), ..self.clone() }
    }
}

/// A namespace of a table that several routers share; nothing is connected yet.
#[must_use]
pub fn shared(config: DynamoDbConfig) -> Arc<dyn SharedStore> {
    let (terms, place) = (config.lease, config.place());
    let connect = move || {
        let config = config.clone();
        async move {
            let table = Table::connect(&config).await.map_err(|error| error.to_string())?;
            Ok((table, Durability::Synced))
        }
        .boxed()
    };
    Arc::new(SharedLedger::new(Box::new(connect), terms, place))
}

/// Looks at a namespace, without its lease.
///
/// # Errors
/// [`DynamoDbError`].
pub async fn look(config: &DynamoDbConfig) -> Result<Box<dyn Look>, DynamoDbError> {
    let backend = Table::connect(config).await?;
    let grade = match config.endpoint {
        None => Grade::DYNAMODB,
        Some(_) => Grade::DYNAMODB_ENDPOINT,
    };
    Ok(Box::new(LedgerLook { backend, grade, place: config.url() }))
}

/// Opens the store for this router alone.
///
/// If another router has the store, this waits until that one's lease has ended or was seen to be
/// renewed, and so for a little longer than a lease at most.
///
/// # Errors
/// [`DynamoDbError`]; nothing was decided or sent.
pub async fn open(config: DynamoDbConfig) -> Result<Arc<dyn IntentStore>, DynamoDbError> {
    let table = Table::connect(&config).await?;
    let lease = table.take(&config).await?;
    let epoch = lease.epoch();
    let store = LedgerStore::open(table.afresh(), Some(lease), Durability::Synced);
    match store.await {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => {
            table.release(epoch).await;
            let place = config.place();
            let why = match error {
                StoreError::Failed(why) => why.to_string(),
                other => other.to_string(),
            };
            Err(DynamoDbError::Unusable { place, why })
        }
    }
}
