//! One supplier, one data directory, one router process after another; and what must hold of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use order_router::ClientRef;
use order_router::protocol::State;
use order_router::simulator::{Faults, Simulator, SimulatorConfig};
use order_router::store::tools::{self, Snapshot};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

pub const BINARY: &str = env!("CARGO_BIN_EXE_order-router");
/// Nobody may ever see it.
pub const KEY: &str = "key-canary-torture";
/// How many products there are: few, so that identical orders meet in one lane.
const PRODUCTS: usize = 6;
/// A process that takes longer than this hangs.
pub const HANGS_AFTER: Duration = Duration::from_secs(90);

pub const SEND_WINDOW: Duration = Duration::from_millis(400);
pub const REQUEST_TIMEOUT: Duration = Duration::from_millis(300);
pub const LANDING_BOUND: Duration = Duration::from_millis(1_500);

/// Seed and rounds of a long form.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Says which run this is: also of one that fails.
pub struct Replay {
    pub part: &'static str,
    pub seed: u64,
    pub rounds: u64,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { part, seed, rounds } = self;
            eprintln!(
                "FAILED; the same dice again: TORTURE_SEED={seed} TORTURE_ROUNDS={rounds} \
                 just torture {part}"
            );
        }
    }
}

/// Lets time pass on purpose.
pub fn pass(span: Duration) {
    let until = Instant::now() + span;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|l| !l.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// A process, and those that it started; gone when this is dropped, also by a panic.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        Self(command.process_group(0).spawn().expect("the command starts"))
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("a child can be waited for").is_some()
    }

    /// Kills it; one that has ended already stays as it is.
    pub fn kill(&mut self) {
        if !self.has_ended() {
            // It may have ended by now, with its group.
            let _ = kill_process_group(self.pid(), Signal::KILL);
        }
    }

    /// Waits for its end, at most until it counts as hung.
    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        while !self.has_ended() {
            assert!(begun.elapsed() < HANGS_AFTER, "the router hangs");
            std::thread::park_timeout(Duration::from_millis(2));
        }
        self.0.wait().expect("a child can be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // Nobody asks any more.
        let _ = self.0.wait();
    }
}

/// The supplier's usual faults. None of them breaks an assumption.
pub fn faults() -> Faults {
    Faults {
        withheld_after_creation: 0.04,
        created_late: 0.03,
        // Within the landing bound, and after everything else that is waited for.
        late_after: Duration::from_millis(1_100),
        withheld_never_created: 0.03,
        status_500_after: 0.02,
        status_503_before: 0.01,
        reset_after: 0.03,
        reset_before: 0.02,
        cut_201: 0.02,
        empty_201: 0.01,
        list_status_500: 0.02,
        list_malformed: 0.02,
        list_lag: Duration::from_millis(150),
        latency: Duration::from_millis(3),
        ..Faults::default()
    }
}

/// The supplier once everything must end.
pub fn calm() -> Faults {
    Faults { list_lag: Duration::from_millis(150), ..Faults::default() }
}

