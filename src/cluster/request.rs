//! An order as it is passed on, and what the holder replies where the store says nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::order::{ClientRef, Item, ItemsDigest, Order};
use crate::store::Request;

/// The version of the passed-on form.
const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Passed {
    version: u8,
    client_ref: ClientRef,
    items: Vec<Item>,
    /// Milliseconds since 1970.
    good_until: Option<i64>,
}

/// What the holder says of a request of which it recorded nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// Identical orders are held.
    LaneHeld(String),
    /// It cannot be recorded.
    Failed(String),
    /// The shared gate says that another node has it.
    Elsewhere { node: String, recorded: bool },
    /// The shared gate says that it was recorded, and the store does not have it.
    Forgotten { node: String },
    /// The reference belongs to another order, here or at another node.
    Conflict,
}

/// The name of an order's request: other orders under the same reference have other names.
pub(super) fn key_of(order: &Order) -> String {
    let digest = ItemsDigest::as_sent(order.items());
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}:{}", order.client_ref().as_str())
}

pub(super) fn encode(order: &Order) -> Request {
    let passed = Passed {
        version: VERSION,
        client_ref: order.client_ref().clone(),
        items: order.items().to_vec(),
        good_until: order.good_until_set().map(Timestamp::as_millisecond),
    };
    let order_bytes = serde_json::to_vec(&passed).unwrap_or_default();
    Request { key: key_of(order), order: order_bytes }
}

/// Reads an order that was passed on; what is wrong with it otherwise.
pub(super) fn decode(request: &Request) -> Result<Order, String> {
    let passed: Passed = serde_json::from_slice(&request.order).map_err(|e| e.to_string())?;
    if passed.version != VERSION {
        return Err(format!("it has version {}", passed.version));
    }
    let order = Order::new(passed.client_ref, passed.items).map_err(|error| error.to_string())?;
    let order = match passed.good_until.map(Timestamp::from_millisecond) {
        Some(moment) => order.good_until(moment.map_err(|error| error.to_string())?),
        None => order,
    };
    match key_of(&order) == request.key {
        true => Ok(order),
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
            assert_eq!(decode(&encode(&order)), Ok(order));
        }
        assert_ne!(key_of(&order(1)), key_of(&order(2)));
    }

    #[test]
    fn request_that_is_not_what_its_name_says_is_refused() {
        let mut request = encode(&order(1));
        request.key = key_of(&order(2));
        assert!(decode(&request).is_err());
        request.order = b"{}".to_vec();
        assert!(decode(&request).is_err());
    }

    #[test]
    fn reply_that_is_not_understood_says_so() {
        let held = Reply::LaneHeld("why".into());
        assert_eq!(decode_reply(&encode_reply(&held)), held);
        assert!(matches!(decode_reply(b"nonsense"), Reply::Failed(_)));
    }
}
