//! Stores that keep rows on a server and decide in the router: the [`Book`] guards, a [`Backend`]
//! keeps.
//!
//! Only one router has such a store at a time, by a lease or a lock, so the guards need no server to
//! decide them: they are those of the embedded store. What the server decides is that nobody else
//! wrote: a batch is one atomic write that carries the epoch of the lease and the number of changes
//! that it follows on, and every reference and claim in it is put only where it is absent. A batch
//! whose answer was lost is read back by that number.
//!
//! References and claims of ended intents are looked up on the server before a batch is decided.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::book::{Account, Book, Standing, Totals};
use super::index::unsealed;
use super::lease::Lease;
use super::record::{ClaimRow, Reader, Row, decode_account, decode_claim, decode_row};
use super::remote::{Remote, Started};
use super::shared::Request;
use super::{
    Bookmark, Claim, Committed, Durability, IntentStore, Known, Page, Rehydration, StoreError,
    StoreStats, Stored,
};
use crate::order::{ClientRef, OrderId};
use crate::protocol::{Change, Serial};

mod look;
#[cfg(any(feature = "dynamodb", feature = "redis"))]
mod shared;
mod writer;

pub(crate) use look::LedgerLook;
#[cfg(any(feature = "dynamodb", feature = "redis"))]
pub(crate) use shared::SharedLedger;
use writer::{Writer, patiently};

/// How long a server is tried for, where nothing else is said.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// Why a backend did not do something.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// No answer, or one that passes: a write may be in or not. The same again may succeed.
    Passes(String),
    /// It will not succeed: another router has the store, or it is not what was left.
    Fatal(String),
}

/// One atomic write: all of it or nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    /// The lease under which it is written; a backend refuses all but the newest it gave out.
    pub(crate) epoch: u64,
    /// How many changes the store holds before it.
    pub(crate) from: u64,
    /// And after it.
    pub(crate) to: u64,
    /// The standing, sealed.
    pub(crate) standing: Vec<u8>,
    /// The account, sealed, if it changed. It may be of any size.
    pub(crate) account: Option<Vec<u8>>,
    /// Intents as they stand after it.
    pub(crate) rows: Vec<RowWrite>,
}

/// An intent in a batch.
#[derive(Debug, Clone)]
pub(crate) struct RowWrite {
    pub(crate) client_ref: ClientRef,
    /// Its reference must be absent.
    pub(crate) new: bool,
    /// Actors have to be told of it at a start: it belongs into the index of the active.
    pub(crate) active: bool,
    /// The row, sealed; never forgotten. An ended one lacks its items.
    pub(crate) row: Vec<u8>,
    /// An ended row with its items, sealed: may be forgotten once retention is over.
    pub(crate) full: Option<Vec<u8>>,
    /// Its claim: must be absent, or the very same.
    pub(crate) claim: Option<ClaimWrite>,
}

/// A claim in a batch.
#[derive(Debug, Clone)]
pub(crate) struct ClaimWrite {
    pub(crate) id: OrderId,
    /// The highest serial that had been handed out: what [`Backend::claims_since`] asks for.
    pub(crate) ended_at: Serial,
    /// The claim, sealed.
    pub(crate) claim: Vec<u8>,
}

/// What a backend holds for a start, as of one moment; sealed values.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// `None`: nothing was ever written.
    pub(crate) standing: Option<Vec<u8>>,
    pub(crate) account: Option<Vec<u8>>,
    pub(crate) active: Vec<Vec<u8>>,
}

/// A sealed claim by its order's id.
pub(crate) type SealedClaim = (OrderId, Vec<u8>);

