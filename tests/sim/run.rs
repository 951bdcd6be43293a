//! One run: several lives of the router, each ended by a kill, a power cut or a broken disk; then
//! one without faults, in which everything must end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::{System, SystemRunner};
use fastrand::Rng;
use futures_util::FutureExt;
use order_router::protocol::{Clause, LeftOut};
use order_router::runtime::{Runtime, Threading};
use order_router::store::{Committing, EmbeddedConfig, EmbeddedStore, IndexMode, IntentStore};
use order_router::testing::disk::{Fate, ForgetfulDisk};
use order_router::{
    ClientRef, Config, Item, Order, OrderRouter, RouterEvent, StartAnswer, StartError,
};

use crate::callers::caller;
use crate::kinds::Kind;
use crate::profile::Bounds;
use crate::store::{PANIC, SlowStore};
use crate::supplier::{REFUSED_PRODUCT, SimSupplier};
use crate::world::World;

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

/// Which run: of which seed, in which kind of world, without which clauses.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub kind: Kind,
    pub without: [Option<Clause>; 2],
    pub logs: bool,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        Self { seed, kind: Kind::of(seed), without: [None; 2], logs: false }
    }
}

pub struct Run {
    plan: Plan,
    pub world: Arc<World>,
    pub orders: Vec<Order>,
    pub disk: ForgetfulDisk,
    /// The disks as they were when former lives ended.
    pub former: Vec<ForgetfulDisk>,
    pub rng: Rng,
    pub config: Config,
    /// A person says of this start that what nobody knows is somebody else's.
    pub adopt: bool,
    /// Without, an order whose echo was never seen stays in doubt until a person decides (A4).
    pub trusts_echo: bool,
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

fn config(rng: &mut Rng, trusts_echo: bool) -> Config {
    Config::default()
        .request_timeout(Bounds::USUAL.request_timeout)
        .landing_bound(Some(Bounds::USUAL.landing))
        .tries_max(rng.u8(1..4))
        .good_for(Duration::from_secs(rng.u64(20..1200)))
        .posts_max(rng.usize(1..12))
        .lane_posts_max(rng.usize(1..6))
        .doubts_max(rng.usize(2..30))
        .late_sockets_max(rng.usize(..4))
        .look_again(millis(500), millis(rng.u64(1000..15_000)))
        .list_margin(millis(rng.u64(..3000)))
        .trust_echo(trusts_echo)
        .start(StartAnswer::NewAccount)
}

/// A panic on purpose is not worth a line.
fn hush() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload_as_str() != Some(PANIC) {
                before(info);
            }
        }));
    });
}

