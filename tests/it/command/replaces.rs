//! Orders in the place of those that ended without goods, by file.

use super::*;

#[test]
fn a_file_replaces_what_was_refused_and_says_why_it_does_not_replace_the_rest() {
    let mut config = SimulatorConfig::default();
    config.contract.refused_products = vec!["gone".into()];
    let (bench, supplier) = (Bench::new(), Simulator::spawn_thread(config).unwrap());
    bench.file("first.csv", &csv(&["a,gone,1", "b,x,1"]));
    run(bench.submit(&supplier.url(), "first.csv"), 1);
    let rows = [
        ",x,1,a",
        "c,x,1,",
        // Twice the same: joins. Delivered or under way, unknown, misnamed: not bought.
        "a+replacement,x,1,a",
        ",x,1,b",
        ",x,1,nobody",
        "mine,x,1,a",
    ];
    let text = format!("client_ref,item_id,quantity,replaces\n{}\n", rows.join("\n"));
    bench.file("again.csv", &text);
    std::fs::remove_file(bench.path("results.jsonl")).unwrap();
    run(bench.submit(&supplier.url(), "again.csv"), 1);
    let ends: Vec<_> = bench.ends().into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(ends, ["placed", "placed", "placed", "invalid", "invalid", "invalid"]);
    assert_eq!(supplier.ledger().len(), 3, "b, the replacement of a, and c");
    let results = bench.results();
    let why = |line: u64| {
        let found = results.iter().find(|l| l["line"] == line && l["outcome"] == "invalid");
        found.unwrap()["reason"].to_string()
    };
    assert!(why(5).contains("order b is not replaced"), "{}", why(5));
    assert!(why(6).contains("no order has that reference"), "{}", why(6));
    assert!(why(7).contains("has the reference a+replacement"), "{}", why(7));
    let shown = |reference: &str| {
        stdout(&run(bench.command(&["orders", "show", reference, "--data", "data"]), 0))
    };
    assert!(shown("a").contains("replaced by a+replacement"), "{}", shown("a"));
    assert!(shown("a+replacement").contains("replaces    a"), "{}", shown("a+replacement"));
    assert!(!shown("b").contains("replace"), "{}", shown("b"));
    let lines = r#"{"replaces":"a+replacement","items":[{"itemId":"x","quantity":1}]}"#;
    bench.file("more.jsonl", &format!("{lines}\n"));
    run(bench.submit(&supplier.url(), "more.jsonl"), 1);
    assert_eq!(supplier.ledger().len(), 3);
}
