//! Several nodes on one store: the same orders to all of them, one order each, one answer.

use std::sync::Arc;
use std::time::Duration;

use order_router::cluster::{Node, Role};
use order_router::runtime::Runtime;
use order_router::simulator::Faults;
use order_router::store::{Holder, IntentStore, LeaseTerms, Request, SharedStore};
use order_router::supplier::AccountId;
use order_router::{End, Order, Progress, SubmitError};

use super::router::{World, check_books, order};
use super::servers::Proxy;

mod dynamodb;
mod postgres;
mod redis;

const NODES: usize = 3;
const ORDERS: usize = 150;

pub(crate) fn terms() -> LeaseTerms {
    let millis = Duration::from_millis;
    LeaseTerms { length: millis(900), margin: millis(150), pause_max: millis(300) }
}

/// Follows an order to its end at one node, through any doubt.
async fn buy(node: &Node, order: Order) -> End {
    let mut ticket = node.track(order).expect("taken");
    loop {
        match ticket.next().await.expect("an end comes") {
            Progress::Ended(end) => return end,
            Progress::Failed(error) => panic!("{error}"),
            Progress::Held(why) => panic!("held: {why}"),
            _ => {}
        }
    }
}

struct Cluster {
    world: World,
    nodes: Vec<Node>,
}

impl Cluster {
    /// Each node has a way of its own to the store.
    fn start(stores: Vec<Arc<dyn SharedStore>>) -> Self {
        let faults = Faults { reset_after: 0.1, reset_before: 0.1, ..Faults::default() };
        let mut world = World::new(faults);
        // A change of the holder is a try of every order under way.
        world.config = world.config.tries_max(20);
        let start =
            |store| Node::start(world.supplier(), store, world.config.clone(), Runtime::system());
        Self { nodes: stores.into_iter().map(start).collect(), world }
    }

    /// Which node has the lease, once one has.
    async fn holder(&self) -> usize {
        loop {
            if let Some(at) = self.nodes.iter().position(|node| node.role() == Role::Holder) {
                return at;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Submits the same orders to these nodes at once; `midway` runs when a third has ended.
    async fn buys<F: Future<Output = ()>>(
        &self,
        at: &[usize],
        midway: impl FnOnce() -> F,
    ) -> Vec<(Order, End)> {
        let orders: Vec<Order> =
            (0..ORDERS).map(|at| order(&format!("c{at}"), &format!("p{}", at % 5), 1)).collect();
        let (count, mut counted) = tokio::sync::watch::channel(0_usize);
        let mut tasks = tokio::task::JoinSet::new();
        for (number, one) in orders.iter().enumerate() {
            for node in at {
                let (node, one) = (self.nodes[*node].clone(), one.clone());
                let (count, mut wait) = (count.clone(), count.subscribe());
                tasks.spawn(async move {
                    if number >= ORDERS / 2 {
                        wait.wait_for(|count| *count >= ORDERS / 2).await.expect("they go on");
                    }
                    let end = buy(&node, one).await;
                    count.send_modify(|count| *count += 1);
                    (number, end)
                });
            }
        }
        counted.wait_for(|count| *count >= ORDERS / 3).await.expect("they go on");
        midway().await;
        let mut ends: Vec<Option<End>> = vec![None; ORDERS];
        for (number, end) in tasks.join_all().await {
            let known = ends[number].get_or_insert_with(|| end.clone());
            assert_eq!(*known, end, "two nodes say different things of order {number}");
        }
        let ends = ends.into_iter().map(|end| end.expect("all have ended"));
        orders.into_iter().zip(ends).collect()
    }

    async fn stop(&self) {
        for node in &self.nodes {
            node.shutdown(Duration::ZERO).await;
        }
    }
}

/// The same orders to all nodes; the holder hands over in the middle.
async fn holder_that_stops_hands_over(stores: Vec<Arc<dyn SharedStore>>) {
    let cluster = Cluster::start(stores);
    let holder = cluster.holder().await;
    let others: Vec<usize> = (0..NODES).filter(|at| *at != holder).collect();
    let began = std::time::Instant::now();
    let bought = cluster
        .buys(&others, async || cluster.nodes[holder].shutdown(Duration::from_secs(1)).await)
        .await;
    check_books(&bought, &cluster.world.simulator.ledger());
    let after = cluster.holder().await;
    assert_ne!(after, holder);
    println!("handed over and all bought within {:?}", began.elapsed());
    let refused = cluster.nodes[holder].submit(order("late", "p0", 1)).await;
    assert!(matches!(refused, Err(SubmitError::Stopped)), "{refused:?}");
    cluster.stop().await;
}

/// The same orders to all nodes; the holder is cut off from the store for longer than its lease, and
/// comes back. Each node's way to the store is one of the proxies.
async fn holder_that_is_cut_off_is_replaced(stores: Vec<Arc<dyn SharedStore>>, proxies: &[Proxy]) {
    let cluster = Cluster::start(stores);
    let holder = cluster.holder().await;
    let all: Vec<usize> = (0..NODES).collect();
    let bought = cluster
        .buys(&all, async || {
            proxies[holder].refuse(true);
            proxies[holder].silence(true);
            tokio::time::sleep(terms().length * 3).await;
            let role = cluster.nodes[holder].role();
            assert_ne!(role, Role::Holder, "its lease has run out");
            proxies[holder].refuse(false);
            proxies[holder].silence(false);
            proxies[holder].cut();
        })
        .await;
    check_books(&bought, &cluster.world.simulator.ledger());
    assert_ne!(cluster.holder().await, holder);
    // All of them know.
    for node in &cluster.nodes {
        let (one, end) = &bought[7];
        assert_eq!(buy(node, one.clone()).await, *end);
        let other = order(one.client_ref().as_str(), "another", 1);
        let refused = node.submit(other).await;
        assert!(matches!(refused, Err(SubmitError::Conflict { .. })), "{refused:?}");
    }
    cluster.stop().await;
}

/// Whoever asks for a store that another has is told who that is, and whether anybody reads requests.
/// A request that is put again is a new one: what was replied to it before is no answer.
async fn holder_is_named_and_replies_are_forgotten(
    first: Arc<dyn SharedStore>,
    second: Arc<dyn SharedStore>,
    open_alone: impl AsyncFnOnce() -> Arc<dyn IntentStore>,
) {
    let alone = open_alone().await;
    assert!(second.open().await.expect("works").is_none());
    let holder = second.holder().await.expect("works");
    assert_eq!(holder, Some(Holder { alone: true, account: None }));
    alone.close().await.expect("closes");
    first.introduce(AccountId(7));
    let held = first.open().await.expect("works").expect("it is free");
    assert!(second.open().await.expect("works").is_none());
    let holder = second.holder().await.expect("works");
    assert_eq!(holder, Some(Holder { alone: false, account: Some(AccountId(7)) }));
    let request = || vec![Request { key: "again".into(), order: b"order".to_vec() }];
    let keys = || vec!["again".to_owned()];
    second.put_requests(request()).await.expect("puts");
    let settled = vec![("again".to_owned(), Some(b"reply".to_vec()))];
    first.settle_requests(settled).await.expect("settles");
    assert_eq!(second.replies(keys()).await.expect("reads"), [Some(b"reply".to_vec())]);
    assert_eq!(first.requests(10).await.expect("reads"), []);
    second.put_requests(request()).await.expect("puts");
    assert_eq!(second.replies(keys()).await.expect("reads"), [None]);
    assert_eq!(first.requests(10).await.expect("reads"), request());
    held.close().await.expect("closes");
    assert_eq!(second.holder().await.expect("works"), None, "it was given back");
}
