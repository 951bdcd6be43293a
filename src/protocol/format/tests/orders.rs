//! Whole orders, as each field of the format reads them.

use super::*;

fn object(text: &str) -> Object<'_> {
    Object::read(text.as_bytes()).expect("an object")
}

#[test]
fn an_order_is_the_answer_or_what_its_envelope_holds() {
    let plain = OrderFormat::default();
    let enveloped = OrderFormat { envelope: Some("order".into()), ..OrderFormat::default() };
    let id = |format: &OrderFormat, text: &str| {
        format.open(text.as_bytes()).and_then(|order| format.id_of(&order))
    };
    let seven = OrderId::new("7");
    assert_eq!(id(&plain, r#"{"id":"7"}"#), seven);
    assert_eq!(id(&enveloped, r#"{"order":{"id":7},"id":8}"#), seven);
    assert_eq!(id(&enveloped, r#"{"id":"7"}"#), None);
    assert_eq!(id(&enveloped, r#"{"order":[{"id":"7"}]}"#), None);
    for none in ["{}", r#"{"id":null}"#, r#"{"id":""}"#, r#"{"id":{}}"#, r#"{"id":-7}"#, "[]"] {
        assert_eq!(id(&plain, none), None, "{none}");
    }
}

#[test]
fn the_moment_of_creation_is_read_or_not_known() {
    let read = |text: &str| OrderFormat::default().created_at_of(&object(text));
    let at = "2026-01-31T12:00:00Z".parse().expect("a moment");
    assert_eq!(read(r#"{"createdAt":"2026-01-31T12:00:00Z"}"#), Some(at));
    assert_eq!(read(r#"{"createdAt":"soon"}"#), None);
    assert_eq!(read("{}"), None);
}

#[test]
fn a_line_names_its_product_in_one_way_or_twice_the_same() {
    let echo = EchoProfile::default();
    let read = |line: &str| {
        let text = format!(r#"{{"items":[{line}]}}"#);
        OrderFormat::default().lines_of(&object(&text), echo)
    };
    let shown = |id: &str, quantity| {
        Lines::Shown(vec![EchoedItem { id: id.to_owned(), quantity, note: None }])
    };
    assert_eq!(read(r#"{"itemId":"p","quantity":2}"#), shown("p", Some(2)));
    assert_eq!(read(r#"{"product":{"id":7},"quantity":2}"#), shown("7", Some(2)));
    assert_eq!(read(r#"{"product":{"id":"p"},"itemId":"p"}"#), shown("p", None));
    for bad in [
        r#"{"product":{"id":"p"},"itemId":"q"}"#,
        r#"{"product":"p"}"#,
        r#"{"itemId":""}"#,
        r#"{"itemId":"","product":{"id":""}}"#,
        r#"{"quantity":1}"#,
        r#"{"itemId":"p","quantity":0}"#,
        "7",
    ] {
        assert_eq!(read(bad), Lines::Unreadable, "{bad}");
    }
}
