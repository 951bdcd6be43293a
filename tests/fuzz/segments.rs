//! Whole journals: recovered and verified after whatever happened to their files.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use order_router::ClientRef;
use order_router::protocol::Change;
use order_router::runtime::{Runtime, SystemClock};
use order_router::store::{
    Committed, Committing, EmbeddedConfig, EmbeddedStore, IndexMode, IntentStore, tools,
};
use order_router::testing::disk::ForgetfulDisk;

use super::dice::{Dice, SECRET};

const INTENTS: usize = 9;

fn open(disk: &ForgetfulDisk) -> Result<EmbeddedStore, String> {
    let config = EmbeddedConfig {
        segment_bytes: 900,
        index: IndexMode::Memory,
        committing: Committing::Inline,
        ..EmbeddedConfig::default()
    };
    let runtime = Runtime {
        clock: Arc::new(SystemClock::start()),
        disk: Arc::new(disk.clone()),
        ..Runtime::system()
    };
    EmbeddedStore::open("/store", config, &runtime).map_err(|error| format!("{error} {error:?}"))
}

fn reference(at: usize) -> ClientRef {
    ClientRef::new(format!("r{at}")).expect("valid")
}

fn holds(store: &EmbeddedStore) -> Vec<bool> {
    (0..INTENTS)
        .map(|at| {
            let found = store.find(reference(at)).now_or_never().expect("at once");
            found.expect("is answered").is_some()
        })
        .collect()
}

/// A store with some intents, one a frame, in several segments.
fn written() -> &'static ForgetfulDisk {
    static DISK: OnceLock<ForgetfulDisk> = OnceLock::new();
    DISK.get_or_init(|| {
        let disk = ForgetfulDisk::new();
        let store = open(&disk).expect("opens");
        for at in 0..INTENTS {
            let seed = [u8::try_from(at).expect("few"); 40];
            let mut intent = Dice(&seed).intent();
            (intent.id, intent.client_ref) = (store.next_serial(), reference(at));
            let change = Change::Accept { intent, attempt: None };
            let done = store.commit(change).now_or_never().expect("at once");
            assert_eq!(done.ok(), Some(Committed::Done));
        }
        drop(store);
        // Closed, and without the room that was allocated ahead.
        drop(open(&disk.after_kill()).expect("opens"));
        disk
    })
}

fn segments(disk: &ForgetfulDisk) -> Vec<std::path::PathBuf> {
    disk.paths().into_iter().filter(|path| path.extension().is_some_and(|e| e == "seg")).collect()
}

/// Where the frames of a segment end, read by their lengths.
fn frame_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![36];
    while let Some(at) = ends.last().copied()
        && let Some(length) = bytes.get(at..at + 4)
    {
        let length = u32::from_le_bytes(length.try_into().expect("four")) as usize;
        if length == 0 {
            break;
        }
        ends.push(at + 16 + length);
    }
    ends
}

/// What is recovered is a beginning of what was acknowledged. Nothing before the damage is missing,
/// and nothing behind it that is still there: where a whole frame follows a damaged one the store
/// does not open, and so says `verify`. (That the end of the last segment was erased to the last
/// byte the journal alone cannot know; the index does.)
#[test]
fn a_damaged_journal_shows_a_beginning_that_lacks_nothing_or_does_not_open() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut dice = Dice(input);
        let disk = written().after_kill();
        let files = segments(&disk);
        let last = files.len() - 1;
        let which = dice.below(files.len());
        let path = files[which].clone();
        let bytes = disk.contents(&path).expect("there");
        let mut damaged = bytes.clone();
        let at = match dice.below(4) {
            0 => {
                let at = dice.below(damaged.len());
                damaged.truncate(at);
                at
            }
            1 => {
                let at = dice.below(damaged.len());
                let with = dice.bytes(16).to_vec();
                damaged.splice(at..at, with);
                at
            }
            2 => {
                let (at, with) = (dice.below(damaged.len()), dice.bytes(64));
                let end = (at + with.len()).min(damaged.len());
                damaged[at..end].copy_from_slice(&with[..end - at]);
                at
            }
            _ => {
                dice.damage(&mut damaged);
                0
            }
        };
        let first = bytes.iter().zip(&damaged).position(|(a, b)| a != b).unwrap_or(at);
        let ends = frame_ends(&bytes);
        let frames: Vec<_> = ends.windows(2).map(|at| &bytes[at[0]..at[1]]).collect();
        let is_there = |frame: &[u8]| damaged.windows(frame.len()).any(|part| part == frame);
        let before = INTENTS - frames_from(&files, &disk, which);
        let whole = before + ends[1..].iter().filter(|end| **end <= first).count();
        let still_there = frames.iter().enumerate().filter(|(_, frame)| is_there(frame));
        let kept = still_there.map(|(at, _)| before + at).collect();
        let damage = Damage { none: bytes == damaged, in_last: which == last, whole, kept };
        disk.damage(&path, |bytes| *bytes = damaged.clone());
        damage.check(&disk);
    });
}

/// How many frames there are from a segment on.
fn frames_from(files: &[std::path::PathBuf], disk: &ForgetfulDisk, which: usize) -> usize {
    let undamaged =
        |path: &std::path::PathBuf| frame_ends(&disk.contents(path).expect("there")).len() - 1;
    files[which..].iter().map(undamaged).sum()
}

struct Damage {
    none: bool,
    in_last: bool,
    /// How many frames end before the first byte that is damaged.
    whole: usize,
    /// Which frames of the damaged segment are still somewhere in it.
    kept: Vec<usize>,
}

impl Damage {
    fn check(&self, disk: &ForgetfulDisk) {
        let verified = verified(disk);
        match open(disk) {
            Ok(store) => {
                let held = holds(&store);
                let count = held.iter().filter(|held| **held).count();
                assert!(held[..count].iter().all(|held| *held), "no beginning: {held:?}");
                assert!(count >= self.whole, "a frame before the damage is missing: {held:?}");
                assert!(
                    count == INTENTS || self.in_last,
                    "later segments were forgotten: {held:?}"
                );
                let lost = self.kept.iter().find(|at| **at >= count);
                assert_eq!(lost, None, "a frame that is there is passed over: {held:?}");
                assert!(verified.is_ok_and(|changes| changes == count as u64), "verify differs");
            }
            Err(error) => {
                assert!(!self.none, "{error}");
                assert!(!error.contains(SECRET), "{error}");
                assert!(verified.is_err(), "verify finds nothing, and it does not open: {error}");
            }
        }
    }
}

/// The same files on a real disk, checked as `store verify` does.
fn verified(disk: &ForgetfulDisk) -> Result<u64, String> {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("journal")).expect("a directory");
    for path in segments(disk) {
        let to = dir.path().join("journal").join(path.file_name().expect("named"));
        std::fs::write(to, disk.contents(&path).expect("there")).expect("written");
    }
    let report = tools::verify(Path::new(dir.path()), None);
    report.map(|report| report.journal.changes).map_err(|error| error.to_string())
}
