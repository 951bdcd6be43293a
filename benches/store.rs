//! Durable intents per second, beside a plain file with `fdatasync` in the same run.
//!
//! ```text
//! cargo bench --bench store                          a burst of 100,000 from 256 writers, 5 rounds
//! cargo bench --bench store -- --sustained 2000000   until the index has caught up
//! ```

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use order_router::store::{Committed, IntentStore};
use tokio::sync::oneshot;

#[path = "shared/intents.rs"]
mod intents;

use intents::{WRITERS, accept, open, run};

const RECORD_BYTES: usize = 256;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (mode, count) = (args.next(), args.next().and_then(|n| n.parse::<usize>().ok()));
    match mode.as_deref() {
        Some("--sustained") => sustained(count.unwrap_or(2_000_000)),
        _ => burst(count.unwrap_or(100_000)),
    }
}

fn burst(count: usize) {
    let (mut plain, mut store) = (Vec::new(), Vec::new());
    for round in 1..=5 {
        let p = plain_file(WRITERS, count);
        let (s, stats, _) = accepted(WRITERS, count, false);
        println!(
            "round {round}: plain {p:>9.0}/s, store {s:>9.0}/s, {:.0} changes a sync, index {} behind",
            stats.changes as f64 / stats.syncs.max(1) as f64,
            stats.index_lag
        );
        plain.push(p);
        store.push(s);
    }
    table(&format!("burst of {count} from {WRITERS} writers"), plain, store);
    one_writer();
    start_and_stop();
}

/// One writer, each change waited for: microseconds each, beside the plain file.
fn one_writer() {
    let count = 2_000;
    let median = |per_second: &dyn Fn() -> f64| {
        let mut all: Vec<f64> = (0..5).map(|_| 1e6 / per_second()).collect();
        all.sort_by(f64::total_cmp);
        all[2]
    };
    let plain = median(&|| plain_file(1, count));
    let store = median(&|| accepted(1, count, false).0);
    println!("\n| one writer | us each |\n|---|---|\n| plain file | {plain:.0} |");
    println!("| durable intent | {store:.0} |");
}

fn start_and_stop() {
    let mut all: Vec<(f64, f64)> = (0..11)
        .map(|_| {
            let dir = tempfile::tempdir().expect("a directory");
            let timed = || {
                let begun = Instant::now();
                drop(open(dir.path()));
                begun.elapsed().as_secs_f64() * 1e3
            };
            (timed(), timed())
        })
        .collect();
    all.sort_by(|one, two| one.0.total_cmp(&two.0));
    println!("\n| start and stop of an empty store | ms |\n|---|---|");
    println!("| the first | {:.1} |\n| the second | {:.1} |", all[5].0, all[5].1);
}

fn sustained(count: usize) {
    let plain = plain_file(WRITERS, count);
    let (store, stats, dir) = accepted(WRITERS, count, true);
    println!("index {} behind at the end, {} open", stats.index_lag, stats.open);
    table(&format!("{count} from {WRITERS} writers, index caught up"), vec![plain], vec![store]);
    drop(dir);
}

fn table(what: &str, mut plain: Vec<f64>, mut store: Vec<f64>) {
    plain.sort_by(f64::total_cmp);
    store.sort_by(f64::total_cmp);
    let (plain, store) = (plain[plain.len() / 2], store[store.len() / 2]);
    println!("\n| {what} | per second | ratio |\n|---|---|---|");
    println!("| plain file, one fdatasync a batch, {RECORD_BYTES} B | {plain:.0} | 1.00 |");
    println!("| durable intents | {store:.0} | {:.2} |", store / plain);
}

/// Writers' answers, and from how many on the committer is woken.
#[derive(Default)]
struct Waiting {
    answers: Vec<oneshot::Sender<()>>,
    wake_at: usize,
    done: bool,
}

/// The same shape with nothing in it: a thread that appends what is there and syncs. It waits for
/// company as the store does.
fn plain_file(writers: usize, count: usize) -> f64 {
    let dir = tempfile::tempdir().expect("a directory");
    let mut file = std::fs::File::create(dir.path().join("plain")).expect("a file");
    let shared: Arc<(Mutex<Waiting>, Condvar)> = Arc::default();
    let committer = std::thread::spawn({
        let shared = shared.clone();
        move || {
            let mut last = 1;
            loop {
                let wait = |wanted: usize, at_most: Duration| {
                    let mut waiting = shared.0.lock().expect("not poisoned");
                    waiting.wake_at = wanted;
                    let mut waiting = shared
                        .1
                        .wait_timeout_while(waiting, at_most, |w| {
                            w.answers.len() < wanted && !w.done
                        })
                        .expect("not poisoned")
                        .0;
                    waiting.wake_at = usize::MAX;
                    std::mem::take(&mut waiting.answers)
                };
                let mut batch = wait(last, Duration::from_micros(200));
                if batch.is_empty() {
                    batch = wait(1, Duration::from_secs(60));
                }
                if batch.is_empty() {
                    return;
                }
                last = batch.len();
                file.write_all(&vec![7; batch.len() * RECORD_BYTES]).expect("writes");
                file.sync_data().expect("syncs");
                for answer in batch {
                    let _ = answer.send(());
                }
            }
        }
    });
    let per_second = run(writers, count, |_, share| {
        let shared = shared.clone();
        async move {
            for _ in 0..share {
                let (answer, answered) = oneshot::channel();
                let wake = {
                    let mut waiting = shared.0.lock().expect("not poisoned");
                    waiting.answers.push(answer);
                    waiting.answers.len() >= waiting.wake_at
                };
                if wake {
                    shared.1.notify_one();
                }
                answered.await.expect("answered");
            }
        }
    });
    shared.0.lock().expect("not poisoned").done = true;
    shared.1.notify_one();
    committer.join().expect("the committer panicked");
    per_second
}

/// Intents accepted with their first attempt; with `caught_up`, until the index has them too.
fn accepted(
    writers: usize,
    count: usize,
    caught_up: bool,
) -> (f64, order_router::store::StoreStats, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(open(dir.path()));
    let begun = Instant::now();
    let mut per_second = run(writers, count, |_, share| {
        let store = store.clone();
        async move {
            for at in 0..share {
                let (change, ..) = accept(&*store, at);
                let committed = store.commit(change).await.expect("the store works");
                assert_eq!(committed, Committed::Done);
            }
        }
    });
    if caught_up {
        while store.stats().index_lag > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("accepted at {per_second:.0}/s, then waited for the index");
        per_second = count as f64 / begun.elapsed().as_secs_f64();
    }
    let stats = store.stats();
    (per_second, stats, dir)
}
