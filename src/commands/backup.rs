//! `order-router store backup`, `restore` and `settle`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use order_router::store::tools;

use super::failure::{Failure, chain};
use super::looking;
use super::open;
use super::output::{errln, outln};
use super::settings::{DataArgs, RouterArgs};
use super::store::{of_report, tell, with_progress};

/// Copy the data directory, and check the copy; also while a router is at work
///
/// The copy has what was durable when it began. Into the same directory again, only what is new is copied.
/// It is no data directory: `store restore` makes one of it. Stores on servers have means of their own.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// Where the copy is to be
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Make a data directory of a backup
///
/// No router starts on it before `store settle`: what was bought since the backup was made it does not
/// know, and would buy again.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The data directory to be made; it must not be there yet
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Settle a store that was put back from an older state, by `store restore` or otherwise
///
/// Sends nothing. It waits until nothing can land any more that the lost process sent, reads the account,
/// and holds for a person all orders for items of which the account has an order that the store gives to
/// nobody: `orders resolve` gives them their owners, `orders free` lets the others be bought. What is to be paid
/// is held as well: resolve it with `--unpaid`, or pay it at the supplier. No router may be at work with the state
/// that was lost.
#[derive(Args, Clone, Debug)]
pub struct SettleArgs {
    #[command(flatten)]
    router: RouterArgs,
}

pub(super) fn backup(args: &BackupArgs) -> Result<ExitCode, Failure> {
    let dir = args.data.existing()?;
    let report = with_progress("copying", |told| tools::backup(&dir, &args.to, Some(told)));
    let report = report.map_err(|error| {
        Failure::unread(
            format!("no backup was made in {}: {}", args.to.display(), chain(&error)),
            "see what is named; the data directory is as it was",
        )
    })?;
    tell(args.json, &of_report(&report));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(args: &RestoreArgs) -> Result<ExitCode, Failure> {
    let restored = looking::runtime()?.block_on(tools::restore(&args.from, &args.data));
    let report = restored.map_err(|error| {
        Failure::unread(
            format!(
                "{} was not made of {}: {}",
                args.data.display(),
                args.from.display(),
                chain(&error)
            ),
            "name a whole backup, and a directory that is not there yet",
        )
    })?;
    tell(args.json, &of_report(&report));
    errln!(
        "before it is used: `order-router store settle`, for it does not know what was bought since"
    );
    Ok(ExitCode::SUCCESS)
}

pub(super) fn settle(args: &SettleArgs) -> Result<ExitCode, Failure> {
    let loaded = Arc::new(args.router.load()?);
    errln!("nothing is sent; waiting until nothing can land any more, then reading the account");
    looking::runtime()?.block_on(open::settle(&loaded))?;
    outln!("the store is settled; what is held is shown by `order-router orders list`");
    Ok(ExitCode::SUCCESS)
}
