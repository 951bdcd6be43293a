//! Kinds of worlds. A quarter of all seeds is the usual one, in which everything happens a little;
//! the others are small worlds in which one thing happens often, each so that some clauses of the
//! rules are all that stands between it and a double purchase.

use std::time::Duration;

use fastrand::Rng;
use order_router::protocol::PaysOn;
use order_router::simulator::{ListFault, PostFault};
use order_router::{ClientRef, Config, Item, Note, Order, StartAnswer};

use crate::profile::{Bounds, ListTrouble, Odd, Profile};
use crate::supplier::REFUSED_PRODUCT;

/// Where orders come one after the other: how many such chains there are.
pub const IN_CHAIN: u32 = 2;

/// What a world is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Everything, a little of each.
    Usual,
    /// POSTs land at the last moment that the bounds allow, beside identical ones that are quick.
    Edge,
    /// Orders show in the list long after they are there, and out of order.
    Lag,
    /// The router's own code panics at a write; the process stops before a gate.
    Panics,
    /// Answers come long after the timeout, the process stops for longer than every bound, and the
    /// supplier refuses now and then.
    LateAnswers,
    /// Every order has a lane of its own; lists fail, answers are late.
    Alone,
    /// Every order has a lane of its own; one POST makes two orders.
    Twice,
    /// Pages skip rows.
    Skips,
    /// The list shows nothing just after an order has landed.
    Blind,
    /// Orders that were not answered are shown with another quantity (A4 is broken).
    OddDoubts,
    /// Every order is shown as another product, from the first on (A4 is broken).
    OddAll,
    /// Some lives read the list with the key of another account.
    OtherKey,
    /// Somebody else buys the same, before and between the lives (A3 is broken).
    Foreign,
    /// POSTs land after the bound (A1 is broken).
    TooLate,
    /// Orders of one lane differ in a note that the list does not show.
    Notes,
    /// The data directory of an earlier day, or an empty one, is put in place (M2 is broken).
    Rollback,
    /// All delays are multiples of 100 ms, so everything meets everything.
    Ticks,
    /// A second writer repeats decisions that were written before (A5 is broken).
    SecondWriter,
    /// Many identical orders at once, without end, at a supplier that is slow to answer.
    Crowd,
    /// Listings take long, and orders land at the last moment.
    SlowLists,
    /// The process is stopped before a gate and during writes, for longer than orders are good for.
    Stops,
    /// Lanes are rebuilt again and again while their POSTs are with tasks that have not sent them.
    Rebuilt,
    /// Orders are paid after they were created. No seed has it by itself.
    Pays,
    /// Orders carry tags, which are lost now and then, and somebody else buys the same. No seed has it by
    /// itself.
    Tagged,
}

pub const ALL: [Kind; 19] = [
    Kind::Usual,
    Kind::Edge,
    Kind::Lag,
    Kind::Panics,
    Kind::LateAnswers,
    Kind::Alone,
    Kind::Twice,
    Kind::Skips,
    Kind::Blind,
    Kind::OddDoubts,
    Kind::OddAll,
    Kind::OtherKey,
    Kind::Foreign,
    Kind::TooLate,
    Kind::Notes,
    Kind::Rollback,
    Kind::Ticks,
    Kind::SecondWriter,
    Kind::Crowd,
];

/// Those that more seeds have.
const OFTEN: [Kind; 6] =
    [Kind::Edge, Kind::Edge, Kind::Edge, Kind::SlowLists, Kind::Panics, Kind::LateAnswers];

/// Those that have seeds of their own.
const LATER: [Kind; 2] = [Kind::Stops, Kind::Rebuilt];

/// Creates, and says so in no way that the router may believe; at once.
const CREATES_UNSAID: &[PostFault] = &[
    PostFault::Status502After,
    PostFault::Status500After,
    PostFault::ResetAfter,
    PostFault::NoId201,
    PostFault::Empty201,
    PostFault::Cut201,
];
/// As it is, or with nothing created, and also without a word.
const DOUBTS: &[PostFault] = &[
    PostFault::Status502After,
    PostFault::ResetAfter,
    PostFault::NoId201,
    PostFault::WithheldAfterCreation,
    PostFault::Status502Before,
    PostFault::ResetBefore,
    PostFault::WithheldNeverCreated,
];
/// Nothing is created, and the answer does not say so.
const BOUGHT_NOTHING: &[PostFault] =
    &[PostFault::Status502Before, PostFault::ResetBefore, PostFault::Status500Before];
