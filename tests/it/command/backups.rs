//! Backups, and what a store that was put back from one may do.

use std::time::{Duration, Instant};

use order_router::simulator::{Contract, PayTime};
use order_router::testing::RESTORE_POINTS;

use super::*;

/// A bench on which 60 orders were bought before a backup, some more were wanted by then, and 60 after it.
fn bought_on(bench: &Bench, supplier: &Simulator) {
    let rows = |from: usize, to: usize| -> String {
        let rows: Vec<_> = (from..to).map(|n| format!("b-{n},item-{},1", n % 10)).collect();
        csv(&rows.iter().map(String::as_str).collect::<Vec<_>>())
    };
    bench.file("first.csv", &rows(0, 60));
    bench.file("all.csv", &rows(0, 120));
    run(bench.submit(&supplier.url(), "first.csv"), 0);
    run(bench.command(&["store", "backup", "backup", "--data", "data"]), 0);
    run(bench.submit(&supplier.url(), "all.csv"), 0);
    assert_eq!(supplier.ledger().len(), 120);
}

fn settle(bench: &Bench, supplier: &Simulator) -> Command {
    let url = supplier.url();
    let mut command = bench.command(&["store", "settle", "--supplier", &url, "--data", "data"]);
    command.args(["--request-timeout", "1s", "--landing-bound", "2s"]);
    command
}

#[test]
fn a_restored_backup_is_refused_until_it_is_settled_and_then_buys_nothing_again() {
    let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
    bought_on(&bench, &supplier);
    std::fs::remove_dir_all(bench.path("data")).unwrap();
    run(bench.command(&["store", "restore", "backup", "--data", "data"]), 0);
    // Also on a supplier that counts as new by itself, and whatever is answered.
    refused(bench.submit(&supplier.url(), "all.csv"), &["was restored from", "store settle"]);
    let mut command = bench.submit(&supplier.url(), "all.csv");
    command.arg("--adopt-unknown-orders");
    refused(command, &["was restored from", "store settle"]);
    assert_eq!(supplier.ledger().len(), 120);
    run(settle(&bench, &supplier), 0);
    // The sixty that it knows are told as they were; the others are turned away, and not bought again.
    std::fs::remove_file(bench.path("results.jsonl")).unwrap();
    let output = bench.submit(&supplier.url(), "all.csv").output().unwrap();
    assert_ne!(output.status.code(), Some(0), "{}", stderr(&output));
    let ends = bench.ends();
    assert_eq!(ends.iter().filter(|(_, outcome)| outcome == "placed").count(), 60, "{ends:?}");
    assert_eq!(supplier.ledger().len(), 120);
    // Another product is bought as ever.
    bench.file("other.csv", &csv(&["c-1,another,1"]));
    run(bench.submit(&supplier.url(), "other.csv"), 0);
    assert_eq!(supplier.ledger().len(), 121);
}

#[test]
fn a_backup_after_which_nothing_was_bought_goes_on_once_it_is_settled() {
    let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
    bench.file("one.csv", &csv(&["a,x,1"]));
    run(bench.submit(&supplier.url(), "one.csv"), 0);
    run(bench.command(&["store", "backup", "backup", "--data", "data"]), 0);
    std::fs::remove_dir_all(bench.path("data")).unwrap();
    run(bench.command(&["store", "restore", "backup", "--data", "data"]), 0);
    run(settle(&bench, &supplier), 0);
    bench.file("more.csv", &csv(&["a,x,1", "b,x,1"]));
    run(bench.submit(&supplier.url(), "more.csv"), 0);
    assert_eq!(supplier.ledger().len(), 2);
}

