//! Lines of JSON, one order each.

use order_router::{InvalidOrder, Item, Note, Order};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{BadLine, reference};

/// An order as it is written; other keys beside these are left alone.
#[derive(Deserialize)]
struct Written<'a> {
    client_ref: Option<String>,
    replaces: Option<String>,
    #[serde(borrow)]
    items: Option<Vec<WrittenItem<'a>>>,
}

/// An unknown key here is refused: a misspelt price guard must not be dropped in silence.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenItem<'a> {
    item_id: String,
    #[serde(borrow)]
    quantity: &'a RawValue,
    note: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(borrow)]
    total_price: Option<&'a RawValue>,
}

/// Only the reference, for a message about a line whose rest cannot be read.
#[derive(Deserialize)]
struct Reference {
    client_ref: String,
}

/// Reads one line.
pub(super) fn order(bytes: &[u8]) -> Result<Order, BadLine> {
    let written_ref = || serde_json::from_slice(bytes).ok().map(|r: Reference| r.client_ref);
    let written: Written<'_> = serde_json::from_slice(bytes).map_err(|error| {
        // serde_json names keys and kinds of values, never the value of a note: its message could
        // quote one only for a string where an object is wanted.
        let why = match error.classify() {
            serde_json::error::Category::Data => data_error(&error),
            _ => format!("the line is no JSON (column {})", error.column()),
        };
        BadLine::new(written_ref().as_deref(), why)
    })?;
    let client_ref = written.client_ref.as_deref();
    let bad = |why: String| BadLine::new(client_ref, why);
    let replaces = written.replaces.as_deref();
    let reference = reference(client_ref, replaces).map_err(bad)?;
    let items = written.items.ok_or_else(|| bad("there are no items".to_owned()))?;
    let items: Result<Vec<_>, _> = items.into_iter().map(item).collect();
    Order::new(reference, items.map_err(bad)?).map_err(|error| bad(error.to_string()))
}

fn data_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.contains("invalid type") || text.contains("invalid value") {
        format!("a value has the wrong type (column {})", error.column())
    } else {
        text.split(" at line ").next().unwrap_or("the line is no order").to_owned()
    }
}

fn item(written: WrittenItem<'_>) -> Result<Item, String> {
    let digits = written.quantity.get();
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let quantity: Option<u32> = plain.then(|| digits.parse().ok()).flatten();
    let quantity = quantity.filter(|n| *n > 0).ok_or_else(|| {
        let text: String = digits.chars().take(40).collect();
        format!("{}, not {text}", InvalidOrder::Quantity)
    })?;
    let mut item = Item::new(&written.item_id, quantity).map_err(|error| error.to_string())?;
    if let Some(note) = written.note {
        let note = Note::new(&serde_json::Value::Object(note)).map_err(|e| e.to_string())?;
        item = item.note(note);
    }
    if let Some(raw) = written.total_price.filter(|raw| raw.get() != "null") {
        let text = raw.get();
        // As a number or as a string: the digits count as they are written.
        let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        let price = text.parse().map_err(|error: InvalidOrder| error.to_string())?;
        item = item.total_price(price);
    }
    Ok(item)
}
