//! What one page of a list is, whatever it is: its envelope, its rows and how they write things down.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::protocol::format::{OrderFormat, TimestampFormat};
use crate::supplier::ListEnvelope;

/// Keys under which suppliers put rows, the likeliest first.
const ENVELOPES: [&str; 5] = ["orders", "items", "data", "results", "content"];
/// Keys under which they put the number of all rows.
const TOTALS: [&str; 4] = ["total", "totalCount", "count", "totalElements"];

/// One page that was understood as far as its rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) envelope: ListEnvelope,
    pub(super) total: Option<(String, u64)>,
    pub(super) rows: Vec<Map<String, Value>>,
}

/// Finds the rows in a page, or says what is there instead.
pub(super) fn read(body: &[u8]) -> Result<Found, String> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|_| format!("{} bytes that are no JSON", body.len()))?;
    match value {
        Value::Array(rows) => {
            Ok(Found { envelope: ListEnvelope::Bare, total: None, rows: objects(rows)? })
        }
        Value::Object(mut page) => {
            let lists = || page.iter().filter(|(_, value)| value.is_array()).map(|(key, _)| key);
            let known = ENVELOPES.iter().find(|key| page.get(**key).is_some_and(Value::is_array));
            let key = match (known, lists().count()) {
                (Some(key), _) => (*key).to_owned(),
                (None, 1) => lists().next().cloned().unwrap_or_default(),
                (None, 0) => return Err(format!("no list in an object of {}", keys(&page))),
                (None, _) => return Err(format!("several lists in an object of {}", keys(&page))),
            };
            let total = TOTALS.iter().find_map(|name| {
                page.get(*name).and_then(Value::as_u64).map(|n| ((*name).to_owned(), n))
            });
            let rows = match page.remove(&key) {
                Some(Value::Array(rows)) => objects(rows)?,
                _ => Vec::new(),
            };
            Ok(Found { envelope: ListEnvelope::Key(key.into()), total, rows })
        }
        _ => Err("JSON that is neither an object nor a list".to_owned()),
    }
}

fn objects(rows: Vec<Value>) -> Result<Vec<Map<String, Value>>, String> {
    let object = |row| match row {
        Value::Object(row) => Ok(row),
        _ => Err("a list of other things than objects".to_owned()),
    };
    rows.into_iter().map(object).collect()
}

/// The keys of an object: names, never values. At most twelve, and of each what is plain.
pub(super) fn keys(object: &Map<String, Value>) -> String {
    let plain = |key: &String| key.chars().filter(|c| !c.is_control()).take(40).collect();
    let names: Vec<String> = object.keys().take(12).map(plain).collect();
    match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.join(", "),
    }
}

/// The id of a row, as text.
pub(super) fn id(row: &Map<String, Value>, format: &OrderFormat) -> Option<String> {
    match row.get(&*format.id)? {
        Value::String(id) if !id.is_empty() => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// The ids of rows; `None` if one has none.
pub(super) fn ids(found: &Found, format: &OrderFormat) -> Option<Vec<String>> {
    found.rows.iter().map(|row| id(row, format)).collect()
}

/// The lines of a row.
pub(super) fn lines<'a>(
    row: &'a Map<String, Value>,
    format: &OrderFormat,
) -> Vec<&'a Map<String, Value>> {
    let lines = row.get(&*format.items).and_then(Value::as_array);
    lines.into_iter().flatten().filter_map(Value::as_object).collect()
}

/// How a moment is written; `None`: as nothing that a setting can name.
pub(super) fn timestamps(value: &Value) -> Option<TimestampFormat> {
    let digits = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    if digits.bytes().all(|b| b.is_ascii_digit()) && !digits.is_empty() {
        // Seconds of our time have ten digits until 2286, milliseconds thirteen.
        return match digits.len() {
            10 => Some(TimestampFormat::UnixSeconds),
            13 => Some(TimestampFormat::UnixMillis),
            _ => None,
        };
    }
    let text = value.as_str()?;
    if text.parse::<Timestamp>().is_ok() {
        return Some(TimestampFormat::Rfc3339);
    }
    text.parse::<jiff::civil::DateTime>().ok().map(|_| TimestampFormat::UtcWithoutZone)
}

/// A moment as it is written; without a zone it is taken for UTC.
pub(super) fn moment(value: &Value) -> Option<Timestamp> {
    let number = || match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    match timestamps(value)? {
        TimestampFormat::Rfc3339 => value.as_str()?.parse().ok(),
        TimestampFormat::UtcWithoutZone => {
            let civil: jiff::civil::DateTime = value.as_str()?.parse().ok()?;
            civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
        }
        TimestampFormat::UnixSeconds => Timestamp::from_second(number()?).ok(),
        TimestampFormat::UnixMillis => Timestamp::from_millisecond(number()?).ok(),
    }
}
