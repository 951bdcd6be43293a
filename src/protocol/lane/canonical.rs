//! A lane without what cannot matter any more, for a model checker: two lanes that will do the same
//! from now on are then equal.

use std::collections::BTreeSet;
use std::time::Duration;

#[cfg(test)]
use super::{Effect, Event};
use super::{Lane, Left, Moment, Rules, settles_at};

/// A step of time that no rule notices.
const BRIEF: Duration = Duration::from_nanos(1);

impl Lane {
    /// The same lane, as if `now` were `base`: what it does from now on is the same, at times that
    /// are moved alike. For model checkers.
    ///
    /// `base` must be later than the bounds of the rules. Moments that have passed keep their order
    /// as far as it is ever asked for: what settled before the last list was asked for, and what
    /// settled since. [`Moment`]s at the very end of time stay there. The pause between two looks is
    /// forgotten where the rules allow one pause only.
    #[must_use]
    pub fn rebased(mut self, rules: &Rules, now: Moment, base: Moment) -> Self {
        let asked_last = self.asked_last;
        let end = Moment::after_origin(Duration::MAX);
        let moved = |at: Moment| match at {
            at if at == end => end,
            at => base.plus(at.since(now)),
        };
        let before = |at: Moment, span: Duration| {
            Moment::after_origin(at.since(Moment::ORIGIN).saturating_sub(span))
        };
        let left = |left: Left| match (left, settles_at(rules, left)) {
            (Left::At(at), Some(settles)) if settles <= now => {
                let is_news = asked_last.is_none_or(|asked| asked < settles);
                let settled = if is_news { base } else { before(base, 2 * BRIEF) };
                Left::At(before(settled, settles.since(at)))
            }
            (Left::At(at), _) => Left::At(match at <= now {
                true => before(base, now.since(at)),
                false => base.plus(at.since(now)),
            }),
            (left, _) => left,
        };
        let is_old = |left: Left| match left {
            Left::At(_) => settles_at(rules, left).is_some_and(|at| at < base),
            Left::Unreported | Left::Nothing => false,
        };
        // `None`: settled before the last list was asked for.
        let answered = |at: Moment| match left(Left::At(at)) {
            _ if at == Moment::ORIGIN => None,
            Left::At(at) => (!is_old(Left::At(at))).then_some(at),
            Left::Unreported | Left::Nothing => None,
        };
        let in_doubt = !(self.index.doubts.is_empty() && self.index.deciding.is_empty());
        self.look_at = self.look_at.filter(|_| in_doubt).map(moved);
        if rules.look_again_min == rules.look_again_max {
            self.look_pause = Duration::ZERO;
        }
        for intent in self.intents.values_mut() {
            intent.good_until = moved(intent.good_until);
            let is_closed = intent.open().is_none();
            if let Some(sent) = &mut intent.attempt {
                sent.left = if is_closed { Left::Nothing } else { left(sent.left) };
                let clear = |at| answered(at).unwrap_or(Moment::ORIGIN);
                sent.answered = sent.answered.filter(|_| !is_closed).map(clear);
            }
        }
        self.posts.values_mut().for_each(|post| post.left = left(post.left));
        // Lists that are asked for from now on see what has settled.
        let idle = self.asked.is_none() && self.kept.is_none();
        let settled = |at| settles_at(rules, Left::At(at)).is_some_and(|at| at <= now);
        let recent = |at: Moment| answered(at).filter(|_| !(idle && settled(at)));
        self.eras.iter_mut().for_each(|eras| eras.rebase(recent));
        // A list that is under way is the last one that was asked for.
        self.asked.iter_mut().for_each(|asked| asked.at = before(base, BRIEF));
        self.kept.iter_mut().for_each(|kept| kept.rebase(before(base, BRIEF)));
        let attempts = self.intents.values().filter_map(|i| i.attempt);
        let mut left = attempts.map(|s| s.left).chain(self.posts.values().map(|post| post.left));
        self.asked_last = (!idle || left.any(is_old)).then(|| before(base, BRIEF));
        self.forget();
        self.index = Default::default();
        let ids: Vec<_> = self.intents.keys().copied().collect();
        ids.into_iter().for_each(|id| self.note(id));
        self
    }

    /// Whether a list has come that is not used up yet. For model checkers.
    #[must_use]
    pub fn keeps_a_list(&self) -> bool {
        self.kept.is_some()
    }

    /// Forgets the names of questions that were answered and of attempts that are gone.
    fn forget(&mut self) {
        let attempts = self.intents.values().filter_map(|i| i.attempt);
        let live: BTreeSet<_> =
            attempts.map(|sent| sent.attempt.seq).chain(self.posts.keys().copied()).collect();
        self.asks = 0;
        if let Some(asked) = &mut self.asked {
            (self.asks, asked.ask) = (1, 1);
            asked.settled.retain(|seq| live.contains(seq));
        }
        if let Some(kept) = &mut self.kept {
            kept.forget(&live);
        }
    }
}

#[cfg(test)]
impl Lane {
    /// Whether the rebased lane answers an event as this one does, and is then in the same state.
    pub(super) fn rebased_does_the_same(&self, rules: &Rules, event: &Event, now: Moment) -> bool {
        let nameless = |mut effects: Vec<Effect>| {
            for effect in &mut effects {
                if let Effect::List { ask, .. } = effect {
                    *ask = 0;
                }
            }
            effects
        };
        let asked = self.asked.as_ref().map(|asked| asked.ask);
        let (mut one, mut other) = (self.clone(), self.clone().rebased(rules, now, now));
        let mut renamed = event.clone();
        if let Event::Listed(view) = &mut renamed {
            view.ask = if Some(view.ask) == asked { 1 } else { 0 };
        }
        let did = nameless(one.step(rules, event.clone(), now));
        let did_too = nameless(other.step(rules, renamed, now));
        let wakes = one.wakes_at(rules).map(|at| at.max(now));
        let same_wakes = wakes == other.wakes_at(rules).map(|at| at.max(now));
        let rebased = |lane: Self| lane.rebased(rules, now, now);
        did == did_too && same_wakes && rebased(one) == rebased(other)
    }
}
