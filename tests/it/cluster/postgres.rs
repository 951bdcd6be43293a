//! On one schema of Postgres.

use order_router::store::postgres::{PostgresConfig, SharedPostgres};

use super::*;
use crate::servers::Postgres;

fn shared(url: &str) -> Arc<dyn SharedStore> {
    let mut config = PostgresConfig::new(url).expect("a URL");
    config.lease = Some(terms());
    config.give_up_after = Duration::from_secs(5);
    Arc::new(SharedPostgres::new(config))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holder_that_stops_hands_over() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.url("cluster_handed_over");
    super::holder_that_stops_hands_over((0..NODES).map(|_| shared(&url)).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holder_that_is_cut_off_is_replaced() {
    let Some(server) = Postgres::shared() else { return };
    let proxies: Vec<Proxy> = (0..NODES).map(|_| Proxy::start(server.port)).collect();
    let url = |proxy: &Proxy| server.url_at(proxy.port, "cluster_cut_off");
    let stores = proxies.iter().map(|proxy| shared(&url(proxy))).collect();
    super::holder_that_is_cut_off_is_replaced(stores, &proxies).await;
}
