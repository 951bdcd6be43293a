//! What goes over the wire: the body of a POST, and the strict reading of a page of the list.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{AGE, DATE, HeaderName, RETRY_AFTER};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use serde_json::value::RawValue;

use super::{Page, ReadError, Row};
use crate::money::{Amount, Balance, Currency};
use crate::order::{EchoProfile, Item, OrderId};
use crate::protocol::format::{Lines, Object, OrderFormat, amount, string};

/// Where the rows are in a page of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListEnvelope {
    /// Under this key of an object. Default: `orders`. A page without the key is not understood:
    /// it is never an empty list.
    Key(Cow<'static, str>),
    /// The page is the array.
    Bare,
}

/// The body of a POST, written once: lines in the order given, numbers as they were given.
pub(super) fn order_body(items: &[Item], mock: bool) -> Bytes {
    let mut body = Vec::with_capacity(32 + items.len() * 96);
    body.extend_from_slice(b"{\"items\":[");
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write_item(&mut body, item).expect("writing to memory does not fail");
    }
    body.push(b']');
    if mock {
        body.extend_from_slice(b",\"isMock\":true");
    }
    body.push(b'}');
    body.into()
}

fn write_item(body: &mut Vec<u8>, item: &Item) -> std::io::Result<()> {
    body.write_all(b"{\"itemId\":")?;
    serde_json::to_writer(&mut *body, item.id())?;
    write!(body, ",\"quantity\":{}", item.quantity())?;
    if let Some(price) = item.price() {
        // A plain decimal is a JSON number to the last digit; a float would not be.
        write!(body, ",\"totalPrice\":{price}")?;
    }
    if let Some(note) = item.note_ref() {
        write!(body, ",\"note\":{}", note.as_json())?;
    }
    body.write_all(b"}")
}

/// How a page of the list is read.
#[derive(Debug, Clone)]
pub(super) struct PageReader {
    pub(super) envelope: ListEnvelope,
    pub(super) total: Cow<'static, str>,
    /// The key under which a page repeats the offset that it was asked for.
    pub(super) offset: Option<Cow<'static, str>>,
    pub(super) format: OrderFormat,
    pub(super) echo: EchoProfile,
}

fn not_understood(why: &'static str) -> ReadError {
    ReadError::NotUnderstood(why.into())
}

impl PageReader {
    /// Reads a page to the last field that counts, or not at all.
    pub(super) fn read(&self, body: &[u8], offset: u64) -> Result<Page, ReadError> {
        let (rows, total) = match &self.envelope {
            ListEnvelope::Bare => (None, None),
            ListEnvelope::Key(key) => {
                let page = Object::read(body).ok_or_else(|| not_understood("no JSON object"))?;
                let rows = page.value(key).ok_or_else(|| not_understood("no envelope"))?;
                let shown = self.offset.as_deref().and_then(|key| page.value(key));
                if shown.map(number).is_some_and(|shown| shown != Some(offset)) {
                    return Err(not_understood("another offset than was asked for"));
                }
                let total = page.value(&self.total).map(|total| {
                    number(total).ok_or_else(|| not_understood("a total that is no number"))
                });
                (Some(rows), total.transpose()?)
            }
        };
        let rows = rows.map_or(body, |rows| rows.get().as_bytes());
        let rows: Vec<Object<'_>> = serde_json::from_slice(rows)
            .map_err(|_| not_understood("the rows are no array of objects"))?;
        let rows = rows.iter().map(|row| self.row(row)).collect::<Result<Vec<_>, _>>()?;
        let mut ids = HashSet::with_capacity(rows.len());
        if !rows.iter().all(|row| ids.insert(&row.id)) {
            return Err(not_understood("an id twice in one page"));
        }
        Ok(Page { rows, total, date: None })
    }

