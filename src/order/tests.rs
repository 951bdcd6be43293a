use super::*;

fn note(json: &str) -> Note {
    Note::new(&serde_json::from_str(json).expect("json")).expect("note")
}

fn item(id: &str, quantity: u32) -> Item {
    Item::new(id, quantity).expect("item")
}

fn hash(items: &[Item]) -> ItemsHash {
    ItemsHash::of(items, EchoProfile::default())
}

#[test]
fn client_ref_is_printable_ascii_of_1_to_255_bytes() {
    assert!(ClientRef::new("a").is_ok());
    assert!(ClientRef::new("~".repeat(255)).is_ok());
    for bad in ["", "a b", "tab\t", "é", "nul\0", "del\u{7f}", &"x".repeat(256)] {
        assert_eq!(ClientRef::new(bad), Err(InvalidOrder::ClientRef), "{bad:?}");
    }
}

#[test]
fn item_takes_any_utf8_id_and_no_zero_quantity() {
    assert!(Item::new("gift-card ✨", 1).is_ok());
    assert_eq!(Item::new("", 1), Err(InvalidOrder::ItemId));
    assert_eq!(Item::new("x".repeat(256), 1), Err(InvalidOrder::ItemId));
    assert_eq!(Item::new("a", 0), Err(InvalidOrder::Quantity));
}

#[test]
fn order_has_one_to_ten_lines() {
    let order = |n: usize| Order::new(ClientRef::random(), vec![item("a", 1); n]);
    assert_eq!(order(0), Err(InvalidOrder::Items(0)));
    assert!(order(10).is_ok());
    assert_eq!(order(11), Err(InvalidOrder::Items(11)));
    let huge = vec![item("a", u32::MAX), item("a", 1)];
    assert_eq!(Order::new(ClientRef::random(), huge), Err(InvalidOrder::Total));
}

#[test]
fn items_hash_ignores_line_order_and_adds_equal_lines_up() {
    assert_eq!(hash(&[item("a", 2), item("b", 1)]), hash(&[item("b", 1), item("a", 2)]));
    assert_eq!(hash(&[item("a", 2)]), hash(&[item("a", 1), item("a", 1)]));
    assert_ne!(hash(&[item("a", 2)]), hash(&[item("a", 1)]));
    assert_ne!(hash(&[item("ab", 1)]), hash(&[item("a", 1), item("b", 1)]));
}

#[test]
fn items_hash_compares_ids_as_bytes() {
    assert_ne!(hash(&[item("é", 1)]), hash(&[item("e\u{301}", 1)]));
}

#[test]
fn items_hash_follows_the_echo_profile() {
    let a = item("a", 1).note(note(r#"{"player":"1"}"#));
    let b = item("a", 1).note(note(r#"{"player":"2"}"#));
    let echoed = EchoProfile { quantity: true, note: true, tag: None };
    assert_eq!(hash(std::slice::from_ref(&a)), hash(std::slice::from_ref(&b)));
    assert_ne!(
        ItemsHash::of(std::slice::from_ref(&a), echoed),
        ItemsHash::of(std::slice::from_ref(&b), echoed)
    );
    assert_ne!(ItemsDigest::delivered(&[a], false), ItemsDigest::delivered(&[b], false));
}

#[test]
fn row_hashes_to_the_hash_of_its_order_or_to_none() {
    let row = |quantity| EchoedItem { id: "a".into(), quantity, note: None };
    let echo = EchoProfile::default();
    assert_eq!(ItemsHash::of_row(&[row(Some(3))], echo), Some(hash(&[item("a", 3)])));
    assert_eq!(ItemsHash::of_row(&[row(None)], echo), None);
    assert_eq!(ItemsHash::of_row(&[], echo), None);
}

#[test]
fn note_order_of_keys_does_not_matter() {
    assert_eq!(note(r#"{"b":1,"a":2}"#), note(r#"{"a":2,"b":1}"#));
    assert_eq!(format!("{:?}", note(r#"{"player":"secret"}"#)), "Note(19 bytes)");
}

#[test]
fn as_sent_digest_sees_the_guard_and_delivered_does_not() {
    let guard = |text: &str| item("a", 1).total_price(text.parse().expect("price"));
    let (one, two) = ([guard("1.0")], [guard("2")]);
    assert_ne!(ItemsDigest::as_sent(&one), ItemsDigest::as_sent(&two));
    assert_eq!(ItemsDigest::as_sent(&one), ItemsDigest::as_sent(&[guard("1.00")]));
    assert_eq!(ItemsDigest::delivered(&one, false), ItemsDigest::delivered(&two, false));
    assert_ne!(ItemsDigest::delivered(&one, true), ItemsDigest::delivered(&two, true));
}

#[test]
fn price_is_exact_and_not_negative() {
    assert_eq!("2.10".parse::<Price>().expect("price").to_string(), "2.10");
    for bad in ["", "-1", "1e3", "+1", "nan", "1,0", "0.00000000000000000000000000001"] {
        assert!(bad.parse::<Price>().is_err(), "{bad:?}");
    }
}