/// Keeps sealed values on a server or in a file. Every call may be repeated.
pub(crate) trait Backend: Clone + Send + Sync + 'static {
    /// Most intents in one batch.
    const ROWS_MAX: usize;

    /// Writes a batch, durably, if the store holds exactly `batch.from` changes and its newest epoch
    /// is `batch.epoch`. A batch that is in already is no error.
    fn write(&self, batch: &Batch) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Whether no newer lease was given out, as of now: what was read before is what this holder wrote.
    fn is_ours(&self, epoch: u64) -> impl Future<Output = Result<bool, Fault>> + Send;

    /// Everything that a start needs, as of one moment.
    fn load(&self) -> impl Future<Output = Result<Kept, Fault>> + Send;

    /// The rows with these references, in the order of the question; the fullest that is left.
    fn rows(
        &self,
        refs: &[ClientRef],
    ) -> impl Future<Output = Result<Vec<Option<Vec<u8>>>, Fault>> + Send;

    /// The claims of these orders, in the order of the question.
    fn claims(
        &self,
        ids: &[OrderId],
    ) -> impl Future<Output = Result<Vec<Option<Vec<u8>>>, Fault>> + Send;

    /// Every claim with `ended_at` of this serial or later.
    fn claims_since(
        &self,
        since: Serial,
    ) -> impl Future<Output = Result<Vec<SealedClaim>, Fault>> + Send;

    /// Rows, active and ended, the fullest that is left of each, some at a time, beginning with the
    /// default bookmark: each that was there before the first question at least once.
    fn some(
        &self,
        from: &Bookmark,
    ) -> impl Future<Output = Result<(Vec<Vec<u8>>, Option<Bookmark>), Fault>> + Send;

    /// Prolongs the lease by its length; false if another has it. A backend with a lock of its own
    /// has nothing to do.
    fn renew(&self, lease: &Lease) -> impl Future<Output = Result<bool, Fault>> + Send;

    /// Gives the lease back. What fails is not repeated: it ends by itself.
    fn release(&self, epoch: u64) -> impl Future<Output = ()> + Send;

    /// Where it is, for people; no password.
    fn place(&self) -> String;

    /// How long a write or a question is tried for. After that the store is latched.
    fn give_up_after(&self) -> Duration {
        GIVE_UP_AFTER
    }

    /// The same with connections of its own, for another runtime: where a connection answers nothing
    /// once the runtime is gone that it was made on.
    fn afresh(&self) -> Self {
        self.clone()
    }
}

/// What a backend that several routers share does beside: it gives the lease out, and passes on what
/// was asked of a router that does not have it.
pub(crate) trait Meeting: Backend {
    /// Gives the lease out if no other node's lasts, by the server's clock, and returns its epoch,
    /// higher than any before; `None` if another node has it. A node that asks while it has the lease
    /// itself gets a new epoch at once: it was started anew.
    fn acquire(
        &self,
        node: &str,
        length: std::time::Duration,
    ) -> impl Future<Output = Result<Option<u64>, Fault>> + Send;

    /// The name of the node that has the lease; `None` if it is known that none has.
    fn holder(&self) -> impl Future<Output = Result<Option<String>, Fault>> + Send;

    /// Puts requests where they are absent, durably. Their old replies are forgotten.
    fn put_requests(&self, requests: &[Request]) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Requests that nobody has answered, at most so many, oldest first as far as that is cheap.
    fn requests(&self, most: usize) -> impl Future<Output = Result<Vec<Request>, Fault>> + Send;

    /// Takes requests away: each is done with, or has a reply, which is kept for ten minutes.
    fn settle_requests(
        &self,
        settled: &[(String, Option<Vec<u8>>)],
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// The replies to these requests, in the order of the question.
    fn replies(
        &self,
        keys: &[String],
    ) -> impl Future<Output = Result<Vec<Option<Vec<u8>>>, Fault>> + Send;
}

/// The keys that values are sealed with.
pub(crate) mod key {
    use crate::order::{ClientRef, OrderId};

    pub(crate) const STANDING: &[u8] = b"standing";
    pub(crate) const ACCOUNT: &[u8] = b"account";

