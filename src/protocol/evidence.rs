//! What an answer to a POST proves: one pure function, a whitelist.
//!
//! | answer | outcome | account |
//! |---|---|---|
//! | the gate closed without yielding | `NotSent` | |
//! | no answer after the gate yielded | `Unknown` | |
//! | 201 with a readable id, new, whose items, where shown, are ours | `Created` | |
//! | 201 otherwise, any other 2xx (200 and 202 with an id: a setting) | `Unknown` | alarm if the order is another's, pause if it is a page |
//! | 400, 404, 405, 413, 415, 422 with a JSON error | `Refused` | counts as a refusal |
//! | `OFFER_PRICE_NOT_MATCHED` with one of these or 409 | `Refused` | |
//! | 402, `BALANCE_*`, `ORDER_PAYMENT_NOT_POSSIBLE` | `Unknown` (a setting) | pause: balance |
//! | 409, `ORDER_ALREADY_EXISTS` | `Unknown` | |
//! | 401, 403 with a JSON error | `NotSent` | pause: key refused |
//! | 429 with `Retry-After` or a JSON error | `NotSent` (a setting) | drain |
//! | any other 4xx, or one without a JSON error | `Unknown` | pause |
//! | 5xx | `Unknown` | |
//! | 3xx, 1xx | `Unknown` | pause: redirected |
//! | anything else | `Unknown` | pause |
//!
//! A JSON error is an object with a `code`, `detail`, `message` or `error` that says something.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;

use super::clause::{Clause, LeftOut};
use super::format::{Lines, Object, OrderFormat, string};
use super::{Moment, Outcome, Why};
use crate::order::{EchoProfile, Item, ItemsHash, OrderId};

/// Where a gate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateState {
    /// Nobody has asked for the bytes yet.
    Unasked,
    /// The bytes were handed out at this moment: they may have left.
    Yielded(Moment),
    /// Asked after the send window had ended, or closed before anybody asked. Nothing was handed
    /// out and nothing ever will be: the proof of *not sent*.
    Closed,
}

/// Everything that is known of one POST.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    /// Where its gate stands. Close it before judging: an unasked gate that may still be asked
    /// proves nothing.
    pub gate: GateState,
    /// What came back.
    pub exchange: Seen<'a>,
    /// The lines that were sent.
    pub items: &'a [Item],
    /// Which of their fields the supplier shows again.
    pub echo: EchoProfile,
}

/// What came back for a POST.
#[derive(Debug, Clone)]
pub enum Seen<'a> {
    /// No answer.
    Broken {
        /// What broke, in our own words.
        why: &'a Why,
    },
    /// An HTTP answer.
    Answer {
        /// Its status.
        status: u16,
        /// Its `Retry-After`, if it has a readable one.
        retry_after: Option<Duration>,
        /// Its whole body; `None` if it was cut off or too long.
        body: Option<&'a [u8]>,
    },
}

/// What a rate limit says of the order, and what a refusal for lack of money says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// Nothing was created: it is sent again later.
    NotSent,
    /// It may have been created: only looking can tell.
    Unknown,
}

/// How a supplier's answers are read where suppliers differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidencePolicy {
    /// Takes 200 and 202 with an id like 201. Default: no, the list decides, which costs time.
    pub ok_and_accepted_create: bool,
    /// What a 429 means. Default: `NotSent`. `Unknown` for a supplier that was seen to create
    /// orders that it answered with 429.
    pub rate_limited: Means,
    /// What 402, `BALANCE_*` and `ORDER_PAYMENT_NOT_POSSIBLE` mean. Default: `Unknown`, for the
    /// order may exist and be debited after a top-up. `NotSent` once a probe has shown otherwise;
    /// wrong, it buys twice.
    pub balance: Means,
    /// How an order is written.
    pub format: OrderFormat,
    /// The clause that a test leaves out. Default: none.
    pub left_out: LeftOut,
}

impl Default for EvidencePolicy {
    fn default() -> Self {
        Self {
            ok_and_accepted_create: false,
            rate_limited: Means::NotSent,
            balance: Means::Unknown,
            format: OrderFormat::default(),
            left_out: LeftOut::default(),
        }
    }
}

/// What one POST proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What it did.
    pub outcome: Outcome,
    /// What it means for the account.
    pub account: AccountEffect,
    /// An id in an answer that does not prove that the order is ours: where to look first.
    pub hint: Option<OrderId>,
}

