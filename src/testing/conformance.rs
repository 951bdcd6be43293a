//! The conformance suite: every clause of [`IntentStore`]'s contract, as public functions.
//!
//! ```
//! use std::sync::Arc;
//! use order_router::store::MemoryStore;
//! use order_router::testing::conformance;
//!
//! # let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
//! # runtime.expect("a runtime").block_on(async {
//! conformance::test_all(&|| Arc::new(MemoryStore::new()) as _).await;
//! # });
//! ```
//!
//! Each function panics where its clause does not hold. They are called on a runtime of tokio's; one
//! with several threads makes the races real ones.
//!
//! A store on a server is tested further by [`network`]: behind a proxy that loses, delays and cuts,
//! and with its server killed.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt, ready};
use jiff::Timestamp;

use crate::order::{ClientRef, EchoProfile, Item, ItemsDigest, ItemsHash, OrderId};
use crate::protocol::{
    Attempt, AttemptSeq, Change, Fingerprint, IntentId, Learnt, NewIntent, State, Verdict, Why,
};
use crate::store::{Committed, IntentStore, Stored};

mod accept;
mod decide;
pub mod network;
mod pay;
mod races;
mod rehydrate;
mod spend;

pub use accept::*;
pub use decide::*;
pub use pay::*;
pub use races::*;
pub use rehydrate::*;
pub use spend::*;

/// A store under test.
pub type Store = Arc<dyn IntentStore>;

/// Makes the stores that the suite tests.
pub trait MakeStore: Send + Sync {
    /// A fresh, empty store.
    fn make(&self) -> BoxFuture<'_, Store>;

    /// Opens what the last [`make`](Self::make) made once more, after it was closed; `None` if
    /// nothing of it survives.
    fn reopen(&self) -> BoxFuture<'_, Option<Store>> {
        ready(None).boxed()
    }
}

impl<F: Fn() -> Store + Send + Sync> MakeStore for F {
    fn make(&self) -> BoxFuture<'_, Store> {
        ready(self()).boxed()
    }
}

/// One function of the suite.
#[derive(Clone, Copy)]
pub struct Check {
    /// What it is called.
    pub name: &'static str,
    run: for<'a> fn(&'a dyn MakeStore) -> BoxFuture<'a, ()>,
}

impl Check {
    /// Runs it.
    ///
    /// # Panics
    /// If its clause does not hold.
    pub async fn run(&self, maker: &dyn MakeStore) {
        let _running = Running(self.name);
        (self.run)(maker).await;
    }
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

/// Says which function it was that panicked.
struct Running(&'static str);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the store does not conform: {}", self.0);
        }
    }
}

macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        vec![$(Check {
            name: stringify!($name),
            run: |maker| async move { $name(maker.make().await).await }.boxed(),
        }),*]
    };
}

/// Every function of the suite.
#[must_use]
pub fn checks() -> Vec<Check> {
    let mut all = checks![
        accept_creates_once_and_joins_the_same_order,
        accept_refuses_another_order_under_the_same_reference,
        identical_references_in_flight_make_one_intent,
        a_change_handed_over_is_under_way_without_being_polled,
        too_large_a_record_is_refused_and_leaves_nothing,
        record_wants_the_intent_queued,
        expire_wants_the_intent_queued,
        decide_wants_the_newest_attempt_open,
        absent_counts_a_try_and_queues_again,
        not_sent_counts_no_try,
        ends_never_change,
        an_order_is_claimed_once_over_all_lanes,
        the_first_of_two_claims_handed_over_wins,
        late_answer_after_requeue_is_taken_and_only_that,
        placed_from_a_list_stays_until_it_is_settled,
        rehydrate_holds_open_intents_and_the_account,
        known_since_names_what_ended_after_a_serial,
        serials_grow,
        closed_store_refuses,
        one_reference_from_many_writers_makes_one_intent,
        one_claim_of_many_writers_has_one_owner,
        one_queued_intent_is_recorded_or_expired_once,
        one_attempt_is_decided_once,
        guarded_increments_of_five_writers_count_exactly,
        readers_beside_writers_see_what_was_answered_and_nothing_half,
        serials_of_many_callers_are_all_different,
        created_is_claimed_and_has_not_ended,
        pay_wants_the_payment_to_stand_where_it_says,
        paid_and_unpaid_are_ends,
        one_payment_is_recorded_at_a_time,
        created_from_a_list_is_settled_and_paid_apart,
        reservations_add_up_and_are_taken_back,
    ];
    all.push(Check {
        name: "payments_survive_reopening",
        run: |maker| payments_survive_reopening(maker).boxed(),
    });
    all.push(Check {
        name: "what_was_spent_survives_reopening",
        run: |maker| what_was_spent_survives_reopening(maker).boxed(),
    });
    all.push(Check {
        name: "everything_survives_reopening",
        run: |maker| everything_survives_reopening(maker).boxed(),
    });
    all
}

