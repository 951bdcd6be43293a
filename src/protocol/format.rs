//! How the supplier writes an order down, and the one strict reader of it: for the answer to a
//! POST, for a row of the list and for a single order alike.
//!
//! Objects with a key twice are not read: which of the two is meant cannot be known.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::money::{Amount, Cost, Currency};
use crate::order::{EchoProfile, EchoedItem, Note, OrderId, Tag, TagKey};

/// How the supplier writes moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampFormat {
    /// RFC 3339 with a zone or an offset, `2026-01-31T12:00:00.123Z`. The default. A moment
    /// without a zone is not understood: guessing one would move orders by hours.
    #[default]
    Rfc3339,
    /// RFC 3339 without a zone, known to mean UTC.
    UtcWithoutZone,
    /// Whole seconds since 1970, as a number or a string of digits.
    UnixSeconds,
    /// Whole milliseconds since 1970, as a number or a string of digits.
    UnixMillis,
}

/// How the supplier writes an order: the names of the fields that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderFormat {
    /// The key that holds the order in the answer to a POST and to a GET of one order.
    /// Default: none, the answer is the order.
    pub envelope: Option<Cow<'static, str>>,
    /// The id: a string, or a whole number taken by its digits. Default: `id`.
    pub id: Cow<'static, str>,
    /// The state, a string. Default: `status`.
    pub status: Cow<'static, str>,
    /// Why an order was cancelled, a string. Default: `cancelReason`.
    pub cancel_reason: Cow<'static, str>,
    /// The moment of creation. Default: `createdAt`.
    pub created_at: Cow<'static, str>,
    /// How moments are written. Default: RFC 3339 with a zone.
    pub timestamps: TimestampFormat,
    /// What the whole order cost, a number or a string: keys joined by a dot. Default: none, nobody
    /// documents one; what an order cost is then known by its price guards alone.
    pub total: Option<Cow<'static, str>>,
    /// The currency of that: keys joined by a dot. Default: none.
    pub currency: Option<Cow<'static, str>>,
    /// The lines, an array of objects. Default: `items`.
    pub items: Cow<'static, str>,
    /// Where a line names its product: paths of keys, joined by a dot. All that are present must
    /// say the same. Default: `product.id` and `itemId`.
    pub product: Vec<Cow<'static, str>>,
    /// The quantity of a line: a whole number, also as `"1"` or `1.0`. Default: `quantity`.
    pub quantity: Cow<'static, str>,
    /// The note of a line, an object. Default: `note`.
    pub note: Cow<'static, str>,
}

impl Default for OrderFormat {
    fn default() -> Self {
        Self {
            envelope: None,
            id: "id".into(),
            status: "status".into(),
            cancel_reason: "cancelReason".into(),
            created_at: "createdAt".into(),
            timestamps: TimestampFormat::default(),
            total: None,
            currency: None,
            items: "items".into(),
            product: vec!["product.id".into(), "itemId".into()],
            quantity: "quantity".into(),
            note: "note".into(),
        }
    }
}

/// What an order says of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lines {
    /// Nothing: there is no such field, or it is null.
    NotShown,
    /// Something that could not be read.
    Unreadable,
    /// These.
    Shown(Vec<EchoedItem>),
}

/// A JSON object whose values are still text. Borrowed; refuses a key that comes twice.
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads an object; `None` if the bytes are anything else, or not JSON to the last byte.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The value of a key, unless it is missing or null.
    pub(crate) fn value(&self, key: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().find(|(name, _)| name == key).map(|(_, value)| *value);
        found.filter(|value| value.get() != "null")
    }

    /// The value at a path of keys joined by dots.
    pub(crate) fn at_path(&self, path: &str) -> Option<&'a RawValue> {
        match path.split_once('.') {
            None => self.value(path),
            Some((key, rest)) => Self::of(self.value(key)?)?.at_path(rest),
        }
    }

    /// Reads a value as an object.
    pub(crate) fn of(value: &'a RawValue) -> Option<Self> {
        Self::read(value.get().as_bytes())
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut entries: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(12);
        while let Some(Key(key)) = map.next_key()? {
            let value = map.next_value()?;
            if entries.iter().any(|(name, _)| *name == key) {
                return Err(serde::de::Error::custom("a key comes twice"));
            }
            if entries.len() == KEYS_MAX {
                return Err(serde::de::Error::custom("too many keys"));
            }
            entries.push((key, value));
        }
        Ok(Object(entries))
    }
}

/// Most keys of one object: far over what any supplier sends, and low enough that looking for a
/// key twice stays cheap.
const KEYS_MAX: usize = 512;

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// A key, borrowed where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// A JSON string; `None` for anything else.
pub(crate) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str::<String>(text).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// A string, or a whole number by its digits.
fn name(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get();
    match text.bytes().all(|b| b.is_ascii_digit()) {
        true => Some(Cow::Borrowed(text)),
        false => string(value),
    }
}

/// A whole number from 1, written as `1`, `1.0`, `"1"` or `"1.0"`.
fn quantity(value: &RawValue) -> Option<u32> {
    let text = name_or_number(value)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
    let digits = !whole.is_empty() && whole.bytes().all(|b| b.is_ascii_digit());
    let no_fraction = !fraction.is_empty() && fraction.bytes().all(|b| b == b'0');
    if !digits || !no_fraction {
        return None;
    }
    whole.parse().ok().filter(|quantity| *quantity > 0)
}

