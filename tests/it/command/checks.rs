//! `check` on ledgers and results made by hand: one defect each, and its exit code.

use super::*;

const LEDGER: &str = r#"[
    {"id":"1","items":[{"itemId":"x","quantity":1}],"foreign":false},
    {"id":"2","items":[{"itemId":"y","quantity":2}],"foreign":false},
    {"id":"9","items":[{"itemId":"z","quantity":1}],"foreign":true}
]"#;

fn line(client_ref: &str, item: &str, quantity: u32, outcome: &str, id: &str) -> String {
    let id = if id.is_empty() { "null".to_owned() } else { format!("\"{id}\"") };
    format!(
        "{{\"client_ref\":\"{client_ref}\",\"items\":[{{\"itemId\":\"{item}\",\"quantity\":\
         {quantity}}}],\"outcome\":\"{outcome}\",\"order_id\":{id},\"line\":1,\"reason\":null,\
         \"at\":\"2026-01-01T00:00:00Z\"}}\n"
    )
}

/// Runs `check`, and expects a defect by its name in the JSON; "" for none.
#[track_caller]
fn check(results: &[String], defects: &[&str]) {
    let bench = Bench::new();
    bench.file("ledger.json", LEDGER);
    bench.file("r.jsonl", &results.concat());
    let words = ["check", "--ledger", "ledger.json", "--results", "r.jsonl", "--json"];
    let output = run(bench.command(&words), i32::from(!defects.is_empty()));
    let verdict: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let found: Vec<_> = verdict
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| value["count"].as_u64().is_some_and(|count| count > 0))
        .map(|(name, _)| name.as_str())
        .collect();
    let mut expected = defects.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected, "{verdict}");
}

#[test]
fn nothing_wrong_is_exit_code_0_also_over_torn_lines() {
    let torn = "{\"client_ref\":\"to\n".to_owned();
    let b = line("b", "y", 2, "placed", "2");
    check(&[line("a", "x", 1, "accepted", ""), torn, line("a", "x", 1, "placed", "1"), b], &[]);
}

#[test]
fn each_defect_is_exit_code_1() {
    let a = line("a", "x", 1, "placed", "1");
    let b = line("b", "y", 2, "placed", "2");
    let with = |more: String| [a.clone(), b.clone(), more];
    check(std::slice::from_ref(&a), &["bought_twice", "claimed_by_nobody"]);
    check(&with(line("c", "x", 1, "placed", "1")), &["given_twice", "lost"]);
    check(&with(line("c", "q", 1, "placed", "7")), &["lost"]);
    check(&with(line("c", "q", 1, "accepted", "")), &["lost"]);
    check(&with(line("c", "z", 1, "placed", "9")), &["wrong_customer"]);
    let failed = line("b", "y", 2, "not_placed", "");
    check(&[a.clone(), failed], &["claimed_by_nobody", "falsely_failed"]);
    let other = line("b", "y", 3, "placed", "2");
    check(&[a.clone(), other], &["bought_twice", "wrong_customer"]);
}

#[test]
fn in_doubt_is_no_defect_and_is_told() {
    let bench = Bench::new();
    bench.file("ledger.json", LEDGER);
    let results = line("a", "x", 1, "placed", "1") + &line("b", "y", 2, "in_doubt", "");
    bench.file("r.jsonl", &results);
    let words = ["check", "--ledger", "ledger.json", "--results", "r.jsonl"];
    let text = stdout(&run(bench.command(&words), 0));
    assert!(text.contains("1 orders have not ended"), "{text}");
}

#[test]
fn what_cannot_be_read_is_exit_code_2() {
    let bench = Bench::new();
    bench.file("ledger.json", LEDGER);
    bench.file("r.jsonl", "");
    let check =
        |ledger, results| bench.command(&["check", "--ledger", ledger, "--results", results]);
    refused(check("no.json", "r.jsonl"), &["no.json cannot be read"]);
    refused(check("r.jsonl", "r.jsonl"), &["is not understood"]);
    refused(check("http://127.0.0.1:9", "r.jsonl"), &["127.0.0.1:9/admin/ledger"]);
    refused(check("ledger.json", "no.jsonl"), &["no.jsonl cannot be read"]);
    refused(check("ledger.json", "r.jsonl"), &["no line of results"]);
}

#[test]
fn the_ledger_is_read_from_a_simulated_supplier() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1", "b,x,1"]));
    let supplier = simulator(Faults::default());
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    let admin = supplier.admin_url();
    let words = ["check", "--ledger", &admin, "--results", "results.jsonl"];
    assert!(stdout(&run(bench.command(&words), 0)).contains("nothing is wrong"));
}
