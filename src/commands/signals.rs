//! SIGINT and SIGTERM: the first asks to stop, the second stops.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What comes within this time of another signal is the same wish: `timeout` and some supervisors
/// send theirs to the process and to its group.
const SAME_WISH: Duration = Duration::from_millis(200);

/// Both signals.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    last: Option<Instant>,
}

impl Signals {
    /// From now on they no longer end the process.
    pub fn listen() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { interrupt, terminate, last: None })
    }

    /// Waits for the next of either.
    pub async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
            let same = self.last.is_some_and(|last| last.elapsed() < SAME_WISH);
            if !same {
                self.last = Some(Instant::now());
                return;
            }
        }
    }
}
