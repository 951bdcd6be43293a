//! How far back a list must reach for the next attempt, and what lowers it: who was open with whom.

use super::*;

const BOUND: Duration = Duration::from_secs(16 * 60);

const ALL: Option<Reach> = Some(Reach { since: None, fingerprint: Fingerprint(1) });

/// In doubt, and its task never reports: no list releases it.
fn loses_without_report(bench: &mut Bench, intent: IntentId) {
    let seq = bench.seq(intent);
    bench.feed(Event::Answered { intent, seq, outcome: lost(), left: None });
}

/// The floor with which the next attempt is recorded.
fn next_floor(mut bench: Bench) -> Option<Timestamp> {
    bench.floor = at(500);
    bench.submit("x");
    recorded_floor(&bench)
}

/// A has ended; B, which was open with it, stays in doubt.
fn a_has_ended_and_b_has_not(end: impl Fn(&mut Bench, IntentId)) -> Bench {
    let mut bench = Bench::new();
    bench.floor = at(100);
    let a = bench.submit("x");
    bench.floor = at(200);
    let b = bench.submit("x");
    loses_without_report(&mut bench, b);
    end(&mut bench, a);
    bench
}

#[test]
fn a_proof_that_nothing_older_is_to_come_raises_the_floor() {
    let since = |second| Some(Reach { since: at(second), fingerprint: Fingerprint(1) });
    let other_key = Some(Reach { since: None, fingerprint: Fingerprint(2) });
    for (waited, proof, near, floor, why) in [
        (BOUND, ALL, None, 200, "complete, and requested when A's POST was settled"),
        (BOUND, since(100), None, 200, "it reaches back to A's floor"),
        (BOUND, since(101), None, 100, "A's order can be older"),
        (BOUND, other_key, None, 100, "fetched with another key"),
        (BOUND, None, None, 100, "not complete"),
        (BOUND, ALL, Some(9), 100, "a row may be A's, and cannot be told"),
        (BOUND - Duration::from_nanos(1), ALL, None, 100, "A's order may come yet"),
    ] {
        let mut bench = a_has_ended_and_b_has_not(|bench, a| bench.answer(a, created(1)));
        bench.list(&[]);
        bench.wait(waited);
        bench.list_none(proof, near);
        assert_eq!(next_floor(bench), at(floor), "{why}");
    }
}

#[test]
fn what_is_to_come_counts_from_the_end_not_from_the_meeting() {
    let mut bench = a_has_ended_and_b_has_not(|bench, a| {
        bench.wait(BOUND);
        bench.answer(a, created(1));
        bench.list(&[]);
    });
    bench.wait(MIN);
    bench.list_none(ALL, None);
    assert_eq!(next_floor(bench), at(100), "A has ended a minute ago");
}

#[test]
fn the_post_of_one_placed_from_a_list_must_be_settled_too() {
    for (reports, floor) in [(true, 200), (false, 100)] {
        let mut bench = a_has_ended_and_b_has_not(|bench, a| {
            match reports {
                true => bench.answer(a, lost()),
                false => loses_without_report(bench, a),
            }
            bench.list(&[1]);
            assert_eq!(bench.placed_with(a), Some(order(1)));
        });
        bench.wait(BOUND);
        bench.list_none(ALL, None);
        assert_eq!(next_floor(bench), at(floor), "reports: {reports}");
    }
}

#[test]
fn a_proof_is_for_all_who_were_sent_with_its_key() {
    for (key, floor) in [(1, 300), (2, 100)] {
        let mut bench = Bench::new();
        let doubts: Vec<_> = [(100, 1), (200, key)]
            .into_iter()
            .map(|(floor, key)| {
                let (seq, fingerprint) = (bench.serial(), Fingerprint(key));
                let attempt = Attempt { seq, fingerprint, floor: at(floor) };
                bench.stored(attempt, State::InDoubt(attempt, "timeout".into()))
            })
            .collect();
        bench.rehydrate(&doubts);
        bench.floor = at(300);
        let c = bench.submit("x");
        loses_without_report(&mut bench, c);
        bench.answer(doubts[0].intent, created(1));
        bench.answer(doubts[1].intent, created(2));
        bench.list(&[]);
        bench.wait(BOUND);
        bench.list_none(ALL, None);
        assert_eq!(next_floor(bench), at(floor), "the second was sent with key {key}");
    }
}
