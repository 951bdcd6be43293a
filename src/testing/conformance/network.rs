//! The suite for stores on a server: behind a proxy that loses, delays and cuts, with the server
//! killed and started again, and with several routers.
//!
//! What a store's author writes is where the server is and how it is stopped:
//!
//! ```no_run
//! # use std::{process::Child, sync::{Arc, Mutex}};
//! # use futures_util::future::{BoxFuture, FutureExt};
//! # use order_router::store::{IntentStore, MemoryStore};
//! # use order_router::testing::conformance::{Store, network::{self, At, Networked}};
//! # struct MyServer { port: u16, running: Mutex<Option<Child>> }
//! # impl MyServer { fn launch() -> Child { unimplemented!() } }
//! # async fn open(_: String) -> Result<MemoryStore, std::io::Error> { unimplemented!() }
//! impl Networked for MyServer {
//!     fn port(&self) -> u16 {
//!         self.port
//!     }
//!     fn open(&self, at: At) -> BoxFuture<'static, Result<Store, String>> {
//!         let url = format!("mine://127.0.0.1:{}/{}", at.port, at.name);
//!         async move { Ok(Arc::new(open(url).await.map_err(|e| e.to_string())?) as Store) }.boxed()
//!     }
//!     fn kill(&self) {
//!         let running = self.running.lock().unwrap().take();
//!         running.into_iter().for_each(|mut server| server.kill().unwrap());
//!     }
//!     fn start(&self) {
//!         *self.running.lock().unwrap() = Some(Self::launch());
//!     }
//! }
//!
//! # async fn my_store_conforms() {
//! # let server = MyServer { port: 1, running: Mutex::new(None) };
//! let server = Arc::new(server);
//! network::test_all(server).await;
//! # }
//! ```
//!
//! The server is the suite's own while it runs: it is killed. Its stores have names of their own, so
//! it need not be empty. Call it on a runtime of tokio's with several threads.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};

use super::{Bench, MakeStore, Running, Store};
use crate::store::{LeaseTerms, SharedStore};

mod faults;
mod kills;
mod proxy;
mod shared;
mod takeover;

pub use faults::*;
pub use kills::*;
pub use proxy::{Direction, Proxy};
pub use shared::*;
pub use takeover::*;

/// A store's server, which the suite reaches through a proxy, kills and starts again.
///
/// Every function but [`open`](Self::open) may block.
pub trait Networked: Send + Sync + 'static {
    /// Where it listens: a port of 127.0.0.1, the same after each start.
    fn port(&self) -> u16;

    /// Opens a store for one router; it is made if there is none of that name. Why it does not open,
    /// for people: this is searched for [`secrets`](Self::secrets).
    fn open(&self, at: At) -> BoxFuture<'static, Result<Store, String>>;

    /// The same for several routers. Default: `None`, the store is for one at a time.
    fn share(&self, at: At) -> Option<Arc<dyn SharedStore>> {
        let _ = at;
        None
    }

    /// Kills the server as a crash does, and waits until it is gone.
    fn kill(&self);

    /// Starts it again on what it left, and waits until it takes connections.
    fn start(&self);

    /// Whether what it acknowledged survives that. Default: yes. Of one that forgets it is shown that
    /// the store does not go on.
    fn keeps(&self) -> bool {
        true
    }

    /// Lets the server refuse to write, or write again. Default: it cannot, and says false.
    fn read_only(&self, on: bool) -> bool {
        let _ = on;
        false
    }

    /// How many changes the server itself says that the store holds: what is written twice shows.
    /// Default: it does not count.
    fn changes(&self, name: &str) -> Option<u64> {
        let _ = name;
        None
    }

    /// A lease whose end is waited for. Default: 900 ms, with a margin of 150 ms. Longer for a server
    /// that may need a third of that for an answer.
    fn short_lease(&self) -> LeaseTerms {
        LeaseTerms {
            length: Duration::from_millis(900),
            margin: Duration::from_millis(150),
            pause_max: Duration::ZERO,
        }
    }

    /// What no error may ever show: passwords, keys. Default: nothing.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A store's server.
pub type Server = Arc<dyn Networked>;

/// How a store is reached, and how long it waits. A store takes of the terms what it has.
#[derive(Debug, Clone)]
pub struct At {
    /// A port of 127.0.0.1: the server's, or the proxy's.
    pub port: u16,
    /// The store's name: `c` and 32 of `0-9a-f`. Each is another store.
    pub name: String,
    /// How long the server may take to answer. Then the connection is given up, and what was under
    /// way is read back.
    pub reply_timeout: Duration,
    /// How long the server may be away. Then the store fails for good.
    pub give_up_after: Duration,
    /// The lease, where routers share the store.
    pub lease: LeaseTerms,
}

/// What never comes is waited for no longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store behind a proxy of its own.
struct Way {
    server: Server,
    proxy: Proxy,
    at: At,
}

