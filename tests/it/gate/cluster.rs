//! Several nodes on one store, behind the same gate as a node with another.

use order_router::cluster::{Node as Member, Role};
use order_router::store::LeaseTerms;
use order_router::store::redis::{RedisConfig, shared};

use super::*;

/// A member of a cluster on one namespace of Redis.
fn member(world: &World, store: &Redis, gate_url: &str) -> Member {
    let mut config = RedisConfig::new(&store.url("behind_a_gate")).unwrap();
    let (length, margin, pause_max) = (900 * MILLIS, 150 * MILLIS, 300 * MILLIS);
    config.lease = LeaseTerms { length, margin, pause_max };
    let gate = gate("cluster", &StoreMark::of_place("behind_a_gate"), gate_url, terms());
    let (supplier, config_of) = (world.supplier(), world.config.clone());
    Member::start_with_gate(supplier, shared(config), Some(gate), config_of, Runtime::system())
}

async fn told(member: &Member, order: Order) -> Result<End, SubmitError> {
    let mut ticket = member.track(order)?;
    loop {
        match ticket.next().await {
            Some(Progress::Ended(end)) => return Ok(end),
            Some(Progress::Failed(error)) => return Err(error),
            Some(_) => {}
            None => return Err(SubmitError::Stopped),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gate_says_reaches_a_caller_at_a_standby() {
    let (Some(live), Some(store)) = (Live::memcached(), Redis::shared()) else { return };
    let single = Node::start("single", &live.url(), terms(), Faults::default()).await;
    let world = World::new(Faults::default());
    let members = [member(&world, &store, &live.url()), member(&world, &store, &live.url())];
    let holder = async {
        loop {
            if let Some(at) = members.iter().position(|member| member.role() == Role::Holder) {
                return at;
            }
            tokio::time::sleep(10 * MILLIS).await;
        }
    };
    let holder = tokio::time::timeout(Duration::from_secs(20), holder).await.expect("one holds");
    let (holder, standby) = (&members[holder], &members[1 - holder]);
    buy(&single.router, order("single", "p", 1)).await;
    placed(&told(standby, order("cluster", "q", 1)).await.unwrap());
    for member in [standby, holder] {
        is_elsewhere(&told(member, order("single", "p", 1)).await, "single");
        let other = told(member, order("single", "p", 2)).await;
        assert!(matches!(other, Err(SubmitError::Conflict { .. })), "{other:?}");
    }
    single.until_recorded("cluster", &order("cluster", "q", 1)).await;
    assert_eq!((single.ledger(), world.simulator.ledger().len()), (1, 1), "one order each");
    for member in &members {
        member.shutdown(Duration::ZERO).await;
    }
}
