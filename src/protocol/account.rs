//! The account book: what is known of the orders of one account, and what a sheet proves.
//!
//! Rules 8 to 10, 12, 14 and 15, and the assumptions A2 and A4, as far as they are about the whole
//! account. What follows for one lane is decided there; it gets a [`ListView`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::clause::{Clause, LeftOut};
use super::intent::{Fingerprint, Learnt, Shape};
use super::lane::{Candidate, ListView, Reach};
use super::listing::{NoEvidence, Sheet, earlier};
use super::time::Moment;
use crate::order::{EchoProfile, ItemsHash, OrderId};
use crate::store::{Claim, HistoryLine, Known};
use crate::supplier::Row;

mod assessment;
#[cfg(any(test, feature = "testing"))]
mod canonical;
mod evidence;

pub use assessment::Assessment;
#[cfg(any(test, feature = "testing"))]
pub use canonical::Contents;

/// How long an order must be known before a list has to show it, where no landing bound is set.
pub(crate) const LANDING_BOUND: Duration = Duration::from_secs(15 * 60);

/// What the rules of an account are set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRules {
    /// How long after its last byte could have left a POST may still take effect, and show in the
    /// list (assumption A1). `None`: the router releases nothing; lists are judged by 15 min.
    pub landing_bound: Option<Duration>,
    /// How long an answer to a POST is waited for: the landing bound must be well above it.
    pub request_timeout: Duration,
    /// By how much the list's order by `createdAt` may be off, and how much older than the newest
    /// order known when it left an order may be dated (assumption A9). Beyond half of it no list is
    /// evidence. Default: 10 s.
    pub list_margin: Duration,
    /// By how much the supplier's `createdAt` may be off: only rows older than the history line by
    /// more are history (rule 14). Beyond half of it no list is evidence. Default: 1 h.
    pub clock_margin: Duration,
    /// The list counts as faithful before that was seen (assumption A4). Default: no. A row that
    /// is seen to differ ends this trust all the same.
    pub trust_echo: bool,
    /// Which fields of the items the list shows.
    pub echo: EchoProfile,
    /// What the lists are fetched with.
    pub fingerprint: Fingerprint,
    /// The clause that a test leaves out. Default: none.
    pub left_out: LeftOut,
}

/// What is open in a lane when a list has arrived.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenLane {
    /// How many attempts are open: so many rows with the lane's items-hash are explained.
    pub attempts: usize,
    /// The products that its orders name.
    pub products: Vec<Arc<str>>,
}

/// What a person should know of the account. Each names the assumption that is broken.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AccountAlarm {
    /// The list shows an order with other items than those of the intent that has it (A4). Nothing
    /// is released any more.
    #[error("order {id} is not echoed as the order of lane {lane} that it is: nothing is released")]
    EchoDiffers {
        /// The supplier's order.
        id: OrderId,
        /// The lane of the intent that has it.
        lane: ItemsHash,
    },
    /// An order that the list must show is not there (A2): it is stale, incomplete, or of another
    /// account. Nothing is released while it is so.
    #[error("the list does not show order {id}, which it must: nothing is released by it")]
    WitnessMissing {
        /// The supplier's order.
        id: OrderId,
    },
    /// The landing bound is below twice the request timeout and the longest time that an order was
    /// seen to need until a list shows it (A1): set it longer, or an order that lands late is
    /// bought twice.
    #[error(
        "the landing bound of {bound:?} is short: an order took at least {lag:?} to show in the list"
    )]
    BoundShort {
        /// The landing bound.
        bound: Duration,
        /// The longest lag that was seen.
        lag: Duration,
    },
    /// An order of ours is dated before orders that were known when it left, by more than half of the
    /// list margin (A9): one whose answer is lost might be older than a listing reaches, and be bought
    /// again. Nothing is released until a start with a longer margin.
    #[error(
        "an order is dated {by:?} before orders that were known when it was sent: nothing is \
         released; start again with a list margin of more than twice that"
    )]
    DatedBack {
        /// By how much.
        by: Duration,
    },
    /// The supplier's clock is off by more than half of the clock margin (rule 14). Nothing is
    /// released while it is so.
    #[error("the supplier's clock is off by {skew:?}: nothing is released")]
    ClockOff {
        /// By how much.
        skew: Duration,
    },
}

/// What is known of one order of the account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Entry {
    /// When it was created, where that is known; else not before this moment.
    created_at: Timestamp,
    /// `created_at` is what the supplier says.
    dated: bool,
    claim: Option<Holder>,
    /// When a list of this process first showed it.
    seen: Option<Moment>,
    /// The last sheet that showed it.
    sheet: u64,
}

