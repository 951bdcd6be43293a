//! Several routers on one store, one after the other by a lease (rule 16), each with a lane of the
//! crate's own.
//!
//! A router has the lease of the account for some ticks, which it counts itself from before it
//! asked. It may stand still at any place for any time, and goes on where it was. Whoever gets the
//! lease after it reads the store, and takes every open attempt for in doubt. What the old one has
//! under way is three things: writes that reach the store later (the fence), POSTs whose gate has
//! not been asked (the lease check), and bytes that a gate has yielded and that have not left (the
//! pause).

mod happen;
mod props;
mod runs;
mod steps;
mod store;
mod words;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use order_router::protocol::lane::Rules;
use order_router::protocol::{Clause, LeftOut};

use super::props::Ended;
use super::setup::TICK;

/// A mistake that is no clause's absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slip {
    /// A renewed lease is counted from when the store's answer came, not from before it was asked.
    CountsFromAnswer,
    /// A lane that is rebuilt within its process counts on nothing that may leave later, although
    /// its router has only just got the lease.
    RebuiltFromNow,
    /// A gate asks whether its process has the lease, not whether the lease that its attempt was
    /// recorded under lasts.
    AnyEpoch,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Setup {
    pub intents: u8,
    pub tries_max: u8,
    /// Ticks.
    pub landing: u8,
    /// Ticks that a lease lasts, as its router counts.
    pub lease: u8,
    /// Ticks that the lease ends earlier, as the store counts.
    pub fast: u8,
    /// Ticks before its lease's end from which a gate yields nothing.
    pub margin: u8,
    /// Ticks from its hand-out in which a gate yields; `None`: it yields at any time.
    pub window: Option<u8>,
    /// Ticks that a process stands still at most, between the yield of a gate and the wire.
    pub pause: u8,
    /// How often another router gets the lease.
    pub take_overs: u8,
    /// How often a router asks for more.
    pub renewals: u8,
    /// How often a router gives its lease back.
    pub hand_overs: u8,
    /// How often the lane of the router with the lease is lost and rebuilt.
    pub rebuilds: u8,
    /// The router with the lease may stand still too, not only one that has lost it.
    pub sleepy: bool,
    /// A router that has lost its lease stands still for good, but for what is under way: writes,
    /// gates, and bytes that have been yielded.
    pub stalls: bool,
    /// A write is durable some time before its router hears of it.
    pub split_writes: bool,
    /// A list may lack orders that are younger than the landing bound allows.
    pub lag: bool,
    /// No POST is answered.
    pub mute: bool,
    /// The clause that is left out.
    pub without: Option<Clause>,
    pub slip: Option<Slip>,
    /// Not asked: whether every intent is driven by the router with the lease.
    pub money_only: bool,
    pub ended: Arc<Ended>,
    /// Only the first violation counts: the shortest path.
    pub first_only: bool,
    pub found: Arc<AtomicBool>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            intents: 2,
            tries_max: 1,
            landing: 1,
            lease: 1,
            fast: 0,
            margin: 0,
            window: None,
            pause: 1,
            take_overs: 1,
            renewals: 0,
            hand_overs: 0,
            rebuilds: 0,
            sleepy: false,
            stalls: false,
            split_writes: false,
            lag: true,
            mute: false,
            without: None,
            slip: None,
            money_only: false,
            ended: Arc::default(),
            first_only: false,
            found: Arc::default(),
        }
    }
}

impl Setup {
    /// Whether a clause is kept.
    pub fn keeps(&self, clause: Clause) -> bool {
        self.without != Some(clause)
    }

    /// Nothing is left out, and nobody slips.
    pub fn is_whole(&self) -> bool {
        self.without.is_none() && self.slip.is_none() && self.margin >= self.fast
    }

    /// Whether a property counts as kept, where it `is_so`.
    pub fn holds(&self, is_so: bool) -> bool {
        if !self.first_only {
            return is_so;
        }
        is_so || self.found.swap(true, Ordering::SeqCst)
    }

    /// Ticks that a lease lasts, as the store counts.
    pub fn store_lease(&self) -> u8 {
        self.lease - self.fast
    }

    /// The rules that each lane is driven by.
    pub fn rules(&self) -> Rules {
        Rules {
            tries_max: self.tries_max,
            wire_bound: Duration::ZERO,
            landing_bound: Some(TICK * u32::from(self.landing)),
            in_flight_max: 8,
            look_again_min: TICK,
            look_again_max: TICK,
            left_out: self.without.map(LeftOut::only).unwrap_or_default(),
        }
    }
}
