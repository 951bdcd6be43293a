//! A reseller's backend on actix-web: its customers' orders are bought exactly once.
//!
//! ```sh
//! cargo run --example embed_actix_web
//! curl -i localhost:8080/orders -H 'content-type: application/json' \
//!     -d '{"client_ref": "order-1", "items": [{"itemId": "gift-card-25", "quantity": 1}]}'
//! curl -i localhost:8080/orders/order-1
//! ```
//!
//! Send the request again: it joins the order and gets the same answer. Without `SUPPLIER_URL` (and
//! the key in `ORDER_ROUTER_API_KEY`) the example buys from a simulated supplier.

use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{App, HttpResponse, HttpServer, web};
use order_router::runtime::Runtime;
use order_router::simulator::{Simulator, SimulatorConfig};
use order_router::store::{EmbeddedConfig, EmbeddedStore};
use order_router::supplier::foxreload::Settings;
use order_router::supplier::{ApiKey, FoxReload};
use order_router::{ClientRef, End, InvalidOrder, Item, Note, Order, OrderRouter, SubmitError};
use serde_json::json;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (url, key, _simulator) = match std::env::var("SUPPLIER_URL") {
        Ok(url) => (url, ApiKey::from_env("ORDER_ROUTER_API_KEY")?, None),
        Err(_) => {
            let simulator = Simulator::start(SimulatorConfig::default()).await?;
            (simulator.url(), ApiKey::new("any-key")?, Some(simulator))
        }
    };
    // In earnest a directory that stays: it is what the promise rests on.
    let dir = tempfile::tempdir()?;
    let router = start(&url, &key, dir.path()).await?;

    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(listen)?;
    println!("listening http://{}", listener.local_addr()?);
    serve(listener, router, interrupted()).await
}

/// A router for one account, with its journal in `dir`. It brings its own threads and arbiters:
/// nothing of it runs on the workers of actix-web.
///
/// It accepts orders as soon as this returns and sends them once it knows the account; a host that
/// wants to know when, or why never, awaits `router.ready()`.
pub async fn start(
    url: &str,
    key: &ApiKey,
    dir: &std::path::Path,
) -> Result<OrderRouter, Box<dyn Error>> {
    let runtime = Runtime::system();
    let account = FoxReload::new(url, key, Settings::default(), runtime.clock.clone())?;
    let store = EmbeddedStore::open(dir, EmbeddedConfig::default(), &runtime)?;
    let builder = OrderRouter::builder(Arc::new(account), Arc::new(store));
    Ok(builder.runtime(runtime).start().await?)
}

/// Serves until `stop` is ready: then it takes no more requests, answers those that are under way,
/// and stops the router. What is open is driven on at the next start.
pub async fn serve(
    listener: TcpListener,
    router: OrderRouter,
    stop: impl Future<Output = ()> + 'static,
) -> Result<(), Box<dyn Error>> {
    let shared = router.clone();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(shared.clone()))
            .route("/orders", web::post().to(submit))
            .route("/orders/{client_ref}", web::get().to(status))
    })
    .workers(2)
    .disable_signals()
    .listen(listener)?
    .run();
    let handle = server.handle();
    actix_web::rt::spawn(async move {
        stop.await;
        handle.stop(true).await;
    });
    server.await?;
    let left = router.shutdown(Duration::from_secs(30)).await?;
    println!("stopped; {} orders are open, {} of them in doubt", left.open, left.in_doubt);
    Ok(())
}

