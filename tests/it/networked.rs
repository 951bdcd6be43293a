//! The stores on servers: the public suite, and the whole router, over everything that the way to a
//! server and the server itself may do.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use order_router::Order;
use order_router::protocol::Serial;
use order_router::simulator::Faults;
use order_router::store::dynamodb::{self, Credentials, DynamoDbConfig, create_table};
use order_router::store::postgres::{PostgresConfig, PostgresStore, SharedPostgres};
use order_router::store::redis::{self, RedisConfig, RedisStore};
use order_router::store::{LeaseTerms, SharedStore};
use order_router::testing::conformance::Store;
use order_router::testing::conformance::network::{self, At, Direction, Networked, Proxy, Server};

use super::dynamodb::Raw;
use super::router::{World, buy, check_books, order};
use super::servers::{DynamoDb, PASSWORD, Postgres, Redis, SECRET_KEY, dynamodb_at};

mod toy;

/// What is shown of an error, in every way.
fn shown(error: impl std::error::Error) -> String {
    format!("{error} {error:?}")
}

impl Postgres {
    fn config(&self, at: &At) -> PostgresConfig {
        let mut config = PostgresConfig::new(&self.url_at(at.port, &at.name)).expect("a URL");
        config.reply_timeout = at.reply_timeout;
        config.give_up_after = at.give_up_after;
        config.lease = Some(at.lease);
        config
    }
}

impl Networked for Postgres {
    fn port(&self) -> u16 {
        self.port
    }

    fn open(&self, at: At) -> BoxFuture<'static, Result<Store, String>> {
        let opening = PostgresStore::open(self.config(&at));
        async move { Ok(Arc::new(opening.await.map_err(shown)?) as Store) }.boxed()
    }

    fn share(&self, at: At) -> Option<Arc<dyn SharedStore>> {
        Some(Arc::new(SharedPostgres::new(self.config(&at))))
    }

    fn kill(&self) {
        Self::kill(self);
    }

    fn start(&self) {
        self.run();
    }

    fn read_only(&self, on: bool) -> bool {
        let on = if on { "on" } else { "off" };
        self.sql(&format!("ALTER SYSTEM SET default_transaction_read_only = {on}"));
        self.sql("SELECT pg_reload_conf()");
        while self.sql("SHOW default_transaction_read_only") != on {}
        true
    }

    fn changes(&self, name: &str) -> Option<u64> {
        self.sql(&format!("SELECT changes FROM {name}.order_router")).parse().ok()
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.to_owned()]
    }
}

impl Redis {
    fn config(&self, at: &At) -> RedisConfig {
        let mut config = RedisConfig::new(&self.url_at(at.port, &at.name)).expect("a URL");
        config.reply_timeout = at.reply_timeout;
        config.give_up_after = at.give_up_after;
        config.lease = at.lease;
        config
    }
}

impl Networked for Redis {
    fn port(&self) -> u16 {
        self.port
    }

    fn open(&self, at: At) -> BoxFuture<'static, Result<Store, String>> {
        let opening = RedisStore::open(self.config(&at));
        async move { opening.await.map_err(shown) }.boxed()
    }

    fn share(&self, at: At) -> Option<Arc<dyn SharedStore>> {
        Some(redis::shared(self.config(&at)))
    }

    fn kill(&self) {
        Self::kill(self);
    }

    fn start(&self) {
        self.run();
    }

    fn read_only(&self, on: bool) -> bool {
        // The port of nobody: it stays what it is.
        let [host, port] = if on { ["127.0.0.1", "1"] } else { ["NO", "ONE"] };
        self.cli(&["REPLICAOF", host, port]) == "OK"
    }

    fn changes(&self, name: &str) -> Option<u64> {
        let changes = self.cli(&["HGET", &format!("{{{name}}}:books"), "changes"]);
        Some(changes.parse().unwrap_or(0))
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.to_owned()]
    }
}

impl DynamoDb {
    fn config(at: &At) -> DynamoDbConfig {
        let keys = Credentials::new("AKIATEST", SECRET_KEY, None, None, "tests");
        let config = DynamoDbConfig::new(&dynamodb_at(at.port, &at.name)).expect("a URL");
        let mut config = config.credentials(keys);
        config.reply_timeout = at.reply_timeout;
        config.give_up_after = at.give_up_after;
        config.lease = at.lease;
        config
    }
}

impl Networked for DynamoDb {
    fn port(&self) -> u16 {
        self.port
    }

    fn open(&self, at: At) -> BoxFuture<'static, Result<Store, String>> {
        let config = Self::config(&at);
        async move {
            create_table(&config).await.map_err(shown)?;
            dynamodb::open(config).await.map_err(shown)
        }
        .boxed()
    }

    fn share(&self, at: At) -> Option<Arc<dyn SharedStore>> {
        let runtime = tokio::runtime::Handle::current();
        let made = Self::config(&At { port: self.port, ..at.clone() });
        let made = runtime.spawn(async move { create_table(&made).await });
        tokio::task::block_in_place(|| runtime.block_on(made)).unwrap().expect("makes the table");
        Some(dynamodb::shared(Self::config(&at)))
    }

    fn kill(&self) {
        Self::kill(self);
    }

    fn start(&self) {
        self.run();
    }

    /// The local server takes one request after the other.
    fn short_lease(&self) -> LeaseTerms {
        let millis = Duration::from_millis;
        LeaseTerms { length: millis(2_400), margin: millis(300), pause_max: Duration::ZERO }
    }

    /// It keeps all in memory.
    fn keeps(&self) -> bool {
        false
    }

    fn changes(&self, name: &str) -> Option<u64> {
        let raw = Raw::at(self.port, name);
        let counted = raw.number("meta", "change_count");
        Some(tokio::runtime::Handle::current().block_on(counted))
    }

    fn secrets(&self) -> Vec<String> {
        vec![SECRET_KEY.to_owned()]
    }
}

