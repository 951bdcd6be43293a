//! The account against the store: what is on the one and not on the other.
//!
//! Reads alone, beside a running router: the supplier's list first, then the store, so that what was bought
//! meanwhile is known to the store and not missed. What an open attempt may have bought is its business and
//! no finding.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::money::Cost;
use crate::order::{ClientRef, EchoProfile, ItemsHash, OrderId};
use crate::protocol::listing::{Listing, Next, NoEvidence};
use crate::protocol::payment::evidence::is_paid;
use crate::protocol::{Ordered, State};
use crate::store::{HistoryLine, Rehydration, Stored};
use crate::supplier::{Page, PageRequest, ReadError, Row, Supplier};

mod money;

pub use money::{Books, Equation, MoneyTerms, Spend, StatusSpend};

/// How often one page is asked for.
const TRIES_MAX: u32 = 8;
/// The first wait before a page is asked for again.
const WAIT: Duration = Duration::from_millis(200);

/// What is off about one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nobody has it, and an order of ours in the span is for the same items: bought too often.
    Double,
    /// Nobody has it, and the router knows that: no order of ours is for the same items.
    Orphan,
    /// Nobody has it and the router has not filed it: somebody else bought it, or it is newer than the
    /// router's last list.
    Foreign,
    /// An order of ours has it, and the list does not show it.
    Unmatched,
    /// An order of ours has it, and the list shows other items.
    OtherItems,
    /// An order of ours has it, and it is not paid for longer than it should take.
    Unpaid,
    /// An order of ours ended unpaid, and the list shows it as paid.
    PaidAfterAll,
}

impl Kind {
    /// All kinds, in the order in which they are told.
    pub const ALL: [Self; 7] = [
        Self::Double,
        Self::Orphan,
        Self::Foreign,
        Self::Unmatched,
        Self::OtherItems,
        Self::Unpaid,
        Self::PaidAfterAll,
    ];

    /// Its name in results and tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Double => "double",
            Self::Orphan => "orphan",
            Self::Foreign => "foreign",
            Self::Unmatched => "unmatched",
            Self::OtherItems => "other_items",
            Self::Unpaid => "unpaid",
            Self::PaidAfterAll => "paid_after_all",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What is off.
    pub kind: Kind,
    /// The supplier's order.
    pub order_id: OrderId,
    /// The reference that has it, or of a double, one that has the same items.
    pub client_ref: Option<ClientRef>,
    /// The supplier's word for where it stands, where the list shows it.
    pub status: Option<String>,
    /// When the supplier says that it was created.
    pub created_at: Option<Timestamp>,
    /// What it cost, as far as that is known: by the list, or by the price guards of an order of ours for
    /// the same items.
    pub cost: Option<Cost>,
}

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Since when the account was looked at; `None`: all of it.
    pub since: Option<Timestamp>,
    /// Orders on the account in the span.
    pub orders: usize,
    /// Of those, the ones that an order of ours has, as it should be.
    pub matched: usize,
    /// Orders from before the router's first start.
    pub history: usize,
    /// Orders that may be what is in doubt just now: no finding.
    pub in_doubt: usize,
    /// What is off.
    pub findings: Vec<Finding>,
    /// What the orders in the span cost, by currency, and whether that is what the balance lost.
    pub money: Vec<Spend>,
}

impl Report {
    /// Whether a person has to look.
    #[must_use]
    pub fn is_off(&self) -> bool {
        let adds_up = |spend: &Spend| spend.equation.as_ref().is_none_or(Equation::adds_up);
        !self.findings.is_empty() || !self.money.iter().all(adds_up)
    }
}

/// Why there is no report.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The list was not read.
    #[error("the supplier's list was not read: {0}")]
    List(#[from] ReadError),
    /// The list is not complete.
    #[error("the supplier's list is not complete: {0}")]
    Incomplete(NoEvidence),
}

/// What is asked of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Since when the account is looked at; `None`: all of it.
    pub since: Option<Timestamp>,
    /// By how much the list's order by `createdAt` may be off.
    pub margin: Duration,
    /// An order that is younger need not show in the list yet, nor be paid.
    pub settled_after: Duration,
}

/// Reads the list back to the span's beginning. To be done before the store is read.
///
/// # Errors
/// [`AuditError`]: nothing can be said then.
pub async fn read_list(supplier: &dyn Supplier, span: Span) -> Result<Vec<Row>, AuditError> {
    let (mut listing, mut request) =
        Listing::start(&supplier.capabilities(), span.since, span.margin, None);
    while let Next::More(next) = listing.page(read_page(supplier, request).await?) {
        request = next;
    }
    let sheet = listing.finish();
    match sheet.reach {
        Ok(_) => Ok(sheet.rows),
        Err(why) => Err(AuditError::Incomplete(why)),
    }
}

/// Reads one page, trying again while that may help.
async fn read_page(supplier: &dyn Supplier, request: PageRequest) -> Result<Page, ReadError> {
    let mut wait = WAIT;
    for _ in 1..TRIES_MAX {
        let told = match supplier.list(request).await {
            Ok(page) => return Ok(page),
            Err(ReadError::KeyRefused(status)) => return Err(ReadError::KeyRefused(status)),
            Err(ReadError::RateLimited(after)) => after,
            Err(_) => None,
        };
        tokio::time::sleep(told.unwrap_or(wait)).await;
        wait *= 2;
    }
    supplier.list(request).await
}

