//! What a lane is told and what it asks for: plain data.

use jiff::Timestamp;

use super::{ListView, Moment};
use crate::order::{ItemsDigest, OrderId};
use crate::protocol::{Attempt, AttemptSeq, Fingerprint, IntentId, Learnt, Outcome, Verdict, Why};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// A caller hands an order over.
    Submitted {
        /// The fresh name of its intent.
        intent: IntentId,
        /// What of it must be equal to be interchangeable (rule 13).
        delivered: ItemsDigest,
        /// Until when it is worth sending.
        good_until: Moment,
        /// A permit to send that was free at that moment, with the attempt that it allows.
        permit: Option<Attempt>,
    },
    /// A permit that was asked for has come: rate token and place are taken (rule 2).
    Permitted {
        /// For this intent.
        intent: IntentId,
        /// The attempt that it allows.
        attempt: Attempt,
    },
    /// A write has an answer; what it says is durable.
    Written {
        /// The intent that was written about.
        intent: IntentId,
        /// The answer.
        written: Written,
    },
    /// A POST has an outcome, at its request timeout or later.
    Answered {
        /// The intent.
        intent: IntentId,
        /// The attempt.
        seq: AttemptSeq,
        /// What is known of it.
        outcome: Outcome,
        /// When the sending task reported that its gate had yielded or that it gave up (rule 7).
        left: Option<Moment>,
    },
    /// A list that was asked for has come.
    Listed(ListView),
    /// A person decides what is in doubt.
    Resolved {
        /// The intent.
        intent: IntentId,
        /// The decision, checked against the supplier already.
        decision: Decision,
    },
    /// A person ends the hold of the lane.
    Freed,
    /// The moment of [`super::Lane::wakes_at`] has come.
    Woke,
}

/// A person's decision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Decision {
    /// This supplier order is the intent's.
    Placed {
        /// The supplier's order.
        id: OrderId,
        /// When it was created.
        created_at: Option<Timestamp>,
    },
    /// The attempt bought nothing and never will.
    Absent,
}

/// The store's answer to a write about an intent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Written {
    /// It is durable.
    Done,
    /// `Accept`: the reference has an intent already, or belongs to another order. The driver
    /// deals with the caller; the lane forgets the intent.
    NotNew,
    /// `Decide`: the order is another intent's.
    IdTaken {
        /// Who has it.
        holder: IntentId,
        /// How that was learnt.
        learnt: Learnt,
        /// Whether that lane is this lane.
        same_lane: bool,
    },
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Make a change durable, then answer with [`Event::Written`] where it names an intent.
    Write(Write),
    /// Ask for a permit to send; answered by [`Event::Permitted`].
    AskPermit {
        /// The intent.
        intent: IntentId,
    },
    /// A permit is not needed after all.
    ReturnPermit {
        /// The intent.
        intent: IntentId,
    },
    /// Send the POST of a recorded attempt.
    Send {
        /// The intent.
        intent: IntentId,
        /// The attempt.
        seq: AttemptSeq,
    },
    /// Ask for a list: one whose first page is requested after this moment.
    List {
        /// Names the question in the answer.
        ask: u64,
        /// How far back it must reach: the oldest floor of an open attempt; `None`: to the end.
        since: Option<Timestamp>,
    },
    /// Tell whoever waits for the intent. What is told is durable.
    Tell {
        /// The intent.
        intent: IntentId,
        /// What.
        told: Told,
    },
    /// Orders that no intent has: to be kept as orphans (rule 12).
    Orphans {
        /// Their ids.
        ids: Vec<OrderId>,
    },
    /// A `Created` came for an attempt that is closed: if nobody has the order it is an orphan.
    Stray {
        /// The intent.
        intent: IntentId,
        /// The attempt.
        seq: AttemptSeq,
        /// The supplier's order.
        id: OrderId,
        /// Its intent was placed from a list: identical orders were exchanged, and nothing was
        /// declared absent.
        exchanged: bool,
    },
    /// An attempt was released: look for what lands too late (rule 12).
    Released {
        /// The intent.
        intent: IntentId,
        /// The attempt's floor: its order cannot be older.
        floor: Option<Timestamp>,
    },
    /// Something that a person should know.
    Alarm(Alarm),
}

/// A change to make durable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Write {
    /// Accept the intent, with its first attempt where it can leave at once.
    Accept {
        /// The intent.
        intent: IntentId,
        /// Its first attempt.
        attempt: Option<Attempt>,
    },
    /// Record an attempt.
    Record {
        /// The intent.
        intent: IntentId,
        /// The attempt.
        attempt: Attempt,
    },
    /// Decide an attempt.
    Decide {
        /// The intent.
        intent: IntentId,
        /// The attempt.
        seq: AttemptSeq,
        /// The verdict.
        verdict: Verdict,
    },
    /// End an unsent intent.
    Expire {
        /// The intent.
        intent: IntentId,
        /// Why.
        why: Why,
    },
    /// The POST of an intent placed from a list is settled. Needs no answer.
    Settle {
        /// The intent.
        intent: IntentId,
    },
    /// Hold the lane. Needs no answer.
    HoldLane {
        /// Why.
        why: Why,
    },
    /// Free the lane. Needs no answer.
    FreeLane,
}

/// What those who wait for an intent are told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Told {
    /// It is durable, and will be driven to an end.
    Accepted,
    /// Its attempt is in doubt.
    InDoubt,
    /// A person is asked.
    Held(Why),
    /// Bought.
    Placed {
        /// The supplier's order.
        id: OrderId,
        /// How it was learnt.
        learnt: Learnt,
        /// When the supplier says that it was created.
        created_at: Option<Timestamp>,
    },
    /// Refused: nothing was bought.
    Refused(Why),
    /// Given up: nothing was bought.
    NotPlaced(Why),
    /// The lane is held by rule 10: nothing was recorded.
    LaneHeld(Why),
    /// A person's decision came for an intent that is not in doubt.
    NotInDoubt,
}

/// What an operator should know. Each names the assumption that is broken.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Alarm {
    /// An answer names an order that another intent has by its own answer, or in another lane: the
    /// supplier's answers are mixed up.
    IdTaken {
        /// The intent whose answer it is.
        intent: IntentId,
        /// Who has the order.
        holder: IntentId,
    },
    /// An attempt that was declared absent did land: the landing bound is too short (A1).
    LandedAfterAbsent {
        /// The intent.
        intent: IntentId,
        /// The attempt.
        seq: AttemptSeq,
    },
    /// More orders than doubts: somebody else buys here (A3) or a POST landed twice.
    Surplus {
        /// Unclaimed orders.
        candidates: usize,
        /// Attempts in doubt.
        doubts: usize,
    },
    /// An order that shares a product with one in doubt, but does not match it (A4).
    NearMiss {
        /// One such order.
        id: OrderId,
    },
    /// The list was fetched with another key than the attempt was sent with (A2, iv).
    OtherKey {
        /// The attempt's.
        attempt: Fingerprint,
        /// The list's.
        list: Fingerprint,
    },
}
