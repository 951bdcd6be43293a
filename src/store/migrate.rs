//! Moves all orders of one store into another, so that at every moment at most one of the two can be
//! bought with.
//!
//! ```text
//! source: usable │ moving to T ............................... │ moved to T
//! target: empty  │      empty │ filled from S: copy, compare .. │ filled from S │ usable
//! ```
//!
//! Each step is one durable change under the lock or the lease of its store, in this order; a store
//! with a [`Mark`] starts no router. Whoever runs the same migration again after a crash goes on, at
//! whatever step it was: what is copied already joins, what differs is written anew, and everything is
//! compared again. What a source could still have sent is waited for (rule 16).

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::book::Account;
use super::lease::Asked;
use super::moving::is_same;
use super::record::{Row, encode_account, encode_row, put_timestamp};
use super::{Adopted, Bookmark, Committed, IntentStore, Mark, Page, Rehydration, StoreError};
use crate::crash;
use crate::order::{ClientRef, OrderId};
use crate::protocol::{Change, IDS_PER_RECORD_MAX, IntentId, Serial};

mod tally;

pub(super) use tally::Seen;
pub use tally::Tally;

/// A store that takes part, open, and where it is.
#[derive(Clone)]
pub struct Side {
    /// The store, under its lock or lease, which this process keeps until it closes it.
    pub store: Arc<dyn IntentStore>,
    /// Its URL without user and password: what the other store's mark says.
    pub place: String,
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("place", &self.place).finish_non_exhaustive()
    }
}

/// What a migration is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Copies orders.
    Copying,
    /// Reads the target and compares.
    Comparing,
    /// Waits until nothing of a former router of the source can still leave.
    Waiting,
}

/// How far a migration has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is at.
    pub step: Step,
    /// Orders, or seconds, so far.
    pub done: u64,
    /// Orders, or seconds, in all.
    pub total: u64,
}

/// Why orders were not moved. At most one of the two stores can be bought with.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The source is part of another migration, or its orders are elsewhere.
    #[error("{place} is no source: {mark}")]
    Source {
        /// Where it is.
        place: String,
        /// What it is marked with.
        mark: Mark,
    },
    /// The same migration was finished before.
    #[error("the orders of {from} are in {to} already")]
    Done {
        /// The source.
        from: String,
        /// The target.
        to: String,
    },
    /// The target has orders, or is part of another migration.
    #[error("{place} is no target: {why}")]
    Target {
        /// Where it is.
        place: String,
        /// What is in it.
        why: String,
    },
    /// The target has another order under a reference, or an order of the supplier under another
    /// reference.
    #[error("{place} has something else for the order {client_ref}: {why}")]
    Differs {
        /// The target.
        place: String,
        /// The reference.
        client_ref: ClientRef,
        /// What it has.
        why: &'static str,
    },
    /// After copying, the two do not hold the same.
    #[error("the two stores do not hold the same: {why}")]
    Unequal {
        /// What differs.
        why: String,
    },
    /// A store failed.
    #[error("the store {place}")]
    Store {
        /// Which.
        place: String,
        /// How.
        source: StoreError,
    },
}

/// What was moved: both sides have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The source, read while it was copied.
    pub source: Tally,
    /// The target, read after that.
    pub target: Tally,
    /// Orders that the target had already, of an earlier try.
    pub joined: u64,
}

/// Is told how far a migration has come, once a page.
pub type OnProgress = dyn Fn(Progress) + Send + Sync;

impl Side {
    fn failed(&self) -> impl Fn(StoreError) -> MigrateError + use<> {
        let place = self.place.clone();
        move |source| MigrateError::Store { place: place.clone(), source }
    }

    async fn commit(&self, change: Change) -> Result<Committed, MigrateError> {
        self.store.commit(change).await.map_err(self.failed())
    }

    async fn mark(&self, mark: Option<Mark>) -> Result<(), MigrateError> {
        self.commit(Change::Mark { mark }).await.map(|_| ())
    }

    async fn rehydrate(&self) -> Result<Rehydration, MigrateError> {
        self.store.rehydrate().await.map_err(self.failed())
    }

    async fn page(&self, from: Bookmark) -> Result<Page, MigrateError> {
        self.store.read_through(from).await.map_err(self.failed())
    }

