//! On one schema of Postgres.

use order_router::store::postgres::{PostgresConfig, PostgresStore, SharedPostgres};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holder_is_named_and_replies_are_forgotten() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.url("cluster_named");
    super::holder_is_named_and_replies_are_forgotten(shared(&url), shared(&url), async || {
        let config = PostgresConfig::new(&url).expect("a URL");
        Arc::new(PostgresStore::open(config).await.expect("opens")) as Arc<dyn IntentStore>
    })
    .await;
}

/// The server gives the session of a router up that was stopped or cut off. That router does not know,
/// and sends until its lease ends: no other has the schema before that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn router_alone_is_not_replaced_before_its_gates_have_closed() {
    let Some(server) = Postgres::shared() else { return };
    let proxy = Proxy::start(server.port);
    let alone = async |url: &str| {
        let mut config = PostgresConfig::new(url).expect("a URL");
        config.lease = config.lease.map(|_| terms());
        PostgresStore::open(config).await.expect("opens")
    };
    let first = alone(&server.url_at(proxy.port, "cluster_alone")).await;
    let lease = first.lease().expect("the default has one");
    assert!(lease.may_send());
    proxy.refuse(true);
    proxy.cut();
    let second = alone(&server.url("cluster_alone")).await;
    assert!(!lease.may_send() && !lease.is_lost(), "it ends by its own clock alone");
    assert!(second.lease().expect("it has one").epoch() > lease.epoch());
    // It is back, and asks for more time: the schema is the other's.
    proxy.refuse(false);
    let lost = async {
        while !lease.is_lost() {
            assert!(!lease.may_send(), "it was prolonged over another's");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), lost).await.expect("it is told");
    second.close().await.expect("closes");
}