    pub(crate) fn row(client_ref: &ClientRef) -> Vec<u8> {
        [b"r", client_ref.as_str().as_bytes()].concat()
    }

    pub(crate) fn claim(id: &OrderId) -> Vec<u8> {
        [b"o", id.as_str().as_bytes()].concat()
    }
}

/// What is kept is not what was written.
fn damaged(place: &str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("the store at {place} is damaged: {why}").into())
}

/// Reads a sealed row; its key is in it.
fn read_row(place: &str, sealed: &[u8]) -> Result<Row, StoreError> {
    let row = sealed.get(4..).ok_or(super::RecordError::Short).and_then(decode_row);
    let row = row.map_err(|error| damaged(place, error))?;
    let key = key::row(&row.stored.client_ref);
    unsealed(&key, sealed).map_err(|why| damaged(place, why.0))?;
    Ok(row)
}

/// Reads the row that was asked for by its reference; another's is no answer.
fn read_row_of(place: &str, client_ref: &ClientRef, sealed: &[u8]) -> Result<Row, StoreError> {
    let row = read_row(place, sealed)?;
    match row.stored.client_ref == *client_ref {
        true => Ok(row),
        false => {
            let other = &row.stored.client_ref;
            Err(damaged(place, format!("{other} is under the name of {client_ref}")))
        }
    }
}

/// Some rows of a backend, read.
async fn read_some<B: Backend>(backend: &B, from: &Bookmark) -> Result<Page, StoreError> {
    let place = backend.place();
    let (rows, next) = patiently(backend, || backend.some(from)).await?;
    let intents = rows.iter().map(|sealed| Ok(read_row(&place, sealed)?.adopted()));
    Ok(Page { intents: intents.collect::<Result<_, StoreError>>()?, next })
}

fn read_claim(place: &str, id: OrderId, sealed: &[u8]) -> Result<ClaimRow, StoreError> {
    let bytes = unsealed(&key::claim(&id), sealed).map_err(|why| damaged(place, why.0))?;
    decode_claim(id, bytes).map_err(|error| damaged(place, error))
}

/// What a start finds, read and compared.
struct Found {
    standing: Standing,
    account: Account,
    rows: Vec<Row>,
}

impl Found {
    fn read(place: &str, kept: Kept) -> Result<Self, StoreError> {
        let standing = match &kept.standing {
            None => Standing::default(),
            Some(sealed) => {
                let bytes = unsealed(key::STANDING, sealed).map_err(|why| damaged(place, why.0))?;
                read_standing(bytes).map_err(|error| damaged(place, error))?
            }
        };
        let account = match &kept.account {
            None => Account::default(),
            Some(sealed) => {
                let bytes = unsealed(key::ACCOUNT, sealed).map_err(|why| damaged(place, why.0))?;
                decode_account(bytes).map_err(|error| damaged(place, error))?
            }
        };
        let rows = kept.active.iter().map(|sealed| read_row(place, sealed));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let mut totals = Totals::default();
        rows.iter().for_each(|row| totals.enter(row));
        let wanted = standing.totals;
        let same = (totals.active, totals.active_xor) == (wanted.active, wanted.active_xor);
        if !same || rows.iter().any(|row| !row.is_active()) {
            let why = format!("{} open orders are kept, {} were", totals.active, wanted.active);
            return Err(damaged(place, why));
        }
        Ok(Self { standing, account, rows })
    }

    fn book(self) -> Book {
        Book::restored(self.rows, self.account, self.standing)
    }
}

fn read_standing(bytes: &[u8]) -> Result<Standing, super::RecordError> {
    let mut reader = Reader::versioned(bytes)?;
    let standing = Standing {
        changes: reader.u64()?,
        highest: reader.serial()?,
        totals: Totals::decode(&mut reader)?,
        newest_known: reader.option(Reader::timestamp)?,
    };
    reader.end()?;
    Ok(standing)
}

