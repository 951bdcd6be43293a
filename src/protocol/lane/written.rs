//! What follows once a write is durable (rules 3 and 4), or was refused by its guard.

use super::{
    Alarm, Effect, From, IntentId, Lane, Learnt, Moment, Phase, Post, Rules, Told, Verdict, Written,
};

impl Lane {
    pub(super) fn written(
        &mut self,
        rules: &Rules,
        id: IntentId,
        written: Written,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let Some(intent) = self.intents.get_mut(&id) else { return };
        let seq = intent.attempt.map(|sent| sent.attempt.seq);
        match (intent.phase.clone(), written) {
            (Phase::Accepting, Written::Done) => {
                effects.push(Effect::Tell { intent: id, told: Told::Accepted });
                match seq {
                    Some(seq) => {
                        intent.phase = Phase::Sending;
                        effects.push(Effect::Send { intent: id, seq });
                    }
                    None => intent.phase = Phase::Queued { permit_asked: false },
                }
            }
            (Phase::Accepting, Written::NotNew | Written::IdTaken { .. }) => {
                self.intents.remove(&id);
                effects.extend(seq.map(|_| Effect::ReturnPermit { intent: id }));
            }
            (Phase::Recording, Written::Done) => {
                intent.phase = Phase::Sending;
                effects.extend(seq.map(|seq| Effect::Send { intent: id, seq }));
            }
            (Phase::Expiring, Written::Done) => {
                self.intents.remove(&id);
                let told = Told::NotPlaced("too late to send".into());
                effects.push(Effect::Tell { intent: id, told });
            }
            (Phase::Deciding { verdict, from }, Written::Done) => {
                if let (From::Queued, Some(seq)) = (from, seq) {
                    // It was declared absent, or not sent, and did land: the evidence was wrong.
                    effects.push(Effect::Alarm(Alarm::LandedAfterAbsent { intent: id, seq }));
                }
                self.decided(rules, id, *verdict, now, effects);
            }
            (Phase::Deciding { verdict, from }, Written::IdTaken { holder, learnt, same_lane }) => {
                let own = matches!(*verdict, Verdict::Placed { learnt: Learnt::Answer, .. });
                if own && (learnt == Learnt::Answer || !same_lane) {
                    effects.push(Effect::Alarm(Alarm::IdTaken { intent: id, holder }));
                }
                self.claim_refused(rules, id, from, effects);
            }
            // The driver never answers so: a guard that fails otherwise makes it rebuild the lane.
            (_, _) => {}
        }
    }

    /// A verdict is durable.
    fn decided(
        &mut self,
        rules: &Rules,
        id: IntentId,
        verdict: Verdict,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let Some(intent) = self.intents.get_mut(&id) else { return };
        let Some(sent) = intent.attempt else { return };
        let late = intent.late.take();
        let seq = sent.attempt.seq;
        let mut ended = None;
        match verdict {
            Verdict::Placed { id: order, learnt, created_at }
            | Verdict::Created { id: order, learnt, created_at } => {
                self.taken.insert(order.clone());
                if learnt == Learnt::Answer {
                    self.note_answered(now);
                } else {
                    self.note_exchanged();
                    self.posts.insert(seq, Post { intent: id, left: sent.left });
                }
                ended = Some(Told::Placed { id: order, learnt, created_at });
            }
            Verdict::Refused(why) => ended = Some(Told::Refused(why)),
            Verdict::NotPlaced(why) => {
                effects.push(Effect::Released { intent: id, floor: sent.attempt.floor });
                ended = Some(Told::NotPlaced(why));
            }
            Verdict::NotSent(_) => intent.phase = Phase::Queued { permit_asked: false },
            Verdict::Absent => {
                intent.tries = intent.tries.saturating_add(1);
                intent.phase = Phase::Queued { permit_asked: false };
                effects.push(Effect::Released { intent: id, floor: sent.attempt.floor });
            }
            Verdict::InDoubt(_) => {
                intent.phase = Phase::InDoubt { held: false };
                effects.push(Effect::Tell { intent: id, told: Told::InDoubt });
                self.look_soon(rules, now);
            }
            Verdict::Held(why) => {
                intent.phase = Phase::InDoubt { held: true };
                effects.push(Effect::Tell { intent: id, told: Told::Held(why) });
            }
        }
        if let Some(told) = ended {
            self.intents.remove(&id);
            effects.push(Effect::Tell { intent: id, told });
        }
        if let Some(outcome) = late {
            self.answered(rules, id, seq, *outcome, None, effects);
        }
    }

    /// The order is another intent's: this attempt stays, or comes, in doubt.
    fn claim_refused(
        &mut self,
        rules: &Rules,
        id: IntentId,
        from: From,
        effects: &mut Vec<Effect>,
    ) {
        self.contradict();
        let Some(intent) = self.intents.get_mut(&id) else { return };
        let late = intent.late.take().zip(intent.attempt);
        match from {
            From::Sending => {
                let why = "the answer names an order that another intent has".into();
                self.decide(id, Verdict::InDoubt(why), From::Sending, effects);
                if let Some((outcome, _)) = late
                    && let Some(intent) = self.intents.get_mut(&id)
                {
                    intent.late = Some(outcome);
                }
                return;
            }
            From::InDoubt { held } => intent.phase = Phase::InDoubt { held },
            From::Queued => intent.phase = Phase::Queued { permit_asked: false },
        }
        if let Some((outcome, sent)) = late {
            self.answered(rules, id, sent.attempt.seq, *outcome, None, effects);
        }
    }
}
