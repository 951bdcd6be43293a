//! The one task that writes: what is waiting becomes one transaction, answered after its `COMMIT`.
//!
//! ```text
//! BEGIN, the router's row locked and its owner checked, one guarded statement a change   one trip
//! refused references and orders read, the row's batch and outcomes written, COMMIT       one trip
//! ```
//!
//! A batch whose `COMMIT` was sent and not answered is in doubt. A new session waits until the old
//! one is over, then the router's row says whether the batch is in, and what its changes did. Only
//! a batch that is proved not to be in is written again.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, maybe_done};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, Row};

use super::PostgresError;
use super::connect::{Books, Connector, Session};
use super::error::{Fault, said};
use super::rows;
use super::statements::{Mark, Outcome, Statements};
use crate::order::{ClientRef, OrderId};
use crate::protocol::{Change, PayVerdict, Serial, Verdict};
use crate::store::moving::is_same;
use crate::store::remote::{Answers, Shared, Write};
use crate::store::{Adopted, Committed, Lease, StoreError, Stored};

/// The first wait before a try is repeated; doubled up to [`WAIT_MAX`].
const WAIT: Duration = Duration::from_millis(10);
const WAIT_MAX: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    connector: Connector,
    session: Option<Session>,
    /// The last batch that was answered.
    batch: i64,
    lease: Option<Arc<Lease>>,
    renewing: Option<JoinHandle<()>>,
}

impl Drop for Writer {
    /// Whoever writes no more sends no more, however it came to that.
    fn drop(&mut self) {
        if let Some(lease) = &self.lease {
            lease.lose();
        }
    }
}

/// How a try to write a batch ended without an answer.
enum Missed {
    /// It is not in; the same again, over this session.
    Again(String),
    /// The session is of no use: over a new one, whose row says whether it is in.
    Reconnect(String),
    /// Nothing can be written any more.
    Fatal(Arc<str>),
}

impl From<Fault> for Missed {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Again(why) => Self::Again(why),
            Fault::Reconnect(why) => Self::Reconnect(why),
            Fault::Fatal(why) => Self::Fatal(why),
        }
    }
}

impl From<Error> for Missed {
    fn from(error: Error) -> Self {
        Fault::of(&error).into()
    }
}

impl Write for Writer {
    /// Writes a batch, over any number of sessions, until it is in or the time is up.
    async fn write(&mut self, shared: &Shared, changes: &[Change]) -> Result<Answers, StoreError> {
        let limit = self.connector.config.give_up_after;
        let mut last = String::from("no answer");
        match tokio::time::timeout(limit, self.write_on(shared, changes, &mut last)).await {
            Ok(written) => written,
            Err(_) => Err(StoreError::Failed(
                format!("{} for {limit:?}: {last}", self.connector.place).into(),
            )),
        }
    }

    async fn close(&mut self) {
        // The next holder may have it at once: no gate opens under it any more.
        if let Some(lease) = &self.lease {
            lease.lose();
        }
        if let Some(renewing) = self.renewing.take() {
            renewing.abort();
            // It is over before the lease is given back.
            let _ = renewing.await;
        }
        if let Some(session) = self.session.take() {
            self.connector.release(&session.link.client).await;
        }
    }
}

impl Writer {
    pub(super) fn new(
        connector: Connector,
        session: Session,
        lease: Option<Arc<Lease>>,
        renewing: Option<JoinHandle<()>>,
    ) -> Self {
        Self { connector, batch: session.books.batch, session: Some(session), lease, renewing }
    }