async fn interrupted() {
    // If signals cannot be had, the process is stopped the hard way, which is just as safe.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What a customer sends.
#[derive(serde::Deserialize)]
struct OrderBody {
    client_ref: String,
    items: Vec<ItemBody>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemBody {
    item_id: String,
    quantity: u32,
    note: Option<serde_json::Value>,
}

impl OrderBody {
    fn parse(&self) -> Result<Order, InvalidOrder> {
        let items = self.items.iter().map(ItemBody::parse).collect::<Result<_, _>>()?;
        Order::new(ClientRef::new(&self.client_ref)?, items)
    }
}

impl ItemBody {
    fn parse(&self) -> Result<Item, InvalidOrder> {
        let item = Item::new(&self.item_id, self.quantity)?;
        Ok(match &self.note {
            Some(note) => item.note(Note::new(note)?),
            None => item,
        })
    }
}

async fn submit(router: web::Data<OrderRouter>, body: web::Json<OrderBody>) -> HttpResponse {
    let order = match body.parse() {
        Ok(order) => order,
        Err(error) => return answer(StatusCode::BAD_REQUEST, "invalid", &error.to_string(), None),
    };
    // A customer who hangs up cancels nothing: the order goes on.
    match router.submit(order).await {
        Ok(End::Placed { order_id, .. }) => {
            answer(StatusCode::OK, "placed", order_id.as_str(), None)
        }
        // Ends as well: the same reference gets the same answer for ever.
        Ok(End::Refused { why }) => answer(StatusCode::UNPROCESSABLE_ENTITY, "refused", &why, None),
        Ok(End::NotPlaced { why }) => {
            answer(StatusCode::UNPROCESSABLE_ENTITY, "not_placed", &why, None)
        }
        Ok(End::Unpaid { why, .. }) => {
            answer(StatusCode::UNPROCESSABLE_ENTITY, "unpaid", &why, None)
        }
        Err(error) => no_end(&error),
    }
}

/// No end to tell: what the customer should do next decides the status.
fn no_end(error: &SubmitError) -> HttpResponse {
    let (status, outcome, retry_after) = match error {
        SubmitError::InDoubt { ask_again_at, .. } => {
            (StatusCode::ACCEPTED, "in_doubt", Some(seconds_until(*ask_again_at)))
        }
        SubmitError::UnderWay { ask_again_at, .. } => {
            (StatusCode::ACCEPTED, "accepted", Some(seconds_until(*ask_again_at)))
        }
        SubmitError::Held { .. } => (StatusCode::ACCEPTED, "held", Some(600)),
        SubmitError::Conflict { .. } => (StatusCode::CONFLICT, "conflict", None),
        // Its message names the node that has it.
        SubmitError::Elsewhere { .. } => (StatusCode::CONFLICT, "elsewhere", None),
        SubmitError::OverLimit { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "over_limit", None),
        SubmitError::Overloaded { .. } | SubmitError::Stopped => {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable", Some(5))
        }
        SubmitError::LaneHeld { .. } | SubmitError::Store { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable", Some(600))
        }
        SubmitError::Unknown { .. } => (StatusCode::NOT_FOUND, "unknown", None),
        // The errors may grow; the same reference is always safe to ask about again.
        _ => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", Some(60)),
    };
    answer(status, outcome, &error.to_string(), retry_after)
}

fn seconds_until(moment: jiff::Timestamp) -> u64 {
    #[allow(clippy::disallowed_methods, reason = "a host has the clock it likes")]
    let now = jiff::Timestamp::now();
    u64::try_from(moment.duration_since(now).as_secs()).unwrap_or(0).max(1)
}

async fn status(router: web::Data<OrderRouter>, client_ref: web::Path<String>) -> HttpResponse {
    let Ok(client_ref) = ClientRef::new(client_ref.as_str()) else {
        return answer(StatusCode::NOT_FOUND, "unknown", "no order can have this reference", None);
    };
    match router.status(&client_ref).await {
        Ok(Some(stored)) => answer(StatusCode::OK, stored.state.name(), "", None),
        Ok(None) => answer(StatusCode::NOT_FOUND, "unknown", "no order has this reference", None),
        Err(error) => {
            answer(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &error.to_string(), Some(60))
        }
    }
}

fn answer(
    status: StatusCode,
    outcome: &str,
    detail: &str,
    retry_after: Option<u64>,
) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    if let Some(seconds) = retry_after {
        response.insert_header((RETRY_AFTER, seconds.to_string()));
    }
    response.json(json!({"outcome": outcome, "detail": detail}))
}
