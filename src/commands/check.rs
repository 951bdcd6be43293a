//! `order-router check`: compares what customers were told with what the supplier sold.

pub mod read;
pub mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use self::verdict::{Books, Verdict};
use super::failure::Failure;
use super::output::outln;

/// Compare results with what the supplier really sold
///
/// Reads a simulated supplier's ledger and the results of one or several runs, and counts every
/// order that was bought twice, that nobody has, that somebody else has, or that was lost. Orders
/// of the same items are interchangeable. Orders that others bought on the account do not count.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct CheckArgs {
    /// The ledger: the administration address that `simulate` printed, or a file with what its
    /// /admin/ledger answered
    #[arg(long, value_name = "URL|FILE")]
    ledger: String,
    /// The results of all runs
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    results: Vec<PathBuf>,
    /// Print the counts as one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Exit code: 0 nothing is wrong, 1 something is, 2 ledger or results cannot be read.

Examples:
  order-router check --ledger http://127.0.0.1:8081 --results results.jsonl
  curl -s http://127.0.0.1:8081/admin/ledger > ledger.json
  order-router check --ledger ledger.json --results run-*.jsonl --json";

/// Reads, compares, prints.
pub fn run(args: &CheckArgs) -> ExitCode {
    match check(args) {
        Ok(verdict) => {
            print(&verdict, args.json);
            ExitCode::from(u8::from(!verdict.is_clean()))
        }
        Err(failure) => failure.report(),
    }
}

fn check(args: &CheckArgs) -> Result<Verdict, Failure> {
    let mut books = Books::default();
    read::ledger(&args.ledger, &mut books)?;
    let mut lines = 0;
    for path in &args.results {
        lines += read::results(path, &mut books)?;
    }
    if lines == 0 {
        let what = "there is no line of results in the files named";
        return Err(Failure::unread(what, "name files that `submit --results` has written"));
    }
    Ok(books.verdict())
}

fn print(verdict: &Verdict, json: bool) {
    if json {
        let text = serde_json::to_string(verdict).expect("counts and texts are plain JSON");
        outln!("{text}");
        return;
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    for (name, count, example) in verdict.rows() {
        table.add_row([name.to_owned(), count.to_string(), example.unwrap_or_default()]);
    }
    if let Some(counts) = table.column_mut(1) {
        counts.set_cell_alignment(CellAlignment::Right);
    }
    outln!("{table}");
    if verdict.torn_lines > 0 {
        outln!("{} torn lines of results were left out", verdict.torn_lines);
    }
    if verdict.open > 0 {
        outln!("{} orders have not ended: run `submit` again, then check again", verdict.open);
    }
    outln!("{}", if verdict.is_clean() { "nothing is wrong" } else { "something is wrong" });
}
