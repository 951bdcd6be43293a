//! Redis servers for the tests.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::{PASSWORD, free_port, skipped};

/// A Redis server that syncs every write, with a user `router`.
pub(crate) struct Redis {
    dir: TempDir,
    pub(crate) port: u16,
    /// The port of the cluster's bus, for servers with `cluster-enabled yes`.
    pub(crate) bus: u16,
    running: Mutex<Option<Running>>,
}

/// A shell that kills the server once its standard input is closed: by a drop of this, or by the
/// end of this process, however it comes.
struct Running {
    keeper: Child,
    server: Pid,
}

/// The server that tests share, while any of them runs.
static SHARED: Mutex<Weak<Redis>> = Mutex::new(Weak::new());

impl Redis {
    /// The server that tests share; `None`, said aloud, where Redis is not installed.
    pub(crate) fn shared() -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Self::start(&[])?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// A server of one test's own, with further settings.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        let found = Command::new("redis-server").arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            skipped("Redis is not installed (Debian: redis-server)");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let (port, bus) = (free_port(), free_port());
        let conf = format!(
            "port {port}\nbind 127.0.0.1\ndir \"{}\"\ndaemonize no\nlogfile \"\"\nsave \"\"\n\
             requirepass {PASSWORD}\nmasterauth {PASSWORD}\nuser router on >{PASSWORD} ~* &* +@all\n\
             appendonly yes\nappendfsync always\nrepl-diskless-sync-delay 0\n{}\n",
            dir.path().display(),
            settings.join("\n").replace("BUS", &bus.to_string())
        );
        std::fs::write(dir.path().join("redis.conf"), conf).unwrap();
        let server = Self { dir, port, bus, running: Mutex::default() };
        server.run();
        Some(server)
    }

    /// Starts it, and waits until it takes connections.
    pub(crate) fn run(&self) {
        let mut said = String::new();
        // Its port may be somebody's for a moment: of a connection that goes out.
        for _ in 0..100 {
            match self.try_run() {
                Ok(()) => return,
                Err(why) => said = why,
            }
        }
        panic!("no server: {said}");
    }

    fn try_run(&self) -> Result<(), String> {
        let mut keeper = Command::new("sh");
        // A background job's standard input is not the pipe.
        let script = r#"trap '' INT TERM; sh -c 'echo $$; exec "$@"' server "$@" </dev/null &
            server=$!; exec >/dev/null; cat; kill -KILL $server; wait $server"#;
        keeper
            .args(["-c", script, "keeper", "redis-server"])
            .arg(self.dir.path().join("redis.conf"));
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = keeper.current_dir(self.dir.path()).spawn().unwrap();
        let mut lines = BufReader::new(keeper.stdout.take().unwrap()).lines().map(Result::unwrap);
        let server = Pid::from_raw(lines.next().unwrap().parse().unwrap()).unwrap();
        let mut said = String::new();
        while !said.contains("Ready to accept connections") {
            match lines.next() {
                Some(line) => said = line,
                None => {
                    drop(keeper.stdin.take());
                    keeper.wait().unwrap();
                    return Err(said);
                }
            }
        }
        // Whatever it says later is read, so that it never waits.
        std::thread::spawn(move || lines.for_each(drop));
        *self.running.lock().unwrap() = Some(Running { keeper, server });
        Ok(())
    }

    /// Kills it, as a crash does.
    pub(crate) fn kill(&self) {
        let Some(mut running) = self.running.lock().unwrap().take() else { return };
        // It may have ended by itself.
        let _ = rustix::process::kill_process(running.server, Signal::KILL);
        drop(running.keeper.stdin.take());
        running.keeper.wait().unwrap();
    }

    /// Stops it where it is, or lets it go on.
    pub(crate) fn pause(&self, paused: bool) {
        let running = self.running.lock().unwrap();
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        rustix::process::kill_process(running.as_ref().unwrap().server, signal).unwrap();
    }

    /// Where it is, with a namespace.
    pub(crate) fn url(&self, namespace: &str) -> String {
        self.url_at(self.port, namespace)
    }

    /// The same through a proxy.
    pub(crate) fn url_at(&self, port: u16, namespace: &str) -> String {
        format!("redis://router:{PASSWORD}@127.0.0.1:{port}/0?namespace={namespace}")
    }

    /// Asks by the server's own client; its output.
    pub(crate) fn cli(&self, words: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "127.0.0.1", "--no-auth-warning", "-p", &self.port.to_string()]);
        let output = cli.args(words).env("REDISCLI_AUTH", PASSWORD).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
