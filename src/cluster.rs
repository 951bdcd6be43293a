//! One of several routers on one store (rule 16).
//!
//! ```text
//! node A: holder    OrderRouter ── IntentStore under the lease ──┐
//! node B: standby   Node ── requests, answers ───────────────────┤ the store's server
//! node C: standby   Node ── requests, answers ───────────────────┘
//! ```
//!
//! The lease is that of the account: all lanes are one range. What limits an account is the
//! supplier's rate, its list is read once for all lanes, and its bounds and pauses are the account's;
//! one router does thousands of orders a second. So one node at a time holds everything and runs the
//! ordinary router, and the others take orders for it: a request is durable on the server, the holder
//! submits it under its reference, which buys once however often it is done, and the standby reads in
//! the store how it ended. When the holder dies, hands over or cannot reach the server, another takes
//! the lease and rehydrates.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::actors::{end_of, progress_of};
use crate::config::Config;
use crate::error::SubmitError;
use crate::order::{ClientRef, ItemsDigest, Order};
use crate::router::{End, OrderRouter, Progress, Teller, Ticket};
use crate::runtime::Runtime;
use crate::shared_gate::SharedGate;
use crate::store::{SharedStore, StoreError, Stored};
use crate::supplier::Supplier;

mod desk;
mod holder;
mod request;
mod told;

use desk::Desk;
use request::Reply;

/// How often a node without the lease asks for it.
const ACQUIRE_EVERY: Duration = Duration::from_millis(250);
/// How long a caller waits before the store is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// Where orders would be bought on an account that they are not meant for.
const OTHER_ACCOUNT: &str = "this store is another account's: the router that has it buys with another \
    --supplier, --account or key; if it is the same account under two keys, give it the same --account \
    name at every router";

/// Where nobody reads what is passed on.
const ALONE: &str = "another router has this store to itself: it was started without --share and reads \
    no orders of others; stop it, or start it with --share";

/// What a node is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// It has not heard from the store yet.
    Starting,
    /// It has the lease: it decides, sends and lists.
    Holder,
    /// Another has it; this one passes on what it is asked.
    Standby,
    /// It can do neither at the moment: why.
    Trouble(String),
}

/// One of several routers on one store. Cheap to clone; every clone is the same node.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    driving: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

/// What a node's tasks have in common.
struct Shared {
    supplier: Arc<dyn Supplier>,
    store: Arc<dyn SharedStore>,
    gate: Option<Arc<SharedGate>>,
    config: Config,
    runtime: Runtime,
    /// The router, while this node has the lease.
    router: watch::Sender<Option<OrderRouter>>,
    role: watch::Sender<Role>,
    /// Why orders that are passed on would not be bought, while that is so.
    refused: watch::Sender<Option<&'static str>>,
    desk: Desk,
    callers: Arc<AtomicUsize>,
    /// The store was seen to know orders, or to know the account: one that is empty later was
    /// emptied, and is no new account's.
    met: AtomicBool,
    stopping: AtomicBool,
    stop: watch::Sender<Option<Duration>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            *stop = stop.or(Some(Duration::ZERO));
            first
        });
    }
}

impl Node {
    /// Starts a node on the runtime that it is called on. It takes orders at once, and asks for the
    /// lease from now on.
    #[must_use]
    pub fn start(
        supplier: Arc<dyn Supplier>,
        store: Arc<dyn SharedStore>,
        config: Config,
        runtime: Runtime,
    ) -> Self {
        Self::start_with_gate(supplier, store, None, config, runtime)
    }

    /// The same, with a gate that is asked before an order is taken: where other nodes have other
    /// stores. All nodes on this store have the same name at the gate.
    #[must_use]
    pub fn start_with_gate(
        supplier: Arc<dyn Supplier>,
        store: Arc<dyn SharedStore>,
        gate: Option<Arc<SharedGate>>,
        config: Config,
        runtime: Runtime,
    ) -> Self {
        store.introduce(supplier.account());
        let shared = Arc::new(Shared {
            supplier,
            store,
            gate,
            config,
            runtime,
            router: watch::Sender::new(None),
            role: watch::Sender::new(Role::Starting),
            refused: watch::Sender::new(None),
            desk: Desk::default(),
            callers: Arc::default(),
            met: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            stop: watch::Sender::new(None),
        });
        tokio::spawn(desk::serve(shared.clone()));
        let driving = tokio::spawn(holder::drive(shared.clone()));
        Self { inner: Arc::new(Inner { shared, driving: Mutex::new(Some(driving)) }) }
    }

    /// What it is doing.
    #[must_use]
    pub fn role(&self) -> Role {
        self.inner.shared.role.borrow().clone()
    }