/// A test on each of the servers, which is the test's own.
macro_rules! on_each_server {
    ($($name:ident),* $(,)?) => {
        $crate::networked::on_each_server!(@ on_postgres, $crate::servers::Postgres, $($name),*);
        $crate::networked::on_each_server!(@ on_redis, $crate::servers::Redis, $($name),*);
        $crate::networked::on_each_server!(@ on_dynamodb, $crate::servers::DynamoDb, $($name),*);
    };
    (@ $server:ident, $kind:ty, $($name:ident),*) => {
        mod $server {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let Some(server) = <$kind>::start(&[]) else { return };
                    super::$name(std::sync::Arc::new(server)).await;
                }
            )*
        }
    };
}
pub(crate) use on_each_server;

on_each_server![conforms, each_order_is_bought_once_over_faults_of_the_server_and_a_new_router];

async fn conforms(server: Server) {
    network::test_all(server).await;
}

/// A service that has forgotten by which token a batch was sent: ten minutes are over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamodb_without_tokens_conforms_where_messages_are_lost() {
    let Some(server) = DynamoDb::start(&["no-tokens"]) else { return };
    let server: Server = Arc::new(server);
    network::a_change_is_in_once_whatever_is_lost_on_the_way(&server).await;
}

/// A few hundred orders from a faulty supplier; on the way answers are lost and connections cut, and
/// the server is killed where it keeps what it acknowledged; then the router is stopped and another
/// takes over. One order each.
async fn each_order_is_bought_once_over_faults_of_the_server_and_a_new_router(server: Server) {
    const ORDERS: usize = 240;
    let proxy = Proxy::start(server.port());
    let at = At {
        port: proxy.port(),
        name: "router".to_owned(),
        reply_timeout: Duration::from_secs(5),
        give_up_after: Duration::from_secs(30),
        lease: LeaseTerms { pause_max: Duration::ZERO, ..LeaseTerms::default() },
    };
    let faults = Faults { reset_after: 0.1, reset_before: 0.1, ..Faults::default() };
    let mut world = World::new(faults);
    world.store = server.open(at.clone()).await.expect("opens");
    let router = world.ready().await;
    let orders: Vec<Order> =
        (0..ORDERS).map(|at| order(&format!("c{at}"), &format!("p{}", at % 7), 1)).collect();
    let (count, mut counted) = tokio::sync::watch::channel(0_usize);
    let mut tasks = tokio::task::JoinSet::new();
    for (at, order) in orders.into_iter().enumerate() {
        let (router, count) = (router.clone(), count.clone());
        tasks.spawn(async move {
            // The others come while the server is gone, and after.
            let mut counted = count.subscribe();
            let wanted = if at >= ORDERS / 3 { ORDERS / 6 } else { 0 };
            counted.wait_for(|count| *count >= wanted).await.expect("they go on");
            let end = buy(&router, order.clone()).await;
            count.send_modify(|count| *count += 1);
            (order, end)
        });
    }
    for (number, fault) in ["lose", "kill", "cut", "lose"].into_iter().enumerate() {
        let enough = (number + 1) * ORDERS / 6;
        counted.wait_for(|count| *count >= enough).await.expect("they go on");
        match fault {
            "lose" => proxy.lose(Direction::Answer, number),
            "kill" if server.keeps() => {
                let server = server.clone();
                let killed = tokio::task::spawn_blocking(move || {
                    server.kill();
                    server.start();
                });
                killed.await.expect("starts again");
            }
            _ => proxy.cut(),
        }
    }
    let bought = tasks.join_all().await;
    check_books(&bought, &world.simulator.ledger());
    router.shutdown(Duration::ZERO).await.expect("stops");
    // Another router knows them all.
    world.store = server.open(At { port: server.port(), ..at }).await.expect("opens");
    let router = world.ready().await;
    for (order, end) in &bought {
        assert_eq!(buy(&router, order.clone()).await, *end);
    }
    check_books(&bought, &world.simulator.ledger());
    let known = world.store.known_since(Serial(0)).await.expect("works");
    let ids: std::collections::BTreeSet<_> = known.iter().map(|known| &known.id).collect();
    assert_eq!((known.len(), ids.len()), (ORDERS, ORDERS));
    // Whose own POST may still land stays until it is settled (rule 9).
    let settled = async {
        while !world.store.rehydrate().await.expect("works").intents.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), settled).await.expect("all are settled");
    router.shutdown(Duration::ZERO).await.expect("stops");
}
