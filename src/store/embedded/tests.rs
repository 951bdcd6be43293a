//! The store on a disk that forgets: cut at every sync, killed, full, failing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;

use super::*;
use crate::protocol::{Learnt, State, Verdict};
use crate::runtime::Runtime;
use crate::testing::conformance::{Bench, WHY, decide, order, placed, reference};
use crate::testing::disk::{Fate, ForgetfulDisk};

mod answers;
mod compact;

fn config() -> EmbeddedConfig {
    EmbeddedConfig {
        // Small: the workload crosses several segments.
        segment_bytes: 1500,
        index: IndexMode::Memory,
        committing: Committing::Inline,
        ..EmbeddedConfig::default()
    }
}

fn open_with(disk: &ForgetfulDisk, config: EmbeddedConfig) -> Result<EmbeddedStore, OpenError> {
    let runtime = Runtime { disk: Arc::new(disk.clone()), ..Runtime::system() };
    EmbeddedStore::open("/store", config, &runtime)
}

fn open(disk: &ForgetfulDisk) -> Result<EmbeddedStore, OpenError> {
    open_with(disk, config())
}

/// What callers were told: the newest state of every reference that was answered.
type Told = BTreeMap<String, State>;

/// Runs orders until the disk fails, and says what callers were told and what was asked for last,
/// which may or may not have become durable.
fn workload(disk: &ForgetfulDisk) -> (Told, Option<(String, State)>) {
    let mut told = Told::new();
    let Ok(store) = open(disk) else { return (told, None) };
    let bench = Bench::new(Arc::new(store));
    for at in 0..12 {
        let name = format!("r{at}");
        let (intent, attempt) = (bench.intent(&name, "a"), bench.attempt());
        let ids = (intent.id, attempt.seq);
        let end = match at % 3 {
            0 => (placed(&format!("o{at}"), Learnt::Answer), at),
            1 => (Verdict::InDoubt(WHY), at),
            _ => (Verdict::Refused(WHY), at),
        };
        let steps = [
            (Change::Accept { intent, attempt: Some(attempt) }, State::Sending(attempt)),
            (decide(ids, end.0.clone()), after(end.0, attempt)),
        ];
        for (change, state) in steps {
            match now(bench.store.commit(change)) {
                Ok(Committed::Done) => drop(told.insert(name.clone(), state)),
                Ok(other) => panic!("{other:?}"),
                Err(_) => {
                    let again = Change::Pause { why: WHY };
                    assert!(now(bench.store.commit(again)).is_err(), "a failed store goes on");
                    assert!(now(bench.store.find(reference("r0"))).is_err());
                    return (told, Some((name, state)));
                }
            }
        }
    }
    (told, None)
}

fn after(verdict: Verdict, attempt: crate::protocol::Attempt) -> State {
    match verdict {
        Verdict::Placed { id, learnt, created_at } => State::Placed { id, learnt, created_at },
        Verdict::InDoubt(why) => State::InDoubt(attempt, why),
        Verdict::Refused(why) => State::Refused(why),
        other => panic!("not in the workload: {other:?}"),
    }
}

/// The answer of a store that has no thread: it is there at once.
fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("an inline store answers at once")
}

/// What a store holds must be what callers were told, but for the one change without an answer.
#[track_caller]
fn check(store: &EmbeddedStore, told: &Told, unanswered: Option<&(String, State)>, what: &str) {
    for (name, state) in told {
        let stored = now(store.find(reference(name))).expect("works");
        let stored =
            stored.unwrap_or_else(|| panic!("{what}: {name} was acknowledged and is lost"));
        let may_be = unanswered.filter(|(other, _)| other == name).map(|(_, state)| state);
        assert!(stored.state == *state || Some(&stored.state) == may_be, "{what}: {stored:?}");
    }
    let stats = store.stats();
    let extra = unanswered.is_some_and(|(name, _)| !told.contains_key(name));
    let most = told.len() as u64 + u64::from(extra);
    assert!(stats.open + stats.ended <= most, "{what}: nobody asked for that many");
}

fn syncs_of_the_workload() -> u64 {
    let disk = ForgetfulDisk::new();
    let (told, unanswered) = workload(&disk);
    assert_eq!((told.len(), unanswered), (12, None));
    disk.syncs()
}

