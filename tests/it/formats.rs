//! Stores as each released version wrote them: each opens, holds what it held, and answers as before.
//!
//! `tests/fixtures/store-VERSION*` has the files of a data directory without its index, and in
//! `EXPECTED.txt` what is in it. A new form of anything that is written gets a fixture more; those
//! that are there are never written again. `crate::store::record` tests that no form is without one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use order_router::protocol::limits::{Clocks, Spend, Sum};
use order_router::protocol::{
    Attempt, Change, Fingerprint, IntentId, Learnt, NewIntent, PayStep, PayVerdict, Payment,
    Serial, Shape, State, Verdict,
};
use order_router::runtime::Runtime;
use order_router::store::{
    Adopted, Bookmark, Committed, EmbeddedConfig, EmbeddedStore, IntentStore, Mark, Rehydration,
    Stored, tools,
};
use order_router::{ClientRef, EchoProfile, Item, ItemsDigest, ItemsHash, Note, OrderId};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Every store of a released version.
fn stores() -> Vec<PathBuf> {
    let all = std::fs::read_dir(fixtures()).expect("fixtures");
    let mut stores: Vec<_> = all.map(|entry| entry.expect("an entry").path()).collect();
    stores.retain(|path| path.join("format").is_file());
    stores.sort();
    assert!(stores.len() >= 2, "{stores:?}");
    stores
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a fixture") {
        let path = entry.expect("an entry").path();
        let name = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &name);
        } else {
            std::fs::copy(&path, name).expect("a copy");
        }
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_790_000_000 + second, 123_456_789).expect("in range")
}

fn open(dir: &Path) -> EmbeddedStore {
    // Small: the journal has several segments.
    let config = EmbeddedConfig { segment_bytes: 2 << 10, ..EmbeddedConfig::default() };
    EmbeddedStore::open(dir, config, &Runtime::system()).expect("the store opens")
}

/// Writes what a fixture holds.
struct Writing {
    store: EmbeddedStore,
    seconds: i64,
}

impl Writing {
    async fn done(&mut self, change: Change) {
        let committed = self.store.commit(change).await.expect("written");
        assert_eq!(committed, Committed::Done);
    }

    fn attempt(&self) -> Attempt {
        let floor = Some(at(self.seconds - 60));
        Attempt { seq: self.store.next_serial(), fingerprint: Fingerprint(0xfeed), floor }
    }

    fn intent(&mut self, name: &str) -> NewIntent {
        self.seconds += 1;
        let items = items(name);
        NewIntent {
            id: self.store.next_serial(),
            client_ref: client_ref(name),
            lane: ItemsHash::of(&items, EchoProfile::default()),
            as_sent: ItemsDigest::as_sent(&items),
            delivered: ItemsDigest::delivered(&items, false),
            items: items.into(),
            good_until: at(self.seconds + 3_600),
            accepted_at: at(self.seconds),
        }
    }

    /// An intent that is being sent.
    async fn sending(&mut self, name: &str) -> (IntentId, Serial) {
        let (intent, attempt) = (self.intent(name), self.attempt());
        let ids = (intent.id, attempt.seq);
        self.done(Change::Accept { intent, attempt: Some(attempt) }).await;
        ids
    }

    async fn decided(
        &mut self,
        name: &str,
        verdicts: impl IntoIterator<Item = Verdict>,
    ) -> IntentId {
        let (intent, attempt) = self.sending(name).await;
        for verdict in verdicts {
            self.done(Change::Decide { intent, attempt, verdict }).await;
        }
        intent
    }

    async fn pay(&mut self, name: &str, steps: &[PayStep], end: Option<PayVerdict>) {
        let created = Verdict::Created {
            id: order_id(&format!("pay-{name}")),
            learnt: Learnt::Answer,
            created_at: Some(at(self.seconds)),
        };
        let intent = self.decided(name, [created]).await;
        let mut was = Payment::NEW;
        for step in steps {
            let pays = was.pays + u32::from(*step == PayStep::Sending);
            let payment = Payment { step: *step, pays, tries: was.tries };
            let to = PayVerdict::Open { payment, why: "timeout".into() };
            self.done(Change::Pay { intent, was, to }).await;
            was = payment;
        }
        if let Some(to) = end {
            self.done(Change::Pay { intent, was, to }).await;
        }
    }
}

fn client_ref(text: &str) -> ClientRef {
    ClientRef::new(text).expect("a reference")
}

fn order_id(text: &str) -> OrderId {
    OrderId::new(text).expect("an id")
}

