//! The command as a process: what it takes, what it refuses, what it says, how it ends.

mod audits;
mod backups;
mod bad_input;
mod checks;
mod compactions;
mod database;
mod ends;
mod kills;
mod limits;
mod looks;
mod migrate;
mod pauses;
mod pay;
mod planted;
mod probe;
mod purchases;
mod replaces;
mod secrets;
mod settings;
mod shared;
mod stores;
mod switch;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use order_router::runtime::Runtime;
use order_router::simulator::{Faults, Simulator, SimulatorConfig};
use order_router::store::{EmbeddedConfig, EmbeddedStore};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_order-router");

/// A directory with what one test reads and writes.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The command in this directory, with a key and nothing else of the caller's settings.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(words)
            .current_dir(self.dir.path())
            .env_clear()
            .env("ORDER_ROUTER_API_KEY", "key-canary-1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// `submit FILE` with short times, into `results.jsonl`.
    fn submit(&self, supplier: &str, file: &str) -> Command {
        let mut command = self.command(&["submit", file, "--supplier", supplier]);
        command.args(["--request-timeout", "1s", "--landing-bound", "2s", "--data", "data"]);
        command.args(["--results", "results.jsonl"]);
        command
    }

    fn results(&self) -> Vec<Value> {
        read_lines(&self.path("results.jsonl"))
    }

    /// Line number and outcome of every end in the results.
    fn ends(&self) -> Vec<(u64, String)> {
        let mut ends: Vec<_> = self
            .results()
            .iter()
            .filter(|line| line["outcome"] != "accepted")
            .map(|l| (l["line"].as_u64().unwrap_or(0), l["outcome"].as_str().unwrap().to_owned()))
            .collect();
        ends.sort();
        ends
    }
}

/// A data directory that no router has been at work in yet.
fn data_directory(bench: &Bench, name: &str) -> EmbeddedStore {
    let (config, runtime) = (EmbeddedConfig::default(), Runtime::system());
    EmbeddedStore::open(bench.path(name), config, &runtime).unwrap()
}

fn read_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn simulator(faults: Faults) -> Simulator {
    Simulator::spawn_thread(SimulatorConfig { faults, ..SimulatorConfig::default() }).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn run(mut command: Command, code: i32) -> Output {
    let output = command.output().unwrap();
    let shown = format!("{}\n{}", stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(code), "{shown}");
    assert!(!shown.contains("key-canary-1"), "the key is shown: {shown}");
    output
}

/// What happened, what was bought, what to do: in every message of a run that was not started.
#[track_caller]
fn refused(command: Command, expected: &[&str]) {
    let text = stderr(&run(command, 2));
    let wanted = ["error: ", "\n  bought: nothing ", "\n  to do: "];
    for part in wanted.iter().chain(expected) {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

/// Waits until a file has lines that satisfy `enough`; a child that ends first is a failure.
fn wait_until(child: &mut Child, path: &Path, enough: impl Fn(&[Value]) -> bool) {
    while !enough(&read_lines(path)) {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none() || enough(&read_lines(path)), "it ended with {ended:?}");
        std::thread::yield_now();
    }
}

fn csv(rows: &[&str]) -> String {
    format!("client_ref,item_id,quantity\n{}\n", rows.join("\n"))
}
