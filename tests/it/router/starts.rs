use order_router::protocol::Moment;
use order_router::simulator::PostFault;
use order_router::supplier::{Answer, Exchange, Gate, Supplier};
use order_router::{Resolution, ResolveError, StartAnswer, StartError, SubmitError};

use super::*;

/// Buys directly at the supplier, past any router.
async fn buy_by_hand(world: &World, item: &str) {
    let items = order("by-hand", item, 1).items_shared();
    let closes = Moment::after_origin(Duration::MAX);
    let exchange = world.supplier().place(items, Arc::new(Gate::new(closes))).await;
    assert!(matches!(exchange, Exchange::Answer(Answer { status: 201, .. })), "{exchange:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_15_an_empty_store_on_an_account_with_recent_orders_stops_the_start() {
    let world = World::new(Faults::default());
    buy_by_hand(&world, "x").await;
    let router = world.start().await;
    let error = router.ready().await.expect_err("stopped");
    assert!(matches!(error, StartError::UnknownOrders { store_is_empty: true, .. }), "{error}");
    let mut ticket = router.track(order("waits", "x", 1)).expect("taken");
    assert!(matches!(ticket.next().await, Some(Progress::Accepted)));
    assert_eq!(world.simulator.stats().posts, 1, "accepted, not sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_14_what_was_there_before_the_first_start_is_never_claimed() {
    let mut world = World::new(Faults::default());
    buy_by_hand(&world, "x").await;
    let history = world.simulator.ledger()[0].id.clone();
    world.config = world.config.clone().start(StartAnswer::NewAccount);
    let router = world.ready().await;
    let script = [Some(order_router::simulator::PostFault::WithheldNeverCreated)];
    let faults = Faults { script: script.into(), ..Faults::default() };
    world.simulator.set_faults(faults).expect("faults");
    let mut lost = router.track(order("lost", "x", 1)).expect("taken");
    while !matches!(lost.next().await, Some(Progress::InDoubt)) {}
    placed(&buy(&router, order("witness", "y", 1)).await);
    let end = loop {
        if let Some(Progress::Ended(end)) = lost.next().await {
            break end;
        }
    };
    assert_ne!(placed(&end), history);
    assert_eq!(world.simulator.ledger().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_15_orders_that_the_store_does_not_know_stop_a_later_start_until_a_person_answers() {
    let mut world = World::new(Faults::default());
    let router = world.ready().await;
    placed(&buy(&router, order("ours", "x", 1)).await);
    drop(router);
    buy_by_hand(&world, "x").await;
    let error = world.start().await.ready().await.expect_err("stopped");
    assert!(matches!(error, StartError::UnknownOrders { count: 1, store_is_empty: false, .. }));
    world.config = world.config.clone().start(StartAnswer::Adopt);
    let router = world.ready().await;
    drop(router);
    world.config = world.config.clone().start(StartAnswer::Ask);
    let router = world.ready().await;
    placed(&buy(&router, order("next", "x", 1)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_not_understood_stops_the_start_and_says_what_was_seen() {
    let mut world = World::new(Faults { list_wrong_envelope: 1.0, ..Faults::default() });
    world.config = world.config.clone().probe_limit(Duration::from_millis(300));
    let error = world.start().await.ready().await.expect_err("stopped");
    assert!(matches!(error, StartError::Probe { .. }), "{error}");
    assert!(error.to_string().contains("not understood"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_stops_the_start() {
    let simulator =
        SimulatorConfig { required_key: Some("another".into()), ..SimulatorConfig::default() };
    let error = World::with(simulator).start().await.ready().await.expect_err("stopped");
    assert!(matches!(error, StartError::KeyRefused { status: 401 }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_15_a_list_that_shows_none_of_our_orders_stops_a_later_start() {
    let mut world = World::new(Faults::default());
    world.settings.wire_bound = Duration::from_millis(50);
    world.settings.connect_timeout = Duration::from_millis(20);
    world.config = world
        .config
        .clone()
        .request_timeout(Duration::from_millis(50))
        .landing_bound(Some(Duration::from_millis(100)))
        .probe_limit(Duration::from_millis(400));
    let router = world.ready().await;
    placed(&buy(&router, order("ours", "x", 1)).await);
    drop(router);
    // A replica that is behind: valid, complete, and empty.
    let stale = Faults { list_empty: 1.0, ..Faults::default() };
    world.simulator.set_faults(stale).expect("faults");
    let stopped = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            // Until the order is older than the landing bound the list need not show it.
            if let Err(error) = world.start().await.ready().await {
                return error;
            }
        }
    });
    let error = stopped.await.expect("stopped once the list must show the order").to_string();
    assert!(error.contains("none of the orders that the store has"), "{error}");
    world.simulator.set_faults(Faults::default()).expect("faults");
    world.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_14_a_person_cannot_name_an_order_from_before_the_first_start() {
    let mut world = World::new(Faults::default());
    buy_by_hand(&world, "x").await;
    world.config = world.config.clone().start(StartAnswer::NewAccount);
    let router = world.ready().await;
    let script = [Some(PostFault::WithheldAfterCreation)];
    // The router cannot find it by itself.
    let list_lag = Duration::from_secs(60);
    let faults = Faults { script: script.into(), list_lag, ..Faults::default() };
    world.simulator.set_faults(faults).expect("faults");
    let mut ticket = router.track(order("lost", "x", 1)).expect("taken");
    while !matches!(ticket.next().await, Some(Progress::InDoubt)) {}
    let ledger = world.simulator.ledger();
    let [history, own] = [0, 1].map(|n| order_router::OrderId::new(&ledger[n].id).expect("an id"));
    let lost = ClientRef::new("lost").expect("a reference");
    let resolve = |id| router.resolve(&lost, Resolution::Placed(id), "seen");
    let error = resolve(history.clone()).await.expect_err("it is not ours");
    assert!(matches!(&error, ResolveError::History { id } if *id == history), "{error}");
    resolve(own).await.expect("decided");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_without_sending_takes_orders_and_the_next_one_sends_them() {
    let world = World::new(Faults::default());
    let builder = OrderRouter::builder(world.supplier(), world.store.clone());
    let builder = builder.config(world.config.clone()).runtime(world.runtime());
    let router = builder.without_sending().start().await.expect("a start");
    router.ready().await.expect("ready");
    let mut ticket = router.track(order("waits", "x", 1)).expect("taken");
    assert!(matches!(ticket.next().await, Some(Progress::Accepted)));
    let waits = ClientRef::new("waits").expect("a reference");
    let told = router.wait(&waits, Duration::from_millis(300)).await;
    assert!(matches!(told, Err(SubmitError::UnderWay { .. })), "{told:?}");
    let stopped = router.stats().sending_stopped.expect("it says why");
    assert!(stopped.contains("without sending"), "{stopped}");
    assert_eq!(world.simulator.stats().posts, 0);
    drop((ticket, router));
    let router = world.ready().await;
    placed(&router.wait(&waits, Duration::from_secs(5)).await.expect("an end"));
    assert_eq!(world.simulator.stats().posts, 1);
}
