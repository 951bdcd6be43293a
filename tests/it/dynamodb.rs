//! The store in DynamoDB, against a local server of the tests' own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use order_router::protocol::{
    Attempt, Change, Fingerprint, Learnt, NewIntent, Serial, State, Verdict,
};
use order_router::store::dynamodb::{
    self, Credentials, DynamoDbConfig, DynamoDbError, create_table,
};
use order_router::store::{Committed, Durability, IntentStore, LeaseTerms, StoreError, Stored};
use order_router::testing::conformance::Store;
use order_router::{ClientRef, EchoProfile, Item, ItemsDigest, ItemsHash, OrderId};

use super::servers::{DynamoDb, SECRET_KEY, dynamodb_at, free_port};

mod faults;
mod opening;

/// A table that nobody had before.
fn table() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn keys() -> Credentials {
    Credentials::new("AKIATEST", SECRET_KEY, Some("canary-token".into()), None, "tests")
}

/// Short terms, so that the end of a lease is waited for.
fn config(url: &str) -> DynamoDbConfig {
    let mut config = DynamoDbConfig::new(url).expect("a URL").credentials(keys());
    config.lease = LeaseTerms {
        length: Duration::from_millis(1_500),
        margin: Duration::from_millis(100),
        pause_max: Duration::ZERO,
    };
    config
}

/// Makes a table, and opens a store in it.
async fn made(url: &str) -> Store {
    create_table(&config(url)).await.expect("makes the table");
    dynamodb::open(config(url)).await.expect("opens")
}

fn reference(text: &str) -> ClientRef {
    ClientRef::new(text).expect("a reference")
}

fn accept(store: &dyn IntentStore, name: &str) -> (Change, Serial, Serial) {
    let items = [Item::new("a", 1).expect("an item")];
    let (id, seq) = (store.next_serial(), store.next_serial());
    let intent = NewIntent {
        id,
        client_ref: reference(name),
        lane: ItemsHash::of(&items, EchoProfile::default()),
        as_sent: ItemsDigest::as_sent(&items),
        delivered: ItemsDigest::delivered(&items, false),
        items: items.into(),
        good_until: Timestamp::MAX,
        accepted_at: Timestamp::UNIX_EPOCH,
    };
    let attempt = Attempt { seq, fingerprint: Fingerprint(u64::MAX), floor: None };
    (Change::Accept { intent, attempt: Some(attempt) }, id, seq)
}

fn placed((intent, attempt): (Serial, Serial), id: &str) -> Change {
    let id = OrderId::new(id).expect("an id");
    let verdict = Verdict::Placed { id, learnt: Learnt::Answer, created_at: None };
    Change::Decide { intent, attempt, verdict }
}

async fn done(store: &dyn IntentStore, change: Change) {
    assert_eq!(store.commit(change).await.expect("works"), Committed::Done);
}

async fn find(store: &dyn IntentStore, name: &str) -> Option<Stored> {
    store.find(reference(name)).await.expect("works")
}

/// Looks at a table past the store.
pub(crate) struct Raw(Client, String);

type Found = HashMap<String, AttributeValue>;

impl Raw {
    pub(crate) fn at(port: u16, table: &str) -> Self {
        let settings = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::new("eu-central-1"))
            .endpoint_url(format!("http://127.0.0.1:{port}"))
            .credentials_provider(keys());
        Self(Client::from_conf(settings.build()), table.to_owned())
    }

    /// Everything, by partition and sort key.
    async fn all(&self) -> Vec<Found> {
        let mut pages = self.0.scan().table_name(&self.1).into_paginator().items().send();
        let mut found = Vec::new();
        while let Some(item) = pages.next().await {
            found.push(item.expect("scans"));
        }
        found
    }

    /// The partition keys after the namespace, of those that begin so.
    async fn named(&self, kind: &str) -> Vec<String> {
        let begin = format!("order_router/{kind}");
        let name = |item: &Found| item["pk"].as_s().expect("a key").clone();
        let all = self.all().await;
        let mut named: Vec<_> = all.iter().map(name).filter(|n| n.starts_with(&begin)).collect();
        named.sort();
        named
    }

    async fn item(&self, kind: &str) -> Found {
        let asked = self.0.get_item().table_name(&self.1);
        let asked = asked.key("pk", AttributeValue::S(format!("order_router/{kind}")));
        let asked = asked.key("sk", AttributeValue::S("-".into()));
        asked.send().await.expect("works").item.expect("there")
    }

    async fn set(&self, kind: &str, name: &str, value: u64) {
        let asked = self.0.update_item().table_name(&self.1);
        let asked = asked.key("pk", AttributeValue::S(format!("order_router/{kind}")));
        let asked = asked.key("sk", AttributeValue::S("-".into()));
        let asked = asked.update_expression(format!("SET {name} = :value"));
        let value = AttributeValue::N(value.to_string());
        asked.expression_attribute_values(":value", value).send().await.expect("works");
    }

    /// A number of the namespace's or the lease's item.
    pub(crate) async fn number(&self, kind: &str, name: &str) -> u64 {
        self.item(kind).await[name].as_n().expect("a number").parse().expect("a number")
    }
}

