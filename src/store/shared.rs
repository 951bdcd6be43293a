//! A store that several routers share: who has it, and how the others pass on what they are asked.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{IntentStore, StoreError, Stored};
use crate::order::ClientRef;

/// What was asked of a router that does not have the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Names it: a digest of the order as sent, its account and its reference. At most 400 bytes of printable
    /// ASCII.
    pub key: String,
    /// The order; 20 KiB at most.
    pub order: Vec<u8>,
}

/// A request that is done with: there is nothing more to say than the store says, or a reply.
pub type SettledRequest = (String, Option<Vec<u8>>);

/// A store that several routers share (rule 16).
///
/// One of them has it at a time, by a lease; the others pass on what they are asked through the
/// server, where the holder finds it, and read there how it ended. Every call may be repeated.
pub trait SharedStore: Send + Sync + 'static {
    /// Takes the lease and opens the store under it; `None` while another router has it.
    ///
    /// The store that is returned has a [`lease`](IntentStore::lease) and renews it until it is
    /// closed.
    fn open(&self) -> BoxFuture<'static, Result<Option<Arc<dyn IntentStore>>, StoreError>>;

    /// The intents with these references, in the order of the question, as they are durable.
    fn find(
        &self,
        refs: Vec<ClientRef>,
    ) -> BoxFuture<'static, Result<Vec<Option<Stored>>, StoreError>>;

    /// Passes requests on: durable when it returns.
    fn put_requests(&self, requests: Vec<Request>) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Requests that are not settled, at most so many, oldest first as far as that is cheap.
    fn requests(&self, most: usize) -> BoxFuture<'static, Result<Vec<Request>, StoreError>>;

    /// Takes requests away; a reply is kept for ten minutes.
    fn settle_requests(
        &self,
        settled: Vec<SettledRequest>,
    ) -> BoxFuture<'static, Result<(), StoreError>>;

    /// The replies to these requests, in the order of the question.
    fn replies(
        &self,
        keys: Vec<String>,
    ) -> BoxFuture<'static, Result<Vec<Option<Vec<u8>>>, StoreError>>;

    /// Where it is, for people; no password.
    fn place(&self) -> String;
}
