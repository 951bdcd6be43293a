//! What is counted against limits, in its table: a row for each second. What reads it puts old ones
//! together.

use tokio_postgres::{Client, Error, Row, Statement};

use super::rows;
use crate::order::Price;
use crate::protocol::limits::{Clocks, Spend, Spent, Sum};
use crate::store::StoreError;

/// How long after its last window a row is kept, in seconds: rows are put together by up to a quarter of
/// an hour.
const KEPT: i64 = 26 * 60 * 60;

/// Adds to a second, takes back from others, forgets what no window reaches, and notes the clocks. No two
/// of its parts touch the same row.
pub(super) const SPEND: &str = "WITH added AS (INSERT INTO order_router_spent AS s (at, orders, amount) \
    VALUES ($1, $2, $3::text::numeric) ON CONFLICT (at) DO UPDATE SET \
    orders = s.orders + excluded.orders, amount = s.amount + excluded.amount), \
    gone AS (SELECT at, sum(orders) AS orders, sum(amount::numeric) AS amount \
    FROM unnest($4::bigint[], $5::bigint[], $6::text[]) AS b (at, orders, amount) GROUP BY at), \
    taken AS (UPDATE order_router_spent AS s SET orders = GREATEST(s.orders - gone.orders, 0), \
    amount = GREATEST(s.amount - gone.amount, 0) FROM gone \
    WHERE s.at = gone.at AND s.at <> $1 AND s.at > $7), \
    old AS (DELETE FROM order_router_spent WHERE at <= $7 AND at <> $1) \
    UPDATE order_router SET spent_now = GREATEST(spent_now, $8), spent_wall = $9, spent_supplier = $10";

/// Replaces all of it.
pub(super) const SPENT: &str = "WITH other AS (DELETE FROM order_router_spent \
    WHERE at <> ALL ($1::bigint[])), \
    put AS (INSERT INTO order_router_spent (at, orders, amount) \
    SELECT b.at, b.orders, b.amount::numeric \
    FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS b (at, orders, amount) \
    ON CONFLICT (at) DO UPDATE SET orders = excluded.orders, amount = excluded.amount) \
    UPDATE order_router SET spent_now = $4, spent_wall = $5, spent_supplier = $6";

/// Seconds and numbers of orders are far below what a column holds.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Slots as columns.
fn columns(slots: impl Iterator<Item = (u64, Sum)>) -> (Vec<i64>, Vec<i64>, Vec<String>) {
    let (mut at, mut orders, mut amounts) = (Vec::new(), Vec::new(), Vec::new());
    for (second, sum) in slots {
        at.push(number(second));
        orders.push(number(sum.orders));
        amounts.push(sum.amount.to_string());
    }
    (at, orders, amounts)
}

pub(super) async fn spend(
    client: &Client,
    statement: &Statement,
    spend: &Spend,
) -> Result<u64, Error> {
    let (at, orders, amount) =
        (number(spend.at), number(spend.sum.orders), spend.sum.amount.to_string());
    let (gone_at, gone_orders, gone_amounts) = columns(spend.back.iter().copied());
    let (now, wall) = (number(spend.now), rows::moment(spend.clocks.wall));
    let (supplier, old) = (spend.clocks.supplier.map(rows::moment), now - KEPT);
    let args: [&(dyn tokio_postgres::types::ToSql + Sync); 10] = [
        &at,
        &orders,
        &amount,
        &gone_at,
        &gone_orders,
        &gone_amounts,
        &old,
        &now,
        &wall,
        &supplier,
    ];
    client.execute(statement, &args).await
}

pub(super) async fn spent(
    client: &Client,
    statement: &Statement,
    spent: &Spent,
) -> Result<u64, Error> {
    let (at, orders, amounts) = columns(spent.slots());
    let wall = spent.clocks().map(|clocks| rows::moment(clocks.wall));
    let supplier = spent.clocks().and_then(|clocks| clocks.supplier).map(rows::moment);
    let now = number(spent.now());
    client.execute(statement, &[&at, &orders, &amounts, &now, &wall, &supplier]).await
}

/// All rows, as text where a column would be rounded.
pub(super) const ROWS: &str = "SELECT at, orders, amount::text FROM order_router_spent";

/// What the rows and the router's row say.
pub(super) fn read(found: &[Row], router: &Row) -> Result<Spent, StoreError> {
    let unreadable = |error: Error| StoreError::Failed(error.to_string().into());
    let moment = |name: &str| {
        let text = router.try_get::<_, Option<String>>(name).map_err(unreadable)?;
        text.map(|text| rows::parse_moment(&text)).transpose()
    };
    let supplier = moment("spent_supplier")?;
    let clocks = moment("spent_wall")?.map(|wall| Clocks { wall, supplier });
    let now: i64 = router.try_get("spent_now").map_err(unreadable)?;
    let slots = found.iter().map(|row| {
        let amount: String = row.try_get(2)?;
        // What is too large to be added up exactly is the largest amount there is.
        let amount = amount.parse().unwrap_or_else(|_| Price::largest());
        let sum = Sum { orders: row.try_get::<_, i64>(1)?.unsigned_abs(), amount };
        Ok((row.try_get::<_, i64>(0)?.unsigned_abs(), sum))
    });
    let slots = slots.collect::<Result<Vec<_>, Error>>().map_err(unreadable)?;
    Ok(Spent::of(slots, now.unsigned_abs(), clocks))
}
