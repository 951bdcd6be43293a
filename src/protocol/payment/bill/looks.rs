//! What looks at the order say of its payment.

use std::time::Duration;

use super::super::{PayStep, PayVerdict, Payment, Saw};
use super::{Bill, Doubt, PayAlarm, PayEffect, Phase, Then, Unpaid};
use crate::protocol::lane::Rules;
use crate::protocol::{Clause, Moment, Why};

/// How long an order may be unreadable before a person is asked, where no landing bound is set.
const UNREADABLE: Duration = Duration::from_secs(15 * 60);

impl Bill {
    pub(super) fn seen_paid(&mut self, effects: &mut Vec<PayEffect>) {
        match &self.phase {
            Phase::Checking { .. } | Phase::Asked => {
                let unasked = self.payment.pays == 0;
                let alarm = if unasked { PayAlarm::PaidUnasked } else { PayAlarm::PaidLate };
                effects.push(PayEffect::Alarm(alarm));
                self.write(PayVerdict::Paid, Then::End, effects);
            }
            Phase::Doubt(_) => self.write(PayVerdict::Paid, Then::End, effects),
            // Its own report comes first: until then nothing is said of it.
            Phase::Writing { .. } | Phase::Sending | Phase::Ended => {}
        }
    }

    /// The newest payment has paid after a look had shown that it did nothing.
    pub(super) fn paid_late(&mut self, effects: &mut Vec<PayEffect>) {
        match self.phase {
            // No newer one is recorded, so none is: rule 5.
            Phase::Checking { .. } | Phase::Asked => self.seen_paid(effects),
            // What is told stays; before it is, whoever carries this out knows whose order it is.
            Phase::Ended => effects.insert(0, PayEffect::Alarm(PayAlarm::PaidLate)),
            Phase::Writing { .. } | Phase::Sending | Phase::Doubt(_) => {}
        }
    }

    pub(super) fn looked(
        &mut self,
        rules: &Rules,
        requested: Moment,
        saw: Saw,
        now: Moment,
        effects: &mut Vec<PayEffect>,
    ) {
        if saw == Saw::Paid {
            return self.seen_paid(effects);
        }
        match self.phase.clone() {
            Phase::Checking { from, .. } => self.checked(rules, from, requested, saw, now, effects),
            Phase::Doubt(doubt) => self.looked_in_doubt(rules, doubt, requested, saw, now, effects),
            Phase::Asked => match saw {
                Saw::Cancelled(reason) => self.cancelled_before(reason, now, effects),
                // Once a payment has left, nobody can tell that it had failed before.
                Saw::Failed => self.failed_before(now, effects),
                _ => self.look_again(rules, None, now),
            },
            Phase::Writing { .. } | Phase::Sending | Phase::Ended => {}
        }
    }

    /// A look at an order of which nothing that may land is under way.
    fn checked(
        &mut self,
        rules: &Rules,
        from: Moment,
        requested: Moment,
        saw: Saw,
        now: Moment,
        effects: &mut Vec<PayEffect>,
    ) {
        match saw {
            Saw::Unpaid if from <= requested => self.ask(rules, now, effects),
            Saw::Cancelled(reason) => self.cancelled_before(reason, now, effects),
            Saw::Failed => self.failed_before(now, effects),
            Saw::Nothing(why) if now.since(from) > unreadable(rules) => {
                let why = format!("it cannot be read: {why}").into();
                self.hold(why, settled_doubt(now), effects);
            }
            Saw::Unpaid | Saw::Nothing(_) => self.look_again(rules, None, now),
            Saw::Paid => {}
        }
    }

    fn failed_before(&mut self, now: Moment, effects: &mut Vec<PayEffect>) {
        self.hold("it failed before it was paid".into(), settled_doubt(now), effects);
    }

    /// It was cancelled before a payment of ours could have paid it. Where creating pays (A6 is
    /// broken) it may have been paid all the same, unless it was for want of payment.
    fn cancelled_before(&mut self, reason: Option<Why>, now: Moment, effects: &mut Vec<PayEffect>) {
        let unpaid = for_want_of_payment(reason.as_deref());
        let why = cancelled(reason);
        match unpaid {
            true => self.write(PayVerdict::Unpaid(why), Then::End, effects),
            false => {
                let why = format!("{why}, and whether it was paid is not shown").into();
                self.hold(why, settled_doubt(now), effects);
            }
        }
    }

