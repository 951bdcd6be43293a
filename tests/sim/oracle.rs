//! Three ledgers: what callers were told, what the store answered, what the supplier sold.
//! Compared at every step of any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use order_router::protocol::{AttemptSeq, Change, IntentId, Learnt, PayVerdict, State, Verdict};
use order_router::store::{Committed, Stored};
use order_router::{ClientRef, End, Item, ItemsHash, OrderId};

/// What the store has answered of one intent.
#[derive(Debug, Clone)]
pub struct Kept {
    pub id: IntentId,
    pub lane: ItemsHash,
    pub phase: Phase,
    /// What is to be delivered.
    items: String,
    /// Its open attempt, where that is in doubt.
    doubt: Option<AttemptSeq>,
    /// Until when it is worth sending, as this process counts.
    good_until: Duration,
}

fn delivered(items: &[Item]) -> String {
    let mut lines: Vec<_> = items
        .iter()
        .map(|item| {
            let note = item.note_ref().map_or("", |note| note.as_json());
            format!("{} {} {note}", item.id(), item.quantity())
        })
        .collect();
    lines.sort_unstable();
    lines.join(", ")
}

/// Two orders that one POST made.
struct Twins {
    lane: ItemsHash,
    ids: [OrderId; 2],
    visible_at: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    Queued,
    Open,
    /// Its own order, and to be paid.
    Created(OrderId),
    Placed(OrderId),
    Refused,
    NotPlaced,
    /// Its own order, never paid.
    Unpaid(OrderId),
}

