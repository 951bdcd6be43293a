//! The conformance suite: every clause of [`IntentStore`]'s contract, as public functions.
//!
//! ```
//! use std::sync::Arc;
//! use order_router::store::MemoryStore;
//! use order_router::testing::conformance;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
//! # runtime.block_on(async {
//! conformance::test_all(&|| Arc::new(MemoryStore::new()) as _).await;
//! # });
//! ```
//!
//! Each function panics with the clause that does not hold.

use std::sync::Arc;

use jiff::Timestamp;

use crate::order::{ClientRef, EchoProfile, Item, ItemsDigest, ItemsHash, OrderId};
use crate::protocol::{
    Attempt, AttemptSeq, Change, Fingerprint, IntentId, Learnt, NewIntent, State, Verdict, Why,
};
use crate::store::{Committed, IntentStore, Stored};

mod accept;
mod decide;
mod pay;
mod rehydrate;

pub use accept::*;
pub use decide::*;
pub use pay::*;
pub use rehydrate::*;

/// A store under test.
pub type Store = Arc<dyn IntentStore>;

/// Makes the stores that the suite tests.
pub trait MakeStore {
    /// A fresh, empty store.
    fn make(&self) -> Store;

    /// Opens what the last [`make`](Self::make) made once more, after it was closed; `None` if
    /// nothing of it survives.
    fn reopen(&self) -> Option<Store> {
        None
    }
}

impl<F: Fn() -> Store> MakeStore for F {
    fn make(&self) -> Store {
        self()
    }
}

/// Runs every function of the suite, each on a fresh store.
///
/// # Panics
/// If a clause of the contract does not hold.
pub async fn test_all(maker: &dyn MakeStore) {
    accept_creates_once_and_joins_the_same_order(maker.make()).await;
    accept_refuses_another_order_under_the_same_reference(maker.make()).await;
    identical_references_in_flight_make_one_intent(maker.make()).await;
    a_change_handed_over_is_under_way_without_being_polled(maker.make()).await;
    too_large_a_record_is_refused_and_leaves_nothing(maker.make()).await;
    record_wants_the_intent_queued(maker.make()).await;
    expire_wants_the_intent_queued(maker.make()).await;
    decide_wants_the_newest_attempt_open(maker.make()).await;
    absent_counts_a_try_and_queues_again(maker.make()).await;
    not_sent_counts_no_try(maker.make()).await;
    ends_never_change(maker.make()).await;
    an_order_is_claimed_once_over_all_lanes(maker.make()).await;
    two_writers_of_one_claim_have_one_winner(maker.make()).await;
    late_answer_after_requeue_is_taken_and_only_that(maker.make()).await;
    guarded_writes_from_five_writers_count_exactly(maker.make()).await;
    placed_from_a_list_stays_until_it_is_settled(maker.make()).await;
    rehydrate_holds_open_intents_and_the_account(maker.make()).await;
    known_since_names_what_ended_after_a_serial(maker.make()).await;
    serials_grow(maker.make()).await;
    closed_store_refuses(maker.make()).await;
    created_is_claimed_and_has_not_ended(maker.make()).await;
    pay_wants_the_payment_to_stand_where_it_says(maker.make()).await;
    paid_and_unpaid_are_ends(maker.make()).await;
    one_payment_is_recorded_at_a_time(maker.make()).await;
    created_from_a_list_is_settled_and_paid_apart(maker.make()).await;
    payments_survive_reopening(maker).await;
    everything_survives_reopening(maker).await;
}

/// A store with helpers that say what a test means.
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
