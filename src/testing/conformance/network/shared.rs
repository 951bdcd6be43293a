//! What several routers do through a store that they share: the lease, and requests.

use std::sync::Arc;
use std::time::Duration;

use super::faults::Losses;
use super::{Server, Way, within};
use crate::protocol::{Learnt, State};
use crate::store::{IntentStore, Request, SharedStore};
use crate::testing::conformance::races::at_once;
use crate::testing::conformance::{Bench, decide, placed, reference};

const ROUTERS: usize = 4;

/// The ways of several routers to one store.
fn ways(server: &Server) -> Vec<Way> {
    let first = Way::short(server);
    let name = first.at.name.clone();
    let mut ways = vec![first];
    while ways.len() < ROUTERS {
        let mut way = Way::short(server);
        way.at.name.clone_from(&name);
        ways.push(way);
    }
    ways
}

type Taken = Option<Arc<dyn IntentStore>>;

/// All ask for the lease at the same moment, until one has it.
async fn contend(routers: &[Arc<dyn SharedStore>], but: usize) -> (usize, Bench) {
    let contending = async {
        loop {
            let taken: Vec<Taken> = at_once(routers.len(), |at| {
                let opening = (at != but).then(|| routers[at].open());
                async move {
                    match opening {
                        // What passes is tried again.
                        Some(opening) => opening.await.unwrap_or_default(),
                        None => None,
                    }
                }
            })
            .await;
            let mut taken = taken.into_iter().enumerate().filter_map(|(at, one)| Some((at, one?)));
            if let Some((at, store)) = taken.next() {
                assert_eq!(taken.count(), 0, "several routers have one lease");
                return (at, Bench::new(store));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("a lease", contending).await
}

/// Of many who ask at once one gets the lease. It hands it over when it closes, at once; cut off, it
/// keeps it until it may not send any more. Epochs grow, and the next holder finds everything.
pub async fn one_router_at_a_time_has_the_lease_and_hands_it_over(server: &Server) {
    let ways = ways(server);
    let shared = ways.iter().map(|way| server.share(way.at.clone()));
    let Some(routers) = shared.collect::<Option<Vec<_>>>() else { return };
    let (mut holder, mut bench) = contend(&routers, ROUTERS).await;
    for round in 0..3 {
        let lease = bench.store.lease().expect("a store that is shared has a lease");
        assert!(lease.may_send());
        let ids = bench.sending(&format!("r{round}"), "a").await;
        let others = contend_in_vain(&routers, holder).await;
        assert_eq!(others, 0, "another has the lease as well");
        let cut_off = round == 1;
        if cut_off {
            ways[holder].proxy.refuse(true);
            ways[holder].proxy.cut();
        } else {
            bench.done(decide(ids, placed(&format!("o{round}"), Learnt::Answer))).await;
            bench.store.close().await.expect("closes");
        }
        let (next, new) = contend(&routers, if cut_off { holder } else { ROUTERS }).await;
        assert!(!cut_off || !lease.may_send(), "two routers may send");
        let epoch = new.store.lease().expect("it has one").epoch();
        assert!(epoch > lease.epoch(), "{epoch} after {}", lease.epoch());
        let state = new.state(&format!("r{round}")).await;
        let fits = if cut_off { matches!(state, State::Sending(_)) } else { state.is_end() };
        assert!(fits, "{state:?}");
        ways[holder].proxy.refuse(false);
        (holder, bench) = (next, new);
    }
}

/// How many of the others get the lease while it lasts.
async fn contend_in_vain(routers: &[Arc<dyn SharedStore>], holder: usize) -> usize {
    let mut got = 0;
    for (_, router) in routers.iter().enumerate().filter(|(at, _)| *at != holder) {
        got += usize::from(within("an answer", router.open()).await.unwrap_or_default().is_some());
    }
    got
}

/// Requests of other routers: each is there once, however often it is put, until it is settled; a
/// reply is read by whoever asks for it. Every call is repeated over whatever is lost.
pub async fn requests_are_passed_on_once_whatever_is_lost(server: &Server) {
    let way = Way::to(server);
    let Some(store) = server.share(way.at.clone()) else { return };
    // The tables are made by whoever opens the store first.
    let opened = within("opening", store.open()).await.expect("works").expect("the lease is free");
    let mut losses = Losses::on(&way);
    while let Some(round) = losses.next() {
        within("a round", pass_on(&*store, round)).await;
    }
    opened.close().await.expect("closes");
}

async fn pass_on(store: &dyn SharedStore, round: usize) {
    let request = |at: usize| Request {
        key: format!("key {round} {at}"),
        order: format!("order {round} {at}\0\u{10ffff}").into_bytes(),
    };
    let all = vec![request(0), request(1), request(2)];
    store.put_requests(all.clone()).await.expect("works");
    // Again, as one whose answer was lost is put.
    store.put_requests(all[1..].to_vec()).await.expect("works");
    let mut found = store.requests(100).await.expect("works");
    found.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(found, all, "round {round}");
    let some = store.requests(2).await.expect("works");
    assert!(some.len() <= 2 && some.iter().all(|one| all.contains(one)), "{some:?}");
    let key = |at: usize| all[at].key.clone();
    let settled = vec![(key(0), None), (key(1), Some(b"a reply\0".to_vec()))];
    store.settle_requests(settled.clone()).await.expect("works");
    store.settle_requests(settled).await.expect("works");
    assert_eq!(store.requests(100).await.expect("works"), all[2..]);
    let asked = vec![key(2), key(1), key(0), "nobody's".to_owned()];
    let replies = store.replies(asked).await.expect("works");
    assert_eq!(replies, [None, Some(b"a reply\0".to_vec()), None, None]);
    store.settle_requests(vec![(key(2), None)]).await.expect("works");
    assert_eq!(store.requests(100).await.expect("works"), []);
}

/// Whoever does not have the lease finds what the holder wrote, once it was answered.
pub async fn what_the_holder_wrote_is_found_by_the_others(server: &Server) {
    let ways = ways(server);
    let shared = ways.iter().map(|way| server.share(way.at.clone()));
    let Some(routers) = shared.collect::<Option<Vec<_>>>() else { return };
    let (_, bench) = contend(&routers, ROUTERS).await;
    bench.queued("open", "a").await;
    let ids = bench.sending("ended", "a").await;
    bench.done(decide(ids, placed("o1", Learnt::Answer))).await;
    let expected = [bench.find("ended").await, None, bench.find("open").await];
    let refs = ["ended", "nobody", "open"].map(reference).to_vec();
    for router in &routers {
        assert_eq!(router.find(refs.clone()).await.expect("works"), expected);
    }
    bench.store.close().await.expect("closes");
}