/// Who has an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Holder {
    lane: ItemsHash,
    learnt: Learnt,
    /// `None`: the store's claim was read, which does not tell.
    shape: Option<Shape>,
    /// Since when this process knows.
    since: Moment,
    /// Its row was compared with its lane.
    compared: bool,
}

/// A listing that showed nothing in the span that it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Silence {
    since: Option<Timestamp>,
    arrived: Moment,
}

/// What a row is to the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Claimed,
    Orphan,
    History,
    Free,
}

/// The account book. Plain data; see the module's text.
#[derive(Debug, Clone)]
pub struct Account {
    rules: AccountRules,
    /// Rows created before it are history.
    history_before: Option<Timestamp>,
    history_ids: BTreeSet<OrderId>,
    orphans: BTreeSet<OrderId>,
    echo_seen: BTreeSet<Shape>,
    /// The list has shown the tag of an order known by its own answer, to this process.
    tag_seen: bool,
    /// Looked up alone, never gone through: nothing follows the order of a hash map.
    book: HashMap<OrderId, Entry>,
    by_age: BTreeSet<(Timestamp, OrderId)>,
    newest: Option<Timestamp>,
    /// The supplier's clock as the last sheet showed it.
    clock: Option<(Timestamp, Moment)>,
    clock_off: Option<Duration>,
    clock_alarm_due: bool,
    /// By how much an order of ours was dated before what was known when it left.
    dated_back: Option<Duration>,
    sheets: u64,
    silence: Option<Silence>,
    /// Rows that were seen to differ from the orders that they are.
    differing: BTreeSet<OrderId>,
    /// One of them, until a person trusts the list again.
    distrust: Option<OrderId>,
    missing: Option<OrderId>,
    /// The longest time that an answered order was seen to be missing from a list.
    lag_seen: Duration,
    bound_alarmed: bool,
}

impl Account {
    /// The book of an account as the store has it; `now`: the moment when the process held the lock
    /// on the store.
    ///
    /// `known`: the orders that a list reaching back to the oldest open attempt must show.
    /// `newest_known`: the newest `createdAt` of any order that an intent has.
    #[must_use]
    pub fn new(
        rules: AccountRules,
        history: Option<HistoryLine>,
        orphans: Vec<OrderId>,
        echo_seen: Vec<Shape>,
        known: Vec<Known>,
        newest_known: Option<Timestamp>,
        now: Moment,
    ) -> Self {
        let mut account = Self {
            rules,
            history_before: None,
            history_ids: BTreeSet::new(),
            orphans: orphans.into_iter().collect(),
            echo_seen: echo_seen.into_iter().collect(),
            tag_seen: false,
            book: HashMap::new(),
            by_age: BTreeSet::new(),
            newest: newest_known,
            clock: None,
            clock_off: None,
            clock_alarm_due: false,
            dated_back: None,
            sheets: 0,
            silence: None,
            differing: BTreeSet::new(),
            distrust: None,
            missing: None,
            lag_seen: Duration::ZERO,
            bound_alarmed: false,
        };
        if let Some(line) = history {
            account.set_history(&line);
        }
        for known in known {
            account.learnt(known, now);
        }
        account
    }

    /// The newest `createdAt` that is known by own answers, lists or history: the order of an
    /// attempt that is recorded now cannot be older. `None`: no order is known.
    ///
    /// An order dated in the future counts as created now, by the supplier's clock: it must not
    /// shorten the listings that look for later ones.
    #[must_use]
    pub fn floor(&self, now: Moment) -> Option<Timestamp> {
        let supplier_now = self.clock.and_then(|(date, at)| later(date, now.since(at)));
        self.newest.map(|at| supplier_now.map_or(at, |now| at.min(now)))
    }

    /// What the supplier's clock showed when an answer arrived.
    pub fn read_clock(&mut self, date: Option<Timestamp>, arrived: Moment) {
        self.clock = date.map(|date| (date, arrived)).or(self.clock);
    }

    /// The supplier shows no clock: until it does, this machine's is taken for it. It only keeps an order
    /// that is dated in the future from shortening the listings that look for later ones.
    pub fn assume_clock(&mut self, wall: Timestamp, now: Moment) {
        self.clock.get_or_insert((wall, now));
    }

