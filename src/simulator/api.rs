//! The supplier's routes: one request in, one reply and what happens to the connection out.

use std::time::Duration;

use uuid::Uuid;

use super::account::{Account, Draft, Shared};
use super::config::{Contract, Envelope};
use super::faults::{ListFault, PostFault};
use super::list::{self, Query};
use super::order::{self, Refusal, Status, unit_price, write_number, write_str};
use super::pay;
use super::time::micros;

/// One request, borrowed from the connection's buffers.
pub(super) struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub key: Option<&'a [u8]>,
    pub body: &'a [u8],
}

/// The answer to one request; its buffer is used again for the next.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub status: u16,
    pub html: bool,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
    /// `Age`, in seconds.
    pub age: Option<u64>,
    /// `Location`
    pub location: Option<&'static str>,
    pub body: Vec<u8>,
}

/// What happens once the reply is ready and its delay over.
pub(super) enum Then {
    Send,
    /// Nothing is sent; the connection is reset.
    Reset,
    /// The reply is cut in its middle and the connection closed.
    Cut,
    /// Nothing is sent until the client goes, or for so long.
    Hold(Duration),
    /// It takes effect so long from now, whatever the client does, and is answered then.
    Land(Duration, Landing),
    /// The ledger is streamed.
    Ledger,
}

/// What takes effect late.
pub(super) enum Landing {
    Order(Box<Draft>),
    /// A payment, by the order's row.
    Payment(usize),
}

/// The outcome of one request.
pub(super) struct Step {
    pub delay: Duration,
    pub then: Then,
}

impl Step {
    pub(super) fn now() -> Self {
        Self { delay: Duration::ZERO, then: Then::Send }
    }
}

impl Reply {
    pub(super) fn reset(&mut self) {
        self.status = 200;
        self.html = false;
        self.retry_after = None;
        self.age = None;
        self.location = None;
        self.body.clear();
    }

    pub(super) fn error(&mut self, status: u16, code: &str, detail: &str) {
        self.status = status;
        self.body.clear();
        self.body.extend_from_slice(b"{\"code\":");
        write_str(&mut self.body, code);
        self.body.extend_from_slice(b",\"detail\":");
        write_str(&mut self.body, detail);
        self.body.push(b'}');
    }

    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.error(refusal.status, refusal.code, &refusal.detail);
    }

    pub(super) fn rate_limited(&mut self) {
        self.error(429, "RATE_LIMITED", "too many requests");
        self.retry_after = Some(1);
    }

    fn page(&mut self, status: u16, title: &str) {
        self.status = status;
        self.html = true;
        let html = format!(
            "<!DOCTYPE html>\n<html><head><title>{title}</title></head>\
             <body><center><h1>{title}</h1></center><hr></body></html>\n"
        );
        self.body.extend_from_slice(html.as_bytes());
    }
}

/// Answers one request to the supplier.
pub(super) fn handle(shared: &Shared, request: &Request<'_>, reply: &mut Reply) -> Step {
    reply.reset();
    let path = request.path.strip_suffix('/').unwrap_or(request.path);
    let is_create = path == "/api/orders" && request.method == "POST";
    if is_create {
        shared.account().counts.posts += 1;
    }
    let accepted = match (&shared.required_key, request.key) {
        (_, None | Some(b"")) => false,
        (None, Some(_)) => true,
        (Some(required), Some(key)) => required.as_bytes() == key,
    };
    if !accepted {
        shared.account().counts.unauthorized += 1;
        reply.error(401, "UNAUTHORIZED", "X-API-Key is missing or wrong");
        return Step::now();
    }
    if is_create {
        return create(shared, request.body, reply);
    }
    let Some(rest) = path.strip_prefix("/api/") else {
        reply.error(404, "NOT_FOUND", "there is nothing at this path");
        return Step::now();
    };
    let parts: Vec<&str> = rest.split('/').collect();
    match (request.method, parts.as_slice()) {
        ("GET", ["orders"]) => return list(shared, request.query, reply),
        ("GET", ["orders", id]) => fetch(shared, id, reply),
        ("POST", ["orders", id, "pay"]) => return pay::pay(shared, id, request.body, reply),
        ("GET", ["access", "me", "balances"]) => return balances(shared, reply),
        ("GET", ["products", id]) => product(&shared.contract, id, reply),
        (_, ["orders"] | ["orders", _] | ["orders", _, "pay"])
        | (_, ["access", "me", "balances"] | ["products", _]) => {
            reply.error(405, "METHOD_NOT_ALLOWED", "this path has no such method");
        }
        _ => reply.error(404, "NOT_FOUND", "there is nothing at this path"),
    }
    Step { delay: shared.account().get_delay(), then: Then::Send }
}

