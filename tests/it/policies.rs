//! A Redis server that begins to throw keys away while a router runs on it.

use std::time::Duration;

use order_router::store::redis::{RedisConfig, RedisStore};
use order_router::store::{Committed, LeaseTerms};

use super::postgres::accept;
use super::servers::Redis;

/// It would forget references, and what they bought is bought again.
#[tokio::test]
async fn server_that_begins_to_evict_latches_the_store() {
    for accept_unsynced in [false, true] {
        let Some(server) = Redis::start(&[]) else { return };
        let mut config = RedisConfig::new(&server.url("evicts")).expect("a URL");
        let millis = Duration::from_millis;
        let length = millis(600);
        config.lease = LeaseTerms { length, margin: millis(60), pause_max: Duration::ZERO };
        config.accept_unsynced = accept_unsynced;
        if accept_unsynced {
            server.cli(&["CONFIG", "SET", "appendfsync", "everysec"]);
        }
        let store = RedisStore::open(config).await.expect("opens");
        let (first, ..) = accept(&*store, "first");
        assert_eq!(store.commit(first).await.expect("works"), Committed::Done);
        server.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
        tokio::time::sleep(length * 2).await;
        let (second, ..) = accept(&*store, "second");
        let error = store.commit(second).await.expect_err("it is latched");
        assert!(error.to_string().contains("allkeys-lru"), "{error}");
    }
}
