//! The store on Redis, against servers of the tests' own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use order_router::OrderId;
use order_router::protocol::{Change, Serial, State};
use order_router::store::redis::{RedisConfig, RedisError, RedisStore};
use order_router::store::{Committed, Durability, IntentStore, LeaseTerms, StoreError};
use order_router::testing::conformance::Store;

use super::postgres::{accept, find, placed, reference};
use order_router::testing::conformance::network::Proxy;

use super::servers::{PASSWORD, Redis, free_port};

mod faults;
mod opening;

/// A namespace that nobody had before.
fn namespace() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn config(url: &str) -> RedisConfig {
    RedisConfig::new(url).expect("a URL")
}

/// With a lease that ends soon.
fn short(url: &str) -> RedisConfig {
    let mut config = config(url);
    let millis = Duration::from_millis;
    config.lease = LeaseTerms { length: millis(400), margin: millis(100), ..config.lease };
    config
}

async fn open(url: &str) -> Store {
    RedisStore::open(config(url)).await.expect("opens")
}

async fn done(store: &dyn IntentStore, change: Change) {
    assert_eq!(store.commit(change).await.expect("works"), Committed::Done);
}

/// Accepts an order and places it.
async fn bought(store: &dyn IntentStore, name: &str, order: &str) {
    let (change, id, seq) = accept(store, name);
    done(store, change).await;
    done(store, placed((id, seq), order)).await;
}

/// Why a change failed.
async fn latched(store: &dyn IntentStore, change: Change) -> String {
    match store.commit(change).await {
        Err(StoreError::Failed(why)) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The count of changes, as the server has it.
fn changes(server: &Redis, name: &str) -> String {
    server.cli(&["HGET", &format!("{{{name}}}:books"), "changes"])
}

/// Only the items of what has ended are ever forgotten.
#[tokio::test]
async fn only_bodies_of_ended_intents_and_the_lease_ever_expire() {
    let Some(server) = Redis::shared() else { return };
    let name = namespace();
    let store = open(&server.url(&name)).await;
    assert_eq!(store.durability(), Durability::Synced);
    bought(&*store, "ended", "o1").await;
    done(&*store, accept(&*store, "open").0).await;
    done(&*store, Change::Pause { why: "a".into() }).await;
    let mut expiring = Vec::new();
    let keys = server.cli(&["KEYS", &format!("{{{name}}}:*")]);
    for key in keys.lines() {
        let left: i64 = server.cli(&["PTTL", key]).parse().expect("a number");
        assert_ne!(left, -2, "{key}");
        if left >= 0 {
            expiring.push((key.split_once(':').expect("a tag").1.to_owned(), left));
        }
    }
    expiring.sort();
    let [(body, kept), (lease, _)] = &expiring[..] else { panic!("{expiring:?}") };
    assert_eq!((body.as_str(), lease.as_str()), ("b:ended", "lease"));
    let day = 24 * 60 * 60 * 1000;
    assert!((day - 60_000..=day).contains(kept), "{kept}");
    assert_eq!(keys.lines().count(), 7, "{keys}");
    assert_eq!(server.cli(&["HKEYS", &format!("{{{name}}}:active")]), "open");
}

#[tokio::test]
async fn reference_and_claim_outlive_the_items() {
    let Some(server) = Redis::shared() else { return };
    let (name, url) = (namespace(), |name: &str| server.url(name));
    let mut config = config(&url(&name));
    config.retention = Duration::from_millis(300);
    let store = RedisStore::open(config).await.expect("opens");
    bought(&*store, "r", "o1").await;
    assert_eq!(find(&*store, "r").await.expect("there").items.len(), 1);
    let body = format!("{{{name}}}:b:r");
    while server.cli(&["EXISTS", &body]) != "0" {
        tokio::task::yield_now().await;
    }
    let stored = find(&*store, "r").await.expect("a reference is never forgotten");
    assert!(stored.items.is_empty() && matches!(stored.state, State::Placed { .. }), "{stored:?}");
    let again = store.commit(accept(&*store, "r").0).await.expect("works");
    assert!(matches!(again, Committed::Joined(_)), "{again:?}");
    let (change, id, seq) = accept(&*store, "thief");
    done(&*store, change).await;
    let taken = store.commit(placed((id, seq), "o1")).await.expect("works");
    assert!(matches!(taken, Committed::IdTaken(_)), "{taken:?}");
}

/// More than a page of everything that is read in pages, and more than a batch at once.
#[tokio::test]
async fn what_is_read_in_pages_is_whole() {
    const ORDERS: usize = 1300;
    let Some(server) = Redis::shared() else { return };
    let (name, mut all) = (namespace(), Vec::new());
    let store = open(&server.url(&name)).await;
    for at in 0..ORDERS {
        let (change, id, seq) = accept(&*store, &format!("r{at}"));
        all.push(store.commit(change));
        if at >= 600 {
            all.push(store.commit(placed((id, seq), &format!("o{at}"))));
        }
    }
    let changed = all.len();
    for told in all {
        assert_eq!(told.await.expect("works"), Committed::Done);
    }
    assert_eq!(changes(&server, &name), changed.to_string());
    assert!(store.stats().syncs < 50, "{:?}", store.stats());
    let known = store.known_since(Serial(0)).await.expect("works");
    let names: std::collections::BTreeSet<_> = known.iter().map(|k| k.id.as_str()).collect();
    assert_eq!((known.len(), names.len()), (700, 700));
    let ids = (0..ORDERS).map(|at| OrderId::new(format!("o{at}")).expect("an id")).collect();
    let claims = store.claims(ids).await.expect("works");
    assert!(claims[..600].iter().all(Option::is_none) && claims[600..].iter().all(Option::is_some));
    let last = known.last().expect("there").id.clone();
    assert!(store.known_since(Serial(1290 * 2)).await.expect("works").iter().any(|k| k.id == last));
    store.close().await.expect("closes");
    let store = open(&server.url(&name)).await;
    assert_eq!(store.rehydrate().await.expect("works").intents.len(), 600);
    assert_eq!((store.stats().open, store.stats().ended), (600, 700));
}

/// Each part of the guard by itself, on the server.
#[tokio::test]
async fn batch_that_does_not_follow_on_what_is_there_is_refused_whole() {
    let Some(server) = Redis::shared() else { return };
    let books = |name: &str| format!("{{{name}}}:books");
    let hset = |name: &str, field: &str, value: &str| {
        server.cli(&["HSET", &books(name), field, value]);
    };
    type Damage<'a> = (&'a str, Box<dyn Fn(&str) + 'a>, &'a str);
    let damages: Vec<Damage<'_>> = vec![
        ("epoch", Box::new(|n| hset(n, "epoch", "99")), "another router has taken the store over"),
        ("older epoch", Box::new(|n| hset(n, "epoch", "0")), "acknowledged changes are gone"),
        ("holder", Box::new(|n| hset(n, "holder", "x")), "another router has taken the store over"),
        ("fewer", Box::new(|n| hset(n, "changes", "1")), "acknowledged changes are gone"),
        ("more", Box::new(|n| hset(n, "changes", "9")), "something else writes there"),
        ("deleted", Box::new(|n| drop(server.cli(&["DEL", &books(n)]))), "keys were deleted"),
        (
            "open order gone",
            Box::new(|n| drop(server.cli(&["HDEL", &format!("{{{n}}}:active"), "mine"]))),
            "the open order mine is gone",
        ),
    ];
    for (what, damage, said) in damages {
        let name = namespace();
        let store = open(&server.url(&name)).await;
        let (change, id, seq) = accept(&*store, "mine");
        done(&*store, change).await;
        done(&*store, Change::Resume).await;
        damage(&name);
        let before = server.cli(&["KEYS", &format!("{{{name}}}:*")]).lines().count();
        let why = latched(&*store, placed((id, seq), "o1")).await;
        assert!(why.contains(said), "{what}: {why}");
        let after = server.cli(&["KEYS", &format!("{{{name}}}:*")]).lines().count();
        assert_eq!(before, after, "{what}: something was written");
    }
}