fn create(shared: &Shared, body: &[u8], reply: &mut Reply) -> Step {
    let contract = &shared.contract;
    let read = order::read(body, contract);
    let mut account = shared.account();
    let account = &mut *account;
    let wanted =
        match read.and_then(|w| account.afford(shared.clock.now(), &w, contract).map(|()| w)) {
            Ok(wanted) => wanted,
            Err(refusal) => {
                account.counts.refused += 1;
                reply.refuse(&refusal);
                return Step::now();
            }
        };
    let mut arrival = account.arrive(wanted);
    if let Some(foreign) = arrival.take_foreign(true) {
        account.create(foreign, shared.clock.now(), contract);
    }
    if arrival.fault == Some(PostFault::WrongId201) && account.rows.is_empty() {
        arrival.forgive();
    }
    let foreign = arrival.take_foreign(false);
    if let Some(fault) = arrival.fault {
        account.count_post_fault(fault);
    }
    let then = happen(shared, account, arrival.fault, arrival.draft, reply);
    if let Some(foreign) = foreign {
        account.create(foreign, shared.clock.now(), contract);
    }
    // A late order is late by its arrival, whatever the latency.
    let delay = if matches!(then, Then::Land(..)) { Duration::ZERO } else { arrival.delay };
    Step { delay, then }
}

/// Creates the order where the fault lets it be created, and writes the answer.
fn happen(
    shared: &Shared,
    account: &mut Account,
    fault: Option<PostFault>,
    draft: Draft,
    reply: &mut Reply,
) -> Then {
    let shown = match fault {
        Some(PostFault::CreatedLate) => {
            let draft = Landing::Order(Box::new(draft));
            return Then::Land(account.faults.late_after, draft);
        }
        Some(PostFault::WrongId201) => Shown::Others,
        Some(PostFault::NoId201) => Shown::None,
        Some(_) | None => Shown::Own,
    };
    if fault.is_none_or(PostFault::creates) {
        created(shared, account, draft, shown, reply);
    }
    fault.map_or(Then::Send, |fault| answer(fault, account.faults.withhold_for, reply))
}

/// Puts what the fault answers in the place of the order, and says how the exchange ends.
fn answer(fault: PostFault, withhold_for: Duration, reply: &mut Reply) -> Then {
    let later = "try again later";
    match fault {
        PostFault::WithheldAfterCreation | PostFault::WithheldNeverCreated => {
            return Then::Hold(withhold_for);
        }
        PostFault::Status500Before | PostFault::Status500After => {
            reply.error(500, "INTERNAL_ERROR", later);
        }
        PostFault::Status502Before | PostFault::Status502After => {
            reply.error(502, "BAD_GATEWAY", later);
        }
        PostFault::Status503Before => reply.error(503, "UNAVAILABLE", later),
        PostFault::Status408After => reply.error(408, "REQUEST_TIMEOUT", later),
        PostFault::Conflict409After => {
            reply.error(409, "ORDER_ALREADY_EXISTS", "this order exists");
        }
        PostFault::ResetBefore | PostFault::ResetAfter => return Then::Reset,
        PostFault::Cut201 => return Then::Cut,
        PostFault::Empty201 => reply.body.clear(),
        PostFault::RateLimited429 | PostFault::RateLimited429After => reply.rate_limited(),
        PostFault::GatewayPage403 => reply.page(403, "403 Forbidden"),
        PostFault::GatewayPage502 => reply.page(502, "502 Bad Gateway"),
        PostFault::Redirect => {
            reply.status = 307;
            reply.location = Some("/api/orders");
        }
        // The order as it was created, whatever its id; a late one is answered when it lands.
        PostFault::WrongId201 | PostFault::NoId201 | PostFault::CreatedLate => {}
    }
    Then::Send
}

/// Whose id a 201 shows.
#[derive(Clone, Copy)]
enum Shown {
    Own,
    Others,
    None,
}

fn created(shared: &Shared, account: &mut Account, draft: Draft, shown: Shown, reply: &mut Reply) {
    let now = shared.clock.now();
    let index = account.create(draft, now, &shared.contract);
    let row = &account.rows[index];
    let id = match shown {
        Shown::Own => Some(row.id),
        Shown::Others => index.checked_sub(1).map(|other| account.rows[other].id),
        Shown::None => None,
    };
    reply.status = 201;
    // Whatever becomes of it: the answer to the POST shows it as it was created.
    row.write(&mut reply.body, id, Status::Active, &shared.contract, false);
}

/// Lets something take effect whose time has come, and writes its answer.
pub(super) fn land(shared: &Shared, landing: Landing, reply: &mut Reply) {
    reply.reset();
    let mut account = shared.account();
    let draft = match landing {
        Landing::Order(draft) => *draft,
        Landing::Payment(index) => return pay::paid(shared, &mut account, index, reply),
    };
    match account.afford(shared.clock.now(), draft.wanted(), &shared.contract) {
        Ok(()) => created(shared, &mut account, draft, Shown::Own, reply),
        Err(refusal) => reply.refuse(&refusal),
    }
}

