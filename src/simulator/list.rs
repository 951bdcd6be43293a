//! One page of the list of orders.

use super::account::Account;
use super::config::{Contract, Envelope, ListOrder};
use super::order::{Refusal, Row, write_number};
use super::time::Micros;

/// What a list request asks for.
pub(super) struct Query<'a> {
    pub limit: usize,
    pub offset: usize,
    pub status: Option<&'a str>,
}

impl<'a> Query<'a> {
    /// Reads the query; a limit above the largest is clamped without a word, as suppliers do.
    pub(super) fn read(query: &'a str, contract: &Contract) -> Result<Self, Refusal> {
        let mut read = Self { limit: contract.page_rows_default, offset: 0, status: None };
        let mut page = 1;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "limit" => read.limit = number("limit", value, 1)?,
                _ if Some(name) == contract.page_parameter.as_deref() => {
                    page = number(name, value, 1)?
                }
                "offset" if contract.page_parameter.is_some() => {}
                "offset" => read.offset = number("offset", value, 0)?,
                "status" if !value.is_empty() => read.status = Some(value),
                _ => {}
            }
        }
        read.limit = read.limit.min(contract.page_rows_max);
        if contract.page_parameter.is_some() {
            read.offset = (page - 1).saturating_mul(read.limit);
        }
        Ok(read)
    }
}

fn number(name: &str, value: &str, least: usize) -> Result<usize, Refusal> {
    let number = value.parse().ok().filter(|n| *n >= least);
    number.ok_or_else(|| Refusal::invalid(format!("{name}: must be an integer from {least} on")))
}

/// The rows of a page, by their index in the account, and how many rows there are in all.
pub(super) struct Page {
    pub rows: Vec<usize>,
    pub total: usize,
}

/// Picks the rows that the list showed at one moment.
pub(super) fn page(
    account: &mut Account,
    contract: &Contract,
    query: &Query<'_>,
    as_of: Micros,
) -> Page {
    let rows = &account.rows;
    let hidden = |row: &Row| row.hidden || (row.mock && !contract.list_mock);
    let wanted = |row: &Row| {
        let status = query.status.is_none_or(|s| row.status(as_of, contract).name() == s);
        row.visible <= as_of && !hidden(row) && status
    };
    // Without a filter all rows up to here are shown: none of them is looked at.
    let some_hidden = account.hidden_rows > 0 || (account.mock_rows > 0 && !contract.list_mock);
    let filtered = query.status.is_some() || some_hidden;
    let whole = match filtered {
        true => 0,
        false => rows.partition_point(|row| row.visible_floor <= as_of),
    };
    let rest: Vec<usize> = (whole..rows.len()).filter(|n| wanted(&rows[*n])).collect();
    let total = whole + rest.len();
    let from = query.offset.min(total);
    let to = query.offset.saturating_add(query.limit).min(total);
    let place = |n: usize| {
        let oldest_first = match contract.list_order {
            ListOrder::Newest => total - 1 - n,
            ListOrder::Oldest => n,
        };
        oldest_first.checked_sub(whole).map_or(oldest_first, |n| rest[n])
    };
    let mut rows: Vec<usize> = (from..to).map(place).collect();
    let missing = account.faults.list_missing_row;
    if missing > 0.0 {
        rows.retain(|_| account.rng.f64() >= missing);
    }
    Page { rows, total }
}

/// Writes a page in its envelope.
pub(super) fn write(
    out: &mut Vec<u8>,
    account: &Account,
    contract: &Contract,
    query: &Query<'_>,
    page: &Page,
    key: &str,
    as_of: Micros,
) {
    let is_bare = contract.envelope == Envelope::Bare;
    if !is_bare {
        out.extend_from_slice(b"{\"");
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
    }
    out.push(b'[');
    for (n, index) in page.rows.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        let row = &account.rows[*index];
        let status = row.status(as_of, contract);
        row.write(out, Some(row.id), status, contract, contract.list_codes);
    }
    out.push(b']');
    if contract.envelope == Envelope::Items {
        out.extend_from_slice(b",\"limit\":");
        write_number(out, query.limit as u64);
        out.extend_from_slice(b",\"offset\":");
        write_number(out, query.offset as u64);
        out.extend_from_slice(b",\"total\":");
        write_number(out, page.total as u64);
    }
    if !is_bare {
        out.push(b'}');
    }
}