/// Runs every function of the suite, each on a fresh store.
///
/// # Panics
/// If a clause of the contract does not hold.
pub async fn test_all(maker: &dyn MakeStore) {
    for check in checks() {
        check.run(maker).await;
    }
}

/// A store with helpers that say what a test means.
#[derive(Clone)]
pub(crate) struct Bench {
    pub store: Store,
}

/// A reason, where any will do.
pub(crate) const WHY: Why = Why::Borrowed("test");

impl Bench {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// An order of one line.
    pub(crate) fn intent(&self, client_ref: &str, product: &str) -> NewIntent {
        let items = [Item::new(product, 1).expect("a product id")];
        NewIntent {
            id: self.store.next_serial(),
            client_ref: reference(client_ref),
            lane: ItemsHash::of(&items, EchoProfile::default()),
            as_sent: ItemsDigest::as_sent(&items),
            delivered: ItemsDigest::delivered(&items, false),
            items: items.into(),
            good_until: Timestamp::new(2_000_000_000, 0).expect("in range"),
            accepted_at: Timestamp::new(1_900_000_000, 5).expect("in range"),
        }
    }

    pub(crate) fn attempt(&self) -> Attempt {
        Attempt {
            seq: self.store.next_serial(),
            fingerprint: Fingerprint(7),
            floor: Some(Timestamp::new(1_900_000_000, 0).expect("in range")),
        }
    }

    pub(crate) async fn commit(&self, change: Change) -> Committed {
        self.store.commit(change).await.expect("the store works")
    }

    pub(crate) async fn done(&self, change: Change) {
        let what = format!("{change:?}");
        assert_eq!(self.commit(change).await, Committed::Done, "{what}");
    }

    pub(crate) async fn stale(&self, change: Change) {
        let what = format!("{change:?}");
        assert_eq!(self.commit(change).await, Committed::Stale, "{what}");
    }

    /// Accepts an order without an attempt.
    pub(crate) async fn queued(&self, client_ref: &str, product: &str) -> IntentId {
        let intent = self.intent(client_ref, product);
        let id = intent.id;
        self.done(Change::Accept { intent, attempt: None }).await;
        id
    }

    /// Accepts an order with its first attempt.
    pub(crate) async fn sending(&self, client_ref: &str, product: &str) -> (IntentId, AttemptSeq) {
        let (intent, attempt) = (self.intent(client_ref, product), self.attempt());
        let ids = (intent.id, attempt.seq);
        self.done(Change::Accept { intent, attempt: Some(attempt) }).await;
        ids
    }

    pub(crate) async fn record(&self, intent: IntentId) -> AttemptSeq {
        let attempt = self.attempt();
        self.done(Change::Record { intent, attempt }).await;
        attempt.seq
    }

    pub(crate) async fn find(&self, client_ref: &str) -> Option<Stored> {
        self.store.find(reference(client_ref)).await.expect("the store works")
    }

    pub(crate) async fn state(&self, client_ref: &str) -> State {
        self.find(client_ref).await.expect("the intent is there").state
    }
}

pub(crate) fn reference(text: &str) -> ClientRef {
    ClientRef::new(text).expect("a reference")
}

pub(crate) fn order(text: &str) -> OrderId {
    OrderId::new(text).expect("an order id")
}

pub(crate) fn decide((intent, attempt): (IntentId, AttemptSeq), verdict: Verdict) -> Change {
    Change::Decide { intent, attempt, verdict }
}

pub(crate) fn placed(id: &str, learnt: Learnt) -> Verdict {
    Verdict::Placed {
        id: order(id),
        learnt,
        created_at: Some(Timestamp::new(1_900_000_100, 0).expect("in range")),
    }
}
