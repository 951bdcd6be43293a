//! A backend that is looked at, without its lease.

use futures_util::future::{BoxFuture, FutureExt};

use super::{Backend, Found, patiently, read_claim, read_row_of, read_some};
use crate::order::{ClientRef, OrderId};
use crate::store::look::{Figures, Look};
use crate::store::{Bookmark, Claim, Grade, Page, Rehydration, StoreError, Stored};

/// See the module.
pub(crate) struct LedgerLook<B> {
    pub(crate) backend: B,
    pub(crate) grade: Grade,
    /// A URL without user and password.
    pub(crate) place: String,
}

impl<B: Backend> LedgerLook<B> {
    async fn found(&self) -> Result<Found, StoreError> {
        let kept = patiently(&self.backend, || self.backend.load()).await?;
        Found::read(&self.place, kept)
    }
}

impl<B: Backend> Look for LedgerLook<B> {
    fn find(&self, client_ref: ClientRef) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        async move {
            let refs = [client_ref];
            let found = patiently(&self.backend, || self.backend.rows(&refs)).await?;
            let row = found.into_iter().next().flatten();
            row.map(|row| Ok(read_row_of(&self.place, &refs[0], &row)?.stored)).transpose()
        }
        .boxed()
    }

    fn claims(&self, ids: Vec<OrderId>) -> BoxFuture<'_, Result<Vec<Option<Claim>>, StoreError>> {
        async move {
            let found = patiently(&self.backend, || self.backend.claims(&ids)).await?;
            let claims = ids.into_iter().zip(found).map(|(id, claim)| {
                claim.map(|claim| Ok(read_claim(&self.place, id, &claim)?.claim())).transpose()
            });
            claims.collect()
        }
        .boxed()
    }

    fn rehydrate(&self) -> BoxFuture<'_, Result<Rehydration, StoreError>> {
        async move { Ok(self.found().await?.book().rehydrate()) }.boxed()
    }

    fn read_through(&self, from: Bookmark) -> BoxFuture<'_, Result<Page, StoreError>> {
        async move { read_some(&self.backend, &from).await }.boxed()
    }

    fn figures(&self) -> BoxFuture<'_, Result<Figures, StoreError>> {
        async move {
            let standing = self.found().await?.standing;
            let (open, ended) =
                (standing.totals.open, standing.totals.intents() - standing.totals.open);
            Ok(Figures { open, ended, changes: standing.changes })
        }
        .boxed()
    }

    fn grade(&self) -> Grade {
        self.grade
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}
