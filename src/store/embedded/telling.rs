//! How far a replay of the journal has come, for whoever wants to know.

use super::{OnProgress, Progress};

/// After how many journal bytes progress is told.
const PROGRESS_BYTES: u64 = 4 << 20;

/// Tells how far a replay has come.
pub(super) struct Telling {
    on: Option<OnProgress>,
    bytes_total: u64,
    bytes: u64,
    told: u64,
}

impl Telling {
    pub(super) fn new(on: Option<OnProgress>, bytes_total: u64) -> Self {
        Self { on, bytes_total, bytes: 0, told: 0 }
    }

    pub(super) fn read(&mut self, bytes: u64, changes: u64) {
        self.bytes += bytes;
        if self.bytes - self.told < PROGRESS_BYTES {
            return;
        }
        self.told = self.bytes;
        let Self { bytes, bytes_total, .. } = *self;
        tracing::info!(bytes, bytes_total, changes, "the journal is read");
        if let Some(on) = &self.on {
            on(Progress { bytes, bytes_total, changes });
        }
    }
}
