//! Which intents of a lane stand where, so that no step has to look at all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{From, Intent, IntentId, Lane, Moment, Phase};

/// Follows from the intents alone; kept up by [`Lane::note`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Index {
    /// Queued, with the moment from which they are too late.
    pub(super) queued: BTreeMap<IntentId, Moment>,
    expiries: BTreeSet<(Moment, IntentId)>,
    /// In doubt, and nothing about it is being written.
    pub(super) doubts: BTreeSet<IntentId>,
    /// In doubt, and a verdict is being written.
    pub(super) deciding: BTreeSet<IntentId>,
    /// Open otherwise: their POSTs take the places of `in_flight_max`.
    pub(super) sending: BTreeSet<IntentId>,
}

impl Index {
    /// How many attempts are open.
    pub(super) fn open(&self) -> usize {
        self.doubts.len() + self.deciding.len() + self.sending.len()
    }

    /// The intents with an open attempt.
    pub(super) fn open_ids(&self) -> impl Iterator<Item = IntentId> + '_ {
        self.under_way().chain(self.doubts.iter().copied())
    }

    /// Those of them that rule 8 waits for.
    pub(super) fn under_way(&self) -> impl Iterator<Item = IntentId> + '_ {
        self.sending.iter().chain(&self.deciding).copied()
    }

    /// The queued intent that is too late first, and from when on.
    pub(super) fn first_expiry(&self) -> Option<(Moment, IntentId)> {
        self.expiries.first().copied()
    }

    fn note(&mut self, id: IntentId, intent: Option<&Intent>) {
        if let Some(good_until) = self.queued.remove(&id) {
            self.expiries.remove(&(good_until, id));
        }
        for set in [&mut self.doubts, &mut self.deciding, &mut self.sending] {
            set.remove(&id);
        }
        let Some(intent) = intent else { return };
        if let Phase::Queued { .. } = intent.phase {
            self.queued.insert(id, intent.good_until);
            self.expiries.insert((intent.good_until, id));
        }
        if intent.open().is_some() {
            let set = match intent.phase {
                Phase::InDoubt { .. } => &mut self.doubts,
                Phase::Deciding { from: From::InDoubt { .. }, .. } => &mut self.deciding,
                _ => &mut self.sending,
            };
            set.insert(id);
        }
    }
}

impl Lane {
    /// Notes where an intent stands now. Owed after each change of its phase, before the index is
    /// asked again.
    pub(super) fn note(&mut self, id: IntentId) {
        self.index.note(id, self.intents.get(&id));
    }

    /// Whether the index is what the intents say.
    #[cfg(test)]
    pub(super) fn index_agrees(&self) -> bool {
        let mut index = Index::default();
        self.intents.iter().for_each(|(id, intent)| index.note(*id, Some(intent)));
        index == self.index
    }
}
