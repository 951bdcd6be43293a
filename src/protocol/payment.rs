//! Orders that are paid in a second step: `POST …/pay`, an attempt like any other.
//!
//! Under [`PaysOn::Pay`] an order that was created costs nothing until it is paid. What is bought
//! once is then the payment, and its rules are those of an attempt:
//!
//! - It is recorded before it is sent, and one at a time is under way for an order.
//! - Its answer is judged by a whitelist ([`evidence`]); what is not listed leaves it in doubt.
//! - It is repeated only when the last one is settled (rule 7) and a `GET` of the order that was
//!   requested *after* that says that it is not paid. A `GET` that says paid ends the doubt at any
//!   time, for a state never goes back.
//! - What cannot be read is no evidence. What stays unclear is held for a person.
//!
//! ```text
//! Due ─▶ Sending ─▶ paid                             the intent is Placed
//!  ▲        │  ├──▶ Due            nothing left, or the supplier says that it did nothing
//!  │        │  └──▶ InDoubt ─▶ paid | unpaid (refused, cancelled, tries used up)
//!  └────────┴──────────┘ settled, then seen unpaid   InDoubt ⇄ Held (a person: paid | unpaid)
//! ```
//!
//! The budget of one order is *debits + payments that may still land ≤ 1*. Recording one takes it
//! from 0 to 1; only the proof that it did nothing takes it back.

use serde::{Deserialize, Serialize};

use super::Why;

mod bill;
pub mod evidence;
#[cfg(test)]
mod tests;

pub use bill::{Bill, PayAlarm, PayDecision, PayEffect, PayEvent, PayTold};

/// When the supplier debits the balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum PaysOn {
    /// With the POST that creates the order: a repeated POST debits twice. The default, and the
    /// careful one.
    #[default]
    Create,
    /// With a POST of its own, `…/pay`: until then the order is free (assumption A6).
    Pay,
}

/// How far the payment of a created order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PayStep {
    /// To be paid; nothing that may still land is under way.
    Due,
    /// A payment is recorded; it may be on the wire.
    Sending,
    /// A payment may have landed.
    InDoubt,
    /// In doubt, and a person is asked.
    Held,
}

impl PayStep {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Sending => "sending",
            Self::InDoubt => "in_doubt",
            Self::Held => "held",
        }
    }
}

/// The payment of a created order as it is stored: what a change of it is guarded by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Payment {
    /// How far it has come.
    pub step: PayStep,
    /// Payments recorded so far, sent or not: the newest one's number.
    pub pays: u32,
    /// Payments that were proved to have done nothing; or [`BY_A_PERSON`](Self::BY_A_PERSON).
    pub tries: u8,
}

impl Payment {
    /// Nothing was done yet.
    pub const NEW: Self = Self { step: PayStep::Due, pays: 0, tries: 0 };

    /// In place of tries: that it is seen unpaid does not make it due again. Of a store that was restored:
    /// its caller may have been told since that it is unpaid. So many tries are never left.
    pub const BY_A_PERSON: u8 = u8::MAX;

    /// Held, so that a person alone says that it is unpaid, whatever a look shows.
    #[must_use]
    pub fn for_a_person(self) -> Self {
        Self { tries: Self::BY_A_PERSON, ..self.at(PayStep::Held) }
    }

    /// Whether a person alone says that it is unpaid.
    #[must_use]
    pub fn is_for_a_person(self) -> bool {
        self.tries == Self::BY_A_PERSON
    }

    /// The same payment at another step.
    #[must_use]
    pub fn at(self, step: PayStep) -> Self {
        Self { step, ..self }
    }
}

/// What becomes of a payment: one durable write, guarded by where it stood.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PayVerdict {
    /// It goes on from here.
    Open {
        /// Where it stands now.
        payment: Payment,
        /// Why, where there is something to say; else empty.
        why: Why,
    },
    /// Paid: the order is bought.
    Paid,
    /// Not paid, and it will not be: nothing was debited.
    Unpaid(Why),
}

/// What one payment is known to have done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PayOutcome {
    /// The supplier's answer shows the order as paid.
    Paid,
    /// Nothing left: it may be sent again at once.
    NotSent(Why),
    /// The supplier says that it did nothing, and that it may be repeated.
    Again {
        /// Why.
        why: Why,
        /// It counts as a try.
        counts: bool,
    },
    /// The supplier says that it did nothing, and repeating it is pointless.
    Refused(Why),
    /// It may have debited. Only looking can tell.
    Unknown(Why),
}

/// What a look at the order showed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Saw {
    /// It is paid, or further.
    Paid,
    /// It waits for its payment.
    Unpaid,
    /// It was cancelled, for this reason if one is shown.
    Cancelled(Option<Why>),
    /// It failed.
    Failed,
    /// Nothing that can be relied on: no answer, another order, an unknown state.
    Nothing(Why),
}
