//! What an answer means for all that is sent after it.

use std::sync::Arc;

use super::{DRAIN_DEFAULT, Dispatch, REFUSALS_MAX, SLOW_FOR, UNREACHABLE, Wanted};
use crate::actors::Shared;
use crate::order::Price;
use crate::protocol::Why;
use crate::protocol::evidence::{AccountEffect, PauseWhy};

impl Dispatch {
    /// Takes in what an answer means for the whole account.
    ///
    /// `price`: what the order costs that was answered, as far as that is known.
    pub(crate) fn effect(
        &self,
        shared: &Arc<Shared>,
        effect: AccountEffect,
        created: bool,
        price: Option<Price>,
    ) {
        let now = shared.runtime.now();
        let mut permits = self.permits();
        if created {
            permits.refusals = 0;
        }
        let wants = matches!(effect, AccountEffect::Pause(PauseWhy::Balance));
        let wants = wants.then_some(Wanted { price });
        let why: Why = match effect {
            AccountEffect::None | AccountEffect::Alarm(_) => return,
            AccountEffect::Drain { retry_after } => {
                permits.tokens = 0.0;
                permits.slow_until = now.plus(SLOW_FOR);
                let until = now.plus(retry_after.unwrap_or(DRAIN_DEFAULT));
                permits.blocked_until = permits.blocked_until.max(until);
                return;
            }
            AccountEffect::CountsAsRefusal => {
                permits.refusals += 1;
                if permits.refusals < REFUSALS_MAX {
                    return;
                }
                permits.refusals = 0;
                "every order is refused".into()
            }
            AccountEffect::Pause(PauseWhy::KeyRefused(status)) => {
                format!("the key is refused: status {status}").into()
            }
            AccountEffect::Pause(PauseWhy::NotTheSupplier(status)) => {
                format!("something else than the supplier answers: status {status}").into()
            }
            AccountEffect::Pause(PauseWhy::Redirected(status)) => {
                format!("the order path is redirected: status {status}").into()
            }
            AccountEffect::Pause(PauseWhy::Balance) => "the balance does not suffice".into(),
        };
        let begins = permits.pause(why.clone(), now, wants);
        drop(permits);
        if begins {
            shared.sending_stopped(Some(why));
            shared.probe_after_pause();
        }
    }

    /// Takes in whether a POST could leave: while nobody answers at the door, knock less often.
    pub(crate) fn left(&self, shared: &Shared, left: bool) {
        let mut permits = self.permits();
        if left {
            permits.unreachable_next = UNREACHABLE.0;
            return;
        }
        let now = shared.runtime.now();
        if permits.blocked_until <= now {
            permits.blocked_until = now.plus(permits.unreachable_next);
            permits.unreachable_next = (permits.unreachable_next * 2).min(UNREACHABLE.1);
        }
    }
}
