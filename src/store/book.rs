//! The book: the one place that decides guards and applies changes, in memory and pure.
//!
//! [`MemoryStore`](super::MemoryStore) is a book behind a lock. The embedded store's committer
//! keeps one as well: it holds every intent that is active and everything that changed since the
//! index's watermark, and asks the index ([`Base`]) only for what is older. So a guard exists once.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use jiff::Timestamp;

use super::record::{ClaimRow, Row};
use super::{Committed, Known, Rehydration, StoreError, Stored};
use crate::order::{ClientRef, OrderId};
use crate::protocol::{
    Change, Clause, IntentId, Learnt, LeftOut, NewIntent, Serial, Shape, State, Verdict,
};

mod account;
mod adopt;
mod decide;
mod totals;
mod witnesses;

pub(crate) use account::Account;
pub(crate) use decide::claim_of;
use decide::{claimed, decidable, pay, payable, undo_or_end};
use totals::SerialHasher;
pub(crate) use totals::Totals;
use witnesses::Witnesses;

/// What lies below the book: ended intents and their claims that it has let go of.
pub(crate) trait Base {
    /// The ended intent with this reference.
    fn row(&self, client_ref: &ClientRef) -> Result<Option<Row>, StoreError>;

    /// Who has this order.
    fn claim(&self, id: &OrderId) -> Result<Option<ClaimRow>, StoreError>;
}

/// Nothing lies below: the book holds everything.
pub(crate) struct NoBase;

impl Base for NoBase {
    fn row(&self, _: &ClientRef) -> Result<Option<Row>, StoreError> {
        Ok(None)
    }

    fn claim(&self, _: &OrderId) -> Result<Option<ClaimRow>, StoreError> {
        Ok(None)
    }
}

/// Where a book stands: what its copy in the index must agree with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Changes applied since the store was made.
    pub changes: u64,
    /// The highest serial that was handed out.
    pub highest: Serial,
    /// Counts and hashes of what it holds.
    pub totals: Totals,
    /// The newest `createdAt` of any order that an intent has.
    pub newest_known: Option<Timestamp>,
}

impl Standing {
    /// Whether two are of the same moment. The highest serial may have grown without a change, and
    /// the newest date is not in the journal.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        (self.changes, self.totals) == (other.changes, other.totals)
    }
}

/// What changed since the last feed: rows as they stand now, for the index.
#[derive(Debug)]
pub(crate) struct Feed {
    /// The rows, each once, in the order in which they first changed.
    pub rows: Vec<FeedRow>,
    /// The account, if it changed.
    pub account: Option<Account>,
    /// Where the book stood.
    pub standing: Standing,
}

/// A row for the index.
#[derive(Debug)]
pub(crate) struct FeedRow {
    /// The row as it stands now.
    pub row: Arc<Row>,
    /// The index was given it as an active row before.
    pub was_active: bool,
}

/// A change that cannot follow on what the book holds: the records are not of one history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Impossible;

struct Entry {
    row: Arc<Row>,
    dirty: bool,
    /// The index was given it as an active row.
    fed_active: bool,
}

/// See the module.
pub(crate) struct Book {
    intents: HashMap<Serial, Entry, BuildHasherDefault<SerialHasher>>,
    by_ref: HashMap<ClientRef, Serial>,
    by_order: HashMap<OrderId, Arc<ClaimRow>>,
    account: Account,
    account_dirty: bool,
    standing: Standing,
    witnesses: Witnesses,
    dirty: Vec<Serial>,
    /// Whether an index is fed from this book: else nothing is noted as dirty or let go of.
    fed: bool,
    left_out: LeftOut,
}

impl Book {
    /// An empty book. `fed`: an index below takes over what has ended.
    pub(crate) fn new(fed: bool) -> Self {
        Self {
            intents: HashMap::default(),
            by_ref: HashMap::new(),
            by_order: HashMap::new(),
            account: Account::default(),
            account_dirty: false,
            standing: Standing::default(),
            witnesses: Witnesses::default(),
            dirty: Vec::new(),
            fed,
            left_out: LeftOut::default(),
        }
    }

    /// Leaves out a clause of the rules, for a test.
    pub(crate) fn leaving_out(mut self, left_out: LeftOut) -> Self {
        self.left_out = left_out;
        self
    }

