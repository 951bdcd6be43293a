//! The whole router against the simulated supplier, over real sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use order_router::simulator::{Faults, LedgerEntry, Simulator, SimulatorConfig};
use order_router::store::{IntentStore, MemoryStore};
use order_router::supplier::{ApiKey, FoxReload, foxreload};
use order_router::{ClientRef, Config, End, Item, Order, OrderRouter, Progress};

mod all_at_once;
mod balance;
mod clock;
mod doubts;
mod edges;
mod failing;
mod fulfilment;
mod handle;
mod limits;
mod load;
mod pays;
mod replaces;
mod starts;
mod stopped;
mod switch;
mod tags;
mod world;

/// A simulated supplier, and routers that buy from it.
pub(crate) struct World {
    pub(crate) simulator: Simulator,
    pub(crate) store: Arc<dyn IntentStore>,
    pub(crate) config: Config,
    pub(crate) settings: foxreload::Settings,
    pub(crate) url: String,
    pub(crate) key: &'static str,
}

impl World {
    pub(crate) fn new(faults: Faults) -> Self {
        Self::with(SimulatorConfig { faults, ..SimulatorConfig::default() })
    }

    pub(crate) fn with(simulator: SimulatorConfig) -> Self {
        let simulator = Simulator::spawn_thread(simulator).expect("a simulator");
        let timeout = Duration::from_millis(300);
        let mut settings = foxreload::Settings::default();
        settings.wire_bound = timeout;
        settings.connect_timeout = timeout / 2;
        let config = Config::default()
            .request_timeout(timeout)
            .landing_bound(Some(Duration::from_secs(1)))
            .list_interval(Duration::from_millis(50))
            .look_again(Duration::from_millis(200), Duration::from_secs(1))
            .probe_limit(Duration::from_secs(3))
            .doubts_max(10_000);
        let (url, key, store) = (simulator.url(), "test-key", Arc::new(MemoryStore::new()));
        Self { simulator, store, config, settings, url, key }
    }

    pub(crate) fn supplier(&self) -> Arc<FoxReload> {
        let key = ApiKey::new(self.key).expect("a key");
        let clock = self.runtime().clock;
        let settings = self.settings.clone();
        Arc::new(FoxReload::new(&self.url, &key, settings, clock).expect("a client"))
    }

    fn runtime(&self) -> order_router::runtime::Runtime {
        RUNTIME.get_or_init(order_router::runtime::Runtime::system).clone()
    }

    pub(crate) async fn start(&self) -> OrderRouter {
        OrderRouter::builder(self.supplier(), self.store.clone())
            .config(self.config.clone())
            .runtime(self.runtime())
            .start()
            .await
            .expect("a start")
    }

    pub(crate) async fn ready(&self) -> OrderRouter {
        let router = self.start().await;
        router.ready().await.expect("ready");
        router
    }
}

static RUNTIME: std::sync::OnceLock<order_router::runtime::Runtime> = std::sync::OnceLock::new();

pub(crate) fn order(reference: &str, item: &str, quantity: u32) -> Order {
    let item = Item::new(item, quantity).expect("an item");
    Order::new(ClientRef::new(reference).expect("a reference"), vec![item]).expect("an order")
}

/// Follows an order to its end, through any doubt.
pub(crate) async fn buy(router: &OrderRouter, order: Order) -> End {
    let mut ticket = router.track(order).expect("taken");
    loop {
        match ticket.next().await.expect("an end comes") {
            Progress::Ended(end) => return end,
            Progress::Failed(error) => panic!("{error}"),
            Progress::Held(why) => panic!("held: {why}"),
            Progress::Submitted
            | Progress::Accepted
            | Progress::Created { .. }
            | Progress::InDoubt => {}
        }
    }
}

pub(crate) fn placed(end: &End) -> String {
    match end {
        End::Placed { order_id, .. } => order_id.to_string(),
        other => panic!("not placed: {other:?}"),
    }
}

/// The oracle: every order wanted was bought exactly once, with its own items, and nobody else has
/// it; every order at the supplier is somebody's.
pub(crate) fn check_books(bought: &[(Order, End)], ledger: &[LedgerEntry]) {
    let rows: BTreeMap<_, _> = ledger
        .iter()
        .filter(|row| !row.foreign)
        .map(|row| {
            let items = row.items.iter().map(|i| (i.item_id.clone(), i.quantity));
            (row.id.clone(), items.collect::<BTreeSet<_>>())
        })
        .collect();
    let mut claimed = BTreeSet::new();
    for (order, end) in bought {
        let id = placed(end);
        let wanted = order.items().iter().map(|i| (i.id().to_owned(), i.quantity().into()));
        let row = rows.get(&id).unwrap_or_else(|| panic!("{id} is not at the supplier"));
        assert_eq!(*row, wanted.collect(), "wrong customer");
        assert!(claimed.insert(id.clone()), "{id} was given to two customers");
    }
    let unclaimed: Vec<_> = rows.keys().filter(|id| !claimed.contains(*id)).collect();
    assert!(unclaimed.is_empty(), "bought twice or claimed by nobody: {unclaimed:?}");
}

/// Buys many orders at once and checks the books.
pub(crate) async fn buy_all(world: &World, router: &OrderRouter, orders: Vec<Order>) {
    let mut tasks = tokio::task::JoinSet::new();
    for order in orders {
        let router = router.clone();
        tasks.spawn(async move { (order.clone(), buy(&router, order).await) });
    }
    let bought = tasks.join_all().await;
    check_books(&bought, &world.simulator.ledger());
}
