//! One statement for each change, guard and write in one.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use super::rows::{body, column, escape, learnt_column, moment, payment_columns, shape_column};
use crate::order::OrderId;
use crate::protocol::{
    Attempt, AttemptSeq, Change, IntentId, Learnt, NewIntent, PayVerdict, Payment, Serial, Verdict,
    Why,
};

/// What a statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The guard failed: nothing was written.
    Refused = 0,
    /// Written.
    Done = 1,
    /// `Placed`: the guard held, but another intent has the order. Nothing was written.
    IdTaken = 2,
    /// `Adopt`: written in the place of an earlier copy that had not ended.
    OverOpen = 3,
    /// `Adopt`: written in the place of an earlier copy that had ended.
    OverEnded = 4,
}

impl Outcome {
    fn of(written: u64) -> Self {
        if written == 0 { Self::Refused } else { Self::Done }
    }

    /// Reads what a batch's row says.
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        let all = [Self::Refused, Self::Done, Self::IdTaken, Self::OverOpen, Self::OverEnded];
        all.into_iter().find(|outcome| *outcome as u8 == byte)
    }
}

/// What every write carries with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// The number of the change.
    pub changed: i64,
    /// The highest serial that was handed out.
    pub highest: Serial,
}

const OPEN: &str = "state IN ('sending', 'in_doubt', 'held')";

/// The prepared statements of a writing session.
pub(super) struct Statements {
    accept: Statement,
    record: Statement,
    place: Statement,
    undo: Statement,
    doubt: Statement,
    end: Statement,
    expire: Statement,
    settle: Statement,
    pay: Statement,
    hold_lane: Statement,
    free_lane: Statement,
    orphans: Statement,
    history: Statement,
    echo: Statement,
    pause: Statement,
    mark: Statement,
    spend: Statement,
    spent: Statement,
    pub(super) adopt: Statement,
    pub(super) fence: Statement,
    pub(super) finish: Statement,
    pub(super) by_ref: Statement,
    pub(super) by_order: Statement,
}

