//! The lease: an item that its holder counts up, and that others watch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::error::ProvideErrorMetadata;

use super::error::Trouble;
use super::items::{
    CHANGES, COUNTER, EPOCH, Item, LENGTH, NODE, VERSION, number, read_number, read_text, text,
};
use super::write::Refusal;
use super::{DynamoDbConfig, DynamoDbError, FORMAT_VERSION, Table, locked};
use crate::store::lease::Asked;
use crate::store::ledger::Fault;
use crate::store::{Holder, Lease};

/// How long a release may take.
const RELEASE_PATIENCE: Duration = Duration::from_secs(2);

/// How often a held lease is looked at while it is waited for, at most.
const LOOK: Duration = Duration::from_millis(500);

/// A lease of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) epoch: u64,
    /// How often it was renewed.
    pub(super) counter: u64,
    /// Zero: it was given back.
    pub(super) length: Duration,
    pub(super) node: String,
}

/// A lease as it was first seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched {
    epoch: u64,
    counter: u64,
    seen: Asked,
}

/// What came of asking for the lease.
#[derive(Debug)]
pub(super) enum Acquired {
    Epoch(u64),
    Held(Held),
}

impl Held {
    fn read(item: &Item) -> Result<Self, Fault> {
        Ok(Self {
            epoch: read_number(item, EPOCH)?,
            counter: read_number(item, COUNTER)?,
            length: Duration::from_millis(read_number(item, LENGTH)?),
            node: read_text(item, NODE)?,
        })
    }
}

impl Table {
    /// Whether this lease was seen unchanged for as long as it lasts. `answered` is after it was
    /// read: its holder counts from before it wrote it.
    fn has_ended(&self, held: &Held, answered: Asked) -> bool {
        let mut watched = locked(&self.remembered.watched);
        match &*watched {
            Some(Watched { epoch, counter, seen })
                if (*epoch, *counter) == (held.epoch, held.counter) =>
            {
                // Not a moment of the wall clock, neither this machine's nor another's.
                seen.ago() > held.length
            }
            _ => {
                let (epoch, counter) = (held.epoch, held.counter);
                *watched = Some(Watched { epoch, counter, seen: answered });
                false
            }
        }
    }

    /// Takes the lease if it is free, was given back, is this node's, or was seen to end.
    pub(super) async fn try_acquire(
        &self,
        node: &str,
        length: Duration,
    ) -> Result<Acquired, Fault> {
        let item = self.get(self.keys.lease()).await.map_err(Trouble::fault)?;
        let answered = Asked::now();
        let held = item.as_ref().map(Held::read).transpose()?;
        if let Some(held) = &held
            && !held.length.is_zero()
            && held.node != node
            && !self.has_ended(held, answered)
        {
            return Ok(Acquired::Held(held.clone()));
        }
        let epoch = held.as_ref().map_or(0, |held| held.epoch).saturating_add(1);
        let actions = vec![
            self.lease_action(held.as_ref(), epoch, node, length),
            self.fence_action(held.as_ref(), epoch),
        ];
        match self.transact(actions, None).await {
            Ok(()) => Ok(Acquired::Epoch(epoch)),
            Err(Refusal::Canceled(canceled)) if canceled.unmet(0) => match held {
                // Another was quicker: whoever asks again sees it.
                Some(held) => Ok(Acquired::Held(held)),
                None => Err(Fault::Passes("another router has taken it at this moment".into())),
            },
            Err(Refusal::Canceled(canceled)) if canceled.unmet(1) => Err(Fault::Fatal(
                "its lease and what it holds are not of one epoch, or a newer version wrote it: \
                 items were deleted or put by hand"
                    .into(),
            )),
            Err(Refusal::Canceled(canceled)) => Err(canceled.fault()),
            Err(Refusal::Other(trouble)) => Err(trouble.fault()),
        }
    }

    fn lease_action(
        &self,
        held: Option<&Held>,
        epoch: u64,
        node: &str,
        length: Duration,
    ) -> super::write::Action {
        let millis = length.as_millis();
        let change =
            format!("SET {EPOCH} = :new, {COUNTER} = :none, {LENGTH} = :ms, {NODE} = :node");
        let mut values = HashMap::from([
            (":new".into(), number(epoch)),
            (":none".into(), number(0)),
            (":ms".into(), number(millis)),
            (":node".into(), text(node)),
        ]);
        let condition = match held {
            None => "attribute_not_exists(pk)".to_owned(),
            Some(held) => {
                values.insert(":old".into(), number(held.epoch));
                values.insert(":counter".into(), number(held.counter));
                format!("{EPOCH} = :old AND {COUNTER} = :counter")
            }
        };
        self.update(self.keys.lease(), change, condition, values)
    }

