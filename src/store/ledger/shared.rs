//! A backend that several routers share.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::OnceCell;

use super::{Fault, LedgerStore, Meeting, patiently, read_row_of};
use crate::order::ClientRef;
use crate::store::lease::{Asked, Lease, LeaseTerms};
use crate::store::{
    Durability, Holder, IntentStore, Request, SettledRequest, SharedStore, StoreError, Stored,
};
use crate::supplier::AccountId;

/// Connects to the server; what is wrong otherwise, without a password.
pub(crate) type Connect<B> =
    Box<dyn Fn() -> BoxFuture<'static, Result<(B, Durability), String>> + Send + Sync>;

/// See the module. It connects with the first question.
pub(crate) struct SharedLedger<B> {
    inner: Arc<Inner<B>>,
}

struct Inner<B> {
    connect: Connect<B>,
    backend: OnceCell<(B, Durability)>,
    node: String,
    account: OnceLock<AccountId>,
    terms: LeaseTerms,
    place: String,
}

impl<B: Meeting> Inner<B> {
    async fn backend(&self) -> Result<&(B, Durability), StoreError> {
        let connected = self.backend.get_or_try_init(|| (self.connect)()).await;
        connected.map_err(|why| StoreError::Failed(why.into()))
    }
}

impl<B: Meeting> SharedLedger<B> {
    pub(crate) fn new(connect: Connect<B>, terms: LeaseTerms, place: String) -> Self {
        let node = format!("order-router {}", uuid::Uuid::new_v4().simple());
        let backend = OnceCell::new();
        let account = OnceLock::new();
        Self { inner: Arc::new(Inner { connect, backend, node, account, terms, place }) }
    }

    /// Asks the backend something until there is an answer.
    fn ask<T, Q, F>(&self, question: Q) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        Q: Fn(B) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let inner = self.inner.clone();
        async move {
            let (backend, _) = inner.backend().await?;
            patiently(backend, || question(backend.clone())).await
        }
        .boxed()
    }
}

impl<B: Meeting> SharedStore for SharedLedger<B> {
    fn introduce(&self, account: AccountId) {
        let _ = self.inner.account.set(account);
    }

    fn holder(&self) -> BoxFuture<'static, Result<Option<Holder>, StoreError>> {
        let asked = self.ask(|backend| async move { backend.holder().await });
        async move { Ok(asked.await?.map(|name| Holder::named(&name))) }.boxed()
    }

    fn open(&self) -> BoxFuture<'static, Result<Option<Arc<dyn IntentStore>>, StoreError>> {
        let inner = self.inner.clone();
        async move {
            let (backend, durability) = inner.backend().await?;
            let asked = Asked::now();
            let node = Holder::name_shared(&inner.node, inner.account.get().copied());
            let epoch = match backend.acquire(&node, inner.terms.length).await {
                Ok(Some(epoch)) => epoch,
                Ok(None) => return Ok(None),
                Err(Fault::Passes(why) | Fault::Fatal(why)) => {
                    let why = format!("the store at {}: {why}", inner.place);
                    return Err(StoreError::Failed(why.into()));
                }
            };
            let lease = Lease::taken(inner.terms, epoch, asked);
            match LedgerStore::open(backend.afresh(), Some(lease), *durability).await {
                Ok(store) => Ok(Some(Arc::new(store) as Arc<dyn IntentStore>)),
                Err(error) => {
                    backend.release(epoch).await;
                    Err(error)
                }
            }
        }
        .boxed()
    }

    fn find(
        &self,
        refs: Vec<ClientRef>,
    ) -> BoxFuture<'static, Result<Vec<Option<Stored>>, StoreError>> {
        let place = self.inner.place.clone();
        let refs = Arc::new(refs);
        let wanted = refs.clone();
        let asked = self.ask(move |backend| {
            let refs = refs.clone();
            async move { backend.rows(&refs).await }
        });
        async move {
            let found = wanted.iter().zip(asked.await?);
            let read = |(client_ref, row): (&ClientRef, Option<Vec<u8>>)| {
                row.map(|row| Ok(read_row_of(&place, client_ref, &row)?.stored)).transpose()
            };
            found.map(read).collect()
        }
        .boxed()
    }

    fn put_requests(&self, requests: Vec<Request>) -> BoxFuture<'static, Result<(), StoreError>> {
        let requests = Arc::new(requests);
        self.ask(move |backend| {
            let requests = requests.clone();
            async move { backend.put_requests(&requests).await }
        })
    }

    fn requests(&self, most: usize) -> BoxFuture<'static, Result<Vec<Request>, StoreError>> {
        self.ask(move |backend| async move { backend.requests(most).await })
    }

    fn settle_requests(
        &self,
        settled: Vec<SettledRequest>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let settled = Arc::new(settled);
        self.ask(move |backend| {
            let settled = settled.clone();
            async move { backend.settle_requests(&settled).await }
        })
    }

    fn replies(
        &self,
        keys: Vec<String>,
    ) -> BoxFuture<'static, Result<Vec<Option<Vec<u8>>>, StoreError>> {
        let keys = Arc::new(keys);
        self.ask(move |backend| {
            let keys = keys.clone();
            async move { backend.replies(&keys).await }
        })
    }

    fn place(&self) -> String {
        self.inner.place.clone()
    }
}
