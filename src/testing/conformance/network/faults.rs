//! The way to the server fails: messages lost, answers late, connections cut, nobody there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Direction, PATIENCE, Server, Way, with, within};
use crate::protocol::{Change, IntentId, Learnt, Serial, State};
use crate::store::{Committed, StoreError};
use crate::testing::conformance::{Bench, WHY, decide, order, placed, reference};

/// A conversation has fewer messages than this.
const MESSAGES_MAX: usize = 200;

/// Each message of a conversation in turn, in either direction, is lost with its connection.
pub(super) struct Losses<'a> {
    way: &'a Way,
    direction: Direction,
    nth: usize,
    /// How often there was a conversation.
    rounds: usize,
}

impl<'a> Losses<'a> {
    pub(super) fn on(way: &'a Way) -> Self {
        Self { way, direction: Direction::Request, nth: 0, rounds: 0 }
    }

    /// Arms the next loss, unless the last conversation was over before it; the conversation's number.
    pub(super) fn next(&mut self) -> Option<usize> {
        if self.rounds > 0 {
            self.nth += 1;
            assert!(self.nth < MESSAGES_MAX, "the store never stops talking");
            if !self.way.proxy.has_lost() {
                assert!(self.nth > 1, "nothing went through the proxy");
                if self.direction == Direction::Answer {
                    return None;
                }
                (self.direction, self.nth) = (Direction::Answer, 0);
            }
        }
        self.way.proxy.lose(self.direction, self.nth);
        self.rounds += 1;
        Some(self.rounds - 1)
    }
}

/// Each message of a commit is lost in turn: a request that never arrived is repeated, and a commit
/// whose answer was lost is read back. Every caller is told what its change did, as if nothing had
/// been lost, and nothing is in twice.
pub async fn a_change_is_in_once_whatever_is_lost_on_the_way(server: &Server) {
    let way = Way::to(server);
    let bench = way.open().await;
    let mut prepared = Vec::new();
    for round in 0..2 {
        prepared.push(prepare(&bench, round).await);
    }
    let before = way.changes().await;
    converse(&bench, 0, prepared[0]).await;
    let grows = way.changes().await.zip(before).map(|(after, before)| after - before);
    converse(&bench, 1, prepared[1]).await;
    let mut losses = Losses::on(&way);
    while let Some(at) = losses.next() {
        // Prepared with the fault there: the loss may be here as well.
        let ids = within("preparing", prepare(&bench, at + 2)).await;
        within("a conversation", converse(&bench, at + 2, ids)).await;
    }
    let rounds = losses.rounds + 2;
    let count = u64::try_from(rounds).unwrap_or(u64::MAX);
    // Three changes prepare a conversation.
    let once = grows.map(|grows| (grows + 3) * count);
    assert_eq!(way.changes().await, once, "written twice, or not at all, in {rounds} rounds");
    let stats = bench.store.stats();
    assert_eq!((stats.open, stats.ended), (count, 2 * count));
    // As another router finds it.
    bench.store.close().await.expect("closes");
    drop(bench);
    let bench = way.open_elsewhere().await;
    assert_eq!(bench.store.rehydrate().await.expect("works").intents.len(), rounds);
    for round in 0..rounds {
        check_round(&bench, round).await;
    }
}

/// Each message of the questions is lost in turn: all are asked again, and answered rightly.
pub async fn a_question_is_answered_whatever_is_lost_on_the_way(server: &Server) {
    let way = Way::to(server);
    let bench = way.open().await;
    let ids = prepare(&bench, 0).await;
    converse(&bench, 0, ids).await;
    let mut losses = Losses::on(&way);
    while losses.next().is_some() {
        within("the questions", check_round(&bench, 0)).await;
    }
}

type Ids = [(IntentId, Serial); 2];

/// Two orders, of which the first has been bought.
async fn prepare(bench: &Bench, round: usize) -> Ids {
    let taken = bench.sending(&format!("taken{round}"), "a").await;
    let ours = bench.sending(&format!("ours{round}"), "b").await;
    bench.done(decide(taken, placed(&format!("x{round}"), Learnt::Answer))).await;
    [taken, ours]
}