impl Statements {
    /// Prepares all of them.
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let columns = super::rows::COLUMNS;
        let prepare = async |text: &str| client.prepare(text).await;
        Ok(Self {
            accept: prepare(ACCEPT).await?,
            record: prepare(RECORD).await?,
            place: prepare(&place()).await?,
            undo: prepare(&format!(
                "UPDATE order_intents SET state = 'queued', tries = LEAST(tries + $3, 255), \
                 changed = $4 WHERE id = $1 AND active AND attempt = $2 AND {OPEN}"
            ))
            .await?,
            doubt: prepare(&format!(
                "UPDATE order_intents SET state = $3, why = $4, changed = $5 \
                 WHERE id = $1 AND active AND attempt = $2 AND {OPEN}"
            ))
            .await?,
            end: prepare(&format!(
                "UPDATE order_intents SET state = $3, why = $4, tries = LEAST(tries + $5, 255), \
                 changed = $6, ended_at = $7, active = false, resolved_at = now() \
                 WHERE id = $1 AND active AND attempt = $2 AND {OPEN}"
            ))
            .await?,
            expire: prepare(
                "UPDATE order_intents SET state = 'not_placed', why = $2, changed = $3, \
                 ended_at = $4, active = false, resolved_at = now() \
                 WHERE id = $1 AND active AND state = 'queued'",
            )
            .await?,
            settle: prepare(
                "UPDATE order_intents SET unsettled = false, active = state = 'created', \
                 changed = $2 WHERE id = $1 AND active AND unsettled",
            )
            .await?,
            pay: prepare(PAY).await?,
            hold_lane: prepare(
                "INSERT INTO order_router_lanes_held (items_hash, why) VALUES ($1, $2) \
                 ON CONFLICT (items_hash) DO UPDATE SET why = excluded.why",
            )
            .await?,
            free_lane: prepare("DELETE FROM order_router_lanes_held WHERE items_hash = $1").await?,
            orphans: prepare(
                "INSERT INTO order_router_orphans (order_id, why) \
                 SELECT id, $2 FROM unnest($1::text[]) AS id ON CONFLICT DO NOTHING",
            )
            .await?,
            history: prepare(
                "WITH added AS (INSERT INTO order_router_history (order_id) \
                 SELECT id FROM unnest($2::text[]) AS id ON CONFLICT DO NOTHING) \
                 UPDATE order_router SET history_drawn = true, \
                 history_newest = GREATEST(history_newest, $1)",
            )
            .await?,
            echo: prepare(
                "INSERT INTO order_router_echo (shape, changed) VALUES ($1, $2) \
                 ON CONFLICT DO NOTHING",
            )
            .await?,
            pause: prepare("UPDATE order_router SET paused = $1").await?,
            mark: prepare("UPDATE order_router SET mark = $1, mark_place = $2").await?,
            spend: prepare(super::spent::SPEND).await?,
            spent: prepare(super::spent::SPENT).await?,
            adopt: prepare(super::adopt::ADOPT).await?,
            fence: prepare("SELECT owner FROM order_router FOR UPDATE").await?,
            finish: prepare(
                "UPDATE order_router SET batch = $1, outcomes = $2, serial_next = $3, \
                 changes = $4, ended = $5, newest_known = $6",
            )
            .await?,
            by_ref: prepare(&format!("SELECT {columns} FROM order_intents WHERE client_ref = $1"))
                .await?,
            by_order: prepare(&format!("SELECT {columns} FROM order_intents WHERE order_id = $1"))
                .await?,
        })
    }

    /// The statement of a change, on its way as soon as the future is polled once.
    pub(super) fn run<'a>(
        &'a self,
        client: &'a Client,
        change: &'a Change,
        mark: Mark,
    ) -> BoxFuture<'a, Result<Outcome, Error>> {
        let changed = mark.changed;
        match change {
            Change::Accept { intent, attempt } => {
                self.accept(client, intent, attempt.as_ref(), changed).boxed()
            }
            Change::Record { intent, attempt } => async move {
                let floor = attempt.floor.map(moment);
                let print = attempt.fingerprint.0.cast_signed();
                let (id, seq) = (column(*intent), column(attempt.seq));
                let args: [&(dyn ToSql + Sync); 5] = [&id, &seq, &print, &floor, &changed];
                Ok(Outcome::of(client.execute(&self.record, &args).await?))
            }
            .boxed(),
            Change::Decide { intent, attempt, verdict } => {
                self.decide(client, (*intent, *attempt), verdict, mark)
            }
            Change::Expire { intent, why } => async move {
                let (why, highest) = (escape(why), column(mark.highest));
                let args: [&(dyn ToSql + Sync); 4] = [&column(*intent), &why, &changed, &highest];
                Ok(Outcome::of(client.execute(&self.expire, &args).await?))
            }
            .boxed(),
            Change::Settle { intent } => async move {
                let done = client.execute(&self.settle, &[&column(*intent), &changed]).await?;
                Ok(Outcome::of(done))
            }
            .boxed(),
            Change::Adopt { intent, .. } => self.adopted(client, intent, changed).boxed(),
            Change::Pay { intent, was, to } => {
                self.paid(client, column(*intent), was, to, changed).boxed()
            }
            Change::HoldLane { .. }
            | Change::FreeLane { .. }
            | Change::Orphans { .. }
            | Change::History { .. }
            | Change::EchoSeen { .. }
            | Change::Pause { .. }
            | Change::Resume
            | Change::Spend(_)
            | Change::Spent(_)
            | Change::Mark { .. } => self.account(client, change, changed).boxed(),
        }
    }

    async fn accept(
        &self,
        client: &Client,
        intent: &NewIntent,
        attempt: Option<&Attempt>,
        changed: i64,
    ) -> Result<Outcome, Error> {
        let state = if attempt.is_some() { "sending" } else { "queued" };
        let args: [&(dyn ToSql + Sync); 10] = [
            &intent.client_ref.as_str(),
            &column(intent.id),
            &&intent.lane.as_bytes()[..],
            &&intent.as_sent.as_bytes()[..],
            &state,
            &attempt.map(|a| column(a.seq)),
            &attempt.map(|a| a.fingerprint.0.cast_signed()),
            &attempt.and_then(|a| a.floor).map(moment),
            &changed,
            &body(intent),
        ];
        Ok(Outcome::of(client.execute(&self.accept, &args).await?))
    }

    fn decide<'a>(
        &'a self,
        client: &'a Client,
        (intent, attempt): (IntentId, AttemptSeq),
        verdict: &'a Verdict,
        mark: Mark,
    ) -> BoxFuture<'a, Result<Outcome, Error>> {
        let changed = mark.changed;
        let ids = (column(intent), column(attempt));
        let undo = move |tries: i16| async move {
            let done = client.execute(&self.undo, &[&ids.0, &ids.1, &tries, &changed]).await?;
            Ok(Outcome::of(done))
        };
        let doubt = move |state: &'static str, why: &'a Why| async move {
            let args: [&(dyn ToSql + Sync); 5] = [&ids.0, &ids.1, &state, &escape(why), &changed];
            Ok(Outcome::of(client.execute(&self.doubt, &args).await?))
        };
        let end = move |state: &'static str, why: &'a Why, tries: i16| async move {
            let (why, highest) = (escape(why), column(mark.highest));
            let args: [&(dyn ToSql + Sync); 7] =
                [&ids.0, &ids.1, &state, &why, &tries, &changed, &highest];
            Ok(Outcome::of(client.execute(&self.end, &args).await?))
        };
        match verdict {
            Verdict::Placed { id, learnt, created_at }
            | Verdict::Created { id, learnt, created_at } => async move {
                let to_pay = matches!(verdict, Verdict::Created { .. });
                let created_at = created_at.map(moment);
                let placed = Placed { id, learnt: *learnt, created_at, to_pay };
                self.placed(client, ids, placed, mark).await
            }
            .boxed(),
            Verdict::Refused(why) => end("refused", why, 0).boxed(),
            Verdict::NotSent(_) => undo(0).boxed(),
            Verdict::InDoubt(why) => doubt("in_doubt", why).boxed(),
            Verdict::Held(why) => doubt("held", why).boxed(),
            Verdict::Absent => undo(1).boxed(),
            Verdict::NotPlaced(why) => end("not_placed", why, 1).boxed(),
        }
    }

    async fn placed(
        &self,
        client: &Client,
        (intent, attempt): (i64, i64),
        placed: Placed<'_>,
        mark: Mark,
    ) -> Result<Outcome, Error> {
        let answered = placed.learnt == Learnt::Answer;
        let args: [&(dyn ToSql + Sync); 9] = [
            &intent,
            &attempt,
            &escape(placed.id.as_str()),
            &learnt_column(placed.learnt),
            &placed.created_at,
            &answered,
            &mark.changed,
            &column(mark.highest),
            &placed.to_pay,
        ];
        let rows = client.query(&self.place, &args).await?;
        Ok(match rows.first() {
            None => Outcome::Refused,
            Some(row) if row.try_get::<_, bool>(0)? => Outcome::IdTaken,
            Some(_) => Outcome::Done,
        })
    }

    async fn paid(
        &self,
        client: &Client,
        intent: i64,
        was: &Payment,
        to: &PayVerdict,
        changed: i64,
    ) -> Result<Outcome, Error> {
        let (state, why, next) = match to {
            PayVerdict::Open { payment, why } => ("created", Some(escape(why)), payment),
            PayVerdict::Paid => ("placed", None, was),
            PayVerdict::Unpaid(why) => ("unpaid", Some(escape(why)), was),
        };
        let (was, next) = (payment_columns(was), payment_columns(next));
        let args: [&(dyn ToSql + Sync); 10] =
            [&intent, &was.0, &was.1, &was.2, &state, &why, &next.0, &next.1, &next.2, &changed];
        Ok(Outcome::of(client.execute(&self.pay, &args).await?))
    }

    async fn account(
        &self,
        client: &Client,
        change: &Change,
        changed: i64,
    ) -> Result<Outcome, Error> {
        let none: Option<&str> = None;
        match change {
            Change::HoldLane { lane, why } => {
                let args: [&(dyn ToSql + Sync); 2] = [&&lane.as_bytes()[..], &escape(why)];
                client.execute(&self.hold_lane, &args).await?
            }
            Change::FreeLane { lane } => {
                client.execute(&self.free_lane, &[&&lane.as_bytes()[..]]).await?
            }
            Change::Orphans { ids, why } => {
                client.execute(&self.orphans, &[&texts(ids), &escape(why)]).await?
            }
            Change::History { newest, ids } => {
                client.execute(&self.history, &[&newest.map(moment), &texts(ids)]).await?
            }
            Change::EchoSeen { shape } => {
                client.execute(&self.echo, &[&shape_column(*shape), &changed]).await?
            }
            Change::Pause { why } => client.execute(&self.pause, &[&Some(escape(why))]).await?,
            Change::Resume => client.execute(&self.pause, &[&none]).await?,
            Change::Spend(spend) => super::spent::spend(client, &self.spend, spend).await?,
            Change::Spent(spent) => super::spent::spent(client, &self.spent, spent).await?,
            Change::Mark { mark } => {
                let parts = mark.as_ref().map(crate::store::Mark::parts);
                let kind = parts.map(|(kind, _)| i16::from(kind));
                let place = parts.map(|(_, place)| escape(place));
                client.execute(&self.mark, &[&kind, &place]).await?
            }
            Change::Accept { .. }
            | Change::Record { .. }
            | Change::Decide { .. }
            | Change::Pay { .. }
            | Change::Expire { .. }
            | Change::Settle { .. }
            | Change::Adopt { .. } => 0,
        };
        Ok(Outcome::Done)
    }
}

