//! What only Redis does in the middle: scripts forgotten, memory full, settings, replicas.

use super::*;

/// Its scripts are forgotten, and its connections ended.
#[tokio::test]
async fn server_that_forgets_scripts_and_ends_connections_is_told_again() {
    let Some(server) = Redis::start(&[]) else { return };
    let name = namespace();
    let store = open(&server.url(&name)).await;
    for at in 0..3 {
        server.cli(&["SCRIPT", "FLUSH"]);
        bought(&*store, &format!("r{at}"), &format!("o{at}")).await;
        server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert!(find(&*store, &format!("r{at}")).await.is_some());
    }
    assert_eq!(changes(&server, &name), "6");
}

#[tokio::test]
async fn server_that_is_out_of_memory_is_waited_for() {
    let Some(server) = Redis::start(&[]) else { return };
    let name = namespace();
    let store = open(&server.url(&name)).await;
    done(&*store, accept(&*store, "a").0).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let mut full = store.commit(accept(&*store, "b").0);
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut full).await;
    assert!(waited.is_err(), "{waited:?}");
    assert_eq!(changes(&server, &name), "1");
    // The look before the write still works.
    let said = server.cli(&["INFO", "errorstats"]);
    assert!(said.contains("errorstat_OOM"), "{said}");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(full.await.expect("works"), Committed::Done);
    assert_eq!(changes(&server, &name), "2");
}

#[tokio::test]
async fn settings_that_become_worse_latch_the_store() {
    // While it runs, noticed when the lease is prolonged; or at the next connect.
    for reconnect in [false, true] {
        let Some(server) = Redis::start(&[]) else { return };
        let name = namespace();
        let mut config = config(&server.url(&name));
        if !reconnect {
            config = short(&server.url(&name));
        }
        let store = RedisStore::open(config).await.expect("opens");
        done(&*store, Change::Resume).await;
        server.cli(&["CONFIG", "SET", "appendfsync", "everysec"]);
        if reconnect {
            server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        } else {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let why = latched(&*store, accept(&*store, "late").0).await;
        assert!(why.contains("appendfsync everysec"), "{why}");
        assert_eq!(changes(&server, &name), "1");
    }
}

/// A server without a log, which was accepted: what it loses is noticed, and nothing more is done.
#[tokio::test]
async fn server_that_was_rolled_back_latches_the_store() {
    let Some(server) = Redis::start(&["appendonly no"]) else { return };
    for snapshot in [false, true] {
        let name = namespace();
        let mut config = config(&server.url(&name));
        config.accept_unsynced = true;
        let store = RedisStore::open(config).await.expect("opens");
        done(&*store, accept(&*store, "a").0).await;
        if snapshot {
            server.cli(&["SAVE"]);
        }
        done(&*store, accept(&*store, "b").0).await;
        server.kill();
        server.run();
        let why = latched(&*store, accept(&*store, "c").0).await;
        assert!(why.contains("acknowledged changes are gone"), "{why}");
        assert_eq!(why.contains("it holds 1 and not 2"), snapshot, "{why}");
        assert!(matches!(find_error(&*store).await, StoreError::Failed(_)));
        assert_eq!(changes(&server, &name), if snapshot { "1" } else { "" });
    }
}

async fn find_error(store: &dyn IntentStore) -> StoreError {
    store.find(reference("a")).await.expect_err("latched")
}

/// A replica takes over that lacks the newest changes and the newest lease: the epoch alone would be
/// the same again.
#[tokio::test]
async fn failover_to_a_replica_that_is_behind_is_noticed() {
    let Some(primary) = Redis::start(&[]) else { return };
    let replicaof = format!("replicaof 127.0.0.1 {}", primary.port);
    let replica = Redis::start(&[&replicaof]).expect("the same program");
    let linked = || replica.cli(&["INFO", "replication"]).contains("master_link_status:up");
    while !linked() {
        tokio::task::yield_now().await;
    }
    let (name, proxy) = (namespace(), Proxy::start(primary.port));
    let first = open(&primary.url_at(proxy.port(), &name)).await;
    done(&*first, accept(&*first, "a").0).await;
    first.close().await.expect("closes");
    while changes(&replica, &name) != "1"
        || replica.cli(&["EXISTS", &format!("{{{name}}}:lease")]) != "0"
    {
        tokio::task::yield_now().await;
    }
    // The link breaks; the lease and a change of the next router reach the primary alone.
    primary.cli(&["CONFIG", "SET", "requirepass", "other"]);
    replica.cli(&["CONFIG", "SET", "masterauth", "wrong"]);
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    let old = open(&primary.url_at(proxy.port(), &name)).await;
    done(&*old, accept(&*old, "b").0).await;
    proxy.refuse(true);
    proxy.cut();
    let new = open(&replica.url(&name)).await;
    let epochs = [&old, &new].map(|store| store.lease().expect("it has one").epoch());
    assert_eq!(epochs, [2, 2], "the replica gives the same epoch out again");
    done(&*new, accept(&*new, "c").0).await;
    // The old router comes to the new primary, whose count and epoch are what it expects.
    proxy.turn_to(replica.port);
    proxy.refuse(false);
    let why = latched(&*old, accept(&*old, "d").0).await;
    assert!(why.contains("another router has taken the store over"), "{why}");
    assert_eq!(changes(&replica, &name), "2");
}

#[tokio::test]
async fn batch_is_answered_once_the_replicas_have_it() {
    let Some(primary) = Redis::start(&[]) else { return };
    let replicaof = format!("replicaof 127.0.0.1 {}", primary.port);
    let replica = Redis::start(&[&replicaof]).expect("the same program");
    while !replica.cli(&["INFO", "replication"]).contains("master_link_status:up") {
        tokio::task::yield_now().await;
    }
    let name = namespace();
    let mut config = config(&primary.url(&name));
    config.replicas_min = 1;
    config.reply_timeout = Duration::from_millis(400);
    let store = RedisStore::open(config).await.expect("opens");
    done(&*store, accept(&*store, "a").0).await;
    assert_eq!(changes(&replica, &name), "1");
    replica.pause(true);
    let mut alone = store.commit(accept(&*store, "b").0);
    // Also over a new connection, which has written nothing yet.
    for _ in 0..2 {
        let waited = tokio::time::timeout(Duration::from_millis(500), &mut alone).await;
        assert!(waited.is_err(), "answered, and no replica has it: {waited:?}");
        primary.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }
    replica.pause(false);
    assert_eq!(alone.await.expect("works"), Committed::Done);
    assert_eq!((changes(&primary, &name), changes(&replica, &name)), ("2".into(), "2".into()));
}
