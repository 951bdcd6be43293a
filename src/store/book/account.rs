//! What is known of the account, beside intents.

use std::collections::BTreeMap;

use crate::order::{ItemsHash, OrderId};
use crate::protocol::limits::Spent;
use crate::protocol::{Change, Shape, Why};
use crate::store::{HistoryLine, Mark};

/// What is known of the account, beside intents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// The lanes that only a person can free.
    pub held_lanes: BTreeMap<ItemsHash, Why>,
    /// Orders that no intent has.
    pub orphans: Vec<OrderId>,
    /// The history line.
    pub history: Option<HistoryLine>,
    /// The shapes whose echo was seen.
    pub echo_seen: Vec<Shape>,
    /// Why sending is stopped.
    pub paused: Option<Why>,
    /// What a migration has made of the store.
    pub mark: Option<Mark>,
    /// What was spent of late, where it is limited.
    pub spent: Spent,
}

impl Account {
    /// Applies a change of the account.
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::HoldLane { lane, why } => {
                self.held_lanes.insert(lane, why);
            }
            Change::FreeLane { lane } => {
                self.held_lanes.remove(&lane);
            }
            Change::Orphans { ids, .. } => add_ids(&mut self.orphans, ids),
            Change::History { newest, ids } => {
                let line = self.history.get_or_insert_default();
                line.newest = line.newest.max(newest);
                add_ids(&mut line.ids, ids);
            }
            Change::EchoSeen { shape } => {
                if !self.echo_seen.contains(&shape) {
                    self.echo_seen.push(shape);
                }
            }
            Change::Pause { why } => self.paused = Some(why),
            Change::Resume => self.paused = None,
            Change::Mark { mark } => self.mark = mark,
            Change::Spend(spend) => self.spent.apply(&spend),
            Change::Spent(spent) => self.spent = spent,
            Change::Accept { .. }
            | Change::Adopt { .. }
            | Change::Record { .. }
            | Change::Decide { .. }
            | Change::Pay { .. }
            | Change::Expire { .. }
            | Change::Settle { .. } => unreachable!("not a change of the account"),
        }
    }
}

/// Adds ids that are not there yet, in order.
fn add_ids(to: &mut Vec<OrderId>, ids: Vec<OrderId>) {
    for id in ids {
        if let Err(at) = to.binary_search(&id) {
            to.insert(at, id);
        }
    }
}