    fn is_empty(&self, found: &Rehydration) -> bool {
        let stats = self.store.stats();
        let bare = Rehydration { mark: None, ..found.clone() };
        stats.open + stats.ended == 0 && bare == Rehydration::default()
    }
}

/// Moves everything from one store into another, which is empty, or has an interrupted copy, or is
/// the one that the source's orders came from. Neither is closed.
///
/// # Errors
/// [`MigrateError`]. Before the target is marked, nothing was changed in it; afterwards the same again
/// goes on, and [`reopen`] makes the source usable as before.
pub async fn migrate(
    from: &Side,
    to: &Side,
    on_progress: &OnProgress,
) -> Result<Report, MigrateError> {
    // Not before the source's lease was taken.
    let began = Asked::now();
    let (source, target) = (from.rehydrate().await?, to.rehydrate().await?);
    may_begin((from, &source), (to, &target))?;
    if source.mark.is_none() {
        from.mark(Some(Mark::MovingTo(to.place.clone()))).await?;
    }
    crash::point("migrate.source_marked");
    let filled = Some(Mark::FilledFrom(from.place.clone()));
    if target.mark != filled {
        to.mark(filled).await?;
    }
    crash::point("migrate.target_marked");
    copy_account(to, &source, &target).await?;
    let mut copying = Copying::new(from, to, on_progress);
    copying.run().await?;
    is_all(from, copying.tally)?;
    let (tally, joined) = (copying.tally, copying.joined);
    let report =
        Report { source: tally, target: compare(from, to, tally, on_progress).await?, joined };
    wait_for_the_former(from, began, on_progress).await;
    crash::point("migrate.compared");
    from.mark(Some(Mark::MovedTo(to.place.clone()))).await?;
    crash::point("migrate.source_moved");
    to.mark(None).await?;
    crash::point("migrate.done");
    Ok(report)
}

/// Makes the source of a migration that was given up usable again. The target stays unusable.
///
/// `target_is_lost`: also one whose orders are all in the target by now, which is gone for ever. If
/// anything was bought with the target, this store does not know it: the router's start asks (rule
/// 15). If the target is not gone, orders are bought twice.
///
/// # Errors
/// [`MigrateError::Source`]: it cannot be made usable like this.
pub async fn reopen(store: &Side, target_is_lost: bool) -> Result<Option<Mark>, MigrateError> {
    let mark = store.rehydrate().await?.mark;
    match mark {
        None => return Ok(None),
        Some(Mark::MovingTo(_)) => {}
        Some(Mark::MovedTo(_)) if target_is_lost => {}
        Some(mark) => return Err(MigrateError::Source { place: store.place.clone(), mark }),
    }
    store.mark(None).await?;
    Ok(mark)
}

/// Whether the marks of the two allow it.
fn may_begin(
    (from, source): (&Side, &Rehydration),
    (to, target): (&Side, &Rehydration),
) -> Result<(), MigrateError> {
    let filled_from_here = target.mark == Some(Mark::FilledFrom(from.place.clone()));
    match &source.mark {
        None => {}
        Some(Mark::MovingTo(place)) if *place == to.place => {}
        Some(Mark::MovedTo(place)) if *place == to.place && filled_from_here => {}
        Some(Mark::MovedTo(place)) if *place == to.place && target.mark.is_none() => {
            return Err(MigrateError::Done { from: from.place.clone(), to: to.place.clone() });
        }
        Some(mark) => {
            return Err(MigrateError::Source { place: from.place.clone(), mark: mark.clone() });
        }
    }
    let why = match &target.mark {
        None if to.is_empty(target) => return Ok(()),
        None => {
            let stats = to.store.stats();
            match stats.open + stats.ended {
                0 => "it was used with an account before".to_owned(),
                orders => format!("it is not empty, it has {orders} orders"),
            }
        }
        Some(_) if filled_from_here => return Ok(()),
        // The way back: what it has is what the source had, or an older state of it.
        Some(Mark::MovedTo(place)) if *place == from.place => return Ok(()),
        Some(mark) => mark.to_string(),
    };
    Err(MigrateError::Target { place: to.place.clone(), why })
}

