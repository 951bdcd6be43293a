//! The store that all routers share: the fence, and the ordinary guards.

use order_router::protocol::lane::{Event, Restored, Write, Written};
use order_router::protocol::{AttemptSeq, Clause, IntentId, Learnt, State, Verdict};

use super::Setup;
use super::happen::{good_until, kind};
use super::world::{Change, Pending, World};
use crate::model::world::{Row, Shared, Unrest, reference};

/// What the store says to a write.
enum Reply {
    /// Applied, or refused for a reason that the lane knows.
    Is(Written),
    /// Applied; nobody waits for an answer.
    Silent,
    /// A guard has failed that cannot, where one router is at work.
    Stale,
}

impl World {
    /// The oldest write of a router reaches the store: one transaction.
    pub fn sync(&mut self, setup: &Setup, at: usize) {
        let writes = &self.routers[at].writes;
        let Some(oldest) = writes.iter().position(|pending| pending.answer.is_none()) else {
            return;
        };
        // The fence: a newer epoch was given out.
        if at != self.newest() && setup.keeps(Clause::Fenced) {
            self.refused(at);
            return;
        }
        let change = writes[oldest].change.clone();
        let reply = match &change {
            Change::Lane(write) => {
                let mut rows = Vec::clone(&self.rows);
                let reply = self.apply(&mut rows, write);
                self.rows = Shared::new(rows);
                reply
            }
            Change::Orphans(ids) => {
                self.orphans.extend(ids.iter().cloned());
                self.orphans.sort_unstable();
                self.orphans.dedup();
                self.unrest = Some(Unrest::Orphan);
                Reply::Silent
            }
        };
        match reply {
            Reply::Is(written) => self.routers[at].writes[oldest].answer = Some(written),
            Reply::Silent => drop(self.routers[at].writes.remove(oldest)),
            Reply::Stale => {
                self.unrest = Some(Unrest::GuardFailed);
                self.routers[at].writes.remove(oldest);
                // The store knows better: once all is written, the lane is built anew.
                while self.routers[at].writes.iter().any(|pending| pending.answer.is_none()) {
                    self.sync(setup, at);
                }
                setup.rebuild(self, at);
            }
        }
    }

    /// A router is told that its lease is another's: it stops, and whoever it has not accepted
    /// comes again.
    pub fn refused(&mut self, at: usize) {
        let writes = std::mem::take(&mut self.routers[at].writes);
        let lost = |pending: &Pending| match (&pending.change, &pending.answer) {
            (Change::Lane(Write::Accept { intent, .. }), None) => Some(*intent),
            _ => None,
        };
        let lost: Vec<_> = writes.iter().filter_map(lost).collect();
        self.callers.retain(|caller| !lost.contains(&caller.intent));
        self.routers[at].stop();
    }

    fn apply(&mut self, rows: &mut Vec<Row>, write: &Write) -> Reply {
        match write {
            Write::Accept { intent, attempt } => {
                let same = |row: &Row| reference(row.restored.intent) == reference(*intent);
                if rows.iter().any(same) {
                    return Reply::Is(Written::NotNew);
                }
                let restored = Restored {
                    intent: *intent,
                    delivered: kind(),
                    good_until: good_until(),
                    tries: 0,
                    state: attempt.map_or(State::Queued, State::Sending),
                    last_attempt: attempt.map(|a| a.seq),
                    unsettled: false,
                    unreported: false,
                };
                rows.push(Row { restored, unclaimed: false });
            }
            Write::Record { intent, attempt } => match row_of(rows, *intent) {
                Some(row) if row.state == State::Queued => {
                    row.state = State::Sending(*attempt);
                    row.last_attempt = Some(attempt.seq);
                }
                _ => return Reply::Stale,
            },
            Write::Decide { intent, seq, verdict } => {
                return self.decide(rows, *intent, *seq, verdict);
            }
            Write::Expire { intent, .. } => match row_of(rows, *intent) {
                Some(row) if row.state == State::Queued => row.state = State::NotPlaced("".into()),
                _ => return Reply::Stale,
            },
            Write::Settle { intent } => {
                row_of(rows, *intent).map(|row| row.unsettled = false).unwrap_or_default();
                return Reply::Silent;
            }
            Write::HoldLane { .. } => {
                self.held = true;
                return Reply::Silent;
            }
            Write::FreeLane => {
                self.held = false;
                return Reply::Silent;
            }
        }
        Reply::Is(Written::Done)
    }

    fn decide(
        &self,
        rows: &mut [Row],
        intent: IntentId,
        seq: AttemptSeq,
        verdict: &Verdict,
    ) -> Reply {
        let Some(row) = row_of(rows, intent) else { return Reply::Stale };
        let is_answer = matches!(verdict, Verdict::Placed { learnt: Learnt::Answer, .. });
        let open = row.state.attempt().copied();
        let late = is_answer && row.state == State::Queued && row.last_attempt == Some(seq);
        if !late && open.is_none_or(|open| open.seq != seq) {
            return Reply::Stale;
        }
        row.state = match (verdict, open) {
            (Verdict::Placed { id, learnt, .. } | Verdict::Created { id, learnt, .. }, _) => {
                let owner = self.owner(id).map(|owner| &owner.restored);
                if let Some((State::Placed { learnt, .. }, holder)) =
                    owner.map(|owner| (&owner.state, owner.intent))
                {
                    let (learnt, same_lane) = (*learnt, true);
                    return Reply::Is(Written::IdTaken { holder, learnt, same_lane });
                }
                row.unsettled = *learnt != Learnt::Answer;
                State::Placed { id: id.clone(), learnt: *learnt, created_at: None }
            }
            (Verdict::Refused(_), _) => State::Refused("".into()),
            (Verdict::NotSent(_), _) => State::Queued,
            (Verdict::Absent, _) => {
                row.tries += 1;
                State::Queued
            }
            (Verdict::NotPlaced(_), _) => State::NotPlaced("".into()),
            (Verdict::InDoubt(_), Some(open)) => State::InDoubt(open, "".into()),
            (Verdict::Held(_), Some(open)) => State::Held(open, "".into()),
            (Verdict::InDoubt(_) | Verdict::Held(_), None) => return Reply::Stale,
        };
        Reply::Is(Written::Done)
    }
}

impl Setup {
    /// A router hears of its oldest write that is durable.
    pub fn hear(&self, world: &mut World, at: usize) {
        let writes = &mut world.routers[at].writes;
        if writes.first().is_none_or(|pending| pending.answer.is_none()) {
            return;
        }
        let Pending { change, answer } = writes.remove(0);
        let intent = match change {
            Change::Lane(
                Write::Accept { intent, .. }
                | Write::Record { intent, .. }
                | Write::Decide { intent, .. }
                | Write::Expire { intent, .. },
            ) => intent,
            Change::Lane(Write::Settle { .. } | Write::HoldLane { .. } | Write::FreeLane)
            | Change::Orphans(_) => return,
        };
        let Some(written) = answer else { return };
        self.feed(world, at, Event::Written { intent, written });
    }
}

fn row_of(rows: &mut [Row], intent: IntentId) -> Option<&mut Restored> {
    rows.iter_mut().map(|row| &mut row.restored).find(|row| row.intent == intent)
}
