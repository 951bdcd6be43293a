//! Buys each order exactly once from a supplier API that takes no idempotency key.
//!
//! A POST whose answer is lost may have bought something. To send it again may buy it twice; not to
//! send it may lose it. The router records every attempt before it is sent, keeps an order whose
//! answer is lost *in doubt*, and reads the supplier's list of orders until that shows what
//! happened. It sends again only what is proved not to be there. What it knows survives kill -9 and
//! power cuts.
//!
//! It serves one process and one supplier account: [`OrderRouter`] is the handle,
//! [`EmbeddedStore`](store::EmbeddedStore) keeps its memory, [`FoxReload`](supplier::FoxReload)
//! talks to the supplier, [`Config`] has the limits. The README says what is promised and under
//! which assumptions, `ARCHITECTURE.md` how it is built.
//!
//! # Example
//!
//! What a shop does with it. How the handle is made is in `examples/quickstart.rs`.
//!
//! ```
//! use order_router::{ClientRef, End, Item, Order, OrderRouter, SubmitError};
//!
//! /// Buys what a customer has paid for. `purchase` is its key in the shop's own table: the same
//! /// purchase has the same reference in every try, also after a crash of the shop.
//! async fn buy(
//!     router: &OrderRouter,
//!     purchase: &str,
//! ) -> Result<String, Box<dyn std::error::Error>> {
//!     let order = Order::new(ClientRef::new(purchase)?, vec![Item::new("gift-card-25", 1)?])?;
//!     Ok(match router.submit(order).await {
//!         Ok(End::Placed { order_id, .. }) => format!("bought: {order_id}"),
//!         Ok(End::Refused { why } | End::NotPlaced { why } | End::Unpaid { why, .. }) => format!("pay back: {why}"),
//!         Err(SubmitError::InDoubt { ask_again_at, .. }) => format!("ask at {ask_again_at}"),
//!         Err(error) => return Err(error.into()),
//!     })
//! }
//! # #[cfg(feature = "simulator")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     use std::sync::Arc;
//! #     use order_router::runtime::Runtime;
//! #     use order_router::simulator::{Simulator, SimulatorConfig};
//! #     use order_router::store::MemoryStore;
//! #     use order_router::supplier::{ApiKey, FoxReload, foxreload::Settings};
//! #     let supplier = Simulator::start(SimulatorConfig::default()).await?;
//! #     let runtime = Runtime::system();
//! #     let (key, clock) = (ApiKey::new("any-key")?, runtime.clock.clone());
//! #     let account = FoxReload::new(&supplier.url(), &key, Settings::default(), clock)?;
//! #     let store = Arc::new(MemoryStore::new());
//! #     let builder = OrderRouter::builder(Arc::new(account), store);
//! #     let router = builder.runtime(runtime).start().await?;
//! #     let told = buy(&router, "purchase-1").await?;
//! #     assert_eq!(told, format!("bought: {}", supplier.ledger()[0].id));
//! #     assert_eq!(buy(&router, "purchase-1").await?, told);
//! #     assert_eq!(supplier.ledger().len(), 1);
//! #     Ok(())
//! # }
//! # #[cfg(not(feature = "simulator"))]
//! # fn main() {}
//! ```
//!
//! # Words
//!
//! Each has one meaning, in the code, in errors and in the documentation.
//!
//! | word | meaning |
//! |---|---|
//! | *intent* | the durable record of one order that a caller handed over |
//! | *reference* | the caller's own name of an order, [`ClientRef`]: the key under which it is bought once |
//! | *items-hash* | a versioned hash of what the supplier's list shows of an order's items, [`ItemsHash`] |
//! | *lane* | all intents of one account with one items-hash; one actor owns it |
//! | *attempt* | one POST for one intent |
//! | *outcome* | what a POST is known to have done: created, refused, not sent, or unknown |
//! | *in doubt* | the state of an attempt whose outcome is unknown: it may have bought something |
//! | *settled* | said of an attempt: nothing of it can take effect any more |
//! | *claim* | this supplier order is this intent's, and nobody else's |
//! | *release* | an attempt in doubt is declared absent; its intent may be sent again |
//! | *held* | in doubt, and only a person decides |
//! | *orphan* | an order on the account that no intent has: kept, shown, never claimed |
//! | *history* | orders from before the router's first start on the account |
//! | *witness* | an order that a list must show, if it is to prove that another one is absent |
//! | *payment* | one POST that pays a created order, where creating does not ([`Config::pays_on`]) |
//! | *near miss* | an order that nobody has and that looks like one in doubt without matching it |
//!
//! ```text
//! Queued ─▶ Sending ─▶ Placed
//!    ▲         │  ├──▶ Refused
//!    │         │  ├──▶ Queued     not sent: nothing was bought, no try is used up
//!    │         │  └──▶ InDoubt ─▶ Placed | Queued (absent) | NotPlaced (absent, no try left)
//!    └──────── too late to send: NotPlaced       InDoubt ⇄ Held ─▶ Placed | Queued, by a person
//! ```
//!
//! # Features
//!
//! | feature | brings |
//! |---|---|
//! | `cli` (default) | the command `order-router`, its `settings`, and `simulator` |
//! | `simulator` | the simulated supplier, in process: `simulator` |
//! | `postgres` | the store in a Postgres database: `store::postgres` |
//! | `redis` | the store on a Redis server: `store::redis` |
//! | `dynamodb` | the store in a table of DynamoDB: `store::dynamodb` |
//! | `redb` | the store in a redb file: `store::redb` |
//! | `metrics` | figures through the facade of the crate `metrics`: [`telemetry`] |
//! | `testing` | the conformance suite for stores and the disk that forgets: `testing` |
//!
//! A host that embeds the router takes none of them: `default-features = false`.

mod actors;
pub mod audit;
pub mod cluster;
mod config;
mod crash;
mod dispatch;
mod error;
mod order;
pub mod protocol;
mod router;
pub mod runtime;
#[cfg(feature = "cli")]
pub mod settings;
pub mod shared_gate;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod store;
pub mod supplier;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tls;
mod url;

pub use config::{Config, ConfigError, StartAnswer};
pub use error::{ResolveError, StartError, SubmitError};
pub use order::{
    ClientRef, EchoProfile, EchoedItem, InvalidOrder, Item, ItemsDigest, ItemsHash, Note, Order,
    OrderId, Price,
};
pub use protocol::fulfilment::Delivery;
pub use router::{
    Builder, End, Events, Fulfilment, OrderRouter, Progress, Resolution, RouterEvent, RouterStats,
    Shutdown, Ticket,
};

/// The README's code, compiled and run as documentation tests.
#[cfg(all(doctest, feature = "simulator"))]
#[doc = include_str!("../README.md")]
mod readme {}
