//! What an answer to a payment proves, and what a look at the order shows: a whitelist.
//!
//! | answer to `…/pay` | outcome | account |
//! |---|---|---|
//! | the gate closed without yielding | `NotSent` | |
//! | no answer after the gate yielded | `Unknown` | |
//! | 2xx that shows this order as `paid`, `processing` or `completed` | `Paid` | |
//! | 2xx otherwise | `Unknown` | alarm if it is another order, pause if it is a page |
//! | 400, 405, 413, 415, 422 with a JSON error | `Refused` | |
//! | 404 with a JSON error | `Again`, counts as a try | |
//! | 401, 403 with a JSON error | `Again` | pause: key refused |
//! | 429 with `Retry-After` or a JSON error | `Again` (a setting) | drain |
//! | 402, `BALANCE_*`, `ORDER_PAYMENT_NOT_POSSIBLE` | `Unknown` (a setting) | pause: balance |
//! | 409, anything that speaks of *already* | `Unknown` | |
//! | any other 4xx, or one without a JSON error | `Unknown` | pause |
//! | 5xx | `Unknown` | |
//! | 3xx, 1xx | `Unknown` | pause: redirected |
//!
//! An error is read by the same code as that of a POST that creates, which takes what is doubtful for
//! unknown. `Refused` and `Again` are looked at before anything follows from them.

use super::{PayOutcome, Saw};
use crate::order::OrderId;
use crate::protocol::Outcome;
use crate::protocol::Why;
use crate::protocol::evidence::{
    AccountEffect, Alarm, Evidence, EvidencePolicy, GateState, PauseWhy, Seen, judge,
};

/// What one payment proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayJudgement {
    /// What it did.
    pub outcome: PayOutcome,
    /// What it means for the account.
    pub account: AccountEffect,
}

/// Says what the answer to a payment of `order` proves.
#[must_use]
pub fn judge_pay(
    gate: GateState,
    seen: &Seen<'_>,
    order: &OrderId,
    policy: &EvidencePolicy,
) -> PayJudgement {
    if let (GateState::Yielded(_), &Seen::Answer { status: status @ 200..=299, body, .. }) =
        (gate, seen)
    {
        return success(status, body, order, policy);
    }
    let evidence =
        Evidence { gate, exchange: seen.clone(), items: &[], echo: crate::EchoProfile::default() };
    let judged = judge(&evidence, policy, |_| false);
    let status = match seen {
        Seen::Answer { status, body, .. } => Some((*status, *body)),
        Seen::Broken { .. } => None,
    };
    let left = matches!(gate, GateState::Yielded(_));
    let already = status.and_then(|(_, body)| body).is_some_and(speaks_of_already);
    let outcome = match judged.outcome {
        Outcome::NotSent(why) if !left => PayOutcome::NotSent(why),
        Outcome::NotSent(why) | Outcome::Refused(why) if already => PayOutcome::Unknown(why),
        Outcome::NotSent(why) => PayOutcome::Again { why, counts: false },
        Outcome::Refused(why) => match status {
            // It may not be known there yet.
            Some((404, _)) => PayOutcome::Again { why, counts: true },
            _ => PayOutcome::Refused(why),
        },
        Outcome::Unknown(why) => PayOutcome::Unknown(why),
        Outcome::Created { .. } => PayOutcome::Unknown("an order was created".into()),
    };
    // Refused payments say nothing of orders that are created.
    let account = match judged.account {
        AccountEffect::CountsAsRefusal => AccountEffect::None,
        other => other,
    };
    PayJudgement { outcome, account }
}

/// An error that speaks of something as done already says that a payment may be.
fn speaks_of_already(body: &[u8]) -> bool {
    body.to_ascii_lowercase().windows(7).any(|word| word == b"already")
}

fn success(
    status: u16,
    body: Option<&[u8]>,
    order: &OrderId,
    policy: &EvidencePolicy,
) -> PayJudgement {
    let unknown = |why: Why, account| PayJudgement { outcome: PayOutcome::Unknown(why), account };
    let Some(body) = body else {
        return unknown(format!("status {status}, body cut off").into(), AccountEffect::None);
    };
    if !matches!(body.trim_ascii_start().first(), None | Some(b'{' | b'[' | b'"')) {
        let why = format!("status {status} without the supplier's words").into();
        return unknown(why, AccountEffect::Pause(PauseWhy::NotTheSupplier(status)));
    }
    let Some(shown) = policy.format.open(body) else {
        return unknown(format!("status {status} without an order").into(), AccountEffect::None);
    };
    match policy.format.id_of(&shown) {
        Some(id) if id == *order => {}
        Some(_) => {
            let why = "the answer names another order".into();
            return unknown(why, AccountEffect::Alarm(Alarm::OtherOrder));
        }
        None => {
            return unknown(format!("status {status} without an id").into(), AccountEffect::None);
        }
    }
    match policy.format.status_of(&shown) {
        Some(word) if is_paid(&word) => {
            PayJudgement { outcome: PayOutcome::Paid, account: AccountEffect::None }
        }
        _ => unknown("accepted, and not shown as paid yet".into(), AccountEffect::None),
    }
}

/// Whether a state says that the order is paid.
#[must_use]
pub fn is_paid(status: &str) -> bool {
    matches!(status, "paid" | "processing" | "completed")
}

/// What a `GET` of an order shows, by the order's state and the whole answer.
#[must_use]
pub fn look(status: &str, raw: &[u8], policy: &EvidencePolicy) -> Saw {
    match status {
        word if is_paid(word) => Saw::Paid,
        "active" => Saw::Unpaid,
        "cancelled" => {
            let shown = policy.format.open(raw);
            Saw::Cancelled(shown.and_then(|shown| policy.format.cancel_reason_of(&shown)))
        }
        "failed" => Saw::Failed,
        _ => Saw::Nothing("a state that is not known".into()),
    }
}
