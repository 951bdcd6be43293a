//! Several nodes on one store: the same orders to all of them, one order each, one answer.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use order_router::cluster::{Node, Role};
use order_router::protocol::Moment;
use order_router::runtime::{Clock, Runtime};
use order_router::simulator::Faults;
use order_router::store::{Holder, LeaseTerms, Request};
use order_router::supplier::{AccountId, ApiKey, FoxReload};
use order_router::testing::conformance::network::{At, Proxy, Server};
use order_router::{End, Order, Progress, SubmitError};

use super::networked::on_each_server;
use super::router::{World, check_books, order};

on_each_server![
    holder_that_stops_hands_over,
    holder_that_is_cut_off_is_replaced,
    nodes_whose_clocks_differ_say_the_same,
    nodes_go_on_when_the_server_is_killed_and_started_again,
    holder_is_named_and_replies_are_forgotten,
    router_alone_is_not_replaced_before_its_gates_have_closed,
];

const NODES: usize = 3;
const ORDERS: usize = 150;

fn terms() -> LeaseTerms {
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
    /// Each node's way to the store.
    proxies: Vec<Proxy>,
    nodes: Vec<Node>,
}

/// A clock of a node, whose wall shows another time than others'.
struct Skewed {
    steady: Arc<dyn Clock>,
    ahead: SignedDuration,
}

impl Clock for Skewed {
    fn now(&self) -> Moment {
        self.steady.now()
    }

    fn wall(&self) -> Timestamp {
        self.steady.wall().checked_add(self.ahead).expect("in range")
    }
}

impl Cluster {
    fn start(server: &Server) -> Self {
        Self::with_clocks(server, [0; NODES])
    }

