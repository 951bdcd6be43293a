//! What an operator watches: the figures of a router for Prometheus, and its events as lines of JSON.
//!
//! ```sh
//! cargo run --features metrics --example observe
//! curl localhost:9090/metrics
//! ```
//!
//! It buys from a simulated supplier that loses answers, until Ctrl-C. In a host of yours keep two things:
//! the recorder, which is installed once in a process, and the task that reads the events. A reader that is
//! too slow misses some and is told how many; the router never waits for it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use order_router::runtime::Runtime;
use order_router::simulator::{Faults, Simulator, SimulatorConfig};
use order_router::store::MemoryStore;
use order_router::supplier::{ApiKey, FoxReload, foxreload::Settings};
use order_router::{ClientRef, Config, Events, Item, Order, OrderRouter, RouterEvent};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:9090".to_owned());
    let listener = TcpListener::bind(listen).await?;
    println!("listening http://{}/metrics", listener.local_addr()?);
    run(listener, tokio::signal::ctrl_c()).await
}

/// Buys, shows and tells until `stop` is ready.
pub async fn run(listener: TcpListener, stop: impl Future) -> Result<(), Box<dyn Error>> {
    // Any recorder of the crate `metrics` will do.
    let figures = PrometheusBuilder::new().install_recorder()?;
    let faults = Faults { withheld_after_creation: 0.1, reset_after: 0.1, ..Faults::default() };
    let supplier =
        Simulator::start(SimulatorConfig { faults, ..SimulatorConfig::default() }).await?;
    let router = start(&supplier.url()).await?;
    tokio::spawn(tell(router.events()));
    tokio::spawn(buy(router.clone()));
    tokio::select! {
        served = serve(listener, figures) => served?,
        _ = stop => {}
    }
    router.shutdown(Duration::from_secs(5)).await?;
    supplier.shutdown().await;
    Ok(())
}

/// A router with a name, so that its figures can be told from those of another account.
async fn start(url: &str) -> Result<OrderRouter, Box<dyn Error>> {
    let runtime = Runtime::system();
    let key = ApiKey::new("any-key")?;
    let account = FoxReload::new(url, &key, Settings::default(), runtime.clock.clone())?;
    let config = Config::default().name("shop").request_timeout(Duration::from_secs(1));
    let builder = OrderRouter::builder(Arc::new(account), Arc::new(MemoryStore::new()));
    Ok(builder.config(config).runtime(runtime).start().await?)
}

/// Answers with everything in Prometheus' text format.
async fn serve(listener: TcpListener, figures: PrometheusHandle) -> std::io::Result<()> {
    let render = move || async move {
        // Histograms are drained now and then, so that they do not grow.
        figures.run_upkeep();
        figures.render()
    };
    axum::serve(listener, Router::new().route("/metrics", get(render))).await
}

/// Prints what happens, one JSON object a line.
async fn tell(mut events: Events) {
    while let Some(event) = events.next().await {
        println!("{}", described(&event));
    }
}

fn described(event: &RouterEvent) -> Value {
    match event {
        RouterEvent::InDoubt { client_ref } => json!({"event": "in_doubt", "ref": client_ref}),
        RouterEvent::Held { client_ref, why } => {
            json!({"event": "held", "ref": client_ref, "why": why})
        }
        RouterEvent::Ended { client_ref, end } => {
            json!({"event": "ended", "ref": client_ref, "verdict": end.word()})
        }
        RouterEvent::Fulfilled { client_ref, order_id, delivery } => {
            json!({"event": "fulfilled", "ref": client_ref, "order": order_id, "delivery": delivery.word()})
        }
        RouterEvent::Orphans { ids } => json!({"event": "orphans", "ids": ids}),
        RouterEvent::Sending { stopped } => json!({"event": "sending", "stopped": stopped}),
        RouterEvent::Alarm { what } => json!({"event": "alarm", "what": what}),
        RouterEvent::Balances { balances } => json!({"event": "balances", "balances": balances}),
        RouterEvent::BalanceLow { balance, why } => {
            json!({"event": "balance_low", "balance": balance, "why": why})
        }
        RouterEvent::Unexplained { currency, amount } => {
            json!({"event": "unexplained", "currency": currency, "amount": amount})
        }
        RouterEvent::Listed { rows, no_evidence } => {
            json!({"event": "listed", "rows": rows, "no_evidence": no_evidence})
        }
        RouterEvent::Missed { events } => json!({"event": "missed", "events": events}),
        // Later versions may tell more.
        other => json!({"event": "other", "what": format!("{other:?}")}),
    }
}

/// Ten orders a second, each twice under one reference.
async fn buy(router: OrderRouter) {
    for number in 0_u64.. {
        for _ in 0..2 {
            let router = router.clone();
            tokio::spawn(async move {
                let order = order(number)?;
                // What comes of it is told as an event.
                router.submit(order).await.map_err(Box::<dyn Error + Send + Sync>::from)
            });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn order(number: u64) -> Result<Order, Box<dyn Error + Send + Sync>> {
    let item = Item::new("gift-card-25", 1)?.total_price("25.00".parse()?);
    Ok(Order::new(ClientRef::new(format!("purchase-{number}"))?, vec![item])?)
}