impl Way {
    fn to(server: &Server) -> Self {
        let proxy = Proxy::start(server.port());
        let lease = LeaseTerms {
            length: Duration::from_secs(20),
            margin: Duration::from_secs(1),
            pause_max: Duration::ZERO,
        };
        let at = At {
            port: proxy.port(),
            name: format!("c{}", uuid::Uuid::new_v4().simple()),
            reply_timeout: Duration::from_secs(5),
            give_up_after: PATIENCE * 2 / 3,
            lease,
        };
        Self { server: server.clone(), proxy, at }
    }

    /// With a lease that ends soon.
    fn short(server: &Server) -> Self {
        let mut way = Self::to(server);
        way.at.lease = server.short_lease();
        way
    }

    async fn open(&self) -> Bench {
        let opened = within("opening", self.server.open(self.at.clone())).await;
        Bench::new(opened.unwrap_or_else(|why| panic!("it does not open: {why}")))
    }

    fn past_the_proxy(&self) -> At {
        At { port: self.server.port(), ..self.at.clone() }
    }

    /// Opens it past the proxy, as another router does: once it is let in.
    async fn open_elsewhere(&self) -> Bench {
        let opening = async {
            loop {
                match self.server.open(self.past_the_proxy()).await {
                    Ok(store) => return Bench::new(store),
                    Err(why) => self.keeps_secrets(&why),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within("being let in", opening).await
    }

    fn keeps_secrets(&self, shown: &str) {
        for secret in self.server.secrets() {
            assert!(!shown.contains(&secret), "a secret is shown: {shown}");
        }
    }

    /// How many changes there are, if the server counts them.
    async fn changes(&self) -> Option<u64> {
        let name = self.at.name.clone();
        with(&self.server, move |server| server.changes(&name)).await
    }
}

/// Does something to the server that may block.
async fn with<T: Send + 'static>(
    server: &Server,
    act: impl FnOnce(&dyn Networked) -> T + Send + 'static,
) -> T {
    let server = server.clone();
    match tokio::task::spawn_blocking(move || act(&*server)).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Waits for what must come.
async fn within<T>(what: &str, coming: impl Future<Output = T>) -> T {
    let came = tokio::time::timeout(PATIENCE, coming).await;
    came.unwrap_or_else(|_| panic!("{what} took longer than {PATIENCE:?}"))
}

/// The stores of a server, each of its own name, reached without a proxy: for the rest of the suite.
struct Stores {
    server: Server,
    last: std::sync::Mutex<Option<At>>,
}

impl Stores {
    fn open(&self, at: At) -> BoxFuture<'_, Store> {
        async move {
            let opened = self.server.open(at).await;
            opened.unwrap_or_else(|why| panic!("it does not open: {why}"))
        }
        .boxed()
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<At>> {
        self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl MakeStore for Stores {
    fn make(&self) -> BoxFuture<'_, Store> {
        let at = Way::to(&self.server).past_the_proxy();
        *self.last() = Some(at.clone());
        self.open(at)
    }

    fn reopen(&self) -> BoxFuture<'_, Option<Store>> {
        let at = self.last().clone();
        async move { Some(self.open(at?).await) }.boxed()
    }
}

/// One function of this suite.
#[derive(Clone, Copy)]
pub struct Check {
    /// What it is called.
    pub name: &'static str,
    run: for<'a> fn(&'a Server) -> BoxFuture<'a, ()>,
}

impl Check {
    /// Runs it.
    ///
    /// # Panics
    /// If the store does not conform.
    pub async fn run(&self, server: &Server) {
        let _running = Running(self.name);
        (self.run)(server).await;
    }
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        vec![$(Check { name: stringify!($name), run: |server| $name(server).boxed() }),*]
    };
}

/// Every function of this suite.
#[must_use]
pub fn checks() -> Vec<Check> {
    checks![
        a_change_is_in_once_whatever_is_lost_on_the_way,
        a_question_is_answered_whatever_is_lost_on_the_way,
        a_slow_server_is_waited_for_and_what_it_did_is_not_repeated,
        a_server_that_stays_away_ends_the_store_for_good,
        cut_connections_are_made_anew_beside_writers,
        a_server_that_only_reads_acknowledges_nothing,
        nothing_acknowledged_is_lost_when_the_server_is_killed,
        a_second_router_is_let_in_once_the_first_has_closed,
        a_router_that_was_cut_off_writes_nothing_after_a_takeover,
        a_router_that_was_cut_off_joins_nothing_of_the_new_one,
        a_change_in_doubt_at_a_takeover_is_whole_or_absent,
        a_lease_outlives_cut_connections_and_ends_without_any,
        one_router_at_a_time_has_the_lease_and_hands_it_over,
        requests_are_passed_on_once_whatever_is_lost,
        what_the_holder_wrote_is_found_by_the_others,
    ]
}

/// Runs the suite for all stores and every function of this one, one after the other. Half a minute
/// and more.
///
/// # Panics
/// If the store does not conform.
pub async fn test_all(server: Server) {
    super::test_all(&Stores { server: server.clone(), last: std::sync::Mutex::default() }).await;
    for check in checks() {
        check.run(&server).await;
    }
}
