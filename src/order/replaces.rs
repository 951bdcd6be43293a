//! An order in the place of one that ended without goods.
//!
//! Its reference is that of the old one with a suffix. So it names the old one wherever it stands, in
//! every store, result and list; and that an order is replaced once at most is what holds for every
//! reference: the second who replaces it joins the first, or is a conflict.

use super::{ClientRef, InvalidOrder, Item, Order};

/// What the reference of a replacement has behind that of the order which it replaces.
pub const REPLACEMENT: &str = "+replacement";

impl ClientRef {
    /// The reference of the order that replaces this one.
    ///
    /// # Errors
    /// [`InvalidOrder::ClientRef`] if it is longer than 255 bytes.
    pub fn replacement(&self) -> Result<Self, InvalidOrder> {
        Self::new(format!("{self}{REPLACEMENT}"))
    }

    /// The reference of the order that this one's replaces, if it is a replacement's.
    #[must_use]
    pub fn replaces(&self) -> Option<Self> {
        self.as_str().strip_suffix(REPLACEMENT).and_then(|replaced| Self::new(replaced).ok())
    }
}

impl Order {
    /// An order in the place of another that ended without goods: refused, not placed, unpaid, or placed
    /// and then failed, cancelled or expired at the supplier. Its reference is
    /// [`replaced.replacement()`](ClientRef::replacement).
    ///
    /// The router takes it only when it has seen that the other has ended so: whoever replaces what may
    /// still come would buy twice.
    ///
    /// # Errors
    /// As [`Order::new`]; [`InvalidOrder::ClientRef`] if the reference becomes too long.
    pub fn replacing(replaced: &ClientRef, items: Vec<Item>) -> Result<Self, InvalidOrder> {
        Self::new(replaced.replacement()?, items)
    }

    /// The reference of the order that it replaces, if it replaces one.
    #[must_use]
    pub fn replaces(&self) -> Option<ClientRef> {
        self.client_ref().replaces()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_names_what_it_replaces_and_no_other_does() {
        let reference = |text: &str| ClientRef::new(text).expect("a reference");
        for text in ["a", "a+replacement", "+", "+replacement+"] {
            let (old, new) = (reference(text), reference(text).replacement().expect("short"));
            assert_eq!(new.replaces(), Some(old), "{text}");
        }
        for text in ["a", "+replacement", "a+replacement2", "replacement"] {
            assert_eq!(reference(text).replaces(), None, "{text}");
        }
        let longest = reference(&"r".repeat(255 - REPLACEMENT.len()));
        assert!(longest.replacement().is_ok());
        let longer = reference(&"r".repeat(256 - REPLACEMENT.len()));
        assert_eq!(longer.replacement(), Err(InvalidOrder::ClientRef));
    }
}
