//! Errors by what the caller should do next. Each says whether anything was or may have been bought.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::ConfigError;
use crate::order::{ClientRef, OrderId};
use crate::protocol::Why;
use crate::shared_gate::GateError;
use crate::store::StoreError;

/// Why `submit` or `wait` has no end to tell.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// The order may have been bought. Ask for the status of `client_ref`, or submit it again under
    /// the same reference, from `ask_again_at` on; another reference buys again.
    #[error(
        "order {client_ref} is in doubt: it may have been bought; ask again under the same reference"
    )]
    InDoubt {
        /// The caller's reference.
        client_ref: ClientRef,
        /// When an end is likelier.
        ask_again_at: Timestamp,
    },
    /// The order is accepted and waits to be sent: it was not bought yet and will be. Ask again
    /// under the same reference.
    #[error(
        "order {client_ref} is accepted and still under way; ask again under the same reference"
    )]
    UnderWay {
        /// The caller's reference.
        client_ref: ClientRef,
        /// When an end is likelier.
        ask_again_at: Timestamp,
    },
    /// The order may have been bought, and a person is asked: `resolve` decides.
    #[error("order {client_ref} is held for a person to decide: {why}")]
    Held {
        /// The caller's reference.
        client_ref: ClientRef,
        /// Why.
        why: Why,
    },
    /// The same reference was used for another order. Nothing was recorded or bought for this one.
    /// Use a fresh reference to buy it.
    #[error("reference {client_ref} belongs to another order; nothing was bought for this one")]
    Conflict {
        /// The caller's reference.
        client_ref: ClientRef,
    },
    /// The order that this one is to replace has not ended without goods, as far as is known. Nothing was
    /// recorded or bought for this one; once the other has, submit this one again.
    #[error("order {replaced} is not replaced: {why}; nothing was bought for {client_ref}")]
    NotReplaceable {
        /// The caller's reference.
        client_ref: ClientRef,
        /// The reference of the order that it is to replace.
        replaced: ClientRef,
        /// What is known of that one.
        why: Why,
    },
    /// Another node has this order: the shared gate says so. Nothing was recorded or bought here; ask
    /// that node.
    #[error("order {client_ref} is with node {node}{}; nothing was bought here, ask there", if *recorded { "" } else { ", which has not said yet that it has recorded it" })]
    Elsewhere {
        /// The caller's reference.
        client_ref: ClientRef,
        /// The other node's name, and the mark of its store.
        node: String,
        /// It has recorded the order. Otherwise it is about to, or it stopped on the way: then it
        /// takes the order when it is there again, and others do when the gate has forgotten the
        /// reference.
        recorded: bool,
    },
    /// The shared gate says that this node has recorded the reference, and its store does not have it:
    /// the store has lost orders, or another store uses this node's name. The order may have been
    /// bought; nothing was recorded now. A person must look.
    #[error(
        "node {node} has recorded order {client_ref}, says the shared gate, and its store does not have it: it may have been bought; was the store restored or emptied?"
    )]
    Forgotten {
        /// The caller's reference.
        client_ref: ClientRef,
        /// This node's name, and the mark of its store.
        node: String,
    },
    /// The shared gate does not answer, and new orders are refused without it. Nothing was recorded
    /// or bought; submit it again later, under the same reference.
    #[error("whether another node has order {client_ref} is not known; nothing was bought")]
    GateDown {
        /// The caller's reference.
        client_ref: ClientRef,
        /// Why it does not answer.
        source: GateError,
    },
    /// Orders carry tags, and a note of this one has the tag's key already or no room for it. Nothing was
    /// recorded or bought now; change the note. What was taken under the reference before is as it was.
    #[error(
        "a note of order {client_ref} has the key of the tags, or no room for a tag; it was not taken"
    )]
    NoRoomForTag {
        /// The caller's reference.
        client_ref: ClientRef,
    },
    /// Identical orders are held until a person has looked (rule 10). Nothing was recorded or
    /// bought for this one; submit it again later, under the same reference.
    #[error("orders for these items are held for a person to look: {why}; nothing was bought")]
    LaneHeld {
        /// Why.
        why: Why,
    },
    /// The order is over a limit by itself, or money is limited and nobody can say what it costs. Nothing
    /// was recorded or bought; the same order will be refused again as long as the limit is.
    #[error("order {client_ref} is refused: {why}; nothing was recorded or bought")]
    OverLimit {
        /// The caller's reference.
        client_ref: ClientRef,
        /// Which limit, and what to do.
        why: Why,
    },
    /// A bound is reached. Nothing was recorded or bought; submit it again later.
    #[error("overloaded: {what} is at its bound of {bound}; nothing was bought")]
    Overloaded {
        /// What is full.
        what: &'static str,
        /// Its bound.
        bound: usize,
    },
    /// The store cannot accept it. Unless `may_exist`, nothing was recorded or bought.
    #[error("the store failed{}", if *may_exist { ": the order may have been recorded, look it up after the restart" } else { ": nothing was bought" })]
    Store {
        /// The order may have been recorded and may be bought after a restart.
        may_exist: bool,
        /// What failed.
        source: StoreError,
    },
    /// The router is shutting down or has stopped. What was accepted is driven on at the next
    /// start; submit it again then, under the same reference.
    #[error("the router has stopped; submit again under the same reference after its restart")]
    Stopped,
    /// The order ended without being bought: there is nothing to deliver.
    #[error("order {client_ref} was not bought")]
    NotBought {
        /// The caller's reference.
        client_ref: ClientRef,
    },
    /// No intent has this reference: nothing was recorded or bought under it.
    #[error("no order has the reference {client_ref}")]
    Unknown {
        /// The caller's reference.
        client_ref: ClientRef,
    },
}

