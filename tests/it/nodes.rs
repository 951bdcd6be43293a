//! Nodes on a shared store of the tests' own: what a node does with what the store tells it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use order_router::cluster::{Node, Role};
use order_router::runtime::Runtime;
use order_router::simulator::Faults;
use order_router::store::{
    Holder, IntentStore, MemoryStore, Request, SettledRequest, SharedStore, StoreError, Stored,
};
use order_router::supplier::Supplier;
use order_router::{ClientRef, Progress, StartAnswer, SubmitError};

use super::router::{World, order};

/// A store in memory whose lease is given out, kept back or in trouble.
struct Fake {
    store: Mutex<Arc<MemoryStore>>,
    unreachable: AtomicBool,
    held_elsewhere: AtomicBool,
    holder: Mutex<Option<Holder>>,
    /// Whose row cannot be read.
    unreadable: Mutex<Option<ClientRef>>,
    finds: AtomicUsize,
    requests: Mutex<BTreeMap<String, Vec<u8>>>,
    replies: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            store: Mutex::new(Arc::new(MemoryStore::new())),
            unreachable: AtomicBool::new(false),
            held_elsewhere: AtomicBool::new(false),
            holder: Mutex::default(),
            unreadable: Mutex::default(),
            finds: AtomicUsize::new(0),
            requests: Mutex::default(),
            replies: Mutex::default(),
        })
    }

    fn store(&self) -> Arc<MemoryStore> {
        self.store.lock().unwrap().clone()
    }

    fn requests(&self) -> BTreeMap<String, Vec<u8>> {
        self.requests.lock().unwrap().clone()
    }
}

struct Handle(Arc<Fake>);

impl SharedStore for Handle {
    fn holder(&self) -> BoxFuture<'static, Result<Option<Holder>, StoreError>> {
        std::future::ready(Ok(*self.0.holder.lock().unwrap())).boxed()
    }

    fn open(&self) -> BoxFuture<'static, Result<Option<Arc<dyn IntentStore>>, StoreError>> {
        let opened = match self.0.unreachable.load(Ordering::SeqCst) {
            true => Err(StoreError::Failed("the password is wrong".into())),
            false => {
                let store = self.0.store() as Arc<dyn IntentStore>;
                Ok((!self.0.held_elsewhere.load(Ordering::SeqCst)).then_some(store))
            }
        };
        std::future::ready(opened).boxed()
    }

    fn find(
        &self,
        refs: Vec<ClientRef>,
    ) -> BoxFuture<'static, Result<Vec<Option<Stored>>, StoreError>> {
        let fake = self.0.clone();
        async move {
            fake.finds.fetch_add(1, Ordering::SeqCst);
            let unreadable = fake.unreadable.lock().unwrap().clone();
            if unreadable.is_some_and(|one| refs.contains(&one)) {
                return Err(StoreError::Failed("a row is damaged".into()));
            }
            let mut found = Vec::new();
            for one in refs {
                found.push(fake.store().find(one).await?);
            }
            Ok(found)
        }
        .boxed()
    }

    fn put_requests(&self, requests: Vec<Request>) -> BoxFuture<'static, Result<(), StoreError>> {
        let mut all = self.0.requests.lock().unwrap();
        all.extend(requests.into_iter().map(|request| (request.key, request.order)));
        std::future::ready(Ok(())).boxed()
    }

    fn requests(&self, most: usize) -> BoxFuture<'static, Result<Vec<Request>, StoreError>> {
        let all = self.0.requests().into_iter().take(most);
        let all = all.map(|(key, order)| Request { key, order }).collect();
        std::future::ready(Ok(all)).boxed()
    }

    fn settle_requests(
        &self,
        settled: Vec<SettledRequest>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let mut all = self.0.requests.lock().unwrap();
        for (key, reply) in settled {
            all.remove(&key);
            reply.map(|reply| self.0.replies.lock().unwrap().insert(key, reply));
        }
        std::future::ready(Ok(())).boxed()
    }

    fn replies(
        &self,
        keys: Vec<String>,
    ) -> BoxFuture<'static, Result<Vec<Option<Vec<u8>>>, StoreError>> {
        let replies = self.0.replies.lock().unwrap();
        let found = keys.iter().map(|key| replies.get(key).cloned()).collect();
        std::future::ready(Ok(found)).boxed()
    }

    fn place(&self) -> String {
        "memory".into()
    }
}

