//! Balances: what is read of them, what is told, and what they never do.

use std::sync::Mutex;

use order_router::RouterEvent;
use order_router::protocol::PaysOn;
use order_router::simulator::{Contract, PayTime, PostFault};
use tokio::sync::oneshot;

use super::*;

const INTERVAL: Duration = Duration::from_millis(50);
const LAG: Duration = Duration::from_millis(300);

fn world(faults: Faults, contract: Contract) -> World {
    let mut world = World::with(SimulatorConfig { faults, contract, ..SimulatorConfig::default() });
    let config = world.config.clone().balance_interval(Some(INTERVAL)).balance_lag(LAG);
    // What is spent in a test is spent in no time.
    world.config = config.balance_window(Duration::from_secs(1)).balance_lasts(LASTS);
    world
}

/// So short that nothing but a floor rings.
const LASTS: Duration = Duration::from_millis(1_001);

fn contract(balance: i64) -> Contract {
    let price = Some("2.50".parse().expect("a price"));
    Contract { balance: balance.into(), default_price: price, ..Contract::default() }
}

fn priced(reference: &str, item: &str) -> Order {
    let item = Item::new(item, 1).expect("an item").total_price("2.50".parse().expect("a price"));
    Order::new(ClientRef::new(reference).expect("a reference"), vec![item]).expect("an order")
}

/// All that a router tells, from now on.
struct Told {
    events: Arc<Mutex<Vec<RouterEvent>>>,
    _stop: oneshot::Sender<()>,
}

impl Told {
    fn by(router: &OrderRouter) -> Self {
        let (mut events, kept) = (router.events(), Arc::new(Mutex::new(Vec::new())));
        let (stop, mut stopped) = oneshot::channel();
        let told = kept.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = events.next() => match event {
                        Some(event) => kept.lock().expect("no panic").push(event),
                        None => return,
                    },
                    _ = &mut stopped => return,
                }
            }
        });
        Self { events: told, _stop: stop }
    }

    fn count(&self, which: impl Fn(&RouterEvent) -> bool) -> usize {
        self.events.lock().expect("no panic").iter().filter(|event| which(event)).count()
    }

    async fn wait(&self, what: &str, which: impl Fn(&RouterEvent) -> bool) {
        let told = async {
            while self.count(&which) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), told).await.is_err() {
            panic!("{what} was not told: {:?}", self.events.lock());
        }
    }

    fn unexplained(&self) -> Vec<String> {
        let events = self.events.lock().expect("no panic");
        let amounts = events.iter().filter_map(|event| match event {
            RouterEvent::Unexplained { currency, amount } => Some(format!("{amount} {currency}")),
            _ => None,
        });
        amounts.collect()
    }
}

/// Waits until so many more readings have arrived.
async fn readings(told: &Told, more: usize) {
    let read = |event: &RouterEvent| matches!(event, RouterEvent::Balances { .. });
    let until = told.count(read) + more;
    let come = async {
        while told.count(read) < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), come).await.expect("readings come");
}

