//! Intake: rule 1.

use futures_util::future::join_all;

use super::{Bench, Store, WHY, reference};
use crate::protocol::{Change, State};
use crate::store::{Committed, StoreError};

/// `Accept` creates an intent; the same order under the same reference joins it, in every state.
pub async fn accept_creates_once_and_joins_the_same_order(store: Store) {
    let bench = Bench::new(store);
    let (intent, attempt) = (bench.intent("r1", "a"), bench.attempt());
    assert_eq!(bench.find("r1").await, None);
    bench.done(Change::Accept { intent: intent.clone(), attempt: Some(attempt) }).await;
    let stored = bench.find("r1").await.expect("accepted");
    assert_eq!(stored.id, intent.id);
    assert_eq!(stored.client_ref, intent.client_ref);
    assert_eq!(stored.items, intent.items);
    assert_eq!((stored.lane, stored.as_sent), (intent.lane, intent.as_sent));
    assert_eq!((stored.good_until, stored.accepted_at), (intent.good_until, intent.accepted_at));
    assert_eq!(stored.state, State::Sending(attempt));
    assert_eq!((stored.tries, stored.last_attempt), (0, Some(attempt.seq)));
    assert!(!stored.unsettled);

    let again = || Change::Accept { intent: bench.intent("r1", "a"), attempt: None };
    assert_eq!(bench.commit(again()).await, Committed::Joined(Box::new(stored.clone())));
    let ids = (stored.id, attempt.seq);
    bench.done(super::decide(ids, crate::protocol::Verdict::Refused(WHY))).await;
    let Committed::Joined(ended) = bench.commit(again()).await else {
        panic!("an ended intent is joined as well");
    };
    assert_eq!(ended.state, State::Refused(WHY));
}

/// Another order under a known reference is a conflict, also once that one has ended.
pub async fn accept_refuses_another_order_under_the_same_reference(store: Store) {
    let bench = Bench::new(store);
    let first = bench.queued("r1", "a").await;
    let other = || Change::Accept { intent: bench.intent("r1", "b"), attempt: None };
    assert_eq!(bench.commit(other()).await, Committed::Conflict);
    bench.done(Change::Expire { intent: first, why: WHY }).await;
    assert_eq!(bench.commit(other()).await, Committed::Conflict);
    assert_eq!(bench.state("r1").await, State::NotPlaced(WHY));
}

/// Of fifty `Accept`s of one reference at once one creates and the others join what it made.
pub async fn identical_references_in_flight_make_one_intent(store: Store) {
    let bench = Bench::new(store);
    let accept = || Change::Accept { intent: bench.intent("twin", "a"), attempt: None };
    let commits: Vec<_> = (0..50).map(|_| bench.store.commit(accept())).collect();
    let all = join_all(commits).await;
    let made = all.iter().filter(|c| matches!(c, Ok(Committed::Done))).count();
    assert_eq!(made, 1);
    let id = bench.find("twin").await.expect("accepted").id;
    for committed in all {
        match committed.expect("the store works") {
            Committed::Done => {}
            Committed::Joined(stored) => assert_eq!(stored.id, id),
            other => panic!("{other:?}"),
        }
    }
}

/// A change takes effect in the order of the calls, whether or not its future is polled.
pub async fn a_change_handed_over_is_under_way_without_being_polled(store: Store) {
    let bench = Bench::new(store);
    let intent = bench.intent("dropped", "a");
    let id = intent.id;
    drop(bench.store.commit(Change::Accept { intent, attempt: None }));
    drop(bench.store.commit(Change::Expire { intent: id, why: WHY }));
    assert_eq!(bench.state("dropped").await, State::NotPlaced(WHY));
}

/// A record over the limit is refused by itself; everything else goes on.
pub async fn too_large_a_record_is_refused_and_leaves_nothing(store: Store) {
    let bench = Bench::new(store);
    let id = bench.queued("r1", "a").await;
    let why = crate::protocol::Why::Owned("x".repeat(60_000));
    let refused = bench.store.commit(Change::Expire { intent: id, why }).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    assert_eq!(bench.state("r1").await, State::Queued);
    bench.done(Change::Expire { intent: id, why: WHY }).await;
}

/// Serials are handed out once, ever higher, also above those that were chosen elsewhere.
pub async fn serials_grow(store: Store) {
    let bench = Bench::new(store);
    let serials: Vec<_> = (0..100).map(|_| bench.store.next_serial()).collect();
    assert!(serials.windows(2).all(|pair| pair[0] < pair[1]));
    bench.queued("r1", "a").await;
    assert!(bench.store.next_serial() > serials[99]);
}

/// After `close` everything is refused with `Closed`.
pub async fn closed_store_refuses(store: Store) {
    let bench = Bench::new(store);
    let id = bench.queued("r1", "a").await;
    bench.store.close().await.expect("closes");
    let after = bench.store.commit(Change::Expire { intent: id, why: WHY }).await;
    assert!(matches!(after, Err(StoreError::Closed)), "{after:?}");
    let found = bench.store.find(reference("r1")).await;
    assert!(matches!(found, Err(StoreError::Closed)), "{found:?}");
    assert!(matches!(bench.store.rehydrate().await, Err(StoreError::Closed)));
}
