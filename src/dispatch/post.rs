//! The task of one POST: send it once, judge the answer, read on after the timeout (rule 5).

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{AbortHandle, Abortable};
use jiff::Timestamp;
use tracing::Instrument;

use super::Used;
use crate::actors::{LaneMessage, Shared};
use crate::crash;
use crate::order::{ClientRef, Item, ItemsHash, Price};
use crate::protocol::evidence::{
    AccountEffect, Evidence, Judgement, PRICE_NOT_MATCHED, Seen, judge,
};
use crate::protocol::{AttemptSeq, Clause, IntentId, Moment, Outcome};
use crate::supplier::{Exchange, Gate, GateState};
use crate::telemetry::Count;

/// How long an answer is read for where no landing bound is set.
pub(super) const READ_ON_DEFAULT: Duration = Duration::from_secs(15 * 60);

/// One recorded attempt to send.
pub(crate) struct Job {
    pub(crate) lane: ItemsHash,
    pub(crate) client_ref: ClientRef,
    pub(crate) intent: IntentId,
    pub(crate) seq: AttemptSeq,
    pub(crate) items: Arc<[Item]>,
    /// Its gate closes by then: the record may have taken long to become durable.
    pub(crate) good_until: Moment,
}

/// The sockets that are read on after their request timeout, oldest first.
#[derive(Default)]
pub(crate) struct LateSockets(Mutex<VecDeque<(AttemptSeq, AbortHandle)>>);

impl LateSockets {
    /// Adds one; over the bound, the oldest is dropped: that costs time, not money.
    pub(super) fn add(&self, seq: AttemptSeq, handle: AbortHandle, sockets_max: usize) {
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.push_back((seq, handle));
        while sockets.len() > sockets_max {
            if let Some((_, oldest)) = sockets.pop_front() {
                oldest.abort();
            }
        }
    }

    pub(super) fn remove(&self, seq: AttemptSeq) {
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.retain(|(other, _)| *other != seq);
    }
}

/// Attempts whose tasks have not reported (rule 7). A task that has died without a word stays.
#[derive(Debug, Default)]
pub(crate) struct Unreported(Mutex<BTreeSet<AttemptSeq>>);

impl Unreported {
    fn seqs(&self) -> std::sync::MutexGuard<'_, BTreeSet<AttemptSeq>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, seq: AttemptSeq) {
        self.seqs().insert(seq);
    }

    fn remove(&self, seq: AttemptSeq) {
        self.seqs().remove(&seq);
    }

    pub(crate) fn contains(&self, seq: AttemptSeq) -> bool {
        self.seqs().contains(&seq)
    }
}

/// Reports an attempt's outcome to its lane, at the latest when the task is gone: a task that dies
/// without a word leaves its attempt in doubt and, without a report, unsettled (rule 7).
struct Report {
    shared: Arc<Shared>,
    lane: ItemsHash,
    intent: IntentId,
    seq: AttemptSeq,
    first: bool,
    gate: Arc<Gate>,
}

impl Report {
    /// `left`: the moment of this report, for settling counts from it (rule 7). Not the moment when
    /// the gate yielded: between that and the last byte's way into the kernel the process may have
    /// been stopped for any time.
    fn send(&mut self, outcome: Outcome, left: Option<Moment>) {
        let (intent, seq) = (self.intent, self.seq);
        if left.is_some() || matches!(outcome, Outcome::NotSent(_)) {
            // Before it is delivered: a lane that is rebuilt meanwhile counts from a later moment.
            self.shared.unreported.remove(seq);
        }
        let used = match &outcome {
            Outcome::NotSent(_) if !has_left(&self.gate) => Used::Not,
            Outcome::NotSent(_) | Outcome::Refused(_) => Used::ForNothing,
            Outcome::Created { .. } | Outcome::Unknown(_) => Used::Fully,
        };
        let first = std::mem::take(&mut self.first);
        if first {
            self.shared.dispatch.counted(&self.shared, intent, used);
        }
        self.shared.deliver(self.lane, LaneMessage::Answered { intent, seq, outcome, left });
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
                self.shared.alarm(&format!(
                    "lane {}: the task of attempt {} has died without a word; it stays in doubt, and its \
                     lane declares nothing absent, until the router is started anew",
                    self.lane, self.seq.0
                ));
            }
            self.send(Outcome::Unknown("its task has died".into()), None);
        }
    }
}

/// Sends one recorded attempt in a task of its own.
pub(crate) fn send(shared: &Arc<Shared>, job: Job) {
    let span = tracing::debug_span!(
        "attempt",
        client_ref = %job.client_ref,
        items_hash = %job.lane,
        attempt = job.seq.0,
        outcome = tracing::field::Empty,
    );
    let shared = shared.clone();
    shared.unreported.add(job.seq);
    // The window begins here, not when the task is first run: a lane that is rebuilt meanwhile
    // counts on it.
    let recorded = shared.runtime.now();
    tokio::spawn(post(shared, job, recorded).instrument(span));
}

/// When an attempt was recorded, and what was known then.
#[derive(Clone, Copy)]
struct Left {
    recorded: Moment,
    floor: Option<Timestamp>,
}

/// Whether anything may have left through a gate.
pub(super) fn has_left(gate: &Gate) -> bool {
    matches!(gate.state(), GateState::Yielded(_))
}