/// Creates, and does not answer.
const WITHHELD: &[PostFault] = &[PostFault::WithheldAfterCreation];
/// Creates and answers well, but late.
const LATE: &[PostFault] = &[PostFault::CreatedLate];

impl Kind {
    /// The kind of a seed's world: of every four seeds one is usual. What takes many conditions at
    /// once has more of the others.
    pub fn of(seed: u64) -> Self {
        // These worlds came later: the seeds that are named in tests keep theirs.
        match seed % 64 {
            29 => return Self::Stops,
            61 => return Self::Rebuilt,
            _ => {}
        }
        let hash = (seed ^ 0x5eed_141e).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        if hash & 3 == 0 {
            return Self::Usual;
        }
        let place = usize::try_from(hash >> 2).unwrap_or(0) % (ALL.len() - 1 + OFTEN.len());
        OFTEN.get(place).copied().unwrap_or_else(|| ALL[1 + place - OFTEN.len()])
    }

    pub fn named(name: &str) -> Option<Self> {
        let all = ALL.into_iter().chain(OFTEN).chain(LATER).chain([Self::Pays, Self::Tagged]);
        let mut named = all.filter(|kind| format!("{kind:?}") == name);
        named.next()
    }

    /// How many lives before the last: 0 where the faults end while the router lives.
    pub fn lives(self, rng: &mut Rng) -> u32 {
        match self {
            Self::Usual => rng.u32(1..5),
            Self::Twice | Self::Crowd | Self::Skips => 0,
            Self::Ticks | Self::OtherKey => rng.u32(1..3),
            Self::Rollback => rng.u32(2..5),
            Self::Foreign => rng.u32(3..6),
            Self::TooLate | Self::Alone | Self::LateAnswers => rng.u32(..2),
            _ => rng.u32(..4),
        }
    }

