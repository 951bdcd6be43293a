//! What routers without the lease leave for the one that has it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{DeleteRequest, PutRequest, WriteRequest};
use futures_util::future::try_join_all;

use super::error::Trouble;
use super::items::{
    EXPIRES, Item, SEALED, SK, bytes, number, odd, read_bytes, read_number, read_text, text,
};
use super::lease::Acquired;
use super::write::seconds_from_now;
use super::{Table, locked};
use crate::store::Request;
use crate::store::ledger::{Fault, Meeting};

/// How long a reply is kept. Clocks that differ by more than half of that are refused by DynamoDB
/// itself.
const REPLY_KEPT: Duration = Duration::from_secs(600);

/// Most writes in one unconditional batch.
const WRITES_MAX: usize = 25;

/// How many requests are put at once.
const PUTS_AT_ONCE: usize = 16;

impl Table {
    async fn put_request(&self, request: &Request) -> Result<(), Fault> {
        let mut item = self.keys.request(&request.key).item();
        item.insert(SEALED.into(), bytes(&request.order));
        let put = self.client.put_item().table_name(&self.name).set_item(Some(item));
        match put.condition_expression("attribute_not_exists(pk)").send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(()),
            Err(error) => Err(Trouble::from(error).fault()),
        }
    }

    /// Requests after this one, in the order of their keys.
    async fn requests_after(
        &self,
        after: Option<String>,
        most: usize,
    ) -> Result<Vec<Request>, Fault> {
        let (mut found, mut from) = (Vec::new(), after.map(|key| self.keys.request(&key).item()));
        while found.len() < most {
            let page = self.client.query().table_name(&self.name).consistent_read(true);
            let page = page
                .key_condition_expression("pk = :pk")
                .expression_attribute_values(":pk", text(self.keys.request_part()))
                .limit(i32::try_from(most - found.len()).unwrap_or(i32::MAX))
                .set_exclusive_start_key(from);
            let page = page.send().await.map_err(|error| Trouble::from(error).fault())?;
            for item in page.items.unwrap_or_default() {
                let order = read_bytes(&item, SEALED)?.ok_or_else(|| odd(SEALED))?;
                found.push(Request { key: read_text(&item, SK)?, order });
            }
            from = page.last_evaluated_key;
            if from.as_ref().is_none_or(HashMap::is_empty) {
                break;
            }
        }
        Ok(found)
    }

    /// Writes without conditions, each by itself.
    async fn write_all(&self, mut writes: Vec<WriteRequest>) -> Result<(), Fault> {
        while !writes.is_empty() {
            let mut some = writes.split_off(writes.len().saturating_sub(WRITES_MAX));
            while !some.is_empty() {
                let before = some.len();
                let asked = self.client.batch_write_item().request_items(&self.name, some);
                let answer = asked.send().await.map_err(|error| Trouble::from(error).fault())?;
                let left = answer.unprocessed_items.and_then(|mut left| left.remove(&self.name));
                some = left.unwrap_or_default();
                if some.len() >= before {
                    return Err(Fault::Passes("DynamoDB takes nothing just now".into()));
                }
            }
        }
        Ok(())
    }
}

fn delete(key: Item) -> Result<WriteRequest, Fault> {
    let gone = DeleteRequest::builder().set_key(Some(key)).build();
    let gone = gone.map_err(|error| Trouble::wrong(error).fault())?;
    Ok(WriteRequest::builder().delete_request(gone).build())
}

impl Meeting for Table {
    async fn acquire(&self, node: &str, length: Duration) -> Result<Option<u64>, Fault> {
        Ok(match self.try_acquire(node, length).await? {
            Acquired::Epoch(epoch) => Some(epoch),
            Acquired::Held(_) => None,
        })
    }

    async fn holder(&self) -> Result<Option<String>, Fault> {
        self.lease_holder().await
    }

    async fn put_requests(&self, requests: &[Request]) -> Result<(), Fault> {
        let keys: BTreeSet<_> = requests.iter().map(|request| &request.key).collect();
        let old = keys.into_iter().map(|key| delete(self.keys.reply(key).item()));
        self.write_all(old.collect::<Result<_, _>>()?).await?;
        for some in requests.chunks(PUTS_AT_ONCE) {
            try_join_all(some.iter().map(|request| self.put_request(request))).await?;
        }
        Ok(())
    }

    /// In turn: whoever asks again gets those that are next.
    async fn requests(&self, most: usize) -> Result<Vec<Request>, Fault> {
        let after = locked(&self.remembered.cursor).clone();
        let mut found = self.requests_after(after.clone(), most).await?;
        if let Some(after) = after
            && found.len() < most
        {
            let mut first = self.requests_after(None, most - found.len()).await?;
            first.retain(|request| request.key <= after);
            found.extend(first);
        }
        *locked(&self.remembered.cursor) = found.last().map(|request| request.key.clone());
        Ok(found)
    }

    async fn settle_requests(&self, settled: &[(String, Option<Vec<u8>>)]) -> Result<(), Fault> {
        let expires = seconds_from_now(REPLY_KEPT);
        let settled: HashMap<_, _> = settled.iter().map(|(key, reply)| (key, reply)).collect();
        let (mut replies, mut done) = (Vec::new(), Vec::new());
        for (key, reply) in settled {
            if let Some(reply) = reply {
                let mut item: Item = self.keys.reply(key).item();
                item.insert(SEALED.into(), bytes(reply));
                item.insert(EXPIRES.into(), number(expires));
                let put = PutRequest::builder().set_item(Some(item)).build();
                let put = put.map_err(|error| Trouble::wrong(error).fault())?;
                replies.push(WriteRequest::builder().put_request(put).build());
            }
            done.push(delete(self.keys.request(key).item())?);
        }
        // A request goes after its reply is there: between them, it is answered again.
        self.write_all(replies).await?;
        self.write_all(done).await
    }

    async fn replies(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let found = self.get_all(keys.iter().map(|key| self.keys.reply(key)).collect()).await?;
        let now = u64::try_from(seconds_from_now(Duration::ZERO)).unwrap_or(0);
        let reply = |key: &String| {
            let Some(item) = found.get(&self.keys.reply(key)) else { return Ok(None) };
            // The service deletes what has expired in its own time.
            match read_number(item, EXPIRES)? < now {
                true => Ok(None),
                false => read_bytes(item, SEALED),
            }
        };
        keys.iter().map(reply).collect()
    }
}
