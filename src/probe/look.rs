//! What is found out by reading alone.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::page::{self, Found};
use super::proposal::word;
use super::{Fact, Report};
use crate::money::Balance;
use crate::protocol::format::{OrderFormat, TimestampFormat};
use crate::supplier::foxreload::raw::Raw;
use crate::supplier::foxreload::{FoxReload, Paging};
use crate::supplier::{ListEnvelope, ReadError, Supplier};

/// How often one page is asked for.
const TRIES_MAX: u32 = 3;
/// The longest wait that a supplier may ask for.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// More rows than a page is likely to have.
const WIDE: u64 = 1000;
/// States that are documented.
const STATES: [&str; 6] = ["active", "paid", "processing", "completed", "cancelled", "failed"];
/// Parameters of a page's number, the likeliest first.
const PAGES: [&str; 3] = ["page", "pageNumber", "p"];
/// Fields that may be what a line costs.
const PRICES: [&str; 5] = ["totalPrice", "price", "amount", "total", "unitPrice"];
/// By how much a clock may be off before lists are no evidence: half of the clock's margin.
const CLOCK_OFF: f64 = 30.0 * 60.0;

/// Reads the account, and changes nothing.
///
/// # Errors
/// [`ReadError`], if not even one page was answered: nothing was found out then.
pub async fn look(supplier: &FoxReload, base_url: &str) -> Result<Report, ReadError> {
    let mut report = Report { supplier: base_url.to_owned(), facts: Vec::new() };
    let first = read(supplier, &[]).await?;
    report.put(clock(&first));
    report.put(rate_headers(&first));
    match page::read(&first.body) {
        Ok(found) => rows(supplier, &mut report, found).await,
        Err(what) => report.put(Fact::unknown(
            "envelope",
            format!("the list is not understood, it is {what}; see supplier and orders_path"),
        )),
    }
    report.put(balances(supplier).await);
    Ok(report)
}

/// Reads one page, again where that may help.
pub(super) async fn read(supplier: &FoxReload, query: &[(&str, u64)]) -> Result<Raw, ReadError> {
    let mut wait = Duration::from_millis(300);
    for _ in 1..TRIES_MAX {
        let told = match supplier.raw_list(query).await {
            Ok(raw) => return Ok(raw),
            Err(ReadError::RateLimited(after)) => after,
            Err(ReadError::Broken(_)) => None,
            Err(ReadError::Status(500..=599)) => None,
            Err(error) => return Err(error),
        };
        tokio::time::sleep(told.unwrap_or(wait).min(WAIT_MAX)).await;
        wait *= 2;
    }
    supplier.raw_list(query).await
}

async fn found(supplier: &FoxReload, query: &[(&str, u64)]) -> Result<Found, String> {
    let raw = read(supplier, query).await.map_err(|error| error.to_string())?;
    page::read(&raw.body)
}

async fn rows(supplier: &FoxReload, report: &mut Report, first: Found) {
    let format = &supplier.settings().evidence.format;
    report.put(envelope(&first));
    if let Some((key, total)) = &first.total {
        let fact = Fact::found("total", format!("{total} orders, under `{key}`"));
        report.put(fact.set("list_total", key.clone()));
    }
    if first.rows.is_empty() {
        for name in ["fields", "order", "paging", "timestamps", "limit", "echo of quantities"] {
            report.put(Fact::unknown(name, "the list is empty: there is nothing to learn from"));
        }
        return;
    }
    if page::ids(&first, format).is_none() {
        let has = page::keys(&first.rows[0]);
        report.put(Fact::unknown("fields", format!("a row has no `{}`; it has {has}", format.id)));
        return;
    }
    let limit_name = limit_name(supplier);
    let wide = match found(supplier, &[(&limit_name, WIDE)]).await {
        Ok(wide) => Ok(wide),
        // Too many for it, or too long for us.
        Err(why) => found(supplier, &[(&limit_name, 100)]).await.map_err(|_| why),
    };
    report.put(limits(supplier, &first, wide.as_ref()).await);
    let sample = wide.ok().filter(|wide| wide.rows.len() >= first.rows.len()).unwrap_or(first);
    report.put(fields(&sample, format));
    report.put(timestamps(&sample, format));
    report.put(order(&sample, format));
    report.put(paging(supplier, &sample).await);
    report.put(quantities(&sample, format));
    report.put(notes(&sample, format));
    report.put(prices(&sample, format));
    report.put(states(&sample, format));
}

