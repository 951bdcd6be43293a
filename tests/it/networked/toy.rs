//! The suite for stores on a server bites: each of its functions fails on a store that is wrong in a
//! way of its own, and none on the right one. The store is a toy: what is asked is kept beside the
//! wire, which carries its number alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use order_router::store::{LeaseTerms, MemoryStore, Request, SharedStore};
use order_router::testing::conformance::Store;
use order_router::testing::conformance::network::{self, At, Networked, Server};

mod client;

use client::{Shared, open};

const SECRET: &str = "canary-toy";

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// The server forgets what it has done already.
    Repeats,
    /// A question whose answer did not come is answered with nothing.
    AsksOnce,
    /// It answers before the server does.
    TellsEarly,
    /// After an error it goes on.
    NotLatched,
    ShowsASecret,
    /// The first lost connection is the end.
    GivesUpAtOnce,
    /// Where the server only reads, it says done.
    SaysDone,
    ForgetsWhenKilled,
    /// The server forgets, and the store goes on.
    GoesOn,
    /// Whoever comes is let in.
    TwoRouters,
    /// What a former holder writes is written.
    NoFence,
    /// What writes nothing is not compared with the lease.
    JoinsUnfenced,
    /// A claim is written before its order.
    ClaimsFirst,
    /// The lease is prolonged, whatever the server says.
    LeaseForEver,
    LeaseNotProlonged,
    LeaseForAll,
    RequestsTwice,
    OthersFindNothing,
}

/// Which function fails on it.
const CAUGHT: &[(Wrong, &str)] = &[
    (Wrong::Repeats, "a_change_is_in_once_whatever_is_lost_on_the_way"),
    (Wrong::AsksOnce, "a_question_is_answered_whatever_is_lost_on_the_way"),
    (Wrong::TellsEarly, "a_slow_server_is_waited_for_and_what_it_did_is_not_repeated"),
    (Wrong::NotLatched, "a_server_that_stays_away_ends_the_store_for_good"),
    (Wrong::ShowsASecret, "a_server_that_stays_away_ends_the_store_for_good"),
    (Wrong::GivesUpAtOnce, "cut_connections_are_made_anew_beside_writers"),
    (Wrong::SaysDone, "a_server_that_only_reads_acknowledges_nothing"),
    (Wrong::ForgetsWhenKilled, "nothing_acknowledged_is_lost_when_the_server_is_killed"),
    (Wrong::GoesOn, "nothing_acknowledged_is_lost_when_the_server_is_killed"),
    (Wrong::TwoRouters, "a_second_router_is_let_in_once_the_first_has_closed"),
    (Wrong::NoFence, "a_router_that_was_cut_off_writes_nothing_after_a_takeover"),
    (Wrong::JoinsUnfenced, "a_router_that_was_cut_off_joins_nothing_of_the_new_one"),
    (Wrong::ClaimsFirst, "a_change_in_doubt_at_a_takeover_is_whole_or_absent"),
    (Wrong::LeaseForEver, "a_lease_outlives_cut_connections_and_ends_without_any"),
    (Wrong::LeaseNotProlonged, "a_lease_outlives_cut_connections_and_ends_without_any"),
    (Wrong::LeaseForAll, "one_router_at_a_time_has_the_lease_and_hands_it_over"),
    (Wrong::RequestsTwice, "requests_are_passed_on_once_whatever_is_lost"),
    (Wrong::OthersFindNothing, "what_the_holder_wrote_is_found_by_the_others"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn toy_that_is_right_conforms() {
    network::test_all(Toy::start(Wrong::Nothing)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_function_of_the_suite_fails_on_a_toy_that_is_wrong() {
    let checks = network::checks();
    let mut all: BTreeSet<_> = checks.iter().map(|check| check.name).collect();
    let mut running = tokio::task::JoinSet::new();
    for (wrong, name) in CAUGHT {
        let check = *checks.iter().find(|check| check.name == *name).expect("there is one");
        running.spawn(async move {
            let checked = tokio::spawn(async move { check.run(&Toy::start(*wrong)).await });
            (wrong, name, checked.await.is_err())
        });
        all.remove(name);
    }
    for (wrong, name, failed) in running.join_all().await {
        assert!(failed, "{wrong:?} is not caught by {name}");
    }
    assert_eq!(all, BTreeSet::new(), "what has never failed");
}

/// What the server keeps of one store.
struct Kept {
    disk: Arc<MemoryStore>,
    epoch: u64,
    holder: Option<u64>,
    lasts_until: Instant,
    changes: u64,
    /// The highest serial that was handed out.
    handed: u64,
    claimed_early: BTreeSet<String>,
    requests: Vec<Request>,
    replies: BTreeMap<String, Vec<u8>>,
}

impl Kept {
    fn new() -> Self {
        Self {
            disk: Arc::default(),
            epoch: 0,
            holder: None,
            lasts_until: Instant::now(),
            changes: 0,
            handed: 0,
            claimed_early: BTreeSet::new(),
            requests: Vec::new(),
            replies: BTreeMap::new(),
        }
    }
}

/// Does what is asked, and puts the answer where its caller looks.
type Act = Arc<dyn Fn(&mut Kept) + Send + Sync>;

/// A question on its way.
#[derive(Clone)]
struct Asked {
    store: String,
    writes: bool,
    act: Act,
}

#[derive(Default)]
struct State {
    stores: BTreeMap<String, Kept>,
    asked: BTreeMap<u64, Asked>,
    done: BTreeSet<u64>,
    read_only: bool,
    /// While it runs.
    sockets: Option<Vec<TcpStream>>,
}

/// A server in threads of this process.
struct Toy {
    wrong: Wrong,
    port: u16,
    state: Arc<Mutex<State>>,
    next: Arc<AtomicU64>,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("not poisoned")
}

impl Toy {
    fn start(wrong: Wrong) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::<Mutex<State>>::default();
        locked(&state).sockets = Some(Vec::new());
        let server = state.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                // What is not running takes no connections.
                if let Some(sockets) = &mut locked(&server).sockets {
                    sockets.push(socket.try_clone().expect("a socket"));
                    let server = server.clone();
                    std::thread::spawn(move || serve(socket, &server, wrong));
                }
            }
        });
        Arc::new(Self { wrong, port, state, next: Arc::default() })
    }

    fn serial(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }
}

