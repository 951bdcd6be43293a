//! No caller is forgotten in a batch, none is answered before the sync of the batch that has his
//! change, and a stop answers everybody.

use std::sync::Arc;
use std::time::Duration;

use loom::sync::atomic::Ordering;
use loom::thread;

use super::super::explore;
use super::model::{Answer, Awaited, Committer, Queue, Request, Shared};
use super::serve::{Commits, serve};
use super::turns::Turns;

fn commit(change: usize) -> (Request, Awaited) {
    let (answer, awaited) = Awaited::new();
    (Request::Commit(change, answer), awaited)
}

fn on_a_thread(shared: &Arc<Shared>, set: fn(&mut Committer)) -> thread::JoinHandle<()> {
    let mut committer = Committer::new(shared);
    set(&mut committer);
    let shared = shared.clone();
    thread::spawn(move || {
        serve(&shared.queue, &mut committer);
        committer.close();
        shared.tell_feeder(false, true);
    })
}

/// Two callers at once; the store is closed once both are answered.
fn two_callers(set: fn(&mut Committer)) -> impl Fn() {
    move || {
        let shared = Shared::new();
        let committer = on_a_thread(&shared, set);
        let caller = {
            let shared = shared.clone();
            thread::spawn(move || assert!(shared.commit(1, || ()), "refused before the close"))
        };
        assert!(shared.commit(2, || ()), "refused before the close");
        caller.join().expect("is answered");
        shared.close(|| ());
        committer.join().expect("stops");
    }
}

#[test]
fn every_caller_is_answered_once_his_change_is_durable() {
    explore("two callers, one thread", Some(3), two_callers(|_| ()));
}

#[test]
#[should_panic(expected = "answered before it was durable")]
fn an_answer_before_the_sync_tells_what_the_disk_does_not_have() {
    explore("hasty answers", Some(3), two_callers(|committer| committer.hasty = true));
}

#[test]
fn a_stop_answers_whoever_comes_meanwhile_and_loses_nobody_who_came_before() {
    explore("a stop", Some(3), || {
        let shared = Shared::new();
        let committer = on_a_thread(&shared, |_| ());
        let caller = {
            let shared = shared.clone();
            // Written or refused: never neither.
            thread::spawn(move || shared.commit(1, || ()))
        };
        let (request, awaited) = commit(2);
        assert!(shared.queue.push(request));
        shared.close(|| ());
        assert_eq!(awaited.wait(), Ok(()), "it came before the close");
        caller.join().expect("is answered");
        committer.join().expect("stops");
        assert!(!shared.commit(4, || ()), "the store is closed");
    });
}

#[test]
fn nobody_is_forgotten_while_changes_wait_for_the_index() {
    explore("a feeder", Some(2), || {
        let shared = Shared::new();
        let committer = on_a_thread(&shared, |committer| committer.feeds = true);
        let feeder = {
            let shared = shared.clone();
            thread::spawn(move || shared.feed())
        };
        assert!(shared.commit(1, || ()));
        assert!(shared.commit(2, || ()));
        let (request, awaited) = commit(4);
        assert!(shared.queue.push(request));
        shared.close(|| ());
        assert_eq!(awaited.wait(), Ok(()), "it came before the close");
        committer.join().expect("stops");
        feeder.join().expect("stops");
    });
}

#[test]
fn whoever_waits_for_company_misses_nobody() {
    explore("company", Some(3), || {
        let queue: Arc<Queue> = Arc::new(Queue::new());
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || {
                    let (answer, awaited) = Awaited::new();
                    assert!(queue.push(Request::Close(answer)));
                    assert_eq!(awaited.wait(), Ok(()));
                })
            })
            .collect();
        let mut answered = 0;
        let mut batch: Vec<Request> = Vec::new();
        while answered < 2 {
            queue.wait(2 - answered, None);
            queue.take(&mut batch);
            for request in batch.drain(..) {
                let Request::Close(answer) = request else { unreachable!("nothing else is asked") };
                answer.give(Ok(()));
                answered += 1;
            }
        }
        callers.into_iter().for_each(|caller| caller.join().expect("is answered"));
    });
}

#[test]
fn a_wait_that_is_over_early_leaves_the_next_one_whole() {
    explore("an early end", Some(3), || {
        let queue: Arc<Queue> = Arc::new(Queue::new());
        let caller = {
            let queue = queue.clone();
            thread::spawn(move || {
                let (answer, awaited) = Awaited::new();
                assert!(queue.push(Request::Close(answer)));
                awaited.wait()
            })
        };
        let mut batch: Vec<Request> = Vec::new();
        queue.wait(8, Some(Duration::ZERO));
        queue.wait(1, None);
        queue.take(&mut batch);
        let [Request::Close(_)] = &batch[..] else { panic!("it is there") };
        batch.clear();
        assert!(caller.join().expect("is answered").is_err());
    });
}

type Slot = Option<Committer>;

fn work(shared: &Shared, slot: &mut Slot) -> bool {
    let mut batch = Vec::new();
    shared.queue.take(&mut batch);
    if batch.is_empty() {
        return false;
    }
    let Some(mut committer) = slot.take() else { return true };
    committer.run(&mut batch);
    match committer.is_closing() {
        true => committer.close(),
        false => *slot = Some(committer),
    }
    true
}

/// Two callers without a thread; `looks_again`: whoever was at work looks at the queue once more
/// after he has let go.
fn two_callers_in_turns(looks_again: bool) -> impl Fn() {
    move || {
        let shared = Shared::new();
        let turns = Arc::new(Turns::new(Some(Committer::new(&shared))));
        let ask = {
            let (shared, turns) = (shared.clone(), turns.clone());
            move |change| {
                let (request, awaited) = commit(change);
                assert!(shared.queue.push(request), "nobody closes");
                let is_empty = || !looks_again || shared.queue.is_empty();
                turns.run(|slot| work(&shared, slot), is_empty);
                awaited
            }
        };
        let caller = {
            let ask = ask.clone();
            thread::spawn(move || ask(1))
        };
        let second = ask(2);
        let first = caller.join().expect("asks");
        assert!(shared.queue.is_empty(), "a caller was forgotten");
        assert_eq!((first.wait(), second.wait()), (Ok(()), Ok(())));
        assert_eq!(shared.durable.load(Ordering::SeqCst), 3);
        shared.close(|| turns.run(|slot| work(&shared, slot), || shared.queue.is_empty()));
        assert!(!shared.commit(4, || ()), "the store is closed");
    }
}

#[test]
fn without_a_thread_nobody_is_forgotten_by_whoever_is_at_work() {
    explore("turns", None, two_callers_in_turns(true));
}

#[test]
#[should_panic(expected = "a caller was forgotten")]
fn who_looks_at_the_queue_only_before_he_lets_go_forgets_a_caller() {
    explore("turns, looked at too early", None, two_callers_in_turns(false));
}

#[test]
fn an_answer_that_is_dropped_is_told() {
    explore("a dropped answer", None, || {
        let (answer, awaited): (Answer, Awaited) = Awaited::new();
        let dropping = thread::spawn(move || drop(answer));
        assert!(awaited.wait().is_err());
        dropping.join().expect("drops");
    });
}
