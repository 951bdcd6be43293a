//! The state: routers that follow each other, the store that they share, and what is on the wire.

use order_router::OrderId;
use order_router::protocol::lane::{Lane, Write, Written};
use order_router::protocol::{AttemptSeq, IntentId, Serial, State};

use super::Setup;
use crate::model::world::{Caller, Row, Shared, Unrest, order};

/// A change on its way to the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    Lane(Write),
    Orphans(Vec<OrderId>),
}

/// A write under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pending {
    pub change: Change,
    /// It is durable, and this is the answer that the router has not heard.
    pub answer: Option<Written>,
}

/// Where a POST is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// With its task; its gate has not been asked. Where there is a send window, it yields for so
    /// many ticks.
    Handed { window: u8 },
    /// Its gate has yielded the bytes, and the process stands still before they leave: for so many
    /// ticks at most.
    Yielded { within: u8 },
    /// Out; it may land.
    Out,
    /// There is an order.
    Landed,
}

/// A POST, and the order that it made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Post {
    pub router: usize,
    pub intent: IntentId,
    pub seq: AttemptSeq,
    pub stage: Stage,
    /// Ticks in which it may land, or hide from the list: counted from when it left.
    pub until: u8,
    pub reported: bool,
    /// An answer of it would be read.
    pub open: bool,
}

impl Post {
    fn has_left(&self) -> bool {
        matches!(self.stage, Stage::Out | Stage::Landed)
    }

    /// It may still land. One whose gate has yielded may too.
    pub fn may_land(&self) -> bool {
        match self.stage {
            Stage::Yielded { .. } => true,
            Stage::Out => self.until > 0,
            Stage::Handed { .. } | Stage::Landed => false,
        }
    }
}

/// The list that a router has asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum List {
    Asked,
    /// Read, and on its way. Its rows, oldest first.
    Read(Vec<OrderId>),
}

/// A renewal of the lease that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Renewal {
    /// Ticks since the router asked.
    pub age: u8,
    pub granted: bool,
}

/// One router, by the epoch of its lease: a process that gets the lease a second time is a new
/// router, and what is left of the old one in it is the old one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Router {
    /// `None`: it has stopped.
    pub lane: Option<Shared<Lane>>,
    /// Ticks for which it believes that its lease lasts.
    pub lease: u8,
    pub renewal: Option<Renewal>,
    /// Ticks until whatever an earlier router's gates have yielded has left.
    pub cover: u8,
    pub writes: Vec<Pending>,
    pub permits: Vec<IntentId>,
    pub list: Option<List>,
    /// The orders that it takes for nobody's.
    pub orphans: Vec<OrderId>,
}

/// The state of the model. Its moment is always the same; what lies ahead is counted in ticks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// By epoch: the last one has the lease, or had it last.
    pub routers: Vec<Router>,
    /// Ticks until the store gives the lease to another router.
    pub free_in: u8,
    /// The store, in order of acceptance.
    pub rows: Shared<Vec<Row>>,
    pub held: bool,
    pub orphans: Vec<OrderId>,
    /// First those that have not landed, then orders that somebody has, then the others by age.
    pub posts: Vec<Post>,
    pub callers: Vec<Caller>,
    /// The next attempt's number.
    pub serial: u64,
    pub renewals: u8,
    pub hand_overs: u8,
    pub rebuilds: u8,
    /// A caller was told one end and then another.
    pub changed: bool,
    /// What must not be, seen at the router that has the lease, or in the store.
    pub unrest: Option<Unrest>,
}

impl World {
    pub fn start(setup: &Setup) -> Self {
        Self {
            routers: vec![Router::new(setup, Vec::new(), 0)],
            free_in: setup.store_lease(),
            rows: Shared::new(Vec::new()),
            held: false,
            orphans: Vec::new(),
            posts: Vec::new(),
            callers: Vec::new(),
            serial: 1,
            renewals: setup.renewals,
            hand_overs: setup.hand_overs,
            rebuilds: setup.rebuilds,
            changed: false,
            unrest: None,
        }
    }

    /// The router that got the lease last.
    pub fn newest(&self) -> usize {
        self.routers.len() - 1
    }

    pub fn holder(&self) -> &Router {
        &self.routers[self.newest()]
    }

    pub fn row(&self, intent: IntentId) -> Option<&Row> {
        self.rows.iter().find(|row| row.restored.intent == intent)
    }

    /// Who has an order, durably.
    pub fn owner(&self, order: &OrderId) -> Option<&Row> {
        let has = |row: &&Row| match &row.restored.state {
            State::Placed { id, .. } => id == order,
            _ => false,
        };
        self.rows.iter().find(has)
    }

    /// The orders at the supplier, oldest first as far as nobody has them.
    pub fn orders(&self) -> impl Iterator<Item = (OrderId, &Post)> {
        let landed = self.posts.iter().filter(|post| post.stage == Stage::Landed);
        landed.map(|post| (order(post.seq, false), post))
    }

    pub fn on(&mut self, seq: AttemptSeq, change: impl FnOnce(&mut Post)) {
        self.posts.iter_mut().find(|post| post.seq == seq).map(change).unwrap_or_default();
    }

    /// Forgets what cannot matter any more, and orders what has no order.
    pub fn tidy(&mut self, setup: &Setup) {
        for at in 0..self.posts.len() {
            let router = self.posts[at].router;
            let stopped = self.routers[router].lane.is_none()
                || setup.stalls && router < self.newest() && self.posts[at].has_left();
            let has_owner = self.owner(&order(self.posts[at].seq, false)).is_some();
            let post = &mut self.posts[at];
            if stopped {
                (post.reported, post.open) = (true, false);
            }
            post.open &= !(post.reported && post.until == 0);
            if post.reported && !post.open && has_owner && post.stage == Stage::Landed {
                post.until = 0;
            }
        }
        let routers = &self.routers;
        self.posts.retain(|post| match post.stage {
            Stage::Handed { .. } => routers[post.router].lane.is_some(),
            Stage::Yielded { .. } | Stage::Landed => true,
            Stage::Out => post.may_land() || post.open || !post.reported,
        });
        let mut posts = std::mem::take(&mut self.posts);
        posts.sort_by_key(|post| match post.stage {
            Stage::Handed { .. } | Stage::Yielded { .. } | Stage::Out => (0, post.seq),
            Stage::Landed if self.owner(&order(post.seq, false)).is_some() => (1, post.seq),
            Stage::Landed => (2, Serial(0)),
        });
        self.posts = posts;
        self.routers.iter_mut().for_each(|router| router.permits.sort_unstable());
    }
}

impl Router {
    /// A router that has just got the lease, its lane still to come.
    pub fn new(setup: &Setup, orphans: Vec<OrderId>, cover: u8) -> Self {
        Self {
            lane: Some(Shared::new(Lane::default())),
            lease: setup.lease,
            renewal: None,
            cover,
            writes: Vec::new(),
            permits: Vec::new(),
            list: None,
            orphans,
        }
    }

    /// It is not the one that the store knows any more: it stops.
    pub fn stop(&mut self) {
        *self = Self {
            lane: None,
            lease: 0,
            renewal: None,
            cover: 0,
            writes: Vec::new(),
            permits: Vec::new(),
            list: None,
            orphans: Vec::new(),
        };
    }
}
