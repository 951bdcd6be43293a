//! What only the inside can show: a panic in a handler, and lanes that come and go.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::LaneMessage;
use crate::order::{ItemsDigest, OrderId};
use crate::protocol::{Attempt, Change, Fingerprint, Moment, NewIntent, PaysOn};
use crate::router::{End, OrderRouter, Progress};
use crate::runtime::Runtime;
use crate::simulator::{Contract, Faults, PayTime, Simulator, SimulatorConfig};
use crate::store::{IntentStore, MemoryStore};
use crate::supplier::{ApiKey, FoxReload, foxreload};
use crate::{ClientRef, Config, EchoProfile, Item, ItemsHash, Order};

mod waking;

pub(super) fn order(reference: &str, item: &str) -> Order {
    let item = Item::new(item, 1).expect("an item");
    Order::new(ClientRef::new(reference).expect("a reference"), vec![item]).expect("an order")
}

pub(super) async fn router(
    simulator: &Simulator,
    store: Arc<dyn IntentStore>,
    config: Config,
) -> OrderRouter {
    let router = start(simulator, store, config).await;
    router.ready().await.expect("ready");
    router
}

async fn start(simulator: &Simulator, store: Arc<dyn IntentStore>, config: Config) -> OrderRouter {
    let runtime = Runtime::system();
    let key = ApiKey::new("test-key").expect("a key");
    let settings =
        foxreload::Settings { wire_bound: Duration::from_millis(200), ..Default::default() };
    let supplier = FoxReload::new(&simulator.url(), &key, settings, runtime.clock.clone());
    OrderRouter::builder(Arc::new(supplier.expect("a client")), store)
        .config(config)
        .runtime(runtime)
        .start()
        .await
        .expect("a start")
}

pub(super) fn config() -> Config {
    Config::default()
        .request_timeout(Duration::from_millis(300))
        .landing_bound(Some(Duration::from_secs(1)))
        .send_window(Duration::from_millis(200))
        .list_interval(Duration::from_millis(50))
        .look_again(Duration::from_millis(100), Duration::from_millis(500))
        .trust_echo(true)
}

pub(super) fn simulator(faults: Faults) -> Simulator {
    let config = SimulatorConfig { faults, ..SimulatorConfig::default() };
    Simulator::spawn_thread(config).expect("a simulator")
}

