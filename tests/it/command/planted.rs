//! Everything that an audit can find, planted several times each: it finds all of it and nothing else, and
//! whether the money adds up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use order_router::simulator::{Contract, PayFault, PayTime, PostFault, UnitPrice};

use super::*;

fn supplier(contract: Contract, faults: Faults) -> Simulator {
    let default_price = Some("2.50".parse().unwrap());
    let contract = Contract { balance: 1_000.into(), default_price, ..contract };
    let config = SimulatorConfig { contract, faults, ..SimulatorConfig::default() };
    Simulator::spawn_thread(config).unwrap()
}

fn wait(millis: u64) {
    // Real time passes on purpose: orders go on at the supplier, and grow older.
    std::thread::park_timeout(Duration::from_millis(millis));
}

/// Asks the supplier for something past the router, as somebody else does.
fn post(supplier: &Simulator, path: &str, body: &str) -> Value {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let asked = async {
        // A second installation changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(format!("{}{path}", supplier.url()));
        let request = request.header("X-API-Key", "key-canary-1");
        let answer = request.body(body.to_owned()).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.bytes().await.unwrap()
    };
    serde_json::from_slice(&runtime.block_on(asked)).unwrap()
}

fn bought_by_hand(supplier: &Simulator, item: &str) -> String {
    let body = format!(r#"{{"items":[{{"itemId":"{item}","quantity":1}}]}}"#);
    post(supplier, "/api/orders", &body)["id"].as_str().unwrap().to_owned()
}

fn paid_by_hand(supplier: &Simulator, id: &str) {
    post(supplier, &format!("/api/orders/{id}/pay"), "{}");
}

fn audit(bench: &Bench, supplier: &Simulator, more: &[&str]) -> Command {
    let url = supplier.url();
    let mut command = bench.command(&["audit", "--supplier", &url, "--data", "data"]);
    command.args(["--request-timeout", "200ms", "--landing-bound", "400ms"]).args(more);
    command
}

fn json(bench: &Bench, supplier: &Simulator, more: &[&str], code: i32) -> Value {
    let mut command = audit(bench, supplier, more);
    command.args(["--format", "json"]);
    serde_json::from_str(&stdout(&run(command, code))).unwrap()
}

/// Kind, order and reference of each finding; of a double, whose reference is one of many, none.
fn findings(report: &Value) -> BTreeSet<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = report["findings"].as_array().unwrap().iter().map(|finding| {
        let kind = text(&finding["kind"]);
        let reference = if kind == "double" { Value::Null } else { finding["client_ref"].clone() };
        (kind, text(&finding["order_id"]), text(&reference))
    });
    let all: Vec<_> = all.collect();
    let distinct: BTreeSet<_> = all.iter().cloned().collect();
    assert_eq!(all.len(), distinct.len(), "told twice: {report}");
    distinct
}

/// The orders of the results by reference, of those that ended like this.
fn ended(bench: &Bench, outcome: &str) -> BTreeMap<String, String> {
    let lines = bench.results().into_iter().filter(|line| line["outcome"] == outcome);
    let text = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
    lines.map(|line| (text(&line, "client_ref"), text(&line, "order_id"))).collect()
}