/// What an answer means for all orders of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountEffect {
    /// Nothing.
    None,
    /// A person has to know.
    Alarm(Alarm),
    /// Nothing new is sent until the cause is gone.
    Pause(PauseWhy),
    /// The rate was exceeded: the bucket is drained.
    Drain {
        /// How long the supplier asks to wait, if it says so.
        retry_after: Option<Duration>,
    },
    /// A refusal. Many in a row, across lanes, pause the account: that is for the sender to count.
    CountsAsRefusal,
}

/// What a person has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The answer names an order that a list had shown before the attempt was recorded.
    IdSeenBefore,
    /// The answer names an order with other items.
    OtherItems,
    /// The answer to a payment names another order.
    OtherOrder,
}

/// Why nothing new is sent on the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseWhy {
    /// The key is refused, with this status.
    KeyRefused(u16),
    /// What answered, with this status, does not speak like the supplier: a gateway, a firewall.
    NotTheSupplier(u16),
    /// The path is answered with a redirect or a switch of protocols: base URL or path is wrong.
    Redirected(u16),
    /// The balance does not suffice: until it is read.
    Balance,
}

/// Says what a POST proves. `seen_before` says whether a list had shown this id before the attempt
/// was recorded.
#[must_use]
pub fn judge(
    evidence: &Evidence<'_>,
    policy: &EvidencePolicy,
    seen_before: impl FnOnce(&OrderId) -> bool,
) -> Judgement {
    match (evidence.gate, &evidence.exchange) {
        (GateState::Closed, Seen::Broken { why }) => not_sent((*why).clone(), AccountEffect::None),
        (GateState::Closed, Seen::Answer { .. }) => {
            not_sent("answered before it was sent".into(), AccountEffect::None)
        }
        (GateState::Unasked, _) => unknown("the gate is still open".into(), AccountEffect::None),
        (GateState::Yielded(_), Seen::Broken { why }) => {
            unknown((*why).clone(), AccountEffect::None)
        }
        (GateState::Yielded(_), &Seen::Answer { status, retry_after, body }) => match status {
            100..=199 | 300..=399 => unknown(
                format!("status {status}").into(),
                AccountEffect::Pause(PauseWhy::Redirected(status)),
            ),
            200..=299 => success(evidence, policy, status, body, seen_before),
            400..=499 => client_error(policy, status, retry_after, body),
            500..=599 => server_error(policy, status),
            _ => not_the_supplier(status),
        },
    }
}

fn judged(outcome: Outcome, account: AccountEffect) -> Judgement {
    Judgement { outcome, account, hint: None }
}

fn unknown(why: Why, account: AccountEffect) -> Judgement {
    judged(Outcome::Unknown(why), account)
}

fn not_sent(why: Why, account: AccountEffect) -> Judgement {
    judged(Outcome::NotSent(why), account)
}

fn not_the_supplier(status: u16) -> Judgement {
    let why = format!("status {status} without the supplier's words").into();
    unknown(why, AccountEffect::Pause(PauseWhy::NotTheSupplier(status)))
}

/// Whether a body is something that no JSON interface sends, a page for instance. An empty or a
/// damaged one is not: it may well be the supplier's.
fn is_page(body: &[u8]) -> bool {
    !matches!(body.trim_ascii_start().first(), None | Some(b'{' | b'[' | b'"'))
}

fn success(
    evidence: &Evidence<'_>,
    policy: &EvidencePolicy,
    status: u16,
    body: Option<&[u8]>,
    seen_before: impl FnOnce(&OrderId) -> bool,
) -> Judgement {
    let Some(body) = body else {
        return unknown(format!("status {status}, body cut off").into(), AccountEffect::None);
    };
    if is_page(body) {
        return not_the_supplier(status);
    }
    let format = &policy.format;
    let order = format.open(body);
    let Some((order, id)) = order.and_then(|order| format.id_of(&order).map(|id| (order, id)))
    else {
        return unknown(format!("status {status} without an id").into(), AccountEffect::None);
    };
    let hinted = |why: Why, account, id| Judgement {
        outcome: Outcome::Unknown(why),
        account,
        hint: Some(id),
    };
    if seen_before(&id) {
        let alarm = AccountEffect::Alarm(Alarm::IdSeenBefore);
        return hinted("the answer names an order that was there before".into(), alarm, id);
    }
    match whose(format.lines_of(&order, evidence.echo), evidence) {
        Whose::NotOurs => {
            let alarm = AccountEffect::Alarm(Alarm::OtherItems);
            return hinted("the answer names an order with other items".into(), alarm, id);
        }
        Whose::Unclear => {
            let why = "the items of the answer cannot be read".into();
            return hinted(why, AccountEffect::None, id);
        }
        Whose::Ours => {}
    }
    let creates = status == 201 || (policy.ok_and_accepted_create && matches!(status, 200 | 202));
    if !creates {
        return hinted(format!("status {status} with an id").into(), AccountEffect::None, id);
    }
    let created_at = format.created_at_of(&order);
    judged(Outcome::Created { id, created_at }, AccountEffect::None)
}

