//! Reading the supplier's list, page by page, into a sheet that says how far it can be trusted.
//!
//! A list is a moving thing: rows shift while others buy, suppliers clamp pages, sort as they like
//! and answer from replicas. What is read here is distinct ids. Each page must overlap the one
//! before it, only an empty page is the end, and anything that does not fit is *no evidence*:
//! never "no orders" (assumption A2).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::intent::Why;
use crate::order::OrderId;
use crate::supplier::{Capabilities, Page, PageRequest, Row};

/// Most pages of one listing, unless set otherwise. Reaching it is no evidence.
pub const PAGES_MAX: u32 = 20_000;

/// How many pages may fail to overlap before one brings the listing on: beyond it, rows are shifted
/// faster than they are read, or pages are clamped to a single row.
const MISSES_MAX: u32 = 8;

/// Why a list proves no absence. Its rows may still be claimed.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoEvidence {
    /// The listing was not read to its end.
    #[error("the listing was not finished")]
    Unfinished,
    /// A page could not be read.
    #[error("a page could not be read: {0}")]
    Broken(Why),
    /// Two pages did not overlap: rows may be missing between them.
    #[error("the pages do not overlap")]
    Gap,
    /// A row was shown twice with different content.
    #[error("a row was shown twice with different content")]
    Contradiction(OrderId),
    /// The list ended although it says itself that it has more rows.
    #[error("the list ended after {offset} rows of {total}")]
    Partial {
        /// Where it was empty.
        offset: u64,
        /// How many rows it says that it has.
        total: u64,
    },
    /// The listing reached its bound of pages.
    #[error("the list has more pages than may be read")]
    TooLong,
    /// A row that must be there is not: the list is stale, of another account, or incomplete.
    #[error("an order that the list must show is missing")]
    WitnessMissing(OrderId),
    /// Nothing shows that the list is alive: no row in the span read was there long enough, and no
    /// equally empty list was seen a landing bound ago.
    #[error("no known order is in the span that was read")]
    NoWitness,
    /// The list shows an order of ours with other items than it was bought with (assumption A4).
    #[error("the list does not echo the items of an order faithfully")]
    EchoDiffers(OrderId),
    /// The supplier's clock is too far from ours (rule 14).
    #[error("the supplier's clock is too far from ours")]
    ClockOff,
    /// An order was dated before orders that were known when it left (A9).
    #[error("an order was dated before orders that were known when it was sent")]
    DatedBack,
}

/// A row of a list that begins with the oldest order: later listings need not begin before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    /// How many rows are before it.
    pub offset: u64,
    /// Its id.
    pub id: OrderId,
    /// When it was created, by the supplier's clock.
    pub created_at: Timestamp,
}

/// What a listing wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This page.
    More(PageRequest),
    /// Nothing: [`Listing::finish`] it.
    Done,
}

/// What a listing has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// The rows, distinct by id, newest first.
    pub rows: Vec<Row>,
    /// How far back every row was read; `None`: to the very end.
    pub reach: Result<Option<Timestamp>, NoEvidence>,
    /// The supplier's clock when the last page was answered, if it said so.
    pub date: Option<Timestamp>,
    /// Where the next listing may begin, if the list begins with the oldest order.
    pub checkpoint: Option<Checkpoint>,
}

/// One listing under way.
#[derive(Debug, Clone)]
pub struct Listing {
    limit: u32,
    newest_first: bool,
    since: Option<Timestamp>,
    margin: Duration,
    /// Rows older than this are beyond what is asked for.
    stop_at: Option<Timestamp>,
    pages_max: u32,
    pages: u32,
    /// The offset of the page that is awaited.
    asked: u64,
    rows: Vec<Read>,
    index: BTreeMap<OrderId, usize>,
    /// How many rows are in sequence: read one after the other without a gap.
    in_sequence: u64,
    /// The last row in sequence, and its offset when it was last seen.
    last: Option<(OrderId, u64)>,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
    unsorted: bool,
    misses: u32,
    rows_per_page_seen: usize,
    /// The page behind the last row was empty, and whether the row is still there is asked.
    empty_behind: bool,
    /// Where the reading began, if not at the first row.
    checkpoint: Option<Checkpoint>,
    date: Option<Timestamp>,
    end: Option<Result<Option<Timestamp>, NoEvidence>>,
}

