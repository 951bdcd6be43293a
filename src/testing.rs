//! For tests, also of other crates: the conformance suite for stores, and the disk that forgets.

pub mod conformance;
pub mod disk;
