//! What only the inside can show: what a list is judged by, and how far back it was read.

use std::sync::Mutex;

use futures_util::future::BoxFuture;

use super::*;
use crate::actors::Dormant;
use crate::actors::tests::{config, order, router, simulator};
use crate::order::{ClientRef, EchoProfile, ItemsDigest};
use crate::protocol::{Attempt, Fingerprint, Serial, State};
use crate::simulator::Faults;
use crate::store::{
    Committed, Durability, IntentStore, Known, MemoryStore, Rehydration, StoreStats, Stored,
};
use crate::supplier::Gate;

type Answer<T> = BoxFuture<'static, Result<T, StoreError>>;
/// What happens once.
type Once = Box<dyn FnOnce() + Send>;

/// A store in memory in which something happens when claims have been read, before they are told.
#[derive(Default)]
struct AfterClaims {
    store: MemoryStore,
    then: Arc<Mutex<Option<Once>>>,
}

impl IntentStore for AfterClaims {
    fn next_serial(&self) -> Serial {
        self.store.next_serial()
    }

    fn commit(&self, change: Change) -> Answer<Committed> {
        self.store.commit(change)
    }

    fn find(&self, client_ref: ClientRef) -> Answer<Option<Stored>> {
        self.store.find(client_ref)
    }

    fn claims(&self, ids: Vec<OrderId>) -> Answer<Vec<Option<Claim>>> {
        let (claims, then) = (self.store.claims(ids), self.then.clone());
        Box::pin(async move {
            let claims = claims.await;
            if let Some(then) = then.lock().expect("no panic").take() {
                then();
            }
            claims
        })
    }

    fn rehydrate(&self) -> Answer<Rehydration> {
        self.store.rehydrate()
    }

    fn known_since(&self, since: Serial) -> Answer<Vec<Known>> {
        self.store.known_since(since)
    }

    fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }

    fn close(&self) -> Answer<()> {
        self.store.close()
    }
}

/// What a lane sleeps with that has one attempt in doubt.
fn in_doubt(shared: &Shared) -> Dormant {
    let order = order("in-doubt", "x");
    let attempt = Attempt {
        seq: shared.store.next_serial(),
        fingerprint: Fingerprint::default(),
        floor: None,
    };
    let stored = Stored {
        id: shared.store.next_serial(),
        client_ref: order.client_ref().clone(),
        lane: ItemsHash::of(order.items(), EchoProfile::default()),
        as_sent: ItemsDigest::as_sent(order.items()),
        delivered: ItemsDigest::delivered(order.items(), false),
        items: order.items_shared(),
        good_until: Timestamp::MAX,
        accepted_at: Timestamp::UNIX_EPOCH,
        state: State::InDoubt(attempt, "a test".into()),
        tries: 0,
        last_attempt: Some(attempt.seq),
        unsettled: false,
    };
    Dormant { intents: vec![stored], hold: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_ends_while_the_claims_are_read_explains_its_row_all_the_same() {
    let simulator = simulator(Faults::default());
    let store = Arc::new(AfterClaims::default());
    let then = store.then.clone();
    let router = router(&simulator, store, config()).await;
    let shared = router.shared();
    let (items, lane) = (
        order("any", "x").items_shared(),
        ItemsHash::of(order("any", "x").items(), EchoProfile::default()),
    );
    let gate = Arc::new(Gate::new(Moment::after_origin(Duration::MAX)));
    drop(shared.supplier.place(items, gate).await);
    let row = OrderId::new(&simulator.ledger()[0].id).expect("an id");
    // Its attempt is open, nobody has claimed the row yet; then both change at once.
    shared.registry.lay_down(lane, in_doubt(shared));
    let ends = shared.clone();
    *then.lock().expect("no panic") =
        Some(Box::new(move || drop(ends.registry.take_dormant(&lane))));
    let mut events = router.events();
    let other = ItemsHash::of(order("other", "y").items(), EchoProfile::default());
    let (products, shapes) = (Vec::new().into(), BTreeSet::new());
    shared.look(LookoutMessage::Ask(Ask {
        lane: other,
        ask: 1,
        epoch: 0,
        since: None,
        products,
        shapes,
    }));
    loop {
        match events.next().await.expect("a list is read") {
            RouterEvent::Listed { rows, .. } => break assert_eq!(rows, 1),
            RouterEvent::Orphans { ids } => panic!("{ids:?} has an attempt"),
            _ => {}
        }
    }
    assert!(then.lock().expect("no panic").is_none(), "claims were asked for");
    assert!(!shared.account().is_nobodys(&row), "it was declared nobody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_for_late_landings_goes_back_to_the_last_list_that_was_evidence() {
    let simulator = simulator(Faults::default());
    let router = router(&simulator, Arc::new(MemoryStore::new()), config()).await;
    let mut lookout = Lookout::new(router.shared().clone());
    let bound = lookout.shared.config.landing_bound.expect("a bound");
    let second = |second| Timestamp::from_second(second).expect("in range");
    let (released, read) = (Some(second(1_000)), Some(second(2_000)));
    let empty = |reach, at: Moment| Arrived {
        sheet: Sheet { rows: Vec::new(), reach, date: None, checkpoint: None },
        requested: at,
        arrived: at,
        open: BTreeMap::new(),
        claims: Ok(Vec::new()),
    };
    let now = lookout.shared.runtime.now();
    let broken = Err(crate::protocol::listing::NoEvidence::Gap);
    lookout.arrived(empty(broken, now), &[], read);
    assert_eq!(lookout.not_read_since(released), released, "a list with a gap");
    // Nothing shows that the list is alive.
    lookout.arrived(empty(Ok(None), now), &[], read);
    assert_eq!(lookout.not_read_since(released), released, "a list without a witness");
    // As empty as a landing bound ago.
    lookout.arrived(empty(Ok(None), now.plus(bound)), &[], read);
    let within_the_bound = read.and_then(|at| at.checked_sub(bound).ok());
    assert_eq!(lookout.not_read_since(released), within_the_bound, "a list that is evidence");
}
