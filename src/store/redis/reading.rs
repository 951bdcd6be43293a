//! Reading a namespace through: first the active orders, then the ended ones, as a row goes.

use super::backend::{CHUNK, Server, fatal};
use crate::order::ClientRef;
use crate::store::Bookmark;
use crate::store::ledger::{Backend, Fault};

/// The parts of a namespace.
const ACTIVE: u8 = 0;
const ENDED: u8 = 1;

impl Server {
    /// A part is read with the server's own cursor, which shows what was there all the time at least
    /// once, and some of it twice.
    pub(super) async fn read_some(
        &self,
        from: &Bookmark,
    ) -> Result<(Vec<Vec<u8>>, Option<Bookmark>), Fault> {
        let (part, cursor) = from.text();
        let cursor = if cursor.is_empty() { "0" } else { &cursor };
        let (next, rows) = match part {
            ACTIVE => self.active_at(cursor).await?,
            _ => self.ended_at(cursor).await?,
        };
        let next = match (part, next.as_str()) {
            (ACTIVE, "0") => Some(Bookmark::new(ENDED, b"")),
            (_, "0") => None,
            (part, cursor) => Some(Bookmark::new(part, cursor.as_bytes())),
        };
        Ok((rows, next))
    }

    async fn active_at(&self, cursor: &str) -> Result<(String, Vec<Vec<u8>>), Fault> {
        let mut question = redis::pipe();
        question.cmd("HSCAN").arg(&self.0.keys.active).arg(cursor).arg("COUNT").arg(CHUNK);
        type Pairs = Vec<(String, Vec<u8>)>;
        let ((next, pairs),): ((String, Pairs),) = self.0.questions.ask(&question).await?;
        Ok((next, pairs.into_iter().map(|(_, row)| row).collect()))
    }

    async fn ended_at(&self, cursor: &str) -> Result<(String, Vec<Vec<u8>>), Fault> {
        let prefix = format!("{}r:", self.0.keys.prefix);
        let mut question = redis::pipe();
        question.cmd("SCAN").arg(cursor).arg("MATCH").arg(format!("{prefix}*"));
        question.arg("COUNT").arg(CHUNK);
        let ((next, keys),): ((String, Vec<String>),) = self.0.questions.ask(&question).await?;
        let refs = keys.iter().map(|key| ClientRef::new(key.strip_prefix(&prefix)?).ok());
        let Some(refs) = refs.collect::<Option<Vec<_>>>() else {
            return fatal("the name of an ended order is damaged");
        };
        let rows = self.rows(&refs).await?.into_iter().zip(&refs);
        let gone = |name: &ClientRef| format!("the order {name}, which was acknowledged, is gone");
        let rows = rows.map(|(row, name)| row.ok_or_else(|| Fault::Fatal(gone(name))));
        Ok((next, rows.collect::<Result<_, _>>()?))
    }
}
