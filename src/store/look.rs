//! Looking at a store from outside: without its lock or lease, beside a running router. Nothing is
//! decided by it, nothing is changed.

use futures_util::future::BoxFuture;

use super::migrate::{Seen, Tally};
use super::{Bookmark, Claim, Grade, Page, Rehydration, StoreError, Stored};
use crate::order::{ClientRef, OrderId};

/// How much a store has, as it says itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Intents that have not ended.
    pub open: u64,
    /// Intents that have ended.
    pub ended: u64,
    /// Changes in all.
    pub changes: u64,
}

/// A store that is looked at.
pub trait Look: Send + Sync {
    /// The intent with a reference.
    fn find(&self, client_ref: ClientRef) -> BoxFuture<'_, Result<Option<Stored>, StoreError>>;

    /// Who has these orders, in the order of the question.
    fn claims(&self, ids: Vec<OrderId>) -> BoxFuture<'_, Result<Vec<Option<Claim>>, StoreError>>;

    /// What a start would find.
    fn rehydrate(&self) -> BoxFuture<'_, Result<Rehydration, StoreError>>;

    /// As [`IntentStore::read_through`](super::IntentStore::read_through).
    fn read_through(&self, from: Bookmark) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// Figures.
    fn figures(&self) -> BoxFuture<'_, Result<Figures, StoreError>>;

    /// What it is worth, by the settings that its server has now.
    fn grade(&self) -> Grade;

    /// Where it is: a URL without user and password.
    fn place(&self) -> String;
}

/// What checking a store found.
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LookReport {
    /// What it has.
    pub tally: Tally,
    /// What is wrong; the first hundred.
    pub wrong: Vec<String>,
    /// It was written to meanwhile: its figures were not compared.
    pub busy: bool,
}

/// Most lines in [`LookReport::wrong`].
const WRONG_MAX: usize = 100;

/// Reads all of a store and checks it: every row and its checksum, that each order of the supplier is known to be the one intent's that has it, and the store's own
/// figures.
///
/// # Errors
/// What the store says; what it holds is damaged, or it is not reached.
pub async fn verify(
    look: &dyn Look,
    on_progress: impl Fn(u64, u64) + Send + Sync,
) -> Result<LookReport, StoreError> {
    let before = look.figures().await?;
    let mut report = LookReport::default();
    let mut seen = Seen::default();
    let mut next = Some(Bookmark::default());
    while let Some(at) = next {
        let page = look.read_through(at).await?;
        next = page.next;
        let mut claimed = Vec::new();
        for intent in page.intents {
            let stored = &intent.stored;
            if !seen.is_new(stored.id) {
                continue;
            }
            report.tally.add(&intent);
            if let Some(order) = stored.state.order() {
                claimed.push((order.id.clone(), stored.id));
            }
        }
        let claims = look.claims(claimed.iter().map(|(id, _)| id.clone()).collect()).await?;
        for ((id, intent), claim) in claimed.iter().zip(claims) {
            match claim {
                Some(claim) if claim.intent == *intent => {}
                Some(_) => report.wrong.push(format!("the order {id} has two owners")),
                None => report.wrong.push(format!("nobody is known to have the order {id}")),
            }
        }
        report.wrong.truncate(WRONG_MAX);
        on_progress(report.tally.intents, before.open + before.ended);
    }
    look.rehydrate().await?;
    let after = look.figures().await?;
    report.busy = after != before;
    let Tally { intents, open, .. } = report.tally;
    if !report.busy && (open, intents - open) != (after.open, after.ended) {
        report.wrong.push(format!(
            "{open} open and {} ended orders are there, and there should be {} and {}",
            intents - open,
            after.open,
            after.ended
        ));
    }
    Ok(report)
}
