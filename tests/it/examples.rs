//! The examples do what they say: each runs here, against a supplier in the same process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use order_router::simulator::{Faults, PostFault, Simulator, SimulatorConfig};
use order_router::supplier::ApiKey;
use tokio::sync::oneshot;

#[path = "../../examples/embed_actix_web.rs"]
#[allow(dead_code, reason = "its `main` is not called here")]
mod embed_actix_web;
#[path = "../../examples/embed_axum.rs"]
#[allow(dead_code, reason = "its `main` is not called here")]
mod embed_axum;
#[path = "../../examples/observe.rs"]
#[allow(dead_code, reason = "its `main` is not called here")]
mod observe;
#[path = "../../examples/quickstart.rs"]
#[allow(dead_code, reason = "its `main` is not called here")]
mod quickstart;

const ORDER: &str = r#"{"client_ref": "order-1", "items": [{"itemId": "a", "quantity": 2}]}"#;
const OTHER: &str = r#"{"client_ref": "order-1", "items": [{"itemId": "a", "quantity": 3}]}"#;
const NONE: &str = r#"{"client_ref": "order-2", "items": [{"itemId": "a", "quantity": 0}]}"#;
const REFUSED: &str = r#"{"client_ref": "order-3", "items": [{"itemId": "gone", "quantity": 1}]}"#;

/// What a host answered.
#[derive(Debug)]
struct Reply {
    status: u16,
    retry_after: Option<u64>,
    body: serde_json::Value,
}

impl Reply {
    fn outcome(&self) -> (u16, &str) {
        (self.status, self.body["outcome"].as_str().unwrap_or_default())
    }
}

/// One request over a connection of its own.
fn ask(host: SocketAddr, method: &str, path: &str, body: &str) -> Reply {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap();
    let retry_after = head.lines().filter_map(|line| line.split_once(": ")).find_map(|header| {
        header.0.eq_ignore_ascii_case("retry-after").then(|| header.1.parse().ok()).flatten()
    });
    let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"));
    Reply { status, retry_after, body }
}

fn supplier() -> Simulator {
    let mut config = SimulatorConfig::default();
    config.contract.refused_products = vec!["gone".to_owned()];
    Simulator::spawn_thread(config).unwrap()
}

/// What every host must answer; the supplier then lost an answer, for [`in_doubt`] to ask about.
#[track_caller]
fn check(host: SocketAddr, supplier: &Simulator) {
    let placed = ask(host, "POST", "/orders", ORDER);
    assert_eq!(placed.outcome(), (200, "placed"), "{placed:?}");
    let again = ask(host, "POST", "/orders", ORDER);
    assert_eq!(again.outcome(), (200, "placed"));
    assert_eq!(again.body, placed.body, "the same reference joins the same order");
    assert_eq!(ask(host, "POST", "/orders", OTHER).outcome(), (409, "conflict"));
    assert_eq!(ask(host, "POST", "/orders", NONE).outcome(), (400, "invalid"));
    assert_eq!(ask(host, "POST", "/orders", REFUSED).outcome(), (422, "refused"));
    assert_eq!(ask(host, "GET", "/orders/order-1", "").outcome(), (200, "placed"));
    assert_eq!(ask(host, "GET", "/orders/order-9", "").outcome(), (404, "unknown"));
    let ledger = supplier.ledger();
    assert_eq!(ledger.len(), 1, "{ledger:?}");
    assert_eq!(placed.body["detail"], serde_json::json!(ledger[0].id));
}

