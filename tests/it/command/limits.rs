//! Limits of orders and money by command, with 256 callers, while the router is killed.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use order_router::simulator::{Contract, LedgerEntry, PayTime};
use order_router::testing::{CRASH_AT, LIMIT_POINTS};

use super::*;

const ORDERS: usize = 400;

/// Orders of several items, the n-th costs n mod 3 and a half.
fn orders(bench: &Bench) -> Vec<f64> {
    let (mut text, mut prices) =
        ("client_ref,item_id,quantity,total_price\n".to_owned(), Vec::new());
    for n in 0..ORDERS {
        let kind = n % 3;
        writeln!(text, "l-{n},item-{kind}-{},1,{kind}.5", n % 8).expect("memory");
        prices.push(kind as f64 + 0.5);
    }
    bench.file("in.csv", &text);
    prices
}

/// What an order of these tests costs, in halves.
fn halves(entry: &LedgerEntry) -> u64 {
    let kind = entry.items[0].item_id.split('-').nth(1).and_then(|kind| kind.parse::<u64>().ok());
    kind.expect("one of ours") * 2 + 1
}

fn faulty(contract: Contract) -> Simulator {
    let faults = Faults {
        withheld_after_creation: 0.02,
        withheld_never_created: 0.01,
        reset_after: 0.02,
        rate_limited_429: 0.01,
        latency: Duration::from_millis(15),
        ..Faults::default()
    };
    Simulator::spawn_thread(SimulatorConfig { faults, contract, ..SimulatorConfig::default() })
        .unwrap()
}

