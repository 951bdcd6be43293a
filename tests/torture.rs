//! Real processes on a real disk: killed at every crash point, stopped, cut off from the disk, with
//! a disk that fails, lies full or has rotted.
//!
//! Each part has a short form, which every test run has, and a long one (`#[ignore]`d) for
//! `just torture`. `TORTURE_SEED` and `TORTURE_ROUNDS` set the seed and the rounds of the long one;
//! what chance decides comes from the seed, and what the scheduler decides does not.
//!
//! After every death, three things are compared: what callers were told, what the journal holds,
//! what the supplier sold. Told is never more than stored; the supplier never sold more orders of
//! one kind than the journal explains by orders placed and attempts open. At the end faults are
//! turned off, everything must end, and `order-router check` must find nothing wrong.

#![allow(clippy::disallowed_methods, reason = "tests measure real time; `tidy` bans the rest")]

#[path = "torture/cuts.rs"]
mod cuts;
#[path = "torture/flips.rs"]
mod flips;
#[path = "torture/full.rs"]
mod full;
#[path = "torture/injections.rs"]
mod injections;
#[path = "torture/kills.rs"]
mod kills;
#[path = "torture/pauses.rs"]
mod pauses;
#[path = "torture/world.rs"]
mod world;
