//! Tags: what makes an order's row in the supplier's list this order's and no other's.
//!
//! Where the supplier keeps an unknown key in a line's note and shows it again, every line of an order
//! carries its tag under that key. The tag is a hash of the order's reference, of one form and length:
//! what the list does to one it does to all, the supplier is not told the reference, and whoever still
//! has the references can work every tag out again, also without the store.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ClientRef, InvalidOrder, Item, NOTE_BYTES_MAX, Note};

/// Longest key of a tag, in bytes.
pub const TAG_KEY_BYTES_MAX: usize = 32;

/// What is hashed before the reference: another form of tag gets another text.
const DOMAIN: &[u8] = b"order-router tag 1\0";

/// The key in a line's note under which an order carries its tag: 1 to 32 letters, digits, `_` or `-`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagKey {
    /// Filled up with zeros.
    bytes: [u8; TAG_KEY_BYTES_MAX],
}

impl TagKey {
    /// Takes a key.
    ///
    /// # Errors
    /// [`InvalidOrder::TagKey`] if it is empty, longer than 32 bytes, or has other characters.
    pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidOrder> {
        let text = text.as_ref().as_bytes();
        let plain = text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if text.is_empty() || text.len() > TAG_KEY_BYTES_MAX || !plain {
            return Err(InvalidOrder::TagKey);
        }
        let mut bytes = [0; TAG_KEY_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        Ok(Self { bytes })
    }

    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.bytes.iter().position(|b| *b == 0).unwrap_or(TAG_KEY_BYTES_MAX);
        std::str::from_utf8(&self.bytes[..length]).unwrap_or_default()
    }

    /// The tag that a note shows under this key, if it shows one.
    #[must_use]
    pub fn read(&self, note: &Note) -> Option<Tag> {
        let value: serde_json::Value = serde_json::from_str(note.as_json()).ok()?;
        Tag::parse(value.get(self.as_str())?.as_str()?)
    }

    /// The tag of an order of these lines: the one that every line shows.
    pub(super) fn common<'a>(
        &self,
        mut notes: impl Iterator<Item = Option<&'a Note>>,
    ) -> Option<Tag> {
        let first = self.read(notes.next()??)?;
        notes.all(|note| note.and_then(|note| self.read(note)) == Some(first)).then_some(first)
    }

    /// A note with nothing but the tag.
    pub(crate) fn alone(&self, tag: Tag) -> Note {
        Note(serde_json::json!({ self.as_str(): tag.to_string() }).to_string().into())
    }

    /// The lines of an order as they are sent: with its tag in every note.
    #[must_use]
    pub fn write(&self, items: &[Item], client_ref: &ClientRef) -> Arc<[Item]> {
        let tag = Tag::of(client_ref);
        let tagged = |item: &Item| {
            let note = item.note_ref().map_or_else(|| self.alone(tag), |note| self.add(note, tag));
            item.clone().note(note)
        };
        items.iter().map(tagged).collect()
    }

    fn add(&self, note: &Note, tag: Tag) -> Note {
        match serde_json::from_str(note.as_json()) {
            Ok(serde_json::Value::Object(mut fields)) => {
                fields.insert(self.as_str().to_owned(), tag.to_string().into());
                Note(serde_json::Value::Object(fields).to_string().into())
            }
            // A note is an object, by its making.
            Ok(_) | Err(_) => self.alone(tag),
        }
    }

    /// Whether the lines leave room for a tag: no note has the key already, and each still fits with it.
    pub(crate) fn fits(&self, items: &[Item]) -> bool {
        let longest = self.as_str().len() + TAG_BYTES + "\"\":\"\",".len();
        items.iter().filter_map(Item::note_ref).all(|note| {
            let fields: Option<serde_json::Value> = serde_json::from_str(note.as_json()).ok();
            let has_key = fields.is_none_or(|fields| fields.get(self.as_str()).is_some());
            !has_key && note.as_json().len() + longest <= NOTE_BYTES_MAX
        })
    }
}

impl TryFrom<String> for TagKey {
    type Error = InvalidOrder;
    fn try_from(text: String) -> Result<Self, InvalidOrder> {
        Self::new(text)
    }
}

impl From<TagKey> for String {
    fn from(key: TagKey) -> Self {
        key.as_str().to_owned()
    }
}

impl fmt::Display for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// Length of a tag's text.
const TAG_BYTES: usize = 32;

/// What tells an order's rows from all others: the first 16 bytes of the SHA-256 of its reference, as 32
/// lower-case hexadecimal digits. Every attempt of an order has the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag([u8; TAG_BYTES / 2]);

impl Tag {
    /// The tag of a reference.
    #[must_use]
    pub fn of(client_ref: &ClientRef) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(DOMAIN);
        hasher.update(client_ref.as_str());
        let mut bytes = [0; TAG_BYTES / 2];
        bytes.copy_from_slice(&hasher.finalize()[..TAG_BYTES / 2]);
        Self(bytes)
    }

    /// Reads a tag; `None` for any text that is not exactly of its form. One that was cut off, or whose
    /// case was changed, is none: its row counts as one without a tag.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let plain = digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if digits.len() != TAG_BYTES || !plain {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|n| Self(n.to_be_bytes()))
    }

    pub(super) fn as_bytes(&self) -> &[u8; TAG_BYTES / 2] {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
