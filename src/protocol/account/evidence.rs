//! What a sheet proves: witnesses (assumption A2, iii), the echo (A4) and the clock (rule 14).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::assessment::{Tagging, Whose};
use super::{
    Account, AccountAlarm, Assessment, Claim, Clause, Entry, Holder, ItemsHash, LANDING_BOUND,
    Learnt, Mark, Moment, NoEvidence, OpenLane, OrderId, Reach, Row, Sheet, Silence,
};
use crate::protocol::Shape;

impl Account {
    /// Judges a sheet and remembers what it shows.
    ///
    /// `claims`: the store's answer to [`unknown_ids`](Self::unknown_ids). `open`: the lanes with
    /// open attempts, noted after the last page arrived and before the claims were read.
    /// `products`: whether any of our orders ever named a product. `requested`: when the first page
    /// was asked for; `arrived`: when the last one was in.
    pub fn assess(
        &mut self,
        sheet: Sheet,
        claims: Vec<Claim>,
        open: &BTreeMap<ItemsHash, OpenLane>,
        products: &dyn Fn(&str) -> bool,
        requested: Moment,
        arrived: Moment,
    ) -> Assessment {
        let Sheet { rows, reach, date, .. } = sheet;
        self.read_clock(date, arrived);
        for Claim { id, lane, learnt, .. } in claims {
            let holder = Holder { lane, learnt, shape: None, since: arrived, compared: false };
            if self.book.get(&id).is_none_or(|entry| entry.claim.is_none()) {
                self.hold(id, holder, None);
            }
        }
        self.sheets += 1;
        let count = rows.len();
        let mut alarms = Vec::new();
        let mut echo_seen = Vec::new();
        let mut free = Vec::new();
        let mut span_is_empty = true;
        for row in rows {
            if matches!(&*row.status, "failed" | "cancelled") && !self.keeps(Clause::AnyStatus) {
                continue;
            }
            span_is_empty &= reach.as_ref().is_ok_and(|since| Some(row.created_at) < *since);
            self.raise_floor(Some(row.created_at), arrived);
            self.note(&row, arrived);
            match self.mark(&row) {
                Mark::Claimed => echo_seen.extend(self.compare(&row, open, &mut alarms)),
                Mark::Orphan | Mark::History => {}
                Mark::Free => free.push((self.hash(&row), row)),
            }
        }
        let reach = match reach {
            Err(_) if !self.keeps(Clause::ListComplete) => Ok(None),
            reach => reach,
        };
        let evidence = reach.and_then(|since| {
            let witnessed =
                self.check_witnesses(since, span_is_empty, requested, arrived, &mut alarms);
            if self.keeps(Clause::Witnesses) {
                witnessed?;
            }
            Ok(Reach { since, fingerprint: self.rules.fingerprint })
        });
        if std::mem::take(&mut self.clock_alarm_due) {
            alarms.extend(self.clock_off.map(|skew| AccountAlarm::ClockOff { skew }));
        }
        let evidence = match (&self.distrust, self.clock_off, self.dated_back) {
            (Some(id), ..) => Err(NoEvidence::EchoDiffers(id.clone())),
            (None, Some(_), _) => Err(NoEvidence::ClockOff),
            (None, None, Some(_)) => Err(NoEvidence::DatedBack),
            (None, None, None) => evidence,
        };
        let mut assessment = Assessment::of(free, open, products, self.tagging());
        self.orphans.extend(assessment.orphans.iter().cloned());
        assessment.evidence = evidence;
        assessment.echo_seen = echo_seen;
        assessment.alarms = alarms;
        assessment.rows = count;
        let trusted = self.rules.trust_echo || !self.keeps(Clause::EchoSeen);
        let tag_seen = self.tag_seen || self.rules.echo.tag.is_none();
        assessment.faithful = match (tag_seen || !self.keeps(Clause::TagSeen), trusted) {
            // Before a tag was seen in a row that must have one, a row without proves nothing.
            (false, false) => Some(BTreeSet::new()),
            (true, false) => Some(self.echo_seen.clone()),
            (_, true) => None,
        };
        assessment
    }

    fn tagging(&self) -> Tagging {
        let has_tags = self.rules.echo.tag.is_some();
        let is_ignored = |clause| has_tags && !self.keeps(clause);
        Tagging {
            own: if is_ignored(Clause::OwnTagHeld) { Whose::Anothers } else { Whose::Wrong },
            untagged: match is_ignored(Clause::UntaggedHeld) {
                true => Whose::Anothers,
                false => Whose::MaybeOurs,
            },
        }
    }

    /// Remembers a row: every later list that reaches back to it must show it.
    fn note(&mut self, row: &Row, arrived: Moment) {
        let sheets = self.sheets;
        let entry = self.enter(row.id.clone(), row.created_at, true, true);
        entry.sheet = sheets;
        entry.seen.get_or_insert(arrived);
    }

    /// How far back a list must reach to show, of each of these shapes, the newest order that is known by
    /// its own answer; `None`: none is.
    #[must_use]
    pub fn echo_back(&self, shapes: &BTreeSet<Shape>) -> Option<Timestamp> {
        let newest = |shape: &Shape| {
            let is_one = |entry: &&Entry| {
                let claim = entry.claim.filter(|claim| claim.learnt == Learnt::Answer);
                entry.dated && claim.is_some_and(|claim| claim.shape == Some(*shape))
            };
            self.book.values().filter(is_one).map(|entry| entry.created_at).max()
        };
        shapes.iter().filter_map(newest).min()
    }

