//! Orders that move from store to store: everything that the rules need arrives, and at most one of
//! the two can be bought with at any moment.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use order_router::protocol::{
    Attempt, Change, Fingerprint, IntentId, Learnt, NewIntent, Serial, Shape, State, Verdict, Why,
};
use order_router::runtime::Runtime;
use order_router::store::dynamodb::{self, Credentials, DynamoDbConfig};
use order_router::store::migrate::{MigrateError, Progress, Report, Side, Step, migrate, reopen};
use order_router::store::postgres::{PostgresConfig, PostgresStore};
use order_router::store::redis::{RedisConfig, RedisStore};
use order_router::store::{
    Bookmark, Committed, EmbeddedConfig, EmbeddedStore, IndexMode, IntentStore, LeaseTerms, Mark,
    MemoryStore, Rehydration, Stored, redb,
};
use order_router::{ClientRef, EchoProfile, Item, ItemsDigest, ItemsHash, Note, OrderId};

use super::servers::{DynamoDb, Postgres, Redis};

const WHY: Why = Why::Borrowed("test");

type Store = Arc<dyn IntentStore>;

fn reference(name: &str) -> ClientRef {
    ClientRef::new(name).unwrap()
}

fn moment(second: i64) -> Timestamp {
    Timestamp::new(1_900_000_000 + second, 7).unwrap()
}

/// An order of two lines, one with a note.
fn intent(store: &dyn IntentStore, name: &str, product: &str) -> NewIntent {
    let note = Note::new(&serde_json::json!({ "player": "nul\u{0}\\ ünï" })).unwrap();
    let items = [Item::new(product, 2).unwrap(), Item::new("other", 1).unwrap().note(note)];
    NewIntent {
        id: store.next_serial(),
        client_ref: reference(name),
        lane: ItemsHash::of(&items, EchoProfile::default()),
        as_sent: ItemsDigest::as_sent(&items),
        delivered: ItemsDigest::delivered(&items, false),
        items: items.into(),
        good_until: moment(100),
        accepted_at: moment(0),
    }
}

async fn done(store: &dyn IntentStore, change: Change) {
    let what = format!("{change:?}");
    assert_eq!(store.commit(change).await.unwrap(), Committed::Done, "{what}");
}

async fn sending(store: &dyn IntentStore, name: &str, product: &str) -> (IntentId, Serial) {
    let intent = intent(store, name, product);
    let seq = store.next_serial();
    let attempt = Attempt { seq, fingerprint: Fingerprint(u64::MAX - 7), floor: Some(moment(-9)) };
    let ids = (intent.id, seq);
    done(store, Change::Accept { intent, attempt: Some(attempt) }).await;
    ids
}

async fn decide(store: &dyn IntentStore, ids: (IntentId, Serial), verdict: Verdict) {
    done(store, Change::Decide { intent: ids.0, attempt: ids.1, verdict }).await;
}

fn placed(id: &str, learnt: Learnt) -> Verdict {
    Verdict::Placed { id: OrderId::new(id).unwrap(), learnt, created_at: Some(moment(5)) }
}

/// One intent in every state, more than a page of ended ones, and all that an account can have.
async fn fill(store: &dyn IntentStore, ended: usize) {
    for n in 0..ended {
        let ids = sending(store, &format!("many-{n}"), &format!("product-{}", n % 13)).await;
        decide(store, ids, placed(&format!("order-{n}"), Learnt::Answer)).await;
    }
    let queued = intent(store, "queued", "a");
    done(store, Change::Accept { intent: queued, attempt: None }).await;
    sending(store, "sending", "b").await;
    let twice = sending(store, "doubt", "a").await;
    decide(store, twice, Verdict::Absent).await;
    let seq = store.next_serial();
    let attempt = Attempt { seq, fingerprint: Fingerprint(3), floor: None };
    done(store, Change::Record { intent: twice.0, attempt }).await;
    decide(store, (twice.0, seq), Verdict::InDoubt(WHY)).await;
    for (name, verdict) in [
        ("held", Verdict::Held(WHY)),
        ("listed", placed("listed-1", Learnt::List)),
        ("settled", placed("listed-2", Learnt::List)),
        ("person", placed("a\\b\u{0}", Learnt::Person)),
        ("placed", placed("answered", Learnt::Answer)),
        ("refused", Verdict::Refused(WHY)),
        ("not-placed", Verdict::NotPlaced(WHY)),
        ("again", Verdict::NotSent(WHY)),
    ] {
        let ids = sending(store, name, "a").await;
        decide(store, ids, verdict).await;
        if name == "settled" {
            done(store, Change::Settle { intent: ids.0 }).await;
        }
    }
    let expired = intent(store, "expired", "c");
    let id = expired.id;
    done(store, Change::Accept { intent: expired, attempt: None }).await;
    done(store, Change::Expire { intent: id, why: WHY }).await;
    let id = |name: String| OrderId::new(name).unwrap();
    let lane = intent(store, "x", "a").lane;
    done(store, Change::HoldLane { lane, why: WHY }).await;
    let orphans = (0..50).map(|n| id(format!("orphan-{n}")));
    done(store, Change::Orphans { ids: orphans.collect(), why: WHY }).await;
    let more = (50..90).map(|n| id(format!("orphan-{n}")));
    done(store, Change::Orphans { ids: more.collect(), why: WHY }).await;
    let history = (0..60).map(|n| id(format!("history-{n}"))).collect();
    done(store, Change::History { newest: Some(moment(-100)), ids: history }).await;
    done(store, Change::History { newest: None, ids: vec![id("h\\".into())] }).await;
    for several_lines in [true, false] {
        done(store, Change::EchoSeen { shape: Shape { several_lines, with_note: true } }).await;
    }
    done(store, Change::Pause { why: WHY }).await;
}

