//! `order-router simulate`: the simulated supplier as a process of its own.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::Args;
use order_router::simulator::{Contract, Faults, Simulator, SimulatorConfig, Stats};
use tokio::signal::unix::{SignalKind, signal};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Run a simulated supplier that fails on purpose
///
/// It sells on loopback by the contract of a supplier without idempotency keys: every POST that
/// lands creates an order. Each fault has a probability between 0 and 1; a POST meets at most one.
/// Prints `listening URL admin URL` as its first line and serves until SIGINT or SIGTERM; then a
/// summary goes to standard error.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct SimulateArgs {
    /// The address of the supplier's API; loopback only, port 0 is any free one
    #[arg(long, value_name = "ADDR", default_value_t = LOOPBACK)]
    listen: SocketAddr,
    /// The address of the ledger, the counters and the faults; loopback only
    #[arg(long, value_name = "ADDR", default_value_t = LOOPBACK)]
    admin_listen: SocketAddr,
    /// The seed of all chance: the same seed and order of arrival give the same faults and ids
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The only API key to accept; without it any key is accepted, but not its absence
    #[arg(long, value_name = "KEY", env = "ORDER_ROUTER_SIMULATOR_KEY", hide_env_values = true)]
    required_key: Option<String>,
    #[command(flatten)]
    contract: Contract,
    #[command(flatten)]
    faults: Faults,
}

const AFTER_HELP: &str = "\
Examples:
  A supplier that loses one answer in fifty, and lists orders late:
    order-router simulate --listen 127.0.0.1:8080 --withheld-after-creation 0.02 --list-lag 300ms

  What it really sold, and what reached it:
    curl ADMIN/admin/ledger
    curl ADMIN/admin/stats

  Other faults while it runs (names with underscores; what is not named stays):
    curl ADMIN/admin/faults -d '{\"reset_after\": 0.1, \"latency\": \"50ms\"}'
  These for the next three POSTs, and the third kind at most twice more after them:
    curl ADMIN/admin/faults -d '{\"script\": [\"cut_201\", null, \"redirect\"], \
\"budget\": {\"reset_after\": 2}}'

  Somebody else buys on the account:
    curl ADMIN/admin/foreign -d '{\"items\": [{\"itemId\": \"a\", \"quantity\": 1}]}'";

/// Serves until a signal comes. Exit code 2: nothing was started.
pub fn run(arguments: SimulateArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(serve(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the simulated supplier was not started: {error}");
            ExitCode::from(2)
        }
    }
}

async fn serve(arguments: SimulateArgs) -> io::Result<()> {
    let SimulateArgs { listen, admin_listen, seed, required_key, contract, faults } = arguments;
    // Before the first line is printed: whoever reads it may send a signal at once.
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let config = SimulatorConfig { listen, admin_listen, seed, required_key, contract, faults };
    let simulator = Simulator::start(config).await?;
    // A reader that closed its end after the first line is no reason to stop.
    let mut stdout = io::stdout().lock();
    let line = format!("listening {} admin {}\n", simulator.url(), simulator.admin_url());
    let _ = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    summarise(&simulator.stats());
    Ok(())
}

fn summarise(stats: &Stats) {
    eprintln!(
        "{} orders sold ({} to others) by {} POSTs, {} refused; {} listings of {} pages, {} fetches",
        stats.orders,
        stats.foreign_orders,
        stats.posts,
        stats.refused,
        stats.listings,
        stats.list_pages,
        stats.fetches,
    );
    for (fault, count) in &stats.faults {
        eprintln!("{count:>8} {fault}");
    }
    for (fault, count) in &stats.list_faults {
        eprintln!("{count:>8} {fault} (list)");
    }
}
