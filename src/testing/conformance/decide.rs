//! Attempts, outcomes and claims: rules 2, 3 and 5.

use super::{Bench, Store, WHY, decide, order, placed};
use crate::protocol::{Change, Learnt, Serial, State, Verdict};
use crate::store::Committed;

/// `Record` wants its intent queued, and an attempt newer than the last.
pub async fn record_wants_the_intent_queued(store: Store) {
    let bench = Bench::new(store);
    let intent = bench.queued("r1", "a").await;
    bench.stale(Change::Record { intent: Serial(u64::MAX), attempt: bench.attempt() }).await;
    let seq = bench.record(intent).await;
    assert_eq!(bench.find("r1").await.expect("there").last_attempt, Some(seq));
    bench.stale(Change::Record { intent, attempt: bench.attempt() }).await;
    bench.done(decide((intent, seq), Verdict::InDoubt(WHY))).await;
    bench.stale(Change::Record { intent, attempt: bench.attempt() }).await;
    bench.done(decide((intent, seq), Verdict::Absent)).await;
    let old = crate::protocol::Attempt { seq, ..bench.attempt() };
    bench.stale(Change::Record { intent, attempt: old }).await;
    bench.record(intent).await;
}

/// `Expire` wants its intent queued.
pub async fn expire_wants_the_intent_queued(store: Store) {
    let bench = Bench::new(store);
    let (intent, seq) = bench.sending("r1", "a").await;
    bench.stale(Change::Expire { intent, why: WHY }).await;
    bench.done(decide((intent, seq), Verdict::NotSent(WHY))).await;
    bench.done(Change::Expire { intent, why: WHY }).await;
    bench.stale(Change::Expire { intent, why: WHY }).await;
    assert_eq!(bench.state("r1").await, State::NotPlaced(WHY));
}

/// `Decide` wants the intent's newest attempt, and that open: sending, in doubt or held.
pub async fn decide_wants_the_newest_attempt_open(store: Store) {
    let bench = Bench::new(store);
    let (intent, first) = bench.sending("r1", "a").await;
    bench.stale(decide((intent, Serial(first.0 + 1000)), Verdict::Refused(WHY))).await;
    bench.stale(decide((Serial(u64::MAX), first), Verdict::Refused(WHY))).await;
    bench.done(decide((intent, first), Verdict::InDoubt(WHY))).await;
    bench.done(decide((intent, first), Verdict::Held(WHY))).await;
    assert!(matches!(bench.state("r1").await, State::Held(a, w) if a.seq == first && w == WHY));
    bench.done(decide((intent, first), Verdict::Absent)).await;
    bench.stale(decide((intent, first), Verdict::Absent)).await;
    let second = bench.record(intent).await;
    for verdict in [Verdict::Absent, Verdict::Refused(WHY), placed("x", Learnt::Answer)] {
        bench.stale(decide((intent, first), verdict)).await;
    }
    bench.done(decide((intent, second), Verdict::Refused(WHY))).await;
    assert_eq!(bench.state("r1").await, State::Refused(WHY));
}

/// `Absent` counts a try and queues again; with no try left the intent ends.
pub async fn absent_counts_a_try_and_queues_again(store: Store) {
    let bench = Bench::new(store);
    let (intent, seq) = bench.sending("r1", "a").await;
    bench.done(decide((intent, seq), Verdict::InDoubt(WHY))).await;
    bench.done(decide((intent, seq), Verdict::Absent)).await;
    let stored = bench.find("r1").await.expect("there");
    assert_eq!((stored.state, stored.tries), (State::Queued, 1));
    let seq = bench.record(intent).await;
    bench.done(decide((intent, seq), Verdict::NotPlaced(WHY))).await;
    let stored = bench.find("r1").await.expect("there");
    assert_eq!((stored.state, stored.tries), (State::NotPlaced(WHY), 2));
}

/// `NotSent` queues again and uses no try up.
pub async fn not_sent_counts_no_try(store: Store) {
    let bench = Bench::new(store);
    let ids = bench.sending("r1", "a").await;
    bench.done(decide(ids, Verdict::NotSent(WHY))).await;
    let stored = bench.find("r1").await.expect("there");
    assert_eq!((stored.state, stored.tries), (State::Queued, 0));
    assert_eq!(stored.last_attempt, Some(ids.1));
}

