//! A clause that is left out leaves out that clause alone: else what a model or a simulation finds
//! without it would say nothing about it.

use super::*;

const BOUND: Duration = Duration::from_secs(16 * 60);

fn without(clause: Clause) -> Bench {
    let mut bench = Bench::new();
    bench.rules.left_out = LeftOut::only(clause);
    bench
}

#[test]
fn without_late_answers_those_in_time_still_count() {
    let mut bench = without(Clause::LateAnswerCounts);
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(a, created(1));
    assert_eq!(bench.placed_with(a), Some(order(1)));
    bench.answer(b, lost());
    bench.answer(b, created(2));
    assert_eq!(bench.placed_with(b), None);
}

#[test]
fn where_what_is_unsent_counts_as_settled_what_was_sent_does_not() {
    for (bench, sends) in [(Bench::new(), 3), (without(Clause::UnsentInFlight), 4)] {
        let mut bench = bench;
        let a = bench.submit("x");
        bench.answer(a, lost());
        bench.list(&[]);
        let b = bench.submit("x");
        bench.wait(BOUND);
        bench.answer(b, lost());
        bench.list(&[]);
        assert_eq!(bench.sends(), sends, "A is released, and B if it was settled before it left");
    }
}

#[test]
fn where_older_doubts_need_not_be_settled_a_younger_one_is_released_before_them() {
    for (bench, sends) in [(Bench::new(), 2), (without(Clause::SettledOlder), 3)] {
        let mut bench = bench;
        let (a, b) = (bench.submit("x"), bench.submit("x"));
        bench.answer(b, lost());
        bench.wait(BOUND);
        bench.answer(a, lost());
        // The first list was asked for when nothing was settled.
        bench.list(&[]);
        bench.wait(Duration::from_secs(5));
        bench.list(&[]);
        assert_eq!(bench.sends(), sends, "B is released, though A may land");
    }
}

#[test]
fn where_nothing_counts_from_the_lock_a_doubt_of_before_is_settled_at_once() {
    for (bench, doubts) in [(Bench::new(), 1), (without(Clause::SettledFromLock), 0)] {
        let mut bench = bench;
        let attempt = bench.attempt();
        let doubt = bench.stored(attempt, State::InDoubt(attempt, "timeout".into()));
        bench.rehydrate(&[doubt]);
        bench.list(&[]);
        assert_eq!(bench.lane.doubts_count(), doubts);
    }
}

#[test]
fn posts_of_the_placed_are_remembered_where_they_are_not_settled_and_the_clause_is_kept() {
    let placed = || State::Placed { id: order(1), learnt: Learnt::List, created_at: None };
    for (left_out, unsettled, posts) in [
        (LeftOut::default(), true, 1),
        (LeftOut::default(), false, 0),
        (LeftOut::only(Clause::PlacedRemembered), true, 0),
    ] {
        let mut bench = Bench::new();
        bench.rules.left_out = left_out;
        let attempt = bench.attempt();
        let stored = Restored { unsettled, ..bench.stored(attempt, placed()) };
        bench.rehydrate(&[stored]);
        assert_eq!(bench.lane.posts.len(), posts, "{left_out:?} {unsettled}");
    }
}

#[test]
fn where_a_restart_leaves_no_doubt_what_was_being_sent_is_sent_again() {
    for (bench, sends) in [(Bench::new(), 0), (without(Clause::RestartInDoubt), 1)] {
        let mut bench = bench;
        let attempt = bench.attempt();
        let sending = bench.stored(attempt, State::Sending(attempt));
        bench.rehydrate(&[sending]);
        assert_eq!(bench.sends(), sends);
        assert_eq!(bench.lane.asked.is_some(), sends == 0, "else a list is asked for at once");
    }
}

#[test]
fn where_an_attempt_need_not_be_settled_itself_the_older_ones_still_must() {
    let mut bench = without(Clause::SettledItself);
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    let seq = bench.seq(a);
    bench.answer(b, lost());
    bench.feed(Event::Answered { intent: a, seq, outcome: lost(), left: None });
    bench.list(&[]);
    let released = |bench: &Bench, whom| {
        bench.seen.iter().any(|e| matches!(e, Effect::Released { intent, .. } if *intent == whom))
    };
    assert!(released(&bench, a), "nothing of it was settled");
    assert!(!released(&bench, b), "A was not");
}
