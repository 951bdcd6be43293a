//! The handle that a host holds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::config::Config;
use crate::error::{ResolveError, StartError, SubmitError};
use crate::order::{ClientRef, Order, OrderId};
use crate::protocol::{Learnt, Why};
use crate::runtime::Runtime;
use crate::store::{IntentStore, StoreError, StoreStats, Stored};
use crate::supplier::Supplier;

/// How an order ended. It never changes any more (promise P4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Bought: this supplier order is this reference's alone.
    Placed {
        /// The supplier's order.
        order_id: OrderId,
        /// How that was learnt.
        learnt: Learnt,
    },
    /// The supplier refused it: nothing was bought and nothing will be.
    Refused {
        /// Why: the supplier's error code.
        why: Why,
    },
    /// Given up: nothing was bought and nothing will be.
    NotPlaced {
        /// Why.
        why: Why,
    },
}

/// How far a submitted order has come. Later values replace earlier ones.
#[derive(Debug, Clone)]
pub enum Progress {
    /// Handed over, not durable yet.
    Submitted,
    /// Durable: it will be driven to an end, over any crash.
    Accepted,
    /// It may have been bought; the router finds out.
    InDoubt,
    /// It may have been bought; a person is asked.
    Held(Why),
    /// The end.
    Ended(End),
    /// It was not taken, or its lane or the router stopped.
    Failed(SubmitError),
}

/// Follows one submitted order. Dropping it cancels nothing.
#[derive(Debug)]
pub struct Ticket {
    progress: tokio::sync::watch::Receiver<Progress>,
}

impl Ticket {
    /// Waits until the order has come further than when this was last asked, and says how far.
    /// `None` after the end.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub async fn next(&mut self) -> Option<Progress> {
        self.progress.changed().await.ok()?;
        Some(self.progress.borrow_and_update().clone())
    }
}

/// What a delivered order holds.
#[derive(Clone)]
pub struct Fulfilment {
    /// The supplier's order.
    pub order_id: OrderId,
    /// The supplier's word for where it stands: `completed`, `cancelled`, `failed`, …
    pub status: String,
    /// Whether that is an end.
    pub terminal: bool,
    /// The supplier's whole answer, raw: the codes are in `items[].externalData`. Not stored and
    /// never logged: this is the only copy.
    pub raw: Bytes,
}

/// Something that happened, for operators: no notes, no codes, no keys.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouterEvent {
    /// An order came into doubt.
    InDoubt {
        /// The caller's reference.
        client_ref: ClientRef,
        /// Why.
        why: Why,
    },
    /// An order is held for a person.
    Held {
        /// The caller's reference.
        client_ref: ClientRef,
        /// Why.
        why: Why,
    },
    /// An order ended.
    Ended {
        /// The caller's reference.
        client_ref: ClientRef,
        /// How.
        end: End,
    },
    /// Orders on the account that no intent has.
    Orphans {
        /// Their ids.
        ids: Vec<OrderId>,
    },
    /// Sending on the account has stopped or goes on.
    Sending {
        /// Why it has stopped; `None`: it goes on.
        stopped: Option<Why>,
    },
    /// An assumption is broken, or something else that a person should know.
    Alarm {
        /// What, in plain words.
        what: String,
    },
    /// A listing was finished.
    Listed {
        /// Rows read.
        rows: usize,
        /// Why it is no evidence of absence, if it is none.
        no_evidence: Option<String>,
    },
    /// This reader was too slow and has missed so many events.
    Missed {
        /// How many.
        events: u64,
    },
}

/// Reads the router's events; bounded, so a slow reader misses some and is told how many.
#[derive(Debug)]
pub struct Events {
    receiver: tokio::sync::broadcast::Receiver<RouterEvent>,
}

impl Events {
    /// The next event; `None` once the router has stopped.
    pub async fn next(&mut self) -> Option<RouterEvent> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(tokio::sync::broadcast::error::RecvError::Lagged(events)) => {
                Some(RouterEvent::Missed { events })
            }
            Err(tokio::sync::broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// A person's decision about an order in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// This supplier order is the intent's. Checked: it exists, its items match, nobody has it.
    Placed(OrderId),
    /// Nothing was bought and nothing will be, by any attempt so far.
    Absent,
}

/// How the router is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouterStats {
    /// Orders that have not ended.
    pub open: usize,
    /// Orders in doubt.
    pub in_doubt: usize,
    /// POSTs under way.
    pub posts: usize,
    /// Lanes in memory.
    pub lanes: usize,
    /// Listings begun.
    pub listings: u64,
    /// Orphans known.
    pub orphans: usize,
    /// Why nothing is sent at the moment, if so.
    pub sending_stopped: Option<Why>,
    /// The store's figures.
    pub store: StoreStats,
}

