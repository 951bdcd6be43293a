//! An order as it is passed on, and what the holder replies where the store says nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::order::{ClientRef, Item, ItemsDigest, Order};
use crate::store::Request;
use crate::supplier::AccountId;

/// The version of the passed-on form.
const VERSION: u8 = 2;

#[derive(Serialize, Deserialize)]
struct Passed {
    version: u8,
    account: AccountId,
    client_ref: ClientRef,
    items: Vec<Item>,
    /// Milliseconds since 1970.
    good_until: Option<i64>,
}

/// What every version of it has.
#[derive(Deserialize)]
struct Versioned {
    version: u8,
}

/// What the holder says of a request of which it recorded nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The holder buys on another account.
    OtherAccount,
    /// Identical orders are held.
    LaneHeld(String),
    /// The order is over a limit by itself.
    OverLimit(String),
    /// It cannot be recorded.
    Failed(String),
    /// The shared gate says that another node has it.
    Elsewhere { node: String, recorded: bool },
    /// The shared gate says that it was recorded, and the store does not have it.
    Forgotten { node: String },
    /// The reference belongs to another order, here or at another node.
    Conflict,
    /// The order that it is to replace has not ended without goods.
    NotReplaceable { why: String },
}

/// An order that is passed on, and the account that it is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PassedOn {
    pub(super) account: AccountId,
    pub(super) order: Order,
}

/// The name of an order's request: other orders under the same reference have other names, and so has
/// the same order for another account.
pub(super) fn key_of(order: &Order, account: AccountId) -> String {
    let digest = ItemsDigest::as_sent(order.items());
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}:{account}:{}", order.client_ref().as_str())
}

pub(super) fn encode(order: &Order, account: AccountId) -> Request {
    let passed = Passed {
        version: VERSION,
        account,
        client_ref: order.client_ref().clone(),
        items: order.items().to_vec(),
        good_until: order.good_until_set().map(Timestamp::as_millisecond),
    };
    let order_bytes = serde_json::to_vec(&passed).unwrap_or_default();
    Request { key: key_of(order, account), order: order_bytes }
}

/// Reads an order that was passed on; what is wrong with it otherwise.
pub(super) fn decode(request: &Request) -> Result<PassedOn, String> {
    let understood = |e: serde_json::Error| e.to_string();
    let Versioned { version } = serde_json::from_slice(&request.order).map_err(understood)?;
    if version != VERSION {
        return Err(format!("it has version {version}, of another version of order-router"));
    }
    let passed: Passed = serde_json::from_slice(&request.order).map_err(understood)?;
    let account = passed.account;
    let order = Order::new(passed.client_ref, passed.items).map_err(|error| error.to_string())?;
    let order = match passed.good_until.map(Timestamp::from_millisecond) {
        Some(moment) => order.good_until(moment.map_err(|error| error.to_string())?),
        None => order,
    };
    match key_of(&order, account) == request.key {
        true => Ok(PassedOn { account, order }),
        false => Err("it is under another's name".to_owned()),
    }
}

pub(super) fn encode_reply(reply: &Reply) -> Vec<u8> {
    serde_json::to_vec(reply).unwrap_or_default()
}

pub(super) fn decode_reply(bytes: &[u8]) -> Reply {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Reply::Failed("the reply was not understood".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Note;

    const OURS: AccountId = AccountId(7);

    fn order(quantity: u32) -> Order {
        let note = Note::new(&serde_json::json!({"player": "ü 1"})).expect("a note");
        let price = "12.50".parse().expect("a price");
        let item = Item::new("game-1", quantity).expect("an item").note(note).total_price(price);
        let reference = ClientRef::new("r-1").expect("a reference");
        Order::new(reference, vec![item]).expect("an order")
    }

    #[test]
    fn order_comes_back_as_it_was_passed_on() {
        let until = Timestamp::from_millisecond(1_900_000_000_123).expect("in range");
        for order in [order(1), order(2).good_until(until)] {
            assert_eq!(decode(&encode(&order, OURS)), Ok(PassedOn { account: OURS, order }));
        }
        assert_ne!(key_of(&order(1), OURS), key_of(&order(2), OURS));
        assert_ne!(key_of(&order(1), OURS), key_of(&order(1), AccountId(8)));
    }

    #[test]
    fn request_that_is_not_what_its_name_says_is_refused() {
        let mut request = encode(&order(1), OURS);
        request.key = key_of(&order(2), OURS);
        assert!(decode(&request).is_err());
        request.key = key_of(&order(1), AccountId(8));
        assert!(decode(&request).is_err());
        request.order = b"{}".to_vec();
        assert!(decode(&request).is_err());
    }

    #[test]
    fn request_of_another_version_says_so() {
        let mut request = encode(&order(1), OURS);
        request.order = br#"{"version":1,"client_ref":"order-1","items":[]}"#.to_vec();
        let why = decode(&request).expect_err("it names no account");
        assert!(why.contains("version 1"), "{why}");
    }

    #[test]
    fn reply_that_is_not_understood_says_so() {
        let held = Reply::LaneHeld("why".into());
        assert_eq!(decode_reply(&encode_reply(&held)), held);
        assert!(matches!(decode_reply(b"nonsense"), Reply::Failed(_)));
    }
}
