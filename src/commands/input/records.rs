//! Splits bytes into records: lines, or for CSV lines joined by open quotes.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

/// What some programs put before UTF-8 text.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Longest record in bytes: ten items with the longest ids and notes fit many times over.
pub(super) const RECORD_BYTES_MAX: usize = 256 << 10;

/// One record, without its line end.
#[derive(Debug)]
pub(super) struct Record {
    /// The number of its first line, from 1.
    pub(super) line: u64,
    /// Its bytes, or why they cannot be had.
    pub(super) bytes: Result<Vec<u8>, &'static str>,
}

/// Reads records one after the other.
pub(super) struct Records<R> {
    reader: R,
    quoted: bool,
    line: u64,
    /// Lines that a quote left open had swallowed: read again, each for itself.
    again: VecDeque<Physical>,
}

/// One line, with its end.
struct Physical {
    number: u64,
    bytes: Result<Vec<u8>, &'static str>,
}

impl<R: BufRead> Records<R> {
    /// With `quoted`, a line end inside of quotes is part of the record.
    pub(super) fn new(reader: R, quoted: bool) -> Self {
        Self { reader, quoted, line: 0, again: VecDeque::new() }
    }

    /// The next record that is not blank.
    pub(super) fn next(&mut self) -> io::Result<Option<Record>> {
        loop {
            let Some(first) = self.physical()? else { return Ok(None) };
            let line = first.number;
            let bytes = match first.bytes {
                Ok(bytes) if self.quoted => match Field::Begins.over(&bytes) {
                    Ok(Field::Quoted) => self.join(bytes)?,
                    Ok(_) => Ok(bytes),
                    Err(why) => Err(why),
                },
                other => other,
            };
            let bytes = bytes.map(without_end);
            if !bytes.as_ref().is_ok_and(|b| b.trim_ascii().is_empty()) {
                return Ok(Some(Record { line, bytes }));
            }
        }
    }

    /// Adds lines until the quote is closed. If it never is, only the first line is bad.
    fn join(&mut self, first: Vec<u8>) -> io::Result<Result<Vec<u8>, &'static str>> {
        let mut joined = first;
        let mut taken = Vec::new();
        let mut why = "a quote is not closed";
        while let Some(next) = self.physical()? {
            let field = match &next.bytes {
                Ok(bytes) if joined.len() + bytes.len() <= RECORD_BYTES_MAX => {
                    joined.extend_from_slice(bytes);
                    Field::Quoted.over(bytes)
                }
                _ => Err(why),
            };
            taken.push(next);
            match field {
                Ok(Field::Quoted) => {}
                Ok(_) => return Ok(Ok(joined)),
                Err(error) => {
                    why = error;
                    break;
                }
            }
        }
        for line in taken.into_iter().rev() {
            self.again.push_front(line);
        }
        Ok(Err(why))
    }

    fn physical(&mut self) -> io::Result<Option<Physical>> {
        if let Some(line) = self.again.pop_front() {
            return Ok(Some(line));
        }
        let mut bytes = Vec::new();
        let cap = RECORD_BYTES_MAX as u64 + 1;
        if self.reader.by_ref().take(cap).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        self.line += 1;
        let is_whole = bytes.len() <= RECORD_BYTES_MAX || bytes.ends_with(b"\n");
        if self.line == 1 && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        let number = self.line;
        if is_whole {
            return Ok(Some(Physical { number, bytes: Ok(bytes) }));
        }
        self.skip_line()?;
        Ok(Some(Physical { number, bytes: Err("the line is longer than 262144 bytes") }))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            let end = bytes.iter().position(|b| *b == b'\n');
            let read = end.map_or(bytes.len(), |at| at + 1);
            self.reader.consume(read);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

/// What a field of CSV is between two of its bytes.
///
/// Two rows that are read as one would lose the second, so what RFC 4180 leaves open is refused:
/// text after a closing quote, and a line end that is only a carriage return. A quote inside of a
/// plain field, as in `5" pipe`, is part of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Begins,
    Plain,
    Quoted,
    /// The next byte tells whether the quote was the last one or the first of two.
    Closed,
}

impl Field {
    /// Where a field stands at the end of a line.
    fn over(self, line: &[u8]) -> Result<Self, &'static str> {
        let mut field = self;
        for byte in &line[..length_without_end(line)] {
            field = match (field, byte) {
                (Self::Quoted, b'"') => Self::Closed,
                (Self::Quoted, _) | (Self::Begins | Self::Closed, b'"') => Self::Quoted,
                (_, b',') => Self::Begins,
                (_, b'\r') => return Err("a carriage return is inside of the line"),
                (Self::Closed, _) => return Err("text follows a closing quote"),
                (Self::Begins | Self::Plain, _) => Self::Plain,
            };
        }
        Ok(field)
    }
}

fn without_end(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(length_without_end(&bytes));
    bytes
}

fn length_without_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| !matches!(b, b'\n' | b'\r')).map_or(0, |last| last + 1)
}
