//! The readers of what a supplier answers, for tests that feed them what nobody promised.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, DATE, HeaderValue, RETRY_AFTER};
use jiff::Timestamp;

use super::wire::{self, PageReader};
use super::{ListEnvelope, Page, ReadError, Row};
use crate::order::{EchoProfile, OrderId};
use crate::protocol::format::OrderFormat;

fn reader(envelope: ListEnvelope, format: &OrderFormat, echo: EchoProfile) -> PageReader {
    let (total, offset) = (Cow::Borrowed("total"), Some(Cow::Borrowed("offset")));
    PageReader { envelope, total, offset, format: format.clone(), echo }
}

/// Reads a page of the list that was asked for from this offset on.
///
/// # Errors
/// [`ReadError`], with nothing of the body in its text.
pub fn page(
    body: &[u8],
    offset: u64,
    envelope: ListEnvelope,
    format: &OrderFormat,
    echo: EchoProfile,
) -> Result<Page, ReadError> {
    reader(envelope, format, echo).read(body, offset)
}

/// Reads a single order, which must be the one that was asked for.
///
/// # Errors
/// [`ReadError`], with nothing of the body in its text.
pub fn order(
    body: &[u8],
    asked: &OrderId,
    format: &OrderFormat,
    echo: EchoProfile,
) -> Result<Row, ReadError> {
    reader(ListEnvelope::Bare, format, echo).order(body, asked)
}

/// Reads the balances of an account, with the fields that are the default.
///
/// # Errors
/// [`ReadError`], with nothing of the body in its text.
pub fn balances(body: &[u8]) -> Result<Vec<crate::Balance>, ReadError> {
    wire::balances(body, "currency", &["amount".into(), "balance".into()])
}

/// What is read of the headers `Date`, `Retry-After` and `Age`: the supplier's clock, how long to
/// wait, and whether a cache may have answered. `None` where a value is no header at all.
#[must_use]
pub fn headers(
    date: &[u8],
    retry_after: &[u8],
    age: &[u8],
    wall: Timestamp,
) -> Option<(Option<Timestamp>, Option<Duration>, bool)> {
    let mut headers = HeaderMap::new();
    for (name, value) in [(DATE, date), (RETRY_AFTER, retry_after), (AGE, age)] {
        headers.insert(name, HeaderValue::from_bytes(value).ok()?);
    }
    let retry_after = wire::retry_after(&headers, || wall);
    Some((wire::date(&headers), retry_after, wire::is_cached(&headers)))
}

/// An id as one segment of a path, if a spelling of it stays one.
#[must_use]
pub fn path_segment(id: &OrderId) -> Option<String> {
    wire::segment(id)
}

/// The body of a POST.
#[must_use]
pub fn order_body(items: &[crate::order::Item]) -> Vec<u8> {
    wire::order_body(items, false).to_vec()
}
