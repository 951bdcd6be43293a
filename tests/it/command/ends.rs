//! How runs end: results, exit codes, signals, a person's decision.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::*;

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn withheld() -> Faults {
    Faults { withheld_never_created: 1.0, ..Faults::default() }
}

#[test]
fn every_line_gets_its_end_in_every_run_and_twins_share_an_order() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1", "b,x,1", "a,x,1"]));
    let supplier = simulator(Faults::default());
    for runs in 1..=2 {
        run(bench.submit(&supplier.url(), "in.csv"), 0);
        let ends = bench.ends();
        assert_eq!(ends.len(), 3 * runs);
        assert!(ends.iter().all(|(_, outcome)| outcome == "placed"), "{ends:?}");
        assert_eq!(supplier.ledger().len(), 2);
    }
    let ids: std::collections::BTreeSet<_> = bench
        .results()
        .iter()
        .filter(|line| line["client_ref"] == "a" && line["outcome"] == "placed")
        .map(|line| line["order_id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1);
}

#[test]
fn json_lines_come_from_standard_input_and_notes_stay_out_of_the_results() {
    let bench = Bench::new();
    let supplier = simulator(Faults::default());
    let mut child = bench.submit(&supplier.url(), "-").stdin(Stdio::piped()).spawn().unwrap();
    let line = "{\"client_ref\":\"a\",\"items\":[{\"itemId\":\"x\",\"quantity\":2,\
        \"note\":{\"player\":\"note-canary\"}}]}\n";
    child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let results = std::fs::read_to_string(bench.path("results.jsonl")).unwrap();
    assert!(!(results + &stderr(&output) + &stdout(&output)).contains("note-canary"));
    assert_eq!(supplier.ledger()[0].items[0].quantity, 2);
}

/// The writing end of a pipe that nobody reads any more.
fn nobody_reads() -> std::io::PipeWriter {
    let (_, writer) = std::io::pipe().unwrap();
    writer
}

#[test]
fn a_reader_that_has_gone_stops_no_order_and_changes_no_exit_code() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,0", "b,x,1", "c,x,1"]));
    let supplier = simulator(Faults::default());
    let mut submit = bench.submit(&supplier.url(), "in.csv");
    submit.arg("--json").stdout(nobody_reads()).stderr(nobody_reads());
    assert_eq!(submit.status().unwrap().code(), Some(1));
    assert_eq!(bench.ends().len(), 3);
    assert_eq!(supplier.ledger().len(), 2);
    let admin = supplier.admin_url();
    let check = ["check", "--results", "results.jsonl", "--ledger", &admin];
    for words in [&["status", "b", "--data", "data"][..], &["store", "stats", "--data", "data"]] {
        let mut command = bench.command(words);
        command.stdout(nobody_reads()).stderr(nobody_reads());
        assert_eq!(command.status().unwrap().code(), Some(0), "{words:?}");
    }
    assert_eq!(bench.command(&check).stdout(nobody_reads()).status().unwrap().code(), Some(0));
}

#[test]
fn an_alarm_is_told_once() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1", "b,y,1"]));
    // Both are in doubt at once: the list does not show the first one before the second is too.
    let lag = Duration::from_millis(1_000);
    let faults = Faults { withheld_after_creation: 1.0, ..Faults::default() };
    let supplier = simulator(Faults { list_lag: lag, ..faults });
    let mut submit = bench.submit(&supplier.url(), "in.csv");
    submit.args(["--doubts-max", "2"]);
    let told = stderr(&run(submit, 0));
    assert_eq!(told.matches("as much is in doubt").count(), 1, "{told}");
}

#[test]
fn a_torn_last_line_of_the_results_is_ended_first() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    bench.file("results.jsonl", "{\"client_ref\":\"to");
    let supplier = simulator(Faults::default());
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    let text = std::fs::read_to_string(bench.path("results.jsonl")).unwrap();
    assert!(text.starts_with("{\"client_ref\":\"to\n{\"client_ref\":\"a\""), "{text}");
    assert!(text.ends_with('\n'));
}

#[test]
fn a_refused_order_is_exit_code_1() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1", "b,gone,1"]));
    let mut config = SimulatorConfig::default();
    config.contract.refused_products = vec!["gone".to_owned()];
    let supplier = Simulator::spawn_thread(config).unwrap();
    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.arg("--json");
    let output = run(command, 1);
    let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&summary["placed"], &summary["refused"]), (&1.into(), &1.into()), "{summary}");
    let refused = bench.results().into_iter().find(|line| line["outcome"] == "refused").unwrap();
    assert_eq!(refused["client_ref"], "b");
}

