//! order-router.

#[cfg(feature = "simulator")]
pub mod simulator;
