//! The state of the model: the living lane, what is durable, and the world around both.

use std::any::Any;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jiff::Timestamp;
use order_router::OrderId;
use order_router::protocol::lane::{Lane, Restored, Write, Written};
use order_router::protocol::{AttemptSeq, IntentId, Serial, State};

use super::account::Desk;
use super::marks::{Hashed, mark};
use super::setup::Faults;

/// A value that many states have in common: mostly kept once, and hashed once.
#[derive(Debug)]
pub struct Shared<T> {
    hash: u64,
    value: Arc<T>,
}

type Pool = Mutex<HashMap<u64, Arc<dyn Any + Send + Sync>, Hashed>>;
static POOLS: LazyLock<Vec<Pool>> = LazyLock::new(|| (0..64).map(|_| Pool::default()).collect());

/// So many values are known in a pool; then it is begun anew.
const POOL_MAX: usize = 2_048;

impl<T: Hash + Eq + Send + Sync + 'static> Shared<T> {
    pub fn new(value: T) -> Self {
        let hash = mark(&value);
        let pool = &POOLS[(hash % 64) as usize];
        let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
        let same = pool.get(&hash).and_then(|any| any.clone().downcast::<T>().ok());
        if let Some(value) = same.filter(|known| **known == value) {
            return Self { hash, value };
        }
        if pool.len() >= POOL_MAX {
            pool.clear();
        }
        let value = Arc::new(value);
        pool.insert(hash, value.clone());
        Self { hash, value }
    }
}

impl<T> Shared<T> {
    /// The mark of the value.
    pub fn mark(&self) -> u64 {
        self.hash
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { hash: self.hash, value: self.value.clone() }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && (Arc::ptr_eq(&self.value, &other.value) || self.value == other.value)
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// How an intent has ended, as a caller is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum End {
    Placed(OrderId),
    Refused,
    NotPlaced,
}

/// An intent in the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    pub restored: Restored,
    /// It is `Placed`, but its claim is not durable: only where that is not one write.
    pub unclaimed: bool,
}

impl Row {
    pub fn end(&self) -> Option<End> {
        match &self.restored.state {
            State::Placed { id, .. } => Some(End::Placed(id.clone())),
            State::Refused(_) => Some(End::Refused),
            State::NotPlaced(_) => Some(End::NotPlaced),
            State::Queued | State::Sending(_) | State::InDoubt(..) | State::Held(..) => None,
            // In a lane's model orders are paid when they are created.
            State::Created { .. } | State::Unpaid { .. } => None,
        }
    }
}

/// What a caller was told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    pub intent: IntentId,
    pub accepted: bool,
    pub end: Option<End>,
}

/// A write under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pending {
    pub write: Write,
    /// It is durable, and this is the answer that the lane has not heard.
    pub answer: Option<Written>,
    /// The first half of a write that should be one.
    pub half: bool,
}

/// Where a POST is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// With its task; its gate yields within so many ticks.
    Handed { window: u8 },
    /// Out; it may land.
    Out,
    /// There is an order.
    Landed,
}

/// What the supplier says instead of creating an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    ForGood,
    ForNow,
}

/// A POST, and the order that it made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Post {
    pub intent: IntentId,
    pub seq: AttemptSeq,
    pub stage: Stage,
    /// Ticks in which it may land, or hide from the list: counted from its report.
    pub until: u8,
    /// Ticks until its task must report.
    pub due: u8,
    pub reported: bool,
    /// An answer of it would be read.
    pub open: bool,
    pub refused: Option<Refusal>,
    /// It made a second order.
    pub twice: bool,
    /// The list shows it with other items.
    pub garbled: bool,
    /// The order's place in time, where there is an account.
    pub date: u8,
    /// The order was made, and has failed.
    pub failed: bool,
    /// The lane was told of the order, by its own answer. Kept only where that is followed.
    pub told: bool,
    /// The orders that a list had shown, to nobody's claim, before it was sent. Kept only where
    /// answers may name another order.
    pub known: Vec<AttemptSeq>,
}