/// Compares an account with a store: rows of a list that was read before the store was.
///
/// `echo`: what the list shows of items. `now`: by the supplier's clock, as far as that is known.
#[must_use]
pub fn audit(
    rows: &[Row],
    intents: impl IntoIterator<Item = Stored>,
    found: &Rehydration,
    echo: EchoProfile,
    span: Span,
    now: Timestamp,
) -> Report {
    let mut ours = Ours { since: span.since, ..Ours::default() };
    intents.into_iter().for_each(|stored| ours.add(stored));
    let orphans = found.orphans.iter().cloned().collect();
    let known = Known { orphans, history: found.history.clone() };
    compare(rows, &ours, &known, echo, span, now)
}

/// What the store has, as far as the span needs it.
#[derive(Debug, Default)]
struct Ours {
    since: Option<Timestamp>,
    placed: BTreeMap<OrderId, Placed>,
    /// A reference for each lane that bought in the span.
    lanes: BTreeMap<ItemsHash, ClientRef>,
    /// The same by tag, where orders carry tags: an order with one of ours is no stranger's, whatever its
    /// items.
    tags: BTreeMap<[u8; 10], ClientRef>,
    /// Open attempts by lane: what they may have bought.
    open: BTreeMap<ItemsHash, BTreeSet<ClientRef>>,
}

#[derive(Debug)]
struct Placed {
    client_ref: ClientRef,
    lane: ItemsHash,
    created_at: Option<Timestamp>,
    /// It ended unpaid: that it stays so, or is not shown any more, is as it should be.
    unpaid: bool,
}

impl Ours {
    /// Takes an intent in; one that is read twice while it goes on counts as it was read last.
    fn add(&mut self, stored: Stored) {
        let Stored { client_ref, lane, state, .. } = stored;
        if let Some(open) = self.open.get_mut(&lane) {
            open.remove(&client_ref);
        }
        if let Some(tag) = lane.tag() {
            self.tags.insert(tag, client_ref.clone());
        }
        if state.attempt().is_some() {
            self.open.entry(lane).or_default().insert(client_ref.clone());
            self.lanes.insert(lane, client_ref);
            return;
        }
        let unpaid = matches!(state, State::Unpaid { .. });
        if let Some(Ordered { id, created_at, .. }) = state.order()
            && (created_at.is_none() || created_at >= self.since)
        {
            self.lanes.insert(lane, client_ref.clone());
            self.placed.insert(id.clone(), Placed { client_ref, lane, created_at, unpaid });
        }
    }
}

/// What the router knows to be nobody's.
#[derive(Debug, Default)]
struct Known {
    orphans: BTreeSet<OrderId>,
    history: Option<HistoryLine>,
}

impl Known {
    /// As far as it can be said without the clock's margin: an order around the line is history if it is
    /// one of the line's own ids, and so is every older one.
    fn is_history(&self, row: &Row) -> bool {
        self.history.as_ref().is_some_and(|line| {
            line.ids.contains(&row.id) || line.newest.is_some_and(|newest| row.created_at < newest)
        })
    }
}

fn compare(
    rows: &[Row],
    ours: &Ours,
    known: &Known,
    echo: EchoProfile,
    span: Span,
    now: Timestamp,
) -> Report {
    let settled = now.checked_sub(span.settled_after).unwrap_or(Timestamp::MIN);
    let mut report = Report { since: span.since, ..Report::default() };
    let mut shown = BTreeSet::new();
    let mut left: BTreeMap<_, _> =
        ours.open.iter().map(|(lane, refs)| (*lane, refs.len())).collect();
    for row in rows.iter().filter(|row| Some(row.created_at) >= span.since) {
        report.orders += 1;
        shown.insert(&row.id);
        let lane = row.items.as_deref().and_then(|items| ItemsHash::of_row(items, echo));
        let found = |kind, client_ref: Option<&ClientRef>| Finding {
            kind,
            order_id: row.id.clone(),
            client_ref: client_ref.cloned(),
            status: Some(row.status.clone()),
            created_at: Some(row.created_at),
            cost: None,
        };
        if let Some(placed) = ours.placed.get(&row.id) {
            // One from before a change of what the list echoes has a hash of another kind.
            let of_its_kind = placed.lane.is_of(echo);
            if of_its_kind && lane.is_some_and(|lane| lane != placed.lane) {
                report.findings.push(found(Kind::OtherItems, Some(&placed.client_ref)));
            } else if placed.unpaid && is_paid(&row.status) {
                report.findings.push(found(Kind::PaidAfterAll, Some(&placed.client_ref)));
            } else if row.status == "active" && row.created_at < settled && !placed.unpaid {
                report.findings.push(found(Kind::Unpaid, Some(&placed.client_ref)));
            } else {
                report.matched += 1;
            }
        } else if known.is_history(row) {
            report.history += 1;
        } else if !known.orphans.contains(&row.id)
            && let Some(left) = lane.and_then(|lane| left.get_mut(&lane)).filter(|left| **left > 0)
        {
            *left -= 1;
            report.in_doubt += 1;
        } else {
            let by_tag = |lane: ItemsHash| ours.tags.get(&lane.tag()?);
            let same = lane.and_then(|lane| by_tag(lane).or(ours.lanes.get(&lane)));
            let kind = match (same, known.orphans.contains(&row.id)) {
                (Some(_), _) => Kind::Double,
                (None, true) => Kind::Orphan,
                (None, false) => Kind::Foreign,
            };
            report.findings.push(found(kind, same));
        }
    }
    for (id, placed) in &ours.placed {
        // What is younger need not show yet; what has no date cannot be said to be in the span.
        let expected = placed.created_at.is_some_and(|at| Some(at) >= span.since && at < settled);
        if expected && !placed.unpaid && !shown.contains(id) {
            report.findings.push(Finding {
                kind: Kind::Unmatched,
                order_id: id.clone(),
                client_ref: Some(placed.client_ref.clone()),
                status: None,
                created_at: placed.created_at,
                cost: None,
            });
        }
    }
    report.findings.sort();
    report
}

#[cfg(test)]
mod tests;
