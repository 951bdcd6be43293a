//! What was found, as a file of settings.

use std::borrow::Cow;
use std::fmt::Write;

use super::{Report, Value};
use crate::order::TagKey;
use crate::protocol::format::TimestampFormat;
use crate::supplier::ListEnvelope;
use crate::supplier::foxreload::{Paging, Settings};

impl Report {
    /// The settings that follow, as a file that can be kept; what was not found out stands in it as a
    /// comment.
    #[must_use]
    pub fn settings(&self) -> String {
        let mut text = format!("supplier = {}\n", Value::from(self.supplier.as_str()));
        for fact in &self.facts {
            let line = |text: &str| text.replace(|c: char| c.is_control(), " ");
            let note = if fact.note.is_empty() { "" } else { ": " };
            let note = format!("{note}{}", line(&fact.note));
            let _ = match &fact.found {
                Some(found) => writeln!(text, "# {}: {}{note}", fact.name, line(found)),
                None => writeln!(text, "# {} was not found out{note}", fact.name),
            };
            for setting in &fact.settings {
                let _ = writeln!(text, "{} = {}", setting.name, setting.value);
            }
        }
        text
    }

    /// A client's settings with what was found in them, for going on with the same account. A tag's key is
    /// left out: it changes what orders are.
    #[must_use]
    pub fn apply(&self, mut client: Settings) -> Settings {
        let (mut page, mut first) = (None, 1);
        for setting in self.facts.iter().flat_map(|fact| &fact.settings) {
            match (setting.name, &setting.value) {
                ("list_envelope", Value::Text(key)) if key == "-" => {
                    client.list_envelope = ListEnvelope::Bare;
                }
                ("list_envelope", Value::Text(key)) => {
                    client.list_envelope = ListEnvelope::Key(key.clone().into());
                }
                ("list_total", Value::Text(key)) => client.list_total = key.clone().into(),
                ("oldest_first", Value::Switch(oldest)) => client.newest_first = !oldest,
                ("no_echo_quantity", Value::Switch(no)) => client.echo.quantity = !no,
                ("page_limit", Value::Number(rows)) => {
                    client.page_limit = u32::try_from(*rows).unwrap_or(client.page_limit);
                }
                ("page_parameter", Value::Text(name)) => page = Some(name.clone()),
                ("first_page", Value::Number(number)) => first = *number,
                ("order_timestamps", Value::Text(word)) => {
                    client.evidence.format.timestamps = of_word(word);
                }
                _ => {}
            }
        }
        if let Some(page) = page {
            let limit: Cow<'static, str> = match &client.paging {
                Paging::Offset { limit, .. } | Paging::Page { limit, .. } => limit.clone(),
            };
            client.paging = Paging::Page { page: page.into(), limit, first };
        }
        client
    }

    /// The key of tags that was seen to be kept and shown, if one was.
    #[must_use]
    pub fn tag_key(&self) -> Option<TagKey> {
        let mut settings = self.facts.iter().flat_map(|fact| &fact.settings);
        let key = settings.find(|setting| setting.name == "tag_key")?;
        match &key.value {
            Value::Text(key) => TagKey::new(key).ok(),
            Value::Switch(_) | Value::Number(_) => None,
        }
    }
}

/// The word of the setting.
pub(super) fn word(format: TimestampFormat) -> &'static str {
    match format {
        TimestampFormat::Rfc3339 => "rfc3339",
        TimestampFormat::UtcWithoutZone => "utc-without-zone",
        TimestampFormat::UnixSeconds => "unix-seconds",
        TimestampFormat::UnixMillis => "unix-millis",
    }
}

fn of_word(text: &str) -> TimestampFormat {
    match text {
        "utc-without-zone" => TimestampFormat::UtcWithoutZone,
        "unix-seconds" => TimestampFormat::UnixSeconds,
        "unix-millis" => TimestampFormat::UnixMillis,
        _ => TimestampFormat::Rfc3339,
    }
}