#[test]
fn power_cut_at_every_sync_loses_nothing_that_was_answered() {
    let syncs = syncs_of_the_workload();
    assert!(syncs > 30, "{syncs} syncs: the workload is too small to cross segments");
    let fates = [Fate::Lost, Fate::Kept].into_iter().chain((0..6).map(Fate::Torn));
    for fate in fates {
        for n in 1..=syncs {
            let disk = ForgetfulDisk::new();
            disk.cut_at_sync(n);
            let (told, unanswered) = workload(&disk);
            assert!(disk.is_cut());
            let what = format!("cut at sync {n}, {fate:?}");
            let after = disk.after_cut(fate);
            let store = open(&after).unwrap_or_else(|e| panic!("{what}: {e}"));
            check(&store, &told, unanswered.as_ref(), &what);
            drop(store);
            // And what it was opened with is durable: another cut changes nothing.
            let again = open(&after.after_cut(Fate::Lost)).expect("opens");
            check(&again, &told, unanswered.as_ref(), &what);
        }
    }
}

#[test]
fn power_cut_at_every_sync_of_recovery_loses_nothing() {
    for n in (1..syncs_of_the_workload()).step_by(3) {
        let disk = ForgetfulDisk::new();
        disk.cut_at_sync(n);
        let (told, unanswered) = workload(&disk);
        for fate in [Fate::Lost, Fate::Kept, Fate::Torn(n)] {
            for m in 1..=6 {
                let disk = disk.after_cut(fate);
                disk.cut_at_sync(m);
                drop(open(&disk));
                let what = format!("cut at sync {n}, {fate:?}, and at sync {m} of recovery");
                let store = open(&disk.after_cut(Fate::Lost)).expect("opens");
                check(&store, &told, unanswered.as_ref(), &what);
            }
        }
    }
}

#[test]
fn what_recovery_shows_after_a_kill_is_on_the_disk() {
    for n in 1..syncs_of_the_workload() {
        let disk = ForgetfulDisk::new();
        disk.cut_at_sync(n);
        let (told, unanswered) = workload(&disk);
        // Killed with a write in the cache that was never synced: the next process sees it.
        let killed = disk.after_kill();
        let store = open(&killed).expect("opens");
        let what = format!("killed at sync {n}");
        check(&store, &told, unanswered.as_ref(), &what);
        let shown = now(store.rehydrate()).expect("works");
        drop(store);
        let after = open(&killed.after_cut(Fate::Lost)).expect("opens");
        assert_eq!(now(after.rehydrate()).expect("works"), shown, "{what}");
    }
}

#[test]
fn failed_sync_latches_and_the_cache_is_not_believed() {
    for n in 5..syncs_of_the_workload() {
        let disk = ForgetfulDisk::new();
        disk.fail_sync(n);
        let (told, unanswered) = workload(&disk);
        let opened = !told.is_empty();
        assert!(unanswered.is_some() || !opened, "sync {n} failed and nobody was told");
        let store = open(&disk.after_kill()).expect("opens");
        let what = format!("sync {n} failed");
        check(&store, &told, unanswered.as_ref(), &what);
        let shown = now(store.rehydrate()).expect("works");
        let killed = disk.after_kill();
        drop(open(&killed).expect("opens"));
        let after = open(&killed.after_cut(Fate::Lost)).expect("opens");
        assert_eq!(now(after.rehydrate()).expect("works"), shown, "{what}");
    }
}

#[test]
fn failed_write_latches() {
    let disk = ForgetfulDisk::new();
    drop(workload(&disk));
    for n in 5..disk.writes() {
        let disk = ForgetfulDisk::new();
        disk.fail_write(n);
        let (told, unanswered) = workload(&disk);
        assert!(unanswered.is_some(), "write {n} failed and nobody was told");
        let store = open(&disk.after_kill()).expect("opens");
        check(&store, &told, unanswered.as_ref(), &format!("write {n} failed"));
    }
}

