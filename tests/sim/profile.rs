//! What a seed makes of the supplier and the schedule.

use std::time::Duration;

use fastrand::Rng;
use order_router::protocol::evidence::Means;
use order_router::simulator::{ListFault, PostFault};

/// What the router is set to, and the supplier keeps to.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub request_timeout: Duration,
    pub landing: Duration,
    pub wire: Duration,
    /// How much older than now a stale list may be: part of the landing bound (A1).
    pub stale: Duration,
}

impl Bounds {
    pub const USUAL: Self = Self {
        request_timeout: Duration::from_secs(5),
        landing: Duration::from_secs(20),
        wire: Duration::from_secs(2),
        stale: Duration::from_secs(4),
    };
}

/// How an order is shown wrongly, where it is (A4 is broken).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    /// With another quantity, whichever order.
    Quantity,
    /// With another quantity, only orders that no answer names.
    Unanswered,
    /// As another product, that is ordered here as well.
    Product,
    /// Without its tag, only orders that no answer names.
    Tag,
}

/// What a seed makes of the supplier and the schedule.
#[derive(Debug, Clone)]
pub struct Profile {
    pub post_fault: f64,
    pub post_faults: Vec<PostFault>,
    pub list_fault: f64,
    pub late: f64,
    pub slow_answer: f64,
    pub stall: f64,
    pub no_connection: f64,
    pub foreign_other: f64,
    pub foreign_identical: f64,
    pub odd_echo: f64,
    pub list_lag_ms: u64,
    pub store_delay_ms: u64,
    pub page_limit: u32,
    pub rate_limited: Means,
    /// A spell in which lists show nothing at all, or another account.
    pub blind_from: Duration,
    pub bounds: Bounds,
    /// In how many of four late landings it is the last moment of the bound.
    pub at_limit: u8,
    /// In which share of landings that no answer names the list lags for as long as it may.
    pub lag_at_limit: Option<f64>,
    /// Connections that take long; as often as stalls if that is not set.
    pub slow_connect: Option<f64>,
    pub connect_ms: u64,
    /// Whoever was slow to connect does not answer, and lands as late as he may.
    pub slow_is_silent: bool,
    pub slow_answer_ms: u64,
    /// Refusals, for now, of what is not refused at other times.
    pub refuses: f64,
    /// So many callers come at once, and the next so many half a minute later; 0: any time.
    pub bursts: u64,
    /// The next order of the same items is handed over as soon as the one before has ended.
    pub chained: bool,
    /// The longest pause of a caller.
    pub call_again_ms: u64,
    /// The longest that the first life lasts.
    pub first_life_ms: u64,
    /// How long nobody lives between two lives, at most.
    pub restart_ms: u64,
    /// Everything happens at a multiple of it; 0: of 1 ms.
    pub tick_ms: u64,
    /// The troubles of lists, if not all.
    pub list_troubles: Vec<ListTrouble>,
    pub odd: Odd,
    /// The longest stop of the process before a gate, and behind it.
    pub stall_ms: u64,
    /// It is stopped behind the gate of an order whose connection took long.
    pub stall_behind: f64,
    /// The process is stopped as well while a write is being made durable.
    pub stall_write: f64,
    /// The router's code panics at a write.
    pub panics: f64,
    /// It panics just after an intent came in doubt, or was placed from a list, and that is durable.
    pub panics_decided: f64,
    /// A decision that was written is written again later, by somebody else.
    pub repeats: f64,
    /// Of the answers, one at most names another's order.
    pub wrong_id_once: bool,
    /// A POST makes two orders.
    pub twice: f64,
    /// A POST lands after the bound.
    pub too_late: f64,
    /// Lives that read the list of another account.
    pub other_key: f64,
    /// Somebody else buys the same while nobody lives.
    pub foreign_between: f64,
    /// Starts on a data directory of before.
    pub rollback: f64,
    /// The spell in which lists show nothing begins when an order lands late.
    pub blind_after_landing: bool,
    /// What is asked beyond the promise: an answer that names its order ends it, also late.
    pub answers_count: bool,
    /// And: an order that shows is claimed within a known time.
    pub claims_in_time: bool,
    /// Where the last life begins with faults: when they end.
    pub heals_after: Duration,
}

