//! Keeps the keys of open orders at the gate: they must not expire, and what the gate forgets is
//! written again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;

use super::SharedGate;
use super::intake::Kept;
use crate::actors::Shared;
use crate::store::StoreError;

/// How many keys are written at once.
const AT_ONCE: usize = 8;

/// Begins to keep the keys of a router's open orders, if it has a gate.
pub(crate) fn keep(shared: &Arc<Shared>) {
    if let Some(gate) = shared.gate.clone() {
        let of = shared.clone();
        shared.spawn(async move { gate.keep(&of).await });
    }
}

impl SharedGate {
    async fn keep(&self, shared: &Shared) {
        loop {
            if let Err(StoreError::Closed) = self.write_again(shared).await {
                return;
            }
            tokio::select! {
                () = shared.runtime.sleep(self.terms.ttl / 3) => {}
                () = self.back.notified() => {}
            }
        }
    }

    /// Writes the keys of all open orders again, each for a whole TTL.
    async fn write_again(&self, shared: &Shared) -> Result<(), StoreError> {
        let open = shared.store.rehydrate().await?.intents;
        let open = open.into_iter().filter(|stored| !stored.state.is_end());
        let (again, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let each = futures_util::stream::iter(open).for_each_concurrent(AT_ONCE, |stored| {
            let (again, failed) = (&again, &failed);
            async move {
                let key = self.key(&stored.client_ref);
                match self.hold(shared, &key, &stored.client_ref, stored.as_sent).await {
                    Ok(Kept::Again) => drop(again.fetch_add(1, Ordering::Relaxed)),
                    Ok(Kept::There | Kept::Lost) => {}
                    Err(_) => drop(failed.fetch_add(1, Ordering::Relaxed)),
                }
            }
        });
        each.await;
        let (again, failed) = (again.into_inner(), failed.into_inner());
        if again > 0 {
            self.counts.forgotten.fetch_add(again as u64, Ordering::Relaxed);
            tracing::warn!(again, "keys of open orders were not at the shared gate: written again");
        }
        if failed > 0 {
            tracing::warn!(failed, "keys of open orders could not be written at the shared gate");
        }
        Ok(())
    }
}
