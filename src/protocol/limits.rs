//! Limits of orders and money per minute and per day: what is counted, and how.
//!
//! Time is that of the *limit clock*: whole seconds that only ever go on. Within a process it goes with the
//! monotonic clock; over a restart it goes on by [`carried_on`]. No jump of a wall clock moves it by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Why;
use crate::order::Price;

/// The windows, in seconds.
const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * 60;
/// What is older is kept by whole minutes, and what is older still by whole quarters of an hour.
const FINE: u64 = 60;
const COARSE: u64 = 15 * 60;
/// What a restart may always have taken longer to notice: answers that carry the supplier's clock are late.
const CARRY_MARGIN: Duration = Duration::from_secs(60);

/// So many orders and so much money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// How many orders.
    pub orders: u64,
    /// What they cost at most, as their price guards say.
    pub amount: Price,
}

impl Sum {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            orders: self.orders.saturating_add(other.orders),
            amount: self.amount.plus(other.amount),
        }
    }

    /// What is left without the other; never less than nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            orders: self.orders.saturating_sub(other.orders),
            amount: self.amount.minus(other.amount),
        }
    }
}

/// The clocks of the world at a moment, to tell later how much time has passed at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// This machine's wall clock.
    pub wall: Timestamp,
    /// The supplier's, as far as one of its answers has told it.
    pub supplier: Option<Timestamp>,
}

/// A reservation: durable before what it counts may leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    /// The limit clock when it is made.
    pub now: u64,
    /// By when, on the limit clock, what it counts has left, or never will.
    pub at: u64,
    /// What may leave.
    pub sum: Sum,
    /// Earlier reservations, by their `at`, and what of them was proved not to be spent.
    pub back: Vec<(u64, Sum)>,
    /// The clocks when it is made.
    pub clocks: Clocks,
}

/// Most entries of [`Spend::back`] in one record.
pub const BACK_PER_RECORD_MAX: usize = 64;

/// What was spent of late.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// By the last second in which it can have been.
    slots: BTreeMap<u64, Sum>,
    /// The limit clock when this was changed last.
    now: u64,
    clocks: Option<Clocks>,
}

impl Spent {
    /// Out of what a store keeps: slots in any order, the limit clock, and the clocks of the last change.
    #[must_use]
    pub fn of(
        slots: impl IntoIterator<Item = (u64, Sum)>,
        now: u64,
        clocks: Option<Clocks>,
    ) -> Self {
        let mut spent = Self { slots: BTreeMap::new(), now, clocks };
        for (at, sum) in slots {
            spent.put(at, sum);
        }
        spent.forget(now);
        spent
    }

    /// The slots, oldest first.
    #[must_use]
    pub fn slots(&self) -> impl ExactSizeIterator<Item = (u64, Sum)> + '_ {
        self.slots.iter().map(|(at, sum)| (*at, *sum))
    }

    /// The limit clock at the last change.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// The clocks of the last change; `None`: nothing was ever counted.
    #[must_use]
    pub fn clocks(&self) -> Option<Clocks> {
        self.clocks
    }

    /// Applies a reservation.
    pub fn apply(&mut self, spend: &Spend) {
        for (at, sum) in &spend.back {
            self.take_back(*at, *sum);
        }
        self.now = self.now.max(spend.now);
        self.clocks = Some(spend.clocks);
        self.add(spend.at, spend.sum, self.now);
    }

    /// Counts something that has left by `at`.
    pub fn add(&mut self, at: u64, sum: Sum, now: u64) {
        self.put(at, sum);
        self.forget(now);
    }

    fn put(&mut self, at: u64, sum: Sum) {
        if sum != Sum::default() {
            let slot = self.slots.entry(at).or_default();
            *slot = slot.plus(sum);
        }
    }

    /// Counts something out again that was counted under `at` and was not spent.
    fn take_back(&mut self, at: u64, sum: Sum) {
        let names = [at, up_to(at, FINE), up_to(at, COARSE)];
        let name = names.into_iter().find(|name| self.slots.contains_key(name));
        if let Some(slot) = name.and_then(|name| self.slots.get_mut(&name)) {
            *slot = slot.minus(sum);
        }
    }

    /// Puts what is old together, counted as at its end, and lets go of what no window reaches.
    fn forget(&mut self, now: u64) {
        for size in [FINE, COARSE] {
            // Not before all of it is out of the window of a minute.
            let over = now.saturating_sub(MINUTE) / size * size;
            let old: Vec<u64> =
                self.slots.range(..=over).map(|(at, _)| *at).filter(|at| at % size != 0).collect();
            for at in old {
                let sum = self.slots.remove(&at).unwrap_or_default();
                self.put(up_to(at, size), sum);
            }
        }
        self.slots.retain(|at, sum| at.saturating_add(DAY) > now && *sum != Sum::default());
    }

    /// What was spent in the window that ends now.
    fn within(&self, window: u64, now: u64) -> Sum {
        let from = now.saturating_add(1).saturating_sub(window);
        self.slots.range(from..).fold(Sum::default(), |all, (_, sum)| all.plus(*sum))
    }
}

