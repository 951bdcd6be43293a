//! Where intents live: create-if-absent and guarded changes that return only once durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::order::{ClientRef, Item, ItemsDigest, ItemsHash, OrderId};
use crate::protocol::{Change, IntentId, Learnt, Serial, Shape, State, Why};

mod book;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
mod embedded;
mod grade;
mod index;
mod journal;
#[cfg_attr(
    not(feature = "postgres"),
    allow(dead_code, reason = "a store that is shared gives leases out")
)]
mod lease;
#[cfg(any(feature = "dynamodb", feature = "redb", feature = "redis"))]
#[allow(dead_code, reason = "not every backend is shared, or on a server")]
mod ledger;
pub mod look;
mod memory;
pub mod migrate;
mod moving;
mod open_error;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "testing")]
pub(crate) mod readers;
mod record;
#[cfg(feature = "redb")]
pub mod redb;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "dynamodb", feature = "postgres", feature = "redb", feature = "redis"))]
mod remote;
mod shared;
pub mod tools;

pub use embedded::{
    Committing, CompactError, Compacted, EmbeddedConfig, EmbeddedStore, IndexMode, OnProgress,
    Progress,
};
pub use grade::Grade;
pub use lease::{Asked, Lease, LeaseTerms};
pub use memory::MemoryStore;
pub use moving::{Adopted, Bookmark, Mark, Page};
pub use open_error::OpenError;
pub use record::{RECORD_BYTES_MAX, RECORD_VERSION, RecordError};
pub use shared::{Holder, Request, SettledRequest, SharedStore};

/// What came of a change. In every case but [`Committed::Done`] nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Written, and durable.
    Done,
    /// `Accept`: the reference exists with the same order. The existing intent, durable.
    Joined(Box<Stored>),
    /// `Accept`: the reference exists with another order. Nothing may be done under it.
    Conflict,
    /// `Decide` with `Placed`: the supplier's order is claimed already.
    IdTaken(Claim),
    /// The guard failed: the intent is not in the state that the change starts from.
    Stale,
}

/// Who has a supplier order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The supplier's order.
    pub id: OrderId,
    /// The intent that has it.
    pub intent: IntentId,
    /// That intent's lane.
    pub lane: ItemsHash,
    /// How it was learnt.
    pub learnt: Learnt,
}

/// An intent as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The store's name of it.
    pub id: IntentId,
    /// The caller's name of it.
    pub client_ref: ClientRef,
    /// Its lane.
    pub lane: ItemsHash,
    /// What a repeat under the same reference must equal.
    pub as_sent: ItemsDigest,
    /// What must be equal for two orders of the lane to be interchangeable.
    pub delivered: ItemsDigest,
    /// The lines; empty once retention has dropped them from an ended intent.
    pub items: Arc<[Item]>,
    /// Until when it is worth sending.
    pub good_until: Timestamp,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Where it stands.
    pub state: State,
    /// How many attempts were proved absent.
    pub tries: u8,
    /// Its newest attempt, also when it is closed: the guard of late answers.
    pub last_attempt: Option<Serial>,
    /// `Placed` by a list or a person, and the POST of its own attempt may still land (rule 9):
    /// until `Settle`. Its last attempt says which POST.
    pub unsettled: bool,
}

/// A supplier order that an intent has: what a list must show (assumption A2, iii).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The supplier's order.
    pub id: OrderId,
    /// Its intent's lane.
    pub lane: ItemsHash,
    /// Its intent's shape.
    pub shape: Shape,
    /// How it was learnt.
    pub learnt: Learnt,
    /// When the supplier says that it was created.
    pub created_at: Option<Timestamp>,
}

/// Everything that actors rehydrate from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rehydration {
    /// Every intent that has not ended, and every one placed from a list whose own attempt is not
    /// settled.
    pub intents: Vec<Stored>,
    /// The lanes that only a person can free (rule 10).
    pub held_lanes: BTreeMap<ItemsHash, Why>,
    /// Orders of the account that no intent has.
    pub orphans: Vec<OrderId>,
    /// The history line; `None` if it was never drawn: this is the first start on the account.
    pub history: Option<HistoryLine>,
    /// The shapes whose echo was seen to be faithful.
    pub echo_seen: Vec<Shape>,
    /// Why sending is stopped, if it is.
    pub paused: Option<Why>,
    /// The newest `createdAt` of any order that an intent has.
    pub newest_known: Option<Timestamp>,
    /// What a migration has made of the store: with one, no router starts on it.
    pub mark: Option<Mark>,
    /// What was spent of late, where it is limited.
    pub spent: crate::protocol::limits::Spent,
}

/// Where an account's history ends and the router's own orders begin (rule 14).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryLine {
    /// The newest `createdAt` at the first start; `None`: there was no order.
    pub newest: Option<Timestamp>,
    /// Ids around the line.
    pub ids: Vec<OrderId>,
}

/// What a store's writes survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: the process's memory. For tests.
    Memory,
    /// A kill of the router or of the store's server, no power cut: the server does not sync.
    Unsynced,
    /// A power cut, once a change has been answered.
    Synced,
}

