//! Runs that are killed, and the demo.

use super::*;

#[test]
fn purchases_survive_kills_and_are_bought_exactly_once() {
    let bench = Bench::new();
    let rows: Vec<_> = (0..400).map(|n| format!("k-{n},item-{},1", n % 7)).collect();
    let rows: Vec<_> = rows.iter().map(String::as_str).collect();
    bench.file("in.csv", &csv(&rows));
    let faults = Faults {
        withheld_after_creation: 0.03,
        status_500_after: 0.02,
        reset_after: 0.02,
        withheld_never_created: 0.01,
        list_lag: std::time::Duration::from_millis(300),
        latency: std::time::Duration::from_millis(10),
        ..Faults::default()
    };
    let supplier = simulator(faults);
    let mut all = Vec::new();
    for (number, placed) in [40, 120, 250].into_iter().enumerate() {
        let results = format!("killed-{number}.jsonl");
        let mut command = bench.submit(&supplier.url(), "in.csv");
        command.args(["--concurrency", "16"]).stderr(Stdio::null());
        let mut command = replace_results(command, &results);
        let mut child = command.spawn().unwrap();
        wait_until(&mut child, &bench.path(&results), |lines| {
            lines.iter().filter(|line| line["outcome"] == "placed").count() >= placed
        });
        child.kill().unwrap();
        child.wait().unwrap();
        all.push(results);
    }
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    assert_eq!(bench.ends().len(), 400);
    let admin = supplier.admin_url();
    let mut command = bench.command(&["check", "--ledger", &admin, "--results", "results.jsonl"]);
    command.args(&all);
    let text = stdout(&run(command, 0));
    assert!(text.contains("nothing is wrong"), "{text}");
    assert_eq!(supplier.ledger().len(), 400);
}

/// The same command with other results.
fn replace_results(command: Command, results: &str) -> Command {
    let mut other = Command::new(command.get_program());
    let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    other.args(words.iter().map(|word| match word.to_str() {
        Some("results.jsonl") => results.as_ref(),
        _ => word.as_os_str(),
    }));
    other
        .current_dir(command.get_current_dir().unwrap())
        .env_clear()
        .env("ORDER_ROUTER_API_KEY", "key-canary-1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    other
}

#[test]
fn the_demo_holds_what_it_promises() {
    let bench = Bench::new();
    let mut command = bench.command(&["demo", "--json", "--seed", "3"]);
    command.env("TMPDIR", bench.dir.path());
    let output = run(command, 0);
    let rows: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row["wanted"].as_u64() >= Some(300)), "{rows:?}");
    assert!(rows[0]["bought_twice"].as_u64() > Some(0), "{rows:?}");
    assert!(rows[1]["wrong_customer"].as_u64() > Some(0), "{rows:?}");
    // Nothing is left behind.
    assert_eq!(std::fs::read_dir(bench.dir.path()).unwrap().count(), 0);
}

/// No list was read while the first order was placed, so nothing had shown yet how an order is echoed (A4)
/// when all that is left to do is in doubt and never landed.
#[test]
fn what_never_landed_is_released_though_no_list_was_read_before_the_kill() {
    let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
    bench.file("first.csv", &csv(&["a-1,x,1"]));
    bench.file("all.csv", &csv(&["a-1,x,1", "a-2,y,1", "a-3,y,1"]));
    run(bench.submit(&supplier.url(), "first.csv"), 0);
    supplier.set_faults(Faults { withheld_never_created: 1.0, ..Faults::default() }).unwrap();
    let mut child = bench.submit(&supplier.url(), "all.csv").spawn().unwrap();
    while supplier.stats().posts < 3 {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    supplier.set_faults(Faults::default()).unwrap();
    let mut command = bench.submit(&supplier.url(), "all.csv");
    run(
        {
            command.args(["--give-up-after", "30s"]);
            command
        },
        0,
    );
    assert_eq!(supplier.ledger().len(), 3);
}
