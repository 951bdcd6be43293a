//! Who buys: a router with a store of its own, or a node of several on one store.

use std::time::Duration;

use order_router::cluster::{Node, Role};
use order_router::store::{StoreError, Stored};
use order_router::{ClientRef, End, Events, Order, OrderRouter, SubmitError, Ticket};

use super::failure::Failure;
use super::open;
use super::output::errln;

/// How long a node may be in trouble before the first order is taken.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Clone)]
pub enum Buyer {
    Router(OrderRouter),
    #[cfg_attr(
        not(any(feature = "dynamodb", feature = "postgres", feature = "redis")),
        allow(dead_code, reason = "no store of this build can be shared")
    )]
    Node(Node),
}

impl Buyer {
    pub fn track(&self, order: Order) -> Result<Ticket, SubmitError> {
        match self {
            Self::Router(router) => router.track(order),
            Self::Node(node) => node.track(order),
        }
    }

    /// What earlier runs left open. A node leaves it to whoever has the lease.
    pub async fn open_orders(&self) -> Result<Vec<Stored>, StoreError> {
        match self {
            Self::Router(router) => router.open_orders().await,
            Self::Node(_) => Ok(Vec::new()),
        }
    }

    pub async fn wait(&self, client_ref: &ClientRef, limit: Duration) -> Result<End, SubmitError> {
        match self {
            Self::Router(router) => router.wait(client_ref, limit).await,
            Self::Node(_) => Err(SubmitError::Unknown { client_ref: client_ref.clone() }),
        }
    }

    /// Waits until the store has failed. A node waits for its server instead.
    pub async fn failed(&self) -> StoreError {
        match self {
            Self::Router(router) => router.failed().await,
            Self::Node(_) => std::future::pending().await,
        }
    }

    pub async fn stop(&self, limit: Duration) {
        match self {
            Self::Router(router) => open::stop(router, limit).await,
            Self::Node(node) => node.shutdown(limit).await,
        }
    }
}

/// Waits until a node has the lease or sees that another has it.
pub async fn settled(node: &Node) -> Result<(), Failure> {
    let settled = async {
        loop {
            match node.role() {
                Role::Holder | Role::Standby => return,
                trouble => drop(node.role_other_than(&trouble).await),
            }
        }
    };
    if tokio::time::timeout(PATIENCE, settled).await.is_ok() {
        return Ok(());
    }
    let why = match node.role() {
        Role::Trouble(why) => why,
        _ => return Ok(()),
    };
    node.shutdown(Duration::ZERO).await;
    Err(Failure::nothing_sent(
        format!("this router neither has the store nor can pass orders on: {why}"),
        "look at the store's server and at the supplier, then run again",
    ))
}

/// Tells on standard error what a node is doing, and what its router says while it has the lease.
pub async fn tell_roles(node: Node, alarms: impl AsyncFn(Events)) {
    let mut role = node.role();
    loop {
        match &role {
            Role::Holder => errln!("this router has the lease: it sends"),
            Role::Standby => errln!("another router has the lease: orders are passed on to it"),
            Role::Trouble(why) => errln!("this router can neither send nor pass on: {why}"),
            _ => {}
        }
        let events = node.router().map(|router| router.events());
        let told = async {
            match events {
                Some(events) => alarms(events).await,
                None => std::future::pending().await,
            }
            std::future::pending::<()>().await;
        };
        role = tokio::select! {
            role = node.role_other_than(&role) => role,
            () = told => return,
        };
    }
}
