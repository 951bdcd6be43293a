//! Orders that are moved from store to store by the command: bought once wherever they are, over
//! kills, and never from two stores.

use std::time::{Duration, Instant};

use order_router::runtime::Runtime;
use order_router::store::{EmbeddedConfig, EmbeddedStore};
use order_router::testing::MIGRATION_POINTS;

use super::shared::wait;
use super::*;
use crate::servers::{DynamoDb, PASSWORD, Postgres, Redis, SECRET_KEY, free_port};

const LIMIT: Duration = Duration::from_secs(120);

/// A command that knows the stores' keys, and waits no longer than it must.
fn on_stores(bench: &Bench, words: &[&str]) -> Command {
    let mut command = bench.command(words);
    command.env("AWS_ACCESS_KEY_ID", "AKIATEST").env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command
}

fn migrate(bench: &Bench, from: &str, to: &str) -> Command {
    let mut command = on_stores(bench, &["store", "migrate", "--lease", "1s"]);
    command.args(["--pause-max", "300ms"]);
    command.env("ORDER_ROUTER_FROM", from).env("ORDER_ROUTER_TO", to);
    command
}

fn submit(bench: &Bench, supplier: &str, store: &str, file: &str) -> Command {
    let mut command = on_stores(bench, &["submit", file, "--supplier", supplier]);
    command.args(["--request-timeout", "500ms", "--landing-bound", "2s", "--tries", "20"]);
    command.args(["--results", "results.jsonl", "--lease", "1s", "--pause-max", "300ms"]);
    command.env("ORDER_ROUTER_STORE", store);
    command
}

/// Every order of a store as it is shown, by reference.
fn listed(bench: &Bench, store: &str) -> Vec<Value> {
    let mut command = on_stores(bench, &["orders", "list", "--json"]);
    command.env("ORDER_ROUTER_STORE", store);
    let text = stdout(&run(command, 0));
    let mut orders: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    orders.sort_by(|a, b| a["client_ref"].as_str().cmp(&b["client_ref"].as_str()));
    orders
}

fn about(bench: &Bench, store: &str, words: &[&str]) -> Command {
    let mut command = on_stores(bench, words);
    command.env("ORDER_ROUTER_STORE", store);
    command
}

/// What the store is marked with, as a start says it; `None`: a router starts on it.
fn mark(bench: &Bench, supplier: &str, store: &str) -> Option<String> {
    let output = submit(bench, supplier, store, "one.csv").output().unwrap();
    let text = stderr(&output);
    if output.status.success() {
        return None;
    }
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in ["the store is not to be used: ", "bought: nothing", "to do: "] {
        assert!(text.contains(part), "{text}");
    }
    Some(text)
}

fn no_secret(output: &Output) {
    let shown = format!("{}{}", stdout(output), stderr(output));
    for secret in [PASSWORD, SECRET_KEY, "canary"] {
        assert!(!shown.contains(secret), "a secret is shown: {shown}");
    }
}