    /// The epoch in the namespace's item, which every batch is compared with.
    fn fence_action(&self, held: Option<&Held>, epoch: u64) -> super::write::Action {
        let mut values = HashMap::from([
            (":new".into(), number(epoch)),
            (":version".into(), number(FORMAT_VERSION)),
        ]);
        let (change, condition) = match held {
            None => {
                values.insert(":none".into(), number(0));
                let change = format!("SET {EPOCH} = :new, {VERSION} = :version, {CHANGES} = :none");
                (change, "attribute_not_exists(pk)".to_owned())
            }
            Some(held) => {
                values.insert(":old".into(), number(held.epoch));
                let condition = format!("{EPOCH} = :old AND {VERSION} = :version");
                (format!("SET {EPOCH} = :new"), condition)
            }
        };
        self.update(self.keys.meta(), change, condition, values)
    }

    /// Who has the lease, as far as it is known: one that has ended is told as well.
    pub(super) async fn lease_holder(&self) -> Result<Option<String>, Fault> {
        let item = self.get(self.keys.lease()).await.map_err(Trouble::fault)?;
        let held = item.as_ref().map(Held::read).transpose()?;
        Ok(held.filter(|held| !held.length.is_zero()).map(|held| held.node))
    }

    pub(super) async fn renew_lease(&self, epoch: u64) -> Result<bool, Fault> {
        let renewed = self.client.update_item().table_name(&self.name);
        let renewed = renewed
            .set_key(Some(self.keys.lease().item()))
            .update_expression(format!("SET {COUNTER} = {COUNTER} + :one"))
            .condition_expression(format!("{EPOCH} = :epoch AND {LENGTH} > :none"))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":none", number(0))
            .expression_attribute_values(":epoch", number(epoch));
        match renewed.send().await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(Trouble::from(error).fault()),
        }
    }

    pub(super) async fn release_lease(&self, epoch: u64) {
        let released = self.client.update_item().table_name(&self.name);
        let released = released
            .set_key(Some(self.keys.lease().item()))
            .update_expression(format!("SET {LENGTH} = :none"))
            .condition_expression(format!("{EPOCH} = :epoch"))
            .expression_attribute_values(":none", number(0))
            .expression_attribute_values(":epoch", number(epoch));
        let told = match tokio::time::timeout(RELEASE_PATIENCE, released.send()).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => Trouble::from(error).why,
            Err(_) => format!("no answer within {RELEASE_PATIENCE:?}"),
        };
        tracing::debug!(place = self.place, why = told, "the lease was not given back: it ends");
    }

    /// Takes the lease for a router alone: waits for the end of another's, unless that is renewed.
    pub(super) async fn take(&self, config: &DynamoDbConfig) -> Result<Arc<Lease>, DynamoDbError> {
        let (node, length) = (this_process(), config.lease.length);
        let mut first: Option<Held> = None;
        let mut failed = 0;
        loop {
            let asked = Asked::now();
            let held = match self.try_acquire(&node, length).await {
                Ok(Acquired::Epoch(epoch)) => return Ok(Lease::taken(config.lease, epoch, asked)),
                Ok(Acquired::Held(held)) => held,
                // The table was reached just before: what passes is a conflict, or an answer lost.
                Err(Fault::Passes(why)) if failed < 5 => {
                    failed += 1;
                    tracing::warn!(place = self.place, why, "the lease is asked for again");
                    tokio::time::sleep(LOOK.min(length / 8)).await;
                    continue;
                }
                Err(Fault::Passes(why)) => {
                    return Err(DynamoDbError::Unreachable { place: config.place(), why });
                }
                Err(Fault::Fatal(why)) => {
                    return Err(DynamoDbError::Unusable { place: config.place(), why });
                }
            };
            let look = LOOK.min(held.length / 8);
            match &first {
                Some(first) if (first.epoch, first.counter) != (held.epoch, held.counter) => {
                    return Err(DynamoDbError::InUse { place: config.place(), holder: held.node });
                }
                Some(_) => {}
                None => {
                    tracing::info!(
                        place = self.place,
                        holder = held.node,
                        length = ?held.length,
                        "another router had the store: waiting for the end of its lease"
                    );
                    first = Some(held);
                }
            }
            tokio::time::sleep(look).await;
        }
    }
}

/// Names this opening of the store, for people and for itself.
fn this_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.chars().filter(char::is_ascii_graphic).take(64).collect();
    let host = if host.is_empty() { "a machine" } else { &host };
    let id = uuid::Uuid::new_v4().simple();
    Holder::name_alone(&format!("process {} on {host}, {id}", std::process::id()))
}
