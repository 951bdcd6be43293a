//! A gate's server in this process, which can be told to fail; and what is seen only with one.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use order_router::protocol::{Change, Serial};
use order_router::shared_gate::{GateError, GateServer, Question, Reply};
use order_router::store::{
    Claim, Committed, Durability, IntentStore, Known, MemoryStore, Rehydration, StoreError,
    StoreStats, Stored,
};
use order_router::{ClientRef, OrderId};

use super::*;

/// See the module.
#[derive(Default)]
pub(super) struct Fake {
    keys: Mutex<HashMap<String, String>>,
    /// It says of every key that it was added.
    pub(super) says_yes: AtomicBool,
}

impl Fake {
    pub(super) fn keys(&self) -> HashMap<String, String> {
        self.keys.lock().unwrap().clone()
    }

    pub(super) fn put(&self, key: &str, value: &str) {
        self.keys.lock().unwrap().insert(key.to_owned(), value.to_owned());
    }
}

impl GateServer for Fake {
    fn ask(
        &self,
        key: String,
        question: Question,
        _ttl: Duration,
    ) -> BoxFuture<'static, Result<Reply, GateError>> {
        let mut keys = self.keys.lock().unwrap();
        let there = keys.get(&key).cloned();
        let reply = match (question, there) {
            (Question::Add(_), _) if self.says_yes.load(Ordering::SeqCst) => Reply::Done,
            (Question::Add(value), None) => {
                keys.insert(key, value);
                Reply::Done
            }
            (Question::Swap { old, new }, Some(there)) if there == old || there == new => {
                keys.insert(key, new);
                Reply::Done
            }
            (Question::Remove(old), Some(there)) if there == old => {
                keys.remove(&key);
                Reply::Done
            }
            (_, Some(there)) => Reply::Other(there),
            (_, None) => Reply::Nothing,
        };
        Box::pin(async move { Ok(reply) })
    }

    fn place(&self) -> String {
        "here".to_owned()
    }
}

