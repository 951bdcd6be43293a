//! The store in one file of redb: an embedded store beside the journal with sled, of another make.
//!
//! Each batch is one transaction, durable when it returns. redb's file is one process's at a time.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::ledger::{Backend, Batch, Fault, Kept, LedgerLook, LedgerStore, SealedClaim};
use super::look::Look;
use super::{Bookmark, Durability, Grade, IntentStore, Lease, StoreError};
use crate::order::{ClientRef, OrderId};
use crate::protocol::Serial;

#[cfg(test)]
mod tests;

/// Standing and account.
const BOOKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("books");
/// How many changes there are.
const COUNT: TableDefinition<'_, (), u64> = TableDefinition::new("count");
/// Rows by reference.
const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");
/// The references of active rows.
const ACTIVE: TableDefinition<'_, &str, ()> = TableDefinition::new("active");
/// Claims by order.
const CLAIMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("claims");
/// Orders by when they were claimed.
const CLAIMED: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("claimed");

/// Rows that are read at once.
const PAGE: usize = 1024;

/// Why a file was not opened.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum RedbError {
    /// Another process has it. Stop that, or use another file and another account.
    #[error("another process has the store {place}")]
    InUse {
        /// The file.
        place: String,
    },
    /// It cannot be opened or read.
    #[error("the store {place} was not opened: {why}")]
    Unusable {
        /// The file.
        place: String,
        /// Why.
        why: String,
    },
}

#[derive(Clone)]
struct File {
    database: Arc<Database>,
    place: String,
}

fn fatal(error: impl Into<redb::Error>) -> Fault {
    Fault::Fatal(error.into().to_string())
}

impl File {
    /// Runs what blocks off the store's own thread.
    async fn run<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, Fault> {
        let database = self.database.clone();
        let done = tokio::task::spawn_blocking(move || run(&database)).await;
        done.map_err(|error| Fault::Fatal(error.to_string()))?.map_err(fatal)
    }
}

/// Whether a batch went in.
enum Put {
    In,
    No(String),
}

fn put(database: &Database, batch: &Batch) -> Result<Put, redb::Error> {
    let write = database.begin_write()?;
    {
        let mut count = write.open_table(COUNT)?;
        let holds = count.get(())?.map_or(0, |count| count.value());
        if holds == batch.to && batch.to > batch.from {
            return Ok(Put::In);
        }
        if holds != batch.from {
            return Ok(Put::No(format!("it holds {holds} changes and not {}", batch.from)));
        }
        count.insert((), batch.to)?;
        let mut books = write.open_table(BOOKS)?;
        books.insert("standing", batch.standing.as_slice())?;
        if let Some(account) = &batch.account {
            books.insert("account", account.as_slice())?;
        }
        let (mut rows, mut active) = (write.open_table(ROWS)?, write.open_table(ACTIVE)?);
        let (mut claims, mut claimed) = (write.open_table(CLAIMS)?, write.open_table(CLAIMED)?);
        for row in &batch.rows {
            let reference = row.client_ref.as_str();
            let value = row.full.as_ref().unwrap_or(&row.row);
            let before = rows.insert(reference, value.as_slice())?.is_some();
            if before && row.new {
                return Ok(Put::No(format!("the reference {reference} is there already")));
            }
            match row.active {
                true => active.insert(reference, ())?,
                false => active.remove(reference)?,
            };
            let Some(claim) = &row.claim else { continue };
            let id = claim.id.as_str();
            let other = claims
                .insert(id, claim.claim.as_slice())?
                .is_some_and(|before| before.value() != claim.claim.as_slice());
            if other {
                return Ok(Put::No(format!("the order {id} is claimed already")));
            }
            claimed.insert((claim.ended_at.0, id), ())?;
        }
    }
    write.commit()?;
    Ok(Put::In)
}

impl Backend for File {
    const ROWS_MAX: usize = 1024;

    async fn write(&self, batch: &Batch) -> Result<(), Fault> {
        let batch = batch.clone();
        match self.run(move |database| put(database, &batch)).await? {
            Put::In => Ok(()),
            Put::No(why) => Err(Fault::Fatal(why)),
        }
    }

    async fn is_ours(&self, _: u64) -> Result<bool, Fault> {
        Ok(true)
    }

    async fn load(&self) -> Result<Kept, Fault> {
        self.run(|database| {
            let read = database.begin_read()?;
            let books = read.open_table(BOOKS)?;
            let value = |name| Ok::<_, redb::Error>(books.get(name)?.map(|v| v.value().to_vec()));
            let mut kept =
                Kept { standing: value("standing")?, account: value("account")?, active: vec![] };
            let rows = read.open_table(ROWS)?;
            for entry in read.open_table(ACTIVE)?.iter()? {
                let (reference, ()) = {
                    let (key, _) = entry?;
                    (key, ())
                };
                if let Some(row) = rows.get(reference.value())? {
                    kept.active.push(row.value().to_vec());
                }
            }
            Ok(kept)
        })
        .await
    }

