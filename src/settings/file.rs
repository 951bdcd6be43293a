//! Reads the file of settings.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::values::{nearest, shown};
use super::{Kind, Places, Problem, Setting, TABLE};

/// Longest file of settings, in bytes.
pub const FILE_BYTES_MAX: usize = 64 * 1024;

/// Most problems that are told of one file.
const PROBLEMS_MAX: usize = 20;

/// One setting of a file.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which.
    pub setting: &'static Setting,
    /// Its value as text: one, or several for a list.
    pub texts: Vec<String>,
    /// Its line, counted from 1.
    pub line: usize,
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}

/// Reads settings as TOML: `name = value`, a line each, without sections.
///
/// # Errors
/// Everything that is wrong, with its line: at most 20 problems, and how many more there are.
/// Values of keys that are named like a secret are in none of them, nor are lines of the text.
pub fn parse(text: &str) -> Result<Vec<Entry>, Vec<Problem>> {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = errors
        .iter()
        .map(|error| {
            let line = error.span().map_or(0, |span| lines.at(span.start));
            problem(line, format!("no valid TOML: {}", error.message()))
        })
        .collect();
    // What a parser makes of a broken text is no list of settings.
    let is_whole = problems.is_empty();
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let line = lines.at(key.span().start);
        match entry(key.get_ref(), value.get_ref(), line) {
            Ok(entry) => entries.push(entry),
            Err(text) if is_whole || is_secret(key.get_ref()) => problems.push(problem(line, text)),
            Err(_) => {}
        }
    }
    if problems.is_empty() {
        entries.sort_by_key(|entry| entry.line);
        return Ok(entries);
    }
    problems.sort_by(|a, b| (a.line, &a.text).cmp(&(b.line, &b.text)));
    problems.dedup();
    if let Some(more) = problems.len().checked_sub(PROBLEMS_MAX).filter(|more| *more > 0) {
        problems.truncate(PROBLEMS_MAX);
        problems.push(problem(0, format!("and {more} more")));
    }
    Err(problems)
}

fn problem(line: usize, text: String) -> Problem {
    Problem { line, place: String::new(), text }
}

/// A key that is named like a secret.
fn is_secret(key: &str) -> bool {
    let known = Setting::find(key);
    let name = key.to_ascii_lowercase();
    let words = ["key", "secret", "token", "passw", "credential", "authorization", "bearer"];
    match known {
        Some(setting) => setting.places == Places::Environment,
        None => words.iter().any(|word| name.contains(word)),
    }
}

fn entry(key: &str, value: &DeValue<'_>, line: usize) -> Result<Entry, String> {
    if let DeValue::Table(_) = value
        && Setting::find(key).is_none()
    {
        return Err(format!(
            "there are no sections: take {} away and write each setting as `name = value`",
            shown(&format!("[{key}]"))
        ));
    }
    // A name that is a typing error away from a setting that is no secret is that.
    let near = nearest(key, TABLE.iter().filter(|s| s.places == Places::All).map(|s| s.name));
    if is_secret(key) {
        return Err(format!(
            "{} is named like a secret, and a secret does not belong here: set \
             ORDER_ROUTER_API_KEY, or name a file of mode 600 with api_key_file",
            shown(key)
        ));
    }
    match Setting::find(key) {
        None => Err(match near {
            Some(near) => format!("there is no setting {}: did you mean `{near}`?", shown(key)),
            None => format!(
                "there is no setting {}; `order-router config reference` lists them",
                shown(key)
            ),
        }),
        Some(Setting { places: Places::Flag, .. }) => Err(format!(
            "`{key}` answers one start; in a file it would answer every start, also the one \
             after a volume was lost: give it as a flag, once"
        )),
        Some(setting) => {
            let texts = texts(setting, value)?;
            if setting.secret && texts.iter().any(|text| text.contains('@')) {
                return Err(format!(
                    "`{key}` has a password in it, and a secret does not belong here: set {}",
                    setting.variable()
                ));
            }
            Ok(Entry { setting, texts, line })
        }
    }
}

/// The value as one would write it as a flag.
fn texts(setting: &Setting, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let wrong = |wanted: &str| {
        Err(format!("`{}` wants {wanted}, not {}", setting.name, article(value.type_str())))
    };
    let one = match (setting.kind, value) {
        (Kind::List(_), DeValue::Array(rows)) => {
            let texts = rows.iter().map(|row| row.get_ref().as_str().map(str::to_owned));
            return match texts.collect::<Option<Vec<_>>>() {
                Some(texts) => Ok(texts),
                None => wrong("texts alone in its list"),
            };
        }
        (Kind::List(_), _) => return wrong("a list of texts, such as [\"a\", \"b\"]"),
        (Kind::Switch, DeValue::Boolean(is)) => is.to_string(),
        (Kind::Switch, _) => return wrong("true or false, without quotes"),
        (Kind::Count | Kind::Bytes | Kind::Rate | Kind::Amount, DeValue::Integer(number)) => {
            match number.radix() {
                10 => number.as_str().to_owned(),
                _ => return wrong("a decimal number"),
            }
        }
        (Kind::Count, _) => return wrong("a whole number, without quotes"),
        (_, DeValue::String(text)) => text.to_string(),
        (Kind::Bytes, _) => return wrong("a number of bytes, such as 65536 or \"64KiB\""),
        (Kind::Rate, _) => return wrong("a rate, such as 60 or \"60/min\""),
        // Money is never a float.
        (Kind::Amount, _) => return wrong("an amount in quotes, such as \"99.90\""),
        (Kind::Duration, _) => return wrong("a duration in quotes, such as \"15m\""),
        (Kind::Bound, _) => return wrong("a duration in quotes, such as \"15m\", or \"never\""),
        (Kind::Text | Kind::File | Kind::Url | Kind::Word(_), _) => return wrong("text in quotes"),
    };
    Ok(vec![one])
}

fn article(name: &str) -> String {
    match name.starts_with(['a', 'e', 'i', 'o']) {
        true => format!("an {name}"),
        false => format!("a {name}"),
    }
}

/// Reads a file of settings.
///
/// # Errors
/// As [`parse`], and that it cannot be read, is too long or is not UTF-8.
pub fn read(path: &Path) -> Result<Vec<Entry>, Vec<Problem>> {
    let place = path.display().to_string();
    let whole = |text: String| vec![Problem { line: 0, place: place.clone(), text }];
    let io = |error: std::io::Error| whole(format!("the file of settings cannot be read: {error}"));
    if path.is_dir() {
        return Err(whole("is a directory; name the file of settings in it".to_owned()));
    }
    let mut bytes = Vec::new();
    let limit = FILE_BYTES_MAX as u64 + 1;
    File::open(path).map_err(io)?.take(limit).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(whole(format!("is longer than {FILE_BYTES_MAX} bytes: no file of settings")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count();
        whole(format!("is not UTF-8 in line {line}; write it as UTF-8 text"))
    })?;
    parse(&text).map_err(|problems| {
        problems.into_iter().map(|problem| Problem { place: place.clone(), ..problem }).collect()
    })
}
