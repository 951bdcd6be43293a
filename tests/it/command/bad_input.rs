//! Bad input: each a message, and nothing bought.

use super::*;

/// Nobody listens there: the discard port of this machine.
const NOBODY: &str = "http://127.0.0.1:9";

#[test]
fn an_unknown_file_is_refused() {
    let bench = Bench::new();
    refused(bench.submit(NOBODY, "no-such.csv"), &["no-such.csv cannot be opened"]);
    assert!(!bench.path("data").exists());
}

#[test]
fn a_directory_an_array_and_an_empty_file_are_refused() {
    let bench = Bench::new();
    refused(bench.submit(NOBODY, "."), &["is a directory"]);
    bench.file("array.json", "[{}]");
    refused(bench.submit(NOBODY, "array.json"), &["one JSON array"]);
    bench.file("empty", "");
    refused(bench.submit(NOBODY, "empty"), &["is empty"]);
}

#[test]
fn a_missing_column_is_refused_before_anything_starts() {
    let bench = Bench::new();
    bench.file("in.csv", "client_ref,quantity\na,1\n");
    refused(bench.submit(NOBODY, "in.csv"), &["no column item_id"]);
    assert!(!bench.path("data").exists() && !bench.path("results.jsonl").exists());
}

#[test]
fn results_into_the_input_are_refused() {
    let bench = Bench::new();
    let text = csv(&["a,x,1"]);
    bench.file("results.jsonl", &text);
    refused(bench.submit(NOBODY, "./results.jsonl"), &["is the input"]);
    assert_eq!(std::fs::read_to_string(bench.path("results.jsonl")).unwrap(), text);
}

#[test]
fn results_that_cannot_be_written_are_refused() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    let mut command = bench.command(&["submit", "in.csv", "--supplier", NOBODY]);
    command.args(["--results", "no/such/dir/r.jsonl"]);
    refused(command, &["cannot be written"]);
}

#[test]
fn without_a_key_nothing_starts() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    let mut command = bench.submit(NOBODY, "in.csv");
    command.env_remove("ORDER_ROUTER_API_KEY");
    refused(command, &["no API key", "set ORDER_ROUTER_API_KEY"]);
    let mut command = bench.submit(NOBODY, "in.csv");
    command.args(["--api-key-file", "no-such-key"]);
    refused(command, &["no-such-key"]);
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    let mut command = bench.command(&["submit", "in.csv", "--supplier", NOBODY]);
    command.args(["--request-timeout", "3s", "--landing-bound", "4s"]);
    refused(command, &["landing bound", "bought twice"]);
    refused(bench.submit("http://example.org", "in.csv"), &["must be https"]);
    refused(bench.submit("nonsense", "in.csv"), &["--supplier: base URL must be"]);
    let output = run(bench.submit("https://u:password-canary@example.org", "in.csv"), 2);
    assert!(!stderr(&output).contains("password-canary"), "{}", stderr(&output));
    run(bench.command(&["submit", "in.csv"]), 2);
    run(bench.command(&["submit", "in.csv", "--supplier", NOBODY, "--rate", "0"]), 2);
}

#[test]
fn a_supplier_that_is_not_there_is_refused_with_what_was_seen() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    let mut command = bench.submit(NOBODY, "in.csv");
    command.args(["--probe-limit", "500ms"]);
    refused(command, &["no list of the supplier was understood", "--list-envelope"]);
    assert!(bench.results().is_empty());
}

#[test]
fn a_list_that_is_described_wrongly_is_refused() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    let supplier = simulator(Faults::default());
    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.args(["--probe-limit", "500ms", "--list-envelope", "rows"]);
    refused(command, &["no list of the supplier was understood"]);
    assert_eq!(supplier.ledger(), []);
}

#[test]
fn a_refused_key_is_told() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    let required_key = Some("another".to_owned());
    let config = SimulatorConfig { required_key, ..SimulatorConfig::default() };
    let supplier = Simulator::spawn_thread(config).unwrap();
    let mut command = bench.submit(&supplier.url(), "in.csv");
    command.args(["--probe-limit", "5s"]);
    refused(command, &["refuses the key"]);
}

#[test]
fn an_empty_directory_on_an_account_with_orders_is_refused_until_a_person_answers() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    let supplier = simulator(Faults::default());
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    // The volume is lost. By another name of this machine the supplier is no loopback address.
    std::fs::remove_dir_all(bench.path("data")).unwrap();
    let url = supplier.url().replace("127.0.0.1", "0.0.0.0");
    let mut command = bench.submit(&url, "in.csv");
    command.arg("--allow-http");
    refused(command, &["orders that the store does not know", "--accept-new-account"]);
    assert_eq!(supplier.ledger().len(), 1);
    let mut command = bench.submit(&url, "in.csv");
    command.args(["--allow-http", "--accept-new-account"]);
    run(command, 0);
}

