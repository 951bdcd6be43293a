//! The right to write and to send, for a while: one router at a time has it (rule 16).
//!
//! Every change of a store that is shared carries the lease's epoch, and the server refuses it once
//! a newer one was given out. That keeps an old holder from writing, not from sending: so the gate of
//! each POST asks the lease as well, and the next holder waits for what may have passed a gate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long a lease lasts and what is allowed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerms {
    /// How long it lasts from the moment before it was asked for. It is renewed at a third of that.
    /// Default: 10 s. When its holder dies, the next one waits for as long.
    pub length: Duration,
    /// How long before its end nothing is sent any more: for clocks that run at different speeds.
    /// Default: 1 s.
    pub margin: Duration,
    /// The longest time for which a process may be stopped between the gate of an order and the
    /// kernel (assumption A8). The next holder counts settling from its start plus this. Default: 30 s.
    pub pause_max: Duration,
}

impl Default for LeaseTerms {
    fn default() -> Self {
        Self {
            length: Duration::from_secs(10),
            margin: Duration::from_secs(1),
            pause_max: Duration::from_secs(30),
        }
    }
}

impl LeaseTerms {
    /// What is wrong with them, if anything.
    #[must_use]
    pub fn wrong(&self) -> Option<&'static str> {
        if self.length < Duration::from_millis(100) {
            return Some("a lease lasts at least 100 ms");
        }
        (self.margin * 2 > self.length).then_some("the margin is more than half of the lease")
    }
}

/// A lease that this process has or had. Counted by a clock that goes on while the machine sleeps.
#[derive(Debug)]
pub struct Lease {
    terms: LeaseTerms,
    epoch: u64,
    /// Nanoseconds of the clock.
    ends: AtomicU64,
    lost: AtomicBool,
}

/// A moment before a lease was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked(u64);

impl Asked {
    /// Now, by the clock of leases.
    #[must_use]
    pub fn now() -> Self {
        Self(now())
    }

    /// How long ago.
    #[must_use]
    pub fn ago(self) -> Duration {
        Duration::from_nanos(now().saturating_sub(self.0))
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
/// It stands still while the machine sleeps on some systems: there, a machine is not to sleep.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

fn now() -> u64 {
    let time = rustix::time::clock_gettime(CLOCK);
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

impl Lease {
    /// A lease that a store's server gave out, with an epoch that is higher than any before.
    #[must_use]
    pub fn taken(terms: LeaseTerms, epoch: u64, asked: Asked) -> Arc<Self> {
        let lease = Self { terms, epoch, ends: AtomicU64::new(0), lost: AtomicBool::new(false) };
        lease.renewed(asked);
        Arc::new(lease)
    }

    /// Its number: each later holder's is higher.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What was agreed.
    #[must_use]
    pub fn terms(&self) -> LeaseTerms {
        self.terms
    }

    /// It lasts from when this renewal was asked for.
    pub fn renewed(&self, asked: Asked) {
        let length = u64::try_from(self.terms.length.as_nanos()).unwrap_or(u64::MAX);
        self.ends.fetch_max(asked.0.saturating_add(length), Ordering::AcqRel);
    }

    /// Another has it: it never lasts again.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Whether another has it.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// How long until it ends, by this process's own count; zero once it is lost.
    #[must_use]
    pub fn left(&self) -> Duration {
        if self.is_lost() {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.ends.load(Ordering::Acquire).saturating_sub(now()))
    }

    /// Whether something may be sent now: it lasts for longer than the margin.
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.left() > self.terms.margin
    }
}

/// Prolongs a lease until another has it; `prolong` says whether it is still this process's.
pub(crate) async fn keep<F: Future<Output = Result<bool, String>>>(
    lease: Arc<Lease>,
    mut prolong: impl FnMut() -> F,
) {
    let LeaseTerms { length, pause_max, .. } = lease.terms();
    let mut last = Asked::now();
    loop {
        tokio::time::sleep(length / 3).await;
        if last.ago() > length + pause_max {
            tracing::error!(
                stopped = ?last.ago(),
                "this process was stopped for longer than is allowed for (assumption A8): an order \
                 that was on its way may have left after another router took over"
            );
        }
        last = Asked::now();
        // A question that hangs is not to keep the next one waiting.
        match tokio::time::timeout(length / 3, prolong()).await {
            Ok(Ok(true)) => lease.renewed(last),
            Ok(Ok(false)) => {
                tracing::error!(epoch = lease.epoch(), "another router has taken the store over");
                return lease.lose();
            }
            Ok(Err(why)) => tracing::warn!(why, "the lease was not renewed"),
            Err(_) => tracing::warn!("the lease was not renewed in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(length: u64, margin: u64) -> LeaseTerms {
        let millis = Duration::from_millis;
        LeaseTerms { length: millis(length), margin: millis(margin), pause_max: Duration::ZERO }
    }

    #[test]
    fn lease_lasts_from_before_it_was_asked_for_less_the_margin() {
        let asked = Asked(now() - 50_000_000);
        let lease = Lease::taken(terms(1_000, 100), 7, asked);
        assert!(lease.may_send() && lease.left() <= Duration::from_millis(950));
        assert_eq!(lease.epoch(), 7);
        let old = Lease::taken(terms(1_000, 100), 7, Asked(now() - 901_000_000));
        assert!(!old.may_send(), "within the margin");
        assert!(old.left() > Duration::ZERO);
        old.renewed(Asked::now());
        assert!(old.may_send());
    }

    #[test]
    fn renewal_that_was_asked_for_earlier_shortens_nothing() {
        let lease = Lease::taken(terms(1_000, 100), 1, Asked::now());
        let left = lease.left();
        lease.renewed(Asked(0));
        assert!(lease.left() + Duration::from_millis(100) > left);
    }

    /// The server may have prolonged it at the moment when it was asked, and the answer took its time.
    #[tokio::test]
    async fn lease_is_prolonged_from_before_that_was_asked_for() {
        let lease = Lease::taken(terms(600, 50), 1, Asked::now());
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            Ok(true)
        };
        let keeping = tokio::spawn(keep(lease.clone(), slow));
        let mut before = lease.left();
        let prolonged = loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let left = lease.left();
            if left > before {
                break left;
            }
            before = left;
        };
        keeping.abort();
        assert!(prolonged <= Duration::from_millis(450), "{prolonged:?}");
    }

    #[test]
    fn lost_lease_never_lasts_again() {
        let lease = Lease::taken(terms(1_000, 100), 1, Asked::now());
        lease.lose();
        lease.renewed(Asked::now());
        assert!(!lease.may_send());
        assert_eq!(lease.left(), Duration::ZERO);
    }

    #[test]
    fn terms_that_leave_no_time_to_send_are_refused() {
        assert_eq!(LeaseTerms::default().wrong(), None);
        assert!(terms(99, 1).wrong().is_some());
        assert!(terms(1_000, 501).wrong().is_some());
        assert_eq!(terms(1_000, 500).wrong(), None);
    }
}