/// Runs one seed.
pub fn run(plan: Plan) -> Ran {
    hush();
    let Plan { seed, kind, without, logs } = plan;
    let mut rng = Rng::with_seed(seed ^ 0x5eed_0fa1_1b0d_1e55);
    let world = World::new(seed, kind, logs);
    let usual = kind == Kind::Usual;
    let orders = if usual { orders(&mut rng) } else { kind.orders(&mut rng) };
    let trusts_echo = if usual { rng.bool() } else { kind.trusts_echo() };
    let bounds = world.inner.lock().unwrap().profile.bounds;
    let config = if usual { config(&mut rng, trusts_echo) } else { kind.config(&mut rng, &bounds) };
    let config = without.into_iter().flatten().fold(config, Config::leave_out);
    let (disk, former) = (ForgetfulDisk::new(), Vec::new());
    let mut run = Run { plan, world, orders, disk, former, rng, config, adopt: false, trusts_echo };
    run.history();
    let lives = kind.lives(&mut run.rng);
    let mut life = 0;
    while life < lives && run.world.violation().is_none() {
        run.rolled_back();
        run.live(false);
        life += 1;
    }
    run.rolled_back();
    if lives > 0 {
        run.calm();
    }
    let mut starts = 0;
    while run.world.violation().is_none() {
        life += 1;
        starts += 1;
        match run.live(true) {
            Ended::AtRest => break,
            Ended::NotStarted(_) if starts < 20 => run.calm(),
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
        // Which account's history is drawn must not be in question.
        let bare = matches!(self.plan.kind, Kind::OtherKey | Kind::Skips);
        let rows = if bare { 0 } else { self.rng.u64(..6) };
        let mut inner = self.world.inner.lock().unwrap();
        for n in 0..rows {
            inner.foreign(vec![("item-0".to_owned(), 1)], millis(n * 700));
        }
        drop(inner);
        self.world.clock.stall(Duration::from_secs(3 * 3600));
        let mut inner = self.world.inner.lock().unwrap();
        inner.profile.blind_from += Duration::from_secs(3 * 3600);
        inner.oracle.history_ends();
    }

    /// From here on nothing goes wrong any more.
    pub fn calm(&self) {
        self.world.clock.set_ahead(0);
        self.disk.set_full(false);
        self.disk.set_free_bytes(u64::MAX);
        let mut inner = self.world.inner.lock().unwrap();
        (inner.faults, inner.account) = (false, 0);
    }

    /// What changes while nobody lives.
    fn meanwhile(&mut self) {
        let (mut inner, now) = self.world.now();
        let (between, other) = (inner.profile.foreign_between, inner.profile.other_key);
        if between > 0.0 && inner.faults && self.rng.f64() < between {
            let order = self.rng.choice(&self.orders).expect("an order");
            let lines = order.items().iter().map(|i| (i.id().to_owned(), i.quantity()));
            inner.foreign(lines.collect(), now);
        }
        if other > 0.0 && inner.faults && !self.former.is_empty() {
            inner.account = u64::from(self.rng.f64() < other);
        }
    }

    /// One life, from start to end.
    fn live(&mut self, last: bool) -> Ended {
        // Where no life was before, the faults end while it lives.
        if !last {
            self.break_disk();
        }
        self.meanwhile();
        let runner = paused_system();
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
        self.former.push(self.disk.after_kill());
        self.world.note(|| format!("life over: {ended:?}, cut {cut}"));
        let pause = {
            let mut inner = self.world.inner.lock().unwrap();
            inner.life_over();
            inner.profile.restart_ms
        };
        self.world.clock.stall(millis(self.rng.u64(..pause)));
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

    pub fn left_out(&self) -> LeftOut {
        self.plan.without.into_iter().flatten().fold(LeftOut::default(), LeftOut::and)
    }

    pub fn store(
        &self,
        disk: &ForgetfulDisk,
    ) -> Result<EmbeddedStore, order_router::store::OpenError> {
        let config = EmbeddedConfig {
            index: IndexMode::Memory,
            committing: Committing::Inline,
            segment_bytes: 16 << 10,
            left_out: self.left_out(),
            ..EmbeddedConfig::default()
        };
        EmbeddedStore::open(Path::new("store"), config, &self.runtime(disk))
    }

    pub fn runtime(&self, disk: &ForgetfulDisk) -> Runtime {
        Runtime {
            clock: Arc::new(self.world.clock.clone()),
            disk: Arc::new(disk.clone()),
            threading: Threading::Here,
        }
    }

    async fn life(&mut self, last: bool) -> Ended {
        let world = self.world.clone();
        let store = match self.store(&self.disk) {
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
        let adopts = self.adopt && !self.sees_our_own();
        let start = if adopts { StartAnswer::Adopt } else { StartAnswer::NewAccount };
        let store = Arc::new(SlowStore::new(store, world.clone(), self.left_out()));
        let supplier = Arc::new(SimSupplier { world: world.clone(), left_out: self.left_out() });
        let builder = OrderRouter::builder(supplier, store)
            .config(self.config.clone().start(start))
            .runtime(self.runtime(&self.disk));
        let router = match builder.start().await {
            Ok(router) => router,
            Err(error) => {
                world.note(|| format!("no start: {error}"));
                return Ended::NotStarted(false);
            }
        };
        let first = self.former.is_empty();
        let longest =
            if first { world.inner.lock().unwrap().profile.first_life_ms } else { 90_000 };
        let span = if last { PATIENCE } else { millis(self.rng.u64(100..longest)) };
        self.callers(&router, last);
        self.overhear(&router);
        let mut begun = world.clock.elapsed();
        let heals_at = begun + world.inner.lock().unwrap().profile.heals_after;
        let mut sends_since = None;
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
                    if let Some(since) = sends_since {
                        world.check_in_time(since);
                    }
                    if last && world.faults() && world.clock.elapsed() >= heals_at {
                        self.calm();
                        begun = world.clock.elapsed();
                    }
                    if last && !world.faults() && self.tidy(&router, begun).await {
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
                        Ok(()) => {
                            self.adopt = false;
                            sends_since = Some(world.clock.elapsed());
                        }
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

    fn overhear(&self, router: &OrderRouter) {
        let (mut events, world) = (router.events(), self.world.clone());
        let panics = matches!(self.plan.kind, Kind::Panics | Kind::Rebuilt);
        // What another writer has changed is noticed.
        let alone = self.plan.kind != Kind::SecondWriter;
        actix::spawn(async move {
            while let Some(event) = events.next().await {
                world.note(|| format!("event {event:?}"));
                if let RouterEvent::Alarm { what } = event
                    && ((what.contains("panicked") && !panics)
                        || (what.contains("disagrees") && alone))
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
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run({:?})", self.plan)
    }
}

/// One thread whose time stands still while anything can go on.
pub fn paused_system() -> SystemRunner {
    System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
    })
}