    fn looked_in_doubt(
        &mut self,
        rules: &Rules,
        doubt: Doubt,
        requested: Moment,
        saw: Saw,
        now: Moment,
        effects: &mut Vec<PayEffect>,
    ) {
        let settled = doubt.settled_at.is_some_and(|at| at <= requested);
        let settled = settled || !rules.keeps(Clause::PaySettled);
        let unpaid_end = |why| (PayVerdict::Unpaid(why), Then::End);
        let (waited, patience) = (now.since(doubt.since), rules.wire_bound + rules.look_again_max);
        match saw {
            Saw::Unpaid if self.payment.is_for_a_person() => {
                let why = "whether it was told unpaid is not known: a person is asked".into();
                self.hold_or_look(rules, why, doubt, now, effects);
            }
            Saw::Unpaid if settled => {
                let tries = self.payment.tries.saturating_add(1);
                let counts = doubt.unpaid == Unpaid::CountsAsTry;
                let (verdict, then) = match doubt.unpaid {
                    Unpaid::Refused(why) => unpaid_end(why),
                    Unpaid::CountsAsTry if tries >= rules.tries_max => unpaid_end(
                        format!("{tries} payments were proved to have done nothing").into(),
                    ),
                    Unpaid::CountsAsTry | Unpaid::Again => {
                        let tries = if counts { tries } else { self.payment.tries };
                        let payment = Payment { tries, ..self.payment.at(PayStep::Due) };
                        (PayVerdict::Open { payment, why: Why::default() }, Then::Ask)
                    }
                };
                self.write(verdict, then, effects);
            }
            Saw::Cancelled(reason) => {
                let refused = matches!(doubt.unpaid, Unpaid::Refused(_) | Unpaid::Again);
                let unpaid = for_want_of_payment(reason.as_deref());
                let why = cancelled(reason);
                match unpaid || (refused && !doubt.held) {
                    true => self.write(PayVerdict::Unpaid(why), Then::End, effects),
                    false => {
                        let why = format!("{why}, and it may have been paid before").into();
                        self.hold_or_look(rules, why, doubt, now, effects);
                    }
                }
            }
            // A state only goes forward, and this one comes after it was paid.
            Saw::Failed if doubt.unpaid == Unpaid::CountsAsTry && !doubt.held => {
                self.write(PayVerdict::Paid, Then::End, effects);
            }
            Saw::Failed => {
                let why = "it failed, and no payment of it is known to have landed".into();
                self.hold_or_look(rules, why, doubt, now, effects);
            }
            Saw::Unpaid if doubt.settled_at.is_none() && waited > patience => {
                let why = "nobody can say when its payment can land no more".into();
                self.hold_or_look(rules, why, doubt, now, effects);
            }
            Saw::Nothing(why) if self.is_unreadable(rules, &doubt, now) => {
                let why = format!("it cannot be read: {why}").into();
                self.hold_or_look(rules, why, doubt, now, effects);
            }
            Saw::Unpaid | Saw::Nothing(_) | Saw::Paid => {
                self.look_again(rules, doubt.settled_at, now);
            }
        }
    }

    fn is_unreadable(&self, rules: &Rules, doubt: &Doubt, now: Moment) -> bool {
        now.since(doubt.settled_at.unwrap_or(doubt.since)) > unreadable(rules)
    }

    fn hold_or_look(
        &mut self,
        rules: &Rules,
        why: Why,
        doubt: Doubt,
        now: Moment,
        effects: &mut Vec<PayEffect>,
    ) {
        match doubt.held {
            true => self.look_again(rules, doubt.settled_at, now),
            false => self.hold(why, doubt, effects),
        }
    }

    fn hold(&mut self, why: Why, doubt: Doubt, effects: &mut Vec<PayEffect>) {
        let payment = self.payment.at(PayStep::Held);
        self.write_open(payment, why, Then::Doubt(Doubt { held: true, ..doubt }), effects);
    }

    /// Later, at the latest when the payment is settled.
    fn look_again(&mut self, rules: &Rules, settled_at: Option<Moment>, now: Moment) {
        let pause = (self.look_pause * 2).clamp(rules.look_again_min, rules.look_again_max);
        self.look_pause = pause;
        let at = now.plus(pause);
        self.look_at = Some(settled_at.filter(|s| *s > now).map_or(at, |settled| at.min(settled)));
    }
}

/// The doubt of a payment of which nothing can land.
fn settled_doubt(now: Moment) -> Doubt {
    Doubt { since: now, settled_at: Some(now), unpaid: Unpaid::Again, held: false }
}

fn unreadable(rules: &Rules) -> Duration {
    rules.landing_bound.unwrap_or(UNREADABLE)
}

fn for_want_of_payment(reason: Option<&str>) -> bool {
    matches!(reason, Some("payment_expiration" | "payment_failure"))
}

fn cancelled(reason: Option<Why>) -> Why {
    match reason {
        Some(reason) => format!("the supplier cancelled it: {reason}").into(),
        None => "the supplier cancelled it".into(),
    }
}
