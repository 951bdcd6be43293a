//! `order-router store migrate` and `store reopen`.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use order_router::settings::{self, StorePlace};
use order_router::simulator::parse_duration;
use order_router::store::LeaseTerms;
use order_router::store::migrate::{self, MigrateError, Progress, Report, Side, Step, Tally};
use serde_json::json;

use super::failure::{Failure, chain};
use super::looking;
use super::output::{errln, keep_clear_of, outln};

/// Move all orders from one store to another; no router may be at work with either
///
/// Moves everything: references and how they ended, the supplier's orders and who has them, open
/// orders with their attempts, orders that nobody has, the history line, pauses. Then reads both and
/// compares them. Until that is done no router starts on the target, and from the beginning on none
/// starts on the source. The same command again goes on after a crash.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The way back before it is finished: `order-router store reopen --store SOURCE`; the target stays
unusable. Afterwards: migrate again, with --from and --to exchanged; what was bought since comes along.

A URL with a password belongs into ORDER_ROUTER_FROM and ORDER_ROUTER_TO, where nobody sees it.
Exit code: 0 moved, 2 not moved.")]
pub struct MigrateArgs {
    /// Where the orders are: embedded:DIR, redb:FILE, postgres://..., redis://... or dynamodb://...
    #[arg(long, value_name = "URL", env = "ORDER_ROUTER_FROM", hide_env_values = true)]
    from: Place,
    /// Where they are to go; empty, or what an interrupted migration left
    #[arg(long, value_name = "URL", env = "ORDER_ROUTER_TO", hide_env_values = true)]
    to: Place,
    #[command(flatten)]
    terms: TermsArgs,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Make the source of a migration usable again that was given up before it was finished
///
/// Nothing is sent. The target is not asked; no router ever starts on it but after a migration.
#[derive(Args, Clone, Debug)]
pub struct ReopenArgs {
    /// The source of the migration
    #[arg(long, value_name = "URL", env = "ORDER_ROUTER_STORE", hide_env_values = true)]
    store: Place,
    /// Also if all of its orders were moved: the target is lost for ever. While it is not, this buys
    /// twice. What was bought with the target is not known here; the next start compares with the
    /// account
    #[arg(long)]
    target_is_lost: bool,
    #[command(flatten)]
    terms: TermsArgs,
}

/// The terms of leases, where a store has one.
#[derive(Args, Clone, Debug)]
struct TermsArgs {
    /// How long the lease of a store lasts, where it has one; as its routers have it
    #[arg(long, value_name = "D", default_value = "10s", value_parser = parse_duration)]
    lease: Duration,
    /// The longest time for which a router may have been stopped while it sent an order: where the
    /// source has a lease, the migration does not end before
    #[arg(long, value_name = "D", default_value = "30s", value_parser = parse_duration)]
    pause_max: Duration,
    /// Take a store on a server that answers before it is on disk (Redis without appendfsync always,
    /// Postgres with fsync off). What it forgets in a power cut is bought again
    #[arg(long)]
    accept_unsynced: bool,
}

impl TermsArgs {
    /// The terms, and whether a store that answers too early is taken.
    fn get(&self) -> Result<(LeaseTerms, bool), Failure> {
        let Self { lease, pause_max, accept_unsynced } = *self;
        let terms = LeaseTerms { length: lease, margin: lease / 10, pause_max };
        match terms.wrong() {
            None => Ok((terms, accept_unsynced)),
            Some(why) => Err(Failure::unread(format!("--lease: {why}"), "name a longer one")),
        }
    }
}

/// A store, checked while the flags are parsed; nothing of it is shown.
#[derive(Clone)]
struct Place(Result<StorePlace, String>);

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Place")
    }
}

impl std::str::FromStr for Place {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // clap would show the URL with the error, and it may have a password in it.
        Ok(Self(settings::place(text)))
    }
}

impl Place {
    fn get(&self, flag: &str) -> Result<&StorePlace, Failure> {
        self.0.as_ref().map_err(|why| {
            let next =
                "name embedded:DIR, redb:FILE, postgres://..., redis://... or dynamodb://...";
            Failure::unread(format!("{flag} {why}"), next)
        })
    }
}

/// Moves orders.
pub fn migrate(args: &MigrateArgs) -> Result<ExitCode, Failure> {
    let (from, to) = (args.from.get("--from")?, args.to.get("--to")?);
    let terms = args.terms.get()?;
    looking::runtime()?.block_on(async {
        let from = looking::side(from, terms, true).await?;
        let to = match looking::side(to, terms, false).await {
            Ok(to) => to,
            Err(failure) => {
                close(&from).await;
                return Err(failure);
            }
        };
        let moved = with_progress(&from, &to).await;
        // The source first: whoever waits for it finds the mark.
        close(&from).await;
        close(&to).await;
        tell(args.json, (&from, &to), &moved.map_err(|error| not_moved((&from, &to), &error))?);
        Ok(ExitCode::SUCCESS)
    })
}