/// All of a store, by reference: with the items of those that are open, which is what must be kept.
async fn all(store: &dyn IntentStore) -> BTreeMap<String, Stored> {
    let mut found = BTreeMap::new();
    let mut next = Some(Bookmark::default());
    while let Some(from) = next {
        let page = store.read_through(from).await.unwrap();
        for intent in page.intents {
            let one = store.find(intent.stored.client_ref.clone()).await.unwrap().unwrap();
            assert_eq!(one, intent.stored);
            found.insert(one.client_ref.to_string(), one);
        }
        next = page.next;
    }
    found
}

fn side(store: &Store, place: &str) -> Side {
    Side { store: store.clone(), place: place.to_owned() }
}

async fn moved(from: &Side, to: &Side) -> Result<Report, MigrateError> {
    migrate(from, to, &|_| {}).await
}

/// Opens the same store, again and again.
type Open = Box<dyn Fn() -> BoxFuture<'static, Store>>;

fn embedded(dir: &Path, index: IndexMode) -> Open {
    let dir = dir.to_owned();
    Box::new(move || {
        let config = EmbeddedConfig { index, ..EmbeddedConfig::default() };
        let store = EmbeddedStore::open(&dir, config, &Runtime::system()).unwrap();
        Box::pin(async move { Arc::new(store) as Store }) as _
    })
}

fn on_redb(dir: &Path) -> Open {
    let file = dir.join("store.redb");
    Box::new(move || {
        let file = file.clone();
        Box::pin(async move { redb::open(&file).await.unwrap() }) as _
    })
}

fn short() -> LeaseTerms {
    let millis = Duration::from_millis;
    LeaseTerms { length: millis(2_000), margin: millis(100), pause_max: millis(300) }
}

fn on_postgres(url: String) -> Open {
    Box::new(move || {
        let config = PostgresConfig::new(&url).unwrap();
        Box::pin(async move { Arc::new(PostgresStore::open(config).await.unwrap()) as Store }) as _
    })
}

fn on_redis(url: String) -> Open {
    Box::new(move || {
        let mut config = RedisConfig::new(&url).unwrap();
        config.lease = short();
        Box::pin(async move { RedisStore::open(config).await.unwrap() }) as _
    })
}

fn with_keys(url: &str) -> DynamoDbConfig {
    let keys = Credentials::new("AKIATEST", crate::servers::SECRET_KEY, None, None, "tests");
    DynamoDbConfig::new(url).unwrap().credentials(keys)
}

/// Makes the table that a URL names; the URL.
async fn table(url: &str) -> String {
    dynamodb::create_table(&with_keys(url)).await.unwrap();
    url.to_owned()
}

fn on_dynamodb(url: String) -> Open {
    let mut config = with_keys(&url);
    config.lease = short();
    Box::new(move || {
        let config = config.clone();
        Box::pin(async move { dynamodb::open(config).await.unwrap() }) as _
    })
}

