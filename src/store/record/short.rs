//! An intent that has ended and is settled, in short: what a store keeps of it for ever.
//!
//! | field | bytes |
//! |---|---|
//! | flags: how it ended, and what follows | 1 |
//! | how its order was learnt, and its shape | 1 |
//! | reference, and the order's id if it has one | 2 and the text, each |
//! | serial | 1–10 |
//! | items-hash, digest as sent; digest of what is delivered if it is another | 17, 16; 16 |
//! | accepted; good until and created, by how much they are later | 2–10 each |
//! | why it ended without goods | 2 and the text |
//! | tries, newest attempt, highest serials when it ended | 1–10 each |
//! | items, unless they were dropped | as in every record |
//!
//! Numbers are seven bits a byte, the lowest first; what may be negative is zigzag.

use jiff::Timestamp;

use super::RecordError;
use super::fields::{Reader, put_id, put_items, put_str, put_varint};
use crate::order::ItemsDigest;
use crate::protocol::{Learnt, Serial, Shape, State};
use crate::store::{Adopted, Stored};

const DELIVERED: u8 = 1 << 2;
const ITEMS: u8 = 1 << 3;
const ATTEMPT: u8 = 1 << 4;
const CREATED: u8 = 1 << 5;
const FLAGS: u8 = 0b0011_1111;

/// Whether an intent can be written like this: nothing of it changes any more.
pub(super) fn is_over(intent: &Adopted) -> bool {
    intent.stored.state.is_end() && !intent.stored.unsettled
}

fn kind(state: &State) -> u8 {
    match state {
        State::Placed { .. } => 0,
        State::Refused(_) => 1,
        State::NotPlaced(_) => 2,
        // Nothing else is over.
        _ => 3,
    }
}

/// Appends an intent that [`is_over`].
pub(super) fn put_over(into: &mut Vec<u8>, intent: &Adopted, handed_out: Serial) {
    let Adopted { stored, shape, ended_at } = intent;
    let order = stored.state.order();
    let created_at = order.and_then(|order| order.created_at);
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    into.push(
        kind(&stored.state)
            | flag(stored.delivered != stored.as_sent, DELIVERED)
            | flag(!stored.items.is_empty(), ITEMS)
            | flag(stored.last_attempt.is_some(), ATTEMPT)
            | flag(created_at.is_some(), CREATED),
    );
    let learnt = match order.map(|order| order.learnt) {
        None | Some(Learnt::Answer) => 0,
        Some(Learnt::List) => 1,
        Some(Learnt::Person) => 2,
    };
    into.push(learnt | flag(shape.several_lines, 1 << 2) | flag(shape.with_note, 1 << 3));
    put_str(into, stored.client_ref.as_str());
    if let Some(order) = order {
        put_id(into, order.id);
    }
    put_varint(into, stored.id.0);
    into.extend_from_slice(stored.lane.as_bytes());
    into.extend_from_slice(stored.as_sent.as_bytes());
    if stored.delivered != stored.as_sent {
        into.extend_from_slice(stored.delivered.as_bytes());
    }
    put_moment(into, stored.accepted_at, Timestamp::UNIX_EPOCH);
    put_moment(into, stored.good_until, stored.accepted_at);
    if let Some(created_at) = created_at {
        put_moment(into, created_at, stored.accepted_at);
    }
    if let State::Refused(why) | State::NotPlaced(why) | State::Unpaid { why, .. } = &stored.state {
        put_str(into, why);
    }
    into.push(stored.tries);
    if let Some(last) = stored.last_attempt {
        put_after(into, last, stored.id);
    }
    put_after(into, *ended_at, stored.id);
    put_after(into, handed_out, *ended_at);
    if !stored.items.is_empty() {
        put_items(into, &stored.items);
    }
}