/// What a shutdown leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shutdown {
    /// Orders that are still open; the next start drives them on.
    pub open: usize,
    /// Of those, the ones in doubt.
    pub in_doubt: usize,
}

/// Builds a router: `OrderRouter::builder(supplier, store)`, settings, `start`.
pub struct Builder {
    supplier: Arc<dyn Supplier>,
    store: Arc<dyn IntentStore>,
    config: Config,
    runtime: Runtime,
}

impl Builder {
    /// Sets the configuration. Default: [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets what the router takes from the machine. Default: the system's own.
    #[must_use]
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = runtime;
        self
    }

    /// Starts the router. It accepts orders at once and sends them as soon as it is
    /// [`OrderRouter::ready`].
    ///
    /// # Errors
    /// [`StartError`] if the settings contradict each other or the store cannot be read.
    pub async fn start(self) -> Result<OrderRouter, StartError> {
        let _ = (self.supplier, self.store, self.config, self.runtime);
        unimplemented!("being built")
    }
}

/// A running router: one account, one store. Cheap to clone; every clone is the same router.
#[derive(Clone)]
pub struct OrderRouter {}

impl OrderRouter {
    /// Begins to build a router for an account over a store.
    #[must_use]
    pub fn builder(supplier: Arc<dyn Supplier>, store: Arc<dyn IntentStore>) -> Builder {
        Builder { supplier, store, config: Config::default(), runtime: Runtime::system() }
    }

    /// Waits until the supplier's list was understood and the account's orders are known (rules 14
    /// and 15): from then on orders are sent.
    ///
    /// # Errors
    /// [`StartError`] if that failed. Nothing was sent and nothing will be until a new start.
    pub async fn ready(&self) -> Result<(), StartError> {
        unimplemented!("being built")
    }

    /// Buys an order, once, and says how it ended.
    ///
    /// The same reference again joins the same order and gets its answer.
    ///
    /// # Errors
    /// [`SubmitError`]: each says whether anything was or may have been bought.
    ///
    /// # Cancel safety
    /// Dropping the future cancels nothing: the order goes on.
    pub async fn submit(&self, order: Order) -> Result<End, SubmitError> {
        let _ = order;
        unimplemented!("being built")
    }

    /// Hands an order over and follows it: for callers who want to know when it is accepted and
    /// when it comes into doubt.
    ///
    /// # Errors
    /// [`SubmitError::Overloaded`] or [`SubmitError::Stopped`]: nothing was recorded.
    pub fn track(&self, order: Order) -> Result<Ticket, SubmitError> {
        let _ = order;
        unimplemented!("being built")
    }

    /// Where an order stands, as the store has it; `None` if the reference is unknown.
    ///
    /// # Errors
    /// What the store says.
    pub async fn status(&self, client_ref: &ClientRef) -> Result<Option<Stored>, StoreError> {
        let _ = client_ref;
        unimplemented!("being built")
    }

    /// Waits up to `limit` for the end of an order that was submitted before.
    ///
    /// # Errors
    /// [`SubmitError`], as for [`OrderRouter::submit`]; [`SubmitError::Unknown`] if there is none.
    pub async fn wait(&self, client_ref: &ClientRef, limit: Duration) -> Result<End, SubmitError> {
        let _ = (client_ref, limit);
        unimplemented!("being built")
    }

    /// Follows a placed order's status until it is terminal, and returns the delivered codes.
    ///
    /// # Errors
    /// [`SubmitError`] if the order does not end placed.
    pub async fn fulfilled(&self, client_ref: &ClientRef) -> Result<Fulfilment, SubmitError> {
        let _ = client_ref;
        unimplemented!("being built")
    }

    /// Decides an order that is in doubt or held. Checked, and kept with its reason.
    ///
    /// # Errors
    /// [`ResolveError`]; nothing was changed.
    pub async fn resolve(
        &self,
        client_ref: &ClientRef,
        resolution: Resolution,
        reason: &str,
    ) -> Result<(), ResolveError> {
        let _ = (client_ref, resolution, reason);
        unimplemented!("being built")
    }

    /// What happens, from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        unimplemented!("being built")
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> RouterStats {
        unimplemented!("being built")
    }

    /// The intents that have not ended, as the store has them.
    ///
    /// # Errors
    /// What the store says.
    pub async fn open_orders(&self) -> Result<Vec<Stored>, StoreError> {
        unimplemented!("being built")
    }

    /// Takes no more orders, waits up to `limit` for POSTs that are under way, and stops. What is
    /// open is driven on at the next start.
    pub async fn shutdown(&self, limit: Duration) -> Shutdown {
        let _ = limit;
        unimplemented!("being built")
    }

    /// The moment until which the caller should wait before asking again.
    #[doc(hidden)]
    #[must_use]
    pub fn ask_again_at(&self) -> Timestamp {
        unimplemented!("being built")
    }
}
