//! Settings from file, environment and flags: which goes before which, and what is refused.

use std::os::unix::fs::PermissionsExt;

use super::*;

const URL: &str = "supplier = \"https://example.org\"\ndata = \"/srv/order-router\"\n";

/// `config check` on a file with this text.
fn check(bench: &Bench, text: &str) -> Command {
    bench.file("router.toml", text);
    bench.command(&["config", "check", "--config", "router.toml"])
}

#[track_caller]
fn wrong(text: &str, expected: &[&str]) {
    let bench = Bench::new();
    refused(check(&bench, &format!("{text}\n{URL}")), expected);
}

/// The line that `config show` has for a setting.
fn shown(output: &Output, name: &str) -> String {
    let text = stdout(output);
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    let words: Vec<_> = line.unwrap_or_else(|| panic!("{text}")).split_whitespace().collect();
    words.join(" ")
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let bench = Bench::new();
    bench.file("router.toml", &format!("{URL}good_for = \"7m\"\ntries = 7\nrate = \"7/min\"\n"));
    let mut command = bench.command(&["config", "show", "--config", "router.toml"]);
    command.env("ORDER_ROUTER_TRIES", "8").env("ORDER_ROUTER_RATE", "8").args(["--rate", "9/min"]);
    let output = run(command, 0);
    for (name, expected) in [
        ("good_for", "good_for 7m router.toml:3"),
        ("tries", "tries 8 environment ORDER_ROUTER_TRIES"),
        ("rate", "rate 9/min flag --rate"),
        ("doubts_max", "doubts_max 100 default"),
        ("api_key", "api_key set environment ORDER_ROUTER_API_KEY"),
        ("proxy", "proxy unset default"),
    ] {
        assert_eq!(shown(&output, name), expected);
    }
}

