//! What a caller asks for: parsed once at the edge, valid ever after.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

mod tag;

pub use tag::{Tag, TagKey};

/// Longest client reference and longest product id, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Most lines of one order: what the supplier takes.
pub const ITEMS_MAX: usize = 10;
/// Longest note of one item, in bytes of its canonical JSON.
pub const NOTE_BYTES_MAX: usize = 1024;

/// Why something that a caller handed over is no order. Nothing was recorded and nothing bought.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrder {
    /// A reference is 1 to 255 bytes of printable ASCII without space.
    #[error("client reference must be 1 to 255 bytes of printable ASCII without space")]
    ClientRef,
    /// A product id is 1 to 255 bytes of UTF-8.
    #[error("item id must be 1 to 255 bytes")]
    ItemId,
    /// A quantity is an integer from 1 to 4,294,967,295.
    #[error("quantity must be an integer from 1 to 4294967295")]
    Quantity,
    /// A note is a JSON object of at most 1,024 bytes.
    #[error("note must be a JSON object of at most 1024 bytes")]
    Note,
    /// A price guard is a decimal of at most 28 digits, not negative.
    #[error("total price must be a decimal number of at most 28 digits, not negative")]
    TotalPrice,
    /// A tag's key is 1 to 32 letters, digits, `_` or `-`.
    #[error("tag key must be 1 to 32 letters, digits, `_` or `-`")]
    TagKey,
    /// An order has 1 to 10 lines.
    #[error("an order has 1 to 10 items, this one has {0}")]
    Items(usize),
    /// The quantities of equal lines add up to more than the supplier can take.
    #[error("equal lines add up to a quantity over 4294967295")]
    Total,
}

/// The caller's own name for one order: the key under which it is bought once.
///
/// 1 to 255 bytes of printable ASCII without space, compared as bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientRef(Arc<str>);

impl ClientRef {
    /// Parses a reference.
    ///
    /// # Errors
    /// [`InvalidOrder::ClientRef`] if it is empty, longer than 255 bytes or not printable ASCII.
    pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidOrder> {
        let text = text.as_ref();
        let printable = text.bytes().all(|b| b.is_ascii_graphic());
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !printable {
            return Err(InvalidOrder::ClientRef);
        }
        Ok(Self(text.into()))
    }

    /// A fresh reference, a random UUID. Keep it: only the same reference joins the same order.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string().into())
    }

    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ClientRef {
    type Error = InvalidOrder;
    fn try_from(text: String) -> Result<Self, InvalidOrder> {
        Self::new(text)
    }
}

impl From<ClientRef> for String {
    fn from(reference: ClientRef) -> Self {
        reference.as_str().to_owned()
    }
}

impl Borrow<str> for ClientRef {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClientRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The supplier's name of one of its orders. Any text of 1 to 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OrderId(Arc<str>);

impl OrderId {
    /// Takes an id as the supplier wrote it; `None` if it is empty or longer than 255 bytes.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Option<Self> {
        let text = text.as_ref();
        (!text.is_empty() && text.len() <= NAME_BYTES_MAX).then(|| Self(text.into()))
    }

    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for OrderId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::new(text).ok_or("order id must be 1 to 255 bytes")
    }
}

impl From<OrderId> for String {
    fn from(id: OrderId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// What the supplier needs to deliver an item, a player id for instance: a JSON object.
///
/// Kept in canonical form (keys sorted). Never shown: its `Debug` prints only its length.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Note(Arc<str>);

impl Note {
    /// Takes a JSON object.
    ///
    /// # Errors
    /// [`InvalidOrder::Note`] if it is no object or longer than 1,024 bytes.
    pub fn new(value: &serde_json::Value) -> Result<Self, InvalidOrder> {
        let text = value.to_string();
        if !value.is_object() || text.len() > NOTE_BYTES_MAX {
            return Err(InvalidOrder::Note);
        }
        Ok(Self(text.into()))
    }

    /// Its canonical JSON. Not for logs.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Note {
    type Error = InvalidOrder;
    fn try_from(text: String) -> Result<Self, InvalidOrder> {
        let value = serde_json::from_str(&text).map_err(|_| InvalidOrder::Note)?;
        Self::new(&value)
    }
}

impl From<Note> for String {
    fn from(note: Note) -> Self {
        note.as_json().to_owned()
    }
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Note({} bytes)", self.0.len())
    }
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    id: Arc<str>,
    quantity: u32,
    note: Option<Note>,
    total_price: Option<Price>,
}

impl Item {
    /// A line of `quantity` pieces of product `id`.
    ///
    /// # Errors
    /// [`InvalidOrder::ItemId`] if the id is empty or longer than 255 bytes,
    /// [`InvalidOrder::Quantity`] if the quantity is 0.
    pub fn new(id: impl AsRef<str>, quantity: u32) -> Result<Self, InvalidOrder> {
        let id = id.as_ref();
        if id.is_empty() || id.len() > NAME_BYTES_MAX {
            return Err(InvalidOrder::ItemId);
        }
        if quantity == 0 {
            return Err(InvalidOrder::Quantity);
        }
        Ok(Self { id: id.into(), quantity, note: None, total_price: None })
    }