    /// Each node has a way of its own to the store, and a clock that is ahead by so many seconds.
    fn with_clocks(server: &Server, ahead: [i64; NODES]) -> Self {
        let faults = Faults { reset_after: 0.1, reset_before: 0.1, ..Faults::default() };
        let mut world = World::new(faults);
        // A change of the holder is a try of every order under way.
        world.config = world.config.tries_max(20);
        let (mut proxies, mut nodes) = (Vec::new(), Vec::new());
        for ahead in ahead {
            let proxy = Proxy::start(server.port());
            let at = At {
                port: proxy.port(),
                name: "cluster".to_owned(),
                reply_timeout: Duration::from_secs(5),
                give_up_after: Duration::from_secs(5),
                lease: terms(),
            };
            let store = server.share(at).expect("it is shared");
            let steady = Runtime::system();
            let ahead = SignedDuration::from_secs(ahead);
            let clock = Arc::new(Skewed { steady: steady.clock.clone(), ahead });
            let runtime = Runtime { clock: clock.clone(), ..steady };
            let (url, key) = (world.simulator.url(), ApiKey::new("test-key").expect("a key"));
            let supplier = FoxReload::new(&url, &key, world.settings.clone(), clock);
            let supplier = Arc::new(supplier.expect("a client"));
            nodes.push(Node::start(supplier, store, world.config.clone(), runtime));
            proxies.push(proxy);
        }
        Self { world, proxies, nodes }
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

    /// Every node gives the same answers, and refuses the same.
    async fn all_know(&self, bought: &[(Order, End)]) {
        for node in &self.nodes {
            let (one, end) = &bought[7];
            assert_eq!(buy(node, one.clone()).await, *end);
            let other = order(one.client_ref().as_str(), "another", 1);
            let refused = node.submit(other).await;
            assert!(matches!(refused, Err(SubmitError::Conflict { .. })), "{refused:?}");
        }
    }

    async fn stop(&self) {
        for node in &self.nodes {
            node.shutdown(Duration::ZERO).await;
        }
    }
}

/// The same orders to all nodes; the holder hands over in the middle.
async fn holder_that_stops_hands_over(server: Server) {
    let cluster = Cluster::start(&server);
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
/// comes back.
async fn holder_that_is_cut_off_is_replaced(server: Server) {
    let cluster = Cluster::start(&server);
    let holder = cluster.holder().await;
    let proxy = &cluster.proxies[holder];
    let bought = cluster
        .buys(&[0, 1, 2], async || {
            proxy.refuse(true);
            proxy.silence(true);
            tokio::time::sleep(terms().length * 3).await;
            let role = cluster.nodes[holder].role();
            assert_ne!(role, Role::Holder, "its lease has run out");
            proxy.refuse(false);
            proxy.silence(false);
            proxy.cut();
        })
        .await;
    check_books(&bought, &cluster.world.simulator.ledger());
    assert_ne!(cluster.holder().await, holder);
    cluster.all_know(&bought).await;
    cluster.stop().await;
}

/// The clocks of the nodes differ by up to fifty minutes; the holder hands over in the middle. Leases
/// are counted by clocks that nobody sets, so nothing is different.
async fn nodes_whose_clocks_differ_say_the_same(server: Server) {
    let cluster = Cluster::with_clocks(&server, [1_500, -1_500, 0]);
    let holder = cluster.holder().await;
    let others: Vec<usize> = (0..NODES).filter(|at| *at != holder).collect();
    let bought =
        cluster.buys(&others, async || cluster.nodes[holder].shutdown(Duration::ZERO).await).await;
    check_books(&bought, &cluster.world.simulator.ledger());
    assert_ne!(cluster.holder().await, holder);
    cluster.stop().await;
}

/// The store's server is killed and started again, twice, while orders come at all nodes: nobody loses
/// anything, and nobody has to be started again.
async fn nodes_go_on_when_the_server_is_killed_and_started_again(server: Server) {
    if !server.keeps() {
        return;
    }
    let cluster = Cluster::start(&server);
    cluster.holder().await;
    let bought = cluster
        .buys(&[0, 1, 2], async || {
            for _ in 0..2 {
                let server = server.clone();
                let killed = tokio::task::spawn_blocking(move || {
                    server.kill();
                    server.start();
                });
                killed.await.expect("starts again");
                tokio::time::sleep(terms().length / 2).await;
            }
        })
        .await;
    check_books(&bought, &cluster.world.simulator.ledger());
    cluster.all_know(&bought).await;
    cluster.stop().await;
}

fn at(port: u16, name: &str, lease: LeaseTerms) -> At {
    let patience = Duration::from_secs(5);
    let name = name.to_owned();
    At { port, name, reply_timeout: patience, give_up_after: patience, lease }
}

/// Whoever asks for a store that another has is told who that is, and whether anybody reads requests.
/// A request that is put again is a new one: what was replied to it before is no answer.
async fn holder_is_named_and_replies_are_forgotten(server: Server) {
    let at = at(server.port(), "named", LeaseTerms::default());
    let share = || server.share(at.clone()).expect("it is shared");
    let (first, second) = (share(), share());
    let alone = server.open(at.clone()).await.expect("opens");
    assert!(second.open().await.expect("works").is_none());
    let holder = second.holder().await.expect("works");
    assert_eq!(holder, Some(Holder { alone: true, account: None }));
    alone.close().await.expect("closes");
    first.introduce(AccountId(7));
    let free = async {
        loop {
            // The server lets go of a session a moment after it was closed.
            if let Some(held) = first.open().await.expect("works") {
                return held;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let held = tokio::time::timeout(Duration::from_secs(5), free).await.expect("it is free");
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

/// The server gives the session of a router up that was stopped or cut off. That router does not know,
/// and sends until its lease ends: no other has the store before that, and it has it no more after.
async fn router_alone_is_not_replaced_before_its_gates_have_closed(server: Server) {
    let (proxy, terms) = (Proxy::start(server.port()), server.short_lease());
    let first = server.open(at(proxy.port(), "alone", terms)).await.expect("opens");
    let lease = first.lease().expect("a router alone has one");
    assert!(lease.may_send());
    proxy.refuse(true);
    proxy.cut();
    let second = server.open(at(server.port(), "alone", terms)).await.expect("opens");
    assert!(!lease.may_send() && !lease.is_lost(), "it ends by its own clock alone");
    assert!(second.lease().expect("it has one").epoch() > lease.epoch());
    // It is back, and asks for more time: the store is the other's.
    proxy.refuse(false);
    let lost = async {
        while !lease.is_lost() {
            assert!(!lease.may_send(), "it was prolonged over another's");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), lost).await.expect("it is told");
    second.close().await.expect("closes");
}
