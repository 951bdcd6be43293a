//! Keys and attributes of the items, and reading them.
//!
//! | partition key | sort key | holds |
//! |---|---|---|
//! | `NS/meta` | `-` | version, newest epoch, count of changes, standing, which account |
//! | `NS/lease` | `-` | epoch, count of renewals, length, holder |
//! | `NS/account` | epoch, count, piece | a piece of the account |
//! | `NS/ref/REFERENCE` | `-` | the row of an ended intent; of an active one, nothing |
//! | `NS/active/N` | reference | the row of an active intent |
//! | `NS/body/REFERENCE` | `-` | the row of an ended intent with its lines; expires |
//! | `NS/order/ID` | `-` | a claim |
//! | `NS/claimed` | serial, count | the claims of one batch |
//! | `NS/request` | its key | a request of another router |
//! | `NS/reply/KEY` | `-` | the reply to it; expires |
//!
//! Everything is read by keys of the table, consistently: there is no secondary index, which could
//! not be.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::order::{ClientRef, OrderId};
use crate::store::ledger::Fault;

pub(super) type Item = HashMap<String, AttributeValue>;

/// The key's names, and what expires when the service's own clock says so.
pub(super) const PK: &str = "pk";
pub(super) const SK: &str = "sk";
pub(super) const EXPIRES: &str = "expires_at";

// None of these is a reserved word of DynamoDB's: those have no underscore.
pub(super) const VERSION: &str = "format_version";
pub(super) const EPOCH: &str = "lease_epoch";
pub(super) const COUNTER: &str = "lease_counter";
pub(super) const LENGTH: &str = "lease_ms";
pub(super) const NODE: &str = "lease_node";
pub(super) const CHANGES: &str = "change_count";
pub(super) const STANDING: &str = "sealed_standing";
pub(super) const ACCOUNT: &str = "account_at";
pub(super) const PIECES: &str = "account_pieces";
/// A sealed value.
pub(super) const SEALED: &str = "sealed_value";
/// Claims by order, each after the serial at which it ended.
pub(super) const CLAIMS: &str = "claims_by_order";

/// Over how many partitions the active intents are spread: each takes 1,000 units of writing a
/// second.
pub(super) const ACTIVE_PARTS: u32 = 8;

/// An item's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) pk: String,
    pub(super) sk: String,
}

/// The keys of one namespace.
#[derive(Debug, Clone)]
pub(super) struct Keys(pub(super) String);

impl Keys {
    fn single(&self, kind: &str, name: &str) -> Key {
        Key { pk: format!("{}/{kind}{name}", self.0), sk: "-".into() }
    }

    pub(super) fn meta(&self) -> Key {
        self.single("meta", "")
    }

    pub(super) fn lease(&self) -> Key {
        self.single("lease", "")
    }

    /// What the partition keys of all references begin with.
    pub(super) fn references(&self) -> String {
        format!("{}/ref/", self.0)
    }

    pub(super) fn reference(&self, client_ref: &ClientRef) -> Key {
        self.single("ref/", client_ref.as_str())
    }

    pub(super) fn body(&self, client_ref: &ClientRef) -> Key {
        self.single("body/", client_ref.as_str())
    }

    pub(super) fn active(&self, client_ref: &ClientRef) -> Key {
        let part = crc32c::crc32c(client_ref.as_str().as_bytes()) % ACTIVE_PARTS;
        Key { pk: self.active_part(part), sk: client_ref.as_str().into() }
    }

    pub(super) fn active_part(&self, part: u32) -> String {
        format!("{}/active/{part}", self.0)
    }

    pub(super) fn order(&self, id: &OrderId) -> Key {
        self.single("order/", id.as_str())
    }

    pub(super) fn claimed_part(&self) -> String {
        format!("{}/claimed", self.0)
    }

    /// Claims of a batch: sorted by the newest serial in it.
    pub(super) fn claimed(&self, ended_at: u64, to: u64) -> Key {
        Key { pk: self.claimed_part(), sk: format!("{ended_at:020}/{to:020}") }
    }

    pub(super) fn account_part(&self) -> String {
        format!("{}/account", self.0)
    }

    pub(super) fn account(&self, at: &str, piece: u64) -> Key {
        Key { pk: self.account_part(), sk: format!("{at}/{piece:06}") }
    }

    pub(super) fn request_part(&self) -> String {
        format!("{}/request", self.0)
    }

    pub(super) fn request(&self, key: &str) -> Key {
        Key { pk: self.request_part(), sk: key.into() }
    }

    pub(super) fn reply(&self, key: &str) -> Key {
        self.single("reply/", key)
    }
}

impl Key {
    pub(super) fn item(self) -> Item {
        HashMap::from([(PK.to_owned(), text(self.pk)), (SK.to_owned(), text(self.sk))])
    }

    pub(super) fn of(item: &Item) -> Option<Self> {
        let part = |name| item.get(name)?.as_s().ok().cloned();
        Some(Self { pk: part(PK)?, sk: part(SK)? })
    }
}

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn bytes(value: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

/// An item is not as it was written.
pub(super) fn odd(name: &str) -> Fault {
    Fault::Fatal(format!("an item's {name} is missing, or is not what it should be"))
}

pub(super) fn read_number(item: &Item, name: &str) -> Result<u64, Fault> {
    let value = item.get(name).and_then(|value| value.as_n().ok()).and_then(|n| n.parse().ok());
    value.ok_or_else(|| odd(name))
}

pub(super) fn read_text(item: &Item, name: &str) -> Result<String, Fault> {
    let value = item.get(name).and_then(|value| value.as_s().ok()).cloned();
    value.ok_or_else(|| odd(name))
}

/// Bytes that may be absent.
pub(super) fn read_bytes(item: &Item, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    let Some(value) = item.get(name) else { return Ok(None) };
    let value = value.as_b().map_err(|_| odd(name))?;
    Ok(Some(value.as_ref().to_vec()))
}

/// The namespace's own item.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) version: u64,
    pub(super) epoch: u64,
    pub(super) changes: u64,
    pub(super) standing: Option<Vec<u8>>,
    /// Where the account is, and in how many pieces.
    pub(super) account: Option<(String, u64)>,
}

impl Meta {
    pub(super) fn read(item: &Item) -> Result<Self, Fault> {
        let account = match item.contains_key(ACCOUNT) {
            true => Some((read_text(item, ACCOUNT)?, read_number(item, PIECES)?)),
            false => None,
        };
        Ok(Self {
            version: read_number(item, VERSION)?,
            epoch: read_number(item, EPOCH)?,
            changes: read_number(item, CHANGES)?,
            standing: read_bytes(item, STANDING)?,
            account,
        })
    }
}
