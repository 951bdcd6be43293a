//! Intents that come from another store, as they were kept there.

use std::sync::Arc;

use super::{Base, Book, Entry, Impossible, claim_of};
use crate::protocol::Serial;
use crate::store::moving::is_same;
use crate::store::record::Row;
use crate::store::{Adopted, Committed, Mark, StoreError};

impl Book {
    pub(super) fn guard_adopt(
        &self,
        base: &dyn Base,
        new: &Adopted,
    ) -> Result<Option<Committed>, StoreError> {
        if !matches!(self.account.mark, Some(Mark::FilledFrom(_))) {
            return Ok(Some(Committed::Stale));
        }
        let here = self.by_ref.get(&new.stored.client_ref).and_then(|id| self.stored(*id));
        let older = match here {
            Some(stored) => Some(stored.clone()),
            None => base.row(&new.stored.client_ref)?.map(|row| row.stored),
        };
        if let Some(stored) = older {
            if is_same(&stored, &new.stored) {
                return Ok(Some(Committed::Joined(Box::new(stored))));
            }
            // What has ended and is settled does not change any more.
            let is_active = !stored.state.is_end() || stored.unsettled;
            if !is_active || stored.id != new.stored.id {
                return Ok(Some(Committed::Conflict));
            }
        } else if self.intents.contains_key(&new.stored.id) {
            return Ok(Some(Committed::Conflict));
        }
        let Some(order) = new.stored.state.order() else { return Ok(None) };
        let taken = self.claim(base, order.id)?.filter(|claim| claim.intent != new.stored.id);
        Ok(taken.map(|claim| Committed::IdTaken(claim.claim())))
    }

    pub(super) fn adopt(&mut self, mut row: Row, handed_out: Serial) -> Result<(), Impossible> {
        self.handed_out(handed_out);
        row.changed = self.standing.changes;
        let (id, claim) = (row.stored.id, claim_of(&row).map(Arc::new));
        let before = self.intents.remove(&id);
        let (mut fed_active, mut dirty, mut claimed) = (false, false, false);
        if let Some(Entry { row: old, dirty: was_dirty, fed_active: was_fed }) = before {
            if old.stored.client_ref != row.stored.client_ref || !old.is_active() {
                return Err(Impossible);
            }
            self.standing.totals.leave(&old);
            (fed_active, dirty) = (was_fed, was_dirty);
            claimed = old.stored.state.order().is_some();
        }
        if let Some(claim) = claim.filter(|_| !claimed) {
            self.standing.totals.claim(id);
            self.standing.newest_known = self.standing.newest_known.max(claim.created_at);
            if self.by_order.insert(claim.id.clone(), claim.clone()).is_some() {
                return Err(Impossible);
            }
            self.witnesses.put(claim);
        }
        self.standing.totals.enter(&row);
        self.by_ref.insert(row.stored.client_ref.clone(), id);
        if self.fed && !dirty {
            self.dirty.push(id);
        }
        self.intents.insert(id, Entry { row: Arc::new(row), dirty: self.fed, fed_active });
        Ok(())
    }

    /// Intents that the book holds, by serial, after one; whether there may be more.
    pub(crate) fn some_after(&self, after: Option<Serial>, most: usize) -> (Vec<Adopted>, bool) {
        let wanted = |id: &Serial| after.is_none_or(|after| *id > after);
        let mut ids: Vec<_> = self.intents.keys().copied().filter(wanted).collect();
        let more = ids.len() > most;
        if more {
            ids.select_nth_unstable(most);
            ids.truncate(most);
        }
        ids.sort_unstable();
        (ids.iter().filter_map(|id| Some(self.intents.get(id)?.row.adopted())).collect(), more)
    }
}
