//! Real servers for the tests: each of the test's own, on a free loopback port, with its data in a
//! temporary directory, and gone when the test process is.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

mod dynamodb;
mod memcached;
mod redis;

pub(crate) use dynamodb::{DynamoDb, SECRET_KEY, url_at as dynamodb_at};
pub(crate) use memcached::Memcached;
pub(crate) use redis::Redis;

/// The password of the tests' databases: nothing may ever show it.
pub(crate) const PASSWORD: &str = "canary-pa55";

/// Says aloud that tests are skipped, past the test harness; where servers are to be there, fails.
pub(crate) fn skipped(what: &str) {
    let wanted = std::env::var_os("TEST_STORES").is_some_and(|value| !value.is_empty());
    assert!(!wanted, "{what}, and skipping is not allowed here");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// A Postgres server.
pub(crate) struct Postgres {
    bin: PathBuf,
    dir: TempDir,
    template: Arc<Template>,
    pub(crate) port: u16,
    /// A shell that stops the server once its standard input is closed: by a drop of this, or by
    /// the end of this process, however it comes.
    keeper: Mutex<Option<Child>>,
}

/// A fresh cluster: made once, copied for every server, gone with the last of them.
struct Template(TempDir);

static TEMPLATE: Mutex<Weak<Template>> = Mutex::new(Weak::new());

/// The server that tests share, while any of them runs.
static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

impl Postgres {
    /// The server that tests share; `None`, said aloud, where Postgres is not installed.
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
        let Some(bin) = binaries() else {
            skipped("Postgres is not installed (Debian: postgresql)");
            return None;
        };
        let template = Template::get(&bin);
        let (dir, port) = (unprivileged_dir(), free_port());
        let server = Self { bin, dir, template, port, keeper: Mutex::new(None) };
        server.initialise(settings);
        server.run();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn initialise(&self, settings: &[&str]) {
        let mut copy = Command::new("cp");
        as_unprivileged(&mut copy);
        copy.arg("-a").arg(self.template.0.path().join("data")).arg(self.data());
        assert!(copy.status().unwrap().success());
        let mut conf =
            std::fs::OpenOptions::new().append(true).open(self.data().join("postgresql.conf"));
        let conf = conf.as_mut().unwrap();
        writeln!(conf, "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''").unwrap();
        writeln!(conf, "port = {}\nfsync = on\nmax_connections = 60", self.port).unwrap();
        writeln!(conf, "shared_buffers = '32MB'").unwrap();
        settings.iter().for_each(|line| writeln!(conf, "{line}").unwrap());
    }

    fn command(&self, program: &str) -> Command {
        command(&self.bin, program, self.dir.path())
    }

    /// Starts it, and waits until it takes connections.
    pub(crate) fn run(&self) {
        let mut said = String::new();
        // What was killed may hold its memory for a moment more: the server refuses to start.
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
        as_unprivileged(&mut keeper);
        // A background job's standard input is not the pipe. QUIT: stop at once.
        let script = r#"trap '' INT TERM; "$@" </dev/null & server=$!
            exec 2>/dev/null; cat >/dev/null; kill -QUIT $server; wait $server"#;
        keeper.args(["-c", script, "keeper"]).arg(self.bin.join("postgres")).arg("-D");
        keeper.arg(self.data()).current_dir(self.dir.path()).env_clear();
        keeper.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut keeper = keeper.spawn().unwrap();
        let mut lines = BufReader::new(keeper.stderr.take().unwrap()).lines();
        let mut said = String::new();
        while !said.contains("ready to accept connections") {
            match lines.next() {
                Some(line) => said.push_str(&line.unwrap()),
                None => {
                    drop(keeper.stdin.take());
                    keeper.wait().unwrap();
                    return Err(said);
                }
            }
        }
        // Whatever it says later is read, so that it never waits.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        *self.keeper.lock().unwrap() = Some(keeper);
        Ok(())
    }

    fn stop(&self) {
        let Some(mut keeper) = self.keeper.lock().unwrap().take() else { return };
        drop(keeper.stdin.take());
        keeper.wait().unwrap();
    }

    /// Kills it and all of its processes, as a crash does.
    pub(crate) fn kill(&self) {
        let Some(mut keeper) = self.keeper.lock().unwrap().take() else { return };
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let postmaster: i32 = file.lines().next().unwrap().trim().parse().unwrap();
        // Stopped first, so that it starts nothing more while its children are looked up.
        signal(postmaster, Signal::STOP);
        let children = children(postmaster);
        signal(postmaster, Signal::KILL);
        children.into_iter().for_each(|child| signal(child, Signal::KILL));
        drop(keeper.stdin.take());
        keeper.wait().unwrap();
    }

    /// Where its database is, with a schema.
    pub(crate) fn url(&self, schema: &str) -> String {
        self.url_at(self.port, schema)
    }

    /// The same through a proxy.
    pub(crate) fn url_at(&self, port: u16, schema: &str) -> String {
        format!("postgres://router:{PASSWORD}@127.0.0.1:{port}/postgres?schema={schema}")
    }

    /// Runs SQL by the server's own client; its output, unaligned.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let mut psql = self.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p"]);
        psql.arg(self.port.to_string()).args(["-U", "router", "-d", "postgres", "-c", sql]);
        psql.env("PGPASSWORD", PASSWORD);
        let output = psql.output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

impl Template {
    fn get(bin: &Path) -> Arc<Self> {
        let mut template = TEMPLATE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(template) = template.upgrade() {
            return template;
        }
        let dir = unprivileged_dir();
        let password = dir.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        if let Some((uid, gid)) = unprivileged() {
            chown(&password, Some(uid), Some(gid)).unwrap();
        }
        let mut initdb = command(bin, "initdb", dir.path());
        initdb.args(["--username=router", "--auth=scram-sha-256", "--encoding=UTF8"]);
        initdb.args(["--locale=C", "--no-sync", "--no-instructions"]);
        initdb.arg("--pwfile").arg(&password).arg("--pgdata").arg(dir.path().join("data"));
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made = Arc::new(Self(dir));
        *template = Arc::downgrade(&made);
        made
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn signal(pid: i32, signal: Signal) {
    // It may have ended by itself.
    let _ = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// The processes whose parent is this one.
fn children(parent: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name, in brackets, may hold anything; state and parent follow it.
        let after = stat.rsplit_once(") ").map(|(_, after)| after.to_owned()).unwrap_or_default();
        if after.split(' ').nth(1) == Some(&parent.to_string()) {
            found.push(pid);
        }
    }
    found
}

fn binaries() -> Option<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        let bin = entry.path().join("bin");
        if bin.join("initdb").exists() && bin.join("postgres").exists() {
            found.push(bin);
        }
    }
    found.sort();
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|dir| dir.join("initdb").exists())
    };
    found.pop().or_else(on_path)
}

/// Whom a server runs as when the tests run as root: Postgres refuses to be root.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody")).or(Some((65_534, 65_534)))
}

/// Gives a file to whom a server runs as.
pub(crate) fn as_servers(path: &Path) {
    if let Some((uid, gid)) = unprivileged() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// A directory of whom a server runs as.
pub(crate) fn unprivileged_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    if let Some((uid, gid)) = unprivileged() {
        chown(dir.path(), Some(uid), Some(gid)).unwrap();
    }
    dir
}

fn command(bin: &Path, program: &str, dir: &Path) -> Command {
    let mut command = Command::new(bin.join(program));
    as_unprivileged(&mut command);
    command.current_dir(dir).env_clear().stdin(Stdio::null());
    command
}

fn as_unprivileged(command: &mut Command) {
    if let Some((uid, gid)) = unprivileged() {
        command.uid(uid).gid(gid);
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
