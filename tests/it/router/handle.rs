use order_router::runtime::Runtime;
use order_router::store::{EmbeddedConfig, EmbeddedStore, IndexMode, StoreError};
use order_router::testing::disk::ForgetfulDisk;
use order_router::{Delivery, Resolution, ResolveError, RouterEvent, SubmitError};

use super::*;

const SOON: Duration = Duration::from_secs(5);

fn reference(text: &str) -> ClientRef {
    ClientRef::new(text).expect("a reference")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_reference_at_once_and_later_gets_one_order_and_one_answer() {
    let world = World::new(Faults { latency: Duration::from_millis(20), ..Faults::default() });
    let router = world.ready().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let router = router.clone();
        tasks.spawn(async move { router.submit(order("twin", "x", 1)).await });
    }
    let ends = tasks.join_all().await;
    let ids: BTreeSet<_> = ends.into_iter().map(|end| placed(&end.expect("an end"))).collect();
    assert_eq!(ids.len(), 1);
    let later = router.submit(order("twin", "x", 1)).await.expect("an end");
    assert!(ids.contains(&placed(&later)));
    assert_eq!(world.simulator.stats().posts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_reference_with_other_items_is_a_conflict_and_buys_nothing() {
    let world = World::new(Faults::default());
    let router = world.ready().await;
    router.submit(order("one", "x", 1)).await.expect("an end");
    for other in [order("one", "y", 1), order("one", "x", 2)] {
        let error = router.submit(other).await.expect_err("a conflict");
        assert!(matches!(error, SubmitError::Conflict { .. }), "{error}");
    }
    assert_eq!(world.simulator.stats().posts, 1);
    assert_eq!(router.stats().open, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_callers_future_does_not_cancel_the_order() {
    let world = World::new(Faults { latency: Duration::from_millis(100), ..Faults::default() });
    let router = world.ready().await;
    let ticket = router.track(order("dropped", "x", 1)).expect("taken");
    drop(ticket);
    let mut bought = router.wait(&reference("dropped"), SOON).await;
    while let Err(SubmitError::Unknown { .. }) = bought {
        tokio::task::yield_now().await;
        bought = router.wait(&reference("dropped"), SOON).await;
    }
    placed(&bought.expect("an end"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_order_ends_refused_with_the_suppliers_code() {
    let mut simulator = SimulatorConfig::default();
    simulator.contract.refused_products = vec!["gone".into()];
    let world = World::with(simulator);
    let router = world.ready().await;
    let end = router.submit(order("a", "gone", 1)).await.expect("an end");
    assert!(matches!(end, End::Refused { .. }), "{end:?}");
    assert!(world.simulator.ledger().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_doubt_is_told_after_the_time_limit_and_the_order_goes_on() {
    let faults = Faults { withheld_never_created: 1.0, ..Faults::default() };
    let mut world = World::new(faults);
    world.config = world.config.clone().answer_within(Duration::from_millis(600));
    let router = world.ready().await;
    router.submit(order("first", "x", 1)).await.expect_err("in doubt");
    let error = router.submit(order("first", "x", 1)).await.expect_err("in doubt");
    assert!(matches!(error, SubmitError::InDoubt { .. }), "{error}");
    world.simulator.set_faults(Faults::default()).expect("faults");
    // One order must be seen by its own answer before a list may prove anything (A4).
    placed(&buy(&router, order("witness", "y", 1)).await);
    let end = router.wait(&reference("first"), 4 * SOON).await.expect("an end");
    placed(&end);
    assert_eq!(world.simulator.ledger().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn fulfilled_returns_the_codes_once_the_supplier_has_delivered() {
    let mut world = World::new(Faults::default());
    world.config = world.config.clone().poll_interval(Duration::from_millis(100));
    let router = world.ready().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let router = router.clone();
        tasks.spawn(async move {
            let name = format!("ref-{n}");
            placed(&router.submit(order(&name, "x", 1)).await.expect("an end"));
            router.fulfilled(&reference(&name), SOON).await.expect("delivered")
        });
    }
    for fulfilment in tasks.join_all().await {
        let shown = format!("{fulfilment:?}");
        assert_eq!((&*fulfilment.status, fulfilment.delivery), ("completed", Delivery::Complete));
        let raw = String::from_utf8(fulfilment.raw.to_vec()).expect("text");
        assert!(raw.contains("externalData"));
        assert!(!shown.contains("externalData"), "codes are shown to nobody");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_may_decide_what_is_in_doubt_and_is_checked() {
    // The list is so far behind that the person is faster.
    let mut world = World::new(Faults {
        withheld_after_creation: 1.0,
        list_lag: Duration::from_secs(60),
        ..Faults::default()
    });
    world.config = world.config.clone().answer_within(Duration::from_millis(500));
    let router = world.ready().await;
    for (name, item) in [("a", "x"), ("b", "y")] {
        let mut ticket = router.track(order(name, item, 1)).expect("taken");
        while !matches!(ticket.next().await, Some(Progress::InDoubt)) {}
    }
    let ledger = world.simulator.ledger();
    let id = |item: &str| {
        let row = ledger.iter().find(|row| row.items[0].item_id == item).expect("a row");
        order_router::OrderId::new(&row.id).expect("an id")
    };
    let a = reference("a");
    let resolve = |id| router.resolve(&a, Resolution::Placed(id), "seen");
    let nobody = order_router::OrderId::new("00000000-0000-4000-8000-000000000000").expect("an id");
    let error = resolve(nobody).await.expect_err("refused");
    assert!(matches!(error, ResolveError::NotFetched { .. }), "{error}");
    let error = resolve(id("y")).await.expect_err("refused");
    assert!(matches!(error, ResolveError::OtherItems { .. }), "{error}");
    let no_reason = router.resolve(&reference("a"), Resolution::Absent, " ").await;
    assert!(matches!(no_reason, Err(ResolveError::NoReason)));
    resolve(id("x")).await.expect("decided");
    let end = router.wait(&reference("a"), SOON).await.expect("an end");
    assert_eq!(placed(&end), id("x").to_string());
    assert!(matches!(resolve(id("x")).await, Err(ResolveError::NotInDoubt { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_its_bound_the_router_refuses_at_once_and_records_nothing() {
    let mut world = World::new(Faults { latency: Duration::from_millis(200), ..Faults::default() });
    world.config = world.config.clone().open_max(1);
    let router = world.ready().await;
    let mut first = router.track(order("one", "x", 1)).expect("taken");
    let error = router.submit(order("two", "x", 1)).await.expect_err("overloaded");
    assert!(matches!(error, SubmitError::Overloaded { .. }), "{error}");
    assert!(router.status(&reference("two")).await.expect("a store").is_none());
    while !matches!(first.next().await, Some(Progress::Ended(_))) {}
    placed(&router.submit(order("two", "x", 1)).await.expect("an end"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_events_is_told_how_many_it_missed() {
    let mut world = World::new(Faults::default());
    world.config = world.config.clone().events_max(4);
    let router = world.ready().await;
    let mut events = router.events();
    for n in 0..20 {
        router.submit(order(&format!("ref-{n}"), "x", 1)).await.expect("an end");
    }
    assert!(matches!(events.next().await, Some(RouterEvent::Missed { events: 1.. })));
    assert!(matches!(events.next().await, Some(RouterEvent::Ended { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_shutdown_nothing_is_taken_and_what_was_open_goes_on_at_the_next_start() {
    let world = World::new(Faults { latency: Duration::from_millis(150), ..Faults::default() });
    let router = world.ready().await;
    let mut ticket = router.track(order("open", "x", 1)).expect("taken");
    assert!(matches!(ticket.next().await, Some(Progress::Accepted)));
    let left = router.shutdown(SOON).await.expect("stopped");
    assert_eq!(left.open, 0, "the POST under way was waited for");
    let error = router.submit(order("late", "x", 1)).await.expect_err("stopped");
    assert!(matches!(error, SubmitError::Stopped | SubmitError::Store { .. }), "{error}");
    assert!(matches!(router.status(&reference("open")).await, Ok(_) | Err(StoreError::Closed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_the_store_is_told_to_those_who_wait_for_it() {
    let world = World::new(Faults::default());
    let disk = ForgetfulDisk::new();
    // With the clock of the supplier: moments of two clocks cannot be compared.
    let runtime = Runtime { disk: Arc::new(disk.clone()), ..world.runtime() };
    let config = EmbeddedConfig { index: IndexMode::Memory, ..EmbeddedConfig::default() };
    let store = EmbeddedStore::open(std::path::Path::new("data"), config, &runtime).expect("opens");
    let builder = OrderRouter::builder(world.supplier(), Arc::new(store));
    let router = builder.config(world.config.clone()).runtime(runtime).start().await;
    let router = router.expect("a start");
    router.ready().await.expect("ready");
    let failed = tokio::spawn({
        let router = router.clone();
        async move { router.failed().await }
    });
    placed(&router.submit(order("before", "x", 1)).await.expect("an end"));
    assert!(!failed.is_finished());
    // A sync of the router's own may come between the count and the fault: then the next one.
    let mut bought = 1;
    let error = loop {
        disk.fail_sync(disk.syncs() + 1);
        match router.submit(order(&format!("after-{bought}"), "x", 1)).await {
            Ok(_) => bought += 1,
            Err(error) => break error,
        }
        assert!(bought < 10, "the disk never fails");
    };
    assert!(matches!(error, SubmitError::Store { .. }), "{error}");
    let told = failed.await.expect("no panic");
    assert!(matches!(told, StoreError::Failed(_)), "{told:?}");
    assert_eq!(world.simulator.ledger().len(), bought, "nothing left before it was durable");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_too_late_ends_not_placed_and_buys_nothing() {
    let mut world = World::new(Faults::default());
    world.config = world.config.clone().probe_limit(Duration::from_secs(30));
    let router = world.ready().await;
    let late = order("late", "x", 1).good_until(jiff::Timestamp::UNIX_EPOCH);
    // Its permit is free, so it is sent at once or not at all: a past moment means not at all.
    let end = buy(&router, late).await;
    assert!(matches!(end, End::NotPlaced { .. }), "{end:?}");
    assert!(world.simulator.ledger().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_waits_is_told_when_the_store_fails() {
    let latency = Duration::from_millis(100);
    let mut world = World::new(Faults { latency, ..Faults::default() });
    let disk = ForgetfulDisk::new();
    let runtime = Runtime { disk: Arc::new(disk.clone()), ..world.runtime() };
    let config = EmbeddedConfig { index: IndexMode::Memory, ..EmbeddedConfig::default() };
    world.store = Arc::new(EmbeddedStore::open("/store", config, &runtime).expect("opens"));
    let router = world.ready().await;
    let mut ticket = router.track(order("accepted", "x", 1)).expect("taken");
    while !matches!(ticket.next().await, Some(Progress::Accepted)) {}
    // Nobody hands anything over any more: its own outcome is what cannot be written.
    disk.cut();
    for _ in 0..2 {
        match tokio::time::timeout(SOON, ticket.next()).await.expect("told, not left waiting") {
            Some(Progress::Failed(SubmitError::Store { may_exist: true, .. })) => {}
            other => panic!("{other:?}"),
        }
    }
}
