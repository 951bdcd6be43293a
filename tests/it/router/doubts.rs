use std::time::Instant;

use order_router::protocol::evidence::Means;
use order_router::simulator::PostFault;

use super::*;

/// Buys `n` identical orders at once under different references; how long until the last of those
/// that never came into doubt was placed, and every end.
async fn hot_item(world: &World, n: usize) -> (Duration, Vec<(Order, End)>) {
    let router = world.ready().await;
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..n {
        let router = router.clone();
        tasks.spawn(async move {
            let order = order(&format!("hot-{i}"), "hot", 1);
            let mut ticket = router.track(order.clone()).expect("taken");
            let mut doubted = false;
            loop {
                match ticket.next().await.expect("an end comes") {
                    Progress::Ended(end) => return (order, end, begun.elapsed(), doubted),
                    Progress::Failed(error) => panic!("{error}"),
                    Progress::InDoubt | Progress::Held(_) => doubted = true,
                    Progress::Submitted | Progress::Accepted | Progress::Created { .. } => {}
                }
            }
        });
    }
    let ends = tasks.join_all().await;
    let sure = ends.iter().filter(|(_, _, _, doubted)| !doubted);
    let last = sure.map(|(_, _, after, _)| *after).max().expect("some are never in doubt");
    router.shutdown(Duration::from_secs(1)).await.expect("stopped");
    (last, ends.into_iter().map(|(order, end, _, _)| (order, end)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_item_goes_on_being_bought_while_some_of_its_orders_are_in_doubt() {
    let latency = Duration::from_millis(20);
    let (mut calm, mut faulty) = (Duration::MAX, Duration::MAX);
    // What else the machine does can only lengthen a run: the shortest of a few is the truth.
    for _ in 0..8 {
        for (withheld, best) in [(0.0, &mut calm), (0.05, &mut faulty)] {
            let faults = Faults { withheld_after_creation: withheld, latency, ..Faults::default() };
            let mut world = World::new(faults);
            // Fewer at once than there are orders, so that the doubts could be in the way.
            world.config = world.config.clone().posts_max(256);
            let (time, ends) = hot_item(&world, 1_000).await;
            assert_eq!(ends.len(), 1_000);
            check_books(&ends, &world.simulator.ledger());
            *best = time.min(*best);
        }
        println!("calm {calm:?}, 5% in doubt {faulty:?}");
        if faulty <= calm.mul_f64(1.3) {
            return;
        }
    }
    panic!("more than 1.3 times the time without faults: {calm:?}, {faulty:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_doubts_in_five_hundred_lanes_share_their_listings() {
    let mut world = World::new(Faults::default());
    let timeout = Duration::from_secs(1);
    world.settings.wire_bound = timeout;
    world.config = Config::default()
        .request_timeout(timeout)
        .landing_bound(Some(Duration::from_secs(4)))
        .doubts_max(1_000);
    let router = world.ready().await;
    // One order is seen by its own answer: the list's echo is known to be faithful (A4).
    placed(&buy(&router, order("witness", "witness", 1)).await);
    let before = world.simulator.stats().listings;
    let script = (0..500).map(|n| {
        let landed = n % 2 == 0;
        Some(if landed {
            PostFault::WithheldAfterCreation
        } else {
            PostFault::WithheldNeverCreated
        })
    });
    let faults = Faults { script: script.collect(), ..Faults::default() };
    world.simulator.set_faults(faults).expect("faults");
    let orders = (0..500).map(|n| order(&format!("ref-{n}"), &format!("item-{n}"), 1));
    let mut tasks = tokio::task::JoinSet::new();
    for order in orders {
        let router = router.clone();
        tasks.spawn(async move { (order.clone(), buy(&router, order).await) });
    }
    let mut bought = tasks.join_all().await;
    let listings = world.simulator.stats().listings - before;
    println!("{listings} listings");
    assert!(listings < 20, "{listings} listings");
    let witness = router.submit(order("witness", "witness", 1)).await.expect("an end");
    bought.push((order("witness", "witness", 1), witness));
    check_books(&bought, &world.simulator.ledger());
}

/// Every fault that the simulated supplier knows, one at a time: nothing is bought twice, nothing
/// is lost, and what was bought has its owner.
#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_post_leaves_the_books_right() {
    for fault in PostFault::ALL {
        let mut world = World::new(Faults {
            late_after: Duration::from_millis(600),
            list_lag: Duration::from_millis(50),
            ..Faults::default()
        });
        if *fault == PostFault::RateLimited429After {
            // A supplier that creates what it answers with 429 needs to be known for it.
            world.settings.evidence.rate_limited = Means::Unknown;
        }
        let router = world.ready().await;
        placed(&buy(&router, order("witness", "x", 1)).await);
        let script = (0..6).map(|n| (n % 2 == 0).then_some(*fault)).collect();
        let mut faults = world.simulator.faults();
        faults.script = script;
        world.simulator.set_faults(faults).expect("faults");
        let orders = (0..12).map(|n| order(&format!("{fault}-{n}"), ["x", "y"][n % 2], 1));
        let mut tasks = tokio::task::JoinSet::new();
        for order in orders {
            let router = router.clone();
            tasks.spawn(async move { (order.clone(), buy(&router, order).await) });
        }
        let mut bought = tasks.join_all().await;
        let witness = router.submit(order("witness", "x", 1)).await.expect("an end");
        bought.push((order("witness", "x", 1), witness));
        println!("{fault}: checked");
        check_books(&bought, &world.simulator.ledger());
    }
}

fn priced(reference: &str, item: &str, price: &str) -> Order {
    let item = Item::new(item, 1).expect("an item").total_price(price.parse().expect("a price"));
    Order::new(ClientRef::new(reference).expect("a reference"), vec![item]).expect("an order")
}

/// A router that bounds the money in doubt by 100, one POST after the other; nothing is decided.
async fn bounded(orders: Vec<Order>) -> (usize, usize) {
    let hour = Duration::from_secs(3600);
    let faults = Faults { withheld_after_creation: 1.0, list_lag: hour, ..Faults::default() };
    let mut world = World::new(faults);
    let most = Some("100".parse().expect("a price"));
    let config = world.config.clone().landing_bound(None).posts_max(1);
    world.config = config.doubts_amount_max(most);
    let router = world.ready().await;
    for order in orders {
        drop(router.track(order).expect("taken"));
    }
    let stopped = async {
        while router.stats().sending_stopped.as_deref() != Some("too many orders are in doubt") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), stopped).await.expect("it stops");
    tokio::time::sleep(Duration::from_secs(1)).await;
    (world.simulator.ledger().len(), router.stats().in_doubt)
}

#[tokio::test(flavor = "multi_thread")]
async fn doubts_are_bounded_by_money() {
    // Three cost less than a hundred, four do not; one more may have been under way.
    let orders = (0..20).map(|n| priced(&format!("ref-{n}"), &format!("item-{}", n % 3), "30.01"));
    let (sold, in_doubt) = bounded(orders.collect()).await;
    assert!((4..=5).contains(&sold) && sold == in_doubt, "{sold} sold, {in_doubt} in doubt");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_doubt_without_a_price_is_as_much_money_as_is_allowed() {
    let orders = (0..5).map(|n| order(&format!("ref-{n}"), "item", 1));
    let (sold, in_doubt) = bounded(orders.collect()).await;
    assert!((1..=2).contains(&sold) && sold == in_doubt, "{sold} sold, {in_doubt} in doubt");
}
