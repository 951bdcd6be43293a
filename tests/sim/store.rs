//! The store, overheard by the oracle, and slow to answer at times.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use order_router::protocol::{Change, Serial};
use order_router::store::{
    Claim, Committed, Durability, EmbeddedStore, IntentStore, Known, Rehydration, StoreError,
    StoreStats, Stored,
};
use order_router::{ClientRef, OrderId};

use crate::world::World;

pub struct SlowStore {
    pub inner: EmbeddedStore,
    pub world: Arc<World>,
}

impl SlowStore {
    /// The store works at once; its answer takes as long as the schedule says.
    fn later<T: Send + 'static>(&self, answer: BoxFuture<'static, T>) -> BoxFuture<'static, T> {
        let delay = self.world.store_delay();
        async move {
            let answer = answer.await;
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            answer
        }
        .boxed()
    }
}

impl IntentStore for SlowStore {
    fn next_serial(&self) -> Serial {
        self.inner.next_serial()
    }

    fn commit(&self, change: Change) -> BoxFuture<'static, Result<Committed, StoreError>> {
        let answer = self.inner.commit(change.clone()).now_or_never().expect("inline");
        self.world.committed(&change, &answer);
        self.later(std::future::ready(answer).boxed())
    }

    fn find(&self, name: ClientRef) -> BoxFuture<'static, Result<Option<Stored>, StoreError>> {
        self.later(self.inner.find(name))
    }

    fn claims(
        &self,
        ids: Vec<OrderId>,
    ) -> BoxFuture<'static, Result<Vec<Option<Claim>>, StoreError>> {
        self.later(self.inner.claims(ids))
    }

    fn rehydrate(&self) -> BoxFuture<'static, Result<Rehydration, StoreError>> {
        self.later(self.inner.rehydrate())
    }

    fn known_since(&self, since: Serial) -> BoxFuture<'static, Result<Vec<Known>, StoreError>> {
        self.later(self.inner.known_since(since))
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.inner.close()
    }
}
