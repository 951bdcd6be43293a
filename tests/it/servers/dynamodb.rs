//! A local DynamoDB: moto, in a process of the tests' own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};

use tempfile::TempDir;

use super::{free_port, skipped};

/// The secret key of the tests: nothing may ever show it.
pub(crate) const SECRET_KEY: &str = "canary-53cr3t";

/// The server. It keeps everything in memory, and ends with its standard input.
pub(crate) struct DynamoDb {
    python: PathBuf,
    dir: TempDir,
    options: &'static [&'static str],
    pub(crate) port: u16,
    child: Mutex<Option<Child>>,
}

static SHARED: Mutex<Weak<DynamoDb>> = Mutex::new(Weak::new());

impl DynamoDb {
    /// The server that tests share; `None`, said aloud, where moto is not installed.
    pub(crate) fn shared() -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Self::start(&[])?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// A server of one test's own.
    pub(crate) fn start(options: &'static [&'static str]) -> Option<Self> {
        let Some(python) = python() else {
            skipped("a local DynamoDB is not installed (moto, by tests/run.sh)");
            return None;
        };
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let server = Self { python, dir, options, port, child: Mutex::new(None) };
        server.run();
        Some(server)
    }

    /// Starts it, empty, and waits until it takes requests.
    pub(crate) fn run(&self) {
        let script = self.dir.path().join("moto_server.py");
        std::fs::write(&script, include_str!("moto_server.py")).unwrap();
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(&self.python);
        command.arg(&script).arg(self.port.to_string()).args(self.options);
        command.current_dir(self.dir.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said.trim() != "ready" {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            panic!("no server: {said}{log}");
        }
        *self.child.lock().unwrap() = Some(child);
    }

    /// Kills it: it forgets everything.
    pub(crate) fn kill(&self) {
        let Some(mut child) = self.child.lock().unwrap().take() else { return };
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn url(&self, table: &str) -> String {
        url_at(self.port, table)
    }
}

/// The same through a proxy.
pub(crate) fn url_at(port: u16, table: &str) -> String {
    format!("dynamodb://{table}?region=eu-central-1&endpoint=http://127.0.0.1:{port}")
}

impl Drop for DynamoDb {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The interpreter that has moto: where `tests/run.sh` put it, beside what cargo builds.
fn python() -> Option<PathBuf> {
    // …/debug/deps/TEST
    let test = std::env::current_exe().ok()?;
    let target = test.ancestors().nth(3)?;
    let python = target.join("test-servers/moto/bin/python");
    python.exists().then_some(python)
}
