//! What a sheet shows to the lanes: candidates (rule 8), near misses (rule 9) and orphans (rule 12).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::{
    AccountAlarm, Candidate, ItemsHash, ListView, NoEvidence, OpenLane, OrderId, Reach, Row,
    take_one,
};
use crate::protocol::Shape;

/// What one sheet proves, and what it shows to each lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// How far the list proves absence, or why it does not.
    pub evidence: Result<Reach, NoEvidence>,
    /// Rows that are nobody's from now on: to be stored (rule 12).
    pub orphans: Vec<OrderId>,
    /// Shapes whose echo was seen for the first time: to be stored (assumption A4).
    pub echo_seen: Vec<Shape>,
    /// What a person should know, once each.
    pub alarms: Vec<AccountAlarm>,
    /// How many rows the sheet has.
    pub rows: usize,
    /// The shapes whose echo is known to be faithful; `None`: all of them, a person says so.
    pub(super) faithful: Option<BTreeSet<Shape>>,
    /// Rows that nobody has, by items-hash, oldest first.
    free: BTreeMap<Option<ItemsHash>, Vec<Candidate>>,
    /// Rows that look like every lane's order: not read, or of a product that nobody named.
    near_all: Oldest,
    /// Unexplained rows by product.
    near: BTreeMap<Arc<str>, Oldest>,
}

/// The oldest of some rows, and the oldest of those with another items-hash: whichever lane asks,
/// the oldest row that is not of its own hash is one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Oldest {
    first: Option<Near>,
    other: Option<Near>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Near {
    created_at: Timestamp,
    id: OrderId,
    hash: Option<ItemsHash>,
}

impl Near {
    fn of(row: &Row, hash: Option<ItemsHash>) -> Self {
        Self { created_at: row.created_at, id: row.id.clone(), hash }
    }

    fn age(&self) -> (Timestamp, &OrderId) {
        (self.created_at, &self.id)
    }
}

impl Oldest {
    /// Takes the next row, by age.
    fn take(&mut self, row: &Near) {
        match &self.first {
            None => self.first = Some(row.clone()),
            Some(first) if first.hash != row.hash => {
                self.other.get_or_insert_with(|| row.clone());
            }
            Some(_) => {}
        }
    }

    /// The oldest one that is not a candidate of the lane.
    fn beside(&self, lane: ItemsHash) -> Option<&Near> {
        self.first.iter().chain(&self.other).find(|row| row.hash != Some(lane))
    }
}

/// Whose a row that nobody has can be, by its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// It has no tag, or cannot be read: one of ours may be shown like that, of any lane.
    MaybeOurs,
    /// It has the tag of an open order and other items: the list shows wrong what it shows.
    Wrong,
    /// It has a tag, and no open order has that.
    Anothers,
}

/// What tags say of rows that no lane knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tagging {
    /// Of one with the tag of an open order, and other items.
    pub(super) own: Whose,
    /// Of one without a tag.
    pub(super) untagged: Whose,
}

impl Assessment {
    /// Sorts the rows that nobody has. What it proves is filled in by the caller.
    pub(super) fn of(
        mut rows: Vec<(Option<ItemsHash>, Row)>,
        open: &BTreeMap<ItemsHash, OpenLane>,
        products: &dyn Fn(&str) -> bool,
        tagging: Tagging,
    ) -> Self {
        rows.sort_by(|(_, a), (_, b)| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        let mut this = Self {
            evidence: Err(NoEvidence::Unfinished),
            orphans: Vec::new(),
            echo_seen: Vec::new(),
            alarms: Vec::new(),
            rows: 0,
            faithful: Some(BTreeSet::new()),
            free: BTreeMap::new(),
            near_all: Oldest::default(),
            near: BTreeMap::new(),
        };
        let lanes = || open.iter().filter(|(_, lane)| lane.attempts > 0);
        let mut left: BTreeMap<_, _> = lanes().map(|(hash, o)| (*hash, o.attempts)).collect();
        let wanted: BTreeSet<&str> =
            lanes().flat_map(|(_, lane)| lane.products.iter().map(|p| &**p)).collect();
        let tags: BTreeSet<_> = lanes().filter_map(|(hash, _)| hash.tag()).collect();
        let whose = |hash: Option<ItemsHash>| match hash.map(|hash| hash.tag()) {
            Some(Some(tag)) if tags.contains(&tag) => tagging.own,
            Some(Some(_)) => Whose::Anothers,
            Some(None) => tagging.untagged,
            None => Whose::MaybeOurs,
        };
        for (hash, row) in rows {
            let is_open = hash.is_some_and(|hash| left.contains_key(&hash));
            let is_explained = hash.is_some_and(|hash| take_one(&mut left, hash));
            // More rows than attempts: the lane itself deals with them (rule 10).
            let is_its_lanes = is_explained || (is_open && hash.is_some_and(|h| h.tag().is_some()));
            let is_near = match whose(hash) {
                _ if is_its_lanes || left.is_empty() => false,
                Whose::Anothers => false,
                Whose::Wrong => {
                    this.near_all.take(&Near::of(&row, hash));
                    true
                }
                Whose::MaybeOurs => this.near_miss(hash, &row, products, &wanted),
            };
            if is_near || is_open {
                this.keep(hash, row);
            } else {
                this.orphans.push(row.id);
            }
        }
        this
    }

    /// Notes an unexplained row as a near miss of the lanes whose order it may be. False: there is
    /// no such lane.
    fn near_miss(
        &mut self,
        hash: Option<ItemsHash>,
        row: &Row,
        products: &dyn Fn(&str) -> bool,
        wanted: &BTreeSet<&str>,
    ) -> bool {
        let near = Near::of(row, hash);
        let items = row.items.as_deref().filter(|_| hash.is_some()).unwrap_or_default();
        if items.is_empty() || items.iter().any(|item| !products(&item.id)) {
            self.near_all.take(&near);
            return true;
        }
        let mut is_near = false;
        for item in items.iter().filter(|item| wanted.contains(&*item.id)) {
            self.near.entry(item.id.as_str().into()).or_default().take(&near);
            is_near = true;
        }
        is_near
    }

    fn keep(&mut self, hash: Option<ItemsHash>, row: Row) {
        let candidate = Candidate { id: row.id, created_at: row.created_at };
        self.free.entry(hash).or_default().push(candidate);
    }

    /// What the sheet shows to one lane; `ask`: the lane's question. `products` and `shapes`: of
    /// all its orders that are in doubt.
    #[must_use]
    pub fn view(
        &self,
        ask: u64,
        lane: ItemsHash,
        products: &[Arc<str>],
        shapes: &BTreeSet<Shape>,
    ) -> ListView {
        let candidates = self.free.get(&Some(lane)).cloned().unwrap_or_default();
        let is_faithful = self.faithful.as_ref().is_none_or(|seen| shapes.is_subset(seen));
        let proof = self.evidence.as_ref().ok().copied().filter(|_| is_faithful);
        let near = products.iter().filter_map(|product| self.near.get(product));
        let near = near.chain([&self.near_all]).filter_map(|rows| rows.beside(lane));
        let near_miss = near.min_by_key(|row| row.age()).map(|row| row.id.clone());
        ListView { ask, candidates, proof, near_miss }
    }

    /// The rows that nobody has and that somebody may claim yet, in order of id.
    #[must_use]
    pub fn free_ids(&self) -> Vec<OrderId> {
        let mut ids: Vec<_> = self.free.values().flatten().map(|row| row.id.clone()).collect();
        ids.sort_unstable();
        ids
    }
}