enum Whose {
    Ours,
    NotOurs,
    Unclear,
}

/// Compares the lines of an answer with those sent, field by field where they are shown.
fn whose(lines: Lines, evidence: &Evidence<'_>) -> Whose {
    let lines = match lines {
        Lines::NotShown => return Whose::Ours,
        Lines::Unreadable => return Whose::Unclear,
        Lines::Shown(lines) => lines,
    };
    // Lines of which only some show a quantity have no hash: they are unclear.
    let shown = EchoProfile {
        quantity: lines.iter().any(|line| line.quantity.is_some()),
        note: evidence.echo.note && lines.iter().any(|line| line.note.is_some()),
        // A tag that is shown must be the order's own.
        tag: evidence.echo.tag.filter(|key| {
            lines.iter().filter_map(|line| line.note.as_ref()).any(|note| key.read(note).is_some())
        }),
    };
    match ItemsHash::of_row(&lines, shown) {
        Some(hash) if hash == ItemsHash::of(evidence.items, shown) => Whose::Ours,
        Some(_) => Whose::NotOurs,
        None => Whose::Unclear,
    }
}

/// What went wrong at the supplier's may have gone wrong after the order was created.
fn server_error(policy: &EvidencePolicy, status: u16) -> Judgement {
    let why: Why = format!("status {status}").into();
    if policy.left_out.keeps(Clause::RefusedByEvidence) {
        return unknown(why, AccountEffect::None);
    }
    judged(Outcome::Refused(why), AccountEffect::None)
}

fn client_error(
    policy: &EvidencePolicy,
    status: u16,
    retry_after: Option<Duration>,
    body: Option<&[u8]>,
) -> Judgement {
    let drain = AccountEffect::Drain { retry_after };
    let why = |code: Option<Why>| code.unwrap_or_else(|| format!("status {status}").into());
    // An answer that shows an order is no proof that there is none.
    let value = body.and_then(|body| serde_json::from_slice(body).ok());
    let order = value.and_then(|value| shown_order(&value, &policy.format));
    let Some(error) = body.and_then(JsonError::read) else {
        return match status {
            402 => unknown(why(None), AccountEffect::Pause(PauseWhy::Balance)),
            409 => unknown(why(None), AccountEffect::None),
            429 if retry_after.is_some() && order.is_none() => {
                by_setting(policy.rate_limited, why(None), drain)
            }
            _ => not_the_supplier(status),
        };
    };
    let code = error.shown;
    if let Some(id) = order {
        return Judgement {
            hint: OrderId::new(id),
            ..unknown(format!("status {status} with an order").into(), AccountEffect::None)
        };
    }
    match (status, error.kind) {
        (_, ErrorKind::AlreadyExists) => unknown(why(code), AccountEffect::None),
        (400 | 402 | 403 | 409 | 422, ErrorKind::Balance) | (402, _) => {
            by_setting(policy.balance, why(code), AccountEffect::Pause(PauseWhy::Balance))
        }
        (_, ErrorKind::Balance) => unknown(why(code), AccountEffect::Pause(PauseWhy::Balance)),
        (400 | 404 | 405 | 409 | 413 | 415 | 422, ErrorKind::PriceNotMatched) => {
            judged(Outcome::Refused(why(code)), AccountEffect::None)
        }
        (409, _) => unknown(why(code), AccountEffect::None),
        (400 | 404 | 405 | 413 | 415 | 422, _) => {
            judged(Outcome::Refused(why(code)), AccountEffect::CountsAsRefusal)
        }
        (401 | 403, _) => not_sent(why(code), AccountEffect::Pause(PauseWhy::KeyRefused(status))),
        (429, _) => by_setting(policy.rate_limited, why(code), drain),
        (_, _) => not_the_supplier(status),
    }
}

fn by_setting(means: Means, why: Why, account: AccountEffect) -> Judgement {
    match means {
        Means::NotSent => not_sent(why, account),
        Means::Unknown => unknown(why, account),
    }
}

/// The code of an order whose price guard failed.
pub const PRICE_NOT_MATCHED: &str = "OFFER_PRICE_NOT_MATCHED";