#[test]
fn what_is_no_backup_and_what_is_there_already_is_refused() {
    let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
    bench.file("one.csv", &csv(&["a,x,1"]));
    run(bench.submit(&supplier.url(), "one.csv"), 0);
    let text = |words: &[&str]| stderr(&run(bench.command(words), 2));
    assert!(text(&["store", "restore", "data", "--data", "new"]).contains("is no whole backup"));
    run(bench.command(&["store", "backup", "backup", "--data", "data"]), 0);
    let there = text(&["store", "restore", "backup", "--data", "data"]);
    assert!(there.contains("exists") && there.contains("not there yet"), "{there}");
    // A damaged one is seen when it is made, and when it is used.
    let segment = bench.path("backup/journal/0000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    text(&["store", "restore", "backup", "--data", "new"]);
    assert!(!bench.path("new").exists());
    // A backup is no data directory.
    run(bench.command(&["store", "backup", "again", "--data", "data"]), 0);
    let mut command = bench.command(&["submit", "one.csv", "--supplier", &supplier.url()]);
    command.args(["--request-timeout", "1s", "--landing-bound", "2s", "--data", "again"]);
    refused(command, &["format file is missing"]);
}

#[test]
fn whatever_dies_midway_leaves_nothing_that_buys_again_and_goes_on() {
    for point in RESTORE_POINTS {
        let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
        bought_on(&bench, &supplier);
        std::fs::remove_dir_all(bench.path("data")).unwrap();
        let restore = || bench.command(&["store", "restore", "backup", "--data", "data"]);
        let settles = point.starts_with("restored.");
        let mut dies = if settles { settle(&bench, &supplier) } else { restore() };
        if settles {
            run(restore(), 0);
        }
        let died = dies.env("ORDER_ROUTER_CRASH_AT", format!("{point}:1")).output().unwrap();
        assert_eq!(died.status.code(), None, "{point}: {}", stderr(&died));
        if !settles {
            assert!(
                !bench.path("data").exists(),
                "{point}: a store that is not whole is in its place"
            );
            run(restore(), 0);
        }
        if *point != "restored.settled" {
            refused(bench.submit(&supplier.url(), "all.csv"), &["store settle"]);
            run(settle(&bench, &supplier), 0);
        }
        let output = bench.submit(&supplier.url(), "all.csv").output().unwrap();
        assert_ne!(output.status.code(), Some(0), "{point}: {}", stderr(&output));
        assert_eq!(supplier.ledger().len(), 120, "{point}");
    }
}

/// A supplier that takes the money when it is asked to pay, and again when it is asked again.
fn paid_later(faults: Faults) -> Simulator {
    let contract =
        Contract { pays_on: PayTime::Pay, repeated_pay_debits: true, ..Contract::default() };
    let config = SimulatorConfig { contract, faults, ..SimulatorConfig::default() };
    Simulator::spawn_thread(config).unwrap()
}

fn submit_to_pay(bench: &Bench, supplier: &Simulator) -> Command {
    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.args(["--pays-on", "pay", "--pay-watch", "100ms", "--look-again", "200ms"]);
    command
}

/// A bench with a backup of the moment at which the payment of `a-1` was in doubt. It did not land.
fn backed_up_while_paying(supplier: &Simulator) -> Bench {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a-1,x,1"]));
    let mut child = submit_to_pay(&bench, supplier).spawn().unwrap();
    while supplier.stats().pays < 1 {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    run(bench.command(&["store", "backup", "backup", "--data", "data"]), 0);
    bench
}

/// Puts the backup in the place of the store, and settles it.
fn put_back(bench: &Bench, supplier: &Simulator) {
    std::fs::remove_dir_all(bench.path("data")).unwrap();
    run(bench.command(&["store", "restore", "backup", "--data", "data"]), 0);
    run(settle(bench, supplier), 0);
}

/// Lets a router that would pay be at work for long enough to do so.
fn at_work(bench: &Bench, supplier: &Simulator) {
    let mut child =
        submit_to_pay(bench, supplier).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until && child.try_wait().unwrap().is_none() {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let _ = child.kill();
    child.wait().unwrap();
}

fn paid_orders(supplier: &Simulator) -> Vec<u32> {
    let mut debits: Vec<_> = supplier.ledger().iter().map(|order| order.debits).collect();
    debits.sort_unstable();
    debits
}

#[test]
fn an_order_that_was_told_unpaid_after_the_backup_is_not_paid_from_it() {
    let supplier = paid_later(Faults { pay_withheld_never: 1.0, ..Faults::default() });
    let bench = backed_up_while_paying(&supplier);
    // Afterwards the order is told unpaid, and the customer buys another one.
    supplier.set_faults(Faults { pay_422: 1.0, ..Faults::default() }).unwrap();
    run(submit_to_pay(&bench, &supplier), 1);
    assert_eq!(bench.ends(), [(2, "unpaid".to_owned())]);
    supplier.set_faults(Faults::default()).unwrap();
    bench.file("in.csv", &csv(&["a-2,x,1"]));
    run(submit_to_pay(&bench, &supplier), 0);
    assert_eq!(paid_orders(&supplier), [0, 1]);
    put_back(&bench, &supplier);
    bench.file("in.csv", &csv(&["a-1,x,1"]));
    at_work(&bench, &supplier);
    assert_eq!(paid_orders(&supplier), [0, 1], "what was told unpaid is paid");
    let show = bench.command(&["orders", "show", "a-1", "--data", "data"]);
    let text = stdout(&run(show, 0));
    assert!(text.contains("restored"), "a person is told why: {text}");
    // A person says so, and it is an end.
    let mut command =
        bench.command(&["orders", "resolve", "a-1", "--unpaid", "--reason", "told so"]);
    command.args(["--supplier", &supplier.url(), "--data", "data"]);
    assert!(stdout(&run(command, 0)).contains("a-1: unpaid"));
}

#[test]
fn an_order_that_was_paid_after_the_backup_is_paid_once() {
    let supplier = paid_later(Faults { pay_withheld_never: 1.0, ..Faults::default() });
    let bench = backed_up_while_paying(&supplier);
    supplier.set_faults(Faults::default()).unwrap();
    run(submit_to_pay(&bench, &supplier), 0);
    assert_eq!(paid_orders(&supplier), [1]);
    let pays = supplier.stats().pays;
    put_back(&bench, &supplier);
    run(submit_to_pay(&bench, &supplier), 0);
    assert_eq!((paid_orders(&supplier), supplier.stats().pays), (vec![1], pays));
}

#[test]
fn a_store_that_never_met_the_account_is_settled_too() {
    let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
    bench.file("in.csv", &csv(&["a-1,x,1"]));
    drop(data_directory(&bench, "data"));
    run(bench.command(&["store", "backup", "backup", "--data", "data"]), 0);
    put_back(&bench, &supplier);
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    assert_eq!(supplier.ledger().len(), 1);
}

#[test]
fn a_backup_that_lost_its_end_on_the_way_is_refused() {
    let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
    bench.file("in.csv", &csv(&["a-1,x,1"]));
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    run(bench.command(&["store", "backup", "backup", "--data", "data"]), 0);
    let segment = bench.path("backup/journal/0000000000000001.seg");
    let before = std::fs::read(&segment).unwrap();
    bench.file("in.csv", &csv(&["a-2,x,1"]));
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    run(bench.command(&["store", "backup", "backup", "--data", "data"]), 0);
    // Whole to the last frame that is there; what comes after it is gone.
    std::fs::write(&segment, before).unwrap();
    let restore = ["store", "restore", "backup", "--data", "new"];
    let said = stderr(&run(bench.command(&restore), 2));
    assert!(said.contains("changes"), "{said}");
    assert!(!bench.path("new").exists());
}

#[test]
fn a_store_that_was_moved_to_another_does_not_come_back_by_its_backup() {
    let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
    bench.file("in.csv", &csv(&["a-1,x,1"]));
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    let migrate = ["store", "migrate", "--from", "embedded:data", "--to", "redb:orders.redb"];
    run(bench.command(&migrate), 0);
    run(bench.command(&["store", "backup", "backup", "--data", "data"]), 0);
    let restore = ["store", "restore", "backup", "--data", "new"];
    let said = stderr(&run(bench.command(&restore), 2));
    assert!(said.contains("were moved to"), "{said}");
    assert!(!bench.path("new").exists());
}
