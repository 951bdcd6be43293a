//! The fields of a record: how each is put and taken.

use std::sync::Arc;

use jiff::Timestamp;

use super::RecordError;
use crate::order::{ClientRef, ITEMS_MAX, Item, ItemsDigest, ItemsHash, Note, OrderId, Price};
use crate::protocol::{Attempt, Fingerprint, Learnt, PayStep, Payment, Serial, Shape, State, Why};
use crate::store::Mark;

pub(crate) fn put_u16(into: &mut Vec<u8>, value: u16) {
    into.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u32(into: &mut Vec<u8>, value: u32) {
    into.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(into: &mut Vec<u8>, value: u64) {
    into.extend_from_slice(&value.to_le_bytes());
}

/// A number, seven bits a byte, the lowest first.
pub(super) fn put_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(0x80 | value.to_le_bytes()[0]);
        value >>= 7;
    }
    into.push(value.to_le_bytes()[0]);
}

/// A text of at most 65,535 bytes; a longer one is cut at a character (only reasons can be that
/// long, and the record limit refuses them before).
pub(crate) fn put_str(into: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    put_u16(into, u16::try_from(end).unwrap_or(u16::MAX));
    into.extend_from_slice(&text.as_bytes()[..end]);
}

pub(crate) fn put_timestamp(into: &mut Vec<u8>, moment: Timestamp) {
    into.extend_from_slice(&moment.as_second().to_le_bytes());
    into.extend_from_slice(&moment.subsec_nanosecond().to_le_bytes());
}

pub(crate) fn put_option<T>(
    into: &mut Vec<u8>,
    value: Option<T>,
    put: impl FnOnce(&mut Vec<u8>, T),
) {
    into.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(into, value);
    }
}

pub(crate) fn put_id(into: &mut Vec<u8>, id: &OrderId) {
    put_str(into, id.as_str());
}

pub(crate) fn put_ids(into: &mut Vec<u8>, ids: &[OrderId]) {
    put_u32(into, u32::try_from(ids.len()).unwrap_or(u32::MAX));
    ids.iter().for_each(|id| put_id(into, id));
}

pub(super) fn put_items(into: &mut Vec<u8>, items: &[Item]) {
    into.push(u8::try_from(items.len()).unwrap_or(u8::MAX));
    for item in items {
        put_str(into, item.id());
        put_u32(into, item.quantity());
        put_option(into, item.note_ref(), |into, note| put_str(into, note.as_json()));
        put_option(into, item.price(), |into, price| put_str(into, &price.to_string()));
    }
}

pub(super) fn put_attempt(into: &mut Vec<u8>, attempt: &Attempt) {
    put_u64(into, attempt.seq.0);
    put_u64(into, attempt.fingerprint.0);
    put_option(into, attempt.floor, put_timestamp);
}

pub(crate) fn put_learnt(into: &mut Vec<u8>, learnt: Learnt) {
    into.push(match learnt {
        Learnt::Answer => 0,
        Learnt::List => 1,
        Learnt::Person => 2,
    });
}

pub(crate) fn put_shape(into: &mut Vec<u8>, shape: Shape) {
    into.push(u8::from(shape.several_lines) | (u8::from(shape.with_note) << 1));
}

pub(super) fn put_state(into: &mut Vec<u8>, state: &State) {
    match state {
        State::Queued => into.push(0),
        State::Sending(attempt) => {
            into.push(1);
            put_attempt(into, attempt);
        }
        State::InDoubt(attempt, why) | State::Held(attempt, why) => {
            into.push(if matches!(state, State::InDoubt(..)) { 2 } else { 3 });
            put_attempt(into, attempt);
            put_str(into, why);
        }
        State::Placed { id, learnt, created_at } => {
            into.push(4);
            put_id(into, id);
            put_learnt(into, *learnt);
            put_option(into, *created_at, put_timestamp);
        }
        State::Refused(why) | State::NotPlaced(why) => {
            into.push(if matches!(state, State::Refused(_)) { 5 } else { 6 });
            put_str(into, why);
        }
        State::Created { id, learnt, created_at, payment, why } => {
            into.push(7);
            put_id(into, id);
            put_learnt(into, *learnt);
            put_option(into, *created_at, put_timestamp);
            put_payment(into, payment);
            put_str(into, why);
        }
        State::Unpaid { id, learnt, created_at, why } => {
            into.push(8);
            put_id(into, id);
            put_learnt(into, *learnt);
            put_option(into, *created_at, put_timestamp);
            put_str(into, why);
        }
    }
}

pub(super) fn put_payment(into: &mut Vec<u8>, payment: &Payment) {
    into.push(match payment.step {
        PayStep::Due => 0,
        PayStep::Sending => 1,
        PayStep::InDoubt => 2,
        PayStep::Held => 3,
    });
    put_u32(into, payment.pays);
    into.push(payment.tries);
}

