//! Buys three identical orders from a supplier that loses answers. It needs no service:
//!
//! ```sh
//! cargo run --example quickstart
//! ```

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use order_router::runtime::Runtime;
use order_router::simulator::{Faults, PostFault, Simulator, SimulatorConfig};
use order_router::store::{EmbeddedConfig, EmbeddedStore};
use order_router::supplier::foxreload::Settings;
use order_router::supplier::{ApiKey, FoxReload};
use order_router::{ClientRef, Config, End, Item, Order, OrderRouter};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout()).await
}

/// Buys for three customers at once, and says what each got and what the supplier sold.
pub async fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let supplier = faulty_supplier().await?;
    let dir = tempfile::tempdir()?;
    let router = start(&supplier.url(), dir.path()).await?;

    let (first, second, third) = tokio::join!(
        buy(&router, "customer-1"),
        buy(&router, "customer-2"),
        buy(&router, "customer-3"),
    );
    for line in [first?, second?, third?] {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{} POSTs, {} orders sold", supplier.stats().posts, supplier.ledger().len())?;

    router.shutdown(Duration::from_secs(5)).await?;
    supplier.shutdown().await;
    Ok(())
}

/// A supplier on loopback. Of the first three POSTs it answers one, creates an order for the second
/// but never says so, and lets the third vanish. To a client the last two look the same.
async fn faulty_supplier() -> std::io::Result<Simulator> {
    let script =
        [None, Some(PostFault::WithheldAfterCreation), Some(PostFault::WithheldNeverCreated)];
    let faults = Faults { script: script.into(), ..Faults::default() };
    Simulator::start(SimulatorConfig { faults, ..SimulatorConfig::default() }).await
}

/// A router for one account, with its journal in `dir`.
async fn start(url: &str, dir: &std::path::Path) -> Result<OrderRouter, Box<dyn Error>> {
    let runtime = Runtime::system();
    // Everything is a hundred times faster here than it should be with a real supplier: above all
    // the landing bound, which is the one setting that buys twice if it is too short.
    let mut settings = Settings::default();
    settings.wire_bound = Duration::from_millis(300);
    let config = Config::default()
        .request_timeout(Duration::from_millis(300))
        .landing_bound(Some(Duration::from_secs(1)))
        .look_again(Duration::from_millis(100), Duration::from_millis(500))
        .answer_within(Duration::from_secs(60));

    let key = ApiKey::new("any-key")?;
    let account = FoxReload::new(url, &key, settings, runtime.clock.clone())?;
    let store = EmbeddedStore::open(dir, EmbeddedConfig::default(), &runtime)?;
    let builder = OrderRouter::builder(Arc::new(account), Arc::new(store));
    let router = builder.config(config).runtime(runtime).start().await?;
    router.ready().await?;
    Ok(router)
}

/// Buys a gift card for a customer.
async fn buy(router: &OrderRouter, reference: &str) -> Result<String, Box<dyn Error>> {
    let order = Order::new(ClientRef::new(reference)?, vec![Item::new("gift-card-25", 1)?])?;
    Ok(match router.submit(order).await? {
        End::Placed { order_id, learnt } => {
            format!("{reference}: placed as {order_id}, learnt from {learnt:?}")
        }
        End::Refused { why } => format!("{reference}: refused, {why}"),
        End::NotPlaced { why } => format!("{reference}: not placed, {why}"),
        End::Unpaid { why, .. } => format!("{reference}: created and not paid, {why}"),
    })
}