/// How a store is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Intents that have not ended.
    pub open: u64,
    /// Intents that have ended.
    pub ended: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Changes that the index has not taken over yet.
    pub index_lag: u64,
    /// Syncs since the store was opened.
    pub syncs: u64,
    /// Changes made durable since the store was opened: by the syncs, the size of a batch.
    pub changes: u64,
}

/// The store cannot go on. Nothing of the change is known to be durable; nothing may be sent.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Writing or syncing failed. The store is latched: every later call fails as well.
    #[error("the store cannot write: {0}")]
    Failed(Arc<str>),
    /// There is too little room on the disk to accept orders; open ones are still decided.
    #[error("too little room on the disk: {free_bytes} bytes are free, {wanted_bytes} are wanted")]
    Full {
        /// Free bytes.
        free_bytes: u64,
        /// What intake wants free.
        wanted_bytes: u64,
    },
    /// A record is larger than the store takes. Nothing was written.
    #[error("a record of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// A reference cannot be told from a new one while the index is rebuilt: ask again.
    #[error("the index is being rebuilt: ask again")]
    Rebuilding,
}

/// A durable home of intents.
///
/// # Contract
/// - [`commit`](Self::commit) takes effect in the order of the calls, whether or not the future is
///   polled: a change handed over is under way. It answers once the change is durable, never
///   before. Changes are atomic.
/// - `Accept` creates the intent only if its reference was never seen; references are never
///   forgotten. A join that meets an intent not yet durable answers once that one is.
/// - `Record` wants the intent `Queued`. `Expire` wants it `Queued`.
/// - `Decide` wants the attempt open (`Sending`, `InDoubt` or `Held`) and the intent's newest; a
///   `Placed` learnt from an answer is also taken when the intent is `Queued` again and has no
///   newer attempt (rule 5). Everything else is [`Committed::Stale`].
/// - A supplier order is claimed once in the whole store; `Placed` and its claim are one write.
/// - `Created` is as `Placed`, and leaves the intent to be paid: it has not ended. `Pay` wants its
///   payment to stand exactly where it says; `Paid` and `Unpaid` end the intent.
/// - `Absent` counts a try and queues again; `NotPlaced` counts one and ends.
/// - `Placed` that was not learnt from an answer leaves its intent unsettled; `Settle` wants that.
/// - `Adopt` wants the store marked as being filled. It writes an intent as another store kept it: if
///   its reference is new, or its intent is here and active (an earlier copy of the same); one that
///   is here as it is joins. A claim that another intent has is [`Committed::IdTaken`], a reference
///   that another has, or one that ended otherwise, [`Committed::Conflict`].
/// - Changes of the account (lanes held and freed, orphans, history, echo, pauses, marks) are always
///   written. Orphans and the ids of the history line are kept in the order of the ids.
/// - A record that is too large and an `Accept` on a full disk are refused by themselves.
/// - After an error that is not about the change itself every later commit fails: nothing is
///   answered that could be lost.
pub trait IntentStore: Send + Sync + 'static {
    /// Hands out the next serial, higher than any that was ever handed out and used.
    fn next_serial(&self) -> Serial;

    /// Writes one change; see the contract.
    fn commit(&self, change: Change) -> BoxFuture<'static, Result<Committed, StoreError>>;

    /// Finds an intent by its reference, as of the last durable change.
    fn find(&self, client_ref: ClientRef)
    -> BoxFuture<'static, Result<Option<Stored>, StoreError>>;

    /// Who has these supplier orders, in the order of the question; only durable claims count.
    fn claims(
        &self,
        ids: Vec<OrderId>,
    ) -> BoxFuture<'static, Result<Vec<Option<Claim>>, StoreError>>;

    /// Everything that the actors start from.
    fn rehydrate(&self) -> BoxFuture<'static, Result<Rehydration, StoreError>>;

    /// Every order claimed by an intent that ended after `since` was handed out, oldest first:
    /// the witnesses of a listing that reaches back to an attempt of that serial. After a restart
    /// it may name some that ended shortly before.
    fn known_since(&self, since: Serial) -> BoxFuture<'static, Result<Vec<Known>, StoreError>>;

    /// Reads every intent, some at a time, beginning with the default bookmark: each that was there
    /// before the first question at least once, as it stands or stood since.
    ///
    /// Default: [`StoreError::Failed`], the store cannot be read through.
    fn read_through(&self, from: Bookmark) -> BoxFuture<'static, Result<Page, StoreError>> {
        let _ = from;
        let why = StoreError::Failed("this store cannot be read through".into());
        Box::pin(std::future::ready(Err(why)))
    }

    /// Figures.
    fn stats(&self) -> StoreStats;

    /// What an answered change survives.
    fn durability(&self) -> Durability;

    /// The lease under which it writes, where several routers share it (rule 16): the gate of every
    /// POST asks it. Default: none, no other process can have the store.
    fn lease(&self) -> Option<Arc<Lease>> {
        None
    }

    /// Writes what is under way, then closes: later calls answer [`StoreError::Closed`].
    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>>;
}
