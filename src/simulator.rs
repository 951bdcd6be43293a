//! The simulated supplier: an HTTP server on loopback that sells orders and fails on purpose.
//!
//! It keeps the contract of a supplier without idempotency keys: every POST that lands creates an
//! order. It loses answers, lands orders late, answers with other orders' ids, shows old, empty
//! or shuffled lists, and lets others buy on the same account, each with a probability. All
//! chance comes from one seed: with the same seed and the same order of arrival every POST meets
//! the same fault. Its ledger says what was really sold.
//!
//! ```
//! use order_router::simulator::{Faults, Simulator, SimulatorConfig};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let faults = Faults { reset_after: 0.01, ..Faults::default() };
//! let supplier = Simulator::start(SimulatorConfig { faults, ..Default::default() }).await?;
//! println!("buy at {}", supplier.url());
//! assert_eq!(supplier.ledger(), []);
//! # supplier.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # The administration port
//!
//! | request | answer |
//! |---|---|
//! | `GET /admin/ledger` | every order sold, oldest first: a JSON array of [`LedgerEntry`] |
//! | `GET /admin/stats` | [`Stats`] |
//! | `GET /admin/faults` | the [`Faults`] in force, with what is left of scripts and budgets |
//! | `POST /admin/faults` | changes the fields of [`Faults`] that the JSON object names |
//! | `POST /admin/balance` | books the `amount` of the body in, or out where it is negative, in its `currency`: no order shows it |
//! | `POST /admin/foreign` | somebody else buys the `items` of the body on the account, now |

#![allow(clippy::disallowed_methods, reason = "no part of the router: it has a clock of its own")]

mod account;
mod admin;
mod api;
mod config;
mod connection;
mod faults;
mod head;
mod latency;
mod ledger;
mod list;
mod order;
mod pay;
#[cfg(test)]
mod tests;
mod time;
mod update;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::account::Shared;
use self::connection::{Side, accept};

pub use self::config::{
    Contract, Envelope, ListOrder, Moments, PayTime, SimulatorConfig, UnitPrice,
};
pub use self::faults::{Faults, InvalidFaults, ListFault, PayFault, PostFault, UnknownFault};
pub use self::latency::LatencyShape;
pub use self::ledger::{LedgerEntry, LedgerItem, Stats};
pub use self::update::parse_duration;

/// A running simulated supplier. Dropping it stops it.
pub struct Simulator {
    shared: Arc<Shared>,
    supplier: SocketAddr,
    admin: SocketAddr,
    host: Host,
}

/// What the supplier runs on.
enum Host {
    Tasks(Vec<JoinHandle<()>>),
    Thread { stop: Option<oneshot::Sender<()>>, thread: Option<thread::JoinHandle<()>> },
}

impl Simulator {
    /// Starts a supplier on the runtime of the caller. Once this returns, it can be bought from.
    ///
    /// # Errors
    /// When an address is not loopback or cannot be bound, or the faults are not valid.
    pub async fn start(config: SimulatorConfig) -> io::Result<Self> {
        config.faults.check().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let listener = bind(config.listen).await?;
        let admin_listener = bind(config.admin_listen).await?;
        let (supplier, admin) = (listener.local_addr()?, admin_listener.local_addr()?);
        let shared = Arc::new(Shared::new(config));
        let host = Host::Tasks(vec![
            tokio::spawn(accept(listener, Arc::clone(&shared), Side::Supplier)),
            tokio::spawn(accept(admin_listener, Arc::clone(&shared), Side::Admin)),
        ]);
        Ok(Self { shared, supplier, admin, host })
    }