fn limit_name(supplier: &FoxReload) -> String {
    match &supplier.settings().paging {
        Paging::Offset { limit, .. } | Paging::Page { limit, .. } => limit.to_string(),
    }
}

fn envelope(found: &Found) -> Fact {
    match &found.envelope {
        ListEnvelope::Bare => Fact::found("envelope", "a bare list").set("list_envelope", "-"),
        ListEnvelope::Key(key) => {
            Fact::found("envelope", format!("under `{key}`")).set("list_envelope", &**key)
        }
    }
}

/// How many rows a page has by default and at most.
async fn limits(supplier: &FoxReload, first: &Found, wide: Result<&Found, &String>) -> Fact {
    let wide = match wide {
        Ok(wide) => wide,
        Err(why) => return Fact::unknown("limit", format!("a page of {WIDE} rows: {why}")),
    };
    let (rows, default) = (wide.rows.len() as u64, first.rows.len() as u64);
    let name = limit_name(supplier);
    let one = found(supplier, &[(&name, 1)]).await;
    if rows > 1 && one.is_ok_and(|one| one.rows.len() > 1) {
        let fact = Fact::found("limit", format!("`{name}` is not looked at: pages of {default}"));
        return fact.set("page_limit", default);
    }
    let by_default = match rows > default {
        true => format!("{default} rows by default"),
        false => format!("the account has only {rows} orders in a page"),
    };
    let is_all = match first.total.as_ref().or(wide.total.as_ref()) {
        Some((_, total)) => Some(*total <= rows),
        // Where there is more behind the last row, it was cut there.
        None => behind(supplier, rows).await.map(|more| !more),
    };
    match is_all {
        Some(false) => {
            let fact = Fact::found("limit", format!("{by_default}, {rows} at most"));
            fact.set("page_limit", rows)
        }
        Some(true) => Fact::unknown(
            "limit",
            format!("{by_default}; the most was not reached: {rows} orders came in one page"),
        ),
        None => {
            Fact::unknown("limit", format!("{by_default}; it cannot be told if there are more"))
        }
    }
}

/// Whether there is a row behind so many, where an offset is looked at.
async fn behind(supplier: &FoxReload, rows: u64) -> Option<bool> {
    let (limit, offset) = (limit_name(supplier), offset_name(supplier)?);
    if rows < 2 {
        return None;
    }
    let format = &supplier.settings().evidence.format;
    let at = async |offset_is: u64| {
        let page = found(supplier, &[(&limit, 1), (&offset, offset_is)]).await.ok()?;
        Some(page.rows.first().and_then(|row| page::id(row, format)))
    };
    let (first, second) = (at(0).await?, at(1).await?);
    // The rows move, or the offset is not looked at.
    if first == second {
        return None;
    }
    Some(at(rows).await?.is_some())
}

fn offset_name(supplier: &FoxReload) -> Option<String> {
    match &supplier.settings().paging {
        Paging::Offset { offset, .. } => Some(offset.to_string()),
        Paging::Page { .. } => None,
    }
}

fn fields(sample: &Found, format: &OrderFormat) -> Fact {
    let has = |row: &Map<String, Value>| {
        let lines = page::lines(row, format);
        let product = |line: &&Map<String, Value>| {
            format.product.iter().any(|path| at_path(line, path).is_some())
        };
        let missing = [
            (!row.get(&*format.status).is_some_and(Value::is_string)).then_some(&format.status),
            (!row.contains_key(&*format.created_at)).then_some(&format.created_at),
            lines.is_empty().then_some(&format.items),
            (!lines.is_empty() && !lines.iter().all(product)).then_some(&format.product[0]),
        ];
        missing.into_iter().flatten().next().map(|name| (name.to_string(), page::keys(row)))
    };
    match sample.rows.iter().find_map(has) {
        None => Fact::found("fields", "every row has id, status, moment of creation and lines"),
        Some((name, keys)) => {
            Fact::unknown("fields", format!("a row has no readable `{name}`; it has {keys}"))
        }
    }
}

fn at_path<'a>(line: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut keys = path.split('.');
    let first = line.get(keys.next()?)?;
    keys.try_fold(first, |value, key| value.get(key))
}

