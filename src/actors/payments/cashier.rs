//! The cashier: receives, steps bills, carries their effects out.

mod standing;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use standing::standing;

use super::looks::{self, Wanted};
use super::{Cashier, Open, PayEntry, PayMessage, Shared, Source, Trust};
use crate::actors::lookout::LookoutMessage;
use crate::actors::{Resolved, end_of};
use crate::crash;
use crate::dispatch::{PayJob, Used, send_pay};
use crate::order::{OrderId, Price};
use crate::protocol::payment::{Bill, PayAlarm, PayEffect, PayEvent, PayTold, Saw};
use crate::protocol::{Change, IntentId, Learnt, Moment, PayStep, PayVerdict, Payment, PaysOn};
use crate::router::{End, Progress, RouterEvent};
use crate::store::{Committed, StoreError, Stored};
use crate::telemetry::Count;

impl Cashier {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let trust = match shared.config.pays_on {
            PaysOn::Create => Trust::Broken,
            PaysOn::Pay => Trust::Unseen,
        };
        Self {
            shared,
            orders: Default::default(),
            by_order: Default::default(),
            wakes: Default::default(),
            trust,
            unpaid: Default::default(),
            looks: Default::default(),
            looking: false,
        }
    }

    /// Serves until the router's threads go.
    pub(super) async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<PayMessage>) {
        loop {
            let wakes_at = self.wakes.first().map(|(at, _)| *at);
            let shared = self.shared.clone();
            let timer = async {
                match wakes_at {
                    // A moment later rather than earlier.
                    Some(at) => shared.runtime.sleep_until(at.plus(TICK)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                message = receiver.recv() => match message {
                    Some(message) => {
                        self.receive(message);
                        self.shared.busy.fetch_sub(1, Ordering::SeqCst);
                    }
                    None => return,
                },
                () = timer => self.wake(),
            }
            self.look();
        }
    }

    /// Handles a message. A panic is our bug: the bill is not believed after it.
    fn receive(&mut self, message: PayMessage) {
        let intent = message.intent();
        let handled = catch_unwind(AssertUnwindSafe(|| self.handle(message)));
        if handled.is_err() {
            self.shared.alarm("the cashier has panicked; the payment is read from the store again");
            match intent {
                Some(intent) => self.lose(intent),
                None => {
                    let all: Vec<_> = self.orders.keys().copied().collect();
                    all.into_iter().for_each(|intent| self.lose(intent));
                }
            }
        }
    }

    fn handle(&mut self, message: PayMessage) {
        match message {
            PayMessage::Enter(entry) => self.enter(*entry),
            PayMessage::Permitted { intent } => {
                if !self.feed(intent, PayEvent::Permitted) {
                    self.shared.dispatch.give_back(&self.shared, intent, Used::Not);
                }
            }
            PayMessage::Answered { intent, pays, outcome, left } => {
                self.feed(intent, PayEvent::Answered { pays, outcome, left });
            }
            PayMessage::Committed { intent, result } => self.committed(intent, result),
            PayMessage::Found { intent, found } => self.found(intent, found),
            PayMessage::Looked(seen) => self.looked(seen),
            PayMessage::SeenPaid(ids) => {
                for id in ids {
                    if let Some(intent) = self.by_order.get(&id).copied() {
                        self.feed(intent, PayEvent::SeenPaid);
                    } else if let Some(client_ref) = self.unpaid.is_paid(&id) {
                        self.shared.alarm(&format!(
                            "order {client_ref} is paid, and was told unpaid: the landing bound is too \
                             short (A1), or somebody else pays here; see what became of {id}"
                        ));
                    }
                }
            }
            PayMessage::Resolve { intent, decision, answer } => {
                let decidable = |open: &&mut Open| !open.lost && open.bill.is_decidable();
                match self.orders.get_mut(&intent).filter(decidable) {
                    Some(open) => {
                        open.resolving = Some(answer);
                        self.feed(intent, PayEvent::Decided(decision));
                    }
                    // Nobody waits any more if this fails.
                    None => drop(answer.send(Resolved::NotInDoubt)),
                }
            }
        }
    }

    /// From when on a look says whether creating pays, if that has to be looked at.
    fn check_from(&self, now: Moment) -> Option<Moment> {
        match self.trust {
            Trust::Seen => None,
            Trust::Unseen | Trust::Broken => Some(now.plus(self.shared.config.pay_watch)),
        }
    }

    fn enter(&mut self, mut entry: PayEntry) {
        let intent = entry.intent;
        if let Some(open) = self.orders.get_mut(&intent) {
            // Once another router has taken the store over, it gives numbers of this one's out anew.
            if open.entry.client_ref == entry.client_ref {
                let progress = standing(open);
                entry.waiters.iter().for_each(|waiter| waiter.tell(progress.clone()));
                open.entry.waiters.extend(entry.waiters);
            }
            return;
        }
        if entry.source == Source::Earlier && self.shared.config.resend_without_guard {
            // Whether it went without its price guard is not known.
            entry.price = None;
        }
        let now = self.shared.runtime.now();
        let (bill, effects) = match entry.source {
            Source::Answer => Bill::created(self.check_from(now), &self.shared.rules, now),
            Source::Store | Source::Earlier => {
                (self.restored(intent, entry.payment, now), Vec::new())
            }
        };
        let unsure = entry.source == Source::Earlier;
        if entry.payment.step != PayStep::Due {
            self.shared.money.begun(intent, || entry.price);
        }
        let span = tracing::info_span!(
            "order",
            client_ref = %entry.client_ref,
            order_id = %entry.order,
            verdict = tracing::field::Empty,
        );
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        self.shared.payments.open.fetch_add(1, Ordering::Relaxed);
        self.by_order.insert(entry.order.clone(), intent);
        let open = Open {
            entry,
            bill,
            lost: false,
            unsure,
            in_doubt: false,
            wakes_at: None,
            resolving: None,
            span,
        };
        let progress = standing(&open);
        open.entry.waiters.iter().for_each(|waiter| waiter.tell(progress.clone()));
        self.orders.insert(intent, open);
        if unsure {
            return self.lose(intent);
        }
        self.carry_out(intent, effects);
        self.note(intent);
    }

    /// A bill of what the store says. Of a former process, settling counts from when this one held the
    /// lock; of this one, from the latest moment at which a gate could have yielded.
    fn restored(&self, intent: IntentId, payment: Payment, now: Moment) -> Bill {
        let shared = &self.shared;
        let unreported = shared.payments.reports.is_missing(intent, payment.pays);
        let left = now.plus(shared.config.send_window).max(shared.locked_at);
        let check_from = self.check_from(now);
        Bill::restored(payment, check_from, unreported, &shared.rules, left, now)
    }

    /// Steps a bill; false if there is none that is believed.
    fn feed(&mut self, intent: IntentId, event: PayEvent) -> bool {
        let Some(open) = self.orders.get_mut(&intent).filter(|open| !open.lost) else {
            return false;
        };
        let now = self.shared.runtime.now();
        let effects = open.bill.step(&self.shared.rules, event, now);
        self.carry_out(intent, effects);
        self.note(intent);
        true
    }

    /// Keeps timers and counts right after a step.
    fn note(&mut self, intent: IntentId) {
        let Some(open) = self.orders.get_mut(&intent) else { return };
        let wakes_at = open.bill.wakes_at().filter(|_| !open.lost);
        if wakes_at != open.wakes_at {
            if let Some(at) = open.wakes_at {
                self.wakes.remove(&(at, intent));
            }
            self.wakes.extend(wakes_at.map(|at| (at, intent)));
            open.wakes_at = wakes_at;
        }
        let in_doubt = open.bill.is_in_doubt();
        if std::mem::replace(&mut open.in_doubt, in_doubt) != in_doubt {
            let price = open.entry.price;
            self.count_doubt(price, in_doubt);
        }
    }

    fn count_doubt(&self, price: Option<Price>, more: bool) {
        let doubts = self.shared.payments.count_doubt(price, more);
        self.shared.dispatch.pay_doubts(&self.shared, doubts);
    }

    fn carry_out(&mut self, intent: IntentId, effects: Vec<PayEffect>) {
        for effect in effects {
            match effect {
                PayEffect::AskPermit => {
                    let amount = self.orders.get(&intent).and_then(|open| open.entry.price);
                    self.shared.dispatch.ask_to_pay(&self.shared, intent, amount);
                }
                PayEffect::ReturnPermit => {
                    self.shared.dispatch.give_back(&self.shared, intent, Used::Not);
                }
                PayEffect::Write { was, to } => self.write(intent, was, to),
                PayEffect::Send { pays } => self.send(intent, pays),
                PayEffect::Look => drop(self.looks.insert(intent)),
                PayEffect::Tell(told) => self.tell(intent, told),
                PayEffect::Alarm(alarm) => self.alarm(intent, alarm),
            }
        }
    }

    /// Hands a change to the store; its answer comes back as a message.
    fn write(&self, intent: IntentId, was: Payment, to: PayVerdict) {
        let shared = self.shared.clone();
        let bought = self.note_money(intent, &to);
        let change = Change::Pay { intent, was, to };
        let points = crash::change::points(&change);
        points.inspect(|(writing, _)| crash::point(writing));
        let commit = shared.store.commit(change);
        let handed_over = shared.runtime.now();
        shared.busy.fetch_add(1, Ordering::SeqCst);
        self.shared.spawn(async move {
            let result = commit.await;
            shared.telemetry.committed(shared.runtime.now().since(handed_over));
            points.inspect(|(_, durable)| crash::point(durable));
            if let (Ok(Committed::Done), Some(bought)) = (&result, bought) {
                shared.money.ended(&shared, intent, bought);
            }
            shared.payments.send(&shared, PayMessage::Committed { intent, result });
            shared.busy.fetch_sub(1, Ordering::SeqCst);
        });
    }

    fn committed(&mut self, intent: IntentId, result: Result<Committed, StoreError>) {
        match result {
            Ok(Committed::Done) => {
                self.feed(intent, PayEvent::Written);
            }
            Ok(_) => {
                // The store knows better than this bill.
                self.shared.alarm("a payment disagrees with the store");
                self.lose(intent);
            }
            Err(error) => self.shared.fail(&error),
        }
    }

    /// Asks the store where an order stands: its bill is not believed any more.
    fn lose(&mut self, intent: IntentId) {
        let Some(open) = self.orders.get_mut(&intent) else { return };
        if std::mem::replace(&mut open.lost, true) {
            return;
        }
        if open.bill.holds_permit() {
            self.shared.dispatch.give_back(&self.shared, intent, Used::Not);
        }
        // Whoever decides is told that nobody answers, and asks again.
        open.resolving = None;
        let find = self.shared.store.find(open.entry.client_ref.clone());
        self.note(intent);
        let shared = self.shared.clone();
        self.shared.spawn(async move {
            let found = find.await;
            shared.payments.send(&shared, PayMessage::Found { intent, found });
        });
    }

    fn found(&mut self, intent: IntentId, found: Result<Option<Stored>, StoreError>) {
        let stored = match found {
            Ok(stored) => stored.filter(|stored| stored.id == intent),
            Err(error) => return self.shared.fail(&error),
        };
        let entry = stored.as_ref();
        let entry = entry.and_then(|s| PayEntry::of(s, Source::Store, Vec::new()).ok());
        if let Some(entry) = entry {
            let now = self.shared.runtime.now();
            let bill = self.restored(intent, entry.payment, now);
            let Some(open) = self.orders.get_mut(&intent).filter(|open| open.lost) else { return };
            (open.bill, open.lost, open.unsure) = (bill, false, false);
            let progress = standing(open);
            open.entry.waiters.iter().for_each(|waiter| waiter.tell(progress.clone()));
            return self.note(intent);
        }
        // Its callers are told the end, or ask the store again, for their channel closes.
        let Some(open) = self.leave(intent) else { return };
        // How it ended was perhaps noted already; else it counts as bought, which rings nothing.
        self.shared.money.ended(&self.shared, intent, true);
        if let Some(end) = stored.and_then(|stored| end_of(&stored.state)) {
            self.told_end(open, end);
        }
    }

    fn send(&self, intent: IntentId, pays: u32) {
        let Some(Open { entry, span, .. }) = self.orders.get(&intent) else { return };
        let (client_ref, order) = (entry.client_ref.clone(), entry.order.clone());
        let job = PayJob { client_ref, intent, order, price: entry.price, pays };
        span.in_scope(|| send_pay(&self.shared, job));
    }

    fn tell(&mut self, intent: IntentId, told: PayTold) {
        let Some(Open { entry, span, .. }) = self.orders.get(&intent) else { return };
        let client_ref = || entry.client_ref.clone();
        let (order_id, learnt): (OrderId, Learnt) = (entry.order.clone(), entry.learnt);
        let progress = match told {
            PayTold::Due => Progress::Created { order_id },
            PayTold::InDoubt => {
                self.shared.telemetry.count(Count::InDoubt);
                tracing::info!(parent: span, "its payment is in doubt");
                self.shared.tell(|| RouterEvent::InDoubt { client_ref: client_ref() });
                Progress::InDoubt
            }
            PayTold::Held(why) => {
                self.shared.telemetry.count(Count::Held);
                tracing::warn!(parent: span, %why, "its payment is held for a person");
                let event = || RouterEvent::Held { client_ref: client_ref(), why: why.clone() };
                self.shared.tell(event);
                Progress::Held(why)
            }
            PayTold::Paid => Progress::Ended(End::Placed { order_id, learnt }),
            PayTold::Unpaid(why) => Progress::Ended(End::Unpaid { order_id, why }),
        };
        match progress {
            Progress::Ended(end) => {
                if let Some(open) = self.leave(intent) {
                    self.told_end(open, end);
                }
            }
            other => entry.waiters.iter().for_each(|waiter| waiter.tell(other.clone())),
        }
    }

    /// An order leaves the cashier.
    fn leave(&mut self, intent: IntentId) -> Option<Open> {
        let open = self.orders.remove(&intent)?;
        self.by_order.remove(&open.entry.order);
        self.looks.remove(&intent);
        if let Some(at) = open.wakes_at {
            self.wakes.remove(&(at, intent));
        }
        if open.in_doubt {
            self.count_doubt(open.entry.price, false);
        }
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        self.shared.payments.open.fetch_sub(1, Ordering::Relaxed);
        Some(open)
    }

    fn told_end(&mut self, open: Open, end: End) {
        let pays = open.bill.payment().pays;
        let Open { entry, span, resolving, unsure, .. } = open;
        let paid = matches!(end, End::Placed { .. });
        self.shared.dispatch.ended(&self.shared, entry.intent, paid);
        if matches!(end, End::Unpaid { .. }) && pays > 0 {
            self.unpaid.watch(entry.order.clone(), entry.client_ref.clone());
            self.shared.payments.watches.store(true, Ordering::Relaxed);
            // As after a release, at growing pauses: what landed too late shows there (rule 12).
            self.shared.look(LookoutMessage::Released { floor: entry.created_at });
        }
        span.record("verdict", end.word());
        tracing::debug!(parent: &span, verdict = end.word(), "ended");
        if !unsure {
            self.shared.telemetry.count(Count::Verdict(end.word()));
            let client_ref = entry.client_ref.clone();
            self.shared.tell(|| RouterEvent::Ended { client_ref, end: end.clone() });
        }
        let progress = Progress::Ended(end);
        entry.waiters.iter().for_each(|waiter| waiter.tell(progress.clone()));
        if let Some(answer) = resolving {
            // Nobody waits any more if this fails.
            let _ = answer.send(Resolved::Done);
        }
    }

    fn looked(&mut self, seen: Vec<(IntentId, Moment, Saw)>) {
        self.looking = false;
        for (intent, requested, saw) in seen {
            let bill = self.orders.get(&intent).map(|open| &open.bill);
            let shows = saw == Saw::Unpaid
                && bill.is_some_and(|bill| bill.is_checked_by(requested))
                && self.trust == Trust::Unseen;
            self.feed(intent, PayEvent::Looked { requested, saw });
            if shows {
                self.trust = Trust::Seen;
                self.feed_all(&PayEvent::Trusted);
            }
        }
    }

    fn feed_all(&mut self, event: &PayEvent) {
        let all: Vec<_> = self.orders.keys().copied().collect();
        for intent in all {
            self.feed(intent, event.clone());
        }
    }

    fn alarm(&mut self, intent: IntentId, alarm: PayAlarm) {
        let client_ref = self.orders.get(&intent).map(|open| open.entry.client_ref.to_string());
        let client_ref = client_ref.unwrap_or_default();
        match alarm {
            PayAlarm::PaidUnasked => {
                self.shared.alarm(&format!(
                    "order {client_ref} was paid before it was asked to be: creating an order pays it, or \
                     somebody else pays here (A6); every order is looked at before it is paid from now on"
                ));
                if std::mem::replace(&mut self.trust, Trust::Broken) != Trust::Broken {
                    let from = self.shared.runtime.now().plus(self.shared.config.pay_watch);
                    self.feed_all(&PayEvent::Distrusted { from });
                }
            }
            PayAlarm::PaidLate => self.shared.alarm(&format!(
                "order {client_ref} was paid although every payment of ours was proved to have done \
                 nothing: the landing bound is too short (A1), or somebody else pays here"
            )),
        }
    }

    fn wake(&mut self) {
        let now = self.shared.runtime.now();
        while let Some((_, intent)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            self.wakes.pop_first();
            if let Some(open) = self.orders.get_mut(&intent) {
                open.wakes_at = None;
            }
            self.feed(intent, PayEvent::Woke);
        }
    }

    /// Begins a round of looks: one at a time.
    fn look(&mut self) {
        if self.looking || self.looks.is_empty() {
            return;
        }
        let now = self.shared.runtime.now();
        let wanted: Vec<_> = std::mem::take(&mut self.looks)
            .into_iter()
            .filter_map(|intent| {
                let Open { entry, bill, .. } = self.orders.get(&intent)?;
                Some(Wanted {
                    intent,
                    order: entry.order.clone(),
                    created_at: entry.created_at,
                    is_decisive: bill.is_decisive(now),
                })
            })
            .collect();
        if !wanted.is_empty() {
            self.looking = true;
            self.shared.spawn(looks::round(self.shared.clone(), wanted));
        }
    }
}

/// A timer that comes too early comes again.
const TICK: std::time::Duration = std::time::Duration::from_millis(1);