#[test]
fn each_planted_order_of_each_kind_is_found_and_nothing_else() {
    let bench = Bench::new();
    let contract = Contract { pays_on: PayTime::Pay, show_total: true, ..Contract::default() };
    let pay_script = [Some(PayFault::Refused422), Some(PayFault::Refused422)].into();
    let supplier = supplier(contract, Faults { pay_script, ..Faults::default() });
    let rows: Vec<_> = (0..20).map(|n| format!("a-{n},item-{},1", n % 4)).collect();
    bench.file("in.csv", &csv(&rows.iter().map(String::as_str).collect::<Vec<_>>()));
    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.args(["--pays-on", "pay", "--pay-watch", "100ms", "--look-again", "200ms"]);
    run(command, 1);
    let (placed, refused) = (ended(&bench, "placed"), ended(&bench, "unpaid"));
    assert_eq!((placed.len(), refused.len()), (18, 2));

    // Strangers' orders that a person has declared to be nobody's: orphans.
    let orphans = ["stranger-1", "stranger-2"].map(|item| bought_by_hand(&supplier, item));
    orphans.iter().for_each(|id| paid_by_hand(&supplier, id));
    // A router that takes orders for paid which are not: they stay unpaid.
    bench.file("in.csv", &csv(&["u-0,other-0,1", "u-1,other-1,1", "u-2,other-2,1"]));
    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.arg("--adopt-unknown-orders");
    run(command, 0);
    let unpaid: BTreeMap<_, _> =
        ended(&bench, "placed").into_iter().filter(|(r, _)| r.starts_with("u-")).collect();
    assert_eq!(unpaid.len(), 3);

    let doubles = ["item-0", "item-3"].map(|item| bought_by_hand(&supplier, item));
    doubles.iter().for_each(|id| paid_by_hand(&supplier, id));
    let foreign = ["foreign-1", "foreign-2"].map(|item| bought_by_hand(&supplier, item));
    paid_by_hand(&supplier, &foreign[0]);
    refused.values().for_each(|id| paid_by_hand(&supplier, id));
    let (hidden, altered) = (["a-5", "a-11"], ["a-7", "a-16"]);
    let ours = |reference: &&str| placed.get(*reference).or(refused.get(*reference)).cloned();
    // Not those whose payment was refused: they are planted already.
    let free = |reference: &&&str| placed.contains_key(**reference);
    let hidden: Vec<_> =
        hidden.iter().chain(&["a-12", "a-13", "a-14"]).filter(free).take(2).collect();
    let altered: Vec<_> =
        altered.iter().chain(&["a-8", "a-9", "a-10"]).filter(free).take(2).collect();
    hidden.iter().for_each(|reference| assert!(supplier.hide(&ours(reference).unwrap())));
    altered
        .iter()
        .for_each(|reference| assert!(supplier.alter(&ours(reference).unwrap(), "swapped")));
    wait(900);

    let own = |kind: &str, reference: &str| {
        let id = ours(&reference).or(unpaid.get(reference).cloned()).unwrap();
        (kind.to_owned(), id, reference.to_owned())
    };
    let nobodys = |kind: &str, id: &String| (kind.to_owned(), id.clone(), String::new());
    let expected: BTreeSet<_> = (doubles.iter().map(|id| nobodys("double", id)))
        .chain(orphans.iter().map(|id| nobodys("orphan", id)))
        .chain(foreign.iter().map(|id| nobodys("foreign", id)))
        .chain(hidden.iter().map(|reference| own("unmatched", reference)))
        .chain(altered.iter().map(|reference| own("other_items", reference)))
        .chain(unpaid.keys().map(|reference| own("unpaid", reference)))
        .chain(refused.keys().map(|reference| own("paid_after_all", reference)))
        .collect();
    assert_eq!(expected.len(), 15);
    let settings = ["--pays-on", "pay", "--order-total-field", "totalPrice"];
    let settings = [&settings[..], &["--order-currency-field", "currency"]].concat();
    let report = json(&bench, &supplier, &settings, 1);
    assert_eq!(findings(&report), expected);
    // 20 of the first run, 2, 3, 2 and 2, without the two that are hidden.
    assert_eq!((&report["orders"], &report["matched"]), (&27.into(), &14.into()), "{report}");
    let cost =
        |finding: &Value| (finding["cost"]["amount"].clone(), finding["cost"]["currency"].clone());
    for finding in
        report["findings"].as_array().unwrap().iter().filter(|f| f["kind"] != "unmatched")
    {
        assert_eq!(cost(finding), ("2.50".into(), "USD".into()), "{finding}");
    }

    // What the hidden two cost is missing on the list, and is what does not add up.
    let more = [&settings[..], &["--opening-balance", "1000"]].concat();
    let report = json(&bench, &supplier, &more, 1);
    let equation = &report["money"][0]["equation"];
    assert_eq!(equation["difference"], "5.00", "{report}");
    let shown = stdout(&run(audit(&bench, &supplier, &more), 1));
    let counts =
        "2 double, 2 orphan, 2 foreign, 2 unmatched, 2 other_items, 3 unpaid, 2 paid_after_all";
    assert!(shown.contains(counts) && shown.contains("no order explains 5.00"), "{shown}");
    let lines =
        stdout(&run(audit(&bench, &supplier, &[&more[..], &["--format", "csv"]].concat()), 1));
    assert_eq!(lines.lines().count(), 17, "{lines}");
    assert_eq!(lines.lines().last(), Some("unexplained,,,,,5.00,USD"));
}