/// The next multiple, or this one.
fn up_to(at: u64, size: u64) -> u64 {
    at.div_ceil(size).saturating_mul(size)
}

/// How much the limit clock goes on from the clocks of the last record to those of a start: no more than
/// both the wall clock and the supplier's say, less a margin. What cannot be told is no time at all, so that
/// everything counted goes on to count.
#[must_use]
pub fn carried_on(then: Clocks, now: Clocks) -> Duration {
    let gap = |then: Timestamp, now: Timestamp| {
        Duration::try_from(now.duration_since(then)).unwrap_or(Duration::ZERO)
    };
    let (Some(before), Some(after)) = (then.supplier, now.supplier) else {
        return Duration::ZERO;
    };
    gap(then.wall, now.wall).min(gap(before, after)).saturating_sub(CARRY_MARGIN)
}

/// Most orders and most money in one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Most {
    /// Most orders.
    pub orders: Option<u64>,
    /// Most money.
    pub amount: Option<Price>,
}

/// The limits of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// In any sixty seconds.
    pub minute: Most,
    /// In any twenty-four hours.
    pub day: Most,
}

impl Limits {
    /// Whether there is any.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// Whether any is one of money.
    #[must_use]
    pub fn is_of_money(&self) -> bool {
        self.minute.amount.is_some() || self.day.amount.is_some()
    }

