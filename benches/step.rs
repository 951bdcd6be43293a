//! The pure core alone: what one order costs in `Lane::step`, beside what a map costs that only
//! remembers the order and forgets it again.
//!
//! ```text
//! cargo bench --bench step
//! ```

#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use order_router::protocol::lane::{Candidate, Event, Lane, ListView, Reach, Rules, Written};
use order_router::protocol::{Attempt, Fingerprint, Moment, Outcome, Serial};
use order_router::{Item, ItemsDigest, OrderId};

const ORDERS: u64 = 200_000;
const ROUNDS: usize = 5;

fn main() {
    println!("what                                    ns an order   x map");
    let map = median(remembered);
    println!("a map: insert and remove                {map:>11.0}   {:>5.1}", 1.0);
    for (name, others) in [("placed at once, an empty lane", 0), ("placed, 100 others open", 100)] {
        let ns = median(|| placed(others));
        println!("{name:<38}  {ns:>11.0}   {:>5.1}", ns / map);
    }
    let ns = median(doubted);
    println!("in doubt, then claimed from a list      {ns:>11.0}   {:>5.1}", ns / map);
}

fn median(mut run: impl FnMut() -> f64) -> f64 {
    let mut times: Vec<_> = (0..ROUNDS).map(|_| run()).collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn remembered() -> f64 {
    let mut map = BTreeMap::new();
    timed(|n| {
        map.insert(n, digest());
        black_box(map.remove(&n));
    })
}

fn timed(mut each: impl FnMut(u64)) -> f64 {
    let begun = Instant::now();
    for n in 1..=ORDERS {
        each(n);
    }
    begun.elapsed().as_nanos() as f64 / ORDERS as f64
}

fn digest() -> ItemsDigest {
    thread_local! {
        static DIGEST: ItemsDigest =
            ItemsDigest::delivered(&[Item::new("item", 1).expect("an item")], false);
    }
    DIGEST.with(|digest| *digest)
}

fn attempt(seq: u64) -> Attempt {
    Attempt { seq: Serial(seq), fingerprint: Fingerprint(1), floor: None }
}

const LATER: Duration = Duration::from_secs(3600);

/// A lane with so many orders on the wire.
fn lane(rules: &Rules, open: u64) -> Lane {
    let mut lane = Lane::default();
    for n in 0..open {
        submit(&mut lane, rules, n + 1);
    }
    lane
}

fn submit(lane: &mut Lane, rules: &Rules, n: u64) {
    let event = Event::Submitted {
        intent: Serial(n),
        delivered: digest(),
        good_until: Moment::ORIGIN.plus(LATER),
        permit: Some(attempt(n)),
    };
    black_box(lane.step(rules, event, Moment::ORIGIN));
    done(lane, rules, n);
}

fn done(lane: &mut Lane, rules: &Rules, n: u64) {
    let event = Event::Written { intent: Serial(n), written: Written::Done };
    black_box(lane.step(rules, event, Moment::ORIGIN));
}

fn answer(lane: &mut Lane, rules: &Rules, n: u64, outcome: Outcome) {
    let left = Some(Moment::ORIGIN);
    let event = Event::Answered { intent: Serial(n), seq: Serial(n), outcome, left };
    black_box(lane.step(rules, event, Moment::ORIGIN));
    done(lane, rules, n);
}

fn placed(others: u64) -> f64 {
    let rules = Rules::default();
    let mut lane = lane(&rules, others);
    let id = OrderId::new("5f0c1c1e-9d1e-4b39-a1f3-2f6a1f5b7c11").expect("an id");
    timed(|n| {
        let n = n + others;
        submit(&mut lane, &rules, n);
        let outcome = Outcome::Created { id: id.clone(), created_at: None };
        answer(&mut lane, &rules, n, outcome);
    })
}

fn doubted() -> f64 {
    let rules = Rules { landing_bound: Some(Duration::ZERO), ..Rules::default() };
    let mut lane = Lane::default();
    let id = OrderId::new("5f0c1c1e-9d1e-4b39-a1f3-2f6a1f5b7c11").expect("an id");
    let mut ask = 0;
    timed(|n| {
        submit(&mut lane, &rules, n);
        answer(&mut lane, &rules, n, Outcome::Unknown("timeout".into()));
        ask += 1;
        let candidates =
            vec![Candidate { id: id.clone(), created_at: jiff::Timestamp::UNIX_EPOCH }];
        let proof = Some(Reach { since: None, fingerprint: Fingerprint(1) });
        let view = ListView { ask, candidates, proof, near_miss: None };
        black_box(lane.step(&rules, Event::Listed(view), Moment::ORIGIN));
        done(&mut lane, &rules, n);
        // Its own POST is settled a wire bound later: forget it, or the lane grows.
        black_box(lane.step(&rules, Event::Woke, Moment::ORIGIN.plus(LATER)));
    })
}