impl Profile {
    pub fn draw(rng: &mut Rng) -> Self {
        let often = |rng: &mut Rng, share: f64, most: f64| {
            if rng.f64() < share { rng.f64() * most } else { 0.0 }
        };
        let unknown = rng.bool();
        let kinds = 1 + rng.usize(..PostFault::ALL.len());
        let mut post_faults: Vec<_> = PostFault::ALL.to_vec();
        // A supplier that creates what it answers with 429 must be known to.
        post_faults.retain(|fault| unknown || *fault != PostFault::RateLimited429After);
        rng.shuffle(&mut post_faults);
        post_faults.truncate(kinds);
        Self {
            post_fault: 0.1 + rng.f64() * 0.7,
            post_faults,
            list_fault: often(rng, 0.7, 0.5),
            late: often(rng, 0.6, 0.6),
            slow_answer: often(rng, 0.5, 0.5),
            stall: often(rng, 0.3, 0.3),
            no_connection: often(rng, 0.3, 0.3),
            foreign_other: often(rng, 0.15, 0.3),
            foreign_identical: often(rng, 0.1, 0.2),
            odd_echo: often(rng, 0.05, 0.2),
            list_lag_ms: if rng.bool() { rng.u64(..4000) } else { 0 },
            store_delay_ms: *rng.choice(&[0, 0, 3, 40, 800]).unwrap(),
            page_limit: rng.u32(2..12),
            rate_limited: if unknown { Means::Unknown } else { Means::NotSent },
            blind_from: Duration::from_millis(rng.u64(..60_000)),
            bounds: Bounds::USUAL,
            at_limit: 1,
            lag_at_limit: None,
            slow_connect: None,
            connect_ms: 4000,
            slow_is_silent: false,
            bursts: 0,
            chained: false,
            call_again_ms: 20_000,
            slow_answer_ms: 12_000,
            refuses: 0.0,
            first_life_ms: 90_000,
            restart_ms: 30_000,
            tick_ms: 0,
            list_troubles: Vec::new(),
            odd: Odd::Quantity,
            stall_ms: 60_000,
            stall_write: 0.0,
            panics: 0.0,
            stall_behind: 0.0,
            panics_decided: 0.0,
            repeats: 0.0,
            wrong_id_once: false,
            twice: 0.0,
            too_late: 0.0,
            other_key: 0.0,
            foreign_between: 0.0,
            rollback: 0.0,
            blind_after_landing: false,
            answers_count: false,
            claims_in_time: false,
            heals_after: Duration::ZERO,
        }
    }

    /// A delay as this world has them.
    pub fn ticks(&self, now: Duration, delay: Duration) -> Duration {
        if self.tick_ms == 0 {
            return delay;
        }
        let ticks = u64::try_from((now + delay).as_millis()).unwrap().div_ceil(self.tick_ms);
        Duration::from_millis(ticks * self.tick_ms).saturating_sub(now)
    }

    /// A world in which nothing goes wrong; the faults of POSTs are drawn as usual, for whoever
    /// raises their share.
    pub fn quiet(rng: &mut Rng) -> Self {
        let mut p = Self::draw(rng);
        // One that names another's order, or stops the account, is for the usual worlds.
        p.post_faults = vec![
            PostFault::Status502After,
            PostFault::ResetAfter,
            PostFault::NoId201,
            PostFault::WithheldAfterCreation,
            PostFault::CreatedLate,
            PostFault::Status500Before,
            PostFault::WithheldNeverCreated,
        ];
        for share in [
            &mut p.post_fault,
            &mut p.list_fault,
            &mut p.late,
            &mut p.slow_answer,
            &mut p.stall,
            &mut p.no_connection,
            &mut p.foreign_other,
            &mut p.foreign_identical,
            &mut p.odd_echo,
        ] {
            *share = 0.0;
        }
        (p.list_lag_ms, p.store_delay_ms) = (0, *rng.choice(&[0, 0, 3, 40]).unwrap());
        p
    }
}

/// What goes wrong with one page.
#[derive(Debug, Clone, Copy)]
pub enum ListTrouble {
    Of(ListFault),
    /// The rows of another account.
    OtherKey,
    /// A cache answers, and says so.
    Cached,
    /// Fewer rows than asked for.
    Clamped,
    /// Past the end the last page comes again.
    Overflow,
    /// 401 with the supplier's error.
    Refused,
    /// A page that is not the first begins some rows later than asked for.
    Skips,
    /// Only the first page is there, though more are said to be.
    Cut,
}
