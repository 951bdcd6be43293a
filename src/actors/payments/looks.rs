//! A round of looks: a few orders one by one, many by a list first.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::join_all;
use jiff::Timestamp;

use super::{PayMessage, Shared};
use crate::actors::lookout;
use crate::crash;
use crate::order::OrderId;
use crate::protocol::payment::Saw;
use crate::protocol::payment::evidence::{is_paid, look};
use crate::protocol::{IntentId, Moment};

/// Up to so many orders are read one by one; more are looked up in a list first.
const FETCH_AT_MOST: usize = 3;
/// How many are read at once.
const AT_ONCE: usize = 8;

/// An order to look at.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) intent: IntentId,
    pub(super) order: OrderId,
    pub(super) created_at: Option<Timestamp>,
    /// That it is unpaid would decide something: only a reading of the order itself can say so.
    pub(super) is_decisive: bool,
}

/// What was seen of an order, by a request of this moment.
type Seen = (IntentId, Moment, Saw);

/// Looks at all of them, and tells the cashier, whatever happens.
pub(super) async fn round(shared: Arc<Shared>, wanted: Vec<Wanted>) {
    let began = shared.runtime.now();
    let looking = AssertUnwindSafe(look_at(&shared, wanted.clone())).catch_unwind().await;
    let seen = looking.unwrap_or_else(|_| {
        shared.alarm("looking at orders to be paid has panicked; they are looked at again");
        let nothing = || Saw::Nothing("looking has panicked".into());
        wanted.iter().map(|one| (one.intent, began, nothing())).collect()
    });
    crash::point("pay.looked");
    shared.payments.send(&shared, PayMessage::Looked(seen));
}

async fn look_at(shared: &Arc<Shared>, wanted: Vec<Wanted>) -> Vec<Seen> {
    let mut seen = Vec::with_capacity(wanted.len());
    let one_by_one = match wanted.len() > FETCH_AT_MOST {
        true => in_list(shared, wanted, &mut seen).await,
        false => wanted,
    };
    for some in one_by_one.chunks(AT_ONCE) {
        let read = some.iter().map(|one| fetch(shared, one));
        seen.extend(join_all(read).await);
    }
    seen
}

/// What a list shows as paid is paid. That it shows something else proves nothing.
async fn in_list(shared: &Arc<Shared>, wanted: Vec<Wanted>, seen: &mut Vec<Seen>) -> Vec<Wanted> {
    let requested = shared.runtime.now();
    let since = wanted.iter().map(|one| one.created_at).min().flatten();
    let sheet = lookout::sheet(shared, since).await;
    let rows: BTreeMap<_, _> = sheet.rows.iter().map(|row| (&row.id, &*row.status)).collect();
    let mut left = Vec::new();
    for one in wanted {
        match rows.get(&one.order) {
            Some(status) if is_paid(status) => seen.push((one.intent, requested, Saw::Paid)),
            Some(&"active") if !one.is_decisive => {
                let why = "not shown as paid yet".into();
                seen.push((one.intent, requested, Saw::Nothing(why)));
            }
            _ => left.push(one),
        }
    }
    left
}

async fn fetch(shared: &Arc<Shared>, one: &Wanted) -> Seen {
    // Before it is asked for: what is settled by then is what its answer counts for.
    let requested = shared.runtime.now();
    let saw = match shared.supplier.fetch(one.order.clone()).await {
        Ok(fetched) if fetched.row.id == one.order => {
            look(&fetched.row.status, &fetched.raw, &shared.policy)
        }
        Ok(_) => Saw::Nothing("another order was shown".into()),
        Err(error) => Saw::Nothing(error.to_string().into()),
    };
    (one.intent, requested, saw)
}
