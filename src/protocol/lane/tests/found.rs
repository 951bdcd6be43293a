//! Rules that the simulation found broken.

use super::*;

const BOUND: Duration = Duration::from_secs(16 * 60);

/// How far back the last list that was asked for reaches.
fn listed_since(bench: &Bench) -> Option<Option<Timestamp>> {
    bench.seen.iter().rev().find_map(|effect| match effect {
        Effect::List { since, .. } => Some(*since),
        _ => None,
    })
}

#[test]
fn rule_9_a_list_reaches_back_to_the_posts_of_intents_placed_from_a_list() {
    let mut bench = Bench::new();
    bench.floor = at(100);
    let a = bench.submit("x");
    bench.floor = at(200);
    let b = bench.submit("x");
    bench.answer(a, lost());
    bench.answer(b, lost());
    // The row is B's, and A is older. A's own order landed early and does not show yet.
    bench.list(&[1]);
    assert_eq!(bench.placed_with(a), Some(order(1)));
    bench.wait(BOUND);
    assert_eq!(listed_since(&bench), Some(at(100)), "A's own order is older than B's attempt");
    let near = Some(Reach { since: at(200), fingerprint: Fingerprint(1) });
    let ask = bench.ask();
    bench.feed(Event::Listed(ListView { ask, candidates: vec![], proof: near, near_miss: None }));
    assert_eq!(bench.sends(), 2, "A's own order could hide from that list");
    bench.wait(BOUND);
    let far = Some(Reach { since: at(100), fingerprint: Fingerprint(1) });
    let ask = bench.ask();
    let candidates = vec![candidate(2)];
    bench.feed(Event::Listed(ListView { ask, candidates, proof: far, near_miss: None }));
    assert_eq!(bench.placed_with(b), Some(order(2)), "A's own order is B's");
    bench.wait(BOUND);
    assert!(bench.lane.posts.is_empty() && bench.sends() == 2);
}

#[test]
fn rule_9_lists_reach_back_while_what_an_older_post_bought_is_passed_on_from_row_to_row() {
    let mut bench = Bench::new();
    bench.floor = at(100);
    let a = bench.submit("x");
    bench.floor = at(200);
    let b = bench.submit("x");
    bench.answer(a, lost());
    bench.answer(b, lost());
    // A's own order landed early and does not show yet. A has B's row, and B has C's.
    bench.list(&[1]);
    bench.floor = at(300);
    let c = bench.submit("x");
    bench.answer(c, lost());
    bench.list(&[2]);
    assert_eq!(bench.placed_with(a), Some(order(1)));
    assert_eq!(bench.placed_with(b), Some(order(2)));
    bench.wait(BOUND);
    assert_eq!(
        listed_since(&bench),
        Some(at(100)),
        "A's own order is C's, and older than C's attempt"
    );
}

#[test]
fn rule_10_whoever_comes_in_doubt_while_the_lane_is_held_waits_for_a_person_too() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(a, lost());
    bench.list(&[1, 2, 3]);
    bench.answer(b, lost());
    if bench.lane.kept.is_some() || bench.lane.asked.is_some() {
        bench.list(&[1, 2, 3]);
    }
    assert!(bench.lane.hold().is_some());
    for intent in [a, b] {
        assert!(matches!(bench.told(intent).last(), Some(Told::Held(_))), "{intent:?}");
    }
    let held = State::InDoubt(bench.attempt(), "timeout".into());
    let restored = Restored {
        intent: Serial(100),
        delivered: digest("x"),
        good_until: bench.now.plus(6000 * MIN),
        tries: 0,
        state: held,
        last_attempt: None,
        unsettled: false,
        unreported: false,
    };
    let hold = Some("more orders than attempts in doubt".into());
    let (_, effects) = Lane::rehydrate(&bench.rules, &[restored], hold, bench.now, bench.now);
    let is_held = |effect: &Effect| {
        matches!(effect, Effect::Write(Write::Decide { verdict: Verdict::Held(_), .. }))
    };
    assert!(effects.iter().any(is_held), "a crash came before it was written");
}

/// A's order, which no list has shown, is named by B's answer; what B bought itself comes late.
fn answer_that_names_anothers_order(left_out: LeftOut) -> Bench {
    let mut bench = Bench::new();
    bench.rules.left_out = left_out;
    let a = bench.submit("x");
    bench.answer(a, lost());
    bench.list(&[]);
    bench.wait(15 * MIN);
    bench.list(&[]);
    let b = bench.submit("x");
    bench.answer(b, created(1));
    bench.wait(2 * MIN);
    bench.list(&[]);
    bench
}

#[test]
fn rule_9_an_answer_may_name_the_order_of_an_attempt_in_doubt() {
    let bought_again = answer_that_names_anothers_order(LeftOut::only(Clause::SettledAnswered));
    assert_eq!(bought_again.sends(), 3);
    let mut bench = answer_that_names_anothers_order(LeftOut::default());
    assert_eq!(bench.sends(), 2, "what B bought may be all that there is for A");
    let a = bench.lane.doubts().next().expect("A").0;
    bench.wait(BOUND);
    bench.list(&[2]);
    assert_eq!(bench.placed_with(a), Some(order(2)));
    assert_eq!(bench.sends(), 2);
}

