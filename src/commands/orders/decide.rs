//! A person's decisions: they need the data directory for themselves, and a router.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args};
use order_router::{OrderId, OrderRouter, Resolution, ResolveError};

use super::ClientRefArg;
use crate::commands::failure::{Failure, chain};
use crate::commands::open;
use crate::commands::output::{errln, outln};
use crate::commands::settings::{self, RouterArgs};

/// Decide an order that is in doubt or held
///
/// Checked: the supplier's order exists, is not older than the first start on the account, its
/// items match, and no other reference has it. The decision is stored, its reason stands in the log
/// alone. Nothing is sent. No other process may be at work in the data directory.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("decision").required(true), after_help = "\
Examples:
  order-router orders show a-17
  order-router orders resolve a-17 --placed 0b5d… --reason 'seen in the dashboard' --supplier URL
  order-router orders resolve a-18 --absent --reason 'support says no, ticket 4711' --supplier URL

With --absent the order is sent again by the next `submit` while tries are left: say it only when
nothing was bought and nothing can land any more. Wait at least the landing bound after it was sent.")]
pub(super) struct ResolveArgs {
    /// The caller's reference
    #[arg(value_name = "REF")]
    client_ref: ClientRefArg,
    /// This order of the supplier's is the one
    #[arg(long, value_name = "ID", group = "decision")]
    placed: Option<String>,
    /// Nothing was bought by any attempt so far, and nothing will be
    #[arg(long, group = "decision")]
    absent: bool,
    /// The created order is paid; refused where the supplier shows that it is not
    #[arg(long, group = "decision")]
    paid: bool,
    /// The created order is not paid, and nothing that was sent will pay it: it is not paid any more
    #[arg(long, group = "decision")]
    unpaid: bool,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    router: RouterArgs,
}

/// Let orders be sent again that are identical to one of which the account shows too many
///
/// Where the account shows more orders than are in doubt, somebody else buys there, or an order
/// landed twice; identical ones are then neither claimed nor sent until a person has looked.
/// Resolve those in doubt first. Nothing is sent.
#[derive(Args, Clone, Debug)]
pub(super) struct FreeArgs {
    /// The reference of any of the identical orders
    #[arg(value_name = "REF")]
    client_ref: ClientRefArg,
    #[command(flatten)]
    router: RouterArgs,
}

pub(super) fn resolve(args: ResolveArgs) -> ExitCode {
    let resolution = match args.placed.as_deref().map(OrderId::new) {
        Some(Some(id)) => Resolution::Placed(id),
        Some(None) => {
            let what = "--placed: an order's id has 1 to 255 bytes";
            return Failure::unread(what, "copy the id from the supplier").report();
        }
        None if args.paid => Resolution::Paid,
        None if args.unpaid => Resolution::Unpaid,
        None => Resolution::Absent,
    };
    if resolution == Resolution::Absent {
        errln!(
            "warning: --absent must be certain: a POST of {} that lands after this is bought twice; \
             wait at least the landing bound after it was sent",
            args.client_ref.0
        );
    }
    let client_ref = args.client_ref.0.clone();
    let reason = args.reason.clone();
    with_router(&args.router, async move |router| {
        router.resolve(&client_ref, resolution, &reason).await?;
        let state = router.status(&client_ref).await?.map(|stored| stored.state);
        Ok(format!("{client_ref}: {}", state.map_or("unknown", |state| state.name())))
    })
}

pub(super) fn free(args: FreeArgs) -> ExitCode {
    let client_ref = args.client_ref.0.clone();
    with_router(&args.router, async move |router| {
        router.free_lane(&client_ref).await?;
        Ok(format!("orders identical to {client_ref} are sent again by the next `submit`"))
    })
}

fn with_router(
    args: &RouterArgs,
    decide: impl AsyncFnOnce(&OrderRouter) -> Result<String, ResolveError>,
) -> ExitCode {
    let loaded = match args.load() {
        Ok(loaded) => loaded,
        Err(failure) => return failure.report(),
    };
    if let Err(failure) = loaded.data().map_or(Ok(()), settings::existing) {
        return failure.report();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let what = format!("threads could not be started: {error}");
            return Failure::unread(what, "raise the limit of threads").report();
        }
    };
    let decided: Result<_, Failure> = runtime.block_on(async {
        let router = open::open_without_sending(&loaded).await?;
        let decided = decide(&router).await;
        open::stop(&router, Duration::from_secs(2)).await;
        Ok(decided)
    });
    match decided {
        Ok(Ok(told)) => {
            outln!("{told}");
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            let failure =
                Failure::unread(format!("it was not decided: {}", chain(&error)), next(&error));
            errln!("{failure}");
            ExitCode::from(1)
        }
        Err(failure) => failure.report(),
    }
}

fn next(error: &ResolveError) -> &'static str {
    match error {
        ResolveError::Unknown { .. } => "`order-router orders list` shows the references",
        ResolveError::NotInDoubt { .. } => "nothing: there is nothing to decide",
        ResolveError::NotFetched { .. } => "check the id, and that the supplier is reached",
        ResolveError::History { .. } => "look for an order that was created later",
        ResolveError::OtherItems { .. } => "look for the order with the same items",
        ResolveError::Taken { .. } => "look for another order with the same items",
        ResolveError::Contradicted { .. } => "look again what the supplier shows",
        ResolveError::NotToPay { .. } => "use --placed or --absent",
        ResolveError::NoReason => "give --reason",
        ResolveError::Store(_) => "look at the disk, then `order-router store verify`",
        ResolveError::Stopped => "run it again",
        _ => "see the message",
    }
}
