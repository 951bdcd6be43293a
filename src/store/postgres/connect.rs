//! A session that may write: connected, checked, migrated, and the only one of its schema.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::rows::parse_moment;
use super::schema::{MIGRATIONS, SCHEMA_VERSION, VERSION_TABLE};
use super::statements::Statements;
use super::{PostgresConfig, PostgresError};
use crate::store::Holder;
use crate::store::lease::Lease;
use crate::supplier::AccountId;

/// A connection and the task that drives it.
pub(super) struct Link {
    pub(super) client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Link {
    /// Closes the socket, also one that nobody answers on.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What the row of the router says: how far its writes are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Books {
    /// The last batch.
    pub batch: i64,
    /// What its changes did.
    pub outcomes: Vec<u8>,
    /// A serial that was not used.
    pub serial_next: i64,
    /// Changes written.
    pub changes: i64,
    /// Intents that have ended.
    pub ended: i64,
    /// Intents that have not.
    pub open: i64,
    /// The newest `createdAt` of any order that an intent has.
    pub newest_known: Option<Timestamp>,
}

/// A session that may write.
pub(super) struct Session {
    pub(super) link: Link,
    pub(super) statements: Statements,
    pub(super) books: Books,
}

/// How long a store that is opened waits for a lock whose holder may just be dying.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// The first half of the advisory lock's key: every router's.
const LOCK_CLASS: i32 = 0x6f72_6472;

/// Whether others may have requests for the router that opens a store.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sharing {
    /// It reads none.
    Alone,
    /// It buys on this account.
    With(Option<AccountId>),
}

/// Opens sessions of one store in one process.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) config: PostgresConfig,
    /// Names this store in this process, in the owner's column and to the server.
    pub(super) owner: String,
    pub(super) place: String,
}

impl Connector {
    pub(super) fn new(config: PostgresConfig, sharing: Sharing) -> Self {
        // With all that is put behind it, 63 bytes at most: the server cuts off more.
        let id = uuid::Uuid::new_v4().as_u64_pair().1;
        let name = format!("order-router {id:016x}");
        let owner = match sharing {
            Sharing::Alone => Holder::name_alone(&name),
            Sharing::With(account) => Holder::name_shared(&name, account),
        };
        Self { place: config.place(), owner, config }
    }

    /// The first session: brings the tables up to date and takes the store over.
    pub(super) async fn open(&self) -> Result<(Session, Option<Arc<Lease>>), PostgresError> {
        let link = self.connect(&self.owner).await?;
        self.within(self.check(&link.client)).await?;
        self.within_for(LOCK_PATIENCE, self.lock(&link.client, false)).await?;
        self.within(self.migrate(&link.client)).await?;
        let lease = self.within(self.take(&link.client)).await?;
        Ok((self.session(link).await?, lease))
    }

    /// A further session, after a connection was lost: the lock is taken anew, what the old
    /// connection had under way is over, and nobody else has taken the store over.
    pub(super) async fn again(&self) -> Result<Session, PostgresError> {
        let link = self.connect(&self.owner).await?;
        self.within(self.check(&link.client)).await?;
        self.within(self.lock(&link.client, true)).await?;
        self.within(self.enter(&link.client)).await?;
        self.session(link).await
    }

    /// A session that only reads.
    pub(super) async fn reading(&self) -> Result<Link, PostgresError> {
        let link = self.connect(&format!("{} (reads)", self.owner)).await?;
        self.within(self.check(&link.client)).await?;
        self.within(self.enter(&link.client)).await?;
        Ok(link)
    }

