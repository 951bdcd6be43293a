//! order-router.
mod order;
pub mod protocol;
pub mod runtime;
pub mod store;
pub mod supplier;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use order::{
    ClientRef, EchoProfile, EchoedItem, InvalidOrder, Item, ItemsDigest, ItemsHash, Note, Order,
    OrderId, Price,
};
