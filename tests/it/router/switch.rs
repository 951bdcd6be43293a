//! The kill switch.

use super::*;

/// Waits until the supplier has sold as many orders as `enough` says.
async fn sold(world: &World, enough: usize) {
    while world.simulator.ledger().len() < enough {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn orders(n: usize) -> Vec<Order> {
    (0..n).map(|i| order(&format!("ref-{i}"), &format!("item-{}", i % 5), 1)).collect()
}

/// A stop that nobody told of, because it was short.
#[tokio::test(flavor = "multi_thread")]
async fn orders_go_on_after_a_file_that_was_there_for_a_moment() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("STOP");
    let mut world = World::new(Faults::default());
    world.config = world.config.clone().stop_file(Some(file.clone()));
    let router = world.ready().await;
    std::fs::write(&file, "").expect("a file");
    let ticket = router.track(order("ref", "item", 1)).expect("taken");
    tokio::time::sleep(Duration::from_millis(100)).await;
    std::fs::remove_file(&file).expect("removed");
    drop(ticket);
    buy_all(&world, &router, vec![order("ref", "item", 1)]).await;
}

/// After this, whatever had its bytes out has landed.
const LANDED: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread")]
async fn what_the_host_stops_stays_stopped_over_a_restart_until_it_resumes() {
    let mut world = World::new(Faults {
        latency: Duration::from_millis(20),
        withheld_after_creation: 0.05,
        ..Faults::default()
    });
    world.config = world.config.clone().posts_max(8);
    let router = world.ready().await;
    let tickets: Vec<_> =
        orders(300).into_iter().map(|order| router.track(order).expect("taken")).collect();
    sold(&world, 40).await;
    router.stop_sending("prices are wrong").await.expect("durable");
    tokio::time::sleep(LANDED).await;
    let stopped_at = world.simulator.ledger().len();
    assert!(stopped_at < 300, "all were sold before it was stopped");
    assert_eq!(router.stats().sending_stopped.as_deref(), Some("prices are wrong"));
    // Longer than any doubt takes to be decided, and any release to be sent again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.simulator.ledger().len(), stopped_at);
    assert_eq!(router.stats().in_doubt, 0, "doubts are decided meanwhile");
    drop(tickets);
    drop(router);

    let router = world.ready().await;
    tokio::time::sleep(LANDED).await;
    assert_eq!(world.simulator.ledger().len(), stopped_at);
    assert_eq!(router.stats().sending_stopped.as_deref(), Some("prices are wrong"));
    router.resume_sending().await.expect("durable");
    buy_all(&world, &router, orders(300)).await;
    drop(router);
    let router = world.ready().await;
    placed(&buy(&router, order("later", "item", 1)).await);
    assert_eq!(router.stats().sending_stopped, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_while_the_stop_file_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("STOP");
    let mut world = World::new(Faults { latency: Duration::from_millis(20), ..Faults::default() });
    world.config = world.config.clone().posts_max(8).stop_file(Some(file.clone()));
    let router = world.ready().await;
    let mut events = router.events();
    let tickets: Vec<_> =
        orders(200).into_iter().map(|order| router.track(order).expect("taken")).collect();
    sold(&world, 40).await;
    std::fs::write(&file, "a person says so\n").expect("a file");
    tokio::time::sleep(LANDED).await;
    let stopped_at = world.simulator.ledger().len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.simulator.ledger().len(), stopped_at);
    let why = router.stats().sending_stopped.expect("stopped");
    assert!(why.ends_with("STOP is there: a person says so"), "{why}");
    std::fs::remove_file(&file).expect("removed");
    drop(tickets);
    buy_all(&world, &router, orders(200)).await;
    // Said once each.
    let mut said = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        if let order_router::RouterEvent::Sending { stopped } = event {
            said.push(stopped.is_some());
        }
    }
    assert_eq!(said, [true, false]);
}
