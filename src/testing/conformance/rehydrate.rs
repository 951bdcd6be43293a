//! What a start gets back: rules 9, 10, 12 and 14, and the witnesses of lists.

use jiff::Timestamp;

use super::{Bench, MakeStore, Store, WHY, decide, order, placed, reference};
use crate::protocol::limits::Spent;
use crate::protocol::{Change, Learnt, Serial, Shape, State, Verdict};
use crate::store::{Committed, HistoryLine, Rehydration};

/// An intent placed from a list is handed to actors until its own POST is settled (rule 9).
pub async fn placed_from_a_list_stays_until_it_is_settled(store: Store) {
    let bench = Bench::new(store);
    let answered = bench.sending("answer", "a").await;
    bench.done(decide(answered, placed("o1", Learnt::Answer))).await;
    let listed = bench.sending("list", "a").await;
    bench.done(decide(listed, Verdict::InDoubt(WHY))).await;
    bench.done(decide(listed, placed("o2", Learnt::List))).await;
    bench.stale(Change::Settle { intent: answered.0 }).await;
    let intents = bench.store.rehydrate().await.expect("works").intents;
    let seen: Vec<_> = intents.iter().map(|stored| (stored.id, stored.unsettled)).collect();
    assert_eq!(seen, [(listed.0, true)]);
    assert_eq!(intents[0].last_attempt, Some(listed.1));
    bench.done(Change::Settle { intent: listed.0 }).await;
    bench.stale(Change::Settle { intent: listed.0 }).await;
    assert!(bench.store.rehydrate().await.expect("works").intents.is_empty());
    let stored = bench.find("list").await.expect("there");
    assert!(!stored.unsettled && matches!(stored.state, State::Placed { .. }));
}

/// Everything that is open, oldest first, and everything that is known of the account.
pub async fn rehydrate_holds_open_intents_and_the_account(store: Store) {
    let bench = Bench::new(store);
    assert_eq!(bench.store.rehydrate().await.expect("works"), Rehydration::default());
    let expected = fill(&bench).await;
    assert_eq!(bench.store.rehydrate().await.expect("works"), expected);
    bench.done(Change::Resume).await;
    bench.done(Change::FreeLane { lane: bench.intent("x", "a").lane }).await;
    let after = bench.store.rehydrate().await.expect("works");
    assert_eq!((after.paused, after.held_lanes.len()), (None, 0));
}

/// One intent in every state, and one of everything that an account can have.
async fn fill(bench: &Bench) -> Rehydration {
    bench.queued("queued", "a").await;
    bench.sending("sending", "b").await;
    let doubt = bench.sending("doubt", "a").await;
    bench.done(decide(doubt, Verdict::InDoubt(WHY))).await;
    let held = bench.sending("held", "c").await;
    bench.done(decide(held, Verdict::Held(WHY))).await;
    let listed = bench.sending("listed", "a").await;
    bench.done(decide(listed, placed("o-list", Learnt::List))).await;
    for (name, verdict) in [
        ("placed", placed("o-answer", Learnt::Answer)),
        ("refused", Verdict::Refused(WHY)),
        ("not-placed", Verdict::NotPlaced(WHY)),
    ] {
        let ids = bench.sending(name, "a").await;
        bench.done(decide(ids, verdict)).await;
    }
    let lane = bench.intent("x", "a").lane;
    let newest = Some(Timestamp::new(1_800_000_000, 0).expect("in range"));
    let shape = Shape { several_lines: false, with_note: true };
    bench.done(Change::HoldLane { lane, why: WHY }).await;
    bench.done(Change::Orphans { ids: vec![order("orphan-1")], why: WHY }).await;
    bench.done(Change::Orphans { ids: vec![order("orphan-2"), order("orphan-1")], why: WHY }).await;
    bench.done(Change::History { newest, ids: vec![order("h1")] }).await;
    bench.done(Change::History { newest: None, ids: vec![order("h2")] }).await;
    bench.done(Change::EchoSeen { shape }).await;
    bench.done(Change::EchoSeen { shape }).await;
    bench.done(Change::Pause { why: WHY }).await;
    let mut intents = Vec::new();
    for name in ["queued", "sending", "doubt", "held", "listed"] {
        intents.push(bench.find(name).await.expect("there"));
    }
    Rehydration {
        intents,
        held_lanes: [(lane, WHY)].into(),
        orphans: vec![order("orphan-1"), order("orphan-2")],
        history: Some(HistoryLine { newest, ids: vec![order("h1"), order("h2")] }),
        echo_seen: vec![shape],
        paused: Some(WHY),
        newest_known: Some(Timestamp::new(1_900_000_100, 0).expect("in range")),
        mark: None,
        spent: Spent::default(),
    }
}

