//! Follows placed orders until their status is terminal: one list refreshes many of them.

use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{Lookout, read};
use crate::actors::Shared;
use crate::order::OrderId;
use crate::router::Fulfilment;
use crate::supplier::ReadError;

/// Up to so many orders are fetched one by one; more are looked up in a list first.
const FETCH_AT_MOST: usize = 3;

/// Somebody follows a placed order.
pub(crate) struct Follow {
    pub(crate) order_id: OrderId,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) answer: oneshot::Sender<Fulfilment>,
}

/// Whether a status is an end. An unknown one is not: it is followed on.
pub(crate) fn is_terminal(status: &str) -> bool {
    matches!(status, "completed" | "cancelled" | "failed")
}

impl Lookout {
    /// Reads the status of what is followed, now and then, while anything is.
    pub(super) fn poll(&mut self, ctx: &mut Context<Self>) {
        self.follows.retain(|follow| !follow.answer.is_closed());
        if self.polling || self.follows.is_empty() {
            return;
        }
        self.polling = true;
        let follows = std::mem::take(&mut self.follows);
        let shared = self.shared.clone();
        let polling = async move { poll(&shared, follows).await };
        ctx.spawn(polling.into_actor(self).map(|open, lookout, ctx| {
            lookout.follows.extend(open);
            let pause = lookout.shared.config.poll_interval;
            ctx.run_later(pause, |lookout, ctx| {
                lookout.polling = false;
                lookout.poll(ctx);
            });
        }));
    }
}

/// Answers what has ended, and gives back what has not.
async fn poll(shared: &Arc<Shared>, follows: Vec<Follow>) -> Vec<Follow> {
    let (look_at, mut open) = if follows.len() <= FETCH_AT_MOST {
        (follows, Vec::new())
    } else {
        ended_in_list(shared, follows).await
    };
    for follow in look_at {
        match shared.supplier.fetch(follow.order_id.clone()).await {
            Ok(fetched) if is_terminal(&fetched.row.status) => {
                let fulfilment = Fulfilment {
                    order_id: follow.order_id,
                    status: fetched.row.status,
                    raw: fetched.raw,
                };
                // Nobody follows it any more if this fails.
                let _ = follow.answer.send(fulfilment);
            }
            Ok(_) | Err(ReadError::NotFound) => open.push(follow),
            Err(error) => {
                tracing::debug!(%error, order = %follow.order_id, "status not read");
                open.push(follow);
            }
        }
    }
    open
}

/// Splits into those that a list shows as ended, or does not show, and the others.
async fn ended_in_list(shared: &Arc<Shared>, follows: Vec<Follow>) -> (Vec<Follow>, Vec<Follow>) {
    let since = follows.iter().map(|follow| follow.created_at).min().flatten();
    let sheet = read::sheet(shared, since, None).await;
    let going_on: std::collections::BTreeSet<_> = sheet
        .rows
        .iter()
        .filter(|row| !is_terminal(&row.status))
        .map(|row| row.id.clone())
        .collect();
    follows.into_iter().partition(|follow| !going_on.contains(&follow.order_id))
}
