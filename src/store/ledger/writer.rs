//! The one task that writes: what is waiting is decided by the book and becomes one batch.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Backend, Batch, ClaimWrite, Fault, Found, RowWrite, key, put_standing, read_claim, read_row_of,
};
use crate::order::{ClientRef, OrderId};
use crate::protocol::{Change, Serial, State, Verdict};
use crate::store::book::{Base, Book, Feed, FeedRow, NoBase, claim_of};
use crate::store::index::seal;
use crate::store::lease::{Lease, keep};
use crate::store::record::{ClaimRow, Row, encode_account, encode_claim, encode_row};
use crate::store::remote::{Answers, Shared, Write};
use crate::store::{Committed, StoreError};

/// The first wait before a try is repeated; doubled up to the longest.
const WAIT: Duration = Duration::from_millis(10);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Asks until there is an answer, it cannot come any more, or the time is up.
pub(super) async fn patiently<T, F: Future<Output = Result<T, Fault>>>(
    backend: &impl Backend,
    mut ask: impl FnMut() -> F,
) -> Result<T, StoreError> {
    let (place, limit) = (backend.place(), backend.give_up_after());
    let failed = |why: String| StoreError::Failed(format!("the store at {place}: {why}").into());
    let (mut wait, mut last) = (WAIT, "no answer".to_owned());
    let asked = async {
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(Fault::Fatal(why)) => return Err(failed(why)),
                Err(Fault::Passes(why)) => {
                    tracing::warn!(place, why, "the store is asked again");
                    last = why;
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    };
    let answer = tokio::time::timeout(limit, asked).await;
    answer.unwrap_or_else(|_| Err(failed(format!("for {limit:?}: {last}"))))
}

/// Decides and writes. See the module.
pub(crate) struct Writer<B> {
    backend: B,
    place: String,
    book: Book,
    epoch: u64,
    lease: Option<Arc<Lease>>,
    renewing: Option<tokio::task::JoinHandle<()>>,
}

impl<B> Drop for Writer<B> {
    /// Whoever writes no more sends no more, however it came to that.
    fn drop(&mut self) {
        if let Some(lease) = &self.lease {
            lease.lose();
        }
        if let Some(renewing) = &self.renewing {
            renewing.abort();
        }
    }
}

impl<B: Backend> Writer<B> {
    /// Loads the book, and begins to renew the lease.
    pub(super) async fn start(backend: B, lease: Option<Arc<Lease>>) -> Result<Self, StoreError> {
        let place = backend.place();
        let epoch = lease.as_ref().map_or(0, |lease| lease.epoch());
        // Before it is read, which may take longer than the lease lasts.
        let renewing = lease.clone().map(|lease| tokio::spawn(renew(backend.clone(), lease)));
        let kept = patiently(&backend, || backend.load()).await;
        match kept.and_then(|kept| Ok(Found::read(&place, kept)?.book())) {
            Ok(book) => Ok(Self { backend, place, book, epoch, lease, renewing }),
            Err(error) => {
                if let Some(renewing) = renewing {
                    renewing.abort();
                    // It is over before the lease is given back.
                    let _ = renewing.await;
                }
                Err(error)
            }
        }
    }

    pub(super) fn book(&self) -> &Book {
        &self.book
    }

    /// What lies below the book for these changes.
    async fn below(&self, changes: &[Change]) -> Result<Below, StoreError> {
        let (mut refs, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for change in changes {
            match change {
                Change::Accept { intent, .. }
                    if self.book.find(&NoBase, &intent.client_ref)?.is_none() =>
                {
                    refs.insert(intent.client_ref.clone());
                }
                Change::Decide { verdict: Verdict::Placed { id, .. }, .. } => {
                    ids.insert(id.clone());
                }
                Change::Adopt { intent, .. } => {
                    refs.insert(intent.stored.client_ref.clone());
                    if let State::Placed { id, .. } = &intent.stored.state {
                        ids.insert(id.clone());
                    }
                }
                _ => {}
            }
        }
        let (refs, ids): (Vec<_>, Vec<_>) = (refs.into_iter().collect(), ids.into_iter().collect());
        let mut below = Below::default();
        if !refs.is_empty() {
            let found = patiently(&self.backend, || self.backend.rows(&refs)).await?;
            for (client_ref, sealed) in refs.into_iter().zip(found) {
                if let Some(sealed) = sealed {
                    let row = read_row_of(&self.place, &client_ref, &sealed)?;
                    below.rows.insert(client_ref, row);
                }
            }
        }
        if !ids.is_empty() {
            let found = patiently(&self.backend, || self.backend.claims(&ids)).await?;
            for (id, sealed) in ids.into_iter().zip(found) {
                if let Some(sealed) = sealed {
                    below.claims.insert(id.clone(), read_claim(&self.place, id, &sealed)?);
                }
            }
        }
        Ok(below)
    }

    /// What has changed in the book, as a batch.
    fn batch(&self, from: u64, feed: &Feed) -> Batch {
        let mut standing = Vec::new();
        seal(&mut standing, key::STANDING, |into| put_standing(&feed.standing, into));
        let account = feed.account.as_ref().map(|account| {
            let mut value = Vec::new();
            seal(&mut value, key::ACCOUNT, |into| encode_account(account, into));
            value
        });
        let rows = feed.rows.iter().map(row_write).collect();
        Batch { epoch: self.epoch, from, to: feed.standing.changes, standing, account, rows }
    }
}

fn row_write(FeedRow { row, was_active }: &FeedRow) -> RowWrite {
    let sealed = |with_items| {
        let mut value = Vec::new();
        seal(&mut value, &key::row(&row.stored.client_ref), |into| {
            encode_row(row, with_items, into);
        });
        value
    };
    let active = row.is_active();
    RowWrite {
        client_ref: row.stored.client_ref.clone(),
        new: !was_active,
        active,
        row: sealed(active),
        full: (!active).then(|| sealed(true)),
        claim: claim_of(row).map(|claim| {
            let mut value = Vec::new();
            seal(&mut value, &key::claim(&claim.id), |into| encode_claim(&claim, into));
            ClaimWrite { id: claim.id, ended_at: claim.ended_at, claim: value }
        }),
    }
}

impl<B: Backend> Write for Writer<B> {
    async fn write(&mut self, shared: &Shared, changes: &[Change]) -> Result<Answers, StoreError> {
        let below = self.below(changes).await?;
        let from = self.book.standing().changes;
        self.book.handed_out(Serial(shared.next_serial().saturating_sub(1)));
        let mut answers = Answers::with_capacity(changes.len());
        for change in changes {
            let answer = match self.book.guard(&below, change)? {
                Some(refused) => refused,
                None => {
                    let impossible = |_| StoreError::Failed("a change follows on nothing".into());
                    self.book.apply(change.clone()).map_err(impossible)?;
                    Committed::Done
                }
            };
            answers.push(Ok(answer));
        }
        let standing = *self.book.standing();
        if standing.changes > from {
            let feed = self.book.take_feed();
            let batch = self.batch(from, &feed);
            patiently(&self.backend, || self.backend.write(&batch)).await?;
            self.book.let_go(&feed);
        } else if !patiently(&self.backend, || self.backend.is_ours(self.epoch)).await? {
            // Whoever has taken the store over wrote what was read, and numbers its intents anew.
            let why = format!("the store at {}: another router has taken it over", self.place);
            return Err(StoreError::Failed(why.into()));
        }
        let ended = standing.totals.intents() - standing.totals.open;
        shared.wrote(standing.totals.open, ended, changes.len());
        Ok(answers)
    }

    async fn close(&mut self) {
        // The next holder may have it at once: no gate opens under it any more.
        if let Some(lease) = &self.lease {
            lease.lose();
        }
        if let Some(renewing) = self.renewing.take() {
            renewing.abort();
            // It is over before the lease is given back.
            let _ = renewing.await;
        }
        if self.epoch > 0 {
            self.backend.release(self.epoch).await;
        }
    }
}

/// Prolongs the lease until another has it.
async fn renew<B: Backend>(backend: B, lease: Arc<Lease>) {
    let held = lease.clone();
    let prolong = move || {
        let (backend, held) = (backend.clone(), held.clone());
        async move {
            backend.renew(&held).await.map_err(|fault| match fault {
                Fault::Passes(why) | Fault::Fatal(why) => why,
            })
        }
    };
    keep(lease, prolong).await;
}

/// What was looked up for one batch.
#[derive(Default)]
struct Below {
    rows: BTreeMap<ClientRef, Row>,
    claims: BTreeMap<OrderId, ClaimRow>,
}

impl Base for Below {
    fn row(&self, client_ref: &ClientRef) -> Result<Option<Row>, StoreError> {
        Ok(self.rows.get(client_ref).cloned())
    }

    fn claim(&self, id: &OrderId) -> Result<Option<ClaimRow>, StoreError> {
        Ok(self.claims.get(id).cloned())
    }
}
