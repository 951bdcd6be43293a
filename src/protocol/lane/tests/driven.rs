//! What whoever drives a lane asks of it: when it wakes, what is open, how an order stands.

use super::*;

const BOUND: Duration = Duration::from_secs(16 * 60);

impl Bench {
    fn wakes_in(&self) -> Option<Duration> {
        self.lane.wakes_at(&self.rules).map(|at| at.since(self.now))
    }
}

#[test]
fn a_lane_that_only_waits_for_answers_does_not_wake() {
    let mut bench = Bench::new();
    assert_eq!(bench.wakes_in(), None, "it is empty");
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    assert_eq!(bench.wakes_in(), None, "POSTs are under way");
    bench.answer(a, lost());
    assert_eq!(bench.wakes_in(), None, "a list is under way");
    bench.list(&[]);
    assert_eq!(bench.wakes_in(), None, "the list waits for an attempt in flight");
    bench.answer(b, lost());
    assert_eq!(bench.wakes_in(), Some(bench.rules.look_again_min));
    bench.wait(bench.rules.look_again_min);
    bench.list(&[1, 2, 3]);
    assert!(bench.lane.hold().is_some());
    assert_eq!(bench.wakes_in(), None, "it waits for a person");
}

#[test]
fn a_lane_wakes_for_the_order_that_is_too_late_first() {
    let mut bench = Bench::new();
    bench.rules.in_flight_max = 0;
    bench.submit("x");
    bench.wait(MIN);
    bench.submit("x");
    assert_eq!(bench.wakes_in(), Some(599 * MIN));
    bench.wait(599 * MIN);
    assert_eq!(bench.wakes_in(), Some(MIN));
}

#[test]
fn a_lane_wakes_when_the_post_of_an_order_placed_from_a_list_settles() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    bench.wait(MIN);
    bench.list(&[1]);
    assert_eq!(bench.wakes_in(), Some(BOUND - MIN));
}

#[test]
fn a_lane_looks_again_after_pauses_that_double_and_when_something_settles() {
    let mut bench = Bench::new();
    let a = bench.submit("x");
    bench.answer(a, lost());
    let started = bench.now;
    let mut pauses = Vec::new();
    loop {
        bench.list(&[]);
        if bench.sends() == 2 {
            break;
        }
        let pause = bench.wakes_in().expect("it wakes");
        pauses.push(pause.as_secs());
        bench.wait(pause);
        assert!(pause > Duration::ZERO && bench.now.since(started) <= BOUND, "{pauses:?}");
    }
    assert_eq!(pauses[..8], [2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(bench.now.since(started), BOUND, "released by a list at the very moment");
}

#[test]
fn attempts_are_counted_until_the_verdict_on_them_is_durable() {
    let mut bench = Bench::new();
    let counts = |bench: &Bench| (bench.lane.open_attempts(), bench.lane.doubts_count());
    assert_eq!(counts(&bench), (0, 0));
    let (a, b) = (bench.submit("x"), bench.submit("x"));
    assert_eq!(counts(&bench), (2, 0));
    bench.answer(a, lost());
    bench.answer(b, lost());
    assert_eq!(counts(&bench), (2, 2));
    bench.slow = true;
    bench.answer(a, created(1));
    assert_eq!(counts(&bench), (2, 2), "being written");
    bench.answer(b, created(2));
    assert_eq!(counts(&bench), (2, 2), "both are");
    bench.sync_one();
    assert_eq!(counts(&bench), (1, 1));
    bench.sync_one();
    assert_eq!(counts(&bench), (0, 0));
}

#[test]
fn who_asks_later_is_told_how_an_order_stands() {
    let mut bench = Bench { slow: true, ..Bench::new() };
    let a = bench.submit("x");
    let stands = |bench: &Bench| bench.lane.standing(a);
    assert_eq!(bench.lane.standing(Serial(99)), None, "it has no such order");
    assert_eq!(stands(&bench), Some(Told::Accepted));
    bench.sync_one();
    assert_eq!(stands(&bench), Some(Told::Accepted), "it is being sent");
    bench.answer(a, lost());
    assert_eq!(stands(&bench), Some(Told::Accepted), "its doubt is being written");
    bench.sync_one();
    assert_eq!(stands(&bench), Some(Told::InDoubt));
    bench.list(&[]);
    bench.wait(BOUND);
    bench.list_as(bench.ask(), &[], Some(9));
    assert_eq!(stands(&bench), Some(Told::InDoubt), "that it is held is being written");
    bench.sync_one();
    assert!(matches!(stands(&bench), Some(Told::Held(_))));
    bench.answer(a, created(1));
    bench.sync_one();
    assert_eq!(stands(&bench), None, "it has ended");
}