#[test]
fn an_order_in_doubt_is_exit_code_3_and_the_next_run_goes_on() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    bench.file("other.csv", &csv(&["b,y,1"]));
    // Seen late: by the end of the run nobody can know.
    let supplier = simulator(Faults {
        withheld_after_creation: 1.0,
        list_lag: Duration::from_secs(3600),
        ..Faults::default()
    });
    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.args(["--give-up-after", "1500ms"]);
    let output = run(command, 3);
    assert!(stderr(&output).contains("under the same references"), "{}", stderr(&output));
    assert_eq!(bench.ends(), [(2, "in_doubt".to_owned())]);
    // Not in the next run's input, and driven on all the same.
    let status = run(bench.command(&["status", "a", "--data", "data", "--json"]), 0);
    let status: Value = serde_json::from_str(&stdout(&status)).unwrap();
    assert_eq!(status["state"], "in_doubt");
    supplier.set_faults(Faults::default()).unwrap();
    let mut command = bench.submit(&supplier.url(), "other.csv");
    command.args(["--give-up-after", "1500ms"]);
    let output = run(command, 3);
    assert!(stderr(&output).contains("open before, not in this input: 1 in doubt"));
}

#[test]
fn a_signal_stops_the_run_and_says_where_each_order_stands() {
    // `timeout` sends its signal to the process and to its group: that is no second wish.
    for signals in [&[Signal::INT][..], &[Signal::TERM], &[Signal::INT, Signal::TERM]] {
        let bench = Bench::new();
        bench.file("in.csv", &csv(&["a,x,1", "b,y,1"]));
        let supplier = simulator(withheld());
        let mut child = bench.submit(&supplier.url(), "in.csv").spawn().unwrap();
        wait_until(&mut child, &bench.path("results.jsonl"), |lines| lines.len() >= 2);
        signals.iter().for_each(|which| signal(&child, *which));
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        let ends = bench.ends();
        assert_eq!(ends.len(), 2, "{ends:?}");
        assert!(ends.iter().all(|(_, outcome)| outcome == "in_doubt"), "{ends:?}");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let bench = Bench::new();
    let supplier = simulator(withheld());
    let log = bench.file("log", "");
    let mut command = bench.submit(&supplier.url(), "-");
    command.stdin(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    use std::io::Write;
    let mut lines = child.stdin.take().unwrap();
    lines.write_all(csv(&["a,x,1"]).as_bytes()).unwrap();
    lines.flush().unwrap();
    wait_until(&mut child, &bench.path("results.jsonl"), |lines| !lines.is_empty());
    let told = |text| std::fs::read_to_string(&log).unwrap().contains(text);
    // Each that comes soon after another is the same wish.
    while child.try_wait().unwrap().is_none() {
        signal(&child, Signal::INT);
        std::thread::yield_now();
    }
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(told("no longer waiting") && told("ended at once"));
}

#[test]
fn a_person_decides_an_order_in_doubt() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1", "b,y,1"]));
    let faults = Faults {
        withheld_after_creation: 1.0,
        list_lag: Duration::from_secs(3600),
        ..Faults::default()
    };
    let supplier = simulator(faults);
    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.args(["--give-up-after", "1500ms"]);
    run(command, 3);
    let url = supplier.url();
    let id_of = |item: &str| {
        let entry = supplier.ledger().into_iter().find(|e| e.items[0].item_id == item);
        entry.unwrap().id
    };
    let decide = |client_ref: &str, words: &[&str], code: i32| {
        let mut command = bench.command(&["orders", "resolve", client_ref, "--data", "data"]);
        command.args(["--supplier", &url, "--request-timeout", "1s", "--landing-bound", "2s"]);
        command.args(["--reason", "a test looked"]).args(words);
        let output = run(command, code);
        stdout(&output) + &stderr(&output)
    };
    assert!(decide("a", &["--placed", &id_of("y")], 1).contains("has other items"));
    assert!(decide("a", &["--placed", &id_of("x")], 0).contains("a: placed"));
    assert!(decide("a", &["--absent"], 1).contains("nothing to decide"));
    assert!(decide("nobody", &["--absent"], 1).contains("no order has the reference"));
    let list = run(bench.command(&["orders", "list", "--data", "data", "--state", "placed"]), 0);
    let expected = format!("a\tplaced\t{}\n", id_of("x"));
    assert_eq!(stdout(&list), expected);
    let show = stdout(&run(bench.command(&["orders", "show", "a", "--data", "data"]), 0));
    assert!(show.contains("learnt from a person"), "{show}");
    run(bench.command(&["status", "nobody", "--data", "data"]), 1);
}

#[test]
fn a_run_does_not_wait_for_what_only_a_person_can_end() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    // Somebody else buys the same: the list shows two orders for one in doubt.
    let faults =
        Faults { withheld_after_creation: 1.0, foreign_identical: 1.0, ..Faults::default() };
    let supplier = simulator(faults);
    let output = run(bench.submit(&supplier.url(), "in.csv"), 3);
    assert!(stderr(&output).contains("orders resolve REF"), "{}", stderr(&output));
    assert_eq!(bench.ends(), [(2, "held".to_owned())]);
    let held = run(bench.command(&["orders", "list", "--data", "data", "--state", "held"]), 0);
    assert!(stdout(&held).starts_with("a\theld\t"), "{}", stdout(&held));
    supplier.set_faults(Faults::default()).unwrap();
    let own = supplier.ledger().into_iter().find(|entry| !entry.foreign).unwrap().id;
    let url = supplier.url();
    let flags = ["--data", "data", "--supplier", &url, "--request-timeout", "1s"];
    let person = |words: &[&str]| {
        let mut command = bench.command(&["orders"]);
        command.args(words).args(flags).args(["--landing-bound", "2s"]);
        stdout(&run(command, 0))
    };
    assert!(person(&["resolve", "a", "--placed", &own, "--reason", "seen"]).contains("placed"));
    assert!(person(&["free", "a"]).contains("sent again"));
    bench.file("next.csv", &csv(&["b,x,1"]));
    // The other's order is still unknown: a person says whose it is.
    refused(bench.submit(&supplier.url(), "next.csv"), &["--adopt-unknown-orders"]);
    let mut command = bench.submit(&supplier.url(), "next.csv");
    command.arg("--adopt-unknown-orders");
    run(command, 0);
    assert_eq!(supplier.ledger().iter().filter(|entry| !entry.foreign).count(), 2);
}

