//! A process that stands still longer than its send window: what it had recorded and not sent stays
//! unsent, and nothing is bought twice.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::*;

#[test]
fn a_process_that_is_stopped_for_longer_than_the_send_window_buys_nothing_twice() {
    let bench = Bench::new();
    let rows: Vec<_> = (0..600).map(|n| format!("p-{n},item-{},1", n % 11)).collect();
    let rows: Vec<_> = rows.iter().map(String::as_str).collect();
    bench.file("in.csv", &csv(&rows));
    let supplier = simulator(Faults {
        latency: Duration::from_millis(100),
        withheld_after_creation: 0.02,
        ..Faults::default()
    });
    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.args(["--concurrency", "16"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let pid = Pid::from_child(&child);
    for pause in [300, 2_300, 2_300] {
        let wait = |millis| {
            // Real time passes on purpose: the stop comes wherever the run happens to be.
            let until = Instant::now() + Duration::from_millis(millis);
            while Instant::now() < until {
                std::thread::park_timeout(until - Instant::now());
            }
        };
        wait(700);
        kill_process(pid, Signal::STOP).unwrap();
        wait(pause);
        kill_process(pid, Signal::CONT).unwrap();
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let admin = supplier.admin_url();
    run(bench.command(&["check", "--ledger", &admin, "--results", "results.jsonl"]), 0);
    assert_eq!(supplier.ledger().len(), 600);
}
