//! `--pays-on pay`: orders are created, then paid; killed again and again, each is paid once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use order_router::simulator::{Contract, LedgerEntry, PayTime};

use super::purchases::purchases;
use super::*;

/// How many purchases, and how often the router is killed.
const PURCHASES: usize = 5_000;
const KILLS: u32 = 12;
/// How long the whole may take.
const LIMIT: Duration = Duration::from_secs(240);

/// A supplier that takes the money when it is asked to pay, and again when it is asked again.
fn contract() -> Contract {
    Contract { pays_on: PayTime::Pay, repeated_pay_debits: true, ..Contract::default() }
}

fn supplier(contract: Contract, faults: Faults) -> Simulator {
    let config = SimulatorConfig { contract, faults, ..SimulatorConfig::default() };
    Simulator::spawn_thread(config).unwrap()
}

/// `submit in.csv` that pays.
fn submit(bench: &Bench, supplier: &Simulator) -> Command {
    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.args(["--pays-on", "pay", "--pay-watch", "100ms", "--look-again", "200ms"]);
    command
}

#[track_caller]
fn check(bench: &Bench, supplier: &Simulator) -> String {
    let admin = supplier.admin_url();
    stdout(&run(bench.command(&["check", "--ledger", &admin, "--results", "results.jsonl"]), 0))
}

fn debits(supplier: &Simulator) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for LedgerEntry { debits, .. } in supplier.ledger() {
        *counts.entry(debits).or_default() += 1;
    }
    counts
}

#[test]
fn five_thousand_purchases_are_created_once_and_paid_once_over_kills() {
    let bench = Bench::new();
    bench.file("in.csv", &purchases(PURCHASES, 2));
    let supplier = supplier(
        contract(),
        Faults {
            withheld_after_creation: 0.01,
            status_500_after: 0.01,
            reset_after: 0.005,
            late_after: Duration::from_millis(1_500),
            list_lag: Duration::from_millis(300),
            pay_withheld_after: 0.01,
            pay_withheld_never: 0.01,
            pay_late: 0.01,
            pay_500_before: 0.01,
            pay_500_after: 0.01,
            pay_reset_before: 0.01,
            pay_reset_after: 0.01,
            pay_409_after: 0.005,
            pay_429: 0.002,
            pay_404: 0.002,
            ..Faults::default()
        },
    );
    let mut dice = fastrand::Rng::with_seed(21);
    let begun = Instant::now();
    let mut kills = 0;
    loop {
        let mut command = bench.command(&["submit", "in.csv", "--supplier", &supplier.url()]);
        command.args(["--request-timeout", "1s", "--landing-bound", "4s", "--data", "data"]);
        command.args(["--results", "results.jsonl", "--concurrency", "256"]);
        command.args(["--doubts-max", "10000", "--pays-on", "pay", "--pay-watch", "300ms"]);
        // A payment that a kill has kept from leaving counts as a try too.
        command.args(["--tries", "50"]);
        let log = std::fs::File::create(bench.path("log")).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().unwrap();
        if kills == KILLS {
            let status = child.wait().unwrap();
            let log = std::fs::read_to_string(bench.path("log")).unwrap();
            assert_eq!(status.code(), Some(0), "{log}");
            break;
        }
        // Real time passes on purpose: the kill comes wherever the run happens to be.
        let kill_at = Instant::now() + Duration::from_millis(dice.u64(500..4_000));
        while Instant::now() < kill_at {
            std::thread::park_timeout(kill_at - Instant::now());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    let text = check(&bench, &supplier);
    let stats = supplier.stats();
    println!("{text}{kills} kills, {:?}, {} pays", begun.elapsed(), stats.pays);
    println!("{:?}", stats.pay_faults);
    assert_eq!(debits(&supplier), [(1, PURCHASES)].into());
    let mut ends: BTreeMap<String, String> = BTreeMap::new();
    for line in bench.results().iter().filter(|line| line["outcome"] == "placed") {
        let text = |field: &str| line[field].as_str().expect("text").to_owned();
        let id = ends.entry(text("client_ref")).or_insert_with(|| text("order_id"));
        assert_eq!(*id, text("order_id"), "an end was changed");
    }
    assert_eq!(ends.len(), PURCHASES);
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}

#[test]
fn orders_whose_payment_never_comes_expire_and_are_told_so_for_ever() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a-1,x,1", "a-2,x,1", "a-3,y,2"]));
    let contract = Contract { payment_expires_after: Duration::from_secs(2), ..contract() };
    let faults = Faults { pay_withheld_never: 1.0, ..Faults::default() };
    let supplier = supplier(contract, faults);
    run(submit(&bench, &supplier), 1);
    let unpaid = |line| (line, "unpaid".to_owned());
    assert_eq!(bench.ends(), [unpaid(2), unpaid(3), unpaid(4)]);
    assert_eq!(debits(&supplier), [(0, 3)].into());
    let show = bench.command(&["orders", "show", "a-1", "--data", "data"]);
    let text = stdout(&run(show, 0));
    assert!(text.contains("a-1: unpaid") && text.contains("payment_expiration"), "{text}");
    assert!(text.contains("no, and it will not be"), "{text}");
    // Now it could be paid: what was told stays.
    supplier.set_faults(Faults::default()).unwrap();
    run(submit(&bench, &supplier), 1);
    assert_eq!(bench.ends().len(), 6);
    assert!(bench.ends().iter().all(|(_, outcome)| outcome == "unpaid"));
    assert_eq!(supplier.ledger().len(), 3);
    check(&bench, &supplier);
}

#[test]
fn a_payment_that_is_refused_is_an_end_and_a_lost_answer_is_found_by_looking() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a-1,x,1"]));
    let faults = Faults { pay_422: 1.0, ..Faults::default() };
    let supplier = supplier(contract(), faults);
    run(submit(&bench, &supplier), 1);
    assert_eq!(bench.ends(), [(2, "unpaid".to_owned())]);
    let reason = bench.results().last().unwrap()["reason"].to_string();
    assert!(reason.contains("PAYMENT_REFUSED"), "{reason}");
    supplier.set_faults(Faults { pay_withheld_after: 1.0, ..Faults::default() }).unwrap();
    bench.file("in.csv", &csv(&["a-2,x,1"]));
    run(submit(&bench, &supplier), 0);
    assert_eq!(debits(&supplier), [(0, 1), (1, 1)].into());
    check(&bench, &supplier);
}