async fn end(mut ticket: crate::Ticket, router: &OrderRouter, reference: &str) -> End {
    loop {
        match ticket.next().await {
            Some(Progress::Ended(end)) => return end,
            Some(Progress::Failed(error)) => panic!("{error}"),
            Some(_) => {}
            None => {
                let reference = ClientRef::new(reference).expect("a reference");
                let limit = Duration::from_secs(20);
                return router.wait(&reference, limit).await.expect("an end");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_panic_the_lane_is_rebuilt_and_nothing_is_lost_or_bought_twice() {
    let latency = Duration::from_millis(100);
    let simulator = simulator(Faults { latency, ..Faults::default() });
    let router = router(&simulator, Arc::new(MemoryStore::new()), config()).await;
    let lane = ItemsHash::of(order("any", "x").items(), EchoProfile::default());
    let mut tickets = Vec::new();
    for n in 0..20 {
        let reference = format!("ref-{n}");
        let ticket = router.track(order(&reference, "x")).expect("taken");
        tickets.push((reference, ticket));
        if n % 5 == 4 {
            router.shared().deliver(lane, LaneMessage::Panic);
        }
    }
    let mut ids = std::collections::BTreeSet::new();
    for (reference, ticket) in tickets {
        match end(ticket, &router, &reference).await {
            End::Placed { order_id, .. } => assert!(ids.insert(order_id), "given twice"),
            other => panic!("{reference}: {other:?}"),
        }
    }
    assert_eq!(simulator.ledger().len(), 20, "bought twice");
    assert_eq!(router.stats().open, 0);
    assert_eq!(router.stats().posts, 0, "every permit came back");
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_come_and_go_under_fire_and_no_message_is_lost() {
    let simulator = simulator(Faults::default());
    let router = router(&simulator, Arc::new(MemoryStore::new()), config().shards(2)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..32 {
        let router = router.clone();
        tasks.spawn(async move {
            for n in 0..60 {
                // Few lanes, so that one always ends while another order for it comes.
                let order = order(&format!("ref-{caller}-{n}"), &format!("item-{}", n % 3));
                let end = router.submit(order).await.expect("an end");
                assert!(matches!(end, End::Placed { .. }), "{end:?}");
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(simulator.ledger().len(), 32 * 60);
    let stats = router.stats();
    assert_eq!((stats.open, stats.posts), (0, 0));
    assert_eq!(stats.lanes, 0, "idle lanes are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_bound_of_doubts_nothing_more_is_sent_until_some_are_decided() {
    let simulator = simulator(Faults { withheld_never_created: 1.0, ..Faults::default() });
    let router = router(&simulator, Arc::new(MemoryStore::new()), config().doubts_max(3)).await;
    let mut tickets = Vec::new();
    for n in 0..10 {
        // One after the other, so that no more are on the wire than are in doubt.
        let mut ticket = router.track(order(&format!("ref-{n}"), "x")).expect("taken");
        if n < 3 {
            while !matches!(ticket.next().await, Some(Progress::InDoubt)) {}
        }
        tickets.push((format!("ref-{n}"), ticket));
    }
    while router.stats().sending_stopped.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(simulator.stats().posts, 3, "the circuit is open");
    simulator.set_faults(Faults::default()).expect("faults");
    for (reference, ticket) in tickets {
        assert!(matches!(end(ticket, &router, &reference).await, End::Placed { .. }));
    }
    assert_eq!(simulator.ledger().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept() {
    let simulator = simulator(Faults::default());
    let config = config().rate_per_minute(Some(1_200));
    let router = router(&simulator, Arc::new(MemoryStore::new()), config).await;
    let clock = Runtime::system().clock;
    let begun = clock.now();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40 {
        let router = router.clone();
        tasks.spawn(async move { router.submit(order(&format!("ref-{n}"), "x")).await });
    }
    tasks.join_all().await;
    // 20 a second, after a burst of one second's worth at the most.
    let span = clock.now().since(begun);
    assert!(span > Duration::from_millis(900), "{span:?}");
}

/// The id of the first order that a simulated supplier gives.
async fn first_id() -> OrderId {
    let simulator = simulator(Faults::default());
    let router = router(&simulator, Arc::new(MemoryStore::new()), config()).await;
    router.submit(order("first", "x")).await.expect("an end");
    OrderId::new(&simulator.ledger()[0].id).expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_an_id_that_was_free_before_the_attempt_is_in_doubt() {
    let id = first_id().await;
    for seen_before in [true, false] {
        // No list shows it, so that nothing but its answer can claim it.
        let list_lag = Duration::from_secs(3_600);
        let simulator = simulator(Faults { list_lag, ..Faults::default() });
        let router = router(&simulator, Arc::new(MemoryStore::new()), config()).await;
        let shared = router.shared();
        if seen_before {
            shared.remember_free_rows(std::slice::from_ref(&id), true, shared.runtime.now());
        }
        let mut ticket = router.track(order("ours", "x")).expect("taken");
        let progress = loop {
            match ticket.next().await.expect("it goes on") {
                Progress::Submitted | Progress::Accepted => {}
                other => break other,
            }
        };
        assert_eq!(simulator.ledger()[0].id, id.as_str(), "the same supplier gives the same ids");
        match progress {
            Progress::InDoubt => assert!(seen_before),
            Progress::Ended(End::Placed { order_id, .. }) => {
                assert!(order_id == id && !seen_before, "it was another's");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_was_free_before_from_the_list_that_showed_it_until_one_that_is_evidence_does_not() {
    let simulator = simulator(Faults::default());
    let router = router(&simulator, Arc::new(MemoryStore::new()), config()).await;
    let shared = router.shared();
    let id = OrderId::new("free").expect("an id");
    let at = |second| Moment::after_origin(Duration::from_secs(second));
    shared.remember_free_rows(std::slice::from_ref(&id), false, at(10));
    shared.remember_free_rows(std::slice::from_ref(&id), true, at(20));
    shared.remember_free_rows(&[], false, at(30));
    assert!(!shared.seen_before(&id, at(9)), "the attempt was recorded before the row was shown");
    assert!(shared.seen_before(&id, at(10)) && shared.seen_before(&id, at(40)));
    shared.remember_free_rows(&[], true, at(50));
    assert!(!shared.seen_before(&id, at(60)), "it is not free any more");
}

/// A store with one attempt in doubt in each of so many lanes, of a former process.
async fn store_with_doubts(lanes: usize) -> MemoryStore {
    let store = MemoryStore::new();
    let line = Change::History { newest: None, ids: Vec::new() };
    store.commit(line).await.expect("written");
    for n in 0..lanes {
        let order = order(&format!("ref-{n}"), &format!("item-{n}"));
        let attempt =
            Attempt { seq: store.next_serial(), fingerprint: Fingerprint::default(), floor: None };
        let intent = NewIntent {
            id: store.next_serial(),
            client_ref: order.client_ref().clone(),
            lane: ItemsHash::of(order.items(), EchoProfile::default()),
            as_sent: ItemsDigest::as_sent(order.items()),
            delivered: ItemsDigest::delivered(order.items(), false),
            items: order.items_shared(),
            good_until: Timestamp::MAX,
            accepted_at: Timestamp::UNIX_EPOCH,
        };
        let accept = Change::Accept { intent, attempt: Some(attempt) };
        store.commit(accept).await.expect("written");
    }
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_wakes_is_seen_with_its_open_attempts_at_every_moment() {
    const LANES: usize = 3_000;
    let simulator = simulator(Faults::default());
    let store = Arc::new(store_with_doubts(LANES).await);
    let router = start(&simulator, store, config().shards(4)).await;
    let registry = &router.shared().registry;
    let seen = tokio::task::block_in_place(|| {
        let mut seen = Vec::new();
        while !registry.dormant_lanes().is_empty() {
            let mut lanes = std::collections::BTreeMap::new();
            registry.open_lanes(|lane, attempts, products| {
                lanes.insert(lane, (attempts, products.len()));
            });
            assert!(lanes.values().all(|lane| *lane == (1, 1)), "an attempt and a product each");
            seen.push(lanes.len());
        }
        seen
    });
    assert!(
        seen.iter().all(|lanes| *lanes == LANES),
        "rows of the others would be orphans: {seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_with_a_message_on_its_way_does_not_go() {
    let simulator = simulator(Faults::default());
    let router = router(&simulator, Arc::new(MemoryStore::new()), config()).await;
    let shared = router.shared();
    let lane = ItemsHash::of(order("any", "x").items(), EchoProfile::default());
    // The lane's thread is kept busy, so that messages wait.
    let (go_on, busy) = std::sync::mpsc::channel::<()>();
    shared.spawn(async move {
        // Fails when the sender is dropped: that is the sign, too.
        let _ = busy.recv();
    });
    shared.deliver(lane, LaneMessage::Wake);
    assert!(!shared.registry.remove_idle(&lane), "a message is on its way to it");
    let ticket = router.track(order("ref", "x")).expect("taken");
    drop(go_on);
    assert!(matches!(end(ticket, &router, "ref").await, End::Placed { .. }));
    assert_eq!(simulator.ledger().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_payments_in_doubt_cost_is_among_the_figures() {
    let contract = Contract { pays_on: PayTime::Pay, ..Contract::default() };
    let faults = Faults { pay_withheld_never: 1.0, ..Faults::default() };
    let simulated = SimulatorConfig { contract, faults, ..SimulatorConfig::default() };
    let simulator = Simulator::spawn_thread(simulated).expect("a simulator");
    let config = config().pays_on(PaysOn::Pay).landing_bound(None);
    let config = config.pay_watch(Duration::from_millis(50));
    let router = router(&simulator, Arc::new(MemoryStore::new()), config).await;
    for (reference, price) in [("a", "19.99"), ("b", "0.02")] {
        let item = Item::new(reference, 1).expect("an item");
        let item = item.total_price(price.parse().expect("a price"));
        let reference = ClientRef::new(reference).expect("a reference");
        drop(router.track(Order::new(reference, vec![item]).expect("an order")).expect("taken"));
    }
    let both = async {
        while router.shared().standing().doubts < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), both).await.expect("in doubt");
    assert_eq!(router.shared().standing().doubt_amount.to_string(), "20.01");
}
