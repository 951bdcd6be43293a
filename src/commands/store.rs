//! `order-router store …`: checks, rebuilds and measures a data directory.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use order_router::store::tools::{self, VerifyReport};
use order_router::store::{EmbeddedConfig, OnProgress, OpenError};
use serde_json::json;

use super::failure::Failure;
use super::open;
use super::output::{errln, keep_clear_of, outln};
use super::settings::DataArgs;

/// Check, rebuild and measure the data directory
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum StoreCommand {
    /// Read the whole journal and check it; also while a router is at work
    ///
    /// Every checksum, the sequence, every guard again, and the counts and hashes of every batch.
    /// Exit code 1: records were written that should have been refused; 2: records are damaged
    /// or gone.
    Verify(ToolArgs),
    /// Write the index anew from the journal; no router may be at work
    Rebuild(ToolArgs),
    /// Show figures: orders, bytes, bytes per ended order, lag of the index
    Stats(ToolArgs),
    /// Make the table of a store in DynamoDB, if it is not there; other stores make their own
    ///
    /// Nothing is sent and no order is touched.
    Create(CreateArgs),
}

#[derive(Args, Clone, Debug)]
struct CreateArgs {
    /// Where orders are to be remembered: dynamodb://TABLE?region=REGION
    #[arg(long, value_name = "URL", env = "ORDER_ROUTER_STORE", hide_env_values = true)]
    store: String,
}

#[derive(Args, Clone, Debug)]
struct ToolArgs {
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs one of the commands below `store`.
pub fn run(args: &StoreArgs) -> ExitCode {
    let result = match &args.command {
        StoreCommand::Verify(args) => verify(args),
        StoreCommand::Rebuild(args) => rebuild(args),
        StoreCommand::Stats(args) => stats(args),
        StoreCommand::Create(args) => create(&args.store),
    };
    result.unwrap_or_else(|failure| failure.report())
}

fn verify(args: &ToolArgs) -> Result<ExitCode, Failure> {
    let dir = args.data.existing()?;
    let report = with_progress("checking", |told| tools::verify(&dir, Some(told)));
    let report = report.map_err(|error| open::not_opened(&dir, &error))?;
    tell(args.json, &of_report(&report));
    match report.unguarded.first() {
        None => Ok(ExitCode::SUCCESS),
        Some(first) => {
            errln!(
                "{} changes should have been refused when they were written, the first is number \
                 {first}: please report this",
                report.unguarded.len()
            );
            Ok(ExitCode::from(1))
        }
    }
}

fn create(url: &str) -> Result<ExitCode, Failure> {
    #[cfg(feature = "dynamodb")]
    if url.starts_with("dynamodb:") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            let what = format!("a runtime could not be started: {error}");
            Failure::nothing_sent(what, "run again")
        })?;
        let place = runtime.block_on(super::database::create(url))?;
        outln!("{place} is there");
        return Ok(ExitCode::SUCCESS);
    }
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    let what = match scheme {
        "embedded" | "redb" | "postgres" | "postgresql" | "redis" => {
            format!("a store of the kind {scheme} makes what it needs when it is opened first")
        }
        _ => "--store is no store in DynamoDB, or this build has no DynamoDB in it".to_owned(),
    };
    Err(Failure::nothing_sent(what, "name dynamodb://TABLE?region=REGION, in a build with it"))
}

fn rebuild(args: &ToolArgs) -> Result<ExitCode, Failure> {
    let dir = args.data.existing()?;
    let report = with_progress("rebuilding", |told| {
        let config = EmbeddedConfig { on_progress: Some(told), ..EmbeddedConfig::default() };
        tools::rebuild(&dir, &config)
    });
    let report = report.map_err(|error| open::not_opened(&dir, &error))?;
    tell(args.json, &of_report(&report));
    Ok(ExitCode::SUCCESS)
}

fn of_report(report: &VerifyReport) -> serde_json::Value {
    json!({
        "open": report.open,
        "ended": report.ended,
        "claims": report.claims,
        "changes": report.journal.changes,
        "segments": report.journal.segments,
        "bytes": report.journal.bytes,
        "torn_bytes": report.journal.torn_bytes,
    })
}

fn stats(args: &ToolArgs) -> Result<ExitCode, Failure> {
    let dir = args.data.existing()?;
    let stats = tools::stats(&dir);
    let stats = stats.map_err(|error| open::not_opened(&dir, &error))?;
    let value = json!({
        "open": stats.open,
        "ended": stats.ended,
        "changes": stats.changes,
        "segments": stats.segments,
        "journal_bytes": stats.journal_bytes,
        "index_bytes": stats.index_bytes,
        "bytes_per_ended": stats.bytes_per_ended.map(|bytes| bytes.round() as u64),
        "index_lag": stats.index_lag,
    });
    tell(args.json, &value);
    Ok(ExitCode::SUCCESS)
}

/// Shows a flat object, for people as one line each.
fn tell(json: bool, value: &serde_json::Value) {
    if json {
        outln!("{value}");
        return;
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        let value = if value.is_null() { "unknown".to_owned() } else { value.to_string() };
        outln!("{:<16}{value:>14}", name.replace('_', " "));
    }
}

fn with_progress<T>(
    doing: &'static str,
    run: impl FnOnce(OnProgress) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    if !io::stderr().is_terminal() {
        return run(open::told());
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    let bar = ProgressBar::new(0)
        .with_style(style.expect("the template is a fixed text"))
        .with_message(doing);
    keep_clear_of(Some(bar.clone()));
    let told = bar.clone();
    let result = run(Arc::new(move |progress| {
        told.set_length(progress.bytes_total);
        told.set_position(progress.bytes);
    }));
    keep_clear_of(None);
    bar.finish_and_clear();
    result
}
