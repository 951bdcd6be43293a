//! Reading a store through: first what the book holds, then what only the index does.

use crate::protocol::Serial;
use crate::store::book::Book;
use crate::store::index::{Index, failed};
use crate::store::{Bookmark, Page, StoreError};

/// Intents in a page.
const PAGE: usize = 1024;

/// The parts of a store: what the book holds by serial, what the index holds by reference.
const BOOK: u8 = 0;
const INDEX: u8 = 1;

/// A row can go from the book to the index meanwhile, never back: none is missed.
pub(super) fn read_some(
    book: &Book,
    index: Option<&Index>,
    from: &Bookmark,
) -> Result<Page, StoreError> {
    let (part, at) = from.parts();
    if part == BOOK {
        let after = <[u8; 8]>::try_from(at).ok().map(|bytes| Serial(u64::from_be_bytes(bytes)));
        let (intents, more) = book.some_after(after, PAGE);
        let next = match intents.last().filter(|_| more) {
            Some(last) => Some(Bookmark::new(BOOK, &last.stored.id.0.to_be_bytes())),
            None => index.map(|_| Bookmark::new(INDEX, &[])),
        };
        return Ok(Page { intents, next });
    }
    let Some(index) = index else { return Ok(Page::default()) };
    let (rows, more) = index.ended_after(at, PAGE).map_err(failed)?;
    let last = rows.last().map(|row| row.stored.client_ref.as_str().as_bytes());
    let next = last.filter(|_| more).map(|last| Bookmark::new(INDEX, last));
    Ok(Page { intents: rows.iter().map(|row| row.adopted()).collect(), next })
}
