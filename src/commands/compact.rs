//! `order-router store compact`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use order_router::runtime::Runtime;
use order_router::simulator::parse_duration;
use order_router::store::{CompactError, Compacted, EmbeddedConfig, tools};
use serde_json::json;

use super::failure::{Failure, chain};
use super::open;
use super::settings::DataArgs;
use super::store::{tell, with_progress};

/// Write the journal anew, smaller; no router may be at work
///
/// How each order stands is kept, and not how it came to that: an order that has ended is one short record.
/// References, ends, order ids and items-hashes are kept for ever. The new journal is read back and compared
/// before it takes the place of the old one; a kill or a power cut at any moment leaves the old or
/// the new. It needs the room for both, and memory for every order, about a kilobyte each. A backup made
/// before goes on to be one; the next one is made to another place.
#[derive(Args, Clone, Debug)]
pub struct CompactArgs {
    /// Drop the items, notes and price guards of orders that have ended and were accepted longer ago
    /// than this; without it those of none
    #[arg(long, value_name = "D", value_parser = retention)]
    retention: Option<Duration>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

fn retention(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    match days.and_then(|days| days.checked_mul(24 * 60 * 60)) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => parse_duration(text),
    }
}

pub(super) fn compact(args: &CompactArgs) -> Result<ExitCode, Failure> {
    let dir = args.data.existing()?;
    let wall = Runtime::system().clock.wall();
    let drop_before =
        args.retention.map(|kept| wall.checked_sub(kept).unwrap_or(jiff::Timestamp::MIN));
    let done = with_progress("compacting", |told| {
        let config = EmbeddedConfig { on_progress: Some(told), ..EmbeddedConfig::default() };
        tools::compact(&dir, &config, drop_before)
    });
    let done = done.map_err(|error| match error {
        CompactError::Open(error) => open::not_opened(&dir, &error),
        error => {
            let next = match error {
                CompactError::Room { .. } => "make room on the disk, then run again",
                CompactError::Marked(_) => {
                    "finish the migration, or `order-router store settle` what was restored, first"
                }
                _ => "run `order-router store verify`; the data directory is as it was",
            };
            Failure::nothing_sent(
                format!("{} was not compacted: {}", dir.display(), chain(&error)),
                next,
            )
        }
    })?;
    tell(args.json, &of_compacted(&done));
    Ok(ExitCode::SUCCESS)
}

fn of_compacted(done: &Compacted) -> serde_json::Value {
    json!({
        "open": done.open,
        "ended": done.ended,
        "items_dropped": done.items_dropped,
        "changes_before": done.changes_before,
        "changes": done.changes,
        "bytes_before": done.bytes_before,
        "bytes": done.bytes,
    })
}