    async fn write_on(
        &mut self,
        shared: &Shared,
        changes: &[Change],
        last: &mut String,
    ) -> Result<Answers, StoreError> {
        let mut wait = WAIT;
        loop {
            let session = match self.session.take() {
                Some(session) => session,
                None => match self.connector.again().await {
                    Ok(session) => session,
                    Err(error) if error.passes() => {
                        *last = error.to_string();
                        tracing::warn!(%error, "the database is not reached");
                        pause(&mut wait).await;
                        continue;
                    }
                    Err(error) => return Err(StoreError::Failed(error.to_string().into())),
                },
            };
            match self.attempt(shared, &session, changes).await {
                Ok((books, answers)) => {
                    self.batch = books.batch;
                    let number = |count: i64| u64::try_from(count).unwrap_or(0);
                    shared.wrote(number(books.open), number(books.ended), changes.len());
                    self.session = Some(Session { books, ..session });
                    return Ok(answers);
                }
                Err(Missed::Again(why)) => {
                    tracing::debug!(why, "a batch is written again");
                    *last = why;
                    let rolled_back = session.link.client.batch_execute("ROLLBACK");
                    if matches!(self.in_time(rolled_back).await, Ok(Ok(()))) {
                        self.session = Some(session);
                    }
                }
                Err(Missed::Reconnect(why)) => {
                    tracing::warn!(why, "the connection to the database was lost");
                    *last = why;
                }
                Err(Missed::Fatal(why)) => return Err(StoreError::Failed(why)),
            }
            pause(&mut wait).await;
        }
    }

    /// One try. The number of a batch is the same in every try, so a new session's row says whether
    /// an earlier try is in: then it is only read back.
    async fn attempt(
        &self,
        shared: &Shared,
        session: &Session,
        changes: &[Change],
    ) -> Result<(Books, Answers), Missed> {
        let Session { link, statements, books } = session;
        if books.batch == self.batch {
            return self.transaction(shared, session, changes).await;
        }
        if books.batch < self.batch {
            let why = format!(
                "{}: acknowledged changes are gone: it is at batch {} and was at {}; it was restored \
                 from a backup, or failed over to a standby that was behind",
                self.connector.place, books.batch, self.batch
            );
            return Err(Missed::Fatal(why.into()));
        }
        let outcomes: Option<Vec<_>> =
            books.outcomes.iter().map(|byte| Outcome::from_byte(*byte)).collect();
        let outcomes = outcomes
            .filter(|outcomes| books.batch == self.batch + 1 && outcomes.len() == changes.len());
        let outcomes = outcomes.ok_or_else(|| Missed::Fatal("a batch's row is damaged".into()))?;
        let found = self.in_time(all(found(statements, &link.client, changes, &outcomes))).await?;
        match found.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(rows) => Ok((books.clone(), answers(changes, &outcomes, rows))),
            Err(error) => Err(Missed::Reconnect(said(&error))),
        }
    }

    async fn transaction(
        &self,
        shared: &Shared,
        session: &Session,
        changes: &[Change],
    ) -> Result<(Books, Answers), Missed> {
        let Session { link, statements, books } = session;
        let client = &link.client;
        let highest = Serial(shared.next_serial().saturating_sub(1));
        let mut trip: Vec<BoxFuture<'_, Result<Sent, Error>>> = Vec::new();
        let begin = client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED");
        trip.push(begin.map(|done| done.map(|()| Sent::Other)).boxed());
        let fence = async { client.query_one(&statements.fence, &[]).await?.try_get(0) };
        trip.push(fence.map(|owner| owner.map(Sent::Owner)).boxed());
        for (changed, change) in (books.changes + 1..).zip(changes) {
            let done = statements.run(client, change, Mark { changed, highest });
            trip.push(done.map(|done| done.map(Sent::Done)).boxed());
        }
        let mut outcomes = Vec::with_capacity(changes.len());
        for sent in self.in_time(all(trip)).await? {
            match sent? {
                Sent::Other => {}
                Sent::Owner(owner) if owner == self.connector.owner => {}
                Sent::Owner(_) => {
                    let place = self.connector.place.clone();
                    let error = PostgresError::InUse { place, pid: None };
                    return Err(Missed::Fatal(format!("{error}; it took the store over").into()));
                }
                Sent::Done(outcome) => outcomes.push(outcome),
            }
        }
        self.finish(shared, session, changes, outcomes).await
    }

    /// The second trip: reads what refused changes met, notes the batch, commits.
    async fn finish(
        &self,
        shared: &Shared,
        session: &Session,
        changes: &[Change],
        outcomes: Vec<Outcome>,
    ) -> Result<(Books, Answers), Missed> {
        let Session { link, statements, books } = session;
        let client = &link.client;
        let next = shared.next_serial();
        let books = after(books, changes, &outcomes, next);
        let mut trip = found(statements, client, changes, &outcomes);
        let noted = trip.len();
        trip.push(note(statements, client, &books).boxed());
        let commit = client.batch_execute("COMMIT");
        trip.push(commit.map(|done| done.map(|()| None)).boxed());
        // From here on the batch may be in: whatever leaves that open is read back by a new session.
        let mut found = Vec::with_capacity(noted);
        for row in self.in_time(all(trip)).await? {
            match row {
                Ok(row) => found.push(row),
                // `COMMIT` after any error rolls back.
                Err(error) => return Err(Fault::of_commit(&error).into()),
            }
        }
        found.truncate(noted);
        let answers = answers(changes, &outcomes, found);
        Ok((books, answers))
    }

    /// A trip to the server, in time.
    async fn in_time<T>(&self, trip: impl Future<Output = T>) -> Result<T, Late> {
        let limit = self.connector.config.reply_timeout;
        tokio::time::timeout(limit, trip).await.map_err(|_| Late(limit))
    }
}

