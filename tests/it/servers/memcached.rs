//! Memcached servers for the tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::{PASSWORD, as_unprivileged, free_port, skipped, unprivileged_dir};

/// A Memcached server.
pub(crate) struct Memcached {
    dir: TempDir,
    pub(crate) port: u16,
    arguments: Vec<String>,
    running: Mutex<Option<Running>>,
}

/// A shell that kills the server once its standard input is closed: by a drop of this, or by the
/// end of this process, however it comes.
struct Running {
    keeper: Child,
    server: Pid,
}

impl Memcached {
    /// A server of one test's own; with a password, if it is wanted. `None`, said aloud, where
    /// Memcached is not installed.
    pub(crate) fn start(wants_password: bool) -> Option<Self> {
        let found = Command::new("memcached").arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            skipped("Memcached is not installed (Debian: memcached)");
            return None;
        }
        let (dir, port) = (unprivileged_dir(), free_port());
        let mut arguments = vec!["-l", "127.0.0.1", "-U", "0", "-m", "64"];
        if wants_password {
            std::fs::write(dir.path().join("users"), format!("router:{PASSWORD}\n")).unwrap();
            arguments.extend(["-Y", "users"]);
        }
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        let server = Self { dir, port, arguments, running: Mutex::default() };
        server.run();
        Some(server)
    }

    /// Starts it, empty, and waits until it takes connections.
    pub(crate) fn run(&self) {
        // Its port may be somebody's for a moment: of a connection that goes out.
        for _ in 0..100 {
            if self.try_run() {
                return;
            }
        }
        panic!("no server on port {}", self.port);
    }

    fn try_run(&self) -> bool {
        let mut keeper = Command::new("sh");
        as_unprivileged(&mut keeper);
        // A background job's standard input is not the pipe.
        let script = r#"trap '' INT TERM; sh -c 'echo $$; exec "$@"' server "$@" </dev/null &
            server=$!; exec >/dev/null; cat; kill -KILL $server; wait $server"#;
        keeper.args(["-c", script, "keeper", "memcached", "-p", &self.port.to_string()]);
        keeper.args(&self.arguments).current_dir(self.dir.path());
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = keeper.spawn().unwrap();
        let mut lines = BufReader::new(keeper.stdout.take().unwrap()).lines();
        let server = Pid::from_raw(lines.next().unwrap().unwrap().parse().unwrap()).unwrap();
        let stat = format!("/proc/{}/stat", server.as_raw_nonzero());
        let is_there = || {
            // A process that has ended and was not waited for is a zombie.
            std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z "))
        };
        let mut answers = false;
        while is_there() && !answers {
            answers = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            std::thread::park_timeout(Duration::from_millis(2));
        }
        if !answers || !is_there() {
            drop(keeper.stdin.take());
            keeper.wait().unwrap();
            return false;
        }
        *self.running.lock().unwrap() = Some(Running { keeper, server });
        true
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

    /// Says one line to it; what it answers first.
    pub(crate) fn say(&self, line: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let mut answer = [0; 1024];
        let count = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..count]).into_owned()
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        self.kill();
    }
}
