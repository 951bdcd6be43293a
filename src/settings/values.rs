//! How people write values: the same in the file, in the environment and as flags.

use std::time::Duration;

use crate::money::Currency;
use crate::order::Price;
use crate::simulator::parse_duration;

/// Nothing that the router waits for is longer: ten years.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A value as it is shown in an error: short, and on one line.
pub(super) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text)
        .map_err(|_| format!("{} is not a duration such as 300ms, 1.5s, 15m or 1h", shown(text)))?;
    if span > DURATION_MAX {
        return Err(format!("{} is longer than ten years", shown(text)));
    }
    Ok(span)
}

pub(super) fn bound(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "never" => Ok(None),
        _ => duration(text).map(Some).map_err(|error| format!("{error}; or write `never`")),
    }
}

pub(super) fn count<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    let wanted = || format!("{} is not a whole number in the range of this setting", shown(text));
    text.parse().map_err(|_| wanted())
}

pub(super) fn bytes(text: &str) -> Result<usize, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1_usize << 30)];
    let unit = units.iter().find_map(|(name, size)| Some((text.strip_suffix(name)?, *size)));
    let (number, size) = unit.unwrap_or((text, 1));
    let number: Option<usize> = number.trim().parse().ok();
    number.and_then(|number| number.checked_mul(size)).ok_or_else(|| {
        format!("{} is not a number of bytes such as 65536, 64KiB or 16MiB", shown(text))
    })
}

pub(super) fn amount(text: &str) -> Result<Price, String> {
    text.parse().map_err(|_| format!("{} is not an amount of money such as 99.90", shown(text)))
}

pub(super) fn currency(text: &str) -> Result<Currency, String> {
    Currency::new(text).ok_or_else(|| format!("{} is not a currency such as USD", shown(text)))
}

pub(super) fn rate(text: &str) -> Result<Option<u32>, String> {
    let number = text.strip_suffix("/min").unwrap_or(text);
    let rate: Option<u32> = number.parse().ok().filter(|n| *n > 0);
    rate.map(Some).ok_or_else(|| format!("{} is not a rate such as 60 or 60/min", shown(text)))
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{} is neither true nor false", shown(text))),
    }
}

/// `NAME=VALUE`
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{} is not NAME=VALUE", shown(text))),
    }
}

/// One of these words.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("{} is none of: {}", shown(text), all.join(", "))
    })
}

/// The nearest of these names, if one is near.
pub(super) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    if name.chars().count() > 64 {
        return None;
    }
    let best = names.into_iter().map(|known| (distance(&name, known), known)).min()?;
    (best.0 <= (name.chars().count() / 3).max(2)).then_some(best.1)
}

/// How many characters have to be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(bound("never"), Ok(None));
        assert_eq!(bound("15m"), Ok(Some(Duration::from_secs(900))));
        assert_eq!((rate("60"), rate("1000/min")), (Ok(Some(60)), Ok(Some(1000))));
        assert_eq!((bytes("16MiB"), bytes("7")), (Ok(16 << 20), Ok(7)));
        assert_eq!(pair("sort=-id"), Ok(("sort".to_owned(), "-id".to_owned())));
    }

    #[test]
    fn negative_and_huge_values_are_refused() {
        for text in ["-5s", "-1h", "99999999999h", "1e9", "", "15", "999999999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["0", "60/s", "-1", "4294967296"] {
            assert!(rate(text).is_err(), "{text}");
        }
        assert!(bytes("99999999999GiB").is_err() && bytes("-1").is_err());
        assert!(count::<u8>("256").is_err() && count::<usize>("-1").is_err());
        assert!(pair("=x").is_err() && pair("x").is_err());
    }

    #[test]
    fn a_near_name_is_found_and_a_far_one_is_not() {
        let names = ["landing_bound", "request_timeout", "rate"];
        assert_eq!(nearest("landing-bound", names), Some("landing_bound"));
        assert_eq!(nearest("request_time_out", names), Some("request_timeout"));
        assert_eq!(nearest("colour_of_the_sky", names), None);
        assert_eq!(nearest(&"x".repeat(100_000), names), None);
    }
}
