//! Whether an order may take the place of another: what only an end without goods allows.
//!
//! Nothing has to be atomic with the acceptance. An end never changes (promise P4), the supplier's states
//! only go forward, and that there is one replacement at most is the uniqueness of its reference.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Handover, Shared};
use crate::error::SubmitError;
use crate::order::{ClientRef, ItemsHash, Order, OrderId};
use crate::protocol::fulfilment::{Delivery, delivery};
use crate::protocol::{State, Why};
use crate::router::Progress;

impl Shared {
    /// Takes an order in: past the question whether it may replace another, where it replaces one, and
    /// past the gate, where there is one, to its lane.
    pub(crate) fn take_in(self: &Arc<Self>, lane: ItemsHash, handover: Box<Handover>) {
        let Some(replaced) = handover.order.replaces() else {
            return self.past_gate(lane, handover);
        };
        let shared = self.clone();
        self.spawn(async move {
            match shared.may_replace(&handover.order, &replaced).await {
                Ok(()) => shared.past_gate(lane, handover),
                Err(error) => {
                    tracing::info!(client_ref = %handover.order.client_ref(), %error, "not taken");
                    shared.open.fetch_sub(1, Ordering::Relaxed);
                    handover.progress.tell(Progress::Failed(error));
                }
            }
        });
    }

    async fn may_replace(&self, order: &Order, replaced: &ClientRef) -> Result<(), SubmitError> {
        let find = |client_ref: &ClientRef| {
            let found = self.store.find(client_ref.clone());
            async { found.await.map_err(|source| SubmitError::Store { may_exist: false, source }) }
        };
        // What is accepted already joins, or is a conflict.
        if find(order.client_ref()).await?.is_some() {
            return Ok(());
        }
        let refused = |why: Why| {
            let client_ref = order.client_ref().clone();
            Err(SubmitError::NotReplaceable { client_ref, replaced: replaced.clone(), why })
        };
        match judged(find(replaced).await?.map(|stored| stored.state).as_ref()) {
            Judged::Yes => Ok(()),
            Judged::No(why) => refused(why),
            Judged::Ask(id) => match self.without_goods(&id).await {
                Ok(()) => Ok(()),
                Err(why) => refused(why),
            },
        }
    }

    /// Whether the supplier says that an order that was placed has brought nothing and will not.
    async fn without_goods(&self, id: &OrderId) -> Result<(), Why> {
        // One at a time: a file of replacements is no reason for a burst of questions.
        let _turn = self.replacing.lock().await;
        let fetched = match self.supplier.fetch(id.clone()).await {
            Ok(fetched) if fetched.row.id == *id => fetched,
            Ok(_) => return Err(format!("order {id} could not be read: another came").into()),
            Err(error) => return Err(format!("order {id} could not be read: {error}").into()),
        };
        match delivery(&fetched.row.status, &fetched.raw, &self.policy.format) {
            Some(Delivery::Failed | Delivery::Cancelled(_) | Delivery::Expired) => Ok(()),
            Some(Delivery::Complete) => Err(format!("order {id} was delivered").into()),
            Some(Delivery::Partial { .. }) => {
                Err(format!("order {id} was delivered in part").into())
            }
            None => Err(format!("order {id} has not ended at the supplier").into()),
        }
    }
}

/// What the state of an order says of its replacement.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Yes,
    No(Why),
    /// The supplier has to say what became of its order.
    Ask(OrderId),
}

fn judged(replaced: Option<&State>) -> Judged {
    match replaced {
        None => Judged::No("no order has that reference".into()),
        Some(State::Refused(_) | State::NotPlaced(_) | State::Unpaid { .. }) => Judged::Yes,
        Some(State::Placed { id, .. }) => Judged::Ask(id.clone()),
        Some(
            state @ (State::Queued
            | State::Sending(_)
            | State::InDoubt(..)
            | State::Held(..)
            | State::Created { .. }),
        ) => Judged::No(format!("it has not ended, it is {}", state.name()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Attempt, Fingerprint, Learnt, Payment, Serial};

    #[test]
    fn only_an_end_without_goods_is_replaced() {
        let attempt = Attempt { seq: Serial(1), fingerprint: Fingerprint(1), floor: None };
        let (why, learnt, created_at) = (|| Why::Borrowed("why"), Learnt::Answer, None);
        let id = || OrderId::new("7").expect("an id");
        for state in [
            State::Refused(why()),
            State::NotPlaced(why()),
            State::Unpaid { id: id(), learnt, created_at, why: why() },
        ] {
            assert_eq!(judged(Some(&state)), Judged::Yes, "{state:?}");
        }
        let payment = Payment::NEW;
        for state in [
            State::Queued,
            State::Sending(attempt),
            State::InDoubt(attempt, why()),
            State::Held(attempt, why()),
            State::Created { id: id(), learnt, created_at, payment, why: why() },
        ] {
            assert!(matches!(judged(Some(&state)), Judged::No(_)), "{state:?}");
        }
        assert!(matches!(judged(None), Judged::No(_)));
        let placed = State::Placed { id: id(), learnt, created_at };
        assert_eq!(judged(Some(&placed)), Judged::Ask(id()));
    }
}
