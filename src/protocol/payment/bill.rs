//! The payment of one created order: a state machine without a clock and without I/O.
//!
//! [`Bill::step`] takes one [`PayEvent`] and the time, and returns the [`PayEffect`]s to carry out,
//! in order. Whoever drives it owes an answer to each [`PayEffect::Write`] ([`PayEvent::Written`]), to
//! each [`PayEffect::Send`] ([`PayEvent::Answered`]), to each [`PayEffect::Look`]
//! ([`PayEvent::Looked`]), and a [`PayEvent::Woke`] at [`Bill::wakes_at`]. At most one write and one look
//! are under way. Where the store says that it stands elsewhere, the bill is thrown away and made
//! anew from what the store has.

use std::time::Duration;

use super::{PayOutcome, PayStep, PayVerdict, Payment};
use crate::protocol::lane::Rules;
use crate::protocol::{Clause, Moment, Why};

mod events;
mod looks;

pub use events::{PayAlarm, PayDecision, PayEffect, PayEvent, PayTold};

/// The payment of one order. Plain data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bill {
    /// As it is stored.
    payment: Payment,
    phase: Phase,
    /// A look is under way.
    looking: bool,
    /// When to look next, and the pause after that.
    look_at: Option<Moment>,
    look_pause: Duration,
    /// What came of the payment while a write was under way.
    late: Option<(PayOutcome, Option<Moment>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    /// Due, and looked at before it is paid: only what was requested from this moment on counts.
    Checking { from: Moment, why: Check },
    /// Due; a permit is asked for.
    Asked,
    /// A write is under way.
    Writing { verdict: PayVerdict, then: Then },
    /// Recorded; its task has not reported.
    Sending,
    /// It may have landed.
    Doubt(Doubt),
    /// Paid, or not and never.
    Ended,
}

/// Why an order is looked at before it is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Check {
    /// Whether creating pays was not seen yet (assumption A6).
    Assumption,
    /// Nobody knows what became of it meanwhile.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Then {
    Send,
    Ask,
    Doubt(Doubt),
    End,
}

/// What is known of a payment that may have landed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Doubt {
    since: Moment,
    /// From here on nothing of it can land; `None`: that is not known.
    settled_at: Option<Moment>,
    /// What follows once it is seen unpaid.
    unpaid: Unpaid,
    held: bool,
}

/// What follows once a settled payment is seen to have done nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Unpaid {
    /// It is sent again while tries are left.
    CountsAsTry,
    /// It is sent again.
    Again,
    /// The supplier refused it: that is the end.
    Refused(Why),
}

impl Bill {
    /// The bill of an order that was created just now. `check_from`: whether creating pays was not
    /// seen yet, so it is looked at from then on, and paid only if that shows it unpaid.
    #[must_use]
    pub fn created(
        check_from: Option<Moment>,
        rules: &Rules,
        now: Moment,
    ) -> (Self, Vec<PayEffect>) {
        let mut bill = Self::new(Payment::NEW, Phase::Asked);
        let mut effects = Vec::new();
        match check_from {
            Some(from) => bill.check(from, Check::Assumption),
            None => bill.ask(rules, now, &mut effects),
        }
        (bill, effects)
    }

    /// The bill of an order of which the store alone knows: after a restart, or learnt from a list.
    /// `check_from` is as for [`Bill::created`]; `left` is the moment from which settling counts, and
    /// `unreported` says that a task of this very process is still to report of the newest payment.
    #[must_use]
    pub fn restored(
        payment: Payment,
        check_from: Option<Moment>,
        unreported: bool,
        rules: &Rules,
        left: Moment,
        now: Moment,
    ) -> Self {
        let mut bill = Self::new(payment, Phase::Asked);
        match payment.step {
            PayStep::Due => bill.check(check_from.unwrap_or(now), Check::Unknown),
            PayStep::Sending if unreported => bill.phase = Phase::Sending,
            PayStep::Sending | PayStep::InDoubt | PayStep::Held => {
                let held = payment.step == PayStep::Held;
                let settled_at = bill.settled(rules, left);
                bill.doubt(
                    Doubt { since: now, settled_at, unpaid: Unpaid::CountsAsTry, held },
                    rules,
                    now,
                );
                bill.look_at = Some(now);
            }
        }
        bill
    }

    fn new(payment: Payment, phase: Phase) -> Self {
        let look_pause = Duration::ZERO;
        Self { payment, phase, looking: false, look_at: None, look_pause, late: None }
    }

    /// Where it stands, as it is stored.
    #[must_use]
    pub fn payment(&self) -> Payment {
        self.payment
    }

