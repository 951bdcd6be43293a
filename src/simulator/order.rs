//! One order of the simulated account: how it is asked for, what becomes of it, how it is shown.

use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::config::Moments;
use super::config::{Contract, PayTime};
use super::faults::PostFault;
use super::time::{Micros, micros, write_rfc3339};

/// The body of a POST, borrowed from the connection's buffer.
#[derive(Deserialize)]
pub(super) struct NewOrder<'a> {
    #[serde(borrow)]
    pub items: Vec<NewItem<'a>>,
    #[serde(rename = "isMock", default)]
    pub is_mock: bool,
}

#[derive(Deserialize)]
pub(super) struct NewItem<'a> {
    #[serde(rename = "itemId", borrow)]
    pub item_id: Cow<'a, str>,
    pub quantity: u64,
    #[serde(rename = "totalPrice", borrow, default)]
    pub total_price: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub note: Option<&'a RawValue>,
}

/// One line of an order as it was created.
pub(super) struct OrderItem {
    pub item_id: Box<str>,
    pub quantity: u64,
    /// JSON, byte for byte as it came.
    pub note: Option<Box<str>>,
    /// What the line costs.
    pub total: Decimal,
}

/// Why a POST is answered with an error and creates nothing.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub detail: String,
}

impl Refusal {
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self { status: 422, code: "VALIDATION_ERROR", detail: detail.into() }
    }
}

/// What a valid POST asks for.
pub(super) struct Wanted {
    pub items: Arc<[OrderItem]>,
    pub amount: Decimal,
    /// By its place among those of the contract.
    pub currency: usize,
    pub mock: bool,
}

/// What one unit costs, and whether that is a price to hold a `totalPrice` against.
fn price(contract: &Contract, item_id: &str) -> (Decimal, bool) {
    let own = contract.prices.iter().find(|p| p.item_id == item_id).map(|p| p.amount);
    match own.or(contract.default_price) {
        Some(amount) => (amount, true),
        None => (Decimal::ONE, false),
    }
}

/// The price of one unit of a product, as `GET /api/products/{id}` shows it.
pub(super) fn unit_price(contract: &Contract, item_id: &str) -> Decimal {
    price(contract, item_id).0
}

/// Reads and checks the body of a POST.
pub(super) fn read(body: &[u8], contract: &Contract) -> Result<Wanted, Refusal> {
    let order: NewOrder<'_> = serde_json::from_slice(body).map_err(|error| {
        if error.is_data() {
            Refusal::invalid(error.to_string())
        } else {
            Refusal { status: 400, code: "MALFORMED_JSON", detail: error.to_string() }
        }
    })?;
    if order.items.is_empty() || order.items.len() > 10 {
        return Err(Refusal::invalid("items: 1 to 10 are allowed"));
    }
    let currency = contract.currency_of(&order.items[0].item_id);
    if order.items.iter().any(|item| contract.currency_of(&item.item_id) != currency) {
        return Err(Refusal::invalid("items: all of one order are paid in one currency"));
    }
    let mut amount = Decimal::ZERO;
    let mock = order.is_mock && !contract.mock_debits;
    let items = order.items.iter().map(|item| read_item(item, contract, &mut amount));
    let items = items.collect::<Result<Vec<_>, _>>()?.into();
    Ok(Wanted { items, amount, currency, mock })
}

fn read_item(
    item: &NewItem<'_>,
    contract: &Contract,
    amount: &mut Decimal,
) -> Result<OrderItem, Refusal> {
    if item.item_id.is_empty() {
        return Err(Refusal::invalid("itemId: must not be empty"));
    }
    if item.quantity == 0 {
        return Err(Refusal::invalid("quantity: must be at least 1"));
    }
    if contract.refused_products.iter().any(|p| *p == item.item_id) {
        return Err(Refusal {
            status: 422,
            code: "PRODUCT_NOT_FOUND",
            detail: "this product is not sold".to_owned(),
        });
    }
    let (unit, known) = price(contract, &item.item_id);
    let total = unit.checked_mul(Decimal::from(item.quantity)).unwrap_or(Decimal::MAX);
    *amount = amount.checked_add(total).unwrap_or(Decimal::MAX);
    if let Some(raw) = item.total_price {
        let text = raw.get().trim_matches('"');
        let guard = text.parse().or_else(|_| Decimal::from_scientific(text));
        let guard: Decimal = guard.map_err(|_| Refusal::invalid("totalPrice: not an amount"))?;
        if known && guard != total {
            return Err(Refusal {
                status: 422,
                code: "OFFER_PRICE_NOT_MATCHED",
                detail: format!("the total price is {total}"),
            });
        }
    }
    let note = item.note.map(RawValue::get);
    if note.is_some_and(|raw| !raw.starts_with('{')) {
        return Err(Refusal::invalid("note: must be an object"));
    }
    let note = note.map(|raw| kept(raw, contract));
    Ok(OrderItem { item_id: item.item_id.as_ref().into(), quantity: item.quantity, note, total })
}

