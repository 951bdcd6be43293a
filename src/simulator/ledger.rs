//! What the supplier knows of its own deeds: the truth that tests compare with.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::config::Contract;
use super::faults::{ListFault, PayFault, PostFault};
use super::order::Row;
use super::time::{Micros, rfc3339};

/// One order that the simulated supplier sold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The supplier's id of the order.
    pub id: String,
    /// Its lines, in the order of the POST.
    pub items: Vec<LedgerItem>,
    /// When it was created; RFC 3339, UTC, milliseconds, by the supplier's clock.
    pub created: String,
    /// From when on the list shows it; the same form.
    pub visible: String,
    /// The fault of the POST that created it.
    pub fault: Option<PostFault>,
    /// Somebody else bought it on this account.
    pub foreign: bool,
    /// A test order.
    pub mock: bool,
    /// How many times the balance was debited for it.
    pub debits: u32,
    /// What one debit for it is.
    #[serde(default)]
    pub amount: String,
    /// In which currency.
    #[serde(default)]
    pub currency: String,
    /// It was debited and paid back.
    #[serde(default)]
    pub refunded: bool,
    /// Its status at the time of reading.
    pub status: String,
}

/// One line of a [`LedgerEntry`].
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerItem {
    /// The product.
    #[serde(rename = "itemId")]
    pub item_id: String,
    /// How many of it.
    pub quantity: u64,
    /// The note as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<serde_json::Value>,
}

/// Without the note, which can be a customer's name.
impl fmt::Debug for LedgerItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { item_id, quantity, note } = self;
        f.debug_struct("LedgerItem")
            .field("item_id", item_id)
            .field("quantity", quantity)
            .field("note", &note.as_ref().map(|_| "set"))
            .finish()
    }
}

/// What reached the simulated supplier, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// POSTs of an order that came in whole, refused ones as well.
    pub posts: u64,
    /// Orders in the ledger, foreign ones as well.
    pub orders: u64,
    /// Orders that somebody else bought.
    pub foreign_orders: u64,
    /// POSTs refused by their content, their price or the balance.
    pub refused: u64,
    /// Requests without the right key.
    pub unauthorized: u64,
    /// Requests for the first page of the list (offset 0 or absent).
    pub listings: u64,
    /// Requests for any page of the list.
    pub list_pages: u64,
    /// Requests for one order.
    pub fetches: u64,
    /// POSTs to pay an order.
    pub pays: u64,
    /// Requests for the balance.
    pub balances: u64,
    /// The POST faults that happened.
    pub faults: BTreeMap<PostFault, u64>,
    /// The list faults that happened.
    pub list_faults: BTreeMap<ListFault, u64>,
    /// The faults of payments that happened.
    pub pay_faults: BTreeMap<PayFault, u64>,
    /// Connections to the supplier's port that are open now.
    pub open_connections: u64,
    /// Connections to the supplier's port so far.
    pub connections: u64,
}

pub(super) fn entry(row: &Row, now: Micros, contract: &Contract) -> LedgerEntry {
    let items = row.items.iter().map(|item| LedgerItem {
        item_id: item.item_id.as_ref().to_owned(),
        quantity: item.quantity,
        note: item.note.as_ref().map(|raw| {
            serde_json::from_str(raw).expect("a note was part of a body that was read as JSON")
        }),
    });
    LedgerEntry {
        id: row.id.to_string(),
        items: items.collect(),
        created: rfc3339(row.created),
        visible: rfc3339(row.visible),
        fault: row.fault,
        foreign: row.foreign,
        mock: row.mock,
        debits: row.debits,
        amount: row.amount.to_string(),
        currency: contract.currency_at(row.currency).to_owned(),
        refunded: row.is_refunded(now, contract),
        status: row.status(now, contract).name().to_owned(),
    }
}