/// Makes a source usable again.
pub fn reopen(args: &ReopenArgs) -> Result<ExitCode, Failure> {
    let place = args.store.get("--store")?;
    let terms = args.terms.get()?;
    looking::runtime()?.block_on(async {
        let side = looking::side(place, terms, true).await?;
        let reopened = migrate::reopen(&side, args.target_is_lost).await;
        close(&side).await;
        let place = &side.place;
        match reopened {
            Ok(None) => outln!("{place} is usable: no migration has marked it"),
            Ok(Some(mark)) => outln!("{place} is usable again; it was marked: {mark}"),
            Err(error @ MigrateError::Source { .. }) => {
                let next = "finish the migration with the same command, or move the orders back: \
                    migrate with --from and --to exchanged";
                return Err(Failure::unread(chain(&error), next));
            }
            Err(error) => return Err(Failure::unread(chain(&error), "see the message")),
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn close(side: &Side) {
    if let Err(error) = side.store.close().await {
        errln!("{} was not closed properly: {}", side.place, chain(&error));
    }
}

fn tell(json: bool, (from, to): (&Side, &Side), report: &Report) {
    let Report { source, target, joined } = report;
    if json {
        let side = |place: &str, tally: &Tally| {
            json!({
                "place": place,
                "orders": tally.intents,
                "open": tally.open,
                "placed": tally.placed,
                "hash": tally.hash_text(),
            })
        };
        let value = json!({
            "from": side(&from.place, source),
            "to": side(&to.place, target),
            "there_before": joined,
        });
        return outln!("{value}");
    }
    outln!("from {}: {source}", from.place);
    outln!("to   {}: {target}", to.place);
    if *joined > 0 {
        outln!("{joined} orders were there before, from an earlier try");
    }
    outln!("the two are equal; from now on use {}", to.place);
}

/// Why, what is usable now, and what to do.
fn not_moved((from, to): (&Side, &Side), error: &MigrateError) -> Failure {
    let what = format!("the orders were not moved: {}", chain(error));
    let (from, to) = (&from.place, &to.place);
    let next = match error {
        MigrateError::Source { .. } => {
            "finish the other migration, or name the store that has the orders".to_owned()
        }
        MigrateError::Done { .. } => format!("use {to}; to move back, exchange --from and --to"),
        MigrateError::Target { .. } => {
            "name an empty store: another directory, file, schema or namespace".to_owned()
        }
        MigrateError::Differs { .. } | MigrateError::Unequal { .. } => format!(
            "no router starts on either; `order-router store reopen --store` with {from} makes the \
             source usable as it was, and another target is wanted"
        ),
        _ => format!(
            "run the same again to go on; until then no router starts on {to}; if none starts on \
             {from}, `order-router store reopen` makes it usable as it was"
        ),
    };
    match error {
        MigrateError::Source { .. } | MigrateError::Done { .. } | MigrateError::Target { .. } => {
            Failure::unread(what, next)
        }
        _ => Failure::unmoved(what, next),
    }
}

async fn with_progress(from: &Side, to: &Side) -> Result<Report, MigrateError> {
    if !io::stderr().is_terminal() {
        let told = Mutex::new((None, 0));
        return migrate::migrate(from, to, &move |progress| say(&told, progress)).await;
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    let bar = ProgressBar::new(0).with_style(style.expect("the template is a fixed text"));
    keep_clear_of(Some(bar.clone()));
    let told = bar.clone();
    let tell = move |progress: Progress| {
        told.set_message(name(progress.step));
        told.set_length(progress.total);
        told.set_position(progress.done);
    };
    let moved = migrate::migrate(from, to, &tell).await;
    keep_clear_of(None);
    bar.finish_and_clear();
    moved
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Copying => "copying orders",
        Step::Comparing => "comparing orders",
        Step::Waiting => "waiting for what a former router may still send, in seconds",
    }
}

/// A line for each step and each tenth of it.
fn say(told: &Mutex<(Option<Step>, u64)>, progress: Progress) {
    let Progress { step, done, total } = progress;
    let tenth = (done * 10).checked_div(total).unwrap_or(10);
    let mut told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if *told != (Some(step), tenth) {
        *told = (Some(step), tenth);
        errln!("{}: {done} of {total}", name(step));
    }
}