fn submit(bench: &Bench, url: &str, results: &str, limits: &[&str]) -> Command {
    let mut command = bench.command(&["submit", "in.csv", "--supplier", url]);
    command.args(["--request-timeout", "1s", "--landing-bound", "2s", "--data", "data"]);
    command.args(["--concurrency", "256", "--results", results, "--doubts-max", "1000"]);
    command.args(limits).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Lets time pass until then, or until the child has ended.
fn pass(child: &mut Child, span: Duration) -> bool {
    let until = Instant::now() + span;
    while Instant::now() < until {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    false
}

/// Most orders, and most halves, in any window of this length.
fn most_in(ledger: &[LedgerEntry], window: Duration) -> (usize, u64) {
    let at = |entry: &LedgerEntry| entry.created.parse::<Timestamp>().unwrap();
    let mut all: Vec<_> = ledger.iter().map(|entry| (at(entry), halves(entry))).collect();
    all.sort();
    let within = |from: Timestamp| {
        let window = all.iter().filter(move |(at, _)| {
            *at >= from && Duration::try_from(at.duration_since(from)).unwrap() < window
        });
        (window.clone().count(), window.map(|(_, halves)| halves).sum::<u64>())
    };
    let each = all.iter().map(|(from, _)| within(*from));
    each.fold((0, 0), |most, one| (most.0.max(one.0), most.1.max(one.1)))
}

/// What is allowed, in orders and in halves.
struct Allowed {
    flags: [&'static str; 2],
    orders: usize,
    halves: u64,
}

const ALLOWED: [Allowed; 4] = [
    Allowed { flags: ["--orders-per-minute-max", "60"], orders: 60, halves: u64::MAX },
    Allowed { flags: ["--orders-per-day-max", "60"], orders: 60, halves: u64::MAX },
    Allowed { flags: ["--amount-per-minute-max", "90.5"], orders: usize::MAX, halves: 181 },
    Allowed { flags: ["--amount-per-day-max", "90"], orders: usize::MAX, halves: 180 },
];

/// Buys under limits while the router is killed at the points of a reservation and anywhere; never is
/// more bought than is allowed. Then without limits: each is bought once.
fn holds(allowed: &Allowed, contract: &Contract, more: &[&str], seed: u64) {
    let bench = Bench::new();
    orders(&bench);
    let supplier = faulty(contract.clone());
    let limits = [&allowed.flags, more].concat();
    let mut dice = fastrand::Rng::with_seed(seed);
    let check = |what: &str| {
        let ledger = supplier.ledger();
        let all: u64 = ledger.iter().map(halves).sum();
        let debits: u64 = ledger.iter().map(|row| u64::from(row.debits) * halves(row)).sum();
        let bought = (ledger.len(), all.max(debits));
        assert!(bought.0 <= allowed.orders && bought.1 <= allowed.halves, "{what}: {bought:?}");
        bought
    };
    let mut all = Vec::new();
    for round in 0..8 {
        let results = format!("killed-{round}.jsonl");
        let mut command = submit(&bench, &supplier.url(), &results, &limits);
        let point =
            LIMIT_POINTS.get(round / 2).map(|point| format!("{point}:{}", 1 + round % 2 * 2));
        if let Some(point) = &point {
            command.env(CRASH_AT, point);
        }
        let mut child = command.spawn().unwrap();
        let ended = pass(&mut child, Duration::from_millis(dice.u64(300..1_500)));
        if !ended {
            child.kill().unwrap();
        }
        assert!(!child.wait().unwrap().success());
        check(&format!("after kill {round} ({point:?})"));
        // A run that died early has written none.
        all.extend(bench.path(&results).exists().then_some(results));
    }
    let mut child = submit(&bench, &supplier.url(), "waits.jsonl", &limits).spawn().unwrap();
    assert!(!pass(&mut child, Duration::from_secs(4)), "it ended");
    child.kill().unwrap();
    child.wait().unwrap();
    let bought = check("while they wait");
    println!("{:?} {more:?}: {bought:?} after eight kills", allowed.flags);
    assert!(bought.0 > 0 && bought.0 < ORDERS, "{bought:?}");
    let without = submit(&bench, &supplier.url(), "results.jsonl", more);
    run(without, 0);
    let admin = supplier.admin_url();
    let mut command = bench.command(&["check", "--ledger", &admin, "--results", "results.jsonl"]);
    command.args(&all).arg("waits.jsonl");
    let text = stdout(&run(command, 0));
    assert!(text.contains("nothing is wrong"), "{text}");
    assert_eq!(supplier.ledger().len(), ORDERS);
    assert!(supplier.ledger().iter().all(|row| row.debits == 1));
}

#[test]
fn no_limit_is_passed_by_256_callers_and_a_router_that_is_killed() {
    std::thread::scope(|scope| {
        for (seed, allowed) in (0..).zip(&ALLOWED) {
            scope.spawn(move || holds(allowed, &Contract::default(), &[], seed));
        }
    });
}

#[test]
fn no_limit_of_money_is_passed_by_payments() {
    let contract =
        Contract { pays_on: PayTime::Pay, repeated_pay_debits: true, ..Contract::default() };
    std::thread::scope(|scope| {
        for (seed, allowed) in (10..).zip(&ALLOWED[2..]) {
            let contract = &contract;
            scope.spawn(move || holds(allowed, contract, &["--pays-on", "pay"], seed));
        }
    });
}

/// The window of a minute moves on, and what waited is bought, each once: over kills, for some minutes.
#[test]
#[ignore = "takes about eight minutes"]
fn what_waits_for_a_minute_is_bought_in_the_next_ones_over_kills() {
    let bench = Bench::new();
    orders(&bench);
    let supplier = faulty(Contract::default());
    let limits = ["--orders-per-minute-max", "90", "--amount-per-minute-max", "120"];
    let mut dice = fastrand::Rng::with_seed(7);
    let mut kills = 0;
    loop {
        let mut child = submit(&bench, &supplier.url(), "results.jsonl", &limits).spawn().unwrap();
        let span = Duration::from_millis(if kills < 6 { dice.u64(500..20_000) } else { 600_000 });
        if pass(&mut child, span) {
            assert!(child.wait().unwrap().success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 7, "it takes too long");
    }
    let ledger = supplier.ledger();
    // The supplier's dates are later than the sending, by what a POST takes.
    let (orders, halves) = most_in(&ledger, Duration::from_secs(58));
    println!("{kills} kills, at most {orders} orders and {halves} halves in a minute");
    assert!(orders <= 90 && halves <= 240, "{orders} orders, {halves} halves");
    assert!(orders > 60);
    assert_eq!(ledger.len(), ORDERS);
    let admin = supplier.admin_url();
    let check = bench.command(&["check", "--ledger", &admin, "--results", "results.jsonl"]);
    assert!(stdout(&run(check, 0)).contains("nothing is wrong"));
}

#[test]
fn what_is_over_a_limit_by_itself_is_told_and_not_recorded() {
    let bench = Bench::new();
    let text = "client_ref,item_id,quantity,total_price\na,x,1,2\nb,x,9,2\nc,x,1,20.01\nd,x,1,\n";
    bench.file("in.csv", text);
    let supplier = simulator(Faults::default());
    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.args(["--order-quantity-max", "8", "--order-amount-max", "20"]);
    run(command, 1);
    let ends = bench.ends();
    let expected = [(2, "placed"), (3, "invalid"), (4, "invalid"), (5, "invalid")];
    assert_eq!(ends, expected.map(|(line, end)| (line, end.to_owned())));
    let results = bench.results();
    let whys: Vec<_> = results.iter().filter_map(|line| line["reason"].as_str()).collect();
    let says = |text: &str| whys.iter().any(|why| why.contains(text));
    assert!(says("order_quantity_max = 8") && says("order_amount_max = 20"), "{whys:?}");
    assert!(says("give a total price with every line"), "{whys:?}");
    assert_eq!(supplier.ledger().len(), 1);
    // With higher limits they are new orders.
    std::fs::remove_file(bench.path("results.jsonl")).unwrap();
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    assert_eq!(supplier.ledger().len(), 4);
    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.args(["--resend-without-guard", "--order-amount-max", "20"]);
    let said = stderr(&run(command, 2));
    assert!(
        said.contains(
            "--resend-without-guard: resend_without_guard and order_amount_max contradict"
        ),
        "{said}"
    );
}
