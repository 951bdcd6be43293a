//! Limits of orders and money.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use order_router::protocol::PaysOn;
use order_router::runtime::Runtime;
use order_router::simulator::{Contract, PayFault, PayTime, PostFault};
use order_router::{Price, RouterEvent, SubmitError};

use super::clock::JumpingClock;
use super::*;

fn price(text: &str) -> Price {
    text.parse().expect("an amount")
}

fn priced(reference: &str, item: &str, total: &str) -> Order {
    let item = Item::new(item, 1).expect("an item").total_price(price(total));
    Order::new(ClientRef::new(reference).expect("a reference"), vec![item]).expect("an order")
}

async fn refused(router: &OrderRouter, order: Order) -> String {
    match router.submit(order).await {
        Err(error @ SubmitError::OverLimit { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Waits until it is said that a limit is reached, and which.
async fn stopped(router: &OrderRouter) -> String {
    let why = async {
        loop {
            let why = router.stats().sending_stopped;
            if let Some(why) = why.filter(|why| why.starts_with("the limit of")) {
                return why.to_string();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), why).await.expect("it stops")
}

/// Longer than anything needs that may still be sent.
const WHILE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn an_order_over_a_limit_by_itself_is_refused_and_nothing_is_recorded() {
    let mut world = World::new(Faults::default());
    let before = world.ready().await;
    placed(&buy(&before, order("before", "x", 9)).await);
    drop(before);
    let config = world.config.clone().order_quantity_max(Some(3));
    world.config = config.order_amount_max(Some(price("10")));
    let router = world.ready().await;
    for (order, says) in [
        (order("many", "x", 4), "its quantity of 4 is over order_quantity_max = 3"),
        (priced("dear", "x", "10.01"), "its amount of 10.01 is over order_amount_max = 10"),
        (order("unknown", "x", 1), "give a total price with every line"),
    ] {
        let reference = order.client_ref().clone();
        let said = refused(&router, order).await;
        assert!(said.contains(says) && said.ends_with("nothing was recorded or bought"), "{said}");
        assert_eq!(router.status(&reference).await.expect("works"), None);
    }
    assert_eq!((router.stats().open, world.simulator.ledger().len()), (0, 1));
    // What was bought before there was a limit gets its answer, and another order no other one.
    placed(&buy(&router, order("before", "x", 9)).await);
    let other = router.submit(order("before", "x", 8)).await;
    assert!(matches!(other, Err(SubmitError::Conflict { .. })), "{other:?}");
    placed(&buy(&router, priced("fits", "x", "10.0")).await);
    assert_eq!(world.simulator.ledger().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_a_window_waits_visibly_over_restarts_and_is_not_bought() {
    let world = World::new(Faults { withheld_after_creation: 0.2, ..Faults::default() });
    let limits: [fn(Config) -> Config; 4] = [
        |config| config.orders_per_minute_max(Some(7)),
        |config| config.orders_per_day_max(Some(7)),
        |config| config.amount_per_minute_max(Some(price("7.5"))),
        |config| config.amount_per_day_max(Some(price("7.004"))),
    ];
    for (at, limit) in limits.into_iter().enumerate() {
        let mut world =
            World { config: limit(world.config.clone()), ..World::new(Faults::default()) };
        let mut faults = world.simulator.faults();
        faults.withheld_after_creation = 0.2;
        world.simulator.set_faults(faults).expect("faults");
        let router = world.ready().await;
        let mut events = router.events();
        let all: Vec<_> =
            (0..20).map(|n| priced(&format!("r-{n}"), &format!("x-{}", n % 4), "1.00")).collect();
        let tickets: Vec<_> =
            all.iter().map(|order| router.track(order.clone()).expect("taken")).collect();
        let why = stopped(&router).await;
        assert!(why.starts_with("the limit of 7") && why.ends_with("is reached"), "{why}");
        tokio::time::sleep(WHILE).await;
        assert_eq!(world.simulator.ledger().len(), 7, "limit {at}");
        let left = router.stats();
        assert_eq!((left.open, left.in_doubt), (13, 0));
        let mut told = Vec::new();
        while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
            if let RouterEvent::Sending { stopped } = event {
                told.extend(stopped);
            }
        }
        assert_eq!(told.len(), 1, "{told:?}");
        drop((tickets, router));
        let router = world.ready().await;
        stopped(&router).await;
        tokio::time::sleep(WHILE).await;
        assert_eq!(world.simulator.ledger().len(), 7, "limit {at} after a restart");
        drop(router);
        // All that waited is there, and goes once the limit is gone.
        world.config = world.config.orders_per_minute_max(None).orders_per_day_max(None);
        world.config = world.config.amount_per_minute_max(None).amount_per_day_max(None);
        let router = world.ready().await;
        buy_all(&world, &router, all).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_bought_gives_its_room_back() {
    let contract = Contract { refused_products: vec!["none".into()], ..Contract::default() };
    let mut world = World::with(SimulatorConfig { contract, ..SimulatorConfig::default() });
    world.config = world.config.amount_per_day_max(Some(price("3"))).orders_per_day_max(Some(12));
    let router = world.ready().await;
    for n in 0..8 {
        let end = buy(&router, priced(&format!("refused-{n}"), "none", "3")).await;
        assert!(matches!(end, End::Refused { .. }), "{end:?}");
    }
    for n in 0..3 {
        placed(&buy(&router, priced(&format!("bought-{n}"), "x", "1")).await);
    }
    // What was not spent is counted out by now.
    tokio::time::sleep(Duration::from_secs(4)).await;
    drop(router);
    // The refused ones count as sent, after a restart too: one more may go, and there is no money for it.
    let router = world.ready().await;
    drop(router.track(priced("dear", "x", "0.5")).expect("taken"));
    assert_eq!(stopped(&router).await, "the limit of 3 a day is reached");
    world.config = world.config.amount_per_day_max(Some(price("4")));
    drop(router);
    let router = world.ready().await;
    placed(&buy(&router, priced("dear", "x", "0.5")).await);
    drop(router.track(priced("thirteenth", "x", "0.5")).expect("taken"));
    assert_eq!(stopped(&router).await, "the limit of 12 orders a day is reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_no_good_any_more_holds_nobody_up() {
    let mut world = World::new(Faults::default());
    world.config = world.config.amount_per_day_max(Some(price("3")));
    let router = world.ready().await;
    placed(&buy(&router, priced("first", "x", "2")).await);
    let soon = Timestamp::now().checked_add(Duration::from_secs(1)).expect("in range");
    let mut dear = router.track(priced("dear", "x", "2").good_until(soon)).expect("taken");
    stopped(&router).await;
    let behind = tokio::spawn({
        let router = router.clone();
        async move { buy(&router, priced("behind", "x", "1")).await }
    });
    loop {
        match dear.next().await.expect("an end") {
            Progress::Ended(end) => break assert!(matches!(end, End::NotPlaced { .. }), "{end:?}"),
            Progress::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    placed(&behind.await.expect("no panic"));
    let clear = async {
        while router.stats().sending_stopped.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), clear).await.expect("nobody waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_jumps_gives_no_limit_twice() {
    let mut world = World::new(Faults::default());
    world.config = world.config.orders_per_day_max(Some(2));
    let steady = Runtime::system();
    let clock =
        Arc::new(JumpingClock { steady: steady.clock.clone(), ahead_seconds: AtomicI64::new(0) });
    let start = async || {
        let runtime = Runtime { clock: clock.clone(), ..steady.clone() };
        let key = ApiKey::new("test-key").expect("a key");
        let (url, settings) = (world.simulator.url(), world.settings.clone());
        let supplier = FoxReload::new(&url, &key, settings, clock.clone()).expect("a client");
        let builder = OrderRouter::builder(Arc::new(supplier), world.store.clone());
        let router = builder.config(world.config.clone()).runtime(runtime).start().await;
        let router = router.expect("a start");
        router.ready().await.expect("ready");
        router
    };
    let forever = |name: &str| order(name, "x", 1).good_until(Timestamp::MAX);
    let router = start().await;
    placed(&buy(&router, forever("one")).await);
    placed(&buy(&router, forever("two")).await);
    drop(router.track(forever("three")).expect("taken"));
    for days in [2, -2, 400, 0] {
        clock.ahead_seconds.store(days * 24 * 3_600, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(world.simulator.ledger().len(), 2, "{days} days ahead while it runs");
    }
    drop(router);
    for days in [2, -2, 400, 0] {
        clock.ahead_seconds.store(days * 24 * 3_600, Ordering::Relaxed);
        let router = start().await;
        assert_eq!(stopped(&router).await, "the limit of 2 orders a day is reached");
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(world.simulator.ledger().len(), 2, "{days} days ahead at a start");
    }
}

fn paying(faults: Faults) -> World {
    let contract =
        Contract { pays_on: PayTime::Pay, repeated_pay_debits: true, ..Contract::default() };
    let mut world = World::with(SimulatorConfig { contract, faults, ..SimulatorConfig::default() });
    world.config = world.config.pays_on(PaysOn::Pay).pay_watch(Duration::from_millis(50));
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_are_counted_once_and_none_escapes() {
    let faults = Faults {
        pay_script: vec![Some(PayFault::WithheldAfter), Some(PayFault::WithheldNever)].into(),
        ..Faults::default()
    };
    let mut world = paying(faults);
    world.config = world.config.amount_per_day_max(Some(price("10")));
    let router = world.ready().await;
    let tickets: Vec<_> = (0..8)
        .map(|n| router.track(priced(&format!("p-{n}"), &format!("x-{n}"), "3")).expect("taken"))
        .collect();
    stopped(&router).await;
    let debits = || world.simulator.ledger().iter().map(|entry| entry.debits).sum::<u32>();
    let paid = async {
        while debits() < 3 || router.stats().open > 5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), paid).await.expect("three are paid");
    tokio::time::sleep(WHILE).await;
    // None is created that cannot be paid.
    assert_eq!((world.simulator.ledger().len(), debits()), (3, 3));
    drop((tickets, router));
    let router = world.ready().await;
    stopped(&router).await;
    tokio::time::sleep(WHILE).await;
    assert_eq!((world.simulator.ledger().len(), debits()), (3, 3), "after a restart");
    placed(&buy(&router, priced("p-0", "x-0", "3")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_guard_fails_is_refused_or_sent_again_without_it_as_is_set() {
    let contract =
        Contract { default_price: Some("2".parse().expect("a price")), ..Contract::default() };
    let mut world = World::with(SimulatorConfig { contract, ..SimulatorConfig::default() });
    let router = world.ready().await;
    let end = buy(&router, priced("told", "x", "1")).await;
    assert!(matches!(&end, End::Refused { why } if why == "OFFER_PRICE_NOT_MATCHED"), "{end:?}");
    drop(router);
    world.config = world.config.resend_without_guard(true);
    let router = world.ready().await;
    // An end that was told stays.
    assert_eq!(buy(&router, priced("told", "x", "1")).await, end);
    assert_eq!(world.simulator.ledger().len(), 0);
    let without = buy(&router, priced("without", "x", "1")).await;
    placed(&without);
    assert_eq!((world.simulator.stats().posts, world.simulator.ledger().len()), (3, 1));
    placed(&buy(&router, priced("met", "x", "2.0")).await);
    assert_eq!(world.simulator.stats().posts, 4);
    // A lost answer of the one without is a doubt as any other.
    let faults = Faults {
        script: vec![None, Some(PostFault::WithheldAfterCreation)].into(),
        ..Faults::default()
    };
    world.simulator.set_faults(faults).expect("faults");
    placed(&buy(&router, priced("lost", "y", "1")).await);
    assert_eq!(world.simulator.ledger().len(), 3);
}