#[tokio::test]
async fn quickstart_buys_three_of_three_although_two_answers_are_lost() {
    let mut out = Vec::new();
    quickstart::run(&mut out).await.unwrap();
    let out = String::from_utf8(out).unwrap();
    let lines: Vec<_> = out.lines().collect();
    let [first, second, third, sold] = *lines else { panic!("{out}") };
    for (line, customer) in [first, second, third].into_iter().zip(1..) {
        assert!(line.starts_with(&format!("customer-{customer}: placed as ")), "{out}");
    }
    assert_eq!(sold, "4 POSTs, 3 orders sold");
    let ids: std::collections::BTreeSet<_> =
        [first, second, third].map(|line| line.split(' ').nth(3).unwrap()).into();
    assert_eq!(ids.len(), 3, "each customer has an order of their own: {out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn axum_host_buys_once_and_stops_gracefully() {
    let (supplier, dir) = (supplier(), tempfile::tempdir().unwrap());
    let key = ApiKey::new("any-key").unwrap();
    let router = embed_axum::start(&supplier.url(), &key, dir.path()).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move { stopped.await.unwrap() };
    let asked = tokio::task::spawn_blocking(move || {
        check(host, &supplier);
        stop.send(()).unwrap();
    });
    embed_axum::serve(listener, router, stopped).await.unwrap();
    asked.await.unwrap();
    assert!(TcpStream::connect(host).is_err(), "it does not listen any more");
    nothing_is_open(dir.path());
}

#[test]
fn actix_web_host_buys_once_and_stops_gracefully() {
    let (supplier, dir) = (supplier(), tempfile::tempdir().unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    let asked = actix_web::rt::System::new().block_on(async {
        let key = ApiKey::new("any-key").unwrap();
        let router = embed_actix_web::start(&supplier.url(), &key, dir.path()).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move { stopped.await.unwrap() };
        let asked = std::thread::spawn(move || {
            check(host, &supplier);
            stop.send(()).unwrap();
        });
        embed_actix_web::serve(listener, router, stopped).await.unwrap();
        asked
    });
    asked.join().unwrap();
    assert!(TcpStream::connect(host).is_err(), "it does not listen any more");
    nothing_is_open(dir.path());
}

/// The directory was left in order, and may be opened by the next process.
#[track_caller]
fn nothing_is_open(dir: &std::path::Path) {
    use order_router::runtime::Runtime;
    use order_router::store::{EmbeddedConfig, EmbeddedStore, IntentStore};
    let store = EmbeddedStore::open(dir, EmbeddedConfig::default(), &Runtime::system()).unwrap();
    assert_eq!((store.stats().open, store.stats().ended), (0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn host_says_in_doubt_and_when_to_ask_again() {
    let script = [Some(PostFault::WithheldAfterCreation)].into();
    let faults = Faults { script, list_status_500: 0.0, ..Faults::default() };
    let supplier =
        Simulator::spawn_thread(SimulatorConfig { faults, ..SimulatorConfig::default() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let router = impatient(&supplier.url(), dir.path()).await;
    router.ready().await.unwrap();
    // From now on no list is understood: the doubt stays.
    let faults = Faults { list_status_500: 1.0, ..supplier.faults() };
    supplier.set_faults(faults).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let asked = tokio::task::spawn_blocking(move || {
        let reply = ask(host, "POST", "/orders", ORDER);
        stop.send(()).unwrap();
        reply
    });
    let stopped = async move { stopped.await.unwrap() };
    embed_axum::serve(listener, router, stopped).await.unwrap();
    let reply = asked.await.unwrap();
    assert_eq!(reply.outcome(), (202, "in_doubt"), "{reply:?}");
    assert!(reply.retry_after.is_some_and(|seconds| seconds > 0), "{reply:?}");
    assert_eq!(supplier.ledger().len(), 1);
}

/// A router that gives up waiting for an answer soon.
async fn impatient(url: &str, dir: &std::path::Path) -> order_router::OrderRouter {
    use order_router::runtime::Runtime;
    use order_router::store::{EmbeddedConfig, EmbeddedStore};
    use order_router::supplier::{FoxReload, foxreload::Settings};
    use order_router::{Config, OrderRouter};
    use std::sync::Arc;
    let runtime = Runtime::system();
    let key = ApiKey::new("any-key").unwrap();
    let account = FoxReload::new(url, &key, Settings::default(), runtime.clock.clone()).unwrap();
    let store = EmbeddedStore::open(dir, EmbeddedConfig::default(), &runtime).unwrap();
    let config = Config::default()
        .request_timeout(Duration::from_millis(200))
        .answer_within(Duration::from_millis(600));
    let builder = OrderRouter::builder(Arc::new(account), Arc::new(store));
    builder.config(config).runtime(runtime).start().await.unwrap()
}

/// The metrics that the documentation names.
fn documented() -> Vec<&'static str> {
    let text = include_str!("../../src/telemetry.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | `"));
    rows.filter_map(|row| row.split('`').next()).collect()
}

/// Prometheus' text of a host.
async fn figures(host: SocketAddr) -> String {
    let get = move || {
        let mut stream = TcpStream::connect(host).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    tokio::task::spawn_blocking(get).await.unwrap()
}

/// The value of a metric without labels but the router's.
fn value(text: &str, name: &str) -> Option<f64> {
    let row =
        text.lines().find_map(|line| line.strip_prefix(&format!("{name}{{router=\"shop\"}} ")));
    row.and_then(|value| value.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_shown_while_answers_are_lost() {
    // These come only where somebody else buys, or where a person is needed.
    let absent =
        ["order_router_held_total", "order_router_orphans_total", "order_router_alarms_total"];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running =
        async { observe::run(listener, stopped).await.map_err(|error| error.to_string()) };
    let watching = async {
        let wanted = documented();
        assert!(wanted.len() > 15, "{wanted:?}");
        let missing = |text: &str| -> Vec<_> {
            let there = |name: &&str| {
                text.contains(&format!("{name}{{router=\"shop\""))
                    || text.contains(&format!("{name}_count{{router=\"shop\""))
            };
            wanted.iter().filter(|name| !there(name) && !absent.contains(name)).copied().collect()
        };
        let ask = async {
            loop {
                let text = figures(host).await;
                let joined = value(&text, "order_router_joined_total").unwrap_or(0.0);
                if missing(&text).is_empty() && joined >= 5.0 {
                    break text;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let text = match tokio::time::timeout(Duration::from_secs(60), ask).await {
            Ok(text) => text,
            Err(_) => panic!("missing: {:?}", missing(&figures(host).await)),
        };
        // One in two joins; nothing that names an order is a label.
        let created = text.lines().find(|line| line.contains("outcome=\"created\""));
        assert!(created.is_some(), "{text}");
        assert_eq!(value(&text, "order_router_sending"), Some(1.0));
        assert!(!text.contains("purchase-"), "{text}");
        stop.send(()).unwrap();
    };
    let (ran, ()) = tokio::join!(running, watching);
    ran.unwrap();
}