    /// The date of an order whose POST left when the floor was `floor`: a listing for it would have
    /// begun at the floor less the margin (assumption A9). The first one that is dated too early is
    /// told.
    #[must_use]
    pub fn own_date(
        &mut self,
        created_at: Timestamp,
        floor: Option<Timestamp>,
    ) -> Option<AccountAlarm> {
        let by = Duration::try_from(floor?.duration_since(created_at)).unwrap_or_default();
        if by <= self.rules.list_margin / 2 {
            return None;
        }
        self.dated_back.replace(by).is_none().then_some(AccountAlarm::DatedBack { by })
    }

    /// An order was claimed durably: by its own answer, by a list or by a person.
    pub fn learnt(&mut self, known: Known, now: Moment) {
        let Known { id, lane, shape, learnt, created_at } = known;
        self.raise_floor(created_at, now);
        let holder = Holder { lane, learnt, shape: Some(shape), since: now, compared: false };
        self.hold(id, holder, created_at);
    }

    /// Measures the supplier's clock against the wall clock of this machine.
    pub fn supplier_clock(&mut self, date: Timestamp, wall: Timestamp) {
        let skew = date.duration_since(wall).unsigned_abs();
        let off = (skew > self.rules.clock_margin / 2).then_some(skew);
        self.clock_alarm_due |= off.is_some() && self.clock_off.is_none();
        self.clock_off = off;
    }

    /// A person has looked at the rows that differ, and trusts the list nevertheless.
    pub fn trust(&mut self) {
        self.distrust = None;
    }

    /// Forgets the orders that no listing reaches any more.
    ///
    /// `oldest_open_floor`: the oldest floor of an attempt that is open, or the
    /// [`floor`](Self::floor) of the next one where none is. `None`: a listing to the very end may
    /// come, so nothing is forgotten.
    pub fn prune(&mut self, oldest_open_floor: Option<Timestamp>) {
        let Some(oldest) = oldest_open_floor else { return };
        let cut = earlier(oldest, self.rules.list_margin);
        while let Some((created_at, id)) = self.by_age.pop_first() {
            if created_at >= cut {
                self.by_age.insert((created_at, id));
                return;
            }
            self.book.remove(&id);
        }
    }

    /// How long an order was seen to need, at least, from its answer until a list shows it (A1).
    #[must_use]
    pub fn lag_seen(&self) -> Duration {
        self.lag_seen
    }

