//! How long a start takes until the first order is accepted, and how fast the index is rebuilt.
//!
//! ```text
//! cargo bench --bench restart              100,000 open, and 1,000,000 ended beside them
//! cargo bench --bench restart -- 200000    and so many ended
//! cargo bench --bench restart -- 200000 compacted    so many ended alone, before and after a compaction
//! ```

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use order_router::OrderId;
use order_router::protocol::{Change, Learnt, Verdict};
use order_router::store::{EmbeddedConfig, EmbeddedStore, IntentStore, tools};

#[path = "shared/intents.rs"]
mod intents;

use intents::{WRITERS, accept, open, run, runtime};

/// Orders that are open when the store is opened.
const OPEN: usize = 100_000;

fn main() {
    let ended = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    if std::env::args().any(|arg| arg == "compacted") {
        return compacted(ended);
    }
    restart(0);
    restart(ended);
}

/// Starts and bytes before a compaction, after it, and after one that drops the items.
fn compacted(ended: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    fill(&Arc::new(open(dir.path())), ended);
    println!(
        "\n| {ended} ended | journal, bytes an order | index, bytes an order | start, s | again, s |"
    );
    println!("|---|---|---|---|---|");
    starts(dir.path(), "before", ended);
    for (what, drop_before) in
        [("compacted", None), ("compacted, items dropped", Some(Timestamp::MAX))]
    {
        let begun = Instant::now();
        let config = EmbeddedConfig::default();
        tools::compact(dir.path(), &config, drop_before).expect("compacts");
        starts(dir.path(), &format!("{what} in {:.1} s", begun.elapsed().as_secs_f64()), ended);
    }
}

fn starts(dir: &Path, what: &str, ended: usize) {
    let seconds = [(); 2].map(|()| {
        let begun = Instant::now();
        drop(open(dir));
        begun.elapsed().as_secs_f64()
    });
    let stats = tools::stats(dir).expect("reads");
    let each = |bytes: u64| bytes / ended.max(1) as u64;
    let (journal, index) = (each(stats.journal_bytes), each(stats.index_bytes));
    println!("| {what} | {journal} | {index} | {:.2} | {:.2} |", seconds[0], seconds[1]);
}

fn restart(ended: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(open(dir.path()));
    fill(&store, ended);
    run(WRITERS, OPEN, |_, share| {
        let store = store.clone();
        async move {
            for at in 0..share {
                store.commit(accept(&*store, at).0).await.expect("the store works");
            }
        }
    });
    drop(store);
    println!("\n| start with {OPEN} open and {ended} ended: first order accepted | seconds |");
    println!("|---|---|");
    first_accept(dir.path(), "after a close");
    first_accept(dir.path(), "again");
    let begun = Instant::now();
    let report = tools::rebuild(dir.path(), &EmbeddedConfig::default()).expect("rebuilds");
    let seconds = begun.elapsed().as_secs_f64();
    let rate = report.journal.changes as f64 / seconds;
    println!("| rebuild of {} records, {rate:.0}/s | {seconds:.2} |", report.journal.changes);
    first_accept(dir.path(), "after the rebuild");
    let stats = tools::stats(dir.path()).expect("reads");
    if let Some(bytes) = stats.bytes_per_ended {
        println!("\n{bytes:.0} bytes per ended order on disk, those of the open ones with them");
    }
}

/// Orders that were placed.
fn fill(store: &Arc<EmbeddedStore>, ended: usize) {
    run(WRITERS, ended, |_, share| {
        let store = store.clone();
        async move {
            for at in 0..share {
                let (change, intent, attempt) = accept(&*store, at);
                store.commit(change).await.expect("the store works");
                let verdict = Verdict::Placed {
                    id: OrderId::new(format!("order-{}", intent.id.0)).expect("an id"),
                    learnt: Learnt::Answer,
                    created_at: Some(Timestamp::UNIX_EPOCH),
                };
                let decide = Change::Decide { intent: intent.id, attempt: attempt.seq, verdict };
                store.commit(decide).await.expect("the store works");
            }
        }
    });
}

/// Opens, accepts one order, and says how long both took.
fn first_accept(dir: &Path, what: &str) {
    let begun = Instant::now();
    let store = open(dir);
    let opened = begun.elapsed().as_secs_f64();
    runtime().block_on(async {
        let open = store.rehydrate().await.expect("the store works").intents.len();
        assert!((OPEN..OPEN + 10).contains(&open), "{open} are open");
        store.commit(accept(&store, 0).0).await.expect("the store works");
    });
    let accepted = begun.elapsed().as_secs_f64();
    println!("| {what} (opened after {opened:.2}) | {accepted:.2} |");
}