#[test]
fn orders_are_bought_once_wherever_they_are_moved() {
    let (Some(postgres), Some(redis)) = (Postgres::shared(), Redis::shared()) else { return };
    let bench = Bench::new();
    let mut stores = vec![
        "embedded:first".to_owned(),
        postgres.url("moved_by_command"),
        redis.url("moved-by-command"),
        "redb:moved.redb".to_owned(),
    ];
    let dynamodb = DynamoDb::shared();
    if let Some(dynamodb) = &dynamodb {
        let url = dynamodb.url("moved-by-command");
        run(about(&bench, &url, &["store", "create"]), 0);
        stores.push(url);
    }
    stores.push("embedded:last".to_owned());
    let supplier = simulator(Faults {
        withheld_after_creation: 0.1,
        reset_after: 0.1,
        reset_before: 0.1,
        latency: Duration::from_millis(5),
        ..Faults::default()
    });
    let mut rows = Vec::new();
    for (hop, store) in stores.iter().enumerate() {
        rows.extend((0..40).map(|n| format!("m-{hop}-{n},item-{},1", n % 5)));
        let all: Vec<_> = rows.iter().map(String::as_str).collect();
        bench.file("in.csv", &csv(&all));
        let mut command = submit(&bench, &supplier.url(), store, "in.csv");
        let before = bench.results().len();
        if hop + 1 == stores.len() {
            run(command, 0);
            break;
        }
        // Some are open, some in doubt.
        let log = std::fs::File::create(bench.path("log")).unwrap();
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        wait_until(&mut child, &bench.path("results.jsonl"), |lines| {
            lines.iter().skip(before).filter(|line| line["outcome"] == "placed").count() >= 20
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let there = listed(&bench, store);
        let next = &stores[hop + 1];
        let output = run(migrate(&bench, store, next), 0);
        no_secret(&output);
        let told = format!("{}{}", stdout(&output), stderr(&output));
        for part in ["copying orders: ", "comparing orders: ", "the two are equal"] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(listed(&bench, next), there, "{next}");
        run(about(&bench, next, &["store", "check"]), 0);
        let refused = mark(bench_with_one(&bench), &supplier.url(), store).unwrap();
        assert!(refused.contains("its orders were moved to"), "{refused}");
        if store.contains("://") {
            let mut share = submit(&bench, &supplier.url(), store, "one.csv");
            share.arg("--share");
            super::refused(share, &["its orders were moved to"]);
        }
        assert!(!refused.contains(PASSWORD), "{refused}");
    }
    let admin = supplier.admin_url();
    run(bench.command(&["check", "--ledger", &admin, "--results", "results.jsonl"]), 0);
    assert_eq!(supplier.ledger().len(), rows.len());
}

/// The same bench, with an input of one order.
fn bench_with_one(bench: &Bench) -> &Bench {
    bench.file("one.csv", &csv(&["one,item,1"]));
    bench
}

/// A store in a directory with so many ended orders, and one that is open.
fn filled(bench: &Bench, count: usize) -> &'static str {
    use order_router::protocol::{Change, Learnt, NewIntent, Serial, Verdict};
    use order_router::store::IntentStore;
    use order_router::{ClientRef, EchoProfile, Item, ItemsDigest, ItemsHash, OrderId};
    let config = EmbeddedConfig::default();
    let store = EmbeddedStore::open(bench.path("filled"), config, &Runtime::system()).unwrap();
    let items = [Item::new("item", 1).unwrap()];
    let mut under_way = Vec::new();
    for n in 0..=count {
        let (id, seq) = (store.next_serial(), store.next_serial());
        let intent = NewIntent {
            id,
            client_ref: ClientRef::new(format!("filled-{n}")).unwrap(),
            lane: ItemsHash::of(&items, EchoProfile::default()),
            as_sent: ItemsDigest::as_sent(&items),
            delivered: ItemsDigest::delivered(&items, false),
            items: items.clone().into(),
            good_until: jiff::Timestamp::UNIX_EPOCH,
            accepted_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let attempt = order_router::protocol::Attempt {
            seq,
            fingerprint: order_router::protocol::Fingerprint(1),
            floor: None,
        };
        let last = n == count;
        let attempt = (!last).then_some(attempt);
        under_way.push(store.commit(Change::Accept { intent, attempt }));
        if !last {
            let id = OrderId::new(format!("order-{n}")).unwrap();
            let verdict = Verdict::Placed { id, learnt: Learnt::Answer, created_at: None };
            let intent = Serial(seq.0 - 1);
            under_way.push(store.commit(Change::Decide { intent, attempt: seq, verdict }));
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let newest = None;
        store.commit(Change::History { newest, ids: Vec::new() }).await.unwrap();
        for done in under_way {
            assert_eq!(done.await.unwrap(), order_router::store::Committed::Done);
        }
        store.close().await.unwrap();
    });
    "embedded:filled"
}

#[test]
fn migration_that_dies_at_any_step_leaves_one_usable_store_at_most_and_goes_on() {
    for point in MIGRATION_POINTS {
        let bench = Bench::new();
        let supplier = simulator(Faults::default());
        bench_with_one(&bench);
        let (from, to) = ("embedded:from", "redb:to.redb");
        let rows: Vec<_> = (0..30).map(|n| format!("a-{n},item-{},1", n % 3)).collect();
        let rows: Vec<_> = rows.iter().map(String::as_str).collect();
        bench.file("in.csv", &csv(&rows));
        run(submit(&bench, &supplier.url(), from, "in.csv"), 0);
        let mut command = migrate(&bench, from, to);
        command.env("ORDER_ROUTER_CRASH_AT", format!("{point}:1"));
        let died = command.output().unwrap();
        assert_eq!(died.status.code(), None, "{point}: {}", stderr(&died));
        let source = mark(&bench, &supplier.url(), from).expect("the source is marked");
        assert!(source.contains("redb:") && source.contains("to.redb"), "{point}: {source}");
        if ["migrate.source_moved", "migrate.done"].contains(point) {
            // The target is, or may become, usable without the source.
            refused(about(&bench, from, &["store", "reopen"]), &["its orders were moved to"]);
        }
        let again = migrate(&bench, from, to);
        if *point == "migrate.done" {
            refused(again, &["are in redb:", "already"]);
        } else {
            if *point != "migrate.source_marked" {
                let target = mark(&bench, &supplier.url(), to).expect("the target is marked");
                assert!(target.contains("it is being filled"), "{point}: {target}");
                assert!(target.contains("store migrate"), "{point}: {target}");
            }
            run(again, 0);
        }
        assert_eq!(mark(&bench, &supplier.url(), to), None, "{point}");
        assert_eq!(supplier.ledger().len(), 31, "{point}");
        assert!(mark(&bench, &supplier.url(), from).is_some(), "{point}");
    }
}

#[test]
fn migration_is_killed_at_random_moments_and_goes_on() {
    const KILLS: usize = 8;
    let (Some(postgres), Some(redis)) = (Postgres::shared(), Redis::shared()) else { return };
    let (bench, mut dice) = (Bench::new(), fastrand::Rng::with_seed(20));
    // More of them for a measurement.
    let count = std::env::var("MIGRATE_ORDERS").map_or(3_000, |count| count.parse().unwrap());
    let from = filled(&bench, count).to_owned();
    let (second, third) = (postgres.url("killed_moves"), redis.url("killed-moves"));
    let (mut killed, begun) = (0, Instant::now());
    for (from, to) in [(&from, &second), (&second, &third)] {
        let mut command = migrate(&bench, from, to);
        let mut rounds = 0;
        loop {
            let log = std::fs::File::create(bench.path("log")).unwrap();
            let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
            let until = Instant::now() + Duration::from_millis(dice.u64(50..1_500));
            while rounds < KILLS && Instant::now() < until && child.try_wait().unwrap().is_none() {
                wait(Duration::from_millis(5));
            }
            if rounds < KILLS && child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                child.wait().unwrap();
                (rounds, killed) = (rounds + 1, killed + 1);
                assert!(begun.elapsed() < LIMIT, "it does not end");
                continue;
            }
            let ended = child.wait().unwrap();
            let text = std::fs::read_to_string(bench.path("log")).unwrap();
            // The last kill may have come after the last step.
            assert!(ended.success() || text.contains("already"), "{text}");
            break;
        }
        let check = stdout(&run(about(&bench, to, &["store", "verify", "--json"]), 0));
        let check: Value = serde_json::from_str(&check).unwrap();
        assert_eq!((&check["open"], &check["ended"]), (&1.into(), &count.into()));
        assert_eq!(check["claims"], count);
    }
    println!("{killed} kills: {:?}", begun.elapsed());
    let one = about(&bench, &third, &["status", "filled-7", "--json"]);
    let one: Value = serde_json::from_str(&stdout(&run(one, 0))).unwrap();
    assert_eq!((&one["state"], &one["order_id"]), (&"placed".into(), &"order-7".into()));
}

#[test]
fn migration_goes_on_over_a_restart_of_its_servers() {
    let (Some(postgres), Some(redis)) = (Postgres::start(&[]), Redis::start(&[])) else { return };
    let bench = Bench::new();
    let from = filled(&bench, 4_000);
    let (second, third) = (postgres.url("restarted"), redis.url("restarted"));
    for (from, to) in [(from, &second), (&second, &third)] {
        let mut command = migrate(&bench, from, to);
        let log = std::fs::File::create(bench.path("log")).unwrap();
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let log = || std::fs::read_to_string(bench.path("log")).unwrap();
        while !log().contains("copying orders") && child.try_wait().unwrap().is_none() {
            wait(Duration::from_millis(2));
        }
        if to == &second {
            postgres.kill();
            postgres.run();
        } else {
            redis.kill();
            redis.run();
        }
        let ended = child.wait().unwrap();
        if !ended.success() {
            // A start that found the server gone: it says so, and the same again goes on.
            assert!(log().contains("to do: "), "{}", log());
            run(migrate(&bench, from, to), 0);
        }
        run(about(&bench, to, &["store", "check"]), 0);
    }
}

#[test]
fn migration_that_is_given_up_is_taken_back() {
    let bench = Bench::new();
    let supplier = simulator(Faults::default());
    bench_with_one(&bench);
    let (from, to) = ("embedded:from", "redb:to.redb");
    run(submit(&bench, &supplier.url(), from, "one.csv"), 0);
    let mut command = migrate(&bench, from, to);
    command.env("ORDER_ROUTER_CRASH_AT", "migrate.compared:1");
    assert_eq!(command.output().unwrap().status.code(), None);
    assert!(mark(&bench, &supplier.url(), from).is_some());
    let reopened = stdout(&run(about(&bench, from, &["store", "reopen"]), 0));
    assert!(reopened.contains("is usable again"), "{reopened}");
    assert_eq!(mark(&bench, &supplier.url(), from), None);
    refused(about(&bench, to, &["store", "reopen"]), &["is being filled with the orders of"]);
    assert!(mark(&bench, &supplier.url(), to).is_some());
    // And taken up again, to its end and back.
    bench.file("two.csv", &csv(&["two,item,1"]));
    run(submit(&bench, &supplier.url(), from, "two.csv"), 0);
    run(migrate(&bench, from, to), 0);
    let next = ["its orders were moved to redb:", "exchanged"];
    refused(about(&bench, from, &["store", "reopen"]), &next);
    bench.file("three.csv", &csv(&["three,item,1"]));
    run(submit(&bench, &supplier.url(), to, "three.csv"), 0);
    run(migrate(&bench, to, from), 0);
    assert_eq!(listed(&bench, from).len(), 3);
    assert_eq!(mark(&bench, &supplier.url(), from), None);
    assert!(mark(&bench, &supplier.url(), to).unwrap().contains("moved to embedded:/"));
    assert_eq!(supplier.ledger().len(), 3);
}

#[test]
fn what_cannot_be_moved_says_why_and_changes_nothing() {
    let bench = Bench::new();
    bench_with_one(&bench);
    let suppliers = [simulator(Faults::default()), simulator(Faults::default())];
    for (dir, supplier) in ["embedded:from", "embedded:full"].iter().zip(&suppliers) {
        run(submit(&bench, &supplier.url(), dir, "one.csv"), 0);
    }
    let nobody = format!("postgres://router:canary@127.0.0.1:{}/d", free_port());
    let no_redis = format!("redis://router:canary@127.0.0.1:{}/0", free_port());
    let table: &[(&str, &str, &[&str])] = &[
        ("mysql://u:canary@h/d", "embedded:to", &["--from is not a store that there is"]),
        ("embedded:from", "u:canary@h", &["--to is not a store that there is"]),
        ("embedded:nowhere", "embedded:to", &["there is no data directory nowhere"]),
        ("redb:nowhere", "embedded:to", &["nowhere was not opened", "no such file"]),
        ("embedded:from", &nobody, &["no Postgres server is reached"]),
        (&no_redis, "embedded:to", &["no Redis server is reached"]),
        ("embedded:from", "embedded:from", &["is in use"]),
        ("embedded:from", "embedded:full", &["it is not empty, it has 1 orders"]),
        ("embedded:from", "postgres://u:canary@h/d?schema=A", &["is not understood"]),
        ("embedded:from", "rediss://u:canary@h", &["--to is not a store"]),
    ];
    for (from, to, expected) in table {
        refused(migrate(&bench, from, to), expected);
        no_secret(&migrate(&bench, from, to).output().unwrap());
    }
    assert_eq!(mark(&bench, &suppliers[0].url(), "embedded:from"), None);
    if let Some(postgres) = Postgres::shared() {
        let url = postgres.url("of_another_version");
        let wrong = url.replace(PASSWORD, "canary");
        refused(migrate(&bench, "embedded:from", &wrong), &["refuses", "correct user, password"]);
        refused(migrate(&bench, &url, "embedded:to"), &["there is no store in this schema"]);
        run(migrate(&bench, "embedded:from", &url), 0);
        let newer = "UPDATE of_another_version.order_router_schema SET version = 99 \
            WHERE version = 1";
        postgres.sql(newer);
        let words = ["of version 99", "or a newer"];
        refused(migrate(&bench, &url, "embedded:to"), &words);
        refused(about(&bench, &url, &["status", "one"]), &words);
        postgres.sql("DELETE FROM of_another_version.order_router_schema WHERE version IN (6, 99)");
        let older = ["its tables are of version 5"];
        refused(about(&bench, &url, &["orders", "list"]), &older);
    }
    if let Some(redis) = Redis::shared() {
        let url = redis.url("never-used");
        let wrong = url.replace(PASSWORD, "canary");
        refused(migrate(&bench, "embedded:full", &wrong), &["refuses"]);
        refused(migrate(&bench, &url, "embedded:to"), &["there is nothing in the store redis://"]);
    }
    if let Some(dynamodb) = DynamoDb::shared() {
        let url = dynamodb.url("no-such-table");
        refused(migrate(&bench, "embedded:full", &url), &["no-such-table", "store create"]);
    }
    assert_eq!(mark(&bench, &suppliers[1].url(), "embedded:full"), None);
}
