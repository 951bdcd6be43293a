use super::*;

const BOUND: Duration = Duration::from_secs(16 * 60);

#[test]
fn rule_1_caller_is_told_of_acceptance_only_once_it_is_durable() {
    let mut bench = Bench { slow: true, ..Bench::new() };
    let a = bench.submit("x");
    assert!(bench.told(a).is_empty());
    bench.sync_one();
    assert_eq!(bench.told(a), [&Told::Accepted]);
}

#[test]
fn rule_2_nothing_is_sent_before_its_attempt_is_durable() {
    let mut bench = Bench { slow: true, ..Bench::new() };
    bench.submit("x");
    assert_eq!(bench.sends(), 0);
    bench.sync_one();
    assert_eq!(bench.sends(), 1);
}

#[test]
fn rule_2_a_try_that_was_not_sent_is_not_used_up() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    for sends in 2..12 {
        bench.answer(a, Outcome::NotSent("connect".into()));
        assert_eq!(bench.sends(), sends);
    }
    bench.answer(a, created(1));
    assert_eq!(bench.placed_with(a), Some(order(1)));
}

#[test]
fn rule_3_an_order_that_another_intent_has_leaves_the_attempt_in_doubt() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(a, created(1));
    bench.answer(b, created(1));
    assert_eq!(bench.placed_with(a), Some(order(1)));
    assert_eq!(bench.told(b).last(), Some(&&Told::InDoubt));
    assert_eq!(bench.alarms(), [&Alarm::IdTaken { intent: b, holder: a }]);
}

#[test]
fn rule_4_the_end_is_told_only_once_it_is_durable() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.slow = true;
    bench.answer(a, created(1));
    assert_eq!(bench.placed_with(a), None);
    bench.sync_one();
    assert_eq!(bench.placed_with(a), Some(order(1)));
}

#[test]
fn rule_5_a_late_answer_ends_the_doubt() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    bench.answer(a, created(1));
    assert_eq!(bench.placed_with(a), Some(order(1)));
    assert_eq!(bench.sends(), 1);
}

#[test]
fn rule_5_a_late_answer_that_comes_while_the_doubt_is_written_is_not_lost() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.slow = true;
    bench.answer(a, lost());
    bench.answer(a, created(1));
    bench.sync_one();
    bench.sync_one();
    assert_eq!(bench.placed_with(a), Some(order(1)));
}

#[test]
fn rule_5_a_late_answer_to_an_older_attempt_is_a_stray() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    let first = bench.seq(a);
    bench.answer(a, lost());
    bench.list(&[]);
    bench.wait(BOUND);
    bench.list(&[]);
    assert_eq!(bench.sends(), 2, "released and sent again");
    bench.answer_to(a, first, created(1));
    let stray = Effect::Stray { intent: a, seq: first, id: order(1), exchanged: false };
    assert!(bench.seen.contains(&stray));
    assert_eq!(bench.placed_with(a), None);
}

#[test]
fn rule_5_a_late_answer_after_absent_is_taken_while_nothing_newer_is_recorded() {
    let mut bench = Bench::new();
    bench.rules.in_flight_max = 0;
    let a = bench.serial();
    let attempt = bench.attempt();
    let state = State::InDoubt(attempt, "timeout".into());
    let restored = Restored {
        intent: a,
        delivered: digest("x"),
        good_until: bench.now.plus(600 * MIN),
        tries: 0,
        state,
        last_attempt: Some(attempt.seq),
        unsettled: false,
        unreported: false,
    };
    let (now, rules) = (bench.now, bench.rules.clone());
    let (lane, effects) = Lane::rehydrate(&rules, &[restored], None, now, now);
    bench.lane = lane;
    effects.into_iter().for_each(|e| bench.carry_out(e));
    bench.list(&[]);
    bench.wait(BOUND);
    bench.list(&[]);
    bench.answer_to(a, attempt.seq, created(1));
    assert_eq!(bench.placed_with(a), Some(order(1)));
    let alarm = Alarm::LandedAfterAbsent { intent: a, seq: attempt.seq };
    assert_eq!(bench.alarms(), [&alarm]);
}