/// What an error is about, the most doubtful first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ErrorKind {
    AlreadyExists,
    Balance,
    PriceNotMatched,
    Other,
}

/// The supplier's JSON error.
struct JsonError {
    /// Its code, fit to be shown; never text.
    shown: Option<Why>,
    kind: ErrorKind,
}

impl JsonError {
    /// The fields that make an object an error.
    const FIELDS: [&str; 4] = ["code", "error", "detail", "message"];

    fn read(body: &[u8]) -> Option<Self> {
        let object = Object::read(body)?;
        let (mut says_something, mut price, mut shown) = (false, false, None);
        for field in Self::FIELDS {
            let Some(value) = object.value(field).filter(|value| says(value)) else {
                continue;
            };
            says_something = true;
            let nested = Object::of(value).and_then(|inner| inner.value("code"));
            let Some(text) = word(nested.unwrap_or(value)) else {
                continue;
            };
            price |= text == PRICE_NOT_MATCHED;
            // Text that happens to look like a code is still text: it is not shown.
            if shown.is_none() && (nested.is_some() || matches!(field, "code" | "error")) {
                shown = showable(&text);
            }
        }
        let value: serde_json::Value = serde_json::from_slice(body).ok()?;
        let kind = doubt_in(&value).unwrap_or(match price {
            true => ErrorKind::PriceNotMatched,
            false => ErrorKind::Other,
        });
        says_something.then_some(Self { shown, kind })
    }
}

/// Whether the supplier speaks in a body: a JSON object with an error that says something.
pub(crate) fn is_json_error(body: &[u8]) -> bool {
    JsonError::read(body).is_some()
}

fn says(value: &RawValue) -> bool {
    !matches!(value.get(), "\"\"" | "{}" | "[]" | "false" | "null")
}

fn word(value: &RawValue) -> Option<Cow<'_, str>> {
    string(value).or_else(|| {
        value.get().bytes().all(|b| b.is_ascii_digit()).then(|| Cow::Borrowed(value.get()))
    })
}

/// A code of at most 64 capital letters, digits and underscores.
fn showable(text: &str) -> Option<Why> {
    let plain = text.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
    (plain && !text.is_empty() && text.len() <= 64).then(|| text.to_owned().into())
}

/// The id of an order that an error shows: an object with an id and with lines, wherever it may be,
/// or what is in the envelope of an order, with an id alone. Where it is cannot be relied on.
fn shown_order(value: &serde_json::Value, format: &OrderFormat) -> Option<String> {
    let id_of = |fields: &serde_json::Map<String, serde_json::Value>| match fields.get(&*format.id)
    {
        Some(serde_json::Value::String(id)) if !id.is_empty() => Some(id.clone()),
        Some(serde_json::Value::Number(id)) => Some(id.to_string()),
        _ => None,
    };
    match value {
        serde_json::Value::Array(values) => values.iter().find_map(|v| shown_order(v, format)),
        serde_json::Value::Object(fields) => {
            let here = id_of(fields).filter(|_| fields.contains_key(&*format.items));
            let envelope = format.envelope.as_deref().and_then(|key| fields.get(key));
            let enveloped = || id_of(envelope?.as_object()?);
            here.or_else(enveloped)
                .or_else(|| fields.values().find_map(|value| shown_order(value, format)))
        }
        _ => None,
    }
}

/// A code anywhere in an error that makes it no proof of absence. Codes are looked for wherever
/// they may be, for one that is missed would be taken for a refusal.
fn doubt_in(value: &serde_json::Value) -> Option<ErrorKind> {
    match value {
        serde_json::Value::String(text) => doubt_in_text(text),
        serde_json::Value::Array(values) => values.iter().filter_map(doubt_in).min(),
        serde_json::Value::Object(fields) => fields.values().filter_map(doubt_in).min(),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => None,
    }
}

/// A word is a code if it has an underscore or is the whole text: a product called *Balance* in a
/// sentence is none.
fn doubt_in_text(text: &str) -> Option<ErrorKind> {
    let is_code = |word: &&str| word.contains('_') || word.len() == text.len();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(is_code);
    let kinds = words.filter_map(|word| {
        let word = word.to_ascii_uppercase().replace('_', "");
        if word.contains("ALREADYEXIST") {
            Some(ErrorKind::AlreadyExists)
        } else if word.contains("BALANCE") || word.contains("PAYMENTNOTPOSSIBLE") {
            Some(ErrorKind::Balance)
        } else {
            None
        }
    });
    kinds.min()
}

#[cfg(test)]
mod tests;
