//! Writers at once: of each race there is one winner, and all others are told.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Barrier;

use super::{Bench, Store, WHY, decide, order, placed};
use crate::protocol::{Change, Learnt, State, Verdict};
use crate::store::Committed;

const WRITERS: usize = 8;
const ROUNDS: usize = 8;

/// Lets this many begin at the same moment, each in a task of its own; what came of each, in order.
pub(super) async fn at_once<T: Send + 'static, F>(count: usize, task: impl Fn(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(count));
    let tasks = (0..count).map(|at| {
        let (start, task) = (start.clone(), task(at));
        tokio::spawn(async move {
            start.wait().await;
            task.await
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut all = Vec::with_capacity(count);
    for task in tasks {
        match task.await {
            Ok(value) => all.push(value),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    all
}

/// Commits these changes at the same moment.
async fn race(bench: &Bench, changes: &[Change]) -> Vec<Committed> {
    at_once(changes.len(), |at| {
        let (bench, change) = (bench.clone(), changes[at].clone());
        async move { bench.commit(change).await }
    })
    .await
}

/// The one that was written.
fn winner(told: &[Committed]) -> usize {
    let done = |at: &usize| told[*at] == Committed::Done;
    let won: Vec<_> = (0..told.len()).filter(done).collect();
    match won[..] {
        [winner] => winner,
        _ => panic!("{} of {} were written: {told:?}", won.len(), told.len()),
    }
}

/// Of many who accept two orders under one reference one makes the intent; whoever has the same
/// order joins that one, and whoever has the other is in conflict.
pub async fn one_reference_from_many_writers_makes_one_intent(store: Store) {
    let bench = Bench::new(store);
    for round in 0..ROUNDS {
        let name = format!("r{round}");
        let accept = |at: usize| {
            let intent = bench.intent(&name, ["a", "b"][at % 2]);
            Change::Accept { intent, attempt: None }
        };
        let changes: Vec<_> = (0..WRITERS).map(accept).collect();
        let told = race(&bench, &changes).await;
        let winner = winner(&told);
        let Change::Accept { intent: made, .. } = &changes[winner] else { unreachable!() };
        for (at, told) in told.iter().enumerate() {
            match told {
                Committed::Done => {}
                Committed::Joined(stored) => {
                    assert_eq!((stored.id, at % 2), (made.id, winner % 2), "{stored:?}");
                }
                Committed::Conflict => assert_ne!(at % 2, winner % 2, "its own order"),
                other => panic!("{other:?}"),
            }
        }
        let stored = bench.find(&name).await.expect("accepted");
        assert_eq!((stored.id, stored.as_sent), (made.id, made.as_sent));
    }
}

/// Of many who claim one supplier order one has it; all others are told who, and stay open.
pub async fn one_claim_of_many_writers_has_one_owner(store: Store) {
    let bench = Bench::new(store);
    for round in 0..ROUNDS {
        let (mut intents, mut changes) = (Vec::new(), Vec::new());
        for at in 0..WRITERS {
            let ids = bench.sending(&format!("r{round}-{at}"), ["a", "b"][at % 2]).await;
            let learnt = [Learnt::Answer, Learnt::List, Learnt::List][at % 3];
            changes.push(decide(ids, placed(&format!("o{round}"), learnt)));
            intents.push(ids.0);
        }
        let told = race(&bench, &changes).await;
        let winner = winner(&told);
        for (at, told) in told.iter().enumerate().filter(|(at, _)| *at != winner) {
            let Committed::IdTaken(claim) = told else { panic!("{told:?}") };
            assert_eq!(claim.intent, intents[winner]);
            let state = bench.state(&format!("r{round}-{at}")).await;
            assert!(matches!(state, State::Sending(_)), "{state:?}");
        }
        let claims = bench.store.claims(vec![order(&format!("o{round}"))]).await.expect("works");
        assert_eq!(claims[0].as_ref().map(|claim| claim.intent), Some(intents[winner]));
    }
}

/// A queued intent gets one attempt, or ends as too late, whoever comes first; never both.
pub async fn one_queued_intent_is_recorded_or_expired_once(store: Store) {
    let bench = Bench::new(store);
    for round in 0..ROUNDS {
        let name = format!("r{round}");
        let intent = bench.queued(&name, "a").await;
        let change = |at: usize| match at % 4 {
            0 => Change::Expire { intent, why: WHY },
            _ => Change::Record { intent, attempt: bench.attempt() },
        };
        let changes: Vec<_> = (0..WRITERS).map(change).collect();
        let told = race(&bench, &changes).await;
        let winner = winner(&told);
        let rest = told.iter().enumerate().filter(|(at, _)| *at != winner);
        assert!(rest.map(|(_, told)| told).all(|told| *told == Committed::Stale), "{told:?}");
        match (&changes[winner], bench.state(&name).await) {
            (Change::Record { attempt, .. }, State::Sending(stored)) => {
                assert_eq!(stored, *attempt)
            }
            (Change::Expire { .. }, State::NotPlaced(_)) => {}
            (change, state) => panic!("{change:?} was written: {state:?}"),
        }
    }
}

/// An attempt has one outcome, whoever brings it first.
pub async fn one_attempt_is_decided_once(store: Store) {
    let bench = Bench::new(store);
    for round in 0..ROUNDS {
        let name = format!("r{round}");
        let ids = bench.sending(&name, "a").await;
        let verdicts = [
            placed(&format!("x{round}"), Learnt::List),
            Verdict::Refused(WHY),
            Verdict::Absent,
            Verdict::NotSent(WHY),
            Verdict::NotPlaced(WHY),
            placed(&format!("y{round}"), Learnt::List),
            Verdict::Refused(WHY),
            Verdict::Absent,
        ];
        let changes = verdicts.clone().map(|verdict| decide(ids, verdict));
        let told = race(&bench, &changes).await;
        let winner = winner(&told);
        let stale = told.iter().filter(|told| **told == Committed::Stale).count();
        assert_eq!(stale, verdicts.len() - 1, "{told:?}");
        let fits = match (&verdicts[winner], bench.state(&name).await) {
            (Verdict::Placed { id, .. }, State::Placed { id: stored, .. }) => *id == stored,
            (Verdict::Refused(_), State::Refused(_))
            | (Verdict::NotPlaced(_), State::NotPlaced(_))
            | (Verdict::Absent | Verdict::NotSent(_), State::Queued) => true,
            _ => false,
        };
        assert!(fits, "{:?} was written, and {:?}", verdicts[winner], bench.state(&name).await);
        let ids = vec![order(&format!("x{round}")), order(&format!("y{round}"))];
        let claims = bench.store.claims(ids).await.expect("works").into_iter().flatten().count();
        assert_eq!(claims, usize::from(matches!(verdicts[winner], Verdict::Placed { .. })));
    }
}

/// Five writers move one intent ten times each: every step is taken once, none is lost.
pub async fn guarded_increments_of_five_writers_count_exactly(store: Store) {
    let bench = Bench::new(store);
    let intent = bench.queued("r1", "a").await;
    at_once(5, |_| {
        let bench = bench.clone();
        async move {
            for _ in 0..10 {
                let seq = loop {
                    let attempt = bench.attempt();
                    match bench.commit(Change::Record { intent, attempt }).await {
                        Committed::Done => break attempt.seq,
                        told => assert_eq!(told, Committed::Stale),
                    }
                    // Lets the others in, also where a commit is ready at once.
                    tokio::task::yield_now().await;
                };
                bench.done(decide((intent, seq), Verdict::Absent)).await;
            }
        }
    })
    .await;
    let stored = bench.find("r1").await.expect("there");
    assert_eq!((stored.tries, stored.state), (50, State::Queued));
}

/// What was answered is seen by whoever asks after it; what is placed has its claim, and the other
/// way round, at every moment.
pub async fn readers_beside_writers_see_what_was_answered_and_nothing_half(store: Store) {
    const EACH: usize = 12;
    let bench = Bench::new(store);
    let answered: Arc<[AtomicUsize; 2]> = Arc::default();
    let working = Arc::new(AtomicBool::new(true));
    let left = Arc::new(AtomicUsize::new(answered.len()));
    at_once(2 * answered.len(), |at| {
        let (bench, answered, left) = (bench.clone(), answered.clone(), left.clone());
        let (working, writer) = (working.clone(), at / 2);
        async move {
            if at % 2 == 0 {
                for n in 0..EACH {
                    let ids = bench.sending(&format!("r{writer}-{n}"), "a").await;
                    let order = format!("o{writer}-{n}");
                    bench.done(decide(ids, placed(&order, Learnt::Answer))).await;
                    answered[writer].store(n + 1, Ordering::SeqCst);
                }
                let last = left.fetch_sub(1, Ordering::SeqCst) == 1;
                working.fetch_and(!last, Ordering::SeqCst);
            }
            while at % 2 == 1 && working.load(Ordering::SeqCst) {
                look(&bench, writer, answered[writer].load(Ordering::SeqCst)).await;
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    for writer in 0..answered.len() {
        look(&bench, writer, EACH).await;
    }
}

/// Looks at the last that was answered and at the one under way.
async fn look(bench: &Bench, writer: usize, answered: usize) {
    for n in answered.saturating_sub(1)..=answered {
        let id = vec![order(&format!("o{writer}-{n}"))];
        let name = format!("r{writer}-{n}");
        let claim = || async { bench.store.claims(id.clone()).await.expect("works").remove(0) };
        let claimed_before = claim().await.is_some();
        let stored = bench.find(&name).await;
        let is_placed =
            stored.as_ref().is_some_and(|stored| matches!(stored.state, State::Placed { .. }));
        assert!(is_placed || n >= answered, "{name} was answered: {stored:?}");
        assert!(is_placed || !claimed_before, "{name} has a claim: {stored:?}");
        let claim = claim().await;
        assert!(claim.is_some() || !is_placed, "{name} is placed and has no claim");
    }
}

/// No serial is handed out twice, however many ask.
pub async fn serials_of_many_callers_are_all_different(store: Store) {
    const EACH: usize = 200;
    let bench = Bench::new(store);
    let handed = at_once(WRITERS, |_| {
        let bench = bench.clone();
        async move { (0..EACH).map(|_| bench.store.next_serial()).collect::<Vec<_>>() }
    })
    .await;
    assert!(handed.iter().all(|serials| serials.windows(2).all(|pair| pair[0] < pair[1])));
    let all: BTreeSet<_> = handed.into_iter().flatten().collect();
    assert_eq!(all.len(), WRITERS * EACH);
}
