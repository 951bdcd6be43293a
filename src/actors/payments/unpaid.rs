//! Orders that were told unpaid lately, although payments of them were sent: one that is paid after all was
//! paid later than the landing bound allows (A1), or by somebody else.

use std::collections::{BTreeMap, VecDeque};

use crate::order::{ClientRef, OrderId};

/// Most orders that are watched.
const WATCHED_MAX: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unpaid {
    refs: BTreeMap<OrderId, ClientRef>,
    oldest: VecDeque<OrderId>,
}

impl Unpaid {
    /// Watches an order; over the bound, the oldest no more.
    pub(super) fn watch(&mut self, order: OrderId, client_ref: ClientRef) {
        if self.refs.insert(order.clone(), client_ref).is_none() {
            self.oldest.push_back(order);
        }
        while self.oldest.len() > WATCHED_MAX {
            if let Some(oldest) = self.oldest.pop_front() {
                self.refs.remove(&oldest);
            }
        }
    }

    /// Whose order it is that is shown as paid; told once.
    pub(super) fn is_paid(&mut self, order: &OrderId) -> Option<ClientRef> {
        let client_ref = self.refs.remove(order)?;
        self.oldest.retain(|watched| watched != order);
        Some(client_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_and_no_more_are_kept_than_there_is_room_for() {
        let id = |n: usize| OrderId::new(n.to_string()).expect("an id");
        let mut unpaid = Unpaid::default();
        for n in 0..WATCHED_MAX + 2 {
            unpaid.watch(id(n), ClientRef::new(format!("r-{n}")).expect("a reference"));
        }
        assert_eq!((unpaid.refs.len(), unpaid.oldest.len()), (WATCHED_MAX, WATCHED_MAX));
        assert_eq!(unpaid.is_paid(&id(1)), None);
        assert_eq!(unpaid.is_paid(&id(2)).expect("watched").as_str(), "r-2");
        assert_eq!(unpaid.is_paid(&id(2)), None);
        assert_eq!((unpaid.refs.len(), unpaid.oldest.len()), (WATCHED_MAX - 1, WATCHED_MAX - 1));
    }
}
