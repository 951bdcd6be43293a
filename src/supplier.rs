//! The supplier as the router needs it: place, list, fetch. Others differ in exactly these points.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::money::{Balance, Cost};
use crate::order::{EchoProfile, EchoedItem, Item, OrderId};
use crate::protocol::evidence::{EvidencePolicy, Seen};
use crate::protocol::{Fingerprint, Why};

mod client;
pub mod foxreload;
pub mod gate;
mod key;
#[cfg(feature = "testing")]
pub(crate) mod readers;
mod wire;

pub use foxreload::FoxReload;
pub use gate::{Gate, GateState};
pub use key::{ApiKey, KeyError};
pub use wire::ListEnvelope;

/// What the supplier's interface does, where suppliers differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Which fields of the items the list shows again.
    pub echo: EchoProfile,
    /// The list begins with the newest order (else with the oldest). Default: yes.
    pub newest_first: bool,
    /// How many rows a page is asked for. Default: 100. A shorter page is not the end.
    pub page_limit: u32,
}

/// What came back for a POST. Evidence is judged in the core, not here.
#[derive(Debug)]
pub enum Exchange {
    /// An HTTP answer began to arrive.
    Answer(Answer),
    /// None did. Whether anything left, only the gate knows.
    Broken {
        /// What broke, in our own words: `timeout`, `reset`, `connect`, …
        why: Why,
    },
}

impl Exchange {
    /// What is judged of it.
    #[must_use]
    pub fn seen(&self) -> Seen<'_> {
        match self {
            Self::Broken { why } => Seen::Broken { why },
            Self::Answer(Answer { status, retry_after, body, .. }) => {
                Seen::Answer { status: *status, retry_after: *retry_after, body: body.as_deref() }
            }
        }
    }
}

/// An HTTP answer to a POST.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `Retry-After`, where it is a number of seconds or a date.
    pub retry_after: Option<Duration>,
    /// The `Date` header: the supplier's clock.
    pub date: Option<Timestamp>,
    /// The whole body, or `None` if it was cut off, longer than the cap, or never finished.
    pub body: Option<Bytes>,
}

/// Which page of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// Rows to skip.
    pub offset: u64,
    /// Rows to ask for.
    pub limit: u32,
}

/// One page of the list, understood to the last field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its rows, in the supplier's order.
    pub rows: Vec<Row>,
    /// How many rows the supplier says there are in all, where it says so.
    pub total: Option<u64>,
    /// The `Date` header: the supplier's clock.
    pub date: Option<Timestamp>,
}

/// One row of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The supplier's id of it.
    pub id: OrderId,
    /// The supplier's word for where it stands.
    pub status: String,
    /// When it was created, by the supplier's clock.
    pub created_at: Timestamp,
    /// What the list shows of its items; `None` if the items of this row could not be read
    /// (which makes it a near miss of every order, rule 9).
    pub items: Option<Vec<EchoedItem>>,
    /// What it cost, where the supplier shows it. For people and audits: no evidence rests on it.
    pub cost: Option<Cost>,
}

/// An order as `GET /{id}` shows it.
#[derive(Clone)]
pub struct Fetched {
    /// What the list would show of it.
    pub row: Row,
    /// The whole answer, raw: it holds the delivered codes. Never logged, never stored.
    pub raw: Bytes,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetched({:?}, {}, {} bytes)", self.row.id, self.row.status, self.raw.len())
    }
}

/// Why a reading request gave no evidence. It changed nothing and may be asked again.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No answer, or a broken one.
    #[error("no answer: {0}")]
    Broken(Why),
    /// The supplier asks to come back later.
    #[error("rate limited")]
    RateLimited(Option<Duration>),
    /// The key was refused (401, 403 with the supplier's JSON error).
    #[error("the supplier refuses the key: status {0}")]
    KeyRefused(u16),
    /// There is no such order (404), or not yet.
    #[error("not found")]
    NotFound,
    /// Another status than 200.
    #[error("status {0}")]
    Status(u16),
    /// The answer was not understood: the path or the envelope is not as configured.
    #[error("answer not understood: {0}")]
    NotUnderstood(Why),
    /// The answer came from a cache (`Age` above 0).
    #[error("answered from a cache")]
    Cached,
}

/// How long a system without `TCP_USER_TIMEOUT` may go on sending unacknowledged bytes.
pub const WIRE_BOUND_WITHOUT_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Which account orders are bought on, for routers that pass orders on to each other: equal where, and
/// only where, an order of the one may be bought by the other. A hash: it betrays no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountId(pub u64);

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A supplier's account, reached with one key.
///
/// Implementations never retry a POST, never follow a redirect on one, and never say more than
/// they saw: what it proves is decided by [`crate::protocol::evidence`].
pub trait Supplier: Send + Sync + 'static {
    /// What the interface does.
    fn capabilities(&self) -> Capabilities;

    /// How its answers to a POST are judged; asked once, at the start. Default: the careful one.
    fn evidence_policy(&self) -> EvidencePolicy {
        EvidencePolicy::default()
    }

    /// How long the kernel may go on sending the bytes of an order that were handed to it, also
    /// after its socket was closed (rule 7). Default: 15 min, what a system without a limit may do.
    fn wire_bound(&self) -> Duration {
        WIRE_BOUND_WITHOUT_LIMIT
    }

    /// Hash of key, base URL and account.
    fn fingerprint(&self) -> Fingerprint;

    /// Which account that is, for other routers on the same store (rule 16). Default: the
    /// fingerprint, so that another key is another account's until it is known to be the same one's.
    fn account(&self) -> AccountId {
        AccountId(self.fingerprint().0)
    }

    /// Sends one order, once. The body goes through `gate` alone: whoever asks it for the bytes
    /// sends them, and if it was never asked nothing left.
    ///
    /// The future has no time limit of its own beyond the connect timeout: the dispatcher stops
    /// waiting at the request timeout and reads on until the landing bound. Dropping it closes the
    /// socket.
    fn place(&self, items: Arc<[Item]>, gate: Arc<Gate>) -> BoxFuture<'static, Exchange>;

    /// Whether an order can be paid with [`Supplier::pay`]. Default: no.
    fn can_pay(&self) -> bool {
        false
    }

    /// Pays one order from the balance, once, under the terms of [`Supplier::place`]: its bytes go
    /// through `gate` alone. Default: nothing leaves.
    fn pay(&self, id: OrderId, gate: Arc<Gate>) -> BoxFuture<'static, Exchange> {
        let _ = (id, gate.close());
        Box::pin(std::future::ready(Exchange::Broken { why: "cannot be paid".into() }))
    }

    /// Whether the balances of the account can be read with [`Supplier::balances`]. Default: no.
    fn has_balances(&self) -> bool {
        false
    }

    /// Reads what the account has, one element for each currency, past caches. What is not understood to
    /// the last element is an error, never zero. Default: not found.
    fn balances(&self) -> BoxFuture<'static, Result<Vec<Balance>, ReadError>> {
        Box::pin(std::future::ready(Err(ReadError::NotFound)))
    }

    /// Reads one page of the list, past caches.
    fn list(&self, page: PageRequest) -> BoxFuture<'static, Result<Page, ReadError>>;

    /// Reads one order.
    fn fetch(&self, id: OrderId) -> BoxFuture<'static, Result<Fetched, ReadError>>;
}
