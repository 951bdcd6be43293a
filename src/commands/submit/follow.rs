//! Follows one line from its submission to its end.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use order_router::store::StoreError;
use order_router::{ClientRef, End, Item, Order, Progress, SubmitError, Ticket};
use tokio::sync::OwnedSemaphorePermit;

use super::session::{Shared, Trouble};
use crate::commands::failure::chain;
use crate::commands::results::{Outcome, ResultLine};

/// How long until an order that the router had no room for is handed over again.
const OVERLOADED_PAUSE: Duration = Duration::from_millis(200);

/// How a line is left.
pub(super) enum Left {
    /// With a line in the results.
    Told { outcome: Outcome, order_id: Option<String>, reason: Option<Cow<'static, str>> },
    /// Nothing was recorded for it; the next run takes it.
    NotTaken,
}

impl Left {
    pub(super) fn because(outcome: Outcome, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Told { outcome, order_id: None, reason: Some(reason.into()) }
    }

    pub(super) fn by(end: End) -> Self {
        match end {
            End::Placed { order_id, .. } => Self::Told {
                outcome: Outcome::Placed,
                order_id: Some(order_id.as_str().to_owned()),
                reason: None,
            },
            End::Refused { why } => Self::because(Outcome::Refused, why),
            End::NotPlaced { why } => Self::because(Outcome::NotPlaced, why),
            End::Unpaid { order_id, why } => Self::Told {
                outcome: Outcome::Unpaid,
                order_id: Some(order_id.as_str().to_owned()),
                reason: Some(why),
            },
        }
    }
}

/// Where a line stands while it is followed; counts itself.
struct Standing<'a> {
    shared: &'a Shared,
    now: Stage,
}

