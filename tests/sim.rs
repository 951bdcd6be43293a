//! The whole router under a simulated supplier, disk, clock and schedule: one process, one thread,
//! one seed.
//!
//! `SIM_SEED=n cargo test --test sim one_seed` replays a seed and prints what happened.

#[path = "sim/clock.rs"]
mod clock;
#[path = "sim/oracle.rs"]
mod oracle;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/store.rs"]
mod store;
#[path = "sim/supplier.rs"]
mod supplier;
#[path = "sim/world.rs"]
mod world;

use run::run;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    for seed in 0..20 {
        let (first, second) = (run(seed, None, true), run(seed, None, true));
        let differs = first.log.iter().zip(&second.log).find(|(a, b)| a != b);
        assert_eq!(first.hash, second.hash, "seed {seed}: {differs:?}");
    }
    assert_ne!(run(1, None, false).hash, run(2, None, false).hash);
}

#[test]
fn one_seed() {
    let Ok(seed) = std::env::var("SIM_SEED") else { return };
    let ran = run(seed.parse().expect("a number"), None, true);
    for line in &ran.log {
        println!("{line}");
    }
    println!("seed {seed}: {} lives, {} events, trace {:016x}", ran.lives, ran.events, ran.hash);
    assert_eq!(ran.violation, None);
}

#[test]
fn many_seeds() {
    let (from, count) = (number("SIM_FROM", 0), number("SIM_SEEDS", 1000));
    let threads = number("SIM_THREADS", 2).max(1);
    let workers: Vec<_> = (0..threads)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                let (mut lives, mut events) = (0, 0);
                for seed in (from + thread..from + count).step_by(usize::try_from(threads).unwrap()) {
                    let ran = run(seed, None, false);
                    lives += u64::from(ran.lives);
                    events += ran.events;
                    if let Some(what) = ran.violation {
                        println!("seed {seed}: {what}\n  replay: SIM_SEED={seed} cargo test --all-features --test sim one_seed -- --nocapture");
                        failed.push(seed);
                    }
                }
                (failed, lives, events)
            })
        })
        .collect();
    let (mut failed, mut lives, mut events) = (Vec::new(), 0, 0);
    for worker in workers {
        let (f, l, e) = worker.join().expect("a worker");
        failed.extend(f);
        lives += l;
        events += e;
    }
    println!("{count} seeds from {from}: {lives} lives, {events} events, {} failed", failed.len());
    assert!(failed.is_empty(), "failed seeds: {failed:?}");
}
