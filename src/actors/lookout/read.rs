//! Reads a listing page by page. A failed page is asked again; the listing goes on.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::actors::Shared;
use crate::protocol::listing::{Checkpoint, Listing, Next, Sheet};
use crate::supplier::{PageRequest, ReadError};

/// How often one page is asked for before the listing is given up.
const TRIES_MAX: u32 = 8;
/// The first and the longest wait before a page is asked for again.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Reads one listing back to `since`. Where it cannot be read to its end it is no evidence, but
/// its rows may still be claimed.
pub(super) async fn sheet(
    shared: &Arc<Shared>,
    since: Option<Timestamp>,
    checkpoint: Option<&Checkpoint>,
) -> Sheet {
    let capabilities = shared.supplier.capabilities();
    let margin = shared.config.list_margin;
    let (mut listing, mut request) = Listing::start(&capabilities, since, margin, checkpoint);
    loop {
        match page(shared, request).await {
            Ok(page) => match listing.page(page) {
                Next::More(next) => request = next,
                Next::Done => return listing.finish(),
            },
            Err(error) => {
                tracing::warn!(%error, "a listing was given up");
                return listing.broken_off(error.to_string());
            }
        }
    }
}

/// Reads one page, trying again while that may help.
async fn page(
    shared: &Arc<Shared>,
    request: PageRequest,
) -> Result<crate::supplier::Page, ReadError> {
    let mut wait = WAIT.0;
    for _ in 1..TRIES_MAX {
        match shared.supplier.list(request).await {
            Ok(page) => return Ok(page),
            Err(error) => {
                tracing::debug!(%error, offset = request.offset, "a page failed");
                let told = match error {
                    ReadError::RateLimited(after) => after,
                    _ => None,
                };
                shared.runtime.sleep(told.unwrap_or(wait)).await;
                wait = (wait * 2).min(WAIT.1);
            }
        }
    }
    shared.supplier.list(request).await
}

/// Whether what the pause waits for is there: a balance that suffices, where it is for want of balance
/// and the supplier has balances; else a page that is understood.
async fn answers(shared: &Arc<Shared>) -> Result<bool, ReadError> {
    if let Some(wanted) = shared.dispatch.wanted()
        && shared.supplier.has_balances()
    {
        match shared.money.covers(shared, wanted.price).await {
            // There is nothing at its path: it has none after all.
            Err(ReadError::NotFound | ReadError::Status(404 | 405 | 410 | 501)) => {}
            read => return read,
        }
    }
    shared.supplier.list(PageRequest { offset: 0, limit: 1 }).await.map(|_| true)
}

/// Waits out a pause, then asks until the supplier answers as itself, and can be bought from.
pub(super) async fn until_understood(shared: &Arc<Shared>) {
    let mut wait = Duration::from_secs(1);
    loop {
        if let Some(left) = shared.dispatch.pause_left(shared.runtime.now()) {
            shared.runtime.sleep(left).await;
        }
        match answers(shared).await {
            Ok(true) => return,
            Ok(false) => tracing::warn!("the balance does not suffice yet"),
            Err(error) => tracing::warn!(%error, "the supplier does not answer as itself yet"),
        }
        shared.runtime.sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(60));
    }
}
