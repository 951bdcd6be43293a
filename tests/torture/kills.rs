//! SIGKILL at random moments, and death at every named point between durable steps.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use order_router::simulator::{Faults, PostFault};
use order_router::testing::{
    COMPACTION_POINTS, CRASH_AT, CRASH_POINTS, LIMIT_POINTS, MIGRATION_POINTS, RESTORE_POINTS,
};

use super::world::{Process, Replay, Tally, World, faults, pass, setting};

/// Rounds on one data directory, before a fresh one is begun.
const ROUNDS_PER_DIRECTORY: u64 = 25;
/// Longer than results wait in memory before they are in the file.
const STANDS_STILL_MS: u64 = 160;
/// SIGABRT and SIGKILL.
const ABORT: i32 = 6;
const KILL: i32 = 9;

/// How a round's process dies.
enum Death {
    /// At a crash point.
    At(&'static str),
    /// By SIGKILL, so long after its start.
    After(Duration),
}

/// Only a start on a new data directory comes by these.
fn is_of_a_new_store(point: &str) -> bool {
    point.starts_with("store.") || point.starts_with("history.")
}

/// What the supplier does to the next POSTs, so that the process comes by the point.
fn script(point: &str) -> Vec<Option<PostFault>> {
    let withheld = Some(PostFault::WithheldAfterCreation);
    let never = Some(PostFault::WithheldNeverCreated);
    match point.split('.').next().unwrap_or_default() {
        "not_sent" => vec![Some(PostFault::RateLimited429)],
        "doubt" | "claim" => vec![withheld; 2],
        "release" => vec![never; 2],
        // The process lives on until the second is released and bought: the first settles.
        "settle" => vec![withheld, never, withheld, never],
        "post" if point == "post.late_answer" => vec![Some(PostFault::CreatedLate); 2],
        _ => Vec::new(),
    }
}

/// How often a process passes a point, about, before it has done everything.
fn times_passed(point: &str) -> u64 {
    match point.split('.').next().unwrap_or_default() {
        // Once in a start, if at all.
        "store" | "recover" | "rebuild" | "start" | "history" => 1,
        "journal" => 8,
        "accept" | "answer" | "post" | "list" => 5,
        _ => 2,
    }
}

/// One round: a batch, a death.
fn round(world: &mut World, death: &Death, tally: &mut Tally) {
    tally.rounds += 1;
    let batch = world.batch(6, 3);
    if let Death::At(point) = death {
        let script = script(point).into();
        world.supplier.set_faults(Faults { script, ..faults() }).expect("they are valid");
        if point.starts_with("rebuild.") {
            std::fs::write(world.data.join("index.damaged"), "").expect("the directory is there");
        }
        if point.starts_with("recover.unborn") {
            // A process that dies before a new segment has its header leaves one.
            if !die_at(world, &batch, ("segment.created", 1, 0), tally) {
                return tally.miss(point);
            }
        }
    }
    match death {
        Death::At(point) => {
            let nth = world.dice.u64(1..=times_passed(point));
            // Every second time the thread stands still before it dies, long enough for the others
            // to tell and to send what they may not yet.
            let unsynced = matches!(*point, "journal.appending" | "journal.appended");
            let still = if unsynced || world.dice.bool() { STANDS_STILL_MS } else { 0 };
            die_at(world, &batch, (point, nth, still), tally);
        }
        Death::After(span) => {
            let mut child = Process::start(&mut world.submit(&batch));
            pass(*span);
            // One that has ended already is reaped all the same.
            child.kill();
            let status = child.wait();
            world.ended_well(status, Some(KILL), &[0]);
            match status.code() {
                None => tally.fire("SIGKILL"),
                Some(_) => tally.miss("SIGKILL"),
            }
            world.compare();
        }
    }
}

/// Runs until the process dies at a point, or has done everything without coming by it.
fn die_at(
    world: &mut World,
    batch: &Path,
    (point, nth, still): (&str, u64, u64),
    tally: &mut Tally,
) -> bool {
    let mut command = world.submit(batch);
    let command = command.env(CRASH_AT, format!("{point}:{nth}:{still}"));
    let mut child = Process::start(command);
    let status = child.wait();
    world.ended_well(status, Some(ABORT), &[0]);
    let died = status.code().is_none();
    assert_eq!(died, world.said().contains(&format!("crash point {point}\n")), "{point}");
    if died {
        tally.fire(point)
    } else {
        tally.miss(point)
    }
    world.compare();
    died
}

/// These orders are paid when they are created: tests of the command die where others are paid.
fn is_of_a_payment(point: &str) -> bool {
    ["pay.", "pay_", "paid.", "unpaid."].iter().any(|of| point.starts_with(of))
}

/// Gives out the deaths of all rounds: each point as often as any other.
#[derive(Default)]
struct Deaths {
    at_start: AtomicUsize,
    later: AtomicUsize,
}

impl Deaths {
    fn next(turn: &AtomicUsize, of: impl Fn(&str) -> bool) -> &'static str {
        let points: Vec<_> = CRASH_POINTS.iter().filter(|point| of(point)).collect();
        points[turn.fetch_add(1, Ordering::Relaxed) % points.len()]
    }

