//! What a lane does, remembered: many states share one lane, and its step depends on nothing else.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::thread::LocalKey;

use order_router::protocol::Moment;
use order_router::protocol::lane::{Effect, Event, Lane, Names};

use super::marks::{Hashed, mark};
use super::setup::{Setup, TICK, base};
use super::world::Shared;

type Table<T> = RefCell<HashMap<u64, T, Hashed>>;
type Step = (Shared<Lane>, Arc<[Effect]>);

thread_local! {
    static STEPS: Table<Step> = RefCell::default();
    static LANES: Table<Shared<Lane>> = RefCell::default();
}

/// So much is remembered of each; then it is begun anew.
const KNOWN_MAX: usize = 100_000;

impl Setup {
    /// The lane's own step: the lane after it, moved back to the model's moment, and its effects.
    pub fn stepped(&self, lane: &Shared<Lane>, event: Event, now: Moment) -> Step {
        let rules = self.rules();
        remembered(&STEPS, mark(&(lane.mark(), &event, now, &rules)), || {
            let mut next = Lane::clone(lane);
            let effects = next.step(&rules, event, now);
            (Shared::new(next.rebased(&rules, now, base())), effects.into())
        })
    }

    /// The lane a tick later, where it is not to be woken.
    pub fn aged(&self, lane: &Shared<Lane>) -> Shared<Lane> {
        let rules = self.rules();
        remembered(&LANES, mark(&(lane.mark(), "aged", &rules)), || {
            Shared::new(Lane::clone(lane).rebased(&rules, base().plus(TICK), base()))
        })
    }

    /// The lane under other names; `named` is all that they depend on.
    pub fn renamed(&self, lane: &Shared<Lane>, names: &Names<'_>, named: u64) -> Shared<Lane> {
        let key = mark(&(lane.mark(), "renamed", named));
        remembered(&LANES, key, || Shared::new(Lane::clone(lane).renamed(names)))
    }
}

fn remembered<T: Clone>(
    table: &'static LocalKey<Table<T>>,
    key: u64,
    make: impl FnOnce() -> T,
) -> T {
    let known = table.with_borrow(|table| table.get(&key).cloned());
    known.unwrap_or_else(|| {
        let made = make();
        table.with_borrow_mut(|table| {
            if table.len() >= KNOWN_MAX {
                table.clear();
            }
            table.insert(key, made.clone());
        });
        made
    })
}