#[test]
fn rule_6_a_refusal_ends_the_intent() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, Outcome::Refused("NO_STOCK".into()));
    assert_eq!(bench.told(a).last(), Some(&&Told::Refused("NO_STOCK".into())));
    assert!(bench.lane.is_idle());
}

#[test]
fn rule_7_no_report_no_settling() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    let seq = bench.seq(a);
    bench.feed(Event::Answered { intent: a, seq, outcome: lost(), left: None });
    bench.list(&[]);
    for _ in 0..5 {
        bench.wait(100 * BOUND);
        bench.list(&[]);
    }
    assert_eq!(bench.sends(), 1, "never released");
}

#[test]
fn rule_7_settling_counts_wire_bound_and_landing_bound_from_the_report() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    bench.list(&[]);
    bench.wait(BOUND - Duration::from_nanos(1));
    bench.list(&[]);
    assert_eq!(bench.sends(), 1);
    bench.wait(Duration::from_nanos(1));
    bench.list(&[]);
    assert_eq!(bench.sends(), 2);
}

#[test]
fn rule_7_without_a_landing_bound_nothing_is_ever_released() {
    let mut bench = Bench::new();
    bench.rules.landing_bound = None;
    let a = bench.submit("x");
    bench.answer(a, lost());
    for _ in 0..5 {
        bench.list(&[]);
        bench.wait(BOUND);
    }
    assert_eq!(bench.sends(), 1);
    bench.feed(Event::Resolved { intent: a, decision: Decision::Absent });
    assert_eq!(bench.sends(), 2, "a person may release it");
}

#[test]
fn rule_8_rows_go_to_the_oldest_attempts_in_doubt() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(b, lost());
    bench.answer(a, lost());
    bench.list(&[7]);
    assert_eq!(bench.placed_with(a), Some(order(7)));
    assert_eq!(bench.placed_with(b), None);
}

#[test]
fn rule_8_a_list_waits_for_the_attempts_that_were_in_flight_when_it_came() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(a, lost());
    bench.list(&[7]);
    assert_eq!(bench.placed_with(a), None, "the row may be the other's");
    bench.answer(b, created(7));
    assert_eq!(bench.placed_with(b), Some(order(7)));
    assert_eq!(bench.placed_with(a), None, "the row was the other's");
    assert!(bench.lane.hold().is_none());
}

#[test]
fn rule_8_a_list_does_not_wait_for_attempts_recorded_after_it() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(a, lost());
    bench.list(&[7]);
    bench.submit_next("x");
    bench.answer(b, lost());
    assert_eq!(bench.placed_with(a), Some(order(7)));
}

#[test]
fn rule_8_an_incomplete_list_gives_rows_but_releases_nothing() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(a, lost());
    bench.answer(b, lost());
    bench.list(&[]);
    bench.wait(BOUND);
    let view =
        ListView { ask: bench.ask(), candidates: vec![candidate(1)], proof: None, near_miss: None };
    bench.feed(Event::Listed(view));
    assert_eq!(bench.placed_with(a), Some(order(1)));
    assert_eq!(bench.told(b).last(), Some(&&Told::InDoubt));
    assert_eq!(bench.sends(), 2);
}

#[test]
fn rule_9_a_list_asked_for_before_the_attempt_was_settled_releases_nothing() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    let early = bench.ask();
    bench.wait(2 * BOUND);
    bench.list_as(early, &[], None);
    assert_eq!(bench.sends(), 1);
    bench.list(&[]);
    assert_eq!(bench.sends(), 2);
}

#[test]
fn rule_9_an_older_attempt_in_doubt_that_is_not_settled_stops_the_release() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    let seq = bench.seq(a);
    bench.answer(b, lost());
    bench.feed(Event::Answered { intent: a, seq, outcome: lost(), left: None });
    bench.list(&[]);
    bench.wait(BOUND);
    if bench.lane.asked.is_some() {
        bench.list(&[]);
    }
    assert_eq!(bench.sends(), 2, "the older one may still land and show as the younger's row");
}