    /// Whether it has ended, durably.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether it may have landed, or a person is asked.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        match &self.phase {
            Phase::Doubt(_) => true,
            Phase::Writing { then, .. } => matches!(then, Then::Doubt(_)),
            Phase::Checking { .. } | Phase::Asked | Phase::Sending | Phase::Ended => false,
        }
    }

    /// Whether a look of this moment that shows it unpaid says that it may be paid now.
    #[must_use]
    pub fn is_checked_by(&self, requested: Moment) -> bool {
        matches!(self.phase, Phase::Checking { from, .. } if from <= requested)
    }

    /// Whether a look requested now decides something by showing it unpaid.
    #[must_use]
    pub fn is_decisive(&self, now: Moment) -> bool {
        match &self.phase {
            Phase::Checking { from, .. } => *from <= now,
            Phase::Doubt(doubt) => doubt.settled_at.is_none_or(|at| at <= now),
            Phase::Asked | Phase::Writing { .. } | Phase::Sending | Phase::Ended => false,
        }
    }

    /// Whether a person may decide it now.
    #[must_use]
    pub fn is_decidable(&self) -> bool {
        matches!(self.phase, Phase::Checking { .. } | Phase::Asked | Phase::Doubt(_))
    }

    /// Whether a permit is held that no task gives back.
    #[must_use]
    pub fn holds_permit(&self) -> bool {
        matches!(&self.phase, Phase::Writing { then: Then::Send, .. })
    }

    /// When it has to be woken.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Moment> {
        match self.phase {
            Phase::Checking { .. } | Phase::Asked | Phase::Doubt(_) if !self.looking => {
                self.look_at
            }
            _ => None,
        }
    }

    /// Takes one event in.
    pub fn step(&mut self, rules: &Rules, event: PayEvent, now: Moment) -> Vec<PayEffect> {
        let mut effects = Vec::new();
        match event {
            PayEvent::Permitted => self.permitted(rules, &mut effects),
            PayEvent::Written => self.written(rules, now, &mut effects),
            PayEvent::Answered { pays, outcome, left } => {
                self.answered(rules, pays, outcome, left, now, &mut effects);
            }
            PayEvent::Looked { requested, saw } => {
                self.looking = false;
                let counts = rules.keeps(Clause::PayLookedAfter);
                let requested = if counts { requested } else { now };
                self.looked(rules, requested, saw, now, &mut effects);
            }
            PayEvent::SeenPaid => self.seen_paid(&mut effects),
            PayEvent::Trusted => {
                if let Phase::Checking { why: Check::Assumption, .. } = self.phase {
                    self.ask(rules, now, &mut effects);
                }
            }
            PayEvent::Distrusted { from } => {
                // The permit that was asked for goes back when it comes.
                if self.phase == Phase::Asked {
                    self.check(from, Check::Assumption);
                }
            }
            PayEvent::Decided(decision) if self.is_decidable() => {
                let verdict = match decision {
                    PayDecision::Paid => PayVerdict::Paid,
                    PayDecision::Unpaid => PayVerdict::Unpaid("a person says so".into()),
                };
                self.write(verdict, Then::End, &mut effects);
            }
            PayEvent::Decided(_) => {}
            PayEvent::Woke => {}
        }
        if self.wakes_at().is_some_and(|at| at <= now) {
            self.looking = true;
            effects.push(PayEffect::Look);
        }
        effects
    }

    fn check(&mut self, from: Moment, why: Check) {
        self.phase = Phase::Checking { from, why };
        self.look_at = Some(from);
        self.look_pause = Duration::ZERO;
    }

    /// It may have to wait long for a permit, and the order expires meanwhile: it is looked at.
    fn ask(&mut self, rules: &Rules, now: Moment, effects: &mut Vec<PayEffect>) {
        self.phase = Phase::Asked;
        self.look_pause = rules.look_again_max;
        self.look_at = Some(now.plus(self.look_pause));
        effects.push(PayEffect::AskPermit);
    }

    fn write(&mut self, verdict: PayVerdict, then: Then, effects: &mut Vec<PayEffect>) {
        effects.push(PayEffect::Write { was: self.payment, to: verdict.clone() });
        self.look_at = None;
        self.phase = Phase::Writing { verdict, then };
    }

    fn write_open(&mut self, payment: Payment, why: Why, then: Then, to: &mut Vec<PayEffect>) {
        self.write(PayVerdict::Open { payment, why }, then, to);
    }

    fn permitted(&mut self, rules: &Rules, effects: &mut Vec<PayEffect>) {
        if self.phase != Phase::Asked {
            return effects.push(PayEffect::ReturnPermit);
        }
        let pays = self.payment.pays.saturating_add(1);
        let payment = Payment { pays, ..self.payment.at(PayStep::Sending) };
        self.write_open(payment, Why::default(), Then::Send, effects);
        if !rules.keeps(Clause::PayRecorded) {
            effects.insert(effects.len() - 1, PayEffect::Send { pays });
        }
    }

    fn written(&mut self, rules: &Rules, now: Moment, effects: &mut Vec<PayEffect>) {
        let Phase::Writing { verdict, then } = self.phase.clone() else { return };
        let told = match verdict {
            PayVerdict::Paid => Some(PayTold::Paid),
            PayVerdict::Unpaid(why) => Some(PayTold::Unpaid(why)),
            PayVerdict::Open { payment, why } => {
                let was = std::mem::replace(&mut self.payment, payment);
                match payment.step {
                    PayStep::Due => Some(PayTold::Due).filter(|_| was.step != PayStep::Sending),
                    PayStep::Sending => None,
                    PayStep::InDoubt => Some(PayTold::InDoubt),
                    PayStep::Held => Some(PayTold::Held(why)),
                }
            }
        };
        effects.extend(told.map(PayEffect::Tell));
        match then {
            Then::Send => {
                self.phase = Phase::Sending;
                if rules.keeps(Clause::PayRecorded) {
                    effects.push(PayEffect::Send { pays: self.payment.pays });
                }
            }
            Then::Ask => self.ask(rules, now, effects),
            Then::Doubt(doubt) => self.doubt(doubt, rules, now),
            Then::End => self.phase = Phase::Ended,
        }
        if let Some((outcome, left)) = self.late.take() {
            self.answered(rules, self.payment.pays, outcome, left, now, effects);
        }
    }

    fn doubt(&mut self, doubt: Doubt, rules: &Rules, now: Moment) {
        self.look_pause = rules.look_again_min;
        // What can land no more may be looked at at once.
        let settled = doubt.settled_at.is_some_and(|at| at <= now) && !doubt.held;
        self.look_at = Some(if settled { now } else { now.plus(self.look_pause) });
        self.phase = Phase::Doubt(doubt);
    }

    /// From when on nothing of a payment can land, by what its task reported (rule 7).
    fn settled(&self, rules: &Rules, left: Moment) -> Option<Moment> {
        rules.landing_bound.map(|bound| left.plus(rules.wire_bound).plus(bound))
    }

    fn answered(
        &mut self,
        rules: &Rules,
        pays: u32,
        outcome: PayOutcome,
        left: Option<Moment>,
        now: Moment,
        effects: &mut Vec<PayEffect>,
    ) {
        if let Phase::Writing { verdict, .. } = &self.phase {
            let newest = match verdict {
                PayVerdict::Open { payment, .. } => payment.pays,
                PayVerdict::Paid | PayVerdict::Unpaid(_) => self.payment.pays,
            };
            if pays == newest {
                self.late = Some((outcome, left));
            }
            return;
        }
        let first = self.phase == Phase::Sending;
        let in_doubt = matches!(self.phase, Phase::Doubt(_));
        if outcome == PayOutcome::Paid && pays == self.payment.pays && !(first || in_doubt) {
            // It was seen to have done nothing, and has paid all the same.
            return self.paid_late(effects);
        }
        if pays != self.payment.pays || !(first || in_doubt) {
            // An older one is settled, and was looked at since.
            return;
        }
        let settled_at = match &outcome {
            // Its answer says that it did nothing.
            PayOutcome::Again { .. } | PayOutcome::Refused(_) => Some(now),
            _ => left.and_then(|left| self.settled(rules, left)),
        };
        let (unpaid, why) = match outcome {
            PayOutcome::Paid => return self.write(PayVerdict::Paid, Then::End, effects),
            PayOutcome::NotSent(why) if first => {
                return self.write_open(self.payment.at(PayStep::Due), why, Then::Ask, effects);
            }
            PayOutcome::Again { why, counts: true } => (Unpaid::CountsAsTry, why),
            PayOutcome::Again { why, counts: false } => (Unpaid::Again, why),
            PayOutcome::Refused(why) => (Unpaid::Refused(why.clone()), why),
            PayOutcome::Unknown(why) if first => (Unpaid::CountsAsTry, why),
            // It says nothing new of what has left.
            PayOutcome::Unknown(_) | PayOutcome::NotSent(_) => return,
        };
        let held = matches!(&self.phase, Phase::Doubt(doubt) if doubt.held);
        let doubt = Doubt { since: now, settled_at, unpaid, held };
        match first {
            true => {
                let payment = self.payment.at(PayStep::InDoubt);
                self.write_open(payment, why, Then::Doubt(doubt), effects);
            }
            false => {
                self.doubt(doubt, rules, now);
                self.look_at = Some(now);
            }
        }
    }
}
