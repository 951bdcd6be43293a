//! Reading requests as they are answered, for a probe that does not know yet how to understand them.

use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;

use super::{FoxReload, Settings};
use crate::order::OrderId;
use crate::supplier::{PageRequest, ReadError, wire};

/// An answer with status 200, not past a cache, whatever is in it.
pub(crate) struct Raw {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// This machine's clock before it was asked for, and when it was in.
    pub(crate) wall: (Timestamp, Timestamp),
}

impl Raw {
    /// The supplier's clock, if it shows one.
    pub(crate) fn date(&self) -> Option<Timestamp> {
        wire::date(&self.headers)
    }
}

impl FoxReload {
    /// What it was made with.
    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The parameters that ask for a page.
    pub(crate) fn page_query(&self, request: PageRequest) -> [(&str, u64); 2] {
        self.0.page_query(request)
    }

    /// One page of the list, asked for with these parameters.
    pub(crate) async fn raw_list(&self, query: &[(&str, u64)]) -> Result<Raw, ReadError> {
        let inner = &self.0;
        let mut url = inner.orders_url.clone();
        if !query.is_empty() || !inner.settings.list_query.is_empty() {
            let mut pairs = url.query_pairs_mut();
            pairs.extend_pairs(&inner.settings.list_query);
            query.iter().for_each(|(name, value)| {
                pairs.append_pair(name, &value.to_string());
            });
        }
        self.raw(url).await
    }

    /// One order.
    pub(crate) async fn raw_order(&self, id: &OrderId) -> Result<Raw, ReadError> {
        let segment = wire::segment(id)
            .ok_or_else(|| ReadError::NotUnderstood("an id that fits no path".into()))?;
        let url = self.0.url(&self.0.settings.order_path.replace("{id}", &segment))?;
        self.raw(url).await.map_err(|error| match error {
            ReadError::Status(404) => ReadError::NotFound,
            other => other,
        })
    }

    async fn raw(&self, url: reqwest::Url) -> Result<Raw, ReadError> {
        let before = self.0.reads.wall();
        let (headers, body) = self.0.read(url).await?;
        Ok(Raw { headers, body, wall: (before, self.0.reads.wall()) })
    }
}
