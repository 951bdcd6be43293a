//! What is counted against limits, as records hold it.

use super::RecordError;
use super::fields::{Reader, put_option, put_str, put_timestamp, put_u16, put_u32, put_u64};
use crate::order::Price;
use crate::protocol::limits::{Clocks, Spend, Spent, Sum};

fn put_sum(into: &mut Vec<u8>, sum: Sum) {
    put_u64(into, sum.orders);
    put_str(into, &sum.amount.plain().to_string());
}

fn take_sum(reader: &mut Reader<'_>) -> Result<Sum, RecordError> {
    let orders = reader.u64()?;
    let amount: Price = reader.str()?.parse().map_err(|_| RecordError::Invalid("amount"))?;
    Ok(Sum { orders, amount })
}

fn put_clocks(into: &mut Vec<u8>, clocks: Clocks) {
    put_timestamp(into, clocks.wall);
    put_option(into, clocks.supplier, put_timestamp);
}

fn take_clocks(reader: &mut Reader<'_>) -> Result<Clocks, RecordError> {
    Ok(Clocks { wall: reader.timestamp()?, supplier: reader.option(Reader::timestamp)? })
}

pub(super) fn put_spend(into: &mut Vec<u8>, spend: &Spend) {
    put_u64(into, spend.now);
    put_u64(into, spend.at);
    put_sum(into, spend.sum);
    put_u16(into, u16::try_from(spend.back.len()).unwrap_or(u16::MAX));
    for (at, sum) in spend.back.iter().take(usize::from(u16::MAX)) {
        put_u64(into, *at);
        put_sum(into, *sum);
    }
    put_clocks(into, spend.clocks);
}

pub(super) fn take_spend(reader: &mut Reader<'_>) -> Result<Spend, RecordError> {
    let (now, at, sum) = (reader.u64()?, reader.u64()?, take_sum(reader)?);
    let mut back = Vec::new();
    for _ in 0..reader.u16()? {
        back.push((reader.u64()?, take_sum(reader)?));
    }
    Ok(Spend { now, at, sum, back, clocks: take_clocks(reader)? })
}

pub(super) fn put_spent(into: &mut Vec<u8>, spent: &Spent) {
    put_u64(into, spent.now());
    put_option(into, spent.clocks(), put_clocks);
    put_u32(into, u32::try_from(spent.slots().len()).unwrap_or(u32::MAX));
    for (at, sum) in spent.slots() {
        put_u64(into, at);
        put_sum(into, sum);
    }
}

pub(super) fn take_spent(reader: &mut Reader<'_>) -> Result<Spent, RecordError> {
    let (now, clocks) = (reader.u64()?, reader.option(take_clocks)?);
    let mut slots = Vec::new();
    for _ in 0..reader.u32()? {
        slots.push((reader.u64()?, take_sum(reader)?));
    }
    Ok(Spent::of(slots, now, clocks))
}
