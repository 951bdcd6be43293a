//! Purchases through each store, over kills of the router and, where its grade promises it, of the
//! store's server. One order each.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::purchases::purchases;
use super::shared::wait;
use super::*;
use crate::servers::{DynamoDb, Postgres, Redis, SECRET_KEY};

const PURCHASES: usize = 5_000;
const KILLS: usize = 4;
const LIMIT: Duration = Duration::from_secs(240);

/// Submits the purchases; the router is killed at each turn, and `disturb` then does what else there
/// is to the server.
fn buys_once(store: &str, disturb: impl Fn(usize)) {
    let bench = Bench::new();
    bench.file("in.csv", &purchases(PURCHASES, 1));
    let supplier = simulator(Faults {
        withheld_after_creation: 0.01,
        reset_after: 0.01,
        cut_201: 0.005,
        rate_limited_429: 0.002,
        list_lag: Duration::from_millis(200),
        ..Faults::default()
    });
    let begun = Instant::now();
    let start = || {
        let mut command = bench.command(&["submit", "in.csv", "--supplier", &supplier.url()]);
        command.args(["--request-timeout", "500ms", "--landing-bound", "2s", "--tries", "50"]);
        command.args(["--results", "results.jsonl", "--concurrency", "256"]);
        command.args(["--doubts-max", "10000"]);
        // A store with a lease alone waits for it after a kill.
        command.args(["--lease", "1s", "--pause-max", "500ms"]);
        command.env("ORDER_ROUTER_STORE", store);
        command.env("AWS_ACCESS_KEY_ID", "AKIATEST").env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let log = std::fs::File::options().create(true).append(true).open(bench.path("log"));
        command.stdout(Stdio::null()).stderr(log.unwrap()).spawn().unwrap()
    };
    let log = || std::fs::read_to_string(bench.path("log")).unwrap();
    let mut dice = fastrand::Rng::with_seed(4);
    for round in 0..KILLS {
        let mut child = start();
        wait(Duration::from_millis(dice.u64(1_500..3_000)));
        disturb(round);
        wait(Duration::from_millis(dice.u64(200..1_000)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut child = start();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if begun.elapsed() > LIMIT => {
                child.kill().unwrap();
                child.wait().unwrap();
                let log = log();
                panic!("it does not end: {}", &log[log.len().saturating_sub(5_000)..]);
            }
            None => wait(Duration::from_millis(50)),
        }
    };
    assert_eq!(status.code(), Some(0), "{}", log());
    assert!(!log().contains("canary"), "a secret is shown: {}", log());
    let admin = supplier.admin_url();
    run(bench.command(&["check", "--ledger", &admin, "--results", "results.jsonl"]), 0);
    assert_eq!(supplier.ledger().len(), PURCHASES);
    let results = bench.results();
    let placed = results.iter().filter(|line| line["outcome"] == "placed");
    let ids: BTreeSet<_> = placed.map(|line| line["order_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), PURCHASES);
    println!("{PURCHASES} purchases, {KILLS} kills: {:?}", begun.elapsed());
}

#[test]
fn purchases_on_redb_survive_kills() {
    let dir = tempfile::tempdir().unwrap();
    buys_once(&format!("redb:{}", dir.path().join("store.redb").display()), |_| {});
}

#[test]
fn purchases_on_postgres_survive_kills_of_router_and_server() {
    let Some(server) = Postgres::start(&[]) else { return };
    buys_once(&server.url("purchases"), |_| {
        server.kill();
        server.run();
    });
}

#[test]
fn purchases_on_redis_survive_kills_of_router_and_server() {
    let Some(server) = Redis::start(&[]) else { return };
    buys_once(&server.url("purchases"), |_| {
        server.kill();
        server.run();
    });
}

/// The local server keeps all in memory, so it is not killed.
#[test]
fn purchases_on_dynamodb_survive_kills_of_the_router() {
    let Some(server) = DynamoDb::shared() else { return };
    let url = server.url("purchases");
    let bench = Bench::new();
    let create = || {
        let mut command = bench.command(&["store", "create", "--store", &url]);
        command.env("AWS_ACCESS_KEY_ID", "AKIATEST").env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    };
    // Twice: one that is there stays.
    for _ in 0..2 {
        assert!(stdout(&run(create(), 0)).contains("table purchases"));
    }
    buys_once(&url, |_| {});
}

/// A server that may forget what it answers is taken only by who says so.
#[test]
fn server_that_does_not_sync_is_taken_where_that_is_accepted() {
    let Some(server) = Redis::start(&[]) else { return };
    server.cli(&["CONFIG", "SET", "appendfsync", "everysec"]);
    let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
    bench.file("in.csv", &purchases(3, 1));
    let submit = |more: &[&str]| {
        let mut command = bench.command(&["submit", "in.csv", "--supplier", &supplier.url()]);
        command.args(["--results", "results.jsonl", "--lease", "1s", "--pause-max", "300ms"]);
        command.args(more).env("ORDER_ROUTER_STORE", server.url("unsynced"));
        command
    };
    let refused = submit(&[]).output().unwrap();
    assert_ne!(refused.status.code(), Some(0));
    assert!(stderr(&refused).contains("accept_unsynced"), "{}", stderr(&refused));
    assert!(supplier.ledger().is_empty());
    run(submit(&["--accept-unsynced"]), 0);
    assert_eq!(supplier.ledger().len(), 3);
    run(submit(&["--accept-unsynced", "--share"]), 0);
    assert_eq!(supplier.ledger().len(), 3);
    let to = format!("redb:{}", bench.path("moved.redb").display());
    let migrate = |more: &[&str]| {
        let mut command = bench.command(&["store", "migrate", "--lease", "1s"]);
        command.args(["--pause-max", "300ms"]).args(more);
        command.env("ORDER_ROUTER_FROM", server.url("unsynced")).env("ORDER_ROUTER_TO", &to);
        command
    };
    assert!(stderr(&run(migrate(&[]), 2)).contains("accept_unsynced"));
    run(migrate(&["--accept-unsynced"]), 0);
}