impl Phase {
    pub fn of(state: &State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Sending(_) | State::InDoubt(..) | State::Held(..) => Self::Open,
            State::Placed { id, .. } => Self::Placed(id.clone()),
            State::Refused(_) => Self::Refused,
            State::NotPlaced(_) => Self::NotPlaced,
            State::Created { id, .. } => Self::Created(id.clone()),
            State::Unpaid { id, .. } => Self::Unpaid(id.clone()),
        }
    }

    fn of_end(end: &End) -> Self {
        match end {
            End::Placed { order_id, .. } => Self::Placed(order_id.clone()),
            End::Refused { .. } => Self::Refused,
            End::NotPlaced { .. } => Self::NotPlaced,
            End::Unpaid { order_id, .. } => Self::Unpaid(order_id.clone()),
        }
    }

    /// The order that it has.
    pub fn order(&self) -> Option<&OrderId> {
        match self {
            Self::Created(id) | Self::Placed(id) | Self::Unpaid(id) => Some(id),
            Self::Queued | Self::Open | Self::Refused | Self::NotPlaced => None,
        }
    }

    pub fn is_end(&self) -> bool {
        !matches!(self, Self::Queued | Self::Open | Self::Created(_))
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
    /// What was ordered, of each of our orders.
    ordered: BTreeMap<OrderId, String>,
    /// Orders from before the first start.
    history: BTreeSet<OrderId>,
    /// Orders that the router has stored as nobody's.
    orphans: BTreeSet<OrderId>,
    /// By how many orders the world itself has broken the budget, by breaking an assumption.
    broken: BTreeMap<ItemsHash, usize>,
    twins: Vec<Twins>,
    held: BTreeSet<ItemsHash>,
    /// Attempts whose claim was refused, because somebody else has the order.
    refused: BTreeSet<AttemptSeq>,
    /// The list shows orders as other products: what is claimed from it may be of another lane.
    pub odd_products: bool,
    /// Orders carry tags: nobody is given a stranger's.
    pub tagged: bool,
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
        let covered = ours.filter(|k| k.phase == Phase::Open || k.phase.order().is_some()).count();
        let broken = self.broken.get(&lane).copied().unwrap_or(0);
        if sold.orders + sold.may_land > covered + broken {
            self.violated(format!(
                "budget: {} orders and {} that may land, for {covered} intents that are placed or open",
                sold.orders, sold.may_land
            ));
        }
    }

    /// The world breaks an assumption: there may be an order more than the budget allows.
    pub fn broken(&mut self, lane: ItemsHash) {
        *self.broken.entry(lane).or_default() += 1;
    }

    pub fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// One POST makes two orders, that show at once.
    pub fn twins(&mut self, lane: ItemsHash, one: &OrderId, other: &OrderId, visible_at: Duration) {
        self.broken(lane);
        let ids = [one.clone(), other.clone()];
        self.twins.push(Twins { lane, ids, visible_at });
    }

    pub fn ordered(&mut self, id: &OrderId, items: &[Item]) {
        self.ordered.insert(id.clone(), delivered(items));
    }

    /// What was bought until now was bought before the first start.
    pub fn history_ends(&mut self) {
        self.history.clone_from(&self.foreign);
    }

    pub fn is_held(&self, lane: &ItemsHash) -> bool {
        self.held.contains(lane)
    }

    /// The store has answered a change. `requested`: when the list was that has arrived last.
    pub fn committed(&mut self, change: &Change, answer: &Committed, requested: Duration) {
        if let (Committed::IdTaken(_), Change::Decide { attempt, .. }) = (answer, change) {
            self.refused.insert(*attempt);
        }
        if *answer != Committed::Done {
            return;
        }
        if let Change::Decide { intent, attempt, verdict } = change {
            self.decided(*intent, *attempt, verdict, requested);
        }
        let (intent, phase) = match change {
            Change::Accept { intent, attempt } => {
                let phase = if attempt.is_some() { Phase::Open } else { Phase::Queued };
                let items = delivered(&intent.items);
                let (id, lane) = (intent.id, intent.lane);
                let good_until = Duration::MAX;
                let kept = Kept { id, lane, phase, items, doubt: None, good_until };
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
                    Verdict::Created { id, .. } => Phase::Created(id.clone()),
                    Verdict::Refused(_) => Phase::Refused,
                    Verdict::NotPlaced(_) => Phase::NotPlaced,
                    Verdict::NotSent(_) | Verdict::Absent => Phase::Queued,
                    Verdict::InDoubt(_) | Verdict::Held(_) => Phase::Open,
                };
                (*intent, phase)
            }
            Change::Pay { intent, to, .. } => {
                let kept = self.kept.values().find(|kept| kept.id == *intent);
                let Some(id) = kept.and_then(|kept| kept.phase.order()).cloned() else {
                    return self.violated(format!("a payment of what has no order: {change:?}"));
                };
                let phase = match to {
                    PayVerdict::Open { .. } => Phase::Created(id),
                    PayVerdict::Paid => Phase::Placed(id),
                    PayVerdict::Unpaid(_) => Phase::Unpaid(id),
                };
                (*intent, phase)
            }
            Change::Orphans { ids, .. } => return self.orphans.extend(ids.iter().cloned()),
            Change::HoldLane { lane, .. } => {
                self.held.insert(*lane);
                return;
            }
            Change::FreeLane { lane } => {
                self.held.remove(lane);
                return;
            }
            _ => return,
        };
        let Some(name) = self.names.get(&intent).cloned() else {
            return self
                .violated(format!("a change of an intent that was never accepted: {change:?}"));
        };
        self.becomes(&name, phase);
    }

    /// What the rules say of a decision beyond the promise.
    fn decided(
        &mut self,
        intent: IntentId,
        attempt: AttemptSeq,
        verdict: &Verdict,
        requested: Duration,
    ) {
        let Some(name) = self.names.get(&intent).cloned() else { return };
        let Some(kept) = self.kept.get_mut(&name) else { return };
        let lane = kept.lane;
        kept.doubt = match verdict {
            Verdict::InDoubt(_) | Verdict::Held(_) => Some(attempt),
            _ => None,
        };
        let (Verdict::Placed { id, learnt: Learnt::List, .. }
        | Verdict::Created { id, learnt: Learnt::List, .. }) = verdict
        else {
            return;
        };
        if self.history.contains(id) {
            return self.violated(format!("{name} is given {id}, from before the first start"));
        }
        if self.orphans.contains(id) {
            return self.violated(format!("{name} is given {id}, which was stored as nobody's"));
        }
        let older = self.kept.iter().find(|(_, other)| {
            let refused = |seq: &AttemptSeq| self.refused.contains(seq);
            other.lane == lane && other.doubt.is_some_and(|seq| seq < attempt && !refused(&seq))
        });
        if let Some((other, _)) = older {
            let what = format!("{name} is given {id}, and {other} has been in doubt for longer");
            return self.violated(what);
        }
        let twin = self.twins.iter().find(|twins| {
            let free = twins.ids.iter().all(|id| !self.claims.contains_key(id));
            let shown = twins.visible_at <= requested;
            twins.ids.contains(id) && free && shown && !self.is_held(&twins.lane)
        });
        if twin.is_some() {
            self.violated(format!("{name} is given {id}, and more orders show than are in doubt"));
        }
    }

    fn becomes(&mut self, name: &ClientRef, phase: Phase) {
        let Some(kept) = self.kept.get_mut(name) else { return };
        let lane = kept.lane;
        let before = std::mem::replace(&mut kept.phase, phase.clone());
        if before.is_end() && before != phase {
            self.violated(format!("{name} was {before:?} and becomes {phase:?}"));
        }
        if let Some(id) = phase.order().cloned() {
            if self.ledger.get(&id) != Some(&lane) && !self.odd_products {
                self.violated(format!("{name} has {id}, which is no order of its items"));
            }
            if self.tagged && self.foreign.contains(&id) {
                self.violated(format!("{name} has {id}, which somebody else has bought"));
            }
            let wanted = self.kept.get(name).map(|kept| &kept.items);
            if let Some(ordered) = self.ordered.get(&id)
                && wanted.is_some_and(|items| items != ordered)
                && !self.odd_products
            {
                let what = format!("{name} has {id}, by which {ordered} is delivered");
                self.violated(what);
            }
            let ordered = self.ledger.get(&id).copied().filter(|ordered| *ordered != lane);
            if !self.claims.contains_key(&id)
                && let Some(ordered) = ordered
            {
                // Given to another lane's intent, as which it is shown (A4).
                self.broken(ordered);
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
            items: delivered(&stored.items),
            doubt: None,
            good_until: Duration::MAX,
        });
        kept.doubt = stored.state.attempt().map(|attempt| attempt.seq);
        if kept.id != stored.id {
            let was = kept.id;
            self.violated(format!("{name} was intent {was:?} and is {:?}", stored.id));
        }
        self.becomes(name, phase);
    }

    /// Until when an intent is worth sending, as this process counts.
    pub fn good_until(&mut self, name: &ClientRef, at: Duration) {
        if let Some(kept) = self.kept.get_mut(name) {
            kept.good_until = at;
        }
    }

    /// The bytes of an order leave. Whose they are is not known where several are open.
    pub fn leaves(&mut self, lane: ItemsHash, now: Duration) {
        let open = self.kept.values().filter(|k| k.lane == lane && k.phase == Phase::Open);
        if let Some(last) = open.map(|kept| kept.good_until).max()
            && last < now
        {
            let late = now - last;
            self.violated(format!("an order leaves {late:?} after it was worth sending"));
        }
    }

    /// At rest: every order of ours is somebody's, and every placed order is there.
    pub fn at_rest(&mut self) {
        let open: Vec<_> =
            self.kept.iter().filter(|(_, kept)| !kept.phase.is_end()).map(|(n, _)| n).collect();
        if !open.is_empty() {
            let what = format!("no end: {open:?}");
            return self.violated(what);
        }
        // Where somebody else bought the same, an order of his may have been taken for ours.
        let others = |lane| self.foreign.iter().any(|id| self.ledger.get(id) == Some(lane));
        let orphan = self.unclaimed().find(|(id, lane)| !others(lane) && !self.is_announced(id));
        if let Some((id, _)) = orphan {
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

    /// Our orders that nobody has.
    fn unclaimed(&self) -> impl Iterator<Item = (&OrderId, &ItemsHash)> {
        let nobodys = |id: &OrderId| !self.foreign.contains(id) && !self.claims.contains_key(id);
        self.ledger.iter().filter(move |(id, _)| nobodys(id))
    }

    /// Where the world broke an assumption: a person was told of an order that nobody has.
    fn is_announced(&self, id: &OrderId) -> bool {
        let twin = |twins: &Twins| twins.ids.contains(id);
        let lane = self.ledger.get(id).filter(|lane| self.broken.contains_key(lane));
        lane.is_some() && (self.orphans.contains(id) || self.twins.iter().any(twin))
    }

    /// Orders that nobody has and nobody was told of.
    pub fn silent(&self) -> usize {
        self.unclaimed().filter(|(id, _)| !self.is_announced(id)).count()
    }

    pub fn was_told(&self, name: &ClientRef) -> bool {
        self.told.contains_key(name)
    }
}