    /// Adds what the supplier needs to deliver it.
    #[must_use]
    pub fn note(mut self, note: Note) -> Self {
        self.note = Some(note);
        self
    }

    /// Adds a price guard: the supplier refuses the order if the line costs something else.
    #[must_use]
    pub fn total_price(mut self, price: Price) -> Self {
        self.total_price = Some(price);
        self
    }

    /// The same without its price guard.
    pub(crate) fn without_price(self) -> Self {
        Self { total_price: None, ..self }
    }

    /// The supplier's product id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The product id, shared.
    pub(crate) fn id_shared(&self) -> Arc<str> {
        self.id.clone()
    }

    /// How many pieces.
    #[must_use]
    pub fn quantity(&self) -> u32 {
        self.quantity
    }

    /// What the supplier needs to deliver it, if anything.
    #[must_use]
    pub fn note_ref(&self) -> Option<&Note> {
        self.note.as_ref()
    }

    /// The price guard, if any.
    #[must_use]
    pub fn price(&self) -> Option<&Price> {
        self.total_price.as_ref()
    }
}

/// An exact decimal amount, not negative, of at most 28 digits. `1.0` and `1.00` are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Price(Decimal);

impl Price {
    /// What these lines cost, if each has a price guard. What is too large to be added up exactly is
    /// the largest price there is.
    pub(crate) fn total(items: &[Item]) -> Option<Self> {
        items.iter().try_fold(Self(Decimal::ZERO), |sum, item| Some(sum.plus(*item.price()?)))
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self(self.0.checked_add(other.0).unwrap_or(Decimal::MAX))
    }

