//! Rotten disks: every bit of the last frames flipped, the journal cut at every byte, bits of the
//! index flipped. On copies of the data directory of a real run, through the store's own interface.
//!
//! What counts is what was acknowledged. A damaged frame with a whole one behind it was: the store
//! must refuse. The very last frame of a journal cannot be told from a write that never ended, by
//! the journal alone: there the store may go back to the frame before, and to nothing else. With
//! an index that knows of the frame it can be told, and the store must refuse.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use order_router::ClientRef;
use order_router::protocol::State;
use order_router::runtime::Runtime;
use order_router::simulator::Faults;
use order_router::store::tools::Snapshot;
use order_router::store::{
    Committing, EmbeddedConfig, EmbeddedStore, IndexMode, IntentStore, OpenError,
};

use super::world::{Process, Replay, Tally, World, setting};

/// As in the description of the format: the header of a segment, the header of a frame.
const SEGMENT_HEADER: usize = 36;
const FRAME_HEADER: usize = 16;
const LOCKED_AT_MOST: Duration = Duration::from_secs(10);
/// How many of the last frames are damaged.
const FRAMES: usize = 3;

/// What a store says of every reference.
type Holds = BTreeMap<ClientRef, State>;

/// A data directory of a real run, and what it held after each of its last frames.
struct Base {
    dir: tempfile::TempDir,
    /// The last segment: its path below the data directory, and its bytes.
    segment: PathBuf,
    bytes: Vec<u8>,
    /// Its last frames.
    frames: Vec<Range<usize>>,
    /// What there is once the first 0, 1, … of these frames are there.
    holds: Vec<Holds>,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a file");
        }
    }
}

/// The frames of a segment: a length, a checksum, a sequence number, a body.
fn frames(bytes: &[u8]) -> Vec<Range<usize>> {
    let (mut found, mut at) = (Vec::new(), SEGMENT_HEADER);
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        if length == 0 {
            break;
        }
        found.push(at..at + FRAME_HEADER + length);
        at += FRAME_HEADER + length;
    }
    found
}

impl Base {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed, Faults::default());
        let dir = tempfile::tempdir().expect("a directory");
        let run = |world: &mut World| -> ExitStatus {
            let batch = world.batch(3, 2);
            Process::start(&mut world.submit(&batch)).wait()
        };
        loop {
            assert!(run(&mut world).success(), "{}", world.said());
            let mut segments: Vec<_> = fs::read_dir(world.data.join("journal"))
                .expect("a journal")
                .map(|entry| entry.expect("an entry").file_name())
                .collect();
            segments.sort();
            let segment = Path::new("journal").join(segments.last().expect("a segment"));
            let bytes = fs::read(world.data.join(&segment)).expect("a segment");
            let all = frames(&bytes);
            if segments.len() < 2 || all.len() < FRAMES + 1 {
                continue;
            }
            copy(&world.data, dir.path());
            let frames = all[all.len() - FRAMES..].to_vec();
            let mut base = Self { dir, segment, bytes, frames, holds: Vec::new() };
            // Some of the zeros behind the last frame are enough.
            base.bytes.truncate(base.frames[FRAMES - 1].end + 64);
            let ends = std::iter::once(base.frames[0].start);
            base.holds = ends
                .chain(base.frames.iter().map(|frame| frame.end))
                .map(|end| base.snapshot(&base.bytes[..end]))
                .collect();
            return base;
        }
    }

    /// What the directory holds with these bytes for its last segment.
    fn snapshot(&self, bytes: &[u8]) -> Holds {
        self.damage(self.dir.path(), bytes);
        let snapshot = Snapshot::read(self.dir.path()).expect("it is whole");
        let intents = snapshot.intents.into_values();
        intents.map(|stored| (stored.client_ref, stored.state)).collect()
    }

    fn damage(&self, dir: &Path, bytes: &[u8]) {
        fs::write(dir.join(&self.segment), bytes).expect("a segment");
    }

    fn all(&self) -> &Holds {
        &self.holds[FRAMES]
    }
}

/// What opening a directory came to.
#[derive(Debug)]
enum Opened {
    Refused(OpenError),
    /// It opened; a question was not answered: the next start rebuilds its index.
    Latched,
    Holds(Holds),
}

/// Opens a store and asks it for every reference that there ever was.
fn open(dir: &Path, index: IndexMode, references: &Holds) -> Opened {
    let committing = match index {
        IndexMode::Memory => Committing::Inline,
        IndexMode::Sled => Committing::Thread,
    };
    let config = EmbeddedConfig { index, committing, segment_bytes: 4096, ..Default::default() };
    let begun = Instant::now();
    let store = loop {
        match EmbeddedStore::open(dir, config.clone(), &Runtime::system()) {
            Ok(store) => break store,
            // The lock of the former round is in a process that another test is just starting.
            Err(OpenError::InUse { pid }) if begun.elapsed() < LOCKED_AT_MOST => {
                assert_eq!(pid, Some(std::process::id()));
                std::thread::yield_now();
            }
            Err(error) => return Opened::Refused(error),
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut holds = Holds::new();
        for reference in references.keys() {
            match store.find(reference.clone()).await {
                Ok(Some(stored)) => drop(holds.insert(reference.clone(), stored.state)),
                Ok(None) => {}
                Err(_) => return Opened::Latched,
            }
        }
        let stored = store.stats();
        assert_eq!((stored.open + stored.ended) as usize, holds.len(), "intents of nobody");
        let _ = store.close().await;
        Opened::Holds(holds)
    })
}

