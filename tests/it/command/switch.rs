//! The kill switch by command, while orders are bought and the router is killed.

use std::time::{Duration, Instant};

use super::*;

/// Lets time pass, and looks now and then.
fn pass(span: Duration, look: impl Fn()) {
    let until = Instant::now() + span;
    while Instant::now() < until {
        std::thread::park_timeout(Duration::from_millis(50));
        look();
    }
}

#[test]
fn nothing_is_sent_between_stop_and_resume_whoever_is_killed() {
    let bench = Bench::new();
    let rows: Vec<_> = (0..2_000).map(|n| format!("s-{n},item-{},1", n % 9)).collect();
    let rows: Vec<_> = rows.iter().map(String::as_str).collect();
    bench.file("in.csv", &csv(&rows));
    let supplier = simulator(Faults {
        withheld_after_creation: 0.02,
        reset_after: 0.02,
        latency: Duration::from_millis(30),
        ..Faults::default()
    });
    let submit = |results: &str| {
        let mut command = bench.command(&["submit", "in.csv", "--supplier", &supplier.url()]);
        command.args(["--request-timeout", "1s", "--landing-bound", "2s", "--data", "data"]);
        command.args(["--concurrency", "256", "--results", results]).stderr(Stdio::null());
        command
    };
    let placed = |lines: &[Value]| lines.iter().filter(|line| line["outcome"] == "placed").count();
    let mut first = submit("first.jsonl").spawn().unwrap();
    wait_until(&mut first, &bench.path("first.jsonl"), |lines| placed(lines) >= 100);
    let said = run(bench.command(&["stop", "--data", "data", "--why", "wrong prices"]), 0);
    assert!(stdout(&said).contains("STOP is there"), "{}", stdout(&said));
    // What had left by then has landed.
    pass(Duration::from_millis(500), || {});
    let sold = supplier.ledger().len();
    assert!(sold < 2_000);
    let stays = |what: &str| {
        pass(Duration::from_secs(3), || assert_eq!(supplier.ledger().len(), sold, "{what}"));
    };
    stays("while the router that was stopped goes on");
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = submit("second.jsonl").spawn().unwrap();
    stays("after a kill and a start");
    assert!(second.try_wait().unwrap().is_none());
    let said = run(bench.command(&["resume", "--data", "data"]), 0);
    assert!(stdout(&said).contains("are sent again"), "{}", stdout(&said));
    assert!(second.wait().unwrap().success());
    let admin = supplier.admin_url();
    let mut command = bench.command(&["check", "--ledger", &admin, "--results", "second.jsonl"]);
    command.arg("first.jsonl");
    let text = stdout(&run(command, 0));
    assert!(text.contains("nothing is wrong"), "{text}");
    assert_eq!(supplier.ledger().len(), 2_000);
}

#[test]
fn nobody_is_told_that_all_is_stopped_where_no_router_looks() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("elsewhere")).unwrap();
    let said = stderr(&run(bench.command(&["stop", "--data", "elsewhere"]), 2));
    assert!(said.contains("is no data directory"), "{said}");
    assert!(!bench.path("elsewhere/STOP").exists());
    // A file that is named is made wherever it is to be, and told by its whole path.
    let said = stdout(&run(bench.command(&["stop", "--stop-file", "elsewhere/halt"]), 0));
    let path = bench.path("elsewhere/halt").canonicalize().unwrap();
    assert!(said.contains(&path.display().to_string()), "{said}");
    // Gone to another directory, where the file of settings names it without its whole path.
    bench.file("router.toml", "stop_file = \"halt\"\nsupplier = \"https://example.com\"\n");
    let mut check = bench.command(&["config", "check", "--config", "router.toml"]);
    let output = stderr(&check.output().unwrap());
    assert!(output.contains("stop_file: is relative"), "{output}");
}

#[test]
fn the_file_is_the_one_that_the_router_looks_for() {
    let bench = Bench::new();
    data_directory(&bench, "data");
    bench.file("router.toml", "data = \"data\"\nstop_file = \"halt\"\n");
    run(bench.command(&["stop", "--config", "router.toml"]), 0);
    assert!(bench.path("halt").exists() && !bench.path("data/STOP").exists());
    run(bench.command(&["resume", "--config", "router.toml"]), 0);
    assert!(!bench.path("halt").exists());
    let said = run(bench.command(&["resume", "--config", "router.toml"]), 0);
    assert!(stdout(&said).contains("was not there"), "{}", stdout(&said));
    let mut command = bench.command(&["stop", "--data", "data"]);
    command.env("ORDER_ROUTER_STOP_FILE", "other");
    run(command, 0);
    assert!(bench.path("other").exists());
}

#[test]
fn a_place_that_is_not_there_is_refused() {
    let bench = Bench::new();
    let mut command = bench.command(&["stop", "--data", "no-such"]);
    assert!(stderr(&run(command, 2)).contains("no data directory no-such"));
    assert!(!bench.path("no-such").exists());
    command = bench.command(&["stop"]);
    command.env("ORDER_ROUTER_STORE", "redis://127.0.0.1:1/0?namespace=x");
    assert!(stderr(&run(command, 2)).contains("no stop file is named"));
    command = bench.command(&["stop", "--stop-file", "no/dir/STOP"]);
    run(command, 2);
}
