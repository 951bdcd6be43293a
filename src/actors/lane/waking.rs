//! A lane comes back: after a restart from what was dormant, after a panic from the store.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use actix::{AsyncContext, Context};

use super::effects::notify;
use super::{LaneActor, progress_of, restored};
use crate::actors::Dormant;
use crate::dispatch::Used;
use crate::protocol::lane::{Lane, Restored};
use crate::protocol::{Clause, IntentId, Moment};
use crate::store::{Rehydration, StoreError, Stored};

impl LaneActor {
    /// Takes over what the store holds of this lane (rule 11).
    pub(super) fn wake(&mut self, dormant: Dormant, left: Moment, ctx: &mut Context<Self>) {
        let (now, wall) = (self.shared.runtime.now(), self.shared.runtime.clock.wall());
        let awaited = self.shared.config.left_out.keeps(Clause::ReportAwaited);
        let unreported = |seq| awaited && self.shared.unreported.contains(seq);
        let known = dormant.intents.iter().map(|stored| Restored {
            unreported: stored.last_attempt.is_some_and(unreported),
            ..restored(stored, wall, now)
        });
        let known: Vec<_> = known.collect();
        for stored in &dormant.intents {
            match stored.state.attempt() {
                Some(_) => {
                    self.shared.money.begun(stored.id, || self.shared.price_then(&stored.items))
                }
                // How an attempt ended meanwhile is not known here: it counts as bought, which rings nothing.
                None => self.shared.money.ended(&self.shared, stored.id, true),
            }
            if stored.state.is_decided() {
                let products = stored.items.iter().map(|i| i.id_shared());
                self.gauge.products.get_or_init(|| products.collect());
            } else if !self.orders.contains_key(&stored.id) {
                self.enter(stored.id, &stored.client_ref, &stored.items, None);
            }
        }
        let (lane, effects) = Lane::rehydrate(&self.shared.rules, &known, dormant.hold, left, now);
        self.lane = lane;
        self.gauge.open_attempts.store(self.lane.open_attempts(), Ordering::SeqCst);
        for effect in effects {
            self.carry_out(effect, ctx);
        }
        self.note_doubts();
        self.set_timer(now, ctx);
    }

    /// Begins to build this lane anew from the store: nothing in memory is believed.
    pub(super) fn rebuild(&mut self, ctx: &mut Context<Self>) {
        self.epoch += 1;
        if self.rebuilding.is_none() {
            self.rebuilding = Some(Vec::new());
            // Attempts that are recorded, or being so, will not be sent by this lane any more.
            for intent in self.lane.permits_held() {
                self.shared.dispatch.give_back(&self.shared, intent, Used::Not);
            }
        }
        // Whoever decides is told that nobody answers, and asks again.
        self.resolving.clear();
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        self.rebuild_once_quiet(ctx);
    }

    /// Once no write of the old lane is under way any more, the store has the last word.
    pub(super) fn rebuild_once_quiet(&mut self, ctx: &mut Context<Self>) {
        if self.rebuilding.is_none() || self.busy > 0 {
            return;
        }
        let rehydrate = self.shared.store.rehydrate();
        self.after(ctx, rehydrate, |lane, found, ctx| lane.rebuilt(found, ctx));
    }

    fn rebuilt(&mut self, found: Result<Rehydration, StoreError>, ctx: &mut Context<Self>) {
        let found = match found {
            Ok(found) => found,
            Err(error) => return self.shared.fail(&error),
        };
        let hold = found.held_lanes.get(&self.hash).cloned();
        let mine = found.intents.into_iter().filter(|stored| stored.lane == self.hash);
        let intents: Vec<_> = mine.collect();
        self.forget_ended(&intents.iter().map(|s| (s.id, s)).collect());
        // The latest moment at which the gate of an attempt of the old lane could have yielded:
        // gates close within the send window after their record, and every record is over. Their
        // bytes may leave later, if the process is stopped in between: see `Unreported`, which is asked
        // below. Tasks of this lane run on its own thread, so none can report between the two.
        let left = self.shared.runtime.now().plus(self.shared.config.send_window);
        // What a former holder of the lease may still send is settled no earlier than at a start.
        let left = left.max(self.shared.locked_at);
        let waiting = self.rebuilding.take().unwrap_or_default();
        self.wake(Dormant { intents, hold }, left, ctx);
        for message in waiting {
            self.take(message, ctx);
        }
    }

    /// Orders that the store does not hold as open have ended or were never accepted: their callers
    /// are told the end where it is at hand, or ask the store again, for their channel closes.
    fn forget_ended(&mut self, found: &BTreeMap<IntentId, &Stored>) {
        let is_open = |id| found.get(id).is_some_and(|stored| !stored.state.is_decided());
        let gone: Vec<_> = self.orders.keys().filter(|id| !is_open(id)).copied().collect();
        for id in gone {
            // How it ended is not known here: it counts as bought, which rings nothing.
            self.shared.money.ended(&self.shared, id, true);
            // One that was placed from a list is found too, while its own POST is not settled.
            if let (Some(order), Some(stored)) = (self.leave(id), found.get(&id)) {
                self.hand_over_or_tell(stored, order.waiters);
            }
        }
        // One that was created while the lane was down may be nobody's yet.
        for stored in found.values() {
            // Whatever else it is, there is nobody to give back.
            let _ = self.shared.payments.enter(&self.shared, stored, Vec::new());
        }
        for (id, stored) in found {
            if let Some(order) = self.orders.get(id) {
                notify(&order.waiters, &progress_of(&stored.state));
            }
        }
    }
}