/// Changes of every outcome, handed over at once.
async fn converse(bench: &Bench, round: usize, [taken, ours]: Ids) {
    let accept = |name: &str, product| {
        let intent = bench.intent(&format!("{name}{round}"), product);
        Change::Accept { intent, attempt: None }
    };
    let place = |id: &str| decide(ours, placed(&format!("{id}{round}"), Learnt::Answer));
    let changes = [
        accept("new", "c"),
        accept("new", "c"),
        accept("taken", "z"),
        place("x"),
        place("y"),
        place("z"),
    ];
    let Change::Accept { intent: new, .. } = &changes[0] else { unreachable!() };
    let id = new.id;
    let handed = changes.map(|change| bench.store.commit(change));
    let mut told = Vec::new();
    for change in handed {
        told.push(change.await.expect("the store works"));
    }
    use Committed::{Conflict, Done, IdTaken, Joined, Stale};
    match &told[..] {
        [Done, Joined(joined), Conflict, IdTaken(claim), Done, Stale]
            if joined.id == id && claim.intent == taken.0 => {}
        _ => panic!("told wrongly: {told:?}"),
    }
}

/// What is there after a round, by every question.
async fn check_round(bench: &Bench, round: usize) {
    assert_eq!(bench.state(&format!("new{round}")).await, State::Queued);
    let state = bench.state(&format!("ours{round}")).await;
    let owned = format!("y{round}");
    assert!(matches!(&state, State::Placed { id, .. } if id.as_str() == owned), "{state:?}");
    let ids = ["x", "y", "z"].map(|id| order(&format!("{id}{round}"))).to_vec();
    let claims = bench.store.claims(ids).await.expect("works");
    let claimed = [0, 1, 2].map(|at| claims[at].is_some());
    assert_eq!(claimed, [true, true, false]);
    let known = bench.store.known_since(Serial(0)).await.expect("works");
    assert!(known.iter().any(|known| known.id.as_str() == owned), "{known:?}");
    let open = bench.store.rehydrate().await.expect("works").intents;
    let name = reference(&format!("new{round}"));
    assert!(open.iter().any(|stored| stored.client_ref == name), "{open:?}");
}

/// A server that is late is waited for; one that is later than the store waits is asked again, over
/// another connection. Nobody is answered before it answers, and what it did meanwhile is in once.
pub async fn a_slow_server_is_waited_for_and_what_it_did_is_not_repeated(server: &Server) {
    let mut way = Way::to(server);
    way.at.reply_timeout = Duration::from_millis(600);
    let bench = way.open().await;
    let accept = |name: &str| {
        let intent = bench.intent(name, "a");
        Change::Accept { intent, attempt: None }
    };
    let before = way.changes().await;
    bench.done(accept("quick")).await;
    let grows = way.changes().await.zip(before).map(|(after, before)| after - before);
    let late = Duration::from_millis(100);
    way.proxy.delay(late);
    let told = tokio::time::timeout(late / 2, bench.store.commit(accept("late"))).await;
    assert!(told.is_err(), "answered before the server did: {told:?}");
    way.proxy.delay(Duration::ZERO);
    assert_eq!(bench.state("late").await, State::Queued);
    way.proxy.silence(true);
    let mut slow = bench.store.commit(accept("slow"));
    let told = tokio::time::timeout(way.at.reply_timeout * 5 / 2, &mut slow).await;
    assert!(told.is_err(), "answered before the server did: {told:?}");
    way.proxy.silence(false);
    let told = within("an answer", slow).await;
    assert!(matches!(told, Ok(Committed::Done)), "{told:?}");
    let counted = way.changes().await.zip(before).map(|(after, before)| after - before);
    assert_eq!(counted, grows.map(|grows| 3 * grows), "written twice, or not at all");
    let joined = bench.commit(accept("slow")).await;
    assert!(matches!(joined, Committed::Joined(_)), "{joined:?}");
}

