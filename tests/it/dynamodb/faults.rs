//! The server fails in the middle: answers lost, slow, gone, killed; the lease taken over.

use super::*;

/// A batch, in a request's headers; taking the lease is one as well.
const BATCH: &[u8] = b"TransactWriteItems";
/// Any answer.
const ANSWER: &[u8] = b"HTTP/1.";

async fn through_a_proxy(server: &DynamoDb) -> (Proxy, Raw, Store) {
    let (name, proxy) = (table(), Proxy::start(server.port));
    let store = made(&dynamodb_at(proxy.port, &name)).await;
    (proxy, Raw::at(server.port, &name), store)
}

/// With a service that knows a repeated batch by its token, and with one that has forgotten it.
#[tokio::test]
async fn batch_whose_answer_was_lost_is_in_once() {
    for options in [&[][..], &["no-tokens"]] {
        let Some(server) = DynamoDb::start(options) else { return };
        let (proxy, raw, store) = through_a_proxy(&server).await;
        let (change, id, seq) = accept(&*store, "a");
        proxy.lose_answer(BATCH, ANSWER);
        done(&*store, change).await;
        assert_eq!(proxy.lost(), 1);
        assert_eq!(raw.number("meta", "change_count").await, 1);
        // Its body expires: a repeated batch says the same moment.
        proxy.lose_answer(BATCH, ANSWER);
        done(&*store, placed((id, seq), "o1")).await;
        assert_eq!(proxy.lost(), 2);
        assert_eq!(raw.number("meta", "change_count").await, 2);
        assert_eq!(raw.named("ref").await, ["order_router/ref/a"]);
        assert_eq!(raw.named("order/").await, ["order_router/order/o1"]);
        assert_eq!((store.stats().open, store.stats().ended, store.stats().changes), (0, 1, 2));
    }
}

#[tokio::test]
async fn batch_that_never_arrived_is_repeated() {
    let Some(server) = DynamoDb::shared() else { return };
    let (proxy, raw, store) = through_a_proxy(&server).await;
    for (at, marker) in [BATCH, b"BatchGetItem"].into_iter().enumerate() {
        proxy.lose_message(marker);
        done(&*store, accept(&*store, &format!("r{at}")).0).await;
        assert_eq!(proxy.lost(), at + 1);
    }
    assert_eq!(raw.number("meta", "change_count").await, 2);
    proxy.lose_message(b"BatchGetItem");
    assert!(find(&*store, "r1").await.is_some());
    assert_eq!(proxy.lost(), 3);
}

#[tokio::test]
async fn server_that_is_slow_is_waited_for_and_what_it_did_is_not_repeated() {
    let Some(server) = DynamoDb::shared() else { return };
    let (name, proxy) = (table(), Proxy::start(server.port));
    let mut config = config(&dynamodb_at(proxy.port, &name));
    create_table(&config).await.expect("makes the table");
    config.reply_timeout = Duration::from_millis(400);
    config.lease.length = Duration::from_secs(20);
    let store = dynamodb::open(config).await.expect("opens");
    proxy.silence(true);
    let slow = store.commit(accept(&*store, "slow").0);
    assert!(tokio::time::timeout(Duration::from_millis(900), slow).await.is_err());
    proxy.silence(false);
    let again = store.commit(accept(&*store, "slow").0).await.expect("works");
    assert!(matches!(again, Committed::Joined(_)), "{again:?}");
    assert_eq!(Raw::at(server.port, &name).number("meta", "change_count").await, 1);
}

/// The lease was not renewed, as when its holder's machine stood still: another watches it end,
/// takes over, and what the first still writes is refused whole.
#[tokio::test]
async fn former_holder_writes_nothing_after_another_took_over() {
    let Some(server) = DynamoDb::shared() else { return };
    let (proxy, raw, first) = through_a_proxy(&server).await;
    let (change, id, seq) = accept(&*first, "mine");
    done(&*first, change).await;
    let lease = first.lease().expect("it has one");
    assert!(lease.may_send() && lease.epoch() == 1);
    proxy.refuse(true);
    proxy.cut();
    let direct = server.url(&raw.1);
    let begun = std::time::Instant::now();
    let second = dynamodb::open(config(&direct)).await.expect("the lease has ended");
    let length = config(&direct).lease.length;
    assert!(begun.elapsed() >= length, "taken after {:?}", begun.elapsed());
    assert!(!lease.may_send(), "both may send");
    assert_eq!(second.lease().expect("it has one").epoch(), 2);
    proxy.refuse(false);
    let before = raw.all().await.len();
    let late = first.commit(placed((id, seq), "o1")).await;
    let Err(StoreError::Failed(why)) = late else { panic!("{late:?}") };
    assert!(why.contains("another router has taken the store over"), "{why}");
    assert_eq!(raw.all().await.len(), before, "something of it is left");
    assert!(!lease.may_send() && lease.left() == Duration::ZERO);
    assert!(matches!(find(&*second, "mine").await.expect("there").state, State::Sending(_)));
    done(&*second, placed((id, seq), "o1")).await;
    assert!(matches!(first.commit(Change::Resume).await, Err(StoreError::Failed(_))));
}

