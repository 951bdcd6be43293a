//! `order-router simulate`: the simulated supplier as a process of its own.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::Args;
use order_router::simulator::{Contract, Faults, Simulator, SimulatorConfig, Stats};
use tokio::signal::unix::{SignalKind, signal};

use super::output::errln;

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

  Money comes, or goes without an order:
    curl ADMIN/admin/balance -d '{\"amount\": \"-3.01\"}'

  Somebody else buys on the account:
    curl ADMIN/admin/foreign -d '{\"items\": [{\"itemId\": \"a\", \"quantity\": 1}]}'";

/// Serves until a signal comes. Exit code 2: nothing was started.
pub fn run(arguments: SimulateArgs) -> ExitCode {
    allow_many_sockets();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(serve(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("error: the simulated supplier was not started: {error}");
            ExitCode::from(2)
        }
    }
}

/// Withheld connections are held, thousands of them where a client waits long: the usual soft
/// limit of 1,024 open files would refuse new ones. What cannot be had is done without.
fn allow_many_sockets() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
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
    errln!(
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
        errln!("{count:>8} {fault}");
    }
    for (fault, count) in &stats.list_faults {
        errln!("{count:>8} {fault} (list)");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        simulate: SimulateArgs,
    }

    fn parse(flags: &str) -> Result<SimulateArgs, String> {
        let words = std::iter::once("simulate").chain(flags.split_whitespace());
        Alone::try_parse_from(words).map(|a| a.simulate).map_err(|error| error.to_string())
    }

    #[test]
    fn without_flags_it_is_the_default_of_the_library() {
        let parsed = parse("").unwrap();
        assert_eq!(parsed.faults, Faults::default());
        assert_eq!(parsed.contract, Contract::default());
        assert_eq!((parsed.listen, parsed.admin_listen), (LOOPBACK, LOOPBACK));
    }

    #[test]
    fn flags_are_the_names_of_faults_and_settings() {
        let flags = "--withheld-after-creation 0.02 --created-late 0.01 --late-after 1.5s \
            --status-500-after 0.01 --reset-after 0.01 --cut-201 0.005 --rate-limited-429 0.002 \
            --list-lag 300ms --price a=b=4.95 --no-echo-note --list-order oldest";
        let parsed = parse(flags).unwrap();
        let faults = Faults {
            withheld_after_creation: 0.02,
            created_late: 0.01,
            late_after: Duration::from_millis(1500),
            status_500_after: 0.01,
            reset_after: 0.01,
            cut_201: 0.005,
            rate_limited_429: 0.002,
            list_lag: Duration::from_millis(300),
            ..Faults::default()
        };
        assert_eq!(parsed.faults, faults);
        assert_eq!(parsed.contract.prices[0].item_id, "a=b");
        assert_eq!(parsed.contract.prices[0].amount.to_string(), "4.95");
        assert!(!parsed.contract.echo_note && parsed.contract.echo_quantity);
        for wrong in ["--list-lag 300", "--reset-after x", "--price 4.95", "--no-such-fault 1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_help_says_what_each_flag_does() {
        use clap::CommandFactory;
        Alone::command().debug_assert();
        for flag in Alone::command().get_arguments() {
            assert!(flag.get_help().is_some(), "--{} has no help", flag.get_id());
        }
    }
}