/// A server that is away for longer than the store tries: everybody is told, in time and without a
/// secret, and nothing is answered any more, also when the server is back: nobody knows what another
/// router did meanwhile. What was acknowledged is there.
pub async fn a_server_that_stays_away_ends_the_store_for_good(server: &Server) {
    let mut way = Way::short(server);
    way.at.give_up_after = Duration::from_millis(500);
    let bench = way.open().await;
    bench.queued("before", "a").await;
    way.proxy.refuse(true);
    way.proxy.cut();
    let intent = bench.intent("during", "a");
    let waiting = bench.store.commit(Change::Accept { intent, attempt: None });
    let behind = bench.store.commit(Change::Resume);
    for told in [within("the end", waiting).await, within("the end", behind).await] {
        failed(&way, told);
    }
    way.proxy.refuse(false);
    failed(&way, within("the end", bench.store.commit(Change::Resume)).await);
    failed(&way, within("the end", bench.store.find(reference("before"))).await);
    failed(&way, within("the end", bench.store.rehydrate()).await);
    drop(bench);
    let bench = way.open_elsewhere().await;
    assert_eq!(bench.state("before").await, State::Queued);
    let during = bench.find("during").await.map(|stored| stored.state);
    assert!(matches!(during, None | Some(State::Queued)), "{during:?}");
    // Nor does a store open where nobody is.
    way.proxy.refuse(true);
    match within("giving up", way.server.open(way.at.clone())).await {
        Ok(_) => panic!("a store without a server"),
        Err(why) => way.keeps_secrets(&why),
    }
}

/// The store has failed, and says nothing that is secret.
pub(super) fn failed<T: std::fmt::Debug>(way: &Way, told: Result<T, StoreError>) {
    match told {
        Err(error @ StoreError::Failed(_)) => way.keeps_secrets(&format!("{error} {error:?}")),
        other => panic!("it goes on: {other:?}"),
    }
}

/// Writers at work while every connection is cut, again and again: each is told what it did, and all
/// is there once.
pub async fn cut_connections_are_made_anew_beside_writers(server: &Server) {
    const WRITERS: usize = 4;
    const EACH: usize = 6;
    let way = Way::to(server);
    let bench = way.open().await;
    let before = way.changes().await;
    let count = Arc::new(AtomicUsize::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (bench, count) = (bench.clone(), count.clone());
        writers.spawn(async move {
            for at in 0..EACH {
                let ids = bench.sending(&format!("w{writer}-{at}"), "a").await;
                let order = format!("o{writer}-{at}");
                bench.done(decide(ids, placed(&order, Learnt::Answer))).await;
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let cutting = async {
        let mut seen = 0;
        while seen < WRITERS * EACH {
            let done = count.load(Ordering::SeqCst);
            if done > seen {
                way.proxy.cut();
            }
            seen = done;
            tokio::time::sleep(Duration::from_millis(2)).await;
            if writers.is_empty() {
                break;
            }
            while let Some(ended) = writers.try_join_next() {
                ended.expect("a writer is told what it did");
            }
        }
    };
    within("writing", cutting).await;
    within("writing", writers.join_all()).await;
    let all = u64::try_from(WRITERS * EACH).unwrap_or(u64::MAX);
    let counted = way.changes().await.zip(before).map(|(after, before)| after - before);
    assert!(counted.is_none_or(|counted| counted == 2 * all), "written twice: {counted:?}");
    assert_eq!((bench.store.stats().open, bench.store.stats().ended), (0, all));
    let known = bench.store.known_since(Serial(0)).await.expect("works");
    assert_eq!(known.len(), WRITERS * EACH);
}

/// A server that only reads, such as a standby after a failover: nothing is acknowledged and no store
/// is made there. When it writes again, what waited is in, or the store has failed for good.
pub async fn a_server_that_only_reads_acknowledges_nothing(server: &Server) {
    let mut way = Way::short(server);
    way.at.give_up_after = PATIENCE / 3;
    let bench = way.open().await;
    let id = bench.queued("before", "a").await;
    if !with(server, |server| server.read_only(true)).await {
        return;
    }
    let mut new = Way::short(server).past_the_proxy();
    new.give_up_after = Duration::from_millis(500);
    let opened = within("giving up", server.open(new)).await;
    let why = opened.map(|_| ()).expect_err("a store is made where nothing is written");
    way.keeps_secrets(&why);
    let mut waiting = bench.store.commit(Change::Expire { intent: id, why: WHY });
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(!matches!(early, Ok(Ok(_))), "acknowledged: {early:?}");
    with(server, |server| server.read_only(false)).await;
    let told = match early {
        Ok(told) => told,
        Err(_) => within("an answer", waiting).await,
    };
    let done = told.is_ok();
    match told {
        Ok(told) => assert_eq!(told, Committed::Done),
        told => {
            failed(&way, told);
            failed(&way, bench.store.commit(Change::Resume).await);
        }
    }
    bench.store.close().await.ok();
    drop(bench);
    let bench = way.open_elsewhere().await;
    let state = bench.state("before").await;
    assert!(if done { state.is_end() } else { true }, "{state:?}");
}
