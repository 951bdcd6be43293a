use http::header::HeaderValue;

use super::*;
use crate::order::Note;

fn body(items: &[Item], mock: bool) -> String {
    String::from_utf8(order_body(items, mock).to_vec()).expect("UTF-8")
}

#[test]
fn order_is_written_exactly() {
    let note = Note::new(&serde_json::json!({"player": "é\"7"})).expect("a note");
    let items = [
        Item::new("p\"1", 2).expect("an item").note(note),
        Item::new("p-2", 1).expect("an item").total_price("0.30".parse().expect("a price")),
    ];
    assert_eq!(
        body(&items, false),
        r#"{"items":[{"itemId":"p\"1","quantity":2,"note":{"player":"é\"7"}},{"itemId":"p-2","quantity":1,"totalPrice":0.30}]}"#
    );
    assert_eq!(
        body(&items[..1], true),
        r#"{"items":[{"itemId":"p\"1","quantity":2,"note":{"player":"é\"7"}}],"isMock":true}"#
    );
}

#[test]
fn any_price_is_a_json_number() {
    for price in ["0", "1", ".5", "1.", "0001.10", "9999999999999999999999999999"] {
        let Ok(price) = price.parse() else { continue };
        let text = body(&[Item::new("p", 1).expect("an item").total_price(price)], false);
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    }
}

fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
    let value = |text: &str| HeaderValue::from_str(text).expect("a header");
    list.iter().map(|(name, text)| (name.clone(), value(text))).collect()
}

#[test]
fn retry_after_is_seconds_or_a_date_by_the_suppliers_clock() {
    let wall = || "1994-11-06T08:49:30Z".parse().expect("a moment");
    let read = |list: &[(HeaderName, &str)]| retry_after(&headers(list), wall);
    let at = |second| format!("Sun, 06 Nov 1994 08:49:{second} GMT");
    assert_eq!(read(&[(RETRY_AFTER, "7")]), Some(Duration::from_secs(7)));
    assert_eq!(read(&[(RETRY_AFTER, &at(37))]), Some(Duration::from_secs(7)));
    let by_date = [(RETRY_AFTER, &*at(37)), (DATE, &*at(35))];
    assert_eq!(read(&by_date), Some(Duration::from_secs(2)));
    assert_eq!(read(&[(RETRY_AFTER, &at(10))]), Some(Duration::ZERO));
    for bad in ["-1", "1.5", "soon", ""] {
        assert_eq!(read(&[(RETRY_AFTER, bad)]), None, "{bad}");
    }
}

#[test]
fn age_other_than_zero_is_a_cache() {
    for (age, cached) in [("0", false), ("1", true), ("x", true), ("", true)] {
        assert_eq!(is_cached(&headers(&[(AGE, age)])), cached, "{age}");
    }
    assert!(!is_cached(&HeaderMap::new()));
    assert!(is_cached(&headers(&[(AGE, "0"), (AGE, "3")])));
}

#[test]
fn id_stays_one_segment_of_the_path() {
    let read = |id: &str| segment(&OrderId::new(id).expect("an id"));
    assert_eq!(read("a/b?c#d%2F é").as_deref(), Some("a%2Fb%3Fc%23d%252F%20%C3%A9"));
    assert_eq!(read("..."), Some("...".to_owned()));
    assert_eq!((read("."), read("..")), (None, None));
}
