//! What is deliberately absent stays absent: I/O in the core, large crates in what a host embeds,
//! lost messages, commands that only the README knows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const COMMAND: &str = env!("CARGO_BIN_EXE_order-router");
const FILE_LINES_MAX: usize = 500;

/// Files over 500 lines, and why they are not split.
const LONG_FILES: &[(&str, &str)] = &[
    ("src/order.rs", "what a caller asks for: one vocabulary, each word with its parser"),
    ("src/settings/table.rs", "one table of all settings: a second list is what it prevents"),
    ("src/router.rs", "everything that a host holds, in one place"),
    ("src/protocol/lane.rs", "the transitions of one state machine, read together"),
];

/// What the core must not name: it has no clock, no chance, no thread and no I/O.
const IMPURE: &[&str] = &[
    "tokio",
    "actix",
    "async ",
    ".await",
    "Instant",
    "SystemTime",
    "Timestamp::now",
    "rand::",
    "fastrand",
    "new_v4",
    "std::fs",
    "std::io",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "println!",
    "tracing",
    "crate::actors",
    "crate::dispatch",
    "crate::router",
    "crate::runtime",
];

/// Crates that a host must not get by embedding the router.
const NOT_EMBEDDED: &[&str] = &[
    "actix-http",
    "actix-web",
    "aws-sdk-dynamodb",
    "axum",
    "clap",
    "comfy-table",
    "console",
    "csv",
    "fastrand",
    "hickory-resolver",
    "indicatif",
    "memcache",
    "mimalloc",
    "native-tls",
    "openssl-sys",
    "proptest",
    "rand",
    "rcgen",
    "redis",
    "tempfile",
    "tokio-postgres",
    "toml",
    "tracing-subscriber",
];

/// Every file below a directory of the project, by its path from the root.
fn files(dir: &str, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut left = vec![PathBuf::from(ROOT).join(dir)];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|is| is == extension) {
            let name = path.strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    assert!(!found.is_empty(), "there is no {extension} file in {dir}");
    found
}

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The lines of a source file without its comments, with their numbers.
fn code(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = source.lines().enumerate();
    lines.map(|(i, line)| (i + 1, line.split("//").next().unwrap_or_default()))
}

/// Where any of these words stands in the code of these files.
fn places(files: &[(String, String)], words: &[impl AsRef<str>]) -> Vec<String> {
    let mut places = Vec::new();
    for (name, source) in files {
        for (number, line) in code(source) {
            if let Some(word) = words.iter().find(|word| line.contains(word.as_ref())) {
                places.push(format!("{name}:{number}: {}", word.as_ref()));
            }
        }
    }
    places
}

#[test]
fn core_has_no_clock_no_chance_no_thread_and_no_io() {
    let mut core = files("src/protocol", "rs");
    core.push(("src/protocol.rs".to_owned(), text("src/protocol.rs")));
    core.retain(|(name, _)| !name.ends_with("tests.rs") && !name.contains("/tests/"));
    assert_eq!(places(&core, IMPURE), [""; 0]);
    let router = [("src/dispatch.rs".to_owned(), text("src/dispatch.rs"))];
    assert!(!places(&router, IMPURE).is_empty(), "the search finds nothing anywhere");
}

#[test]
fn no_message_is_sent_without_a_look_at_the_result_and_nothing_sleeps() {
    // Put together here, so that this file may be searched as well.
    let banned = ["do_", "flush_", "thread::"];
    let banned = [
        banned[0].to_owned() + "send",
        banned[1].to_owned() + "async(",
        banned[2].to_owned() + "sleep",
    ];
    for dir in ["src", "tests", "examples"] {
        assert_eq!(places(&files(dir, "rs"), &banned), [""; 0]);
    }
}

#[test]
fn files_are_short_or_have_a_reason() {
    let mut long = BTreeSet::new();
    for (name, source) in files("src", "rs") {
        assert!(!name.ends_with("mod.rs"), "{name}: a module's file has the module's name");
        if source.lines().count() > FILE_LINES_MAX {
            long.insert(name);
        }
    }
    let reasons: BTreeSet<_> = LONG_FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let unexplained: Vec<_> = long.difference(&reasons).collect();
    assert!(
        unexplained.is_empty(),
        "over {FILE_LINES_MAX} lines without a reason: {unexplained:?}"
    );
    let stale: Vec<_> = reasons.difference(&long).collect();
    assert!(stale.is_empty(), "short by now, take them off the list: {stale:?}");
}

/// What cargo builds of these features for a host, by name.
fn crates(features: &[&str], depth: &str) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .current_dir(ROOT)
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none"])
        .args(["--depth", depth, "--format", "{p}"])
        .args(features)
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let lines = String::from_utf8(tree.stdout).unwrap();
    lines.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
}

