//! Rows as the index holds them: an intent, a claim, and what is known of the account.

use super::fields::{
    Reader, put_ids, put_items, put_learnt, put_option, put_shape, put_state, put_str,
    put_timestamp, put_u32, put_u64,
};
use super::spent::{put_spent, take_spent};
use super::{RECORD_PAID_LATER, RECORD_PLAIN, RECORD_SPENT, RecordError};
use crate::order::{ItemsHash, OrderId};
use crate::protocol::{IntentId, Learnt, Serial, Shape, State};
use crate::store::book::Account;
use crate::store::{Adopted, Claim, HistoryLine, Known, Mark, Stored};

/// An intent with what the store alone needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The intent.
    pub stored: Stored,
    /// Its shape, which outlives its items.
    pub shape: Shape,
    /// The number of the last change to it, counted over the whole journal.
    pub changed: u64,
    /// The highest serial that had been handed out when it ended, or got its order.
    pub ended_at: Serial,
}

impl Row {
    /// Whether actors have to be told of it at a start: it has not ended, or its POST may land.
    pub(crate) fn is_active(&self) -> bool {
        !self.stored.state.is_end() || self.stored.unsettled
    }

    /// As it is carried into another store, where its changes are counted anew.
    pub(crate) fn adopted(&self) -> Adopted {
        Adopted { stored: self.stored.clone(), shape: self.shape, ended_at: self.ended_at }
    }
}

impl From<Adopted> for Row {
    fn from(Adopted { stored, shape, ended_at }: Adopted) -> Self {
        Self { stored, shape, changed: 0, ended_at }
    }
}

/// A claim with everything that witnesses need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimRow {
    /// The supplier's order.
    pub id: OrderId,
    /// The intent that has it.
    pub intent: IntentId,
    /// That intent's lane.
    pub lane: ItemsHash,
    /// That intent's shape.
    pub shape: Shape,
    /// How it was learnt.
    pub learnt: Learnt,
    /// When the supplier says that it was created.
    pub created_at: Option<jiff::Timestamp>,
    /// The highest serial that had been handed out when it was claimed.
    pub ended_at: Serial,
    /// The number of the change that claimed it; 0 once it was read back from the index.
    pub changed: u64,
}

impl ClaimRow {
    /// As others see it.
    pub(crate) fn claim(&self) -> Claim {
        Claim { id: self.id.clone(), intent: self.intent, lane: self.lane, learnt: self.learnt }
    }

    /// As a witness.
    pub(crate) fn known(&self) -> Known {
        Known {
            id: self.id.clone(),
            lane: self.lane,
            shape: self.shape,
            learnt: self.learnt,
            created_at: self.created_at,
        }
    }
}

/// The lowest version whose readers understand a row with this state.
pub(super) fn row_version(state: &State) -> u8 {
    match state {
        State::Created { .. } | State::Unpaid { .. } => RECORD_PAID_LATER,
        _ => RECORD_PLAIN,
    }
}

/// Appends an intent's row; without its items unless `with_items`.
pub(crate) fn encode_row(row: &Row, with_items: bool, into: &mut Vec<u8>) {
    let stored = &row.stored;
    into.push(row_version(&stored.state));
    put_u64(into, stored.id.0);
    put_str(into, stored.client_ref.as_str());
    into.extend_from_slice(stored.lane.as_bytes());
    into.extend_from_slice(stored.as_sent.as_bytes());
    into.extend_from_slice(stored.delivered.as_bytes());
    put_items(into, if with_items { &stored.items } else { &[] });
    put_timestamp(into, stored.good_until);
    put_timestamp(into, stored.accepted_at);
    put_state(into, &stored.state);
    into.push(stored.tries);
    put_option(into, stored.last_attempt, |into, seq| put_u64(into, seq.0));
    into.push(u8::from(stored.unsettled));
    put_shape(into, row.shape);
    put_u64(into, row.changed);
    put_u64(into, row.ended_at.0);
}

/// Reads an intent's row.
pub(crate) fn decode_row(bytes: &[u8]) -> Result<Row, RecordError> {
    let mut reader = Reader::new(bytes);
    let row = take_row(&mut reader)?;
    reader.end()?;
    Ok(row)
}