    /// Waits until it does something else than `role`, and says what.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub async fn role_other_than(&self, role: &Role) -> Role {
        let mut told = self.inner.shared.role.subscribe();
        // The sender is this node's own.
        let other = told.wait_for(|now| now != role).await;
        other.map_or_else(|_| role.clone(), |now| now.clone())
    }

    /// The router, while this node has the lease: for figures, events, and what a person decides.
    #[must_use]
    pub fn router(&self) -> Option<OrderRouter> {
        self.inner.shared.router.borrow().clone()
    }

    /// Buys an order, once, whichever node has the lease, and says how it ended; as
    /// [`OrderRouter::submit`].
    ///
    /// # Errors
    /// [`SubmitError`]: each says whether anything was or may have been bought.
    ///
    /// # Cancel safety
    /// Dropping the future cancels nothing.
    pub async fn submit(&self, order: Order) -> Result<End, SubmitError> {
        let shared = &self.inner.shared;
        let client_ref = order.client_ref().clone();
        let limit = shared.config.answer_within_or_default();
        let mut ticket = self.track(order)?;
        let mut last = Progress::Submitted;
        let told = async {
            while let Some(progress) = ticket.next().await {
                match progress {
                    Progress::Ended(end) => return Some(Ok(end)),
                    Progress::Failed(error) => return Some(Err(error)),
                    other => last = other,
                }
            }
            None
        };
        if let Ok(Some(told)) = tokio::time::timeout(limit, told).await {
            return told;
        }
        let soon = Duration::from_secs(10);
        let wall = shared.runtime.clock.wall();
        let ask_again_at = wall.checked_add(soon).unwrap_or(jiff::Timestamp::MAX);
        Err(match last {
            Progress::Held(why) => SubmitError::Held { client_ref, why },
            Progress::InDoubt => SubmitError::InDoubt { client_ref, ask_again_at },
            _ => SubmitError::UnderWay { client_ref, ask_again_at },
        })
    }

    /// Hands an order over and follows it over any change of the holder.
    ///
    /// # Errors
    /// [`SubmitError::Overloaded`] or [`SubmitError::Stopped`]: nothing was recorded.
    pub fn track(&self, order: Order) -> Result<Ticket, SubmitError> {
        let shared = &self.inner.shared;
        if shared.stopping.load(Ordering::SeqCst) {
            return Err(SubmitError::Stopped);
        }
        let (teller, ticket) = Ticket::told(&shared.callers, shared.config.callers_max)?;
        // From now on, whenever it reaches the one who has the lease.
        let order = match order.good_until_set() {
            Some(_) => order,
            None => {
                let wall = shared.runtime.clock.wall();
                let until = wall.checked_add(shared.config.good_for);
                order.good_until(until.unwrap_or(jiff::Timestamp::MAX))
            }
        };
        tokio::spawn(follow(shared.clone(), order, teller));
        Ok(ticket)
    }

    /// Where an order stands, as the store has it; `None` if the reference is unknown.
    ///
    /// # Errors
    /// What the store says.
    pub async fn status(&self, client_ref: &ClientRef) -> Result<Option<Stored>, StoreError> {
        let found = self.inner.shared.store.find(vec![client_ref.clone()]).await?;
        Ok(found.into_iter().next().flatten())
    }

    /// Takes no more orders, waits up to `limit` for POSTs that are under way, and hands the lease
    /// over.
    pub async fn shutdown(&self, limit: Duration) {
        let shared = &self.inner.shared;
        shared.stopping.store(true, Ordering::SeqCst);
        shared.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            *stop = stop.or(Some(limit));
            first
        });
        let driving = self.inner.driving.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(driving) = driving {
            // A panic of its own was told where it happened.
            let _ = driving.await;
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("role", &self.role()).finish_non_exhaustive()
    }
}

/// What a store has of these references, in their order, and what is wrong with those that cannot be
/// read: one of them is not to stop the others. An error is one of the store itself.
async fn find(
    store: &dyn SharedStore,
    refs: Vec<ClientRef>,
) -> Result<(Vec<Option<Stored>>, BTreeMap<ClientRef, String>), StoreError> {
    let mut unreadable = BTreeMap::new();
    let error = match store.find(refs.clone()).await {
        Ok(found) => return Ok((found, unreadable)),
        Err(error) => error,
    };
    // Does it answer at all? Replies are read without looking into them.
    let any = refs.iter().take(1).map(|one| one.as_str().to_owned()).collect();
    store.replies(any).await.map_err(|_| error)?;
    let mut found = Vec::with_capacity(refs.len());
    for one in refs {
        found.push(match store.find(vec![one.clone()]).await {
            Ok(stored) => stored.into_iter().next().flatten(),
            Err(error) => {
                tracing::error!(client_ref = %one, %error, "what the store has of it is unreadable");
                unreadable.insert(one, error.to_string());
                None
            }
        });
    }
    Ok((found, unreadable))
}