fn put_standing(standing: &Standing, into: &mut Vec<u8>) {
    into.push(super::record::RECORD_PLAIN);
    super::record::put_u64(into, standing.changes);
    super::record::put_u64(into, standing.highest.0);
    standing.totals.encode(into);
    into.push(u8::from(standing.newest_known.is_some()));
    if let Some(newest) = standing.newest_known {
        super::record::put_timestamp(into, newest);
    }
}

/// A store over a backend. See the module.
pub(crate) struct LedgerStore<B> {
    remote: Remote,
    backend: B,
    lease: Option<Arc<Lease>>,
    durability: Durability,
}

impl<B: Backend> LedgerStore<B> {
    /// Loads what a backend keeps, in a thread of its own. The lease, if there is one, is renewed
    /// until the store is closed.
    pub(crate) async fn open(
        backend: B,
        lease: Option<Arc<Lease>>,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        let (kept, held) = (backend.clone(), lease.clone());
        let lost = |why: String| StoreError::Failed(why.into());
        let start = move || async move {
            let writer = Writer::start(kept, held).await?;
            let standing = *writer.book().standing();
            Ok(Started {
                next_serial: standing.highest.0.saturating_add(1),
                open: standing.totals.open,
                ended: standing.totals.intents() - standing.totals.open,
                writer,
                reader: (),
            })
        };
        let (remote, ()) = Remote::open("order-router-store", B::ROWS_MAX, start, lost).await?;
        Ok(Self { remote, backend, lease, durability })
    }
}

impl<B: Backend> IntentStore for LedgerStore<B> {
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
        let backend = self.backend.clone();
        self.remote.ask(async move {
            let refs = [client_ref];
            let found = patiently(&backend, || backend.rows(&refs)).await?;
            let row = found.into_iter().next().flatten();
            row.map(|row| Ok(read_row_of(&backend.place(), &refs[0], &row)?.stored)).transpose()
        })
    }

    fn claims(
        &self,
        ids: Vec<OrderId>,
    ) -> BoxFuture<'static, Result<Vec<Option<Claim>>, StoreError>> {
        let backend = self.backend.clone();
        self.remote.ask(async move {
            let found = patiently(&backend, || backend.claims(&ids)).await?;
            let place = backend.place();
            let claims = ids.into_iter().zip(found).map(|(id, claim)| {
                claim.map(|claim| Ok(read_claim(&place, id, &claim)?.claim())).transpose()
            });
            claims.collect()
        })
    }

    fn rehydrate(&self) -> BoxFuture<'static, Result<Rehydration, StoreError>> {
        let backend = self.backend.clone();
        self.remote.ask(async move {
            let kept = patiently(&backend, || backend.load()).await?;
            Ok(Found::read(&backend.place(), kept)?.book().rehydrate())
        })
    }

    fn known_since(&self, since: Serial) -> BoxFuture<'static, Result<Vec<Known>, StoreError>> {
        let backend = self.backend.clone();
        self.remote.ask(async move {
            let found = patiently(&backend, || backend.claims_since(since)).await?;
            let place = backend.place();
            let claims = found.into_iter().map(|(id, claim)| read_claim(&place, id, &claim));
            let mut claims = claims.collect::<Result<Vec<_>, _>>()?;
            claims.sort_by_key(|claim| (claim.ended_at, claim.intent));
            Ok(claims.iter().map(ClaimRow::known).collect())
        })
    }

    fn read_through(&self, from: Bookmark) -> BoxFuture<'static, Result<Page, StoreError>> {
        let backend = self.backend.clone();
        self.remote.ask(async move { read_some(&backend, &from).await })
    }

    fn stats(&self) -> StoreStats {
        self.remote.stats()
    }

    fn durability(&self) -> Durability {
        self.durability
    }

    fn lease(&self) -> Option<Arc<Lease>> {
        self.lease.clone()
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.remote.close()
    }
}
