//! What a change meets may not be durable yet: that it met it is answered after the sync all the
//! same. An order that is said to be joined, or to be another reference's, is one for good.

use std::sync::Mutex;

use super::*;

/// What is answered, or not yet.
type Answered = oneshot::Receiver<Result<Committed, StoreError>>;
/// Says whether an answer is the one that a case is about.
type Is = fn(&Committed) -> bool;

/// A pair of changes: the second meets what the first has written.
struct Case {
    name: &'static str,
    is: Is,
    first: Change,
    second: Change,
}

/// Every answer that a change can get for what another change wrote. What they rest on is durable.
fn cases(bench: &Bench) -> Vec<Case> {
    let accept = |reference: &str, product: &str| Change::Accept {
        intent: bench.intent(reference, product),
        attempt: None,
    };
    let (a, b) = (now(bench.sending("a", "x")), now(bench.sending("b", "x")));
    let c = now(bench.sending("c", "x"));
    vec![
        Case {
            name: "joined",
            is: |answer| matches!(answer, Committed::Joined(_)),
            first: accept("joined", "x"),
            second: accept("joined", "x"),
        },
        Case {
            name: "conflict",
            is: |answer| matches!(answer, Committed::Conflict),
            first: accept("conflict", "x"),
            second: accept("conflict", "y"),
        },
        Case {
            name: "taken",
            is: |answer| matches!(answer, Committed::IdTaken(_)),
            first: decide(a, placed("o1", Learnt::Answer)),
            second: decide(b, placed("o1", Learnt::Answer)),
        },
        Case {
            name: "stale",
            is: |answer| matches!(answer, Committed::Stale),
            first: decide(c, Verdict::Refused(WHY)),
            second: decide(c, Verdict::Absent),
        },
    ]
}

/// Hands a change over without anybody who works at it.
fn hand_over(store: &EmbeddedStore, change: Change) -> Answered {
    let (answer, answered) = oneshot::channel();
    assert!(store.shared.queue.push(Request::Commit(change, answer)), "the store is open");
    answered
}

/// Runs the case with this name on a store of its own.
fn run(name: &str, meet: impl Fn(&ForgetfulDisk, &Arc<EmbeddedStore>, Case)) {
    let disk = ForgetfulDisk::new();
    let config = EmbeddedConfig { segment_bytes: 1 << 20, ..config() };
    let store = Arc::new(open_with(&disk, config).expect("opens"));
    let bench = Bench::new(store.clone());
    let case = cases(&bench).into_iter().find(|case| case.name == name).expect("a case");
    meet(&disk, &store, case);
}

const NAMES: [&str; 4] = ["joined", "conflict", "taken", "stale"];

#[test]
fn in_one_batch_what_a_change_has_met_is_answered_after_the_sync_of_it() {
    for name in NAMES {
        run(name, |disk, store, Case { is, first, second, .. }| {
            let answers = [hand_over(store, first), hand_over(store, second)];
            let (answers, early) = watched(disk, answers);
            store.drive.run();
            assert_eq!(*early.lock().expect("no panic"), [false, false], "{name}: answered early");
            let [first, second] = std::mem::take(&mut *answers.lock().expect("no panic"))
                .map(|answer| answer.and_then(|mut answer| answer.try_recv().ok()));
            assert!(matches!(first.expect("answered"), Ok(Committed::Done)), "{name}");
            assert!(is(&second.expect("answered").expect("works")), "{name}");
        });
    }
}

#[test]
fn in_one_batch_what_a_change_has_met_is_no_answer_when_the_sync_of_it_fails() {
    for name in NAMES {
        run(name, |disk, store, Case { first, second, .. }| {
            let answers = [hand_over(store, first), hand_over(store, second)];
            disk.fail_sync(disk.syncs() + 1);
            store.drive.run();
            for mut answer in answers {
                let answer = answer.try_recv().expect("answered");
                assert!(answer.is_err(), "{name}: {answer:?} of what is not durable");
            }
        });
    }
}

#[test]
fn in_the_next_batch_what_a_change_has_met_is_answered_after_the_sync_of_it() {
    for fails in [false, true] {
        for name in NAMES {
            run(name, |disk, store, Case { is, first, second, .. }| {
                if fails {
                    disk.fail_sync(disk.syncs() + 1);
                }
                // Handed over while the first is synced: what is asked meanwhile waits.
                let met = Arc::new(Mutex::new((Some(second), None)));
                let (weak, meeting) = (Arc::downgrade(store), met.clone());
                disk.at_sync(move |_| {
                    let mut met = meeting.lock().expect("no panic");
                    let (Some(store), Some(second)) = (weak.upgrade(), met.0.take()) else {
                        return;
                    };
                    let mut answer = store.commit(second);
                    assert!((&mut answer).now_or_never().is_none(), "answered before the sync");
                    met.1 = Some(answer);
                });
                let first = now(store.commit(first));
                let second = met.lock().expect("no panic").1.take().expect("handed over");
                let second = now(second);
                assert_eq!(first.is_err(), fails, "{name}: {first:?}");
                match second {
                    Ok(answer) => assert!(is(&answer) && !fails, "{name}: {answer:?}"),
                    Err(error) => assert!(fails, "{name}: {error}"),
                }
            });
        }
    }
}

/// The answers, looked at while a sync is under way: which of them were there too early.
type Watched = Arc<Mutex<[Option<Answered>; 2]>>;

fn watched(disk: &ForgetfulDisk, answers: [Answered; 2]) -> (Watched, Arc<Mutex<[bool; 2]>>) {
    let answers = Arc::new(Mutex::new(answers.map(Some)));
    let early = Arc::new(Mutex::new([false; 2]));
    let (looked_at, found) = (answers.clone(), early.clone());
    disk.at_sync(move |_| {
        let looked_at = looked_at.lock().expect("no panic");
        let is_there = |answer: &Option<Answered>| answer.as_ref().is_some_and(|a| !a.is_empty());
        let mut found = found.lock().expect("no panic");
        for (found, answer) in found.iter_mut().zip(looked_at.iter()) {
            *found |= is_there(answer);
        }
    });
    (answers, early)
}
