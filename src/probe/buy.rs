//! What one order shows that reading cannot: how long it takes to be seen, and what is shown of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::{Map, Value};

use super::{Fact, Report, look, page, proposal};
use crate::money::Balance;
use crate::order::{Item, OrderId, Tag, TagKey};
use crate::protocol::evidence::EvidencePolicy;
use crate::protocol::format::TimestampFormat;
use crate::protocol::{Fingerprint, Moment};
use crate::runtime::Clock;
use crate::supplier::foxreload::FoxReload;
use crate::supplier::{
    AccountId, Capabilities, Exchange, Fetched, Gate, Page, PageRequest, ReadError, Supplier,
};

/// How long a bought order is waited for in the list, unless said otherwise.
const SEEN_WITHIN: Duration = Duration::from_secs(60);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How many pages are read for one row.
const PAGES_MAX: u64 = 5;
/// How far a moment of creation may be from the clock that wrote it, to mean UTC.
const SAME_ZONE: f64 = 120.0;

/// A supplier's client that notes when the answer to its one order came.
pub struct Watched {
    supplier: FoxReload,
    clock: Arc<dyn Clock>,
    notes: Arc<Mutex<Option<Answered>>>,
}

/// The answer to a POST, and when it was in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answered {
    sent: Moment,
    at: Moment,
    date: Option<Timestamp>,
}

