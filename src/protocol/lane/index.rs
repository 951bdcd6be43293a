//! Which intents of a lane stand where, so that no step has to look at all of them.

use super::{From, Intent, IntentId, Lane, Moment, Phase};

/// A set as a sorted list: most lanes hold one intent, and what comes is mostly the last.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sorted<T>(Vec<T>);

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Ord> Sorted<T> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn first(&self) -> Option<&T> {
        self.0.first()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    fn insert(&mut self, item: T) {
        if let Err(at) = self.0.binary_search(&item) {
            self.0.insert(at, item);
        }
    }

    fn remove(&mut self, item: &T) {
        if let Ok(at) = self.0.binary_search(item) {
            self.0.remove(at);
        }
    }
}

/// Follows from the intents alone; kept up by [`Lane::note`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Index {
    /// Queued, with the moment from which they are too late.
    pub(super) queued: Sorted<(IntentId, Moment)>,
    expiries: Sorted<(Moment, IntentId)>,
    /// In doubt, and nothing about it is being written.
    pub(super) doubts: Sorted<IntentId>,
    /// In doubt, and a verdict is being written.
    pub(super) deciding: Sorted<IntentId>,
    /// Open otherwise: their POSTs take the places of `in_flight_max`.
    pub(super) sending: Sorted<IntentId>,
}

impl Index {
    /// How many attempts are open.
    pub(super) fn open(&self) -> usize {
        self.doubts.len() + self.deciding.len() + self.sending.len()
    }

    /// The intents with an open attempt: first those that have been open for long.
    pub(super) fn open_ids(&self) -> impl Iterator<Item = IntentId> + '_ {
        self.doubts.iter().chain(self.deciding.iter()).chain(self.sending.iter()).copied()
    }

    /// Those of them that rule 8 waits for.
    pub(super) fn under_way(&self) -> impl Iterator<Item = IntentId> + '_ {
        self.sending.iter().chain(self.deciding.iter()).copied()
    }

    /// The queued intent that is too late first, and from when on.
    pub(super) fn first_expiry(&self) -> Option<(Moment, IntentId)> {
        self.expiries.first().copied()
    }

    fn note(&mut self, id: IntentId, intent: Option<&Intent>) {
        let at = self.queued.0.partition_point(|(other, _)| *other < id);
        if let Some((_, good_until)) = self.queued.0.get(at).copied().filter(|q| q.0 == id) {
            self.queued.0.remove(at);
            self.expiries.remove(&(good_until, id));
        }
        for set in [&mut self.doubts, &mut self.deciding, &mut self.sending] {
            set.remove(&id);
        }
        let Some(intent) = intent else { return };
        if let Phase::Queued { .. } = intent.phase {
            self.queued.insert((id, intent.good_until));
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
        self.index.note(id, self.intents.get(&id).map(|intent| &**intent));
    }

    /// Whether the index is what the intents say.
    #[cfg(test)]
    pub(super) fn index_agrees(&self) -> bool {
        let mut index = Index::default();
        self.intents.iter().for_each(|(id, intent)| index.note(*id, Some(intent)));
        index == self.index
    }
}