#[test]
fn embedded_set_has_no_command_line_no_server_and_no_test_helper() {
    let embedded = crates(&["--no-default-features"], "99");
    let found: Vec<_> = NOT_EMBEDDED.iter().filter(|name| embedded.contains(**name)).collect();
    assert!(found.is_empty(), "a host would get {found:?}");
    // hyper parses answers with it; the router's own use of it is the simulator's.
    assert!(!crates(&["--no-default-features"], "1").contains("httparse"));
    for expected in ["actix", "dashmap", "reqwest", "sled", "tokio"] {
        assert!(embedded.contains(expected), "{expected} is not even in the list: {embedded:?}");
    }
    let command = crates(&[], "99");
    for (feature, client) in [
        ("dynamodb", "aws-sdk-dynamodb"),
        ("memcached", "memcache"),
        ("postgres", "tokio-postgres"),
        ("redis", "redis"),
    ] {
        assert!(!command.contains(client), "a backend is built only where it is asked for");
        let with = crates(&["--no-default-features", "--features", feature], "99");
        assert!(with.contains(client), "{client} is not found where it is");
        // One TLS, and no client of a service that is not used.
        for absent in ["aws-config", "aws-lc-rs", "aws-sdk-sts", "openssl-sys"] {
            assert!(!with.contains(absent), "{client} brings {absent}");
        }
    }
    for expected in ["clap", "csv", "indicatif", "comfy-table", "toml"] {
        assert!(command.contains(expected), "{expected} is not found where it is");
    }
}

/// The code blocks of a page in a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut parts = page.split("\n```");
    while let Some(part) = parts.next() {
        if let Some(block) = part.strip_prefix(&format!("{language}\n")) {
            found.push(block.to_owned());
            parts.next();
        }
    }
    found
}

/// The subcommands that a page calls.
fn subcommands(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for call in ["order-router ", "cargo run --release -- "] {
        for block in blocks(page, "sh") {
            for line in block.lines().filter_map(|line| line.trim_start().strip_prefix(call)) {
                found.extend(line.split(' ').next().map(str::to_owned));
            }
        }
    }
    found
}

/// The flags that a page names in code.
fn flags(page: &str) -> BTreeSet<String> {
    let words = page.split(|c: char| c.is_whitespace() || "`|()=,".contains(c));
    let flags = words.filter(|word| word.starts_with("--") && word.len() > 3);
    flags.map(str::to_owned).collect()
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(COMMAND).args(arguments).arg("--help").output().unwrap();
    assert!(output.status.success(), "{arguments:?} has no help");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn readme_calls_only_what_the_command_has() {
    let readme = text("README.md");
    let overview = help(&[]);
    let called = subcommands(&readme);
    for expected in ["demo", "simulate", "submit"] {
        assert!(called.contains(expected), "the README shows no {expected}: {called:?}");
    }
    let mut known = overview.clone();
    for name in &called {
        let listed = overview.lines().any(|line| line.split_whitespace().next() == Some(name));
        assert!(listed, "order-router --help does not list {name}");
        known.push_str(&help(&[name]));
    }
    for name in ["backup", "compact", "restore", "migrate", "reopen"] {
        known.push_str(&help(&["store", name]));
    }
    let of_cargo = ["--release", "--features", "--all-features", "--example", "--bench"];
    for flag in flags(&readme).iter().filter(|flag| !of_cargo.contains(&flag.as_str())) {
        let listed = known.split(|c: char| c.is_whitespace() || ",[]=".contains(c));
        assert!(listed.into_iter().any(|word| word == flag), "no command has the flag {flag}");
    }
}

#[test]
fn test_command_of_the_readme_is_what_ci_runs() {
    let line = "tests/run.sh";
    let readme = text("README.md");
    assert!(blocks(&readme, "sh").iter().any(|block| block.lines().any(|l| l == line)));
    assert!(text(".ci/run").lines().any(|l| l == format!("step {line}")));
    assert!(text(line).lines().any(|l| l.starts_with("cargo test --all-features \"$@\"")));
}

#[test]
fn readme_shows_the_embed_line_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let (minor, _) = version.rsplit_once('.').unwrap();
    let line = format!("order-router = {{ version = \"{minor}\", default-features = false }}");
    assert!(text("README.md").lines().any(|l| l == line), "{line}");
    let heading = format!("## {version}");
    assert!(text("CHANGELOG.md").lines().any(|l| l.starts_with(&heading)), "{heading}");
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    // Put together here, so that this file may be searched as well.
    let roots = ["work", "root", "home", "Users", "tmp/wt"].map(|dir| format!("/{dir}/"));
    let mut all = Vec::new();
    for dir in ["src", "tests", "examples", "benches"] {
        all.extend(files(dir, "rs"));
    }
    for name in [
        ".ci/run",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.toml",
        "README.md",
        "clippy.toml",
        "deny.toml",
        "justfile",
    ] {
        all.push((name.to_owned(), text(name)));
    }
    for (name, source) in all {
        for (number, line) in (1..).zip(source.lines()) {
            let found = roots.iter().find(|root| line.contains(root.as_str()));
            assert!(found.is_none(), "{name}:{number} names {found:?}");
        }
    }
}

#[test]
fn no_command_panics_when_its_reader_has_gone() {
    let mut commands = files("src/commands", "rs");
    commands.push(("src/commands.rs".to_owned(), text("src/commands.rs")));
    assert_eq!(places(&commands, &["println!(", "print!("]), [""; 0]);
}