/// Takes fields off the front of a record.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The fields behind the version byte, if this build can read them.
    pub(crate) fn versioned(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let mut reader = Self(bytes);
        reader.version()?;
        Ok(reader)
    }

    /// Takes the version byte, if this build can read what follows.
    pub(super) fn version(&mut self) -> Result<(), RecordError> {
        match self.u8()? {
            super::RECORD_PLAIN..=super::RECORD_VERSION => Ok(()),
            0 => Err(RecordError::Invalid("version")),
            newer => Err(RecordError::Newer(newer)),
        }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(RecordError::Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(RecordError::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, RecordError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, RecordError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn varint(&mut self) -> Result<u64, RecordError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
                return Err(RecordError::Invalid("number"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Invalid("number"))
    }

    pub(crate) fn serial(&mut self) -> Result<Serial, RecordError> {
        self.u64().map(Serial)
    }

    pub(crate) fn bool(&mut self) -> Result<bool, RecordError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError::Invalid("flag")),
        }
    }

    pub(crate) fn option<T>(
        &mut self,
        take: impl FnOnce(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Option<T>, RecordError> {
        if self.bool()? { take(self).map(Some) } else { Ok(None) }
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, RecordError> {
        let bytes = self.u16()?;
        std::str::from_utf8(self.bytes(bytes.into())?).map_err(|_| RecordError::Invalid("text"))
    }

    pub(crate) fn why(&mut self) -> Result<Why, RecordError> {
        self.str().map(|text| Why::Owned(text.to_owned()))
    }

    pub(crate) fn timestamp(&mut self) -> Result<Timestamp, RecordError> {
        let second = i64::from_le_bytes(self.array()?);
        let nanosecond = i32::from_le_bytes(self.array()?);
        Timestamp::new(second, nanosecond).map_err(|_| RecordError::Invalid("timestamp"))
    }

    pub(crate) fn client_ref(&mut self) -> Result<ClientRef, RecordError> {
        ClientRef::new(self.str()?).map_err(|_| RecordError::Invalid("client reference"))
    }

    pub(crate) fn id(&mut self) -> Result<OrderId, RecordError> {
        OrderId::new(self.str()?).ok_or(RecordError::Invalid("order id"))
    }

    pub(crate) fn ids(&mut self) -> Result<Vec<OrderId>, RecordError> {
        let count = self.u32()? as usize;
        // Every id takes three bytes at least: a count beyond that is no count.
        if count > self.0.len() / 3 {
            return Err(RecordError::Short);
        }
        (0..count).map(|_| self.id()).collect()
    }

    pub(super) fn items(&mut self) -> Result<Arc<[Item]>, RecordError> {
        let count = usize::from(self.u8()?);
        if count > ITEMS_MAX {
            return Err(RecordError::Invalid("number of items"));
        }
        (0..count).map(|_| self.item()).collect()
    }

    fn item(&mut self) -> Result<Item, RecordError> {
        let id = self.str()?;
        let mut item = Item::new(id, self.u32()?).map_err(|_| RecordError::Invalid("item"))?;
        if let Some(json) = self.option(Self::str)? {
            let note = Note::try_from(json.to_owned()).map_err(|_| RecordError::Invalid("note"))?;
            item = item.note(note);
        }
        if let Some(text) = self.option(Self::str)? {
            let price: Price = text.parse().map_err(|_| RecordError::Invalid("price"))?;
            item = item.total_price(price);
        }
        Ok(item)
    }

    pub(crate) fn lane(&mut self) -> Result<ItemsHash, RecordError> {
        self.array().map(ItemsHash::from_bytes)
    }

    pub(super) fn digest(&mut self) -> Result<ItemsDigest, RecordError> {
        self.array().map(ItemsDigest::from_bytes)
    }

    pub(super) fn attempt(&mut self) -> Result<Attempt, RecordError> {
        Ok(Attempt {
            seq: self.serial()?,
            fingerprint: Fingerprint(self.u64()?),
            floor: self.option(Self::timestamp)?,
        })
    }

    pub(crate) fn learnt(&mut self) -> Result<Learnt, RecordError> {
        match self.u8()? {
            0 => Ok(Learnt::Answer),
            1 => Ok(Learnt::List),
            2 => Ok(Learnt::Person),
            _ => Err(RecordError::Invalid("way of learning")),
        }
    }

    pub(crate) fn shape(&mut self) -> Result<Shape, RecordError> {
        let bits = self.u8()?;
        if bits > 3 {
            return Err(RecordError::Invalid("shape"));
        }
        Ok(Shape { several_lines: bits & 1 != 0, with_note: bits & 2 != 0 })
    }

    pub(super) fn state(&mut self) -> Result<State, RecordError> {
        Ok(match self.u8()? {
            0 => State::Queued,
            1 => State::Sending(self.attempt()?),
            2 => State::InDoubt(self.attempt()?, self.why()?),
            3 => State::Held(self.attempt()?, self.why()?),
            4 => State::Placed {
                id: self.id()?,
                learnt: self.learnt()?,
                created_at: self.option(Self::timestamp)?,
            },
            5 => State::Refused(self.why()?),
            6 => State::NotPlaced(self.why()?),
            7 => State::Created {
                id: self.id()?,
                learnt: self.learnt()?,
                created_at: self.option(Self::timestamp)?,
                payment: self.payment()?,
                why: self.why()?,
            },
            8 => State::Unpaid {
                id: self.id()?,
                learnt: self.learnt()?,
                created_at: self.option(Self::timestamp)?,
                why: self.why()?,
            },
            _ => return Err(RecordError::Invalid("state")),
        })
    }

    pub(super) fn payment(&mut self) -> Result<Payment, RecordError> {
        let step = match self.u8()? {
            0 => PayStep::Due,
            1 => PayStep::Sending,
            2 => PayStep::InDoubt,
            3 => PayStep::Held,
            _ => return Err(RecordError::Invalid("payment")),
        };
        Ok(Payment { step, pays: self.u32()?, tries: self.u8()? })
    }

    pub(crate) fn mark(&mut self) -> Result<Mark, RecordError> {
        Mark::of_parts(self.u8()?, self.str()?).ok_or(RecordError::Invalid("mark"))
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every field was taken.
    pub(crate) fn end(&self) -> Result<(), RecordError> {
        if self.0.is_empty() { Ok(()) } else { Err(RecordError::Long) }
    }
}
