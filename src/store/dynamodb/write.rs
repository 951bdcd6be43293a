//! One batch, one transaction; and what a transaction that was not carried out means.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem, Update};

use super::error::{Kind, Trouble, kind_of};
use super::items::{
    ACCOUNT, CHANGES, CLAIMS, EPOCH, EXPIRES, Item, Key, PIECES, SEALED, STANDING, VERSION, bytes,
    number, text,
};
use super::{FORMAT_VERSION, Table, locked};
use crate::runtime::Runtime;
use crate::store::ledger::{Batch, Fault, RowWrite};

/// Most intents in a batch. A transaction has 100 actions and 4 MB: four actions for an intent, one
/// for the namespace, one for the claims; and an intent of 20 KiB is written twice at most.
pub(super) const ROWS_MAX: usize = 24;

/// Most bytes of an account in one item, which takes 400 KB.
const PIECE_BYTES_MAX: usize = 300 << 10;

/// What a transaction says of each of its actions; the message is for people.
pub(super) struct Canceled(Vec<(Kind, String)>);

/// Why a transaction was not carried out.
pub(super) enum Refusal {
    Canceled(Canceled),
    Other(Trouble),
}

impl Canceled {
    /// Whether the action's own condition was not met.
    pub(super) fn unmet(&self, at: usize) -> bool {
        self.0.get(at).is_some_and(|(kind, _)| *kind == Kind::Condition)
    }

    /// What it means if no condition explains it: a conflict that passes, or what never will.
    pub(super) fn fault(self) -> Fault {
        let passes = |kind: &Kind| matches!(kind, Kind::Passes);
        if let Some((_, code)) = self.0.iter().find(|(kind, _)| passes(kind)) {
            return Fault::Passes(format!("a transaction was cancelled: {code}"));
        }
        let codes: Vec<_> = self.0.into_iter().map(|(_, code)| code).collect();
        Fault::Fatal(format!("a transaction was cancelled: {}", codes.join(", ")))
    }
}

impl Table {
    /// Puts an item.
    pub(super) fn put(&self, key: Key, rest: Item, condition: Option<&str>) -> Action {
        let mut item = key.item();
        item.extend(rest);
        let put = Put::builder().table_name(&self.name).set_item(Some(item));
        let put = put.set_condition_expression(condition.map(str::to_owned));
        Action(put.build().map(|put| TransactWriteItem::builder().put(put).build()))
    }

    fn put_claim(&self, key: Key, claim: &[u8]) -> Action {
        let mut item = key.item();
        item.insert(SEALED.into(), bytes(claim));
        let put = Put::builder().table_name(&self.name).set_item(Some(item));
        let put = put
            .condition_expression(format!("attribute_not_exists(pk) OR {SEALED} = :same"))
            .expression_attribute_values(":same", bytes(claim));
        Action(put.build().map(|put| TransactWriteItem::builder().put(put).build()))
    }

    fn delete(&self, key: Key, condition: &str) -> Action {
        let delete = Delete::builder().table_name(&self.name).set_key(Some(key.item()));
        let delete = delete.condition_expression(condition).build();
        Action(delete.map(|delete| TransactWriteItem::builder().delete(delete).build()))
    }

    /// Changes an item.
    pub(super) fn update(
        &self,
        key: Key,
        change: String,
        condition: String,
        values: HashMap<String, AttributeValue>,
    ) -> Action {
        let update = Update::builder().table_name(&self.name).set_key(Some(key.item()));
        let update = update
            .update_expression(change)
            .condition_expression(condition)
            .set_expression_attribute_values(Some(values));
        Action(update.build().map(|update| TransactWriteItem::builder().update(update).build()))
    }

