//! Clauses of the rules at their edges: what comes too late, twice, or from elsewhere.

use super::*;

const BOUND: Duration = Duration::from_secs(16 * 60);

impl Bench {
    /// Takes in a lane of a former process with one attempt in doubt.
    fn restore_doubt(&mut self, floor: Option<Timestamp>) -> IntentId {
        let attempt = Attempt { floor, ..self.attempt() };
        let restored = self.stored(attempt, State::InDoubt(attempt, "timeout".into()));
        self.rehydrate(std::slice::from_ref(&restored));
        restored.intent
    }

    /// The attempts with which intents were handed to the store.
    fn accepted_to_send(&self) -> usize {
        let sent = |e: &&Effect| matches!(e, Effect::Write(Write::Accept { attempt: Some(_), .. }));
        self.seen.iter().filter(sent).count()
    }
}

#[test]
fn rule_2_a_permit_that_comes_after_the_orders_time_sends_nothing() {
    let mut bench = Bench::new();
    let a = bench.serial();
    let good_until = bench.now.plus(MIN);
    let event = Event::Submitted { intent: a, delivered: digest("x"), good_until, permit: None };
    let effects = bench.lane.step(&bench.rules, event, bench.now);
    assert_eq!(effects, [Effect::Write(Write::Accept { intent: a, attempt: None })]);
    let written = Event::Written { intent: a, written: Written::Done };
    let effects = bench.lane.step(&bench.rules, written, bench.now);
    assert!(effects.contains(&Effect::AskPermit { intent: a }));
    let attempt = bench.attempt();
    let late = Event::Permitted { intent: a, attempt };
    let effects = bench.lane.step(&bench.rules, late, good_until);
    let expire = Write::Expire { intent: a, why: "too late to send".into() };
    assert_eq!(effects, [Effect::ReturnPermit { intent: a }, Effect::Write(expire)]);
}

#[test]
fn rule_2_from_the_record_on_an_attempt_is_open_sent_or_not() {
    let mut bench = Bench { slow: true, ..Bench::new() };
    bench.submit("x");
    assert_eq!(bench.lane.open_attempts(), 1, "its record is on its way");
    assert_eq!(bench.lane.permits_held().count(), 1);
    bench.submit("y");
    assert_eq!(bench.accepted_to_send(), 1, "rule 13: not together with one being recorded");
}

#[test]
fn rule_2_a_list_that_comes_while_an_attempt_is_recorded_makes_no_orphans() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    bench.answer(a, created(1));
    bench.slow = true;
    bench.submit("x");
    bench.list(&[7]);
    assert!(!bench.seen.iter().any(|e| matches!(e, Effect::Orphans { .. })), "rule 12");
}

#[test]
fn rule_3_taken_in_another_lane_is_an_alarm_however_it_was_learnt() {
    let mut bench = Bench { slow: true, ..Bench::new() };
    let a = bench.submit("x");
    bench.sync_one();
    bench.answer(a, created(1));
    let (holder, learnt) = (Serial(99), Learnt::List);
    let written = Written::IdTaken { holder, learnt, same_lane: false };
    bench.feed(Event::Written { intent: a, written });
    assert_eq!(bench.alarms(), [&Alarm::IdTaken { intent: a, holder }]);
}

#[test]
fn rule_8_an_attempt_recorded_after_the_list_came_owns_none_of_its_rows() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(a, lost());
    bench.list(&[7, 8, 9]);
    let c = bench.submit_next("x");
    bench.answer(c, lost());
    bench.answer(b, lost());
    assert_eq!(bench.placed_with(c), None);
    assert_eq!(bench.alarms(), [&Alarm::Surplus { candidates: 3, doubts: 2 }]);
}

#[test]
fn rule_9_a_post_that_settles_while_a_list_is_under_way_stops_that_lists_release() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(b, lost());
    bench.list(&[]);
    bench.wait(BOUND - MIN);
    bench.answer(a, lost());
    bench.wait(MIN / 2);
    // A gets the row of B, and its own POST may still land.
    bench.list(&[1]);
    assert_eq!(bench.placed_with(a), Some(order(1)));
    bench.wait(MIN / 2);
    let early = bench.ask();
    bench.wait(BOUND);
    bench.list_as(early, &[], None);
    assert_eq!(bench.sends(), 2, "A's order may have landed after that list was read");
    bench.wait(bench.rules.look_again_max);
    bench.list(&[]);
    assert_eq!(bench.sends(), 3);
}

#[test]
fn rule_9_the_answer_to_an_earlier_question_is_none_to_this_one() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    let earlier = bench.ask();
    bench.list(&[]);
    bench.wait(BOUND);
    bench.list_as(earlier, &[], None);
    assert_eq!(bench.sends(), 1, "it may have been requested before A's order came to be");
    bench.list(&[]);
    assert_eq!(bench.sends(), 2);
}

