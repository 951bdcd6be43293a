//! A store that several routers share: who has it, and how the others pass on what they are asked.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{IntentStore, StoreError, Stored};
use crate::order::ClientRef;
use crate::supplier::AccountId;

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

/// What a router that has a store says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// It does not share the store: it reads no requests.
    pub alone: bool,
    /// Which account it buys on, where it says so.
    pub account: Option<AccountId>,
}

/// How a router that does not share its store ends its name.
#[cfg(any(feature = "dynamodb", feature = "postgres", feature = "redis"))]
const ALONE: &str = ", alone";
/// And one that does, before its account.
#[cfg(any(feature = "dynamodb", feature = "postgres", feature = "redis"))]
const SHARED: &str = ", shared ";

#[cfg(any(feature = "dynamodb", feature = "postgres", feature = "redis"))]
impl Holder {
    /// The name of a router that has its store for itself.
    pub(crate) fn name_alone(name: &str) -> String {
        format!("{name}{ALONE}")
    }

    /// The name of one that shares it.
    pub(crate) fn name_shared(name: &str, account: Option<AccountId>) -> String {
        account.map_or_else(|| name.to_owned(), |account| format!("{name}{SHARED}{account}"))
    }

    /// A name as people are shown it.
    #[cfg(feature = "redis")]
    pub(crate) fn shown(name: &str) -> &str {
        let name = name.strip_suffix(ALONE).unwrap_or(name);
        name.rsplit_once(SHARED).map_or(name, |(name, _)| name)
    }

    /// What a name says.
    pub(crate) fn named(name: &str) -> Self {
        let account = name.rsplit_once(SHARED).map(|(_, account)| account);
        let account = account.and_then(|hex| u64::from_str_radix(hex, 16).ok()).map(AccountId);
        Self { alone: name.ends_with(ALONE), account }
    }
}

/// A store that several routers share (rule 16).
///
/// One of them has it at a time, by a lease; the others pass on what they are asked through the
/// server, where the holder finds it, and read there how it ended. Every call may be repeated.
pub trait SharedStore: Send + Sync + 'static {
    /// Says which account this router buys on: whoever asks for the store while it has it is told.
    fn introduce(&self, account: AccountId) {
        let _ = account;
    }

    /// Who has the lease at the moment, other routers that share the store or not; `None` if nobody
    /// has it, or the store does not tell.
    fn holder(&self) -> BoxFuture<'static, Result<Option<Holder>, StoreError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

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

    /// Passes requests on: durable when it returns. A reply that one of them was given before is
    /// forgotten.
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

#[cfg(all(test, any(feature = "dynamodb", feature = "postgres", feature = "redis")))]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_holder_says_what_others_need() {
        let alone = Holder::named(&Holder::name_alone("process 1 on a, shared 7"));
        assert!(alone.alone);
        for account in [None, Some(AccountId(0)), Some(AccountId(u64::MAX))] {
            let name = Holder::name_shared("order-router 1", account);
            assert_eq!(Holder::named(&name), Holder { alone: false, account });
        }
        assert_eq!(Holder::named(""), Holder { alone: false, account: None });
    }
}