/// What a statement of the first trip brought.
enum Sent {
    Other,
    Owner(String),
    Done(Outcome),
}

/// The server did not answer in time.
struct Late(Duration);

impl From<Late> for Missed {
    fn from(late: Late) -> Self {
        Self::Reconnect(format!("no answer within {:?}", late.0))
    }
}

async fn pause(wait: &mut Duration) {
    tokio::time::sleep(*wait).await;
    *wait = (*wait * 2).min(WAIT_MAX);
}

/// Hands all over in their order before any is waited for: one trip to the server and back.
async fn all<T>(trip: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut trip: Vec<_> = trip.into_iter().map(maybe_done).collect();
    poll_fn(|cx| {
        for one in &mut trip {
            // What is not ready is waited for below.
            let _ = Pin::new(one).poll(cx);
        }
        Poll::Ready(())
    })
    .await;
    let mut results = Vec::with_capacity(trip.len());
    for one in &mut trip {
        (&mut *one).await;
        results.extend(Pin::new(one).take_output());
    }
    results
}

type Found<'a> = BoxFuture<'a, Result<Option<Row>, Error>>;

/// Reads what refused changes met, in their order.
fn found<'a>(
    statements: &'a Statements,
    client: &'a Client,
    changes: &'a [Change],
    outcomes: &[Outcome],
) -> Vec<Found<'a>> {
    let mut questions = Vec::new();
    for (change, outcome) in changes.iter().zip(outcomes) {
        match met(change, *outcome) {
            Met::Nothing => {}
            Met::Intent(name, _) => questions.push(
                async { client.query_opt(&statements.by_ref, &[&name.as_str()]).await }.boxed(),
            ),
            Met::Order(id) => questions.push(
                async {
                    client.query_opt(&statements.by_order, &[&rows::escape(id.as_str())]).await
                }
                .boxed(),
            ),
        }
    }
    questions
}

/// Whether an intent is the one that was meant.
type Joins<'a> = Box<dyn Fn(&Stored) -> bool + Send + Sync + 'a>;

/// What a refused change met.
enum Met<'a> {
    Nothing,
    /// The intent with this reference; it joins one that this says yes to.
    Intent(&'a ClientRef, Joins<'a>),
    Order(&'a OrderId),
}

fn met(change: &Change, outcome: Outcome) -> Met<'_> {
    match (change, outcome) {
        (Change::Accept { intent, .. }, Outcome::Refused) => {
            Met::Intent(&intent.client_ref, Box::new(|here| here.as_sent == intent.as_sent))
        }
        (Change::Adopt { intent, .. }, Outcome::Refused) => {
            let there = &intent.stored;
            Met::Intent(&there.client_ref, Box::new(|here| is_same(here, there)))
        }
        (Change::Adopt { intent, .. }, Outcome::IdTaken) => {
            intent.stored.state.order().map_or(Met::Nothing, |order| Met::Order(order.id))
        }
        (Change::Decide { verdict, .. }, Outcome::IdTaken) => {
            verdict.order().map_or(Met::Nothing, |(id, _)| Met::Order(id))
        }
        _ => Met::Nothing,
    }
}

