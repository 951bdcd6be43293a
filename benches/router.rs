//! The whole router against `order-router simulate` in another process, beside a bare reqwest loop.
//!
//! ```text
//! cargo bench --bench router                     1, 16 and 256 callers; 0 and 50 ms; 3 rounds
//! cargo bench --bench router -- 256 0ms          one cell of the table
//! cargo bench --bench router -- open 100000      memory of so many open orders, one to a lane
//! ```
//!
//! Both buy the same orders from the same supplier, interleaved; medians are shown. The ratio says
//! how many durable orders a second come out of what the machine can send at all; CPU is user and
//! system time of this process for each order, start and stop of the router included.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use order_router::runtime::Runtime;
use order_router::store::{EmbeddedConfig, EmbeddedStore};
use order_router::supplier::{ApiKey, FoxReload, foxreload};
use order_router::{ClientRef, Config, End, Item, Order, OrderRouter, StartAnswer};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds of each cell.
const ROUNDS: usize = 3;
/// About how long one measurement may take.
const SPAN: Duration = Duration::from_secs(2);

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let wanted = |callers: usize, latency: &str| match &args[..] {
        [] => true,
        [one] => *one == callers.to_string(),
        [one, two, ..] => *one == callers.to_string() && two == latency,
    };
    if args.first().is_some_and(|arg| arg == "open") {
        return open(args.get(1).and_then(|n| n.parse().ok()).unwrap_or(100_000));
    }
    println!("one fdatasync of a small append: {:.0?} (median of 1,000)", fdatasync());
    println!(
        "callers  latency   bare/s  router/s  ratio    p50 bare  p50 router    cpu us bare  router"
    );
    for latency in ["0ms", "50ms"] {
        for callers in [1, 16, 256] {
            if wanted(callers, latency) {
                cell(callers, latency);
            }
        }
    }
}

/// What one `fdatasync` of a small append costs here: two stand in the way of every order.
fn fdatasync() -> Duration {
    use std::io::Write;
    let mut file = tempfile::tempfile().expect("a file");
    let mut times: Vec<_> = (0..1_000)
        .map(|_| {
            file.write_all(&[7; 256]).expect("room");
            let begun = Instant::now();
            file.sync_data().expect("a sync");
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// Memory of open orders, each in a lane of its own and with a caller who waits; 512 at once are
/// with a supplier that takes its time.
fn open(orders: usize) {
    let supplier = Supplier::start("600s");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let router = start(&supplier.url, dir.path(), Config::default().posts_max(512)).await;
        let before = resident();
        let waiting: Vec<_> = (0..orders)
            .map(|n| {
                let item = Item::new(format!("open-{n}"), 1).expect("an item");
                let reference = ClientRef::new(format!("open-{n}")).expect("a reference");
                let order = Order::new(reference, vec![item]).expect("an order");
                router.track(order).expect("taken")
            })
            .collect();
        let mut waiting = waiting;
        for ticket in &mut waiting {
            ticket.next().await.expect("accepted");
        }
        let each = resident().saturating_sub(before) / orders;
        let stats = router.stats();
        println!(
            "{} open in {} lanes, {} POSTs: {each} bytes each",
            stats.open, stats.lanes, stats.posts
        );
    });
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// What one measurement shows.
#[derive(Clone, Copy)]
struct Measured {
    per_second: f64,
    p50: Duration,
    cpu: Duration,
}

fn cell(callers: usize, latency: &str) {
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(run(callers, latency, Kind::Bare));
        ours.push(run(callers, latency, Kind::Router));
    }
    let (bare, ours) = (median(&bare), median(&ours));
    println!(
        "{callers:>7}  {latency:>7}  {:>7.0}  {:>8.0}  {:>5.2}  {:>10.3?}  {:>10.3?}  {:>13.1}  {:>6.1}",
        bare.per_second,
        ours.per_second,
        ours.per_second / bare.per_second,
        bare.p50,
        ours.p50,
        bare.cpu.as_secs_f64() * 1e6,
        ours.cpu.as_secs_f64() * 1e6,
    );
}

fn median(runs: &[Measured]) -> Measured {
    let mut runs = runs.to_vec();
    runs.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    runs[runs.len() / 2]
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Bare,
    Router,
}

/// The simulated supplier in a process of its own; ended when this is dropped.
struct Supplier {
    child: Child,
    url: String,
}

impl Supplier {
    fn start(latency: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_order-router"))
            .args(["simulate", "--listen", "127.0.0.1:0", "--seed", "1", "--latency", latency])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the simulated supplier starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("it was piped");
        BufReader::new(out).read_line(&mut line).expect("its first line");
        let url = line.split_whitespace().nth(1).expect("listening URL").to_owned();
        Self { child, url }
    }
}

impl Drop for Supplier {
    fn drop(&mut self) {
        // It was started here; what it says on its way out is of no use.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(callers: usize, latency: &str, kind: Kind) -> Measured {
    let supplier = Supplier::start(latency);
    let orders = how_many(callers, latency);
    // Each on the runtime that suits it: the bare loop has one thread, the router brings its own
    // and its callers, as those of the command, sit on a multi-threaded one.
    let runtime = match kind {
        Kind::Bare => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        Kind::Router => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
        }
    };
    let runtime = runtime.expect("a runtime");
    let cpu = cpu_time();
    let begun = Instant::now();
    let mut times = match kind {
        Kind::Bare => runtime.block_on(bare(&supplier.url, callers, orders)),
        Kind::Router => runtime.block_on(routed(&supplier.url, callers, orders)),
    };
    let span = begun.elapsed();
    times.sort();
    Measured {
        per_second: orders as f64 / span.as_secs_f64(),
        p50: times[times.len() / 2],
        cpu: (cpu_time() - cpu) / u32::try_from(orders).expect("few orders"),
    }
}

/// Orders that take about [`SPAN`].
fn how_many(callers: usize, latency: &str) -> usize {
    match (callers, latency) {
        (1, "0ms") => 4_000,
        (16, "0ms") => 20_000,
        (_, "0ms") => 60_000,
        _ => callers * usize::try_from(SPAN.as_millis() / 50).expect("small"),
    }
}

async fn bare(url: &str, callers: usize, orders: usize) -> Vec<Duration> {
    let next = Arc::new(AtomicUsize::new(0));
    let client = reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .tcp_nodelay(true)
        .tls_backend_preconfigured(tls())
        .build()
        .expect("a client");
    let url = format!("{url}/api/orders");
    let tasks = (0..callers).map(|_| {
        let (next, client, url) = (next.clone(), client.clone(), url.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            while let n = next.fetch_add(1, Ordering::Relaxed)
                && n < orders
            {
                let begun = Instant::now();
                let body = serde_json::json!({"items": [{"itemId": product(n), "quantity": 1}]});
                let answer = client
                    .post(&url)
                    .header("X-API-Key", "bench")
                    .header("Content-Type", "application/json")
                    .body(body.to_string())
                    .send()
                    .await
                    .expect("an answer");
                let body = answer.bytes().await.expect("a body");
                let order: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
                assert!(order["id"].is_string());
                times.push(begun.elapsed());
            }
            times
        })
    });
    gather(tasks).await
}

