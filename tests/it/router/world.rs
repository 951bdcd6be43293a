//! A world that behaves oddly: orders that fail, strangers, clocks that jump.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use order_router::runtime::Runtime;

use super::clock::JumpingClock;
use super::*;

fn orders(n: usize) -> Vec<Order> {
    (0..n).map(|i| order(&format!("ref-{i}"), &format!("item-{}", i % 7), 1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_counts_whatever_its_status() {
    let world = World::new(Faults {
        order_failed: 0.2,
        order_cancelled: 0.2,
        order_partial: 0.2,
        order_unknown_status: 0.2,
        withheld_after_creation: 0.3,
        ..Faults::default()
    });
    let router = world.ready().await;
    buy_all(&world, &router, orders(60)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_buys_the_same_holds_the_lane_and_never_buys_twice() {
    let world = World::new(Faults { list_lag: Duration::from_millis(100), ..Faults::default() });
    let router = world.ready().await;
    placed(&buy(&router, order("witness", "y", 1)).await);
    let mut faults = world.simulator.faults();
    // Each POST lands unanswered, and somebody else buys the same thing.
    (faults.withheld_after_creation, faults.foreign_identical) = (1.0, 1.0);
    world.simulator.set_faults(faults).expect("faults");
    let mut ticket = router.track(order("ours", "x", 1)).expect("taken");
    loop {
        match ticket.next().await {
            // Two rows for one doubt.
            Some(Progress::Held(_)) => break,
            Some(Progress::Ended(end)) => panic!("{end:?}"),
            _ => {}
        }
    }
    world.simulator.set_faults(Faults::default()).expect("faults");
    let error = router.submit(order("next", "x", 1)).await.expect_err("held");
    assert!(matches!(error, order_router::SubmitError::LaneHeld { .. }), "{error}");
    let ours = world.simulator.ledger().iter().filter(|row| !row.foreign).count();
    assert_eq!(ours, 2, "one for the witness, one in doubt, none more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_jumps_an_hour_either_way_changes_nothing() {
    let world = World::new(Faults {
        withheld_after_creation: 0.1,
        withheld_never_created: 0.05,
        list_lag: Duration::from_millis(50),
        ..Faults::default()
    });
    let steady = Runtime::system();
    let clock =
        Arc::new(JumpingClock { steady: steady.clock.clone(), ahead_seconds: AtomicI64::new(0) });
    let runtime = Runtime { clock: clock.clone(), ..steady };
    let key = ApiKey::new("test-key").expect("a key");
    let supplier =
        FoxReload::new(&world.simulator.url(), &key, world.settings.clone(), clock.clone());
    let router = OrderRouter::builder(Arc::new(supplier.expect("a client")), world.store.clone())
        .config(world.config.clone())
        .runtime(runtime)
        .start()
        .await
        .expect("a start");
    router.ready().await.expect("ready");
    let mut bought = Vec::new();
    // Less than the half of the clock margin, beyond which nothing is released: and well beyond it,
    // but back before the end.
    for (round, ahead) in [0, 1_500, -1_500, 3_600, -3_600, 0].into_iter().enumerate() {
        clock.ahead_seconds.store(ahead, Ordering::Relaxed);
        let order = order(&format!("round-{round}"), "x", 1);
        // Worth sending whatever the clock says.
        let order = order.good_until(Timestamp::MAX);
        bought.push((order.clone(), router.track(order).expect("taken")));
    }
    let mut ends = Vec::new();
    for (order, mut ticket) in bought {
        let end = loop {
            match ticket.next().await.expect("an end comes") {
                Progress::Ended(end) => break end,
                Progress::Failed(error) => panic!("{error}"),
                _ => {}
            }
        };
        ends.push((order, end));
    }
    check_books(&ends, &world.simulator.ledger());
}
