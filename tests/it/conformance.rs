//! The suite bites: every one of its functions fails on a store that is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt, ready};
use order_router::protocol::{Change, Clause, LeftOut, Serial, State, Verdict};
use order_router::store::{
    Claim, Committed, Durability, IntentStore, Known, MemoryStore, Rehydration, StoreError,
    StoreStats, Stored,
};
use order_router::testing::conformance::{self, MakeStore, Store};
use order_router::{ClientRef, OrderId};

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// A guard of the book is left out.
    Without(Clause),
    /// A change is under way once it is polled.
    Lazy,
    /// Who comes again is in conflict.
    JoinsNothing,
    /// What is stale is said to be done.
    SaysDone,
    /// What is too large ends the store.
    LatchesOnTooLarge,
    /// What was not sent is a try.
    CountsNotSent,
    TriesNotCounted,
    HeldLanesForgotten,
    /// What was not spent stays counted.
    NothingTakenBack,
    /// What ended before is a witness, too.
    EveryWitness,
    SerialsTwice,
    NeverCloses,
    ForgetsOnReopening,
    /// A claim shows a little later than its order.
    ClaimsLater,
    /// Every guard looks first and writes then: right for one writer.
    LooksFirst,
    /// So are serials.
    SerialsLookFirst,
}

/// What must fail on it, at least.
const CAUGHT: &[(Wrong, &[&str])] = &[
    (Wrong::Without(Clause::ReferenceUnique), &["identical_references_in_flight_make_one_intent"]),
    (
        Wrong::Without(Clause::ConflictRefused),
        &["accept_refuses_another_order_under_the_same_reference"],
    ),
    (Wrong::Without(Clause::OutcomeGuarded), &["ends_never_change"]),
    (
        Wrong::Without(Clause::ClaimedOnce),
        &[
            "an_order_is_claimed_once_over_all_lanes",
            "the_first_of_two_claims_handed_over_wins",
            "one_claim_of_many_writers_has_one_owner",
            "created_is_claimed_and_has_not_ended",
        ],
    ),
    (
        Wrong::Without(Clause::PlacedRemembered),
        &[
            "placed_from_a_list_stays_until_it_is_settled",
            "created_from_a_list_is_settled_and_paid_apart",
        ],
    ),
    (Wrong::Lazy, &["a_change_handed_over_is_under_way_without_being_polled"]),
    (Wrong::JoinsNothing, &["accept_creates_once_and_joins_the_same_order"]),
    (
        Wrong::SaysDone,
        &[
            "record_wants_the_intent_queued",
            "expire_wants_the_intent_queued",
            "decide_wants_the_newest_attempt_open",
            "late_answer_after_requeue_is_taken_and_only_that",
            "pay_wants_the_payment_to_stand_where_it_says",
            "paid_and_unpaid_are_ends",
            "one_payment_is_recorded_at_a_time",
        ],
    ),
    (Wrong::LatchesOnTooLarge, &["too_large_a_record_is_refused_and_leaves_nothing"]),
    (Wrong::CountsNotSent, &["not_sent_counts_no_try"]),
    (Wrong::TriesNotCounted, &["absent_counts_a_try_and_queues_again"]),
    (Wrong::HeldLanesForgotten, &["rehydrate_holds_open_intents_and_the_account"]),
    (Wrong::NothingTakenBack, &["reservations_add_up_and_are_taken_back"]),
    (Wrong::EveryWitness, &["known_since_names_what_ended_after_a_serial"]),
    (Wrong::SerialsTwice, &["serials_grow"]),
    (Wrong::NeverCloses, &["closed_store_refuses"]),
    (
        Wrong::ForgetsOnReopening,
        &[
            "everything_survives_reopening",
            "payments_survive_reopening",
            "what_was_spent_survives_reopening",
        ],
    ),
    (Wrong::ClaimsLater, &["readers_beside_writers_see_what_was_answered_and_nothing_half"]),
    (Wrong::LooksFirst, RACES),
    (Wrong::SerialsLookFirst, &["serials_of_many_callers_are_all_different"]),
];

/// What only a race shows.
const RACES: &[&str] = &[
    "one_reference_from_many_writers_makes_one_intent",
    "one_claim_of_many_writers_has_one_owner",
    "one_queued_intent_is_recorded_or_expired_once",
    "one_attempt_is_decided_once",
    "guarded_increments_of_five_writers_count_exactly",
];