fn node(world: &World, fake: &Arc<Fake>) -> Node {
    let store = Arc::new(Handle(fake.clone()));
    Node::start(world.supplier(), store, world.config.clone(), Runtime::system())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_never_reached_the_store_does_not_say_that_another_has_it() {
    let (world, fake) = (World::new(Faults::default()), Fake::new());
    fake.unreachable.store(true, Ordering::SeqCst);
    let node = node(&world, &fake);
    let role = node.role_other_than(&Role::Starting).await;
    assert!(matches!(&role, Role::Trouble(why) if why.contains("password")), "{role:?}");
    node.shutdown(Duration::ZERO).await;
}

/// Callers who ask again and again, and go, keep neither places nor questions: also where an order
/// takes for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_have_gone_take_no_place_at_the_holder() {
    let mut world = World::new(Faults { withheld_never_created: 1.0, ..Faults::default() });
    world.config = world.config.landing_bound(Some(Duration::from_secs(600))).callers_max(8);
    let fake = Fake::new();
    let node = node(&world, &fake);
    until("it holds", || node.role() == Role::Holder).await;
    for _ in 0..30 {
        let mut ticket = match node.track(order("again", "x", 1)) {
            Ok(ticket) => ticket,
            Err(error) => panic!("{error}"),
        };
        loop {
            match ticket.next().await.expect("it goes on") {
                Progress::InDoubt => break,
                Progress::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
        drop(ticket);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.shutdown(Duration::ZERO).await;
}

/// The same at a standby: nothing is asked of the store once nobody waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_have_gone_are_looked_for_no_more_by_a_standby() {
    let mut world = World::new(Faults { withheld_never_created: 1.0, ..Faults::default() });
    world.config = world.config.landing_bound(Some(Duration::from_secs(600)));
    let fake = Fake::new();
    let holder = node(&world, &fake);
    until("it holds", || holder.role() == Role::Holder).await;
    fake.held_elsewhere.store(true, Ordering::SeqCst);
    let standby = node(&world, &fake);
    until("it stands by", || standby.role() == Role::Standby).await;
    let mut ticket = standby.track(order("left", "x", 1)).expect("taken");
    loop {
        match ticket.next().await.expect("it goes on") {
            Progress::InDoubt => break,
            Progress::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    drop(ticket);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asked = fake.finds.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fake.finds.load(Ordering::SeqCst), asked);
    standby.shutdown(Duration::ZERO).await;
    holder.shutdown(Duration::ZERO).await;
}

/// An order is worth sending for an hour from when its caller handed it over, not from when some
/// holder finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_that_waits_for_a_holder_expires_by_when_it_was_handed_over() {
    let mut world = World::new(Faults::default());
    world.config = world.config.good_for(Duration::from_millis(300));
    let fake = Fake::new();
    fake.held_elsewhere.store(true, Ordering::SeqCst);
    let standby = node(&world, &fake);
    until("it stands by", || standby.role() == Role::Standby).await;
    let ticket = standby.track(order("late", "x", 1)).expect("taken");
    until("it is passed on", || !fake.requests().is_empty()).await;
    standby.shutdown(Duration::ZERO).await;
    drop(ticket);
    tokio::time::sleep(Duration::from_millis(400)).await;
    fake.held_elsewhere.store(false, Ordering::SeqCst);
    let holder = node(&world, &fake);
    until("it is taken up", || fake.requests().is_empty()).await;
    let end = holder.submit(order("late", "x", 1)).await;
    assert!(matches!(end, Ok(order_router::End::NotPlaced { .. })), "{end:?}");
    assert!(world.simulator.ledger().is_empty(), "the customer of an hour ago has gone");
    holder.shutdown(Duration::ZERO).await;
    let refused = holder.submit(order("more", "x", 1)).await;
    assert!(matches!(refused, Err(SubmitError::Stopped)), "{refused:?}");
}

/// A node that was started for a new account takes over a store that was emptied while it ran: that
/// is no new account, and what was bought is not bought again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_that_was_emptied_is_no_new_account_to_a_node_that_knew_it() {
    let mut world = World::new(Faults::default());
    world.config = world.config.start(StartAnswer::NewAccount);
    let fake = Fake::new();
    let holder = node(&world, &fake);
    until("it holds", || holder.role() == Role::Holder).await;
    fake.held_elsewhere.store(true, Ordering::SeqCst);
    let standby = node(&world, &fake);
    until("it stands by", || standby.role() == Role::Standby).await;
    for at in 0..5 {
        let one = order(&format!("e{at}"), "x", 1);
        standby.submit(one).await.expect("placed");
    }
    holder.shutdown(Duration::ZERO).await;
    *fake.store.lock().unwrap() = Arc::new(MemoryStore::new());
    fake.held_elsewhere.store(false, Ordering::SeqCst);
    let mut ticket = standby.track(order("e0", "x", 1)).expect("taken");
    until("it refuses", || matches!(standby.role(), Role::Trouble(_))).await;
    let Role::Trouble(why) = standby.role() else { panic!("it refuses to send") };
    assert!(why.contains("does not know"), "{why}");
    let told = tokio::time::timeout(Duration::from_millis(300), ticket.next()).await;
    assert!(!matches!(told, Ok(Some(Progress::Ended(_)))), "{told:?}");
    assert_eq!(world.simulator.ledger().len(), 5);
    standby.shutdown(Duration::ZERO).await;
}

/// How an order ends that is handed to a node.
async fn told_of(node: &Node, one: order_router::Order) -> Progress {
    let mut ticket = node.track(one).expect("taken");
    loop {
        let told = ticket.next().await.expect("it goes on");
        if matches!(told, Progress::Ended(_) | Progress::Failed(_)) {
            return told;
        }
    }
}

/// One row that cannot be read stops neither those who wait for others nor the router that has the
/// store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_that_cannot_be_read_stops_nobody_else() {
    let (world, fake) = (World::new(Faults::default()), Fake::new());
    let holder = node(&world, &fake);
    until("it holds", || holder.role() == Role::Holder).await;
    fake.held_elsewhere.store(true, Ordering::SeqCst);
    *fake.unreadable.lock().unwrap() = Some(ClientRef::new("broken").expect("a reference"));
    let standby = node(&world, &fake);
    until("it stands by", || standby.role() == Role::Standby).await;
    let all = ["a", "broken", "z"].map(|name| told_of(&standby, order(name, "x", 1)));
    let all = tokio::time::timeout(Duration::from_secs(10), futures_util::future::join_all(all));
    let told = all.await.expect("all are told");
    for placed in [&told[0], &told[2]] {
        assert!(matches!(placed, Progress::Ended(order_router::End::Placed { .. })), "{told:?}");
    }
    let Progress::Failed(SubmitError::Store { source, .. }) = &told[1] else { panic!("{told:?}") };
    assert!(source.to_string().contains("damaged"), "{source}");
    until("its request is settled", || fake.requests().is_empty()).await;
    assert_eq!(world.simulator.ledger().len(), 2, "what cannot be looked up is not bought");
    assert_eq!(holder.role(), Role::Holder);
    standby.shutdown(Duration::ZERO).await;
    holder.shutdown(Duration::ZERO).await;
}

