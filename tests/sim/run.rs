//! One run: several lives of the router, each ended by a kill, a power cut or a broken disk; then
//! one without faults, in which everything must end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::System;
use fastrand::Rng;
use futures_util::FutureExt;
use order_router::protocol::Clause;
use order_router::protocol::State;
use order_router::runtime::{Runtime, Threading};
use order_router::store::{Committing, EmbeddedConfig, EmbeddedStore, IndexMode, IntentStore};
use order_router::testing::disk::{Fate, ForgetfulDisk};
use order_router::{
    ClientRef, Config, Item, Order, OrderRouter, Progress, Resolution, RouterEvent, StartAnswer,
    StartError, SubmitError,
};

use crate::store::SlowStore;
use crate::supplier::{REFUSED_PRODUCT, SimSupplier};
use crate::world::{LANDING_BOUND, REQUEST_TIMEOUT, World};

/// How long the last life may take until everything has ended.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

/// What came of a run.
pub struct Ran {
    pub violation: Option<String>,
    pub hash: u64,
    pub events: u64,
    pub lives: u32,
    pub seen: std::collections::BTreeMap<&'static str, u64>,
    pub log: Vec<String>,
}

/// Why a life ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Killed,
    StoreFailed,
    NotStarted(bool),
    AtRest,
    Violation,
}

struct Run {
    seed: u64,
    world: Arc<World>,
    orders: Vec<Order>,
    disk: ForgetfulDisk,
    rng: Rng,
    clause: Option<Clause>,
    config: Config,
    adopt: bool,
    /// Without, an order whose echo was never seen stays in doubt until a person decides (A4).
    trusts_echo: bool,
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn orders(rng: &mut Rng) -> Vec<Order> {
    let (count, products, hot) = (rng.u32(3..16), rng.u32(1..5), rng.f64());
    (0..count)
        .map(|n| {
            let product = if rng.f64() < hot { 0 } else { rng.u32(..products) };
            let mut items = vec![Item::new(format!("item-{product}"), 1).unwrap()];
            if rng.u8(..8) == 0 {
                items.push(Item::new("other", rng.u32(1..3)).unwrap());
            }
            if rng.u8(..20) == 0 {
                items = vec![Item::new(REFUSED_PRODUCT, 1).unwrap()];
            }
            Order::new(ClientRef::new(format!("ref-{n}")).unwrap(), items).unwrap()
        })
        .collect()
}

fn config(rng: &mut Rng, clause: Option<Clause>, trusts_echo: bool) -> Config {
    let config = Config::default()
        .request_timeout(REQUEST_TIMEOUT)
        .landing_bound(Some(LANDING_BOUND))
        .tries_max(rng.u8(1..4))
        .good_for(Duration::from_secs(rng.u64(20..1200)))
        .posts_max(rng.usize(1..12))
        .lane_posts_max(rng.usize(1..6))
        .doubts_max(rng.usize(2..30))
        .late_sockets_max(rng.usize(..4))
        .look_again(millis(500), millis(rng.u64(1000..15_000)))
        .list_margin(millis(rng.u64(..3000)))
        .trust_echo(trusts_echo)
        .start(StartAnswer::NewAccount);
    match clause {
        Some(clause) => config.leave_out(clause),
        None => config,
    }
}

/// Runs one seed, with one clause left out if so asked.
pub fn run(seed: u64, clause: Option<Clause>, logs: bool) -> Ran {
    let mut rng = Rng::with_seed(seed ^ 0x5eed_0fa1_1b0d_1e55);
    let world = World::new(seed, logs);
    let orders = orders(&mut rng);
    let trusts_echo = rng.bool();
    let config = config(&mut rng, clause, trusts_echo);
    let disk = ForgetfulDisk::new();
    let mut run = Run { seed, world, orders, disk, rng, clause, config, adopt: false, trusts_echo };
    run.history();
    let lives = run.rng.u32(1..5);
    let mut life = 0;
    while life < lives && run.world.violation().is_none() {
        run.live(false);
        life += 1;
    }
    run.calm();
    let mut starts = 0;
    while run.world.violation().is_none() {
        life += 1;
        starts += 1;
        match run.live(true) {
            Ended::AtRest => break,
            Ended::NotStarted(_) if starts < 20 => {}
            ended => {
                let mut inner = run.world.inner.lock().unwrap();
                let what = format!("no end without faults: {ended:?}");
                inner.oracle.violated(what);
            }
        }
    }
    let mut inner = run.world.inner.lock().unwrap();
    if inner.oracle.violation.is_none() {
        inner.oracle.at_rest();
    }
    Ran {
        violation: inner.oracle.violation.clone(),
        events: inner.events,
        lives: life,
        seen: std::mem::take(&mut inner.seen),
        log: inner.log.take().unwrap_or_default(),
        hash: {
            drop(inner);
            run.world.hash()
        },
    }
}

impl Run {
    /// What was on the account before.
    fn history(&mut self) {
        let rows = self.rng.u64(..6);
        let mut inner = self.world.inner.lock().unwrap();
        for n in 0..rows {
            inner.foreign(vec![("item-0".to_owned(), 1)], millis(n * 700));
        }
        drop(inner);
        self.world.clock.stall(Duration::from_secs(3 * 3600));
        let mut inner = self.world.inner.lock().unwrap();
        inner.profile.blind_from += Duration::from_secs(3 * 3600);
    }

