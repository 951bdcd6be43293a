//! A start on a data directory of before, or on an empty one (M2 is broken).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use order_router::store::{EmbeddedStore, IntentStore};
use order_router::testing::disk::ForgetfulDisk;
use order_router::{ItemsHash, OrderRouter, StartAnswer};

use crate::run::Run;
use crate::supplier::{LooksOnly, SimSupplier};

impl Run {
    /// Somebody puts an older volume in place, or an empty one. The router must not begin to send
    /// where the account shows orders that this store does not know. Afterwards the right volume is
    /// there again.
    pub fn rolled_back(&mut self) {
        let share = self.world.inner.lock().unwrap().profile.rollback;
        if share == 0.0 || self.former.is_empty() || self.rng.f64() >= share {
            return;
        }
        let empty = self.rng.u8(..3) == 0;
        let disk = match self.rng.choice(&self.former) {
            Some(former) if !empty => former.after_kill(),
            _ => ForgetfulDisk::new(),
        };
        let runner = super::run::paused_system();
        let clock = self.world.clock.clone();
        let handle = runner.block_on(async {
            clock.begin();
            self.look_on(&disk).await;
            clock.end();
            tokio::runtime::Handle::current()
        });
        disk.cut();
        // Actors that go look for the runtime once more.
        let inside = handle.enter();
        drop(runner);
        drop(inside);
    }

    async fn look_on(&mut self, disk: &ForgetfulDisk) {
        let Ok(store) = self.store(disk) else { return };
        let unknown = self.unknown_to(&store);
        self.world.note(|| format!("a volume of before: {unknown} orders are unknown to it"));
        let world = self.world.clone();
        let supplier = Arc::new(LooksOnly(SimSupplier { world, left_out: self.left_out() }));
        let builder = OrderRouter::builder(supplier, Arc::new(store))
            .config(self.config.clone().start(StartAnswer::Ask))
            .runtime(self.runtime(disk));
        let Ok(router) = builder.start().await else { return };
        let ready = tokio::time::timeout(Duration::from_secs(120), router.ready()).await;
        self.world.note(|| format!("ready: {ready:?}"));
        if matches!(ready, Ok(Ok(()))) && unknown > 0 {
            let what = format!("it starts, and the list shows {unknown} orders that it has not");
            self.world.inner.lock().unwrap().oracle.violated(what);
        }
    }

    /// How many orders of the account a store neither has nor has an open attempt for.
    fn unknown_to(&self, store: &EmbeddedStore) -> usize {
        let (inner, now) = self.world.now();
        let as_of = now.saturating_sub(inner.profile.bounds.stale);
        let shown = inner
            .orders
            .iter()
            .filter(|order| order.visible_at <= as_of && !inner.oracle.foreign.contains(&order.id));
        let ids: Vec<_> = shown.map(|order| order.id.clone()).collect();
        let claims = store.claims(ids.clone()).now_or_never().expect("inline").unwrap_or_default();
        let found = store.rehydrate().now_or_never().expect("inline");
        let mut open: BTreeMap<ItemsHash, usize> = BTreeMap::new();
        for stored in found.into_iter().flat_map(|found| found.intents) {
            if stored.state.attempt().is_some() {
                *open.entry(stored.lane).or_default() += 1;
            }
        }
        let mut unknown = 0;
        for (id, _) in ids.iter().zip(claims).filter(|(_, claim)| claim.is_none()) {
            let left = inner.oracle.ledger.get(id).and_then(|lane| open.get_mut(lane));
            match left {
                Some(left) if *left > 0 => *left -= 1,
                _ => unknown += 1,
            }
        }
        unknown
    }
}
