//! The commands: each parses, calls the library and prints.

#![allow(
    clippy::disallowed_methods,
    reason = "no part of the router: people's time, on threads \
    of their own"
)]

mod audit;
mod backup;
mod buyer;
mod check;
mod compact;
mod config;
#[cfg(any(feature = "dynamodb", feature = "postgres", feature = "redb", feature = "redis"))]
mod database;
mod demo;
mod failure;
mod gate;
mod input;
mod looking;
mod migrate;
mod open;
mod orders;
mod output;
mod probe;
mod results;
mod settings;
mod signals;
mod simulate;
mod stop;
mod store;
mod submit;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Buys exactly once from supplier APIs without idempotency keys
#[derive(Parser)]
#[command(name = "order-router", version, max_term_width = 100)]
pub struct Arguments {
    /// What to log to standard error: error, warn, info, debug, trace, or per module as in
    /// `warn,order_router=debug`; no key, no note and no code is ever logged
    #[arg(long, global = true, value_name = "FILTER", env = "RUST_LOG", default_value = "warn")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Submit(Box<submit::SubmitArgs>),
    Check(check::CheckArgs),
    Demo(demo::DemoArgs),
    Status(orders::ShowArgs),
    Orders(orders::OrdersArgs),
    Audit(Box<audit::AuditArgs>),
    Probe(Box<probe::ProbeArgs>),
    Stop(stop::StopArgs),
    Resume(stop::ResumeArgs),
    Store(store::StoreArgs),
    Config(config::ConfigArgs),
    Simulate(Box<simulate::SimulateArgs>),
}

/// Runs one command to its end.
pub fn run(arguments: Arguments) -> ExitCode {
    trace(&arguments.log, matches!(arguments.command, Command::Submit(_)));
    tell_panics_of_sled_shortly();
    match arguments.command {
        Command::Submit(arguments) => submit::run(*arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Status(arguments) => orders::show(&arguments),
        Command::Orders(arguments) => orders::run(arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Stop(arguments) => stop::stop(&arguments),
        Command::Resume(arguments) => stop::resume(&arguments),
        Command::Store(arguments) => store::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Simulate(arguments) => simulate::run(*arguments),
    }
}

/// The log of a run whose alarms are told anyway: without them.
const WARN_WITHOUT_ALARMS: &str =
    "warn,order_router::actors=error,order_router::actors::lookout=warn";

fn trace(filter: &str, tells_alarms: bool) {
    let filter = if filter == "warn" && tells_alarms { WARN_WITHOUT_ALARMS } else { filter };
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_else(|error| {
        output::errln!("--log {filter} is not understood ({error}); logging warnings");
        tracing_subscriber::EnvFilter::new("warn")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| output::Log)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

/// sled panics where its file fails. Those panics are caught, and what follows from them is told:
/// a person needs no place in its source, and no advice about backtraces.
fn tell_panics_of_sled_shortly() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match panic.location() {
        Some(at) if at.file().contains("/sled-") => {
            tracing::warn!("the index cannot go on: its file fails or is damaged");
            tracing::debug!(%at, "sled has given up");
        }
        _ => others(panic),
    }));
}

/// A client for commands that read, or that buy the wrong way on purpose. It follows nothing, and
/// sends nothing again.
fn http_client(timeout: std::time::Duration) -> reqwest::Result<reqwest::Client> {
    // A second installation changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(timeout)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .build()
}