/// What is kept of a note: the keys that are known.
fn kept(raw: &str, contract: &Contract) -> Box<str> {
    if contract.note_keys.is_empty() {
        return raw.into();
    }
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(raw).unwrap_or_default();
    let known = |(key, _): &(String, serde_json::Value)| contract.note_keys.contains(key);
    serde_json::Value::Object(fields.into_iter().filter(known).collect()).to_string().into()
}

/// What becomes of an order; drawn at its arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Completes,
    Fails,
    Cancelled(&'static str),
    /// One item, by this number modulo the count of items, ends with an error.
    Partial(u8),
    /// Passes through a status that no documentation names.
    Unheard,
}

/// One order that exists.
pub(super) struct Row {
    pub id: Uuid,
    pub items: Arc<[OrderItem]>,
    pub created: Micros,
    /// From when on the list shows it.
    pub visible: Micros,
    /// The latest `visible` of this and all earlier rows: whatever is past it hides none of them.
    pub visible_floor: Micros,
    pub paid: Option<Micros>,
    pub amount: Decimal,
    pub currency: usize,
    pub debits: u32,
    /// Payments that came in.
    pub pays: u32,
    pub fault: Option<PostFault>,
    pub fate: Fate,
    pub foreign: bool,
    pub mock: bool,
    /// The list does not show it any more.
    pub hidden: bool,
}

/// Where an order stands at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Active,
    Paid,
    Processing,
    Unheard,
    Completed,
    Failed,
    Cancelled(&'static str),
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paid => "paid",
            Self::Processing => "processing",
            Self::Unheard => "awaiting_stock",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled(_) => "cancelled",
        }
    }
}

impl Row {
    fn expires(&self, contract: &Contract) -> Micros {
        self.created.saturating_add(micros(contract.payment_expires_after))
    }

    /// The status follows from the order's age: nothing has to be updated while nobody looks.
    pub(super) fn status(&self, at: Micros, contract: &Contract) -> Status {
        let Some(paid) = self.paid.filter(|paid| *paid <= at) else {
            let expired = at >= self.expires(contract);
            return if expired { Status::Cancelled("payment_expiration") } else { Status::Active };
        };
        let age = at - paid;
        match self.fate {
            _ if age < micros(contract.paid_after) => Status::Active,
            // It was paid: that it was not cannot be the reason.
            Fate::Cancelled(_) if contract.pays_on == PayTime::Pay => {
                Status::Cancelled("user_request")
            }
            Fate::Cancelled(reason) => Status::Cancelled(reason),
            _ if age < micros(contract.processing_after) => Status::Paid,
            Fate::Unheard if age < micros(contract.completed_after) => Status::Unheard,
            _ if age < micros(contract.completed_after) => Status::Processing,
            Fate::Fails => Status::Failed,
            Fate::Completes | Fate::Partial(_) | Fate::Unheard => Status::Completed,
        }
    }

    /// Whether it was debited and is paid back by now.
    pub(super) fn is_refunded(&self, at: Micros, contract: &Contract) -> bool {
        let ended = matches!(self.status(at, contract), Status::Failed | Status::Cancelled(_));
        contract.refunds && self.debits > 0 && ended
    }