    /// From here on nothing goes wrong any more.
    fn calm(&mut self) {
        self.world.clock.set_ahead(0);
        self.disk.set_full(false);
        self.disk.set_free_bytes(u64::MAX);
        self.world.inner.lock().unwrap().faults = false;
    }

    /// One life, from start to end.
    fn live(&mut self, last: bool) -> Ended {
        if last {
            self.calm();
        } else {
            self.break_disk();
        }
        let runner = System::with_tokio_rt(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime")
        });
        let clock = self.world.clock.clone();
        let (ended, handle) = runner.block_on(async {
            clock.begin();
            let ended = self.life(last).await;
            clock.end();
            (ended, tokio::runtime::Handle::current())
        });
        // What the disk has now is all that is left of this process.
        let cut = self.disk.is_cut() || self.rng.bool();
        let next = if cut {
            let fate = match self.rng.u8(..3) {
                0 => Fate::Lost,
                1 => Fate::Kept,
                _ => Fate::Torn(self.rng.u64(..)),
            };
            self.disk.after_cut(fate)
        } else {
            self.disk.after_kill()
        };
        self.disk.cut();
        // Actors that go look for the runtime once more.
        let inside = handle.enter();
        drop(runner);
        drop(inside);
        self.disk = next;
        self.world.note(|| format!("life over: {ended:?}, cut {cut}"));
        self.world.clock.stall(millis(self.rng.u64(..30_000)));
        ended
    }

    fn break_disk(&mut self) {
        let at = self.rng.u64(1..120);
        match self.rng.u8(..10) {
            0 | 1 => self.disk.cut_at_sync(at),
            2 => self.disk.fail_sync(at),
            3 => self.disk.fail_write(at),
            4 => self.disk.set_free_bytes(1000),
            _ => self.disk.set_free_bytes(u64::MAX),
        }
        let ahead = if self.rng.u8(..4) == 0 { self.rng.i64(-5000..5000) } else { 0 };
        self.world.clock.set_ahead(ahead);
    }

    fn store(&self) -> Result<EmbeddedStore, order_router::store::OpenError> {
        let config = EmbeddedConfig {
            index: IndexMode::Memory,
            committing: Committing::Inline,
            segment_bytes: 16 << 10,
            left_out: self.clause.map(order_router::protocol::LeftOut::only).unwrap_or_default(),
            ..EmbeddedConfig::default()
        };
        EmbeddedStore::open(Path::new("store"), config, &self.runtime())
    }

    fn runtime(&self) -> Runtime {
        Runtime {
            clock: Arc::new(self.world.clock.clone()),
            disk: Arc::new(self.disk.clone()),
            threading: Threading::Here,
        }
    }

