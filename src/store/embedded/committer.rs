//! The committer: decides, appends, syncs, and only then shows and answers. No thread of its own:
//! [`Drive`](super::drive::Drive) runs it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::EmbeddedConfig;
use super::answers::Answers;
use super::feeder::{Feeder, Job};
use super::queue::Shared;
use super::reading::read_some;
use super::serve::Commits;
use crate::crash;
use crate::order::{ClientRef, OrderId};
use crate::protocol::{Change, Clause, Serial};
use crate::runtime::disk::Disk;
use crate::store::book::{Base, Book, Feed, NoBase};
use crate::store::index::{Below, Unusable, failed};
use crate::store::journal::{Journal, Position};
use crate::store::{Bookmark, Claim, Committed, Known, Page, Rehydration, StoreError, Stored};

/// Where an answer goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the committer is asked.
pub(crate) enum Request {
    Commit(Change, Answer<Committed>),
    Find(ClientRef, Answer<Option<Stored>>),
    Claims(Vec<OrderId>, Answer<Vec<Option<Claim>>>),
    Rehydrate(Answer<Rehydration>),
    KnownSince(Serial, Answer<Vec<Known>>),
    Read(Bookmark, Answer<Page>),
    /// The feeder has finished what it was given.
    Fed(Result<(), Unusable>),
    Close(Answer<()>),
}

/// A request that cannot be answered, and why.
type Refused = (StoreError, Request);

/// An answer that waits until everything before it is durable.
enum Pending {
    Commit(Committed, Answer<Committed>),
    Find(Option<Stored>, Answer<Option<Stored>>),
    Claims(Vec<Option<Claim>>, Answer<Vec<Option<Claim>>>),
    Rehydrate(Box<Rehydration>, Answer<Rehydration>),
    KnownSince(Vec<Known>, Answer<Vec<Known>>),
    Read(Page, Answer<Page>),
    Scan(Job),
}

/// How many journal bytes may be written before the room on the disk is looked at again.
const ROOM_LOOK_BYTES: u64 = 1 << 20;

/// At most so many rows are fed to the index when the store closes; more wait for the next start.
const CLOSING_ROWS_MAX: usize = 16_384;

/// The index, and who feeds it.
pub(super) struct Indexed {
    pub below: Below,
    pub feeder: Feeder,
}