/// Writes what is known of the account, as far as the target does not know it.
async fn copy_account(
    to: &Side,
    source: &Rehydration,
    target: &Rehydration,
) -> Result<(), MigrateError> {
    let mut changes = Vec::new();
    for lane in target.held_lanes.keys().filter(|lane| !source.held_lanes.contains_key(lane)) {
        changes.push(Change::FreeLane { lane: *lane });
    }
    for (lane, why) in &source.held_lanes {
        changes.push(Change::HoldLane { lane: *lane, why: why.clone() });
    }
    for ids in source.orphans.chunks(IDS_PER_RECORD_MAX) {
        changes.push(Change::Orphans { ids: ids.to_vec(), why: "moved".into() });
    }
    if let Some(line) = &source.history {
        let newest = line.newest;
        changes.push(Change::History { newest, ids: Vec::new() });
        for ids in line.ids.chunks(IDS_PER_RECORD_MAX) {
            changes.push(Change::History { newest, ids: ids.to_vec() });
        }
    }
    changes.extend(source.echo_seen.iter().map(|shape| Change::EchoSeen { shape: *shape }));
    match (&source.paused, &target.paused) {
        (Some(why), _) => changes.push(Change::Pause { why: why.clone() }),
        (None, Some(_)) => changes.push(Change::Resume),
        (None, None) => {}
    }
    if source.spent != target.spent {
        changes.push(Change::Spent(source.spent.clone()));
    }
    for change in changes {
        to.commit(change).await?;
    }
    Ok(())
}

type Adopting = (Adopted, futures_util::future::BoxFuture<'static, Result<Committed, StoreError>>);

/// Copies intents, a page while the one before it becomes durable.
struct Copying<'a> {
    from: &'a Side,
    to: &'a Side,
    on_progress: &'a OnProgress,
    handed_out: Serial,
    seen: Seen,
    tally: Tally,
    joined: u64,
}

impl<'a> Copying<'a> {
    fn new(from: &'a Side, to: &'a Side, on_progress: &'a OnProgress) -> Self {
        let handed_out = Serial(from.store.next_serial().0.saturating_sub(1));
        let (seen, tally) = (Seen::default(), Tally::default());
        Self { from, to, on_progress, handed_out, seen, tally, joined: 0 }
    }

    async fn run(&mut self) -> Result<(), MigrateError> {
        let stats = self.from.store.stats();
        let mut under_way: Vec<Adopting> = Vec::new();
        let mut next = Some(Bookmark::default());
        while let Some(from) = next {
            let page = self.from.page(from).await?;
            let mut handed_over = Vec::with_capacity(page.intents.len());
            for intent in page.intents {
                if !self.seen.is_new(intent.stored.id) {
                    continue;
                }
                self.tally.add(&intent);
                let adopt =
                    Change::Adopt { intent: Box::new(intent.clone()), handed_out: self.handed_out };
                handed_over.push((intent, self.to.store.commit(adopt)));
            }
            self.await_all(std::mem::replace(&mut under_way, handed_over)).await?;
            (self.on_progress)(Progress {
                step: Step::Copying,
                done: self.tally.intents,
                total: stats.open + stats.ended,
            });
            crash::point("migrate.page");
            next = page.next;
        }
        self.await_all(under_way).await
    }

    async fn await_all(&mut self, adopting: Vec<Adopting>) -> Result<(), MigrateError> {
        for (intent, done) in adopting {
            let why = match done.await.map_err(self.to.failed())? {
                Committed::Done => continue,
                Committed::Joined(_) => {
                    self.joined += 1;
                    continue;
                }
                Committed::Conflict => "it ended otherwise there, or its reference is another's",
                Committed::IdTaken(_) => "the supplier's order belongs to another there",
                Committed::Stale => "the store is not marked as being filled any more",
            };
            let client_ref = intent.stored.client_ref;
            return Err(MigrateError::Differs { place: self.to.place.clone(), client_ref, why });
        }
        Ok(())
    }
}