impl Post {
    pub fn may_land(&self) -> bool {
        self.stage == Stage::Out && self.until > 0 && self.refused.is_none()
    }
}

/// What a list proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    Complete,
    Partial,
    OtherKey,
    /// It looks complete, and shows what was there some time ago.
    Stale,
}

/// The list that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum List {
    Asked {
        since: Option<Timestamp>,
    },
    /// Read, and on its way. Its rows, oldest first.
    Read {
        rows: Vec<OrderId>,
        near: Option<OrderId>,
        proof: Proof,
        since: Option<Timestamp>,
        /// Ticks since it was read, where there is an account.
        age: u8,
    },
}

/// What the assumptions exclude and was seen all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unrest {
    Alarm,
    Orphan,
    GuardFailed,
}

/// The state of the model. Its moment is always the same; what lies ahead is counted in ticks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub lane: Shared<Lane>,
    /// The store, in order of acceptance.
    pub rows: Shared<Vec<Row>>,
    pub held: bool,
    pub writes: Vec<Pending>,
    pub permits: Vec<IntentId>,
    /// First those that have not landed, then orders that somebody has, then the others by age.
    pub posts: Vec<Post>,
    pub list: Option<List>,
    pub callers: Vec<Caller>,
    /// Callers that nothing can happen to any more and that are not told apart: only where states
    /// are folded.
    pub gone: u8,
    pub faults: Faults,
    pub desk: Option<Box<Desk>>,
    /// The orders that a list has shown to nobody's claim. Kept only where answers may name
    /// another order.
    pub shown: Vec<AttemptSeq>,
    /// The next attempt's number.
    pub serial: u64,
    /// A write of a process that was thought dead.
    pub undead: Option<Write>,
    /// A caller waits for an order that is not the one it wanted.
    pub misled: bool,
    /// An attempt in doubt was passed over: a newer one was given a row before it.
    pub passed_over: bool,
    /// While the lane keeps a list: the first attempt that was not recorded when it came.
    pub kept_before: Option<u64>,
    /// A caller was told one end and then another.
    pub changed: bool,
    pub unrest: Option<Unrest>,
}

/// The supplier's order of an attempt; `second`: the one that should not be.
pub fn order(seq: AttemptSeq, second: bool) -> OrderId {
    static NAMES: LazyLock<Vec<OrderId>> = LazyLock::new(|| {
        let name = |n| OrderId::new(format!("#{n}")).expect("an id");
        (0..256).map(name).collect()
    });
    NAMES[seq.0 as usize * 2 + usize::from(second)].clone()
}

/// The POST that made an order.
pub fn maker(id: &OrderId) -> AttemptSeq {
    let n = id.as_str().trim_start_matches('#').parse::<u64>().expect("a number");
    Serial(n / 2)
}

/// The reference of an intent: a repeat has a name of its own.
pub fn reference(intent: IntentId) -> u64 {
    (intent.0 + 3) % 4
}

impl World {
    pub fn row(&self, intent: IntentId) -> Option<&Row> {
        self.rows.iter().find(|row| row.restored.intent == intent)
    }

    /// Who has an order, durably.
    pub fn holder(&self, order: &OrderId) -> Option<&Row> {
        let has = |row: &&Row| match &row.restored.state {
            State::Placed { id, .. } => id == order && !row.unclaimed,
            _ => false,
        };
        self.rows.iter().find(has)
    }

    /// The orders at the supplier, oldest first as far as nobody has them.
    pub fn orders(&self) -> impl Iterator<Item = (OrderId, &Post)> {
        let landed = self.posts.iter().filter(|post| post.stage == Stage::Landed);
        landed.flat_map(|post| {
            let second = post.twice.then(|| (order(post.seq, true), post));
            std::iter::once((order(post.seq, false), post)).chain(second)
        })
    }
}