/// What somebody else put there between the look and the write.
#[tokio::test]
async fn reference_or_claim_that_came_in_between_is_not_overwritten() {
    let Some(server) = Redis::start(&[]) else { return };
    let asked = |server: &Redis| {
        let stats = server.cli(&["INFO", "commandstats"]);
        stats.lines().find(|line| line.starts_with("cmdstat_mget:")).map(str::to_owned)
    };
    // The answer to the look is kept back until the rival has written.
    for (key, said) in [("r:late", "the reference late is there"), ("o:o1", "o1 is claimed")] {
        let (name, proxy) = (namespace(), Proxy::start(server.port));
        let store = open(&server.url_at(proxy.port(), &name)).await;
        let (mine, id, seq) = accept(&*store, "mine");
        done(&*store, mine).await;
        let change = match key {
            "r:late" => accept(&*store, "late").0,
            _ => placed((id, seq), "o1"),
        };
        proxy.silence(true);
        let before = asked(&server);
        let told = tokio::spawn(store.commit(change));
        while asked(&server) == before {
            tokio::task::yield_now().await;
        }
        let key = format!("{{{name}}}:{key}");
        server.cli(&["SET", &key, "rival"]);
        proxy.silence(false);
        let Err(StoreError::Failed(why)) = told.await.expect("ends") else { panic!("written") };
        assert!(why.contains(said), "{why}");
        assert_eq!(server.cli(&["GET", &key]), "rival");
        assert_eq!(changes(&server, &name), "1");
    }
}
