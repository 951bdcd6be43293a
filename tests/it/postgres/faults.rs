//! The database fails in the middle: answers lost, server slow, gone, killed.

use super::*;

/// What the router's row counts: batches and changes.
fn written(server: &Postgres, name: &str) -> String {
    server.sql(&format!("SELECT batch, changes FROM {name}.order_router"))
}

#[tokio::test]
async fn commit_whose_answer_was_lost_is_read_back_and_not_repeated() {
    let Some(server) = Postgres::shared() else { return };
    let (name, proxy) = (schema(), Proxy::start(server.port));
    let store = open(&server.url_at(proxy.port, &name)).await;
    let (taken, taken_id, taken_seq) = accept(&store, "taken");
    let (ours, id, seq) = accept(&store, "ours");
    for change in [taken, ours, placed((taken_id, taken_seq), "o1")] {
        assert_eq!(store.commit(change).await.expect("works"), Committed::Done);
    }
    proxy.lose_answer_to_commit();
    let other = {
        let (Change::Accept { mut intent, attempt }, ..) = accept(&store, "taken") else {
            panic!()
        };
        intent.as_sent = ItemsDigest::as_sent(&[Item::new("b", 1).expect("an item")]);
        Change::Accept { intent, attempt }
    };
    // Whichever of these are one batch, each is told what it did, as if nothing had been lost.
    let all = [
        accept(&store, "new").0,
        accept(&store, "new").0,
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
    let batches = store.stats().syncs;
    assert_eq!(written(&server, &name), format!("{batches}|9"), "written twice, or not at all");
    assert_eq!((store.stats().open, store.stats().ended, store.stats().changes), (1, 2, 9));
}

#[tokio::test]
async fn commit_that_never_arrived_is_repeated() {
    let Some(server) = Postgres::shared() else { return };
    let (name, proxy) = (schema(), Proxy::start(server.port));
    let store = open(&server.url_at(proxy.port, &name)).await;
    // At the first trip, at the commit, and at the question after it.
    for (at, marker) in [&b"BEGIN ISO"[..], b"COMMIT\0"].into_iter().enumerate() {
        proxy.lose_message(marker);
        let told = store.commit(accept(&store, &format!("r{at}")).0).await.expect("works");
        assert_eq!((told, proxy.lost()), (Committed::Done, at + 1));
    }
    assert_eq!(written(&server, &name), "2|2");
    proxy.lose_message(b"SELECT intent");
    assert!(find(&store, "r1").await.is_some());
    assert_eq!(proxy.lost(), 3);
}

#[tokio::test]
async fn server_that_is_slow_is_waited_for_and_what_it_did_is_not_repeated() {
    let Some(server) = Postgres::shared() else { return };
    let (name, proxy) = (schema(), Proxy::start(server.port));
    let mut config = config(&server.url_at(proxy.port, &name));
    config.reply_timeout = Duration::from_millis(300);
    let store = PostgresStore::open(config).await.expect("opens");
    proxy.silence(true);
    let slow = store.commit(accept(&store, "slow").0);
    assert!(tokio::time::timeout(Duration::from_millis(700), slow).await.is_err());
    proxy.silence(false);
    let again = store.commit(accept(&store, "slow").0).await.expect("works");
    assert!(matches!(again, Committed::Joined(_)), "{again:?}");
    let counted = format!("SELECT count(*) FROM {name}.order_intents");
    assert_eq!(server.sql(&counted), "1");
}

#[tokio::test]
async fn server_that_stays_away_latches_the_store() {
    let Some(server) = Postgres::shared() else { return };
    let (name, proxy) = (schema(), Proxy::start(server.port));
    let mut config = config(&server.url_at(proxy.port, &name));
    config.give_up_after = Duration::from_millis(400);
    let store = PostgresStore::open(config).await.expect("opens");
    assert_eq!(store.commit(accept(&store, "a").0).await.expect("works"), Committed::Done);
    proxy.refuse(true);
    proxy.cut();
    let waiting = store.commit(accept(&store, "b").0);
    let behind = store.commit(Change::Resume);
    for told in [waiting.await, behind.await, store.commit(Change::Resume).await] {
        let Err(StoreError::Failed(why)) = &told else { panic!("{told:?}") };
        assert!(why.contains("127.0.0.1") && !why.contains(PASSWORD), "{why}");
    }
    assert!(matches!(store.find(reference("a")).await, Err(StoreError::Failed(_))));
    // Also when the server is back: nobody knows any more what was answered in between.
    proxy.refuse(false);
    assert!(matches!(store.commit(Change::Resume).await, Err(StoreError::Failed(_))));
    assert!(!format!("{store:?}").contains(PASSWORD));
}

#[tokio::test]
async fn connections_that_an_administrator_ends_are_made_anew() {
    let Some(server) = Postgres::shared() else { return };
    let name = schema();
    let store = open(&server.url(&name)).await;
    for at in 0..3 {
        let (change, ..) = accept(&store, &format!("r{at}"));
        assert_eq!(store.commit(change).await.expect("works"), Committed::Done);
        assert!(find(&store, &format!("r{at}")).await.is_some());
        // Whoever waits for a lock in this schema, or names it last, is this store.
        server.sql(&format!(
            "SELECT pg_terminate_backend(a.pid, 1000) FROM pg_stat_activity AS a \
             WHERE a.application_name LIKE (SELECT owner || '%' FROM {name}.order_router)"
        ));
    }
    assert_eq!(written(&server, &name), "3|3");
}

/// Writers at work while the server is killed and started again: what was acknowledged is there,
/// what was in doubt was read back, and nothing was written twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    const WRITERS: usize = 8;
    const KILLS: usize = 2;
    let Some(server) = Postgres::start(&[]) else { return };
    let (server, name) = (Arc::new(server), schema());
    let store = Arc::new(open(&server.url(&name)).await);
    let (count, mut counted) = tokio::sync::watch::channel(0_usize);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, count, stop) = (store.clone(), count.clone(), stop.clone());
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            for at in 0.. {
                let (change, id, seq) = accept(&*store, &format!("w{writer}-{at}"));
                assert_eq!(store.commit(change).await.expect("works"), Committed::Done);
                let order = format!("o{writer}-{at}");
                let told = store.commit(placed((id, seq), &order)).await.expect("works");
                assert_eq!(told, Committed::Done, "{order}");
                acknowledged.push((format!("w{writer}-{at}"), order));
                count.send_modify(|count| *count += 1);
                if stop.load(Ordering::SeqCst) {
                    break;
                }
            }
            acknowledged
        });
    }
    for _ in 0..KILLS {
        let enough = *counted.borrow() + 50;
        counted.wait_for(|count| *count >= enough).await.expect("they are at work");
        let server = server.clone();
        tokio::task::spawn_blocking(move || {
            server.kill();
            server.run();
        })
        .await
        .expect("starts again");
    }
    let enough = *counted.borrow() + 50;
    counted.wait_for(|count| *count >= enough).await.expect("they are at work");
    stop.store(true, Ordering::SeqCst);
    let acknowledged: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    let rows = server.sql(&format!(
        "SELECT client_ref, order_id FROM {name}.order_intents WHERE state = 'placed'"
    ));
    let rows: std::collections::BTreeSet<_> = rows.lines().collect();
    assert_eq!(rows.len(), acknowledged.len());
    for (reference, order) in &acknowledged {
        assert!(rows.contains(format!("{reference}|{order}").as_str()), "{reference} is lost");
    }
    let changes = 2 * acknowledged.len();
    assert!(written(&server, &name).ends_with(&format!("|{changes}")), "written twice");
    eprintln!("{} acknowledged over {KILLS} kills", acknowledged.len());
}
