//! A journal that is written anew: nothing is forgotten, nothing is bought again, whatever dies midway.

use std::path::Path;

use order_router::testing::COMPACTION_POINTS;

use super::*;

fn rows(from: usize, to: usize) -> String {
    let rows: Vec<_> = (from..to).map(|n| format!("c-{n},item-{},1", n % 10)).collect();
    csv(&rows.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A bench on which 60 orders were bought, and 60 more, whose answers nobody has: the process died.
fn died_on(bench: &Bench, supplier: &Simulator) {
    bench.file("first.csv", &rows(0, 60));
    bench.file("all.csv", &rows(0, 120));
    run(bench.submit(&supplier.url(), "first.csv"), 0);
    supplier.set_faults(Faults { withheld_after_creation: 1.0, ..Faults::default() }).unwrap();
    let mut dies = bench.submit(&supplier.url(), "all.csv");
    let mut dies = dies.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while supplier.ledger().len() < 120 {
        assert!(dies.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    dies.kill().unwrap();
    dies.wait().unwrap();
    supplier.set_faults(Faults::default()).unwrap();
}

fn compact(bench: &Bench, more: &[&str]) -> Command {
    let mut command = bench.command(&["store", "compact", "--data", "data", "--json"]);
    command.args(more);
    command
}

fn told(output: &Output) -> Value {
    serde_json::from_str(stdout(output).trim()).unwrap()
}

fn verified(bench: &Bench) -> Value {
    let verified = run(bench.command(&["store", "verify", "--data", "data", "--json"]), 0);
    let report = told(&verified);
    serde_json::json!([report["open"], report["ended"], report["claims"]])
}

/// Every line is bought once, and each reference has the end that it was told.
fn bought_once(bench: &Bench, supplier: &Simulator, what: &str) {
    run(bench.submit(&supplier.url(), "all.csv"), 0);
    assert_eq!(supplier.ledger().len(), 120, "{what}");
    let mut orders: Vec<_> = bench.results().iter().map(|l| l["order_id"].to_string()).collect();
    orders.retain(|order| order != "null");
    orders.sort();
    orders.dedup();
    assert_eq!(orders.len(), 120, "{what}: an order was told to two, or another end was told");
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| std::fs::metadata(path).unwrap().len()).sum()
}

#[test]
fn a_compacted_store_is_smaller_and_buys_nothing_again() {
    let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
    died_on(&bench, &supplier);
    let before = verified(&bench);
    let done = told(&run(compact(&bench, &[]), 0));
    assert_eq!(verified(&bench), before);
    assert_eq!(
        serde_json::json!([done["open"], done["ended"]]),
        serde_json::json!([before[0], before[1]])
    );
    assert_eq!(before[0], 60, "they are in doubt");
    assert!(done["bytes"].as_u64() < done["bytes_before"].as_u64(), "{done}");
    assert_eq!(done["items_dropped"], 0);
    assert_eq!(done["bytes"].as_u64(), Some(bytes_below(&bench.path("data/journal.2"))));
    assert!(!bench.path("data/journal").exists());
    bought_once(&bench, &supplier, "compacted");
    // With a retention, the items of what has ended go, and nothing else.
    let shown = || {
        let shown = bench.command(&["orders", "show", "c-7", "--data", "data", "--json"]);
        stdout(&run(shown, 0))
    };
    assert!(shown().contains("item-7"), "{}", shown());
    let done = told(&run(compact(&bench, &["--retention", "90d"]), 0));
    assert_eq!(done["items_dropped"], 0, "nothing is as old");
    let done = told(&run(compact(&bench, &["--retention", "0"]), 0));
    // Those that were placed from a list keep theirs until their own POST can land no more.
    assert!((60..=120).contains(&done["items_dropped"].as_u64().unwrap()), "{done}");
    assert_eq!((&done["open"], &done["ended"]), (&0.into(), &120.into()));
    assert!(shown().contains("placed") && !shown().contains("item-7"), "{}", shown());
    bought_once(&bench, &supplier, "compacted, items dropped");
    bench.file("other.csv", &csv(&["c-7,another,1"]));
    let output = bench.submit(&supplier.url(), "other.csv").output().unwrap();
    assert_ne!(output.status.code(), Some(0), "a conflict: {}", stderr(&output));
    assert_eq!(supplier.ledger().len(), 120);
}

#[test]
fn whatever_dies_midway_leaves_the_old_or_the_new_and_buys_nothing_again() {
    for point in COMPACTION_POINTS {
        let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
        died_on(&bench, &supplier);
        let before = verified(&bench);
        let mut dies = compact(&bench, &["--retention", "0"]);
        let died = dies.env("ORDER_ROUTER_CRASH_AT", format!("{point}:1")).output().unwrap();
        assert_eq!(died.status.code(), None, "{point}: {}", stderr(&died));
        assert_eq!(verified(&bench), before, "{point}");
        bought_once(&bench, &supplier, point);
        let left: Vec<_> = std::fs::read_dir(bench.path("data")).unwrap().collect();
        let journals = left.iter().filter(|entry| {
            entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("journal")
        });
        assert_eq!(journals.count(), 1, "{point}: what was left behind stays");
        run(compact(&bench, &[]), 0);
        bought_once(&bench, &supplier, point);
    }
}

#[test]
fn a_store_that_is_in_use_or_restored_is_not_compacted_and_a_backup_goes_on() {
    let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
    bench.file("first.csv", &rows(0, 60));
    bench.file("all.csv", &rows(0, 120));
    run(bench.submit(&supplier.url(), "first.csv"), 0);
    run(bench.command(&["store", "backup", "before", "--data", "data"]), 0);
    let lock = std::fs::File::open(bench.path("data/lock")).unwrap();
    lock.lock().unwrap();
    refused(compact(&bench, &[]), &["was not opened", "wait for the other process"]);
    drop(lock);
    let bad = stderr(&run(compact(&bench, &["--retention", "soon"]), 2));
    assert!(bad.contains("is not a duration"), "{bad}");
    run(compact(&bench, &["--retention", "0"]), 0);
    // The backup made before has another past; it stays whole.
    let other = stderr(&run(bench.command(&["store", "backup", "before", "--data", "data"]), 2));
    assert!(other.contains("backup of something else"), "{other}");
    run(bench.command(&["store", "backup", "after", "--data", "data"]), 0);
    for (backup, lost) in [("after", "data"), ("before", "restored-after")] {
        std::fs::rename(bench.path("data"), bench.path(&format!("lost-{lost}"))).unwrap();
        run(bench.command(&["store", "restore", backup, "--data", "data"]), 0);
        refused(compact(&bench, &[]), &["was restored from", "store settle"]);
        let url = supplier.url();
        let mut settle = bench.command(&["store", "settle", "--supplier", &url, "--data", "data"]);
        settle.args(["--request-timeout", "1s", "--landing-bound", "2s"]);
        run(settle, 0);
        run(compact(&bench, &[]), 0);
        run(bench.submit(&supplier.url(), "first.csv"), 0);
        assert_eq!(supplier.ledger().len(), 60, "{backup}");
    }
    bought_once(&bench, &supplier, "restored and compacted");
}