    /// What has no room for `more`, if anything. `beside`: what is counted whatever its age.
    #[must_use]
    pub fn full(&self, spent: &Spent, beside: Sum, more: Sum, now: u64) -> Option<Why> {
        let windows = [(self.minute, MINUTE, "minute"), (self.day, DAY, "day")];
        windows.into_iter().find_map(|(most, window, name)| {
            let all = spent.within(window, now).plus(beside).plus(more);
            if let Some(most) = most.orders.filter(|most| all.orders > *most) {
                return Some(format!("the limit of {most} orders a {name} is reached").into());
            }
            let most = most.amount.filter(|most| all.amount > *most)?;
            Some(format!("the limit of {most} a {name} is reached").into())
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(orders: u64, amount: &str) -> Sum {
        Sum { orders, amount: amount.parse().expect("an amount") }
    }

    fn clocks(wall: i64, supplier: Option<i64>) -> Clocks {
        let at = |seconds| Timestamp::new(seconds, 0).expect("in range");
        Clocks { wall: at(wall), supplier: supplier.map(at) }
    }

    #[test]
    fn a_limit_is_reached_by_number_and_by_money_in_each_window() {
        let most = |orders, amount: &str| Most { orders, amount: amount.parse().ok() };
        let limits = Limits { minute: most(Some(2), ""), day: most(None, "10") };
        let (mut spent, none) = (Spent::default(), Sum::default());
        let full = |spent: &Spent, more, now| limits.full(spent, none, more, now);
        assert_eq!(full(&spent, sum(2, "10"), 1_000), None);
        assert!(
            full(&spent, sum(3, "1"), 1_000).is_some_and(|why| why.contains("2 orders a minute"))
        );
        assert!(full(&spent, sum(1, "10.01"), 1_000).is_some_and(|why| why.contains("10 a day")));
        spent.add(1_000, sum(2, "4.005"), 1_000);
        assert!(full(&spent, sum(1, "1"), 1_059).is_some());
        assert_eq!(full(&spent, sum(1, "5.995"), 1_060), None);
        assert!(full(&spent, sum(1, "5.996"), 1_060).is_some());
        assert!(full(&spent, sum(1, "5.996"), 1_000 + DAY - 1).is_some());
        assert!(limits.full(&Spent::default(), sum(2, "0"), sum(1, "0"), 0).is_some());
    }

    #[test]
    fn what_was_not_spent_is_taken_back_where_it_was_counted() {
        let mut spent = Spent::default();
        let spend = |now, at, one, back| Spend { now, at, sum: one, back, clocks: clocks(0, None) };
        spent.apply(&spend(100, 130, sum(3, "9"), vec![]));
        spent.apply(&spend(1_000, 1_030, sum(1, "1"), vec![(130, sum(1, "3"))]));
        assert_eq!(spent.within(DAY, 1_000), sum(3, "7"));
        spent.apply(&spend(
            1_001,
            1_031,
            sum(0, "0"),
            vec![(130, sum(9, "99")), (77, sum(1, "1"))],
        ));
        assert_eq!(spent.within(DAY, 1_001), sum(1, "1"));
    }

    #[test]
    fn over_a_restart_the_clock_goes_on_by_what_both_clocks_say() {
        let carried = |then, now| carried_on(then, now).as_secs();
        let (day, then) = (24 * 3_600, clocks(1_000_000, Some(2_000_000)));
        assert_eq!(carried(then, clocks(1_000_000 + 600, Some(2_000_000 + 600))), 540);
        // Either clock jumps ahead, or one back.
        assert_eq!(carried(then, clocks(1_000_000 + day, Some(2_000_000 + 5))), 0);
        assert_eq!(carried(then, clocks(1_000_000 + 5, Some(2_000_000 + day))), 0);
        assert_eq!(carried(then, clocks(1_000_000 - day, Some(2_000_000 + day))), 0);
        // The supplier's is not known.
        assert_eq!(carried(then, clocks(1_000_000 + day, None)), 0);
        assert_eq!(carried(clocks(1_000_000, None), clocks(1_000_000 + day, Some(0))), 0);
    }

    proptest! {
        /// Slots that were put together never say less than what was there, and they stay few.
        #[test]
        fn old_slots_put_together_never_give_a_limit_twice(
            steps in proptest::collection::vec((0_u64..400, 0_u64..60, 0_u64..5), 1..200),
        ) {
            let (mut spent, mut all, mut now) = (Spent::default(), Vec::new(), 1_000_000);
            for (pass, ahead, orders) in steps {
                now += pass;
                spent.add(now + ahead, sum(orders, "0"), now);
                all.push((now + ahead, orders));
                for window in [MINUTE, DAY] {
                    let exact: u64 =
                        all.iter().filter(|(at, _)| at + window > now).map(|(_, orders)| orders).sum();
                    prop_assert!(spent.within(window, now).orders >= exact);
                }
                let minute: u64 =
                    all.iter().filter(|(at, _)| at + MINUTE > now).map(|(_, orders)| orders).sum();
                prop_assert_eq!(spent.within(MINUTE, now).orders, minute);
                prop_assert!(spent.slots().len() < 400);
            }
        }
    }
}
