//! The pure core: what is decided, without a clock, a thread, a socket or a disk.
//!
//! Everything here is a function of its arguments. Time is an argument, effects are plain data,
//! so tests, a model checker and a simulator drive the very code that runs.

pub mod account;
mod clause;
pub mod evidence;
pub mod format;
pub mod fulfilment;
mod intent;
pub mod lane;
pub mod listing;
mod time;

pub use clause::{Clause, LeftOut};
pub use intent::{
    Attempt, AttemptSeq, Change, Fingerprint, IDS_PER_RECORD_MAX, IntentId, Learnt, NewIntent,
    Outcome, Serial, Shape, State, Verdict, Why,
};
pub use time::Moment;
