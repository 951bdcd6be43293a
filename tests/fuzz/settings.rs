//! Settings: the file of TOML, and what its settings add up to.

use std::collections::BTreeSet;
use std::time::Duration;

use order_router::settings::{Entry, Kind, Loaded, Places, Problem, Setting, TABLE, load, parse};
use order_router::supplier::foxreload::Paging;
use reqwest::Url;
use toml::de::DeTable;

use super::dice::{Dice, SECRET};

/// Keys that are named like a secret, as people write them.
const SECRET_NAMES: [&str; 8] = [
    "api_key",
    "API-KEY",
    "token",
    "my_secret",
    "passwd",
    "\"bearer\"",
    "credentials",
    "supplier_key",
];

const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

const SPANS: [&str; 16] = [
    "0", "0s", "1us", "1ms", "2ms", "300ms", "1.5s", "10s", "59s", "1m", "15m", "1h", "9years",
    "87601h", "-5s", "never",
];

/// What URLs are made of, also by those who mean another host than the reader sees.
const SCHEMES: [&str; 6] = ["https://", "http://", "HTTPS:\\\\", "https:/\\", "https:", "ftp://"];

const HOSTS: [&str; 8] = [
    "shop.example",
    "localhost",
    "127.0.0.1",
    "127.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "LOCALHOST",
    "u:p@shop.example",
];

const REST: [&str; 8] =
    ["", ":80", "/", "/x://localhost", "\\@127.0.0.1", "/api?x", "#localhost", ":x://[::1]"];

/// One line of a file of settings.
struct Line {
    key: String,
    value: String,
    /// What has to be read; `None` where the line has to be refused.
    read: Option<(&'static Setting, Vec<String>)>,
}

/// What is written is read, and whatever else a text is, it ends in settings that hold together or
/// in problems that betray nothing.
#[test]
fn settings_come_back_and_what_they_add_up_to_keeps_its_bounds() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut dice = Dice(input);
        let lines = lines(&mut dice);
        let (text, at) = written(&mut dice, &lines);
        match told(&text) {
            Ok(entries) => {
                let read = entries.iter().map(|e| (e.line, e.setting.name, &e.texts));
                let wanted = lines.iter().zip(&at).map(|(line, at)| match &line.read {
                    Some((setting, texts)) => (*at, setting.name, texts),
                    None => panic!("line {at} was taken: {text}"),
                });
                assert!(read.eq(wanted), "other settings than were written: {text}");
            }
            Err(problems) => {
                let bad: Vec<_> = lines.iter().zip(&at).filter(|(l, _)| l.read.is_none()).collect();
                assert!(!bad.is_empty(), "refused: {problems:?} {text}");
                for (_, at) in bad.iter().take(20) {
                    assert!(problems.iter().any(|p| p.line == **at), "line {at}: {problems:?}");
                }
            }
        }
        let _ = told(&damaged(&mut dice, text));
        let _ = told(&String::from_utf8_lossy(dice.rest()));
    });
}

fn lines(dice: &mut Dice<'_>) -> Vec<Line> {
    let supplier = Setting::find("supplier").expect("is one");
    let mut taken = BTreeSet::new();
    let mut lines = dice.some(12, |dice| {
        let setting = &TABLE[dice.below(TABLE.len())];
        let setting = if dice.one_in(8) { supplier } else { setting };
        match dice.below(24) {
            0 => refused(dice.of(&SECRET_NAMES), quoted(dice, SECRET)),
            1 => refused("proxy", quoted(dice, &format!("http://u:{SECRET}@h:1"))),
            2 => refused(&format!("un{}", setting.name), "1".to_owned()),
            3 => refused(
                setting.name,
                dice.of(&["{}", "1979-05-27", "{ a = 1 }", "[[1]]"]).to_owned(),
            ),
            4 => refused(setting.name, wrong(setting.kind).to_owned()),
            _ => known(dice, setting),
        }
    });
    // A key twice is no TOML, and what is wrong then is told of the second alone.
    lines.retain(|line| taken.insert(line.key.trim_matches('"').to_owned()));
    lines
}

fn refused(key: &str, value: String) -> Line {
    Line { key: key.to_owned(), value, read: None }
}

fn wrong(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch | Kind::Count | Kind::List(_) => "\"true\"",
        Kind::Bytes | Kind::Rate => "1.5",
        _ => "true",
    }
}