/// What fails on such a store.
async fn failing(wrong: Wrong) -> BTreeSet<&'static str> {
    let mut failing = BTreeSet::new();
    for check in conformance::checks() {
        let running = tokio::spawn(async move { check.run(&Maker::new(wrong)).await });
        if running.await.is_err() {
            failing.insert(check.name);
        }
    }
    failing
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_function_of_the_suite_fails_on_a_store_that_is_wrong() {
    assert_eq!(failing(Wrong::Nothing).await, BTreeSet::new());
    let mut all: BTreeSet<_> = conformance::checks().iter().map(|check| check.name).collect();
    for (wrong, expected) in CAUGHT {
        let failing = failing(*wrong).await;
        for name in *expected {
            assert!(failing.contains(name), "{wrong:?} is not caught by {name}, but {failing:?}");
            all.remove(name);
        }
        if *wrong == Wrong::LooksFirst {
            assert_eq!(failing, RACES.iter().copied().collect(), "right for one writer");
        }
    }
    assert_eq!(all, BTreeSet::new(), "what has never failed");
}

/// Stores over one that keeps everything, as a disk does, while they are opened and closed.
struct Maker {
    wrong: Wrong,
    disk: Mutex<Arc<MemoryStore>>,
}

impl Maker {
    fn new(wrong: Wrong) -> Self {
        Self { wrong, disk: Mutex::default() }
    }

    fn open(&self) -> Store {
        let disk = self.disk.lock().expect("not poisoned").clone();
        Arc::new(WrongStore {
            wrong: self.wrong,
            serial: AtomicU64::new(disk.next_serial().0),
            disk,
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            refs: Mutex::default(),
            placed: Mutex::default(),
        })
    }

    fn fresh(&self) {
        *self.disk.lock().expect("not poisoned") = Arc::new(match self.wrong {
            Wrong::Without(clause) => MemoryStore::leaving_out(LeftOut::only(clause)),
            _ => MemoryStore::new(),
        });
    }
}

impl MakeStore for Maker {
    fn make(&self) -> BoxFuture<'_, Store> {
        self.fresh();
        ready(self.open()).boxed()
    }

    fn reopen(&self) -> BoxFuture<'_, Option<Store>> {
        if self.wrong == Wrong::ForgetsOnReopening {
            self.fresh();
        }
        ready(Some(self.open())).boxed()
    }
}

struct WrongStore {
    wrong: Wrong,
    disk: Arc<MemoryStore>,
    serial: AtomicU64,
    closed: AtomicBool,
    failed: AtomicBool,
    refs: Mutex<BTreeMap<Serial, ClientRef>>,
    placed: Mutex<BTreeMap<OrderId, Instant>>,
}

/// Lets others go on for a moment.
fn pause() {
    let (_sender, nothing) = mpsc::channel::<()>();
    let _ = nothing.recv_timeout(Duration::from_millis(1));
}

impl WrongStore {
    fn open(&self) -> Result<(), StoreError> {
        match self.closed.load(Ordering::SeqCst) {
            true => Err(StoreError::Closed),
            false if self.failed.load(Ordering::SeqCst) => Err(StoreError::Failed("wrong".into())),
            false => Ok(()),
        }
    }

    fn find_now(&self, client_ref: ClientRef) -> Option<Stored> {
        self.disk.find(client_ref).now_or_never().expect("at once").expect("works")
    }

    /// Whether a change would be written now.
    fn fits(&self, change: &Change) -> bool {
        let stored = |intent| {
            let client_ref = self.refs.lock().expect("not poisoned").get(intent).cloned();
            client_ref.and_then(|client_ref| self.find_now(client_ref))
        };
        let state = |intent| stored(intent).map(|stored| stored.state);
        match change {
            Change::Accept { intent, .. } => self.find_now(intent.client_ref.clone()).is_none(),
            Change::Record { intent, attempt } => stored(intent).is_some_and(|stored| {
                stored.state == State::Queued && stored.last_attempt < Some(attempt.seq)
            }),
            Change::Expire { intent, .. } => state(intent) == Some(State::Queued),
            Change::Decide { intent, attempt, verdict } => {
                let open = match state(intent) {
                    Some(State::Sending(open) | State::InDoubt(open, _) | State::Held(open, _)) => {
                        open.seq == *attempt
                    }
                    _ => false,
                };
                let Some((id, _)) = verdict.order() else { return open };
                let claims = self.disk.claims(vec![id.clone()]).now_or_never().expect("at once");
                open && claims.expect("works")[0].is_none()
            }
            _ => false,
        }
    }