#[test]
fn full_disk_latches_and_little_room_stops_intake_alone() {
    let disk = ForgetfulDisk::new();
    let wanted = EmbeddedConfig { reserve_bytes: 1000, ..config() };
    let bench = Bench::new(Arc::new(open_with(&disk, wanted.clone()).expect("opens")));
    let ids = now(bench.sending("r1", "a"));
    disk.set_free_bytes(999);
    drop(bench);
    let bench = Bench::new(Arc::new(open_with(&disk, wanted).expect("opens")));
    let accept = || Change::Accept { intent: bench.intent("r2", "a"), attempt: None };
    match now(bench.store.commit(accept())) {
        Err(StoreError::Full { free_bytes: 999, wanted_bytes: 1000 }) => {}
        other => panic!("{other:?}"),
    }
    now(bench.done(decide(ids, placed("o1", Learnt::Answer))));
    disk.set_free_bytes(1000);
    now(bench.done(accept()));
    disk.set_full(true);
    let ids = now(bench.find("r2")).expect("accepted").id;
    let why = crate::protocol::Why::Owned("y".repeat(5000));
    assert!(now(bench.store.commit(Change::Expire { intent: ids, why })).is_err());
    disk.set_full(false);
    let latched = now(bench.store.commit(Change::Pause { why: WHY }));
    assert!(matches!(latched, Err(StoreError::Failed(_))), "{latched:?}");
}

#[test]
fn nothing_is_visible_before_it_is_durable() {
    let disk = ForgetfulDisk::new();
    let store = open(&disk).expect("opens");
    let bench = Bench::new(Arc::new(store));
    now(bench.queued("r1", "a"));
    disk.cut_at_sync(disk.syncs() + 1);
    let intent = bench.intent("r2", "a");
    assert!(now(bench.store.commit(Change::Accept { intent, attempt: None })).is_err());
    assert!(now(bench.store.find(reference("r2"))).is_err());
    assert!(now(bench.store.claims(vec![order("o1")])).is_err());
    assert!(now(bench.store.rehydrate()).is_err());
}

#[test]
fn directories_that_were_created_with_the_store_survive_a_power_cut() {
    for dir in ["/a/b/c", "a/b", "a"] {
        let disk = ForgetfulDisk::new();
        let runtime = Runtime { disk: Arc::new(disk.clone()), ..Runtime::system() };
        let bench =
            Bench::new(Arc::new(EmbeddedStore::open(dir, config(), &runtime).expect("opens")));
        now(bench.queued("r1", "a"));
        let disk = disk.after_cut(Fate::Lost);
        let runtime = Runtime { disk: Arc::new(disk), ..runtime };
        let store = EmbeddedStore::open(dir, config(), &runtime).expect("opens");
        assert!(now(store.find(reference("r1"))).expect("works").is_some(), "{dir}");
    }
}

#[test]
fn second_open_is_refused_and_newer_layouts_are_named() {
    let disk = ForgetfulDisk::new();
    let store = open(&disk).expect("opens");
    assert!(matches!(open(&disk), Err(OpenError::InUse { pid: Some(_) })));
    drop(store);
    disk.damage(Path::new("/store/format"), |bytes| *bytes = b"order-router store 3\n".to_vec());
    match open(&disk) {
        Err(OpenError::NewerVersion { found: 3, known: 2 }) => {}
        other => panic!("{other:?}"),
    }
    disk.damage(Path::new("/store/format"), |bytes| *bytes = b"order-router store x\n".to_vec());
    assert!(matches!(open(&disk), Err(OpenError::Corrupt { .. })));
}

#[test]
fn a_first_start_that_failed_anywhere_leaves_nothing_that_a_later_power_cut_takes_away() {
    for failing in 1..40 {
        let disk = ForgetfulDisk::new();
        disk.fail_sync(failing);
        let first = open(&disk);
        if first.is_ok() {
            continue;
        }
        drop(first);
        // The process ends, not the machine: the next one finds what the cache shows.
        let disk = disk.after_kill();
        let Ok(store) = open(&disk) else { panic!("sync {failing}: the second start fails") };
        let bench = Bench::new(Arc::new(store));
        let intent = bench.intent("r", "a");
        let accepted = now(bench.store.commit(Change::Accept { intent, attempt: None }));
        assert_eq!(accepted.expect("the disk works"), Committed::Done);
        disk.cut();
        drop(bench);
        let store = open(&disk.after_cut(Fate::Lost)).expect("a store");
        let found = now(store.find(reference("r"))).expect("an answer");
        assert!(found.is_some(), "sync {failing} of the first start failed: accepted and lost");
    }
}