fn known(dice: &mut Dice<'_>, setting: &'static Setting) -> Line {
    let number = |dice: &mut Dice<'_>| (dice.number() >> 1).to_string();
    let text = match setting.kind {
        Kind::Duration | Kind::Bound => dice.of(&SPANS).to_owned(),
        Kind::Count => number(dice),
        Kind::Bytes if dice.one_in(2) => number(dice),
        Kind::Rate if dice.one_in(2) => number(dice),
        Kind::Bytes => number(dice) + dice.of(&["", "KiB", "MiB", "GiB", "kb"]),
        Kind::Rate => number(dice) + dice.of(&["", "/min", "/s"]),
        Kind::Switch => dice.of(&["true", "false"]).to_owned(),
        Kind::Word(words) if !dice.one_in(4) => dice.of(words).to_owned(),
        Kind::Url if dice.one_in(2) => "https://shop.example/api".to_owned(),
        Kind::Url => [dice.of(&SCHEMES), dice.of(&HOSTS), dice.of(&REST)].concat(),
        _ if dice.one_in(3) => dice.of(&["/a", "/a/{id}", "a=b", "x", "-"]).to_owned(),
        _ => dice.text(0),
    };
    let (value, texts) = match setting.kind {
        Kind::List(_) => {
            let texts = dice.some(3, |dice| format!("{text}{}", dice.of(&["", "=1", "x"])));
            let rows: Vec<_> = texts.iter().map(|text| quoted(dice, text)).collect();
            (format!("[{}]", rows.join(dice.of(&[",", " , ", ",\n"]))), texts)
        }
        Kind::Count | Kind::Switch => (text.clone(), vec![text]),
        Kind::Bytes | Kind::Rate if text.bytes().all(|b| b.is_ascii_digit()) && dice.one_in(2) => {
            (text.clone(), vec![text])
        }
        _ => (quoted(dice, &text), vec![text]),
    };
    let is_taken = setting.places == Places::All
        && !(setting.secret && texts.iter().any(|text| text.contains('@')));
    Line { key: setting.name.to_owned(), value, read: is_taken.then_some((setting, texts)) }
}

/// A text of TOML, in one of its spellings.
fn quoted(dice: &mut Dice<'_>, text: &str) -> String {
    if dice.one_in(2) && !text.contains('\'') && !text.chars().any(char::is_control) {
        return format!("'{text}'");
    }
    let mut quoted = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            _ if char.is_control() || dice.one_in(16) => {
                quoted.push_str(&format!("\\U{:08x}", u32::from(char)));
            }
            _ => quoted.push(char),
        }
    }
    quoted + "\""
}

/// The text of these lines, and the number of each.
fn written(dice: &mut Dice<'_>, lines: &[Line]) -> (String, Vec<usize>) {
    let (mut text, mut at) = (String::new(), Vec::new());
    for line in lines {
        let before = dice.of(&["", "", "# a note\n", "\n", "\r\n", "#S3CR3T-CODE\n", "  ", "\t"]);
        text.push_str(before);
        at.push(1 + text.matches('\n').count());
        text.push_str(&line.key);
        text.push_str(dice.of(&[" = ", "=", "\t=  "]));
        text.push_str(&line.value);
        text.push_str(dice.of(&["\n", "\n", "\r\n", " # \"\n"]));
    }
    (text, at)
}

