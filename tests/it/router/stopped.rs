//! A process that is stopped at the worst moment, by a supplier and a clock that play it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use order_router::protocol::{Fingerprint, Moment};
use order_router::runtime::{Clock, Runtime};
use order_router::supplier::{
    Capabilities, Exchange, Fetched, Gate, Page, PageRequest, ReadError, Row, Supplier,
};
use order_router::{EchoProfile, EchoedItem, OrderId};

use super::*;

/// The system's clock, and what the process was stopped for.
struct Stoppable {
    clock: Arc<dyn Clock>,
    stopped_millis: AtomicU64,
}

impl Clock for Stoppable {
    fn now(&self) -> Moment {
        let stopped = self.stopped_millis.load(Ordering::SeqCst);
        self.clock.now().plus(Duration::from_millis(stopped))
    }

    fn wall(&self) -> Timestamp {
        self.clock.wall()
    }
}

/// A supplier that takes every order 500 ms after its bytes have left, and never answers. Between
/// gate and wire the process is stopped, the second time.
struct Silent {
    clock: Arc<Stoppable>,
    rows: Arc<Mutex<Vec<Row>>>,
    posts: Arc<AtomicU64>,
    lists: AtomicU64,
    /// This page of a list panics.
    panics_at: u64,
    /// How long the process is stopped.
    stop_millis: u64,
}

impl Supplier for Silent {
    fn capabilities(&self) -> Capabilities {
        Capabilities { echo: EchoProfile::default(), newest_first: true, page_limit: 100 }
    }

    fn wire_bound(&self) -> Duration {
        Duration::from_millis(300)
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint(1)
    }

    fn place(&self, items: Arc<[Item]>, gate: Arc<Gate>) -> BoxFuture<'static, Exchange> {
        let (clock, rows, posts) = (self.clock.clone(), self.rows.clone(), self.posts.clone());
        let stop_millis = self.stop_millis;
        Box::pin(async move {
            assert!(gate.ask(clock.now()), "in time");
            let n = posts.fetch_add(1, Ordering::SeqCst);
            if n == 1 {
                clock.stopped_millis.fetch_add(stop_millis, Ordering::SeqCst);
            }
            let lands = async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let echoed = items.iter().map(|item| EchoedItem {
                    id: item.id().into(),
                    quantity: Some(item.quantity()),
                    note: None,
                });
                rows.lock().expect("no panic").push(Row {
                    id: OrderId::new(format!("order-{n}")).expect("an id"),
                    status: "active".into(),
                    created_at: clock.wall(),
                    items: Some(echoed.collect()),
                    cost: None,
                });
            };
            drop(tokio::spawn(lands));
            std::future::pending().await
        })
    }

    fn list(&self, page: PageRequest) -> BoxFuture<'static, Result<Page, ReadError>> {
        // Counted from the first order on: how often the start lists is its own affair.
        if self.posts.load(Ordering::SeqCst) > 0 {
            let lists = self.lists.fetch_add(1, Ordering::SeqCst);
            assert_ne!(lists, self.panics_at, "a bug in a client");
        }
        let rows = self.rows.lock().expect("no panic").clone();
        let rows = rows.into_iter().rev().skip(page.offset as usize).take(page.limit as usize);
        let page = Page { rows: rows.collect(), total: None, date: None };
        Box::pin(async move { Ok(page) })
    }

    fn fetch(&self, _: OrderId) -> BoxFuture<'static, Result<Fetched, ReadError>> {
        Box::pin(async { Err(ReadError::NotFound) })
    }
}

/// Buys two orders, one after the other, from a supplier that never answers: how the second ended,
/// and how many POSTs there were. The first is the witness of the lists.
async fn buy_in_silence(stop_millis: u64, panics_at: u64) -> (End, u64) {
    let clock =
        Arc::new(Stoppable { clock: Runtime::system().clock, stopped_millis: AtomicU64::new(0) });
    let posts = Arc::new(AtomicU64::new(0));
    let old = Row {
        id: OrderId::new("history").expect("an id"),
        status: "completed".into(),
        created_at: clock.wall().checked_sub(Duration::from_secs(30)).expect("a moment"),
        items: Some(Vec::new()),
        cost: None,
    };
    let supplier = Silent {
        clock: clock.clone(),
        rows: Arc::new(Mutex::new(vec![old])),
        posts: posts.clone(),
        lists: AtomicU64::new(0),
        panics_at,
        stop_millis,
    };
    let config = Config::default()
        .request_timeout(Duration::from_millis(200))
        .landing_bound(Some(Duration::from_millis(1_000)))
        .list_interval(Duration::from_millis(20))
        .look_again(Duration::from_millis(50), Duration::from_millis(100))
        .start(order_router::StartAnswer::NewAccount)
        .good_for(Duration::from_secs(36_000))
        .trust_echo(true);
    let runtime = Runtime { clock, ..Runtime::system() };
    let router = OrderRouter::builder(Arc::new(supplier), Arc::new(MemoryStore::new()))
        .config(config)
        .runtime(runtime)
        .start()
        .await
        .expect("a start");
    router.ready().await.expect("ready");
    placed(&buy(&router, order("witness", "x", 1)).await);
    let end = buy(&router, order("stopped", "x", 1)).await;
    (end, posts.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_between_the_gate_and_the_wire_an_order_is_not_bought_twice() {
    let (end, posts) = buy_in_silence(3_600_000, u64::MAX).await;
    assert_eq!((&*placed(&end), posts), ("order-1", 2), "sent again while it was landing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_panics_is_read_again() {
    let buying = buy_in_silence(0, 1);
    let (end, posts) = tokio::time::timeout(Duration::from_secs(10), buying).await.expect("an end");
    assert_eq!((&*placed(&end), posts), ("order-1", 2));
}