    /// Writes the order as JSON.
    ///
    /// `id` is the one to show: another than its own where a fault says so, or none.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        id: Option<Uuid>,
        status: Status,
        contract: &Contract,
        codes: bool,
    ) {
        out.push(b'{');
        if let Some(id) = id {
            out.extend_from_slice(b"\"id\":\"");
            write_uuid(out, id);
            out.extend_from_slice(b"\",");
        }
        out.extend_from_slice(b"\"status\":\"");
        out.extend_from_slice(status.name().as_bytes());
        out.extend_from_slice(b"\",\"createdAt\":");
        write_moment(out, self.created, contract.timestamps);
        out.extend_from_slice(b",\"paymentExpiresAt\":");
        write_moment(out, self.expires(contract), contract.timestamps);
        if let Status::Cancelled(reason) = status {
            out.extend_from_slice(b",\"cancelReason\":\"");
            out.extend_from_slice(reason.as_bytes());
            out.push(b'"');
        }
        if contract.show_total {
            let amount = if self.mock { Decimal::ZERO } else { self.amount };
            let currency = contract.currency_at(self.currency);
            write!(out, ",\"totalPrice\":\"{amount}\",\"currency\":\"{currency}\"")
                .expect("a Vec takes every write");
        }
        out.extend_from_slice(b",\"isMock\":");
        out.extend_from_slice(if self.mock { b"true" } else { b"false" });
        out.extend_from_slice(b",\"items\":[");
        for (line, item) in self.items.iter().enumerate() {
            if line > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"product\":{\"id\":");
            write_str(out, &item.item_id);
            out.push(b'}');
            if contract.echo_quantity {
                out.extend_from_slice(b",\"quantity\":");
                write_number(out, item.quantity);
            }
            if contract.echo_price {
                out.extend_from_slice(b",\"totalPrice\":");
                out.extend_from_slice(item.total.to_string().as_bytes());
            }
            if let Some(note) = item.note.as_ref().filter(|_| contract.echo_note) {
                out.extend_from_slice(b",\"note\":");
                out.extend_from_slice(note.as_bytes());
            }
            self.write_delivery(out, line, status, codes);
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }

    fn write_delivery(&self, out: &mut Vec<u8>, line: usize, status: Status, codes: bool) {
        let lacking = match self.fate {
            Fate::Partial(n) => usize::from(n) % self.items.len() == line,
            Fate::Completes | Fate::Fails | Fate::Cancelled(_) | Fate::Unheard => false,
        };
        match status {
            Status::Failed => out.extend_from_slice(b",\"error\":\"DELIVERY_FAILED\""),
            Status::Completed if lacking => out.extend_from_slice(b",\"error\":\"OUT_OF_STOCK\""),
            Status::Completed if codes => {
                write_codes(out, self.id, line, self.items[line].quantity)
            }
            Status::Completed
            | Status::Active
            | Status::Paid
            | Status::Processing
            | Status::Unheard
            | Status::Cancelled(_) => {}
        }
    }
}

/// The codes of one line: made from the order's id, at most ten, strings or objects.
fn write_codes(out: &mut Vec<u8>, id: Uuid, line: usize, quantity: u64) {
    let (seed, _) = id.as_u64_pair();
    let objects = seed & 1 == 1;
    out.extend_from_slice(b",\"externalData\":[");
    for n in 0..quantity.min(10) {
        if n > 0 {
            out.push(b',');
        }
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(line as u64 * 1000 + n));
        let code = rng.u64(..);
        let written = if objects {
            write!(out, "{{\"code\":\"SIM-{code:016X}\"}}")
        } else {
            write!(out, "\"SIM-{code:016X}\"")
        };
        written.expect("a Vec takes every write");
    }
    out.push(b']');
}

fn write_moment(out: &mut Vec<u8>, at: Micros, moments: Moments) {
    match moments {
        Moments::Rfc3339 | Moments::UtcWithoutZone => {
            out.push(b'"');
            write_rfc3339(out, at);
            if moments == Moments::UtcWithoutZone {
                out.pop();
            }
            out.push(b'"');
        }
        Moments::UnixSeconds => out.extend(at.div_euclid(1_000_000).to_string().into_bytes()),
        Moments::UnixMillis => out.extend(at.div_euclid(1000).to_string().into_bytes()),
    }
}

pub(super) fn write_uuid(out: &mut Vec<u8>, id: Uuid) {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
}

pub(super) fn write_number(out: &mut Vec<u8>, value: u64) {
    write!(out, "{value}").expect("a Vec takes every write");
}

pub(super) fn write_str(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is always JSON, and a Vec takes every write");
}
