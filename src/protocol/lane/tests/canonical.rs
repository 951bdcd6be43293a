//! What a model checker is given: a lane that is moved in time, and what it keeps.

use super::*;

#[test]
fn a_lane_that_is_moved_to_another_time_wakes_as_much_later() {
    let base = Moment::after_origin(30 * MIN);
    let end = Moment::after_origin(Duration::MAX);
    for (good_until, wakes) in [(180 * MIN, Some(base.plus(80 * MIN))), (Duration::MAX, Some(end))]
    {
        let mut bench = Bench { now: Moment::after_origin(100 * MIN), ..Bench::new() };
        bench.rules.in_flight_max = 0;
        let (intent, good_until) = (bench.serial(), Moment::after_origin(good_until));
        let delivered = digest("x");
        bench.feed(Event::Submitted { intent, delivered, good_until, permit: None });
        let moved = bench.lane.rebased(&bench.rules, bench.now, base);
        assert_eq!(moved.wakes_at(&bench.rules), wakes, "the end of time stays where it is");
    }
}

#[test]
fn a_list_is_kept_until_it_is_used_up() {
    let mut bench = Bench::new();
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    bench.answer(a, lost());
    assert!(!bench.lane.keeps_a_list(), "it has not come");
    bench.list(&[]);
    assert!(bench.lane.keeps_a_list(), "it waits for an attempt in flight");
    bench.answer(b, created(1));
    assert!(!bench.lane.keeps_a_list());
}

#[test]
fn a_lane_with_nothing_left_is_as_new() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    bench.list(&[]);
    bench.answer(a, created(1));
    assert!(bench.lane.is_idle());
    let rules = Rules { look_again_max: bench.rules.look_again_min, ..bench.rules };
    assert_eq!(bench.lane.rebased(&rules, bench.now, bench.now), Lane::default());
}