/// What callers are told; `found` has a row for each change that met something.
fn answers(changes: &[Change], outcomes: &[Outcome], found: Vec<Option<Row>>) -> Answers {
    let mut found = found.into_iter();
    let mut answers = Vec::with_capacity(changes.len());
    for (change, outcome) in changes.iter().zip(outcomes) {
        answers.push(match (met(change, *outcome), outcome) {
            (Met::Nothing, Outcome::Refused | Outcome::IdTaken) => Ok(Committed::Stale),
            (Met::Nothing, _) => Ok(Committed::Done),
            (Met::Intent(_, joins), _) => {
                match found.next().flatten().map(|row| rows::stored(&row)) {
                    Some(Ok(stored)) if joins(&stored) => Ok(Committed::Joined(Box::new(stored))),
                    Some(Ok(_)) => Ok(Committed::Conflict),
                    Some(Err(error)) => Err(error),
                    // The serial is taken, not the reference.
                    None => Ok(Committed::Stale),
                }
            }
            (Met::Order(_), _) => match found.next().flatten() {
                Some(row) => rows::claim(&row).map(Committed::IdTaken),
                None => Ok(Committed::Stale),
            },
        });
    }
    answers
}

/// Where the router is after a batch.
fn after(books: &Books, changes: &[Change], outcomes: &[Outcome], serial_next: u64) -> Books {
    let mut books = Books {
        batch: books.batch + 1,
        outcomes: outcomes.iter().map(|outcome| *outcome as u8).collect(),
        serial_next: rows::column(Serial(serial_next)),
        changes: books.changes + i64::try_from(changes.len()).unwrap_or(i64::MAX),
        ..*books
    };
    for (change, outcome) in changes.iter().zip(outcomes) {
        if matches!(outcome, Outcome::Refused | Outcome::IdTaken) {
            continue;
        }
        if let Change::Adopt { intent, .. } = change {
            after_adopting(&mut books, intent, *outcome);
            continue;
        }
        let ended = match change {
            Change::Accept { .. } => {
                books.open += 1;
                false
            }
            Change::Decide { verdict, .. } => {
                let created_at = verdict.order().and_then(|(_, created_at)| created_at);
                books.newest_known = books.newest_known.max(created_at);
                let ends = |verdict: &Verdict| match verdict {
                    Verdict::Placed { .. } | Verdict::Refused(_) | Verdict::NotPlaced(_) => true,
                    Verdict::Created { .. }
                    | Verdict::NotSent(_)
                    | Verdict::InDoubt(_)
                    | Verdict::Held(_)
                    | Verdict::Absent => false,
                };
                ends(verdict)
            }
            Change::Pay { to, .. } => !matches!(to, PayVerdict::Open { .. }),
            Change::Expire { .. } => true,
            _ => false,
        };
        books.ended += i64::from(ended);
        books.open -= i64::from(ended);
    }
    books
}

/// Where it is after an intent of another store.
fn after_adopting(books: &mut Books, intent: &Adopted, outcome: Outcome) {
    match outcome {
        Outcome::OverOpen => books.open -= 1,
        Outcome::OverEnded => books.ended -= 1,
        Outcome::Done | Outcome::Refused | Outcome::IdTaken => {}
    }
    match intent.stored.state.is_end() {
        true => books.ended += 1,
        false => books.open += 1,
    }
    let created_at = intent.stored.state.order().and_then(|order| order.created_at);
    books.newest_known = books.newest_known.max(created_at);
}

/// Writes it down, in the same transaction.
async fn note(
    statements: &Statements,
    client: &Client,
    books: &Books,
) -> Result<Option<Row>, Error> {
    let newest = books.newest_known.map(rows::moment);
    let Books { batch, outcomes, serial_next, changes, ended, .. } = books;
    client
        .execute(&statements.finish, &[batch, outcomes, serial_next, changes, ended, &newest])
        .await?;
    Ok(None)
}