/// The witnesses of a list: what was claimed after a serial was handed out, oldest first.
pub async fn known_since_names_what_ended_after_a_serial(store: Store) {
    let bench = Bench::new(store);
    let early = bench.sending("early", "a").await;
    let late = bench.sending("late", "b").await;
    bench.done(decide(early, placed("o1", Learnt::Answer))).await;
    let between = bench.store.next_serial();
    bench.done(decide(late, placed("o2", Learnt::List))).await;
    let refused = bench.sending("refused", "a").await;
    bench.done(decide(refused, Verdict::Refused(WHY))).await;
    let third = bench.sending("third", "a").await;
    bench.done(decide(third, placed("o3", Learnt::Answer))).await;
    let ids = async |since| {
        let known = bench.store.known_since(since).await.expect("works");
        known.iter().map(|known| known.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(Serial(0)).await, ["o1", "o2", "o3"]);
    assert_eq!(ids(between).await, ["o2", "o3"]);
    assert_eq!(ids(bench.store.next_serial()).await, [""; 0]);
    let known = bench.store.known_since(between).await.expect("works");
    assert_eq!(known[0].lane, bench.intent("x", "b").lane);
    assert_eq!((known[0].learnt, known[0].shape), (Learnt::List, Shape::default()));
    assert_eq!(known[0].created_at, Some(Timestamp::new(1_900_000_100, 0).expect("in range")));
}

/// A store that was closed and opened again holds the same, hands out no serial twice, joins and
/// refuses as before. Does nothing for stores that cannot be opened again.
pub async fn everything_survives_reopening(maker: &dyn MakeStore) {
    let bench = Bench::new(maker.make().await);
    let since = bench.store.next_serial();
    let expected = fill(&bench).await;
    let all = ["queued", "listed", "placed", "refused", "not-placed"];
    let mut before = Vec::new();
    for name in all {
        before.push(bench.find(name).await);
    }
    let known = bench.store.known_since(since).await.expect("works");
    let highest = bench.store.next_serial();
    let unused = bench.queued("last", "a").await;
    bench.done(Change::Expire { intent: unused, why: WHY }).await;
    bench.store.close().await.expect("closes");
    drop(bench);
    let Some(store) = maker.reopen().await else { return };
    let bench = Bench::new(store);
    assert_eq!(bench.store.rehydrate().await.expect("works"), expected);
    for (name, before) in all.iter().zip(before) {
        assert_eq!(bench.find(name).await, before, "{name}");
    }
    assert_eq!(bench.store.known_since(since).await.expect("works"), known);
    assert_eq!(bench.store.known_since(unused).await.expect("works"), []);
    assert!(bench.store.next_serial() > unused && unused > highest);
    let again = Change::Accept { intent: bench.intent("placed", "a"), attempt: None };
    assert!(matches!(bench.commit(again).await, Committed::Joined(_)));
    let other = Change::Accept { intent: bench.intent("refused", "z"), attempt: None };
    assert_eq!(bench.commit(other).await, Committed::Conflict);
    let taken = bench.sending("thief", "a").await;
    let claimed = bench.commit(decide(taken, placed("o-answer", Learnt::List))).await;
    assert!(matches!(claimed, Committed::IdTaken(_)), "{claimed:?}");
    let held = bench.find("held").await.expect("there");
    let seq = held.last_attempt.expect("it has one");
    bench.done(decide((held.id, seq), Verdict::Absent)).await;
    assert!(bench.store.find(reference("nobody")).await.expect("works").is_none());
}
