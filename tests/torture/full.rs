//! A full disk: intake stops while there is room for the ends of open orders; a disk without a byte
//! left stops the router; and once there is room again, everything ends.

use std::fs::File;
use std::time::{Duration, Instant};

use order_router::store::tools::Snapshot;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::cuts::Mounted;
use super::world::{Process, Replay, Tally, World, faults, pass, setting};

const KILL: i32 = 9;

impl Mounted {
    /// Takes all room but so much, until `ballast` is removed.
    fn fill(&self, leave: u64) {
        let stat = statvfs(&self.at).expect("it is mounted");
        let free = stat.f_bavail * stat.f_frsize;
        let take = free.saturating_sub(leave);
        let file = File::options().create(true).append(true).open(self.at.join("ballast"));
        let file = file.expect("a file");
        let length = file.metadata().expect("a file").len();
        if take > 0 {
            // What metadata takes is not known beforehand: as much as there is will do.
            let _ = fallocate(&file, FallocateFlags::empty(), length, take);
        }
        if leave == 0 {
            let mut step = 1 << 20;
            while step >= 1 << 10 {
                let length = file.metadata().expect("a file").len();
                if fallocate(&file, FallocateFlags::empty(), length, step).is_err() {
                    step /= 2;
                }
            }
        }
        file.sync_all().expect("it is allocated");
    }

    fn make_room(&self) {
        std::fs::remove_file(self.at.join("ballast")).expect("it is there");
        File::open(&self.at).and_then(|dir| dir.sync_all()).expect("it is a directory");
    }
}

fn open_orders(world: &World) -> usize {
    let snapshot = Snapshot::read(&world.data).expect("the journal is whole");
    snapshot.intents.values().filter(|stored| !stored.state.is_end()).count()
}

/// Rounds on one disk. `Err`: this machine cannot.
fn full(seed: u64, rounds: u64, tally: &mut Tally) -> Result<(), String> {
    let mut world = World::new(seed, faults());
    let disk = Mounted::ext4(&world.path(""))?;
    world.data = disk.at.join("data");
    for _ in 0..rounds {
        tally.rounds += 1;
        // Orders that are open.
        let batch = world.batch(30, 5);
        let mut child = Process::start(&mut world.submit(&batch));
        pass(Duration::from_millis(world.dice.u64(100..500)));
        child.kill();
        world.ended_well(child.wait(), Some(KILL), &[0]);
        world.compare();

        // Less than the reserve: nothing new is taken, what is open ends.
        disk.fill(16 << 20);
        let before = Snapshot::read(&world.data).map_or(0, |snapshot| snapshot.intents.len());
        let batch = world.batch(6, 0);
        let status = Process::start(&mut world.submit(&batch)).wait();
        world.ended_well(status, None, &[3]);
        assert!(world.said().contains("too little room on the disk"), "{}", world.said());
        assert!(world.said().contains("to do: make room"), "{}", world.said());
        world.compare();
        let after = Snapshot::read(&world.data).expect("the journal is whole");
        assert_eq!(after.intents.len(), before, "an order was taken on a full disk");
        assert_eq!(open_orders(&world), 0, "what was open has ended");
        tally.fire("less than the reserve");
        disk.make_room();

        // No byte is left in the middle of a run.
        let batch = world.batch(60, 5);
        let mut child = Process::start(&mut world.submit(&batch));
        pass(Duration::from_millis(world.dice.u64(20..250)));
        disk.fill(0);
        let status = child.wait();
        world.ended_well(status, None, &[0, 2, 3]);
        if status.code() == Some(0) {
            tally.miss("no byte left");
        } else {
            assert!(world.said().contains("error: "), "{}", world.said());
            assert!(world.said().contains("\n  to do: "), "{}", world.said());
            tally.fire("no byte left");
        }
        world.compare();

        // Nor at the start.
        let status = Process::start(&mut world.submit(&batch)).wait();
        world.ended_well(status, None, &[2, 3]);
        assert!(world.said().contains("\n  to do: "), "{}", world.said());
        tally.fire("no byte at the start");
        world.compare();
        disk.make_room();
    }
    world.end();
    tally.orders += world.orders();
    Ok(())
}

#[test]
fn a_full_disk_stops_intake_and_loses_nothing() {
    let begun = Instant::now();
    let mut tally = Tally::default();
    match full(1, 1, &mut tally) {
        Ok(()) => tally.print("full, short", begun),
        Err(why) => println!("SKIPPED: no full disk on this machine: {why}"),
    }
}

#[test]
#[ignore = "long: just torture full"]
fn full_long() {
    let (seed, rounds) = (setting("TORTURE_SEED", 1), setting("TORTURE_ROUNDS", 25));
    let _replay = Replay { part: "full", seed, rounds };
    let begun = Instant::now();
    let mut tally = Tally::default();
    match full(seed, rounds, &mut tally) {
        Ok(()) => tally.print("full", begun),
        Err(why) => println!("SKIPPED: no full disk on this machine: {why}"),
    }
}
