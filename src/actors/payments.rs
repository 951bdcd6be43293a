//! Payments: one task that keeps a [`Bill`] for each order that was created and is to be paid.
//!
//! A lane hands an order over once its claim is durable, with its callers. The cashier receives,
//! steps the bill, keeps it and carries its effects out; it decides nothing of its own. Who is told
//! what, and when, is as with a lane: after the write is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::{Resolved, Shared};
use crate::dispatch::{Doubts, PayReports};
use crate::order::{ClientRef, OrderId, Price};
use crate::protocol::payment::{Bill, PayDecision, PayOutcome, Saw};
use crate::protocol::{IntentId, Learnt, Moment, Payment, State};
use crate::router::Teller;
use crate::store::{Committed, StoreError, Stored};

mod cashier;
mod looks;
mod unpaid;

/// An order to be paid, and who waits for it.
pub(crate) struct PayEntry {
    pub(crate) intent: IntentId,
    pub(crate) client_ref: ClientRef,
    pub(crate) order: OrderId,
    pub(crate) learnt: Learnt,
    pub(crate) created_at: Option<jiff::Timestamp>,
    /// What it costs at most, if every line has a price guard.
    pub(crate) price: Option<Price>,
    /// As the store had it.
    pub(crate) payment: Payment,
    pub(crate) source: Source,
    pub(crate) waiters: Vec<Teller>,
}

/// Whose word it is that an order is to be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Its own answer's, which has just become durable: nothing can have become of it meanwhile.
    Answer,
    /// The store's, before anybody else could change it: at a start, or claimed from a list just now.
    Store,
    /// The store's, some time ago: it may have ended since.
    Earlier,
}

impl PayEntry {
    /// The order of a stored intent, if it is to be paid.
    pub(crate) fn of(
        stored: &Stored,
        source: Source,
        waiters: Vec<Teller>,
    ) -> Result<Box<Self>, Vec<Teller>> {
        let State::Created { id, learnt, created_at, payment, .. } = &stored.state else {
            return Err(waiters);
        };
        Ok(Box::new(Self {
            intent: stored.id,
            client_ref: stored.client_ref.clone(),
            order: id.clone(),
            learnt: *learnt,
            created_at: *created_at,
            price: Price::total(&stored.items),
            payment: *payment,
            source,
            waiters,
        }))
    }
}

/// What the cashier is told.
pub(crate) enum PayMessage {
    /// An order is to be paid, or somebody waits for one.
    Enter(Box<PayEntry>),
    /// A permit to send.
    Permitted { intent: IntentId },
    /// The outcome of a payment.
    Answered { intent: IntentId, pays: u32, outcome: PayOutcome, left: Option<Moment> },
    /// A write is durable, or was refused.
    Committed { intent: IntentId, result: Result<Committed, StoreError> },
    /// Where the store says that an order stands.
    Found { intent: IntentId, found: Result<Option<Stored>, StoreError> },
    /// What looks have shown: all that were asked for.
    Looked(Vec<(IntentId, Moment, Saw)>),
    /// A list shows these orders as paid.
    SeenPaid(Vec<OrderId>),
    /// A person's decision.
    Resolve { intent: IntentId, decision: PayDecision, answer: oneshot::Sender<Resolved> },
}

impl PayMessage {
    /// The intent that it is about, if it is about one.
    fn intent(&self) -> Option<IntentId> {
        match self {
            Self::Enter(entry) => Some(entry.intent),
            Self::Permitted { intent }
            | Self::Answered { intent, .. }
            | Self::Committed { intent, .. }
            | Self::Found { intent, .. }
            | Self::Resolve { intent, .. } => Some(*intent),
            Self::Looked(_) | Self::SeenPaid(_) => None,
        }
    }
}

