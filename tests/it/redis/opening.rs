//! What is met when a store is opened: each thing has its own message, none shows the password.

use std::io::{Read, Write};

use super::*;

/// The error of opening; it never shows the password.
async fn refused(config: RedisConfig) -> RedisError {
    let error = RedisStore::open(config).await.map(|_| ()).expect_err("it does not open");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(PASSWORD) && !shown.contains("canary"), "{shown}");
    error
}

#[tokio::test]
async fn server_that_is_down_or_refuses_is_told_apart() {
    let Some(server) = Redis::shared() else { return };
    let down = refused(config(&server.url_at(free_port(), "s"))).await;
    assert!(matches!(&down, RedisError::Unreachable { .. }), "{down:?}");
    assert!(down.to_string().contains("127.0.0.1"), "{down}");
    let url = server.url("s");
    let login = format!("router:{PASSWORD}@");
    for (from, to) in [
        (PASSWORD, "canary-wrong"),
        ("router:", "nobody:"),
        ("router:", ":nearly-"),
        (login.as_str(), ""),
    ] {
        let error = refused(config(&url.replace(from, to))).await;
        assert!(matches!(error, RedisError::Refused { .. }), "{to}: {error:?}");
    }
    let error = refused(config(&url.replace("/0?", "/999?"))).await;
    assert!(matches!(error, RedisError::Unusable { .. }), "{error:?}");
    assert_eq!(server.cli(&["KEYS", "{s}:*"]), "");
    // The password alone is the default user's.
    let store = open(&server.url(&namespace()).replace("router:", ":")).await;
    done(&*store, Change::Resume).await;
}

