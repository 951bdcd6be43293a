//! Rows of every kind come back, and keys are told without reading the rest.

use super::*;
use crate::store::HistoryLine;
use crate::store::book::Account;

fn row(state: State, unsettled: bool) -> Row {
    let mut row = super::row([Item::new("p", 3).expect("item")].into());
    (row.stored.state, row.stored.unsettled) = (state, unsettled);
    row
}

fn placed() -> State {
    let created_at = Some(Timestamp::UNIX_EPOCH);
    State::Placed { id: id("o"), learnt: Learnt::List, created_at }
}

#[test]
fn row_of_every_state_and_every_shape_comes_back() {
    let why = || Why::Borrowed("why");
    let states = [
        State::Queued,
        State::Sending(attempt()),
        State::InDoubt(attempt(), why()),
        State::Held(attempt(), why()),
        placed(),
        State::Refused(why()),
        State::NotPlaced(why()),
        State::Created {
            id: id("o"),
            learnt: Learnt::Answer,
            created_at: None,
            payment: payment(PayStep::Held),
            why: why(),
        },
        State::Unpaid { id: id("o"), learnt: Learnt::List, created_at: None, why: why() },
    ];
    for state in states {
        for bits in 0..4 {
            let shape = Shape { several_lines: bits & 1 != 0, with_note: bits & 2 != 0 };
            let row = Row { shape, ..row(state.clone(), true) };
            let mut bytes = Vec::new();
            encode_row(&row, true, &mut bytes);
            assert_eq!(decode_row(&bytes), Ok(row));
        }
    }
}

#[test]
fn a_row_is_active_until_it_has_ended_and_nothing_of_it_can_land() {
    assert!(row(State::Queued, false).is_active());
    assert!(row(State::InDoubt(attempt(), Why::Borrowed("why")), true).is_active());
    assert!(row(placed(), true).is_active());
    assert!(!row(placed(), false).is_active());
    assert!(!row(State::Refused(Why::Borrowed("why")), false).is_active());
}

#[test]
fn claim_comes_back_but_for_the_number_of_its_change() {
    for created_at in [None, Some(Timestamp::MAX)] {
        let claim = ClaimRow {
            id: id("o"),
            intent: Serial(5),
            lane: ItemsHash::of(&largest_items(), EchoProfile::default()),
            shape: Shape { several_lines: true, with_note: false },
            learnt: Learnt::Person,
            created_at,
            ended_at: Serial(8),
            changed: 0,
        };
        let mut bytes = Vec::new();
        encode_claim(&claim, &mut bytes);
        assert_eq!(decode_claim(id("o"), &bytes), Ok(claim));
    }
}

#[test]
fn account_comes_back() {
    let lane = ItemsHash::of(&largest_items(), EchoProfile::default());
    let shape = Shape { several_lines: false, with_note: true };
    let account = Account {
        held_lanes: [(lane, Why::Borrowed("surplus"))].into(),
        orphans: vec![id("a"), id("b")],
        history: Some(HistoryLine { newest: Some(Timestamp::MIN), ids: vec![id("c")] }),
        echo_seen: vec![shape],
        paused: Some(Why::Borrowed("key")),
        mark: None,
        spent: Spent::default(),
    };
    let marked = Account { mark: Some(Mark::MovedTo("redb:/a".into())), ..account.clone() };
    let counted = Account { spent: spent(200), ..account.clone() };
    let both = Account { spent: spent(200), ..marked.clone() };
    for account in [Account::default(), account, marked, counted, both] {
        let mut bytes = Vec::new();
        encode_account(&account, &mut bytes);
        assert_eq!(decode_account(&bytes), Ok(account));
    }
}

#[test]
fn key_of_a_change_is_told_as_the_whole_change_says_it() {
    for change in changes() {
        let order = |id: &OrderId| Some(("order", id.to_string()));
        let wanted = match &change {
            Change::Accept { intent, .. } => {
                [Some(("reference", intent.client_ref.to_string())), None]
            }
            Change::Decide { verdict, .. } => [verdict.order().and_then(|(id, _)| order(id)), None],
            Change::Adopt { intent, .. } => {
                let reference = intent.stored.client_ref.to_string();
                [
                    Some(("reference", reference)),
                    intent.stored.state.order().and_then(|of| order(of.id)),
                ]
            }
            _ => [None, None],
        };
        let bytes = encoded(&change);
        let found = journal_keys(&bytes).expect("reads").map(|key| {
            key.map(|key| match key {
                JournalKey::Reference(key) => ("reference", key.to_owned()),
                JournalKey::Order(key) => ("order", key.to_owned()),
            })
        });
        assert_eq!(found, wanted, "{change:?}");
    }
}

#[test]
fn a_reason_that_is_too_long_is_cut_at_a_character() {
    let why = Why::Owned(format!("x{}", "é".repeat(40_000)));
    let Ok(Change::Pause { why }) = decode_change(&encoded(&Change::Pause { why })) else {
        panic!("it is read");
    };
    assert_eq!((why.len(), why.chars().count()), (65_535, 32_768));
    let why = Why::Owned("é".repeat(40_000));
    let Ok(Change::Pause { why }) = decode_change(&encoded(&Change::Pause { why })) else {
        panic!("it is read");
    };
    assert_eq!(why.len(), 65_534);
}
