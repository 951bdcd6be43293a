//! `order-router demo`: three ways to buy the same orders from suppliers that fail on purpose.

mod naive;
mod orders;
mod router;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use order_router::simulator::{Faults, Simulator, SimulatorConfig};

use self::naive::Pattern;
use self::orders::DemoOrder;
use self::table::Row;
use super::check::read;
use super::check::verdict::{Books, ItemsKey};
use super::failure::Failure;
use super::output::{errln, outln};

/// How long every client waits for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the router lets an order land; late ones land after 1.5 s and show 0.3 s later.
const LANDING_BOUND: Duration = Duration::from_secs(4);
/// Orders under way at once, for every client.
const CONCURRENCY: usize = 16;
/// How often the router's process is killed at least.
const KILLS_MIN: usize = 3;

/// Buy the same orders in three ways from suppliers that fail on purpose
///
/// Needs no network and no account: three simulated suppliers on this machine lose answers, land
/// orders late and break connections, all with the same seed. One is bought from by blind retry,
/// one by the published pattern of checking the last orders before a retry, one by the router,
/// whose process is killed and restarted on the way. Takes well under a minute.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit code: 0 the router's row is all zero and the others' are not, else 1; \
    2 the demo could not be run."
)]
pub struct DemoArgs {
    /// The seed of the orders and of all that fails
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Keep the orders, the results and the data directory, and say where they are
    #[arg(long)]
    keep: bool,
    /// Print the rows as one JSON array
    #[arg(long)]
    json: bool,
}

/// Buys, compares, prints.
pub fn run(args: &DemoArgs) -> ExitCode {
    let begun = Instant::now();
    let dir = std::env::temp_dir().join(format!("order-router-demo-{}", std::process::id()));
    let rows = std::fs::create_dir_all(&dir)
        .map_err(|error| could_not(&format!("{} cannot be made", dir.display()), &error))
        .and_then(|()| buy(args, &dir));
    let kept = args.keep || rows.is_err();
    if !kept && std::fs::remove_dir_all(&dir).is_err() {
        errln!("{} could not be removed", dir.display());
    }
    let (rows, kills) = match rows {
        Ok(bought) => bought,
        Err(failure) => return failure.report(),
    };
    match args.json {
        true => table::print_json(&rows),
        false => {
            table::print(&rows);
            outln!("{}", in_words(&rows, kills, begun.elapsed()));
        }
    }
    if kept {
        errln!("kept in {}", dir.display());
    }
    let told = table::as_promised(&rows) && kills >= KILLS_MIN;
    ExitCode::from(u8::from(!told))
}

fn could_not(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::unread(
        format!("{what}: {error}"),
        "run the demo again, with room in the temporary \
        directory and free ports on this machine",
    )
}

fn in_words(rows: &[Row], kills: usize, took: Duration) -> String {
    let wanted = rows.first().map_or(0, |row| row.wanted);
    format!(
        "{wanted} orders, a third of them identical, in {} s. The suppliers lost or broke\n\
         about one answer in five. Request timeout {} s, landing bound {} s (short, for the\n\
         demo: the default is 15 min). The router's process was killed with SIGKILL and\n\
         started again {kills} times.\n{}",
        took.as_secs(),
        REQUEST_TIMEOUT.as_secs(),
        LANDING_BOUND.as_secs(),
        match table::as_promised(rows) {
            true => "The router bought every order exactly once.",
            false => "This is not what was promised: please report it, with the seed.",
        }
    )
}

fn faults() -> Faults {
    Faults {
        withheld_after_creation: 0.05,
        created_late: 0.03,
        withheld_never_created: 0.02,
        status_500_before: 0.02,
        status_500_after: 0.03,
        reset_after: 0.03,
        cut_201: 0.02,
        rate_limited_429: 0.01,
        late_after: Duration::from_millis(1500),
        list_lag: Duration::from_millis(300),
        latency: Duration::from_millis(20),
        latency_jitter: Duration::from_millis(20),
        ..Faults::default()
    }
}

fn supplier(seed: u64) -> Result<Simulator, Failure> {
    let config = SimulatorConfig { seed, faults: faults(), ..SimulatorConfig::default() };
    Simulator::spawn_thread(config)
        .map_err(|error| could_not("a simulated supplier was not started", &error))
}

/// Runs all three clients at once, each at a supplier of its own; returns the rows and how often
/// the router was killed.
fn buy(args: &DemoArgs, dir: &Path) -> Result<(Vec<Row>, usize), Failure> {
    let wanted: Arc<[DemoOrder]> = orders::generate(args.seed).into();
    let file = dir.join("orders.jsonl");
    std::fs::write(&file, orders::json_lines(&wanted))
        .map_err(|error| could_not("the orders cannot be written", &error))?;
    let suppliers = [supplier(args.seed)?, supplier(args.seed)?, supplier(args.seed)?];
    errln!("buying {} orders in three ways …", wanted.len());
    let url = suppliers[2].url();
    let for_router = dir.to_owned();
    let router = std::thread::spawn(move || router::buy(&for_router, &file, &url));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| could_not("no runtime", &error))?;
    let told = runtime.block_on(async {
        tokio::try_join!(
            naive::buy(Pattern::BlindRetry, &suppliers[0], &wanted),
            naive::buy(Pattern::CheckThenRetry, &suppliers[1], &wanted),
        )
    });
    let bought = router.join().unwrap_or_else(|_| {
        Err(could_not("the router could not be watched", &"its thread panicked"))
    })?;
    let (blind, checked) = told.map_err(|error| could_not("no HTTP client", &error))?;
    let mut rows = Vec::new();
    let named = ["blind retry", "check, then retry"].into_iter().zip([blind, checked]);
    for ((name, told), supplier) in named.zip(&suppliers) {
        let mut books = sold(supplier);
        for told in &told {
            let (items, id) = (|| told.order.key(), told.order_id.as_deref());
            books.told(&told.order.client_ref, items, told.outcome, id);
        }
        rows.push(Row::new(name, &books.verdict(), supplier));
    }
    let mut books = sold(&suppliers[2]);
    for path in &bought.results {
        read::results(path, &mut books)?;
    }
    // What the results do not name was lost.
    for order in &*wanted {
        books.told(&order.client_ref, || order.key(), super::results::Outcome::Accepted, None);
    }
    rows.push(Row::new("order-router", &books.verdict(), &suppliers[2]));
    Ok((rows, bought.kills))
}

fn sold(supplier: &Simulator) -> Books {
    let mut books = Books::default();
    for entry in supplier.ledger() {
        let items = entry.items.iter().map(|item| (&*item.item_id, item.quantity));
        books.sold(&entry.id, ItemsKey::new(items), entry.foreign);
    }
    books
}

/// What the router's runs left.
struct Bought {
    results: Vec<PathBuf>,
    kills: usize,
}