    pub fn profile(self, rng: &mut Rng) -> Profile {
        if self == Self::Usual {
            return Profile::draw(rng);
        }
        let mut p = Profile::quiet(rng);
        p.heals_after = Duration::from_secs(rng.u64(60..300));
        match self {
            Self::Usual => {}
            Self::Edge => edge(rng, &mut p),
            Self::Lag => lag(&mut p),
            Self::Panics => {
                p.post_fault = 0.5;
                (p.panics, p.stall, p.late) = (0.25, 0.5, 0.9);
                p.slow_connect = Some(0.7);
            }
            Self::LateAnswers => {
                p.post_fault = 0.4;
                p.post_faults =
                    [LATE, &[PostFault::RateLimited429, PostFault::CreatedLate]].concat();
                (p.slow_answer, p.slow_answer_ms, p.refuses) = (0.7, 19_000, 0.5);
                (p.stall, p.late) = (0.5, 0.3);
            }
            Self::Alone => {
                (p.post_fault, p.post_faults) = (0.3, LATE.to_vec());
                (p.slow_answer, p.slow_answer_ms, p.list_fault) = (0.8, 15_000, 0.9);
                p.list_troubles = vec![ListTrouble::Of(ListFault::Status500)];
                p.answers_count = true;
            }
            Self::Twice => {
                (p.post_fault, p.post_faults) = (0.8, CREATES_UNSAID.to_vec());
                // Both show in one page, or in none.
                (p.twice, p.page_limit) = (0.6, 50);
            }
            Self::Skips => {
                (p.post_fault, p.post_faults) = (0.4, CREATES_UNSAID.to_vec());
                (p.list_fault, p.page_limit, p.lag_at_limit) = (0.6, 2, Some(0.9));
                p.list_troubles = vec![ListTrouble::Skips, ListTrouble::Cut];
                (p.bounds.stale, p.bounds.wire) = (Duration::ZERO, Duration::from_secs(6));
            }
            Self::Blind => {
                (p.post_fault, p.post_faults, p.late) = (0.6, DOUBTS.to_vec(), 0.9);
                p.blind_after_landing = true;
            }
            Self::OddDoubts => {
                (p.post_fault, p.post_faults) = (0.5, CREATES_UNSAID.to_vec());
                (p.odd_echo, p.odd) = (0.7, Odd::Unanswered);
            }
            Self::OddAll => {
                (p.post_fault, p.post_faults) = (1.0, CREATES_UNSAID.to_vec());
                (p.odd_echo, p.odd) = (1.0, Odd::Product);
            }
            Self::OtherKey => {
                (p.post_fault, p.post_faults) = (0.9, DOUBTS.to_vec());
                (p.other_key, p.restart_ms, p.first_life_ms) = (0.8, 3000, 4000);
            }
            Self::Foreign => {
                (p.post_fault, p.post_faults) = (0.8, BOUGHT_NOTHING.to_vec());
                (p.foreign_between, p.restart_ms) = (0.6, 5000);
                (p.bursts, p.first_life_ms) = (2, 10_000);
            }
            Self::TooLate => {
                (p.post_fault, p.post_faults) = (0.5, DOUBTS.to_vec());
                p.too_late = 0.5;
            }
            Self::SlowLists => {
                (p.post_fault, p.post_faults, p.late) = (0.6, CREATES_UNSAID.to_vec(), 0.6);
                (p.list_fault, p.at_limit, p.bounds.stale) = (0.7, 4, Duration::ZERO);
                p.page_limit = 11;
                p.list_troubles = vec![ListTrouble::Of(ListFault::Slow)];
            }
            Self::Notes => (p.post_fault, p.late) = (0.7, 0.3),
            Self::Rollback => (p.post_fault, p.rollback) = (0.2, 1.0),
            Self::Ticks => {
                (p.post_fault, p.post_faults) = (0.5, [LATE, WITHHELD].concat());
                (p.slow_answer, p.slow_answer_ms) = (0.8, 7000);
                p.bounds.request_timeout = Duration::from_secs(1);
                (p.tick_ms, p.chained, p.call_again_ms) = (100, true, 400);
                (p.store_delay_ms, p.list_lag_ms, p.page_limit) = (0, 12_000, 2);
            }
            Self::SecondWriter => (p.post_fault, p.repeats) = (0.6, 0.4),
            Self::Stops => {
                (p.post_fault, p.post_faults) = (0.4, DOUBTS.to_vec());
                (p.stall, p.stall_ms, p.stall_write) = (0.5, 200_000, 0.1);
            }
            Self::Rebuilt => rebuilt(rng, &mut p),
            Self::Pays => {
                (p.post_fault, p.post_faults) = (0.3, DOUBTS.to_vec());
                (p.late, p.list_lag_ms) = (0.2, rng.u64(..2000));
                p.stall = *rng.choice(&[0.0, 0.1]).unwrap();
                p.panics = *rng.choice(&[0.0, 0.0, 0.0, 0.1]).unwrap();
            }
            Self::Tagged => {
                (p.post_fault, p.post_faults, p.late) = (0.6, DOUBTS.to_vec(), 0.3);
                (p.foreign_identical, p.foreign_between) = (0.3, 0.2);
                p.odd_echo = *rng.choice(&[0.0, 0.0, 0.5]).unwrap();
                p.odd = *rng.choice(&[Odd::Tag, Odd::Unanswered]).unwrap();
                p.panics = *rng.choice(&[0.0, 0.0, 0.1]).unwrap();
            }
            Self::Crowd => {
                p.post_fault = 0.6;
                (p.slow_answer, p.slow_answer_ms, p.claims_in_time) = (0.8, 5_000, true);
            }
        }
        p
    }

    /// What callers want.
    pub fn orders(self, rng: &mut Rng) -> Vec<Order> {
        let count = match self {
            Self::Crowd => rng.u32(30..50),
            Self::Ticks => rng.u32(8..20),
            Self::Lag | Self::SlowLists => rng.u32(6..14),
            Self::OtherKey => rng.u32(1..4),
            _ => rng.u32(2..7),
        };
        let one = matches!(
            self,
            Self::Lag | Self::Edge | Self::Skips | Self::LateAnswers | Self::Rebuilt
        ) || rng.bool();
        let products = match self {
            Self::SlowLists => 4,
            _ if one => 1,
            _ => 2,
        };
        let order = |rng: &mut Rng, n: u32| {
            let product = match self {
                Self::Alone | Self::Twice => n,
                Self::Ticks => n % IN_CHAIN,
                _ => rng.u32(..products),
            };
            let name = match self {
                // Named, and never bought.
                Self::OddAll if n == 0 => REFUSED_PRODUCT.to_owned(),
                _ => format!("item-{product}"),
            };
            let item = Item::new(name, 1).unwrap();
            let item = match self {
                Self::Notes => item.note(Note::new(&serde_json::json!({"for": n % 2})).unwrap()),
                _ => item,
            };
            Order::new(ClientRef::new(format!("ref-{n}")).unwrap(), vec![item]).unwrap()
        };
        (0..count).map(|n| order(rng, n)).collect()
    }