pub struct World {
    dir: tempfile::TempDir,
    /// The data directory.
    pub data: PathBuf,
    pub supplier: Simulator,
    pub dice: fastrand::Rng,
    /// Every order handed over so far, as a line of input.
    orders: Vec<String>,
    /// What each reference was told last that was an end.
    ends: BTreeMap<String, String>,
    /// Flags more than the usual ones.
    pub flags: Vec<String>,
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = SimulatorConfig { faults, seed, ..SimulatorConfig::default() };
        Self {
            data: dir.path().join("data"),
            dir,
            supplier: Simulator::spawn_thread(config).expect("a free port"),
            dice: fastrand::Rng::with_seed(seed),
            orders: Vec::new(),
            ends: BTreeMap::new(),
            flags: Vec::new(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Orders so far.
    pub fn orders(&self) -> usize {
        self.orders.len()
    }

    /// Writes a batch of new orders, with some old ones among them: their callers ask again.
    pub fn batch(&mut self, new: usize, old: usize) -> PathBuf {
        let mut lines = Vec::new();
        for _ in 0..old.min(self.orders.len()) {
            lines.push(self.orders[self.dice.usize(0..self.orders.len())].clone());
        }
        for _ in 0..new {
            let product = self.dice.usize(0..PRODUCTS);
            self.orders.push(format!("t-{},item-{product},1", self.orders.len()));
            lines.push(self.orders[self.orders.len() - 1].clone());
        }
        self.dice.shuffle(&mut lines);
        self.input("batch.csv", &lines)
    }

    fn input(&self, name: &str, lines: &[String]) -> PathBuf {
        let path = self.path(name);
        let text = format!("client_ref,item_id,quantity\n{}\n", lines.join("\n"));
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// The words of `submit FILE`, with short times.
    pub fn submit(&self, file: &Path) -> Command {
        self.submit_under(&[], file)
    }

    /// The same, under another program.
    pub fn submit_under(&self, wrapper: &[String], file: &Path) -> Command {
        let mut words: Vec<String> = wrapper.to_vec();
        words.push(BINARY.to_owned());
        words.extend(["submit".into(), file.display().to_string()]);
        for (flag, value) in [
            ("--supplier", self.supplier.url()),
            ("--data", self.data.display().to_string()),
            ("--results", self.path("results.jsonl").display().to_string()),
            ("--request-timeout", millis(REQUEST_TIMEOUT)),
            ("--landing-bound", millis(LANDING_BOUND)),
            ("--send-window", millis(SEND_WINDOW)),
            ("--list-interval", "60ms".into()),
            ("--look-again", "200ms".into()),
            ("--look-again-max", "1s".into()),
            ("--concurrency", "16".into()),
            ("--doubts-max", "10000".into()),
            ("--tries", "100".into()),
        ] {
            words.extend([flag.to_owned(), value]);
        }
        words.extend(self.flags.iter().cloned());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("ORDER_ROUTER_API_KEY", KEY)
            .env("TEST_SEGMENT_BYTES", "4096")
            .stdin(Stdio::null())
            .stdout(self.log("stdout.txt"))
            .stderr(self.log("stderr.txt"));
        command
    }

    fn log(&self, name: &str) -> Stdio {
        std::fs::File::create(self.path(name)).expect("a file").into()
    }

    /// What the last process said.
    pub fn said(&self) -> String {
        let read = |name| std::fs::read(self.path(name)).unwrap_or_default();
        let text = [read("stdout.txt"), read("stderr.txt")].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// What callers were told, line by line; the line that a kill cut off is none.
    fn told(&self) -> Vec<Value> {
        let text = std::fs::read(self.path("results.jsonl")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Whether a process ended as it may: by the signal that was sent to it, or by itself without
    /// an order lost. `signal` is what it may have died of.
    #[track_caller]
    pub fn ended_well(&self, status: ExitStatus, signal: Option<i32>, codes: &[i32]) {
        let said = self.said();
        let well = match status.code() {
            Some(code) => codes.contains(&code),
            None => status.signal() == signal,
        };
        assert!(well, "it ended with {status}:\n{said}");
        assert!(!said.contains("panicked at"), "{said}");
        assert!(!said.contains(KEY), "the key is shown");
    }

    /// After a death: told is not more than stored, stored explains all that was sold, and no end
    /// has changed.
    #[track_caller]
    pub fn compare(&mut self) {
        let told = self.told();
        if told.is_empty() && !self.data.join("journal").exists() {
            return;
        }
        // A start that died before the first segment had its name leaves nothing to read.
        let snapshot = match Snapshot::read(&self.data) {
            Ok(snapshot) => snapshot,
            Err(error) => panic!("the journal cannot be read: {error}"),
        };
        for line in &told {
            let reference = line["client_ref"].as_str().expect("a reference");
            let stored = ClientRef::new(reference).ok().and_then(|r| snapshot.find(&r).cloned());
            let reason = line["reason"].as_str().unwrap_or_default();
            if stored.is_none() && reason.starts_with("it may have been accepted") {
                continue;
            }
            let stored = stored.unwrap_or_else(|| panic!("lost: {line} is not in the journal"));
            let outcome = line["outcome"].as_str().expect("an outcome");
            let is = match &stored.state {
                State::Placed { id, .. } => format!("placed {}", id.as_str()),
                State::Refused(_) => "refused".to_owned(),
                State::NotPlaced(_) => "not_placed".to_owned(),
                State::Unpaid { .. } => "unpaid".to_owned(),
                _ => "open".to_owned(),
            };
            let said = match outcome {
                "placed" => format!("placed {}", line["order_id"].as_str().unwrap_or("nothing")),
                "refused" | "not_placed" | "unpaid" => outcome.to_owned(),
                "accepted" | "in_doubt" => continue,
                _ => panic!("told what nobody expects: {line}"),
            };
            assert_eq!(said, is, "told is not what the journal says: {line}");
            let before = self.ends.insert(reference.to_owned(), said.clone());
            assert!(before.is_none_or(|before| before == said), "an end has changed: {line}");
        }
        self.budget(&snapshot);
    }

    /// Orders at the supplier ≤ intents placed + intents with an open attempt, for every product.
    #[track_caller]
    fn budget(&self, snapshot: &Snapshot) {
        let mut explained: BTreeMap<String, usize> = BTreeMap::new();
        let mut claimed = BTreeSet::new();
        for stored in snapshot.intents.values() {
            let product = stored.items[0].id().to_owned();
            let explains = match &stored.state {
                State::Placed { id, .. } => {
                    assert!(claimed.insert(id.clone()), "{id} was given to two intents");
                    true
                }
                state => state.attempt().is_some(),
            };
            *explained.entry(product).or_default() += usize::from(explains);
        }
        let mut sold: BTreeMap<String, usize> = BTreeMap::new();
        for order in self.supplier.ledger() {
            *sold.entry(order.items[0].item_id.clone()).or_default() += 1;
        }
        for (product, sold) in sold {
            let explained = explained.get(&product).copied().unwrap_or(0);
            assert!(
                sold <= explained,
                "{sold} {product} were sold, the journal explains {explained}"
            );
        }
    }

    /// Turns the faults off; everything must end, and nothing may be wrong.
    #[track_caller]
    pub fn end(&mut self) {
        self.supplier.set_faults(calm()).expect("they are valid");
        let all = self.input("all.csv", &self.orders.clone());
        let status = Process::start(&mut self.submit(&all)).wait();
        self.ended_well(status, None, &[0]);
        self.compare();
        let verified = tools::verify(&self.data, None).expect("the journal is whole");
        assert_eq!(verified.unguarded, [0; 0], "changes that a guard should have refused");
        let output = Command::new(BINARY)
            .args(["check", "--json", "--ledger", &self.supplier.admin_url(), "--results"])
            .arg(self.path("results.jsonl"))
            .output()
            .expect("the command starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{text}");
        let verdict: Value = serde_json::from_str(&text).expect("JSON");
        let orders = self.orders.len() as u64;
        for figure in ["wanted", "bought", "placed"] {
            assert_eq!(verdict[figure].as_u64(), Some(orders), "{figure}: {verdict}");
        }
    }
}

fn millis(span: Duration) -> String {
    format!("{}ms", span.as_millis())
}

/// What a part did, for its last lines.
#[derive(Default)]
pub struct Tally {
    pub rounds: u64,
    pub orders: usize,
    /// Faults fired, by name.
    pub fired: BTreeMap<String, u64>,
    /// Faults armed whose place the process did not come by.
    pub missed: BTreeMap<String, u64>,
}

impl Tally {
    pub fn fire(&mut self, name: &str) {
        *self.fired.entry(name.to_owned()).or_default() += 1;
    }

    pub fn miss(&mut self, name: &str) {
        *self.missed.entry(name.to_owned()).or_default() += 1;
    }

    /// Prints it. Whoever comes here has compared everything: there is nothing else than zeros.
    pub fn print(&self, part: &str, begun: Instant) {
        let mut text = format!(
            "{part}: {} rounds, {} orders, {} faults fired, 0/0/0 (bought twice/lost/lied), {:?}\n",
            self.rounds,
            self.orders,
            self.fired.values().sum::<u64>(),
            begun.elapsed(),
        );
        for (name, count) in &self.fired {
            let missed = self.missed.get(name).copied().unwrap_or(0);
            writeln!(text, "{count:>8} {name} (armed {} times)", count + missed).expect("memory");
        }
        for (name, count) in self.missed.iter().filter(|(name, _)| !self.fired.contains_key(*name))
        {
            writeln!(text, "       0 {name} (armed {count} times)").expect("memory");
        }
        print!("{text}");
    }
}
