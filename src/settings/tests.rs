//! The table against what it stands for.

use std::collections::BTreeSet;

use super::*;

/// The values of everything, by the names of the fields of `Config` and of the client's settings.
fn fields(draft: &Draft) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    for text in [format!("{:#?}", draft.config(64)), format!("{:#?}", draft.client())] {
        for line in text.lines() {
            match line.strip_prefix("    ").filter(|rest| !rest.starts_with([' ', '}', ']', ')'])) {
                Some(field) => {
                    let (name, value) = field.split_once(": ").unwrap();
                    fields.push((name.to_owned(), value.to_owned()));
                }
                None => {
                    if let Some((_, value)) = fields.last_mut() {
                        value.push_str(line);
                    }
                }
            }
        }
    }
    fields
}

fn with(setting: &Setting, texts: &[&str]) -> Draft {
    let mut draft = Draft::default();
    for text in texts {
        setting.apply(&mut draft, text).unwrap_or_else(|e| panic!("{}: {e}", setting.name));
    }
    draft
}

#[test]
fn every_setting_of_the_library_is_reached() {
    let defaults = fields(&Draft::default());
    assert!(defaults.len() > 40, "{defaults:?}");
    let mut reached = BTreeSet::new();
    for setting in TABLE {
        let examples: &[&str] = match setting.kind {
            Kind::Duration | Kind::Bound => &["77ms", "77s"],
            Kind::Count | Kind::Bytes | Kind::Rate | Kind::Amount => &["7"],
            Kind::Switch => &["true"],
            Kind::Url if setting.name == "store" => &["embedded:x"],
            Kind::Url if setting.name == "gate" => continue,
            Kind::Url => &["https://example.org"],
            Kind::Word(words) => words,
            Kind::List('&') => &["a=b"],
            Kind::Text | Kind::File | Kind::List(_) => &["x"],
        };
        for example in examples {
            let changed = fields(&with(setting, &[example]));
            let pairs = changed.into_iter().zip(&defaults);
            reached.extend(pairs.filter(|(new, old)| new != *old).map(|(new, _)| new.0));
        }
    }
    // What is read from a file that is named, and what only a test can set.
    reached.extend(["root_certificates", "left_out"].map(str::to_owned));
    let missing: Vec<_> =
        defaults.iter().map(|(name, _)| name).filter(|name| !reached.contains(*name)).collect();
    assert!(missing.is_empty(), "no setting reaches {missing:?}");
}

#[test]
fn defaults_that_are_told_are_those_of_the_library() {
    let expected = fields(&Draft::default());
    for setting in TABLE {
        let Unset::Is(text) = setting.default else { continue };
        let texts: Vec<_> = match setting.kind {
            Kind::List(separator) => text.split(separator).collect(),
            _ => vec![text],
        };
        assert_eq!(fields(&with(setting, &texts)), expected, "{}", setting.name);
    }
}

#[test]
fn names_are_told_once_and_are_plain() {
    let names: BTreeSet<_> = TABLE.iter().map(|setting| setting.name).collect();
    assert_eq!(names.len(), TABLE.len());
    for name in names {
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
    }
    assert_eq!(TABLE[0].name, "data", "the commands about orders take the first");
}

#[test]
fn deep_and_odd_texts_end_in_problems() {
    let deep = "[".repeat(30_000);
    for text in [
        &*format!("a = {deep}"),
        &*format!("a{}=1", ".a".repeat(20_000)),
        "\0",
        "=",
        "[[",
        "a = \"\u{feff}",
        "rate = 0x10",
        "data = '''",
        "supplier.x = 1",
    ] {
        let problems = parse(text).expect_err(text);
        assert!(
            problems.len() <= 21 && problems.iter().all(|p| p.text.len() < 400),
            "{problems:?}"
        );
    }
    assert!(parse("").unwrap().is_empty());
}