/// The way to the cashier, and what others ask of it.
pub(crate) struct Payments {
    sender: mpsc::UnboundedSender<PayMessage>,
    /// Taken by the cashier once it is started.
    receiver: Mutex<Option<mpsc::UnboundedReceiver<PayMessage>>>,
    pub(crate) reports: PayReports,
    /// Orders with the cashier.
    open: AtomicUsize,
    /// Some that ended unpaid are watched.
    watches: AtomicBool,
    in_doubt: Mutex<Doubts>,
}

impl Default for Payments {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
            reports: PayReports::default(),
            open: AtomicUsize::new(0),
            watches: AtomicBool::new(false),
            in_doubt: Mutex::default(),
        }
    }
}

impl Payments {
    /// Hands a message to the cashier. Counted as work under way until it was handled.
    pub(crate) fn send(&self, shared: &Shared, message: PayMessage) {
        shared.busy.fetch_add(1, Ordering::SeqCst);
        if self.sender.send(message).is_err() {
            // It has stopped, and nobody waits for an answer.
            shared.busy.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Hands over what is to be paid, with those who wait; gives those back otherwise.
    pub(crate) fn enter(
        &self,
        shared: &Shared,
        stored: &Stored,
        waiters: Vec<Teller>,
    ) -> Result<(), Vec<Teller>> {
        let entry = PayEntry::of(stored, Source::Earlier, waiters);
        entry.map(|entry| self.send(shared, PayMessage::Enter(entry)))
    }

    /// Hands over what a start finds. Whether it is to be paid.
    pub(crate) fn lay_down(&self, shared: &Shared, stored: &Stored) -> bool {
        let entry = PayEntry::of(stored, Source::Store, Vec::new());
        entry.map(|entry| self.send(shared, PayMessage::Enter(entry))).is_ok()
    }

    /// Whether anything is to be paid, or was told unpaid.
    pub(crate) fn is_any(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0 || self.watches.load(Ordering::Relaxed)
    }

    /// Payments in doubt or held.
    pub(crate) fn doubts(&self) -> Doubts {
        *self.in_doubt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a payment among the doubts, or out again.
    fn count_doubt(&self, price: Option<Price>, more: bool) -> Doubts {
        let mut doubts = self.in_doubt.lock().unwrap_or_else(PoisonError::into_inner);
        let (one, amount) = (usize::from(price.is_none()), price.unwrap_or_default());
        *doubts = match more {
            true => Doubts {
                count: doubts.count + 1,
                amount: doubts.amount.plus(amount),
                unpriced: doubts.unpriced + one,
            },
            false => Doubts {
                count: doubts.count.saturating_sub(1),
                amount: doubts.amount.minus(amount),
                unpriced: doubts.unpriced.saturating_sub(one),
            },
        };
        *doubts
    }

    /// Starts the cashier on the router's own threads.
    pub(crate) fn start(&self, shared: &Arc<Shared>) {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(receiver) = receiver {
            shared.spawn(Cashier::new(shared.clone()).run(receiver));
        }
    }
}

/// Whether creating pays (assumption A6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Nobody knows yet: every order is looked at before it is paid.
    Unseen,
    /// An order was seen unpaid that was old enough.
    Seen,
    /// It does, or orders are said to be paid when they are created: every order is looked at.
    Broken,
}

/// One order with the cashier.
struct Open {
    entry: PayEntry,
    bill: Bill,
    /// The store is asked where it stands: the bill is not believed.
    lost: bool,
    /// It was not seen to be open by this cashier.
    unsure: bool,
    in_doubt: bool,
    wakes_at: Option<Moment>,
    resolving: Option<oneshot::Sender<Resolved>>,
    span: tracing::Span,
}

/// See the module.
struct Cashier {
    shared: Arc<Shared>,
    orders: BTreeMap<IntentId, Open>,
    by_order: BTreeMap<OrderId, IntentId>,
    wakes: BTreeSet<(Moment, IntentId)>,
    trust: Trust,
    unpaid: unpaid::Unpaid,
    /// Orders that want to be looked at, and whether a round of looks is under way.
    looks: BTreeSet<IntentId>,
    looking: bool,
}