#[test]
fn a_supplier_that_debits_when_it_creates_is_found_out_before_it_debits_again() {
    let bench = Bench::new();
    let rows: Vec<_> = (0..40).map(|n| format!("a-{n},item-{},1", n % 5)).collect();
    let rows: Vec<_> = rows.iter().map(String::as_str).collect();
    bench.file("in.csv", &csv(&rows));
    let at_once = Duration::from_millis(50);
    let contract = Contract { pays_on: PayTime::Create, paid_after: at_once, ..contract() };
    let supplier = supplier(contract, Faults::default());
    let output = run(submit(&bench, &supplier), 0);
    assert!(stderr(&output).contains("was paid before it was asked to be"), "{}", stderr(&output));
    assert_eq!(debits(&supplier), [(1, 40)].into());
    assert_eq!(supplier.stats().pays, 0);
}

#[test]
fn a_person_decides_a_payment_and_is_held_to_what_the_supplier_shows() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a-1,x,1", "a-2,y,1"]));
    let faults = Faults { pay_withheld_never: 1.0, ..Faults::default() };
    let supplier = supplier(contract(), faults);
    let mut command = bench.command(&["submit", "in.csv", "--supplier", &supplier.url()]);
    command.args(["--request-timeout", "1s", "--landing-bound", "never", "--data", "data"]);
    command.args(["--pays-on", "pay", "--pay-watch", "100ms", "--results", "results.jsonl"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    while supplier.stats().pays < 2 {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let list = bench.command(&["orders", "list", "--state", "created", "--data", "data"]);
    assert_eq!(stdout(&run(list, 0)).lines().count(), 2);
    let resolve = |reference: &str, how: &str, code| {
        let mut command = bench.command(&["orders", "resolve", reference, how, "--reason", "seen"]);
        command.args(["--supplier", &supplier.url(), "--data", "data"]);
        run(command, code)
    };
    let refused = stderr(&resolve("a-1", "--paid", 1));
    assert!(refused.contains("is active"), "{refused}");
    assert!(stdout(&resolve("a-1", "--unpaid", 0)).contains("a-1: unpaid"));
    assert!(stderr(&resolve("a-1", "--unpaid", 1)).contains("unpaid"), "decided already");
    // The other is paid in the end, the decided one never.
    supplier.set_faults(Faults::default()).unwrap();
    run(submit(&bench, &supplier), 1);
    assert_eq!(debits(&supplier), [(0, 1), (1, 1)].into());
    check(&bench, &supplier);
}

/// Whether a named point is passed by payments alone.
fn is_of_a_payment(point: &str) -> bool {
    ["pay.", "pay_", "paid.", "unpaid."].iter().any(|of| point.starts_with(of))
}

/// Dies at a point, starts again, and says whether it came by that point.
fn dies_at(point: &str, seed: u64) -> bool {
    let bench = Bench::new();
    let rows: Vec<_> = (0..24).map(|n| format!("d-{n},item-{},1", n % 5)).collect();
    let rows: Vec<_> = rows.iter().map(String::as_str).collect();
    bench.file("in.csv", &csv(&rows));
    let faults = Faults {
        pay_500_before: 0.15,
        pay_500_after: 0.15,
        pay_429: 0.15,
        pay_422: 0.15,
        pay_late: 0.15,
        // After the request timeout: an answer that is read on for.
        late_after: Duration::from_millis(1_200),
        ..Faults::default()
    };
    let config = SimulatorConfig { contract: contract(), faults, seed, ..Default::default() };
    let supplier = Simulator::spawn_thread(config).unwrap();
    let mut command = submit(&bench, &supplier);
    let times = 1 + seed % 3;
    command.env(order_router::testing::CRASH_AT, format!("{point}:{times}"));
    let output = command.output().unwrap();
    let died = stderr(&output).contains(&format!("crash point {point}"));
    let output = submit(&bench, &supplier).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{point}: {}", stderr(&output));
    check(&bench, &supplier);
    let all = supplier.ledger();
    assert_eq!(all.len(), 24, "{point}");
    assert!(all.iter().all(|order| order.debits <= 1), "{point}");
    died
}

#[test]
fn a_death_at_any_point_of_a_payment_is_survived() {
    let points = order_router::testing::CRASH_POINTS.iter().filter(|p| is_of_a_payment(p));
    let points: Vec<_> = points.copied().collect();
    let missed = std::thread::scope(|scope| {
        let work = |(n, point): (usize, &&'static str)| {
            let point = *point;
            scope.spawn(move || (!dies_at(point, n as u64)).then_some(point))
        };
        let workers: Vec<_> = points.iter().enumerate().map(work).collect();
        let missed = workers.into_iter().filter_map(|worker| worker.join().expect("survived"));
        missed.collect::<Vec<_>>()
    });
    println!("{} points, missed {missed:?}", points.len());
    assert!(missed.len() <= 2, "points that nobody came by: {missed:?}");
}
