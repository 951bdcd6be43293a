//! Reading a namespace through: first the active orders, then the ended ones, as a row goes.

use std::collections::HashMap;

use super::Table;
use super::error::Trouble;
use super::items::{ACTIVE_PARTS, Item, Key, PK, SEALED, SK, odd, read_bytes, text};
use crate::order::ClientRef;
use crate::store::Bookmark;
use crate::store::ledger::Fault;

/// The part of the ended orders; the parts before it are those of the active ones.
const ENDED: u8 = ACTIVE_PARTS as u8;

/// Ended orders are sought in so many items at once.
const PAGE: i32 = 1_000;

/// Between the two parts of a key: it is in neither.
const BETWEEN: char = '\0';

impl Table {
    pub(super) async fn read_some(
        &self,
        from: &Bookmark,
    ) -> Result<(Vec<Vec<u8>>, Option<Bookmark>), Fault> {
        let (part, at) = from.text();
        if part < ENDED {
            let pk = self.keys.active_part(part.into());
            let items =
                self.query("pk = :pk", HashMap::from([(":pk".into(), text(pk))]), None).await?;
            let rows =
                items.iter().map(|item| read_bytes(item, SEALED)?.ok_or_else(|| odd(SEALED)));
            return Ok((rows.collect::<Result<_, _>>()?, Some(Bookmark::new(part + 1, b""))));
        }
        let prefix = self.keys.references();
        let start = at.split_once(BETWEEN).map(|(pk, sk)| Key { pk: pk.into(), sk: sk.into() });
        let scan = self.client.scan().table_name(&self.name).consistent_read(true).limit(PAGE);
        let scan = scan
            .filter_expression(format!("begins_with({PK}, :prefix) AND attribute_exists({SEALED})"))
            .expression_attribute_values(":prefix", text(&prefix))
            .projection_expression(format!("{PK}, {SK}"))
            .set_exclusive_start_key(start.map(Key::item));
        let page = scan.send().await.map_err(|error| Trouble::from(error).fault())?;
        let mut refs = Vec::new();
        for key in page.items.unwrap_or_default().iter().map(key_of) {
            let name = key?.pk.strip_prefix(&prefix).and_then(|name| ClientRef::new(name).ok());
            refs.push(name.ok_or_else(|| odd(PK))?);
        }
        let rows = self.read_rows(&refs).await?.into_iter();
        let gone = || Fault::Fatal("an order, which was acknowledged, is gone".into());
        let rows = rows.map(|row| row.ok_or_else(gone)).collect::<Result<_, _>>()?;
        let next = page.last_evaluated_key.filter(|key| !key.is_empty());
        let next = next.as_ref().map(key_of).transpose()?;
        let next = next.map(|key| format!("{}{BETWEEN}{}", key.pk, key.sk));
        Ok((rows, next.map(|at| Bookmark::new(ENDED, at.as_bytes()))))
    }
}

fn key_of(item: &Item) -> Result<Key, Fault> {
    Key::of(item).ok_or_else(|| odd("key"))
}