    async fn rows(&self, refs: &[ClientRef]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let refs = refs.to_vec();
        self.run(move |database| {
            let rows = database.begin_read()?.open_table(ROWS)?;
            refs.iter().map(|r| Ok(rows.get(r.as_str())?.map(|v| v.value().to_vec()))).collect()
        })
        .await
    }

    async fn claims(&self, ids: &[OrderId]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let ids = ids.to_vec();
        self.run(move |database| {
            let claims = database.begin_read()?.open_table(CLAIMS)?;
            ids.iter().map(|id| Ok(claims.get(id.as_str())?.map(|v| v.value().to_vec()))).collect()
        })
        .await
    }

    async fn claims_since(&self, since: Serial) -> Result<Vec<SealedClaim>, Fault> {
        self.run(move |database| {
            let read = database.begin_read()?;
            let (claims, claimed) = (read.open_table(CLAIMS)?, read.open_table(CLAIMED)?);
            let mut found = Vec::new();
            for entry in claimed.range((since.0, "")..)? {
                let key = entry?.0;
                let id = key.value().1;
                if let (Some(id), Some(claim)) = (OrderId::new(id), claims.get(id)?) {
                    found.push((id, claim.value().to_vec()));
                }
            }
            Ok(found)
        })
        .await
    }

    async fn some(&self, from: &Bookmark) -> Result<(Vec<Vec<u8>>, Option<Bookmark>), Fault> {
        let (_, after) = from.text();
        self.run(move |database| {
            let rows = database.begin_read()?.open_table(ROWS)?;
            let (mut found, mut last) = (Vec::new(), None);
            let from = (Bound::Excluded(after.as_str()), Bound::Unbounded);
            for entry in rows.range::<&str>(from)?.take(PAGE) {
                let (reference, row) = entry?;
                found.push(row.value().to_vec());
                last = Some(Bookmark::new(0, reference.value().as_bytes()));
            }
            let more = found.len() == PAGE;
            Ok((found, last.filter(|_| more)))
        })
        .await
    }

    async fn renew(&self, _: &Lease) -> Result<bool, Fault> {
        Ok(true)
    }

    async fn release(&self, _: u64) {}

    fn place(&self) -> String {
        self.place.clone()
    }
}

/// Looks at the store in a file of redb, which must be there. No router may be at work with it, and
/// none can start meanwhile: a file of redb is one process's.
///
/// # Errors
/// [`RedbError`].
pub async fn look(path: &Path) -> Result<Box<dyn Look>, RedbError> {
    let place = path.display().to_string();
    if !path.is_file() {
        return Err(RedbError::Unusable { place, why: "there is no such file".to_owned() });
    }
    let backend = opened(path).await?;
    let place = url(path);
    Ok(Box::new(LedgerLook { backend, grade: Grade::REDB, place }))
}

/// The URL of a file: with its whole path.
#[must_use]
pub fn url(path: &Path) -> String {
    format!("redb:{}", std::path::absolute(path).unwrap_or_else(|_| path.into()).display())
}

/// Opens or creates the store in a file of redb.
///
/// An answered change survives a power cut, as far as the drive keeps its word. Nothing is
/// forgotten.
///
/// # Errors
/// [`RedbError`]; nothing was changed.
pub async fn open(path: &Path) -> Result<Arc<dyn IntentStore>, RedbError> {
    let file = opened(path).await?;
    let place = file.place.clone();
    let store = LedgerStore::open(file, None, Durability::Synced).await;
    let why = |error: StoreError| RedbError::Unusable { place, why: error.to_string() };
    Ok(Arc::new(store.map_err(why)?))
}

async fn opened(path: &Path) -> Result<File, RedbError> {
    let place = path.display().to_string();
    let (path, named) = (path.to_owned(), place.clone());
    let opening = tokio::task::spawn_blocking(move || {
        let unusable = |error: redb::Error| RedbError::Unusable {
            place: named.clone(),
            why: error.to_string(),
        };
        let database = Database::create(&path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => RedbError::InUse { place: named.clone() },
            other => unusable(other.into()),
        })?;
        let tables = || {
            let write = database.begin_write()?;
            write.open_table(BOOKS)?;
            write.open_table(COUNT)?;
            write.open_table(ROWS)?;
            write.open_table(ACTIVE)?;
            write.open_table(CLAIMS)?;
            write.open_table(CLAIMED)?;
            write.commit()?;
            Ok::<_, redb::Error>(())
        };
        tables().map_err(unusable)?;
        Ok(database)
    });
    let unusable = |why: String| RedbError::Unusable { place: place.clone(), why };
    let database = opening.await.map_err(|error| unusable(error.to_string()))??;
    Ok(File { database: Arc::new(database), place: place.clone() })
}