/// Moves everything through these stores, one after the other, each opened anew after it was filled.
async fn moves_through(stores: Vec<(&str, Open)>, ended: usize) {
    let mut stores = stores.into_iter();
    let (mut name, first) = stores.next().unwrap();
    let mut store = first().await;
    fill(&*store, ended).await;
    let (wanted, orders) = (store.rehydrate().await.unwrap(), all(&*store).await);
    assert_eq!(orders.len(), ended + 12);
    let mut highest = store.next_serial();
    for (next, opener) in stores {
        let target = opener().await;
        let report = moved(&side(&store, name), &side(&target, next)).await.unwrap();
        assert_eq!(report.source, report.target);
        assert_eq!((report.source.intents, report.joined), (ended as u64 + 12, 0), "{next}");
        let left = store.rehydrate().await.unwrap();
        assert_eq!(left.mark, Some(Mark::MovedTo(next.to_owned())));
        target.close().await.unwrap();
        store.close().await.unwrap();
        drop(target);
        let target = opener().await;
        assert_eq!(target.rehydrate().await.unwrap(), wanted, "{next}");
        assert_eq!(all(&*target).await, orders, "{next}");
        let next_serial = target.next_serial();
        assert!(next_serial >= highest, "{next}: {next_serial:?} {highest:?}");
        highest = next_serial;
        guards_hold(&*target).await;
        let stats = target.stats();
        assert_eq!((stats.open, stats.ended), (5, ended as u64 + 7), "{next}");
        (store, name) = (target, next);
    }
}

/// What moved is guarded as before: references, claims, attempts, witnesses.
async fn guards_hold(store: &dyn IntentStore) {
    let mut same = intent(store, "placed", "a");
    let joined = store.commit(Change::Accept { intent: same.clone(), attempt: None }).await;
    assert!(matches!(joined, Ok(Committed::Joined(_))), "{joined:?}");
    same.as_sent = ItemsDigest::as_sent(&[Item::new("else", 1).unwrap()]);
    let conflict = store.commit(Change::Accept { intent: same, attempt: None }).await;
    assert_eq!(conflict.unwrap(), Committed::Conflict);
    let held = store.find(reference("held")).await.unwrap().unwrap();
    let State::Held(attempt, _) = held.state else { panic!("{held:?}") };
    let taken = |id: &str| Change::Decide {
        intent: held.id,
        attempt: attempt.seq,
        verdict: placed(id, Learnt::List),
    };
    for id in ["answered", "listed-1", "listed-2", "a\\b\u{0}", "order-0"] {
        let claim = store.commit(taken(id)).await.unwrap();
        assert!(matches!(claim, Committed::IdTaken(_)), "{id}: {claim:?}");
    }
    let known = store.known_since(Serial(0)).await.unwrap();
    let ended: Vec<_> = known.iter().map(|known| known.id.as_str()).collect();
    assert_eq!(&ended[ended.len() - 4..], ["listed-1", "listed-2", "a\\b\u{0}", "answered"]);
    let newest = store.find(reference("placed")).await.unwrap().unwrap().last_attempt.unwrap();
    let since = store.known_since(newest).await.unwrap();
    assert_eq!(since.iter().map(|known| known.id.as_str()).collect::<Vec<_>>(), ["answered"]);
    // A store that is in use takes nothing over.
    let page = store.read_through(Bookmark::default()).await.unwrap();
    let mut adopted = page.intents[0].clone();
    adopted.stored.client_ref = reference("smuggled");
    adopted.stored.id = Serial(9_999_999);
    let adopt = Change::Adopt { intent: Box::new(adopted), handed_out: Serial(0) };
    assert_eq!(store.commit(adopt).await.unwrap(), Committed::Stale);
}

#[tokio::test]
async fn everything_moves_through_stores_of_one_machine_and_back() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let stores: Vec<(&str, Open)> = vec![
        ("one", embedded(dirs[0].path(), IndexMode::Sled)),
        ("two", on_redb(dirs[1].path())),
        ("three", embedded(dirs[2].path(), IndexMode::Sled)),
        ("four", embedded(&dirs[0].path().join("memory"), IndexMode::Memory)),
    ];
    moves_through(stores, 2_500).await;
}

#[tokio::test]
async fn everything_moves_through_stores_on_servers() {
    let (Some(postgres), Some(redis)) = (Postgres::shared(), Redis::shared()) else { return };
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let stores: Vec<(&str, Open)> = vec![
        ("one", embedded(dirs[0].path(), IndexMode::Sled)),
        ("two", on_postgres(postgres.url("moved_through"))),
        ("three", on_redis(redis.url("moved-through"))),
        ("four", on_postgres(postgres.url("moved_further"))),
        ("five", embedded(dirs[1].path(), IndexMode::Sled)),
        ("six", on_redis(redis.url("moved-further"))),
    ];
    moves_through(stores, 1_500).await;
}

