//! order-router.

mod order;
pub mod protocol;
pub mod runtime;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod store;
pub mod supplier;

pub use order::{
    ClientRef, EchoProfile, EchoedItem, InvalidOrder, Item, ItemsDigest, ItemsHash, Note, Order,
    OrderId, Price,
};