    /// The book of which the index holds a copy: its active rows, the account, the standing.
    pub(crate) fn restored(rows: Vec<Row>, account: Account, standing: Standing) -> Self {
        let mut book = Self::new(true);
        for row in rows {
            book.by_ref.insert(row.stored.client_ref.clone(), row.stored.id);
            book.intents.insert(
                row.stored.id,
                Entry { row: Arc::new(row), dirty: false, fed_active: true },
            );
        }
        book.account = account;
        book.standing = standing;
        book.witnesses = Witnesses::complete_from(Serial(standing.highest.0.saturating_add(1)));
        book
    }

    /// Where it stands.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Notes that serials up to this one were handed out.
    pub(crate) fn handed_out(&mut self, highest: Serial) {
        self.standing.highest = self.standing.highest.max(highest);
    }

    /// Whether a change may be applied; what to answer if it may not.
    pub(crate) fn guard(
        &self,
        base: &dyn Base,
        change: &Change,
    ) -> Result<Option<Committed>, StoreError> {
        let allowed = |yes: bool| Ok((!yes).then_some(Committed::Stale));
        match change {
            Change::Accept { intent, .. } => self.guard_accept(base, intent),
            Change::Record { intent, attempt } => allowed(self.stored(*intent).is_some_and(|s| {
                s.state == State::Queued && s.last_attempt.is_none_or(|last| last < attempt.seq)
            })),
            Change::Decide { intent, attempt, verdict } => {
                let decidable =
                    self.stored(*intent).is_some_and(|s| decidable(s, *attempt, verdict));
                if !decidable && self.left_out.keeps(Clause::OutcomeGuarded) {
                    return Ok(Some(Committed::Stale));
                }
                let Some((id, _)) = verdict.order() else { return Ok(None) };
                if !self.left_out.keeps(Clause::ClaimedOnce) {
                    return Ok(None);
                }
                Ok(self.claim(base, id)?.map(|taken| Committed::IdTaken(taken.claim())))
            }
            Change::Pay { intent, was, .. } => {
                allowed(self.stored(*intent).is_some_and(|stored| payable(stored, was)))
            }
            Change::Expire { intent, .. } => {
                allowed(self.stored(*intent).is_some_and(|s| s.state == State::Queued))
            }
            Change::Settle { intent } => {
                allowed(self.stored(*intent).is_some_and(|stored| stored.unsettled))
            }
            Change::Adopt { intent, .. } => self.guard_adopt(base, intent),
            Change::HoldLane { .. }
            | Change::FreeLane { .. }
            | Change::Orphans { .. }
            | Change::History { .. }
            | Change::EchoSeen { .. }
            | Change::Pause { .. }
            | Change::Resume
            | Change::Spend(_)
            | Change::Spent(_)
            | Change::Mark { .. } => Ok(None),
        }
    }

    fn guard_accept(
        &self,
        base: &dyn Base,
        intent: &NewIntent,
    ) -> Result<Option<Committed>, StoreError> {
        let existing = self.find(base, &intent.client_ref)?;
        let same = |stored: &Stored| {
            stored.as_sent == intent.as_sent || !self.left_out.keeps(Clause::ConflictRefused)
        };
        Ok(match existing {
            Some(_) if !self.left_out.keeps(Clause::ReferenceUnique) => None,
            Some(stored) if same(&stored) => Some(Committed::Joined(Box::new(stored))),
            Some(_) => Some(Committed::Conflict),
            None => self.intents.contains_key(&intent.id).then_some(Committed::Stale),
        })
    }

