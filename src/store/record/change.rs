//! A change as the journal holds it.

use super::fields::{
    Reader, put_attempt, put_id, put_ids, put_items, put_learnt, put_option, put_payment,
    put_shape, put_str, put_timestamp, put_u64,
};
use super::row::{encode_row, row_version, take_row};
use super::spent::{put_spend, put_spent, take_spend, take_spent};
use super::{RECORD_PAID_LATER, RECORD_PLAIN, RECORD_SHORT, RECORD_SPENT, RecordError, short};
use crate::protocol::{Change, NewIntent, PayVerdict, Verdict};
use crate::store::Adopted;

/// Appends a change's record.
pub(crate) fn encode_change(change: &Change, into: &mut Vec<u8>) {
    into.push(version(change));
    match change {
        Change::Accept { intent, attempt } => {
            into.push(1);
            put_intent(into, intent);
            put_option(into, attempt.as_ref(), put_attempt);
        }
        Change::Record { intent, attempt } => {
            into.push(2);
            put_u64(into, intent.0);
            put_attempt(into, attempt);
        }
        Change::Decide { intent, attempt, verdict } => {
            into.push(3);
            put_u64(into, intent.0);
            put_u64(into, attempt.0);
            put_verdict(into, verdict);
        }
        Change::Expire { intent, why } => {
            into.push(4);
            put_u64(into, intent.0);
            put_str(into, why);
        }
        Change::Settle { intent } => {
            into.push(5);
            put_u64(into, intent.0);
        }
        Change::HoldLane { lane, why } => {
            into.push(6);
            into.extend_from_slice(lane.as_bytes());
            put_str(into, why);
        }
        Change::FreeLane { lane } => {
            into.push(7);
            into.extend_from_slice(lane.as_bytes());
        }
        Change::Orphans { ids, why } => {
            into.push(8);
            put_ids(into, ids);
            put_str(into, why);
        }
        Change::History { newest, ids } => {
            into.push(9);
            put_option(into, *newest, put_timestamp);
            put_ids(into, ids);
        }
        Change::EchoSeen { shape } => {
            into.push(10);
            put_shape(into, *shape);
        }
        Change::Pause { why } => {
            into.push(11);
            put_str(into, why);
        }
        Change::Resume => into.push(12),
        Change::Adopt { intent, handed_out } if short::is_over(intent) => {
            into.push(30);
            short::put_over(into, intent, *handed_out);
        }
        Change::Adopt { intent, handed_out } => {
            into.push(13);
            put_adopted(into, intent);
            put_u64(into, handed_out.0);
        }
        Change::Mark { mark } => {
            into.push(14);
            put_option(into, mark.as_ref(), |into, mark| {
                let (kind, place) = mark.parts();
                into.push(kind);
                put_str(into, place);
            });
        }
        Change::Pay { intent, was, to } => {
            into.push(15);
            put_u64(into, intent.0);
            put_payment(into, was);
            put_pay_verdict(into, to);
        }
        Change::Spend(spend) => {
            into.push(16);
            put_spend(into, spend);
        }
        Change::Spent(spent) => {
            into.push(17);
            put_spent(into, spent);
        }
    }
}

/// The lowest version whose readers understand a change.
fn version(change: &Change) -> u8 {
    match change {
        Change::Adopt { intent, .. } if short::is_over(intent) => RECORD_SHORT,
        Change::Adopt { intent, .. } => row_version(&intent.stored.state),
        Change::Pay { .. } | Change::Decide { verdict: Verdict::Created { .. }, .. } => {
            RECORD_PAID_LATER
        }
        Change::Spend(_) | Change::Spent(_) => RECORD_SPENT,
        _ => RECORD_PLAIN,
    }
}

fn put_pay_verdict(into: &mut Vec<u8>, to: &PayVerdict) {
    match to {
        PayVerdict::Open { payment, why } => {
            into.push(0);
            put_payment(into, payment);
            put_str(into, why);
        }
        PayVerdict::Paid => into.push(1),
        PayVerdict::Unpaid(why) => put_reason(into, 2, why),
    }
}

/// The keys that it brings come first, so that they are told without the rest.
fn put_adopted(into: &mut Vec<u8>, intent: &Adopted) {
    let id = intent.stored.state.order().map(|order| order.id);
    put_str(into, intent.stored.client_ref.as_str());
    put_option(into, id, put_id);
    encode_row(&intent.clone().into(), true, into);
}

fn take_adopted(reader: &mut Reader<'_>) -> Result<Adopted, RecordError> {
    let (reference, order) = (reader.str()?, reader.option(Reader::id)?);
    let row = take_row(reader)?;
    let claimed = row.stored.state.order().map(|order| order.id);
    if row.stored.client_ref.as_str() != reference || claimed != order.as_ref() {
        return Err(RecordError::Invalid("keys"));
    }
    Ok(row.adopted())
}

fn put_intent(into: &mut Vec<u8>, intent: &NewIntent) {
    put_u64(into, intent.id.0);
    put_str(into, intent.client_ref.as_str());
    into.extend_from_slice(intent.lane.as_bytes());
    into.extend_from_slice(intent.as_sent.as_bytes());
    into.extend_from_slice(intent.delivered.as_bytes());
    put_items(into, &intent.items);
    put_timestamp(into, intent.good_until);
    put_timestamp(into, intent.accepted_at);
}