/// Follows one order to its end, here or through the store.
async fn follow(shared: Arc<Shared>, order: Order, teller: Teller) {
    let mut router = shared.router.subscribe();
    let (mut role, mut refused) = (shared.role.subscribe(), shared.refused.subscribe());
    let mut passed_on = false;
    loop {
        let here = router.borrow_and_update().clone();
        let why = *refused.borrow_and_update();
        let following = async {
            match (here, why) {
                (Some(here), _) => follow_here(&here, &order, &teller).await,
                (None, Some(why)) => {
                    let source = StoreError::Failed(why.into());
                    Some(Progress::Failed(SubmitError::Store { may_exist: passed_on, source }))
                }
                (None, None) => tokio::select! {
                    told = async {
                        // Whoever has the store is known: what is in it is this account's.
                        let _ = role.wait_for(|role| *role != Role::Starting).await;
                        if refused.borrow().is_some() {
                            return None;
                        }
                        passed_on = true;
                        follow_there(&shared, &order, &teller).await
                    } => told,
                    // This node has the lease now, or knows that nobody would buy it.
                    _ = router.changed() => None,
                    () = is_refused(&shared) => None,
                },
            }
        };
        let told = tokio::select! {
            told = following => told,
            // Its caller has gone: it goes on, and takes no place here.
            () = teller.abandoned() => return,
        };
        if let Some(last) = told {
            return teller.tell(last);
        }
        if shared.stopping.load(Ordering::SeqCst) && shared.router.borrow().is_none() {
            return teller.tell(Progress::Failed(SubmitError::Stopped));
        }
        shared.runtime.sleep(AGAIN).await;
    }
}

async fn is_refused(shared: &Shared) {
    // The sender is this node's own.
    let _ = shared.refused.subscribe().wait_for(Option::is_some).await;
}

/// Follows an order in this node's own router; `None` if that has stopped.
async fn follow_here(router: &OrderRouter, order: &Order, teller: &Teller) -> Option<Progress> {
    let mut ticket = match router.track(order.clone()) {
        Ok(ticket) => ticket,
        Err(SubmitError::Stopped | SubmitError::Store { .. }) => return None,
        Err(error) => return Some(Progress::Failed(error)),
    };
    loop {
        match ticket.next().await? {
            Progress::Failed(SubmitError::Stopped | SubmitError::Store { .. }) => return None,
            last @ (Progress::Ended(_) | Progress::Failed(_)) => return Some(last),
            other => teller.tell(other),
        }
    }
}

/// Passes an order on and reads in the store how it ends.
async fn follow_there(shared: &Shared, order: &Order, teller: &Teller) -> Option<Progress> {
    let as_sent = ItemsDigest::as_sent(order.items());
    let mut looks = shared.desk.enter(order, shared.supplier.account());
    let mut told = None;
    loop {
        let look = looks.recv().await?;
        match (look.stored, look.reply) {
            (Some(stored), _) if stored.as_sent != as_sent => {
                let client_ref = order.client_ref().clone();
                return Some(Progress::Failed(SubmitError::Conflict { client_ref }));
            }
            (Some(stored), _) => {
                if let Some(end) = end_of(&stored.state) {
                    return Some(Progress::Ended(end));
                }
                let name = stored.state.name();
                if told.replace(name) != Some(name) {
                    teller.tell(progress_of(&stored.state));
                }
            }
            (None, Some(Reply::LaneHeld(why))) => {
                let why = why.into();
                return Some(Progress::Failed(SubmitError::LaneHeld { why }));
            }
            (None, Some(Reply::OverLimit(why))) => {
                let (client_ref, why) = (order.client_ref().clone(), why.into());
                return Some(Progress::Failed(SubmitError::OverLimit { client_ref, why }));
            }
            (None, Some(Reply::OtherAccount)) => {
                let source = StoreError::Failed(OTHER_ACCOUNT.into());
                return Some(Progress::Failed(SubmitError::Store { may_exist: false, source }));
            }
            (None, Some(Reply::Elsewhere { node, recorded })) => {
                let client_ref = order.client_ref().clone();
                let error = SubmitError::Elsewhere { client_ref, node, recorded };
                return Some(Progress::Failed(error));
            }
            (None, Some(Reply::Forgotten { node })) => {
                let client_ref = order.client_ref().clone();
                return Some(Progress::Failed(SubmitError::Forgotten { client_ref, node }));
            }
            (None, Some(Reply::NotReplaceable { why })) => {
                let client_ref = order.client_ref().clone();
                let replaced = order.replaces().unwrap_or_else(|| client_ref.clone());
                let why = why.into();
                let error = SubmitError::NotReplaceable { client_ref, replaced, why };
                return Some(Progress::Failed(error));
            }
            (None, Some(Reply::Conflict)) => {
                let client_ref = order.client_ref().clone();
                return Some(Progress::Failed(SubmitError::Conflict { client_ref }));
            }
            (None, Some(Reply::Failed(why))) => {
                let source = StoreError::Failed(why.into());
                return Some(Progress::Failed(SubmitError::Store { may_exist: false, source }));
            }
            (None, None) => {}
        }
    }
}
