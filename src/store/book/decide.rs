//! What a decision and a payment make of an intent.

use jiff::Timestamp;

use crate::order::OrderId;
use crate::protocol::{AttemptSeq, Learnt, PayVerdict, Payment, State, Verdict, Why};
use crate::store::Stored;
use crate::store::record::{ClaimRow, Row};

/// The state that a verdict with an order brings, and the claim; any other verdict as it was.
pub(super) fn claimed(
    verdict: Verdict,
) -> Result<(State, OrderId, Learnt, Option<Timestamp>), Verdict> {
    match verdict {
        Verdict::Placed { id, learnt, created_at } => {
            Ok((State::Placed { id: id.clone(), learnt, created_at }, id, learnt, created_at))
        }
        Verdict::Created { id, learnt, created_at } => {
            let (payment, why) = (Payment::NEW, Why::default());
            let state = State::Created { id: id.clone(), learnt, created_at, payment, why };
            Ok((state, id, learnt, created_at))
        }
        other => Err(other),
    }
}

/// Whether a payment stands where a change of it begins.
pub(super) fn payable(stored: &Stored, was: &Payment) -> bool {
    matches!(&stored.state, State::Created { payment, .. } if payment == was)
}

/// What becomes of a payment.
pub(super) fn pay(stored: &mut Stored, to: PayVerdict) {
    let State::Created { id, learnt, created_at, payment, why } = &mut stored.state else { return };
    let (learnt, created_at) = (*learnt, *created_at);
    match to {
        PayVerdict::Open { payment: next, why: because } => (*payment, *why) = (next, because),
        PayVerdict::Paid => {
            let id = id.clone();
            stored.state = State::Placed { id, learnt, created_at };
        }
        PayVerdict::Unpaid(why) => {
            let id = id.clone();
            stored.state = State::Unpaid { id, learnt, created_at, why };
        }
    }
}

/// Rule 3, and rule 5 for an answer that comes after its intent was queued again.
pub(super) fn decidable(stored: &Stored, attempt: AttemptSeq, verdict: &Verdict) -> bool {
    let answered = matches!(
        verdict,
        Verdict::Placed { learnt: Learnt::Answer, .. }
            | Verdict::Created { learnt: Learnt::Answer, .. }
    );
    let late = answered && stored.state == State::Queued && stored.last_attempt == Some(attempt);
    late || stored.state.attempt().is_some_and(|open| open.seq == attempt)
}

/// Every verdict but those that claim an order.
pub(super) fn undo_or_end(stored: &mut Stored, verdict: Verdict) {
    let open = stored.state.attempt().copied();
    match (verdict, open) {
        (Verdict::Refused(why), _) => stored.state = State::Refused(why),
        (Verdict::NotSent(_), _) => stored.state = State::Queued,
        (Verdict::InDoubt(why), Some(open)) => stored.state = State::InDoubt(open, why),
        (Verdict::Held(why), Some(open)) => stored.state = State::Held(open, why),
        (Verdict::Absent, _) => {
            stored.tries = stored.tries.saturating_add(1);
            stored.state = State::Queued;
        }
        (Verdict::NotPlaced(why), _) => {
            stored.tries = stored.tries.saturating_add(1);
            stored.state = State::NotPlaced(why);
        }
        (Verdict::InDoubt(_) | Verdict::Held(_), None)
        | (Verdict::Placed { .. } | Verdict::Created { .. }, _) => {}
    }
}

/// The claim of an intent that has an order.
pub(crate) fn claim_of(row: &Row) -> Option<ClaimRow> {
    let order = row.stored.state.order()?;
    Some(ClaimRow {
        id: order.id.clone(),
        intent: row.stored.id,
        lane: row.stored.lane,
        shape: row.shape,
        learnt: order.learnt,
        created_at: order.created_at,
        ended_at: row.ended_at,
        changed: row.changed,
    })
}