/// Nobody reads what is passed on where the other router does not share the store. It may be a
/// person's decision that is over in a moment.
#[tokio::test(start_paused = true)]
async fn router_that_does_not_share_the_store_is_told_of() {
    let (world, fake) = (World::new(Faults::default()), Fake::new());
    fake.held_elsewhere.store(true, Ordering::SeqCst);
    *fake.holder.lock().unwrap() = Some(Holder { alone: true, account: None });
    let standby = node(&world, &fake);
    let role = standby.role_other_than(&Role::Starting).await;
    assert!(matches!(&role, Role::Trouble(why) if why.contains("--share")), "{role:?}");
    let mut told = std::pin::pin!(told_of(&standby, order("waits", "x", 1)));
    let early = tokio::time::timeout(Duration::from_secs(10), &mut told).await;
    assert!(early.is_err(), "a moment is waited for: {early:?}");
    let told = tokio::time::timeout(Duration::from_secs(15), told).await.expect("it is told");
    let Progress::Failed(SubmitError::Store { may_exist, source }) = told else {
        panic!("{told:?}")
    };
    assert!(may_exist, "it was passed on: another router may find it");
    assert!(source.to_string().contains("--share"), "{source}");
    let next = told_of(&standby, order("next", "x", 1)).await;
    let nothing = matches!(next, Progress::Failed(SubmitError::Store { may_exist: false, .. }));
    assert!(nothing, "{next:?}");
    // The other has gone, or shares by now.
    *fake.holder.lock().unwrap() = None;
    standby.role_other_than(&role).await;
    assert_eq!(standby.role(), Role::Standby);
    standby.shutdown(Duration::ZERO).await;
}

