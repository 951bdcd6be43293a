//! For tests, also of other crates: the conformance suite for stores, and the disk that forgets.

pub mod conformance;
pub mod disk;

pub use crate::crash::{CRASH_AT, CRASH_POINTS};