    /// Orders that are remembered: the bound of this book's memory.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.book.len()
    }

    /// The rows whose claims must be asked of the store before the sheet can be assessed.
    #[must_use]
    pub fn unknown_ids(&self, sheet: &Sheet) -> Vec<OrderId> {
        let unknown = sheet.rows.iter().filter(|row| self.mark(row) == Mark::Free);
        unknown.map(|row| row.id.clone()).collect()
    }

    /// Draws the history line at the first start on the account, before the first POST (rule 14).
    ///
    /// The sheet must be evidence, and reach back further than twice the clock margin from now:
    /// where it shows no order, the line is drawn by how far it reaches.
    pub fn draw_history(&mut self, sheet: &Sheet) -> HistoryLine {
        let margin = self.rules.clock_margin;
        let newest = sheet.rows.iter().map(|row| row.created_at).max();
        // What was not read is older than the reach, and must be older than line and margin too.
        let reach = sheet.reach.as_ref().ok().copied().flatten();
        let read = reach.and_then(|since| later(since, margin));
        let newest = newest.max(read);
        let around =
            |row: &&Row| newest.is_some_and(|line| row.created_at >= earlier(line, margin));
        let ids = sheet.rows.iter().filter(around).map(|row| row.id.clone()).collect();
        let line = HistoryLine { newest, ids };
        self.set_history(&line);
        line
    }

    /// Unclaimed rows past the history line that the open attempts do not explain (rule 15), oldest
    /// first: of each items-hash at most as many rows are explained as attempts are open.
    #[must_use]
    pub fn unexplained(
        &self,
        sheet: &Sheet,
        claims: &[Claim],
        open: &BTreeMap<ItemsHash, OpenLane>,
    ) -> Vec<OrderId> {
        if !self.keeps(Clause::StartStops) {
            return Vec::new();
        }
        let claimed: BTreeSet<_> = claims.iter().map(|claim| &claim.id).collect();
        let free = |row: &&Row| self.mark(row) == Mark::Free && !claimed.contains(&row.id);
        let mut rows: Vec<_> = sheet.rows.iter().filter(free).collect();
        rows.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        let mut left: BTreeMap<_, _> = open.iter().map(|(lane, o)| (*lane, o.attempts)).collect();
        rows.retain(|row| !self.hash(row).is_some_and(|hash| take_one(&mut left, hash)));
        rows.into_iter().map(|row| row.id.clone()).collect()
    }

    /// Orders that no intent has: never candidates again (rule 12).
    pub fn orphan(&mut self, ids: impl IntoIterator<Item = OrderId>) {
        self.orphans.extend(ids);
    }

    /// Whether an order is known to be an intent's.
    #[must_use]
    pub fn is_claimed(&self, id: &OrderId) -> bool {
        self.book.get(id).is_some_and(|entry| entry.claim.is_some())
    }

    /// Whether an order is known to be no intent's: an orphan, or history.
    #[must_use]
    pub fn is_nobodys(&self, id: &OrderId) -> bool {
        let entry = self.book.get(id);
        if entry.is_some_and(|entry| entry.claim.is_some()) {
            return false;
        }
        self.orphans.contains(id)
            || self.history_ids.contains(id)
            || entry.is_some_and(|entry| self.is_before_history(entry.created_at))
    }

    /// Whether an order was there before the history line was drawn: it is one of those around it, or
    /// older than it by more than the clock margin (rule 14).
    #[must_use]
    pub fn is_history(&self, id: &OrderId, created_at: Timestamp) -> bool {
        self.history_ids.contains(id) || self.is_before_history(created_at)
    }

    fn set_history(&mut self, line: &HistoryLine) {
        self.history_before = line.newest.map(|at| earlier(at, self.rules.clock_margin));
        self.history_ids = line.ids.iter().cloned().collect();
        // Where no row was read the line is drawn by this machine's clock: it is no order's date.
        self.newest = self.newest.max(self.history_before);
    }

    fn raise_floor(&mut self, created_at: Option<Timestamp>, now: Moment) {
        self.newest = self.newest.max(created_at);
        self.newest = self.floor(now);
    }

    fn is_before_history(&self, created_at: Timestamp) -> bool {
        self.history_before.is_some_and(|before| created_at < before)
    }

    fn mark(&self, row: &Row) -> Mark {
        let is_history = || self.is_history(&row.id, row.created_at);
        if self.keeps(Clause::CandidateUnclaimed) && self.is_claimed(&row.id) {
            Mark::Claimed
        } else if self.keeps(Clause::OrphansExcluded) && self.orphans.contains(&row.id) {
            Mark::Orphan
        } else if self.keeps(Clause::HistoryExcluded) && is_history() {
            Mark::History
        } else {
            Mark::Free
        }
    }

    fn keeps(&self, clause: Clause) -> bool {
        self.rules.left_out.keeps(clause)
    }

    fn hash(&self, row: &Row) -> Option<ItemsHash> {
        ItemsHash::of_row(row.items.as_deref()?, self.rules.echo)
    }

    /// Notes who has an order; what is known better already stays.
    fn hold(&mut self, id: OrderId, holder: Holder, created_at: Option<Timestamp>) {
        let not_before = created_at.or(self.floor(holder.since)).unwrap_or(Timestamp::MIN);
        let entry = self.enter(id, not_before, created_at.is_some(), false);
        entry.claim = Some(match entry.claim {
            Some(old) if old.shape.is_some() => old,
            Some(old) => Holder { since: old.since, ..holder },
            None => holder,
        });
    }

    /// The entry of an order, with its date where that was not known; what a list says prevails.
    fn enter(
        &mut self,
        id: OrderId,
        created_at: Timestamp,
        dated: bool,
        listed: bool,
    ) -> &mut Entry {
        let by_age = &mut self.by_age;
        let entry = self.book.entry(id.clone()).or_insert_with(|| {
            by_age.insert((created_at, id.clone()));
            Entry { created_at, dated, claim: None, seen: None, sheet: 0 }
        });
        if (listed && entry.created_at != created_at) || (dated && !entry.dated) {
            by_age.remove(&(entry.created_at, id.clone()));
            by_age.insert((created_at, id));
            (entry.created_at, entry.dated) = (created_at, true);
        }
        entry
    }
}

/// Takes one of what is left for a lane; false if nothing is.
fn take_one(left: &mut BTreeMap<ItemsHash, usize>, lane: ItemsHash) -> bool {
    match left.get_mut(&lane) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    }
}

fn later(moment: Timestamp, span: Duration) -> Option<Timestamp> {
    moment.checked_add(jiff::SignedDuration::try_from(span).ok()?).ok()
}

#[cfg(test)]
mod tests;