fn at(server: &Arc<Fake>, name: &str, store: &str) -> Arc<SharedGate> {
    let node = NodeName::new(name, &StoreMark::of_place(store)).unwrap();
    Arc::new(SharedGate::new(server.clone(), "shop", node, terms()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_is_asked_before_anything_is_recorded_and_told_afterwards() {
    let server = Arc::new(Fake::default());
    let world = World::new(Faults::default());
    let router = router(&world, at(&server, "one", "a")).await;
    placed(&buy(&router, order("r", "p", 1)).await);
    router.shutdown(Duration::from_secs(5)).await.unwrap();
    let keys = server.keys();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let (key, value) = keys.into_iter().next().unwrap();
    assert!(key.starts_with("shop:") && !key.contains("r:"), "{key}");
    assert!(value.starts_with("1 recorded one/"), "{value}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_on_with_what_it_began_and_a_twin_does_not() {
    let server = Arc::new(Fake::default());
    let world = World::new(Faults::default());
    let gate = at(&server, "one", "a");
    // A former life of the node was killed between the gate and its store.
    let wanted = order("r", "p", 1);
    let digest = format!("{:?}", order_router::ItemsDigest::as_sent(wanted.items()));
    let key = gate.key(wanted.client_ref());
    server.put(&key, &format!("1 recording {} {digest}", gate.node()));
    // Another store under the same name is another node.
    let other = World::new(Faults::default());
    let copied = router(&other, at(&server, "one", "b")).await;
    assert!(!is_elsewhere(&attempt(&copied, wanted.clone()).await, "one"));
    let same = router(&world, gate).await;
    placed(&attempt(&same, wanted).await.unwrap());
    assert_eq!(world.simulator.ledger().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_node_recorded_and_its_store_has_lost_is_not_bought_again() {
    let server = Arc::new(Fake::default());
    let mut world = World::new(Faults::default());
    let first = router(&world, at(&server, "one", "a")).await;
    placed(&buy(&first, order("r", "p", 1)).await);
    first.shutdown(Duration::from_secs(5)).await.unwrap();
    world.store = Arc::new(MemoryStore::new());
    world.config = world.config.clone().start(order_router::StartAnswer::NewAccount);
    let second = router(&world, at(&server, "one", "a")).await;
    let told = attempt(&second, order("r", "p", 1)).await;
    assert!(matches!(told, Err(SubmitError::Forgotten { .. })), "{told:?}");
    assert!(told.unwrap_err().to_string().contains("it may have been bought"));
    assert_eq!(world.simulator.ledger().len(), 1);
}

/// The gate may say what it likes: what a store guards, it guards.
#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_lets_everything_pass_takes_nothing_from_the_store() {
    let server = Arc::new(Fake::default());
    server.says_yes.store(true, Ordering::SeqCst);
    let world = World::new(Faults::default());
    let router = router(&world, at(&server, "one", "a")).await;
    let told = futures_util::future::join_all((0..20).map(|at| {
        let router = router.clone();
        async move { attempt(&router, order("r", "p", 1 + at % 2)).await }
    }))
    .await;
    assert_eq!(world.simulator.ledger().len(), 1);
    let refused = told.iter().filter(|told| match told {
        Ok(end) => placed(end).is_empty(),
        Err(error) => matches!(error, SubmitError::Conflict { .. }),
    });
    assert_eq!(refused.count(), 10, "{told:?}");
    // The key says what this node has, and not what was asked last.
    placed(
        &attempt(&router, order("r", "p", 1))
            .await
            .or(attempt(&router, order("r", "p", 2)).await)
            .unwrap(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_under_a_key_counts_as_no_answer() {
    let server = Arc::new(Fake::default());
    let world = World::new(Faults::default());
    let gate = at(&server, "one", "a");
    server.put(&gate.key(order("r", "p", 1).client_ref()), "2 a newer form");
    let router = router(&world, gate).await;
    let told = attempt(&router, order("r", "p", 1)).await;
    assert!(matches!(told, Err(SubmitError::GateDown { .. })), "{told:?}");
    assert_eq!(world.simulator.ledger().len(), 0);
}

/// A store without room for new orders.
struct Full(MemoryStore, AtomicBool);

impl IntentStore for Full {
    fn next_serial(&self) -> Serial {
        self.0.next_serial()
    }
    fn commit(&self, change: Change) -> BoxFuture<'static, Result<Committed, StoreError>> {
        if matches!(change, Change::Accept { .. }) && self.1.load(Ordering::SeqCst) {
            let full = StoreError::Full { free_bytes: 0, wanted_bytes: 1 };
            return Box::pin(async move { Err(full) });
        }
        self.0.commit(change)
    }
    fn find(
        &self,
        client_ref: ClientRef,
    ) -> BoxFuture<'static, Result<Option<Stored>, StoreError>> {
        self.0.find(client_ref)
    }
    fn claims(
        &self,
        ids: Vec<OrderId>,
    ) -> BoxFuture<'static, Result<Vec<Option<Claim>>, StoreError>> {
        self.0.claims(ids)
    }
    fn rehydrate(&self) -> BoxFuture<'static, Result<Rehydration, StoreError>> {
        self.0.rehydrate()
    }
    fn known_since(&self, since: Serial) -> BoxFuture<'static, Result<Vec<Known>, StoreError>> {
        self.0.known_since(since)
    }
    fn stats(&self) -> StoreStats {
        self.0.stats()
    }
    fn durability(&self) -> Durability {
        self.0.durability()
    }
    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.0.close()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_store_is_full_gives_the_reference_back() {
    let server = Arc::new(Fake::default());
    let mut world = World::new(Faults::default());
    world.store = Arc::new(Full(MemoryStore::new(), AtomicBool::new(true)));
    let full = router(&world, at(&server, "one", "a")).await;
    let told = attempt(&full, order("r", "p", 1)).await;
    assert!(matches!(told, Err(SubmitError::Store { may_exist: false, .. })), "{told:?}");
    // It stops only when its keys are written.
    full.shutdown(Duration::from_secs(5)).await.unwrap();
    assert!(server.keys().is_empty(), "{:?}", server.keys());
    let other = World::new(Faults::default());
    let router = router(&other, at(&server, "two", "b")).await;
    placed(&attempt(&router, order("r", "p", 1)).await.unwrap());
}
