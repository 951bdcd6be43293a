//! The task of one payment: send it once, judge the answer, read on after the timeout.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{AbortHandle, Abortable};
use tracing::Instrument;

use super::Used;
use super::post::{READ_ON_DEFAULT, gate, has_left};
use crate::actors::{PayMessage, Shared};
use crate::crash;
use crate::order::{ClientRef, OrderId, Price};
use crate::protocol::evidence::{AccountEffect, GateState};
use crate::protocol::payment::PayOutcome;
use crate::protocol::payment::evidence::{PayJudgement, judge_pay};
use crate::protocol::{IntentId, Moment};
use crate::supplier::{Exchange, Gate};

/// One recorded payment to send.
pub(crate) struct PayJob {
    pub(crate) client_ref: ClientRef,
    pub(crate) intent: IntentId,
    pub(crate) order: OrderId,
    /// What it costs, if every line has a price guard.
    pub(crate) price: Option<Price>,
    /// The number of the payment.
    pub(crate) pays: u32,
}

/// Payments whose tasks have not reported.
#[derive(Debug, Default)]
pub(crate) struct PayReports(Mutex<BTreeSet<(IntentId, u32)>>);

impl PayReports {
    fn missing(&self) -> std::sync::MutexGuard<'_, BTreeSet<(IntentId, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the report of this payment is still to come.
    pub(crate) fn is_missing(&self, intent: IntentId, pays: u32) -> bool {
        self.missing().contains(&(intent, pays))
    }
}

/// Reports a payment's outcome, at the latest when the task is gone: one that dies without a word
/// leaves its payment in doubt and, without a report, unsettled.
struct Report {
    shared: Arc<Shared>,
    intent: IntentId,
    pays: u32,
    first: bool,
    gate: Arc<Gate>,
}

impl Report {
    fn send(&mut self, outcome: PayOutcome, left: Option<Moment>) {
        let (intent, pays) = (self.intent, self.pays);
        if left.is_some() || matches!(outcome, PayOutcome::NotSent(_)) {
            self.shared.payments.reports.missing().remove(&(intent, pays));
        }
        let used = match &outcome {
            PayOutcome::NotSent(_) if !has_left(&self.gate) => Used::Not,
            PayOutcome::NotSent(_) | PayOutcome::Again { .. } => Used::ForNothing,
            // What a refusal means is decided by a look.
            PayOutcome::Paid | PayOutcome::Refused(_) | PayOutcome::Unknown(_) => Used::Fully,
        };
        let first = std::mem::take(&mut self.first);
        if first {
            self.shared.dispatch.counted(&self.shared, intent, used);
        }
        let message = PayMessage::Answered { intent, pays, outcome, left };
        self.shared.payments.send(&self.shared, message);
        if first {
            self.shared.dispatch.done(&self.shared);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if self.first {
            // Not where a router is shut down.
            if std::thread::panicking() {
                self.shared.alarm(
                    "the task of a payment has died without a word; it stays in doubt until the \
                     order shows what became of it, or the router is started anew",
                );
            }
            self.send(PayOutcome::Unknown("its task has died".into()), None);
        }
    }
}

/// Sends one recorded payment in a task of its own.
pub(crate) fn send_pay(shared: &Arc<Shared>, job: PayJob) {
    let span = tracing::debug_span!(
        "payment",
        client_ref = %job.client_ref,
        pays = job.pays,
        outcome = tracing::field::Empty,
    );
    let shared = shared.clone();
    shared.payments.reports.missing().insert((job.intent, job.pays));
    let recorded = shared.runtime.now();
    tokio::spawn(pay(shared, job, recorded).instrument(span));
}

async fn pay(shared: Arc<Shared>, job: PayJob, recorded: Moment) {
    let (intent, pays) = (job.intent, job.pays);
    // Not with what the order was good for: it exists, and the supplier says how long it may be paid.
    let gate = gate(&shared, intent, recorded.plus(shared.config.send_window));
    let mut report =
        Report { shared: shared.clone(), intent, pays, first: true, gate: gate.clone() };
    crash::point("pay.recorded");
    let mut exchange = shared.supplier.pay(job.order.clone(), gate.clone());
    match tokio::time::timeout(shared.config.request_timeout, &mut exchange).await {
        Ok(exchange) => {
            crash::point("pay.answered");
            let judgement = judged(&shared, &job, &gate, &exchange);
            report.send(judgement.outcome, Some(shared.runtime.now()));
            crash::point("pay.reported");
        }
        Err(_) => match gate.close() {
            GateState::Yielded(_) => {
                tracing::Span::current().record("outcome", "timeout");
                let now = shared.runtime.now();
                report.send(PayOutcome::Unknown("timeout".into()), Some(now));
                read_on(&shared, &job, &gate, exchange, &mut report).await;
            }
            GateState::Unasked | GateState::Closed => {
                report.send(PayOutcome::NotSent("timeout before it was sent".into()), None);
            }
        },
    }
}

/// Reads an answer that comes after the request timeout, up to the landing bound.
async fn read_on(
    shared: &Arc<Shared>,
    job: &PayJob,
    gate: &Gate,
    exchange: impl Future<Output = Exchange>,
    report: &mut Report,
) {
    let (handle, registration) = AbortHandle::new_pair();
    // A name of its own among the sockets that are read on.
    let socket = shared.store.next_serial();
    shared.late_sockets.add(socket, handle, shared.config.late_sockets_max);
    let limit = shared.config.landing_bound.unwrap_or(READ_ON_DEFAULT);
    let answer = Abortable::new(tokio::time::timeout(limit, exchange), registration).await;
    shared.late_sockets.remove(socket);
    if let Ok(Ok(exchange)) = answer {
        crash::point("pay.late_answer");
        let judgement = judged(shared, job, gate, &exchange);
        if !matches!(judgement.outcome, PayOutcome::Unknown(_)) {
            report.send(judgement.outcome, Some(shared.runtime.now()));
        }
    }
}

fn judged(shared: &Arc<Shared>, job: &PayJob, gate: &Gate, exchange: &Exchange) -> PayJudgement {
    if let Exchange::Answer(answer) = exchange {
        shared.supplier_clock(answer.date);
    }
    let judgement = judge_pay(gate.close(), &exchange.seen(), &job.order, &shared.policy);
    tracing::Span::current().record("outcome", outcome_word(&judgement.outcome));
    if let AccountEffect::Alarm(alarm) = judgement.account {
        shared.alarm(&format!("payment of order {}: {alarm:?}", job.client_ref));
    }
    shared.dispatch.left(shared, has_left(gate));
    shared.dispatch.effect(shared, judgement.account, false, job.price);
    judgement
}

fn outcome_word(outcome: &PayOutcome) -> &str {
    match outcome {
        PayOutcome::Paid => "paid",
        PayOutcome::NotSent(_) => "not sent",
        PayOutcome::Again { .. } => "nothing done",
        PayOutcome::Refused(_) => "refused",
        PayOutcome::Unknown(why) => why,
    }
}