#[derive(Clone, PartialEq, Eq)]
enum Stage {
    Submitted,
    Accepted,
    InDoubt,
    Held(Cow<'static, str>),
}

impl<'a> Standing<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.tally.followed.fetch_add(1, Ordering::Relaxed);
        Self { shared, now: Stage::Submitted }
    }

    fn counter(&self) -> Option<&'a AtomicU64> {
        match self.now {
            Stage::Submitted | Stage::Accepted => None,
            Stage::InDoubt => Some(&self.shared.tally.in_doubt),
            Stage::Held(_) => Some(&self.shared.tally.held),
        }
    }

    fn becomes(&mut self, stage: Stage) {
        if let Some(counter) = self.counter() {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
        self.now = stage;
        if let Some(counter) = self.counter() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How the line is left if it is followed no further.
    fn left(&self) -> Left {
        match &self.now {
            Stage::Submitted => Left::because(
                Outcome::InDoubt,
                "it may have been accepted: submit it again under the same reference",
            ),
            Stage::Accepted => Left::because(
                Outcome::InDoubt,
                "accepted and still under way: run again under the same reference",
            ),
            Stage::InDoubt => Left::because(
                Outcome::InDoubt,
                "it may have been bought: run again under the same reference",
            ),
            Stage::Held(why) => Left::because(Outcome::Held, why.clone()),
        }
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.becomes(Stage::Submitted);
        self.shared.tally.followed.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Submits an order and follows it. `slot` is held until it ends or comes into doubt.
pub(super) async fn follow(
    shared: Arc<Shared>,
    line: u64,
    order: Order,
    slot: OwnedSemaphorePermit,
    _open: OwnedSemaphorePermit,
) {
    let left = to_the_end(&shared, line, &order, slot).await;
    let (client_ref, items) = (order.client_ref(), order.items_shared());
    shared.tell(client_ref, items, Some(line), left).await;
}

async fn to_the_end(shared: &Shared, line: u64, order: &Order, slot: OwnedSemaphorePermit) -> Left {
    // Dropped when the order comes into doubt, or with this future.
    let mut slot = Some(slot);
    let mut standing = Standing::new(shared);
    let mut given_up = shared.given_up.subscribe();
    loop {
        let mut ticket = match shared.router.track(order.clone()) {
            Ok(ticket) => ticket,
            Err(error) => match failed(shared, &standing, error) {
                Some(left) => return left,
                None => {
                    tokio::select! {
                        () = tokio::time::sleep(OVERLOADED_PAUSE) => continue,
                        _ = given_up.wait_for(|yes| *yes) => return Left::NotTaken,
                    }
                }
            },
        };
        while let Some(progress) = next(&mut ticket, &mut given_up).await {
            match progress {
                Progress::Submitted => {}
                // What follows on its creation is its payment.
                Progress::Accepted | Progress::Created { .. } => {
                    if standing.now == Stage::Submitted {
                        shared.accepted(order, line).await;
                    }
                    standing.becomes(Stage::Accepted);
                }
                Progress::InDoubt => {
                    drop(slot.take());
                    standing.becomes(Stage::InDoubt);
                }
                Progress::Held(why) => {
                    drop(slot.take());
                    standing.becomes(Stage::Held(why));
                }
                Progress::Ended(end) => return Left::by(end),
                Progress::Failed(error) => match failed(shared, &standing, error) {
                    Some(left) => return left,
                    None => break,
                },
            }
        }
        // A lane that is rebuilt drops its callers: the same order joins what is recorded of it.
        if *given_up.borrow() {
            return standing.left();
        }
        tokio::time::sleep(OVERLOADED_PAUSE).await;
    }
}

/// The next step of an order; `None` when there is none or nobody waits any more.
async fn next(
    ticket: &mut Ticket,
    given_up: &mut tokio::sync::watch::Receiver<bool>,
) -> Option<Progress> {
    tokio::select! {
        biased;
        progress = ticket.next() => progress,
        _ = given_up.wait_for(|yes| *yes) => None,
    }
}

/// How an error leaves a line; `None`: hand it over again later.
fn failed(shared: &Shared, standing: &Standing<'_>, error: SubmitError) -> Option<Left> {
    Some(match error {
        // The gate's alarm has said why.
        SubmitError::Overloaded { .. } | SubmitError::GateDown { .. } => return None,
        SubmitError::InDoubt { .. } => Left::because(
            Outcome::InDoubt,
            "it may have been bought: run again under the same reference",
        ),
        SubmitError::UnderWay { .. } => Left::because(
            Outcome::InDoubt,
            "accepted and still under way: run again under the same reference",
        ),
        SubmitError::Held { why, .. } => Left::because(Outcome::Held, why),
        SubmitError::LaneHeld { .. } => Left::because(Outcome::Held, error.to_string()),
        SubmitError::OverLimit { why, .. } => Left::because(Outcome::Invalid, why),
        SubmitError::Conflict { .. } => {
            Left::because(Outcome::Conflict, "the reference belongs to another order")
        }
        SubmitError::NoRoomForTag { .. } => Left::because(Outcome::Invalid, error.to_string()),
        SubmitError::NotReplaceable { .. } => Left::because(Outcome::Invalid, error.to_string()),
        SubmitError::Elsewhere { .. } => Left::because(Outcome::Elsewhere, error.to_string()),
        SubmitError::Forgotten { .. } => Left::because(Outcome::Held, error.to_string()),
        SubmitError::Store { may_exist, source } => {
            let full = matches!(source, StoreError::Full { .. });
            shared.trouble(Trouble::Store { what: chain(&source), full });
            match may_exist || standing.now != Stage::Submitted {
                true => standing.left(),
                false => Left::NotTaken,
            }
        }
        SubmitError::Stopped => {
            shared.trouble(Trouble::Stopped);
            standing.left()
        }
        // New kinds of errors say themselves whether anything may have been bought; until this
        // program knows them, it may.
        other => Left::because(Outcome::InDoubt, chain(&other)),
    })
}

impl Shared {
    /// Writes how a line is left, and counts it.
    pub(super) async fn tell(
        &self,
        client_ref: &ClientRef,
        items: Arc<[Item]>,
        line: Option<u64>,
        left: Left,
    ) {
        let Left::Told { outcome, order_id, reason } = left else {
            self.tally.not_taken.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let counts = if line.is_some() { &self.tally.input } else { &self.tally.earlier };
        counts.add(outcome);
        let client_ref = Some(client_ref.as_str().into());
        let at = Timestamp::now();
        self.results
            .write(ResultLine { client_ref, items, outcome, order_id, line, reason, at })
            .await;
    }

    async fn accepted(&self, order: &Order, line: u64) {
        let result = ResultLine {
            client_ref: Some(order.client_ref().as_str().into()),
            items: order.items_shared(),
            outcome: Outcome::Accepted,
            order_id: None,
            line: Some(line),
            reason: None,
            at: Timestamp::now(),
        };
        self.results.write(result).await;
    }
}