/// A row that was read.
#[derive(Debug, Clone)]
struct Read {
    row: Row,
    offset: u64,
    /// Its place in the sequence; `None`: it was met out of sequence, inserted meanwhile.
    place: Option<u64>,
}

impl Listing {
    /// Begins a listing that is to show every row created since `since` (`None`: every row).
    ///
    /// `margin`: by how much the list's order by `createdAt` may be off; a list that is off by more
    /// is read to its end. `checkpoint`: what an earlier sheet gave, for lists that begin with the
    /// oldest order. The request is for the first page.
    #[must_use]
    pub fn start(
        capabilities: &Capabilities,
        since: Option<Timestamp>,
        margin: Duration,
        checkpoint: Option<&Checkpoint>,
    ) -> (Self, PageRequest) {
        let stop_at = since.map(|since| earlier(since, margin));
        let usable = |c: &&Checkpoint| {
            !capabilities.newest_first && stop_at.is_some_and(|stop_at| c.created_at < stop_at)
        };
        let checkpoint = checkpoint.filter(usable).cloned();
        let mut listing = Self {
            limit: capabilities.page_limit.max(1),
            newest_first: capabilities.newest_first,
            since,
            margin,
            stop_at,
            pages_max: PAGES_MAX,
            pages: 0,
            asked: 0,
            rows: Vec::new(),
            index: BTreeMap::new(),
            in_sequence: 0,
            last: None,
            oldest: None,
            newest: None,
            unsorted: false,
            misses: 0,
            rows_per_page_seen: 0,
            empty_behind: false,
            checkpoint,
            date: None,
            end: None,
        };
        let offset = listing.checkpoint.as_ref().map_or(0, |c| c.offset);
        let first = listing.ask(offset);
        (listing, first)
    }

    /// Reads at most this many pages. Default: [`PAGES_MAX`].
    pub fn limit_pages(&mut self, pages: u32) {
        self.pages_max = pages;
    }

    /// How many pages were read.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Takes the page that was asked for.
    pub fn page(&mut self, page: Page) -> Next {
        if self.end.is_some() {
            return Next::Done;
        }
        self.pages += 1;
        self.date = page.date.or(self.date);
        let next = if page.rows.is_empty() {
            self.empty(page.total)
        } else if let Some((last, position)) = self.last.clone() {
            match page.rows.iter().rposition(|row| row.id == last) {
                Some(at) => self.follow(page.rows, at, position),
                None => self.missed(page.rows, position),
            }
        } else {
            self.first(page.rows)
        };
        if self.end.is_some() {
            return Next::Done;
        }
        if self.pages >= self.pages_max {
            return self.finished(Err(NoEvidence::TooLong));
        }
        next
    }

    /// What was read. Before [`Next::Done`] it is no evidence.
    #[must_use]
    pub fn finish(self) -> Sheet {
        let checkpoint = self.next_checkpoint();
        let reach = self.end.unwrap_or(Err(NoEvidence::Unfinished));
        let mut rows: Vec<_> = self.rows.into_iter().map(|read| read.row).collect();
        rows.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        Sheet { rows, reach, date: self.date, checkpoint }
    }

    /// What was read until a page could not be read: its rows, and no evidence.
    ///
    /// `why`: in our own words, without secrets.
    #[must_use]
    pub fn broken_off(mut self, why: String) -> Sheet {
        self.end = Some(Err(NoEvidence::Broken(why.into())));
        self.finish()
    }

