//! The account against the store, while things are off on purpose.

use order_router::simulator::PostFault;

use super::*;

fn audit(bench: &Bench, supplier: &Simulator, more: &[&str]) -> Command {
    let url = supplier.url();
    let mut command = bench.command(&["audit", "--supplier", &url, "--data", "data"]);
    command.args(["--request-timeout", "200ms", "--landing-bound", "400ms"]).args(more);
    command
}

/// Buys past the router, as somebody else does.
fn bought_by_hand(supplier: &Simulator, item: &str) {
    bought_with_note(supplier, item, "{}");
}

fn bought_with_note(supplier: &Simulator, item: &str, note: &str) {
    let body = format!(r#"{{"items":[{{"itemId":"{item}","quantity":1,"note":{note}}}]}}"#);
    let url = format!("{}/api/orders", supplier.url());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sent = async {
        // A second installation changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(url).header("X-API-Key", "key-canary-1");
        request.header("content-type", "application/json").body(body).send().await.unwrap().status()
    };
    assert_eq!(runtime.block_on(sent).as_u16(), 201);
}

#[test]
fn what_is_as_it_should_be_is_said_to_be_so() {
    let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
    let rows: Vec<_> = (0..150).map(|n| format!("a-{n},item-{},1", n % 7)).collect();
    bench.file("in.csv", &csv(&rows.iter().map(String::as_str).collect::<Vec<_>>()));
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    std::thread::park_timeout(std::time::Duration::from_millis(500));
    let text = stdout(&run(audit(&bench, &supplier, &[]), 0));
    assert!(text.contains("150 orders") && text.contains("nothing is off"), "{text}");
}

#[test]
fn each_planted_double_and_foreign_order_is_found_and_nothing_else() {
    let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
    let rows: Vec<_> = (0..60).map(|n| format!("a-{n},item-{},1", n % 7)).collect();
    bench.file("in.csv", &csv(&rows.iter().map(String::as_str).collect::<Vec<_>>()));
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    for item in ["item-1", "item-4", "stranger", "another"] {
        bought_by_hand(&supplier, item);
    }
    std::thread::park_timeout(std::time::Duration::from_millis(500));
    let text = stdout(&run(audit(&bench, &supplier, &["--format", "json"]), 1));
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["orders"], &report["matched"]), (&64.into(), &60.into()), "{report}");
    let kinds: Vec<_> = report["findings"].as_array().unwrap().iter().map(|f| &f["kind"]).collect();
    assert_eq!(kinds, ["double", "double", "foreign", "foreign"]);
    let ours: Vec<_> =
        bench.results().iter().filter_map(|l| l["order_id"].as_str().map(str::to_owned)).collect();
    let planted: Vec<_> =
        supplier.ledger().into_iter().filter(|row| !ours.contains(&row.id)).collect();
    for finding in report["findings"].as_array().unwrap() {
        assert!(planted.iter().any(|row| row.id == finding["order_id"]), "{finding}");
    }
    // The same in a table, and as lines.
    let shown = stdout(&run(audit(&bench, &supplier, &[]), 1));
    assert!(shown.contains("2 double, 2 foreign"), "{shown}");
    let lines = stdout(&run(audit(&bench, &supplier, &["--format", "csv"]), 1));
    assert_eq!(lines.lines().count(), 5, "{lines}");
    assert!(lines.starts_with("kind,order_id,client_ref,status,created_at"), "{lines}");
}

#[test]
fn an_order_in_doubt_is_no_finding_and_a_list_that_is_not_read_is_none_either() {
    let bench = Bench::new();
    let script = vec![None, Some(PostFault::WithheldAfterCreation)];
    let faults = Faults {
        script: script.into(),
        list_lag: std::time::Duration::from_secs(2),
        ..Faults::default()
    };
    let supplier = simulator(faults);
    bench.file("in.csv", &csv(&["a,x,1", "b,y,1"]));
    let mut child = bench.submit(&supplier.url(), "in.csv").spawn().unwrap();
    wait_until(&mut child, &bench.path("results.jsonl"), |_| supplier.ledger().len() == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    std::thread::park_timeout(std::time::Duration::from_millis(2_300));
    let text = stdout(&run(audit(&bench, &supplier, &["--format", "json"]), 0));
    let report: Value = serde_json::from_str(&text).unwrap();
    assert!(report["in_doubt"].as_u64() >= Some(1), "{report}");
    let mut command = audit(&bench, &supplier, &["--list-envelope", "rows"]);
    command.stdin(Stdio::null());
    let text = stderr(&run(command, 2));
    assert!(text.contains("nothing can be said") && text.contains("nothing was changed"), "{text}");
}

#[test]
fn where_orders_carry_tags_a_double_is_told_from_a_strangers_order_for_the_same() {
    let (bench, supplier) = (Bench::new(), simulator(Faults::default()));
    let rows: Vec<_> = (0..6).map(|n| format!("a-{n},item,1")).collect();
    bench.file("in.csv", &csv(&rows.iter().map(String::as_str).collect::<Vec<_>>()));
    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.args(["--tag-key", "order_ref"]);
    run(command, 0);
    let tag = |name: &str| {
        let tag = order_router::Tag::of(&order_router::ClientRef::new(name).unwrap());
        format!(r#"{{"order_ref":"{tag}"}}"#)
    };
    // The same items as all of ours, or others.
    for (item, note) in [
        ("item", tag("a-3")),
        ("other", tag("a-5")),
        ("item", tag("nobodys")),
        ("item", "{}".to_owned()),
    ] {
        bought_with_note(&supplier, item, &note);
    }
    std::thread::park_timeout(std::time::Duration::from_millis(500));
    let more = ["--format", "json", "--tag-key", "order_ref"];
    let text = stdout(&run(audit(&bench, &supplier, &more), 1));
    let report: Value = serde_json::from_str(&text).unwrap();
    let findings: Vec<_> = report["findings"].as_array().unwrap().iter().collect();
    let mut told: Vec<_> = findings.iter().map(|f| (&f["kind"], &f["client_ref"])).collect();
    told.sort_by_key(|(kind, name)| (kind.to_string(), name.to_string()));
    let (double, foreign) = (&Value::from("double"), &Value::from("foreign"));
    let (third, fifth) = (&Value::from("a-3"), &Value::from("a-5"));
    let nobody = &Value::Null;
    let expected = [(double, third), (double, fifth), (foreign, nobody), (foreign, nobody)];
    assert_eq!(told, expected, "{report:#}");
    assert_eq!(report["matched"], 6);
}
