//! Rule 11: after a restart every attempt without a durable outcome is in doubt.

use super::{
    Attempt, Clause, Effect, From, Intent, IntentId, Lane, Left, Moment, Phase, Post, Rules, Sent,
    Verdict, Why,
};
use crate::order::ItemsDigest;
use crate::protocol::{AttemptSeq, State};

/// An intent as it comes back from the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Restored {
    /// The intent.
    pub intent: IntentId,
    /// What of it must be equal to be interchangeable.
    pub delivered: ItemsDigest,
    /// Until when it is worth sending.
    pub good_until: Moment,
    /// Attempts proved absent so far.
    pub tries: u8,
    /// Where the store says that it stands.
    pub state: State,
    /// Its newest attempt, if it ever had one.
    pub last_attempt: Option<AttemptSeq>,
    /// It was placed from a list, and its own POST was not settled.
    pub unsettled: bool,
    /// Its newest attempt is with a task of this very process that has not reported: it settles
    /// from that report alone (rule 7). Never after a restart.
    pub unreported: bool,
}

impl Lane {
    /// Builds a lane from what the store holds. `left` is the moment from which settling counts:
    /// when this process held the lock, or, for a lane that is rebuilt within its process, the
    /// latest moment at which a gate of it could have yielded. What is
    /// [`unreported`](Restored::unreported) has the report still to come.
    #[must_use]
    pub fn rehydrate(
        rules: &Rules,
        restored: &[Restored],
        hold: Option<Why>,
        left: Moment,
        now: Moment,
    ) -> (Self, Vec<Effect>) {
        let mut lane = Self { hold, ..Self::default() };
        let mut effects = Vec::new();
        for one in restored {
            lane.restore(rules, one, left, &mut effects);
        }
        if lane.doubts().next().is_some() {
            lane.look_soon(rules, now);
        }
        lane.go_on(rules, now, &mut effects);
        (lane, effects)
    }

    fn restore(&mut self, rules: &Rules, one: &Restored, left: Moment, effects: &mut Vec<Effect>) {
        let from_lock = rules.keeps(Clause::SettledFromLock);
        let left = match one.unreported {
            true => Left::recorded(rules, left),
            false if from_lock => Left::At(left),
            false => Left::Nothing,
        };
        let remembered = one.unsettled && rules.keeps(Clause::PlacedRemembered);
        let closed = |seq| Attempt { seq, fingerprint: Default::default(), floor: None };
        let (phase, attempt) = match &one.state {
            State::Created { .. }
            | State::Placed { .. }
            | State::Refused(_)
            | State::NotPlaced(_)
            | State::Unpaid { .. } => {
                if let Some(seq) = one.last_attempt.filter(|_| remembered) {
                    self.posts.insert(seq, Post { intent: one.intent, left });
                }
                return;
            }
            State::Queued => (Phase::Queued { permit_asked: false }, one.last_attempt.map(closed)),
            State::Sending(attempt) if !rules.keeps(Clause::RestartInDoubt) => {
                (Phase::Queued { permit_asked: false }, Some(*attempt))
            }
            State::Sending(attempt) => (Phase::Sending, Some(*attempt)),
            State::InDoubt(attempt, _) => (Phase::InDoubt { held: false }, Some(*attempt)),
            State::Held(attempt, _) => (Phase::InDoubt { held: true }, Some(*attempt)),
        };
        let sending = phase == Phase::Sending;
        let intent = Intent {
            delivered: one.delivered,
            good_until: one.good_until,
            tries: one.tries,
            phase,
            attempt: attempt.map(|attempt| Sent { attempt, left, answered: None }),
            late: None,
        };
        self.intents.insert(one.intent, Box::new(intent));
        self.note(one.intent);
        if sending {
            let verdict = Verdict::InDoubt("the router stopped while it was sent".into());
            self.decide(one.intent, verdict, From::Sending, effects);
        }
    }
}
