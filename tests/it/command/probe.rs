//! `probe` against suppliers whose lists differ, and what it says where it cannot know.

use std::time::Duration;

use order_router::simulator::{Contract, Envelope, ListOrder, Moments, PayTime, PostFault, Stats};

use super::*;

fn supplier_with(contract: Contract, faults: Faults) -> Simulator {
    let config = SimulatorConfig { contract, faults, ..SimulatorConfig::default() };
    Simulator::spawn_thread(config).unwrap()
}

/// Somebody has bought before: so many orders, of more than one second.
fn stock(supplier: &Simulator, orders: usize) {
    let url = format!("{}/api/orders", supplier.url());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        // A second installation changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for n in 0..orders {
            let body = format!(r#"{{"items":[{{"itemId":"old-{n}","quantity":{}}}]}}"#, n % 3 + 1);
            let request = client.post(&url).header("X-API-Key", "key-canary-1");
            let sent = request.header("content-type", "application/json").body(body).send().await;
            assert_eq!(sent.unwrap().status().as_u16(), 201);
            let pause = if n == 1 { 1100 } else { 2 };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    });
}

fn probe(bench: &Bench, supplier: &Simulator, more: &[&str]) -> Command {
    let url = supplier.url();
    let mut command = bench.command(&["probe", "--supplier", &url, "--data", "data"]);
    command.args(["--request-timeout", "500ms", "--landing-bound", "1s"]).args(more);
    command
}

