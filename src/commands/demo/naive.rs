//! Two clients as they are usually written. Both are wrong, and kept simple on purpose.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use order_router::simulator::Simulator;
use reqwest::Client;
use serde_json::Value;

use super::orders::DemoOrder;
use super::{CONCURRENCY, REQUEST_TIMEOUT};
use crate::commands::results::Outcome;

/// How often an order is sent before the customer is told that it failed.
const TRIES: usize = 3;
/// How old an order in the list may be to be taken for the one just sent.
const RECENT: Duration = Duration::from_secs(120);

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Send it again.
    BlindRetry,
    /// Look at the last ten orders for a recent one with the first product; else send it again.
    CheckThenRetry,
}

/// What a customer was told.
pub(super) struct Told {
    pub(super) order: DemoOrder,
    pub(super) outcome: Outcome,
    pub(super) order_id: Option<String>,
}

/// Buys all orders, several at once.
pub(super) async fn buy(
    pattern: Pattern,
    supplier: &Simulator,
    orders: &Arc<[DemoOrder]>,
) -> reqwest::Result<Vec<Told>> {
    let client = crate::commands::http_client(REQUEST_TIMEOUT)?;
    let url = format!("{}/api/orders", supplier.url());
    let bought = futures_util::stream::iter(orders.iter())
        .map(|order| buy_one(pattern, &client, &url, order))
        .buffer_unordered(CONCURRENCY);
    Ok(bought.collect().await)
}

async fn buy_one(pattern: Pattern, client: &Client, url: &str, order: &DemoOrder) -> Told {
    let told = |outcome, order_id| Told { order: order.clone(), outcome, order_id };
    for _ in 0..TRIES {
        if let Ok(id) = post(client, url, order).await {
            return told(Outcome::Placed, Some(id));
        }
        if pattern == Pattern::CheckThenRetry
            && let Some(id) = find_recent(client, url, order).await
        {
            return told(Outcome::Placed, Some(id));
        }
    }
    told(Outcome::NotPlaced, None)
}

/// The id of the order, or `Err` for everything else: timeout, reset, 5xx, a cut answer.
async fn post(client: &Client, url: &str, order: &DemoOrder) -> Result<String, ()> {
    let request = client
        .post(url)
        .header("X-API-Key", "demo")
        .header("Content-Type", "application/json")
        .body(order.body());
    let answer = request.send().await.map_err(drop)?;
    if answer.status() != 201 {
        return Err(());
    }
    let body = answer.bytes().await.map_err(drop)?;
    let body: Value = serde_json::from_slice(&body).map_err(drop)?;
    body["id"].as_str().map(str::to_owned).ok_or(())
}

async fn find_recent(client: &Client, url: &str, order: &DemoOrder) -> Option<String> {
    let request = client.get(format!("{url}?limit=10")).header("X-API-Key", "demo");
    let body = request.send().await.ok()?.bytes().await.ok()?;
    let list: Value = serde_json::from_slice(&body).ok()?;
    let first = order.items.first()?.0;
    let found = list["orders"].as_array()?.iter().find(|row| {
        let has = row["items"].as_array().is_some_and(|items| {
            items.iter().any(|item| item["product"]["id"].as_str() == Some(first))
        });
        let created: Option<Timestamp> = row["createdAt"].as_str().and_then(|t| t.parse().ok());
        let age = created.map(|created| Timestamp::now().duration_since(created));
        has && age.is_some_and(|age| age.unsigned_abs() < RECENT)
    })?;
    found["id"].as_str().map(str::to_owned)
}