/// See the module.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    config: EmbeddedConfig,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    book: Book,
    journal: Journal,
    indexed: Option<Indexed>,
    pending: Answers<Pending>,
    /// Snapshots that the index has not been given yet, each as of a synced frame.
    snapshots: VecDeque<(Arc<Feed>, Position)>,
    feeding: Option<Arc<Feed>>,
    catching_up: bool,
    /// The changes that the index has taken over.
    fed_changes: u64,
    room_looked_at: Option<u64>,
    full: Option<StoreError>,
    latched: Option<StoreError>,
    closing: Vec<Answer<()>>,
    last_batch: usize,
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        config: EmbeddedConfig,
        (disk, dir): (Arc<dyn Disk>, PathBuf),
        (book, fed_changes): (Book, u64),
        journal: Journal,
        indexed: Option<Indexed>,
    ) -> Self {
        let committer = Self {
            shared,
            config,
            disk,
            dir,
            book,
            journal,
            indexed,
            pending: Answers::new(),
            snapshots: VecDeque::new(),
            feeding: None,
            catching_up: false,
            fed_changes,
            room_looked_at: None,
            full: None,
            latched: None,
            closing: Vec::new(),
            last_batch: 0,
        };
        committer.show();
        committer
    }

    fn lag(&self) -> u64 {
        if self.indexed.is_none() {
            return 0;
        }
        self.book.standing().changes - self.fed_changes
    }

    fn handle(&mut self, request: Request) {
        if let Request::Fed(result) = request {
            return self.fed(result);
        }
        if let Request::Close(answer) = request {
            return self.closing.push(answer);
        }
        let outcome = match self.latched.clone() {
            Some(error) => Err(Box::new((error, request))),
            None => self.decide(request),
        };
        match outcome {
            Ok(Some(pending)) => self.pending.hold(pending),
            Ok(None) => {}
            Err(refused) => refuse(refused.1, refused.0),
        }
    }

    /// Decides a request; an error that is not about it alone latches the store.
    fn decide(&mut self, request: Request) -> Result<Option<Pending>, Box<Refused>> {
        let base: &dyn Base = match &self.indexed {
            Some(indexed) => &indexed.below,
            None => &NoBase,
        };
        let book = &self.book;
        let decided = match request {
            Request::Commit(change, answer) => return Ok(self.commit(change, answer)),
            Request::Find(client_ref, answer) => match book.find(base, &client_ref) {
                Ok(found) => Ok(Pending::Find(found, answer)),
                Err(error) => Err((error, Request::Find(client_ref, answer))),
            },
            Request::Claims(ids, answer) => {
                let claims: Result<Vec<_>, _> =
                    ids.iter().map(|id| Ok(book.claim(base, id)?.map(|c| c.claim()))).collect();
                match claims {
                    Ok(claims) => Ok(Pending::Claims(claims, answer)),
                    Err(error) => Err((error, Request::Claims(ids, answer))),
                }
            }
            Request::Rehydrate(answer) => {
                Ok(Pending::Rehydrate(Box::new(book.rehydrate()), answer))
            }
            Request::KnownSince(since, answer) => {
                let (newer, all) = book.witnesses_since(since);
                Ok(if all || self.indexed.is_none() {
                    Pending::KnownSince(Book::known(&newer), answer)
                } else {
                    Pending::Scan(Job::Scan { since, newer, answer })
                })
            }
            Request::Read(from, answer) => {
                match read_some(book, self.indexed.as_ref().map(|i| &*i.below.index), &from) {
                    Ok(page) => Ok(Pending::Read(page, answer)),
                    Err(error) => Err((error, Request::Read(from, answer))),
                }
            }
            Request::Fed(_) | Request::Close(_) => return Ok(None),
        };
        match decided {
            Ok(pending) => Ok(Some(pending)),
            Err((error, request)) => {
                self.latch(&error);
                Err(Box::new((error, request)))
            }
        }
    }

    fn commit(&mut self, change: Change, answer: Answer<Committed>) -> Option<Pending> {
        let base: &dyn Base = match &self.indexed {
            Some(indexed) => &indexed.below,
            None => &NoBase,
        };
        match self.book.guard(base, &change) {
            Ok(None) => {}
            Ok(Some(refused)) => return Some(Pending::Commit(refused, answer)),
            Err(error) => {
                self.latch(&error);
                let _ = answer.send(Err(error));
                return None;
            }
        }
        if let (Some(full), Change::Accept { .. } | Change::Adopt { .. }) = (&self.full, &change) {
            let _ = answer.send(Err(full.clone()));
            return None;
        }
        if let Err(error) = self.journal.add(&change) {
            let _ = answer.send(Err(error));
            return None;
        }
        if self.book.apply(change).is_err() {
            let error = StoreError::Failed("a change follows on nothing".into());
            self.latch(&error);
            let _ = answer.send(Err(error));
            return None;
        }
        Some(Pending::Commit(Committed::Done, answer))
    }

    fn latch(&mut self, error: &StoreError) {
        if self.latched.is_none() {
            tracing::error!(%error, "the store has stopped: nothing is answered any more");
            self.latched = Some(error.clone());
        }
    }

    /// Writes what was appended, syncs, and answers. A latched store writes nothing and answers
    /// nothing but its error: what was decided since may rest on what is not durable.
    fn make_durable(&mut self) {
        let appended = u64::from(self.journal.records());
        if !self.config.left_out.keeps(Clause::AnswerAfterSync) && appended < 3 {
            let _ =
                self.pending.settle(|| Ok::<_, StoreError>(()), |answer, _| answer.answer(None));
            return;
        }
        let Self { shared, book, journal, indexed, latched, pending, .. } = &mut *self;
        let sync = || {
            if let Some(error) = latched {
                return Err(error.clone());
            }
            journal.write(book.standing())?;
            if appended > 0 {
                shared.figures.syncs.fetch_add(1, Ordering::Relaxed);
                shared.figures.changes.fetch_add(appended, Ordering::Relaxed);
            }
            Ok(())
        };
        let feeder = indexed.as_ref().map(|indexed| &indexed.feeder);
        let settled = pending.settle(sync, |answer, synced| match synced {
            Ok(()) => answer.answer(feeder),
            Err(error) => answer.fail(error),
        });
        if let Err(error) = settled {
            return self.latch(&error);
        }
        if appended > 0 {
            crash::point("journal.answered");
        }
        if self.indexed.is_some() && self.book.dirty() >= self.config.feed_rows {
            self.snapshot();
        }
    }

    fn look_for_room(&mut self) {
        if self.config.reserve_bytes == 0 {
            return;
        }
        let bytes = self.journal.bytes();
        let due = self.full.is_some()
            || self.room_looked_at.is_none_or(|at| bytes - at >= ROOM_LOOK_BYTES);
        if !due {
            return;
        }
        self.room_looked_at = Some(bytes);
        self.full = match self.disk.free_bytes(&self.dir) {
            Ok(free_bytes) if free_bytes < self.config.reserve_bytes => {
                Some(StoreError::Full { free_bytes, wanted_bytes: self.config.reserve_bytes })
            }
            // What cannot be asked is found out by writing.
            Ok(_) | Err(_) => None,
        };
    }

    /// Keeps what changed, as of the last synced frame, for the index.
    fn snapshot(&mut self) {
        if self.book.dirty() > 0 {
            let feed = Arc::new(self.book.take_feed());
            self.snapshots.push_back((feed, self.journal.last()));
        }
    }

    fn feed_when_due(&mut self) {
        if self.lag() >= self.config.lag_max / 2 {
            self.catching_up = true;
        }
        if self.catching_up {
            self.feed_next();
        }
    }

    fn feed_next(&mut self) {
        if self.feeding.is_some() || self.latched.is_some() || self.is_closing() {
            return;
        }
        let Some(indexed) = &self.indexed else { return };
        if self.snapshots.is_empty() && self.lag() >= self.config.lag_max / 2 {
            self.snapshots.push_back((Arc::new(self.book.take_feed()), self.journal.last()));
        }
        match self.snapshots.pop_front() {
            Some((feed, watermark)) => {
                self.feeding = Some(feed.clone());
                indexed.feeder.give(Job::Feed { feed, watermark });
            }
            None => self.catching_up = false,
        }
    }

    fn fed(&mut self, result: Result<(), Unusable>) {
        let Some(feed) = self.feeding.take() else { return };
        match (result, &mut self.indexed) {
            (Ok(()), Some(indexed)) => {
                self.fed_changes = feed.standing.changes;
                indexed.below.took_over(&feed);
                self.book.let_go(&feed);
            }
            (Ok(()), None) => {}
            (Err(why), indexed) => {
                if let Some(indexed) = indexed {
                    (indexed.below.condemn)();
                }
                self.latch(&failed(why));
            }
        }
    }

    fn show(&self) {
        let totals = self.book.standing().totals;
        let figures = &self.shared.figures;
        figures.open.store(totals.open, Ordering::Relaxed);
        figures.ended.store(totals.intents() - totals.open, Ordering::Relaxed);
        figures.bytes.store(self.journal.bytes(), Ordering::Relaxed);
        figures.lag.store(self.lag(), Ordering::Relaxed);
    }

    /// Feeds what is left if it is little, and stops the feeder. Everything is durable already.
    pub(super) fn finish(&mut self) {
        let rows = self.book.dirty() + self.snapshots.iter().map(|s| s.0.rows.len()).sum::<usize>();
        if let Some(indexed) = self.indexed.take() {
            let last = self.latched.is_none() && self.feeding.is_none() && rows > 0;
            if last && rows <= CLOSING_ROWS_MAX {
                self.snapshot();
                for (feed, watermark) in self.snapshots.drain(..) {
                    indexed.feeder.give(Job::Feed { feed, watermark });
                }
            }
            indexed.feeder.stop();
        }
    }

    /// Who waits for the store to be closed, and what to tell them.
    pub(super) fn closed(&mut self) -> (Vec<Answer<()>>, Result<(), StoreError>) {
        let result = self.latched.clone().map_or(Ok(()), Err);
        (std::mem::take(&mut self.closing), result)
    }

    /// Why every later call fails, if it does.
    pub(super) fn latched(&self) -> Option<&StoreError> {
        self.latched.as_ref()
    }
}