    /// The same without zeros at its end: equal amounts are equal texts.
    pub(crate) fn plain(self) -> Self {
        Self(self.0.normalize())
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn largest() -> Self {
        Self(Decimal::MAX)
    }

    /// What is left of a sum; nothing, if it was too large to be added up exactly.
    pub(crate) fn minus(self, other: Self) -> Self {
        Self(self.0.checked_sub(other.0).unwrap_or(Decimal::ZERO).max(Decimal::ZERO))
    }

    pub(crate) fn decimal(self) -> Decimal {
        self.0
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn rounded(self) -> f64 {
        use rust_decimal::prelude::ToPrimitive;
        self.0.to_f64().unwrap_or(f64::MAX)
    }
}

impl Default for Price {
    /// Nothing.
    fn default() -> Self {
        Self(Decimal::ZERO)
    }
}

impl std::str::FromStr for Price {
    type Err = InvalidOrder;
    fn from_str(text: &str) -> Result<Self, InvalidOrder> {
        let price = Decimal::from_str_exact(text).map_err(|_| InvalidOrder::TotalPrice)?;
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if !plain || price.is_sign_negative() {
            return Err(InvalidOrder::TotalPrice);
        }
        Ok(Self(price))
    }
}

impl TryFrom<String> for Price {
    type Error = InvalidOrder;
    fn try_from(text: String) -> Result<Self, InvalidOrder> {
        text.parse()
    }
}

impl From<Price> for String {
    fn from(price: Price) -> Self {
        price.to_string()
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One order under the caller's own reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    client_ref: ClientRef,
    items: Arc<[Item]>,
    good_until: Option<Timestamp>,
}

impl Order {
    /// An order of 1 to 10 lines.
    ///
    /// # Errors
    /// [`InvalidOrder::Items`] for no line or more than ten, [`InvalidOrder::Total`] if equal lines
    /// add up to more than a quantity can hold.
    pub fn new(client_ref: ClientRef, items: Vec<Item>) -> Result<Self, InvalidOrder> {
        if items.is_empty() || items.len() > ITEMS_MAX {
            return Err(InvalidOrder::Items(items.len()));
        }
        let mut totals: BTreeMap<(&str, Option<&Note>), u64> = BTreeMap::new();
        for item in &items {
            let total = totals.entry((item.id(), item.note_ref())).or_default();
            *total += u64::from(item.quantity());
            if *total > u64::from(u32::MAX) {
                return Err(InvalidOrder::Total);
            }
        }
        drop(totals);
        Ok(Self { client_ref, items: items.into(), good_until: None })
    }

    /// Until when it is worth sending. Default: one hour after it was accepted.
    ///
    /// An order still unsent then ends `NotPlaced`; one that was sent is followed to its end.
    #[must_use]
    pub fn good_until(mut self, moment: Timestamp) -> Self {
        self.good_until = Some(moment);
        self
    }

    /// The caller's reference.
    #[must_use]
    pub fn client_ref(&self) -> &ClientRef {
        &self.client_ref
    }

    /// Its lines, in the order in which they were given.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// What it costs at most, where every line has a price guard.
    #[must_use]
    pub fn total_price(&self) -> Option<Price> {
        Price::total(&self.items)
    }

    /// The lines, shared.
    #[must_use]
    pub fn items_shared(&self) -> Arc<[Item]> {
        self.items.clone()
    }

    /// Until when it is worth sending, if the caller said so.
    #[must_use]
    pub fn good_until_set(&self) -> Option<Timestamp> {
        self.good_until
    }
}

/// Which fields of an order's items the supplier's list shows again.
///
/// It cannot change while attempts are open: the items-hash of every open intent depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EchoProfile {
    /// The list shows quantities. Default: yes.
    pub quantity: bool,
    /// The list shows notes. Default: no; orders that differ in the note alone are then bought one
    /// after the other.
    pub note: bool,
    /// The list shows an unknown key of a note: every order is sent with its [`Tag`] under this one.
    /// Default: none. What the router's rules say of it is at [`ItemsHash`].
    pub tag: Option<TagKey>,
}

impl Default for EchoProfile {
    fn default() -> Self {
        Self { quantity: true, note: false, tag: None }
    }
}

impl EchoProfile {
    /// The lines of an order as they are sent.
    #[must_use]
    pub fn as_sent(self, client_ref: &ClientRef, items: &Arc<[Item]>) -> Arc<[Item]> {
        self.tag.map_or_else(|| items.clone(), |key| key.write(items, client_ref))
    }

    /// The lane of an order.
    #[must_use]
    pub fn lane(self, client_ref: &ClientRef, items: &Arc<[Item]>) -> ItemsHash {
        ItemsHash::of(&self.as_sent(client_ref, items), self)
    }
}

/// The hash of what the supplier's list shows of an order's items: the key of its lane.
///
/// Versioned: the first byte names the canonical form and the echo profile. The order of lines
/// does not matter, equal lines are added up.
///
/// # Tags
/// Where orders carry tags, the tag is part of it, with bytes of its own: every order then has a lane
/// of its own, and a row is of that lane only if all its lines show that tag. Rows that show none hash as
/// they would without tags.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemsHash([u8; 17]);

/// How many bytes of an [`ItemsHash`] tell the tag; the others tell the items.
const TAG_PART: usize = 10;

/// One line as the supplier's list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EchoedItem {
    /// The product id.
    pub id: String,
    /// The quantity, where the list shows it.
    pub quantity: Option<u32>,
    /// The note, where the list shows it.
    pub note: Option<Note>,
}

impl ItemsHash {
    /// Version of the canonical form; the echo profile is in the low bits.
    const VERSION: u8 = 1;
    /// The bit that says that it has a tag.
    const TAGGED: u8 = 4;

    /// The hash of an order as its list row will show it: of lines as they are sent, tags included.
    #[must_use]
    pub fn of(items: &[Item], echo: EchoProfile) -> Self {
        let lines = items.iter().map(|i| (i.id(), i.quantity(), i.note_ref()));
        Self::build(lines, echo)
    }

    /// The hash of a row of the list; `None` if the row lacks a field that the profile promises.
    #[must_use]
    pub fn of_row(items: &[EchoedItem], echo: EchoProfile) -> Option<Self> {
        if items.is_empty() || (echo.quantity && items.iter().any(|i| i.quantity.is_none())) {
            return None;
        }
        let lines = items.iter().map(|i| (&*i.id, i.quantity.unwrap_or(1), i.note.as_ref()));
        Some(Self::build(lines, echo))
    }