#[test]
fn a_directory_in_use_is_refused() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    let supplier = simulator(Faults::default());
    // One that waits for lines for ever.
    let mut first = bench.submit(&supplier.url(), "-").stdin(Stdio::piped()).spawn().unwrap();
    use std::io::Write;
    let mut lines = first.stdin.take().unwrap();
    lines.write_all(csv(&["b,x,1"]).as_bytes()).unwrap();
    lines.flush().unwrap();
    wait_until(&mut first, &bench.path("results.jsonl"), |lines| !lines.is_empty());
    let mut second = bench.command(&["submit", "in.csv", "--supplier", &supplier.url()]);
    second.args(["--data", "data", "--results", "other.jsonl"]);
    refused(second, &["in use", "one directory is one account"]);
    drop(lines);
    assert_eq!(first.wait().unwrap().code(), Some(0));
}

#[test]
fn a_data_directory_that_is_a_file_is_refused() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    bench.file("data", "no directory");
    let supplier = simulator(Faults::default());
    refused(bench.submit(&supplier.url(), "in.csv"), &["was not opened"]);
    assert_eq!(supplier.ledger(), []);
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    let supplier = simulator(Faults::default());
    // Nobody can make a directory there, not even the superuser.
    let mut command = bench.command(&["submit", "in.csv", "--supplier", &supplier.url()]);
    command.args(["--results", "results.jsonl", "--data", "/proc/order-router"]);
    refused(command, &["/proc/order-router was not opened"]);
    assert_eq!(supplier.ledger(), []);
}

#[test]
fn a_directory_of_a_newer_version_is_refused() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1"]));
    let supplier = simulator(Faults::default());
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    let journal = segment_below(&bench.path("data")).expect("there is a journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    // The version is after the eight bytes of the name; the header ends with its checksum.
    bytes[8..12].copy_from_slice(&9_u32.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..32]);
    bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&journal, bytes).unwrap();
    refused(bench.submit(&supplier.url(), "in.csv"), &["version 9", "run the version"]);
    assert_eq!(supplier.ledger().len(), 1);
}

#[test]
fn a_corrupt_journal_is_refused_and_nothing_is_sent() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1", "b,y,1", "c,z,1"]));
    let supplier = simulator(Faults::default());
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    let journal = segment_below(&bench.path("data")).expect("there is a journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    // Within the first frames: good ones follow.
    let at = 200.min(bytes.len() / 4);
    bytes[at] ^= 0x40;
    std::fs::write(&journal, bytes).unwrap();
    std::fs::remove_dir_all(bench.path("data").join("index")).ok();
    refused(bench.submit(&supplier.url(), "in.csv"), &["was not opened", "store verify"]);
    run(bench.command(&["store", "verify", "--data", "data"]), 2);
    assert_eq!(supplier.ledger().len(), 3);
}

fn segment_below(dir: &Path) -> Option<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir.join("journal"))
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.metadata().is_ok_and(|meta| meta.len() > 0))
        .collect();
    files.sort();
    files.into_iter().next()
}

#[test]
fn bad_lines_are_told_with_their_numbers_and_the_others_are_bought() {
    let bench = Bench::new();
    let long = format!("{},x,1", "r".repeat(256));
    let rows = ["a,x,1", "b,x,0", "c,x,-1", "d,x,1.5", "e,x,4294967296", &long, "f,x", "g,x,1"];
    bench.file("in.csv", &csv(&rows));
    let supplier = simulator(Faults::default());
    let output = run(bench.submit(&supplier.url(), "in.csv"), 1);
    assert!(stderr(&output).contains("line 3: quantity"), "{}", stderr(&output));
    let ends = bench.ends();
    let invalid: Vec<_> = ends.iter().filter(|(_, o)| o == "invalid").map(|(l, _)| *l).collect();
    assert_eq!(invalid, [3, 4, 5, 6, 7, 8]);
    assert_eq!(ends.iter().filter(|(_, o)| o == "placed").count(), 2);
    assert_eq!(supplier.ledger().len(), 2);
}

#[test]
fn a_reference_with_other_items_is_a_conflict_and_buys_nothing() {
    let bench = Bench::new();
    bench.file("in.csv", &csv(&["a,x,1", "b,y,1"]));
    bench.file("other.csv", &csv(&["a,x,2", "b,y,1"]));
    let supplier = simulator(Faults::default());
    run(bench.submit(&supplier.url(), "in.csv"), 0);
    run(bench.submit(&supplier.url(), "other.csv"), 1);
    let ends = bench.ends();
    assert!(ends.contains(&(2, "conflict".to_owned())), "{ends:?}");
    assert_eq!(supplier.ledger().len(), 2);
}

#[test]
fn commands_about_known_orders_say_that_there_is_nothing_to_read() {
    let bench = Bench::new();
    for words in [&["status", "a"][..], &["orders", "list"], &["store", "stats"]] {
        refused(bench.command(words), &["no data directory"]);
    }
    for words in [&["resolve", "a", "--absent", "--reason", "gone"][..], &["free", "a"]] {
        let mut command = bench.command(&["orders"]);
        command.args(words).args(["--supplier", NOBODY, "--data", "data"]);
        refused(command, &["no data directory"]);
        assert!(!bench.path("data").exists());
    }
    run(bench.command(&["status", "two words"]), 2);
}