/// Reads numbers, does what is asked under them once, and says them back.
fn serve(mut socket: TcpStream, server: &Mutex<State>, wrong: Wrong) {
    use std::io::{Read, Write};
    let mut number = [0; 8];
    while socket.read_exact(&mut number).is_ok() {
        let mut said = number;
        {
            let mut state = locked(server);
            if state.sockets.is_none() {
                return;
            }
            let number = u64::from_be_bytes(number);
            let asked = state.asked[&number].clone();
            let again = state.done.contains(&number) && wrong != Wrong::Repeats;
            if asked.writes && state.read_only {
                said = [0xff; 8];
            } else if !again {
                let kept = state.stores.entry(asked.store).or_insert_with(Kept::new);
                (asked.act)(kept);
                state.done.insert(number);
            }
        }
        if socket.write_all(&said).is_err() {
            return;
        }
    }
}

impl Networked for Toy {
    fn port(&self) -> u16 {
        self.port
    }

    fn open(&self, at: At) -> BoxFuture<'static, Result<Store, String>> {
        let shared = self.shared(at);
        async move {
            let opened = open(shared).await.map_err(|error| format!("{error} {error:?}"))?;
            opened.map(|store| store as Store).ok_or_else(|| "another router has it".to_owned())
        }
        .boxed()
    }

    fn share(&self, at: At) -> Option<Arc<dyn SharedStore>> {
        Some(Arc::new(self.shared(at)))
    }

    fn kill(&self) {
        let mut state = locked(&self.state);
        for socket in state.sockets.take().into_iter().flatten() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        if self.wrong == Wrong::ForgetsWhenKilled || !self.keeps() {
            state.stores.clear();
        }
    }

    fn start(&self) {
        locked(&self.state).sockets = Some(Vec::new());
    }

    fn keeps(&self) -> bool {
        self.wrong != Wrong::GoesOn
    }

    fn read_only(&self, on: bool) -> bool {
        locked(&self.state).read_only = on;
        true
    }

    fn changes(&self, name: &str) -> Option<u64> {
        locked(&self.state).stores.get(name).map(|kept| kept.changes)
    }

    fn short_lease(&self) -> LeaseTerms {
        let millis = Duration::from_millis;
        LeaseTerms { length: millis(600), margin: millis(100), pause_max: Duration::ZERO }
    }

    fn secrets(&self) -> Vec<String> {
        vec![SECRET.to_owned()]
    }
}

impl Toy {
    fn shared(&self, at: At) -> Shared {
        Shared::new(self.wrong, self.state.clone(), self.next.clone(), at, self.serial())
    }
}
