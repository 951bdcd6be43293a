//! The results file: one line of JSON for everything that is known of an input line.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use order_router::Item;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Where an input line stands. All but the first is how a run leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Durable: it is driven to an end, over any crash.
    Accepted,
    /// Bought: `order_id` is this reference's alone.
    Placed,
    /// The supplier refused it: nothing was bought.
    Refused,
    /// Given up: nothing was bought.
    NotPlaced,
    /// It may have been bought; a person is asked.
    Held,
    /// It may have been bought, or is still to be; run again.
    InDoubt,
    /// The reference belongs to another order: nothing was bought for this line.
    Conflict,
    /// The line is no order: nothing was bought for it.
    Invalid,
}

impl Outcome {