    /// Applies a change that the guard let through, or that was let through when it was written.
    pub(crate) fn apply(&mut self, change: Change) -> Result<(), Impossible> {
        self.standing.changes += 1;
        match change {
            Change::Accept { intent, attempt } => self.accept(intent, attempt)?,
            Change::Record { intent, attempt } => {
                self.handed_out(attempt.seq);
                self.update(intent, |stored| {
                    stored.last_attempt = Some(attempt.seq);
                    stored.state = State::Sending(attempt);
                })?;
            }
            Change::Decide { intent, verdict, .. } => self.decide(intent, verdict)?,
            Change::Pay { intent, to, .. } => self.update(intent, |stored| pay(stored, to))?,
            Change::Expire { intent, why } => {
                self.update(intent, |stored| stored.state = State::NotPlaced(why))?;
            }
            Change::Settle { intent } => self.update(intent, |stored| stored.unsettled = false)?,
            Change::Adopt { intent, handed_out } => self.adopt((*intent).into(), handed_out)?,
            Change::HoldLane { .. }
            | Change::FreeLane { .. }
            | Change::Orphans { .. }
            | Change::History { .. }
            | Change::EchoSeen { .. }
            | Change::Pause { .. }
            | Change::Resume
            | Change::Spend(_)
            | Change::Spent(_)
            | Change::Mark { .. } => {
                self.account.apply(change);
                self.account_dirty = true;
            }
        }
        Ok(())
    }

    fn accept(
        &mut self,
        new: NewIntent,
        attempt: Option<crate::protocol::Attempt>,
    ) -> Result<(), Impossible> {
        self.handed_out(new.id);
        if let Some(attempt) = &attempt {
            self.handed_out(attempt.seq);
        }
        if self.intents.contains_key(&new.id) {
            return Err(Impossible);
        }
        let row = Row {
            shape: Shape::of(&new.items),
            changed: self.standing.changes,
            ended_at: Serial(0),
            stored: Stored {
                id: new.id,
                client_ref: new.client_ref,
                lane: new.lane,
                as_sent: new.as_sent,
                delivered: new.delivered,
                items: new.items,
                good_until: new.good_until,
                accepted_at: new.accepted_at,
                last_attempt: attempt.as_ref().map(|a| a.seq),
                state: attempt.map_or(State::Queued, State::Sending),
                tries: 0,
                unsettled: false,
            },
        };
        self.standing.totals.enter(&row);
        let before = self.by_ref.insert(row.stored.client_ref.clone(), row.stored.id);
        if before.is_some() && self.left_out.keeps(Clause::ReferenceUnique) {
            return Err(Impossible);
        }
        let id = row.stored.id;
        self.intents.insert(id, Entry { row: Arc::new(row), dirty: self.fed, fed_active: false });
        if self.fed {
            self.dirty.push(id);
        }
        Ok(())
    }

    fn decide(&mut self, intent: IntentId, verdict: Verdict) -> Result<(), Impossible> {
        let (state, id, learnt, created_at) = match claimed(verdict) {
            Ok(claimed) => claimed,
            Err(other) => return self.update(intent, |stored| undo_or_end(stored, other)),
        };
        let left_out = self.left_out;
        self.update(intent, |stored| {
            stored.state = state;
            // Rule 9: only its own answer shows that its POST is done.
            stored.unsettled = learnt != Learnt::Answer && left_out.keeps(Clause::PlacedRemembered);
        })?;
        let row = &self.intents.get(&intent).ok_or(Impossible)?.row;
        let claim = Arc::new(claim_of(row).ok_or(Impossible)?);
        self.standing.totals.claim(intent);
        self.standing.newest_known = self.standing.newest_known.max(created_at);
        self.witnesses.push(claim.clone());
        let taken = self.by_order.insert(id, claim).is_some();
        if taken && left_out.keeps(Clause::ClaimedOnce) { Err(Impossible) } else { Ok(()) }
    }

    fn update(
        &mut self,
        intent: IntentId,
        change: impl FnOnce(&mut Stored),
    ) -> Result<(), Impossible> {
        let entry = self.intents.get_mut(&intent).ok_or(Impossible)?;
        let row = Arc::make_mut(&mut entry.row);
        self.standing.totals.leave(row);
        let decided_before = row.stored.state.is_decided();
        change(&mut row.stored);
        row.changed = self.standing.changes;
        if !decided_before && row.stored.state.is_decided() {
            row.ended_at = self.standing.highest;
        }
        self.standing.totals.enter(row);
        if self.fed && !std::mem::replace(&mut entry.dirty, true) {
            self.dirty.push(intent);
        }
        Ok(())
    }

    fn stored(&self, intent: IntentId) -> Option<&Stored> {
        self.intents.get(&intent).map(|entry| &entry.row.stored)
    }

