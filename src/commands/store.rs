//! `order-router store …`: checks, rebuilds and measures a data directory.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use order_router::settings::StorePlace;
use order_router::store::look::{self, LookReport};
use order_router::store::tools::{self, VerifyReport};
use order_router::store::{EmbeddedConfig, Grade, Mark, OnProgress};
use serde_json::json;

use super::backup::{self, BackupArgs, RestoreArgs, SettleArgs};
use super::compact::{self, CompactArgs};
use super::failure::Failure;
use super::migrate::{self, MigrateArgs, ReopenArgs};
use super::output::{errln, keep_clear_of, outln};
use super::settings::DataArgs;
use super::{looking, open};

/// Check, rebuild and measure the data directory
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum StoreCommand {
    /// Read all of the store and check it; also while a router is at work
    ///
    /// Of a directory, the whole journal: every checksum, the sequence, every guard again, and the
    /// counts and hashes of every batch. Of another store, every row with its checksum, who has each
    /// order of the supplier, and the counts. Exit code 1: something is wrong that should have been
    /// refused when it was written; 2: something is damaged or gone.
    #[command(visible_alias = "check")]
    Verify(ToolArgs),
    /// Write the index anew from the journal; no router may be at work
    Rebuild(ToolArgs),
    /// Show figures, and the store's grades: what it survives and what it keeps
    Stats(ToolArgs),
    Compact(CompactArgs),
    Backup(BackupArgs),
    Restore(RestoreArgs),
    Settle(Box<SettleArgs>),
    Migrate(Box<MigrateArgs>),
    Reopen(ReopenArgs),
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
        StoreCommand::Compact(args) => compact::compact(args),
        StoreCommand::Backup(args) => backup::backup(args),
        StoreCommand::Restore(args) => backup::restore(args),
        StoreCommand::Settle(args) => backup::settle(args),
        StoreCommand::Migrate(args) => migrate::migrate(args),
        StoreCommand::Reopen(args) => migrate::reopen(args),
        StoreCommand::Create(args) => create(&args.store),
    };
    result.unwrap_or_else(|failure| failure.report())
}

fn verify(args: &ToolArgs) -> Result<ExitCode, Failure> {
    let dir = match args.data.place()? {
        StorePlace::Directory(_) => args.data.existing()?,
        StorePlace::Database(url) => return verify_other(args.json, &url),
    };
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

/// Checks a store that has no journal.
fn verify_other(json: bool, url: &secrecy::SecretString) -> Result<ExitCode, Failure> {
    looking::runtime()?.block_on(async {
        let look = looking::look(url).await?;
        let told = std::sync::atomic::AtomicU64::new(0);
        let report = look::verify(&*look, |done, total| {
            let tenth = (done * 10).checked_div(total).unwrap_or(10);
            if told.swap(tenth, std::sync::atomic::Ordering::Relaxed) != tenth {
                errln!("checking: {done} of {total} orders");
            }
        });
        let report = report.await.map_err(|error| looking::failed(&look.place(), &error))?;
        let LookReport { tally, wrong, busy, .. } = &report;
        let value = json!({
            "open": tally.open,
            "ended": tally.intents - tally.open,
            "claims": tally.placed,
            "hash": tally.hash_text(),
            "written_meanwhile": busy,
        });
        tell(json, &value);
        wrong.iter().for_each(|wrong| errln!("{wrong}"));
        if wrong.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        errln!("this should have been refused when it was written: please report this");
        Ok(ExitCode::from(1))
    })
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

pub(super) fn of_report(report: &VerifyReport) -> serde_json::Value {
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

/// The grades of a store, by their names.
fn with_grade(
    mut value: serde_json::Value,
    grade: Grade,
    mark: Option<&Mark>,
) -> serde_json::Value {
    for (name, word) in grade.rows() {
        value[name] = json!(word);
    }
    if let Some(mark) = mark {
        value["mark"] = json!(mark.to_string());
    }
    value
}

/// Figures of a store that has no journal.
fn stats_of_other(json: bool, url: &secrecy::SecretString) -> Result<ExitCode, Failure> {
    looking::runtime()?.block_on(async {
        let look = looking::look(url).await?;
        let failed = |error| looking::failed(&look.place(), &error);
        let figures = look.figures().await.map_err(failed)?;
        let mark = look.rehydrate().await.map_err(failed)?.mark;
        let value = json!({
            "place": look.place(),
            "open": figures.open,
            "ended": figures.ended,
            "changes": figures.changes,
        });
        tell(json, &with_grade(value, look.grade(), mark.as_ref()));
        Ok(ExitCode::SUCCESS)
    })
}

fn stats(args: &ToolArgs) -> Result<ExitCode, Failure> {
    let dir = match args.data.place()? {
        StorePlace::Directory(_) => args.data.existing()?,
        StorePlace::Database(url) => return stats_of_other(args.json, &url),
    };
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
    tell(args.json, &with_grade(value, Grade::EMBEDDED, None));
    Ok(ExitCode::SUCCESS)
}

/// Shows a flat object, for people as one line each.
pub(super) fn tell(json: bool, value: &serde_json::Value) {
    if json {
        outln!("{value}");
        return;
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        let name = name.replace('_', " ");
        match value {
            serde_json::Value::Null => outln!("{name:<16}{:>14}", "unknown"),
            serde_json::Value::String(text) => outln!("{name:<16}{text}"),
            value => outln!("{name:<16}{value:>14}"),
        }
    }
}

pub(super) fn with_progress<T, E>(
    doing: &'static str,
    run: impl FnOnce(OnProgress) -> Result<T, E>,
) -> Result<T, E> {
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
