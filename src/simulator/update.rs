//! Reads and writes the values of `POST /admin/faults` and of the flags.

use std::time::Duration;

use serde::Serializer;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::LatencyShape;

/// Reads a duration such as `300ms`, `1.5s` or `15m`; `0` needs no unit.
///
/// # Errors
/// When the text is no duration or a negative one; the message says what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let expected = || format!("`{text}` is not a duration such as 300ms, 1.5s, 15m or 1h");
    let signed: jiff::SignedDuration = text.parse().map_err(|_| expected())?;
    Duration::try_from(signed).map_err(|_| expected())
}

/// A setting that an update can change.
pub(super) trait Setting: Sized {
    /// Reads the value, or says why it cannot be one.
    fn read(value: &Value) -> Result<Self, String>;
}

impl Setting for Duration {
    fn read(value: &Value) -> Result<Self, String> {
        match value.as_str() {
            Some(text) => parse_duration(text),
            None => Err("must be a string, a duration such as \"300ms\"".to_owned()),
        }
    }
}

impl Setting for bool {
    fn read(value: &Value) -> Result<Self, String> {
        plain(value)
    }
}

impl Setting for LatencyShape {
    fn read(value: &Value) -> Result<Self, String> {
        plain(value)
    }
}

/// A number; whether it is a probability, the check of the whole set says.
pub(super) fn probability(value: &Value) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| "must be a number between 0 and 1".to_owned())
}

/// Any value that serde can read as it is.
pub(super) fn plain<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| error.to_string())
}

/// Writes a duration so that [`parse_duration`] reads the same one.
pub(super) fn write_duration<S: Serializer>(d: &Duration, to: S) -> Result<S::Ok, S::Error> {
    match jiff::SignedDuration::try_from(*d) {
        Ok(signed) => to.collect_str(&format_args!("{signed:#}")),
        Err(error) => Err(serde::ser::Error::custom(error)),
    }
}
