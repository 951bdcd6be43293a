//! Looking at stores that are no directory: without a lease, beside whoever has it.

use order_router::store::Grade;
use order_router::store::postgres::{PostgresConfig, PostgresStore};
use order_router::store::redis::{RedisConfig, RedisStore};

use super::*;
use crate::servers::{DynamoDb, PASSWORD, Postgres, Redis, SECRET_KEY};

fn about(bench: &Bench, store: &str, words: &[&str]) -> Command {
    let mut command = bench.command(words);
    command.env("AWS_ACCESS_KEY_ID", "AKIATEST").env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command.env("ORDER_ROUTER_STORE", store);
    command
}

fn shown(bench: &Bench, store: &str, words: &[&str]) -> String {
    let output = run(about(bench, store, words), 0);
    let text = format!("{}{}", stdout(&output), stderr(&output));
    assert!(!text.contains(PASSWORD) && !text.contains(SECRET_KEY), "{text}");
    stdout(&output)
}

/// Buys two orders on a store.
fn bought(bench: &Bench, store: &str) {
    let supplier = simulator(Faults::default());
    bench.file("in.csv", &csv(&["a,item,1", "b,item,2"]));
    let mut command = about(bench, store, &["submit", "in.csv", "--supplier", &supplier.url()]);
    command.args(["--results", "results.jsonl", "--lease", "1s"]);
    run(command, 0);
}

/// What is shown of the two orders; the grade is this one.
fn is_shown(bench: &Bench, store: &str, grade: Grade) {
    let one = shown(bench, store, &["status", "b"]);
    assert!(one.contains("b: placed") && one.contains("2 × item"), "{one}");
    assert!(shown(bench, store, &["orders", "show", "a"]).contains("yes, once"));
    let missing = run(about(bench, store, &["status", "c"]), 1);
    assert!(stderr(&missing).contains("no order in"), "{}", stderr(&missing));
    assert_eq!(shown(bench, store, &["orders", "list"]).lines().count(), 2);
    let open = shown(bench, store, &["orders", "list", "--open"]);
    assert_eq!(open, "");
    let placed = shown(bench, store, &["orders", "list", "--state", "placed", "--json"]);
    assert_eq!(placed.lines().count(), 2);
    let stats: Value =
        serde_json::from_str(&shown(bench, store, &["store", "stats", "--json"])).unwrap();
    assert_eq!((&stats["open"], &stats["ended"]), (&0.into(), &2.into()), "{stats}");
    let text = shown(bench, store, &["store", "stats"]);
    for (name, word) in grade.rows() {
        assert_eq!(stats[name], word);
        assert!(text.contains(word), "{text}");
    }
    let checked: Value =
        serde_json::from_str(&shown(bench, store, &["store", "check", "--json"])).unwrap();
    assert_eq!((&checked["ended"], &checked["claims"]), (&2.into(), &2.into()), "{checked}");
}

#[test]
fn directory_is_shown_with_its_grade() {
    let bench = Bench::new();
    bought(&bench, "embedded:data");
    is_shown(&bench, "embedded:data", Grade::EMBEDDED);
}

#[test]
fn redb_is_shown_while_no_router_has_it() {
    let bench = Bench::new();
    bought(&bench, "redb:store");
    is_shown(&bench, "redb:store", Grade::REDB);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let path = bench.path("store");
    let held = runtime.block_on(order_router::store::redb::open(&path)).unwrap();
    refused(about(&bench, "redb:store", &["status", "a"]), &["another process has the store"]);
    drop(held);
}

#[test]
fn postgres_is_shown_beside_a_router() {
    let Some(server) = Postgres::shared() else { return };
    let (bench, url) = (Bench::new(), server.url("looked_at"));
    bought(&bench, &url);
    is_shown(&bench, &url, Grade::POSTGRES);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = PostgresConfig::new(&url).unwrap();
    let held = runtime.block_on(PostgresStore::open(config)).unwrap();
    is_shown(&bench, &url, Grade::POSTGRES);
    drop(held);
    server.sql("UPDATE looked_at.order_intents SET order_id = 'x' WHERE client_ref = 'a'");
    let text = "UPDATE looked_at.order_router SET ended = 7";
    server.sql(text);
    let wrong = run(about(&bench, &url, &["store", "check"]), 1);
    assert!(stderr(&wrong).contains("there should be 0 and 7"), "{}", stderr(&wrong));
}

#[test]
fn postgres_that_does_not_sync_is_graded_so() {
    let Some(server) = Postgres::start(&[]) else { return };
    let (bench, url) = (Bench::new(), server.url("unsynced"));
    bought(&bench, &url);
    server.sql("ALTER SYSTEM SET fsync = off");
    server.sql("SELECT pg_reload_conf()");
    super::shared::wait(std::time::Duration::from_millis(300));
    is_shown(&bench, &url, Grade::POSTGRES_UNSYNCED);
}

#[test]
fn redis_is_shown_beside_a_router_and_as_its_settings_are() {
    let Some(server) = Redis::start(&[]) else { return };
    let (bench, url) = (Bench::new(), server.url("looked-at"));
    bought(&bench, &url);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = RedisConfig::new(&url).unwrap();
    let held = runtime.block_on(RedisStore::open(config)).unwrap();
    is_shown(&bench, &url, Grade::REDIS);
    drop(held);
    for (setting, value, grade) in [
        ("appendfsync", "everysec", Grade::REDIS_EVERYSEC),
        ("appendfsync", "no", Grade::REDIS_WEAK),
        ("appendonly", "no", Grade::REDIS_WEAK),
    ] {
        server.cli(&["CONFIG", "SET", setting, value]);
        is_shown(&bench, &url, grade);
    }
    // A claim that is gone.
    let claims = server.cli(&["--scan", "--pattern", "{looked-at}:o:*"]);
    server.cli(&["DEL", claims.lines().next().unwrap()]);
    let wrong = run(about(&bench, &url, &["store", "check"]), 1);
    assert!(stderr(&wrong).contains("nobody is known to have the order"), "{}", stderr(&wrong));
    // A row that is damaged.
    let rows = server.cli(&["--scan", "--pattern", "{looked-at}:r:*"]);
    server.cli(&["SETRANGE", rows.lines().next().unwrap(), "20", "x"]);
    server.cli(&["DEL", "{looked-at}:b:a", "{looked-at}:b:b"]);
    refused(about(&bench, &url, &["store", "check"]), &["is damaged"]);
}

#[test]
fn dynamodb_is_shown() {
    let Some(server) = DynamoDb::shared() else { return };
    let (bench, url) = (Bench::new(), server.url("looked-at"));
    run(about(&bench, &url, &["store", "create"]), 0);
    bought(&bench, &url);
    is_shown(&bench, &url, Grade::DYNAMODB_ENDPOINT);
}

#[test]
fn grades_of_the_readme_are_those_of_the_program() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    assert!(readme.unwrap().contains(&Grade::table()), "README lacks:\n{}", Grade::table());
}
