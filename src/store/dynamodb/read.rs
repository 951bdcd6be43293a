//! What is read: consistently, by key.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use futures_util::future::try_join_all;

use super::Table;
use super::error::Trouble;
use super::items::{ACTIVE_PARTS, CLAIMS, Item, Key, SEALED, odd, read_bytes, text};
use crate::order::{ClientRef, OrderId};
use crate::protocol::Serial;
use crate::store::ledger::{Fault, Kept, SealedClaim};

/// Most keys in one question.
const KEYS_MAX: usize = 100;

/// How often a start is read while others write before it is told to wait.
const LOADS: usize = 5;

impl Table {
    /// Every item of a partition that a condition on its keys names, in the order of the sort key.
    pub(super) async fn query(
        &self,
        condition: &str,
        values: HashMap<String, AttributeValue>,
        only: Option<&str>,
    ) -> Result<Vec<Item>, Fault> {
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let page = self.client.query().table_name(&self.name).consistent_read(true);
            let page = page
                .key_condition_expression(condition)
                .set_expression_attribute_values(Some(values.clone()))
                .set_projection_expression(only.map(str::to_owned))
                .set_exclusive_start_key(from);
            let page = page.send().await.map_err(|error| Trouble::from(error).fault())?;
            found.extend(page.items.unwrap_or_default());
            from = page.last_evaluated_key;
            if from.as_ref().is_none_or(HashMap::is_empty) {
                return Ok(found);
            }
        }
    }

    async fn partition(&self, pk: String) -> Result<Vec<Item>, Fault> {
        self.query("pk = :pk", HashMap::from([(":pk".into(), text(pk))]), None).await
    }

    /// These items by their keys, each as of the last write to it.
    pub(super) async fn get_all(&self, mut keys: Vec<Key>) -> Result<HashMap<Key, Item>, Fault> {
        keys.sort_by(|a, b| (&a.pk, &a.sk).cmp(&(&b.pk, &b.sk)));
        keys.dedup();
        let mut found = HashMap::new();
        for some in keys.chunks(KEYS_MAX) {
            let mut left: Vec<Item> = some.iter().map(|key| key.clone().item()).collect();
            while !left.is_empty() {
                let before = left.len();
                let asked = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true);
                let asked = asked.build().map_err(|error| Trouble::wrong(error).fault())?;
                let answer = self.client.batch_get_item().request_items(&self.name, asked);
                let answer = answer.send().await.map_err(|error| Trouble::from(error).fault())?;
                let items = answer.responses.and_then(|mut tables| tables.remove(&self.name));
                for item in items.unwrap_or_default() {
                    found.insert(Key::of(&item).ok_or_else(|| odd("key"))?, item);
                }
                let unread = answer.unprocessed_keys.and_then(|mut left| left.remove(&self.name));
                left = unread.map(|unread| unread.keys).unwrap_or_default();
                if left.len() >= before {
                    return Err(Fault::Passes("DynamoDB gives nothing just now".into()));
                }
            }
        }
        Ok(found)
    }

    /// All that a start needs, read between two equal counts: no batch came between.
    pub(super) async fn read_all(&self) -> Result<Kept, Fault> {
        for _ in 0..LOADS {
            let Some(before) = self.meta().await? else { return Ok(Kept::default()) };
            let parts = (0..ACTIVE_PARTS).map(|part| self.partition(self.keys.active_part(part)));
            let items = try_join_all(parts).await?;
            let account = match &before.account {
                Some((at, pieces)) => self.read_account(at, *pieces).await?,
                None => None,
            };
            if self.meta().await?.as_ref() != Some(&before) {
                continue;
            }
            if before.account.is_some() && account.is_none() {
                return Err(Fault::Fatal("a piece of its account is missing".into()));
            }
            let rows = items.into_iter().flatten();
            let rows = rows.map(|item| read_bytes(&item, SEALED)?.ok_or_else(|| odd(SEALED)));
            let active = rows.collect::<Result<Vec<_>, _>>()?;
            return Ok(Kept { standing: before.standing, account, active });
        }
        Err(Fault::Passes("it was written to whenever it was read".into()))
    }

    /// `None` if a piece is missing: a newer account holds by now.
    async fn read_account(&self, at: &str, pieces: u64) -> Result<Option<Vec<u8>>, Fault> {
        let keys: Vec<_> = (0..pieces).map(|piece| self.keys.account(at, piece)).collect();
        let mut whole = Vec::new();
        for key in keys {
            let Some(item) = self.get(key).await.map_err(Trouble::fault)? else { return Ok(None) };
            whole.extend(read_bytes(&item, SEALED)?.ok_or_else(|| odd(SEALED))?);
        }
        Ok(Some(whole))
    }

    /// Most references are new: only those that are there are asked further about.
    pub(super) async fn read_rows(
        &self,
        refs: &[ClientRef],
    ) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let named = refs.iter().map(|name| self.keys.reference(name)).collect();
        let named = self.get_all(named).await?;
        let mut more = Vec::new();
        for name in refs {
            if let Some(item) = named.get(&self.keys.reference(name)) {
                more.push(match item.contains_key(SEALED) {
                    true => self.keys.body(name),
                    false => self.keys.active(name),
                });
            }
        }
        let more = self.get_all(more).await?;
        let row = |name: &ClientRef| {
            let Some(short) = named.get(&self.keys.reference(name)) else { return Ok(None) };
            if let Some(short) = read_bytes(short, SEALED)? {
                let body = more.get(&self.keys.body(name));
                let full = body.map(|body| read_bytes(body, SEALED)).transpose()?.flatten();
                return Ok(Some(full.unwrap_or(short)));
            }
            let ended = || Fault::Passes("an order ended while it was looked up".into());
            let item = more.get(&self.keys.active(name)).ok_or_else(ended)?;
            read_bytes(item, SEALED)?.ok_or_else(|| odd(SEALED)).map(Some)
        };
        refs.iter().map(row).collect()
    }

    pub(super) async fn read_claims(&self, ids: &[OrderId]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let found = self.get_all(ids.iter().map(|id| self.keys.order(id)).collect()).await?;
        let claim = |id| {
            let Some(item) = found.get(&self.keys.order(id)) else { return Ok(None) };
            read_bytes(item, SEALED)?.ok_or_else(|| odd(SEALED)).map(Some)
        };
        ids.iter().map(claim).collect()
    }

    pub(super) async fn read_claims_since(&self, since: Serial) -> Result<Vec<SealedClaim>, Fault> {
        let values = HashMap::from([
            (":pk".into(), text(self.keys.claimed_part())),
            (":since".into(), text(format!("{:020}", since.0))),
        ]);
        let mut found = BTreeMap::new();
        for item in self.query("pk = :pk AND sk >= :since", values, None).await? {
            let claims = item.get(CLAIMS).and_then(|claims| claims.as_m().ok());
            for (id, value) in claims.ok_or_else(|| odd(CLAIMS))? {
                let value = value.as_b().map_err(|_| odd(CLAIMS))?.as_ref();
                let (ended_at, claim) = value.split_first_chunk().ok_or_else(|| odd(CLAIMS))?;
                if u64::from_be_bytes(*ended_at) >= since.0 {
                    let id = OrderId::new(id).ok_or_else(|| odd(CLAIMS))?;
                    found.insert(id, claim.to_vec());
                }
            }
        }
        Ok(found.into_iter().collect())
    }
}
