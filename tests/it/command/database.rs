//! The command on a database.

use super::super::servers::{PASSWORD, Postgres, free_port};
use super::*;

/// The submission of a bench, on a store.
fn on(bench: &Bench, supplier: &str, results: &str, url: &str) -> Command {
    let mut command = bench.command(&["submit", "in.csv", "--supplier", supplier]);
    command.args(["--request-timeout", "1s", "--landing-bound", "2s", "--results", results]);
    command.args(["--concurrency", "16"]).env("ORDER_ROUTER_STORE", url);
    command
}

#[test]
fn purchases_on_postgres_survive_kills_and_are_bought_exactly_once() {
    let Some(server) = Postgres::shared() else { return };
    let bench = Bench::new();
    let rows: Vec<_> = (0..150).map(|n| format!("k-{n},item-{},1", n % 7)).collect();
    let rows: Vec<_> = rows.iter().map(String::as_str).collect();
    bench.file("in.csv", &csv(&rows));
    let latency = std::time::Duration::from_millis(10);
    let faults = Faults { reset_after: 0.05, status_500_after: 0.05, latency, ..Faults::default() };
    let (supplier, url) = (simulator(faults), server.url("of_the_command"));
    for (number, placed) in [20, 60].into_iter().enumerate() {
        let results = format!("killed-{number}.jsonl");
        let mut command = on(&bench, &supplier.url(), &results, &url);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until(&mut child, &bench.path(&results), |lines| {
            lines.iter().filter(|line| line["outcome"] == "placed").count() >= placed
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let told = run(on(&bench, &supplier.url(), "results.jsonl", &url), 0);
    assert!(!format!("{}{}", stdout(&told), stderr(&told)).contains(PASSWORD));
    assert_eq!(bench.ends().len(), 150);
    let admin = supplier.admin_url();
    let mut command = bench.command(&["check", "--ledger", &admin, "--results", "results.jsonl"]);
    command.args(["killed-0.jsonl", "killed-1.jsonl"]);
    let text = stdout(&run(command, 0));
    assert!(text.contains("nothing is wrong"), "{text}");
    assert_eq!(supplier.ledger().len(), 150);
    let placed = "SELECT count(*) FROM of_the_command.order_intents WHERE state = 'placed'";
    assert_eq!(server.sql(placed), "150");
    assert!(!bench.path("order-router-data").exists());
}

#[test]
fn store_that_is_not_opened_says_why_and_shows_no_password() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,item,1"]));
    let nobody = format!("postgres://router:key-canary-1@127.0.0.1:{}/d", free_port());
    let opened = "the store was not opened";
    for (url, expected) in [
        (nobody.as_str(), [opened, "no Postgres server is reached at 127.0.0.1"]),
        ("mysql://u:key-canary-1@h", ["ORDER_ROUTER_STORE", "is not a store that there is"]),
        ("postgres://u:key-canary-1@h/d?sslmode=x", [opened, "sslmode is not known"]),
        (
            "postgres://u:key-canary-1@h/d?sslmode=require&sslrootcert=/none",
            [opened, "/none cannot be read"],
        ),
    ] {
        refused(on(&bench, "http://127.0.0.1:9", "results.jsonl", url), &expected);
    }
}

#[test]
fn commands_about_the_journal_alone_say_so() {
    let bench = Bench::new();
    let mut command = bench.command(&["store", "rebuild"]);
    command.env("ORDER_ROUTER_STORE", "postgres://u:key-canary-1@h/d");
    refused(command, &["another store than a directory", "no journal and no index"]);
}

#[test]
fn a_url_with_a_password_does_not_belong_into_the_file_of_settings() {
    let bench = Bench::new();
    bench.file("router.toml", "store = \"postgres://u:key-canary-1@h/d\"\n");
    let command = bench.command(&["config", "check", "--config", "router.toml"]);
    refused(command, &["router.toml:1", "`store` has a password in it", "ORDER_ROUTER_STORE"]);
}

#[test]
fn embedded_url_is_a_data_directory() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,item,1"]));
    let supplier = simulator(Faults::default());
    run(on(&bench, &supplier.url(), "results.jsonl", "embedded:there"), 0);
    let listed = run(bench.command(&["store", "stats", "--data", "there"]), 0);
    assert!(stdout(&listed).contains("ended"), "{}", stdout(&listed));
    assert!(!bench.path("order-router-data").exists());
}
