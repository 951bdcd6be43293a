//! On one namespace of a table of DynamoDB: a local server.

use order_router::store::dynamodb::{Credentials, DynamoDbConfig, create_table, open, shared};

use super::*;
use crate::servers::{DynamoDb, SECRET_KEY, dynamodb_at};

fn config(url: &str) -> DynamoDbConfig {
    let keys = Credentials::new("AKIATEST", SECRET_KEY, None, None, "tests");
    let mut config = DynamoDbConfig::new(url).expect("a URL").credentials(keys);
    config.lease = terms();
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holder_that_stops_hands_over() {
    let Some(server) = DynamoDb::shared() else { return };
    let config = config(&server.url("cluster_handed_over"));
    create_table(&config).await.expect("makes the table");
    super::holder_that_stops_hands_over((0..NODES).map(|_| shared(config.clone())).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holder_that_is_cut_off_is_replaced() {
    let Some(server) = DynamoDb::shared() else { return };
    let table = "cluster_cut_off";
    create_table(&config(&server.url(table))).await.expect("makes the table");
    let proxies: Vec<Proxy> = (0..NODES).map(|_| Proxy::start(server.port)).collect();
    let url = |proxy: &Proxy| dynamodb_at(proxy.port, table);
    let stores = proxies.iter().map(|proxy| shared(config(&url(proxy)))).collect();
    super::holder_that_is_cut_off_is_replaced(stores, &proxies).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holder_is_named_and_replies_are_forgotten() {
    let Some(server) = DynamoDb::shared() else { return };
    let config = config(&server.url("cluster_named"));
    create_table(&config).await.expect("makes the table");
    let (first, second) = (shared(config.clone()), shared(config.clone()));
    super::holder_is_named_and_replies_are_forgotten(first, second, async || {
        open(config).await.expect("opens")
    })
    .await;
}
