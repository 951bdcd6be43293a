//! Two routers, one store: only one of them has it, and what the other still writes leaves nothing.

use std::sync::Arc;
use std::time::Duration;

use super::faults::failed;
use super::{Direction, Server, Way, within};
use crate::protocol::{Change, Learnt, State};
use crate::store::{Committed, Lease};
use crate::testing::conformance::{Bench, decide, order, placed, reference};

/// While one router has the store another is refused, and what the first does is not disturbed; once
/// the first has closed, the other is let in and finds everything.
pub async fn a_second_router_is_let_in_once_the_first_has_closed(server: &Server) {
    let way = Way::short(server);
    let first = way.open().await;
    first.queued("before", "a").await;
    let second = within("being refused", server.open(way.past_the_proxy())).await;
    let why = second.map(|_| ()).expect_err("two routers have one store");
    way.keeps_secrets(&why);
    let ids = first.sending("after", "a").await;
    first.done(decide(ids, placed("o1", Learnt::Answer))).await;
    first.store.close().await.expect("closes");
    let second = way.open_elsewhere().await;
    assert_eq!(second.state("before").await, State::Queued);
    assert!(second.state("after").await.is_end());
    assert!(second.store.next_serial() > ids.1, "numbers are handed out again");
}

/// A store whose router was cut off from the server, and the store of the router that took over.
async fn taken_over(way: &Way, first: &Bench) -> Bench {
    let lease = first.store.lease();
    assert!(lease.as_ref().is_none_or(|lease| lease.may_send()), "it may not send");
    way.proxy.refuse(true);
    way.proxy.cut();
    let second = way.open_elsewhere().await;
    assert!(lease.as_ref().is_none_or(|lease| !lease.may_send()), "two routers may send");
    if let (Some(old), Some(new)) = (lease, second.store.lease()) {
        assert!(new.epoch() > old.epoch(), "{old:?}, {new:?}");
        // Where the machine is busy it may have been prolonged late.
        let may_send = async {
            while !new.may_send() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("a lease under which it may send", may_send).await;
    }
    way.proxy.refuse(false);
    second
}

/// Its connection is gone and its lease over; another router took the store. What the first still
/// writes is refused whole, it stays refused, and its end takes nothing from the second.
pub async fn a_router_that_was_cut_off_writes_nothing_after_a_takeover(server: &Server) {
    let way = Way::short(server);
    let first = way.open().await;
    let ids = first.sending("mine", "a").await;
    let second = taken_over(&way, &first).await;
    let before = way.changes().await;
    let late = first.store.commit(decide(ids, placed("o1", Learnt::Answer)));
    failed(&way, within("an answer", late).await);
    assert_eq!(way.changes().await, before, "something of it is written");
    let claims = second.store.claims(vec![order("o1")]).await.expect("works");
    assert_eq!(claims, [None]);
    assert!(matches!(second.state("mine").await, State::Sending(_)));
    // Latched: also what needs no guard, also questions.
    failed(&way, first.store.commit(Change::Resume).await);
    failed(&way, first.store.find(reference("mine")).await);
    let lease = first.store.lease();
    if let Some(lease) = &lease {
        within("the end of the lease", async {
            while !lease.left().is_zero() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
    first.store.close().await.ok();
    drop(first);
    let second_lease = second.store.lease();
    assert!(second_lease.as_ref().is_none_or(|lease| lease.may_send()), "it lost its lease");
    second.done(decide(ids, placed("o1", Learnt::Answer))).await;
    if let Some(lease) = &second_lease {
        prolonged(lease).await;
    }
}

/// What the new holder wrote is no answer of the old one's: numbers are given out anew, and under one
/// of them is another order.
pub async fn a_router_that_was_cut_off_joins_nothing_of_the_new_one(server: &Server) {
    let way = Way::short(server);
    let first = way.open().await;
    first.queued("early", "a").await;
    let second = taken_over(&way, &first).await;
    second.queued("its", "a").await;
    let intent = first.intent("its", "a");
    let told = first.store.commit(Change::Accept { intent, attempt: None });
    failed(&way, within("an answer", told).await);
    let intent = second.intent("its", "a");
    let told = second.commit(Change::Accept { intent, attempt: None }).await;
    assert!(matches!(told, Committed::Joined(_)), "{told:?}");
}

/// The answer of a change is lost and the way cut, before it can be read back another router takes
/// over: for it the change is there or not, whole, whatever its caller was told.
pub async fn a_change_in_doubt_at_a_takeover_is_whole_or_absent(server: &Server) {
    for nth in 0..3 {
        let way = Way::short(server);
        let first = way.open().await;
        let ids = first.sending("mine", "a").await;
        way.proxy.lose(Direction::Answer, nth);
        let doubtful = first.store.commit(decide(ids, placed("o1", Learnt::Answer)));
        let doubtful = tokio::spawn(doubtful);
        within("the loss", async {
            while way.proxy.lost() == 0 && !doubtful.is_finished() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let second = taken_over(&way, &first).await;
        let claimed = second.store.claims(vec![order("o1")]).await.expect("works")[0].is_some();
        match second.state("mine").await {
            State::Placed { id, .. } => assert!(claimed && id.as_str() == "o1"),
            State::Sending(_) => {
                assert!(!claimed, "half of a change");
                second.done(decide(ids, placed("o1", Learnt::Answer))).await;
            }
            other => panic!("{other:?}"),
        }
        let told = within("an answer", doubtful).await.expect("no panic");
        assert!(matches!(told, Err(_) | Ok(Committed::Done)), "{told:?}");
        failed(&way, within("an answer", first.store.commit(Change::Resume)).await);
        assert!(second.state("mine").await.is_end());
    }
}

/// Waits until a lease lasts longer than it did a moment ago.
async fn prolonged(lease: &Arc<Lease>) {
    let mut before = lease.left();
    loop {
        let left = lease.left();
        if left > before {
            return;
        }
        assert!(lease.may_send(), "lost");
        before = left;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The store under a lease, where there is such a thing.
async fn leased(way: &Way) -> Option<Bench> {
    let bench = way.open().await;
    if bench.store.lease().is_some() {
        return Some(bench);
    }
    bench.store.close().await.expect("closes");
    let shared = way.server.share(way.at.clone())?;
    let taken = within("the lease", shared.open()).await.expect("works");
    Some(Bench::new(taken.expect("the lease is free")))
}

/// A lease is prolonged over cut connections and one that hangs; without any it ends by the router's
/// own clock, and nothing is sent any more.
pub async fn a_lease_outlives_cut_connections_and_ends_without_any(server: &Server) {
    let mut way = Way::short(server);
    way.at.lease.length *= 2;
    let Some(bench) = leased(&way).await else { return };
    let lease = bench.store.lease().expect("a store that is shared has a lease");
    for _ in 0..3 {
        way.proxy.cut();
        within("a renewal", prolonged(&lease)).await;
    }
    // No answer for a third of it, and the connection is not what the next one waits for.
    way.proxy.silence(true);
    tokio::time::sleep(way.at.lease.length * 2 / 5).await;
    way.proxy.refuse(true);
    way.proxy.cut();
    way.proxy.silence(false);
    way.proxy.refuse(false);
    within("a renewal", prolonged(&lease)).await;
    way.proxy.refuse(true);
    way.proxy.cut();
    // It was asked for before now.
    tokio::time::sleep(way.at.lease.length).await;
    assert!(!lease.may_send() && lease.left().is_zero(), "it lasts without its server");
}
