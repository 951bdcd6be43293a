//! Orders that are paid later, in process: what callers are told, joins, restarts, refused starts.

use futures_util::future::BoxFuture;
use order_router::protocol::{Fingerprint, PayStep, Payment, PaysOn, State};
use order_router::simulator::{Contract, PayFault, PayTime};
use order_router::store::{EmbeddedConfig, EmbeddedStore, OpenError};
use order_router::supplier::{
    Capabilities, Exchange, Fetched, Gate, Page, PageRequest, ReadError, Supplier,
};
use order_router::{OrderId, RouterEvent, StartError};

use super::*;

fn paying(faults: Faults) -> World {
    let contract =
        Contract { pays_on: PayTime::Pay, repeated_pay_debits: true, ..Contract::default() };
    let config = SimulatorConfig { contract, faults, ..SimulatorConfig::default() };
    let mut world = World::with(config);
    world.config = world.config.pays_on(PaysOn::Pay).pay_watch(Duration::from_millis(50));
    world
}

fn scripted(fault: PayFault) -> Faults {
    Faults { pay_script: [Some(fault)].into(), ..Faults::default() }
}

fn debits(world: &World) -> Vec<u32> {
    world.simulator.ledger().iter().map(|entry| entry.debits).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_told_created_then_placed_and_joins_get_the_same_end() {
    let world = paying(scripted(PayFault::WithheldNever));
    let router = world.ready().await;
    let mut ticket = router.track(order("p", "x", 1)).expect("taken");
    let id = loop {
        match ticket.next().await.expect("told") {
            Progress::Created { order_id } => break order_id,
            Progress::Ended(end) => panic!("{end:?} before it is told created"),
            _ => {}
        }
    };
    let stored = router.status(&ClientRef::new("p").expect("a reference")).await;
    let state = stored.expect("the store works").expect("there").state;
    assert!(matches!(&state, State::Created { id: stored, .. } if *stored == id), "{state:?}");
    let joined = tokio::spawn({
        let router = router.clone();
        async move { buy(&router, order("p", "x", 1)).await }
    });
    let end = loop {
        if let Progress::Ended(end) = ticket.next().await.expect("an end") {
            break end;
        }
    };
    assert_eq!(placed(&end), id.as_str());
    assert_eq!(placed(&joined.await.expect("no panic")), id.as_str());
    assert_eq!(placed(&buy(&router, order("p", "x", 1)).await), id.as_str());
    assert_eq!((debits(&world), world.simulator.stats().pays), (vec![1], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_created_is_paid_by_the_next_router_once() {
    for fault in [PayFault::WithheldAfter, PayFault::WithheldNever, PayFault::Late] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut world = paying(scripted(fault));
        world.store = store(&world, &dir);
        let router = world.ready().await;
        let mut ticket = router.track(order("p", "x", 1)).expect("taken");
        while world.simulator.stats().pays == 0 {
            tokio::task::yield_now().await;
        }
        router.shutdown(Duration::ZERO).await.expect("stopped");
        while ticket.next().await.is_some_and(|told| !matches!(told, Progress::Failed(_))) {}
        drop(router);
        world.store = Arc::new(MemoryStore::new());
        world.store = store(&world, &dir);
        let router = world.ready().await;
        let name = ClientRef::new("p").expect("a reference");
        placed(&router.wait(&name, TEN).await.expect("an end"));
        assert_eq!(debits(&world), [1], "{fault:?}");
    }
}

const TEN: Duration = Duration::from_secs(20);

/// The store in a directory, once the router before has let go of it.
fn store(world: &World, dir: &tempfile::TempDir) -> Arc<dyn IntentStore> {
    loop {
        let config = EmbeddedConfig::default();
        match EmbeddedStore::open(dir.path(), config, &world.runtime()) {
            Ok(store) => return Arc::new(store),
            Err(OpenError::InUse { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_created_under_pay_is_looked_at_and_paid_under_create_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut world = paying(scripted(PayFault::WithheldNever));
    world.store = store(&world, &dir);
    let router = world.ready().await;
    let mut ticket = router.track(order("p", "x", 1)).expect("taken");
    while world.simulator.stats().pays == 0 {
        tokio::task::yield_now().await;
    }
    router.shutdown(Duration::ZERO).await.expect("stopped");
    while ticket.next().await.is_some_and(|told| !matches!(told, Progress::Failed(_))) {}
    drop(router);
    world.store = Arc::new(MemoryStore::new());
    world.store = store(&world, &dir);
    world.config = world.config.pays_on(PaysOn::Create);
    let router = world.ready().await;
    let end = router.wait(&ClientRef::new("p").expect("a reference"), TEN).await;
    placed(&end.expect("an end"));
    assert_eq!(debits(&world), [1]);
}

/// A supplier whose interface has no payment.
struct CannotPay(Arc<FoxReload>);

impl Supplier for CannotPay {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint()
    }

    fn place(&self, items: Arc<[Item]>, gate: Arc<Gate>) -> BoxFuture<'static, Exchange> {
        self.0.place(items, gate)
    }

    fn list(&self, page: PageRequest) -> BoxFuture<'static, Result<Page, ReadError>> {
        self.0.list(page)
    }

    fn fetch(&self, id: OrderId) -> BoxFuture<'static, Result<Fetched, ReadError>> {
        self.0.fetch(id)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supplier_that_cannot_be_paid_is_refused_at_the_start() {
    let world = paying(Faults::default());
    let supplier = Arc::new(CannotPay(world.supplier()));
    let builder = OrderRouter::builder(supplier, world.store.clone());
    let error = builder.config(world.config.clone()).start().await.err().expect("refused");
    assert!(matches!(error, StartError::CannotPay), "{error}");
}

/// An order that was recorded to be paid stays as well; what is created goes on once it may.
#[tokio::test(flavor = "multi_thread")]
async fn no_payment_leaves_while_the_kill_switch_is_on() {
    let mut world = paying(scripted(PayFault::WithheldNever));
    let hour = Duration::from_secs(3600);
    // It is good for no longer than it takes to be created, and is paid all the same.
    world.config = world.config.clone().good_for(Duration::from_secs(2));
    let router = world.ready().await;
    let ticket = router.track(order("p", "x", 1)).expect("taken");
    while world.simulator.stats().pays == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    router.stop_sending("prices are wrong").await.expect("durable");
    // Long enough for the doubt to be decided: it was not paid, and is due again.
    let name = ClientRef::new("p").expect("a reference");
    let due = async {
        loop {
            let stored = router.status(&name).await.expect("the store works").expect("there");
            if let State::Created { payment: Payment { step: PayStep::Due, .. }, .. } = stored.state
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TEN, due).await.expect("the doubt is decided meanwhile");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((debits(&world), world.simulator.stats().pays), (vec![0], 1));
    assert_eq!(router.stats().sending_stopped.as_deref(), Some("prices are wrong"));
    router.resume_sending().await.expect("durable");
    placed(&router.wait(&name, hour).await.expect("an end"));
    assert_eq!((debits(&world), world.simulator.stats().pays), (vec![1], 2));
    drop(ticket);
}

fn priced(reference: &str, price: Option<&str>) -> Order {
    let item = Item::new(format!("item-{reference}"), 1).expect("an item");
    let item = match price {
        Some(price) => item.total_price(price.parse().expect("a price")),
        None => item,
    };
    Order::new(ClientRef::new(reference).expect("a reference"), vec![item]).expect("an order")
}

/// How many payments are sent, none of which is decided, where 100 may be in doubt.
async fn pays_until_it_stops(price: Option<&str>) -> u64 {
    let mut world = paying(Faults::default());
    let most = Some("100".parse().expect("a price"));
    let config = world.config.clone().landing_bound(None).posts_max(1);
    world.config = config.doubts_amount_max(most);
    let faults =
        Faults { pay_script: vec![Some(PayFault::WithheldNever); 20].into(), ..Faults::default() };
    let router = world.ready().await;
    world.simulator.set_faults(faults).expect("faults");
    for n in 0..12 {
        drop(router.track(priced(&format!("p-{n}"), price)).expect("taken"));
    }
    let stopped = async {
        while router.stats().sending_stopped.as_deref() != Some("too many orders are in doubt") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TEN, stopped).await.expect("it stops");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(debits(&world).iter().sum::<u32>(), 0);
    world.simulator.stats().pays
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_in_doubt_are_bounded_by_money_too() {
    // Three cost less than a hundred, four do not; one more may have been under way.
    let pays = pays_until_it_stops(Some("30.01")).await;
    assert!((4..=5).contains(&pays), "{pays} payments");
    let pays = pays_until_it_stops(None).await;
    assert!((1..=2).contains(&pays), "{pays} payments");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_paid_after_it_was_told_unpaid_rings() {
    // It lands when it should have landed long ago.
    let late_after = Duration::from_secs(4);
    let mut world = paying(Faults { late_after, ..scripted(PayFault::Late) });
    world.config = world.config.clone().tries_max(1);
    let router = world.ready().await;
    let mut events = router.events();
    let end = buy(&router, order("p", "x", 1)).await;
    assert!(matches!(end, End::Unpaid { .. }), "{end:?}");
    assert_eq!(debits(&world), [0]);
    while debits(&world) != [1] {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Whatever a list is read for.
    let faults = Faults { withheld_after_creation: 1.0, ..Faults::default() };
    world.simulator.set_faults(faults).expect("faults");
    drop(router.track(order("q", "y", 1)).expect("taken"));
    let rings = async {
        loop {
            if let Some(RouterEvent::Alarm { what }) = events.next().await
                && what.contains("order p is paid, and was told unpaid")
            {
                return;
            }
        }
    };
    tokio::time::timeout(TEN, rings).await.expect("it rings");
    // What was told stays.
    assert_eq!(buy(&router, order("p", "x", 1)).await, end);
}
