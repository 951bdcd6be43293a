//! The seeded choice of what goes wrong.

use std::collections::BTreeMap;

use super::{Faults, ListFault, PayFault, PostFault};

impl Faults {
    /// The fault of the next POST: the script's, else drawn within the budget.
    pub(in crate::simulator) fn draw_post(&mut self, rng: &mut fastrand::Rng) -> Option<PostFault> {
        let point = rng.f64();
        if let Some(scripted) = self.script.pop_front() {
            return scripted;
        }
        let fault = pick(PostFault::ALL, point, |f| self.post(f))?;
        spend(&mut self.budget, fault)
    }

    /// The fault of the next payment: the script's, else drawn.
    pub(in crate::simulator) fn draw_pay(&mut self, rng: &mut fastrand::Rng) -> Option<PayFault> {
        let point = rng.f64();
        match self.pay_script.pop_front() {
            Some(scripted) => scripted,
            None => pick(PayFault::ALL, point, |f| self.pay(f)),
        }
    }

    /// The fault of the next list request: the script's, else drawn within the budget.
    pub(in crate::simulator) fn draw_list(&mut self, rng: &mut fastrand::Rng) -> Option<ListFault> {
        let point = rng.f64();
        if let Some(scripted) = self.list_script.pop_front() {
            return scripted;
        }
        let fault = pick(ListFault::ALL, point, |f| self.list(f))?;
        spend(&mut self.list_budget, fault)
    }
}

fn pick<F: Copy>(all: &[F], mut point: f64, probability: impl Fn(F) -> f64) -> Option<F> {
    for fault in all {
        let p = probability(*fault);
        if point < p {
            return Some(*fault);
        }
        point -= p;
    }
    None
}

fn spend<F: Copy + Ord>(budget: &mut BTreeMap<F, u64>, fault: F) -> Option<F> {
    match budget.get_mut(&fault) {
        None => Some(fault),
        Some(0) => None,
        Some(left) => {
            *left -= 1;
            Some(fault)
        }
    }
}
