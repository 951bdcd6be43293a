//! What a run contains: bounds, faults, and the clause that it leaves out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use order_router::protocol::lane::Rules;
use order_router::protocol::{Clause, LeftOut, Moment};

use super::account::Ledger;
use super::props::Ended;

/// One tick of the model's time.
pub const TICK: Duration = Duration::from_secs(1);

/// The moment that every state of the model calls now.
pub const NOW: Moment = Moment::ORIGIN;

/// How often each thing may still go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Faults {
    /// The process dies and is started again.
    pub crashes: u8,
    /// The lane alone is lost, and is rebuilt within its process.
    pub rebuilds: u8,
    /// The supplier refuses a POST, for good or for now.
    pub refusals: u8,
    /// A POST's gate closes before a byte has left.
    pub closings: u8,
    /// A caller hands its order over once more, under the same reference.
    pub repeats: u8,
    /// The list of another account is read.
    pub other_keys: u8,
    /// An order is echoed with other items than it was bought with.
    pub garbled: u8,
    /// One POST makes two orders, and its answer is lost.
    pub twice: u8,
    /// The answer to a POST names the order of another one of the lane.
    pub wrong_ids: u8,
    /// Another lane buys, and is answered.
    pub knowns: u8,
    /// Somebody else buys the same while nothing is open.
    pub strangers: u8,
    /// An order that was made fails later.
    pub fails: u8,
    /// A POST lands after its bound.
    pub late: u8,
    /// A list shows what was there some time ago.
    pub stale: u8,
    /// A caller uses the first one's reference for another order.
    pub conflicts: u8,
    /// The supplier answers with an error, whatever it has done.
    pub errors: u8,
    /// When the process dies, the last write under way is durable later all the same: the old
    /// process was not dead yet.
    pub undead: u8,
    /// The store comes back as it was at the beginning.
    pub rollbacks: u8,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Setup {
    pub intents: u8,
    /// The second intent wants what the list does not tell from the first one's (rule 13).
    pub two_kinds: bool,
    pub tries_max: u8,
    /// Ticks.
    pub landing: u8,
    /// Ticks.
    pub wire: u8,
    /// Ticks within which the gate yields; `None`: a POST that is handed out leaves at once.
    pub window: Option<u8>,
    /// Ticks within which the task of a POST reports; `None`: at any time.
    pub report: Option<u8>,
    /// Ticks after which an unsent intent is too late; `None`: never.
    pub good_for: Option<u8>,
    /// A permit is there when an intent comes: its first attempt is recorded with it.
    pub permit_at_intake: bool,
    /// A write is durable some time before its lane hears of it.
    pub split_writes: bool,
    /// A list may lack orders that are younger than the landing bound allows.
    pub lag: bool,
    /// A list may be incomplete: it lacks anything, and is no proof.
    pub partial: bool,
    /// No POST is answered.
    pub mute: bool,
    /// An answer may reach the lane after the landing bound.
    pub late_answers: bool,
    pub faults: Faults,
    /// The lists are read by the account's book.
    pub account: Option<Ledger>,
    /// Whether it is followed who is served first, and what is waited for.
    pub fairness: bool,
    /// States are folded: what differs in names alone is one state (`reduce`).
    pub folds: bool,
    /// Whether a POST has landed stays open until an answer or a list shows it.
    pub unseen: bool,
    /// The clause that is left out.
    pub without: Option<Clause>,
    /// Whether states are judged by what only disturbs the peace.
    pub peace: bool,
    /// Whether every state is seen to end by a fair continuation.
    pub ends: bool,
    pub ended: Arc<Ended>,
    /// Only the first violation counts: the shortest path.
    pub first_only: bool,
    pub found: Arc<AtomicBool>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            intents: 2,
            two_kinds: false,
            tries_max: 2,
            landing: 2,
            wire: 0,
            window: None,
            report: None,
            good_for: None,
            permit_at_intake: true,
            split_writes: false,
            lag: true,
            partial: false,
            mute: false,
            late_answers: false,
            faults: Faults::default(),
            account: None,
            fairness: false,
            folds: false,
            unseen: false,
            without: None,
            peace: true,
            ends: true,
            ended: Arc::default(),
            first_only: false,
            found: Arc::default(),
        }
    }
}

impl Setup {
    /// Whether the world of this run keeps a clause.
    pub fn keeps(&self, clause: Clause) -> bool {
        self.without != Some(clause)
    }

    /// Whether a property counts as kept, where it `is_so`.
    pub fn holds(&self, is_so: bool) -> bool {
        if !self.first_only {
            return is_so;
        }
        is_so || self.found.swap(true, Ordering::SeqCst)
    }

    /// Ticks after its report in which a POST may land, and before it must be in the list.
    pub fn bound(&self) -> u8 {
        self.wire + self.landing
    }

    /// Every assumption holds: nothing may raise an alarm or hold a lane.
    pub fn is_faithful(&self) -> bool {
        let Faults { other_keys, garbled, twice, wrong_ids, strangers, .. } = self.faults;
        let Faults { late, stale, rollbacks, undead, .. } = self.faults;
        let broken = [other_keys, garbled, twice, wrong_ids, strangers, late, stale, rollbacks];
        broken == [0; 8] && undead == 0
    }

    /// What lands too late is looked for.
    pub fn listed_again(&self) -> bool {
        self.faults.late > 0 && self.keeps(Clause::ListedAgain)
    }

    /// The rules that the lane is driven by.
    pub fn rules(&self) -> Rules {
        Rules {
            tries_max: self.tries_max,
            wire_bound: TICK * u32::from(self.wire),
            landing_bound: Some(TICK * u32::from(self.landing)),
            in_flight_max: 8,
            look_again_min: TICK,
            look_again_max: TICK,
            left_out: self.without.map(LeftOut::only).unwrap_or_default(),
        }
    }
}

/// Now in the clock of the lane: late enough for every bound to lie before it.
pub fn base() -> Moment {
    NOW.plus(TICK * 1_000)
}
