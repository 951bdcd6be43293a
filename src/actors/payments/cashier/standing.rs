//! How an order stands that is being paid.

use super::Open;
use crate::actors::progress_of;
use crate::protocol::{PayStep, State};
use crate::router::Progress;

/// What whoever comes to an order is told of it.
pub(super) fn standing(open: &Open) -> Progress {
    let payment = open.bill.payment();
    let step = if open.in_doubt && payment.step == PayStep::Sending {
        PayStep::InDoubt
    } else {
        payment.step
    };
    let state = State::Created {
        id: open.entry.order.clone(),
        learnt: open.entry.learnt,
        created_at: open.entry.created_at,
        payment: payment.at(step),
        why: "its payment is not clear".into(),
    };
    progress_of(&state)
}
