//! The command as a process with a gate: killed between the gate and its store, and settings.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use order_router::simulator::SimulatorConfig;

use super::*;

with_each_server! { a_node_that_is_killed_between_gate_and_store_goes_on_and_the_other_waits }

fn submit(dir: &Path, node: &str, supplier: &Simulator, gate: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_order-router"));
    command.args(["submit", "in.csv", "--supplier", &supplier.url(), "--data", node]);
    command.args(["--request-timeout", "1s", "--landing-bound", "2s", "--node", node]);
    command.args(["--results", &format!("{node}.jsonl"), "--gate-timeout", "5s"]);
    command.current_dir(dir).env_clear().env("ORDER_ROUTER_API_KEY", "key-canary-1");
    command.env("ORDER_ROUTER_GATE", gate).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    let shown = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(!shown.contains(PASSWORD) && !shown.contains("canary"), "{shown}");
    shown
}

fn last_outcome(dir: &Path, node: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(dir.join(format!("{node}.jsonl"))).unwrap_or_default();
    text.lines().last().map_or(serde_json::Value::Null, |line| serde_json::from_str(line).unwrap())
}

async fn a_node_that_is_killed_between_gate_and_store_goes_on_and_the_other_waits(live: Live) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.csv"), "client_ref,item_id,quantity\nr,p,1\n").unwrap();
    let spawn = || Simulator::spawn_thread(SimulatorConfig::default()).unwrap();
    let (at_one, at_two) = (spawn(), spawn());
    let url = live.url();
    tokio::task::spawn_blocking(move || {
        // Dead by abort, which is what a kill at that very moment leaves.
        let mut killed = submit(dir.path(), "one", &at_one, &url);
        let output = killed.env("ORDER_ROUTER_CRASH_AT", "accept.writing:1").output().unwrap();
        assert_eq!(output.status.code(), None, "{}", said(&output));
        assert!(said(&output).contains("crash point accept.writing"), "{}", said(&output));
        let refused = submit(dir.path(), "two", &at_two, &url).output().unwrap();
        said(&refused);
        let told = last_outcome(dir.path(), "two");
        assert_eq!(told["outcome"], "elsewhere", "{told}");
        let reason = told["reason"].as_str().unwrap();
        assert!(reason.contains("is with node one/") && reason.contains("not said yet"), "{told}");
        let again = submit(dir.path(), "one", &at_one, &url).output().unwrap();
        assert_eq!(again.status.code(), Some(0), "{}", said(&again));
        assert_eq!(last_outcome(dir.path(), "one")["outcome"], "placed");
        assert_eq!((at_one.ledger().len(), at_two.ledger().len()), (1, 0));
        let refused = submit(dir.path(), "two", &at_two, &url).output().unwrap();
        said(&refused);
        let told = last_outcome(dir.path(), "two");
        assert!(!told["reason"].as_str().unwrap().contains("not said yet"), "{told}");
        assert_eq!((at_one.ledger().len(), at_two.ledger().len()), (1, 0));
    })
    .await
    .unwrap();
}

#[test]
fn memcached_is_refused_as_a_store_and_a_gate_that_is_not_there_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.csv"), "client_ref,item_id,quantity\nr,p,1\n").unwrap();
    let supplier = Simulator::spawn_thread(SimulatorConfig::default()).unwrap();
    let nobody = format!("memcached://u:canary@127.0.0.1:{}", free_port());
    #[track_caller]
    fn refused(mut command: Command, parts: &[&str]) {
        let output = command.output().unwrap();
        let shown = said(&output);
        assert_eq!(output.status.code(), Some(2), "{shown}");
        for part in parts.iter().chain(&["bought: nothing", "to do: "]) {
            assert!(shown.contains(part), "{part:?} is not in: {shown}");
        }
    }
    let mut store = submit(dir.path(), "n", &supplier, &nobody);
    store.args(["--store", "memcached://u:canary@h"]);
    refused(store, &["is no store: Memcached forgets", "--gate"]);
    let gone = submit(dir.path(), "n", &supplier, &nobody);
    refused(gone, &["no gate is reached at 127.0.0.1", "--gate-failure open"]);
    let odd = submit(dir.path(), "n", &supplier, "memcached://u:canary@");
    refused(odd, &["ORDER_ROUTER_GATE", "it names no host"]);
    let mut short = submit(dir.path(), "n", &supplier, &nobody);
    short.args(["--gate-ttl", "1s"]);
    refused(short, &["--gate-timeout", "at most half of its TTL"]);
    let mut open = submit(dir.path(), "n", &supplier, &nobody);
    open.args(["--gate-failure", "open"]);
    let output = open.output().unwrap();
    let shown = said(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.contains("orders are taken without it until it answers"), "{shown}");
    assert_eq!(last_outcome(dir.path(), "n")["outcome"], "placed");
    let mut show = Command::new(env!("CARGO_BIN_EXE_order-router"));
    show.args(["config", "show", "--supplier", &supplier.url()]).current_dir(dir.path());
    show.env_clear().env("ORDER_ROUTER_GATE", &nobody);
    let shown = said(&show.output().unwrap());
    assert!(shown.contains("gate_failure") && shown.contains("closed"), "{shown}");
}