    fn apply(&self, mut change: Change) -> Result<Committed, StoreError> {
        self.open()?;
        match &mut change {
            Change::Accept { intent, .. } => {
                let mut refs = self.refs.lock().expect("not poisoned");
                refs.insert(intent.id, intent.client_ref.clone());
            }
            Change::Decide {
                verdict: Verdict::Placed { id, .. } | Verdict::Created { id, .. },
                ..
            } => {
                let mut placed = self.placed.lock().expect("not poisoned");
                placed.entry(id.clone()).or_insert_with(Instant::now);
            }
            Change::Decide { verdict, .. } if self.wrong == Wrong::CountsNotSent => {
                if matches!(verdict, Verdict::NotSent(_)) {
                    *verdict = Verdict::Absent;
                }
            }
            _ => {}
        }
        let fits = self.wrong == Wrong::LooksFirst && self.fits(&change);
        if fits {
            pause();
        }
        let told = self.disk.commit(change).now_or_never().expect("at once");
        match (self.wrong, told) {
            (Wrong::SaysDone, Ok(Committed::Stale)) => Ok(Committed::Done),
            (Wrong::JoinsNothing, Ok(Committed::Joined(_))) => Ok(Committed::Conflict),
            (Wrong::LatchesOnTooLarge, Err(error @ StoreError::TooLarge { .. })) => {
                self.failed.store(true, Ordering::SeqCst);
                Err(error)
            }
            (Wrong::LooksFirst, Ok(_)) if fits => Ok(Committed::Done),
            (_, told) => told,
        }
    }

    fn answer<T: Send + 'static>(
        &self,
        answer: impl FnOnce() -> BoxFuture<'static, Result<T, StoreError>>,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        match self.open() {
            Ok(()) => answer(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }
}

impl IntentStore for WrongStore {
    fn next_serial(&self) -> Serial {
        match self.wrong {
            Wrong::SerialsTwice => Serial(self.serial.fetch_add(1, Ordering::SeqCst) / 2),
            Wrong::SerialsLookFirst => {
                let serial = self.serial.load(Ordering::SeqCst);
                if serial.is_multiple_of(16) {
                    pause();
                }
                self.serial.store(serial + 1, Ordering::SeqCst);
                Serial(serial)
            }
            _ => self.disk.next_serial(),
        }
    }

    fn commit(&self, mut change: Change) -> BoxFuture<'static, Result<Committed, StoreError>> {
        if let (Wrong::NothingTakenBack, Change::Spend(spend)) = (self.wrong, &mut change) {
            spend.back.clear();
        }
        if self.wrong == Wrong::Lazy {
            let disk = self.disk.clone();
            return async move { disk.commit(change).await }.boxed();
        }
        ready(self.apply(change)).boxed()
    }

    fn find(
        &self,
        client_ref: ClientRef,
    ) -> BoxFuture<'static, Result<Option<Stored>, StoreError>> {
        let mut found = self.answer(|| self.disk.find(client_ref)).now_or_never().expect("at once");
        if let (Wrong::TriesNotCounted, Ok(Some(stored))) = (self.wrong, &mut found) {
            stored.tries = 0;
        }
        ready(found).boxed()
    }

    fn claims(
        &self,
        ids: Vec<OrderId>,
    ) -> BoxFuture<'static, Result<Vec<Option<Claim>>, StoreError>> {
        let claims = self.answer(|| self.disk.claims(ids));
        let mut claims = claims.now_or_never().expect("at once");
        if let (Wrong::ClaimsLater, Ok(claims)) = (self.wrong, &mut claims) {
            let placed = self.placed.lock().expect("not poisoned");
            let fresh = |claim: &Claim| placed[&claim.id].elapsed() < Duration::from_millis(3);
            claims.iter_mut().for_each(|claim| drop(claim.take_if(|claim| fresh(claim))));
        }
        ready(claims).boxed()
    }

    fn rehydrate(&self) -> BoxFuture<'static, Result<Rehydration, StoreError>> {
        let found = self.answer(|| self.disk.rehydrate());
        let mut found = found.now_or_never().expect("at once");
        if let (Wrong::HeldLanesForgotten, Ok(found)) = (self.wrong, &mut found) {
            found.held_lanes.clear();
        }
        ready(found).boxed()
    }

    fn known_since(&self, since: Serial) -> BoxFuture<'static, Result<Vec<Known>, StoreError>> {
        let since = if self.wrong == Wrong::EveryWitness { Serial(0) } else { since };
        self.answer(|| self.disk.known_since(since))
    }

    fn stats(&self) -> StoreStats {
        self.disk.stats()
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.closed.store(self.wrong != Wrong::NeverCloses, Ordering::SeqCst);
        ready(Ok(())).boxed()
    }
}
