//! Rules that the simulation found broken.

use super::*;

const BOUND: Duration = Duration::from_secs(16 * 60);

#[test]
fn rule_9_a_list_reaches_back_to_the_posts_of_intents_placed_from_a_list() {
    let at = |second| Some(Timestamp::from_second(second).expect("a moment"));
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
    let since = bench.seen.iter().rev().find_map(|effect| match effect {
        Effect::List { since, .. } => Some(*since),
        _ => None,
    });
    assert_eq!(since, Some(at(100)), "A's own order is older than B's attempt");
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
    };
    let hold = Some("more orders than attempts in doubt".into());
    let (_, effects) = Lane::rehydrate(&bench.rules, &[restored], hold, bench.now, bench.now);
    let is_held = |effect: &Effect| {
        matches!(effect, Effect::Write(Write::Decide { verdict: Verdict::Held(_), .. }))
    };
    assert!(effects.iter().any(is_held), "a crash came before it was written");
}
