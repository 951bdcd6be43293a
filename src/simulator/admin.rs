//! The administration port: the ledger, the counters, the faults, somebody else's orders.

use serde_json::Value;

use super::account::Shared;
use super::api::{Reply, Request, Step, Then};
use super::order;

/// Answers one request to the administration port.
pub(super) fn handle(shared: &Shared, request: &Request<'_>, reply: &mut Reply) -> Step {
    reply.reset();
    let path = request.path.strip_suffix('/').unwrap_or(request.path);
    match (request.method, path) {
        ("GET", "/admin/ledger") => return Step { then: Then::Ledger, ..Step::now() },
        ("GET", "/admin/stats") => write(reply, &shared.stats()),
        ("GET", "/admin/faults") => {
            let faults = shared.account().faults.clone();
            write(reply, &faults);
        }
        ("POST", "/admin/faults") => set_faults(shared, request.body, reply),
        ("POST", "/admin/foreign") => buy_foreign(shared, request.body, reply),
        ("POST", "/admin/balance") => book(shared, request.body, reply),
        (
            _,
            "/admin/balance" | "/admin/ledger" | "/admin/stats" | "/admin/faults"
            | "/admin/foreign",
        ) => {
            reply.error(405, "METHOD_NOT_ALLOWED", "this path has no such method");
        }
        _ => reply.error(
            404,
            "NOT_FOUND",
            "there are GET /admin/ledger, /admin/stats, /admin/faults and \
             POST /admin/faults, /admin/foreign, /admin/balance",
        ),
    }
    Step::now()
}

fn write(reply: &mut Reply, value: &impl serde::Serialize) {
    serde_json::to_writer(&mut reply.body, value)
        .expect("the types have only text keys and finite numbers, and a Vec takes every write");
}

fn set_faults(shared: &Shared, body: &[u8], reply: &mut Reply) {
    let changes = match serde_json::from_slice(body) {
        Ok(Value::Object(changes)) => changes,
        Ok(_) => return reply.error(422, "VALIDATION_ERROR", "an object is wanted"),
        Err(error) => return reply.error(400, "MALFORMED_JSON", &error.to_string()),
    };
    let mut account = shared.account();
    match account.faults.update(&changes) {
        Ok(()) => write(reply, &account.faults),
        Err(error) => reply.error(422, "VALIDATION_ERROR", &error.to_string()),
    }
}

/// What is booked without an order.
#[derive(serde::Deserialize)]
struct Booking {
    currency: Option<String>,
    amount: String,
}

fn book(shared: &Shared, body: &[u8], reply: &mut Reply) {
    let Booking { currency, amount } = match serde_json::from_slice(body) {
        Ok(booking) => booking,
        Err(error) => return reply.error(422, "VALIDATION_ERROR", &error.to_string()),
    };
    match amount.parse().map(|amount| shared.book(currency.as_deref(), amount)) {
        Ok(true) => write(reply, &serde_json::json!({})),
        Err(_) => reply.error(422, "VALIDATION_ERROR", "amount: not an amount"),
        Ok(false) => reply.error(422, "VALIDATION_ERROR", "the account has no such currency"),
    }
}

fn buy_foreign(shared: &Shared, body: &[u8], reply: &mut Reply) {
    let wanted = match order::read(body, &shared.contract) {
        Ok(wanted) => wanted,
        Err(refusal) => return reply.refuse(&refusal),
    };
    let mut account = shared.account();
    let now = shared.clock.now();
    let row = account.buy_foreign(wanted, now, &shared.contract);
    reply.status = 201;
    let status = row.status(now, &shared.contract);
    row.write(&mut reply.body, Some(row.id), status, &shared.contract, false);
}
