//! The index: sled, as of a watermark of the journal, which can always rebuild it.
//!
//! One tree, by the first byte of the key:
//!
//! | key | row |
//! |---|---|
//! | `a` + serial | an active intent: open, or placed from a list while its POST may still land |
//! | `r` + reference | an ended intent |
//! | `o` + order id | a claim |
//! | `m` + number | the watermark with the standing, then the account in pieces |
//!
//! Every value begins with a CRC over key and value, because sled notices no flipped bit. Whether
//! rows are missing, old or too many is told by the [`Totals`] of the watermark's frame in the
//! journal. sled may panic on damaged files at any call: every call runs under `catch_unwind`.
//!
//! `flush` alone survives no power cut (it ends in `sync_file_range`): after it, sled's file is
//! synced through a descriptor of ours. `flush_async` is never called: it can hang for ever.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use super::StoreError;
use super::book::{Account, Base, Feed, FeedRow, Standing, Totals, claim_of};
use super::journal::Position;
use super::record::{
    ClaimRow, JournalKey, RecordError, Row, decode_account, decode_claim, decode_row,
    encode_account, encode_claim, encode_row,
};
use crate::crash;
use crate::order::{ClientRef, OrderId};
use crate::protocol::Serial;

mod filter;
mod value;

pub(crate) use filter::{Filter, Keys};
pub(crate) use value::{decode_meta, encode_meta, meta_key, seal, unsealed};

/// Bytes of the account in one row: no more than the largest order has.
const PIECE_BYTES: usize = 8 << 10;

/// sled's segments. With its default of 512 KiB, values of 16 KiB are lost or make it panic; with
/// 16 MiB, values of 120 KiB survive, and every open takes some 100 ms more. Ours have 14 KiB at
/// most.
const SEGMENT_BYTES: usize = 4 << 20;

/// sled's own cache, in bytes.
const CACHE_BYTES: u64 = 128 << 20;

/// Why the index cannot be used. The journal can rebuild it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unusable(pub String);

