//! Carries the core's effects out: writes, POSTs, permits, lists, answers.

use std::sync::atomic::Ordering;

use actix::Context;

use super::{LaneActor, Resolved, told_progress};
use crate::actors::lookout::Ask;
use crate::actors::{LookoutMessage, PayEntry, PayMessage, Source};
use crate::crash;
use crate::dispatch::{self, Job, Used};
use crate::error::SubmitError;
use crate::order::{Item, ItemsDigest, OrderId, Price};
use crate::protocol::lane::{Alarm, Effect, Event, Told, Write, Written};
use crate::protocol::{AttemptSeq, Change, IntentId, Learnt, Payment, PaysOn, Shape, Verdict};
use crate::router::{Progress, RouterEvent, Teller};
use crate::store::{Claim, Committed, Known, StoreError, Stored};
use crate::telemetry::Count;

impl LaneActor {
    pub(super) fn carry_out(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Write(write) => self.write(write, ctx),
            Effect::AskPermit { intent } => {
                let shared = self.shared.clone();
                let open = self.orders.get(&intent);
                let amount = open.and_then(|open| Price::total(&open.items));
                let until = self.lane.good_until(intent);
                shared.dispatch.ask(&shared, (self.hash, intent), amount, until);
            }
            Effect::ReturnPermit { intent } => {
                self.shared.dispatch.give_back(&self.shared, intent, Used::Not);
            }
            Effect::Send { intent, seq } => self.send(intent, seq),
            Effect::List { ask, since } => {
                let items = self.orders.values().map(|open| &open.items);
                let shapes = items.map(|items| Shape::of(items)).collect();
                let products =
                    self.gauge.products.get().cloned().unwrap_or_else(|| Vec::new().into());
                let (lane, epoch) = (self.hash, self.epoch);
                let ask = Ask { lane, ask, epoch, since, products, shapes };
                self.shared.look(LookoutMessage::Ask(ask));
            }
            Effect::Tell { intent, told: Told::LaneHeld(why) } => {
                self.turn_away(intent, SubmitError::LaneHeld { why }, ctx);
            }
            Effect::Tell { intent, told } => self.tell(intent, told),
            Effect::Orphans { ids } => self.shared.orphans(ids, "its lane has no open attempt"),
            Effect::Stray { intent, seq, id, exchanged } => {
                let alarm = (!exchanged).then_some(Alarm::LandedAfterAbsent { intent, seq });
                self.stray(id, alarm, ctx);
            }
            Effect::Released { intent, floor } => {
                self.resolved(intent, Resolved::Done);
                self.shared.look(LookoutMessage::Released { floor });
            }
            Effect::Alarm(alarm) => self.alarm(&alarm),
        }
    }

    /// Hands a change to the store; its answer comes back as an event.
    fn write(&mut self, write: Write, ctx: &mut Context<Self>) {
        let bought = self.note_money(&write);
        let (intent, change) = match write {
            Write::Accept { intent, attempt } => {
                let new = self.orders.get_mut(&intent).and_then(|open| open.new.take());
                let Some(new) = new else { return };
                (Some(intent), Change::Accept { intent: *new, attempt })
            }
            Write::Record { intent, attempt } => (Some(intent), Change::Record { intent, attempt }),
            Write::Decide { intent, seq, verdict } => {
                let verdict = self.shared.as_it_pays(verdict);
                (Some(intent), Change::Decide { intent, attempt: seq, verdict })
            }
            Write::Expire { intent, why } => (Some(intent), Change::Expire { intent, why }),
            Write::Settle { intent } => (None, Change::Settle { intent }),
            Write::HoldLane { why } => (None, Change::HoldLane { lane: self.hash, why }),
            Write::FreeLane => (None, Change::FreeLane { lane: self.hash }),
        };
        let accepts = matches!(change, Change::Accept { .. });
        let points = crash::change::points(&change);
        points.inspect(|(writing, _)| crash::point(writing));
        let commit = self.shared.store.commit(change);
        let handed_over = self.shared.runtime.now();
        self.after(ctx, commit, move |lane, result, ctx| {
            lane.shared.telemetry.committed(lane.shared.runtime.now().since(handed_over));
            points.inspect(|(_, durable)| crash::point(durable));
            match (&result, intent) {
                (Ok(Committed::Done), Some(intent)) => {
                    if let Some(bought) = bought {
                        lane.shared.money.ended(&lane.shared, intent, bought);
                    }
                }
                // It was not taken in, so nothing of it leaves.
                (_, Some(intent)) if accepts => {
                    lane.shared.money.ended(&lane.shared, intent, false)
                }
                _ => {}
            }
            match (result, intent) {
                (Ok(committed), Some(intent)) => lane.committed(intent, committed, ctx),
                (Ok(_), None) => {}
                (Err(error), intent) => lane.write_failed(intent.filter(|_| accepts), &error, ctx),
            }
        });
    }

    /// Tells the book of the money what an attempt may cost, before it is recorded; and whether this write
    /// ends it, as bought or as nothing.
    fn note_money(&self, write: &Write) -> Option<bool> {
        let shared = &self.shared;
        match write {
            Write::Accept { intent, attempt: Some(_) } | Write::Record { intent, .. } => {
                if let Some(open) = self.orders.get(intent) {
                    shared.money.begun(*intent, || shared.price_of(*intent, &open.items));
                }
                None
            }
            Write::Decide { verdict, .. } => match verdict {
                // Where creating does not pay, its payment is what costs.
                Verdict::Placed { .. } | Verdict::Created { .. } => {
                    Some(shared.config.pays_on == PaysOn::Create)
                }
                Verdict::Refused(_)
                | Verdict::NotSent(_)
                | Verdict::Absent
                | Verdict::NotPlaced(_) => Some(false),
                Verdict::InDoubt(_) | Verdict::Held(_) => None,
            },
            Write::Accept { .. }
            | Write::Expire { .. }
            | Write::Settle { .. }
            | Write::HoldLane { .. }
            | Write::FreeLane => None,
        }
    }

    fn committed(&mut self, intent: IntentId, committed: Committed, ctx: &mut Context<Self>) {
        let written = match committed {
            Committed::Done => Written::Done,
            Committed::Joined(stored) => {
                self.join(intent, *stored, ctx);
                Written::NotNew
            }
            Committed::Conflict => {
                if let Some(open) = self.leave(intent) {
                    let client_ref = open.client_ref.clone();
                    let error = SubmitError::Conflict { client_ref };
                    notify(&open.waiters, &Progress::Failed(error));
                }
                Written::NotNew
            }
            Committed::IdTaken(Claim { intent: holder, lane, learnt, .. }) => {
                self.resolved(intent, Resolved::Taken);
                Written::IdTaken { holder, learnt, same_lane: lane == self.hash }
            }
            Committed::Stale => {
                // The store knows better than this lane: nothing of its state is believed.
                self.shared.alarm(&format!("lane {} disagrees with the store", self.hash));
                self.rebuild(ctx);
                return;
            }
        };
        self.feed(Event::Written { intent, written }, ctx);
    }

    /// An intent leaves the lane.
    pub(super) fn leave(&mut self, intent: IntentId) -> Option<Box<super::Open>> {
        let open = self.orders.remove(&intent)?;
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        if self.shared.config.resend_without_guard {
            self.shared.unguarded.remove(&intent);
        }
        Some(open)
    }

    /// The reference exists with the same order: its callers wait for that intent.
    fn join(&mut self, intent: IntentId, stored: Stored, ctx: &mut Context<Self>) {
        let Some(open) = self.leave(intent) else { return };
        self.shared.telemetry.count(Count::Joined);
        tracing::debug!(parent: &open.span, "joins an order under the same reference");
        if let Some(there) = self.orders.get_mut(&stored.id) {
            if there.client_ref != stored.client_ref {
                return self.shared.fail(&not_ours(&stored));
            }
            let standing = self.lane.standing(stored.id);
            for waiter in open.waiters {
                if let Some(standing) = &standing {
                    waiter.tell(told_progress(standing));
                }
                there.waiters.push(waiter);
            }
            return;
        }
        if stored.state.is_decided() {
            self.hand_over_or_tell(&stored, open.waiters);
            return;
        }
        // It has ended since: what the store says now is its end.
        let find = self.shared.store.find(open.client_ref);
        let waiters = open.waiters;
        self.after(ctx, find, move |lane, found, _| match found {
            Ok(Some(stored)) => lane.meet(&stored, waiters),
            // Their channel closes, and they ask the store again.
            Ok(None) => {}
            Err(error) => lane.shared.fail(&error),
        });
    }

    /// Callers wait for an intent that the store has, or are told its end.
    fn meet(&mut self, stored: &Stored, waiters: Vec<Teller>) {
        if stored.state.is_decided() {
            return self.hand_over_or_tell(stored, waiters);
        }
        let progress = super::progress_of(&stored.state);
        notify(&waiters, &progress);
        if let Some(there) = self.orders.get_mut(&stored.id) {
            if there.client_ref != stored.client_ref {
                return self.shared.fail(&not_ours(stored));
            }
            there.waiters.extend(waiters);
        }
    }

    /// The lane is done with an order: its callers are told its end, or wait for its payment.
    pub(super) fn hand_over_or_tell(&self, stored: &Stored, waiters: Vec<Teller>) {
        if let Err(waiters) = self.shared.payments.enter(&self.shared, stored, waiters) {
            notify(&waiters, &super::progress_of(&stored.state));
        }
    }

    /// An order is not taken. One that the store has already gets its answer (rule 1).
    pub(super) fn turn_away(
        &mut self,
        intent: IntentId,
        refused: SubmitError,
        ctx: &mut Context<Self>,
    ) {
        let Some(open) = self.leave(intent) else { return };
        let find = self.shared.store.find(open.client_ref.clone());
        self.after(ctx, find, move |lane, found, _| {
            let failed = match found {
                Ok(Some(stored)) if stored.as_sent == ItemsDigest::as_sent(&open.items) => {
                    return lane.meet(&stored, open.waiters);
                }
                Ok(Some(_)) => SubmitError::Conflict { client_ref: open.client_ref.clone() },
                Ok(None) => refused,
                Err(error) => return lane.shared.fail(&error),
            };
            notify(&open.waiters, &Progress::Failed(failed));
        });
    }

    /// The store did not take a change.
    fn write_failed(
        &mut self,
        accepting: Option<IntentId>,
        error: &StoreError,
        ctx: &mut Context<Self>,
    ) {
        let refused = matches!(error, StoreError::Full { .. } | StoreError::TooLarge { .. });
        if let Some(intent) = accepting
            && let Some(open) = self.leave(intent)
        {
            let failed = SubmitError::Store { may_exist: !refused, source: error.clone() };
            notify(&open.waiters, &Progress::Failed(failed));
            self.feed(Event::Written { intent, written: Written::NotNew }, ctx);
        }
        // What is not an intake cannot be left out: its lane would wait for ever.
        if !refused || accepting.is_none() {
            self.shared.fail(error);
        }
    }

    fn send(&mut self, intent: IntentId, seq: AttemptSeq) {
        let open = self.orders.get(&intent).zip(self.lane.good_until(intent));
        let Some((open, good_until)) = open else { return };
        let client_ref = open.client_ref.clone();
        let mut items = self.shared.echo.as_sent(&client_ref, &open.items);
        if self.shared.config.resend_without_guard && self.shared.unguarded.contains(&intent) {
            items = items.iter().cloned().map(Item::without_price).collect();
        }
        let job = Job { lane: self.hash, client_ref, intent, seq, items, good_until };
        open.span.in_scope(|| dispatch::send(&self.shared, job));
    }

    fn tell(&mut self, intent: IntentId, told: Told) {
        let ended = match &told {
            Told::Accepted => false,
            Told::InDoubt | Told::Held(_) => {
                self.tell_doubt(intent, &told);
                false
            }
            Told::NotInDoubt => {
                self.resolved(intent, Resolved::NotInDoubt);
                return;
            }
            Told::LaneHeld(_) | Told::Refused(_) | Told::NotPlaced(_) => true,
            Told::Placed { id, learnt, created_at } => {
                if let Some(open) = self.orders.get(&intent) {
                    let known = Known {
                        id: id.clone(),
                        lane: self.hash,
                        shape: Shape::of(&open.items),
                        learnt: *learnt,
                        created_at: *created_at,
                    };
                    self.shared.account().learnt(known, self.shared.runtime.now());
                }
                self.resolved(intent, Resolved::Done);
                true
            }
        };
        let progress = told_progress(&told);
        if !ended {
            if let Some(open) = self.orders.get(&intent) {
                notify(&open.waiters, &progress);
            }
            return;
        }
        let price = self.orders.get(&intent);
        let price = price.and_then(|open| self.shared.price_of(intent, &open.items));
        let Some(open) = self.leave(intent) else { return };
        if let Told::Placed { id, learnt, created_at } = told
            && self.shared.config.pays_on == PaysOn::Pay
        {
            return self.hand_to_cashier(intent, *open, price, (id, learnt, created_at));
        }
        self.shared.dispatch.ended(&self.shared, intent, false);
        if let Progress::Ended(end) = &progress {
            self.shared.telemetry.count(Count::Verdict(end.word()));
            open.span.record("verdict", end.word());
            tracing::debug!(parent: &open.span, verdict = end.word(), "ended");
            self.shared.tell(|| RouterEvent::Ended {
                client_ref: open.client_ref.clone(),
                end: end.clone(),
            });
        }
        notify(&open.waiters, &progress);
    }

    /// The order is created, durably: it is to be paid.
    fn hand_to_cashier(
        &self,
        intent: IntentId,
        open: super::Open,
        price: Option<Price>,
        (order, learnt, created_at): (OrderId, Learnt, Option<jiff::Timestamp>),
    ) {
        let entry = PayEntry {
            intent,
            client_ref: open.client_ref,
            order,
            learnt,
            created_at,
            price,
            payment: Payment::NEW,
            source: if learnt == Learnt::Answer { Source::Answer } else { Source::Store },
            waiters: open.waiters,
        };
        self.shared.payments.send(&self.shared, PayMessage::Enter(Box::new(entry)));
    }

    fn tell_doubt(&self, intent: IntentId, told: &Told) {
        let Some(open) = self.orders.get(&intent) else { return };
        let client_ref = || open.client_ref.clone();
        match told {
            Told::Held(why) => {
                self.shared.telemetry.count(Count::Held);
                tracing::warn!(parent: &open.span, %why, "held for a person");
                let why = why.clone();
                self.shared.tell(|| RouterEvent::Held { client_ref: client_ref(), why });
            }
            _ => {
                self.shared.telemetry.count(Count::InDoubt);
                tracing::info!(parent: &open.span, "in doubt");
                self.shared.tell(|| RouterEvent::InDoubt { client_ref: client_ref() });
            }
        }
    }

    /// An order came for an attempt that is closed. If somebody has it, identical orders were
    /// exchanged; if an attempt is open, a list will give it its owner; else it is an orphan.
    fn stray(&mut self, id: OrderId, alarm: Option<Alarm>, ctx: &mut Context<Self>) {
        let claims = self.shared.store.claims(vec![id.clone()]);
        self.after(ctx, claims, move |lane, claims, _| match claims {
            Ok(claims) if claims.iter().all(Option::is_none) && !lane.lane.has_open_attempt() => {
                alarm.iter().for_each(|alarm| lane.alarm(alarm));
                lane.shared.orphans(vec![id], "it came for an attempt that was closed");
            }
            Ok(_) => {}
            Err(error) => lane.shared.fail(&error),
        });
    }

    fn alarm(&self, alarm: &Alarm) {
        let what = match alarm {
            Alarm::IdTaken { .. } => {
                "an answer names an order that another intent has: the supplier's answers are mixed up".into()
            }
            Alarm::LandedAfterAbsent { .. } => {
                "an attempt that was declared absent did land: the landing bound is too short (A1)".into()
            }
            Alarm::Surplus { candidates, doubts } => format!(
                "{candidates} orders for {doubts} attempts in doubt: somebody else buys here, or a POST landed twice (A3)"
            ),
            Alarm::NearMiss { id } => format!(
                "order {id} is similar to one in doubt: is the list's echo faithful (A4)? A person must look"
            ),
            Alarm::OtherKey { .. } => {
                "an attempt in doubt was sent with another key than the list is read with (A2)".into()
            }
        };
        self.shared.alarm(&format!("lane {}: {what}", self.hash));
    }
}

/// Tells every caller who waits.
pub(super) fn notify(waiters: &[Teller], progress: &Progress) {
    for waiter in waiters {
        waiter.tell(progress.clone());
    }
}

/// The store has another order under a number of this router's: somebody else writes there.
fn not_ours(stored: &Stored) -> StoreError {
    let why = format!("{} has a number of another order: another router writes", stored.client_ref);
    StoreError::Failed(why.into())
}
