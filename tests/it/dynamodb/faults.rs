//! What only DynamoDB shows in the middle: items put and changed past the store, a table made anew.

use super::*;

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

/// A killed local server comes back without the table, which somebody makes anew, quick enough or
/// not: either way something is missing, and the store says what.
#[tokio::test]
async fn store_stops_where_a_table_that_was_lost_is_made_anew() {
    let Some(server) = DynamoDb::start(&[]) else { return };
    let url = server.url("orders");
    let store = made(&url).await;
    done(&*store, accept(&*store, "a").0).await;
    server.kill();
    let waiting = store.commit(accept(&*store, "b").0);
    server.run();
    create_table(&config(&url)).await.expect("makes the table");
    for told in [waiting.await, store.commit(Change::Resume).await] {
        let Err(StoreError::Failed(why)) = &told else { panic!("{told:?}") };
        let named = why.contains("not found") || why.contains("gone");
        assert!(named && why.contains("127.0.0.1") && !why.contains("canary"), "{why}");
    }
}