/// The fence does not need the lease to have ended.
#[tokio::test]
async fn batch_of_an_epoch_that_is_not_the_newest_is_refused() {
    let Some(server) = DynamoDb::shared() else { return };
    let name = table();
    let store = made(&server.url(&name)).await;
    let raw = Raw::at(server.port, &name);
    raw.set("meta", "lease_epoch", 2).await;
    let late = store.commit(accept(&*store, "late").0).await;
    let told = matches!(&late, Err(StoreError::Failed(why)) if why.contains("epoch is 2"));
    assert!(told, "{late:?}");
    assert_eq!(raw.named("ref").await, [""; 0]);
    assert_eq!(raw.number("meta", "change_count").await, 0);
}

/// A table restored from a backup holds fewer changes than were acknowledged.
#[tokio::test]
async fn table_that_was_rolled_back_is_seen() {
    let Some(server) = DynamoDb::shared() else { return };
    let name = table();
    let store = made(&server.url(&name)).await;
    done(&*store, accept(&*store, "a").0).await;
    done(&*store, accept(&*store, "b").0).await;
    Raw::at(server.port, &name).set("meta", "change_count", 1).await;
    let late = store.commit(accept(&*store, "c").0).await;
    let told = matches!(&late, Err(StoreError::Failed(why)) if why.contains("holds 1 changes"));
    assert!(told, "{late:?}");
}

/// A reference or a claim that somebody else put: the batch is refused whole.
#[tokio::test]
async fn reference_or_claim_of_another_writer_is_not_written_over() {
    let Some(server) = DynamoDb::shared() else { return };
    for kind in ["ref/a", "order/o1"] {
        let name = table();
        let store = made(&server.url(&name)).await;
        let raw = Raw::at(server.port, &name);
        let (first, id, seq) = accept(&*store, "a");
        let proxy_put = || async {
            let put = raw.0.put_item().table_name(&name);
            let put = put.item("pk", AttributeValue::S(format!("order_router/{kind}")));
            let put = put.item("sk", AttributeValue::S("-".into()));
            let value = AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new("else"));
            put.item("sealed_value", value).send().await.expect("put");
        };
        let late = if kind == "ref/a" {
            proxy_put().await;
            store.commit(first).await
        } else {
            done(&*store, first).await;
            proxy_put().await;
            store.commit(placed((id, seq), "o1")).await
        };
        // What it finds there is not sealed: it does not go on, and writes nothing over it.
        assert!(matches!(&late, Err(StoreError::Failed(_))), "{late:?}");
        let left = raw.item(kind).await;
        assert_eq!(left["sealed_value"].as_b().expect("bytes").as_ref(), b"else");
    }
}

/// The local server keeps all in memory: a killed one comes back without the table. Whatever is
/// missing, the store does not go on as if nothing had been.
#[tokio::test]
async fn store_stops_where_a_killed_server_forgot_what_was_acknowledged() {
    for made_anew in [false, true] {
        let Some(server) = DynamoDb::start(&[]) else { return };
        let url = server.url("orders");
        let store = made(&url).await;
        done(&*store, accept(&*store, "a").0).await;
        server.kill();
        let waiting = store.commit(accept(&*store, "b").0);
        server.run();
        if made_anew {
            // Quick enough or not: either way something is missing.
            create_table(&config(&url)).await.expect("makes the table");
        }
        for told in [waiting.await, store.commit(Change::Resume).await] {
            let Err(StoreError::Failed(why)) = &told else { panic!("{told:?}") };
            let named = why.contains("not found") || why.contains("gone");
            assert!(named && why.contains("127.0.0.1") && !why.contains("canary"), "{why}");
        }
        assert!(matches!(store.find(reference("a")).await, Err(StoreError::Failed(_))));
    }
}
