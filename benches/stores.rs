//! A durable intent in every store, in one run: its latency for one caller, and how many a second
//! many callers get. Servers are the bench's own, on this machine; what is not installed is left out.
//!
//! ```text
//! cargo bench --all-features --bench stores
//! ```

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![allow(dead_code, unused_imports, reason = "the tests' servers can more")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use order_router::runtime::Runtime;
use order_router::shared_gate::{GateServer, Question, Reply, connect};
use order_router::store::dynamodb::{self, Credentials, DynamoDbConfig, create_table};
use order_router::store::postgres::{PostgresConfig, PostgresStore};
use order_router::store::redis::{RedisConfig, RedisStore};
use order_router::store::{Committed, EmbeddedConfig, EmbeddedStore, IntentStore, redb};

#[path = "shared/intents.rs"]
mod intents;
#[path = "../tests/it"]
mod it {
    pub mod servers;
}

use intents::accept;
use it::servers::{DynamoDb, Memcached, Postgres, Redis, SECRET_KEY};

type Store = Arc<dyn IntentStore>;

/// Callers at once.
const MANY: usize = 256;
/// How many callers each store is asked by, and which part of its intents they write.
const CALLERS: [(usize, usize); 3] = [(4, 16), (32, 4), (MANY, 1)];
const ROUNDS: usize = 3;

/// One store, what it is called, and how many intents one caller and all of them write a round.
struct Bench {
    name: &'static str,
    store: Store,
    alone: usize,
    together: usize,
    latencies: Vec<Duration>,
    rates: [Vec<f64>; CALLERS.len()],
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let (postgres, redis, dynamo) = (Postgres::start(&[]), Redis::start(&[]), DynamoDb::shared());
    let mut benches = Vec::new();
    let mut add = |name, store: Store, alone, together| {
        let (latencies, rates) = Default::default();
        benches.push(Bench { name, store, alone, together, latencies, rates });
    };
    let embedded = dir.path().join("embedded");
    let store = EmbeddedStore::open(&embedded, EmbeddedConfig::default(), &Runtime::system());
    add("embedded (journal and sled)", Arc::new(store.expect("opens")), 500, 50_000);
    let file = dir.path().join("store.redb");
    add("redb", runtime.block_on(redb::open(&file)).expect("opens"), 300, 20_000);
    if let Some(server) = &postgres {
        let config = PostgresConfig::new(&server.url("bench")).expect("a URL");
        let store = runtime.block_on(PostgresStore::open(config)).expect("opens");
        add("Postgres, fsync=on", Arc::new(store), 300, 10_000);
    }
    if let Some(server) = &redis {
        let config = RedisConfig::new(&server.url("bench")).expect("a URL");
        let store = runtime.block_on(RedisStore::open(config)).expect("opens");
        add("Redis, appendfsync always", store, 300, 20_000);
    }
    if let Some(server) = &dynamo {
        let keys = Credentials::new("AKIATEST", SECRET_KEY, None, None, "bench");
        let config = DynamoDbConfig::new(&server.url("bench")).expect("a URL").credentials(keys);
        runtime.block_on(create_table(&config)).expect("makes the table");
        let store = runtime.block_on(dynamodb::open(config)).expect("opens");
        add("DynamoDB: moto, nothing durable", store, 50, 300);
    }
    for round in 0..ROUNDS {
        for bench in &mut benches {
            runtime.block_on(measure(bench, round));
        }
    }
    let memcached = Memcached::start(false);
    let mut gates = Vec::new();
    if let Some(server) = &memcached {
        gates.push(("gate in Memcached: add", format!("memcached://127.0.0.1:{}", server.port)));
    }
    if let Some(server) = &redis {
        gates.push(("gate in Redis, appendfsync always: add", server.url("gate")));
    }
    println!("intents a second by so many callers:");
    let callers = CALLERS.map(|(callers, _)| format!("{callers} callers")).join(" | ");
    println!("| store | one caller, p50 | p99 | {callers} |\n|---|---|---|---|---|---|");
    for bench in &mut benches {
        bench.latencies.sort();
        let medians = bench.rates.each_mut().map(|rates| {
            rates.sort_by(f64::total_cmp);
            format!("{:.0}", rates[ROUNDS / 2])
        });
        let at = |part: usize| bench.latencies[bench.latencies.len() * part / 100].as_secs_f64();
        println!(
            "| {} | {:.2} ms | {:.2} ms | {} |",
            bench.name,
            at(50) * 1e3,
            at(99) * 1e3,
            medians.join(" | ")
        );
    }
    for (name, url) in gates {
        let (server, _) = connect(&url).expect("a URL");
        runtime.block_on(measure_gate(name, &server));
    }
}

/// What a shared gate adds to an order: one key that nobody had.
async fn measure_gate(name: &str, server: &Arc<dyn GateServer>) {
    const ALONE: usize = 1_500;
    const TOGETHER: usize = 20_000;
    let ttl = Duration::from_secs(600);
    let add = |n: usize| {
        let value = format!("1 recording bench/00000000 {:032x}", n);
        server.ask(format!("bench:{n:032x}"), Question::Add(value), ttl)
    };
    let mut latencies = Vec::new();
    for n in 0..ALONE {
        let begun = Instant::now();
        assert_eq!(add(n).await.expect("works"), Reply::Done);
        latencies.push(begun.elapsed());
    }
    latencies.sort();
    let at = |part: usize| latencies[latencies.len() * part / 100].as_secs_f64() * 1e3;
    let share = TOGETHER / MANY;
    let begun = Instant::now();
    let callers = (0..MANY).map(|caller| async move {
        for n in 0..share {
            let n = ALONE + caller * share + n;
            assert_eq!(add(n).await.expect("works"), Reply::Done);
        }
    });
    futures_util::future::join_all(callers).await;
    let rate = (share * MANY) as f64 / begun.elapsed().as_secs_f64();
    println!("| {name} | {:.2} ms | {:.2} ms | {rate:.0} |", at(50), at(99));
}

async fn measure(bench: &mut Bench, round: usize) {
    for n in 0..bench.alone {
        let change = accept(&*bench.store, round * 1_000 + n).0;
        let begun = Instant::now();
        assert_eq!(bench.store.commit(change).await.expect("works"), Committed::Done);
        bench.latencies.push(begun.elapsed());
    }
    for ((count, part), rates) in CALLERS.into_iter().zip(&mut bench.rates) {
        let share = bench.together / part / count;
        let begun = Instant::now();
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..count {
            let store = bench.store.clone();
            callers.spawn(async move {
                for n in 0..share {
                    let change = accept(&*store, caller * share + n).0;
                    assert_eq!(store.commit(change).await.expect("works"), Committed::Done);
                }
            });
        }
        callers.join_all().await;
        rates.push((share * count) as f64 / begun.elapsed().as_secs_f64());
    }
}