/// An amount, exact, as a number or as a string.
pub(crate) fn amount(value: &RawValue) -> Option<Amount> {
    match string(value) {
        Some(text) => text.parse().ok(),
        None => Amount::of_number(value.get()),
    }
}

fn name_or_number(value: &RawValue) -> Option<Cow<'_, str>> {
    string(value).or_else(|| {
        value.get().starts_with(|c: char| c.is_ascii_digit()).then(|| Cow::Borrowed(value.get()))
    })
}

impl TimestampFormat {
    fn read(self, value: &RawValue) -> Option<Timestamp> {
        match self {
            Self::Rfc3339 => string(value)?.parse().ok(),
            Self::UtcWithoutZone => {
                let civil: jiff::civil::DateTime = string(value)?.parse().ok()?;
                civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
            }
            Self::UnixSeconds => Timestamp::from_second(whole(value)?).ok(),
            Self::UnixMillis => Timestamp::from_millisecond(whole(value)?).ok(),
        }
    }
}

fn whole(value: &RawValue) -> Option<i64> {
    let text = name_or_number(value)?;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl OrderFormat {
    /// The order in the answer to a POST or to a GET of one order.
    pub(crate) fn open<'a>(&self, body: &'a [u8]) -> Option<Object<'a>> {
        let object = Object::read(body)?;
        match &self.envelope {
            None => Some(object),
            Some(key) => Object::of(object.value(key)?),
        }
    }

    /// Its id.
    pub(crate) fn id_of(&self, order: &Object<'_>) -> Option<OrderId> {
        OrderId::new(name(order.value(&self.id)?)?)
    }

    /// Its state.
    pub(crate) fn status_of(&self, order: &Object<'_>) -> Option<String> {
        string(order.value(&self.status)?).map(Cow::into_owned).filter(|s| !s.is_empty())
    }

    /// Why it was cancelled: a word of at most 64 letters, digits and underscores.
    pub(crate) fn cancel_reason_of(&self, order: &Object<'_>) -> Option<crate::protocol::Why> {
        let word = string(order.value(&self.cancel_reason)?)?;
        let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (plain && !word.is_empty() && word.len() <= 64).then(|| word.into_owned().into())
    }

    /// When it was created.
    pub(crate) fn created_at_of(&self, order: &Object<'_>) -> Option<Timestamp> {
        self.timestamps.read(order.value(&self.created_at)?)
    }

    /// What it cost, where it says so in a way that can be read.
    pub(crate) fn cost_of(&self, order: &Object<'_>) -> Option<Cost> {
        let amount = amount(order.at_path(self.total.as_deref()?)?)?;
        let currency = self.currency.as_deref().and_then(|path| order.at_path(path));
        Some(Cost { amount, currency: currency.and_then(string).and_then(Currency::new) })
    }

    /// Its lines, as far as the profile promises their fields. Notes are not looked at where the
    /// profile does not promise them: what nobody compares need not be readable.
    pub(crate) fn lines_of(&self, order: &Object<'_>, echo: EchoProfile) -> Lines {
        let Some(value) = order.value(&self.items) else {
            return Lines::NotShown;
        };
        let Ok(lines) = serde_json::from_str::<Vec<Object<'_>>>(value.get()) else {
            return Lines::Unreadable;
        };
        match lines.iter().map(|line| self.line(line, echo)).collect::<Option<Vec<_>>>() {
            Some(lines) if !lines.is_empty() => Lines::Shown(lines),
            Some(_) | None => Lines::Unreadable,
        }
    }

    fn line(&self, line: &Object<'_>, echo: EchoProfile) -> Option<EchoedItem> {
        let mut products = self.product.iter().filter_map(|path| line.at_path(path)).map(name);
        let id = products.next()??;
        if !products.all(|other| other.as_ref() == Some(&id)) || id.is_empty() {
            return None;
        }
        let quantity = match line.value(&self.quantity).filter(|_| echo.quantity) {
            Some(value) => Some(quantity(value)?),
            None => None,
        };
        let note = match (line.value(&self.note), echo.note, echo.tag) {
            // Some suppliers show an empty object where none was sent.
            (Some(value), true, _) => note(value)?,
            // Of a note that nobody compares, the tag alone.
            (Some(value), false, Some(key)) => tag(value, key).map(|tag| key.alone(tag)),
            (Some(_), false, None) | (None, ..) => None,
        };
        Some(EchoedItem { id: id.into_owned(), quantity, note })
    }
}

/// The tag in a note, if it has one and is read without a doubt.
fn tag(value: &RawValue, key: TagKey) -> Option<Tag> {
    Tag::parse(&string(Object::of(value)?.value(key.as_str())?)?)
}

/// A note in canonical form; the outer `None` if it is no object or too long.
fn note(value: &RawValue) -> Option<Option<Note>> {
    let value: serde_json::Value = serde_json::from_str(value.get()).ok()?;
    if value.as_object()?.is_empty() {
        return Some(None);
    }
    Note::new(&value).ok().map(Some)
}

#[cfg(test)]
mod tests;
