//! Compaction on a disk that forgets: cut, killed, failing and full at every step.

use super::super::compact::{CompactError, Compacted, compact};
use super::*;
use crate::runtime::disk::Disk;
use crate::store::{Adopted, Mark};

fn compact_with(
    disk: &ForgetfulDisk,
    config: &EmbeddedConfig,
    drop_before: Option<jiff::Timestamp>,
) -> Result<Compacted, CompactError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    compact(&disk, Path::new("/store"), config, drop_before)
}

fn compacted(disk: &ForgetfulDisk) -> Result<Compacted, CompactError> {
    compact_with(disk, &config(), None)
}

/// Everything that a store holds.
fn all(store: &EmbeddedStore) -> (Vec<Adopted>, crate::store::Rehydration) {
    let (mut intents, mut next) = (Vec::new(), Some(Bookmark::default()));
    while let Some(from) = next {
        let page = now(store.read_through(from)).expect("works");
        intents.extend(page.intents);
        next = page.next;
    }
    (intents, now(store.rehydrate()).expect("works"))
}

/// A disk with a store that has a history, and what callers were told.
fn written() -> (ForgetfulDisk, Told) {
    let disk = ForgetfulDisk::new();
    let (told, unanswered) = workload(&disk);
    assert_eq!(unanswered, None);
    let bench = Bench::new(Arc::new(open(&disk).expect("opens")));
    let lane = bench.intent("lane", "held").lane;
    for change in [
        Change::History { newest: Some(jiff::Timestamp::UNIX_EPOCH), ids: vec![order("old")] },
        Change::Orphans { ids: vec![order("z"), order("x")], why: WHY },
        Change::HoldLane { lane, why: WHY },
        Change::EchoSeen { shape: crate::protocol::Shape::default() },
        Change::Pause { why: WHY },
    ] {
        now(bench.done(change));
    }
    drop(bench);
    (disk, told)
}

/// Opens what is left, compares it with what it was, and goes on with it.
#[track_caller]
fn goes_on(
    disk: &ForgetfulDisk,
    told: &Told,
    was: &(Vec<Adopted>, crate::store::Rehydration),
    what: &str,
) {
    let store = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    check(&store, told, None, what);
    assert_eq!(all(&store), *was, "{what}");
    let bench = Bench::new(Arc::new(store));
    // What was accepted since survives whatever the disk has not synced.
    now(bench.queued("new", "a"));
    let again = Change::Accept { intent: bench.intent("r0", "other"), attempt: None };
    assert_eq!(now(bench.store.commit(again)).expect("works"), Committed::Conflict, "{what}");
    let ids = now(bench.sending("takes", "a"));
    let taken = now(bench.store.commit(decide(ids, placed("o0", Learnt::Answer))));
    assert!(matches!(taken, Ok(Committed::IdTaken(_))), "{what}: {taken:?}");
    disk.cut();
    drop(bench);
    for fate in [Fate::Lost, Fate::Kept, Fate::Torn(7)] {
        let store = open(&disk.after_cut(fate)).unwrap_or_else(|error| panic!("{what}: {error}"));
        for (name, state) in told {
            let stored = now(store.find(reference(name))).expect("works");
            assert_eq!(stored.map(|stored| stored.state).as_ref(), Some(state), "{what}: {name}");
        }
        let new = now(store.find(reference("new"))).expect("works");
        assert!(new.is_some(), "{what}: accepted since, and lost");
    }
}

#[test]
fn a_compacted_store_holds_what_it_held_and_goes_on() {
    let (disk, told) = written();
    let was = all(&open(&disk).expect("opens"));
    let segments = disk.paths().len();
    let done = compacted(&disk).expect("compacted");
    assert!(done.bytes < done.bytes_before && done.changes < done.changes_before, "{done:?}");
    assert_eq!((done.open, done.ended, done.items_dropped), (4, 8, 0));
    assert!(disk.paths().len() < segments, "{:?}", disk.paths());
    assert!(!disk.paths().iter().any(|path| path.starts_with("/store/journal")));
    goes_on(&disk.after_kill(), &told, &was, "compacted");
    // Again, and again.
    for _ in 0..3 {
        let again = compacted(&disk).expect("compacted");
        assert_eq!((again.bytes, again.changes), (done.bytes, done.changes));
    }
    goes_on(&disk, &told, &was, "compacted four times");
}

