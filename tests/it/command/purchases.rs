//! Real purchases, each submitted twice at once, from a faulty supplier, killed again and again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::*;

/// How many purchases, and how often the router is killed.
const PURCHASES: usize = 5_000;
const KILLS: u32 = 20;
/// How long the whole may take.
const LIMIT: Duration = Duration::from_secs(90);

/// Purchases of one month of a real shop, where that file is there; else a look-alike of it. Each so
/// many times in a row.
pub(super) fn purchases(count: usize, times: usize) -> String {
    let real =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/online-retail-2011-11.csv");
    let text = std::fs::read_to_string(real).unwrap_or_else(|_| look_alike(count, 11));
    let mut lines = text.lines();
    let header = lines.next().expect("a header");
    let mut text = format!("{header}\n");
    for line in lines.take(count) {
        (0..times).for_each(|_| writeln!(text, "{line}").expect("memory"));
    }
    text
}

/// As in the real file: some items are hot, purchases come in bursts, and every sixtieth repeats
/// one of the same minute.
fn look_alike(purchases: usize, seed: u64) -> String {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut text = String::from("placed_at,client_ref,item_id,quantity,unit_price\n");
    let (mut minute, mut left, mut customer) = (0, 0, 0);
    let (mut item, mut quantity) = (0, 1);
    for n in 1..=purchases {
        if left == 0 {
            minute += 1;
            left = 1 + dice.usize(0..40) * dice.usize(0..18) / 4;
            customer = 12_000 + dice.u32(0..6_000);
        }
        left -= 1;
        if n % 60 != 0 {
            // The square makes low numbers frequent: hot items.
            let share = dice.f64();
            item = (share * share * 2_700.0) as u32;
            quantity = [1, 1, 2, 3, 4, 6, 8, 10, 12, 24][dice.usize(0..10)];
        }
        let (hour, minute) = (8 + minute / 60 % 12, minute % 60);
        writeln!(
            text,
            "2011-11-01T{hour:02}:{minute:02}:00Z,look-{customer}-{n},item-{item},{quantity},1.25"
        )
        .expect("memory");
    }
    text
}

#[test]
fn five_thousand_purchases_twice_at_once_survive_twenty_kills_and_are_bought_exactly_once() {
    let bench = Bench::new();
    bench.file("in.csv", &purchases(PURCHASES, 2));
    let supplier = simulator(Faults {
        withheld_after_creation: 0.02,
        created_late: 0.01,
        late_after: Duration::from_millis(1_500),
        status_500_after: 0.01,
        reset_after: 0.01,
        cut_201: 0.005,
        rate_limited_429: 0.002,
        list_lag: Duration::from_millis(300),
        ..Faults::default()
    });
    let mut dice = fastrand::Rng::with_seed(20);
    let begun = Instant::now();
    let mut kills = 0;
    loop {
        let mut command = bench.command(&["submit", "in.csv", "--supplier", &supplier.url()]);
        command.args(["--request-timeout", "1s", "--landing-bound", "4s", "--data", "data"]);
        command.args(["--results", "results.jsonl", "--concurrency", "256"]);
        command.args(["--doubts-max", "10000"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        if kills == KILLS {
            let status = child.wait().unwrap();
            assert_eq!(status.code(), Some(0));
            break;
        }
        // Real time passes on purpose: the kill comes wherever the run happens to be.
        let kill_at = Instant::now() + Duration::from_millis(dice.u64(100..1_500));
        while Instant::now() < kill_at {
            std::thread::park_timeout(kill_at - Instant::now());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    let admin = supplier.admin_url();
    let check = bench.command(&["check", "--ledger", &admin, "--results", "results.jsonl"]);
    let text = stdout(&run(check, 0));
    println!("{text}{kills} kills, {:?}", begun.elapsed());
    assert_eq!(supplier.ledger().len(), PURCHASES);
    let mut ends: BTreeMap<String, String> = BTreeMap::new();
    for line in bench.results().iter().filter(|line| line["outcome"] == "placed") {
        let text = |field: &str| line[field].as_str().expect("text").to_owned();
        let id = ends.entry(text("client_ref")).or_insert_with(|| text("order_id"));
        assert_eq!(*id, text("order_id"), "an end was changed");
    }
    assert_eq!(ends.len(), PURCHASES);
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}
