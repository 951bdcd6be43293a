//! How intents stand in columns.

use std::borrow::Cow;

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::order::OrderId;
use crate::protocol::{
    Attempt, Fingerprint, Learnt, NewIntent, PayStep, Payment, Serial, Shape, State, Why,
};
use crate::store::record::{self, decode_row, encode_row};
use crate::store::{Adopted, Claim, Known, Mark, StoreError, Stored};

/// The columns of an intent, in the order of [`stored`].
pub(super) const COLUMNS: &str = "intent, state, why, tries, attempt, fingerprint, floor, order_id, \
    learnt, order_created, unsettled, pay_step, pays, pay_tries";

/// A column holds what this program did not write.
pub(super) fn unreadable(what: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("a row is not readable: {what}").into())
}

/// A text for a column: Postgres takes every character but NUL.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '\0']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('\\', "\\\\").replace('\0', "\\0"))
}

/// What [`escape`] was given.
pub(super) fn unescape(text: String) -> String {
    if !text.contains('\\') {
        return text;
    }
    let (mut plain, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(if chars.next() == Some('0') { '\0' } else { '\\' }),
            c => plain.push(c),
        }
    }
    plain
}

/// A moment, exact to the nanosecond; texts of it sort as the moments do.
pub(super) fn moment(moment: Timestamp) -> String {
    format!("{moment:.9}")
}

pub(super) fn parse_moment(text: &str) -> Result<Timestamp, StoreError> {
    text.parse().map_err(|_| unreadable("not a moment"))
}

/// A serial in a column; those beyond its range are of no intent.
pub(super) fn column(serial: Serial) -> i64 {
    i64::try_from(serial.0).unwrap_or(i64::MAX)
}

pub(super) fn serial(column: i64) -> Result<Serial, StoreError> {
    Ok(Serial(u64::try_from(column).map_err(|_| unreadable("a serial below zero"))?))
}

pub(super) fn order_id(column: String) -> Result<OrderId, StoreError> {
    OrderId::new(unescape(column)).ok_or_else(|| unreadable("an empty order id"))
}

/// The part of an intent that never changes.
pub(super) fn body(new: &NewIntent) -> Vec<u8> {
    let shape = Shape::of(&new.items);
    let stored = Stored {
        id: new.id,
        client_ref: new.client_ref.clone(),
        lane: new.lane,
        as_sent: new.as_sent,
        delivered: new.delivered,
        items: new.items.clone(),
        good_until: new.good_until,
        accepted_at: new.accepted_at,
        state: State::Queued,
        tries: 0,
        last_attempt: None,
        unsettled: false,
    };
    body_of(stored, shape)
}

/// The same of one that another store kept.
pub(super) fn adopted_body(intent: &Adopted) -> Vec<u8> {
    let mut stored = intent.stored.clone();
    (stored.state, stored.tries) = (State::Queued, 0);
    (stored.last_attempt, stored.unsettled) = (None, false);
    body_of(stored, intent.shape)
}

fn body_of(stored: Stored, shape: Shape) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    let row = record::Row { stored, shape, changed: 0, ended_at: Serial(0) };
    encode_row(&row, true, &mut bytes);
    bytes
}

pub(super) fn learnt_column(learnt: Learnt) -> i16 {
    match learnt {
        Learnt::Answer => 0,
        Learnt::List => 1,
        Learnt::Person => 2,
    }
}

fn learnt(column: Option<i16>) -> Result<Learnt, StoreError> {
    match column {
        Some(0) => Ok(Learnt::Answer),
        Some(1) => Ok(Learnt::List),
        Some(2) => Ok(Learnt::Person),
        _ => Err(unreadable("how it was learnt")),
    }
}

/// A payment as columns: its step, its number, its tries.
pub(super) fn payment_columns(payment: &Payment) -> (i16, i64, i16) {
    let step = match payment.step {
        PayStep::Due => 0,
        PayStep::Sending => 1,
        PayStep::InDoubt => 2,
        PayStep::Held => 3,
    };
    (step, payment.pays.into(), payment.tries.into())
}

fn payment(row: &Row) -> Result<Payment, StoreError> {
    let step = match take::<Option<i16>>(row, "pay_step")? {
        Some(0) => PayStep::Due,
        Some(1) => PayStep::Sending,
        Some(2) => PayStep::InDoubt,
        Some(3) => PayStep::Held,
        _ => return Err(unreadable("where a payment stands")),
    };
    let pays = u32::try_from(take::<i64>(row, "pays")?).map_err(unreadable)?;
    let tries = u8::try_from(take::<i16>(row, "pay_tries")?).map_err(unreadable)?;
    Ok(Payment { step, pays, tries })
}

/// Shapes as a column.
pub(super) fn shape_column(shape: Shape) -> i16 {
    i16::from(shape.several_lines) | i16::from(shape.with_note) << 1
}

pub(super) fn shape(column: i16) -> Shape {
    Shape { several_lines: column & 1 != 0, with_note: column & 2 != 0 }
}

fn take<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    name: &str,
) -> Result<T, StoreError> {
    row.try_get(name).map_err(unreadable)
}