fn timestamps(sample: &Found, format: &OrderFormat) -> Fact {
    let written: Vec<_> = sample.rows.iter().map(|row| row.get(&*format.created_at)).collect();
    let forms: Option<Vec<_>> =
        written.into_iter().map(|value| value.and_then(page::timestamps)).collect();
    let forms = forms.unwrap_or_default();
    match forms.first() {
        Some(form) if forms.iter().all(|other| other == form) => match form {
            TimestampFormat::UtcWithoutZone => Fact::unknown(
                "timestamps",
                "moments have no zone; that they mean UTC shows by an order bought now (--buy)",
            ),
            TimestampFormat::Rfc3339
            | TimestampFormat::UnixSeconds
            | TimestampFormat::UnixMillis => {
                Fact::found("timestamps", word(*form)).set("order_timestamps", word(*form))
            }
        },
        Some(_) => Fact::unknown("timestamps", "moments are written in several ways"),
        None => Fact::unknown("timestamps", "a moment of creation is not understood"),
    }
}

fn order(sample: &Found, format: &OrderFormat) -> Fact {
    let moments: Option<Vec<Timestamp>> =
        sample.rows.iter().map(|row| row.get(&*format.created_at).and_then(page::moment)).collect();
    let Some(moments) = moments else {
        return Fact::unknown("order", "a moment of creation is not understood");
    };
    let falls = moments.windows(2).all(|pair| pair[0] >= pair[1]);
    let rises = moments.windows(2).all(|pair| pair[0] <= pair[1]);
    match (falls, rises) {
        (true, true) => {
            Fact::unknown("order", "all orders are of one moment, or there is only one")
        }
        (true, false) => Fact::found("order", "newest first").set("oldest_first", false),
        (false, true) => Fact::found("order", "oldest first").set("oldest_first", true),
        (false, false) => Fact::unknown(
            "order",
            "neither newest nor oldest first: every list is read to its end; see list_query",
        ),
    }
}

/// Whether pages move by rows or by number.
async fn paging(supplier: &FoxReload, sample: &Found) -> Fact {
    let format = &supplier.settings().evidence.format;
    if sample.rows.len() < 3 {
        return Fact::unknown("paging", "the account has fewer than three orders");
    }
    let limit = limit_name(supplier);
    let two = async |name: &str, number: u64| {
        let page = found(supplier, &[(&limit, 2), (name, number)]).await.ok()?;
        page::ids(&page, format).filter(|ids| ids.len() == 2)
    };
    // Others buy meanwhile: what does not fit is looked at again.
    for _ in 0..TRIES_MAX {
        if let Some(offset) = offset_name(supplier)
            && let (Some(first), Some(second)) = (two(&offset, 0).await, two(&offset, 1).await)
            && first[1] == second[0]
            && first[0] != second[0]
        {
            let what = format!("by `{offset}`, row by row: pages can overlap");
            return Fact::found("paging", what).set("offset_parameter", offset);
        }
        for name in pages(supplier) {
            // The one around the other: rows that others move look like a number that is looked at.
            let (one, next) = (two(&name, 1).await, two(&name, 2).await);
            let again = two(&name, 1).await;
            let (Some(one), Some(next)) = (one.filter(|one| again.as_ref() == Some(one)), next)
            else {
                continue;
            };
            let Ok(plain) = found(supplier, &[(&limit, 2)]).await else { continue };
            let plain = page::ids(&plain, format).unwrap_or_default();
            if one == next || plain.len() < 2 {
                continue;
            }
            let first = u64::from(one == plain);
            if first == 0 && two(&name, 0).await.as_ref() != Some(&plain) {
                continue;
            }
            let fact = Fact::found("paging", format!("by `{name}`, the first page is {first}"));
            let note = "pages by number do not overlap: a row that moves meanwhile costs a listing";
            return fact.note(note).set("page_parameter", name).set("first_page", first);
        }
    }
    Fact::unknown("paging", "neither an offset nor a page's number moves the list")
}

fn pages(supplier: &FoxReload) -> Vec<String> {
    let set = match &supplier.settings().paging {
        Paging::Page { page, .. } => Some(page.to_string()),
        Paging::Offset { .. } => None,
    };
    set.into_iter().chain(PAGES.map(str::to_owned)).collect()
}

fn quantities(sample: &Found, format: &OrderFormat) -> Fact {
    let name = "echo of quantities";
    let lines: Vec<_> = sample.rows.iter().flat_map(|row| page::lines(row, format)).collect();
    let shown = lines.iter().filter(|line| line.contains_key(&*format.quantity)).count();
    match (lines.len(), shown) {
        (0, _) => Fact::unknown(name, "no row shows lines"),
        (all, shown) if all == shown => Fact::found(name, "every line shows one")
            .note("that it is the one that was ordered shows by an order bought now (--buy)")
            .set("no_echo_quantity", false),
        (_, 0) => Fact::found(name, "no line shows one").set("no_echo_quantity", true),
        _ => Fact::unknown(name, "some lines show one and others do not"),
    }
}

