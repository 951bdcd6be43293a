//! An order in the place of one that ended without goods: bought once, and never beside what may come.

use order_router::{RouterEvent, SubmitError};

use super::*;

const SOON: Duration = Duration::from_secs(5);

fn reference(text: &str) -> ClientRef {
    ClientRef::new(text).expect("a reference")
}

/// The order in the place of another, for one `item`.
fn replacing(replaced: &str, item: &str) -> Order {
    let items = vec![Item::new(item, 1).expect("an item")];
    Order::replacing(&reference(replaced), items).expect("an order")
}

/// It is not taken, and nothing was bought for it.
#[track_caller]
fn refused(told: Result<End, SubmitError>, because: &str) {
    match told {
        Err(SubmitError::NotReplaceable { why, .. }) if why.contains(because) => {}
        other => panic!("{other:?} where {because:?} was to be told"),
    }
}

fn no_refunds(refused: &[&str]) -> SimulatorConfig {
    let mut simulator = SimulatorConfig::default();
    simulator.contract.refused_products = refused.iter().map(|&id| id.into()).collect();
    simulator
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_or_not_placed_is_replaced_once_however_many_ask() {
    let world = World::with(no_refunds(&["gone"]));
    let router = world.ready().await;
    let end = router.submit(order("a", "gone", 1)).await.expect("an end");
    assert!(matches!(end, End::Refused { .. }), "{end:?}");
    let late = order("b", "x", 1).good_until(jiff::Timestamp::UNIX_EPOCH);
    let end = router.submit(late).await.expect("an end");
    assert!(matches!(end, End::NotPlaced { .. }), "{end:?}");
    for replaced in ["a", "b"] {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let router = router.clone();
            tasks.spawn(async move { router.submit(replacing(replaced, "x")).await });
        }
        let ends = tasks.join_all().await;
        let ids: BTreeSet<_> = ends.into_iter().map(|end| placed(&end.expect("an end"))).collect();
        assert_eq!(ids.len(), 1, "{replaced}");
        // Another order in the same place is a conflict.
        let other = router.submit(replacing(replaced, "y")).await;
        assert!(matches!(other, Err(SubmitError::Conflict { .. })), "{other:?}");
    }
    assert_eq!(world.simulator.ledger().len(), 2);
    assert_eq!(router.stats().open, 0);
    let stored = router.status(&reference("a+replacement")).await.expect("a status");
    assert_eq!(stored.expect("stored").client_ref.replaces(), Some(reference("a")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_or_was_cancelled_at_the_supplier_is_replaced_and_that_again() {
    let faults = [
        Faults { order_failed: 1.0, ..Faults::default() },
        Faults { order_cancelled: 1.0, ..Faults::default() },
    ];
    for faults in faults {
        let mut world = World::new(faults);
        world.config = world.config.clone().poll_interval(Duration::from_millis(50));
        let router = world.ready().await;
        placed(&router.submit(order("a", "x", 1)).await.expect("an end"));
        router.fulfilled(&reference("a"), SOON).await.expect("it ends at the supplier");
        placed(&router.submit(replacing("a", "x")).await.expect("an end"));
        let first = reference("a+replacement");
        router.fulfilled(&first, SOON).await.expect("it ends at the supplier");
        world.simulator.set_faults(Faults::default()).expect("faults");
        placed(&router.submit(replacing("a+replacement", "x")).await.expect("an end"));
        // The first replacement joins, although it was replaced itself.
        placed(&router.submit(replacing("a", "x")).await.expect("an end"));
        assert_eq!(world.simulator.ledger().len(), 3);
        let last = reference("a+replacement+replacement");
        router.fulfilled(&last, SOON).await.expect("it ends at the supplier");
        let again = router.submit(replacing("a+replacement+replacement", "x")).await;
        refused(again, "was delivered");
        assert_eq!(world.simulator.ledger().len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_still_come_or_has_come_is_not_replaced() {
    let mut simulator = SimulatorConfig::default();
    simulator.contract.completed_after = Duration::from_secs(3_600);
    let mut world = World::with(simulator);
    world.config = world.config.clone().answer_within(Duration::from_millis(600));
    let router = world.ready().await;
    refused(router.submit(replacing("nobody", "x")).await, "no order has that reference");
    placed(&router.submit(order("on-its-way", "y", 1)).await.expect("an end"));
    refused(router.submit(replacing("on-its-way", "y")).await, "has not ended at the supplier");
    world
        .simulator
        .set_faults(Faults { withheld_after_creation: 1.0, list_lag: SOON, ..Faults::default() })
        .expect("faults");
    let doubt = router.submit(order("doubt", "x", 1)).await.expect_err("in doubt");
    assert!(matches!(doubt, SubmitError::InDoubt { .. }), "{doubt}");
    refused(router.submit(replacing("doubt", "x")).await, "it is in_doubt");
    assert_eq!(world.simulator.stats().posts, 2, "nothing was sent in their place");
    assert_eq!(router.stats().open, 1);
    let partial = World::new(Faults { order_partial: 1.0, ..Faults::default() });
    let router = partial.ready().await;
    placed(&router.submit(order("part", "x", 1)).await.expect("an end"));
    router.fulfilled(&reference("part"), SOON).await.expect("it ends at the supplier");
    refused(router.submit(replacing("part", "x")).await, "was delivered in part");
    assert_eq!(partial.simulator.ledger().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_told_and_no_place_is_kept() {
    let world = World::new(Faults::default());
    let router = world.ready().await;
    let mut events = router.events();
    for _ in 0..50 {
        let mut ticket = router.track(replacing("nobody", "x")).expect("taken");
        match ticket.next().await {
            Some(Progress::Failed(SubmitError::NotReplaceable { replaced, .. })) => {
                assert_eq!(replaced, reference("nobody"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((router.stats().open, world.simulator.stats().posts), (0, 0));
    let told = tokio::time::timeout(Duration::ZERO, events.next()).await;
    assert!(!matches!(told, Ok(Some(RouterEvent::Ended { .. }))), "{told:?}");
}