/// The lines of an order, by its name alone.
fn items(name: &str) -> Vec<Item> {
    let plain = Item::new(format!("gift-card-{}", name.len()), 1).expect("an item");
    if !name.contains("rich") {
        return vec![plain];
    }
    let note = Note::new(&serde_json::json!({ "player": "ünï-7" })).expect("a note");
    let price = "19.990".parse().expect("a price");
    vec![plain.note(note), Item::new("top-up", 3).expect("an item").total_price(price)]
}

fn placed(id: &str, learnt: Learnt, created_at: Option<Timestamp>) -> Verdict {
    Verdict::Placed { id: order_id(id), learnt, created_at }
}

/// Intents in every state, and everything that is known of an account.
async fn fill(store: EmbeddedStore) -> EmbeddedStore {
    let mut to = Writing { store, seconds: 0 };
    to.done(Change::History {
        newest: Some(at(-9)),
        ids: vec![order_id("old-1"), order_id("old-2")],
    })
    .await;
    to.done(Change::EchoSeen { shape: Shape { several_lines: true, with_note: true } }).await;
    to.done(Change::EchoSeen { shape: Shape::default() }).await;
    let intent = to.intent("queued");
    to.done(Change::Accept { intent, attempt: None }).await;
    to.sending("sending").await;
    to.decided("doubt-rich", [Verdict::InDoubt("timeout".into())]).await;
    to.decided("held", [Verdict::InDoubt("502".into()), Verdict::Held("near miss".into())]).await;
    to.decided("placed-answer-rich", [placed("A-1", Learnt::Answer, Some(at(7)))]).await;
    to.decided("placed-undated", [placed("A-2 ✨", Learnt::Answer, None)]).await;
    let doubt = || Verdict::InDoubt("timeout".into());
    to.decided("placed-list-unsettled", [doubt(), placed("L-1", Learnt::List, Some(at(8)))]).await;
    let settled = [doubt(), placed("L-2", Learnt::List, Some(at(9)))];
    let intent = to.decided("placed-list", settled).await;
    to.done(Change::Settle { intent }).await;
    let intent = to.decided("placed-person", [doubt(), placed("P-1", Learnt::Person, None)]).await;
    to.done(Change::Settle { intent }).await;
    to.decided("refused", [Verdict::Refused("OFFER_PRICE_NOT_MATCHED".into())]).await;
    to.decided("not-placed", [doubt(), Verdict::NotPlaced("absent, no try left".into())]).await;
    let intent = to.decided("expired", [Verdict::NotSent("connect".into())]).await;
    to.done(Change::Expire { intent, why: "too late".into() }).await;
    let intent = to.decided("second-try", [doubt(), Verdict::Absent]).await;
    let attempt = to.attempt();
    to.done(Change::Record { intent, attempt }).await;
    to.pay("to-pay", &[], None).await;
    to.pay("paying", &[PayStep::Sending], None).await;
    to.pay("pay-doubt", &[PayStep::Sending, PayStep::InDoubt], None).await;
    to.pay("pay-held", &[PayStep::Sending, PayStep::InDoubt, PayStep::Held], None).await;
    to.pay("paid", &[PayStep::Sending], Some(PayVerdict::Paid)).await;
    let unpaid = Some(PayVerdict::Unpaid("payment_expiration".into()));
    to.pay("unpaid", &[PayStep::Sending, PayStep::InDoubt], unpaid).await;
    let lane = ItemsHash::of(&items("held"), EchoProfile::default());
    to.done(Change::HoldLane { lane, why: "more orders than doubts".into() }).await;
    let freed = ItemsHash::of(&items("a-freed-lane"), EchoProfile::default());
    to.done(Change::HoldLane { lane: freed, why: "more orders than doubts".into() }).await;
    to.done(Change::FreeLane { lane: freed }).await;
    to.done(Change::Orphans { ids: vec![order_id("X-2"), order_id("X-1")], why: "late".into() })
        .await;
    to.done(Change::Pause { why: "a person".into() }).await;
    to.done(Change::Resume).await;
    to.store
}

fn sum(orders: u64, amount: &str) -> Sum {
    Sum { orders, amount: amount.parse().expect("a price") }
}

fn at_second(second: u64) -> Timestamp {
    at(i64::try_from(second).expect("small"))
}