impl From<sled::Error> for Unusable {
    fn from(error: sled::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<RecordError> for Unusable {
    fn from(error: RecordError) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for Unusable {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// What the index holds for a start.
#[derive(Default)]
pub(crate) struct Loaded {
    /// The frame that it is a copy as of.
    pub watermark: Position,
    /// The standing that it was written with.
    pub standing: Standing,
    /// The totals that its rows have.
    pub totals: Totals,
    /// The active rows.
    pub active: Vec<Row>,
    /// The account.
    pub account: Account,
    /// In how many rows it is.
    pub pieces: u32,
}

/// sled, open. See the module.
pub(crate) struct Index {
    db: Option<sled::Db>,
    file: File,
    keep_items: bool,
}

/// Runs what may panic in sled.
fn guarded<T>(run: impl FnOnce() -> Result<T, Unusable>) -> Result<T, Unusable> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(Unusable("sled panicked: its files are damaged".to_owned())))
}

impl Index {
    /// Opens or creates the index in a directory. `keep_items`: ended rows keep their items.
    pub(crate) fn open(dir: &Path, keep_items: bool) -> Result<Self, Unusable> {
        guarded(|| {
            await_release(&dir.join("db"))?;
            let db = sled::Config::new()
                .path(dir)
                .segment_size(SEGMENT_BYTES)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None)
                .open()?;
            let file = File::open(dir.join("db"))?;
            // sled syncs neither a new file's size nor its name.
            for path in [Some(dir), dir.parent()].into_iter().flatten() {
                File::open(path)?.sync_all()?;
            }
            Ok(Self { db: Some(db), file, keep_items })
        })
    }

    fn db(&self) -> Result<&sled::Db, Unusable> {
        self.db.as_ref().ok_or_else(|| Unusable("the index is closed".to_owned()))
    }

    /// Reads what a start needs, and compares nothing yet; `None` from an empty index.
    ///
    /// Ended rows are not read: the journal says which there must be (see [`Below`]).
    pub(crate) fn load(&self) -> Result<Option<Loaded>, Unusable> {
        guarded(|| {
            let db = self.db()?;
            let Some(meta) = db.get(meta_key(0))? else {
                return if db.is_empty() { Ok(None) } else { Err(Unusable("no watermark".into())) };
            };
            let (watermark, standing, pieces) = decode_meta(unsealed(&meta_key(0), &meta)?)?;
            let mut loaded = Loaded {
                watermark,
                standing,
                totals: Totals::default(),
                active: Vec::new(),
                account: self.load_account(pieces)?,
                pieces,
            };
            for entry in db.scan_prefix(b"a") {
                let (key, value) = entry?;
                let row = decode_row(unsealed(&key, &value)?)?;
                if key[1..] != row.stored.id.0.to_be_bytes() || !row.is_active() {
                    return Err(Unusable("a row is under another's key".into()));
                }
                loaded.totals.enter(&row);
                loaded.active.push(row);
            }
            Ok(Some(loaded))
        })
    }

    fn load_account(&self, pieces: u32) -> Result<Account, Unusable> {
        let mut bytes = Vec::new();
        for number in 1..=pieces {
            let key = meta_key(number);
            let piece = self.db()?.get(key)?;
            let piece =
                piece.ok_or_else(|| Unusable("a piece of the account is missing".into()))?;
            bytes.extend_from_slice(unsealed(&key, &piece)?);
        }
        if bytes.is_empty() { Ok(Account::default()) } else { Ok(decode_account(&bytes)?) }
    }

    /// Takes over what changed up to a frame, in one atomic batch.
    ///
    /// With `sync` it survives a power cut when this returns.
    pub(crate) fn feed(
        &self,
        feed: &Feed,
        watermark: Position,
        pieces: &mut u32,
        sync: bool,
    ) -> Result<(), Unusable> {
        guarded(|| {
            let mut batch = sled::Batch::default();
            let mut value = Vec::with_capacity(512);
            for row in &feed.rows {
                self.feed_row(&mut value, row, &mut |key, value| match value {
                    Some(value) => batch.insert(key, value),
                    None => batch.remove(key),
                });
            }
            if let Some(account) = &feed.account {
                let mut bytes = Vec::new();
                encode_account(account, &mut bytes);
                let before = std::mem::replace(pieces, 0);
                for piece in bytes.chunks(PIECE_BYTES) {
                    *pieces += 1;
                    seal(&mut value, &meta_key(*pieces), |into| into.extend_from_slice(piece));
                    batch.insert(&meta_key(*pieces), value.as_slice());
                }
                (*pieces + 1..=before).for_each(|number| batch.remove(&meta_key(number)));
            }
            seal(&mut value, &meta_key(0), |into| {
                encode_meta(watermark, &feed.standing, *pieces, into);
            });
            batch.insert(&meta_key(0), value.as_slice());
            let db = self.db()?;
            db.apply_batch(batch)?;
            collect_garbage(feed.rows.len());
            crash::point("index.applied");
            if sync {
                db.flush()?;
                crash::point("index.flushed");
                self.file.sync_data()?;
            }
            Ok(())
        })
    }

    /// Takes over rows alone, one by one in the order of their keys, which is several times as
    /// fast as a batch. For an index that nobody believes before its last [`feed`](Self::feed).
    pub(crate) fn fill(&self, rows: &[FeedRow]) -> Result<(), Unusable> {
        guarded(|| {
            let mut writes: Vec<Written> = Vec::new();
            let mut value = Vec::with_capacity(512);
            for row in rows {
                self.feed_row(&mut value, row, &mut |key, value| {
                    writes.push((key.into(), value.map(Into::into)));
                });
            }
            writes.sort_unstable();
            let db = self.db()?;
            let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
            let share = writes.len().div_ceil(threads).max(1);
            std::thread::scope(|scope| {
                let filling: Vec<_> =
                    writes.chunks(share).map(|part| scope.spawn(|| insert_all(db, part))).collect();
                filling.into_iter().try_for_each(|part| {
                    part.join().unwrap_or_else(|_| Err(Unusable("filling it panicked".into())))
                })
            })
        })
    }

    fn feed_row(&self, value: &mut Vec<u8>, fed: &FeedRow, write: &mut Write<'_>) {
        let FeedRow { row, was_active } = fed;
        let mut key = Vec::with_capacity(40);
        key.push(b'a');
        key.extend_from_slice(&row.stored.id.0.to_be_bytes());
        if row.is_active() {
            seal(value, &key, |into| encode_row(row, true, into));
            write(&key, Some(value));
        } else {
            if *was_active {
                write(&key, None);
            }
            key.clear();
            key.push(b'r');
            key.extend_from_slice(row.stored.client_ref.as_str().as_bytes());
            seal(value, &key, |into| encode_row(row, self.keep_items, into));
            write(&key, Some(value));
        }
        if let Some(claim) = claim_of(row) {
            key.clear();
            key.push(b'o');
            key.extend_from_slice(claim.id.as_str().as_bytes());
            seal(value, &key, |into| encode_claim(&claim, into));
            write(&key, Some(value));
        }
    }

    /// The ended intent with this reference.
    pub(crate) fn row(&self, client_ref: &ClientRef) -> Result<Option<Row>, Unusable> {
        let key = [b"r", client_ref.as_str().as_bytes()].concat();
        guarded(|| match self.db()?.get(&key)? {
            Some(value) => Ok(Some(decode_row(unsealed(&key, &value)?)?)),
            None => Ok(None),
        })
    }

    /// Ended intents with a reference after this one, in their order; whether there may be more.
    pub(crate) fn ended_after(
        &self,
        reference: &[u8],
        most: usize,
    ) -> Result<(Vec<Row>, bool), Unusable> {
        guarded(|| {
            // The byte 0 is in no reference: this is the first key after it.
            let first =
                if reference.is_empty() { vec![b'r'] } else { [b"r", reference, b"\0"].concat() };
            let mut rows = Vec::new();
            for entry in self.db()?.range(first..vec![b'r' + 1]).take(most) {
                let (key, value) = entry?;
                rows.push(decode_row(unsealed(&key, &value)?)?);
            }
            let more = rows.len() == most;
            Ok((rows, more))
        })
    }

    /// Who has this order.
    pub(crate) fn claim(&self, id: &OrderId) -> Result<Option<ClaimRow>, Unusable> {
        let key = [b"o", id.as_str().as_bytes()].concat();
        guarded(|| match self.db()?.get(&key)? {
            Some(value) => Ok(Some(decode_claim(id.clone(), unsealed(&key, &value)?)?)),
            None => Ok(None),
        })
    }

    /// Every claim made when this serial or a higher one had been handed out, oldest first.
    pub(crate) fn claims_since(&self, since: Serial) -> Result<Vec<Arc<ClaimRow>>, Unusable> {
        guarded(|| {
            let mut claims = Vec::new();
            for entry in self.db()?.scan_prefix(b"o") {
                let (key, value) = entry?;
                let id = std::str::from_utf8(&key[1..]).ok().and_then(OrderId::new);
                let id = id.ok_or(RecordError::Invalid("order id"))?;
                let claim = decode_claim(id, unsealed(&key, &value)?)?;
                if claim.ended_at >= since {
                    claims.push(Arc::new(claim));
                }
            }
            claims.sort_by_key(|claim| (claim.ended_at, claim.intent));
            Ok(claims)
        })
    }

    /// Makes everything fed so far survive a power cut.
    pub(crate) fn sync(&self) -> Result<(), Unusable> {
        guarded(|| {
            self.db()?.flush()?;
            Ok(self.file.sync_data()?)
        })
    }
}

/// Waits until nobody has sled's file locked: a thread of its own may for some moments after an
/// index was dropped, or a process that is just being started from this one, and sled fails on it
/// at once. Nobody else can: the store's lock is held.
fn await_release(db: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options().create(true).append(true).mode(0o600).open(db)?;
    file.lock()?;
    // Not by closing alone: a process that is being started has this descriptor as well.
    file.unlock()
}

fn insert_all(db: &sled::Db, writes: &[Written]) -> Result<(), Unusable> {
    for (key, value) in writes {
        match value {
            Some(value) => db.insert(key, &**value)?,
            None => db.remove(key)?,
        };
    }
    Ok(())
}

/// Frees the old versions of pages that a batch left behind.
///
/// sled does it on one in 128 calls, a few hundred versions at a time: enough where a call writes
/// one row, but a batch is one call, and memory would grow by gigabytes.
fn collect_garbage(rows: usize) {
    for _ in 0..=rows / 32 {
        crossbeam_epoch::pin().flush();
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // sled's own drop panics on an I/O error. The journal has everything: say it and go on.
        let db = self.db.take();
        if catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
            tracing::warn!(
                "the index could not be closed cleanly; it may be rebuilt at the next start"
            );
        }
    }
}