#[test]
fn rule_9_a_list_that_gives_one_its_row_proves_another_absent() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(a, lost());
    bench.answer(b, lost());
    bench.list(&[]);
    bench.wait(BOUND);
    bench.list(&[1]);
    assert_eq!(bench.placed_with(a), Some(order(1)));
    assert_eq!(bench.sends(), 3, "A's POST was settled when that list was asked for, too");
}

#[test]
fn rule_9_a_list_that_called_somebodys_row_free_releases_nothing() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(a, lost());
    bench.answer(b, lost());
    bench.list(&[]);
    bench.wait(BOUND);
    bench.claimed.insert(order(1), (Serial(99), Learnt::Answer));
    bench.list(&[1]);
    assert_eq!(bench.sends(), 2, "what else does it not know?");
    assert_eq!(bench.lane.doubts_count(), 2);
    bench.wait(bench.rules.look_again_max);
    bench.list(&[]);
    assert_eq!(bench.sends(), 4, "the next one may");
}

#[test]
fn rule_9_a_list_that_reaches_back_to_a_moment_does_not_cover_an_attempt_without_floor() {
    let mut bench = Bench::new();
    bench.restore_doubt(None);
    bench.list(&[]);
    bench.wait(BOUND);
    let proof = Some(Reach { since: Some(Timestamp::MIN), fingerprint: Fingerprint(1) });
    let view = ListView { ask: bench.ask(), candidates: vec![], proof, near_miss: None };
    bench.feed(Event::Listed(view));
    assert_eq!(bench.lane.doubts_count(), 1, "it knew no order: only the very end covers it");
}

#[test]
fn rule_9_the_post_of_an_intent_that_a_person_placed_stops_releases_too() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(b, lost());
    bench.list(&[]);
    bench.wait(BOUND - MIN);
    bench.answer(a, lost());
    let decision = Decision::Placed { id: order(1), created_at: None };
    bench.feed(Event::Resolved { intent: a, decision });
    assert_eq!(bench.placed_with(a), Some(order(1)));
    bench.wait(MIN);
    if bench.lane.asked.is_some() {
        bench.list(&[]);
    }
    assert_eq!(bench.sends(), 2, "A's own order may still land and is then B's");
}

#[test]
fn rule_5_an_answer_for_an_intent_placed_from_a_list_is_looked_after() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    let seq = bench.seq(a);
    bench.answer(a, lost());
    bench.list(&[1]);
    bench.answer_to(a, seq, created(2));
    let stray = Effect::Stray { intent: a, seq, id: order(2), exchanged: true };
    assert!(bench.seen.contains(&stray), "if nobody has it, it is an orphan");
    assert_eq!(bench.lane.posts.len(), 1, "and its POST is not settled by it");
}

#[test]
fn rule_5_a_refusal_for_an_intent_placed_from_a_list_settles_its_post() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    let seq = bench.seq(a);
    bench.answer(a, lost());
    bench.list(&[1]);
    bench.answer_to(a, seq, lost());
    assert_eq!(bench.lane.posts.len(), 1, "unknown settles nothing");
    bench.answer_to(a, seq, Outcome::Refused("NO".into()));
    assert!(bench.lane.posts.is_empty());
    assert!(bench.seen.contains(&Effect::Write(Write::Settle { intent: a })));
}

#[test]
fn rule_5_a_late_refusal_of_what_is_queued_again_ends_nothing() {
    let mut bench = Bench::new();
    bench.rules.in_flight_max = 0;
    let a = bench.restore_doubt(None);
    let seq = bench.seq(a);
    bench.list(&[]);
    bench.wait(BOUND);
    bench.list(&[]);
    bench.answer_to(a, seq, Outcome::Refused("NO".into()));
    assert!(bench.told(a).iter().all(|told| !matches!(told, Told::Refused(_))));
    assert!(!bench.lane.is_idle(), "it is sent again");
}

#[test]
fn rule_7_the_report_comes_with_any_answer_also_for_an_intent_placed_from_a_list() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    let seq = bench.seq(a);
    bench.feed(Event::Answered { intent: a, seq, outcome: lost(), left: None });
    bench.list(&[1]);
    bench.answer_to(a, seq, created(1));
    bench.wait(BOUND);
    assert!(bench.lane.is_idle(), "settled");
}