#[test]
fn a_clean_run_adds_up_and_money_that_no_order_explains_does_not() {
    let (bench, supplier) = (Bench::new(), supplier(Contract::default(), Faults::default()));
    let rows: Vec<_> = (0..40).map(|n| format!("a-{n},item-{},1,2.50", n % 7)).collect();
    let text = format!("client_ref,item_id,quantity,total_price\n{}\n", rows.join("\n"));
    bench.file("in.csv", &text);
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    wait(700);
    // By price guards alone: this list shows no totals.
    let shown = stdout(&run(audit(&bench, &supplier, &["--opening-balance", "1000"]), 0));
    assert!(shown.contains("it adds up") && shown.contains("nothing is off"), "{shown}");
    assert!(shown.contains("USD: 100.00 debited, 0 of failed"), "{shown}");
    run(
        audit(
            &bench,
            &supplier,
            &["--opening-balance", "USD=1000", "--closing-balance", "USD=900"],
        ),
        0,
    );
    supplier.book(None, "-3.01".parse().unwrap());
    run(audit(&bench, &supplier, &[]), 0);
    let report = json(&bench, &supplier, &["--opening-balance", "1000"], 1);
    assert_eq!(report["findings"], Value::Array(Vec::new()));
    let equation = &report["money"][0]["equation"];
    assert_eq!((&equation["difference"], &equation["spent"]), (&"3.01".into(), &"103.01".into()));
    supplier.book(None, "50".parse().unwrap());
    let less = json(&bench, &supplier, &["--opening-balance", "1000"], 1);
    assert_eq!(less["money"][0]["equation"]["difference"], "-46.99");
    let topped = ["--opening-balance", "1000", "--topped-up", "46.99"];
    run(audit(&bench, &supplier, &topped), 0);
    let bought = ["--opening-balance", "996.99", "--topped-up", "50"];
    run(audit(&bench, &supplier, &bought), 0);
}

#[test]
fn an_order_that_was_really_bought_twice_is_found_and_its_money_with_it() {
    let bench = Bench::new();
    let script = [None, Some(PostFault::CreatedLate)].into();
    let faults = Faults { script, late_after: Duration::from_secs(5), ..Faults::default() };
    let supplier = supplier(Contract::default(), faults);
    let text = "client_ref,item_id,quantity,total_price\na,x,1,2.50\nb,y,2,5.00\n";
    bench.file("in.csv", text);
    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.args(["--concurrency", "1"]);
    run(command, 0);
    while supplier.ledger().len() < 3 {
        wait(50);
    }
    wait(700);
    let report = json(&bench, &supplier, &["--opening-balance", "1000"], 1);
    let late: Vec<_> = supplier.ledger().into_iter().filter(|row| row.fault.is_some()).collect();
    assert_eq!(
        findings(&report),
        [("double".to_owned(), late[0].id.clone(), String::new())].into()
    );
    assert_eq!(report["findings"][0]["cost"]["amount"], "5.00");
    assert_eq!(report["money"][0]["equation"]["difference"], "0.00", "{report}");
    assert_eq!(
        (&report["money"][0]["known"], &report["money"][0]["debited"]),
        (&"7.50".into(), &"12.50".into())
    );
}

