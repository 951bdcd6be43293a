//! What happens to a bill, and what it wants done.

use super::super::{PayOutcome, PayVerdict, Payment, Saw};
use crate::protocol::{Moment, Why};

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