/// The same text, damaged and cut; still UTF-8.
fn damaged(dice: &mut Dice<'_>, text: String) -> String {
    let mut bytes = text.into_bytes();
    if !bytes.is_empty() {
        dice.damage(&mut bytes);
        let (at, more) = (dice.below(bytes.len()), dice.bytes(16));
        bytes.splice(at..at, more.iter().copied());
        let cut = dice.below(bytes.len()) + 1;
        bytes.truncate(if dice.one_in(2) { cut } else { bytes.len() });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads a text. Whatever holds of every text is asked here.
fn told(text: &str) -> Result<Vec<Entry>, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let ends = 1 + text.matches('\n').count();
    let read = parse(text);
    match &read {
        Ok(entries) => {
            assert!(errors.is_empty(), "no TOML was taken");
            assert_eq!(entries.len(), table.get_ref().len(), "a key passed over");
            assert!(entries.windows(2).all(|two| two[0].line <= two[1].line));
            for Entry { setting, texts, line } in entries {
                assert_eq!(setting.places, Places::All, "{}", setting.name);
                assert!(table.get_ref().contains_key(setting.name), "{}", setting.name);
                assert!((1..=ends).contains(line));
                assert!(texts.len() == 1 || matches!(setting.kind, Kind::List(_)));
                assert!(!setting.secret || texts.iter().all(|text| !text.contains('@')));
            }
            added_up(entries);
        }
        Err(problems) => {
            assert!((1..=21).contains(&problems.len()), "{} problems", problems.len());
            let is_key = table.get_ref().keys().any(|key| key.get_ref().contains(SECRET));
            assert!(problems.iter().all(|problem| problem.line <= ends));
            short_and_silent(problems, is_key);
        }
    }
    read
}

fn short_and_silent(problems: &[Problem], may_tell: bool) {
    for problem in problems {
        let text = problem.to_string();
        assert!(text.len() < 500 && !text.chars().any(char::is_control), "{text:?}");
        assert!(may_tell || !text.contains(SECRET), "{text}");
    }
}

/// What the documentation of each setting says that holds of what is taken.
fn added_up(entries: &[Entry]) {
    let flags = || entries.iter().map(|entry| (entry.setting, entry.texts.clone())).collect();
    let given = |name: &str| entries.iter().find(|entry| entry.setting.name == name);
    let is_open = |entry: &&Entry| !entry.setting.secret && entry.setting.name != "supplier";
    let mut open = entries.iter().filter(is_open).flat_map(|entry| &entry.texts);
    let may_tell = open.any(|text| text.contains(SECRET));
    let loaded = match load(flags(), &|_| None, None) {
        Ok(loaded) => loaded,
        Err(problems) => return short_and_silent(&problems, may_tell),
    };
    let shown = loaded.show();
    assert!(shown.iter().map(|row| row.0).eq(TABLE.iter().map(|setting| setting.name)));
    for (name, value, origin) in &shown {
        assert!(!value.contains(['\n', '\r']), "{name}");
        assert!(may_tell || !value.contains(SECRET), "{name}: {value}");
        assert_eq!(origin.starts_with("flag"), given(name).is_some(), "{name}: {origin}");
    }
    limits(&loaded);
    // A file of certificates would be read.
    if given("root_certificates").is_none() {
        client(&loaded);
    }
}

fn limits(loaded: &Loaded) {
    for posts in [1, 64, 10_000] {
        loaded.config(posts).check().expect("a router would refuse it");
    }
    let shown = loaded.show();
    let value = |name: &str| &*shown.iter().find(|row| row.0 == name).expect("is shown").1;
    let span = |name: &str| span(value(name));
    let timeout = loaded.request_timeout();
    assert_eq!(span("request_timeout"), timeout);
    assert!(value("landing_bound") == "never" || span("landing_bound") >= timeout * 2);
    assert!(span("look_again") <= span("look_again_max"));
    assert!(!timeout.is_zero() && !span("send_window").is_zero());
    for name in ["posts_max", "lane_posts_max", "doubts_max", "shards", "tries"] {
        assert!(!value(name).bytes().all(|digit| digit == b'0'), "{name} is 0");
    }
    for setting in TABLE.iter().filter(|setting| setting.kind == Kind::Duration) {
        // A default that depends on others is told in words, with a duration at its beginning.
        let text = value(setting.name);
        assert!(text.contains(' ') || self::span(text) <= TEN_YEARS, "{}", setting.name);
    }
}

fn span(text: &str) -> Duration {
    let span: jiff::SignedDuration = match text {
        "0" => jiff::SignedDuration::ZERO,
        _ => text.parse().unwrap_or_else(|_| panic!("{text} is no duration")),
    };
    Duration::try_from(span).expect("not negative")
}

fn client(loaded: &Loaded) {
    let client = loaded.client().expect("no file is named");
    let timeout = loaded.request_timeout();
    let millisecond = Duration::from_millis(1);
    for span in [client.connect_timeout, client.wire_bound, client.read_timeout] {
        assert!(span >= millisecond, "{span:?}");
    }
    assert!(client.wire_bound <= timeout);
    assert!(client.page_limit > 0 && client.answer_bytes_max > 0 && client.page_bytes_max > 0);
    assert!(client.orders_path.starts_with('/') && !client.orders_path.contains("{id}"));
    assert!(client.order_path.starts_with('/') && client.order_path.contains("{id}"));
    assert!(!client.evidence.format.product.is_empty(), "an order without a product");
    if let Paging::Offset { offset, limit } = &client.paging {
        assert!(!offset.is_empty() && !limit.is_empty());
    }
    let url = Url::parse(loaded.base_url()).expect("a URL");
    let host = url.host_str().expect("of a host").trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    assert_eq!(loaded.is_loopback(), is_here, "whose machine is {url}?");
    assert!(url.scheme() == "https" || client.allow_http || is_here, "the key over http: {url}");
    assert!(url.username().is_empty() && url.password().is_none(), "a password in the URL");
}
