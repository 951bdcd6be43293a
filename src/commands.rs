//! The commands: each parses, calls the library and prints.

mod simulate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Buys exactly once from supplier APIs without idempotency keys
#[derive(Parser)]
#[command(name = "order-router", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Simulate(Box<simulate::SimulateArgs>),
}

/// Runs one command to its end.
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Simulate(arguments) => simulate::run(*arguments),
    }
}