impl Watched {
    /// Watches the orders that go through this client.
    #[must_use]
    pub fn new(supplier: FoxReload, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { supplier, clock, notes: Arc::default() })
    }

    fn answered(&self) -> Option<Answered> {
        *self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The order of a probe that is placed, and what was known before it was.
#[derive(Debug, Clone)]
pub struct Bought {
    /// The supplier's order.
    pub order_id: OrderId,
    /// The line that was sent.
    pub item: Item,
    /// The key and the tag in its note.
    pub tag: (TagKey, Tag),
    /// Balances before, as [`balances_before`](Self::balances_before) read them.
    pub balances: Vec<(String, String)>,
    /// It was sent as a test order.
    pub mock: bool,
    /// How long to look for it in the list. Default: one minute.
    pub within: Option<Duration>,
}

impl Bought {
    /// The balances as they are now; empty if they cannot be read.
    pub async fn balances_before(supplier: &FoxReload) -> Vec<(String, String)> {
        look::amounts(supplier).await.unwrap_or_default()
    }
}

/// Finds out what the order shows, and puts it into the report.
pub async fn after_buying(watched: &Watched, bought: &Bought, report: &mut Report) {
    let supplier = &watched.supplier;
    let answered = watched.answered();
    report.put(fetched(supplier, bought, answered).await);
    let row = seen(watched, bought, answered, report).await;
    if let Some(row) = row {
        let format = &supplier.settings().evidence.format;
        let line = page::lines(&row, format).first().copied().cloned().unwrap_or_default();
        report.put(quantity(&line, bought, &format.quantity));
        report.put(note(&line, bought, &format.note));
        report.put(tag(&line, bought, &format.note));
        if let Some(created) = row.get(&*format.created_at) {
            report.put(zone(created, answered.and_then(|answered| answered.date)));
        }
    }
    let status = settled(supplier, bought).await;
    report.put(debit(supplier, bought, status.as_deref()).await);
    if bought.mock {
        report.put(mock(report));
    }
}

/// Whether the order can be read by its id at once.
async fn fetched(supplier: &FoxReload, bought: &Bought, answered: Option<Answered>) -> Fact {
    let name = "order by id";
    if answered.is_none() {
        return Fact::unknown(name, "the order was not answered in this run");
    }
    match supplier.raw_order(&bought.order_id).await {
        Ok(_) => Fact::found(name, "can be read as soon as it is answered"),
        Err(ReadError::NotFound) => {
            Fact::found(name, "is 404 at first").note("the router asks again; it proves nothing")
        }
        Err(error) => Fact::unknown(name, error.to_string()),
    }
}

/// Looks for the row of the order, and measures how long it took to show.
async fn seen(
    watched: &Watched,
    bought: &Bought,
    answered: Option<Answered>,
    report: &mut Report,
) -> Option<Map<String, Value>> {
    let name = "create to visible";
    let limit = bought.within.unwrap_or(SEEN_WITHIN);
    let begun = watched.clock.now();
    let mut absent = None;
    loop {
        let asked = watched.clock.now();
        match row(&watched.supplier, bought).await {
            Ok(Some(row)) => {
                report.put(match answered {
                    None => Fact::unknown(name, "the order was not answered in this run"),
                    Some(answered) => lag(answered, absent, watched.clock.now()),
                });
                return Some(row);
            }
            Ok(None) => absent = Some(asked),
            Err(why) => {
                report.put(Fact::unknown(name, why));
                return None;
            }
        }
        if watched.clock.now().since(begun) > limit {
            let what = format!("the list has not shown it after {} s", limit.as_secs());
            report.put(Fact::unknown(name, what).note(
                "an order that was answered and does not show: the landing bound must be longer, or \
                 the list leaves such orders out",
            ));
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn lag(answered: Answered, absent: Option<Moment>, seen: Moment) -> Fact {
    let took = answered.at.since(answered.sent).as_millis();
    let most = seen.since(answered.at).as_millis();
    let what = match absent {
        None => format!("at the first look, within {most} ms of the answer"),
        Some(absent) => {
            format!("{} to {most} ms after the answer", absent.since(answered.at).as_millis())
        }
    };
    let note =
        format!("answered after {took} ms; of one order, so no bound: leave landing_bound long");
    Fact::found("create to visible", what).note(note)
}

/// The row of the order, if the newest pages show it.
async fn row(supplier: &FoxReload, bought: &Bought) -> Result<Option<Map<String, Value>>, String> {
    let format = &supplier.settings().evidence.format;
    let is_it = |row: &Map<String, Value>| {
        page::id(row, format).as_deref() == Some(bought.order_id.as_str())
    };
    let capabilities = supplier.capabilities();
    let read = async |offset: u64| {
        let query = supplier.page_query(PageRequest { offset, limit: capabilities.page_limit });
        let raw = look::read(supplier, &query).await.map_err(|error| error.to_string())?;
        page::read(&raw.body)
    };
    let first = read(0).await?;
    let rows = first.rows.len() as u64;
    if let Some(row) = first.rows.into_iter().find(is_it) {
        return Ok(Some(row));
    }
    if capabilities.newest_first || rows == 0 {
        return Ok(None);
    }
    // The newest rows are at the end.
    let Some((_, total)) = first.total else {
        return oldest_first(&read, rows, &is_it).await;
    };
    let last = read(total.saturating_sub(rows).max(1)).await?;
    Ok(last.rows.into_iter().find(is_it))
}

/// Reads on to the end of a short list.
async fn oldest_first<F>(
    read: &impl Fn(u64) -> F,
    rows: u64,
    is_it: &impl Fn(&Map<String, Value>) -> bool,
) -> Result<Option<Map<String, Value>>, String>
where
    F: Future<Output = Result<page::Found, String>>,
{
    for number in 1..=PAGES_MAX {
        let next = read(rows * number).await?;
        if next.rows.is_empty() {
            return Ok(None);
        }
        if let Some(row) = next.rows.into_iter().find(is_it) {
            return Ok(Some(row));
        }
    }
    Err("the list begins with the oldest order and is long: its end was not read".to_owned())
}

fn quantity(line: &Map<String, Value>, bought: &Bought, field: &str) -> Fact {
    let name = "echo of quantities";
    match line.get(field).map(|value| value.to_string().trim_matches('"').to_owned()) {
        None => Fact::found(name, "the line shows none").set("no_echo_quantity", true),
        Some(shown) if shown.parse() == Ok(bought.item.quantity()) => {
            Fact::found(name, "the line shows what was ordered").set("no_echo_quantity", false)
        }
        Some(_) => Fact::unknown(name, "the line shows another quantity than was ordered"),
    }
}

fn note(line: &Map<String, Value>, bought: &Bought, field: &str) -> Fact {
    let name = "echo of notes";
    let sent = bought.item.note_ref();
    let sent: Option<Value> = sent.and_then(|note| serde_json::from_str(note.as_json()).ok());
    match (line.get(field), sent) {
        (None | Some(Value::Null), _) => {
            Fact::found(name, "the line shows none").set("echo_note", false)
        }
        (Some(shown), Some(sent)) if *shown == sent => {
            Fact::found(name, "the line shows the note as it was sent").set("echo_note", true)
        }
        (Some(_), _) => {
            Fact::found(name, "the line shows another note than was sent").set("echo_note", false)
        }
    }
}

fn tag(line: &Map<String, Value>, bought: &Bought, field: &str) -> Fact {
    let name = "unknown key in a note";
    let (key, tag) = bought.tag;
    let shown = line.get(field).and_then(|note| note.get(key.as_str())?.as_str());
    match shown {
        Some(text) if Tag::parse(text) == Some(tag) => {
            Fact::found(name, "is kept and shown: orders can carry tags")
                .note("not to be changed while orders are open")
                .set("tag_key", key.as_str())
        }
        Some(_) => Fact::found(name, "is shown with another value"),
        None => Fact::found(name, "is not shown: orders cannot carry tags"),
    }
}

/// A moment without a zone means UTC where the order that was just created is dated so.
fn zone(created: &Value, date: Option<Timestamp>) -> Fact {
    let name = "timestamps";
    let (Some(form), Some(at)) = (page::timestamps(created), page::moment(created)) else {
        return Fact::unknown(name, "the moment of creation is not understood");
    };
    let word = proposal::word(form);
    let off = date.map(|date| at.duration_since(date).as_secs_f64());
    match (form, off) {
        (_, Some(off)) if off.abs() <= SAME_ZONE => {
            Fact::found(name, word).set("order_timestamps", word)
        }
        (TimestampFormat::UtcWithoutZone, None) => Fact::unknown(
            name,
            "moments have no zone, and no answer has shown the supplier's clock",
        ),
        (TimestampFormat::UtcWithoutZone, Some(off)) => {
            let hours = off / 3600.0;
            Fact::unknown(name, format!("moments have no zone and are {hours:.1} h from UTC"))
                .note("no setting reads them: an order would be taken for an older one")
        }
        (_, Some(off)) => Fact::unknown(name, format!("the order is dated {off:.0} s from now")),
        (_, None) => Fact::found(name, word).set("order_timestamps", word),
    }
}

/// The status of the order once it is past `active`, or as it is after some seconds.
async fn settled(supplier: &FoxReload, bought: &Bought) -> Option<String> {
    let format = &supplier.settings().evidence.format;
    let mut status = None;
    for _ in 0..50 {
        if let Ok(raw) = supplier.raw_order(&bought.order_id).await {
            let order = format.open(&raw.body);
            status = order.and_then(|order| format.status_of(&order)).or(status);
        }
        if status.as_deref().is_some_and(|status| status != "active") {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    status
}

/// By how much the balances fell.
async fn debit(supplier: &FoxReload, bought: &Bought, status: Option<&str>) -> Fact {
    let name = "debit";
    let status = status.unwrap_or("not read");
    let after = match look::amounts(supplier).await {
        Ok(after) => after,
        Err(why) => return Fact::unknown(name, format!("the balances were not read: {why}")),
    };
    if bought.balances.is_empty() {
        return Fact::unknown(name, "the balances were not read before the order");
    }
    let exact = |text: &str| Decimal::from_str_exact(text).ok();
    let fall = |(currency, before): &(String, String)| {
        let (_, after) = after.iter().find(|(other, _)| other == currency)?;
        Some((currency.clone(), exact(before)?.checked_sub(exact(after)?)?))
    };
    let falls: Option<Vec<_>> = bought.balances.iter().map(fall).collect();
    let Some(falls) = falls else {
        return Fact::unknown(name, "a balance is no exact decimal, or is gone");
    };
    let moved: Vec<_> = falls.iter().filter(|(_, fall)| !fall.is_zero()).collect();
    let told: Vec<_> = moved.iter().map(|(c, fall)| format!("{} {c}", fall.normalize())).collect();
    match (moved.is_empty(), status) {
        (true, "active") if !bought.mock => Fact::found(name, "nothing, and the order is active")
            .note("orders are paid with a call of their own")
            .set("pays_on", "pay"),
        (true, _) => Fact::found(name, format!("nothing; the order is {status}")),
        (false, _) => {
            let fact = Fact::found(name, format!("{}; the order is {status}", told.join(", ")));
            if bought.mock { fact } else { fact.set("pays_on", "create") }
        }
    }
    .note_if_empty("others who buy on the account meanwhile show here too")
}

impl Fact {
    fn note_if_empty(mut self, note: &str) -> Self {
        if self.note.is_empty() {
            self.note = note.to_owned();
        }
        self
    }
}

fn mock(report: &Report) -> Fact {
    let name = "test orders";
    match report.fact("debit").map(|fact| fact.found.as_deref()) {
        Some(Some(found)) if found.starts_with("nothing") => {
            Fact::found(name, "isMock is real: nothing was debited")
        }
        Some(Some(_)) => Fact::found(name, "isMock is not real: the order was debited")
            .note("`mock` would spend money"),
        _ => Fact::unknown(name, "the balances were not read"),
    }
}

impl Supplier for Watched {
    fn capabilities(&self) -> Capabilities {
        self.supplier.capabilities()
    }

    fn evidence_policy(&self) -> EvidencePolicy {
        self.supplier.evidence_policy()
    }

    fn wire_bound(&self) -> Duration {
        self.supplier.wire_bound()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.supplier.fingerprint()
    }

    fn account(&self) -> AccountId {
        self.supplier.account()
    }

    fn place(&self, items: Arc<[Item]>, gate: Arc<Gate>) -> BoxFuture<'static, Exchange> {
        let placing = self.supplier.place(items, gate);
        let sent = self.clock.now();
        let watched = (Arc::clone(&self.clock), Arc::clone(&self.notes));
        Box::pin(async move {
            let exchange = placing.await;
            if let Exchange::Answer(answer) = &exchange {
                let (clock, notes) = watched;
                let answered = Answered { sent, at: clock.now(), date: answer.date };
                *notes.lock().unwrap_or_else(PoisonError::into_inner) = Some(answered);
            }
            exchange
        })
    }

    fn list(&self, page: PageRequest) -> BoxFuture<'static, Result<Page, ReadError>> {
        self.supplier.list(page)
    }

    fn fetch(&self, id: OrderId) -> BoxFuture<'static, Result<Fetched, ReadError>> {
        self.supplier.fetch(id)
    }

    fn has_balances(&self) -> bool {
        self.supplier.has_balances()
    }

    fn balances(&self) -> BoxFuture<'static, Result<Vec<Balance>, ReadError>> {
        self.supplier.balances()
    }
}
