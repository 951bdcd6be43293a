//! The start on a store that was put back from an older state.
//!
//! What such a store does not know: orders that were accepted since, and what became of those that it has.
//! A reference that it has forgotten would buy again, and an order that it takes for unsent may have been sent. So
//! nothing is sent in this process. It waits until no POST of the lost process can land any more, reads the
//! account back to the store's newest record, and holds for a person every lane of which the account has an
//! order that the store gives to nobody. Where it gives all to somebody, nothing was bought since. What is to
//! be paid is held as well: no list shows whether its caller was told since that it is unpaid.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{LANDING_BOUND, Start, complete_list, meet_account};
use crate::actors::Shared;
use crate::crash;
use crate::error::StartError;
use crate::order::ItemsHash;
use crate::protocol::{Change, PayVerdict, State, Why};
use crate::store::{Committed, StoreError, Stored};

/// Settles it; the mark is taken away last, so that whatever ends this in between leaves it to be done again.
pub(super) async fn settle(shared: &Arc<Shared>, start: &Start) -> Result<(), StartError> {
    let bound = shared.config.landing_bound.unwrap_or(LANDING_BOUND);
    let wire = shared.rules.wire_bound + shared.config.send_window;
    let settled = shared.locked_at.plus(wire).plus(bound);
    let left = settled.since(shared.runtime.now());
    tracing::warn!(seconds = left.as_secs(), "waiting until nothing of the lost process can land");
    shared.runtime.sleep_until(settled).await;
    if !start.has_history {
        // It was put back from before the account was first read.
        meet_account(shared).await?;
        shared.store.commit(Change::Mark { mark: None }).await?;
        return Ok(());
    }

    let (sheet, open, claims) = complete_list(shared, start).await?;
    let (free, orphans) = {
        let account = shared.account();
        let free = account.unexplained(&sheet, &claims, &BTreeMap::new());
        (free, account.unexplained(&sheet, &claims, &open))
    };
    let unreadable =
        |example| StartError::UnknownOrders { count: free.len(), example, store_is_empty: false };
    let mut lanes = BTreeSet::new();
    for row in sheet.rows.iter().filter(|row| free.contains(&row.id)) {
        let lane = row.items.as_deref().and_then(|items| ItemsHash::of_row(items, shared.echo));
        // Any order may be this one: there is no lane that could go on.
        lanes.insert(lane.ok_or_else(|| unreadable(row.id.clone()))?);
    }
    let why: Why = "the store was restored, and the account has an order of these items that it \
        gives to nobody"
        .into();
    for lane in &lanes {
        shared.store.commit(Change::HoldLane { lane: *lane, why: why.clone() }).await?;
    }
    crash::point("restored.held");
    if !orphans.is_empty() {
        shared.keep_orphans(orphans, "they were bought after the backup was made").await?;
    }
    let payments = hold_payments(shared).await?;
    let (orders, lanes) = (free.len(), lanes.len());
    tracing::warn!(orders, lanes, payments, "what was restored is settled");
    shared.store.commit(Change::Mark { mark: None }).await?;
    crash::point("restored.settled");
    Ok(())
}

/// Holds for a person whatever is to be paid, and says how many that are. What a look of this very process
/// shows as paid, or as expired, ends meanwhile.
async fn hold_payments(shared: &Arc<Shared>) -> Result<usize, StoreError> {
    let mut held = 0;
    for stored in shared.store.rehydrate().await?.intents {
        let mut found = Some(stored);
        while let Some(stored) = found.take() {
            match hold_payment(shared, &stored).await? {
                Some(Committed::Done) => held += 1,
                // It stands elsewhere by now.
                Some(_) => found = shared.store.find(stored.client_ref).await?,
                None => {}
            }
        }
    }
    Ok(held)
}

/// `None`: it is not to be paid, or held already.
async fn hold_payment(
    shared: &Arc<Shared>,
    stored: &Stored,
) -> Result<Option<Committed>, StoreError> {
    let State::Created { payment: was, .. } = stored.state else { return Ok(None) };
    if was.is_for_a_person() {
        return Ok(None);
    }
    let why =
        "the store was restored: it may have been told unpaid since, and its caller may have \
        bought another"
            .into();
    let to = PayVerdict::Open { payment: was.for_a_person(), why };
    shared.store.commit(Change::Pay { intent: stored.id, was, to }).await.map(Some)
}