fn list(shared: &Shared, query: &str, reply: &mut Reply) -> Step {
    let mut account = shared.account();
    let account = &mut *account;
    account.counts.list_pages += 1;
    let mut delay = account.get_delay();
    let query = match Query::read(query, &shared.contract) {
        Ok(query) => query,
        Err(refusal) => {
            reply.refuse(&refusal);
            return Step { delay, then: Then::Send };
        }
    };
    account.counts.listings += u64::from(query.offset == 0);
    let fault = account.list_fault();
    let mut as_of = shared.clock.now();
    match fault {
        Some(ListFault::Status500) => {
            reply.error(500, "INTERNAL_ERROR", "try again later");
            return Step { delay, then: Then::Send };
        }
        Some(ListFault::Status429) => {
            reply.rate_limited();
            return Step { delay, then: Then::Send };
        }
        Some(ListFault::Slow) => delay += account.faults.list_slow_by,
        Some(ListFault::Stale) => {
            as_of -= micros(account.faults.list_stale_by);
            let age = account.faults.list_stale_by.as_secs().max(1);
            reply.age = account.faults.list_stale_age_header.then_some(age);
        }
        Some(ListFault::Empty | ListFault::Malformed) => {}
        Some(ListFault::WrongEnvelope | ListFault::Unsorted) | None => {}
    }
    let mut page = if fault == Some(ListFault::Empty) {
        list::Page { rows: Vec::new(), total: 0 }
    } else {
        list::page(account, &shared.contract, &query, as_of)
    };
    if fault == Some(ListFault::Unsorted) {
        account.rng.shuffle(&mut page.rows);
    }
    let key = match (fault, shared.contract.envelope) {
        (Some(ListFault::WrongEnvelope), _) => "data",
        (_, Envelope::Orders) => "orders",
        (_, Envelope::Items) => "items",
        (_, Envelope::Bare) => "",
    };
    list::write(&mut reply.body, account, &shared.contract, &query, &page, key, as_of);
    if fault == Some(ListFault::Malformed) {
        reply.body.truncate(reply.body.len() / 2);
    }
    Step { delay, then: Then::Send }
}

/// An order that exists, may be fetched by now, and is not hidden.
pub(super) fn find(shared: &Shared, account: &Account, id: &str) -> Option<usize> {
    let index = account.find(Uuid::try_parse(id).ok()?)?;
    let from = account.rows[index].created.saturating_add(micros(account.faults.fetch_lag));
    (shared.clock.now() >= from).then_some(index)
}

fn fetch(shared: &Shared, id: &str, reply: &mut Reply) {
    let mut account = shared.account();
    account.counts.fetches += 1;
    match find(shared, &account, id) {
        Some(index) => {
            let row = &account.rows[index];
            let status = row.status(shared.clock.now(), &shared.contract);
            row.write(&mut reply.body, Some(row.id), status, &shared.contract, true);
        }
        None => reply.error(404, "ORDER_NOT_FOUND", "there is no such order"),
    }
}

fn balances(shared: &Shared, reply: &mut Reply) -> Step {
    let mut account = shared.account();
    let account = &mut *account;
    account.counts.balances += 1;
    let mut step = Step { delay: account.get_delay(), then: Then::Send };
    if account.chance(account.faults.balance_slow) {
        step.delay += account.faults.balance_slow_by;
    }
    if account.chance(account.faults.balance_status_500) {
        reply.error(500, "INTERNAL_ERROR", "try again later");
        return step;
    }
    let now = shared.clock.now();
    let mut as_of = now;
    if account.chance(account.faults.balance_stale) {
        as_of -= micros(account.faults.balance_stale_by);
    }
    let contract = &shared.contract;
    let balances = account.balances(as_of, now, contract);
    let first = usize::from(account.chance(account.faults.balance_missing));
    let shown = balances.iter().enumerate().skip(first).map(|(place, amount)| {
        let currency = contract.currency_at(place);
        serde_json::json!({"currency": currency, "amount": amount.to_string()})
    });
    let shown = serde_json::Value::Array(shown.collect()).to_string();
    reply.body.extend_from_slice(shown.as_bytes());
    if account.chance(account.faults.balance_malformed) {
        reply.body.truncate(reply.body.len() / 2);
    }
    step
}

fn product(contract: &Contract, id: &str, reply: &mut Reply) {
    let id = percent_decoded(id);
    if contract.refused_products.contains(&id) {
        reply.error(404, "PRODUCT_NOT_FOUND", "this product is not sold");
        return;
    }
    let price = unit_price(contract, &id);
    let out = &mut reply.body;
    out.extend_from_slice(b"{\"id\":");
    write_str(out, &id);
    out.extend_from_slice(b",\"name\":");
    write_str(out, &id);
    out.extend_from_slice(b",\"price\":");
    write_str(out, &price.to_string());
    out.extend_from_slice(b",\"stock\":1000000,\"orderMinQuantity\":1,\"orderMaxQuantity\":");
    write_number(out, u64::from(u32::MAX));
    out.extend_from_slice(b",\"requiredNoteFields\":[]}");
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex.filter(|_| *byte == b'%') {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