#[test]
fn rule_9_answers_that_go_on_do_not_keep_an_attempt_in_doubt_for_ever() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    let started = bench.now;
    for n in 1.. {
        let b = bench.submit("x");
        bench.answer(b, created(n));
        bench.wait(MIN);
        if bench.lane.asked.is_some() {
            bench.list(&[]);
        }
        if bench.sends() as u64 > n + 1 {
            break;
        }
        assert!(bench.now.since(started) < 3 * BOUND, "in doubt as long as others are bought");
    }
    assert!(bench.now.since(started) > BOUND);
    let last = bench.lane.eras.clone();
    assert!(last.is_none(), "kept although nobody is open who met anybody: {last:?}");
}

#[test]
fn rule_9_an_attempt_is_recorded_with_the_lowest_floor_of_all_whose_orders_it_can_have() {
    let mut bench = Bench::new();
    bench.floor = at(100);
    let a = bench.submit("x");
    bench.floor = at(200);
    let b = bench.submit("x");
    assert_eq!(recorded_floor(&bench), at(100), "A is open");
    bench.answer(a, created(1));
    bench.floor = at(300);
    let c = bench.submit("x");
    assert_eq!(recorded_floor(&bench), at(100), "B, which has met A, is open");
    bench.answer(b, created(2));
    bench.floor = at(400);
    let d = bench.submit("x");
    assert_eq!(recorded_floor(&bench), at(200), "C has met B, and nobody who met A is open");
    bench.answer(c, created(3));
    bench.answer(d, created(4));
    bench.floor = at(500);
    bench.submit("x");
    assert_eq!(recorded_floor(&bench), at(500), "nobody is open");
}

#[test]
fn rule_9_who_was_placed_from_a_list_has_met_whoever_is_open_then() {
    let mut bench = Bench::new();
    bench.floor = at(100);
    let a = bench.submit("x");
    bench.floor = at(200);
    let b = bench.submit("x");
    bench.answer(a, created(1));
    bench.floor = at(300);
    let c = bench.submit("x");
    bench.answer(b, lost());
    bench.answer(c, lost());
    bench.list(&[3]);
    assert_eq!(bench.placed_with(b), Some(order(3)));
    bench.floor = at(400);
    bench.submit("x");
    assert_eq!(recorded_floor(&bench), at(100), "what A bought may be C's");
}

#[test]
fn rule_9_floors_follow_an_order_that_is_passed_on_by_row_answer_and_row() {
    let mut bench = Bench::new();
    bench.floor = at(100);
    let a = bench.submit("x");
    bench.floor = at(200);
    let b = bench.submit("x");
    bench.answer(a, lost());
    bench.answer(b, lost());
    // A's own order is dated 150 and does not show yet. B's does, and is A's.
    bench.list(&[2]);
    bench.floor = at(300);
    let c = bench.submit("x");
    bench.answer(b, created(3));
    assert_eq!(bench.placed_with(b), Some(order(3)), "C's order");
    bench.floor = at(400);
    let d = bench.submit("x");
    assert_eq!(recorded_floor(&bench), at(100), "A's own order is D's, once C has D's");
    bench.answer(c, lost());
    bench.answer(d, lost());
    bench.list(&[4]);
    assert_eq!(bench.placed_with(c), Some(order(4)));
}

#[test]
fn rule_9_a_near_miss_is_asked_about_also_where_answers_go_on() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    for n in 1..30 {
        let b = bench.submit("x");
        bench.answer(b, created(n));
        bench.wait(MIN);
        if bench.lane.asked.is_some() {
            let ask = bench.ask();
            bench.list_as(ask, &[], Some(9999));
        }
    }
    assert!(
        matches!(bench.told(a).last(), Some(Told::Held(_))),
        "half an hour, and nobody is asked"
    );
}

#[test]
fn rule_9_floors_rise_where_rows_are_claimed_all_the_time() {
    let mut bench = Bench::new();
    let mut last = None;
    for n in 1..300_u64 {
        bench.floor = at(i64::try_from(n).expect("a number") * 60);
        let b = bench.submit("x");
        let before = last.replace(b).filter(|_| bench.lane.asked.is_none());
        before.inspect(|_| bench.wait(Duration::from_secs(1)));
        bench.answer(b, lost());
        if bench.lane.asked.is_some() {
            // The order before shows; everybody has his own.
            bench.list(&[n - 1]);
        }
        bench.wait(MIN);
    }
    let floor = recorded_floor(&bench).expect("a floor").as_second();
    assert!(floor > 299 * 60 - 3600, "lists reach back to {floor} s");
}

#[test]
fn rule_7_an_attempt_whose_task_has_not_reported_settles_from_its_report_alone() {
    let mut bench = Bench::new();
    let attempt = bench.attempt();
    let a = Serial(100);
    let restored = Restored {
        intent: a,
        delivered: digest("x"),
        good_until: bench.now.plus(6000 * MIN),
        tries: 0,
        state: State::InDoubt(attempt, "its lane has panicked".into()),
        last_attempt: Some(attempt.seq),
        unsettled: false,
        unreported: true,
    };
    let (lane, effects) = Lane::rehydrate(&bench.rules, &[restored], None, bench.now, bench.now);
    bench.lane = lane;
    effects.into_iter().for_each(|effect| bench.carry_out(effect));
    for _ in 0..3 {
        bench.list(&[]);
        bench.wait(2 * BOUND);
    }
    assert_eq!(bench.sends(), 0, "its bytes may still leave");
    bench.answer_to(a, attempt.seq, lost());
    bench.list(&[]);
    bench.wait(BOUND);
    bench.list(&[]);
    assert_eq!(bench.sends(), 1, "settled from the report on");
}
