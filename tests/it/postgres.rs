//! The store in Postgres, against a server of the tests' own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use order_router::protocol::{
    Attempt, Change, Fingerprint, Learnt, NewIntent, Serial, State, Verdict,
};
use order_router::store::postgres::{PostgresConfig, PostgresError, PostgresStore};
use order_router::store::{Committed, Durability, IntentStore, StoreError, Stored};
use order_router::{ClientRef, EchoProfile, Item, ItemsDigest, ItemsHash, OrderId};

use super::servers::{PASSWORD, Postgres, free_port};

mod opening;

/// A schema that nobody had before.
fn schema() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn config(url: &str) -> PostgresConfig {
    PostgresConfig::new(url).expect("a URL")
}

async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(config(url)).await.expect("opens")
}

pub(crate) fn reference(text: &str) -> ClientRef {
    ClientRef::new(text).expect("a reference")
}

pub(crate) fn accept(store: &dyn IntentStore, name: &str) -> (Change, Serial, Serial) {
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

pub(crate) fn placed((intent, attempt): (Serial, Serial), id: &str) -> Change {
    let id = OrderId::new(id).expect("an id");
    let verdict = Verdict::Placed { id, learnt: Learnt::Answer, created_at: None };
    Change::Decide { intent, attempt, verdict }
}

pub(crate) async fn find(store: &dyn IntentStore, name: &str) -> Option<Stored> {
    store.find(reference(name)).await.expect("works")
}

#[tokio::test]
async fn changes_of_one_intent_in_one_batch_follow_one_another() {
    let Some(server) = Postgres::shared() else { return };
    let name = schema();
    let store = open(&server.url(&name)).await;
    let (accepted, id, seq) = accept(&store, "r");
    let again = accept(&store, "r").0;
    let decide = |attempt, verdict| Change::Decide { intent: id, attempt, verdict };
    let second = Attempt { seq: store.next_serial(), fingerprint: Fingerprint(7), floor: None };
    // Handed over at once and polled afterwards: what waits is one transaction.
    let all = [
        accepted,
        again,
        decide(seq, Verdict::InDoubt("a".into())),
        decide(seq, Verdict::Absent),
        decide(seq, Verdict::Held("late".into())),
        Change::Record { intent: id, attempt: second },
        decide(seq, Verdict::Held("old".into())),
        decide(second.seq, Verdict::Held("odd \0 \\0 \u{10ffff}".into())),
    ]
    .map(|change| store.commit(change));
    let mut told = Vec::new();
    for one in all {
        told.push(match one.await.expect("works") {
            Committed::Joined(stored) => {
                assert_eq!(stored.id, id);
                Committed::Conflict
            }
            other => other,
        });
    }
    use Committed::{Conflict as Joined, Done, Stale};
    assert_eq!(told, [Done, Joined, Done, Done, Stale, Done, Stale, Done]);
    let stored = find(&store, "r").await.expect("there");
    assert_eq!(stored.state, State::Held(second, "odd \0 \\0 \u{10ffff}".into()));
    assert_eq!((stored.tries, store.stats().open, store.stats().ended), (1, 1, 0));
    let batches: u64 =
        server.sql(&format!("SELECT batch FROM {name}.order_router")).parse().unwrap();
    assert_eq!(batches, store.stats().syncs);
    assert!(batches < 8, "{batches} batches");
}

/// Many intents that have ended, and few that have not: a start and a guard read the few.
#[tokio::test]
async fn open_intents_are_found_by_an_index_of_their_own() {
    let Some(server) = Postgres::shared() else { return };
    let name = schema();
    let store = open(&server.url(&name)).await;
    for at in 0..200 {
        let (change, id, seq) = accept(&store, &format!("r{at}"));
        drop(store.commit(change));
        if at >= 5 {
            drop(store.commit(placed((id, seq), &format!("o{at}"))));
        }
    }
    assert_eq!(store.rehydrate().await.map(|_| ()).map_err(|e| e.to_string()), Ok(()));
    store.commit(Change::Resume).await.expect("works");
    let found = store.rehydrate().await.expect("works").intents;
    assert_eq!((found.len(), store.stats().open, store.stats().ended), (5, 5, 195));
    // Many times as many, by the server itself.
    server.sql(&format!(
        "INSERT INTO {name}.order_intents (client_ref, order_id, items_hash, as_sent, state, \
         active, id, changed, intent) SELECT 'x' || n, 'x' || n, i.items_hash, i.as_sent, \
         'placed', false, 1000000 + n, 1, i.intent FROM {name}.order_intents AS i, \
         generate_series(1, 20000) AS n WHERE i.client_ref = 'r0'; ANALYZE {name}.order_intents"
    ));
    let plan = |query: &str| server.sql(&format!("SET search_path = {name}; EXPLAIN {query}"));
    let open = plan("SELECT intent FROM order_intents WHERE active");
    assert!(open.contains("order_intents_active"), "{open}");
    let one = plan("UPDATE order_intents SET state = 'held' WHERE id = 7 AND active");
    assert!(one.contains("order_intents_active"), "{one}");
    let known = plan(
        "SELECT intent FROM order_intents WHERE order_id IS NOT NULL AND ended_at >= 300 \
         ORDER BY ended_at, changed",
    );
    assert!(known.contains("order_intents_claimed"), "{known}");
    let pages = format!(
        "SELECT pg_relation_size('{name}.order_intents_active') < \
         pg_relation_size('{name}.order_intents_pkey') / 20"
    );
    assert_eq!(server.sql(&pages), "t", "the index of open intents grows with ended ones");
    assert_eq!(store.rehydrate().await.expect("works").intents.len(), 5);
}

/// The same where the lock does not tell: only the router's row does.
#[tokio::test]
async fn writer_that_lost_the_routers_row_writes_nothing_more() {
    let Some(server) = Postgres::shared() else { return };
    let name = schema();
    let store = open(&server.url(&name)).await;
    assert_eq!(store.commit(accept(&store, "a").0).await.expect("works"), Committed::Done);
    server.sql(&format!("UPDATE {name}.order_router SET owner = 'another'"));
    let late = store.commit(accept(&store, "b").0).await;
    let Err(StoreError::Failed(why)) = &late else { panic!("{late:?}") };
    assert!(why.contains("took") && why.contains("127.0.0.1"), "{why}");
    assert_eq!(server.sql(&format!("SELECT client_ref FROM {name}.order_intents")), "a");
}

/// A writer that is no router of ours claims an order at the same moment.
#[tokio::test]
async fn claim_that_another_session_commits_first_is_seen() {
    let Some(server) = Postgres::shared() else { return };
    let name = schema();
    let store = open(&server.url(&name)).await;
    let (change, id, seq) = accept(&store, "ours");
    assert_eq!(store.commit(change).await.expect("works"), Committed::Done);
    let (change, other, _) = accept(&store, "theirs");
    assert_eq!(store.commit(change).await.expect("works"), Committed::Done);
    let (table, other) = (format!("{name}.order_intents"), other.0);
    let server_too = server.clone();
    let rival = tokio::task::spawn_blocking(move || {
        server_too.sql(&format!(
            "BEGIN; UPDATE {table} SET state = 'placed', learnt = 1, order_id = 'one', \
             active = false WHERE id = {other}; SELECT pg_sleep(0.4); COMMIT"
        ))
    });
    let held =
        format!("SELECT count(*) FROM pg_locks WHERE relation = '{name}.order_intents'::regclass");
    while server.sql(&held) == "0" {}
    let told = store.commit(placed((id, seq), "one")).await.expect("works");
    rival.await.unwrap();
    let Committed::IdTaken(claim) = told else { panic!("{told:?}") };
    assert_eq!((claim.intent.0, claim.learnt), (other, Learnt::List));
    assert!(matches!(find(&store, "ours").await.expect("there").state, State::Sending(_)));
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
    let written = server.sql(&format!("SELECT batch, changes FROM {name}.order_router"));
    assert_eq!(written, "3|3");
    assert!(!format!("{store:?}").contains(PASSWORD));
}
