use serde_json::json;

use super::page::{self, Found};
use super::*;
use crate::protocol::format::TimestampFormat;
use crate::supplier::ListEnvelope;

fn read(value: &serde_json::Value) -> Result<Found, String> {
    page::read(value.to_string().as_bytes())
}

#[test]
fn rows_are_found_under_the_key_that_they_are_under_or_it_is_said_what_is_there() {
    let key = |value| read(&value).map(|found| (found.envelope, found.rows.len()));
    let under = |key: &'static str| ListEnvelope::Key(key.into());
    assert_eq!(key(json!([{"id": 1}])), Ok((ListEnvelope::Bare, 1)));
    assert_eq!(key(json!([])), Ok((ListEnvelope::Bare, 0)));
    assert_eq!(key(json!({"orders": [], "items": []})), Ok((under("orders"), 0)));
    assert_eq!(key(json!({"purchases": [{}], "n": 1})), Ok((under("purchases"), 1)));
    let refused = |value, part: &str| {
        let text = read(&value).expect_err("nothing that is understood");
        assert!(text.contains(part), "{text}");
    };
    refused(json!({"a": [], "b": []}), "several lists in an object of a, b");
    refused(json!({"error": "x"}), "no list in an object of error");
    refused(json!([1, 2]), "other things than objects");
    refused(json!("orders"), "neither an object nor a list");
    assert_eq!(page::read(b"<html>"), Err("6 bytes that are no JSON".to_owned()));
    assert_eq!(page::read(b""), Err("0 bytes that are no JSON".to_owned()));
}

#[test]
fn how_a_moment_is_written_is_told_without_a_guess() {
    use TimestampFormat::*;
    let lines = [
        (json!("2026-01-31T12:00:00.123Z"), Some(Rfc3339)),
        (json!("2026-01-31T12:00:00+02:00"), Some(Rfc3339)),
        (json!("2026-01-31T12:00:00"), Some(UtcWithoutZone)),
        (json!(1_800_000_000_u64), Some(UnixSeconds)),
        (json!("1800000000123"), Some(UnixMillis)),
        (json!(18_000_u64), None),
        (json!("31.01.2026"), None),
        (json!(1.5), None),
        (json!(null), None),
        (json!(""), None),
    ];
    for (value, form) in lines {
        assert_eq!(page::timestamps(&value), form, "{value}");
    }
}

#[test]
fn what_is_proposed_is_a_file_of_settings_and_what_a_supplier_says_cannot_break_it() {
    let evil = "x\nmock = true\u{1}";
    let report = Report {
        supplier: "https://shop.example".to_owned(),
        facts: vec![
            Fact::found("envelope", evil).set("list_envelope", evil),
            Fact::unknown("order", evil),
            Fact::found("echo of notes", "none").note(evil).set("echo_note", false),
            Fact::found("limit", "50").set("page_limit", 50),
        ],
    };
    let entries = crate::settings::parse(&report.settings()).expect("a file of settings");
    let names: Vec<_> = entries.iter().map(|entry| entry.setting.name).collect();
    assert_eq!(names, ["supplier", "list_envelope", "echo_note", "page_limit"]);
    assert_eq!(entries[1].texts, [evil]);
    assert!(report.is_partial());
}