/// No change moves an intent that has ended.
pub async fn ends_never_change(store: Store) {
    let bench = Bench::new(store);
    let ends = [placed("o1", Learnt::Answer), Verdict::Refused(WHY), Verdict::NotPlaced(WHY)];
    for (at, end) in ends.into_iter().enumerate() {
        let name = format!("r{at}");
        let ids = bench.sending(&name, "a").await;
        bench.done(decide(ids, end)).await;
        let before = bench.find(&name).await;
        for verdict in [
            placed("o2", Learnt::Answer),
            placed("o3", Learnt::List),
            Verdict::Refused(WHY),
            Verdict::NotSent(WHY),
            Verdict::InDoubt(WHY),
            Verdict::Held(WHY),
            Verdict::Absent,
            Verdict::NotPlaced(WHY),
        ] {
            bench.stale(decide(ids, verdict)).await;
        }
        bench.stale(Change::Record { intent: ids.0, attempt: bench.attempt() }).await;
        bench.stale(Change::Expire { intent: ids.0, why: WHY }).await;
        bench.stale(Change::Settle { intent: ids.0 }).await;
        assert_eq!(bench.find(&name).await, before);
    }
}

/// A supplier order is claimed once, whatever the lane, and nothing is written for the second.
pub async fn an_order_is_claimed_once_over_all_lanes(store: Store) {
    let bench = Bench::new(store);
    let (one, two) = (bench.sending("r1", "a").await, bench.sending("r2", "b").await);
    bench.done(decide(one, placed("o1", Learnt::Answer))).await;
    let before = bench.find("r2").await.expect("there");
    let Committed::IdTaken(claim) = bench.commit(decide(two, placed("o1", Learnt::List))).await
    else {
        panic!("the order is claimed already");
    };
    assert_eq!((claim.id.as_str(), claim.intent), ("o1", one.0));
    assert_eq!((claim.lane, claim.learnt), (bench.intent("x", "a").lane, Learnt::Answer));
    assert_eq!(bench.find("r2").await, Some(before));
    let claims = bench.store.claims(vec![order("o2"), order("o1")]).await.expect("works");
    assert_eq!(claims, [None, Some(claim)]);
    bench.done(decide(two, placed("o2", Learnt::Answer))).await;
}

/// Of two claims of one order that are handed over one after the other the first has it, and the
/// second is told who.
pub async fn the_first_of_two_claims_handed_over_wins(store: Store) {
    let bench = Bench::new(store);
    for round in 0..20 {
        let one = bench.sending(&format!("a{round}"), "a").await;
        let two = bench.sending(&format!("b{round}"), "b").await;
        let id = format!("o{round}");
        let first = bench.store.commit(decide(one, placed(&id, Learnt::Answer)));
        let second = bench.store.commit(decide(two, placed(&id, Learnt::List)));
        let (second, first) = (second.await.expect("works"), first.await.expect("works"));
        assert_eq!(first, Committed::Done);
        assert!(matches!(second, Committed::IdTaken(claim) if claim.intent == one.0));
    }
}

/// An answer that comes after its attempt was released is written if no newer attempt was
/// recorded; nothing else is (rule 5).
pub async fn late_answer_after_requeue_is_taken_and_only_that(store: Store) {
    let bench = Bench::new(store);
    let ids = bench.sending("r1", "a").await;
    bench.done(decide(ids, Verdict::InDoubt(WHY))).await;
    bench.done(decide(ids, Verdict::Absent)).await;
    for verdict in [
        placed("o1", Learnt::List),
        placed("o1", Learnt::Person),
        Verdict::Refused(WHY),
        Verdict::InDoubt(WHY),
        Verdict::NotPlaced(WHY),
    ] {
        bench.stale(decide(ids, verdict)).await;
    }
    bench.done(decide(ids, placed("o1", Learnt::Answer))).await;
    let stored = bench.find("r1").await.expect("there");
    assert!(matches!(&stored.state, State::Placed { id, .. } if id.as_str() == "o1"));
    assert!(!stored.unsettled);

    let ids = bench.sending("r2", "a").await;
    bench.done(decide(ids, Verdict::Absent)).await;
    bench.record(ids.0).await;
    bench.stale(decide(ids, placed("o2", Learnt::Answer))).await;
}
