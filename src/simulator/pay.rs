//! `POST /api/orders/{id}/pay`, and what goes wrong with it.

use super::account::{Account, Shared};
use super::api::{Landing, Reply, Step, Then, find};
use super::faults::PayFault;
use super::order::Refusal;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payment {
    #[serde(default)]
    payment_provider: Option<String>,
}

/// Pays an order where the fault lets it be paid, and says how the exchange ends.
pub(super) fn pay(shared: &Shared, id: &str, body: &[u8], reply: &mut Reply) -> Step {
    let mut account = shared.account();
    let account = &mut *account;
    account.counts.pays += 1;
    let delay = account.get_delay();
    let now = Step { delay, then: Then::Send };
    let provider = match body {
        [] => Ok(None),
        body => serde_json::from_slice(body).map(|p: Payment| p.payment_provider),
    };
    let refusal = match provider {
        Err(error) => Some(Refusal::invalid(error.to_string())),
        Ok(Some(_)) => Some(Refusal::invalid("paymentProvider: only the balance pays here")),
        Ok(None) => None,
    };
    if let Some(refusal) = refusal {
        reply.refuse(&refusal);
        return now;
    }
    let Some(index) = find(shared, account, id) else {
        reply.error(404, "ORDER_NOT_FOUND", "there is no such order");
        return now;
    };
    let fault = account.pay_fault(index);
    if fault == Some(PayFault::Late) {
        return Step {
            then: Then::Land(account.faults.late_after, Landing::Payment(index)),
            ..Step::now()
        };
    }
    if fault.is_none_or(PayFault::pays) {
        paid(shared, account, index, reply);
    }
    Step { delay, then: fault.map_or(Then::Send, |fault| answer(account, fault, reply)) }
}

/// Pays an order now, and writes the answer.
pub(super) fn paid(shared: &Shared, account: &mut Account, index: usize, reply: &mut Reply) {
    let now = shared.clock.now();
    match account.pay(index, now, &shared.contract) {
        Ok(()) => {
            let row = &account.rows[index];
            let status = row.status(now, &shared.contract);
            row.write(&mut reply.body, Some(row.id), status, &shared.contract, false);
        }
        Err(refusal) => reply.refuse(&refusal),
    }
}

/// Puts what the fault answers in the place of the order.
fn answer(account: &Account, fault: PayFault, reply: &mut Reply) -> Then {
    match fault {
        PayFault::WithheldAfter | PayFault::WithheldNever => {
            return Then::Hold(account.faults.withhold_for);
        }
        PayFault::ResetBefore | PayFault::ResetAfter => return Then::Reset,
        PayFault::Status500Before | PayFault::Status500After => {
            reply.error(500, "INTERNAL_ERROR", "try again later");
        }
        PayFault::Conflict409After => {
            reply.error(409, "ORDER_ALREADY_PAID", "the order is paid");
        }
        PayFault::RateLimited429 => reply.rate_limited(),
        PayFault::NotFound404 => reply.error(404, "ORDER_NOT_FOUND", "there is no such order"),
        PayFault::Refused422 => reply.error(422, "PAYMENT_REFUSED", "it cannot be paid"),
        PayFault::Late => {}
    }
    Then::Send
}