    async fn session(&self, link: Link) -> Result<Session, PostgresError> {
        let statements = self.said(Statements::prepare(&link.client)).await?;
        let books = self.within(self.books(&link.client)).await?;
        Ok(Session { link, statements, books })
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    /// A question of the client's, in time.
    async fn said<T>(
        &self,
        asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PostgresError> {
        self.within(async { asked.await.map_err(|e| PostgresError::of(&self.place, &e)) }).await
    }

    async fn within<T>(
        &self,
        asked: impl Future<Output = Result<T, PostgresError>>,
    ) -> Result<T, PostgresError> {
        self.within_for(Duration::ZERO, asked).await
    }

    async fn within_for<T>(
        &self,
        more: Duration,
        asked: impl Future<Output = Result<T, PostgresError>>,
    ) -> Result<T, PostgresError> {
        let limit = self.config.reply_timeout + more;
        tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| {
            let why = format!("no answer within {limit:?}");
            Err(PostgresError::Unreachable { place: self.place(), why })
        })
    }

    async fn connect(&self, name: &str) -> Result<Link, PostgresError> {
        let mut config = self.config.client.clone();
        config.application_name(name).connect_timeout(self.config.connect_timeout);
        // Whoever waits for an answer is told by its question, not by the connection.
        let link = match &self.config.tls {
            None => {
                let (client, connection) = self.said(config.connect(NoTls)).await?;
                Link { client, driver: tokio::spawn(connection.map(drop)) }
            }
            Some(tls) => {
                let tls = tls.client().map_err(|e| PostgresError::Tls(format!("{e:?}")))?;
                let connected = config.connect(MakeRustlsConnect::new(tls));
                let (client, connection) = self.said(connected).await?;
                Link { client, driver: tokio::spawn(connection.map(drop)) }
            }
        };
        for setting in SETTINGS {
            // A dialect that lacks one of them has no use for it.
            self.said(link.client.batch_execute(setting)).await.or_else(passes_only)?;
        }
        Ok(link)
    }

    /// Whether the server may be written to, and keeps what it acknowledges.
    async fn check(&self, client: &Client) -> Result<(), PostgresError> {
        let row = client.query_one(LOOK_AROUND, &[]).await;
        let row = row.map_err(|e| PostgresError::of(&self.place, &e))?;
        let setting = |at: usize| row.try_get::<_, Option<String>>(at).ok().flatten();
        if setting(0).as_deref() == Some("true") || setting(1).as_deref() == Some("on") {
            return Err(PostgresError::ReadOnly { place: self.place() });
        }
        if let Some(encoding) = setting(2).filter(|name| !name.eq_ignore_ascii_case("utf8")) {
            let why = format!("its encoding is {encoding}: make a database with encoding UTF8");
            return Err(PostgresError::Unusable { place: self.place(), why });
        }
        for (at, name) in [(3, "fsync"), (4, "full_page_writes"), (5, "synchronous_commit")] {
            let weak = setting(at).filter(|value| value == "off");
            if weak.is_some() && !self.config.accept_unsynced {
                let setting = format!("{name}=off");
                return Err(PostgresError::Unsynced { place: self.place(), setting });
            }
        }
        Ok(())
    }

    /// Takes the store's lock, which this session keeps until it ends.
    async fn lock(&self, client: &Client, again: bool) -> Result<(), PostgresError> {
        let digest = Sha256::digest(self.config.schema.as_bytes());
        let object = i32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        let of = |e| PostgresError::of(&self.place, &e);
        if again {
            // Sessions of ours that the server still believes in. One that is writing finishes or
            // is rolled back; its lock goes with it.
            let _ = client.execute(END_OLD, &[&self.owner]).await;
        }
        let mut waited = Duration::ZERO;
        // Where the lock is shared, whoever asks will ask again, and one who only asks has the lock
        // for a moment: the holder of the lease, back after its connection was lost, waits for it.
        let shared = self.config.lease.is_some();
        let patience = if shared && !again { Duration::ZERO } else { LOCK_PATIENCE };
        loop {
            let try_lock = "SELECT pg_try_advisory_lock($1, $2)";
            let taken = client.query_one(try_lock, &[&LOCK_CLASS, &object]).await;
            if taken.and_then(|row| row.try_get(0)).map_err(of)? {
                return Ok(());
            }
            let holder = client.query_opt(HOLDER, &[&LOCK_CLASS, &object]).await.map_err(of)?;
            let pid = holder.as_ref().and_then(|row| row.try_get::<_, i32>(0).ok());
            let name = holder.as_ref().and_then(|row| row.try_get::<_, String>(1).ok());
            let ours = name.is_none_or(|name| name == self.owner);
            if again && ours && waited >= LOCK_PATIENCE {
                let why = "the server still serves a lost connection of ours".to_owned();
                return Err(PostgresError::Failed { place: self.place(), why });
            }
            if let Some(pid) = pid.filter(|_| !again)
                && self.ends(client, pid).await
            {
                tracing::warn!(place = self.place, "the lease of another router has ended");
            } else if waited >= patience || (again && !ours && !shared) {
                return Err(PostgresError::InUse { place: self.place(), pid });
            }
            tokio::time::sleep(LOCK_INTERVAL).await;
            waited += LOCK_INTERVAL;
        }
    }

    /// Makes the schema's tables the ones that are meant.
    pub(super) async fn enter(&self, client: &Client) -> Result<(), PostgresError> {
        let path = format!("SET search_path TO {}", self.config.schema);
        client.batch_execute(&path).await.map_err(|e| PostgresError::of(&self.place, &e))
    }

    async fn migrate(&self, client: &Client) -> Result<(), PostgresError> {
        let of = |e| PostgresError::of(&self.place, &e);
        let known = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1";
        if client.query_opt(known, &[&self.config.schema]).await.map_err(of)?.is_none() {
            let create = format!("CREATE SCHEMA {}", self.config.schema);
            client.batch_execute(&create).await.map_err(of)?;
        }
        self.enter(client).await?;
        client.batch_execute(VERSION_TABLE).await.map_err(of)?;
        let version = client.query_one("SELECT max(version) FROM order_router_schema", &[]).await;
        let found = version.and_then(|row| row.try_get::<_, Option<i32>>(0)).map_err(of)?;
        let found = found.unwrap_or(0);
        if found > SCHEMA_VERSION {
            return Err(PostgresError::NewerVersion { found, known: SCHEMA_VERSION });
        }
        for (version, migration) in (1..).zip(MIGRATIONS).skip(usize::try_from(found).unwrap_or(0))
        {
            let step = format!(
                "BEGIN; {migration}; INSERT INTO order_router_schema (version) \
                 VALUES ({version}); COMMIT"
            );
            client.batch_execute(&step).await.map_err(of)?;
        }
        Ok(())
    }

    /// What the router's row says. Waits for a transaction of the old session that is still under
    /// way: it holds the row. To lock the row is a write, so where a standby has to have every commit,
    /// what is read here is answered only once the standby has it.
    async fn books(&self, client: &Client) -> Result<Books, PostgresError> {
        let of = |e| PostgresError::of(&self.place, &e);
        let row = client.query_one(BOOKS, &[]).await.map_err(of)?;
        let owner: String = row.try_get(0).map_err(of)?;
        if owner != self.owner {
            return Err(PostgresError::InUse { place: self.place(), pid: None });
        }
        let newest: Option<String> = row.try_get(6).map_err(of)?;
        let newest = newest.map(|text| parse_moment(&text)).transpose();
        let count = "SELECT count(*) FROM order_intents WHERE active AND resolved_at IS NULL";
        Ok(Books {
            batch: row.try_get(1).map_err(of)?,
            outcomes: row.try_get(2).map_err(of)?,
            serial_next: row.try_get(3).map_err(of)?,
            changes: row.try_get(4).map_err(of)?,
            ended: row.try_get(5).map_err(of)?,
            open: client.query_one(count, &[]).await.map_err(of)?.try_get(0).map_err(of)?,
            newest_known: newest.map_err(|error| PostgresError::Unusable {
                place: self.place(),
                why: error.to_string(),
            })?,
        })
    }
}

/// A setting that the server does not know is no error; a server that is gone is.
fn passes_only(error: PostgresError) -> Result<(), PostgresError> {
    match error {
        PostgresError::Failed { .. } | PostgresError::Unusable { .. } => Ok(()),
        other => Err(other),
    }
}

const SETTINGS: [&str; 10] = [
    // Stronger settings stay as they are.
    "SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')",
    "SET lock_timeout = '5s'",
    // A session of ours that was cut off in a transaction must not hold the router's row for ever.
    "SET idle_in_transaction_session_timeout = '30s'",
    "SET tcp_keepalives_idle = 15",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    // A plan that was made while the table was small would read all of it for ever after.
    "SET enable_seqscan = off",
    "SET jit = off",
    "SET client_encoding = 'UTF8'",
    "SET default_transaction_isolation = 'read committed'",
];

const LOOK_AROUND: &str = "SELECT pg_is_in_recovery()::text, \
    current_setting('transaction_read_only', true), current_setting('server_encoding', true), \
    current_setting('fsync', true), current_setting('full_page_writes', true), \
    current_setting('synchronous_commit', true)";

const END_OLD: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE application_name = $1 AND usename = current_user AND pid <> pg_backend_pid()";

const HOLDER: &str = "SELECT l.pid, a.application_name FROM pg_locks AS l \
    LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid \
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 \
    AND l.classid::bigint = $1::int4::bigint AND l.objid::bigint = $2::int4::bigint & 4294967295 \
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1";

const BOOKS: &str = "SELECT owner, batch, outcomes, serial_next, changes, ended, newest_known \
    FROM order_router FOR UPDATE";
