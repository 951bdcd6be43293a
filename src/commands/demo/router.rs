//! The router as a process of its own, killed and started again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{Bought, CONCURRENCY, LANDING_BOUND, REQUEST_TIMEOUT, could_not};
use crate::commands::failure::Failure;

/// A run is killed when it has written so many placed orders; the last run is let go.
const KILL_AT: [usize; 4] = [50, 110, 170, 230];
/// How often a run's results are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A process that does not outlive the demo.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        // It has ended already, or ends now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Buys the orders of a file, over several kills.
pub(super) fn buy(dir: &Path, orders: &Path, url: &str) -> Result<Bought, Failure> {
    let mut bought = Bought { results: Vec::new(), kills: 0 };
    loop {
        let number = bought.results.len() + 1;
        let results = dir.join(format!("results-{number}.jsonl"));
        let started = start(dir, orders, url, &results, number);
        let mut run = started.map_err(|error| could_not("the router was not started", &error))?;
        bought.results.push(results.clone());
        let limit = KILL_AT.get(bought.kills).copied();
        let ended = watch(&mut run, &results, limit)
            .map_err(|error| could_not("the router could not be watched", &error))?;
        match ended {
            None => bought.kills += 1,
            Some(status) if status.code() == Some(2) => {
                let log = std::fs::read_to_string(log_of(dir, number)).unwrap_or_default();
                return Err(could_not("the router was not started", &log.trim()));
            }
            Some(_) => return Ok(bought),
        }
    }
}

fn log_of(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("submit-{number}.log"))
}

fn start(dir: &Path, orders: &Path, url: &str, results: &Path, number: usize) -> io::Result<Run> {
    let seconds = |span: Duration| format!("{}s", span.as_secs());
    Command::new(std::env::current_exe()?)
        .arg("submit")
        .arg(orders)
        .args(["--supplier", url])
        .arg("--data")
        .arg(dir.join("data"))
        .arg("--results")
        .arg(results)
        .args(["--request-timeout", &seconds(REQUEST_TIMEOUT)])
        .args(["--landing-bound", &seconds(LANDING_BOUND)])
        .args(["--concurrency", &CONCURRENCY.to_string()])
        // Should the demo itself be killed, nobody answers any more.
        .args(["--give-up-after", "60s"])
        .env("ORDER_ROUTER_API_KEY", "demo")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(log_of(dir, number))?)
        .spawn()
        .map(Run)
}

/// Waits for the end of a run, or kills it at its limit: `None`.
fn watch(run: &mut Run, results: &Path, limit: Option<usize>) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = run.0.try_wait()? {
            return Ok(Some(status));
        }
        let reached = |limit| placed(results).is_ok_and(|placed| placed >= limit);
        if limit.is_some_and(reached) {
            run.0.kill()?;
            run.0.wait()?;
            return Ok(None);
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

fn placed(results: &Path) -> io::Result<usize> {
    Ok(std::fs::read_to_string(results)?.matches("\"outcome\":\"placed\"").count())
}