    /// Carries actions out together or not at all.
    pub(super) async fn transact(
        &self,
        actions: Vec<Action>,
        token: Option<String>,
    ) -> Result<(), Refusal> {
        let actions = actions.into_iter().map(|action| action.0).collect::<Result<Vec<_>, _>>();
        let actions = actions.map_err(|error| Refusal::Other(Trouble::wrong(error)))?;
        let asked = self.client.transact_write_items().set_transact_items(Some(actions));
        match asked.set_client_request_token(token).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(refusal(error)),
        }
    }

    pub(super) async fn write_batch(&self, batch: &Batch) -> Result<(), Fault> {
        let account = match &batch.account {
            Some(account) => Some(self.write_account(batch, account).await?),
            None => None,
        };
        let token = self.token(batch);
        let expires = self.expires(&token);
        let mut actions = vec![self.standing(batch, account.as_ref())];
        // What each action is about, for the message of one that was refused.
        let mut about = vec!["the namespace".to_owned()];
        for row in &batch.rows {
            self.row_actions(row, expires, &mut actions, &mut about);
        }
        actions.extend(self.claimed_action(batch));
        match self.transact(actions, Some(token)).await {
            Ok(()) => {}
            Err(refusal) => self.judge(batch, refusal, &about).await?,
        }
        if let Some((at, _)) = account {
            self.forget_accounts_before(&at).await;
        }
        Ok(())
    }

    /// The namespace's own item: the fence, the count, the standing, and which account holds.
    fn standing(&self, batch: &Batch, account: Option<&(String, u64)>) -> Action {
        let mut change = format!("SET {CHANGES} = :to, {STANDING} = :standing");
        let mut values = HashMap::from([
            (":to".into(), number(batch.to)),
            (":standing".into(), bytes(&batch.standing)),
            (":epoch".into(), number(batch.epoch)),
            (":from".into(), number(batch.from)),
            (":version".into(), number(FORMAT_VERSION)),
        ]);
        if let Some((at, pieces)) = account {
            change.push_str(&format!(", {ACCOUNT} = :at, {PIECES} = :pieces"));
            values.insert(":at".into(), text(at.as_str()));
            values.insert(":pieces".into(), number(pieces));
        }
        let condition = format!("{EPOCH} = :epoch AND {CHANGES} = :from AND {VERSION} = :version");
        self.update(self.keys.meta(), change, condition, values)
    }

    fn row_actions(
        &self,
        row: &RowWrite,
        expires: i64,
        actions: &mut Vec<Action>,
        about: &mut Vec<String>,
    ) {
        const ABSENT: Option<&str> = Some("attribute_not_exists(pk)");
        const PRESENT: Option<&str> = Some("attribute_exists(pk)");
        let (keys, name) = (&self.keys, &row.client_ref);
        let sealed = |value: &[u8]| Item::from([(SEALED.to_owned(), bytes(value))]);
        let mut add = |action, what: String| {
            actions.push(action);
            about.push(what);
        };
        if row.new {
            let kept = if row.active { Item::new() } else { sealed(&row.row) };
            let what = format!("the reference {name} is there already");
            add(self.put(keys.reference(name), kept, ABSENT), what);
        }
        let gone = || format!("the order {name}, which was acknowledged, is gone");
        match (row.active, row.new) {
            (true, new) => {
                let condition = if new { ABSENT } else { PRESENT };
                add(self.put(keys.active(name), sealed(&row.row), condition), gone());
            }
            (false, false) => {
                add(self.put(keys.reference(name), sealed(&row.row), PRESENT), gone());
                add(self.delete(keys.active(name), "attribute_exists(pk)"), gone());
            }
            (false, true) => {}
        }
        if let Some(full) = row.full.as_ref().filter(|_| !self.retention.is_zero()) {
            let mut body = sealed(full);
            body.insert(EXPIRES.into(), number(expires));
            add(self.put(keys.body(name), body, None), gone());
        }
        if let Some(claim) = &row.claim {
            let what = format!("the supplier's order {} is claimed already", claim.id);
            add(self.put_claim(keys.order(&claim.id), &claim.claim), what);
        }
    }

    /// The claims of a batch in one item, found by when they ended.
    fn claimed_action(&self, batch: &Batch) -> Option<Action> {
        let claims = || batch.rows.iter().filter_map(|row| row.claim.as_ref());
        let newest = claims().map(|claim| claim.ended_at.0).max()?;
        let by_order = claims().map(|claim| {
            let value = [&claim.ended_at.0.to_be_bytes()[..], &claim.claim].concat();
            (claim.id.as_str().to_owned(), bytes(&value))
        });
        let rest = Item::from([(CLAIMS.to_owned(), AttributeValue::M(by_order.collect()))]);
        Some(self.put(self.keys.claimed(newest, batch.to), rest, None))
    }

    /// Names a batch: the service answers a repeated one for ten minutes as the first.
    fn token(&self, batch: &Batch) -> String {
        let Batch { epoch, from, to, .. } = batch;
        let name = format!("{}/{}/{epoch}/{from}/{to}", self.name, self.keys.0);
        uuid::Uuid::new_v5(&self.remembered.nonce, name.as_bytes()).to_string()
    }

    /// When the bodies of a batch expire, in seconds of the Unix epoch.
    fn expires(&self, token: &str) -> i64 {
        let mut expiry = locked(&self.remembered.expiry);
        match &*expiry {
            Some((of, at)) if of == token => *at,
            _ => {
                let at = seconds_from_now(self.retention);
                *expiry = Some((token.to_owned(), at));
                at
            }
        }
    }

    /// Puts the account beside the one that holds: in pieces, before the transaction that names it.
    async fn write_account(&self, batch: &Batch, account: &[u8]) -> Result<(String, u64), Fault> {
        let at = format!("{:020}/{:020}", batch.epoch, batch.to);
        let mut pieces = 0;
        for piece in account.chunks(PIECE_BYTES_MAX) {
            let mut item = self.keys.account(&at, pieces).item();
            item.insert(SEALED.into(), bytes(piece));
            let put = self.client.put_item().table_name(&self.name).set_item(Some(item));
            put.send().await.map_err(|error| Trouble::from(error).fault())?;
            pieces += 1;
        }
        Ok((at, pieces))
    }

    /// What was refused is in already, may go in later, or never will.
    async fn judge(&self, batch: &Batch, refusal: Refusal, about: &[String]) -> Result<(), Fault> {
        let canceled = match refusal {
            Refusal::Canceled(canceled) if !canceled.unmet(0) => {
                let fault = canceled.0.iter().position(|(kind, _)| *kind == Kind::Condition);
                return Err(match (canceled.fault(), fault.and_then(|at| about.get(at))) {
                    (Fault::Fatal(_), Some(what)) => Fault::Fatal(what.clone()),
                    (fault, _) => fault,
                });
            }
            Refusal::Canceled(canceled) => canceled.fault(),
            Refusal::Other(trouble) if trouble.kind == Kind::TokenReused => trouble.fault(),
            Refusal::Other(trouble) => return Err(trouble.fault()),
        };
        let Some(meta) = self.meta().await? else {
            let why = "its namespace is gone, and acknowledged changes with it";
            return Err(Fault::Fatal(why.to_owned()));
        };
        Err(match meta.changes {
            _ if meta.epoch != batch.epoch => Fault::Fatal(format!(
                "another router has taken the store over (its epoch is {}, ours was {})",
                meta.epoch, batch.epoch
            )),
            changes if changes == batch.to && batch.to > batch.from => return Ok(()),
            _ if meta.version != FORMAT_VERSION => {
                Fault::Fatal(format!("what is kept is of version {} now", meta.version))
            }
            changes if changes == batch.from => match canceled {
                Fault::Passes(why) | Fault::Fatal(why) => Fault::Passes(why),
            },
            changes => Fault::Fatal(format!(
                "it holds {changes} changes and not {}: acknowledged ones are gone, the table was \
                 restored from a backup, or somebody else writes",
                batch.from
            )),
        })
    }

    /// Deletes accounts that no longer hold. What fails is done at the next account.
    async fn forget_accounts_before(&self, at: &str) {
        let condition = "pk = :pk AND sk < :at";
        let values = HashMap::from([
            (":pk".into(), text(self.keys.account_part())),
            (":at".into(), text(at)),
        ]);
        let Ok(items) = self.query(condition, values, Some("pk, sk")).await else { return };
        for key in items.iter().filter_map(Key::of) {
            let gone = self.client.delete_item().table_name(&self.name);
            if let Err(error) = gone.set_key(Some(key.item())).send().await {
                tracing::debug!(why = Trouble::from(error).why, "an old account was not deleted");
                return;
            }
        }
    }
}

/// Seconds of the Unix epoch, by this machine's wall clock.
pub(super) fn seconds_from_now(span: std::time::Duration) -> i64 {
    let span = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    Runtime::system().clock.wall().as_second().saturating_add(span)
}

/// An action of a transaction.
pub(super) struct Action(Result<TransactWriteItem, aws_sdk_dynamodb::error::BuildError>);

fn refusal(error: SdkError<TransactWriteItemsError>) -> Refusal {
    let canceled = error.as_service_error().and_then(|error| match error {
        TransactWriteItemsError::TransactionCanceledException(canceled) => Some(canceled),
        _ => None,
    });
    let Some(canceled) = canceled else { return Refusal::Other(error.into()) };
    let reasons = canceled.cancellation_reasons().iter().map(|reason| {
        let code = reason.code().unwrap_or("None");
        match code {
            "None" => (Kind::NoAnswer, code.to_owned()),
            code => (kind_of(code, "", 400), code.to_owned()),
        }
    });
    Refusal::Canceled(Canceled(reasons.collect()))
}