fn notes(sample: &Found, format: &OrderFormat) -> Fact {
    let name = "echo of notes";
    let mut lines = sample.rows.iter().flat_map(|row| page::lines(row, format));
    let is_shown =
        |line: &Map<String, Value>| line.get(&*format.note).is_some_and(Value::is_object);
    match lines.any(is_shown) {
        true => {
            Fact::unknown(name, "some lines show one; that it is what was sent shows with --buy")
        }
        false => {
            Fact::unknown(name, "no line shows one: none had one, or they are not shown (--buy)")
        }
    }
}

fn prices(sample: &Found, format: &OrderFormat) -> Fact {
    let lines = || sample.rows.iter().flat_map(|row| page::lines(row, format));
    let on_lines = PRICES.iter().find(|name| lines().any(|line| line.contains_key(**name)));
    let on_rows = PRICES.iter().find(|name| sample.rows.iter().any(|r| r.contains_key(**name)));
    match (on_lines, on_rows) {
        (Some(name), _) => Fact::found("prices", format!("a line shows `{name}`")),
        (None, Some(name)) => Fact::found("prices", format!("an order shows `{name}`")),
        (None, None) => Fact::found("prices", "neither orders nor lines show one"),
    }
}

fn states(sample: &Found, format: &OrderFormat) -> Fact {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for status in sample.rows.iter().filter_map(|row| row.get(&*format.status)?.as_str()) {
        *counts.entry(status).or_default() += 1;
    }
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(40).collect::<String>();
    let told: Vec<_> = counts.iter().map(|(s, n)| format!("{n} {}", plain(s))).collect();
    let unheard: Vec<_> = counts.keys().filter(|s| !STATES.contains(s)).map(|s| plain(s)).collect();
    if told.is_empty() {
        return Fact::unknown("states", "no row shows one");
    }
    let fact = Fact::found("states", told.join(", "));
    match unheard.is_empty() {
        true => fact,
        false => fact.note(format!("not documented: {}", unheard.join(", "))),
    }
}

fn clock(raw: &Raw) -> Fact {
    let (before, after) = raw.wall;
    let Some(date) = raw.date() else {
        return Fact::unknown("clock", "answers have no Date: the supplier's clock is not seen");
    };
    // The header is cut to the second.
    let ahead = |wall: Timestamp| date.duration_since(wall).as_secs_f64();
    let (least, most) = (ahead(after), ahead(before) + 1.0);
    let middle = f64::midpoint(least, most);
    let fact = match (least, most) {
        (least, most) if least <= 0.0 && most >= 0.0 => {
            Fact::found("clock", "as ours, to a second")
        }
        (least, _) if least > 0.0 => Fact::found("clock", format!("{middle:.0} s ahead of ours")),
        (..) => Fact::found("clock", format!("{:.0} s behind ours", -middle)),
    };
    match least > CLOCK_OFF || most < -CLOCK_OFF {
        true => fact.note("nothing would be released: see clock_margin and this machine's clock"),
        false => fact,
    }
}

fn rate_headers(raw: &Raw) -> Fact {
    let is_one = |name: &str| {
        ["x-ratelimit", "x-rate-limit", "ratelimit"].iter().any(|start| name.starts_with(start))
    };
    let shown = raw.headers.iter().filter(|(name, _)| is_one(name.as_str()));
    let shown: Vec<_> = shown
        .filter_map(|(name, value)| {
            let plain: String = value.to_str().ok()?.chars().take(40).collect();
            Some(format!("{name}: {plain}"))
        })
        .collect();
    match shown.is_empty() {
        true => Fact::unknown("rate limit", "no answer says one; set `rate` by what is agreed"),
        false => Fact::found("rate limit", shown.join(", "))
            .note("by minute or by hour is not said; set `rate`"),
    }
}

/// What is on the account, by currency.
pub(super) async fn amounts(supplier: &FoxReload) -> Result<Vec<(String, String)>, String> {
    let balances = supplier.balances().await.map_err(|error| error.to_string())?;
    let text = |balance: &Balance| (balance.currency.to_string(), balance.amount.to_string());
    Ok(balances.iter().map(text).collect())
}

async fn balances(supplier: &FoxReload) -> Fact {
    match amounts(supplier).await {
        Ok(amounts) => {
            let told: Vec<_> = amounts.iter().map(|(c, a)| format!("{a} {c}")).collect();
            Fact::found("balances", told.join(", "))
        }
        Err(why) => Fact::unknown("balances", why),
    }
}
