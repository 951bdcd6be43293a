//! A disk that fails: EIO and ENOSPC out of one system call, injected with strace.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::cuts::tool;
use super::world::{Process, Replay, Tally, World, faults, pass, setting};

/// What fails, with what. `files`: only on the store's own files, because the loader of the
/// program makes such calls as well.
struct Failure {
    call: &'static str,
    error: &'static str,
    files: bool,
}

const fn failure(call: &'static str, error: &'static str) -> Failure {
    Failure { call, error, files: false }
}

const FAILURES: [Failure; 13] = [
    failure("fdatasync", "EIO"),
    failure("fdatasync", "ENOSPC"),
    failure("fsync", "EIO"),
    failure("pwrite64", "ENOSPC"),
    failure("pwrite64", "EIO"),
    failure("ftruncate", "EIO"),
    failure("sync_file_range", "EIO"),
    failure("rename", "EIO"),
    failure("rename", "ENOSPC"),
    failure("unlink", "EIO"),
    failure("statfs,fstatfs", "EIO"),
    Failure { call: "pread64", error: "EIO", files: true },
    Failure { call: "openat", error: "ENOSPC", files: true },
];

/// The store's files, and the segment that comes next.
fn files(data: &Path) -> Vec<String> {
    let segments = std::fs::read_dir(data.join("journal")).map_or(0, Iterator::count);
    let names = (1..=segments + 1).map(|n| format!("journal/{n:016}.seg"));
    let names = names.chain(["index/db".to_owned(), "format".to_owned()]);
    names.map(|name| data.join(name).display().to_string()).collect()
}

/// The words before the command, so that a call fails: the `when`-th of a thread, and with `ever`
/// all after it as well.
fn strace(world: &World, failure: &Failure, when: u64, ever: bool) -> Vec<String> {
    let Failure { call, error, .. } = failure;
    let log = world.path("strace.txt").display().to_string();
    let more = if ever { "+" } else { "" };
    let mut words: Vec<String> = ["strace", "-f", "-qq", "-o", &log].map(str::to_owned).into();
    words.extend(["-e".into(), format!("trace={call}")]);
    words.extend(["-e".into(), format!("inject={call}:error={error}:when={when}{more}")]);
    if failure.files {
        words.extend(files(&world.data).into_iter().flat_map(|file| ["-P".into(), file]));
    }
    words
}

/// Runs once under a failing disk. How often it failed.
pub fn run_failing(world: &mut World, number: usize, when: u64, ever: bool) -> (String, u64) {
    let failure = &FAILURES[number % FAILURES.len()];
    let Failure { call, error, .. } = failure;
    let batch = world.batch(8, 3);
    if matches!(*call, "rename" | "unlink") && world.data.exists() {
        // Files are renamed and removed where the index is written anew.
        std::fs::write(world.data.join("index.damaged"), "").expect("a file");
    }
    let words = strace(world, failure, when, ever);
    let mut child = Process::start(&mut world.submit_under(&words, &batch));
    let status = child.wait();
    let said = world.said();
    world.ended_well(status, None, &[0, 2, 3]);
    assert!(status.signal().is_none());
    // 2: every line was told of, some orders are in doubt.
    if status.code() == Some(3) {
        for part in ["error: ", "\n  bought: ", "\n  to do: "] {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
    }
    let log = std::fs::read(world.path("strace.txt")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let fired = log.lines().filter(|line| line.contains("(INJECTED)")).count() as u64;
    world.compare();
    (format!("{call} {error}"), fired)
}

/// Every failure in turn, at random moments.
fn injections(seed: u64, rounds: u64, tally: &mut Tally) {
    let mut world = World::new(seed, faults());
    for number in 0..rounds {
        tally.rounds += 1;
        let often =
            matches!(FAILURES[number as usize % FAILURES.len()].call, "fdatasync" | "pwrite64");
        let when = world.dice.u64(1..=if often { 12 } else { 2 });
        let ever = world.dice.bool();
        let (name, fired) = run_failing(&mut world, number as usize, when, ever);
        if fired > 0 {
            tally.fire(&name)
        } else {
            tally.miss(&name)
        }
        // Some rounds are killed before they have ended, on a disk that does not fail.
        if world.dice.u8(0..3) == 0 {
            let batch = world.batch(4, 3);
            let mut child = Process::start(&mut world.submit(&batch));
            pass(Duration::from_millis(world.dice.u64(5..300)));
            child.kill();
            world.ended_well(child.wait(), Some(9), &[0]);
            world.compare();
        }
    }
    world.end();
    tally.orders += world.orders();
}

/// Whether strace is there, and may trace.
pub fn available() -> Result<(), String> {
    tool("strace", &["-f", "-qq", "-o", "/dev/null", "true"]).map(drop)
}

#[test]
fn a_failing_disk_stops_the_router_with_a_clear_error_and_loses_nothing() {
    if let Err(why) = available() {
        return println!("SKIPPED: no failing disk on this machine: {why}");
    }
    let begun = Instant::now();
    let mut tally = Tally::default();
    injections(1, 6, &mut tally);
    tally.print("injections, short", begun);
    assert!(tally.fired.values().sum::<u64>() >= 2, "hardly anything failed: {:?}", tally.missed);
}

#[test]
#[ignore = "long: just torture injections"]
fn injections_long() {
    if let Err(why) = available() {
        return println!("SKIPPED: no failing disk on this machine: {why}");
    }
    let (seed, rounds) = (setting("TORTURE_SEED", 1), setting("TORTURE_ROUNDS", 260));
    let _replay = Replay { part: "injections", seed, rounds };
    let begun = Instant::now();
    let mut tally = Tally::default();
    injections(seed, rounds, &mut tally);
    tally.print("injections", begun);
}
