//! The whole router on Redis, against a supplier with faults.

use order_router::Order;
use order_router::simulator::Faults;

use super::super::router::{World, buy, check_books, order};
use super::*;

/// A few hundred orders; on the way the server is killed and started again, and then the
/// router is stopped and another takes over. One order each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_order_is_bought_once_over_a_kill_of_the_server_and_a_new_router() {
    const ORDERS: usize = 300;
    let Some(server) = Redis::start(&[]) else { return };
    let (server, name) = (Arc::new(server), namespace());
    let faults = Faults { reset_after: 0.1, reset_before: 0.1, ..Faults::default() };
    let mut world = World::new(faults);
    world.store = open(&server.url(&name)).await;
    let router = world.ready().await;
    let orders: Vec<Order> =
        (0..ORDERS).map(|at| order(&format!("c{at}"), &format!("p{}", at % 7), 1)).collect();
    let (count, mut counted) = tokio::sync::watch::channel(0_usize);
    let mut tasks = tokio::task::JoinSet::new();
    for (at, order) in orders.iter().cloned().enumerate() {
        let (router, count) = (router.clone(), count.clone());
        tasks.spawn(async move {
            if at >= ORDERS / 3 {
                // The others come while the server is gone, and after.
                let mut counted = count.subscribe();
                counted.wait_for(|count| *count >= ORDERS / 6).await.expect("they go on");
            }
            let end = buy(&router, order.clone()).await;
            count.send_modify(|count| *count += 1);
            (order, end)
        });
    }
    counted.wait_for(|count| *count >= ORDERS / 6).await.expect("they go on");
    let killed = server.clone();
    let kill = tokio::task::spawn_blocking(move || {
        killed.kill();
        killed.run();
    });
    kill.await.expect("starts again");
    let bought = tasks.join_all().await;
    check_books(&bought, &world.simulator.ledger());
    router.shutdown(Duration::ZERO).await.expect("stops");
    // Another router on the same namespace knows them all.
    world.store = open(&server.url(&name)).await;
    let router = world.ready().await;
    for (order, end) in &bought {
        assert_eq!(buy(&router, order.clone()).await, *end);
    }
    check_books(&bought, &world.simulator.ledger());
    router.shutdown(Duration::ZERO).await.expect("stops");
    let claimed = server.cli(&["ZCARD", &format!("{{{name}}}:claimed")]);
    assert_eq!(claimed, ORDERS.to_string());
    assert_eq!(server.cli(&["HLEN", &format!("{{{name}}}:active")]), "0");
}