/// What is kept of an intent, on one line.
fn intent_line(stored: &Stored) -> String {
    let (attempt, ordered) = (stored.state.attempt(), stored.state.order());
    let mut line = format!("{} {}", stored.client_ref, stored.state.name());
    let add = |line: &mut String, name: &str, what: String| write!(line, " {name}={what}").unwrap();
    add(&mut line, "id", stored.id.0.to_string());
    add(&mut line, "lane", stored.lane.to_string());
    add(&mut line, "as_sent", format!("{:?}", stored.as_sent));
    add(&mut line, "delivered", format!("{:?}", stored.delivered));
    add(&mut line, "accepted", stored.accepted_at.to_string());
    add(&mut line, "good_until", stored.good_until.to_string());
    add(&mut line, "tries", stored.tries.to_string());
    add(&mut line, "last_attempt", format!("{:?}", stored.last_attempt.map(|last| last.0)));
    add(&mut line, "unsettled", stored.unsettled.to_string());
    if let Some(attempt) = attempt {
        let floor = attempt.floor.map(|floor| floor.to_string());
        let what = format!("{}/{:x}/{floor:?}", attempt.seq.0, attempt.fingerprint.0);
        add(&mut line, "attempt", what);
    }
    if let Some(order) = ordered {
        let created_at = order.created_at.map(|moment| moment.to_string());
        add(&mut line, "order", format!("{}/{:?}/{created_at:?}", order.id, order.learnt));
    }
    if let State::Created { payment, .. } = &stored.state {
        let Payment { step, pays, tries } = payment;
        add(&mut line, "payment", format!("{}/{pays}/{tries}", step.name()));
    }
    if let State::InDoubt(_, why)
    | State::Held(_, why)
    | State::Refused(why)
    | State::NotPlaced(why)
    | State::Created { why, .. }
    | State::Unpaid { why, .. } = &stored.state
    {
        add(&mut line, "why", format!("{why:?}"));
    }
    for item in stored.items.iter() {
        let note = item.note_ref().map_or("", Note::as_json);
        let price = item.price().map(ToString::to_string).unwrap_or_default();
        add(&mut line, "item", format!("{}/{}/{note}/{price}", item.id(), item.quantity()));
    }
    line
}

fn account_lines(found: &Rehydration) -> Vec<String> {
    let held: Vec<_> = found.held_lanes.iter().map(|(lane, why)| format!("{lane}/{why}")).collect();
    let shapes = found.echo_seen.iter().map(|seen| (seen.several_lines, seen.with_note));
    let history =
        found.history.as_ref().map(|line| (line.newest.map(|n| n.to_string()), &line.ids));
    let mut lines = vec![
        format!("account held lanes {held:?}"),
        format!("account orphans {:?}", found.orphans),
        format!("account history {history:?}"),
        format!("account echo {:?}", shapes.collect::<Vec<_>>()),
        format!("account paused {:?}", found.paused),
        format!("account mark {:?}", found.mark.as_ref().map(ToString::to_string)),
        format!("account newest {:?}", found.newest_known.map(|moment| moment.to_string())),
    ];
    for (by, sum) in found.spent.slots() {
        lines.push(format!("account spent by {by}: {} orders, {}", sum.orders, sum.amount));
    }
    lines
}

async fn all_of(store: &EmbeddedStore) -> Vec<Adopted> {
    let (mut all, mut next) = (Vec::new(), Some(Bookmark::default()));
    while let Some(from) = next {
        let page = store.read_through(from).await.expect("a page");
        all.extend(page.intents);
        next = page.next;
    }
    all.sort_by_key(|intent| intent.stored.id);
    all.dedup_by_key(|intent| intent.stored.id);
    all
}

/// What a store holds, as in `EXPECTED.txt`.
async fn described(store: &EmbeddedStore) -> String {
    let mut lines = account_lines(&store.rehydrate().await.expect("an account"));
    lines.extend(all_of(store).await.iter().map(|intent| {
        let shape = (intent.shape.several_lines, intent.shape.with_note);
        format!("{} shape={shape:?} ended_at={}", intent_line(&intent.stored), intent.ended_at.0)
    }));
    lines.push(String::new());
    lines.join("\n")
}

