//! Everything that reads what others wrote, fed with what nobody promised: coverage-guided by
//! `just fuzz`, and with random bytes and the kept corpus in every test run.
//!
//! Each target takes plain bytes and makes of them what gets past the first check: whole records in
//! frames with the right CRC, JSON of the supplier's kind, rows of CSV. What is asked is more than
//! "does not panic": each target says what must never be read out of such bytes.

/// The command's reader of lines, which is no part of the library: its very files.
#[path = "../src/commands"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    unreachable_pub,
    reason = "more than is used here"
)]
mod commands {
    mod failure;
    pub mod input;
    mod output;

    use input::{Format, Input, Line};

    /// All lines of some bytes. `None` if they are refused as a whole: `refused` sees the message.
    /// `csv` says how they are written, or that it has to be told from them.
    pub fn lines(bytes: &[u8], csv: Option<bool>, refused: impl FnOnce(&str)) -> Option<Vec<Line>> {
        let format = csv.map(|csv| if csv { Format::Csv } else { Format::Json });
        let source = std::io::Cursor::new(bytes.to_vec());
        let mut input = match Input::new("the input", format, Box::new(source)) {
            Ok(input) => input,
            Err(failure) => {
                refused(&failure.to_string());
                return None;
            }
        };
        let mut lines = Vec::new();
        while let Some(line) = input.next().expect("memory can be read") {
            lines.push(line);
        }
        Some(lines)
    }
}
#[path = "fuzz/balances.rs"]
mod balances;
#[path = "fuzz/dice.rs"]
mod dice;
#[path = "fuzz/journal.rs"]
mod journal;
#[path = "fuzz/lines.rs"]
mod lines;
#[path = "fuzz/lists.rs"]
mod lists;
#[path = "fuzz/posts.rs"]
mod posts;
#[path = "fuzz/rows.rs"]
mod rows;
#[path = "fuzz/segments.rs"]
mod segments;
#[path = "fuzz/settings.rs"]
mod settings;
