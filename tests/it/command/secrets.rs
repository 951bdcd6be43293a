//! Keys, notes and codes are money: no output, no log and no results file shows them, whatever
//! happens to the orders; keys and codes are in no file at all.

use std::time::Duration;

use order_router::runtime::Runtime;
use order_router::simulator::{Contract, PostFault};
use order_router::supplier::{ApiKey, FoxReload, Supplier, foxreload};
use order_router::{EchoProfile, OrderId};

use super::*;

/// Every code that the supplier has delivered.
async fn delivered_codes(supplier: &Simulator) -> Vec<String> {
    let key = ApiKey::new("reader").unwrap();
    let settings = foxreload::Settings::default();
    let clock = Runtime::system().clock;
    let reader = FoxReload::new(&supplier.url(), &key, settings, clock).unwrap();
    let mut codes = Vec::new();
    for row in supplier.ledger() {
        let fetched = reader.fetch(OrderId::new(&row.id).unwrap()).await.unwrap();
        let order: Value = serde_json::from_slice(&fetched.raw).unwrap();
        for item in order["items"].as_array().unwrap() {
            for code in item["externalData"].as_array().into_iter().flatten() {
                codes.push(code.as_str().map_or_else(|| code.to_string(), str::to_owned));
            }
        }
    }
    codes
}

/// The bytes of every file below a directory.
fn all_bytes(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes.extend(all_bytes(&path));
        } else {
            bytes.extend(std::fs::read(path).unwrap());
        }
    }
    bytes
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_notes_and_codes_are_shown_nowhere_whatever_happens() {
    let bench = Bench::new();
    let mut rows = String::from("client_ref,item_id,quantity,note\n");
    for n in 0..PostFault::ALL.len() * 2 {
        rows += &format!("s-{n},item-{},1,\"{{\"\"player\"\":\"\"note-canary-{n}\"\"}}\"\n", n % 9);
    }
    // The same reference with other items, and a line that is no order.
    rows += "s-0,another,1,\nbad,item-1,0,\"{\"\"player\"\":\"\"note-canary-bad\"\"}\"\n";
    bench.file("in.csv", &rows);
    let contract = Contract {
        list_codes: true,
        echo_note: true,
        paid_after: Duration::ZERO,
        processing_after: Duration::ZERO,
        completed_after: Duration::ZERO,
        refused_products: vec!["item-8".into()],
        ..Contract::default()
    };
    let script = PostFault::ALL.iter().map(|fault| Some(*fault)).collect();
    let faults = Faults {
        script,
        late_after: Duration::from_millis(1_200),
        list_malformed: 0.1,
        list_wrong_envelope: 0.1,
        list_status_500: 0.1,
        ..Faults::default()
    };
    let config = SimulatorConfig { contract, faults, ..SimulatorConfig::default() };
    let supplier = Simulator::spawn_thread(config).unwrap();
    assert!(!EchoProfile::default().note, "notes are echoed here by a flag");

    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.args(["--echo-note", "--rate-limited-unknown", "--log", "trace", "--json"]);
    command.args(["--trust-echo", "--give-up-after", "20s"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let mut shown = [output.stdout, output.stderr].concat();
    assert!(shown.len() > 10_000, "the log is on: {}", String::from_utf8_lossy(&shown));
    shown.extend(std::fs::read(bench.path("results.jsonl")).unwrap());
    for words in [
        &["orders", "list", "--data", "data", "--json"][..],
        &["orders", "show", "s-1", "--data", "data", "--json"],
        &["status", "s-2", "--data", "data"],
        &["store", "verify", "--data", "data"],
        &["store", "stats", "--data", "data", "--json"],
    ] {
        let output = bench.command(words).output().unwrap();
        shown.extend([output.stdout, output.stderr].concat());
    }
    let codes = delivered_codes(&supplier).await;
    assert!(codes.len() > 10, "codes were delivered");
    let data = all_bytes(&bench.path("data"));
    for (what, text) in [("the key", "key-canary-1"), ("a note", "note-canary")] {
        assert!(!holds(&shown, text), "{what} is shown");
    }
    assert!(!holds(&data, "key-canary-1"), "the key is stored");
    assert!(holds(&data, "note-canary"), "a note is needed to send the order after a crash");
    for code in codes {
        assert!(!holds(&shown, &code) && !holds(&data, &code), "a delivered code is kept or shown");
    }
}

#[test]
fn a_proxy_of_the_environment_sees_nothing() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    let supplier = simulator(Faults::default());
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let mut submit = bench.submit(&supplier.url(), "in.csv");
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        submit.env(name, &url).env(name.to_uppercase(), &url);
    }
    submit.args(["--probe-limit", "3s"]);
    let output = submit.output().unwrap();
    assert!(proxy.accept().is_err(), "the key went to a proxy that nobody named");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(supplier.ledger().len(), 1);
}
