use std::sync::Arc;

use super::*;
use crate::order::{EchoProfile, EchoedItem, ItemsHash};

fn key() -> TagKey {
    TagKey::new("order_ref").expect("a key")
}

fn reference(text: &str) -> ClientRef {
    ClientRef::new(text).expect("a reference")
}

fn note(value: serde_json::Value) -> Note {
    Note::new(&value).expect("a note")
}

fn items() -> Arc<[Item]> {
    let noted = Item::new("card", 1).expect("an item").note(note(serde_json::json!({"player": 7})));
    [noted, Item::new("voucher", 2).expect("an item")].into()
}

fn echo() -> EchoProfile {
    EchoProfile { tag: Some(key()), ..EchoProfile::default() }
}

/// What a list shows of lines as they were sent.
fn shown(items: &[Item]) -> Vec<EchoedItem> {
    let line = |item: &Item| EchoedItem {
        id: item.id().to_owned(),
        quantity: Some(item.quantity()),
        note: item.note_ref().cloned(),
    };
    items.iter().map(line).collect()
}

#[test]
fn a_tag_is_one_hash_of_the_reference_and_of_one_form() {
    let tag = Tag::of(&reference("order-1"));
    // As anybody can work it out: sha256("order-router tag 1\0" + reference), the first 16 bytes.
    assert_eq!(tag.to_string(), "df209b54ca140620f27e66bc3db32779");
    assert_eq!(Tag::parse(&tag.to_string()), Some(tag));
    assert_ne!(Tag::of(&reference("order-2")), tag);
    let text = tag.to_string();
    for other in
        ["", &text[..31], &text.to_uppercase(), &format!("{text}0"), &format!("+{}", &text[1..])]
    {
        assert_eq!(Tag::parse(other), None, "{other}");
    }
}

#[test]
fn a_key_is_a_plain_word() {
    assert_eq!(key().as_str(), "order_ref");
    assert_eq!(TagKey::new("a".repeat(32)).expect("a key").as_str().len(), 32);
    for text in ["", "a b", "ä", "a.b", "\"", &"a".repeat(33)] {
        assert_eq!(TagKey::new(text), Err(InvalidOrder::TagKey), "{text}");
    }
}

#[test]
fn every_line_carries_the_tag_beside_what_the_note_had() {
    let sent = key().write(&items(), &reference("order-1"));
    let tag = Tag::of(&reference("order-1"));
    let fields: Vec<serde_json::Value> = sent
        .iter()
        .map(|item| serde_json::from_str(item.note_ref().expect("a note").as_json()).expect("JSON"))
        .collect();
    let tag = tag.to_string();
    assert_eq!(fields[0], serde_json::json!({"player": 7, "order_ref": tag}));
    assert_eq!(fields[1], serde_json::json!({"order_ref": tag}));
    assert_eq!((sent[1].id(), sent[1].quantity()), ("voucher", 2));
}

#[test]
fn a_row_is_of_a_lane_only_with_its_tag_in_every_line() {
    let (mine, other) = (reference("order-1"), reference("order-2"));
    let lane = echo().lane(&mine, &items());
    let rows = shown(&echo().as_sent(&mine, &items()));
    assert_eq!(ItemsHash::of_row(&rows, echo()), Some(lane));
    let foreign = shown(&echo().as_sent(&other, &items()));
    let hash = ItemsHash::of_row(&foreign, echo()).expect("a hash");
    assert!(hash != lane && hash.tag().is_some() && hash.tag() != lane.tag());
    let mut mixed = rows.clone();
    mixed[1].note = foreign[1].note.clone();
    let mut half = rows.clone();
    half[1].note = None;
    for row in [mixed, half, shown(&items())] {
        let hash = ItemsHash::of_row(&row, echo()).expect("a hash");
        assert_eq!(hash.tag(), None);
        assert_eq!(Some(hash), ItemsHash::of_row(&row, EchoProfile::default()));
    }
    let mut odd = rows;
    odd[0].quantity = Some(9);
    let hash = ItemsHash::of_row(&odd, echo()).expect("a hash");
    assert!(hash != lane && hash.tag() == lane.tag());
}

#[test]
fn a_lane_tells_the_key_of_its_tags_and_whether_it_has_one() {
    let mine = reference("order-1");
    let lane = echo().lane(&mine, &items());
    let renamed = EchoProfile { tag: Some(TagKey::new("ref").expect("a key")), ..echo() };
    assert_ne!(renamed.lane(&mine, &items()), lane);
    assert!(lane.is_of(echo()) && !lane.is_of(EchoProfile::default()));
    assert!(!EchoProfile::default().lane(&mine, &items()).is_of(echo()));
    let with_notes = EchoProfile { note: true, ..echo() };
    assert!(!lane.is_of(with_notes) && with_notes.lane(&mine, &items()).is_of(with_notes));
}

#[test]
fn an_order_whose_note_leaves_no_room_for_a_tag_is_told_from_others() {
    let with = |value| [Item::new("card", 1).expect("an item").note(note(value))];
    assert!(key().fits(&items()));
    assert!(!key().fits(&with(serde_json::json!({"order_ref": 1}))));
    let long = |n: usize| with(serde_json::json!({"a": "x".repeat(n)}));
    let fitting = (0..1024).rev().find(|n| 8 + n <= 1024 && key().fits(&long(*n))).expect("some");
    let sent = key().write(&long(fitting), &reference("r"));
    let length = sent[0].note_ref().expect("a note").as_json().len();
    assert!(length <= NOTE_BYTES_MAX && length > NOTE_BYTES_MAX - 2, "{length}");
}
