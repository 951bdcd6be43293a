//! Three ledgers: what callers were told, what the store answered, what the supplier sold.
//! Compared at every step of any of them.

use std::collections::{BTreeMap, BTreeSet};

use order_router::protocol::{Change, IntentId, State, Verdict};
use order_router::store::{Committed, Stored};
use order_router::{ClientRef, End, ItemsHash, OrderId};

/// What the store has answered of one intent.
#[derive(Debug, Clone)]
pub struct Kept {
    pub id: IntentId,
    pub lane: ItemsHash,
    pub phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    Queued,
    Open,
    Placed(OrderId),
    Refused,
    NotPlaced,
}

impl Phase {
    pub fn of(state: &State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Sending(_) | State::InDoubt(..) | State::Held(..) => Self::Open,
            State::Placed { id, .. } => Self::Placed(id.clone()),
            State::Refused(_) => Self::Refused,
            State::NotPlaced(_) => Self::NotPlaced,
        }
    }

    fn of_end(end: &End) -> Self {
        match end {
            End::Placed { order_id, .. } => Self::Placed(order_id.clone()),
            End::Refused { .. } => Self::Refused,
            End::NotPlaced { .. } => Self::NotPlaced,
        }
    }

    pub fn is_end(&self) -> bool {
        !matches!(self, Self::Queued | Self::Open)
    }
}

/// What the supplier's side of the books shows of one lane.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sold {
    pub orders: usize,
    pub may_land: usize,
}

#[derive(Default)]
pub struct Oracle {
    pub kept: BTreeMap<ClientRef, Kept>,
    names: BTreeMap<IntentId, ClientRef>,
    claims: BTreeMap<OrderId, ClientRef>,
    told: BTreeMap<ClientRef, Phase>,
    pub sold: BTreeMap<ItemsHash, Sold>,
    /// Orders that somebody else bought: they are nobody's budget.
    pub foreign: BTreeSet<OrderId>,
    /// Every order of the account, with its lane.
    pub ledger: BTreeMap<OrderId, ItemsHash>,
    pub violation: Option<String>,
}

impl Oracle {
    pub fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub fn is_claimed(&self, id: &OrderId) -> bool {
        self.claims.contains_key(id)
    }

    /// The budget, of one lane.
    pub fn check_lane(&mut self, lane: ItemsHash) {
        let sold = self.sold.get(&lane).copied().unwrap_or_default();
        let ours = self.kept.values().filter(|kept| kept.lane == lane);
        let covered =
            ours.filter(|kept| matches!(kept.phase, Phase::Open | Phase::Placed(_))).count();
        if sold.orders + sold.may_land > covered {
            self.violated(format!(
                "budget: {} orders and {} that may land, for {covered} intents that are placed or open",
                sold.orders, sold.may_land
            ));
        }
    }

    /// The store has answered a change.
    pub fn committed(&mut self, change: &Change, answer: &Committed) {
        if *answer != Committed::Done {
            return;
        }
        let (intent, phase) = match change {
            Change::Accept { intent, attempt } => {
                let phase = if attempt.is_some() { Phase::Open } else { Phase::Queued };
                let kept = Kept { id: intent.id, lane: intent.lane, phase };
                self.names.insert(intent.id, intent.client_ref.clone());
                if self.kept.insert(intent.client_ref.clone(), kept).is_some() {
                    self.violated(format!("{} was accepted twice", intent.client_ref));
                }
                return self.check_lane(intent.lane);
            }
            Change::Record { intent, .. } => (*intent, Phase::Open),
            Change::Expire { intent, .. } => (*intent, Phase::NotPlaced),
            Change::Decide { intent, verdict, .. } => {
                let phase = match verdict {
                    Verdict::Placed { id, .. } => Phase::Placed(id.clone()),
                    Verdict::Refused(_) => Phase::Refused,
                    Verdict::NotPlaced(_) => Phase::NotPlaced,
                    Verdict::NotSent(_) | Verdict::Absent => Phase::Queued,
                    Verdict::InDoubt(_) | Verdict::Held(_) => Phase::Open,
                };
                (*intent, phase)
            }
            _ => return,
        };
        let Some(name) = self.names.get(&intent).cloned() else {
            return self
                .violated(format!("a change of an intent that was never accepted: {change:?}"));
        };
        self.becomes(&name, phase);
    }

