//! Starts and answers at the edges of the rules.

use order_router::protocol::Change;
use order_router::simulator::PostFault;
use order_router::{EchoProfile, ItemsHash, StartError, SubmitError};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn rule_1_a_reference_gets_its_answer_also_while_its_lane_is_held() {
    let world = World::new(Faults::default());
    let router = world.ready().await;
    let ours = order("ours", "x", 1);
    let id = placed(&buy(&router, ours.clone()).await);
    drop(router);
    let lane = ItemsHash::of(ours.items(), EchoProfile::default());
    let hold = Change::HoldLane { lane, why: "more orders than attempts in doubt".into() };
    world.store.commit(hold).await.expect("written");
    let router = world.ready().await;
    let end = router.submit(ours).await.expect("what was said before stays true");
    assert_eq!(placed(&end), id);
    let error = router.submit(order("new", "x", 1)).await.expect_err("held");
    assert!(matches!(error, SubmitError::LaneHeld { .. }), "{error}");
    assert_eq!(router.stats().open, 0, "nothing was recorded");
    assert_eq!(world.simulator.ledger().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_list_echoes_cannot_change_while_orders_are_open() {
    let mut world = World::new(Faults::default().with_post(PostFault::WithheldAfterCreation, 1.0));
    let router = world.ready().await;
    let mut ticket = router.track(order("ours", "x", 1)).expect("taken");
    while !matches!(ticket.next().await, Some(Progress::InDoubt)) {}
    drop((router, ticket));
    let former = world.settings.clone();
    world.settings.echo = EchoProfile { quantity: true, note: true, tag: None };
    let start = |world: &World| {
        OrderRouter::builder(world.supplier(), world.store.clone())
            .config(world.config.clone())
            .start()
    };
    let error = start(&world).await.map(|_| ()).expect_err("its row would not be recognised");
    assert!(matches!(error, StartError::EchoChanged { open: 1 }), "{error}");
    world.settings = former;
    assert!(start(&world).await.is_ok());
}
