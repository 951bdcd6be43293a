use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::order::{ClientRef, EchoProfile, Item, ItemsDigest, ItemsHash, Note, OrderId};
use crate::protocol::limits::{BACK_PER_RECORD_MAX, Clocks, Spend, Spent, Sum};
use crate::protocol::{
    Attempt, Change, Fingerprint, IDS_PER_RECORD_MAX, Learnt, NewIntent, PayStep, PayVerdict,
    Payment, Serial, Shape, State, Verdict, Why,
};
use crate::store::{Mark, Stored};

mod fixtures;
mod rows;

fn note(bytes: usize) -> Note {
    let json = serde_json::json!({ "player": "x".repeat(bytes - r#"{"player":""}"#.len()) });
    Note::new(&json).expect("a note of this length")
}

fn largest_items() -> Vec<Item> {
    let price = "1234567890123456789012345.678".parse::<crate::Price>().expect("28 digits");
    (0..10)
        .map(|_| Item::new("i".repeat(255), u32::MAX / 10).expect("item").note(note(1024)))
        .map(|item| item.total_price(price))
        .collect()
}

fn accept(client_ref: &str, items: &[Item]) -> Change {
    Change::Accept {
        intent: NewIntent {
            id: Serial(7),
            client_ref: ClientRef::new(client_ref).expect("reference"),
            lane: ItemsHash::of(items, EchoProfile::default()),
            as_sent: ItemsDigest::as_sent(items),
            delivered: ItemsDigest::delivered(items, false),
            items: items.into(),
            good_until: Timestamp::new(1_800_000_000, 123_456_789).expect("in range"),
            accepted_at: Timestamp::MIN,
        },
        attempt: Some(attempt()),
    }
}

fn attempt() -> Attempt {
    Attempt { seq: Serial(8), fingerprint: Fingerprint(9), floor: Some(Timestamp::MAX) }
}

fn id(text: &str) -> OrderId {
    OrderId::new(text).expect("id")
}

fn adopt(state: State) -> Change {
    let mut row = row(largest_items().into());
    (row.stored.state, row.ended_at) = (state, Serial(9));
    Change::Adopt { intent: Box::new(row.adopted()), handed_out: Serial(10) }
}

fn payment(step: PayStep) -> Payment {
    Payment { step, pays: u32::MAX, tries: 3 }
}

fn pay(to: PayVerdict) -> Change {
    Change::Pay { intent: Serial(3), was: payment(PayStep::Due), to }
}

fn changes() -> Vec<Change> {
    let why = || Why::Borrowed("timeout");
    let lane = ItemsHash::of(&largest_items(), EchoProfile::default());
    let decide = |verdict| Change::Decide { intent: Serial(1), attempt: Serial(2), verdict };
    let placed = |learnt| Verdict::Placed { id: id("A-1 ✨"), learnt, created_at: None };
    vec![
        accept("a", &[Item::new("x", 1).expect("item")]),
        accept(&"r".repeat(255), &largest_items()),
        Change::Record { intent: Serial(u64::MAX), attempt: attempt() },
        decide(placed(Learnt::Answer)),
        decide(placed(Learnt::List)),
        decide(placed(Learnt::Person)),
        decide(Verdict::Refused(why())),
        decide(Verdict::NotSent(why())),
        decide(Verdict::InDoubt(why())),
        decide(Verdict::Held(why())),
        decide(Verdict::Absent),
        decide(Verdict::NotPlaced(why())),
        Change::Expire { intent: Serial(1), why: why() },
        Change::Settle { intent: Serial(1) },
        Change::HoldLane { lane, why: why() },
        Change::FreeLane { lane },
        Change::Orphans { ids: vec![id("a"), id("b")], why: why() },
        Change::History { newest: Some(Timestamp::UNIX_EPOCH), ids: vec![id("a")] },
        Change::EchoSeen { shape: Shape { several_lines: true, with_note: false } },
        Change::Pause { why: why() },
        Change::Resume,
        adopt(State::Held(attempt(), why())),
        adopt(State::Placed { id: id("a"), learnt: Learnt::List, created_at: None }),
        adopt(State::Refused(why())),
        adopt(State::NotPlaced(why())),
        adopt(State::Unpaid {
            id: id("b"),
            learnt: Learnt::Person,
            created_at: Some(Timestamp::MAX),
            why: why(),
        }),
        Change::Mark { mark: None },
        Change::Mark { mark: Some(Mark::MovingTo("postgres://h/d".into())) },
        Change::Mark { mark: Some(Mark::FilledFrom(String::new())) },
        adopt(State::Created {
            id: id("A-3"),
            learnt: Learnt::List,
            created_at: None,
            payment: payment(PayStep::InDoubt),
            why: why(),
        }),
        decide(Verdict::Created { id: id("A-2"), learnt: Learnt::List, created_at: None }),
        pay(PayVerdict::Open { payment: payment(PayStep::Sending), why: why() }),
        pay(PayVerdict::Paid),
        pay(PayVerdict::Unpaid(why())),
        Change::Spend(spend(0)),
        Change::Spend(spend(2)),
        Change::Spent(Spent::default()),
        Change::Spent(spent(200)),
    ]
}

fn sum(orders: u64) -> Sum {
    Sum { orders, amount: "7922816251426433.335".parse().expect("an amount") }
}

fn clocks(supplier: Option<Timestamp>) -> Clocks {
    Clocks { wall: Timestamp::UNIX_EPOCH, supplier }
}

fn spend(back: usize) -> Spend {
    let back = (0..back as u64).map(|at| (at, sum(u64::MAX))).collect();
    Spend { now: 1, at: u64::MAX, sum: sum(3), back, clocks: clocks(Some(Timestamp::MAX)) }
}

/// What is left of so many seconds, in each of which something was spent.
fn spent(seconds: u64) -> Spent {
    Spent::of((1..=seconds).map(|at| (at, sum(1))), seconds, Some(clocks(None)))
}

fn encoded(change: &Change) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_change(change, &mut bytes);
    bytes
}

#[test]
fn every_change_comes_back_as_it_was_written() {
    for change in changes() {
        assert_eq!(decode_change(&encoded(&change)), Ok(change));
    }
}

#[test]
fn every_cut_and_every_byte_too_many_is_refused() {
    for change in changes() {
        let mut bytes = encoded(&change);
        for cut in 0..bytes.len() {
            assert!(decode_change(&bytes[..cut]).is_err(), "{change:?} cut at {cut}");
        }
        bytes.push(0);
        assert_eq!(decode_change(&bytes), Err(RecordError::Long));
    }
}

#[test]
fn newer_version_is_named_and_not_guessed_at() {
    let mut bytes = encoded(&Change::Resume);
    bytes[0] = RECORD_VERSION + 1;
    assert_eq!(decode_change(&bytes), Err(RecordError::Newer(RECORD_VERSION + 1)));
    assert!(RecordError::Newer(2).to_string().contains("from a newer version"));
}

#[test]
fn a_record_is_of_the_lowest_version_that_has_what_it_needs() {
    let version = |change: &Change| match change {
        Change::Pay { .. } | Change::Decide { verdict: Verdict::Created { .. }, .. } => 2,
        Change::Spend(_) | Change::Spent(_) => 3,
        Change::Adopt { intent, .. } if intent.stored.state.is_end() => 3,
        Change::Adopt { intent, .. } if intent.stored.state.order().is_some() => 2,
        _ => 1,
    };
    for change in changes() {
        assert_eq!(encoded(&change)[0], version(&change), "{change:?}");
    }
}

#[test]
fn largest_order_and_longest_list_of_ids_fit_in_a_record() {
    let order = encoded(&accept(&"r".repeat(255), &largest_items())).len();
    let ids = vec![id(&"o".repeat(255)); IDS_PER_RECORD_MAX];
    let spends = [
        encoded(&Change::Spend(spend(BACK_PER_RECORD_MAX))).len(),
        // There is never more.
        encoded(&Change::Spent(Spent::of((0..400).map(|at| (at, sum(1))), 0, None))).len(),
    ];
    assert!(spends.iter().all(|bytes| *bytes < RECORD_BYTES_MAX), "{spends:?}");
    let list = encoded(&Change::Orphans { ids, why: Why::Borrowed("no open attempt") }).len();
    let placed = State::Placed { id: id(&"o".repeat(255)), learnt: Learnt::List, created_at: None };
    let held = State::Held(attempt(), Why::Owned("w".repeat(255)));
    for state in [placed, held] {
        let Change::Adopt { mut intent, handed_out } = adopt(state) else { unreachable!() };
        intent.stored.client_ref = ClientRef::new("r".repeat(255)).expect("reference");
        let adopted = encoded(&Change::Adopt { intent, handed_out }).len();
        assert!(adopted <= RECORD_BYTES_MAX, "{adopted}");
    }
    assert!(order <= RECORD_BYTES_MAX, "{order}");
    assert!(list <= RECORD_BYTES_MAX, "{list}");
}

/// A row of an intent that waits to be sent.
fn row(items: Arc<[Item]>) -> Row {
    Row {
        stored: Stored {
            id: Serial(1),
            client_ref: ClientRef::new("a").expect("reference"),
            lane: ItemsHash::of(&items, EchoProfile::default()),
            as_sent: ItemsDigest::as_sent(&items),
            delivered: ItemsDigest::delivered(&items, true),
            items,
            good_until: Timestamp::MAX,
            accepted_at: Timestamp::UNIX_EPOCH,
            state: State::Queued,
            tries: 0,
            last_attempt: None,
            unsettled: false,
        },
        shape: Shape { several_lines: false, with_note: false },
        changed: 1,
        ended_at: Serial(0),
    }
}

#[test]
fn row_comes_back_and_without_its_items_if_they_are_not_kept() {
    let mut row = row(largest_items().into());
    row.stored.state = State::Held(attempt(), Why::Borrowed("near miss"));
    (row.stored.tries, row.stored.last_attempt, row.stored.unsettled) = (2, Some(Serial(8)), true);
    row.shape = Shape { several_lines: true, with_note: true };
    (row.changed, row.ended_at) = (99, Serial(98));
    let mut bytes = Vec::new();
    encode_row(&row, true, &mut bytes);
    assert_eq!(decode_row(&bytes), Ok(row.clone()));
    bytes.clear();
    encode_row(&row, false, &mut bytes);
    row.stored.items = Arc::new([]);
    assert_eq!(decode_row(&bytes), Ok(row));
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_change(&bytes);
        let _ = decode_row(&bytes);
        let _ = decode_account(&bytes);
        let _ = decode_claim(id("a"), &bytes);
    }

    #[test]
    fn no_damage_makes_reading_panic(
        which in 0..34_usize,
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let mut bytes = encoded(&changes()[which]);
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = decode_change(&bytes);
    }
}