#[test]
fn the_store_can_be_checked_rebuilt_and_measured() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1", "b,y,1"]));
    let supplier = simulator(Faults::default());
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    for words in ["verify", "rebuild", "stats"] {
        let output = run(bench.command(&["store", words, "--json", "--data", "data"]), 0);
        let told: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!((&told["ended"], &told["open"]), (&2.into(), &0.into()), "{words}: {told}");
    }
}

#[test]
fn the_help_teaches_every_command() {
    let bench = Bench::new();
    for words in [
        &["--help"][..],
        &["submit", "--help"],
        &["check", "--help"],
        &["demo", "--help"],
        &["simulate", "--help"],
        &["status", "--help"],
        &["orders", "resolve", "--help"],
        &["store", "verify", "--help"],
    ] {
        let text = stdout(&run(bench.command(words), 0));
        assert!(text.contains("Usage: order-router"), "{text}");
    }
    let submit = stdout(&run(bench.command(&["submit", "--help"]), 0));
    for part in ["client_ref,item_id,quantity", "Exit code:", "--give-up-after", "Examples:"] {
        assert!(submit.contains(part), "{part}");
    }
}

/// The address of a way to the supplier on which reading a single order takes so long, or until an
/// order is sent.
fn slowly(supplier: &Simulator, wait: Duration) -> String {
    let to = supplier.url().trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (post, posts) = mpsc::channel();
    let posts = Arc::new(Mutex::new(posts));
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut supplier = TcpStream::connect(&to).unwrap();
            let (mut from, mut back) = (supplier.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut back));
            let (post, posts) = (post.clone(), posts.clone());
            std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(bytes @ 1..) = client.read(&mut chunk) {
                    if chunk.starts_with(b"POST ") {
                        post.send(()).unwrap();
                    }
                    if chunk.starts_with(b"GET /api/orders/") {
                        let posts = posts.lock().unwrap();
                        posts.try_iter().for_each(drop);
                        let _ = posts.recv_timeout(wait);
                    }
                    if supplier.write_all(&chunk[..bytes]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

#[test]
fn what_a_person_declares_absent_is_sent_by_the_next_submit_and_not_by_a_decision() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1", "b,y,1"]));
    let supplier = simulator(withheld());
    let url = slowly(&supplier, Duration::from_secs(1));
    let mut command = bench.submit(&url, "in.csv");
    command.args(["--give-up-after", "1200ms"]);
    run(command, 3);
    supplier.set_faults(Faults::default()).unwrap();
    let posts = supplier.stats().posts;
    let person = |words: &[&str], code: i32| {
        let mut command = bench.command(&["orders", "resolve"]);
        command.args(words).args(["--data", "data", "--supplier", &url, "--reason", "a test"]);
        command.args(["--request-timeout", "1s", "--landing-bound", "2s"]);
        run(command, code)
    };
    let told = person(&["b", "--absent"], 0);
    assert!(stdout(&told).contains("b: queued"), "{}", stdout(&told));
    assert!(stderr(&told).contains("at least the landing bound"), "{}", stderr(&told));
    // Long enough at work to read the account, and to send what is queued.
    let nobodys = "00000000-0000-4000-8000-000000000000";
    let told = person(&["a", "--placed", nobodys], 1);
    assert!(!stderr(&told).contains("warning: --absent"), "{}", stderr(&told));
    person(&["a", "--absent"], 0);
    assert_eq!((supplier.stats().posts, supplier.ledger().len()), (posts, 0), "a decision bought");
    run(bench.submit(&url, "in.csv"), 0);
    assert_eq!((supplier.stats().posts, supplier.ledger().len()), (posts + 2, 2));
}
