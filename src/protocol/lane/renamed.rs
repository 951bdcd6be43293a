//! A lane under other names, without what no rule reads any more: for a model checker that counts
//! lanes as one that differ in their names alone.

use super::{AttemptSeq, IntentId, Lane, OrderId, Outcome, Phase, Verdict};
use crate::protocol::Serial;

/// What the names of a lane become.
pub struct Names<'a> {
    /// The intents, in the order of their new numbers.
    pub intents: &'a [IntentId],
    /// The number before the first new one.
    pub intents_before: u64,
    /// Every attempt that an event may still name, or whose age still counts; oldest first. They
    /// are numbered from 1.
    pub attempts: &'a [AttemptSeq],
    /// The orders.
    pub order: &'a dyn Fn(&OrderId) -> OrderId,
    /// Whether a list that is on its way shows an order.
    pub is_listed: &'a dyn Fn(&OrderId) -> bool,
}

impl Names<'_> {
    /// The new name of an intent.
    #[must_use]
    pub fn intent(&self, id: IntentId) -> IntentId {
        let at = self.intents.iter().position(|other| *other == id);
        at.map_or(Serial(0), |at| Serial(self.intents_before + at as u64 + 1))
    }

    /// The new number of an attempt; of one that is not named any more, the number of the newest
    /// that is older, or 0.
    #[must_use]
    pub fn attempt(&self, seq: AttemptSeq) -> AttemptSeq {
        Serial(self.attempts.partition_point(|other| *other <= seq) as u64)
    }

    /// Whether an attempt is named any more.
    #[must_use]
    pub fn has(&self, seq: AttemptSeq) -> bool {
        self.attempts.binary_search(&seq).is_ok()
    }

    /// The new numbers of those attempts that are named any more.
    pub(super) fn those<'a>(
        &'a self,
        all: impl Iterator<Item = &'a AttemptSeq> + 'a,
    ) -> impl Iterator<Item = AttemptSeq> + 'a {
        all.filter(|seq| self.has(**seq)).map(|seq| self.attempt(*seq))
    }

    /// A verdict under new names, without words that are for people.
    #[must_use]
    pub fn verdict(&self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Placed { id, learnt, created_at } => {
                Verdict::Placed { id: (self.order)(&id), learnt, created_at }
            }
            Verdict::Created { id, learnt, created_at } => {
                Verdict::Created { id: (self.order)(&id), learnt, created_at }
            }
            Verdict::Refused(_) => Verdict::Refused("".into()),
            Verdict::NotSent(_) => Verdict::NotSent("".into()),
            Verdict::InDoubt(_) => Verdict::InDoubt("".into()),
            Verdict::Held(_) => Verdict::Held("".into()),
            Verdict::NotPlaced(_) => Verdict::NotPlaced("".into()),
            Verdict::Absent => Verdict::Absent,
        }
    }

    fn outcome(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Created { id, created_at } => {
                Outcome::Created { id: (self.order)(&id), created_at }
            }
            Outcome::Refused(_) => Outcome::Refused("".into()),
            Outcome::NotSent(_) => Outcome::NotSent("".into()),
            Outcome::Unknown(_) => Outcome::Unknown("".into()),
        }
    }
}

impl Lane {
    /// The same lane under other names: it does the same from now on, under these names. Only the
    /// age of attempts is ever asked for, and the order of intents only where effects are sorted.
    /// For model checkers; the lane must be [rebased](Self::rebased).
    #[must_use]
    pub fn renamed(mut self, names: &Names<'_>) -> Self {
        let intents = std::mem::take(&mut self.intents);
        for (id, mut intent) in intents {
            let is_open = intent.open().is_some();
            intent.attempt = intent.attempt.filter(|s| is_open || names.has(s.attempt.seq));
            if let Some(sent) = &mut intent.attempt {
                sent.attempt.seq = names.attempt(sent.attempt.seq);
            }
            if let Phase::Deciding { verdict, .. } = &mut intent.phase {
                **verdict = names.verdict((**verdict).clone());
            }
            intent.late = intent.late.map(|late| Box::new(names.outcome(*late)));
            self.intents.insert(names.intent(id), intent);
        }
        let posts = std::mem::take(&mut self.posts);
        for (seq, mut post) in posts {
            post.intent = names.intent(post.intent);
            self.posts.insert(names.attempt(seq), post);
        }
        if let Some(eras) = &mut self.eras {
            eras.rename(|seq| names.attempt(seq));
        }
        let taken = std::mem::take(&mut self.taken);
        if let Some(kept) = &mut self.kept {
            kept.rename(names, &taken);
        }
        // A list that is read from now on leaves out what somebody has.
        let taken = taken.into_iter().filter(|id| (names.is_listed)(id));
        self.taken = taken.map(|id| (names.order)(&id)).collect();
        if let Some(asked) = &mut self.asked {
            asked.settled = names.those(asked.settled.iter()).collect();
        }
        self.index = Default::default();
        let ids: Vec<_> = self.intents.keys().copied().collect();
        ids.into_iter().for_each(|id| self.note(id));
        self
    }

    /// Every attempt whose age counts here: open ones, and POSTs of intents placed from a list.
    pub fn attempts_followed(&self) -> impl Iterator<Item = AttemptSeq> + '_ {
        let posts = self.posts.keys().copied();
        self.open().map(|sent| sent.attempt.seq).chain(posts)
    }

    /// Whether an intent is named here.
    #[must_use]
    pub fn follows(&self, id: IntentId) -> bool {
        self.intents.contains_key(&id) || self.posts.values().any(|post| post.intent == id)
    }

    /// Whether an order is named here, apart from lists that were to come when it was claimed.
    #[must_use]
    pub fn names_order(&self, id: &OrderId) -> bool {
        let is_named = |intent: &super::Intent| {
            let verdict = match &intent.phase {
                Phase::Deciding { verdict, .. } => verdict.order().is_some_and(|o| o.0 == id),
                _ => false,
            };
            let late =
                matches!(intent.late.as_deref(), Some(Outcome::Created { id: it, .. }) if it == id);
            verdict || late
        };
        let is_kept = self.kept.as_ref().is_some_and(|kept| kept.has(id, &self.taken));
        is_kept || self.intents.values().any(|intent| is_named(intent))
    }
}