/// Why the router did not start. Nothing was sent.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store cannot be read.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    /// No list was understood within the probe limit.
    #[error("no list of the supplier was understood within {limit:?}: {last}")]
    Probe {
        /// The probe limit.
        limit: Duration,
        /// What was seen last.
        last: String,
    },
    /// The supplier refuses the key.
    #[error("the supplier refuses the key: status {status}")]
    KeyRefused {
        /// The HTTP status.
        status: u16,
    },
    /// The account shows orders that the store does not know (rule 15). Another process buys here,
    /// the data directory is not the one that was used, or a backup was restored. Look, then start
    /// with an answer.
    #[error(
        "the account shows {count} orders that the store does not know, for instance {example}"
    )]
    UnknownOrders {
        /// How many.
        count: usize,
        /// One of them.
        example: OrderId,
        /// The store is empty: perhaps it is new on this account, perhaps its volume was lost.
        store_is_empty: bool,
    },
    /// Orders are open that were accepted while the list was said to echo other fields, or with tags or
    /// a key of tags that are not set now: their rows
    /// would not be recognised, and they could be bought twice. Start with the former setting, and
    /// change it once they have ended. Placed orders count too while an attempt whose answer was lost may
    /// still land, which only a router at work finds out.
    #[error(
        "{open} open or unsettled orders were accepted with another setting of what the list echoes"
    )]
    EchoChanged {
        /// How many.
        open: usize,
    },
    /// The store is part of a migration: its orders are elsewhere, or not all here. To buy with both
    /// stores would buy twice.
    #[error("the store is not to be used: {mark}")]
    Marked {
        /// Where its orders went, or come from.
        mark: crate::store::Mark,
    },
    /// Orders are to be paid after they were created, and the supplier's interface cannot pay.
    #[error("orders are to be paid after they were created, and this supplier cannot be paid")]
    CannotPay,
    /// The router has stopped, or its start failed and the reason was told before.
    #[error("the router has stopped")]
    Stopped,
    /// A thread could not be started.
    #[error("a thread could not be started")]
    Thread(#[source] std::io::Error),
}

/// Why a person's decision was not taken. Nothing was changed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No intent has this reference.
    #[error("no order has the reference {client_ref}")]
    Unknown {
        /// The caller's reference.
        client_ref: ClientRef,
    },
    /// It is not in doubt: there is nothing to decide.
    #[error("order {client_ref} is not in doubt but {state}")]
    NotInDoubt {
        /// The caller's reference.
        client_ref: ClientRef,
        /// Where it stands.
        state: &'static str,
    },
    /// The supplier does not show the order, or could not be asked.
    #[error("supplier order {id} could not be read")]
    NotFetched {
        /// The supplier's order.
        id: OrderId,
        /// Why.
        source: crate::supplier::ReadError,
    },
    /// The supplier's order was there before the router's first start on the account (rule 14).
    #[error("supplier order {id} is older than the first start on the account")]
    History {
        /// The supplier's order.
        id: OrderId,
    },
    /// The supplier's order has other items.
    #[error("supplier order {id} has other items")]
    OtherItems {
        /// The supplier's order.
        id: OrderId,
    },
    /// Another intent has it.
    #[error("supplier order {id} belongs to another order already")]
    Taken {
        /// The supplier's order.
        id: OrderId,
    },
    /// The supplier shows the order otherwise than the decision says.
    #[error("supplier order {id} is {status}")]
    Contradicted {
        /// The supplier's order.
        id: OrderId,
        /// The supplier's word for where it stands.
        status: String,
    },
    /// Whether an order is paid is no question of this one.
    #[error("order {client_ref} is {state}, not created and to be paid")]
    NotToPay {
        /// The caller's reference.
        client_ref: ClientRef,
        /// Where it stands.
        state: &'static str,
    },
    /// The decision needs a reason, for those who look later.
    #[error("a reason must be given")]
    NoReason,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The router has stopped.
    #[error("the router has stopped")]
    Stopped,
}
