//! What becomes of an order that was bought.

use order_router::{Delivery, Events, RouterEvent, SubmitError};

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn world(faults: Faults) -> World {
    let mut world = World::new(faults);
    world.config = world.config.clone().poll_interval(Duration::from_millis(50));
    world
}

/// Buys one order and follows it to its end.
async fn followed(world: &World) -> (order_router::Fulfilment, Vec<RouterEvent>) {
    let router = world.ready().await;
    let mut events = router.events();
    placed(&buy(&router, order("one", "x", 2)).await);
    let reference = ClientRef::new("one").expect("a reference");
    let fulfilment = router.fulfilled(&reference, SOON).await.expect("an end");
    let told = drain(&mut events).await;
    assert!(
        told.iter().any(|event| matches!(
            event,
            RouterEvent::Fulfilled { client_ref, delivery, .. }
                if *client_ref == reference && *delivery == fulfilment.delivery
        )),
        "{told:?}"
    );
    assert_eq!(world.simulator.ledger().len(), 1, "never bought again");
    (fulfilment, told)
}

async fn drain(events: &mut Events) -> Vec<RouterEvent> {
    let mut told = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        told.push(event);
    }
    told
}

fn alarms(told: &[RouterEvent]) -> Vec<String> {
    let alarm = |event: &RouterEvent| match event {
        RouterEvent::Alarm { what } => Some(what.clone()),
        _ => None,
    };
    told.iter().filter_map(alarm).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_order_with_lines_in_error_is_delivered_in_part() {
    let (fulfilment, _) =
        followed(&world(Faults { order_partial: 1.0, ..Faults::default() })).await;
    assert_eq!(fulfilment.status, "completed");
    assert_eq!(fulfilment.delivery, Delivery::Partial { failed: 1, lines: 1 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_and_a_cancelled_order_are_told_with_the_reason() {
    let (fulfilment, _) = followed(&world(Faults { order_failed: 1.0, ..Faults::default() })).await;
    assert_eq!(fulfilment.delivery, Delivery::Failed);
    let faults = Faults { order_cancelled: 1.0, ..Faults::default() };
    let (fulfilment, _) = followed(&world(faults)).await;
    let reason = match fulfilment.delivery {
        Delivery::Expired => "payment_expiration".into(),
        Delivery::Cancelled(Some(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let raw = String::from_utf8_lossy(&fulfilment.raw).into_owned();
    assert!(raw.contains(&format!("\"cancelReason\":\"{reason}\"")), "{raw}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_status_is_said_and_followed_on() {
    let faults = Faults { order_unknown_status: 1.0, ..Faults::default() };
    let (fulfilment, told) = followed(&world(faults)).await;
    assert_eq!(fulfilment.delivery, Delivery::Complete);
    let alarms = alarms(&told);
    let said: Vec<_> = alarms.iter().filter(|alarm| alarm.contains("awaiting_stock")).collect();
    assert_eq!(said.len(), 1, "{alarms:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_takes_too_long_rings_and_is_followed_on_without_anybody_waiting() {
    let mut simulator = SimulatorConfig::default();
    simulator.contract.completed_after = Duration::from_secs(3);
    let mut world = World::with(simulator);
    let config = world.config.clone().poll_interval(Duration::from_millis(20));
    world.config = config.poll_limit(Duration::from_millis(500));
    let router = world.ready().await;
    let mut events = router.events();
    placed(&buy(&router, order("slow", "x", 1)).await);
    let reference = ClientRef::new("slow").expect("a reference");
    let error = router.fulfilled(&reference, Duration::from_millis(100)).await.expect_err("slow");
    assert!(matches!(error, SubmitError::UnderWay { .. }), "{error}");
    let mut told = Vec::new();
    let ended = async {
        loop {
            let event = events.next().await.expect("the router runs");
            let is_end = matches!(event, RouterEvent::Fulfilled { .. });
            told.push(event);
            if is_end {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, ended).await.expect("it is followed on");
    let rung = alarms(&told);
    assert_eq!(rung.len(), 1, "{rung:?}");
    assert!(rung[0].contains("has not ended") && rung[0].contains("never bought again"));
    assert_eq!(world.simulator.ledger().len(), 1);
}
