//! What the book keeps for the index, and when it lets go of it.

use super::*;
use crate::order::{EchoProfile, Item, ItemsDigest, ItemsHash};
use crate::protocol::{Attempt, Fingerprint, Why};

const WHY: Why = Why::Borrowed("test");

fn accept(book: &mut Book, n: u64) {
    let items = [Item::new("a", 1).expect("an item")];
    let intent = NewIntent {
        id: Serial(n),
        client_ref: reference(n),
        lane: ItemsHash::of(&items, EchoProfile::default()),
        as_sent: ItemsDigest::as_sent(&items),
        delivered: ItemsDigest::delivered(&items, false),
        items: items.into(),
        good_until: Timestamp::MAX,
        accepted_at: Timestamp::MIN,
    };
    let attempt = Attempt { seq: Serial(n + 100), fingerprint: Fingerprint(1), floor: None };
    book.apply(Change::Accept { intent, attempt: Some(attempt) }).expect("follows");
}

fn reference(n: u64) -> ClientRef {
    ClientRef::new(format!("r{n}")).expect("a reference")
}

fn decide(book: &mut Book, n: u64, verdict: Verdict) {
    let (intent, attempt) = (Serial(n), Serial(n + 100));
    book.apply(Change::Decide { intent, attempt, verdict }).expect("follows");
}

fn placed(learnt: Learnt) -> Verdict {
    let id = OrderId::new("o1").expect("an id");
    Verdict::Placed { id, learnt, created_at: None }
}

fn holds(book: &Book, n: u64) -> bool {
    book.find(&NoBase, &reference(n)).expect("works").is_some()
}

#[test]
fn book_lets_go_of_what_ended_and_of_nothing_that_changed_since() {
    let mut book = Book::new(true);
    (1..=3).for_each(|n| accept(&mut book, n));
    decide(&mut book, 1, Verdict::Refused(WHY));
    let first = book.take_feed();
    assert_eq!((first.rows.len(), book.dirty()), (3, 0));
    decide(&mut book, 2, Verdict::Refused(WHY));
    let second = book.take_feed();
    assert!(second.rows[0].was_active, "the index must remove it");
    book.let_go(&first);
    assert!(!holds(&book, 1) && holds(&book, 2) && holds(&book, 3));
    book.let_go(&second);
    assert!(!holds(&book, 2) && holds(&book, 3));
    let totals = book.standing().totals;
    assert_eq!((totals.open, totals.active, totals.ended), (1, 1, 2));
}

#[test]
fn book_keeps_an_unsettled_intent_and_lets_go_of_its_claim() {
    let mut book = Book::new(true);
    accept(&mut book, 1);
    decide(&mut book, 1, placed(Learnt::List));
    let feed = book.take_feed();
    book.let_go(&feed);
    assert!(holds(&book, 1));
    let id = OrderId::new("o1").expect("an id");
    assert!(book.claim(&NoBase, &id).expect("works").is_none(), "the index has it");
    assert_eq!(book.rehydrate().intents.len(), 1);
    book.apply(Change::Settle { intent: Serial(1) }).expect("follows");
    let feed = book.take_feed();
    book.let_go(&feed);
    assert!(!holds(&book, 1));
    assert_eq!(book.witnesses_since(Serial(0)).0.len(), 1);
}

#[test]
fn change_that_follows_on_nothing_is_impossible() {
    let mut book = Book::new(true);
    assert_eq!(book.apply(Change::Settle { intent: Serial(9) }), Err(Impossible));
    accept(&mut book, 1);
    decide(&mut book, 1, placed(Learnt::Answer));
    accept(&mut book, 2);
    let again =
        Change::Decide { intent: Serial(2), attempt: Serial(102), verdict: placed(Learnt::Answer) };
    assert_eq!(book.apply(again), Err(Impossible), "the order is claimed");
}

#[test]
fn standing_of_a_replayed_history_is_the_same() {
    let history = |book: &mut Book| {
        (1..=4).for_each(|n| accept(book, n));
        decide(book, 1, placed(Learnt::Person));
        decide(book, 2, Verdict::Absent);
        decide(book, 3, Verdict::Held(WHY));
        book.apply(Change::Pause { why: WHY }).expect("follows");
    };
    let (mut one, mut two) = (Book::new(true), Book::new(false));
    history(&mut one);
    let feed = one.take_feed();
    one.let_go(&feed);
    history(&mut two);
    assert!(one.standing().agrees_with(two.standing()));
    decide(&mut two, 4, Verdict::InDoubt(WHY));
    assert!(!one.standing().agrees_with(two.standing()));
}
