//! Orders that are paid later, in process: what callers are told, joins, restarts, refused starts.

use futures_util::future::BoxFuture;
use order_router::protocol::{Fingerprint, PayStep, PaysOn, State};
use order_router::simulator::{Contract, PayFault, PayTime};
use order_router::supplier::{
    Capabilities, Exchange, Fetched, Gate, Page, PageRequest, ReadError, Supplier,
};
use order_router::{OrderId, StartError};

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
        let world = paying(scripted(fault));
        let router = world.ready().await;
        let mut ticket = router.track(order("p", "x", 1)).expect("taken");
        while world.simulator.stats().pays == 0 {
            tokio::task::yield_now().await;
        }
        router.shutdown(Duration::ZERO).await.expect("stopped");
        while ticket.next().await.is_some_and(|p| !matches!(p, Progress::Failed(_))) {}
        let mut reopened = paying(Faults::default());
        (reopened.simulator, reopened.store) = (world.simulator, copy(&world.store).await);
        let router = reopened.ready().await;
        let name = ClientRef::new("p").expect("a reference");
        placed(&router.wait(&name, TEN).await.expect("an end"));
        assert_eq!(debits(&reopened), [1], "{fault:?}");
    }
}

const TEN: Duration = Duration::from_secs(20);

/// A store with the same open orders: a memory store that was closed takes nothing more.
async fn copy(store: &Arc<dyn IntentStore>) -> Arc<dyn IntentStore> {
    use order_router::protocol::{Attempt, Change, Learnt, NewIntent, PayVerdict, Serial, Verdict};
    let found = store.rehydrate().await.expect("it can be read");
    let copy = MemoryStore::new();
    if let Some(line) = found.history {
        let change = Change::History { newest: line.newest, ids: line.ids };
        copy.commit(change).await.expect("written");
    }
    for stored in found.intents {
        let State::Created { id, created_at, payment, why, .. } = stored.state else {
            panic!("{stored:?}");
        };
        let seq = Serial(stored.last_attempt.expect("sent").0);
        let intent = NewIntent {
            id: stored.id,
            client_ref: stored.client_ref,
            lane: stored.lane,
            as_sent: stored.as_sent,
            delivered: stored.delivered,
            items: stored.items,
            good_until: stored.good_until,
            accepted_at: stored.accepted_at,
        };
        let attempt = Attempt { seq, fingerprint: Fingerprint(0), floor: None };
        let was = order_router::protocol::Payment::NEW;
        let (of, learnt) = (intent.id, Learnt::Answer);
        let verdict = Verdict::Created { id, learnt, created_at };
        let to = PayVerdict::Open { payment, why };
        for change in [
            Change::Accept { intent, attempt: Some(attempt) },
            Change::Decide { intent: of, attempt: seq, verdict },
            Change::Pay { intent: of, was, to },
        ] {
            copy.commit(change).await.expect("written");
        }
    }
    Arc::new(copy)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_created_under_pay_is_looked_at_and_paid_under_create_too() {
    let world = paying(scripted(PayFault::WithheldNever));
    let router = world.ready().await;
    let mut ticket = router.track(order("p", "x", 1)).expect("taken");
    while world.simulator.stats().pays == 0 {
        tokio::task::yield_now().await;
    }
    router.shutdown(Duration::ZERO).await.expect("stopped");
    while ticket.next().await.is_some_and(|p| !matches!(p, Progress::Failed(_))) {}
    let store = copy(&world.store).await;
    let config = world.config.clone().pays_on(PaysOn::Create);
    let again = World { simulator: world.simulator, store, config, settings: world.settings };
    let router = again.ready().await;
    let end = router.wait(&ClientRef::new("p").expect("a reference"), TEN).await;
    placed(&end.expect("an end"));
    assert_eq!(debits(&again), [1]);
    let stored = router.status(&ClientRef::new("p").expect("a reference")).await;
    let state = stored.expect("works").expect("there").state;
    assert!(!matches!(state, State::Created { payment, .. } if payment.step == PayStep::Due));
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