/// Whether the journal's segments have a key.
pub(crate) type LookInSegments = dyn Fn(JournalKey<'_>) -> Result<bool, StoreError> + Send;

/// The index below a book.
///
/// What the journal does not have is new, whatever the index says. What the journal seems to have,
/// and neither book nor index does, is looked for in the segments before it counts as new: if it
/// is there, the index has lost it, the store stops, and the next start rebuilds the index.
pub(crate) struct Below {
    /// The index.
    pub index: Arc<Index>,
    /// The keys that the journal has.
    pub keys: Keys,
    /// Looks for a key in the segments.
    pub in_segments: Box<LookInSegments>,
    /// Makes the next start rebuild the index.
    pub condemn: Arc<dyn Fn() + Send + Sync>,
}

impl Below {
    /// Notes what the index has taken over: before the book lets go of it.
    pub(crate) fn took_over(&mut self, feed: &Feed) {
        for FeedRow { row, .. } in &feed.rows {
            self.keys.note(JournalKey::Reference(row.stored.client_ref.as_str()));
            if let Some(order) = row.stored.state.order() {
                self.keys.note(JournalKey::Order(order.id.as_str()));
            }
        }
    }

    fn found<T>(
        &self,
        found: Result<Option<T>, Unusable>,
        key: JournalKey<'_>,
    ) -> Result<Option<T>, StoreError> {
        match found {
            Ok(Some(found)) => Ok(Some(found)),
            Ok(None) if (self.in_segments)(key)? => {
                (self.condemn)();
                Err(failed(Unusable("it lacks an order that the journal has".to_owned())))
            }
            Ok(None) => Ok(None),
            Err(why) => {
                (self.condemn)();
                Err(failed(why))
            }
        }
    }
}

impl Base for Below {
    fn row(&self, client_ref: &ClientRef) -> Result<Option<Row>, StoreError> {
        if !self.keys.references.may_have(client_ref.as_str().as_bytes()) {
            return Ok(None);
        }
        self.found(self.index.row(client_ref), JournalKey::Reference(client_ref.as_str()))
    }

    fn claim(&self, id: &OrderId) -> Result<Option<ClaimRow>, StoreError> {
        if !self.keys.orders.may_have(id.as_str().as_bytes()) {
            return Ok(None);
        }
        self.found(self.index.claim(id), JournalKey::Order(id.as_str()))
    }
}

/// The index failed while the store was running.
pub(crate) fn failed(why: Unusable) -> StoreError {
    let why = format!("the index failed, and is rebuilt at the next start: {}", why.0);
    StoreError::Failed(why.into())
}

/// A key, and its value or its removal.
type Written = (Box<[u8]>, Option<Box<[u8]>>);

/// Writes a value, or removes it, under a key.
type Write<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

#[cfg(test)]
mod tests;
