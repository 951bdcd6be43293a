//! The pure core: what is decided, without a clock, a thread, a socket or a disk.
//!
//! Everything here is a function of its arguments. Time is an argument, effects are plain data,
//! so tests, a model checker and a simulator drive the very code that runs.

pub mod account;
pub mod balance;
mod clause;
pub mod evidence;
pub mod format;
pub mod fulfilment;
mod intent;
pub mod lane;
pub mod limits;
pub mod listing;
pub mod payment;
mod time;

pub use clause::{Clause, LeftOut};
pub use intent::{
    Attempt, AttemptSeq, Change, Fingerprint, IDS_PER_RECORD_MAX, IntentId, Learnt, NewIntent,
    Ordered, Outcome, Serial, Shape, State, Verdict, Why,
};
pub use payment::{PayStep, PayVerdict, Payment, PaysOn};
pub use time::Moment;
