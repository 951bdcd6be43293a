//! `order-router config …`: checks, shows and documents the settings.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use order_router::runtime::Runtime;
use order_router::settings::{self, Loaded, Problem};
use order_router::supplier::foxreload::InvalidSetting;
use order_router::supplier::{ApiKey, FoxReload};

use super::failure::{Failure, chain};
use super::output::{errln, outln};
use super::settings::{RouterArgs, wrong};

/// Check, show and document the settings
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum ConfigCommand {
    /// Say everything that is wrong with the settings, and what looks wrong
    ///
    /// Reads flags, environment and file as `submit` does. Opens no connection and no data
    /// directory.
    #[command(after_help = "Exit code: 0 nothing is wrong, also where there are warnings; 2 \
        something is.\n\nExample:\n  order-router config check --config router.toml")]
    Check(Box<RouterArgs>),
    /// Show every setting with its value and where it comes from; secrets as set or unset
    #[command(after_help = "Exit code: 0 it is shown, 2 something is wrong.\n\nExample:\n  \
        order-router config show --config router.toml")]
    Show(Box<RouterArgs>),
    /// Print the reference of all settings, as Markdown
    Reference,
}

/// Runs one of the commands below `config`.
pub fn run(args: &ConfigArgs) -> ExitCode {
    let result = match &args.command {
        ConfigCommand::Check(args) => check(args),
        ConfigCommand::Show(args) => show(args),
        ConfigCommand::Reference => {
            outln!("{}", settings::reference().trim_end());
            Ok(())
        }
    };
    result.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

fn refused(problems: &[Problem]) -> Failure {
    let (what, next) = wrong(problems);
    Failure::unread(what, next)
}

fn check(args: &RouterArgs) -> Result<(), Failure> {
    let loaded = args.read().map_err(|problems| refused(&problems))?;
    let problems = unusable(&loaded);
    if !problems.is_empty() {
        return Err(refused(&problems));
    }
    let variables: Vec<_> =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let traps = settings::traps(&loaded, &variables);
    for trap in &traps {
        errln!("warning: {trap}");
    }
    match traps.len() {
        0 => outln!("nothing is wrong with the settings"),
        1 => outln!("nothing is wrong with the settings; 1 looks wrong"),
        many => outln!("nothing is wrong with the settings; {many} look wrong"),
    }
    Ok(())
}

/// What shows only when key and client are really made.
fn unusable(loaded: &Loaded) -> Vec<Problem> {
    let mut problems = Vec::new();
    let key = loaded.key().unwrap_or_else(|error| {
        let name = if loaded.api_key_file().is_some() { "api_key_file" } else { "api_key" };
        let text = match name {
            "api_key" => "there is no key: set ORDER_ROUTER_API_KEY or name a file of mode 600 \
                with api_key_file"
                .to_owned(),
            _ => chain(&error),
        };
        problems.push(loaded.problem(name, text));
        ApiKey::new("none").expect("it is printable")
    });
    let client = match loaded.client() {
        Ok(client) => client,
        Err(problem) => {
            problems.push(problem);
            return problems;
        }
    };
    let clock = Arc::clone(&Runtime::system().clock);
    if let Err(error) = FoxReload::new(loaded.base_url(), &key, client, clock) {
        let name = match error {
            InvalidSetting::Proxy => "proxy",
            InvalidSetting::RootCertificates => "root_certificates",
            _ => "supplier",
        };
        problems.push(loaded.problem(name, chain(&error)));
    }
    problems
}

fn show(args: &RouterArgs) -> Result<(), Failure> {
    let loaded = args.read().map_err(|problems| refused(&problems))?;
    let rows = loaded.show();
    let width = |of: fn(&(&'static str, String, String)) -> usize| {
        rows.iter().map(of).filter(|width| *width < 48).max().unwrap_or(0)
    };
    let (names, values) = (width(|(name, ..)| name.len()), width(|(_, value, _)| value.len()));
    for (name, value, origin) in &rows {
        outln!("{name:<names$}  {value:<values$}  {origin}");
    }
    Ok(())
}
