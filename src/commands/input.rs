//! The orders of a file, one line at a time, in memory that does not grow with the file.
//!
//! CSV (RFC 4180, with or without a byte order mark, lines end with LF or CRLF) or JSON lines. A bad line is
//! told with its number; the lines after it go on.

mod csv;
mod json;
mod records;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use order_router::{ClientRef, Order};

use super::failure::Failure;

use self::csv::Columns;
use self::records::{Record, Records};

/// One line of the input: an order, or why it is none.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// Its number in the file, from 1.
    pub number: u64,
    /// What it holds.
    pub order: Result<Order, BadLine>,
}

/// Why a line is no order. Nothing was bought for it.
#[derive(Debug, PartialEq)]
pub struct BadLine {
    /// The reference, where one could be read.
    pub client_ref: Option<String>,
    /// What is wrong with it.
    pub why: String,
}

impl BadLine {
    fn new(client_ref: Option<&str>, why: impl Into<String>) -> Self {
        Self { client_ref: client_ref.map(short), why: why.into() }
    }
}

/// The reference of an order; that of one which replaces another is made of the other's.
fn reference(client_ref: Option<&str>, replaces: Option<&str>) -> Result<ClientRef, String> {
    let read = |text| ClientRef::new(text).map_err(|error| error.to_string());
    let Some(replaced) = replaces else {
        return read(client_ref.ok_or("there is no client_ref")?);
    };
    let replaced = read(replaced)?;
    let wanted = replaced.replacement().map_err(|error| error.to_string())?;
    match client_ref {
        Some(given) if given != wanted.as_str() => Err(format!(
            "the order that replaces {replaced} has the reference {wanted}: give that, or none"
        )),
        _ => Ok(wanted),
    }
}

/// The beginning of a text that somebody else wrote: enough to find it.
fn short(text: &str) -> String {
    const CHARS_MAX: usize = 255;
    text.chars().take(CHARS_MAX).collect()
}

/// How the lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Json,
}

/// Reads the lines of one file or of standard input.
pub struct Input {
    records: Records<Box<dyn BufRead + Send>>,
    columns: Option<Columns>,
}

impl Input {
    /// Opens `FILE` or `-`, tells its format and reads the header.
    pub fn open(path: &str) -> Result<Self, Failure> {
        if path == "-" {
            return Self::new("standard input", None, Box::new(std::io::stdin()));
        }
        let file = File::open(path).map_err(|error| {
            let what = format!("the input {path} cannot be opened: {error}");
            Failure::nothing_bought(what, "check the path and its permissions, then run again")
        })?;
        if file.metadata().is_ok_and(|m| m.is_dir()) {
            let what = format!("the input {path} is a directory");
            return Err(Failure::nothing_bought(what, "name a CSV or JSON lines file, or -"));
        }
        let extension = Path::new(path).extension().and_then(|e| e.to_str());
        let format = match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => Some(Format::Csv),
            Some("jsonl" | "ndjson" | "json") => Some(Format::Json),
            _ => None,
        };
        Self::new(path, format, Box::new(file))
    }

    /// Reads lines from anywhere; `name` is what a message calls it. Without a format it is told
    /// from the first byte.
    pub(super) fn new(
        name: &str,
        format: Option<Format>,
        source: Box<dyn Read + Send>,
    ) -> Result<Self, Failure> {
        let unreadable = |error: std::io::Error| {
            let what = format!("{name} cannot be read: {error}");
            Failure::nothing_bought(what, "check the file, then run again")
        };
        let mut reader: Box<dyn BufRead + Send> =
            Box::new(BufReader::with_capacity(1 << 16, source));
        let first = first_byte(&mut reader).map_err(unreadable)?;
        let format = match (format, first) {
            (Some(Format::Json), Some(b'[')) | (None, Some(b'[')) => {
                let what = format!("{name} is one JSON array, not JSON lines");
                let next = "write one object a line, for instance with: jq -c '.[]'";
                return Err(Failure::nothing_bought(what, next));
            }
            (Some(format), _) => format,
            (None, Some(b'{')) => Format::Json,
            (None, Some(_)) => Format::Csv,
            (None, None) => {
                let what = format!("{name} is empty");
                return Err(Failure::nothing_bought(what, HEADER));
            }
        };
        let mut records = Records::new(reader, format == Format::Csv);
        let columns = match format {
            Format::Json => None,
            Format::Csv => match records.next().map_err(unreadable)? {
                Some(Record { bytes: Ok(bytes), .. }) => {
                    Some(Columns::read(&bytes).map_err(|why| {
                        Failure::nothing_bought(format!("{name}, line 1: {why}"), HEADER)
                    })?)
                }
                Some(Record { bytes: Err(why), .. }) => {
                    let what = format!("{name}, line 1: {why}");
                    return Err(Failure::nothing_bought(what, HEADER));
                }
                None => {
                    return Err(Failure::nothing_bought(format!("{name} is empty"), HEADER));
                }
            },
        };
        Ok(Self { records, columns })
    }

    /// The next line that is not blank; `None` at the end.
    ///
    /// # Errors
    /// When the source cannot be read any further; lines read before are not touched by it.
    pub fn next(&mut self) -> std::io::Result<Option<Line>> {
        let Some(record) = self.records.next()? else { return Ok(None) };
        let order = match (&record.bytes, &self.columns) {
            (Err(why), _) => Err(BadLine::new(None, *why)),
            (Ok(bytes), Some(columns)) => columns.order(bytes),
            (Ok(bytes), None) => json::order(bytes),
        };
        Ok(Some(Line { number: record.line, order }))
    }
}

const HEADER: &str = "give a CSV file whose first line names the columns client_ref, item_id and \
    quantity (and note, total_price, replaces), or JSON lines such as \
    {\"client_ref\":\"a-1\",\"items\":[{\"itemId\":\"gift-card-10\",\"quantity\":1}]}";

/// Skips a byte order mark and tells the first byte that is no space.
fn first_byte(reader: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    // A terminal or pipe may give the mark byte by byte: only what is there is looked at, and a
    // mark that comes in pieces is cut off by the record reader.
    let bytes = reader.fill_buf()?;
    let text = bytes.strip_prefix(records::BYTE_ORDER_MARK).unwrap_or(bytes);
    Ok(text.iter().copied().find(|b| !b.is_ascii_whitespace()))
}

#[cfg(test)]
mod tests;
