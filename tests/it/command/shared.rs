//! Three routers on one store: each gets all the purchases, and they are killed, stopped for longer
//! than their lease and started again. One order each, and the same answer everywhere.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use order_router::simulator::{Contract, LedgerEntry, PayTime};
use rustix::process::{Pid, Signal, kill_process};

use super::purchases::purchases;
use super::*;
use crate::servers::{Postgres, Redis};

/// How many purchases: each is submitted to all routers.
const PURCHASES: usize = 5_000;
const ROUTERS: usize = 3;
/// One router is killed in each round, and another stopped for longer than the lease.
const ROUNDS: usize = 6;
/// How long the whole may take.
const LIMIT: Duration = Duration::from_secs(150);

struct Routers<'a> {
    bench: &'a Bench,
    store: String,
    supplier: String,
    children: Vec<Option<Child>>,
    /// Further flags of all of them.
    flags: &'static [&'static str],
}

impl Routers<'_> {
    fn results(at: usize) -> String {
        format!("results-{at}.jsonl")
    }

    fn start(&mut self, at: usize) {
        let mut command = self.bench.command(&["submit", "in.csv", "--share"]);
        command.args(["--supplier", &self.supplier, "--lease", "1s", "--pause-max", "500ms"]);
        command.args(["--request-timeout", "500ms", "--landing-bound", "2s", "--tries", "50"]);
        command.args(["--results", &Self::results(at), "--concurrency", "256"]);
        command.args(["--doubts-max", "10000"]).args(self.flags);
        command.env("ORDER_ROUTER_STORE", &self.store);
        let log = std::fs::File::create(self.bench.path(&format!("log-{at}"))).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        self.children[at] = Some(command.spawn().unwrap());
    }

    fn signal(&self, at: usize, signal: Signal) {
        let child = self.children[at].as_ref().expect("started");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).expect("a process");
        kill_process(pid, signal).unwrap();
    }

    fn kill(&mut self, at: usize) {
        let mut child = self.children[at].take().expect("started");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Routers<'_> {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(super) fn wait(span: Duration) {
    let end = Instant::now() + span;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

fn three_routers_buy_once(store: String) {
    let faults = faults();
    let ledger = three_routers(store, simulator(faults), &[]);
    assert_eq!(ledger.len(), PURCHASES);
}

fn faults() -> Faults {
    Faults {
        withheld_after_creation: 0.01,
        created_late: 0.005,
        late_after: Duration::from_millis(700),
        reset_after: 0.01,
        cut_201: 0.005,
        list_lag: Duration::from_millis(200),
        ..Faults::default()
    }
}

/// Drives three routers, and hands out what the supplier sold.
fn three_routers(
    store: String,
    supplier: Simulator,
    flags: &'static [&'static str],
) -> Vec<LedgerEntry> {
    let bench = Bench::new();
    bench.file("in.csv", &purchases(PURCHASES, 1));
    let begun = Instant::now();
    let children = (0..ROUTERS).map(|_| None).collect();
    let mut routers = Routers { bench: &bench, store, supplier: supplier.url(), children, flags };
    (0..ROUTERS).for_each(|at| routers.start(at));
    let mut dice = fastrand::Rng::with_seed(16);
    for round in 0..ROUNDS {
        wait(Duration::from_millis(dice.u64(500..1_500)));
        let (stopped, killed) = (round % ROUTERS, (round + 1) % ROUTERS);
        routers.signal(stopped, Signal::STOP);
        routers.kill(killed);
        // Longer than the lease.
        wait(Duration::from_millis(dice.u64(1_200..2_500)));
        routers.signal(stopped, Signal::CONT);
        routers.start(killed);
    }
    for at in 0..ROUTERS {
        let mut child = routers.children[at].take().expect("started");
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > LIMIT {
                child.kill().unwrap();
                child.wait().unwrap();
                let log = std::fs::read_to_string(bench.path(&format!("log-{at}"))).unwrap();
                panic!("router {at} does not end: {log}");
            }
            wait(Duration::from_millis(50));
        };
        let log = std::fs::read_to_string(bench.path(&format!("log-{at}"))).unwrap();
        assert_eq!(status.code(), Some(0), "router {at}: {log}");
        assert!(!log.contains("canary"), "a password is shown: {log}");
    }
    let admin = supplier.admin_url();
    let mut ends: BTreeMap<String, String> = BTreeMap::new();
    for at in 0..ROUTERS {
        let results = Routers::results(at);
        run(bench.command(&["check", "--ledger", &admin, "--results", &results]), 0);
        for line in read_lines(&bench.path(&results)).iter().filter(|l| l["outcome"] == "placed") {
            let text = |field: &str| line[field].as_str().expect("text").to_owned();
            let id = ends.entry(text("client_ref")).or_insert_with(|| text("order_id"));
            assert_eq!(*id, text("order_id"), "two routers give different answers");
        }
    }
    assert_eq!(ends.len(), PURCHASES);
    println!("{PURCHASES} purchases by {ROUTERS} routers, {ROUNDS} rounds: {:?}", begun.elapsed());
    supplier.ledger()
}

#[test]
fn three_routers_on_one_postgres_buy_once_over_kills_and_pauses() {
    let Some(server) = Postgres::shared() else { return };
    three_routers_buy_once(server.url("three_routers"));
}

#[test]
fn three_routers_on_one_redis_buy_once_over_kills_and_pauses() {
    let Some(server) = Redis::shared() else { return };
    three_routers_buy_once(server.url("three_routers"));
}

#[test]
fn three_routers_on_one_redis_pay_once_over_kills_and_pauses() {
    let Some(server) = Redis::shared() else { return };
    let contract =
        Contract { pays_on: PayTime::Pay, repeated_pay_debits: true, ..Contract::default() };
    let faults = Faults {
        pay_withheld_after: 0.01,
        pay_late: 0.01,
        pay_500_after: 0.01,
        pay_reset_after: 0.01,
        pay_500_before: 0.005,
        ..faults()
    };
    let config = SimulatorConfig { contract, faults, ..SimulatorConfig::default() };
    let supplier = Simulator::spawn_thread(config).unwrap();
    let flags = &["--pays-on", "pay", "--pay-watch", "300ms"];
    let ledger = three_routers(server.url("three_routers_pay"), supplier, flags);
    assert_eq!(ledger.len(), PURCHASES);
    assert!(ledger.iter().all(|order| order.debits == 1), "each is debited once");
}
