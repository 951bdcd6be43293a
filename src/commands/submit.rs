//! `order-router submit`: buys the orders of a file, each once, and tells how each ended.

mod follow;
mod report;
mod session;
mod tally;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use order_router::settings::Loaded;
use order_router::simulator::parse_duration;

use super::buyer::{self, Buyer};
use super::failure::Failure;
use super::input::Input;
use super::open;
use super::output::errln;
use super::results::{Results, Writing};
use super::settings::{self, RouterArgs};
use super::signals::Signals;

use self::session::Session;

/// Buy the orders of a file, each once
///
/// The same command again, after a crash, a kill or a power cut, goes on where it was: an order is
/// known by its client_ref, and bought once however often it is submitted. Every run writes how
/// every line of its input ended, also those that ended in an earlier run.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct SubmitArgs {
    /// A CSV file with the columns client_ref, item_id, quantity (and note, total_price), or JSON
    /// lines; `-` is standard input
    #[arg(value_name = "FILE|-")]
    file: String,
    /// Append how each line stands to this file, one JSON object a line; `-` is standard output
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    results: String,
    /// Orders under way at once; one that comes into doubt makes room for the next
    #[arg(long, value_name = "N", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: u32,
    /// How long after the last line to wait for orders in doubt [default: for ever]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    give_up_after: Option<Duration>,
    /// Print the summary as one JSON object to standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    router: RouterArgs,
}

const AFTER_HELP: &str = "\
Input, as CSV (other columns are ignored) or as JSON lines:
  client_ref,item_id,quantity          {\"client_ref\":\"a-1\",\"items\":[
  a-1,gift-card-10,1                     {\"itemId\":\"gift-card-10\",\"quantity\":1}]}

Results, one line for each step that is durable; the last one of a reference counts:
  accepted                 it will be bought, over any crash
  placed                   bought; order_id is this reference's alone
  refused, not_placed      nothing was bought and nothing will be
  in_doubt, held           it may have been bought: run again; held waits for `orders resolve`
  conflict, invalid        nothing was bought for this line: another order has the reference, or
                           the line is no order

Exit code:
  0  every order is placed
  1  all have ended, but some are refused, not placed, in conflict or invalid
  2  nothing was started: flags, file, key, data directory or supplier; the message says what to do
  3  some are in doubt or held, or were not taken: run the same command again

Examples:
  order-router simulate --listen 127.0.0.1:8080 --withheld-after-creation 0.02 &
  export ORDER_ROUTER_API_KEY=any-text-will-do-for-a-simulated-supplier
  order-router submit orders.csv --supplier http://127.0.0.1:8080 --results results.jsonl \\
    --request-timeout 1s --landing-bound 4s
  order-router check --ledger http://ADMIN --results results.jsonl

  produce-orders | order-router submit - --supplier https://public-api.foxreload.com \\
    --api-key-file key --rate 100/min --give-up-after 30m --results results.jsonl";

/// Runs to the end of the input, or until it is told to stop.
pub fn run(args: SubmitArgs) -> ExitCode {
    let loaded = match args.router.load() {
        Ok(loaded) => loaded,
        Err(failure) => return failure.report(),
    };
    let (input, results, writing) = match prepare(&args, &loaded) {
        Ok(prepared) => prepared,
        Err(failure) => return failure.report(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let what = format!("threads could not be started: {error}");
            return Failure::nothing_sent(what, "raise the limit of threads").report();
        }
    };
    let code = match runtime.block_on(submit(args, loaded, input, results, writing)) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    };
    // A read of standard input that never returns is no reason to stay.
    runtime.shutdown_background();
    code
}

/// Everything that can be refused before the account is touched.
fn prepare(args: &SubmitArgs, loaded: &Loaded) -> Result<(Input, Results, Writing), Failure> {
    if args.json && args.results == "-" {
        let what = "--json and the results both want standard output";
        return Err(Failure::nothing_sent(what, "name a file with --results"));
    }
    if args.results != "-" && is_same_file(&args.file, &args.results) {
        let what = format!("--results {} is the input", args.results);
        return Err(Failure::nothing_sent(what, "name another file for the results"));
    }
    let input = Input::open(&args.file)?;
    settings::key(loaded)?;
    let (results, writing) = Results::open(&args.results).map_err(|error| {
        let what = format!("the results file {} cannot be written: {error}", args.results);
        Failure::nothing_sent(what, "name a file that can be written with --results")
    })?;
    Ok((input, results, writing))
}

fn is_same_file(input: &str, results: &str) -> bool {
    let real = |path: &str| Path::new(path).canonicalize().ok();
    real(input).is_some_and(|input| real(results) == Some(input))
}

/// What was accepted is in the journal; what stands in the results is true.
fn end_at_once() -> ! {
    errln!("ended at once; run the same command again");
    std::process::exit(3);
}

async fn submit(
    args: SubmitArgs,
    loaded: Loaded,
    input: Input,
    results: Results,
    writing: Writing,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen().map_err(|error| {
        let what = format!("signals cannot be listened to: {error}");
        Failure::nothing_sent(what, "run again")
    })?;
    let router = open::buyer(&loaded, args.concurrency as usize).await?;
    let ready = async {
        match &router {
            Buyer::Router(router) => open::ready(router, &loaded).await,
            Buyer::Node(node) => buyer::settled(node).await,
        }
    };
    tokio::select! {
        ready = ready => ready?,
        () = signals.next() => {
            router.stop(Duration::ZERO).await;
            let what = "interrupted before the supplier's list was understood";
            return Err(Failure::nothing_sent(what, "run again"));
        }
    }
    let session = Session::begin(&args, loaded.request_timeout(), router, results).await.map_err(
        |error| {
            let what = format!("the open orders cannot be read: {error}");
            Failure::nothing_sent(what, "run `order-router store verify`")
        },
    )?;
    let summary = session.run(input, &mut signals).await;
    // Whoever reads the results may have stopped to.
    let written = tokio::select! {
        written = tokio::task::spawn_blocking(|| writing.finish()) => written,
        () = signals.next() => end_at_once(),
    };
    let written = written.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    Ok(report::end(&summary, &written, args.json))
}