    fn draw(&self, world: &mut World, number: u64) -> Death {
        match number {
            0 => Death::At(Self::next(&self.at_start, is_of_a_new_store)),
            _ if world.dice.u8(0..4) == 0 => {
                Death::After(Duration::from_millis(world.dice.u64(5..700)))
            }
            _ => {
                let later = |point: &str| !is_of_a_new_store(point) && !is_of_a_payment(point);
                Death::At(Self::next(&self.later, later))
            }
        }
    }
}

/// Rounds on one data directory, then its end.
fn directory(seed: u64, deaths: &[Death], draw: Option<(&Deaths, u64)>, tally: &mut Tally) {
    let mut world = World::new(seed, faults());
    for death in deaths {
        round(&mut world, death, tally);
    }
    if let Some((deaths, rounds)) = draw {
        for number in 0..rounds {
            let death = deaths.draw(&mut world, number);
            round(&mut world, &death, tally);
        }
    }
    world.end();
    tally.orders += world.orders();
}

#[test]
fn purchases_survive_deaths_at_crash_points_and_are_bought_exactly_once() {
    let begun = Instant::now();
    let mut tally = Tally::default();
    let points = [
        "store.segment_made",
        "history.drawn",
        "journal.appending",
        "journal.appended",
        "recover.unborn_found",
        "post.recorded",
        "post.answered",
        "rebuild.old_aside",
        "claim.writing",
        "index.flushed",
        "release.durable",
        "recover.rewritten",
    ];
    let mut deaths: Vec<_> = points.map(Death::At).into();
    deaths.push(Death::After(Duration::from_millis(120)));
    directory(1, &deaths, None, &mut tally);
    tally.print("kills, short", begun);
    let fired = points.iter().filter(|point| tally.fired.contains_key(**point)).count();
    assert!(fired + 2 >= points.len(), "points that nobody came by: {:?}", tally.missed);
}

#[test]
#[ignore = "long: just torture kills"]
fn kills_long() {
    let (seed, rounds) = (setting("TORTURE_SEED", 1), setting("TORTURE_ROUNDS", 1_000));
    let _replay = Replay { part: "kills", seed, rounds };
    let begun = Instant::now();
    let (deaths, all) = (Deaths::default(), Mutex::new(Tally::default()));
    let next = AtomicUsize::new(0);
    let directories = rounds.div_ceil(ROUNDS_PER_DIRECTORY);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed) as u64;
            if number >= directories {
                return;
            }
            let mut tally = Tally::default();
            let left = (rounds - number * ROUNDS_PER_DIRECTORY).min(ROUNDS_PER_DIRECTORY);
            directory(seed + number, &[], Some((&deaths, left)), &mut tally);
            let mut all = all.lock().expect("the other thread has not failed");
            all.rounds += tally.rounds;
            all.orders += tally.orders;
            for (name, count) in tally.fired {
                *all.fired.entry(name).or_default() += count;
            }
            for (name, count) in tally.missed {
                *all.missed.entry(name).or_default() += count;
            }
            println!("{} of {rounds} rounds, {:?}", all.rounds, begun.elapsed());
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let tally = all.into_inner().expect("no thread has failed");
    tally.print("kills", begun);
    if rounds >= 1_000 {
        let hit = |point: &&&str| tally.fired.contains_key(**point) || is_of_a_payment(point);
        let never: Vec<_> = CRASH_POINTS.iter().filter(|point| !hit(point)).collect();
        assert!(never.is_empty(), "crash points that were never hit: {never:?}");
    }
}

/// Every point of the table stands in the code once at least, and the code has no other.
#[test]
fn crash_points_are_those_of_the_table() {
    let mut found = BTreeSet::new();
    let mut left = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).expect("src").map(|e| e.expect("src").path()));
            continue;
        }
        let source = std::fs::read_to_string(&path).expect("source");
        if path.ends_with("src/crash.rs") {
            // The points of a lane's changes are chosen there.
            let body = source.split("mod change").nth(1).expect("the module of changes");
            found.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
        } else {
            let calls = source.split("crash::point(\"").skip(1);
            found.extend(calls.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    let all = CRASH_POINTS.iter().chain(LIMIT_POINTS).chain(MIGRATION_POINTS).chain(RESTORE_POINTS);
    let all = all.chain(COMPACTION_POINTS);
    let table: BTreeSet<_> = all.clone().map(|name| (*name).to_owned()).collect();
    assert_eq!(table.len(), all.count(), "a point is twice in the table");
    assert_eq!(table, found);
}
