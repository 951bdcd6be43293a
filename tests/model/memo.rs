//! What a lane does, remembered: many states share one lane, and its step depends on nothing else.

use std::cell::RefCell;
use std::collections::HashMap;

use order_router::protocol::Moment;
use order_router::protocol::lane::{Effect, Event, Lane, Names};

use super::marks::{Hashed, mark};
use super::setup::{Setup, TICK, base};
use super::world::Shared;

type Table<T> = RefCell<HashMap<u64, T, Hashed>>;

thread_local! {
    static STEPS: Table<(Shared<Lane>, &'static [Effect])> = RefCell::default();
    static LANES: Table<Shared<Lane>> = RefCell::default();
}

impl Setup {
    /// The lane's own step: the lane after it, moved back to the model's moment, and its effects.
    pub fn stepped(
        &self,
        lane: Shared<Lane>,
        event: Event,
        now: Moment,
    ) -> (Shared<Lane>, &'static [Effect]) {
        let rules = self.rules();
        let key = mark(&(lane.mark(), &event, now, &rules));
        let known = STEPS.with_borrow(|steps| steps.get(&key).copied());
        known.unwrap_or_else(|| {
            let mut next = Lane::clone(&lane);
            let effects: &'static [Effect] = next.step(&rules, event, now).leak();
            let next = Shared::new(next.rebased(&rules, now, base()));
            STEPS.with_borrow_mut(|steps| steps.insert(key, (next, effects)));
            (next, effects)
        })
    }

    /// The lane a tick later, where it is not to be woken.
    pub fn aged(&self, lane: Shared<Lane>) -> Shared<Lane> {
        let rules = self.rules();
        remembered(mark(&(lane.mark(), "aged", &rules)), || {
            Lane::clone(&lane).rebased(&rules, base().plus(TICK), base())
        })
    }

    /// The lane under other names; `named` is all that they depend on.
    pub fn renamed(&self, lane: Shared<Lane>, names: &Names<'_>, named: u64) -> Shared<Lane> {
        let key = mark(&(lane.mark(), "renamed", named));
        remembered(key, || Lane::clone(&lane).renamed(names))
    }
}

fn remembered(key: u64, make: impl FnOnce() -> Lane) -> Shared<Lane> {
    let known = LANES.with_borrow(|lanes| lanes.get(&key).copied());
    known.unwrap_or_else(|| {
        let lane = Shared::new(make());
        LANES.with_borrow_mut(|lanes| lanes.insert(key, lane));
        lane
    })
}

/// How many steps and other forms of lanes are remembered in this thread.
pub fn remembered_count() -> (usize, usize) {
    (STEPS.with_borrow(HashMap::len), LANES.with_borrow(HashMap::len))
}
