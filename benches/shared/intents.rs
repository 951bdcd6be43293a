//! Writers of intents, for the benchmarks of the store.

use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use order_router::protocol::{Attempt, Change, Fingerprint, NewIntent};
use order_router::runtime::Runtime;
use order_router::store::{EmbeddedConfig, EmbeddedStore, IntentStore};
use order_router::{ClientRef, EchoProfile, Item, ItemsDigest, ItemsHash};

/// Writers at once.
pub const WRITERS: usize = 256;

/// A runtime of one thread: what the writers cost is not what is measured.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Splits `count` among the writers and runs them all; per second.
pub fn run<F: Future<Output = ()> + Send + 'static>(
    writers: usize,
    count: usize,
    writer: impl Fn(usize, usize) -> F,
) -> f64 {
    let runtime = runtime();
    let begun = Instant::now();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..writers)
            .map(|at| {
                let share = count / writers + usize::from(at < count % writers);
                tokio::spawn(writer(at, share))
            })
            .collect();
        for task in tasks {
            task.await.expect("a writer panicked");
        }
    });
    count as f64 / begun.elapsed().as_secs_f64()
}

/// The change that accepts a new order with its first attempt, one of 10,000 products.
pub fn accept(store: &dyn IntentStore, lane: usize) -> (Change, NewIntent, Attempt) {
    let product = format!("gift-card-{:05}", lane % 10_000);
    let items = [Item::new(product, 1).expect("an item")];
    let now = Timestamp::UNIX_EPOCH;
    let intent = NewIntent {
        id: store.next_serial(),
        client_ref: ClientRef::random(),
        lane: ItemsHash::of(&items, EchoProfile::default()),
        as_sent: ItemsDigest::as_sent(&items),
        delivered: ItemsDigest::delivered(&items, false),
        items: items.into(),
        good_until: now,
        accepted_at: now,
    };
    let attempt =
        Attempt { seq: store.next_serial(), fingerprint: Fingerprint(1), floor: Some(now) };
    (Change::Accept { intent: intent.clone(), attempt: Some(attempt) }, intent, attempt)
}

/// Opens a store as the command does.
pub fn open(dir: &Path) -> EmbeddedStore {
    EmbeddedStore::open(dir, EmbeddedConfig::default(), &Runtime::system()).expect("opens")
}
