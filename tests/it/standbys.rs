//! Postgres with a standby that has to have every change before it is answered.

use std::sync::Arc;
use std::time::Duration;

use order_router::store::postgres::{PostgresConfig, PostgresStore, SharedPostgres};
use order_router::store::{Committed, IntentStore, SharedStore};
use order_router::testing::conformance::network::Proxy;
use sha2::{Digest, Sha256};

use super::postgres::accept;
use super::servers::Postgres;

/// The standby is gone: what waits for it is in the primary's log, and is lost with the primary. It
/// must not be answered, however often it is asked for over new sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_that_no_standby_has_is_not_answered() {
    let Some(server) = Postgres::start(&[]) else { return };
    let mut config = PostgresConfig::new(&server.url("standbys")).expect("a URL");
    config.reply_timeout = Duration::from_millis(500);
    config.give_up_after = Duration::from_secs(3);
    let store = PostgresStore::open(config).await.expect("opens");
    let (first, ..) = accept(&store, "first");
    assert_eq!(store.commit(first).await.expect("works"), Committed::Done);
    server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    server.sql("SELECT pg_reload_conf()");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (second, ..) = accept(&store, "second");
    let told = store.commit(second).await;
    assert!(told.is_err(), "{told:?}");
    server.sql("ALTER SYSTEM RESET synchronous_standby_names");
    server.sql("SELECT pg_reload_conf()");
}

/// Others who ask for the lease have the server's lock for a moment. The holder, back after its
/// connection was lost, is not to take one of them for its successor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holder_whose_connection_was_lost_waits_for_one_who_only_asks() {
    let Some(server) = Postgres::start(&[]) else { return };
    let (server, proxy) = {
        let proxy = Proxy::start(server.port);
        (Arc::new(server), proxy)
    };
    let config = PostgresConfig::new(&server.url_at(proxy.port(), "asked")).expect("a URL");
    let store = SharedPostgres::new(config).open().await.expect("works").expect("it is free");
    let (first, ..) = accept(&*store, "first");
    assert_eq!(store.commit(first).await.expect("works"), Committed::Done);
    // It gets the lock when the holder's connection goes, and has it for half a second.
    let digest = Sha256::digest(b"asked");
    let object = i32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let asker = server.clone();
    let asks = format!("SELECT pg_advisory_lock({}, {object}), pg_sleep(0.5)", 0x6f72_6472);
    let asker = tokio::task::spawn_blocking(move || asker.sql(&asks));
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxy.cut();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (second, ..) = accept(&*store, "second");
    assert_eq!(store.commit(second).await.expect("it is still the holder"), Committed::Done);
    asker.await.expect("it has asked");
    store.close().await.expect("closes");
}
