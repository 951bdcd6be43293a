use super::*;

mod orders;

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn quantity_is_a_whole_number_however_it_is_written() {
    for one in ["1", "1.0", "\"1\"", "\"1.0\"", "1.000"] {
        assert_eq!(quantity(raw(one)), Some(1), "{one}");
    }
    for bad in [
        "0",
        "1.5",
        "-1",
        "1e1",
        "\"\"",
        "\"1.\"",
        "\".0\"",
        "\"+1\"",
        "\" 1\"",
        "true",
        "4294967296",
        "\"١\"",
        "[1]",
    ] {
        assert_eq!(quantity(raw(bad)), None, "{bad}");
    }
    assert_eq!(quantity(raw("4294967295")), Some(u32::MAX));
}

#[test]
fn timestamp_is_read_only_in_the_format_that_was_set() {
    use TimestampFormat::{Rfc3339, UnixMillis, UnixSeconds, UtcWithoutZone};
    let at = Some("2026-01-31T12:00:00Z".parse().expect("a moment"));
    assert_eq!(Rfc3339.read(raw("\"2026-01-31T13:00:00.000+01:00\"")), at);
    assert_eq!(Rfc3339.read(raw("\"2026-01-31T12:00:00\"")), None);
    assert_eq!(Rfc3339.read(raw("1769860800")), None);
    assert_eq!(UtcWithoutZone.read(raw("\"2026-01-31T12:00:00.000\"")), at);
    assert_eq!(UtcWithoutZone.read(raw("\"2026-01-31T12:00:00Z\"")), None);
    assert_eq!(UnixSeconds.read(raw("1769860800")), at);
    assert_eq!(UnixSeconds.read(raw("\"1769860800\"")), at);
    assert_eq!(UnixMillis.read(raw("1769860800000")), at);
    for bad in ["1769860800.5", "-1", "\"\"", "\"soon\"", "99999999999999999999", "{}"] {
        assert_eq!(UnixSeconds.read(raw(bad)), None, "{bad}");
    }
}

#[test]
fn object_with_a_key_twice_is_not_read() {
    assert!(Object::read(br#"{"a":1,"b":2}"#).is_some());
    assert!(Object::read(br#"{"a":1,"\u0061":2}"#).is_none());
    assert!(Object::read(br#"{"a":1} x"#).is_none());
    assert!(Object::read(b"[]").is_none());
}

#[test]
fn note_is_compared_in_canonical_form_and_an_empty_one_is_none() {
    let format = OrderFormat::default();
    let echo = EchoProfile { quantity: true, note: true, tag: None };
    let read = |note: &str| {
        let text = format!(r#"{{"items":[{{"itemId":"p","quantity":1,"note":{note}}}]}}"#);
        format.lines_of(&Object::read(text.as_bytes()).expect("an object"), echo)
    };
    assert_eq!(read(r#"{"b":1,"a":2}"#), read(r#"{"a":2, "b":1}"#));
    assert_eq!(read("{}"), read("null"));
    assert_eq!(read("\"text\""), Lines::Unreadable);
}

#[test]
fn a_moment_is_digits_alone_also_in_a_string() {
    for bad in ["\"-1\"", "\"+1\"", "\"1 \"", "\"1.0\""] {
        assert_eq!(TimestampFormat::UnixSeconds.read(raw(bad)), None, "{bad}");
        assert_eq!(TimestampFormat::UnixMillis.read(raw(bad)), None, "{bad}");
    }
}

#[test]
fn status_is_a_text_that_says_something() {
    let read = |text: &str| {
        OrderFormat::default().status_of(&Object::read(text.as_bytes()).expect("an object"))
    };
    assert_eq!(read(r#"{"status":"completed"}"#).as_deref(), Some("completed"));
    for none in [r#"{}"#, r#"{"status":null}"#, r#"{"status":""}"#, r#"{"status":1}"#] {
        assert_eq!(read(none), None, "{none}");
    }
}

#[test]
fn an_order_without_a_line_is_unreadable() {
    let format = OrderFormat::default();
    let read = |text: &str| {
        format.lines_of(&Object::read(text.as_bytes()).expect("an object"), EchoProfile::default())
    };
    assert_eq!(read(r#"{"items":[]}"#), Lines::Unreadable);
    assert_eq!(read(r#"{"items":null}"#), Lines::NotShown);
    assert_eq!(read("{}"), Lines::NotShown);
}