/// What expires, and what never does.
#[tokio::test]
async fn only_the_lines_of_ended_orders_expire() {
    let Some(server) = DynamoDb::shared() else { return };
    let (name, raw) = {
        let name = table();
        (name.clone(), Raw::at(server.port, &name))
    };
    let store = made(&server.url(&name)).await;
    let (change, id, seq) = accept(&*store, "ended");
    done(&*store, change).await;
    done(&*store, placed((id, seq), "o1")).await;
    done(&*store, accept(&*store, "open").0).await;
    done(&*store, Change::Resume).await;
    let expiring = |items: &[Found]| -> Vec<(String, i64)> {
        let expiring = items.iter().filter_map(|item| {
            let at = item.get("expires_at")?.as_n().expect("a number").parse().expect("one");
            Some((item["pk"].as_s().expect("a key").clone(), at))
        });
        expiring.collect()
    };
    let found = expiring(&raw.all().await);
    let [(body, at)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(body, "order_router/body/ended");
    let in_a_day = jiff::Timestamp::now().as_second() + 24 * 60 * 60;
    assert!((in_a_day - 120..=in_a_day).contains(at), "{at}, not {in_a_day}");
    assert_eq!(find(&*store, "ended").await.expect("there").items.len(), 1);
    // As the service does in its own time.
    let gone = raw.0.delete_item().table_name(&name);
    let gone = gone.key("pk", AttributeValue::S(body.clone()));
    gone.key("sk", AttributeValue::S("-".into())).send().await.expect("deleted");
    let bare = find(&*store, "ended").await.expect("there");
    assert!(bare.items.is_empty() && matches!(bare.state, State::Placed { .. }), "{bare:?}");
    let claims = store.claims(vec![OrderId::new("o1").expect("an id")]).await.expect("works");
    assert_eq!(claims[0].as_ref().expect("claimed").intent, id);
    let (again, ..) = accept(&*store, "ended");
    assert!(matches!(store.commit(again).await, Ok(Committed::Joined(_))));
    assert_eq!(find(&*store, "open").await.expect("there").items.len(), 1);
    assert_eq!(raw.named("active").await.len(), 1, "ended ones are read at every start");
}

/// An account of many orphans is larger than an item may be.
#[tokio::test]
async fn account_of_any_size_is_kept_whole_and_former_ones_are_deleted() {
    let Some(server) = DynamoDb::shared() else { return };
    let (name, raw) = {
        let name = table();
        (name.clone(), Raw::at(server.port, &name))
    };
    let store = made(&server.url(&name)).await;
    let long = "x".repeat(220);
    let orphans: Vec<_> = (0..3_000).map(|at| format!("{at:05}{long}")).collect();
    for some in orphans.chunks(60) {
        let ids = some.iter().map(|id| OrderId::new(id).expect("an id")).collect();
        done(&*store, Change::Orphans { ids, why: "a test".into() }).await;
    }
    let found = store.rehydrate().await.expect("works").orphans;
    assert!(found.iter().map(ToString::to_string).eq(orphans.iter().cloned()), "{}", found.len());
    let pieces = raw.named("account").await.len();
    assert!((3..=4).contains(&pieces), "{pieces} pieces");
    store.close().await.expect("closes");
    let store = dynamodb::open(config(&server.url(&name))).await.expect("opens");
    assert_eq!(store.rehydrate().await.expect("works").orphans.len(), orphans.len());
}