fn optional_moment(row: &Row, name: &str) -> Result<Option<Timestamp>, StoreError> {
    take::<Option<&str>>(row, name)?.map(parse_moment).transpose()
}

/// What a migration has made of the store.
pub(super) fn mark(row: &Row) -> Result<Option<Mark>, StoreError> {
    let Some(kind) = take::<Option<i16>>(row, "mark")? else { return Ok(None) };
    let place = unescape(take(row, "mark_place")?);
    let mark = u8::try_from(kind).ok().and_then(|kind| Mark::of_parts(kind, &place));
    mark.map(Some).ok_or_else(|| unreadable("an unknown mark"))
}

/// An intent as it is carried into another store, out of a row with [`COLUMNS`] and `ended_at`.
pub(super) fn adopted(row: &Row) -> Result<Adopted, StoreError> {
    let shape = decode_row(take(row, "intent")?).map_err(unreadable)?.shape;
    Ok(Adopted { stored: stored(row)?, shape, ended_at: serial(take(row, "ended_at")?)? })
}

/// An intent out of a row with [`COLUMNS`].
pub(super) fn stored(row: &Row) -> Result<Stored, StoreError> {
    let mut stored = decode_row(take(row, "intent")?).map_err(unreadable)?.stored;
    stored.tries = u8::try_from(take::<i16>(row, "tries")?).map_err(unreadable)?;
    stored.last_attempt = take::<Option<i64>>(row, "attempt")?.map(serial).transpose()?;
    stored.unsettled = take(row, "unsettled")?;
    stored.state = state(row, stored.last_attempt)?;
    Ok(stored)
}

fn state(row: &Row, last: Option<Serial>) -> Result<State, StoreError> {
    let why = || Ok::<Why, StoreError>(Why::Owned(unescape(take(row, "why")?)));
    let attempt = || {
        let seq = last.ok_or_else(|| unreadable("an open attempt without a number"))?;
        let fingerprint = Fingerprint(take::<i64>(row, "fingerprint")?.cast_unsigned());
        Ok::<_, StoreError>(Attempt { seq, fingerprint, floor: optional_moment(row, "floor")? })
    };
    Ok(match take::<&str>(row, "state")? {
        "queued" => State::Queued,
        "sending" => State::Sending(attempt()?),
        "in_doubt" => State::InDoubt(attempt()?, why()?),
        "held" => State::Held(attempt()?, why()?),
        "placed" => State::Placed {
            id: order_id(take(row, "order_id")?)?,
            learnt: learnt(take(row, "learnt")?)?,
            created_at: optional_moment(row, "order_created")?,
        },
        "created" => State::Created {
            id: order_id(take(row, "order_id")?)?,
            learnt: learnt(take(row, "learnt")?)?,
            created_at: optional_moment(row, "order_created")?,
            payment: payment(row)?,
            why: why()?,
        },
        "unpaid" => State::Unpaid {
            id: order_id(take(row, "order_id")?)?,
            learnt: learnt(take(row, "learnt")?)?,
            created_at: optional_moment(row, "order_created")?,
            why: why()?,
        },
        "refused" => State::Refused(why()?),
        "not_placed" => State::NotPlaced(why()?),
        _ => return Err(unreadable("an unknown state")),
    })
}

/// The claim in a row with [`COLUMNS`] and an order.
pub(super) fn claim(row: &Row) -> Result<Claim, StoreError> {
    let stored = decode_row(take(row, "intent")?).map_err(unreadable)?.stored;
    Ok(Claim {
        id: order_id(take(row, "order_id")?)?,
        intent: stored.id,
        lane: stored.lane,
        learnt: learnt(take(row, "learnt")?)?,
    })
}

/// The witness in a row with [`COLUMNS`] and an order.
pub(super) fn known(row: &Row) -> Result<Known, StoreError> {
    let intent = decode_row(take(row, "intent")?).map_err(unreadable)?;
    Ok(Known {
        id: order_id(take(row, "order_id")?)?,
        lane: intent.stored.lane,
        shape: intent.shape,
        learnt: learnt(take(row, "learnt")?)?,
        created_at: optional_moment(row, "order_created")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_survives_a_column() {
        for text in ["", "plain", "a\\b", "nul\0nul", "\\0", "\\\\0\0\\", "ünï\u{10ffff}"] {
            let column = escape(text);
            assert!(!column.contains('\0'), "{text:?}");
            assert_eq!(unescape(column.into_owned()), text);
        }
        assert_ne!(escape("\\0"), escape("\0"));
    }

    #[test]
    fn moments_survive_a_column_and_sort() {
        let moments = [
            Timestamp::UNIX_EPOCH,
            Timestamp::new(1_900_000_000, 0).expect("in range"),
            Timestamp::new(1_900_000_000, 5).expect("in range"),
            Timestamp::new(1_900_000_001, 0).expect("in range"),
            Timestamp::MAX,
        ];
        let texts = moments.map(moment);
        assert!(texts.is_sorted());
        assert_eq!(texts.map(|text| parse_moment(&text).expect("a moment")), moments);
    }
}
