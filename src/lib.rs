//! order-router.
mod actors;
mod config;
mod dispatch;
mod error;
mod order;
pub mod protocol;
mod router;
pub mod runtime;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod store;
pub mod supplier;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use config::{Config, ConfigError, StartAnswer};
pub use error::{ResolveError, StartError, SubmitError};
pub use order::{
    ClientRef, EchoProfile, EchoedItem, InvalidOrder, Item, ItemsDigest, ItemsHash, Note, Order,
    OrderId, Price,
};
pub use router::{
    Builder, End, Events, Fulfilment, OrderRouter, Progress, Resolution, RouterEvent, RouterStats,
    Shutdown, Ticket,
};