#[test]
fn rule_9_the_post_of_an_intent_placed_from_a_list_stops_the_release_until_it_is_settled() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(b, lost());
    bench.list(&[]);
    bench.wait(BOUND - MIN);
    bench.answer(a, lost());
    bench.wait(MIN);
    // B's attempt is settled, A's is not. The row is B's but goes to A, the older.
    bench.list(&[1]);
    assert_eq!(bench.placed_with(a), Some(order(1)));
    assert_eq!(bench.sends(), 2, "A's own order may still land and is then B's");
    bench.wait(BOUND);
    bench.list(&[2]);
    assert_eq!(bench.placed_with(b), Some(order(2)));
    assert_eq!(bench.sends(), 2);
}

#[test]
fn rule_9_holds_over_a_restart_for_intents_placed_from_a_list() {
    let mut bench = Bench::new();
    let (seq_a, b) = (bench.serial(), bench.serial());
    let attempt_b = bench.attempt();
    let placed = State::Placed { id: order(1), learnt: Learnt::List, created_at: None };
    let restored = |intent, state, last: AttemptSeq, unsettled| Restored {
        intent,
        delivered: digest("x"),
        good_until: bench.now.plus(6000 * MIN),
        tries: 0,
        state,
        last_attempt: Some(last),
        unsettled,
        unreported: false,
    };
    let doubt = State::InDoubt(attempt_b, "timeout".into());
    let both =
        [restored(Serial(100), placed, seq_a, true), restored(b, doubt, attempt_b.seq, false)];
    let (lane, _) = Lane::rehydrate(&bench.rules, &both, None, bench.now, bench.now);
    assert_eq!(lane.posts.len(), 1, "its POST may still land");
    assert_eq!(lane.releasable_at(&bench.rules), Some(bench.now.plus(BOUND)));
}

#[test]
fn rule_9_a_near_miss_is_held_and_never_absence() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    bench.list(&[]);
    bench.wait(BOUND);
    bench.list_as(bench.ask(), &[], Some(9));
    assert!(matches!(bench.told(a).last(), Some(Told::Held(_))));
    assert_eq!(bench.sends(), 1);
    bench.answer(a, created(1));
    assert_eq!(bench.placed_with(a), Some(order(1)), "held is in doubt, an answer ends it");
}

#[test]
fn rule_9_a_list_fetched_with_another_key_or_not_far_enough_back_is_no_proof() {
    let reach = |since, key| Some(Reach { since, fingerprint: Fingerprint(key) });
    for proof in [reach(None, 2), reach(Some(Timestamp::MAX), 1), None] {
        let mut bench = Bench::new();
        let a = bench.submit("x");
        bench.answer(a, lost());
        bench.list(&[]);
        bench.wait(BOUND);
        let view = ListView { ask: bench.ask(), candidates: vec![], proof, near_miss: None };
        bench.feed(Event::Listed(view));
        assert_eq!(bench.sends(), 1, "{proof:?}");
    }
}

#[test]
fn tries_are_used_up_only_by_absence_and_then_the_intent_ends_not_placed() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    for sends in 1..=3 {
        assert_eq!(bench.sends(), sends);
        bench.answer(a, lost());
        bench.list(&[]);
        bench.wait(BOUND);
        bench.list(&[]);
    }
    assert_eq!(bench.sends(), 3);
    assert!(matches!(bench.told(a).last(), Some(Told::NotPlaced(_))));
}

#[test]
fn rule_10_more_orders_than_doubts_hold_the_lane_until_a_person_frees_it() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    bench.list(&[1, 2]);
    assert!(matches!(bench.told(a).last(), Some(Told::Held(_))));
    assert_eq!(bench.alarms(), [&Alarm::Surplus { candidates: 2, doubts: 1 }]);
    let b = bench.submit("x");
    assert!(matches!(bench.told(b)[..], [Told::LaneHeld(_)]), "nothing recorded, nothing sent");
    bench.wait(100 * BOUND);
    assert_eq!(bench.sends(), 1);
    assert!(bench.lane.asked.is_none());
    bench.feed(Event::Freed);
    bench.list(&[1]);
    assert_eq!(bench.placed_with(a), Some(order(1)));
}