#[test]
fn refunds_and_currencies_are_told_apart() {
    let bench = Bench::new();
    let contract = Contract {
        other_balances: vec![UnitPrice { item_id: "EUR".to_owned(), amount: 500.into() }],
        paid_in: vec![("item-3".to_owned(), "EUR".to_owned())],
        refunds: true,
        show_total: true,
        ..Contract::default()
    };
    let faults = Faults { order_failed: 0.2, order_cancelled: 0.2, ..Faults::default() };
    let supplier = supplier(contract, faults);
    let rows: Vec<_> = (0..60).map(|n| format!("a-{n},item-{},{}", n % 7, 1 + n % 3)).collect();
    bench.file("in.csv", &csv(&rows.iter().map(String::as_str).collect::<Vec<_>>()));
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    wait(900);
    let more = ["--order-total-field", "totalPrice", "--order-currency-field", "currency"];
    let books = ["--opening-balance", "USD=1000", "--opening-balance", "EUR=500"];
    let more = [&more[..], &books].concat();
    let report = json(&bench, &supplier, &more, 0);
    for money in report["money"].as_array().unwrap() {
        let currency = money["currency"].as_str().unwrap();
        let back = supplier.ledger().into_iter().filter(|r| r.refunded && r.currency == currency);
        let back: Vec<rust_decimal::Decimal> = back.map(|r| r.amount.parse().unwrap()).collect();
        assert!(!back.is_empty());
        let refunded: rust_decimal::Decimal =
            money["equation"]["refunded"].as_str().unwrap().parse().unwrap();
        assert_eq!(refunded, back.iter().sum(), "{report}");
        assert_eq!(money["refundable"], money["equation"]["refunded"]);
    }
    supplier.book(Some("EUR"), "-0.01".parse().unwrap());
    let report = json(&bench, &supplier, &more, 1);
    let off = report["money"].as_array().unwrap().iter().find(|m| m["currency"] == "EUR").unwrap();
    assert_eq!(off["equation"]["difference"], "0.01", "{report}");
}

#[test]
fn what_cannot_be_held_against_a_balance_is_said() {
    let bench = Bench::new();
    let supplier = supplier(
        Contract {
            other_balances: vec![UnitPrice { item_id: "EUR".to_owned(), amount: 1.into() }],
            ..Contract::default()
        },
        Faults::default(),
    );
    bench.file("in.csv", &csv(&["a,x,1"]));
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    wait(600);
    let said = |more: &[&str], code, part: &str| {
        let output = run(audit(&bench, &supplier, more), code);
        let text = format!("{}{}", stdout(&output), stderr(&output));
        assert!(text.contains(part), "{part:?} is not in {text}");
    };
    // Two currencies, and none is named; no price guard, and the list shows no total.
    said(&["--opening-balance", "1000"], 2, "several currencies");
    said(&["--opening-balance", "USD=1000"], 1, "1 orders whose cost nobody knows");
    said(&["--opening-balance", "USD=1", "--opening-balance", "USD=2"], 2, "each currency once");
    said(&["--opening-balance", "USD=1", "--closing-balance", "2"], 2, "an opening balance");
    said(&["--closing-balance", "2"], 2, "--opening-balance");
    for wrong in ["1,5", "1e3", "", "=5", "US D=5", "99999999999999999999999999999"] {
        said(&["--opening-balance", wrong], 2, "invalid value");
    }
    let mut faults = supplier.faults();
    faults.balance_malformed = 1.0;
    supplier.set_faults(faults.clone()).unwrap();
    said(&["--opening-balance", "USD=1000"], 2, "the balance was not read");
    faults = Faults { balance_missing: 1.0, ..Faults::default() };
    supplier.set_faults(faults).unwrap();
    said(&["--opening-balance", "USD=1000"], 2, "not the one that was named");
}
