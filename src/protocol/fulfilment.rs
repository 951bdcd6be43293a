//! What became of an order that was bought: money and codes are two facts.
//!
//! | status | what it is |
//! |---|---|
//! | `completed`, no line with an error | delivered |
//! | `completed`, some lines with an error | delivered in part; the codes of the others are there |
//! | `failed` | not delivered; whether it was paid back is not known |
//! | `cancelled`, `cancelReason` is `payment_expiration` | expired |
//! | `cancelled` otherwise | cancelled, with the supplier's reason where it is one short word |
//! | `active`, `paid`, `processing` | under way |
//! | anything else | unknown: followed on, and said |

use super::Why;
use super::format::{Object, OrderFormat, string};

/// How an order ended at the supplier. None of it is ever a reason to buy again by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// All lines were delivered.
    Complete,
    /// Some lines have an error instead of codes.
    Partial {
        /// Lines with an error.
        failed: usize,
        /// All lines.
        lines: usize,
    },
    /// Nothing was delivered. Whether it was paid back is not known.
    Failed,
    /// Cancelled; the supplier's reason, where it gives one in a word.
    Cancelled(Option<Why>),
    /// It was not paid in time.
    Expired,
}

impl Delivery {
    /// Its name in results and tables.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial { .. } => "partial",
            Self::Failed => "failed",
            Self::Cancelled(_) => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// What a status word means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It goes on.
    UnderWay,
    /// It is an end.
    Ended,
    /// Nobody has heard of it: no end, and a person should know.
    Unknown,
}

/// What the supplier's status word means.
pub(crate) fn stage(status: &str) -> Stage {
    match status {
        "completed" | "cancelled" | "failed" => Stage::Ended,
        "active" | "paid" | "processing" => Stage::UnderWay,
        _ => Stage::Unknown,
    }
}

/// How an order ended, from the supplier's whole answer; `None` if its status is no end.
pub(crate) fn delivery(status: &str, raw: &[u8], format: &OrderFormat) -> Option<Delivery> {
    let order = format.open(raw);
    Some(match status {
        "completed" => match order.as_ref().map(|order| lines(order, format)) {
            Some((failed @ 1.., lines)) => Delivery::Partial { failed, lines },
            Some((0, _)) | None => Delivery::Complete,
        },
        "failed" => Delivery::Failed,
        "cancelled" => {
            let reason = order.as_ref().and_then(|order| string(order.value("cancelReason")?));
            match reason.as_deref() {
                Some("payment_expiration") => Delivery::Expired,
                reason => Delivery::Cancelled(reason.and_then(word)),
            }
        }
        _ => return None,
    })
}

/// How many lines have an error, and how many there are. A line that cannot be read has none, nor has one
/// whose error is empty: it would be bought again by whoever believed it.
fn lines(order: &Object<'_>, format: &OrderFormat) -> (usize, usize) {
    let Some(lines) = order.value(&format.items) else { return (0, 0) };
    let lines: Vec<&serde_json::value::RawValue> =
        serde_json::from_str(lines.get()).unwrap_or_default();
    let failed = |line: &&&serde_json::value::RawValue| {
        let error = |line: Object<'_>| line.value("error").is_some_and(|error| !is_empty(error));
        Object::of(line).is_some_and(error)
    };
    (lines.iter().filter(failed).count(), lines.len())
}

/// Whether a value says that there is nothing.
fn is_empty(value: &serde_json::value::RawValue) -> bool {
    let text: String = value.get().chars().filter(|c| !c.is_ascii_whitespace()).collect();
    matches!(&*text, "false" | "0" | "\"\"" | "{}" | "[]")
}

/// A reason that is one short word; free text of the supplier's is shown to nobody.
fn word(reason: &str) -> Option<Why> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let short = !reason.is_empty() && reason.len() <= 40;
    (short && reason.chars().all(plain)).then(|| reason.to_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is(status: &str, rest: &str, expected: Option<Delivery>) {
        let raw = format!(r#"{{"id":"1","status":"{status}"{rest}}}"#);
        assert_eq!(delivery(status, raw.as_bytes(), &OrderFormat::default()), expected, "{raw}");
    }

    #[test]
    fn the_table() {
        is("completed", r#","items":[{"externalData":["c"]}]"#, Some(Delivery::Complete));
        is("completed", r#","items":[{"error":null}]"#, Some(Delivery::Complete));
        let partial = Delivery::Partial { failed: 1, lines: 2 };
        is("completed", r#","items":[{"externalData":["c"]},{"error":"NO"}]"#, Some(partial));
        let none = Delivery::Partial { failed: 1, lines: 1 };
        is("completed", r#","items":[{"error":{"code":7}}]"#, Some(none));
        is("completed", "", Some(Delivery::Complete));
        for empty in [r#""""#, "{ }", "[]", "false", "0"] {
            let line = format!(r#","items":[{{"externalData":["c"],"error":{empty}}}]"#);
            is("completed", &line, Some(Delivery::Complete));
        }
        is("failed", "", Some(Delivery::Failed));
        is("cancelled", "", Some(Delivery::Cancelled(None)));
        is("cancelled", r#","cancelReason":"payment_expiration""#, Some(Delivery::Expired));
        let by_user = Delivery::Cancelled(Some("user_request".into()));
        is("cancelled", r#","cancelReason":"user_request""#, Some(by_user));
        is(
            "cancelled",
            r#","cancelReason":"code XYZ-1 was used""#,
            Some(Delivery::Cancelled(None)),
        );
        is("active", "", None);
        is("awaiting_stock", "", None);
        assert_eq!(stage("awaiting_stock"), Stage::Unknown);
        assert_eq!(stage("processing"), Stage::UnderWay);
        assert_eq!(stage("failed"), Stage::Ended);
    }
}