#[tokio::test]
async fn everything_moves_through_dynamodb() {
    let Some(server) = DynamoDb::shared() else { return };
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let url = table(&server.url("moved-through")).await;
    let stores: Vec<(&str, Open)> = vec![
        ("one", on_redb(dirs[0].path())),
        ("two", on_dynamodb(url)),
        ("three", on_redb(dirs[1].path())),
    ];
    moves_through(stores, 30).await;
}

#[tokio::test]
async fn source_that_has_lost_a_row_is_not_moved() {
    let Some(redis) = Redis::shared() else { return };
    let from = on_redis(redis.url("lossy-move"))().await;
    fill(&*from, 3).await;
    assert_eq!(redis.cli(&["DEL", "{lossy-move}:r:many-1", "{lossy-move}:b:many-1"]), "2");
    let (from, to) = (side(&from, "from"), side(&memory(), "to"));
    let refused = moved(&from, &to).await;
    assert!(matches!(refused, Err(MigrateError::Unequal { .. })), "{refused:?}");
    assert!(marked(&from.store).await.is_some() && marked(&to.store).await.is_some());
}

/// A former router of a store with a lease may have stood still on its way to the supplier: what it
/// sent then is settled no earlier for a router on the target than for one on the source (rule 16).
#[tokio::test]
async fn migration_from_a_store_with_a_lease_lasts_as_long_as_a_pause() {
    let Some(redis) = Redis::shared() else { return };
    let mut config = RedisConfig::new(&redis.url("paused-move")).unwrap();
    config.lease = LeaseTerms { pause_max: Duration::from_millis(1_500), ..short() };
    let from = RedisStore::open(config).await.unwrap();
    fill(&*from, 1).await;
    let to = memory();
    let waited = Arc::new(std::sync::Mutex::new(0));
    let counted = waited.clone();
    let told = move |progress: Progress| match progress.step {
        Step::Waiting => *counted.lock().unwrap() += 1,
        Step::Copying | Step::Comparing => {}
    };
    let begun = Instant::now();
    migrate(&side(&from, "from"), &side(&to, "to"), &told).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(1_500), "{:?}", begun.elapsed());
    assert!(*waited.lock().unwrap() > 0);
}

async fn mark(store: &Store, mark: Option<Mark>) {
    done(&**store, Change::Mark { mark }).await;
}

async fn marked(store: &Store) -> Option<Mark> {
    store.rehydrate().await.unwrap().mark
}

fn memory() -> Store {
    Arc::new(MemoryStore::new())
}

/// A source with orders and an empty target.
async fn two() -> (Side, Side) {
    let (from, to) = (memory(), memory());
    fill(&*from, 20).await;
    (side(&from, "from"), side(&to, "to"))
}

/// A target that an earlier try had filled, while the source went on.
async fn goes_on_over_what_changed(opener: Open) {
    let from = side(&memory(), "from");
    let to = Side { store: opener().await, place: "to".to_owned() };
    fill(&*from.store, 20).await;
    moved(&from, &to).await.unwrap();
    // As if it had been given up just before its end.
    mark(&from.store, None).await;
    mark(&to.store, Some(Mark::FilledFrom("from".into()))).await;
    let doubt = from.store.find(reference("doubt")).await.unwrap().unwrap();
    let attempt = doubt.last_attempt.unwrap();
    decide(&*from.store, (doubt.id, attempt), placed("late", Learnt::Answer)).await;
    let listed = from.store.find(reference("listed")).await.unwrap().unwrap();
    done(&*from.store, Change::Settle { intent: listed.id }).await;
    done(&*from.store, Change::Resume).await;
    done(&*from.store, Change::FreeLane { lane: listed.lane }).await;
    sending(&*from.store, "new", "d").await;
    let report = moved(&from, &to).await.unwrap();
    assert_eq!((report.target.intents, report.joined), (33, 30));
    let expected = Rehydration { mark: None, ..from.store.rehydrate().await.unwrap() };
    assert_eq!(to.store.rehydrate().await.unwrap(), expected);
    assert_eq!(all(&*to.store).await, all(&*from.store).await);
    to.store.close().await.unwrap();
    drop(to);
    let again = opener().await;
    assert_eq!(again.rehydrate().await.unwrap(), expected);
    assert_eq!(all(&*again).await, all(&*from.store).await);
    assert_eq!((again.stats().open, again.stats().ended), (5, 28));
}