    /// Compares the rows of a list with the orders that are known, and nothing else (A4). Gives the
    /// shapes whose echo was not seen before.
    pub fn see_echo(
        &mut self,
        sheet: &Sheet,
        open: &BTreeMap<ItemsHash, OpenLane>,
    ) -> (Vec<Shape>, Vec<AccountAlarm>) {
        let mut alarms = Vec::new();
        let seen = sheet.rows.iter().filter_map(|row| self.compare(row, open, &mut alarms));
        (seen.collect(), alarms)
    }

    /// A4: the row of an order known by its own answer hashes to its lane. Gives the shape if its
    /// echo was not seen before.
    fn compare(
        &mut self,
        row: &Row,
        open: &BTreeMap<ItemsHash, OpenLane>,
        alarms: &mut Vec<AccountAlarm>,
    ) -> Option<Shape> {
        let holder = self.book.get(&row.id)?.claim?;
        let answered = holder.learnt == Learnt::Answer;
        // One from before a change of what the list echoes has a hash of another kind.
        if holder.compared || !holder.lane.is_of(self.rules.echo) {
            return None;
        }
        let hash = self.hash(row);
        if hash == Some(holder.lane) {
            self.tag_seen |= answered && holder.lane.tag().is_some();
            if let Some(claim) = self.book.get_mut(&row.id).and_then(|e| e.claim.as_mut()) {
                claim.compared = true;
            }
            return holder.shape.filter(|shape| answered && self.echo_seen.insert(*shape));
        }
        // Claimed by a list or a person, it is suspect only where it looks like another lane's.
        let is_wrong = answered || hash.is_some_and(|hash| open.contains_key(&hash));
        if is_wrong && self.differing.insert(row.id.clone()) {
            self.distrust = Some(row.id.clone());
            alarms.push(AccountAlarm::EchoDiffers { id: row.id.clone(), lane: holder.lane });
        }
        None
    }

    /// A2 (iii): the list shows what it must show, and at least one such order.
    fn check_witnesses(
        &mut self,
        since: Option<Timestamp>,
        span_is_empty: bool,
        requested: Moment,
        arrived: Moment,
        alarms: &mut Vec<AccountAlarm>,
    ) -> Result<(), NoEvidence> {
        let bound = self.rules.landing_bound.unwrap_or(LANDING_BOUND);
        let before = self.silence.take();
        let (missing, witnessed) = self.look_for_witnesses(since, requested, bound);
        if missing.is_none() {
            self.measure_lag(since, requested, alarms);
        }
        if missing.is_some() && missing != self.missing {
            alarms.extend(missing.clone().map(|id| AccountAlarm::WitnessMissing { id }));
        }
        self.missing = missing;
        if let Some(id) = &self.missing {
            return Err(NoEvidence::WitnessMissing(id.clone()));
        }
        if witnessed {
            return Ok(());
        }
        if !span_is_empty {
            return Err(NoEvidence::NoWitness);
        }
        // Equally silent lists, a landing bound apart.
        let now = Silence { since, arrived };
        let covers = |old: &Silence| old.since.is_none_or(|old| since.is_some_and(|s| old <= s));
        let silence = before.filter(covers).unwrap_or(now);
        self.silence = Some(silence);
        let equal = covers(&silence) && requested.since(silence.arrived) >= bound;
        equal.then_some(()).ok_or(NoEvidence::NoWitness)
    }

    /// A1, measured on every list that misses nothing: an order that was answered, and is not shown
    /// by a list that was requested later, takes at least that long to show.
    fn measure_lag(
        &mut self,
        since: Option<Timestamp>,
        requested: Moment,
        alarms: &mut Vec<AccountAlarm>,
    ) {
        let unseen = self.in_span(since).filter_map(|(_, id)| {
            let entry = self.book.get(id)?;
            let holder = entry.claim.filter(|holder| holder.learnt == Learnt::Answer)?;
            entry.seen.is_none().then(|| requested.since(holder.since))
        });
        let lag = unseen.max().unwrap_or_default().max(self.lag_seen);
        self.lag_seen = lag;
        let wanted = self.rules.request_timeout * 2 + lag;
        if let Some(bound) = self.rules.landing_bound.filter(|bound| *bound < wanted)
            && !std::mem::replace(&mut self.bound_alarmed, true)
        {
            alarms.push(AccountAlarm::BoundShort { bound, lag });
        }
    }

    /// A row that should be there and is not, and whether one is there that was long known.
    fn look_for_witnesses(
        &self,
        since: Option<Timestamp>,
        requested: Moment,
        bound: Duration,
    ) -> (Option<OrderId>, bool) {
        let mut witnessed = false;
        for (_, id) in self.in_span(since) {
            let Some(entry) = self.book.get(id) else { continue };
            // Undated, it may be older than the span.
            if since.is_some() && !entry.dated {
                continue;
            }
            let claim = entry.claim.filter(|holder| holder.learnt != Learnt::Person);
            let known_since = entry.seen.into_iter().chain(claim.map(|c| c.since)).min();
            let is_old = known_since.is_some_and(|known| requested.since(known) > bound);
            let is_shown = entry.sheet == self.sheets;
            witnessed |= is_shown && is_old;
            // What a list has shown must stay; an own answer has the landing bound to appear.
            let listed = entry.seen.is_some() || claim.is_some_and(|c| c.learnt == Learnt::List);
            if !is_shown && (listed || (claim.is_some() && is_old)) {
                return (Some(id.clone()), witnessed);
            }
        }
        (None, witnessed)
    }

    /// The orders created since `since`, oldest first.
    fn in_span(&self, since: Option<Timestamp>) -> impl Iterator<Item = &(Timestamp, OrderId)> {
        self.by_age.iter().rev().take_while(move |(at, _)| Some(*at) >= since)
    }
}
