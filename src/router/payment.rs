//! A person's decision about the payment of a created order.

use tokio::sync::oneshot;

use super::{OrderRouter, Resolution};
use crate::actors::{PayMessage, Resolved};
use crate::error::ResolveError;
use crate::protocol::State;
use crate::protocol::payment::evidence::look;
use crate::protocol::payment::{PayDecision, Saw};
use crate::store::Stored;

impl OrderRouter {
    /// Decides whether a created order is paid: checked with the supplier where it can be read.
    pub(super) async fn resolve_payment(
        &self,
        stored: &Stored,
        resolution: &Resolution,
        reason: &str,
    ) -> Result<(), ResolveError> {
        let client_ref = stored.client_ref.clone();
        let State::Created { id, .. } = &stored.state else {
            return Err(ResolveError::NotToPay { client_ref, state: stored.state.name() });
        };
        let decision = match resolution {
            Resolution::Paid => PayDecision::Paid,
            _ => PayDecision::Unpaid,
        };
        let shared = self.shared();
        match shared.supplier.fetch(id.clone()).await {
            Ok(fetched) => {
                let status = fetched.row.status;
                let saw = look(&status, &fetched.raw, &shared.policy);
                let contradicts = match decision {
                    PayDecision::Paid => matches!(saw, Saw::Unpaid),
                    PayDecision::Unpaid => matches!(saw, Saw::Paid),
                };
                if contradicts {
                    return Err(ResolveError::Contradicted { id: id.clone(), status });
                }
            }
            Err(error) => {
                tracing::warn!(%client_ref, %error, "the order could not be read: a person's word is taken");
            }
        }
        let (answer, told) = oneshot::channel();
        let message = PayMessage::Resolve { intent: stored.id, decision, answer };
        shared.payments.send(shared, message);
        match told.await {
            Ok(Resolved::Done) => {
                tracing::warn!(%client_ref, reason, "decided by a person");
                Ok(())
            }
            Ok(_) => Err(ResolveError::NotInDoubt { client_ref, state: stored.state.name() }),
            Err(_) => Err(ResolveError::Stopped),
        }
    }
}