/// A gate that closes at this moment, with what was reserved for it, with the lease and with the kill
/// switch.
pub(super) fn gate(shared: &Shared, intent: IntentId, closes_at: Moment) -> Arc<Gate> {
    let left_out = &shared.config.left_out;
    let closes_at = shared.dispatch.leaves_by(intent).map_or(closes_at, |by| closes_at.min(by));
    let closes_at = match left_out.keeps(Clause::GateCloses) {
        true => closes_at,
        false => Moment::after_origin(Duration::MAX),
    };
    let lease = shared.lease.clone().filter(|_| left_out.keeps(Clause::LeaseChecked));
    Arc::new(Gate::new(closes_at).under(lease).unless(&shared.switch))
}

async fn post(shared: Arc<Shared>, job: Job, recorded: Moment) {
    let (lane, intent, seq) = (job.lane, job.intent, job.seq);
    let left_at = Left { recorded, floor: shared.account().floor(recorded) };
    let closes_at = recorded.plus(shared.config.send_window).min(job.good_until);
    let gate = gate(&shared, intent, closes_at);
    let mut report =
        Report { shared: shared.clone(), lane, intent, seq, first: true, gate: gate.clone() };
    crash::point("post.recorded");
    let mut exchange = shared.supplier.place(job.items.clone(), gate.clone());
    match tokio::time::timeout(shared.config.request_timeout, &mut exchange).await {
        Ok(exchange) => {
            crash::point("post.answered");
            let judgement = judged(&shared, &job, &gate, &exchange, left_at);
            let reported = shared.config.left_out.keeps(Clause::SettledFromReport);
            let now = if reported { shared.runtime.now() } else { recorded };
            report.send(judgement.outcome, Some(now));
            crash::point("post.reported");
        }
        Err(_) => match gate.close() {
            GateState::Yielded(_) => {
                tracing::Span::current().record("outcome", "timeout");
                let reported = shared.config.left_out.keeps(Clause::SettledFromReport);
                let now = if reported { shared.runtime.now() } else { recorded };
                report.send(Outcome::Unknown("timeout".into()), Some(now));
                read_on(&shared, &job, &gate, exchange, left_at, &mut report).await;
            }
            GateState::Unasked | GateState::Closed => {
                report.send(Outcome::NotSent("timeout before it was sent".into()), None);
            }
        },
    }
}

/// Reads an answer that comes after the request timeout, up to the landing bound.
async fn read_on(
    shared: &Arc<Shared>,
    job: &Job,
    gate: &Gate,
    exchange: impl Future<Output = Exchange>,
    left_at: Left,
    report: &mut Report,
) {
    let (handle, registration) = AbortHandle::new_pair();
    shared.late_sockets.add(job.seq, handle, shared.config.late_sockets_max);
    let limit = shared.config.landing_bound.unwrap_or(READ_ON_DEFAULT);
    let answer = Abortable::new(tokio::time::timeout(limit, exchange), registration).await;
    shared.late_sockets.remove(job.seq);
    if let Ok(Ok(exchange)) = answer {
        crash::point("post.late_answer");
        let judgement = judged(shared, job, gate, &exchange, left_at);
        if !matches!(judgement.outcome, Outcome::Unknown(_)) {
            report.send(judgement.outcome, Some(shared.runtime.now()));
        }
    }
}

/// Whether an order is sent again without its price guard: it had one, and that is why it is refused.
fn may_do_without(shared: &Shared, job: &Job, outcome: &Outcome) -> bool {
    shared.config.resend_without_guard
        && matches!(outcome, Outcome::Refused(why) if *why == PRICE_NOT_MATCHED)
        && job.items.iter().any(|item| item.price().is_some())
}

/// What an exchange proves, and what it means for the account.
fn judged(
    shared: &Arc<Shared>,
    job: &Job,
    gate: &Gate,
    exchange: &Exchange,
    left_at: Left,
) -> Judgement {
    let seen = match exchange {
        Exchange::Broken { why } => Seen::Broken { why },
        Exchange::Answer(answer) => {
            shared.supplier_clock(answer.date);
            Seen::Answer {
                status: answer.status,
                retry_after: answer.retry_after,
                body: answer.body.as_deref(),
            }
        }
    };
    let evidence =
        Evidence { gate: gate.close(), exchange: seen, items: &job.items, echo: shared.echo };
    let mut judgement =
        judge(&evidence, &shared.policy, |id| shared.seen_before(id, left_at.recorded));
    if may_do_without(shared, job, &judgement.outcome) {
        shared.unguarded.insert(job.intent);
        judgement.outcome =
            Outcome::NotSent("the price guard failed: sent again without it".into());
    }
    tracing::Span::current().record("outcome", outcome_word(&judgement.outcome));
    if let AccountEffect::Alarm(alarm) = judgement.account {
        shared.alarm(&format!("order {}: {alarm:?}", job.client_ref));
    }
    shared.telemetry.count(Count::Attempt(match &judgement.outcome {
        Outcome::Created { .. } => "created",
        Outcome::Refused(_) => "refused",
        Outcome::NotSent(_) => "not_sent",
        Outcome::Unknown(_) => "unknown",
    }));
    let created = matches!(judgement.outcome, Outcome::Created { .. });
    if let Outcome::Created { created_at: Some(date), .. } = judgement.outcome
        && let Some(alarm) = shared.account().own_date(date, left_at.floor)
    {
        shared.alarm(&alarm.to_string());
    }
    shared.dispatch.left(shared, has_left(gate));
    let price = Price::total(&job.items);
    shared.dispatch.effect(shared, judgement.account, created, price);
    judgement
}

fn outcome_word(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Created { .. } => "created",
        Outcome::Refused(_) => "refused",
        Outcome::NotSent(_) => "not sent",
        Outcome::Unknown(why) => why,
    }
}