/// Takes what [`put_over`] wrote.
pub(super) fn take_over(reader: &mut Reader<'_>) -> Result<(Adopted, Serial), RecordError> {
    let (flags, more) = (reader.u8()?, reader.u8()?);
    if flags & !FLAGS != 0 || more & 0b11 == 3 || more >> 4 != 0 {
        return Err(RecordError::Invalid("flags"));
    }
    let has = |bit: u8| flags & bit != 0;
    let learnt = [Learnt::Answer, Learnt::List, Learnt::Person][usize::from(more & 0b11)];
    let shape = Shape { several_lines: more & (1 << 2) != 0, with_note: more & (1 << 3) != 0 };
    let client_ref = reader.client_ref()?;
    let id = if has_order(flags) { Some(reader.id()?) } else { None };
    let serial = Serial(reader.varint()?);
    let (lane, as_sent) = (reader.lane()?, reader.digest()?);
    let delivered: ItemsDigest = if has(DELIVERED) { reader.digest()? } else { as_sent };
    let accepted_at = take_moment(reader, Timestamp::UNIX_EPOCH)?;
    let good_until = take_moment(reader, accepted_at)?;
    let created_at = if has(CREATED) { Some(take_moment(reader, accepted_at)?) } else { None };
    let state = match (flags & 0b11, id) {
        (0, Some(id)) => State::Placed { id, learnt, created_at },
        (1, None) => State::Refused(reader.why()?),
        (2, None) => State::NotPlaced(reader.why()?),
        (3, Some(id)) => State::Unpaid { id, learnt, created_at, why: reader.why()? },
        _ => return Err(RecordError::Invalid("state")),
    };
    let tries = reader.u8()?;
    let last_attempt = if has(ATTEMPT) { Some(take_after(reader, serial)?) } else { None };
    let ended_at = take_after(reader, serial)?;
    let handed_out = take_after(reader, ended_at)?;
    let items = if has(ITEMS) { reader.items()? } else { [].into() };
    let stored = Stored {
        id: serial,
        client_ref,
        lane,
        as_sent,
        delivered,
        items,
        good_until,
        accepted_at,
        state,
        tries,
        last_attempt,
        unsettled: false,
    };
    Ok((Adopted { stored, shape, ended_at }, handed_out))
}

/// The keys that such a record brings, without the rest of it.
pub(super) fn keys<'a>(reader: &mut Reader<'a>) -> Result<(&'a str, Option<&'a str>), RecordError> {
    let flags = reader.u8()?;
    reader.u8()?;
    let reference = reader.str()?;
    Ok((reference, if has_order(flags) { Some(reader.str()?) } else { None }))
}

fn has_order(flags: u8) -> bool {
    matches!(flags & 0b11, 0 | 3)
}

fn put_zigzag(into: &mut Vec<u8>, value: i64) {
    put_varint(into, (value.wrapping_shl(1) ^ (value >> 63)).cast_unsigned());
}

fn take_zigzag(reader: &mut Reader<'_>) -> Result<i64, RecordError> {
    let value = reader.varint()?;
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

fn put_after(into: &mut Vec<u8>, serial: Serial, other: Serial) {
    put_zigzag(into, serial.0.wrapping_sub(other.0).cast_signed());
}

fn take_after(reader: &mut Reader<'_>, other: Serial) -> Result<Serial, RecordError> {
    Ok(Serial(other.0.wrapping_add(take_zigzag(reader)?.cast_unsigned())))
}

fn put_moment(into: &mut Vec<u8>, moment: Timestamp, other: Timestamp) {
    put_zigzag(into, moment.as_second().wrapping_sub(other.as_second()));
    let nanoseconds = moment.subsec_nanosecond().wrapping_sub(other.subsec_nanosecond());
    put_zigzag(into, i64::from(nanoseconds));
}

fn take_moment(reader: &mut Reader<'_>, other: Timestamp) -> Result<Timestamp, RecordError> {
    let invalid = || RecordError::Invalid("timestamp");
    let second = other.as_second().wrapping_add(take_zigzag(reader)?);
    let nanosecond = i64::from(other.subsec_nanosecond()).wrapping_add(take_zigzag(reader)?);
    let nanosecond = i32::try_from(nanosecond).map_err(|_| invalid())?;
    Timestamp::new(second, nanosecond).map_err(|_| invalid())
}
