//! The feeder: gives the index what changed, behind the hot path, on a thread of its own.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::committer::{Answer, Request};
use super::queue::Shared;
use crate::crash;
use crate::protocol::Serial;
use crate::store::book::{Book, Feed};
use crate::store::index::{Index, Unusable, failed};
use crate::store::journal::Position;
use crate::store::record::ClaimRow;
use crate::store::{Known, StoreError};

/// What the feeder is given.
pub(super) enum Job {
    /// Rows that changed up to a frame.
    Feed { feed: Arc<Feed>, watermark: Position },
    /// Claims that are older than what the book holds.
    Scan { since: Serial, newer: Vec<Arc<ClaimRow>>, answer: Answer<Vec<Known>> },
}

/// The feeder's thread, from outside.
pub(super) struct Feeder {
    jobs: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
}

impl Feeder {
    /// Starts it. `pieces`: in how many pieces the index holds the account.
    pub(super) fn start(
        shared: Arc<Shared>,
        index: Arc<Index>,
        pieces: u32,
        note: PathBuf,
    ) -> std::io::Result<Self> {
        let (jobs, given) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("order-store-feed".to_owned())
            .spawn(move || work(&shared, &index, pieces, &note, &given))?;
        Ok(Self { jobs, thread })
    }

    /// Gives it something to do. A feeder that has died drops it, and its answers with it.
    pub(super) fn give(&self, job: Job) {
        let _ = self.jobs.send(job);
    }

    /// Lets it finish what it was given, and waits for that.
    pub(super) fn stop(self) {
        drop(self.jobs);
        let _ = self.thread.join();
    }
}

fn work(
    shared: &Shared,
    index: &Index,
    mut pieces: u32,
    note: &std::path::Path,
    given: &mpsc::Receiver<Job>,
) {
    while let Ok(job) = given.recv() {
        match job {
            Job::Feed { feed, watermark } => {
                let feeding = || index.feed(&feed, watermark, &mut pieces, true);
                crash::point("index.feeding");
                let result = catch_unwind(AssertUnwindSafe(feeding))
                    .unwrap_or_else(|_| Err(Unusable("feeding it panicked".to_owned())));
                crash::point("index.synced");
                if result.is_ok() {
                    // For `stats` of other processes alone: nothing depends on it.
                    let _ = note_fed(note, feed.standing.changes);
                    crash::point("index.noted");
                }
                shared.queue.push(Request::Fed(result));
            }
            Job::Scan { since, newer, answer } => {
                let _ = answer.send(scan(index, since, newer));
            }
        }
    }
}

fn note_fed(note: &std::path::Path, changes: u64) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(note)?;
    file.write_all(changes.to_string().as_bytes())
}

/// The claims of the index and those of the book, which overlap, oldest first.
fn scan(index: &Index, since: Serial, newer: Vec<Arc<ClaimRow>>) -> Result<Vec<Known>, StoreError> {
    let mut claims = index.claims_since(since).map_err(failed)?;
    claims.extend(newer);
    claims.sort_by_key(|claim| (claim.ended_at, claim.intent));
    claims.dedup_by_key(|claim| claim.intent);
    Ok(Book::known(&claims))
}