/// A configuration without roots: nothing here speaks TLS.
fn tls() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

async fn start(url: &str, dir: &std::path::Path, config: Config) -> OrderRouter {
    let runtime = Runtime::system();
    let key = ApiKey::new("bench").expect("a key");
    let settings = foxreload::Settings::default();
    let supplier = FoxReload::new(url, &key, settings, runtime.clock.clone()).expect("a client");
    let store = EmbeddedStore::open(dir, EmbeddedConfig::default(), &runtime).expect("a store");
    let router = OrderRouter::builder(Arc::new(supplier), Arc::new(store))
        .config(config.start(StartAnswer::NewAccount))
        .runtime(runtime)
        .start()
        .await
        .expect("a start");
    router.ready().await.expect("ready");
    router
}

fn order(n: usize) -> Order {
    let item = Item::new(product(n), 1).expect("an item");
    let reference = ClientRef::new(format!("bench-{n}")).expect("a reference");
    Order::new(reference, vec![item]).expect("an order")
}

async fn routed(url: &str, callers: usize, orders: usize) -> Vec<Duration> {
    let dir = tempfile::tempdir().expect("a directory");
    let shards = std::env::var("SHARDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let router = start(url, dir.path(), Config::default().shards(shards)).await;
    let next = Arc::new(AtomicUsize::new(0));
    let tasks = (0..callers).map(|_| {
        let (next, router) = (next.clone(), router.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            while let n = next.fetch_add(1, Ordering::Relaxed)
                && n < orders
            {
                let begun = Instant::now();
                let end = router.submit(order(n)).await.expect("an end");
                assert!(matches!(end, End::Placed { .. }));
                times.push(begun.elapsed());
            }
            times
        })
    });
    let times = gather(tasks).await;
    router.shutdown(Duration::from_secs(5)).await.expect("stopped");
    times
}

async fn gather(
    tasks: impl Iterator<Item = tokio::task::JoinHandle<Vec<Duration>>>,
) -> Vec<Duration> {
    let tasks: Vec<_> = tasks.collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a task that does not panic"));
    }
    times
}

/// Products with some repeats, as in real purchases.
fn product(n: usize) -> String {
    format!("product-{}", n.wrapping_mul(7919) % 15_000)
}

/// User and system time of this process so far, all threads.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    // Ticks are hundredths of a second on every Linux that Rust runs on.
    Duration::from_millis(ticks * 10)
}
