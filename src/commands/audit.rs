//! `order-router audit`: the supplier's account against the store.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use order_router::audit::{self, Finding, Kind, Report, Span};
use order_router::settings::StorePlace;
use order_router::simulator::parse_duration;
use order_router::supplier::Supplier;

use super::failure::{Failure, chain};
use super::looking::{self, Wanted};
use super::open;
use super::output::{errln, outln};
use super::settings::RouterArgs;

/// Compare the supplier's account with the store: what was bought too often, by others, or is missing
///
/// Reads the supplier's list back to the span's beginning, then the store, without its lock or lease; also
/// while a router is at work. Nothing is sent, and nothing is changed.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
What is told:
  double       nobody has it, and an order of ours is for the same items: bought too often
  orphan       nobody has it, which the router knows, and no order of ours is for its items
  foreign      nobody has it, and the router does not know it: somebody else buys here
  unmatched    an order of ours has it, and the list does not show it
  other_items  an order of ours has it, and the list shows other items
  unpaid       an order of ours has it, and it is still not paid
What may be one of the orders in doubt just now is none of these. Orders from before the first start are left
out. Exit code: 0 all is well, 1 something is off, 2 nothing could be said.

Examples:
  order-router audit --supplier URL
  order-router audit --supplier URL --back 7d --format csv > audit.csv")]
pub struct AuditArgs {
    /// How far back; `all` is to the end of the list
    #[arg(long, value_name = "D", default_value = "24h", value_parser = back)]
    back: Back,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    router: RouterArgs,
}

/// How far back an audit looks.
#[derive(Clone, Copy, Debug)]
enum Back {
    All,
    By(Duration),
}

fn back(text: &str) -> Result<Back, String> {
    if text == "all" {
        return Ok(Back::All);
    }
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    match days.and_then(|days| days.checked_mul(24 * 60 * 60)) {
        Some(seconds) => Ok(Back::By(Duration::from_secs(seconds))),
        None => parse_duration(text).map(Back::By),
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Table,
    /// One JSON object
    Json,
    /// One line for each finding, with a header
    Csv,
}

/// Compares, tells, and says by its exit code whether something is off.
pub fn run(args: &AuditArgs) -> ExitCode {
    match report(args) {
        Ok(report) => {
            tell(args.format, &report);
            match report.findings.is_empty() {
                true => ExitCode::SUCCESS,
                false => ExitCode::from(1),
            }
        }
        Err(failure) => failure.report(),
    }
}

fn report(args: &AuditArgs) -> Result<Report, Failure> {
    let loaded = args.router.load()?;
    let (config, supplier, runtime) = open::parts(&loaded, 1)?;
    let now = runtime.clock.wall();
    let since = match args.back {
        Back::All => None,
        Back::By(span) => now.checked_sub(span).ok(),
    };
    let span = Span { since, ..config.audit_span() };
    let echo = supplier.capabilities().echo;
    let rows = looking::runtime()?.block_on(audit::read_list(&*supplier, span));
    let rows = rows.map_err(|error| {
        let what = format!("nothing can be said of {}: {}", loaded.base_url(), chain(&error));
        Failure::unread(
            what,
            "see that the supplier is reached and its list understood, then run again",
        )
    })?;
    let place = match (loaded.data(), loaded.database()) {
        (_, Some(url)) => StorePlace::Database(url.clone()),
        (Some(dir), None) => StorePlace::Directory(dir.to_owned()),
        (None, None) => return Err(Failure::unread("no store is named", "name it with --data")),
    };
    let (_, snapshot) = looking::orders(&place, Wanted::All)?;
    let intents = snapshot.intents.into_values();
    Ok(audit::audit(&rows, intents, &snapshot.rehydration, echo, span, now))
}

fn tell(format: Format, report: &Report) {
    match format {
        Format::Json => match serde_json::to_string(report) {
            Ok(text) => outln!("{text}"),
            Err(error) => errln!("the report could not be written: {error}"),
        },
        Format::Csv => csv(report),
        Format::Table => table(report),
    }
}

/// The fields of a finding, as text.
fn fields(finding: &Finding) -> [String; 5] {
    let text = |value: Option<String>| value.unwrap_or_default();
    [
        finding.kind.word().to_owned(),
        finding.order_id.to_string(),
        text(finding.client_ref.as_ref().map(ToString::to_string)),
        text(finding.status.clone()).chars().filter(|c| !c.is_control()).collect(),
        text(finding.created_at.map(|at| at.to_string())),
    ]
}

const HEADER: [&str; 5] = ["kind", "order_id", "client_ref", "status", "created_at"];

fn csv(report: &Report) {
    let mut writer = csv::Writer::from_writer(io::stdout().lock());
    let written = writer.write_record(HEADER).and_then(|()| {
        report.findings.iter().try_for_each(|finding| writer.write_record(fields(finding)))
    });
    // A reader that has seen enough is no failure.
    if let Err(error) = written.and_then(|()| writer.flush().map_err(Into::into))
        && !matches!(error.kind(), csv::ErrorKind::Io(io) if io.kind() == io::ErrorKind::BrokenPipe)
    {
        errln!("standard output cannot be written: {error}");
    }
}

fn table(report: &Report) {
    let Report { orders, matched, history, in_doubt, findings, .. } = report;
    let since = report.since.map_or("the beginning".to_owned(), |since| since.to_string());
    outln!("{orders} orders on the account since {since}");
    outln!(
        "{matched} of them are ours, {history} from before the first start, {in_doubt} may be in doubt just now"
    );
    if findings.is_empty() {
        outln!("nothing is off");
        return;
    }
    let count = |kind: Kind| findings.iter().filter(|finding| finding.kind == kind).count();
    let counts = Kind::ALL.map(|kind| (kind, count(kind)));
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    outln!("{}", counts.map(|(kind, n)| format!("{n} {kind}")).collect::<Vec<_>>().join(", "));
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(HEADER);
    for finding in findings {
        table.add_row(fields(finding));
    }
    outln!("{table}");
}