#[test]
fn settings_of_a_file_are_those_that_orders_are_bought_with() {
    let bench = Bench::new();
    let supplier = simulator(Faults::default());
    bench.file("in.csv", &csv(&["a,x,1"]));
    let text = format!(
        "supplier = \"{}\"\ndata = \"kept\"\nrequest_timeout = \"1s\"\nlanding_bound = \"2s\"\n",
        supplier.url()
    );
    bench.file("router.toml", &text);
    let mut command = bench.command(&["submit", "in.csv", "--results", "results.jsonl"]);
    command.env("ORDER_ROUTER_CONFIG", "router.toml");
    run(command, 0);
    assert_eq!(supplier.ledger().len(), 1);
    assert!(bench.path("kept").is_dir());
    run(bench.command(&["status", "a", "--config", "router.toml"]), 0);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let bench = Bench::new();
    let mut command = check(&bench, "tries = 0\nrate = \"60/s\"\norder_path = \"/x\"\n");
    command.env("ORDER_ROUTER_GOOD_FOR", "soon").arg("--send-window=x");
    refused(
        command,
        &[
            "5 things are wrong",
            "router.toml:1: tries: must not be 0",
            "router.toml:2: rate: `60/s` is not a rate",
            "router.toml:3: order_path: a path begins with a slash",
            "ORDER_ROUTER_GOOD_FOR: `soon` is not a duration",
            "--send-window: `x` is not a duration",
        ],
    );
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest() {
    wrong("\nlandingbound = \"15m\"", &["router.toml:2:", "did you mean `landing_bound`?"]);
    wrong("request-timeout = \"1s\"", &["router.toml:1:", "did you mean `request_timeout`?"]);
    wrong("colour_of_the_sky = 1", &["there is no setting `colour_of_the_sky`", "reference"]);
    wrong("[limits]\nrate = 1", &["there are no sections: take `[limits]` away"]);
}

#[test]
fn a_secret_in_the_file_is_refused_and_never_shown() {
    for text in [
        "api_key = \"secret-canary\"",
        "api-key = \"secret-canary\"",
        "apikey = 'secret-canary'",
        "password = [\"secret-canary\"]",
        "access_token = \"secret-canary\"",
        "api_key = secret-canary",
        "api_key = \"secret-canary",
        "proxy = \"http://user:secret-canary@proxy:80\"",
        "supplier = \"https://user:secret-canary@example.org\"",
    ] {
        let bench = Bench::new();
        for words in [["config", "check"], ["config", "show"]] {
            bench.file("router.toml", text);
            let mut command = bench.command(&words);
            command.args(["--config", "router.toml"]);
            let output = run(command, 2);
            let shown = format!("{}{}", stdout(&output), stderr(&output));
            assert!(!shown.contains("canary"), "{shown}");
            assert!(shown.contains("router.toml:1"), "{shown}");
        }
    }
    wrong("api_key = \"secret-canary\"", &["set ORDER_ROUTER_API_KEY", "mode 600"]);
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let bench = Bench::new();
    let key = bench.file("key", "key-canary-1");
    let mode = |mode| std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    let text = format!("{URL}api_key_file = \"key\"\n");
    refused(check(&bench, &text), &["router.toml:3: api_key_file:", "chmod 600"]);
    mode(0o600);
    run(check(&bench, &text), 0);
    let mut command = check(&bench, URL);
    command.env_remove("ORDER_ROUTER_API_KEY");
    refused(command, &["there is no key", "ORDER_ROUTER_API_KEY"]);
}

#[test]
fn a_file_that_is_none_is_refused() {
    let bench = Bench::new();
    let named = |name: &str| bench.command(&["config", "check", "--config", name]);
    refused(named("no-such.toml"), &["no-such.toml: the file of settings cannot be read"]);
    refused(named("."), &["is a directory"]);
    // The superuser can read everything but this.
    refused(named("/proc/self/mem"), &["/proc/self/mem: the file of settings cannot be read"]);
    std::fs::write(bench.path("latin.toml"), b"tries = 3\naccount = \"\xe9\"\n").unwrap();
    refused(named("latin.toml"), &["is not UTF-8 in line 2"]);
    bench.file("nonsense.toml", &"x]=[{\"".repeat(180_000));
    refused(named("nonsense.toml"), &["is longer than 65536 bytes"]);
    bench.file("short.toml", &"x]=[{\"\n".repeat(9_000));
    let output = run(named("short.toml"), 2);
    let text = stderr(&output);
    assert!(text.contains("short.toml:1: no valid TOML") && text.len() < 8_000, "{text}");
    // The other commands read it as strictly.
    let mut command = bench.command(&["orders", "list", "--config", "no-such.toml"]);
    command.args(["--data", "data"]);
    refused(command, &["no-such.toml"]);
}

#[test]
fn wrong_types_are_refused_with_what_is_wanted() {
    wrong("request_timeout = 30", &["router.toml:1: `request_timeout` wants a duration in quotes"]);
    wrong("tries = \"3\"", &["`tries` wants a whole number, without quotes, not a string"]);
    wrong("mock = \"yes\"", &["`mock` wants true or false"]);
    wrong("account = 7", &["`account` wants text in quotes, not an integer"]);
    wrong("list_query = \"a=b\"", &["`list_query` wants a list of texts"]);
    wrong("list_query = [1]", &["`list_query` wants texts alone"]);
    wrong("list_query = [\"a\"]", &["`a` is not NAME=VALUE"]);
    wrong("order_timestamps = \"iso\"", &["`iso` is none of: rfc3339"]);
    wrong("answer_bytes_max = \"1XB\"", &["not a number of bytes"]);
}

#[test]
fn negative_and_huge_values_are_refused() {
    wrong("request_timeout = \"-5s\"", &["`-5s` is not a duration"]);
    wrong("good_for = \"99999999h\"", &["`99999999h` is longer than ten years"]);
    wrong("read_timeout = \"48h\"", &["router.toml:1: read_timeout: is out of range"]);
    wrong("landing_bound = \"-1s\"", &["or write `never`"]);
    wrong("tries = 256", &["`256` is not a whole number in the range"]);
    wrong("doubts_max = -1", &["`-1` is not a whole number"]);
    wrong("doubts_max = 99999999999999999999999999", &["router.toml:1"]);
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    wrong("tries = 3\ntries = 4", &["router.toml:2: no valid TOML: duplicate key"]);
}

#[test]
fn settings_that_contradict_each_other_are_refused_where_they_stand() {
    let bound = "request_timeout = \"3s\"\nlanding_bound = \"4s\"";
    wrong(
        bound,
        &["router.toml:2: landing_bound:", "bought twice", "make the landing bound longer"],
    );
    wrong("look_again = \"9s\"\nlook_again_max = \"1s\"", &["longer than the longest"]);
    let bench = Bench::new();
    let both = ["--accept-new-account", "--adopt-unknown-orders"];
    let mut command = check(&bench, URL);
    command.args(both);
    refused(command, &["--accept-new-account: cannot be used with --adopt-unknown-orders"]);
    refused(check(&bench, "tries = 3"), &["supplier: is not set"]);
    refused(check(&bench, "supplier = \"http://example.org\""), &["router.toml:1", "https"]);
}

#[test]
fn an_answer_to_one_start_is_no_setting_that_stays() {
    wrong("accept_new_account = true", &["answers one start", "give it as a flag"]);
    let bench = Bench::new();
    let mut command = check(&bench, URL);
    command.env("ORDER_ROUTER_ADOPT_UNKNOWN_ORDERS", "true");
    refused(command, &["ORDER_ROUTER_ADOPT_UNKNOWN_ORDERS: answers one start"]);
}

#[test]
fn traps_are_warned_of_and_refuse_nothing() {
    let warned = |text: &str, expected: &str| {
        let bench = Bench::new();
        let mut command = check(&bench, text);
        command.env("HOSTNAME", "router-7f9c").env("ORDER_ROUTER_LANDINGBOUND", "1h");
        let output = run(command, 0);
        assert!(stderr(&output).contains(expected), "{expected:?}: {}", stderr(&output));
    };
    warned(URL, "warning: ORDER_ROUTER_LANDINGBOUND: is no setting, did you mean");
    let demo = format!("{URL}request_timeout = \"1s\"\nlanding_bound = \"4s\"\n");
    warned(&demo, "warning: router.toml:4: landing_bound: a bound copied from a demo?");
    warned("supplier = \"https://x.org/api\"", "router.toml:1: supplier: a wrong base path?");
    warned("supplier = \"https://x.org\"\ndata = \"here\"", "router.toml:2: data: is relative");
    let replica = "supplier = \"https://x.org\"\ndata = \"/srv/router-7f9c\"";
    warned(replica, "router.toml:2: data: two replicas with two directories?");
    warned(&format!("{URL}list_query = [\"status=paid\"]"), "a status filter hides orders");
    warned(&format!("{URL}orders_path = \"/api/orders/\""), "ends with a slash");
    warned(&format!("{URL}mock = true"), "nobody gets anything for them");
    // A file system in memory, where every Linux has one.
    if Path::new("/dev/shm").is_dir() {
        warned("supplier = \"https://x.org\"\ndata = \"/dev/shm/data\"", "data in memory");
    }
}

#[test]
fn the_page_of_settings_is_the_reference_of_the_command() {
    let bench = Bench::new();
    let reference = stdout(&run(bench.command(&["config", "reference"]), 0));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("SETTINGS.md")).unwrap();
    assert!(reference == page, "write it anew: order-router config reference > SETTINGS.md");
    let at = |text: &str| reference.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(at("## What is configured wrong first") < at("## General"));
    // Every line of settings in the README is one.
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (_, rest) = readme.split_once("## Settings\n").unwrap();
    let (_, block) = rest.split_once("```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    assert!(block.lines().count() > 2, "{block}");
    run(check(&bench, block), 0);
}