fn put_verdict(into: &mut Vec<u8>, verdict: &Verdict) {
    match verdict {
        Verdict::Placed { id, learnt, created_at }
        | Verdict::Created { id, learnt, created_at } => {
            into.push(if matches!(verdict, Verdict::Placed { .. }) { 0 } else { 7 });
            put_id(into, id);
            put_learnt(into, *learnt);
            put_option(into, *created_at, put_timestamp);
        }
        Verdict::Refused(why) => put_reason(into, 1, why),
        Verdict::NotSent(why) => put_reason(into, 2, why),
        Verdict::InDoubt(why) => put_reason(into, 3, why),
        Verdict::Held(why) => put_reason(into, 4, why),
        Verdict::Absent => into.push(5),
        Verdict::NotPlaced(why) => put_reason(into, 6, why),
    }
}

fn put_reason(into: &mut Vec<u8>, kind: u8, why: &str) {
    into.push(kind);
    put_str(into, why);
}

/// Reads a change's record, to its last byte.
pub(crate) fn decode_change(bytes: &[u8]) -> Result<Change, RecordError> {
    let mut reader = Reader::versioned(bytes)?;
    let change = match reader.u8()? {
        1 => Change::Accept {
            intent: take_intent(&mut reader)?,
            attempt: reader.option(Reader::attempt)?,
        },
        2 => Change::Record { intent: reader.serial()?, attempt: reader.attempt()? },
        3 => Change::Decide {
            intent: reader.serial()?,
            attempt: reader.serial()?,
            verdict: take_verdict(&mut reader)?,
        },
        4 => Change::Expire { intent: reader.serial()?, why: reader.why()? },
        5 => Change::Settle { intent: reader.serial()? },
        6 => Change::HoldLane { lane: reader.lane()?, why: reader.why()? },
        7 => Change::FreeLane { lane: reader.lane()? },
        8 => Change::Orphans { ids: reader.ids()?, why: reader.why()? },
        9 => Change::History { newest: reader.option(Reader::timestamp)?, ids: reader.ids()? },
        10 => Change::EchoSeen { shape: reader.shape()? },
        11 => Change::Pause { why: reader.why()? },
        12 => Change::Resume,
        13 => Change::Adopt {
            intent: Box::new(take_adopted(&mut reader)?),
            handed_out: reader.serial()?,
        },
        14 => Change::Mark { mark: reader.option(Reader::mark)? },
        15 => Change::Pay {
            intent: reader.serial()?,
            was: reader.payment()?,
            to: take_pay_verdict(&mut reader)?,
        },
        30 => {
            let (intent, handed_out) = short::take_over(&mut reader)?;
            Change::Adopt { intent: Box::new(intent), handed_out }
        }
        16 => Change::Spend(take_spend(&mut reader)?),
        17 => Change::Spent(take_spent(&mut reader)?),
        _ => return Err(RecordError::Invalid("kind")),
    };
    reader.end()?;
    Ok(change)
}

/// The key that a change brings into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JournalKey<'a> {
    /// A new intent's reference.
    Reference(&'a str),
    /// A claimed order's id.
    Order(&'a str),
}

/// The keys that a change's record brings, without reading the rest of it.
pub(crate) fn journal_keys(bytes: &[u8]) -> Result<[Option<JournalKey<'_>>; 2], RecordError> {
    let mut reader = Reader::versioned(bytes)?;
    match reader.u8()? {
        1 => {
            reader.serial()?;
            Ok([Some(JournalKey::Reference(reader.str()?)), None])
        }
        3 => {
            reader.bytes(16)?;
            let claims = matches!(reader.u8()?, 0 | 7);
            if claims { Ok([Some(JournalKey::Order(reader.str()?)), None]) } else { Ok([None; 2]) }
        }
        13 => {
            let reference = JournalKey::Reference(reader.str()?);
            Ok([Some(reference), reader.option(Reader::str)?.map(JournalKey::Order)])
        }
        30 => {
            let (reference, order) = short::keys(&mut reader)?;
            Ok([Some(JournalKey::Reference(reference)), order.map(JournalKey::Order)])
        }
        _ => Ok([None; 2]),
    }
}

fn take_intent(reader: &mut Reader<'_>) -> Result<NewIntent, RecordError> {
    Ok(NewIntent {
        id: reader.serial()?,
        client_ref: reader.client_ref()?,
        lane: reader.lane()?,
        as_sent: reader.digest()?,
        delivered: reader.digest()?,
        items: reader.items()?,
        good_until: reader.timestamp()?,
        accepted_at: reader.timestamp()?,
    })
}

fn take_verdict(reader: &mut Reader<'_>) -> Result<Verdict, RecordError> {
    Ok(match reader.u8()? {
        0 => Verdict::Placed {
            id: reader.id()?,
            learnt: reader.learnt()?,
            created_at: reader.option(Reader::timestamp)?,
        },
        1 => Verdict::Refused(reader.why()?),
        2 => Verdict::NotSent(reader.why()?),
        3 => Verdict::InDoubt(reader.why()?),
        4 => Verdict::Held(reader.why()?),
        5 => Verdict::Absent,
        6 => Verdict::NotPlaced(reader.why()?),
        7 => Verdict::Created {
            id: reader.id()?,
            learnt: reader.learnt()?,
            created_at: reader.option(Reader::timestamp)?,
        },
        _ => return Err(RecordError::Invalid("verdict")),
    })
}

fn take_pay_verdict(reader: &mut Reader<'_>) -> Result<PayVerdict, RecordError> {
    Ok(match reader.u8()? {
        0 => PayVerdict::Open { payment: reader.payment()?, why: reader.why()? },
        1 => PayVerdict::Paid,
        2 => PayVerdict::Unpaid(reader.why()?),
        _ => return Err(RecordError::Invalid("payment")),
    })
}