    async fn life(&mut self, last: bool) -> Ended {
        let world = self.world.clone();
        let store = match self.store() {
            Ok(store) => store,
            Err(error) => {
                world.note(|| format!("the store does not open: {error}"));
                // A disk that fails while the store is opened is found out at the next start.
                if last {
                    let what = format!("the store does not open on a disk that works: {error}");
                    world.inner.lock().unwrap().oracle.violated(what);
                }
                return Ended::NotStarted(false);
            }
        };
        for order in &self.orders {
            match store.find(order.client_ref().clone()).now_or_never() {
                Some(Ok(found)) => world.found(order.client_ref(), found.as_ref()),
                _ => return Ended::NotStarted(false),
            }
        }
        let start = if self.adopt { StartAnswer::Adopt } else { StartAnswer::NewAccount };
        let store = Arc::new(SlowStore { inner: store, world: world.clone() });
        let supplier = Arc::new(SimSupplier(world.clone()));
        let builder = OrderRouter::builder(supplier, store)
            .config(self.config.clone().start(start))
            .runtime(self.runtime());
        let router = match builder.start().await {
            Ok(router) => router,
            Err(error) => {
                world.note(|| format!("no start: {error}"));
                return Ended::NotStarted(false);
            }
        };
        let span = if last { PATIENCE } else { millis(self.rng.u64(100..90_000)) };
        self.callers(&router, last);
        self.overhear(&router);
        let begun = world.clock.elapsed();
        let until = tokio::time::sleep(span);
        tokio::pin!(until);
        let mut look = tokio::time::interval(millis(if last { 2000 } else { 250 }));
        let mut ready = Box::pin(router.ready().fuse());
        loop {
            tokio::select! {
                biased;
                _ = look.tick() => {
                    if world.violation().is_some() {
                        return Ended::Violation;
                    }
                    if last && self.tidy(&router, begun).await {
                        return Ended::AtRest;
                    }
                }
                error = router.failed() => {
                    world.note(|| format!("store failed: {error}"));
                    return Ended::StoreFailed;
                }
                result = &mut ready => {
                    world.note(|| format!("ready: {result:?}"));
                    match result {
                        Ok(()) => {}
                        Err(StartError::UnknownOrders { .. }) => {
                            self.unknown_orders();
                            return Ended::NotStarted(true);
                        }
                        Err(_) => return Ended::NotStarted(true),
                    }
                }
                () = &mut until => return Ended::Killed,
            }
        }
    }

    /// The start has stopped: that is right where somebody else has bought here.
    fn unknown_orders(&mut self) {
        let mut inner = self.world.inner.lock().unwrap();
        // Also from before the first start, where the first list did not show it.
        let foreign = inner.profile.foreign_identical + inner.profile.foreign_other > 0.0
            || !inner.oracle.foreign.is_empty();
        let odd = inner.profile.odd_echo > 0.0;
        // Whoever looks sees an order of ours that the list shows wrongly, and does not adopt it.
        let wrong = |order: &crate::world::SoldOrder| {
            order.odd
                && !inner.oracle.is_claimed(&order.id)
                && !inner.oracle.foreign.contains(&order.id)
        };
        if inner.faults && inner.orders.iter().any(wrong) {
            return;
        }
        if foreign || odd {
            self.adopt = true;
        } else {
            inner.oracle.violated("the start stops, and nobody else has bought here".to_owned());
        }
    }

    fn overhear(&self, router: &OrderRouter) {
        let (mut events, world) = (router.events(), self.world.clone());
        actix::spawn(async move {
            while let Some(event) = events.next().await {
                world.note(|| format!("event {event:?}"));
                if let RouterEvent::Alarm { what } = event
                    && (what.contains("panicked") || what.contains("disagrees"))
                {
                    world.inner.lock().unwrap().oracle.violated(format!("alarm: {what}"));
                }
            }
        });
    }

    fn callers(&mut self, router: &OrderRouter, last: bool) {
        for order in &self.orders {
            let rng = Rng::with_seed(self.rng.u64(..));
            let told = self.world.inner.lock().unwrap().oracle.was_told(order.client_ref());
            if last || !told || self.rng.u8(..3) == 0 {
                let caller = caller(self.world.clone(), router.clone(), order.clone(), rng, last);
                drop(actix::spawn(caller));
            }
        }
    }

