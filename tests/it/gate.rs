//! The shared gate: nodes with a store and an account each, and one gate in front of them.

use std::sync::Arc;
use std::time::Duration;

use order_router::runtime::Runtime;
use order_router::shared_gate::{
    GateStats, GateTerms, NodeName, OnFailure, SharedGate, StoreMark, connect,
};
use order_router::simulator::{Faults, Simulator};
use order_router::store::{EmbeddedConfig, EmbeddedStore};
use order_router::testing::conformance::network::{Direction, Proxy};
use order_router::{End, Order, OrderRouter, Progress, RouterEvent, SubmitError};
use tempfile::TempDir;

use super::router::{World, buy, check_books, order, placed};
use super::servers::{Memcached, PASSWORD, Redis, free_port};

mod cluster;
mod fake;
mod kills;
mod outages;
mod pairs;

const MILLIS: Duration = Duration::from_millis(1);

fn terms() -> GateTerms {
    // Long for a server on this machine; tests share it with others.
    let timeout = Duration::from_secs(1);
    GateTerms { timeout, ..GateTerms::default() }
}

fn open() -> GateTerms {
    GateTerms { on_failure: OnFailure::Open, ..terms() }
}

/// A node: an account of its own, a store of its own, and the gate.
struct Node {
    world: World,
    router: OrderRouter,
    _dir: TempDir,
}

impl Node {
    async fn start(name: &str, url: &str, terms: GateTerms, faults: Faults) -> Self {
        let mut world = World::new(faults);
        // So that an order ends as not placed only where it should.
        world.config = world.config.clone().tries_max(20);
        Self::with(world, name, url, terms).await
    }

    /// One that never releases: an order in doubt stays so.
    async fn patient(name: &str, url: &str, terms: GateTerms) -> Self {
        let mut world = World::new(Faults::default());
        world.config = world.config.clone().landing_bound(None);
        Self::with(world, name, url, terms).await
    }

    async fn with(mut world: World, name: &str, url: &str, terms: GateTerms) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store =
            EmbeddedStore::open(dir.path(), EmbeddedConfig::default(), &Runtime::system()).unwrap();
        world.store = Arc::new(store);
        let mark = StoreMark::of_directory(dir.path()).unwrap();
        let router = router(&world, gate(name, &mark, url, terms)).await;
        Self { world, router, _dir: dir }
    }

    fn stats(&self) -> GateStats {
        self.router.stats().gate.unwrap()
    }

    fn ledger(&self) -> usize {
        self.world.simulator.ledger().len()
    }

    /// Brings an order into doubt, for good: it was not created, and no bound ends the wait.
    async fn leave_open(&self, order: Order) {
        let faults = Faults { withheld_never_created: 1.0, ..Faults::default() };
        self.world.simulator.set_faults(faults).unwrap();
        let mut ticket = self.router.track(order).unwrap();
        while !matches!(ticket.next().await, Some(Progress::InDoubt)) {}
        self.world.simulator.set_faults(Faults::default()).unwrap();
    }

    /// Waits until the gate says that another node has recorded a reference.
    async fn until_recorded(&self, name: &str, order: &Order) {
        let recorded = async {
            while !is_elsewhere(&attempt(&self.router, order.clone()).await, name) {
                tokio::time::sleep(5 * MILLIS).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), recorded).await.expect("it is recorded");
    }

    /// Waits for an alarm with these words.
    async fn alarm(events: &mut order_router::Events, words: &str) -> String {
        loop {
            match events.next().await {
                Some(RouterEvent::Alarm { what }) if what.contains(words) => return what,
                Some(_) => {}
                None => panic!("the router has stopped"),
            }
        }
    }
}

fn gate(name: &str, mark: &StoreMark, url: &str, terms: GateTerms) -> Arc<SharedGate> {
    let (server, namespace) = connect(url).unwrap();
    let node = NodeName::new(name, mark).unwrap();
    Arc::new(SharedGate::new(server, &namespace, node, terms).unwrap())
}

async fn router(world: &World, gate: Arc<SharedGate>) -> OrderRouter {
    let builder = OrderRouter::builder(world.supplier(), world.store.clone());
    let builder = builder.config(world.config.clone()).runtime(Runtime::system());
    let router = builder.gate(gate).start().await.unwrap();
    router.ready().await.unwrap();
    router
}

/// Follows an order to its end, or until it is not taken.
async fn attempt(router: &OrderRouter, order: Order) -> Result<End, SubmitError> {
    let mut ticket = router.track(order)?;
    loop {
        match ticket.next().await {
            Some(Progress::Ended(end)) => return Ok(end),
            Some(Progress::Failed(error)) => return Err(error),
            Some(Progress::Held(why)) => panic!("held: {why}"),
            Some(_) => {}
            None => return Err(SubmitError::Stopped),
        }
    }
}

#[track_caller]
fn is_elsewhere(told: &Result<End, SubmitError>, name: &str) -> bool {
    match told {
        Err(SubmitError::Elsewhere { node, recorded, .. }) => {
            assert!(node.starts_with(&format!("{name}/")), "{node}");
            *recorded
        }
        other => panic!("{other:?}"),
    }
}

/// A gate's server, of either kind.
enum Live {
    Memcached(Memcached),
    Redis(Redis),
}

impl Live {
    fn memcached() -> Option<Self> {
        Memcached::start(false).map(Self::Memcached)
    }

    fn redis() -> Option<Self> {
        Redis::start(&[]).map(Self::Redis)
    }

    fn port(&self) -> u16 {
        match self {
            Self::Memcached(server) => server.port,
            Self::Redis(server) => server.port,
        }
    }

    fn url(&self) -> String {
        self.url_at(self.port())
    }

    fn url_at(&self, port: u16) -> String {
        match self {
            Self::Memcached(_) => format!("memcached://127.0.0.1:{port}?namespace=shop"),
            Self::Redis(server) => server.url_at(port, "shop"),
        }
    }

    fn kill(&self) {
        match self {
            Self::Memcached(server) => server.kill(),
            Self::Redis(server) => server.kill(),
        }
    }

    fn run(&self) {
        match self {
            Self::Memcached(server) => server.run(),
            Self::Redis(server) => server.run(),
        }
    }

    fn pause(&self, paused: bool) {
        match self {
            Self::Memcached(server) => server.pause(paused),
            Self::Redis(server) => server.pause(paused),
        }
    }

    fn flush(&self) {
        let said = match self {
            Self::Memcached(server) => server.say("flush_all"),
            Self::Redis(server) => server.cli(&["FLUSHALL"]),
        };
        assert_eq!(said.trim_end(), "OK");
    }
}

/// Runs each of these with either kind of server.
macro_rules! with_each_server {
    ($($name:ident),+ $(,)?) => {
        mod memcached {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(live) = super::Live::memcached() { super::$name(live).await; }
            })+
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(live) = super::Live::redis() { super::$name(live).await; }
            })+
        }
    };
}
use with_each_server;
