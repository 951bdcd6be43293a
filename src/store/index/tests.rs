//! The index alone: what it takes over is what it gives back.

use super::*;
use crate::order::{EchoProfile, Item, ItemsDigest, ItemsHash};
use crate::protocol::{Change, Learnt, NewIntent, Verdict, Why};
use crate::store::book::Book;

fn id(n: u64) -> OrderId {
    OrderId::new(format!("order-{n:06}")).expect("an id")
}

fn intent(n: u64) -> NewIntent {
    let items = [Item::new("a", 1).expect("an item")];
    NewIntent {
        id: Serial(n),
        client_ref: ClientRef::new(format!("r{n}")).expect("a reference"),
        lane: ItemsHash::of(&items, EchoProfile::default()),
        as_sent: ItemsDigest::as_sent(&items),
        delivered: ItemsDigest::delivered(&items, false),
        items: items.into(),
        good_until: jiff::Timestamp::MAX,
        accepted_at: jiff::Timestamp::MIN,
    }
}

/// An attempt with the intent's own serial and a thousand.
fn accept(book: &mut Book, n: u64) {
    let attempt = crate::protocol::Attempt { seq: Serial(n + 1000), ..attempt() };
    book.apply(Change::Accept { intent: intent(n), attempt: Some(attempt) }).expect("follows");
}

fn attempt() -> crate::protocol::Attempt {
    let fingerprint = crate::protocol::Fingerprint(1);
    crate::protocol::Attempt { seq: Serial(0), fingerprint, floor: None }
}

fn place(book: &mut Book, n: u64, learnt: Learnt) {
    let created_at = Some(jiff::Timestamp::UNIX_EPOCH);
    let verdict = Verdict::Placed { id: id(n), learnt, created_at };
    let (intent, attempt) = (Serial(n), Serial(n + 1000));
    book.apply(Change::Decide { intent, attempt, verdict }).expect("follows");
}

fn at(seq: u64) -> Position {
    Position { segment: 1, offset: 36, seq }
}

#[test]
fn rows_claims_and_account_come_back_as_they_were_fed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut book, mut pieces) = (Book::new(true), 0);
    let index = Index::open(dir.path(), true).expect("opens");
    assert!(index.load().expect("loads").is_none());
    (1..=3).for_each(|n| accept(&mut book, n));
    // An account of several rows.
    for from in 0..60 {
        let ids = (0..64).map(|n| id(from * 64 + n)).collect();
        book.apply(Change::Orphans { ids, why: Why::Borrowed("test") }).expect("follows");
    }
    index.feed(&book.take_feed(), at(1), &mut pieces, true).expect("feeds");
    assert!(pieces > 1, "{pieces}");
    place(&mut book, 1, Learnt::Answer);
    place(&mut book, 2, Learnt::List);
    let feed = book.take_feed();
    index.feed(&feed, at(2), &mut pieces, true).expect("feeds");
    let expected = book.rehydrate();
    book.let_go(&feed);
    drop(index);

    let index = Index::open(dir.path(), true).expect("opens");
    let loaded = index.load().expect("loads").expect("not empty");
    assert_eq!((loaded.watermark, loaded.standing), (at(2), *book.standing()));
    let (is, says) = (loaded.totals, loaded.standing.totals);
    assert_eq!((is.open, is.active, is.active_xor), (says.open, says.active, says.active_xor));
    let restored = Book::restored(loaded.active, loaded.account, loaded.standing);
    assert_eq!(restored.rehydrate(), expected);
    let row = index.row(&intent(1).client_ref).expect("works").expect("ended");
    assert_eq!(row.stored.items, intent(1).items);
    assert!(index.row(&intent(2).client_ref).expect("works").is_none(), "it is active");
    assert_eq!(index.claim(&id(2)).expect("works").expect("claimed").intent, Serial(2));
    let claims = index.claims_since(Serial(0)).expect("works");
    assert_eq!(claims.iter().map(|claim| claim.intent.0).collect::<Vec<_>>(), [1, 2]);
    assert!(index.claims_since(Serial(5000)).expect("works").is_empty());
}

#[test]
fn row_that_was_damaged_or_moved_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut book, mut pieces) = (Book::new(true), 0);
    let index = Index::open(dir.path(), false).expect("opens");
    for n in 1..=2 {
        accept(&mut book, n);
        place(&mut book, n, Learnt::Answer);
    }
    index.feed(&book.take_feed(), at(1), &mut pieces, true).expect("feeds");
    let reference = |n| intent(n).client_ref;
    let row = index.row(&reference(1)).expect("works").expect("ended");
    assert!(row.stored.items.is_empty(), "items are not kept");
    let db = index.db().expect("open");
    let value = db.get("rr1").expect("works").expect("there");
    db.insert("rr2", value.clone()).expect("works");
    assert!(index.row(&reference(2)).is_err(), "a row under another's key");
    for at in 0..value.len() {
        let mut damaged = value.to_vec();
        damaged[at] ^= 1;
        db.insert("rr1", damaged).expect("works");
        assert!(index.row(&reference(1)).is_err(), "byte {at}");
    }
}

#[test]
fn largest_rows_survive_in_numbers() {
    let dir = tempfile::tempdir().expect("a directory");
    let note = serde_json::json!({ "player": "x".repeat(1010) });
    let note = crate::order::Note::new(&note).expect("a note");
    let item = Item::new("i".repeat(255), 1).expect("an item").note(note);
    let (mut book, mut pieces) = (Book::new(true), 0);
    {
        let index = Index::open(dir.path(), true).expect("opens");
        for n in 1..=400 {
            let mut intent = intent(n);
            intent.items = vec![item.clone(); 10].into();
            let attempt = crate::protocol::Attempt { seq: Serial(n + 1000), ..attempt() };
            book.apply(Change::Accept { intent, attempt: Some(attempt) }).expect("follows");
            if n % 2 == 0 {
                place(&mut book, n, Learnt::Answer);
            }
            if n % 50 == 0 {
                let feed = book.take_feed();
                index.feed(&feed, at(n), &mut pieces, true).expect("feeds");
                book.let_go(&feed);
            }
        }
    }
    for _ in 0..2 {
        let index = Index::open(dir.path(), true).expect("opens");
        let loaded = index.load().expect("loads").expect("not empty");
        assert_eq!(loaded.active.len(), 200);
        assert_eq!(loaded.totals.active_xor, loaded.standing.totals.active_xor);
        for n in (2..=400).step_by(2) {
            let row = index.row(&intent(n).client_ref).expect("works").expect("there");
            assert_eq!(row.stored.items.len(), 10);
        }
    }
}

#[test]
fn index_whose_file_is_still_locked_by_the_one_before_is_waited_for() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("a directory");
    drop(Index::open(dir.path(), true).expect("opens"));
    let lingering = File::open(dir.path().join("db")).expect("opens");
    lingering.lock().expect("locks");
    let inode = lingering.metadata().expect("there").ino();
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| Index::open(dir.path(), true).map(drop));
        let waits = || {
            let locks = std::fs::read_to_string("/proc/locks").expect("reads");
            locks.lines().any(|l| l.contains("->") && l.contains(&format!(":{inode} ")))
        };
        while !waits() {
            assert!(!opening.is_finished(), "{:?}", opening.join());
            std::thread::yield_now();
        }
        drop(lingering);
        opening.join().expect("no panic").expect("opens");
    });
}