    fn ask(&mut self, offset: u64) -> PageRequest {
        self.asked = offset;
        PageRequest { offset, limit: self.limit }
    }

    fn more(&mut self, offset: u64) -> Next {
        Next::More(self.ask(offset))
    }

    fn finished(&mut self, reach: Result<Option<Timestamp>, NoEvidence>) -> Next {
        self.end.get_or_insert(reach);
        Next::Done
    }

    /// Nothing comes after what was read.
    fn ended(&mut self) -> Next {
        let reach = if self.checkpoint.is_some() { self.since } else { None };
        self.finished(Ok(reach))
    }

    /// Only an empty page is the end, and only where it contradicts nothing.
    fn empty(&mut self, total: Option<u64>) -> Next {
        if let Some(total) = total.filter(|total| *total > self.asked) {
            return self.finished(Err(NoEvidence::Partial { offset: self.asked, total }));
        }
        match self.last {
            None if self.checkpoint.is_some() => self.restart(),
            None => self.ended(),
            // Pages of one row do not overlap: the row may be gone since it was shown.
            Some((_, position)) if self.asked > position && self.rows_per_page_seen == 1 => {
                self.empty_behind = true;
                self.more(position)
            }
            Some((_, position)) if self.asked > position => self.ended(),
            // The row that was there is gone.
            Some((_, position)) => self.missed(Vec::new(), position),
        }
    }

    fn first(&mut self, rows: Vec<Row>) -> Next {
        let begins_at = |c: &Checkpoint| {
            rows.first().is_some_and(|row| row.id == c.id && row.created_at == c.created_at)
        };
        if self.checkpoint.as_ref().is_some_and(|c| !begins_at(c)) {
            return self.restart();
        }
        self.in_sequence_from(rows, 0)
    }

    /// Begins again at the first row: the checkpoint is not what it was.
    fn restart(&mut self) -> Next {
        self.checkpoint = None;
        self.in_sequence = 0;
        self.last = None;
        (self.oldest, self.newest) = (None, None);
        self.unsorted = false;
        self.empty_behind = false;
        self.rows.iter_mut().for_each(|read| read.place = None);
        self.more(0)
    }

    /// The page holds the last row in sequence, `at` this index; what comes after it is next.
    fn follow(&mut self, rows: Vec<Row>, at: usize, position: u64) -> Next {
        let nothing_new = at + 1 == rows.len();
        if !nothing_new {
            self.misses = 0;
        }
        // Asked for what comes after the last row, a page that is not full shows the rows that
        // others have pushed there, down to the last one: there is no other after it.
        let is_short = self.asked > position && rows.len() < self.rows_per_page_seen;
        let is_still_there = std::mem::take(&mut self.empty_behind) && rows.len() == 1;
        let is_end = nothing_new && (is_short || is_still_there);
        let next = self.in_sequence_from(rows, at + 1);
        if is_end { self.ended() } else { next }
    }

    /// Takes a page whose rows from index `from` on continue the sequence.
    fn in_sequence_from(&mut self, rows: Vec<Row>, from: usize) -> Next {
        let (asked, count) = (self.asked, rows.len());
        self.rows_per_page_seen = self.rows_per_page_seen.max(count);
        let position = asked + (count as u64).saturating_sub(1);
        self.last = rows.last().map(|row| (row.id.clone(), position));
        for (i, row) in rows.into_iter().enumerate() {
            self.take(row, asked + i as u64, i >= from);
        }
        if self.unsorted && self.checkpoint.is_some() {
            // Rows before the checkpoint may be newer than it.
            return self.restart();
        }
        if self.has_enough() {
            return self.finished(Ok(self.since));
        }
        // The next page must show the last row again. Only once it has shown that row and nothing
        // else is there none after it to be asked for: rows may be taken away meanwhile, and what
        // is asked for without an overlap may have gone by.
        let is_alone = from == count && count == 1;
        self.more(if is_alone { position + 1 } else { position })
    }