#[test]
fn power_cut_or_kill_at_every_sync_leaves_the_old_or_the_new() {
    let (whole, told) = written();
    let was = all(&open(&whole).expect("opens"));
    let counted = whole.after_kill();
    compacted(&counted).expect("compacted");
    let (syncs, mut old, mut new) = (counted.syncs(), 0, 0);
    assert!(syncs > 10, "{syncs}");
    for n in 1..=syncs {
        let disk = whole.after_kill();
        disk.cut_at_sync(n);
        assert!(compacted(&disk).is_err(), "cut at sync {n}");
        let fates = [Fate::Lost, Fate::Kept].into_iter().chain((0..6).map(Fate::Torn));
        for after in fates.map(|fate| (format!("{fate:?}"), disk.after_cut(fate))) {
            let (how, after) = after;
            let is_new = after.contents(Path::new("/store/generation")).is_some();
            (old, new) = (old + u32::from(!is_new), new + u32::from(is_new));
            let what = format!("cut at sync {n}, {how}");
            goes_on(&after.after_kill(), &told, &was, &what);
            // Or it is compacted again at once.
            compacted(&after).unwrap_or_else(|error| panic!("{what}: {error}"));
            goes_on(&after, &told, &was, &what);
        }
        goes_on(&disk.after_kill(), &told, &was, &format!("killed at sync {n}"));
    }
    assert!(old > 10 && new > 10, "{old} old, {new} new");
}

#[test]
fn a_write_or_sync_that_fails_leaves_the_store_as_it_was() {
    let (whole, told) = written();
    let was = all(&open(&whole).expect("opens"));
    let counted = whole.after_kill();
    compacted(&counted).expect("compacted");
    for n in 1..=counted.syncs().max(counted.writes()) {
        for (name, fails) in
            [("sync", ForgetfulDisk::fail_sync as fn(&_, _)), ("write", ForgetfulDisk::fail_write)]
        {
            let disk = whole.after_kill();
            fails(&disk, n);
            let _ = compacted(&disk);
            goes_on(&disk.after_kill(), &told, &was, &format!("{name} {n} failed"));
        }
    }
}

#[test]
fn only_items_of_what_ended_before_the_retention_are_dropped() {
    let (disk, told) = written();
    let before = all(&open(&disk).expect("opens"));
    let newest = before.0.iter().map(|intent| intent.stored.accepted_at).max().expect("intents");
    let none = compact_with(&disk, &config(), Some(jiff::Timestamp::MIN)).expect("compacted");
    assert_eq!(none.items_dropped, 0);
    let after = newest.checked_add(std::time::Duration::from_secs(1)).expect("in range");
    let done = compact_with(&disk, &config(), Some(after)).expect("compacted");
    assert_eq!((done.items_dropped, done.open, done.ended), (8, 4, 8));
    let mut wanted = before;
    for intent in wanted.0.iter_mut().filter(|intent| intent.stored.state.is_end()) {
        intent.stored.items = [].into();
    }
    assert!(wanted.1.intents.iter().all(|open| !open.items.is_empty()));
    goes_on(&disk, &told, &wanted, "items dropped");
}

#[test]
fn a_store_that_is_marked_or_a_disk_without_room_is_left_as_it_is() {
    let (disk, told) = written();
    let was = all(&open(&disk).expect("opens"));
    disk.set_free_bytes(64 << 20);
    match compacted(&disk) {
        Err(CompactError::Room { free_bytes, wanted_bytes }) if wanted_bytes > free_bytes => {}
        other => panic!("{other:?}"),
    }
    disk.set_free_bytes(1 << 30);
    let mark = |mark| {
        let bench = Bench::new(Arc::new(open(&disk).expect("opens")));
        now(bench.done(Change::Mark { mark }));
    };
    for marked in [Mark::Restored("b".into()), Mark::MovedTo("p".into())] {
        mark(Some(marked.clone()));
        match compacted(&disk) {
            Err(CompactError::Marked(found)) => assert_eq!(found, marked),
            other => panic!("{other:?}"),
        }
    }
    mark(None);
    let store = open(&disk).expect("opens");
    assert!(matches!(compacted(&disk), Err(CompactError::Open(OpenError::InUse { .. }))));
    drop(store);
    goes_on(&disk, &told, &was, "refused");
}