/// Answers what it is sent first, and whatever comes later, with always the same.
fn parrot(first: &'static str, later: &'static str) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let (mut buffer, mut says) = ([0; 4096], first);
                while let Ok(1..) = socket.read(&mut buffer) {
                    if socket.write_all(says.as_bytes()).is_err() {
                        break;
                    }
                    says = later;
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn what_is_no_redis_is_told_and_not_believed() {
    let url = |port| format!("redis://router:{PASSWORD}@127.0.0.1:{port}");
    for says in ["HTTP/1.1 400 Bad Request\r\n\r\n", "ERROR\r\n"] {
        let error = refused(config(&url(parrot(says, says)))).await;
        assert!(matches!(&error, RedisError::Unusable { why, .. } if why.contains("not Redis")));
    }
    // A server that repeats what it does not understand.
    let says = "-ERR unknown command 'AUTH', with args beginning with: 'router' 'canary-pa55'\r\n";
    let error = refused(config(&url(parrot(says, says)))).await;
    assert!(!matches!(error, RedisError::Unreachable { .. }), "{error:?}");
    let says = "-ERR canary-pa55 is what you said\r\n";
    assert!(matches!(refused(config(&url(parrot(says, says)))).await, RedisError::Refused { .. }));
    // The same later, where the client passes on what a server says.
    let says = "-ERR canary-pa55\r\n-ERR canary-pa55\r\n-ERR x\r\n-ERR x\r\n-ERR x\r\n";
    let error = refused(config(&url(parrot("+OK\r\n", says)))).await;
    assert!(error.to_string().contains("***"), "{error}");
    // It says yes to everything.
    let says = "+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n";
    let error = refused(config(&url(parrot("+OK\r\n", says)))).await;
    assert!(matches!(&error, RedisError::Unusable { why, .. } if why.contains("version")));
}

#[tokio::test]
async fn server_that_does_not_answer_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut config = config(&format!("redis://u:{PASSWORD}@127.0.0.1:{port}"));
    config.connect_timeout = Duration::from_millis(200);
    let error = refused(config).await;
    assert!(matches!(&error, RedisError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn second_router_on_a_namespace_is_refused_and_another_namespace_is_not() {
    let Some(server) = Redis::shared() else { return };
    let (name, other) = (namespace(), namespace());
    let first = RedisStore::open(short(&server.url(&name))).await.expect("opens");
    let began = std::time::Instant::now();
    let second = refused(short(&server.url(&name))).await;
    let waited = began.elapsed();
    let RedisError::InUse { holder, left, .. } = &second else { panic!("{second:?}") };
    assert!(holder.contains(&format!("process {}", std::process::id())), "{second}");
    assert!(*left <= Duration::from_millis(400), "{second}");
    assert!(waited >= Duration::from_millis(400), "given up after {waited:?}");
    let beside = open(&server.url(&other)).await;
    for store in [&first, &beside] {
        done(&**store, accept(&**store, "same").0).await;
    }
    // Given back: the next one need not wait, however long the lease.
    first.close().await.expect("closes");
    let next = open(&server.url(&name)).await;
    done(&*next, Change::Resume).await;
}

/// A host may call a router by a name: then its next start need not wait for its last.
#[tokio::test]
async fn router_that_is_called_as_the_last_one_takes_over_at_once() {
    let Some(server) = Redis::shared() else { return };
    let name = namespace();
    let mut named = config(&server.url(&name));
    named.node = "router-0".to_owned();
    let first = RedisStore::open(named.clone()).await.expect("opens");
    done(&*first, accept(&*first, "a").0).await;
    let second = RedisStore::open(named).await.expect("opens");
    done(&*second, accept(&*second, "b").0).await;
    let why = latched(&*first, accept(&*first, "c").0).await;
    assert!(why.contains("router-0, epoch 2"), "{why}");
}

#[tokio::test]
async fn keys_of_a_newer_version_or_in_part_deleted_are_refused() {
    let Some(server) = Redis::shared() else { return };
    let name = namespace();
    let store = open(&server.url(&name)).await;
    bought(&*store, "r", "o1").await;
    store.close().await.expect("closes");
    let books = format!("{{{name}}}:books");
    server.cli(&["HSET", &books, "version", "2"]);
    let error = refused(config(&server.url(&name))).await;
    assert!(matches!(error, RedisError::NewerVersion { found: 2, known: 1 }), "{error:?}");
    server.cli(&["HSET", &books, "version", "1"]);
    // Its standing is not what was written.
    let standing = server.cli(&["HSTRLEN", &books, "standing"]).parse::<usize>().unwrap();
    server.cli(&["HSET", &books, "standing", &"x".repeat(standing)]);
    let error = refused(config(&server.url(&name))).await;
    assert!(matches!(&error, RedisError::Unusable { why, .. } if why.contains("damaged")));
    server.cli(&["HDEL", &books, "standing"]);
    let error = refused(config(&server.url(&name))).await;
    assert!(matches!(&error, RedisError::Unusable { why, .. } if why.contains("standing")));
    server.cli(&["DEL", &books]);
    let error = refused(config(&server.url(&name))).await;
    assert!(matches!(&error, RedisError::Unusable { why, .. } if why.contains("deleted")));
    server.cli(&["SET", &books, "another program's"]);
    let error = refused(config(&server.url(&name))).await;
    assert!(matches!(&error, RedisError::Unusable { why, .. } if why.contains("WRONGTYPE")));
}

#[tokio::test]
async fn open_orders_that_are_missing_are_noticed_at_the_start() {
    let Some(server) = Redis::shared() else { return };
    let name = namespace();
    let store = open(&server.url(&name)).await;
    for reference in ["a", "b"] {
        done(&*store, accept(&*store, reference).0).await;
    }
    store.close().await.expect("closes");
    server.cli(&["HDEL", &format!("{{{name}}}:active"), "a"]);
    let error = refused(config(&server.url(&name))).await;
    assert!(matches!(&error, RedisError::Unusable { why, .. } if why.contains("2 were")));
    // The lease is given back: the next try is told the same at once.
    let error = refused(config(&server.url(&name))).await;
    assert!(matches!(&error, RedisError::Unusable { .. }), "{error:?}");
}

#[tokio::test]
async fn server_that_may_lose_what_it_answers_is_refused_unless_that_is_accepted() {
    for (settings, named, window) in [
        ("appendonly no", "appendonly no", "everything since its last snapshot"),
        ("appendfsync everysec", "appendfsync everysec", "up to two seconds"),
        ("appendfsync no", "appendfsync no", "half a minute"),
        ("no-appendfsync-on-rewrite yes", "no-appendfsync-on-rewrite yes", "since the rewrite"),
    ] {
        let Some(server) = Redis::start(&[settings]) else { return };
        let mut config = config(&server.url("s"));
        let error = refused(config.clone()).await;
        let RedisError::Unsynced { setting, .. } = &error else { panic!("{settings}: {error:?}") };
        assert_eq!(setting, named);
        assert!(error.to_string().contains(window), "{error}");
        assert_eq!(server.cli(&["KEYS", "*"]), "", "something was written");
        config.accept_unsynced = true;
        let store = RedisStore::open(config).await.expect("opens");
        assert_eq!(store.durability(), Durability::Unsynced);
        done(&*store, Change::Resume).await;
    }
}

/// A user that may not ask for settings, and one that may not write.
#[tokio::test]
async fn user_without_rights_is_told_what_is_missing() {
    let Some(server) = Redis::start(&[]) else { return };
    let user = |name: &str, rights: &[&str]| {
        let mut words = vec!["ACL", "SETUSER", name, "on"];
        let password = format!(">{PASSWORD}");
        words.push(&password);
        words.extend(["~*", "+@all"]);
        words.extend(rights);
        server.cli(&words);
        config(&server.url("s").replace("router:", &format!("{name}:")))
    };
    let mut hidden = user("hidden", &["-config"]);
    let error = refused(hidden.clone()).await;
    let RedisError::Unsynced { setting, .. } = &error else { panic!("{error:?}") };
    assert!(setting.contains("CONFIG: NOPERM"), "{setting}");
    hidden.accept_unsynced = true;
    let store = RedisStore::open(hidden).await.expect("opens");
    assert_eq!(store.durability(), Durability::Unsynced);
    store.close().await.expect("closes");
    let error = refused(user("blind", &["-info"])).await;
    assert!(matches!(error, RedisError::Refused { .. }), "{error:?}");
    let error = refused(user("elsewhere", &["resetkeys", "~other:*"])).await;
    assert!(matches!(error, RedisError::Refused { .. }), "{error:?}");
    let error = refused(user("reader", &["-@write"])).await;
    let said = "The user executing the script can't run";
    assert!(matches!(&error, RedisError::Unusable { why, .. } if why.contains(said)), "{error:?}");
}

#[tokio::test]
async fn server_that_throws_keys_away_is_refused_even_if_loss_is_accepted() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let Some(server) = Redis::start(&[&format!("maxmemory-policy {policy}")]) else { return };
        let mut config = config(&server.url("s"));
        config.accept_unsynced = true;
        let error = refused(config).await;
        assert!(matches!(&error, RedisError::Evicts { policy: p, .. } if p == policy), "{error:?}");
    }
}

#[tokio::test]
async fn replica_is_refused() {
    let Some(server) = Redis::shared() else { return };
    let replicaof = format!("replicaof 127.0.0.1 {}", server.port);
    let replica = Redis::start(&[&replicaof]).expect("the same program");
    let error = refused(config(&replica.url("s"))).await;
    assert!(matches!(error, RedisError::ReadOnly { .. }), "{error:?}");
}

/// Two nodes of a cluster, of which the other has the keys.
#[tokio::test]
async fn cluster_is_followed_to_the_node_that_has_the_keys() {
    let settings = ["cluster-enabled yes", "cluster-port BUS"];
    let Some(owner) = Redis::start(&settings) else { return };
    let other = Redis::start(&settings).expect("the same program");
    assert_eq!(owner.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "OK");
    let (port, bus) = (owner.port.to_string(), owner.bus.to_string());
    assert_eq!(other.cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]), "OK");
    let ready = |server: &Redis| server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
    while !(ready(&owner) && ready(&other)) {
        tokio::task::yield_now().await;
    }
    let name = namespace();
    let store = open(&other.url(&name)).await;
    bought(&*store, "r", "o1").await;
    assert_eq!(changes(&owner, &name), "2");
    assert_eq!(store.known_since(Serial(0)).await.expect("works").len(), 1);
    let moved = other.cli(&["HGET", &format!("{{{name}}}:books"), "changes"]);
    assert!(moved.contains("MOVED"), "{moved}");
}
