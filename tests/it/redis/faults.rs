//! The server fails in the middle: answers lost, server slow, gone, killed, rolled back.

use super::*;

/// A batch is written by a script that names this key.
const WRITE: &[u8] = b":claimed";

/// What a batch that is in is answered with.
const IN: &[u8] = b"\r\nin\r\n";

#[tokio::test]
async fn write_whose_answer_was_lost_is_in_once() {
    let Some(server) = Redis::shared() else { return };
    let (name, proxy) = (namespace(), Proxy::start(server.port));
    let store = open(&server.url_at(proxy.port, &name)).await;
    let (taken, taken_id, taken_seq) = accept(&*store, "taken");
    let (ours, id, seq) = accept(&*store, "ours");
    for change in [taken, ours, placed((taken_id, taken_seq), "o1")] {
        done(&*store, change).await;
    }
    let other = {
        let (Change::Accept { mut intent, attempt }, ..) = accept(&*store, "taken") else {
            panic!()
        };
        intent.as_sent = ItemsDigest::as_sent(&[Item::new("b", 1).expect("an item")]);
        Change::Accept { intent, attempt }
    };
    proxy.lose_answer(WRITE, IN);
    // Whichever of these are one batch, each is told what it did, as if nothing had been lost.
    let all = [
        accept(&*store, "new").0,
        accept(&*store, "new").0,
        other,
        placed((id, seq), "o1"),
        placed((id, seq), "o2"),
        placed((id, seq), "o3"),
    ]
    .map(|change| store.commit(change));
    let mut told = Vec::new();
    for one in all {
        told.push(one.await.expect("works"));
    }
    assert!(matches!(&told[1], Committed::Joined(_)), "{told:?}");
    assert!(matches!(&told[3], Committed::IdTaken(claim) if claim.intent == taken_id), "{told:?}");
    let plain = [&told[0], &told[2], &told[4], &told[5]];
    use Committed::{Conflict, Done, Stale};
    assert_eq!(plain, [&Done, &Conflict, &Done, &Stale]);
    assert_eq!(proxy.lost(), 1);
    assert_eq!(changes(&server, &name), "5", "written twice, or not at all");
    assert_eq!((store.stats().open, store.stats().ended), (1, 2));
}

#[tokio::test]
async fn message_that_never_arrived_is_repeated() {
    let Some(server) = Redis::shared() else { return };
    let (name, proxy) = (namespace(), Proxy::start(server.port));
    let store = open(&server.url_at(proxy.port, &name)).await;
    // The look before the write, the write, and a question.
    proxy.lose_message(b":r:r0");
    done(&*store, accept(&*store, "r0").0).await;
    assert_eq!(proxy.lost(), 1);
    proxy.lose_message(WRITE);
    done(&*store, accept(&*store, "r1").0).await;
    assert_eq!((proxy.lost(), changes(&server, &name).as_str()), (2, "2"));
    proxy.lose_message(b":b:r1");
    assert!(find(&*store, "r1").await.is_some());
    assert_eq!(proxy.lost(), 3);
}

#[tokio::test]
async fn server_that_is_slow_is_waited_for_and_what_it_did_is_not_repeated() {
    let Some(server) = Redis::shared() else { return };
    let (name, proxy) = (namespace(), Proxy::start(server.port));
    let mut config = config(&server.url_at(proxy.port, &name));
    config.reply_timeout = Duration::from_millis(300);
    let store = RedisStore::open(config).await.expect("opens");
    done(&*store, Change::Resume).await;
    proxy.silence(true);
    let slow = store.commit(accept(&*store, "slow").0);
    assert!(tokio::time::timeout(Duration::from_millis(700), slow).await.is_err());
    proxy.silence(false);
    let again = store.commit(accept(&*store, "slow").0).await.expect("works");
    assert!(matches!(again, Committed::Joined(_)), "{again:?}");
    assert_eq!(changes(&server, &name), "2");
}

/// A connection that hangs is thrown away before the lease ends.
#[tokio::test]
async fn lease_outlives_connections_that_hang_or_are_cut() {
    let Some(server) = Redis::shared() else { return };
    let (name, proxy) = (namespace(), Proxy::start(server.port));
    let mut config = short(&server.url_at(proxy.port, &name));
    config.lease.length = Duration::from_millis(1500);
    let store = RedisStore::open(config).await.expect("opens");
    let lease = store.lease().expect("it has one");
    for _ in 0..4 {
        proxy.cut();
        prolonged(&lease).await;
    }
    // No answer for a third of it, and the connection is not what the next one waits for.
    proxy.silence(true);
    tokio::time::sleep(Duration::from_millis(600)).await;
    proxy.refuse(true);
    proxy.cut();
    proxy.silence(false);
    proxy.refuse(false);
    prolonged(&lease).await;
}

/// Waits until a lease lasts longer than it did a moment ago.
async fn prolonged(lease: &Lease) {
    let mut before = lease.left();
    loop {
        let left = lease.left();
        if left > before {
            return;
        }
        assert!(lease.may_send(), "lost");
        before = left;
        tokio::task::yield_now().await;
    }
}

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

/// Writers at work while the server is killed and started again: what was acknowledged is there,
/// and nothing was written twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    const WRITERS: usize = 8;
    const KILLS: usize = 3;
    let Some(server) = Redis::start(&[]) else { return };
    let (server, name) = (Arc::new(server), namespace());
    let store = open(&server.url(&name)).await;
    let (count, mut counted) = tokio::sync::watch::channel(0_usize);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, count, stop) = (store.clone(), count.clone(), stop.clone());
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            for at in 0.. {
                let (reference, order) = (format!("w{writer}-{at}"), format!("o{writer}-{at}"));
                bought(&*store, &reference, &order).await;
                acknowledged.push((reference, order));
                count.send_modify(|count| *count += 1);
                if stop.load(Ordering::SeqCst) {
                    break;
                }
            }
            acknowledged
        });
    }
    for _ in 0..KILLS {
        let enough = *counted.borrow() + 100;
        counted.wait_for(|count| *count >= enough).await.expect("they are at work");
        let server = server.clone();
        let again = tokio::task::spawn_blocking(move || {
            server.kill();
            server.run();
        });
        again.await.expect("starts again");
    }
    let enough = *counted.borrow() + 100;
    counted.wait_for(|count| *count >= enough).await.expect("they are at work");
    stop.store(true, Ordering::SeqCst);
    let acknowledged: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    assert_eq!(changes(&server, &name), (2 * acknowledged.len()).to_string(), "written twice");
    store.close().await.expect("closes");
    // As another router finds it.
    let store = open(&server.url(&name)).await;
    for (reference, order) in &acknowledged {
        let stored = find(&*store, reference).await;
        let Some(State::Placed { id, .. }) = stored.map(|stored| stored.state) else {
            panic!("{reference} is lost");
        };
        assert_eq!(id.as_str(), order);
    }
    eprintln!("{} acknowledged over {KILLS} kills", acknowledged.len());
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
    let first = open(&primary.url_at(proxy.port, &name)).await;
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
    let old = open(&primary.url_at(proxy.port, &name)).await;
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
