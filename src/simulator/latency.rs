//! How long an answer takes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The distribution of what a latency has beyond its fixed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum LatencyShape {
    /// Between nothing and the jitter, all equally likely.
    Uniform,
    /// The jitter is the mean; some answers take many times as long.
    Exponential,
}

/// A duration of the fixed part and the drawn jitter; draws nothing where there is no jitter.
pub(super) fn delay(
    rng: &mut fastrand::Rng,
    fixed: Duration,
    jitter: Duration,
    shape: LatencyShape,
) -> Duration {
    if jitter.is_zero() {
        return fixed;
    }
    let share = match shape {
        LatencyShape::Uniform => rng.f64(),
        LatencyShape::Exponential => -(1.0 - rng.f64()).ln(),
    };
    fixed + jitter.mul_f64(share)
}