    fn row(&self, row: &Object<'_>) -> Result<Row, ReadError> {
        let format = &self.format;
        let id = format.id_of(row).ok_or_else(|| not_understood("a row without an id"))?;
        let status =
            format.status_of(row).ok_or_else(|| not_understood("a row without a status"))?;
        let created_at = format
            .created_at_of(row)
            .ok_or_else(|| not_understood("a row without a readable moment of creation"))?;
        let items = match format.lines_of(row, self.echo) {
            Lines::Shown(lines) => Some(lines),
            Lines::NotShown | Lines::Unreadable => None,
        };
        Ok(Row { id, status, created_at, items, cost: format.cost_of(row) })
    }

    /// Reads a single order, which must be the one that was asked for.
    pub(super) fn order(&self, body: &[u8], asked: &OrderId) -> Result<Row, ReadError> {
        let order = self.format.open(body).ok_or_else(|| not_understood("no order"))?;
        let row = self.row(&order)?;
        match row.id == *asked {
            true => Ok(row),
            false => Err(not_understood("another order than was asked for")),
        }
    }
}

/// Most currencies of one account, and most bytes of what is read as balances: far over what any has.
const CURRENCIES_MAX: usize = 64;
const BALANCES_BYTES_MAX: usize = 64 << 10;

/// Reads the balances to the last element, or not at all: what is not understood is never zero.
pub(super) fn balances(
    body: &[u8],
    currency: &str,
    amounts: &[Cow<'static, str>],
) -> Result<Vec<Balance>, ReadError> {
    if body.len() > BALANCES_BYTES_MAX {
        return Err(not_understood("balances of more than 64 KiB"));
    }
    let rows: Vec<Object<'_>> = serde_json::from_slice(body)
        .map_err(|_| not_understood("the balances are no array of objects"))?;
    if rows.is_empty() || rows.len() > CURRENCIES_MAX {
        return Err(not_understood("no balance at all, or more than 64"));
    }
    let mut found: BTreeMap<Currency, Amount> = BTreeMap::new();
    for row in &rows {
        let name = row.at_path(currency).and_then(string).and_then(Currency::new);
        let name = name.ok_or_else(|| not_understood("a balance without a currency"))?;
        let mut shown = amounts.iter().filter_map(|path| row.at_path(path)).map(amount);
        let first = shown.next().flatten();
        let first = first.ok_or_else(|| not_understood("a balance without a readable amount"))?;
        if !shown.all(|other| other == Some(first)) {
            return Err(not_understood("a balance with two amounts"));
        }
        if found.insert(name, first).is_some() {
            return Err(not_understood("a currency twice"));
        }
    }
    Ok(found.into_iter().map(|(currency, amount)| Balance { currency, amount }).collect())
}

fn number(value: &RawValue) -> Option<u64> {
    serde_json::from_str(value.get()).ok()
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn moment(text: &str) -> Option<Timestamp> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    PARSER.parse_timestamp(text).ok()
}

/// The supplier's clock, from its `Date` header.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    header(headers, &DATE).and_then(moment)
}

/// `Retry-After`: seconds, or a date, counted from the answer's own date or else from `wall`.
pub(super) fn retry_after(
    headers: &HeaderMap,
    wall: impl FnOnce() -> Timestamp,
) -> Option<Duration> {
    let text = header(headers, &RETRY_AFTER)?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = moment(text)?;
    let from = date(headers).unwrap_or_else(wall);
    Some(Duration::try_from(until.duration_since(from)).unwrap_or(Duration::ZERO))
}

/// Whether an answer may come from a cache: it has an `Age` that is not zero.
pub(super) fn is_cached(headers: &HeaderMap) -> bool {
    headers.get_all(AGE).iter().any(|age| age.to_str().map_or("", str::trim) != "0")
}

/// An id as one segment of a path; `None` if no spelling of it stays one.
pub(super) fn segment(id: &OrderId) -> Option<String> {
    if matches!(id.as_str(), "." | "..") {
        return None;
    }
    let mut segment = String::with_capacity(id.as_str().len());
    for byte in id.as_str().bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                segment.push(char::from(byte));
            }
            _ => {
                use std::fmt::Write;
                write!(segment, "%{byte:02X}").expect("writing to memory does not fail");
            }
        }
    }
    Some(segment)
}

#[cfg(test)]
mod tests;
