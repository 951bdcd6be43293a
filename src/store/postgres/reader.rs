//! Questions, over a connection of their own: they see what is committed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::connect::{Connector, Link};
use super::error::Fault;
use super::rows::{self, COLUMNS, unreadable};
use crate::order::{ClientRef, ItemsHash, OrderId};
use crate::protocol::Serial;
use crate::store::{Bookmark, Claim, HistoryLine, Known, Page, Rehydration, StoreError, Stored};

/// See the module.
pub(super) struct Reader {
    connector: Connector,
    link: Mutex<Option<Arc<Link>>>,
}

/// Intents that are read at once.
const PAGE: usize = 1024;

const WAIT: Duration = Duration::from_millis(20);
const WAIT_MAX: Duration = Duration::from_secs(1);

impl Reader {
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, link: Mutex::new(None) }
    }

    /// The intent with a reference.
    pub(super) async fn find(&self, client_ref: ClientRef) -> Result<Option<Stored>, StoreError> {
        let text = format!("SELECT {COLUMNS} FROM order_intents WHERE client_ref = $1");
        let row = self.ask(move |link| {
            let (text, client_ref) = (text.clone(), client_ref.clone());
            async move { link.client.query_opt(&text, &[&client_ref.as_str()]).await }
        });
        let row = row.await?;
        row.map(|row| rows::stored(&row)).transpose()
    }

    /// The intents with these references, in the order of the question.
    pub(super) async fn find_all(
        &self,
        refs: &[ClientRef],
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        let text = format!("SELECT {COLUMNS} FROM order_intents WHERE client_ref = ANY($1)");
        let wanted: Vec<String> = refs.iter().map(|one| one.as_str().to_owned()).collect();
        let found = self.query(&text, wanted).await?;
        let mut stored = HashMap::with_capacity(found.len());
        for row in &found {
            let one = rows::stored(row)?;
            stored.insert(one.client_ref.clone(), one);
        }
        Ok(refs.iter().map(|one| stored.get(one).cloned()).collect())
    }

    /// The rows of a query with one parameter.
    pub(super) async fn query<P>(&self, text: &str, parameter: P) -> Result<Vec<Row>, StoreError>
    where
        P: ToSql + Sync + Send + 'static,
    {
        let parameter = Arc::new(parameter);
        let found = self.ask(move |link| {
            let (text, parameter) = (text.to_owned(), parameter.clone());
            async move { link.client.query(&text, &[&*parameter]).await }
        });
        found.await
    }

    /// Runs a statement with one parameter, that may be run again.
    pub(super) async fn execute_one<P>(&self, text: &str, parameter: P) -> Result<(), StoreError>
    where
        P: ToSql + Sync + Send + 'static,
    {
        self.query(text, parameter).await.map(|_| ())
    }

    /// Runs a statement with two parameters, that may be run again.
    pub(super) async fn execute<P, Q>(&self, text: &str, both: (P, Q)) -> Result<(), StoreError>
    where
        P: ToSql + Sync + Send + 'static,
        Q: ToSql + Sync + Send + 'static,
    {
        let both = Arc::new(both);
        let done = self.ask(move |link| {
            let (text, both) = (text.to_owned(), both.clone());
            async move { link.client.execute(&text, &[&both.0, &both.1]).await }
        });
        done.await.map(|_| ())
    }

    /// Runs a statement once; how many rows it changed.
    pub(super) async fn execute_once(
        &self,
        text: &str,
        both: (String, String),
    ) -> Result<u64, Fault> {
        let both = Arc::new(both);
        let question = move |link: Arc<Link>| {
            let (text, both) = (text.to_owned(), both.clone());
            async move { link.client.execute(&text, &[&both.0, &both.1]).await }
        };
        self.once(Over::Shared, &question).await
    }

    /// Who has these orders.
    pub(super) async fn claims(&self, ids: Vec<OrderId>) -> Result<Vec<Option<Claim>>, StoreError> {
        let text = format!("SELECT {COLUMNS} FROM order_intents WHERE order_id = ANY($1)");
        let wanted = ids.iter().map(|id| rows::escape(id.as_str()).into_owned());
        let wanted: Vec<String> = wanted.collect();
        let found = self.ask(move |link| {
            let (text, wanted) = (text.clone(), wanted.clone());
            async move { link.client.query(&text, &[&wanted]).await }
        });
        let found = found.await?;
        let mut claims = HashMap::with_capacity(found.len());
        for row in &found {
            let claim = rows::claim(row)?;
            claims.insert(claim.id.clone(), claim);
        }
        Ok(ids.iter().map(|id| claims.get(id).cloned()).collect())
    }

    /// Every claim since a serial, oldest first.
    pub(super) async fn known_since(&self, since: Serial) -> Result<Vec<Known>, StoreError> {
        let text = format!(
            "SELECT {COLUMNS} FROM order_intents WHERE order_id IS NOT NULL AND ended_at >= $1 \
             ORDER BY ended_at, changed"
        );
        let since = rows::column(since);
        let found = self.ask(move |link| {
            let text = text.clone();
            async move { link.client.query(&text, &[&since]).await }
        });
        let found = found.await?;
        found.iter().map(rows::known).collect()
    }

    /// Intents by reference, some at a time.
    pub(super) async fn read_some(&self, from: &Bookmark) -> Result<Page, StoreError> {
        let text = format!(
            "SELECT {COLUMNS}, ended_at FROM order_intents WHERE client_ref > $1 \
             ORDER BY client_ref LIMIT {PAGE}"
        );
        let found = self.query(&text, from.text().1).await?;
        let intents = found.iter().map(rows::adopted).collect::<Result<Vec<_>, _>>()?;
        let last = intents.last().filter(|_| intents.len() == PAGE);
        let next = last.map(|last| Bookmark::new(0, last.stored.client_ref.as_str().as_bytes()));
        Ok(Page { intents, next })
    }

    /// Everything that the actors start from, as of one moment.
    pub(super) async fn rehydrate(&self) -> Result<Rehydration, StoreError> {
        let read = self.ask_over(Over::Own, snapshot).await?;
        let text = |row: &Row, at: usize| row.try_get::<_, String>(at).map_err(unreadable);
        let mut intents = read.intents.iter().map(rows::stored).collect::<Result<Vec<_>, _>>()?;
        intents.sort_unstable_by_key(|stored| stored.id);
        let mut held_lanes = BTreeMap::new();
        for row in &read.held {
            let lane: Vec<u8> = row.try_get(0).map_err(unreadable)?;
            let lane = lane.try_into().map_err(|_| unreadable("an items-hash"))?;
            held_lanes.insert(ItemsHash::from_bytes(lane), rows::unescape(text(row, 1)?).into());
        }
        let ids = |found: &[Row]| -> Result<Vec<OrderId>, StoreError> {
            let ids = found.iter().map(|row| rows::order_id(text(row, 0)?));
            let mut ids = ids.collect::<Result<Vec<_>, _>>()?;
            ids.sort_unstable();
            Ok(ids)
        };
        let moment = |at: usize| {
            let text = read.router.try_get::<_, Option<String>>(at).map_err(unreadable)?;
            text.map(|text| rows::parse_moment(&text)).transpose()
        };
        let drawn: bool = read.router.try_get("history_drawn").map_err(unreadable)?;
        let line = HistoryLine { newest: moment(1)?, ids: ids(&read.history)? };
        let paused: Option<String> = read.router.try_get("paused").map_err(unreadable)?;
        let shapes = read.echo.iter().map(|row| row.try_get(0).map(rows::shape));
        Ok(Rehydration {
            intents,
            held_lanes,
            orphans: ids(&read.orphans)?,
            history: drawn.then_some(line),
            echo_seen: shapes.collect::<Result<_, _>>().map_err(unreadable)?,
            paused: paused.map(|why| rows::unescape(why).into()),
            newest_known: moment(0)?,
            mark: rows::mark(&read.router)?,
            spent: super::spent::read(&read.spent, &read.router)?,
        })
    }

    async fn ask<T, F: Future<Output = Result<T, Error>>>(
        &self,
        question: impl Fn(Arc<Link>) -> F,
    ) -> Result<T, StoreError> {
        self.ask_over(Over::Shared, question).await
    }

    /// Asks until there is an answer or the time is up: a question may be repeated.
    async fn ask_over<T, F: Future<Output = Result<T, Error>>>(
        &self,
        over: Over,
        question: impl Fn(Arc<Link>) -> F,
    ) -> Result<T, StoreError> {
        let limit = self.connector.config.give_up_after;
        let mut last = String::from("no answer");
        let asked = tokio::time::timeout(limit, async {
            let mut wait = WAIT;
            loop {
                match self.once(over, &question).await {
                    Ok(answer) => return Ok(answer),
                    Err(Fault::Fatal(why)) => return Err(StoreError::Failed(why)),
                    Err(Fault::Again(why) | Fault::Reconnect(why)) => last = why,
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(WAIT_MAX);
            }
        });
        asked.await.unwrap_or_else(|_| {
            let place = &self.connector.place;
            Err(StoreError::Failed(format!("{place} for {limit:?}: {last}").into()))
        })
    }

    async fn once<T, F: Future<Output = Result<T, Error>>>(
        &self,
        over: Over,
        question: &impl Fn(Arc<Link>) -> F,
    ) -> Result<T, Fault> {
        let link = match over {
            Over::Shared => self.link().await?,
            Over::Own => Arc::new(self.connect().await?),
        };
        let limit = self.connector.config.reply_timeout;
        let answer = match tokio::time::timeout(limit, question(link.clone())).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Fault::of(&error),
            Err(_) => Fault::Reconnect(format!("no answer within {limit:?}")),
        };
        if matches!(answer, Fault::Reconnect(_)) {
            let mut current = self.link.lock().await;
            if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &link)) {
                *current = None;
            }
        }
        Err(answer)
    }

    async fn link(&self) -> Result<Arc<Link>, Fault> {
        let mut current = self.link.lock().await;
        if let Some(link) = current.as_ref().filter(|link| !link.client.is_closed()) {
            return Ok(link.clone());
        }
        Ok(current.insert(Arc::new(self.connect().await?)).clone())
    }

    async fn connect(&self) -> Result<Link, Fault> {
        self.connector.reading().await.map_err(|error| match error.passes() {
            true => Fault::Reconnect(error.to_string()),
            false => Fault::Fatal(error.to_string().into()),
        })
    }
}

