//! For tests, also of other crates: the conformance suite for stores, the disk that forgets, and
//! the readers for fuzzers.

pub mod conformance;
pub mod disk;
#[cfg(feature = "testing")]
pub mod readers;

pub use crate::crash::{
    COMPACTION_POINTS, CRASH_AT, CRASH_POINTS, LIMIT_POINTS, MIGRATION_POINTS, RESTORE_POINTS,
};
