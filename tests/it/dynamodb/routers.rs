//! The whole router on DynamoDB, against a supplier with faults.

use order_router::Order;
use order_router::simulator::Faults;

use super::super::router::{World, buy, check_books, order};
use super::*;

/// A few hundred orders; on the way every connection is cut, over and over, and then the router is
/// stopped and another takes over. One order each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_order_is_bought_once_over_cut_connections_and_a_new_router() {
    const ORDERS: usize = 200;
    let Some(server) = DynamoDb::start(&[]) else { return };
    let (name, proxy) = (table(), Proxy::start(server.port));
    let faults = Faults { reset_after: 0.1, reset_before: 0.1, ..Faults::default() };
    let mut world = World::new(faults);
    let mut through = config(&dynamodb_at(proxy.port, &name));
    through.lease = LeaseTerms { pause_max: Duration::ZERO, ..LeaseTerms::default() };
    create_table(&through).await.expect("makes the table");
    world.store = dynamodb::open(through).await.expect("opens");
    let router = world.ready().await;
    let orders: Vec<Order> =
        (0..ORDERS).map(|at| order(&format!("c{at}"), &format!("p{}", at % 7), 1)).collect();
    let (count, mut counted) = tokio::sync::watch::channel(0_usize);
    let mut tasks = tokio::task::JoinSet::new();
    for order in orders {
        let (router, count) = (router.clone(), count.clone());
        tasks.spawn(async move {
            let end = buy(&router, order.clone()).await;
            count.send_modify(|count| *count += 1);
            (order, end)
        });
    }
    for cuts in 1..=4 {
        counted.wait_for(|count| *count >= cuts * ORDERS / 6).await.expect("they go on");
        match cuts % 2 {
            0 => proxy.lose_answer(b"TransactWriteItems", b"HTTP/1."),
            _ => proxy.cut(),
        }
    }
    let bought = tasks.join_all().await;
    check_books(&bought, &world.simulator.ledger());
    router.shutdown(Duration::ZERO).await.expect("stops");
    // Another router on the same namespace knows them all.
    world.store = dynamodb::open(config(&server.url(&name))).await.expect("opens");
    let router = world.ready().await;
    for (order, end) in &bought {
        assert_eq!(buy(&router, order.clone()).await, *end);
    }
    check_books(&bought, &world.simulator.ledger());
    router.shutdown(Duration::ZERO).await.expect("stops");
    let raw = Raw::at(server.port, &name);
    assert_eq!(raw.named("ref").await.len(), ORDERS);
    assert_eq!(raw.named("order/").await.len(), ORDERS);
    assert_eq!(raw.named("active").await, [""; 0]);
}
