//! Intents that come from another store, as they were kept there.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error};

use super::rows::{self, column, escape, learnt_column, moment, payment_columns};
use super::statements::{Outcome, Statements};
use crate::protocol::State;
use crate::store::Adopted;

/// Writes an intent into a store that is being filled: if its reference is new, or in the place of
/// an earlier copy that was still active and differs. Says whether an earlier copy had ended
/// (nothing: there was none) and whether the order is another's; nothing if the guard failed.
pub(super) const ADOPT: &str = "WITH old AS MATERIALIZED (SELECT id, active, resolved_at IS NOT NULL AS ended, \
    (state, why, tries, attempt, fingerprint, floor, order_id, learnt, order_created, unsettled) \
    IS NOT DISTINCT FROM ($5::text, $6::text, $7::int2, $8::int8, $9::int8, $10::text, $11::text, \
    $12::int2, $13::text, $14::bool) AND (state <> 'created' OR (pay_step, pays, pay_tries) \
    IS NOT DISTINCT FROM ($21::int2, $22::int8, $23::int2)) AS same FROM order_intents WHERE client_ref = $1), \
    guarded AS MATERIALIZED (SELECT EXISTS (SELECT 1 FROM order_intents WHERE order_id = $11 AND id <> $2) \
    AS taken WHERE EXISTS (SELECT 1 FROM order_router WHERE mark = 3) \
    AND NOT EXISTS (SELECT 1 FROM old WHERE same OR NOT active OR id <> $2) \
    AND NOT EXISTS (SELECT 1 FROM order_intents WHERE id = $2 AND client_ref <> $1 AND active)), \
    done AS (INSERT INTO order_intents (client_ref, id, items_hash, as_sent, state, why, tries, \
    attempt, fingerprint, floor, order_id, learnt, order_created, unsettled, active, ended_at, \
    changed, intent, created_at, resolved_at, pay_step, pays, pay_tries) \
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
    to_timestamp($19::float8), CASE WHEN $20 THEN now() END, $21, $22, $23 FROM guarded WHERE NOT taken \
    ON CONFLICT (client_ref) DO UPDATE SET state = excluded.state, why = excluded.why, \
    tries = excluded.tries, attempt = excluded.attempt, fingerprint = excluded.fingerprint, \
    floor = excluded.floor, order_id = excluded.order_id, learnt = excluded.learnt, \
    order_created = excluded.order_created, unsettled = excluded.unsettled, \
    pay_step = excluded.pay_step, pays = excluded.pays, pay_tries = excluded.pay_tries, \
    active = excluded.active, ended_at = excluded.ended_at, changed = excluded.changed, \
    resolved_at = COALESCE(order_intents.resolved_at, excluded.resolved_at) RETURNING 1) \
    SELECT taken, (SELECT ended FROM old) FROM guarded";

impl Statements {
    pub(super) async fn adopted(
        &self,
        client: &Client,
        intent: &Adopted,
        changed: i64,
    ) -> Result<Outcome, Error> {
        let stored = &intent.stored;
        let attempt = stored.state.attempt();
        let why = match &stored.state {
            State::InDoubt(_, why) | State::Held(_, why) => Some(escape(why)),
            State::Refused(why) | State::NotPlaced(why) => Some(escape(why)),
            State::Created { why, .. } | State::Unpaid { why, .. } => Some(escape(why)),
            State::Queued | State::Sending(_) | State::Placed { .. } => None,
        };
        let order = stored.state.order();
        let payment = match &stored.state {
            State::Created { payment, .. } => Some(payment_columns(payment)),
            _ => None,
        };
        let args: [&(dyn ToSql + Sync); 23] = [
            &stored.client_ref.as_str(),
            &column(stored.id),
            &&stored.lane.as_bytes()[..],
            &&stored.as_sent.as_bytes()[..],
            &stored.state.name(),
            &why,
            &i16::from(stored.tries),
            &stored.last_attempt.map(column),
            &attempt.map(|attempt| attempt.fingerprint.0.cast_signed()),
            &attempt.and_then(|attempt| attempt.floor).map(moment),
            &order.map(|order| escape(order.id.as_str())),
            &order.map(|order| learnt_column(order.learnt)),
            &order.and_then(|order| order.created_at).map(moment),
            &stored.unsettled,
            &(!stored.state.is_end() || stored.unsettled),
            &column(intent.ended_at),
            &changed,
            &rows::adopted_body(intent),
            // For people: nothing is decided by it.
            &(stored.accepted_at.as_second().max(0) as f64),
            &stored.state.is_end(),
            &payment.map(|(step, ..)| step),
            &payment.map_or(0, |(_, pays, _)| pays),
            &payment.map_or(0, |(.., tries)| tries),
        ];
        let rows = client.query(&self.adopt, &args).await?;
        let Some(row) = rows.first() else { return Ok(Outcome::Refused) };
        if row.try_get(0)? {
            return Ok(Outcome::IdTaken);
        }
        Ok(match row.try_get::<_, Option<bool>>(1)? {
            None => Outcome::Done,
            Some(false) => Outcome::OverOpen,
            Some(true) => Outcome::OverEnded,
        })
    }
}
