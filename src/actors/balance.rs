//! Reads the balances of the account on a slow timer, and tells what the book says of them.
//!
//! Nothing in here decides an attempt. A reading takes no permit, is not repeated before its next turn, and
//! waits while the supplier wants to be left alone, so that lists and looks are never behind it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Shared;
use crate::config::Config;
use crate::money::{Balance, Currency};
use crate::order::Price;
use crate::protocol::balance::{BalanceBook, Note};
use crate::protocol::{IntentId, Moment};
use crate::router::{BalanceStats, RouterEvent};
use crate::supplier::{ReadError, Supplier};

/// So many failures in a row ring.
const FAILURES_MAX: u32 = 5;

/// The balances, as far as the supplier has them and they are read.
pub(crate) struct Money {
    /// `None`: nobody reads any.
    book: Option<Mutex<Book>>,
}

struct Book {
    book: BalanceBook,
    read_at: Option<(Moment, jiff::Timestamp)>,
    failures: u32,
    failure: Option<String>,
    /// It was told that the currency is to be named.
    told_unnamed: bool,
    /// One at a time reads.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl Money {
    pub(crate) fn new(config: &Config, supplier: &dyn Supplier, now: Moment) -> Self {
        let book = supplier.has_balances().then(|| {
            Mutex::new(Book {
                book: BalanceBook::new(config.balance_rules(), now),
                read_at: None,
                failures: 0,
                failure: None,
                told_unnamed: false,
                reading: Arc::default(),
            })
        });
        Self { book }
    }

    fn book(&self) -> Option<MutexGuard<'_, Book>> {
        Some(self.book.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An attempt or a payment may cost this from now on. To be said before it is recorded.
    pub(crate) fn begun(&self, intent: IntentId, price: impl FnOnce() -> Option<Price>) {
        if let Some(mut book) = self.book() {
            book.book.begun(intent, price());
        }
    }

    /// It has ended, durably: bought, or nothing was debited.
    pub(crate) fn ended(&self, shared: &Shared, intent: IntentId, bought: bool) {
        if let Some(mut book) = self.book() {
            book.book.ended(intent, bought, shared.runtime.now());
        }
    }

    /// How old what was read last is.
    pub(crate) fn age(&self, now: Moment) -> Option<Duration> {
        self.book()?.read_at.map(|(at, _)| now.since(at))
    }

    pub(crate) fn stats(&self) -> Option<BalanceStats> {
        let book = self.book()?;
        Some(BalanceStats {
            read_at: book.read_at.map(|(_, wall)| wall),
            failure: book.failure.clone(),
            currencies: book.book.standing(),
        })
    }

    /// Begins to read on a timer, where that is set and the supplier has balances.
    pub(crate) fn start(shared: &Arc<Shared>) {
        let Some(interval) = shared.config.balance_interval else { return };
        if shared.money.book.is_none() {
            return;
        }
        let task = {
            let shared = shared.clone();
            async move {
                loop {
                    let now = shared.runtime.now();
                    let blocked = shared.dispatch.blocked_for(now);
                    if !blocked.is_zero() {
                        shared.runtime.sleep(blocked).await;
                        continue;
                    }
                    let mut wait = interval;
                    if let Err(ReadError::RateLimited(Some(after))) = read(&shared).await {
                        wait = wait.max(after);
                    }
                    shared.runtime.sleep(wait).await;
                }
            }
        };
        shared.spawn(task);
    }

    /// Reads the balances, and says whether they cover this.
    pub(crate) async fn covers(
        &self,
        shared: &Arc<Shared>,
        needed: Option<Price>,
    ) -> Result<bool, ReadError> {
        let balances = read(shared).await?;
        Ok(self.book().is_some_and(|book| book.book.covers(&balances, needed)))
    }
}

/// Reads once, and tells what follows.
async fn read(shared: &Arc<Shared>) -> Result<Vec<Balance>, ReadError> {
    let turn = shared.money.book().map(|book| book.reading.clone());
    let Some(turn) = turn else { return Err(ReadError::NotFound) };
    let _turn = turn.lock().await;
    let now = shared.runtime.now();
    let requested = shared.money.book().map(|mut book| book.book.requested(now));
    let Some(requested) = requested else { return Err(ReadError::NotFound) };
    let read = shared.supplier.balances().await;
    match &read {
        Err(error) => failed(shared, &error.to_string()),
        Ok(balances) => {
            let (notes, missing) = {
                let Some(mut book) = shared.money.book() else { return read };
                let now = shared.runtime.now();
                let notes = book.book.read(requested, now, balances);
                book.read_at = Some((now, shared.runtime.clock.wall()));
                (notes, missing(&mut book, balances))
            };
            match missing {
                Some(currency) => failed(shared, &format!("no balance in {currency} is shown")),
                None => understood(shared),
            }
            tell(shared, balances, notes);
        }
    }
    read
}

/// The currency in which orders are paid, if it was not shown.
fn missing(book: &mut Book, balances: &[Balance]) -> Option<Currency> {
    let Some(watched) = book.book.watched(balances) else {
        if !std::mem::replace(&mut book.told_unnamed, true) {
            tracing::warn!(
                "the account has several currencies, and nobody has named the one that orders are paid in: \
                 neither a floor nor the balance equation is looked at"
            );
        }
        return None;
    };
    let is_shown = balances.iter().any(|balance| balance.currency == watched);
    (!is_shown).then_some(watched)
}

fn failed(shared: &Shared, why: &str) {
    let Some(mut book) = shared.money.book() else { return };
    book.failures = book.failures.saturating_add(1);
    book.failure = Some(why.to_owned());
    let rings = book.failures == FAILURES_MAX;
    drop(book);
    tracing::debug!(why, "the balances were not read");
    if rings {
        let what = format!("the balance was not read {FAILURES_MAX} times in a row: {why}");
        shared.alarm(&what);
    }
}

fn understood(shared: &Shared) {
    let Some(mut book) = shared.money.book() else { return };
    let was_rung = book.failures >= FAILURES_MAX;
    (book.failures, book.failure) = (0, None);
    drop(book);
    if was_rung {
        tracing::info!("the balance is read again");
    }
}

fn tell(shared: &Shared, balances: &[Balance], notes: Vec<Note>) {
    let standing = shared.money.book().map(|book| book.book.standing()).unwrap_or_default();
    shared.telemetry.balances(&standing);
    shared.tell(|| RouterEvent::Balances { balances: balances.to_vec() });
    for note in notes {
        match note {
            Note::Low { balance, why } => {
                shared.alarm(&format!("the balance is low: {why}"));
                shared.tell(|| RouterEvent::BalanceLow { balance, why: Some(why.into()) });
            }
            Note::NotLow { balance } => {
                tracing::info!(amount = %balance.amount, currency = %balance.currency, "the balance is not low any more");
                shared.tell(|| RouterEvent::BalanceLow { balance, why: None });
            }
            Note::Unexplained { currency, amount } => {
                shared.alarm(&format!(
                    "the account spent {amount} {currency} more than the orders that are known: somebody else \
                     buys here (A3), or an order was bought twice; `order-router audit` looks for it"
                ));
                shared.tell(|| RouterEvent::Unexplained { currency, amount });
            }
        }
    }
}