/// A span has begun: the lag since the start is over.
async fn watched(told: &Told) {
    tokio::time::sleep(2 * LAG).await;
    readings(told, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spending_that_no_order_explains_rings_once_with_its_amount() {
    let world = world(Faults::default(), contract(1_000));
    let router = world.ready().await;
    let told = Told::by(&router);
    watched(&told).await;
    for n in 0..5 {
        let order = priced(&format!("ref-{n}"), "x");
        let first = router.track(order.clone()).expect("taken");
        placed(&buy(&router, order.clone()).await);
        drop(first);
        // What joins, or is in conflict, costs nothing: it must hide nothing either.
        placed(&buy(&router, order).await);
        let other = priced(&format!("ref-{n}"), "y");
        assert!(router.submit(other).await.is_err());
    }
    tokio::time::sleep(2 * LAG).await;
    readings(&told, 3).await;
    assert_eq!(told.unexplained(), [""; 0]);
    world.simulator.book(None, "-3.01".parse().expect("an amount"));
    told.wait("what is gone", |event| matches!(event, RouterEvent::Unexplained { .. })).await;
    readings(&told, 5).await;
    assert_eq!(told.unexplained(), ["3.01 USD"]);
    let stats = router.balance().expect("the supplier has balances");
    assert_eq!(stats.currencies[0].balance.amount.to_string(), "984.49");
    assert_eq!(stats.currencies[0].unexplained.to_string(), "3.01");
    assert_eq!(router.stats().balance.expect("the same").currencies.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_rings_under_load_with_doubts_and_late_landings_and_stale_balances() {
    for pays_on in [PaysOn::Create, PaysOn::Pay] {
        let faults = Faults {
            withheld_after_creation: 0.1,
            withheld_never_created: 0.1,
            created_late: 0.05,
            late_after: Duration::from_millis(500),
            status_500_after: 0.05,
            pay_withheld_after: 0.1,
            pay_withheld_never: 0.1,
            pay_500_before: 0.1,
            balance_stale: 0.3,
            balance_stale_by: Duration::from_millis(100),
            balance_slow: 0.2,
            balance_slow_by: Duration::from_millis(200),
            balance_status_500: 0.1,
            balance_malformed: 0.1,
            balance_missing: 0.05,
            ..Faults::default()
        };
        let pay_time = match pays_on {
            PaysOn::Create => PayTime::Create,
            PaysOn::Pay => PayTime::Pay,
        };
        let contract = Contract { pays_on: pay_time, ..contract(1_000_000) };
        let mut world = world(faults, contract);
        let config = world.config.clone().pays_on(pays_on).tries_max(20);
        world.config = config.pay_watch(Duration::from_millis(100));
        let router = world.ready().await;
        let told = Told::by(&router);
        watched(&told).await;
        let orders = (0..120).map(|n| priced(&format!("ref-{n}"), &format!("item-{}", n % 7)));
        buy_all(&world, &router, orders.collect()).await;
        world.simulator.set_faults(Faults::default()).expect("faults");
        tokio::time::sleep(2 * LAG).await;
        readings(&told, 4).await;
        assert_eq!(told.unexplained(), [""; 0], "{pays_on:?}");
        // And it was watching all the while.
        world.simulator.book(None, "-0.01".parse().expect("an amount"));
        told.wait("what is gone", |event| matches!(event, RouterEvent::Unexplained { .. })).await;
        assert_eq!(told.unexplained(), ["0.01 USD"], "{pays_on:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_bought_twice_shows_in_the_balance() {
    // It lands a second after the bound is over.
    let faults = Faults {
        script: [None, Some(PostFault::CreatedLate)].into(),
        late_after: Duration::from_millis(3_500),
        ..Faults::default()
    };
    let world = world(faults, contract(1_000));
    let router = world.ready().await;
    let told = Told::by(&router);
    watched(&told).await;
    placed(&buy(&router, priced("witness", "y")).await);
    let end = buy(&router, priced("ref", "x")).await;
    placed(&end);
    told.wait("the second one", |event| matches!(event, RouterEvent::Unexplained { .. })).await;
    assert_eq!(told.unexplained(), ["2.50 USD"]);
    assert_eq!(world.simulator.ledger().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_process_left_in_doubt_is_explained_when_it_lands() {
    let faults = Faults {
        script: [None, Some(PostFault::CreatedLate)].into(),
        late_after: Duration::from_secs(3),
        ..Faults::default()
    };
    let mut world = world(faults, contract(1_000));
    world.config = world.config.clone().landing_bound(Some(Duration::from_secs(20)));
    let router = world.ready().await;
    placed(&buy(&router, priced("witness", "y")).await);
    let mut ticket = router.track(priced("ref", "x")).expect("taken");
    while !matches!(ticket.next().await, Some(Progress::InDoubt)) {}
    drop((ticket, router));
    let router = world.ready().await;
    let told = Told::by(&router);
    watched(&told).await;
    assert_eq!(world.simulator.ledger().len(), 1, "it has not landed yet");
    placed(&buy(&router, priced("ref", "x")).await);
    tokio::time::sleep(2 * LAG).await;
    readings(&told, 4).await;
    assert_eq!(told.unexplained(), [""; 0]);
    assert_eq!(world.simulator.ledger().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_balance_rings_once_and_ends() {
    let mut world = world(Faults::default(), contract(10));
    let config = world.config.clone().balance_floor(Some("5".parse().expect("an amount")));
    world.config =
        config.balance_window(Duration::from_secs(1)).balance_lasts(Duration::from_secs(2));
    let router = world.ready().await;
    let told = Told::by(&router);
    readings(&told, 1).await;
    let low = |event: &RouterEvent| matches!(event, RouterEvent::BalanceLow { why: Some(_), .. });
    let over = |event: &RouterEvent| matches!(event, RouterEvent::BalanceLow { why: None, .. });
    // 7.50 left, at 2.50 in a second: three seconds, so a second order makes it two.
    placed(&buy(&router, priced("a", "x")).await);
    readings(&told, 2).await;
    assert_eq!(told.count(low), 0);
    placed(&buy(&router, priced("b", "x")).await);
    placed(&buy(&router, priced("c", "x")).await);
    told.wait("a low balance", low).await;
    readings(&told, 5).await;
    world.simulator.book(None, 100.into());
    told.wait("its end", over).await;
    readings(&told, 3).await;
    assert_eq!((told.count(low), told.count(over)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_for_want_of_balance_lasts_until_a_balance_covers_the_order() {
    for interval in [Some(INTERVAL), None] {
        let contract = Contract { enforce_balance: true, ..contract(6) };
        let mut world = world(Faults::default(), contract);
        world.settings.evidence.balance = order_router::protocol::evidence::Means::NotSent;
        world.config = world.config.clone().balance_interval(interval);
        let router = world.ready().await;
        let told = Told::by(&router);
        placed(&buy(&router, priced("a", "x")).await);
        placed(&buy(&router, priced("b", "x")).await);
        // A dollar is left.
        let waiting = tokio::spawn({
            let router = router.clone();
            async move { buy(&router, priced("c", "x")).await }
        });
        let stopped =
            |event: &RouterEvent| matches!(event, RouterEvent::Sending { stopped: Some(_) });
        told.wait("the pause", stopped).await;
        // The list is understood all the while, and the balance is read.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let stats = world.simulator.stats();
        assert!(stats.balances >= 2, "{stats:?}");
        assert_eq!((stats.refused, stats.posts), (1, 3), "it is not tried again: {stats:?}");
        assert!(router.stats().sending_stopped.is_some_and(|why| why.contains("balance")));
        world.simulator.book(None, "1.49".parse().expect("an amount"));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(world.simulator.stats().posts, 3, "a cent is missing");
        world.simulator.book(None, "0.01".parse().expect("an amount"));
        placed(&waiting.await.expect("no panic"));
        assert_eq!(world.simulator.ledger().len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_that_cannot_be_read_rings_and_ends_no_pause() {
    let contract = Contract { enforce_balance: true, ..contract(1) };
    let faults = Faults { balance_malformed: 1.0, ..Faults::default() };
    let mut world = world(faults, contract);
    world.settings.evidence.balance = order_router::protocol::evidence::Means::NotSent;
    let router = world.ready().await;
    let told = Told::by(&router);
    let alarm = |event: &RouterEvent| matches!(event, RouterEvent::Alarm { what } if what.contains("not read"));
    told.wait("that it is not read", alarm).await;
    let waiting = tokio::spawn({
        let router = router.clone();
        async move { buy(&router, priced("a", "x")).await }
    });
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(world.simulator.stats().posts, 1);
    assert_eq!(told.count(alarm), 1, "rung once");
    let stats = router.balance().expect("the supplier has balances");
    assert!(stats.failure.is_some_and(|why| why.contains("not understood")));
    assert_eq!((stats.read_at, stats.currencies), (None, Vec::new()), "never zero");
    world.simulator.set_faults(Faults::default()).expect("faults");
    world.simulator.book(None, 100.into());
    placed(&waiting.await.expect("no panic"));
    assert_eq!(router.balance().expect("balances").failure, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supplier_without_balances_ends_a_pause_with_its_list() {
    let contract = Contract { enforce_balance: true, ..contract(1) };
    let mut world = world(Faults::default(), contract);
    world.settings.balances_path = "/api/nothing/".into();
    world.settings.evidence.balance = order_router::protocol::evidence::Means::NotSent;
    world.config = world.config.clone().balance_interval(None);
    let router = world.ready().await;
    drop(router.track(priced("a", "x")).expect("taken"));
    let again = async {
        while world.simulator.stats().posts < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("it is tried again");
}

/// Two orders of 1 whose guards fail are bought for 2.50 each, without them: nobody has said what they cost.
async fn without_guards(pays_on: PaysOn) {
    let pay_time = if pays_on == PaysOn::Pay { PayTime::Pay } else { PayTime::Create };
    let contract = Contract { pays_on: pay_time, ..contract(1_000) };
    let mut world = world(Faults::default(), contract);
    let config = world.config.clone().pays_on(pays_on).resend_without_guard(true);
    world.config = config.pay_watch(Duration::from_millis(100));
    let router = world.ready().await;
    let told = Told::by(&router);
    watched(&told).await;
    for n in 0..2 {
        let price = "1".parse().expect("a price");
        let item = Item::new(format!("x-{n}"), 1).expect("an item").total_price(price);
        let reference = ClientRef::new(format!("w-{n}")).expect("a reference");
        placed(&buy(&router, Order::new(reference, vec![item]).expect("an order")).await);
    }
    tokio::time::sleep(2 * LAG).await;
    readings(&told, 4).await;
    assert_eq!(told.unexplained(), [""; 0], "{pays_on:?}");
    // It watches on.
    world.simulator.book(None, "-3.01".parse().expect("an amount"));
    told.wait("a purchase of somebody else", |e| matches!(e, RouterEvent::Unexplained { .. }))
        .await;
    assert_eq!(told.unexplained(), ["3.01 USD"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bought_without_a_price_guard_is_explained_at_any_price() {
    without_guards(PaysOn::Create).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paid_later_without_a_price_guard_is_explained_at_any_price() {
    without_guards(PaysOn::Pay).await;
}
