//! Reads ledgers and results.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::verdict::{Books, ItemsKey};
use crate::commands::failure::{Failure, chain};
use crate::commands::results::Outcome;

/// How long a ledger may take to arrive.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct LedgerRow<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    items: Vec<ItemRow<'a>>,
    #[serde(default)]
    foreign: bool,
    #[serde(default)]
    mock: bool,
    /// Absent: once.
    debits: Option<u64>,
}

#[derive(Deserialize)]
struct ItemRow<'a> {
    #[serde(borrow, rename = "itemId")]
    item_id: Cow<'a, str>,
    quantity: u64,
}

#[derive(Deserialize)]
struct ResultRow<'a> {
    #[serde(borrow)]
    client_ref: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    items: Vec<ItemRow<'a>>,
    outcome: Outcome,
    #[serde(borrow)]
    order_id: Option<Cow<'a, str>>,
}

fn key(items: &[ItemRow<'_>]) -> ItemsKey {
    ItemsKey::new(items.iter().map(|item| (&*item.item_id, item.quantity)))
}

/// Reads a ledger from a simulated supplier or a file.
pub fn ledger(source: &str, books: &mut Books) -> Result<(), Failure> {
    let bytes = match source.starts_with("http://") || source.starts_with("https://") {
        true => fetch(source)?,
        false => std::fs::read(source).map_err(|error| {
            let what = format!("the ledger {source} cannot be read: {error}");
            Failure::unread(what, NEXT)
        })?,
    };
    let rows: Vec<LedgerRow<'_>> = serde_json::from_slice(&bytes).map_err(|error| {
        let what = format!("the ledger {source} is not understood: {error}");
        Failure::unread(what, NEXT)
    })?;
    for row in &rows {
        let debits = row.debits.unwrap_or(1);
        // A test order costs nothing. Any other that was never debited was never bought.
        if debits > 0 || row.mock {
            books.sold(&row.id, key(&row.items), row.foreign);
        }
        if debits > 1 && !row.foreign {
            books.debited_again(&row.id, debits - 1);
        }
    }
    Ok(())
}

const NEXT: &str = "give the admin address that `order-router simulate` printed, or a file with \
    what its /admin/ledger answered";

fn fetch(source: &str) -> Result<Vec<u8>, Failure> {
    let base = source.trim_end_matches('/');
    let url = match base.ends_with("/admin/ledger") {
        true => base.to_owned(),
        false => format!("{base}/admin/ledger"),
    };
    let unread = |error: &dyn std::error::Error| {
        Failure::unread(format!("the ledger {url} cannot be read: {}", chain(error)), NEXT)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| unread(&error))?;
    runtime.block_on(async {
        let client = crate::commands::http_client(LEDGER_TIMEOUT).map_err(|e| unread(&e))?;
        let response = client.get(&url).send().await.map_err(|e| unread(&e))?;
        let response = response.error_for_status().map_err(|e| unread(&e))?;
        Ok(response.bytes().await.map_err(|e| unread(&e))?.to_vec())
    })
}

/// Reads one file of results; says how many lines were understood.
pub fn results(path: &Path, books: &mut Books) -> Result<u64, Failure> {
    let unread = |error: std::io::Error| {
        let what = format!("the results {} cannot be read: {error}", path.display());
        Failure::unread(what, "name a file that `submit --results` has written")
    };
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path).map_err(unread)?);
    let mut line = Vec::new();
    let mut understood = 0;
    while reader.read_until(b'\n', &mut line).map_err(unread)? > 0 {
        let text = line.trim_ascii();
        match serde_json::from_slice::<ResultRow<'_>>(text) {
            Ok(row) => {
                understood += 1;
                if let Some(client_ref) = &row.client_ref {
                    let id = row.order_id.as_deref();
                    books.told(client_ref, || key(&row.items), row.outcome, id);
                }
            }
            Err(_) if text.is_empty() => {}
            Err(_) => books.torn(),
        }
        line.clear();
    }
    Ok(understood)
}
