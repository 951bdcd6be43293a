//! On one namespace of Redis.

use order_router::store::Committed;
use order_router::store::redis::{RedisConfig, RedisStore, shared};

use super::*;
use crate::postgres::accept;
use crate::servers::Redis;

fn store(url: &str) -> Arc<dyn SharedStore> {
    let mut config = RedisConfig::new(url).expect("a URL");
    config.lease = terms();
    shared(config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holder_that_stops_hands_over() {
    let Some(server) = Redis::shared() else { return };
    let url = server.url("cluster_handed_over");
    super::holder_that_stops_hands_over((0..NODES).map(|_| store(&url)).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holder_that_is_cut_off_is_replaced() {
    let Some(server) = Redis::shared() else { return };
    let proxies: Vec<Proxy> = (0..NODES).map(|_| Proxy::start(server.port)).collect();
    let url = |proxy: &Proxy| server.url_at(proxy.port, "cluster_cut_off");
    let stores = proxies.iter().map(|proxy| store(&url(proxy))).collect();
    super::holder_that_is_cut_off_is_replaced(stores, &proxies).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holder_is_named_and_replies_are_forgotten() {
    let Some(server) = Redis::shared() else { return };
    let url = server.url("cluster_named");
    super::holder_is_named_and_replies_are_forgotten(store(&url), store(&url), async || {
        RedisStore::open(RedisConfig::new(&url).expect("a URL")).await.expect("opens")
    })
    .await;
}

/// What a router that lost its lease reads was written by another: it is no answer of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn router_that_lost_the_store_answers_nothing_from_it() {
    let Some(server) = Redis::shared() else { return };
    let proxy = Proxy::start(server.port);
    let open = async |url: &str| {
        let mut config = RedisConfig::new(url).expect("a URL");
        config.lease = terms();
        RedisStore::open(config).await.expect("opens")
    };
    let first = open(&server.url_at(proxy.port, "cluster_lost")).await;
    proxy.refuse(true);
    proxy.cut();
    let second = open(&server.url("cluster_lost")).await;
    let (change, ..) = accept(&*second, "same");
    assert_eq!(second.commit(change).await.expect("works"), Committed::Done);
    proxy.refuse(false);
    // It changes nothing, so no write is refused for its epoch.
    let (change, ..) = accept(&*first, "same");
    let told = first.commit(change).await;
    assert!(told.is_err(), "{told:?}");
    second.close().await.expect("closes");
}
