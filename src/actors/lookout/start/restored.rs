//! The start on a store that was put back from an older state.
//!
//! What such a store does not know: orders that were accepted since, and what became of those that it has.
//! A reference that it has forgotten would buy again, and an order that it takes for unsent may have been sent. So
//! nothing is sent in this process. It waits until no POST of the lost process can land any more, reads the
//! account back to the store's newest record, and holds for a person every lane of which the account has an
//! order that the store gives to nobody. Where it gives all to somebody, nothing was bought since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{LANDING_BOUND, Start, complete_list};
use crate::actors::Shared;
use crate::crash;
use crate::error::StartError;
use crate::order::ItemsHash;
use crate::protocol::{Change, Why};

/// Settles it; the mark is taken away last, so that whatever ends this in between leaves it to be done again.
pub(super) async fn settle(shared: &Arc<Shared>, start: &Start) -> Result<(), StartError> {
    let bound = shared.config.landing_bound.unwrap_or(LANDING_BOUND);
    let wire = shared.rules.wire_bound + shared.config.send_window;
    let settled = shared.locked_at.plus(wire).plus(bound);
    let left = settled.since(shared.runtime.now());
    tracing::warn!(seconds = left.as_secs(), "waiting until nothing of the lost process can land");
    shared.runtime.sleep_until(settled).await;

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
        // Where orders carry tags, one without may be any order of its items.
        let lane = lane.filter(|lane| shared.echo.tag.is_none() || lane.tag().is_some());
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
    tracing::warn!(orders = free.len(), lanes = lanes.len(), "what was restored is settled");
    shared.store.commit(Change::Mark { mark: None }).await?;
    crash::point("restored.settled");
    Ok(())
}