    fn becomes(&mut self, name: &ClientRef, phase: Phase) {
        let Some(kept) = self.kept.get_mut(name) else { return };
        let lane = kept.lane;
        let before = std::mem::replace(&mut kept.phase, phase.clone());
        if before.is_end() && before != phase {
            self.violated(format!("{name} was {before:?} and becomes {phase:?}"));
        }
        if let Phase::Placed(id) = phase {
            if self.ledger.get(&id) != Some(&lane) {
                self.violated(format!("{name} has {id}, which is no order of its items"));
            }
            match self.claims.insert(id.clone(), name.clone()) {
                Some(other) if other != *name => {
                    self.violated(format!("{id} is claimed by {other} and by {name}"));
                }
                _ => {}
            }
        }
        self.check_lane(lane);
    }

    /// A caller is told that its order is taken.
    pub fn told_accepted(&mut self, name: &ClientRef) {
        if !self.kept.contains_key(name) {
            self.violated(format!("{name} is told accepted and is not durable"));
        }
    }

    /// A caller is told an end.
    pub fn told(&mut self, name: &ClientRef, end: &End) {
        let end = Phase::of_end(end);
        if let Some(before) = self.told.insert(name.clone(), end.clone())
            && before != end
        {
            self.violated(format!("{name} was told {before:?}, then {end:?}"));
        }
        let durable = self.kept.get(name).map(|kept| kept.phase.clone());
        if durable.as_ref() != Some(&end) {
            self.violated(format!("{name} is told {end:?}, and the store has {durable:?}"));
        }
    }

    /// What a new process finds of a reference. Nothing that was answered may be gone.
    pub fn found(&mut self, name: &ClientRef, stored: Option<&Stored>) {
        let Some(stored) = stored else {
            if self.kept.contains_key(name) {
                self.violated(format!("{name} was accepted and is lost"));
            }
            return;
        };
        let phase = Phase::of(&stored.state);
        self.names.insert(stored.id, name.clone());
        let kept = self.kept.entry(name.clone()).or_insert_with(|| Kept {
            id: stored.id,
            lane: stored.lane,
            phase: phase.clone(),
        });
        if kept.id != stored.id {
            let was = kept.id;
            self.violated(format!("{name} was intent {was:?} and is {:?}", stored.id));
        }
        self.becomes(name, phase);
    }

    /// At rest: every order of ours is somebody's, and every placed order is there.
    pub fn at_rest(&mut self) {
        let open: Vec<_> =
            self.kept.iter().filter(|(_, kept)| !kept.phase.is_end()).map(|(n, _)| n).collect();
        if !open.is_empty() {
            let what = format!("no end: {open:?}");
            return self.violated(what);
        }
        let orphan = self
            .ledger
            .iter()
            .find(|(id, _)| !self.foreign.contains(*id) && !self.claims.contains_key(*id));
        // Where somebody else bought the same, an order of his may have been taken for ours.
        if let Some((id, lane)) = orphan
            && !self.foreign.iter().any(|other| self.ledger.get(other) == Some(lane))
        {
            let what = format!("order {id} was bought and nobody has it");
            self.violated(what);
        }
        let wrong = self
            .told
            .iter()
            .find(|(name, end)| self.kept.get(*name).map(|kept| &kept.phase) != Some(*end))
            .map(|(name, end)| format!("{name} was told {end:?}, which is not so any more"));
        if let Some(what) = wrong {
            self.violated(what);
        }
    }

    pub fn was_told(&self, name: &ClientRef) -> bool {
        self.told.contains_key(name)
    }
}
