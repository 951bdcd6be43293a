//! The server is killed as by a crash, and started again on what it left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::faults::failed;
use super::{Server, Way, with, within};
use crate::protocol::{Change, Learnt, State};
use crate::store::Committed;
use crate::testing::conformance::{Bench, decide, placed, reference};

/// Writers at work while the server is killed and started again: what was acknowledged is there, what
/// was in doubt was read back, and nothing was written twice. Where the server forgets
/// ([`keeps`](super::Networked::keeps)), the store does not go on as if nothing had been.
pub async fn nothing_acknowledged_is_lost_when_the_server_is_killed(server: &Server) {
    if !server.keeps() {
        return the_store_stops_where_the_server_forgot(server).await;
    }
    const WRITERS: usize = 6;
    const KILLS: usize = 2;
    const BETWEEN: usize = 25;
    let way = Way::to(server);
    let bench = way.open().await;
    let before = way.changes().await;
    let (count, mut counted) = watch::channel(0_usize);
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(bench.clone(), writer, count.clone(), stop.clone()));
    }
    drop(count);
    for kills in 0..=KILLS {
        let enough = *counted.borrow() + BETWEEN;
        let going_on = within("going on", counted.wait_for(|count| *count >= enough)).await;
        going_on.expect("a writer is told what it did");
        if kills < KILLS {
            with(server, |server| {
                server.kill();
                server.start();
            })
            .await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    let all = within("writing", writers.join_all()).await;
    let all: Vec<_> = all.into_iter().flatten().collect();
    let acknowledged = u64::try_from(all.len()).unwrap_or(u64::MAX);
    let counted = way.changes().await.zip(before).map(|(after, before)| after - before);
    assert!(
        counted.is_none_or(|counted| counted == 2 * acknowledged),
        "{counted:?} changes are there, {acknowledged} orders were acknowledged"
    );
    bench.store.close().await.expect("closes");
    drop(bench);
    let bench = way.open_elsewhere().await;
    for (name, order) in &all {
        let stored = bench.find(name).await;
        let Some(State::Placed { id, .. }) = stored.map(|stored| stored.state) else {
            panic!("{name} is lost");
        };
        assert_eq!(id.as_str(), order);
    }
    assert_eq!((bench.store.stats().open, bench.store.stats().ended), (0, acknowledged));
}

/// Buys until it is told to stop; what was acknowledged.
async fn write(
    bench: Bench,
    writer: usize,
    count: watch::Sender<usize>,
    stop: Arc<AtomicBool>,
) -> Vec<(String, String)> {
    let mut acknowledged = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let at = acknowledged.len();
        let (name, order) = (format!("w{writer}-{at}"), format!("o{writer}-{at}"));
        let ids = bench.sending(&name, "a").await;
        bench.done(decide(ids, placed(&order, Learnt::Answer))).await;
        acknowledged.push((name, order));
        count.send_modify(|count| *count += 1);
    }
    acknowledged
}

/// A server that keeps all in memory comes back without what was acknowledged.
async fn the_store_stops_where_the_server_forgot(server: &Server) {
    let way = Way::to(server);
    let bench = way.open().await;
    bench.queued("before", "a").await;
    with(server, |server| server.kill()).await;
    let intent = bench.intent("during", "a");
    let waiting = bench.store.commit(Change::Accept { intent, attempt: None });
    with(server, |server| server.start()).await;
    let told = within("an answer", waiting).await;
    assert!(!matches!(told, Ok(Committed::Done)), "it goes on where acknowledged orders are gone");
    failed(&way, told);
    failed(&way, bench.store.commit(Change::Resume).await);
    failed(&way, bench.store.find(reference("before")).await);
}