fn facts(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// What was found, or why it was not.
fn fact(report: &Value, name: &str) -> String {
    let facts = report["facts"].as_array().unwrap();
    let fact = facts.iter().find(|fact| fact["name"] == name);
    let fact = fact.unwrap_or_else(|| panic!("{name} was not looked for: {report}"));
    match fact["found"].as_str() {
        Some(found) => found.to_owned(),
        None => format!("? {}", fact["note"].as_str().unwrap()),
    }
}

fn setting(report: &Value, name: &str) -> Option<String> {
    let text = report["settings"].as_str().unwrap();
    let start = format!("{name} = ");
    text.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
}

/// What one shape of list must be found to be: facts, and settings.
type Shape =
    (Contract, &'static [(&'static str, &'static str)], &'static [(&'static str, &'static str)]);

fn shapes() -> Vec<Shape> {
    let usual = Contract { page_rows_default: 5, page_rows_max: 8, ..Contract::default() };
    vec![
        (
            usual.clone(),
            &[
                ("envelope", "under `orders`"),
                ("order", "newest first"),
                ("limit", "5 rows by default, 8 at most"),
                ("paging", "by `offset`, row by row: pages can overlap"),
                ("timestamps", "rfc3339"),
                ("clock", "as ours, to a second"),
                ("echo of quantities", "every line shows one"),
                ("prices", "neither orders nor lines show one"),
                ("rate limit", "? no answer says one; set `rate` by what is agreed"),
                ("balances", "999999976 USD"),
            ],
            &[("list_envelope", "\"orders\""), ("oldest_first", "false"), ("page_limit", "8")],
        ),
        (
            Contract {
                list_order: ListOrder::Oldest,
                envelope: Envelope::Items,
                echo_quantity: false,
                echo_price: true,
                rate_limit_header: Some(100),
                clock_ahead_ms: -7_200_000,
                timestamps: Moments::UnixMillis,
                ..usual.clone()
            },
            &[
                ("envelope", "under `items`"),
                ("total", "12 orders, under `total`"),
                ("order", "oldest first"),
                ("limit", "5 rows by default, 8 at most"),
                ("timestamps", "unix-millis"),
                ("echo of quantities", "no line shows one"),
                ("prices", "a line shows `totalPrice`"),
                ("rate limit", "x-ratelimit-limit: 100"),
            ],
            &[
                ("list_envelope", "\"items\""),
                ("list_total", "\"total\""),
                ("oldest_first", "true"),
                ("no_echo_quantity", "true"),
                ("order_timestamps", "\"unix-millis\""),
            ],
        ),
        (
            Contract {
                envelope: Envelope::Bare,
                page_parameter: Some("page".to_owned()),
                timestamps: Moments::UnixSeconds,
                page_rows_max: 100,
                ..usual.clone()
            },
            &[
                ("envelope", "a bare list"),
                ("paging", "by `page`, the first page is 1"),
                ("timestamps", "unix-seconds"),
                ("limit", "? 5 rows by default; it cannot be told if there are more"),
            ],
            &[
                ("list_envelope", "\"-\""),
                ("page_parameter", "\"page\""),
                ("first_page", "1"),
                ("order_timestamps", "\"unix-seconds\""),
            ],
        ),
        (
            Contract { timestamps: Moments::UtcWithoutZone, page_rows_max: 100, ..usual },
            &[
                (
                    "timestamps",
                    "? moments have no zone; that they mean UTC shows by an order bought now (--buy)",
                ),
                (
                    "limit",
                    "? 5 rows by default; the most was not reached: 12 orders came in one page",
                ),
            ],
            &[],
        ),
    ]
}

/// Runs a command until an order has landed, and kills it.
fn killed_once_it_landed(command: &mut Command, supplier: &Simulator) {
    let mut child = command.spawn().unwrap();
    while supplier.ledger().is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn each_shape_of_a_list_is_found_to_be_what_it_is() {
    for (n, (contract, expected, settings)) in shapes().into_iter().enumerate() {
        let (bench, supplier) = (Bench::new(), supplier_with(contract, Faults::default()));
        stock(&supplier, 12);
        std::thread::park_timeout(Duration::from_millis(600));
        let posts = supplier.stats().posts;
        let without_zone = n == 3;
        let report = facts(&run(probe(&bench, &supplier, &["--json"]), i32::from(without_zone)));
        for (name, found) in expected {
            assert_eq!(fact(&report, name), *found, "shape {n}: {report:#}");
        }
        assert!(fact(&report, "states").ends_with(" completed"), "{report:#}");
        if n == 1 {
            let clock = fact(&report, "clock");
            let seconds = clock.strip_suffix(" s behind ours").map(str::parse::<i64>);
            assert!(matches!(seconds, Some(Ok(7_198..=7_202))), "{clock}");
        }
        for (name, value) in settings {
            assert_eq!(setting(&report, name).as_deref(), Some(*value), "shape {n}: {report:#}");
        }
        assert_eq!(supplier.stats().posts, posts, "reading buys nothing");
        assert!(!bench.path("data").exists(), "reading needs no store");
    }
}

#[test]
fn what_it_proposes_is_loaded_and_a_router_runs_with_it() {
    for contract in [
        Contract { envelope: Envelope::Bare, list_order: ListOrder::Oldest, ..Contract::default() },
        Contract {
            envelope: Envelope::Items,
            timestamps: Moments::UnixMillis,
            echo_quantity: false,
            page_rows_max: 7,
            ..Contract::default()
        },
    ] {
        let (bench, supplier) = (Bench::new(), supplier_with(contract, Faults::default()));
        stock(&supplier, 9);
        let text = stdout(&run(probe(&bench, &supplier, &["--settings-to", "found.toml"]), 0));
        let kept = std::fs::read_to_string(bench.path("found.toml")).unwrap();
        assert!(text.contains(kept.trim_end()), "{text}");
        refused(probe(&bench, &supplier, &["--settings-to", "found.toml"]), &["is there already"]);
        bench.file("in.csv", &csv(&["a,x,1", "b,y,1", "c,x,1"]));
        let mut command = bench.command(&["submit", "in.csv", "--config", "found.toml"]);
        command.args(["--data", "data", "--results", "results.jsonl"]);
        // One answer is lost: the list is read, by what was proposed.
        let mut faults = supplier.faults();
        faults.script = vec![None, None, Some(PostFault::ResetAfter)].into();
        supplier.set_faults(faults).unwrap();
        run(command, 0);
        let placed = |(_, outcome): &(u64, String)| outcome == "placed";
        let ends = bench.ends();
        assert!(ends.len() == 3 && ends.iter().all(placed), "{ends:?}");
        assert_eq!(supplier.ledger().len(), 12);
    }
}

#[test]
fn of_an_empty_list_nothing_is_learnt_and_that_is_said() {
    let (bench, supplier) = (Bench::new(), supplier_with(Contract::default(), Faults::default()));
    let report = facts(&run(probe(&bench, &supplier, &["--json"]), 1));
    assert_eq!(fact(&report, "envelope"), "under `orders`");
    for name in ["fields", "order", "paging", "timestamps", "limit", "echo of quantities"] {
        assert_eq!(fact(&report, name), "? the list is empty: there is nothing to learn from");
    }
    assert_eq!(setting(&report, "oldest_first"), None, "nothing is guessed");
}

#[test]
fn where_no_list_is_read_nothing_is_said_of_it() {
    let always = |faults: Faults| supplier_with(Contract::default(), faults);
    let lines = [
        (Faults { list_status_500: 1.0, ..Faults::default() }, 2, "status 500"),
        (Faults { list_status_429: 1.0, ..Faults::default() }, 2, "rate limited"),
        (
            Faults { list_slow: 1.0, list_slow_by: Duration::from_secs(60), ..Faults::default() },
            2,
            "timeout",
        ),
        (Faults { list_malformed: 1.0, ..Faults::default() }, 1, "bytes that are no JSON"),
    ];
    for (faults, code, part) in lines {
        let (bench, supplier) = (Bench::new(), always(faults));
        let output = run(probe(&bench, &supplier, &["--read-timeout", "300ms"]), code);
        let text = format!("{}{}", stdout(&output), stderr(&output));
        assert!(text.contains(part), "{part}: {text}");
        assert_eq!(text.contains("bought: nothing was changed"), code == 2, "{text}");
        assert_eq!(supplier.stats().posts, 0);
    }
    let config = SimulatorConfig { required_key: Some("another".into()), ..Default::default() };
    let (bench, supplier) = (Bench::new(), Simulator::spawn_thread(config).unwrap());
    refused(probe(&bench, &supplier, &[]), &["refuses the key: status 401"]);
    refused(probe(&bench, &supplier, &["--buy", "x:1@1"]), &["refuses the key: status 401"]);
    assert_eq!(supplier.stats().posts, 0);
    drop(supplier);
}

#[test]
fn a_page_over_the_cap_is_said_and_a_shorter_one_is_read() {
    let contract = Contract { page_rows_max: 1000, ..Contract::default() };
    let (bench, supplier) = (Bench::new(), supplier_with(contract, Faults::default()));
    stock(&supplier, 150);
    let report = facts(&run(probe(&bench, &supplier, &["--json", "--page-bytes-max", "28000"]), 0));
    assert_eq!(fact(&report, "order"), "newest first", "by the page of 100");
}

fn one_order(stats: &Stats, supplier: &Simulator) {
    assert_eq!((stats.posts, supplier.ledger().len()), (1, 1));
}

#[test]
fn one_order_shows_its_lag_its_echo_its_tag_and_what_it_cost() {
    let faults = Faults { list_lag: Duration::from_millis(700), ..Faults::default() };
    let (bench, supplier) = (Bench::new(), supplier_with(Contract::default(), faults));
    let buying = ["--json", "--buy", "card:2@2.00"];
    let report = facts(&run(probe(&bench, &supplier, &buying), 1));
    one_order(&supplier.stats(), &supplier);
    let lag = fact(&report, "create to visible");
    let numbers: Vec<u64> = lag.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(numbers.len() == 2 && numbers[0] <= 700 && numbers[1] >= 600, "{lag}");
    assert!(numbers[1] < 5_000, "{lag}");
    assert_eq!(fact(&report, "order by id"), "can be read as soon as it is answered");
    assert_eq!(fact(&report, "echo of quantities"), "the line shows what was ordered");
    assert_eq!(fact(&report, "echo of notes"), "the line shows the note as it was sent");
    assert_eq!(fact(&report, "unknown key in a note"), "is kept and shown: orders can carry tags");
    assert!(fact(&report, "debit").starts_with("2 USD; "), "{}", fact(&report, "debit"));
    assert_eq!(setting(&report, "tag_key").as_deref(), Some("\"order_ref\""));
    assert_eq!(setting(&report, "pays_on").as_deref(), Some("\"create\""));
    // Again: it joins the order that there is.
    let report = facts(&run(probe(&bench, &supplier, &buying), 1));
    one_order(&supplier.stats(), &supplier);
    assert_eq!(fact(&report, "create to visible"), "? the order was not answered in this run");
    assert_eq!(fact(&report, "unknown key in a note"), "is kept and shown: orders can carry tags");
}

/// A supplier, what is asked of the probe beside the order, and what that must show.
type Ordered = (Contract, &'static [&'static str], &'static [(&'static str, &'static str)]);

#[test]
fn an_order_shows_what_a_supplier_does_not_keep_and_what_its_test_orders_are() {
    let lines: [Ordered; 3] = [
        (
            Contract { note_keys: vec!["player".to_owned()], ..Contract::default() },
            &["--buy-note", r#"{"player":7}"#, "--mock"],
            &[
                ("unknown key in a note", "is not shown: orders cannot carry tags"),
                ("echo of notes", "the line shows another note than was sent"),
                ("test orders", "isMock is real: nothing was debited"),
            ],
        ),
        (
            Contract { mock_debits: true, echo_note: false, ..Contract::default() },
            &["--mock"],
            &[
                ("echo of notes", "the line shows none"),
                ("test orders", "isMock is not real: the order was debited"),
            ],
        ),
        (
            Contract {
                pays_on: PayTime::Pay,
                timestamps: Moments::UtcWithoutZone,
                ..Contract::default()
            },
            &[],
            &[("debit", "nothing, and the order is active"), ("timestamps", "utc-without-zone")],
        ),
    ];
    for (contract, more, expected) in lines {
        let faults = Faults { fetch_lag: Duration::from_millis(300), ..Faults::default() };
        let (bench, supplier) = (Bench::new(), supplier_with(contract, faults));
        stock(&supplier, 3);
        let zone = ["--order-timestamps", "utc-without-zone"];
        let mut command = probe(&bench, &supplier, &["--json", "--buy", "card:1@1.00"]);
        command.args(more);
        if expected.iter().any(|(_, found)| *found == "utc-without-zone") {
            command.args(zone);
        }
        let report = facts(&run(command, 0));
        for (name, found) in expected {
            assert_eq!(fact(&report, name), *found, "{report:#}");
        }
        assert_eq!(fact(&report, "order by id"), "is 404 at first");
        assert_eq!(supplier.ledger().len(), 4);
    }
}

#[test]
fn a_lost_answer_or_a_killed_probe_leads_to_no_second_order() {
    // The answer is lost: the list tells which one it is.
    let faults = Faults { script: vec![Some(PostFault::ResetAfter)].into(), ..Faults::default() };
    let (bench, supplier) = (Bench::new(), supplier_with(Contract::default(), faults));
    let buying = ["--json", "--buy", "card:1@1.00"];
    let report = facts(&run(probe(&bench, &supplier, &buying), 1));
    one_order(&supplier.stats(), &supplier);
    assert_eq!(fact(&report, "unknown key in a note"), "is kept and shown: orders can carry tags");
    // Killed while the supplier holds the answer back, and run again.
    let faults =
        Faults { script: vec![Some(PostFault::WithheldAfterCreation)].into(), ..Faults::default() };
    let (bench, supplier) = (Bench::new(), supplier_with(Contract::default(), faults));
    let mut command = probe(&bench, &supplier, &buying);
    killed_once_it_landed(&mut command, &supplier);
    let report = facts(&run(probe(&bench, &supplier, &buying), 1));
    one_order(&supplier.stats(), &supplier);
    assert_eq!(fact(&report, "unknown key in a note"), "is kept and shown: orders can carry tags");
}

#[test]
fn where_other_orders_are_open_none_is_bought_and_they_stay_as_they_are() {
    // An order that is to be paid later is in doubt. Driven on as if creating it paid for it, it would be
    // placed, and nobody would ever pay it.
    let faults =
        Faults { script: vec![Some(PostFault::WithheldAfterCreation)].into(), ..Faults::default() };
    let contract = Contract { pays_on: PayTime::Pay, ..Contract::default() };
    let (bench, supplier) = (Bench::new(), supplier_with(contract, faults));
    std::fs::write(bench.dir.path().join("one.csv"), "client_ref,item_id,quantity\nr-1,card,1\n")
        .unwrap();
    let url = supplier.url();
    let words = ["submit", "one.csv", "--supplier", &url, "--data", "data", "--pays-on", "pay"];
    let mut command = bench.command(&words);
    command.args(["--request-timeout", "500ms", "--landing-bound", "1s"]);
    killed_once_it_landed(&mut command, &supplier);
    let buying = ["--json", "--buy", "other:1@1.00", "--pays-on", "pay"];
    let output = run(probe(&bench, &supplier, &buying), 2);
    assert!(stderr(&output).contains("1 other orders of this store are open"), "{output:?}");
    one_order(&supplier.stats(), &supplier);
    // Its own rules drive it on, and then there is room for the probe's.
    run(command, 0);
    assert_eq!(supplier.stats().pays, 1);
    run(probe(&bench, &supplier, &buying), 1);
    assert_eq!(supplier.ledger().len(), 2);
}

/// A supplier whose list has one order more at every look, and takes neither an offset nor a page's number.
fn restless() -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (look, stream) in listener.incoming().enumerate() {
            let (mut stream, mut request) = (stream.unwrap(), Vec::new());
            let mut bytes = [0; 4096];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut bytes) {
                    Ok(count) if count > 0 => request.extend_from_slice(&bytes[..count]),
                    _ => break,
                }
            }
            let rows = if String::from_utf8_lossy(&request).contains("limit=2&") { 2 } else { 10 };
            let row = |n: usize| {
                let at = jiff::Timestamp::from_second(1_750_000_000 + n as i64).unwrap();
                format!(
                    r#"{{"id":"o{n}","status":"completed","createdAt":"{at}","items":[{{"itemId":"a","quantity":1}}]}}"#
                )
            };
            let list: Vec<_> = (0..rows).map(|n| row(look + 100 - n)).collect();
            let body = format!(r#"{{"orders":[{}]}}"#, list.join(","));
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let length = body.len();
            let _ = write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{body}");
        }
    });
    url
}

#[test]
fn rows_that_others_move_are_not_taken_for_pages() {
    let (bench, url) = (Bench::new(), restless());
    let report = facts(&run(bench.command(&["probe", "--supplier", &url, "--json"]), 1));
    assert_eq!(fact(&report, "order"), "newest first");
    let paging = fact(&report, "paging");
    assert_eq!(paging, "? neither an offset nor a page's number moves the list");
    assert_eq!((setting(&report, "page_parameter"), setting(&report, "first_page")), (None, None));
}

#[test]
fn one_order_on_the_account_does_not_show_which_end_of_the_list_is_first() {
    let (bench, supplier) = (Bench::new(), supplier_with(Contract::default(), Faults::default()));
    stock(&supplier, 1);
    let report = facts(&run(probe(&bench, &supplier, &["--json"]), 1));
    assert_eq!(fact(&report, "order"), "? all orders are of one moment, or there is only one");
    assert_eq!(fact(&report, "paging"), "? the account has fewer than three orders");
    assert_eq!(setting(&report, "oldest_first"), None);
}