    /// Where the echo is wrong from the first, nobody has said that it is right.
    pub fn trusts_echo(self) -> bool {
        self != Self::OddAll
    }

    /// What the router is set to.
    pub fn config(self, rng: &mut Rng, bounds: &Bounds) -> Config {
        let millis = Duration::from_millis;
        let config = Config::default()
            .request_timeout(bounds.request_timeout)
            .landing_bound(Some(bounds.landing))
            .tries_max(rng.u8(2..4))
            .good_for(Duration::from_secs(rng.u64(200..1200)))
            .posts_max(rng.usize(2..12))
            .lane_posts_max(rng.usize(2..6))
            .late_sockets_max(8)
            .look_again(millis(500), millis(rng.u64(1000..8000)))
            .list_margin(Duration::ZERO)
            .trust_echo(self.trusts_echo())
            .start(StartAnswer::NewAccount);
        match self {
            Self::Crowd => {
                config.posts_max(6).lane_posts_max(3).look_again(millis(300), millis(500))
            }
            Self::Ticks => {
                config.look_again(millis(100), millis(200)).posts_max(40).doubts_max(100)
            }
            Self::SlowLists => config.look_again(millis(500), millis(1000)).posts_max(12),
            Self::LateAnswers => config.look_again(millis(500), millis(2000)).tries_max(3),
            // What creating pays shows within two seconds (A6).
            Self::Pays => config.pays_on(PaysOn::Pay).pay_watch(millis(rng.u64(2000..8000))),
            Self::Blind => config.look_again(millis(4000), millis(30_000)),
            Self::Stops => config.good_for(Duration::from_secs(rng.u64(20..60))),
            Self::Rebuilt => {
                config.look_again(millis(100), millis(1000)).posts_max(12).lane_posts_max(12)
            }
            _ => config,
        }
    }
}

/// Little room between the bounds and what happens.
fn edge(rng: &mut Rng, p: &mut Profile) {
    let timeout = rng.u64(2..8);
    let landing = timeout * 2 + rng.u64(..2);
    p.bounds = Bounds {
        request_timeout: Duration::from_secs(timeout),
        landing: Duration::from_secs(landing),
        wire: Duration::from_secs(rng.u64(1..16)),
        stale: Duration::ZERO,
    };
    p.slow_is_silent = rng.bool();
    let faults = if p.slow_is_silent { CREATES_UNSAID } else { DOUBTS };
    (p.post_fault, p.post_faults) = (0.8, faults.to_vec());
    p.late = if p.slow_is_silent { *rng.choice(&[0.0, 1.0]).unwrap() } else { 0.5 };
    (p.at_limit, p.restart_ms, p.bursts) = (4, 300, rng.u64(2..4));
    (p.slow_connect, p.connect_ms) = (Some(0.5), 1950);
    p.stall = if p.slow_is_silent || rng.bool() { 0.0 } else { 0.1 };
}

/// A lane is rebuilt while some of its POSTs have a connection to wait for yet, and others have
/// landed and are answered a moment later, in no way that proves anything.
fn rebuilt(rng: &mut Rng, p: &mut Profile) {
    let timeout = rng.u64(2..5);
    p.bounds = Bounds {
        request_timeout: Duration::from_secs(timeout),
        landing: Duration::from_secs(timeout * 2 + rng.u64(..2)),
        wire: Duration::from_secs(rng.u64(1..3)),
        stale: Duration::ZERO,
    };
    (p.post_fault, p.post_faults) = (0.9, CREATES_UNSAID.to_vec());
    (p.slow_connect, p.connect_ms, p.slow_is_silent) = (Some(0.3), 1950, true);
    (p.slow_answer, p.slow_answer_ms, p.at_limit) = (0.7, 1500, 4);
    (p.panics_decided, p.panics, p.bursts) = (0.8, 0.02, rng.u64(3..6));
    p.stall_behind = 0.8;
}

/// What is created shows late.
fn lag(p: &mut Profile) {
    (p.post_fault, p.post_faults) = (0.5, CREATES_UNSAID.to_vec());
    // One answer that names another's order is allowed for (A7).
    p.post_faults.push(PostFault::WrongId201);
    p.wrong_id_once = true;
    (p.lag_at_limit, p.page_limit, p.restart_ms) = (Some(0.5), 2, 1000);
    p.bounds.stale = Duration::ZERO;
}