    fn build<'a>(
        lines: impl Iterator<Item = (&'a str, u32, Option<&'a Note>)> + Clone,
        echo: EchoProfile,
    ) -> Self {
        let tag = echo.tag.zip(echo.tag.and_then(|key| key.common(lines.clone().map(|l| l.2))));
        let mut totals: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (id, quantity, note) in lines {
            let note = note.filter(|_| echo.note).map_or("", Note::as_json);
            let quantity = if echo.quantity { u64::from(quantity) } else { 1 };
            *totals.entry((id, note)).or_default() += quantity;
        }
        let mut hasher = Sha256::new();
        for ((id, note), quantity) in totals {
            for text in [id, note] {
                hasher.update((text.len() as u32).to_le_bytes());
                hasher.update(text);
            }
            hasher.update(if echo.quantity { quantity } else { 0 }.to_le_bytes());
        }
        let mut bytes = [0; 17];
        bytes[0] = Self::form(echo, tag.is_some());
        bytes[1..].copy_from_slice(&hasher.finalize()[..16]);
        if let Some((key, tag)) = tag {
            bytes.copy_within(1..17 - TAG_PART, 1 + TAG_PART);
            let mut hasher = Sha256::new();
            hasher.update((key.as_str().len() as u32).to_le_bytes());
            hasher.update(key.as_str());
            hasher.update(tag.as_bytes());
            bytes[1..=TAG_PART].copy_from_slice(&hasher.finalize()[..TAG_PART]);
        }
        Self(bytes)
    }

    fn form(echo: EchoProfile, tagged: bool) -> u8 {
        let tagged = if tagged { Self::TAGGED } else { 0 };
        (Self::VERSION << 4) | tagged | (u8::from(echo.quantity) << 1) | u8::from(echo.note)
    }

    /// Whether it is an order's, made with this echo profile.
    pub(crate) fn is_of(&self, echo: EchoProfile) -> bool {
        self.0[0] == Self::form(echo, echo.tag.is_some())
    }

    /// What tells its tag, if it has one.
    pub(crate) fn tag(&self) -> Option<[u8; TAG_PART]> {
        let is_tagged = self.0[0] & Self::TAGGED != 0;
        self.0[1..=TAG_PART].try_into().ok().filter(|_| is_tagged)
    }

    /// Its 17 bytes: the version, then the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 17] {
        &self.0
    }

    /// The hash with these bytes, as it was stored.
    pub(crate) fn from_bytes(bytes: [u8; 17]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ItemsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for ItemsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A digest of an order's lines, for two questions: is this the same order, and is what is
/// delivered interchangeable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemsDigest([u8; 16]);

impl ItemsDigest {
    /// Of everything that is sent: lines, notes and guards. The same reference with another digest
    /// is a conflict. The order of lines does not matter.
    #[must_use]
    pub fn as_sent(items: &[Item]) -> Self {
        Self::build(items, true)
    }

    /// Of what is delivered: lines and notes. Two orders of one lane that differ here are never
    /// open together (rule 13). With `guard`, price guards count as well. Default: no.
    #[must_use]
    pub fn delivered(items: &[Item], guard: bool) -> Self {
        Self::build(items, guard)
    }

    fn build(items: &[Item], guard: bool) -> Self {
        let mut lines: Vec<_> = items
            .iter()
            .map(|i| {
                let note = i.note_ref().map_or("", Note::as_json);
                let price = i.price().filter(|_| guard).map(|p| p.0.normalize().to_string());
                (i.id(), i.quantity(), note, price.unwrap_or_default())
            })
            .collect();
        lines.sort_unstable();
        let mut hasher = Sha256::new();
        for (id, quantity, note, price) in lines {
            for text in [id, note, &price] {
                hasher.update((text.len() as u32).to_le_bytes());
                hasher.update(text);
            }
            hasher.update(quantity.to_le_bytes());
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize()[..16]);
        Self(bytes)
    }
}

impl ItemsDigest {
    /// Its 16 bytes.
    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The digest with these bytes, as it was stored.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for ItemsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

mod replaces;

pub use replaces::REPLACEMENT;

#[cfg(test)]
mod tests;
