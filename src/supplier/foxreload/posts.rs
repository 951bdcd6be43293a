//! What is sent once, through a gate: orders and payments.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::Url;

use super::Inner;
use crate::order::{Item, OrderId};
use crate::supplier::client::{self, NoBody};
use crate::supplier::gate::Gate;
use crate::supplier::wire;
use crate::supplier::{Answer, Exchange};

/// Closes the gate however the exchange ends, also when it is dropped: afterwards nothing can ask
/// it any more.
struct CloseAtEnd(Arc<Gate>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        let _ = self.0.close();
    }
}

impl Inner {
    pub(super) async fn place(&self, items: &[Item], gate: Arc<Gate>) -> Exchange {
        let bytes = wire::order_body(items, self.settings.mock);
        self.post(&self.orders_url, bytes, gate).await
    }

    /// Pays an order from the balance: no provider is named.
    pub(super) async fn pay(&self, id: &OrderId, gate: Arc<Gate>) -> Exchange {
        let path = wire::segment(id).map(|id| self.settings.pay_path.replace("{id}", &id));
        match path.and_then(|path| self.url(&path).ok()) {
            Some(url) => self.post(&url, Bytes::from_static(b"{}"), gate).await,
            None => {
                let _ = gate.close();
                Exchange::Broken { why: "an id that fits no path".into() }
            }
        }
    }

    async fn post(&self, url: &Url, bytes: Bytes, gate: Arc<Gate>) -> Exchange {
        let _close = CloseAtEnd(Arc::clone(&gate));
        let response = match self.orders.post(url, bytes, gate).await {
            Ok(response) => response,
            Err(error) => {
                let why = client::reason(&error);
                tracing::debug!(%why, "no answer to an order");
                return Exchange::Broken { why };
            }
        };
        let status = response.status().as_u16();
        let retry_after = wire::retry_after(response.headers(), || self.orders.wall());
        let date = wire::date(response.headers());
        let body = match client::body(response, self.settings.answer_bytes_max).await {
            Ok(body) => Some(body),
            Err(NoBody::TooLong) => {
                tracing::debug!(status, "the answer to an order is over the cap");
                None
            }
            Err(NoBody::Cut(why)) => {
                tracing::debug!(status, %why, "the answer to an order was cut off");
                None
            }
        };
        tracing::debug!(status, bytes = body.as_ref().map(Bytes::len), "an order was answered");
        Exchange::Answer(Answer { status, retry_after, date, body })
    }
}
