//! A process that stands still for longer than its send window, or than its landing bound.

use std::time::{Duration, Instant};

use order_router::simulator::Faults;
use rustix::process::{Signal, kill_process};

use super::world::{
    LANDING_BOUND, Process, REQUEST_TIMEOUT, Replay, SEND_WINDOW, Tally, World, faults, pass,
    setting,
};

/// Orders in one run.
const ORDERS: usize = 150;
/// Pauses of one run at most.
const PAUSES_PER_RUN: u64 = 8;

/// Stops a run at random moments, `pauses` times in all, over as many runs as that takes.
fn pauses(seed: u64, pauses: u64, tally: &mut Tally) {
    let slow = Faults { latency: Duration::from_millis(25), ..faults() };
    let mut world = World::new(seed, slow);
    while tally.rounds < pauses {
        let batch = world.batch(ORDERS, 5);
        let mut child = Process::start(&mut world.submit(&batch));
        let pid = child.pid();
        for _ in 0..PAUSES_PER_RUN.min(pauses - tally.rounds) {
            pass(Duration::from_millis(world.dice.u64(20..400)));
            let long = world.dice.u8(0..3) == 0;
            // Longer than everything that the process had in mind when it was stopped.
            let bound = REQUEST_TIMEOUT + REQUEST_TIMEOUT + LANDING_BOUND;
            let span = if long { bound } else { SEND_WINDOW };
            if child.has_ended() {
                break;
            }
            kill_process(pid, Signal::STOP).expect("a child can be stopped");
            pass(span + Duration::from_millis(world.dice.u64(50..300)));
            kill_process(pid, Signal::CONT).expect("a child can go on");
            tally.rounds += 1;
            tally.fire(if long { "longer than the landing bound" } else { "than the send window" });
        }
        let status = child.wait();
        world.ended_well(status, None, &[0]);
        world.compare();
    }
    world.end();
    tally.orders += world.orders();
}

#[test]
fn a_process_that_is_stopped_for_longer_than_its_bounds_buys_nothing_twice() {
    let begun = Instant::now();
    let mut tally = Tally::default();
    pauses(1, 3, &mut tally);
    tally.print("pauses, short", begun);
}

#[test]
#[ignore = "long: just torture pauses"]
fn pauses_long() {
    let (seed, rounds) = (setting("TORTURE_SEED", 1), setting("TORTURE_ROUNDS", 100));
    let _replay = Replay { part: "pauses", seed, rounds };
    let begun = Instant::now();
    let mut tally = Tally::default();
    pauses(seed, rounds, &mut tally);
    tally.print("pauses", begun);
}