    /// The page does not hold the last row in sequence: rows were pushed before it, or were taken
    /// away.
    fn missed(&mut self, rows: Vec<Row>, position: u64) -> Next {
        self.misses += 1;
        self.empty_behind = false;
        if self.misses > MISSES_MAX {
            return self.finished(Err(NoEvidence::Gap));
        }
        let (asked, count) = (self.asked, rows.len() as u64);
        let known = rows.iter().enumerate().filter_map(|(i, row)| {
            let place = self.rows[*self.index.get(&row.id)?].place?;
            Some((place, asked + i as u64))
        });
        // Where the last row is now, seen from the nearest one to it.
        let shifted = known.max().map(|(place, offset)| offset + (self.in_sequence - 1 - place));
        for (i, row) in rows.into_iter().enumerate() {
            self.take(row, asked + i as u64, false);
        }
        match shifted {
            Some(offset) if offset >= asked + count => {
                self.last = self.last.take().map(|(id, _)| (id, offset));
                self.more(offset)
            }
            _ if asked > position => self.more(position),
            _ => self.more(asked.saturating_sub(u64::from(self.limit))),
        }
    }

    /// Takes a row; `next`: it is the next one in sequence.
    fn take(&mut self, row: Row, offset: u64, next: bool) {
        let at = match self.index.get(&row.id) {
            Some(at) => {
                let known = &mut self.rows[*at].row;
                if known.created_at != row.created_at || known.items != row.items {
                    let contradiction = NoEvidence::Contradiction(row.id);
                    self.end.get_or_insert(Err(contradiction));
                    return;
                }
                known.status = row.status;
                *at
            }
            None => {
                self.index.insert(row.id.clone(), self.rows.len());
                self.rows.push(Read { row, offset, place: None });
                self.rows.len() - 1
            }
        };
        if next && self.rows[at].place.is_none() {
            self.rows[at].place = Some(self.in_sequence);
            self.rows[at].offset = offset;
            self.in_sequence += 1;
            self.judge_order(self.rows[at].row.created_at);
        }
    }

    fn judge_order(&mut self, created_at: Timestamp) {
        let (oldest, newest) =
            (self.oldest.unwrap_or(created_at), self.newest.unwrap_or(created_at));
        self.unsorted |= if self.newest_first {
            earlier(created_at, self.margin) > oldest
        } else {
            created_at < earlier(newest, self.margin)
        };
        self.oldest = Some(oldest.min(created_at));
        self.newest = Some(newest.max(created_at));
    }

    /// Whether the list is seen to begin with the newest row and to be past what is asked for.
    fn has_enough(&self) -> bool {
        let (Some(oldest), Some(newest), Some(stop_at)) = (self.oldest, self.newest, self.stop_at)
        else {
            return false;
        };
        // Rows that are all of one moment do not show which way the list runs.
        let runs_back = oldest < earlier(newest, self.margin);
        self.newest_first && !self.unsorted && runs_back && oldest < stop_at
    }

    /// The last row that a listing like this one need not read again.
    fn next_checkpoint(&self) -> Option<Checkpoint> {
        if self.newest_first || self.unsorted {
            return None;
        }
        if !matches!(self.end, Some(Ok(_))) {
            return self.checkpoint.clone();
        }
        let before = self.stop_at.or(self.newest.map(|newest| earlier(newest, self.margin)))?;
        let old = self.rows.iter().filter(|r| r.place.is_some() && r.row.created_at < before);
        let last = old.max_by_key(|read| read.offset)?;
        Some(Checkpoint {
            offset: last.offset,
            id: last.row.id.clone(),
            created_at: last.row.created_at,
        })
    }
}

/// The moment `span` before `moment`; the earliest moment there is, where that is none.
pub(super) fn earlier(moment: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    moment.checked_sub(span).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
