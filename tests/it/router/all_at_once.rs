//! Every fault at once, of POSTs and of lists, over restarts on the same directory.

use order_router::store::{EmbeddedConfig, EmbeddedStore};
use order_router::{StartError, SubmitError};

use super::*;

const ORDERS: usize = 60;
const ROUNDS: u64 = 4;

fn faulty(seed: u64) -> Faults {
    let mut faults = Faults {
        late_after: Duration::from_millis(500),
        list_lag: Duration::from_millis(80),
        list_stale_by: Duration::from_millis(700),
        list_slow_by: Duration::from_millis(300),
        ..Faults::default()
    };
    for fault in order_router::simulator::PostFault::ALL {
        // A 429 that creates an order all the same needs another setting.
        if *fault != order_router::simulator::PostFault::RateLimited429After {
            faults = faults.with_post(*fault, 0.02);
        }
    }
    for fault in order_router::simulator::ListFault::ALL {
        faults = faults.with_list(*fault, 0.05 + 0.01 * seed as f64);
    }
    faults
}

/// Starts until the account could be read: faulty lists stop a start.
async fn start_again(world: &World) -> OrderRouter {
    loop {
        let router = world.start().await;
        match router.ready().await {
            Ok(()) => return router,
            Err(StartError::Probe { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn orders() -> Vec<Order> {
    let item = |n: usize| ["x", "y", "z", "hot", "hot", "hot"][n % 6];
    (0..ORDERS).map(|n| order(&format!("ref-{n}"), item(n), 1 + (n % 2) as u32)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_at_once_and_restarts_leave_the_books_right() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut world = World::new(Faults::default());
    world.config = world.config.clone().shards(2);
    let open = || EmbeddedStore::open(dir.path(), EmbeddedConfig::default(), &world.runtime());
    world.store = Arc::new(open().expect("a store"));
    let router = world.ready().await;
    let witness = order("witness", "hot", 1);
    let mut ends = vec![(witness.clone(), buy(&router, witness).await)];
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    drop(router);
    for round in 0..ROUNDS {
        world.simulator.set_faults(faulty(round)).expect("faults");
        let router = start_again(&world).await;
        let tickets: Vec<_> =
            orders().into_iter().map(|o| (o.clone(), router.track(o).expect("taken"))).collect();
        tokio::time::sleep(Duration::from_millis(400 + 300 * round)).await;
        drop((router, tickets));
    }
    world.simulator.set_faults(Faults::default()).expect("faults");
    let router = start_again(&world).await;
    for order in orders() {
        let end = loop {
            match router.submit(order.clone()).await {
                Ok(end) => break end,
                Err(SubmitError::InDoubt { .. } | SubmitError::UnderWay { .. }) => {}
                Err(error) => panic!("{order:?}: {error}"),
            }
        };
        let id = placed(&end);
        told.insert(order.client_ref().to_string(), id);
        ends.push((order, end));
    }
    check_books(&ends, &world.simulator.ledger());
    assert_eq!(told.len(), ORDERS);
    // A caller is told before its permit is back.
    let calm = async {
        while router.stats().posts > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), calm).await.expect("every permit comes back");
    let stats = router.stats();
    assert_eq!((stats.open, stats.in_doubt), (0, 0));
}
