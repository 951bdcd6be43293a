//! The payment of one created order: a state machine without a clock and without I/O.
//!
//! [`Bill::step`] takes one [`PayEvent`] and the time, and returns the [`PayEffect`]s to carry out,
//! in order. Whoever drives it owes an answer to each [`PayEffect::Write`] ([`PayEvent::Written`]), to
//! each [`PayEffect::Send`] ([`PayEvent::Answered`]), to each [`PayEffect::Look`]
//! ([`PayEvent::Looked`]), and a [`PayEvent::Woke`] at [`Bill::wakes_at`]. At most one write and one look
//! are under way. Where the store says that it stands elsewhere, the bill is thrown away and made
//! anew from what the store has.

use std::time::Duration;

use super::{PayOutcome, PayStep, PayVerdict, Payment, Saw};
use crate::protocol::lane::Rules;
use crate::protocol::{Clause, Moment, Why};

/// How long an order may be unreadable before a person is asked, where no landing bound is set.
const UNREADABLE: Duration = Duration::from_secs(15 * 60);

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

/// A person's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PayDecision {
    /// It is paid.
    Paid,
    /// It is not paid, and nothing that was sent will pay it.
    Unpaid,
}

/// What happens to a bill.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PayEvent {
    /// A permit to send.
    Permitted,
    /// The write is durable.
    Written,
    /// The payment with this number was answered, or its task gave up waiting.
    Answered {
        /// Its number.
        pays: u32,
        /// What it did.
        outcome: PayOutcome,
        /// When its task reported; `None`: it did not, or nothing left.
        left: Option<Moment>,
    },
    /// A look that was requested at this moment has come.
    Looked {
        /// When it was requested.
        requested: Moment,
        /// What it showed.
        saw: Saw,
    },
    /// A list showed it as paid.
    SeenPaid,
    /// Orders of this account were seen not to be paid by being created (assumption A6).
    Trusted,
    /// An order was paid by being created: this one is looked at from then on, before it is paid.
    Distrusted {
        /// From when on.
        from: Moment,
    },
    /// A person decides.
    Decided(PayDecision),
    /// The time has come.
    Woke,
}

/// What a bill wants done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PayEffect {
    /// Ask for a permit to send.
    AskPermit,
    /// Give a permit back.
    ReturnPermit,
    /// Write, guarded by where the payment stood.
    Write {
        /// Where it stood.
        was: Payment,
        /// What becomes of it.
        to: PayVerdict,
    },
    /// Send the payment with this number.
    Send {
        /// Its number.
        pays: u32,
    },
    /// Look at the order.
    Look,
    /// Tell whoever waits.
    Tell(PayTold),
    /// A person has to know.
    Alarm(PayAlarm),
}

/// What whoever waits is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PayTold {
    /// Created, and to be paid.
    Due,
    /// It may be paid.
    InDoubt,
    /// It may be paid; a person is asked.
    Held(Why),
    /// Paid.
    Paid,
    /// Not paid, and it will not be.
    Unpaid(Why),
}

/// What a person has to know of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PayAlarm {
    /// It was paid before any payment of ours could have left: assumption A6 is broken.
    PaidUnasked,
    /// It was paid although every payment of ours was proved to have done nothing: assumption A1 is
    /// broken, or somebody else pays.
    PaidLate,
}

impl Bill {
    /// The bill of an order that was created just now. `check_from`: whether creating pays was not
    /// seen yet, so it is looked at from then on, and paid only if that shows it unpaid.
    #[must_use]
    pub fn created(check_from: Option<Moment>) -> (Self, Vec<PayEffect>) {
        let mut bill = Self::new(Payment::NEW, Phase::Asked);
        match check_from {
            Some(from) => {
                bill.check(from, Check::Assumption);
                (bill, Vec::new())
            }
            None => (bill, vec![PayEffect::AskPermit]),
        }
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
            Phase::Checking { .. } | Phase::Doubt(_) if !self.looking => self.look_at,
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
                    self.ask(&mut effects);
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

    fn ask(&mut self, effects: &mut Vec<PayEffect>) {
        self.phase = Phase::Asked;
        self.look_at = None;
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
            Then::Ask => self.ask(effects),
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

    fn seen_paid(&mut self, effects: &mut Vec<PayEffect>) {
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

    fn looked(
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
            Phase::Asked | Phase::Writing { .. } | Phase::Sending | Phase::Ended => {}
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
            Saw::Unpaid if from <= requested => self.ask(effects),
            Saw::Cancelled(reason) => {
                self.write(PayVerdict::Unpaid(cancelled(reason)), Then::End, effects);
            }
            Saw::Failed => {
                let why = "it failed before it was paid".into();
                self.hold(why, settled_doubt(now), effects);
            }
            Saw::Nothing(why) if now.since(from) > unreadable(rules) => {
                let why = format!("it cannot be read: {why}").into();
                self.hold(why, settled_doubt(now), effects);
            }
            Saw::Unpaid | Saw::Nothing(_) => self.look_again(rules, None, now),
            Saw::Paid => {}
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
                let for_want_of_payment = reason
                    .as_deref()
                    .is_some_and(|r| matches!(r, "payment_expiration" | "payment_failure"));
                let why = cancelled(reason);
                match for_want_of_payment || refused {
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

fn cancelled(reason: Option<Why>) -> Why {
    match reason {
        Some(reason) => format!("the supplier cancelled it: {reason}").into(),
        None => "the supplier cancelled it".into(),
    }
}