#[test]
fn rule_10_an_own_answer_is_still_written_while_the_lane_is_held() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    bench.list(&[1, 2]);
    bench.answer(a, created(1));
    assert_eq!(bench.placed_with(a), Some(order(1)));
}

#[test]
fn rule_11_new_intents_go_on_while_old_ones_are_in_doubt() {
    let mut bench = Bench::new();
    let attempt = bench.attempt();
    let restored = Restored {
        intent: bench.serial(),
        delivered: digest("x"),
        good_until: bench.now.plus(MIN),
        tries: 0,
        state: State::Sending(attempt),
        last_attempt: Some(attempt.seq),
        unsettled: false,
        unreported: false,
    };
    let (now, rules) = (bench.now, bench.rules.clone());
    let (lane, effects) = Lane::rehydrate(&rules, &[restored], None, now, now);
    bench.lane = lane;
    effects.into_iter().for_each(|e| bench.carry_out(e));
    assert_eq!(bench.lane.doubts_count(), 1);
    let b = bench.submit("x");
    assert_eq!(bench.sends(), 1);
    bench.answer(b, created(1));
    assert_eq!(bench.placed_with(b), Some(order(1)));
}

#[test]
fn rule_12_rows_for_a_lane_without_an_open_attempt_are_orphans() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    bench.answer(a, created(1));
    bench.list(&[1, 2]);
    assert!(bench.seen.contains(&Effect::Orphans { ids: vec![order(2)] }));
}

#[test]
fn rule_12_every_release_is_watched_for_late_landings() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    bench.list(&[]);
    bench.wait(BOUND);
    bench.list(&[]);
    assert!(bench.seen.contains(&Effect::Released { intent: a, floor: None }));
}

#[test]
fn rule_13_what_is_not_interchangeable_is_never_open_together() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    let b = bench.submit("y");
    assert_eq!(bench.sends(), 1);
    bench.answer(a, lost());
    assert_eq!(bench.sends(), 1, "in doubt is open");
    bench.list(&[1]);
    assert_eq!(bench.placed_with(a), Some(order(1)));
    assert_eq!(bench.sends(), 2);
    bench.answer(b, created(2));
    assert_eq!(bench.placed_with(b), Some(order(2)));
}

#[test]
fn an_unsent_order_ends_not_placed_when_its_time_has_passed() {
    let mut bench = Bench::new();
    bench.rules.in_flight_max = 0;
    let a = bench.submit("x");
    bench.wait(600 * MIN);
    assert!(matches!(bench.told(a).last(), Some(Told::NotPlaced(_))));
    assert!(bench.lane.is_idle());
}

#[test]
fn an_order_that_comes_too_late_is_not_sent_even_if_a_permit_is_free() {
    let mut bench = Bench::new();
    let (a, permit) = (bench.serial(), Some(bench.attempt()));
    let good_until = bench.now;
    bench.feed(Event::Submitted { intent: a, delivered: digest("x"), good_until, permit });
    assert_eq!(bench.sends(), 0);
    assert!(bench.seen.contains(&Effect::ReturnPermit { intent: a }));
    assert!(matches!(bench.told(a).last(), Some(Told::NotPlaced(_))));
}

#[test]
fn an_order_in_doubt_outlives_its_time() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    bench.list(&[]);
    bench.now = bench.now.plus(599 * MIN);
    bench.wait(2 * MIN);
    bench.list(&[3]);
    assert_eq!(bench.placed_with(a), Some(order(3)));
}

#[test]
fn a_post_that_settled_after_the_list_was_asked_for_still_stops_its_release() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(b, lost());
    bench.list(&[]);
    bench.wait(BOUND - MIN);
    bench.answer(a, lost());
    bench.wait(MIN);
    let early = bench.ask();
    bench.wait(BOUND);
    // Asked for before A's POST was settled; used after.
    bench.list_as(early, &[1], None);
    assert_eq!(bench.placed_with(a), Some(order(1)));
    assert_eq!(bench.placed_with(b), None);
    assert_eq!(bench.sends(), 2);
}