/// The frame that a byte is in.
fn frame_of(base: &Base, at: usize) -> Option<usize> {
    base.frames.iter().position(|frame| frame.contains(&at))
}

/// Damages the last frames, `step` bytes from one to the next.
fn last_frames(base: &Base, index: IndexMode, bits: &[u8], step: usize, tally: &mut Tally) {
    let work = tempfile::tempdir().expect("a directory");
    copy(base.dir.path(), work.path());
    if index == IndexMode::Memory {
        let _ = fs::remove_dir_all(work.path().join("index"));
    }
    let knows = index == IndexMode::Sled;
    let mode = if knows { "with an index" } else { "journal alone" };
    let (start, end) = (base.frames[0].start, base.bytes.len());
    for at in (start..end).step_by(step) {
        for bit in bits {
            tally.rounds += 1;
            let mut bytes = base.bytes.clone();
            bytes[at] ^= 1 << bit;
            base.damage(work.path(), &bytes);
            let found = open(work.path(), index, base.all());
            let place = format!("{mode}, bit {bit} of byte {at}");
            match (frame_of(base, at), found) {
                // Nobody was told of anything in the zeros behind the last frame.
                (None, Opened::Holds(holds)) => assert_eq!(&holds, base.all(), "{place}"),
                (Some(frame), Opened::Holds(holds)) => {
                    assert!(frame == FRAMES - 1 && !knows, "{place}: opened, in frame {frame}");
                    assert_eq!(holds, base.holds[FRAMES - 1], "{place}");
                }
                (_, Opened::Refused(OpenError::Corrupt { .. })) => {}
                (_, other) => panic!("{place}: {other:?}"),
            }
            tally.fire(&format!("bit flipped in a frame, {mode}"));
        }
    }
    for length in (start..base.frames[FRAMES - 1].end).step_by(step) {
        tally.rounds += 1;
        base.damage(work.path(), &base.bytes[..length]);
        let whole = base.frames.iter().filter(|frame| frame.end <= length).count();
        match open(work.path(), index, base.all()) {
            Opened::Holds(holds) if !knows => {
                assert_eq!(holds, base.holds[whole], "{mode}, cut at byte {length}");
            }
            Opened::Refused(OpenError::Corrupt { .. }) if knows => {}
            other => panic!("{mode}, cut at byte {length}: {other:?}"),
        }
        tally.fire(&format!("journal cut, {mode}"));
    }
}

/// Damages the header of the last segment.
fn header(base: &Base, tally: &mut Tally) {
    let work = tempfile::tempdir().expect("a directory");
    copy(base.dir.path(), work.path());
    for at in 0..SEGMENT_HEADER {
        for bit in 0..8 {
            tally.rounds += 1;
            let mut bytes = base.bytes.clone();
            bytes[at] ^= 1 << bit;
            base.damage(work.path(), &bytes);
            match open(work.path(), IndexMode::Memory, base.all()) {
                Opened::Refused(OpenError::Corrupt { .. } | OpenError::NewerVersion { .. }) => {}
                other => panic!("bit {bit} of byte {at} of the header: {other:?}"),
            }
            tally.fire("bit flipped in a header");
        }
    }
}

/// Damages the index at random places: the journal rebuilds it, now or at the next start.
fn index(base: &Base, seed: u64, places: u64, tally: &mut Tally) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let whole = fs::read(base.dir.path().join("index/db")).expect("an index");
    // sled's file has a long tail of nothing.
    let used = whole.iter().rposition(|byte| *byte != 0).expect("an index that is not empty") + 1;
    for _ in 0..places {
        tally.rounds += 1;
        let work = tempfile::tempdir().expect("a directory");
        copy(base.dir.path(), work.path());
        base.damage(work.path(), &base.bytes);
        let mut bytes = whole.clone();
        let (at, bit) = (dice.usize(0..used), dice.u8(0..8));
        bytes[at] ^= 1 << bit;
        fs::write(work.path().join("index/db"), bytes).expect("an index");
        let mut found = open(work.path(), IndexMode::Sled, base.all());
        if matches!(found, Opened::Latched) {
            tally.fire("index found damaged by a question");
            found = open(work.path(), IndexMode::Sled, base.all());
        }
        match found {
            Opened::Holds(holds) => assert_eq!(&holds, base.all(), "bit {bit} of byte {at}"),
            other => panic!("bit {bit} of byte {at} of the index: {other:?}"),
        }
        tally.fire("bit flipped in the index");
    }
}

#[test]
fn damaged_frames_are_refused_or_were_never_acknowledged() {
    let begun = Instant::now();
    let mut tally = Tally::default();
    let base = Base::new(1);
    last_frames(&base, IndexMode::Memory, &[3], 3, &mut tally);
    last_frames(&base, IndexMode::Sled, &[6], 97, &mut tally);
    header(&base, &mut tally);
    index(&base, 1, 8, &mut tally);
    tally.print("flips, short", begun);
}

#[test]
#[ignore = "long: just torture flips"]
fn flips_long() {
    let (seed, rounds) = (setting("TORTURE_SEED", 1), setting("TORTURE_ROUNDS", 300));
    let _replay = Replay { part: "flips", seed, rounds };
    let begun = Instant::now();
    let mut tally = Tally::default();
    let base = Base::new(seed);
    last_frames(&base, IndexMode::Memory, &[0, 1, 2, 3, 4, 5, 6, 7], 1, &mut tally);
    last_frames(&base, IndexMode::Sled, &[(seed % 8) as u8], 1, &mut tally);
    header(&base, &mut tally);
    index(&base, seed, rounds, &mut tally);
    tally.print("flips", begun);
}