impl Commits for Committer {
    type Request = Request;

    fn run(&mut self, batch: &mut Vec<Request>) {
        let issued = self.shared.next_serial.load(Ordering::Acquire);
        self.book.handed_out(Serial(issued.saturating_sub(1)));
        self.look_for_room();
        let mut commits = 0;
        for request in batch.drain(..) {
            commits += usize::from(matches!(request, Request::Commit(..)));
            self.handle(request);
            if self.journal.is_full() {
                self.make_durable();
            }
        }
        self.last_batch = commits;
        // Serials that were chosen elsewhere are not handed out again.
        let used = self.book.standing().highest.0;
        self.shared.next_serial.fetch_max(used.saturating_add(1), Ordering::AcqRel);
        self.make_durable();
        self.feed_when_due();
        self.show();
    }

    fn is_fed(request: &Request) -> bool {
        matches!(request, Request::Fed(_))
    }

    fn last_batch(&self) -> usize {
        self.last_batch
    }

    fn spans(&self) -> (Duration, Duration) {
        (self.config.gather, self.config.feed_after_idle)
    }

    fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    fn is_feeding(&self) -> bool {
        self.feeding.is_some()
    }

    fn must_wait(&self) -> bool {
        self.feeding.is_some() && self.latched.is_none() && self.lag() >= self.config.lag_max
    }

