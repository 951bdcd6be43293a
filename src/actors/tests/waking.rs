//! What became durable while a lane was down, or late, and what follows for those who wait.

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::*;
use crate::OrderId;
use crate::protocol::lane::{Candidate, ListView};
use crate::protocol::{Learnt, Serial, Verdict};
use crate::router::{RouterEvent, Ticket};
use crate::simulator::PostFault;
use crate::store::{
    Claim, Committed, Durability, Known, Rehydration, StoreError, StoreStats, Stored,
};

const SOON: Duration = Duration::from_secs(10);

/// A store that keeps its answers to some changes back, which are durable already.
struct KeptBack {
    inner: MemoryStore,
    keeps_back: fn(&Change) -> bool,
    answers: Arc<Semaphore>,
}

type Answer<T> = BoxFuture<'static, Result<T, StoreError>>;

impl IntentStore for KeptBack {
    fn next_serial(&self) -> Serial {
        self.inner.next_serial()
    }

    fn commit(&self, change: Change) -> Answer<Committed> {
        let keeps_back = (self.keeps_back)(&change);
        let answer = self.inner.commit(change);
        if !keeps_back {
            return answer;
        }
        let answers = self.answers.clone();
        async move {
            let _open = answers.acquire().await.expect("never closed");
            answer.await
        }
        .boxed()
    }

    fn find(&self, client_ref: ClientRef) -> Answer<Option<Stored>> {
        self.inner.find(client_ref)
    }

    fn claims(&self, ids: Vec<OrderId>) -> Answer<Vec<Option<Claim>>> {
        self.inner.claims(ids)
    }

    fn rehydrate(&self) -> Answer<Rehydration> {
        self.inner.rehydrate()
    }

    fn known_since(&self, since: Serial) -> Answer<Vec<Known>> {
        self.inner.known_since(since)
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn close(&self) -> Answer<()> {
        self.inner.close()
    }
}

/// A lane that is down until the store's answers go on.
struct Down {
    router: OrderRouter,
    ticket: Ticket,
    lane: ItemsHash,
    answers: Arc<Semaphore>,
}

impl Down {
    /// Lets it be rebuilt.
    fn up(self) -> (OrderRouter, Ticket) {
        self.answers.add_permits(1);
        (self.router, self.ticket)
    }
}

/// An order whose lane panics when this decision about it is durable and the lane does not know.
async fn panics_before_it_knows(
    simulator: &Simulator,
    keeps_back: fn(&Change) -> bool,
    state: &str,
) -> Down {
    let answers = Arc::new(Semaphore::new(0));
    let inner = MemoryStore::new();
    let store = Arc::new(KeptBack { inner, keeps_back, answers: answers.clone() });
    let router = router(simulator, store.clone(), config()).await;
    let mut events = router.events();
    let order = order("ref", "x");
    let lane = ItemsHash::of(order.items(), EchoProfile::default());
    let client_ref = order.client_ref().clone();
    let ticket = router.track(order).expect("taken");
    let durable = async {
        while store
            .find(client_ref.clone())
            .await
            .expect("a store")
            .is_none_or(|s| s.state.name() != state)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, durable).await.expect("durable");
    router.shared().deliver(lane, LaneMessage::Panic);
    let panicked =
        |event| matches!(event, RouterEvent::Alarm { what } if what.contains("panicked"));
    let down = async { while !panicked(events.next().await.expect("an event")) {} };
    timeout(SOON, down).await.expect("an alarm");
    Down { router, ticket, lane, answers }
}

fn placed(change: &Change) -> bool {
    matches!(change, Change::Decide { verdict: Verdict::Placed { .. }, .. })
}

fn doubt(change: &Change) -> bool {
    matches!(change, Change::Decide { verdict: Verdict::InDoubt(_), .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_of_an_end_that_became_durable_while_the_lane_was_down() {
    let simulator = simulator(Faults::default());
    let (router, ticket) = panics_before_it_knows(&simulator, placed, "placed").await.up();
    let end = timeout(SOON, end(ticket, &router, "ref")).await.expect("told");
    assert!(matches!(end, End::Placed { learnt: Learnt::Answer, .. }), "{end:?}");
    assert_eq!((router.stats().open, simulator.ledger().len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_of_a_claim_from_a_list_that_became_durable_while_the_lane_was_down() {
    let simulator = simulator(Faults { withheld_after_creation: 1.0, ..Faults::default() });
    let (router, mut ticket) = panics_before_it_knows(&simulator, placed, "placed").await.up();
    let end = async {
        loop {
            // The lane has it still, while its own POST is not settled, and says so itself.
            if let Progress::Ended(end) = ticket.next().await.expect("the lane knows the end") {
                return end;
            }
        }
    };
    let end = timeout(SOON, end).await.expect("told");
    assert!(matches!(end, End::Placed { learnt: Learnt::List, .. }), "{end:?}");
    assert_eq!((router.stats().open, simulator.ledger().len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_of_a_doubt_that_became_durable_while_the_lane_was_down() {
    let simulator = simulator(Faults { withheld_never_created: 1.0, ..Faults::default() });
    let (router, mut ticket) = panics_before_it_knows(&simulator, doubt, "in_doubt").await.up();
    let told = async {
        while !matches!(ticket.next().await.expect("the lane has it"), Progress::InDoubt) {}
    };
    // Less than a landing bound: what comes in doubt after a second POST would be told anyhow.
    timeout(Duration::from_secs(1), told).await.expect("told");
    drop(router);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_the_lane_before_asked_for_is_not_used_by_the_lane_after() {
    let script = [Some(PostFault::WithheldNeverCreated)].into();
    let simulator = simulator(Faults { script, ..Faults::default() });
    let down = panics_before_it_knows(&simulator, doubt, "in_doubt").await;
    // The lane before had claimed one of them, which this list did not know, and it would say so.
    let candidate = |id: &str| {
        let id = OrderId::new(id).expect("an id");
        Candidate { id, created_at: Timestamp::UNIX_EPOCH }
    };
    let candidates = vec![candidate("#1"), candidate("#2")];
    let view = Box::new(ListView { ask: 1, candidates, proof: None, near_miss: None });
    down.router.shared().deliver(down.lane, LaneMessage::Listed { view, epoch: 0 });
    let (router, mut ticket) = down.up();
    let end = async {
        loop {
            match ticket.next().await {
                Some(Progress::Ended(end)) => return end,
                Some(Progress::Held(why)) => panic!("held: {why}"),
                Some(_) => {}
                None => panic!("the lane has it"),
            }
        }
    };
    let end = timeout(SOON, end).await.expect("an end");
    assert!(matches!(end, End::Placed { .. }), "{end:?}");
    assert_eq!((router.stats().open, simulator.ledger().len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_record_is_durable_after_it_was_worth_sending_is_not_sent() {
    let simulator = simulator(Faults::default());
    let (inner, answers) = (MemoryStore::new(), Arc::new(Semaphore::new(0)));
    let keeps_back = |change: &Change| matches!(change, Change::Accept { attempt: Some(_), .. });
    let store = KeptBack { inner, keeps_back, answers: answers.clone() };
    let config = config().good_for(Duration::from_millis(200));
    let router = router(&simulator, Arc::new(store), config).await;
    let ticket = router.track(order("ref", "x")).expect("taken");
    tokio::time::sleep(Duration::from_millis(300)).await;
    answers.add_permits(1);
    let end = timeout(SOON, end(ticket, &router, "ref")).await.expect("an end");
    assert!(matches!(end, End::NotPlaced { .. }), "{end:?}");
    assert_eq!((router.stats().open, simulator.ledger().len()), (0, 0));
}