    /// The intent with this reference.
    pub(crate) fn find(
        &self,
        base: &dyn Base,
        client_ref: &ClientRef,
    ) -> Result<Option<Stored>, StoreError> {
        match self.by_ref.get(client_ref).and_then(|id| self.stored(*id)) {
            Some(stored) => Ok(Some(stored.clone())),
            None => Ok(base.row(client_ref)?.map(|row| row.stored)),
        }
    }

    /// Who has this order.
    pub(crate) fn claim(
        &self,
        base: &dyn Base,
        id: &OrderId,
    ) -> Result<Option<ClaimRow>, StoreError> {
        match self.by_order.get(id) {
            Some(claim) => Ok(Some(claim.as_ref().clone())),
            None => base.claim(id),
        }
    }

    /// Every active intent, by serial, and the account.
    pub(crate) fn rehydrate(&self) -> Rehydration {
        let mut intents: Vec<Stored> = self
            .intents
            .values()
            .filter(|entry| entry.row.is_active())
            .map(|entry| entry.row.stored.clone())
            .collect();
        intents.sort_unstable_by_key(|stored| stored.id);
        let account = self.account.clone();
        Rehydration {
            intents,
            held_lanes: account.held_lanes,
            orphans: account.orphans,
            history: account.history,
            echo_seen: account.echo_seen,
            paused: account.paused,
            mark: account.mark,
            spent: account.spent,
            newest_known: self.standing.newest_known,
        }
    }

    /// Every intent that the book holds, by serial.
    pub(crate) fn all(&self) -> BTreeMap<Serial, Stored> {
        self.intents.iter().map(|(id, entry)| (*id, entry.row.stored.clone())).collect()
    }

    /// Every row that the book holds, in the order in which they got their orders or ended.
    pub(crate) fn rows(&self) -> Vec<Arc<Row>> {
        let mut rows: Vec<_> = self.intents.values().map(|entry| entry.row.clone()).collect();
        rows.sort_unstable_by_key(|row| (row.ended_at, row.stored.id));
        rows
    }

    /// The claims since a serial that the book holds, oldest first, and whether they are all.
    pub(crate) fn witnesses_since(&self, since: Serial) -> (Vec<Arc<ClaimRow>>, bool) {
        self.witnesses.since(since)
    }

    /// Witnesses out of claims, oldest first.
    pub(crate) fn known(claims: &[Arc<ClaimRow>]) -> Vec<Known> {
        claims.iter().map(|claim| claim.known()).collect()
    }

    /// How many intents changed since the last feed.
    pub(crate) fn dirty(&self) -> usize {
        self.dirty.len() + usize::from(self.account_dirty)
    }

    /// What changed since the last feed.
    pub(crate) fn take_feed(&mut self) -> Feed {
        let mut rows = Vec::with_capacity(self.dirty.len());
        for id in std::mem::take(&mut self.dirty) {
            if let Some(entry) = self.intents.get_mut(&id) {
                entry.dirty = false;
                let was_active = std::mem::replace(&mut entry.fed_active, entry.row.is_active());
                rows.push(FeedRow { row: entry.row.clone(), was_active });
            }
        }
        let account = std::mem::take(&mut self.account_dirty).then(|| self.account.clone());
        Feed { rows, account, standing: self.standing }
    }

    /// Has the account fed once more.
    pub(crate) fn account_changed(&mut self) {
        self.account_dirty = true;
    }

    /// Lets go of what the index has taken over: rows that have ended and did not change since.
    pub(crate) fn let_go(&mut self, fed: &Feed) {
        for FeedRow { row, .. } in &fed.rows {
            let Some(entry) = self.intents.get(&row.stored.id) else { continue };
            if entry.row.changed > fed.standing.changes {
                continue;
            }
            if let Some(order) = entry.row.stored.state.order() {
                self.by_order.remove(order.id);
            }
            if !entry.row.is_active() {
                self.by_ref.remove(&entry.row.stored.client_ref);
                self.intents.remove(&row.stored.id);
            }
        }
        if self.witnesses.is_long() {
            let oldest = self.oldest_open_attempt();
            self.witnesses.trim(oldest, fed.standing.changes);
        }
    }

    fn oldest_open_attempt(&self) -> Serial {
        let attempts = self.intents.values().filter_map(|e| e.row.stored.state.attempt());
        attempts.map(|a| a.seq).min().unwrap_or(self.standing.highest)
    }
}

#[cfg(test)]
mod tests;
