//! What only another router of this crate asks for, against a server of the tests' own.

use std::time::Duration;

use super::{RedisConfig, Server};
use crate::store::Request;
use crate::store::ledger::{Fault, Meeting};

#[allow(dead_code, reason = "shared with the integration tests, which use all of it")]
#[path = "../../../tests/it/servers/redis.rs"]
mod servers;

const PASSWORD: &str = "canary-pa55";

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

/// Says aloud that tests are skipped; where servers are to be there, fails.
fn skipped(what: &str) {
    let wanted = std::env::var_os("TEST_STORES").is_some_and(|value| !value.is_empty());
    assert!(!wanted, "{what}, and skipping is not allowed here");
    eprintln!("SKIPPED: {what}");
}

const LENGTH: Duration = Duration::from_millis(300);

async fn connected(server: &servers::Redis) -> Server {
    let config = RedisConfig::new(&server.url("meeting")).expect("a URL");
    Server::connect(&config).await.expect("connects")
}

#[tokio::test]
async fn lease_has_one_holder_and_each_a_higher_epoch() {
    let Some(server) = servers::Redis::start(&[]) else { return };
    let (one, two) = (connected(&server).await, connected(&server).await);
    let held = |epoch: Result<Option<u64>, Fault>| epoch.expect("answered");
    let first = held(one.acquire("one", LENGTH).await).expect("nobody has it");
    assert_eq!(held(two.acquire("two", LENGTH).await), None);
    // Its own, at once, and anew.
    let again = held(one.acquire("one", LENGTH).await).expect("it is its own");
    assert!(again > first);
    let second = loop {
        if let Some(epoch) = held(two.acquire("two", LENGTH).await) {
            break epoch;
        }
    };
    assert!(second > again);
    // Whoever has it no more gives nothing back.
    use crate::store::ledger::Backend;
    one.release(again).await;
    assert_eq!(held(one.acquire("one", LENGTH).await), None);
    two.release(second).await;
    assert!(held(one.acquire("one", LENGTH).await).expect("it was given back") > second);
}

#[tokio::test]
async fn requests_are_put_once_read_oldest_first_and_answered() {
    let Some(server) = servers::Redis::start(&[]) else { return };
    let (one, two) = (connected(&server).await, connected(&server).await);
    let request =
        |at: usize| Request { key: format!("r{at} {{x}}"), order: vec![at as u8, 0, 255] };
    let all: Vec<_> = (0..5).map(request).collect();
    for part in [&all[..2], &all[1..4], &all[4..]] {
        one.put_requests(part).await.expect("put");
    }
    // What is there is not overwritten.
    let other = Request { key: all[0].key.clone(), order: vec![9] };
    two.put_requests(&[other]).await.expect("put");
    let mut found = two.requests(100).await.expect("read");
    found.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(found, all);
    let oldest = two.requests(2).await.expect("read");
    assert!(oldest.iter().all(|request| all[..2].contains(request)), "{oldest:?}");
    let keys: Vec<_> = all.iter().map(|request| request.key.clone()).collect();
    let settled = [(keys[0].clone(), Some(vec![0, 13, 10])), (keys[1].clone(), None)];
    for _ in 0..2 {
        two.settle_requests(&settled).await.expect("settled");
    }
    assert_eq!(two.requests(100).await.expect("read").len(), 3);
    let replies = one.replies(&keys).await.expect("read");
    assert_eq!(replies, [Some(vec![0, 13, 10]), None, None, None, None]);
    let reply = format!("{{meeting}}:p:{}", keys[0]);
    let left: u64 = server.cli(&["PTTL", &reply]).parse().expect("a number");
    assert!((540_000..=600_000).contains(&left), "{left}");
    // One that was answered is asked anew like one that was let go: its old reply is forgotten.
    one.put_requests(&all[..2]).await.expect("put");
    assert_eq!(two.requests(100).await.expect("read").len(), 5);
    assert_eq!(one.replies(&keys[..1]).await.expect("read"), [None]);
    assert!(one.replies(&[]).await.expect("read").is_empty());
    assert!(one.requests(0).await.expect("read").is_empty());
}