/// Keeps a closed store as a fixture.
async fn keep(dir: &Path, name: &str) {
    // Opened once more: what was allocated ahead is cut off.
    let store = open(dir);
    let expected = described(&store).await;
    store.close().await.expect("closes");
    drop(store);
    let to = fixtures().join(name);
    // What is there is never written again.
    if to.exists() {
        return;
    }
    copy(dir, &to);
    for derived in ["index", "index.fed", "lock"] {
        let path = to.join(derived);
        let _ =
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
    std::fs::write(to.join("EXPECTED.txt"), expected).expect("written");
}

/// Writes the fixtures of this version. Run it once for a version, look at them, and commit them:
/// `cargo test --all-features --test it write_the_fixtures -- --ignored`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes files of the repository, once for each released version"]
async fn write_the_fixtures_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let dir = tempfile::tempdir().expect("a directory");
    let (plain, moved) = (dir.path().join("plain"), dir.path().join("moved"));
    let store = fill(open(&plain)).await;
    // The same, as a migration writes it.
    let target = open(&moved);
    let mark = |mark| Change::Mark { mark };
    target.commit(mark(Some(Mark::FilledFrom("embedded:plain".into())))).await.expect("marked");
    let handed_out = store.next_serial();
    for intent in all_of(&store).await {
        let adopt = Change::Adopt { intent: Box::new(intent), handed_out };
        assert_eq!(target.commit(adopt).await.expect("adopted"), Committed::Done);
    }
    target.commit(mark(Some(Mark::Restored("a backup".into())))).await.expect("marked");
    for store in [&store, &target] {
        store.close().await.expect("closes");
    }
    drop((store, target));
    keep(&plain, &format!("store-{version}")).await;
    keep(&moved, &format!("store-{version}-moved")).await;
    // The same, compacted: layout 2, and ended intents in short.
    let config = EmbeddedConfig { segment_bytes: 2 << 10, ..EmbeddedConfig::default() };
    tools::compact(&plain, &config, Some(at(8))).expect("compacted");
    keep(&plain, &format!("store-{version}-compacted")).await;
    // With what is counted against limits.
    let limited = dir.path().join("limited");
    let store = open(&limited);
    for (at, back) in [(30, vec![]), (33, vec![(30, sum(1, "1.25"))])] {
        let clocks = Clocks { wall: at_second(at), supplier: Some(at_second(at)) };
        let spend = Spend { now: at - 10, at, sum: sum(2, "2.50"), back, clocks };
        store.commit(Change::Spend(spend)).await.expect("reserved");
    }
    store.close().await.expect("closes");
    drop(store);
    keep(&limited, &format!("store-{version}-limited")).await;
    tools::compact(&limited, &config, None).expect("compacted");
    keep(&limited, &format!("store-{version}-limited-compacted")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_store_of_a_released_version_opens_and_holds_what_it_held() {
    for fixture in stores() {
        let name = fixture.display();
        let expected = std::fs::read_to_string(fixture.join("EXPECTED.txt")).expect("expected");
        let dir = tempfile::tempdir().expect("a directory");
        copy(&fixture, dir.path());
        let report = tools::verify(dir.path(), None).expect("the journal is whole");
        assert_eq!((report.unguarded, report.journal.torn_bytes), (vec![], 0), "{name}");
        // Without an index first: it is made of the journal. Then with the one that was made.
        for time in ["first", "second"] {
            let store = open(dir.path());
            assert_eq!(described(&store).await, expected, "{name}, opened the {time} time");
            store.close().await.expect("closes");
            drop(store);
            assert!(dir.path().join("index/db").is_file(), "{name}");
        }
        let lines = expected.lines().filter(|line| !line.starts_with("account")).count() as u64;
        assert_eq!(report.open + report.ended, lines, "{name}");
    }
}

/// A repeat under an old reference gets the old answer, and another order under it is a conflict.
#[tokio::test(flavor = "multi_thread")]
async fn references_of_released_versions_are_not_forgotten() {
    for fixture in stores() {
        let dir = tempfile::tempdir().expect("a directory");
        copy(&fixture, dir.path());
        let mut to = Writing { store: open(dir.path()), seconds: 1_000 };
        let intents = all_of(&to.store).await;
        let highest = intents.iter().map(|intent| intent.stored.id).max();
        // Some have what is counted against limits, and no orders.
        assert!(highest.is_none_or(|highest| to.store.next_serial() > highest));
        for Adopted { stored, .. } in intents {
            let name = stored.client_ref.as_str();
            let mut again = to.intent(name);
            let accept = Change::Accept { intent: again.clone(), attempt: None };
            let joined = to.store.commit(accept).await.expect("answered");
            assert_eq!(joined, Committed::Joined(Box::new(stored.clone())), "{name}");
            again.as_sent =
                ItemsDigest::as_sent(&items("another order than any of those there are"));
            let accept = Change::Accept { intent: again, attempt: None };
            let refused = to.store.commit(accept).await.expect("answered");
            assert_eq!(refused, Committed::Conflict, "{name}");
            // Its order is nobody else's.
            let Some(order) = stored.state.order() else { continue };
            let claims = to.store.claims(vec![order.id.clone()]).await.expect("answered");
            assert_eq!(claims[0].as_ref().map(|claim| claim.intent), Some(stored.id), "{name}");
            let (intent, attempt) = to.sending(&format!("takes-{name}")).await;
            let verdict = placed(order.id.as_str(), Learnt::Answer, None);
            let taken = Change::Decide { intent, attempt, verdict };
            let taken = to.store.commit(taken).await.expect("answered");
            assert!(matches!(taken, Committed::IdTaken(_)), "{name}: {taken:?}");
        }
        let open = Arc::new(to.store);
        open.close().await.expect("closes");
    }
}
