//! A gate in front of a durable store, shared by nodes with different stores.
//!
//! The same reference that comes to two nodes with different stores would be bought by both. Where
//! all of them ask one server first, the second is told who has it. The gate can only say no; what it
//! lets through, the store's own guards decide as ever. Servers that forget will do, and are no store:
//! what a gate has forgotten it does not stop. `ARCHITECTURE.md` has the whole.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! # #[cfg(feature = "memcached")] {
//! use std::sync::Arc;
//! use order_router::shared_gate::{GateTerms, NodeName, SharedGate, StoreMark, connect};
//!
//! let (server, namespace) = connect("memcached://cache.internal:11211?namespace=shop")?;
//! let mark = StoreMark::of_directory("/var/lib/order-router".as_ref())?;
//! let node = NodeName::new("eu-1", &mark)?;
//! let gate = SharedGate::new(server, &namespace, node, GateTerms::default())?;
//! gate.check().await?;
//! // OrderRouter::builder(supplier, store).gate(Arc::new(gate))
//! # }
//! # Ok(()) }
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::order::ClientRef;

mod entry;
mod health;
mod intake;
mod keeper;
#[cfg(feature = "memcached")]
mod memcached;
mod node;
#[cfg(feature = "redis")]
mod redis;
mod server;
#[cfg(any(feature = "memcached", feature = "redis"))]
mod threads;
mod url;

use health::Health;
pub(crate) use keeper::keep;
pub use node::{InvalidNodeName, NodeName, StoreMark};
pub use server::{GateError, GateServer, Question, Reply};
pub use url::connect;
#[cfg(feature = "cli")]
pub(crate) use url::read_url;

/// What a gate that does not answer means for a reference that this node's store does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The order is refused: nothing is recorded, and it can be submitted again. The default.
    #[default]
    Closed,
    /// The order is taken. Nothing keeps another node from taking it too.
    Open,
}

/// The limits of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateTerms {
    /// How long a key lasts. Default: 24 h; 1 s to 30 days. Later duplicates are not stopped.
    pub ttl: Duration,
    /// How long an answer is waited for. Default: 500 ms.
    pub timeout: Duration,
    /// What no answer means. Default: [`OnFailure::Closed`].
    pub on_failure: OnFailure,
}

impl Default for GateTerms {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(24 * 60 * 60),
            timeout: Duration::from_millis(500),
            on_failure: OnFailure::default(),
        }
    }
}

impl GateTerms {
    /// Memcached takes more for a date.
    const TTL_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// What is wrong with them, if anything is.
    ///
    /// # Errors
    /// [`GateError::Terms`].
    pub fn check(&self) -> Result<(), GateError> {
        if self.ttl < Duration::from_secs(1) || self.ttl > Self::TTL_MAX {
            return Err(GateError::Terms("the TTL of a gate is 1 s to 30 days"));
        }
        if self.timeout.is_zero() || self.timeout > self.ttl / 2 {
            let why = "the time that a gate may take is more than 0 and at most half of its TTL";
            return Err(GateError::Terms(why));
        }
        Ok(())
    }
}

/// How a gate is doing, since the router's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateStats {
    /// Where it is.
    pub place: String,
    /// What no answer means.
    pub on_failure: OnFailure,
    /// Why it cannot be asked at the moment, if so.
    pub down: Option<String>,
    /// Orders refused because another node has them.
    pub elsewhere: u64,
    /// Orders taken while it did not answer.
    pub unguarded: u64,
    /// Keys of open orders that it had forgotten, and that were written again.
    pub forgotten: u64,
    /// Times that an order of this node was seen to be another node's as well.
    pub doubled: u64,
}

#[derive(Debug, Default)]
struct Counts {
    elsewhere: AtomicU64,
    unguarded: AtomicU64,
    forgotten: AtomicU64,
    doubled: AtomicU64,
}

/// The gate of one node; see the module.
pub struct SharedGate {
    server: Arc<dyn GateServer>,
    namespace: String,
    node: NodeName,
    terms: GateTerms,
    health: Mutex<Health>,
    counts: Counts,
    /// Orders that are being asked for, or whose keys are being written.
    busy: AtomicUsize,
    /// How many callers of this node ask under a key.
    callers: Mutex<HashMap<String, usize>>,
    /// It answers again: what is open may have lost its keys.
    back: Notify,
}

impl SharedGate {
    /// A gate on a server. All nodes that must not buy the same reference have the same namespace,
    /// whatever their accounts; nodes whose references mean other orders have another.
    ///
    /// # Errors
    /// [`GateError::Url`] for a namespace that is none, [`GateError::Terms`].
    pub fn new(
        server: Arc<dyn GateServer>,
        namespace: &str,
        node: NodeName,
        terms: GateTerms,
    ) -> Result<Self, GateError> {
        terms.check()?;
        if !crate::url::is_plain_name(namespace) {
            return Err(GateError::Url(url::NAMESPACE_WRONG));
        }
        Ok(Self {
            server,
            namespace: namespace.to_owned(),
            node,
            terms,
            health: Mutex::default(),
            counts: Counts::default(),
            busy: AtomicUsize::new(0),
            callers: Mutex::default(),
            back: Notify::new(),
        })
    }

    /// Asks the server for a key that nobody has: whether it is reached and takes user and password.
    ///
    /// # Errors
    /// [`GateError`].
    pub async fn check(&self) -> Result<(), GateError> {
        let key = format!("{}:check", self.namespace);
        let asked = self.server.ask(key, Question::Get, self.terms.ttl);
        match tokio::time::timeout(self.terms.timeout, asked).await {
            Ok(reply) => reply.map(drop),
            Err(_) => Err(self.slow()),
        }
    }

    /// Who this node is.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// Its limits.
    #[must_use]
    pub fn terms(&self) -> GateTerms {
        self.terms
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> GateStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        GateStats {
            place: self.server.place(),
            on_failure: self.terms.on_failure,
            down: self.health().why_down(),
            elsewhere: read(&self.counts.elsewhere),
            unguarded: read(&self.counts.unguarded),
            forgotten: read(&self.counts.forgotten),
            doubled: read(&self.counts.doubled),
        }
    }

    /// The key of a reference: a hash, since a reference may be longer than a key and have other
    /// characters.
    #[must_use]
    pub fn key(&self, client_ref: &ClientRef) -> String {
        let hash = Sha256::digest(client_ref.as_str());
        let hex: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}:{hex}", self.namespace)
    }

    /// Whether no order is between the gate and its lane, and every key is written.
    pub(crate) fn is_quiet(&self) -> bool {
        self.busy.load(Ordering::SeqCst) == 0
    }

    fn slow(&self) -> GateError {
        GateError::Slow { place: self.server.place(), limit: self.terms.timeout }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SharedGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedGate")
            .field("place", &self.server.place())
            .field("namespace", &self.namespace)
            .field("node", &self.node)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}