    fn could_feed(&self) -> bool {
        self.indexed.is_some()
            && self.latched.is_none()
            && self.feeding.is_none()
            && (self.book.dirty() > 0 || !self.snapshots.is_empty())
    }

    fn feed_all(&mut self) {
        self.snapshot();
        self.catching_up = true;
        self.feed_next();
    }
}

impl Pending {
    /// Whoever does not wait any more does not mind.
    fn answer(self, feeder: Option<&Feeder>) {
        match self {
            Self::Commit(committed, answer) => drop(answer.send(Ok(committed))),
            Self::Find(found, answer) => drop(answer.send(Ok(found))),
            Self::Claims(claims, answer) => drop(answer.send(Ok(claims))),
            Self::Rehydrate(all, answer) => drop(answer.send(Ok(*all))),
            Self::KnownSince(known, answer) => drop(answer.send(Ok(known))),
            Self::Read(page, answer) => drop(answer.send(Ok(page))),
            Self::Scan(job) => {
                if let Some(feeder) = feeder {
                    feeder.give(job);
                }
            }
        }
    }

    fn fail(self, error: &StoreError) {
        let error = error.clone();
        match self {
            Self::Commit(_, answer) => drop(answer.send(Err(error))),
            Self::Find(_, answer) => drop(answer.send(Err(error))),
            Self::Claims(_, answer) => drop(answer.send(Err(error))),
            Self::Rehydrate(_, answer) => drop(answer.send(Err(error))),
            Self::KnownSince(_, answer) => drop(answer.send(Err(error))),
            Self::Read(_, answer) => drop(answer.send(Err(error))),
            Self::Scan(Job::Scan { answer, .. }) => drop(answer.send(Err(error))),
            Self::Scan(Job::Feed { .. }) => {}
        }
    }
}

/// Tells whoever asked that it will not be.
pub(super) fn refuse(request: Request, error: StoreError) {
    match request {
        Request::Commit(_, answer) => drop(answer.send(Err(error))),
        Request::Find(_, answer) => drop(answer.send(Err(error))),
        Request::Claims(_, answer) => drop(answer.send(Err(error))),
        Request::Rehydrate(answer) => drop(answer.send(Err(error))),
        Request::KnownSince(_, answer) => drop(answer.send(Err(error))),
        Request::Read(_, answer) => drop(answer.send(Err(error))),
        Request::Fed(_) => {}
        Request::Close(answer) => drop(answer.send(Err(error))),
    }
}