#[tokio::test]
async fn interrupted_migration_goes_on_over_what_changed_meanwhile() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    goes_on_over_what_changed(embedded(dirs[0].path(), IndexMode::Sled)).await;
    goes_on_over_what_changed(on_redb(dirs[1].path())).await;
    if let Some(server) = Postgres::shared() {
        goes_on_over_what_changed(on_postgres(server.url("moved_again"))).await;
    }
    if let Some(server) = Redis::shared() {
        goes_on_over_what_changed(on_redis(server.url("moved-again"))).await;
    }
    if let Some(server) = DynamoDb::shared() {
        goes_on_over_what_changed(on_dynamodb(table(&server.url("moved-again")).await)).await;
    }
}

#[tokio::test]
async fn way_back_brings_along_what_was_bought_since() {
    let (from, to) = two().await;
    moved(&from, &to).await.unwrap();
    let ids = sending(&*to.store, "since", "d").await;
    decide(&*to.store, ids, placed("since-1", Learnt::Answer)).await;
    moved(&to, &from).await.unwrap();
    assert_eq!(marked(&from.store).await, None);
    assert_eq!(marked(&to.store).await, Some(Mark::MovedTo("from".into())));
    assert_eq!(all(&*from.store).await, all(&*to.store).await);
}

#[tokio::test]
async fn marks_allow_one_migration_at_a_time() {
    let (from, to) = two().await;
    let other = side(&memory(), "other");
    fill(&*other.store, 1).await;
    let refused = moved(&from, &other).await;
    assert!(matches!(refused, Err(MigrateError::Target { .. })), "{refused:?}");
    let used = side(&memory(), "used");
    done(&*used.store, Change::History { newest: None, ids: Vec::new() }).await;
    let refused = moved(&from, &used).await;
    assert!(matches!(refused, Err(MigrateError::Target { .. })), "{refused:?}");
    assert_eq!(marked(&from.store).await, None, "nothing was changed");
    mark(&from.store, Some(Mark::MovingTo("elsewhere".into()))).await;
    let refused = moved(&from, &to).await;
    assert!(matches!(refused, Err(MigrateError::Source { .. })), "{refused:?}");
    mark(&from.store, None).await;
    mark(&to.store, Some(Mark::FilledFrom("elsewhere".into()))).await;
    let refused = moved(&from, &to).await;
    assert!(matches!(refused, Err(MigrateError::Target { .. })), "{refused:?}");
    mark(&to.store, None).await;
    moved(&from, &to).await.unwrap();
    let refused = moved(&from, &to).await;
    assert!(matches!(refused, Err(MigrateError::Done { .. })), "{refused:?}");
    let refused = moved(&from, &side(&memory(), "third")).await;
    assert!(matches!(refused, Err(MigrateError::Source { .. })), "{refused:?}");
}

#[tokio::test]
async fn reopening_is_for_what_was_not_finished() {
    let (from, _) = two().await;
    assert_eq!(reopen(&from, false).await.unwrap(), None);
    for (given, lost, allowed) in [
        (Mark::MovingTo("to".into()), false, true),
        (Mark::MovedTo("to".into()), false, false),
        (Mark::MovedTo("to".into()), true, true),
        (Mark::FilledFrom("to".into()), true, false),
    ] {
        mark(&from.store, Some(given.clone())).await;
        let reopened = reopen(&from, lost).await;
        assert_eq!(reopened.is_ok(), allowed, "{given:?}: {reopened:?}");
        assert_eq!(marked(&from.store).await, (!allowed).then_some(given));
    }
}

#[tokio::test]
async fn target_that_has_something_else_is_never_used() {
    let (from, to) = two().await;
    mark(&to.store, Some(Mark::FilledFrom("from".into()))).await;
    // Under a reference of the source's: another order.
    let ids = sending(&*to.store, "placed", "z").await;
    decide(&*to.store, ids, Verdict::Refused(WHY)).await;
    let refused = moved(&from, &to).await;
    assert!(matches!(refused, Err(MigrateError::Differs { .. })), "{refused:?}");
    assert!(marked(&to.store).await.is_some());

    let (from, to) = two().await;
    mark(&to.store, Some(Mark::FilledFrom("from".into()))).await;
    // One that the source does not have.
    let mut foreign = intent(&*to.store, "foreign", "z");
    foreign.id = Serial(1_000_000);
    done(&*to.store, Change::Accept { intent: foreign, attempt: None }).await;
    let refused = moved(&from, &to).await;
    assert!(matches!(refused, Err(MigrateError::Unequal { .. })), "{refused:?}");
    assert_eq!(marked(&to.store).await, Some(Mark::FilledFrom("from".into())));
    assert_eq!(marked(&from.store).await, Some(Mark::MovingTo("to".into())));
}