/// What another account's router bought under a reference is no answer to this account's caller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_of_another_account_is_no_answer() {
    let (ours, theirs, fake) =
        (World::new(Faults::default()), World::new(Faults::default()), Fake::new());
    let holder = node(&theirs, &fake);
    until("it holds", || holder.role() == Role::Holder).await;
    let told = told_of(&holder, order("same", "x", 1)).await;
    assert!(matches!(told, Progress::Ended(order_router::End::Placed { .. })), "{told:?}");
    fake.held_elsewhere.store(true, Ordering::SeqCst);
    let account = theirs.supplier().account();
    *fake.holder.lock().unwrap() = Some(Holder { alone: false, account: Some(account) });
    let standby = node(&ours, &fake);
    let told = told_of(&standby, order("same", "x", 1)).await;
    assert!(is_refused_as_another_s(&told), "{told:?}");
    let role = standby.role();
    assert!(matches!(&role, Role::Trouble(why) if why.contains("another account's")), "{role:?}");
    assert!(fake.requests().is_empty(), "nothing is passed on");
    standby.shutdown(Duration::ZERO).await;
    holder.shutdown(Duration::ZERO).await;
}

/// A holder that died may have taken a request away before the order was recorded.
#[tokio::test(start_paused = true)]
async fn request_that_was_lost_is_put_again() {
    let (world, fake) = (World::new(Faults::default()), Fake::new());
    fake.held_elsewhere.store(true, Ordering::SeqCst);
    let standby = node(&world, &fake);
    let ticket = standby.track(order("lost", "x", 1)).expect("taken");
    until("it is passed on", || !fake.requests().is_empty()).await;
    fake.requests.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(fake.requests().is_empty(), "a holder that is slow is not asked all the time");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(fake.requests().len(), 1);
    drop(ticket);
    standby.shutdown(Duration::ZERO).await;
}

/// What a standby with `ours` says of an order while a holder with `theirs` has the store.
async fn passed_on(ours: &World, theirs: &World) -> Progress {
    let fake = Fake::new();
    let holder = node(theirs, &fake);
    until("it holds", || holder.role() == Role::Holder).await;
    fake.held_elsewhere.store(true, Ordering::SeqCst);
    let standby = node(ours, &fake);
    until("it stands by", || standby.role() != Role::Starting).await;
    let told = told_of(&standby, order("ours", "x", 1));
    let told = tokio::time::timeout(Duration::from_secs(10), told).await;
    standby.shutdown(Duration::ZERO).await;
    holder.shutdown(Duration::ZERO).await;
    told.expect("it says at once what it does with it")
}

fn is_refused_as_another_s(told: &Progress) -> bool {
    let Progress::Failed(SubmitError::Store { may_exist: false, source }) = told else {
        return false;
    };
    source.to_string().contains("another account's")
}

/// An order is bought on the account that it was handed over for, or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_for_another_account_is_not_bought_on_the_holder_s() {
    let (ours, theirs) = (World::new(Faults::default()), World::new(Faults::default()));
    let told = passed_on(&ours, &theirs).await;
    assert!(theirs.simulator.ledger().is_empty(), "bought on another account: {told:?}");
    assert!(ours.simulator.ledger().is_empty(), "bought without the lease: {told:?}");
    assert!(is_refused_as_another_s(&told), "{told:?}");
}

/// Two accounts of one supplier have the same address: their keys or names tell them apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_at_one_address_are_told_apart_by_key_or_name() {
    let mut theirs = World::new(Faults::default());
    let mut ours = World::new(Faults::default());
    ours.url = theirs.url.clone();
    ours.key = "another-key";
    let told = passed_on(&ours, &theirs).await;
    assert!(is_refused_as_another_s(&told), "{told:?}");
    (ours.settings.account, theirs.settings.account) = ("one".into(), "other".into());
    ours.key = theirs.key;
    let told = passed_on(&ours, &theirs).await;
    assert!(is_refused_as_another_s(&told), "{told:?}");
    assert!(theirs.simulator.ledger().is_empty());
    // A key that was rotated, at one of two routers by now.
    ours.settings.account = "other".into();
    ours.key = "rotated";
    let told = passed_on(&ours, &theirs).await;
    assert!(matches!(told, Progress::Ended(order_router::End::Placed { .. })), "{told:?}");
}
