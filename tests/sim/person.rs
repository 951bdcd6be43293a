//! The person who is asked: looks at the account, and says what is so.

use std::time::Duration;

use order_router::protocol::{PayStep, State};
use order_router::store::Stored;
use order_router::{OrderRouter, Resolution};

use crate::profile::Odd;
use crate::run::Run;
use crate::world::SoldOrder;

impl Run {
    /// The start has stopped: that is right where somebody else has bought here.
    pub fn unknown_orders(&mut self) {
        if self.sees_our_own() {
            return;
        }
        let mut inner = self.world.inner.lock().unwrap();
        // Also from before the first start, where the first list did not show it.
        let foreign = inner.profile.foreign_identical + inner.profile.foreign_other > 0.0
            || !inner.oracle.foreign.is_empty();
        let broken = inner.profile.odd_echo > 0.0 || inner.oracle.is_broken();
        if foreign || broken {
            self.adopt = true;
        } else {
            inner.oracle.violated("the start stops, and nobody else has bought here".to_owned());
        }
    }

    /// Whoever looks sees an order of ours that the list shows wrongly, or knows that one may yet
    /// land, and does not say that it is somebody else's.
    pub fn sees_our_own(&self) -> bool {
        let (inner, _) = self.world.now();
        let wrong = |order: &SoldOrder| {
            order.odd
                && !inner.oracle.is_claimed(&order.id)
                && !inner.oracle.foreign.contains(&order.id)
        };
        let lands = inner.oracle.sold.values().any(|sold| sold.may_land > 0);
        let may_be_wrong = lands && inner.profile.odd_echo > 0.0;
        // Where the list is never right, everybody in doubt waits for a person anyhow.
        let never_right = inner.profile.odd == Odd::Product;
        inner.faults && !never_right && (may_be_wrong || inner.orders.iter().any(wrong))
    }

    /// A person looks, and decides truthfully. True once everything has ended.
    pub async fn tidy(&mut self, router: &OrderRouter, begun: Duration) -> bool {
        let Ok(open) = router.open_orders().await else { return false };
        // What was sent with another key is not released by this one's lists.
        let other_key = self.world.inner.lock().unwrap().profile.other_key > 0.0;
        for stored in &open {
            self.decide_payment(router, stored).await;
            let waited = self.world.clock.elapsed() > begun + Duration::from_secs(300);
            let asked = !self.trusts_echo || other_key;
            let held = matches!(stored.state, State::Held(..))
                || (asked && waited && matches!(stored.state, State::InDoubt(..)));
            let (unclaimed, may_land) = {
                let (inner, _) = self.world.now();
                inner.unclaimed(stored.lane)
            };
            if held && !may_land {
                let resolution = match unclaimed.first() {
                    Some(id) => Resolution::Placed(id.clone()),
                    None => Resolution::Absent,
                };
                self.world.note(|| format!("a person says {} {resolution:?}", stored.client_ref));
                let told = router.resolve(&stored.client_ref, resolution, "looked").await;
                self.world.note(|| format!("resolved: {told:?}"));
            }
        }
        let lanes: Vec<_> = {
            let inner = self.world.inner.lock().unwrap();
            inner.oracle.kept.iter().map(|(name, kept)| (name.clone(), kept.lane)).collect()
        };
        let mut freed = std::collections::BTreeSet::new();
        for (name, lane) in lanes {
            let doubts = open.iter().any(|s| s.lane == lane && s.state.attempt().is_some());
            if !doubts && self.lane_held(router, lane).await && freed.insert(lane) {
                let done = router.free_lane(&name).await;
                self.world.note(|| format!("a person frees the lane of {name}: {done:?}"));
            }
        }
        let (inner, _) = self.world.now();
        let all = self.orders.iter().all(|order| inner.oracle.was_told(order.client_ref()));
        let quiet = inner.oracle.sold.values().all(|sold| sold.may_land == 0);
        // Where an assumption is broken, somebody has to be told.
        let told = !inner.oracle.is_broken() || inner.oracle.silent() == 0;
        all && open.is_empty() && quiet && told
    }

    /// Whether an order that was created is paid, once that is certain.
    async fn decide_payment(&self, router: &OrderRouter, stored: &Stored) {
        let State::Created { id, payment, .. } = &stored.state else { return };
        let was_paid = self.world.now().0.was_paid(id);
        let Some(was_paid) = was_paid.filter(|_| payment.step == PayStep::Held) else { return };
        let resolution = if was_paid { Resolution::Paid } else { Resolution::Unpaid };
        self.world.note(|| format!("a person says {} {resolution:?}", stored.client_ref));
        let told = router.resolve(&stored.client_ref, resolution, "looked").await;
        self.world.note(|| format!("resolved: {told:?}"));
    }

    async fn lane_held(&self, _router: &OrderRouter, lane: order_router::ItemsHash) -> bool {
        // Only a surplus holds a lane: somebody else's orders make one, or a POST that made two.
        let inner = self.world.inner.lock().unwrap();
        let ledger = &inner.oracle.ledger;
        let others = inner.oracle.foreign.iter().any(|id| ledger.get(id) == Some(&lane));
        others || (inner.oracle.is_broken() && inner.oracle.is_held(&lane))
    }
}