    /// Starts a supplier on a thread of its own, for callers without a runtime and for those
    /// whose runtime is to be killed or kept busy.
    ///
    /// # Errors
    /// As [`Simulator::start`], and when the thread cannot be started.
    pub fn spawn_thread(config: SimulatorConfig) -> io::Result<Self> {
        let (started, start) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel::<()>();
        let builder = thread::Builder::new().name("simulated-supplier".to_owned());
        let thread = builder.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            runtime.block_on(async {
                match Self::start(config).await {
                    Err(error) => drop(started.send(Err(error))),
                    Ok(simulator) => {
                        let addresses = (simulator.supplier, simulator.admin);
                        drop(started.send(Ok((Arc::clone(&simulator.shared), addresses))));
                        // A dropped sender is a request to stop as well.
                        let _ = stopped.await;
                        simulator.shutdown().await;
                    }
                }
            });
        })?;
        let (shared, (supplier, admin)) = start
            .recv()
            .map_err(|_| io::Error::other("the simulated supplier's thread ended at once"))??;
        let host = Host::Thread { stop: Some(stop), thread: Some(thread) };
        Ok(Self { shared, supplier, admin, host })
    }

    /// The base URL to buy from, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.supplier)
    }

    /// The base URL of the administration port, without a slash at its end.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Every order that was sold so far, oldest first.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.shared.ledger(0, usize::MAX)
    }

    /// Books money in, or out where it is negative, without an order: a top-up, a fee, a thief. In the
    /// account's own currency where none is named. False: there is no such currency.
    pub fn book(&self, currency: Option<&str>, amount: rust_decimal::Decimal) -> bool {
        self.shared.book(currency, amount)
    }

    /// What the account has, the account's own currency first.
    pub fn balances(&self) -> Vec<(String, rust_decimal::Decimal)> {
        let (now, contract) = (self.shared.clock.now(), &self.shared.contract);
        let balances = self.shared.account().balances(now, now, contract);
        let named = balances.into_iter().enumerate();
        named.map(|(place, amount)| (contract.currency_at(place).to_owned(), amount)).collect()
    }

    /// Leaves an order out of the list from now on. False: there is no such order.
    pub fn hide(&self, id: &str) -> bool {
        let mut account = self.shared.account();
        let row = uuid::Uuid::try_parse(id).ok().and_then(|id| account.find(id));
        row.map(|row| account.hide(row)).is_some()
    }

    /// Shows an order with another product from now on. False: there is no such order.
    pub fn alter(&self, id: &str, item_id: &str) -> bool {
        let mut account = self.shared.account();
        let row = uuid::Uuid::try_parse(id).ok().and_then(|id| account.find(id));
        row.map(|row| account.alter(row, item_id)).is_some()
    }

    /// What reached the supplier so far.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The faults in force, with what is left of scripts and budgets.
    pub fn faults(&self) -> Faults {
        self.shared.account().faults.clone()
    }

    /// Puts other faults in force, from the next request on.
    ///
    /// # Errors
    /// When they are not valid; then the old ones stay in force.
    pub fn set_faults(&self, faults: Faults) -> Result<(), InvalidFaults> {
        faults.check()?;
        self.shared.account().faults = faults;
        Ok(())
    }

    /// Closes both ports and all connections. Orders that were to land late never do. The ledger
    /// is returned.
    pub async fn shutdown(mut self) -> Vec<LedgerEntry> {
        match &mut self.host {
            Host::Tasks(tasks) => {
                for task in std::mem::take(tasks) {
                    task.abort();
                    // The only outcome is that it was cancelled: it never ends by itself.
                    let _ = task.await;
                }
            }
            Host::Thread { .. } => self.stop_thread(),
        }
        self.ledger()
    }

    fn stop_thread(&mut self) {
        if let Host::Thread { stop, thread } = &mut self.host {
            drop(stop.take());
            if let Some(thread) = thread.take() {
                // Its panic was printed when it happened, and the ledger can still be read.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        match &self.host {
            Host::Tasks(tasks) => tasks.iter().for_each(JoinHandle::abort),
            Host::Thread { .. } => self.stop_thread(),
        }
    }
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        let why = format!(
            "{address} is not a loopback address: whoever reaches the simulated supplier can \
             change its faults, so it listens on 127.0.0.1 or [::1] only"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let bound = TcpListener::bind(address).await;
    bound.map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {address}: {e}")))
}