struct Placed<'a> {
    id: &'a OrderId,
    learnt: Learnt,
    created_at: Option<String>,
    to_pay: bool,
}

fn texts(ids: &[OrderId]) -> Vec<String> {
    ids.iter().map(|id| escape(id.as_str()).into_owned()).collect()
}

/// Rule 1: only if the reference was never seen.
const ACCEPT: &str = "INSERT INTO order_intents (client_ref, id, items_hash, as_sent, state, \
    attempt, fingerprint, floor, changed, intent) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";

/// Rule 2: only a queued intent, and only a newer attempt.
const RECORD: &str = "UPDATE order_intents SET state = 'sending', attempt = $2, fingerprint = $3, \
    floor = $4, changed = $5 \
    WHERE id = $1 AND active AND state = 'queued' AND (attempt IS NULL OR attempt < $2)";

/// Pay later: only a payment that stands exactly where it is said to.
const PAY: &str = "UPDATE order_intents SET state = $5, why = $6, pay_step = $7, pays = $8, \
    pay_tries = $9, changed = $10, active = ($5 = 'created') OR unsettled, \
    resolved_at = CASE WHEN $5 = 'created' THEN NULL ELSE now() END \
    WHERE id = $1 AND active AND state = 'created' AND pay_step = $2 AND pays = $3 \
    AND pay_tries = $4";

/// Rules 3 and 5: the attempt is the newest and open, or, for its own answer, queued again; the
/// order is nobody's. Claim and state are one write. Says whether the order was taken; nothing if
/// the guard failed. Two that claim at the same moment meet at the unique index.
fn place() -> String {
    format!(
        "WITH guarded AS (SELECT id, EXISTS (SELECT 1 FROM order_intents WHERE order_id = $3) \
         AS taken FROM order_intents WHERE id = $1 AND active AND attempt = $2 \
         AND ({OPEN} OR ($6 AND state = 'queued')) FOR UPDATE), \
         done AS (UPDATE order_intents AS i SET state = CASE WHEN $9 THEN 'created' \
         ELSE 'placed' END, why = CASE WHEN $9 THEN '' END, \
         pay_step = CASE WHEN $9 THEN 0 END, order_id = $3, \
         learnt = $4, order_created = $5, unsettled = NOT $6, active = $9 OR NOT $6, \
         changed = $7, ended_at = $8, resolved_at = CASE WHEN $9 THEN NULL ELSE now() END FROM guarded \
         WHERE i.id = guarded.id AND i.active AND NOT guarded.taken RETURNING 1) \
         SELECT taken FROM guarded"
    )
}