    /// A person looks, and decides truthfully. True once everything has ended.
    async fn tidy(&mut self, router: &OrderRouter, begun: Duration) -> bool {
        let Ok(open) = router.open_orders().await else { return false };
        for stored in &open {
            let waited = self.world.clock.elapsed() > begun + Duration::from_secs(300);
            let held = matches!(stored.state, State::Held(..))
                || (!self.trusts_echo && waited && matches!(stored.state, State::InDoubt(..)));
            let (unclaimed, may_land) = {
                let (inner, _) = self.world.now();
                inner.unclaimed(stored.lane)
            };
            if held && !may_land {
                let resolution = match unclaimed.first() {
                    Some(id) => Resolution::Placed(id.clone()),
                    None => Resolution::Absent,
                };
                self.world.note(|| format!("a person says {} {resolution:?}", stored.client_ref));
                let told = router.resolve(&stored.client_ref, resolution, "looked").await;
                self.world.note(|| format!("resolved: {told:?}"));
            }
        }
        let lanes: Vec<_> = {
            let inner = self.world.inner.lock().unwrap();
            inner.oracle.kept.iter().map(|(name, kept)| (name.clone(), kept.lane)).collect()
        };
        let mut freed = std::collections::BTreeSet::new();
        for (name, lane) in lanes {
            let doubts = open.iter().any(|s| s.lane == lane && s.state.attempt().is_some());
            if !doubts && self.lane_held(router, lane).await && freed.insert(lane) {
                let done = router.free_lane(&name).await;
                self.world.note(|| format!("a person frees the lane of {name}: {done:?}"));
            }
        }
        let (inner, _) = self.world.now();
        let all = self.orders.iter().all(|order| inner.oracle.was_told(order.client_ref()));
        all && open.is_empty() && inner.oracle.sold.values().all(|sold| sold.may_land == 0)
    }

    async fn lane_held(&self, _router: &OrderRouter, lane: order_router::ItemsHash) -> bool {
        // Only a surplus holds a lane, and only somebody else's orders make one.
        let inner = self.world.inner.lock().unwrap();
        let ledger = &inner.oracle.ledger;
        inner.oracle.foreign.iter().any(|id| ledger.get(id) == Some(&lane))
    }
}

/// Hands one order over, again and again, until it is told an end.
async fn caller(world: Arc<World>, router: OrderRouter, order: Order, mut rng: Rng, last: bool) {
    let name = order.client_ref().clone();
    let first = if rng.bool() { 50 } else { 20_000 };
    tokio::time::sleep(millis(rng.u64(..first))).await;
    loop {
        match if last { 9 } else { rng.u8(..10) } {
            // Goes away in the middle.
            0 | 1 => {
                let span = millis(rng.u64(..3000));
                if let Ok(Ok(end)) = tokio::time::timeout(span, router.submit(order.clone())).await
                {
                    world.told(&name, &end);
                }
            }
            // Uses its reference for something else.
            2 => {
                let items = vec![Item::new("something-else", 1).unwrap()];
                let other = Order::new(name.clone(), items).unwrap();
                // Where the first has not been taken, this one would be the order.
                let taken = world.inner.lock().unwrap().oracle.kept.contains_key(&name);
                if taken && let Ok(end) = router.submit(other).await {
                    let mut inner = world.inner.lock().unwrap();
                    inner.oracle.violated(format!("{name} with other items is told {end:?}"));
                }
            }
            // Follows it for a while.
            3 => follow(&world, &router, &order).await,
            // Asks twice at once.
            4 => {
                let both = [router.submit(order.clone()), router.submit(order.clone())];
                let both = futures_util::future::join_all(both).await;
                for end in both.into_iter().flatten() {
                    world.told(&name, &end);
                }
            }
            _ => match router.submit(order.clone()).await {
                Ok(end) => {
                    world.told(&name, &end);
                    if last || rng.bool() {
                        return;
                    }
                }
                Err(SubmitError::Conflict { .. }) => {
                    let what = format!("{name} is refused as a conflict with itself");
                    return world.inner.lock().unwrap().oracle.violated(what);
                }
                Err(_) => {}
            },
        }
        tokio::time::sleep(millis(rng.u64(200..20_000))).await;
    }
}

async fn follow(world: &World, router: &OrderRouter, order: &Order) {
    let name = order.client_ref();
    let Ok(mut ticket) = router.track(order.clone()) else { return };
    while let Ok(Some(progress)) =
        tokio::time::timeout(Duration::from_secs(30), ticket.next()).await
    {
        match progress {
            Progress::Accepted => world.told_accepted(name),
            Progress::Ended(end) => return world.told(name, &end),
            Progress::Failed(_) => return,
            _ => {}
        }
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run({})", self.seed)
    }
}