/// Reads the target and compares it with the source: every intent, every claim, the account, what a
/// start would find, and the serials.
async fn compare(
    from: &Side,
    to: &Side,
    copied: Tally,
    on_progress: &OnProgress,
) -> Result<Tally, MigrateError> {
    let unequal = |why: String| Err(MigrateError::Unequal { why });
    let (mut seen, mut tally) = (Seen::default(), Tally::default());
    let mut next = Some(Bookmark::default());
    while let Some(at) = next {
        let page = to.page(at).await?;
        let new = page.intents.iter().filter(|intent| seen.is_new(intent.stored.id));
        let new: Vec<_> = new.collect();
        new.iter().for_each(|intent| tally.add(intent));
        let claimed: Vec<_> = new.iter().filter_map(|intent| claimed(intent)).collect();
        let ids = claimed.iter().map(|(id, _)| id.clone()).collect();
        let claims = to.store.claims(ids).await.map_err(to.failed())?;
        for ((id, intent), claim) in claimed.iter().zip(claims) {
            if claim.is_none_or(|claim| claim.intent != *intent) {
                return unequal(format!("{} does not know who has the order {id}", to.place));
            }
        }
        let (step, done, total) = (Step::Comparing, tally.intents, copied.intents);
        on_progress(Progress { step, done, total });
        next = page.next;
    }
    is_all(to, tally)?;
    if tally != copied {
        return unequal(format!("{} has {copied}, {} has {tally}", from.place, to.place));
    }
    let (source, target) = (from.rehydrate().await?, to.rehydrate().await?);
    if digest(&source) != digest(&target) {
        return unequal("what is known of the account".to_owned());
    }
    let same = source.intents.len() == target.intents.len()
        && source.intents.iter().zip(&target.intents).all(|(a, b)| is_same(a, b));
    if !same {
        let (here, there) = (source.intents.len(), target.intents.len());
        return unequal(format!(
            "a start finds {here} orders in {}, {there} in {}",
            from.place, to.place
        ));
    }
    let (here, there) = (from.store.next_serial(), to.store.next_serial());
    if tally.intents > 0 && there.0.saturating_add(1) < here.0 {
        return unequal(format!("serials go on at {} and not at {}", there.0, here.0));
    }
    Ok(tally)
}

/// Whether what was read of a store is what it says that it has: a row that it lost is no row less.
fn is_all(side: &Side, read: Tally) -> Result<(), MigrateError> {
    let stats = side.store.stats();
    if (read.open, read.intents - read.open) == (stats.open, stats.ended) {
        return Ok(());
    }
    let (place, has) = (&side.place, stats.open + stats.ended);
    let why =
        format!("{place} says that it has {has} orders, {} open, and shows {read}", stats.open);
    Err(MigrateError::Unequal { why })
}

fn claimed(intent: &Adopted) -> Option<(OrderId, IntentId)> {
    intent.stored.state.order().map(|order| (order.id.clone(), intent.stored.id))
}

/// A hash of what is known of the account.
fn digest(found: &Rehydration) -> [u8; 32] {
    let account = Account {
        held_lanes: found.held_lanes.clone(),
        orphans: found.orphans.clone(),
        history: found.history.clone(),
        echo_seen: found.echo_seen.clone(),
        paused: found.paused.clone(),
        mark: None,
        spent: found.spent.clone(),
    };
    let mut bytes = Vec::new();
    encode_account(&account, &mut bytes);
    if let Some(newest) = found.newest_known {
        put_timestamp(&mut bytes, newest);
    }
    Sha256::digest(&bytes).into()
}

/// A router that lost the source's lease to this migration may have stood still between the gate of an
/// order and the kernel (assumption A8). The next one, on the target, counts settling from its start:
/// that is not to be earlier.
async fn wait_for_the_former(from: &Side, began: Asked, on_progress: &OnProgress) {
    let Some(lease) = from.store.lease() else { return };
    let pause = lease.terms().pause_max;
    loop {
        let left = pause.saturating_sub(began.ago());
        if left.is_zero() {
            return;
        }
        let (step, total) = (Step::Waiting, pause.as_secs());
        on_progress(Progress { step, done: total.saturating_sub(left.as_secs()), total });
        tokio::time::sleep(left.min(std::time::Duration::from_secs(1))).await;
    }
}

/// An intent's bytes, as both stores have them: without the items of one that has ended, which may be
/// forgotten, and without the number of its last change.
fn bytes_of(intent: &Adopted) -> Vec<u8> {
    let row = Row::from(intent.clone());
    let mut bytes = Vec::with_capacity(256);
    encode_row(&row, row.is_active(), &mut bytes);
    bytes
}