/// Which connection a question goes over.
#[derive(Clone, Copy)]
enum Over {
    /// The one that all share, each question by itself.
    Shared,
    /// One of its own: it opens a transaction, which others must not get into.
    Own,
}

/// The rows of [`Reader::rehydrate`].
struct Snapshot {
    intents: Vec<Row>,
    router: Row,
    held: Vec<Row>,
    orphans: Vec<Row>,
    history: Vec<Row>,
    echo: Vec<Row>,
    spent: Vec<Row>,
}

async fn snapshot(link: Arc<Link>) -> Result<Snapshot, Error> {
    let client = &link.client;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let intents = format!("SELECT {COLUMNS} FROM order_intents WHERE active");
    let router = "SELECT newest_known, history_newest, history_drawn, paused, mark, \
        mark_place, spent_now, spent_wall, spent_supplier FROM order_router";
    Ok(Snapshot {
        intents: client.query(&intents, &[]).await?,
        router: client.query_one(router, &[]).await?,
        held: client.query("SELECT items_hash, why FROM order_router_lanes_held", &[]).await?,
        orphans: client.query("SELECT order_id FROM order_router_orphans", &[]).await?,
        history: client.query("SELECT order_id FROM order_router_history", &[]).await?,
        echo: client.query("SELECT shape FROM order_router_echo ORDER BY changed", &[]).await?,
        spent: client.query(super::spent::ROWS, &[]).await?,
    })
}