/// Takes an intent's row off the front of a record.
pub(super) fn take_row(reader: &mut Reader<'_>) -> Result<Row, RecordError> {
    reader.version()?;
    let stored = Stored {
        id: reader.serial()?,
        client_ref: reader.client_ref()?,
        lane: reader.lane()?,
        as_sent: reader.digest()?,
        delivered: reader.digest()?,
        items: reader.items()?,
        good_until: reader.timestamp()?,
        accepted_at: reader.timestamp()?,
        state: reader.state()?,
        tries: reader.u8()?,
        last_attempt: reader.option(Reader::serial)?,
        unsettled: reader.bool()?,
    };
    Ok(Row { stored, shape: reader.shape()?, changed: reader.u64()?, ended_at: reader.serial()? })
}

/// Appends a claim's row; its id is the key and not part of it.
pub(crate) fn encode_claim(claim: &ClaimRow, into: &mut Vec<u8>) {
    into.push(RECORD_PLAIN);
    put_u64(into, claim.intent.0);
    into.extend_from_slice(claim.lane.as_bytes());
    put_shape(into, claim.shape);
    put_learnt(into, claim.learnt);
    put_option(into, claim.created_at, put_timestamp);
    put_u64(into, claim.ended_at.0);
}

/// Reads a claim's row.
pub(crate) fn decode_claim(id: OrderId, bytes: &[u8]) -> Result<ClaimRow, RecordError> {
    let mut reader = Reader::versioned(bytes)?;
    let claim = ClaimRow {
        id,
        intent: reader.serial()?,
        lane: reader.lane()?,
        shape: reader.shape()?,
        learnt: reader.learnt()?,
        created_at: reader.option(Reader::timestamp)?,
        ended_at: reader.serial()?,
        changed: 0,
    };
    reader.end()?;
    Ok(claim)
}

/// Appends what is known of the account.
pub(crate) fn encode_account(account: &Account, into: &mut Vec<u8>) {
    let counts = account.spent.clocks().is_some();
    into.push(if counts { RECORD_SPENT } else { RECORD_PLAIN });
    put_u32(into, u32::try_from(account.held_lanes.len()).unwrap_or(u32::MAX));
    for (lane, why) in &account.held_lanes {
        into.extend_from_slice(lane.as_bytes());
        put_str(into, why);
    }
    put_ids(into, &account.orphans);
    put_option(into, account.history.as_ref(), |into, line| {
        put_option(into, line.newest, put_timestamp);
        put_ids(into, &line.ids);
    });
    into.push(u8::try_from(account.echo_seen.len()).unwrap_or(u8::MAX));
    account.echo_seen.iter().for_each(|shape| put_shape(into, *shape));
    put_option(into, account.paused.as_ref(), |into, why| put_str(into, why));
    // A store that no migration has marked is as it was before there were marks.
    let mark = account.mark.as_ref().map(Mark::parts);
    if counts {
        into.push(u8::from(mark.is_some()));
    }
    if let Some((kind, place)) = mark {
        into.push(kind);
        put_str(into, place);
    }
    if counts {
        put_spent(into, &account.spent);
    }
}

/// Reads what is known of the account.
pub(crate) fn decode_account(bytes: &[u8]) -> Result<Account, RecordError> {
    let mut reader = Reader::versioned(bytes)?;
    let mut account = Account::default();
    for _ in 0..reader.u32()? {
        account.held_lanes.insert(reader.lane()?, reader.why()?);
    }
    account.orphans = reader.ids()?;
    account.history = reader.option(|reader| {
        Ok(HistoryLine { newest: reader.option(Reader::timestamp)?, ids: reader.ids()? })
    })?;
    for _ in 0..reader.u8()? {
        account.echo_seen.push(reader.shape()?);
    }
    account.paused = reader.option(Reader::why)?;
    if bytes.first().is_some_and(|version| *version >= RECORD_SPENT) {
        account.mark = reader.option(Reader::mark)?;
        account.spent = take_spent(&mut reader)?;
    } else if !reader.is_empty() {
        account.mark = Some(reader.mark()?);
    }
    reader.end()?;
    Ok(account)
}