#[test]
fn rule_10_a_lane_that_was_held_comes_back_held() {
    let bench = Bench::new();
    let why = Some("more orders than attempts in doubt".into());
    let (lane, _) = Lane::rehydrate(&bench.rules, &[], why, bench.now, bench.now);
    let mut bench = Bench { lane, ..bench };
    let a = bench.submit("x");
    assert!(matches!(bench.told(a)[..], [Told::LaneHeld(_)]));
    assert!(!bench.lane.is_idle(), "it stays awake to say so");
}

#[test]
fn rule_10_hold_and_its_end_are_durable() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    bench.list(&[1, 2]);
    let held = |e: &Effect| matches!(e, Effect::Write(Write::HoldLane { .. }));
    assert_eq!(bench.seen.iter().filter(|e| held(e)).count(), 1);
    bench.feed(Event::Freed);
    assert!(bench.seen.contains(&Effect::Write(Write::FreeLane)));
}

#[test]
fn rule_10_a_permit_that_comes_once_the_lane_is_held_is_given_back() {
    let why = Some("more orders than attempts in doubt".into());
    let bench = Bench::new();
    let queued = Restored {
        intent: Serial(50),
        delivered: digest("x"),
        good_until: bench.now.plus(MIN),
        tries: 0,
        state: State::Queued,
        last_attempt: None,
        unsettled: false,
        unreported: false,
    };
    let (lane, effects) = Lane::rehydrate(&bench.rules, &[queued], why, bench.now, bench.now);
    assert_eq!(effects, [], "no permit is asked for");
    let mut bench = Bench { lane, ..bench };
    let attempt = bench.attempt();
    bench.feed(Event::Permitted { intent: Serial(50), attempt });
    assert_eq!(bench.seen, [Effect::ReturnPermit { intent: Serial(50) }]);
}

#[test]
fn rule_10_what_was_queued_before_the_hold_is_not_sent() {
    let mut bench = Bench::new();
    bench.rules.in_flight_max = 1;
    let a = bench.submit("x");
    bench.submit("x");
    bench.slow = true;
    bench.answer(a, lost());
    bench.slow = false;
    // The doubt and the hold come before a permit for the second.
    bench.lane.hold = Some("held".into());
    bench.sync_one();
    assert_eq!(bench.sends(), 1);
}

#[test]
fn rule_12_a_late_look_reaches_back_to_the_floor_of_what_was_released() {
    let mut bench = Bench::new();
    let floor = Some(Timestamp::UNIX_EPOCH);
    let a = bench.restore_doubt(floor);
    bench.list(&[]);
    bench.wait(BOUND);
    bench.list(&[]);
    assert!(bench.seen.contains(&Effect::Released { intent: a, floor }));
}

#[test]
fn rule_12_giving_up_is_watched_for_late_landings_too() {
    let mut bench = Bench::new();
    bench.rules.tries_max = 1;
    let a = bench.submit("x");
    bench.answer(a, lost());
    bench.list(&[]);
    bench.wait(BOUND);
    bench.list(&[]);
    assert!(matches!(bench.told(a).last(), Some(Told::NotPlaced(_))));
    assert!(bench.seen.contains(&Effect::Released { intent: a, floor: None }));
}

#[test]
fn rule_13_a_younger_order_does_not_overtake_one_that_must_wait() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    let b = bench.submit("y");
    bench.submit("x");
    assert_eq!(bench.sends(), 1, "else the second might wait for ever");
    bench.answer(a, created(1));
    bench.answer(b, created(2));
    assert_eq!(bench.sends(), 3);
}

#[test]
fn twenty_thousand_identical_orders_at_once_are_cheap() {
    let mut bench = Bench::new();
    let orders: Vec<_> = (0..20_000).map(|_| bench.submit("x")).collect();
    assert_eq!(bench.sends(), 512);
    for (n, intent) in orders.iter().enumerate() {
        bench.answer(*intent, created(n as u64));
    }
    assert_eq!(bench.sends(), 20_000);
    assert!(bench.lane.is_idle() && bench.lane.index_agrees());
}

#[test]
fn rule_7_a_report_that_comes_after_a_rebuild_counts_if_it_is_the_later_moment() {
    let mut bench = Bench::new();
    let a = bench.restore_doubt(None);
    bench.list(&[]);
    // The lane supposes that the gate has yielded by now; its task was stopped, and reports later.
    bench.wait(10 * MIN);
    bench.answer(a, lost());
    bench.list(&[]);
    bench.wait(BOUND - 10 * MIN);
    bench.list(&[]);
    let released =
        |bench: &Bench| bench.seen.iter().filter(|e| matches!(e, Effect::Released { .. })).count();
    assert_eq!(released(&bench), 0, "a landing bound after the report it is settled, not before");
    bench.wait(10 * MIN);
    bench.list(&[]);
    assert_eq!(released(&bench), 1);
}
