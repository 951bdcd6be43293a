//! A store that fails while many wait.

use std::sync::mpsc;

use order_router::SubmitError;
use order_router::runtime::Runtime;
use order_router::store::{EmbeddedConfig, EmbeddedStore, IndexMode};
use order_router::testing::disk::ForgetfulDisk;

use super::*;

/// How often, and how many wait for how many orders.
const TIMES: usize = 10;
const ORDERS: usize = 150;
const WAITERS: usize = 12;

/// Every lane says that the store has failed, while everybody who waits is told so.
async fn fail_while_many_wait() {
    let mut world = World::new(Faults { withheld_never_created: 1.0, ..Faults::default() });
    let disk = ForgetfulDisk::new();
    let runtime = Runtime { disk: Arc::new(disk.clone()), ..world.runtime() };
    let config = EmbeddedConfig { index: IndexMode::Memory, ..EmbeddedConfig::default() };
    world.store = Arc::new(EmbeddedStore::open("/store", config, &runtime).expect("opens"));
    world.config = world.config.clone().shards(2);
    let router = world.ready().await;
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..ORDERS {
        let name = format!("w-{n}");
        let mut ticket = router.track(order(&name, &format!("item-{n}"), 1)).expect("taken");
        while !matches!(ticket.next().await, Some(Progress::Accepted)) {}
        for _ in 0..WAITERS {
            let (router, name) = (router.clone(), ClientRef::new(&name).expect("a reference"));
            waiting.spawn(async move { router.wait(&name, Duration::from_secs(60)).await });
        }
    }
    // No answer comes: after the request timeout every lane has a doubt to write down.
    disk.cut();
    for told in waiting.join_all().await {
        assert!(matches!(told, Err(SubmitError::Store { .. })), "{told:?}");
    }
}

#[test]
fn everybody_who_waits_is_told_that_the_store_has_failed_and_nothing_stands_still() {
    for _ in 0..TIMES {
        // Watched from a thread of its own: what stands still takes its runtime with it.
        let (done, is_done) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            runtime.expect("a runtime").block_on(fail_while_many_wait());
            // Whoever watches has given up if this fails.
            let _ = done.send(());
        });
        is_done.recv_timeout(Duration::from_secs(30)).expect("the router stands still");
    }
}
