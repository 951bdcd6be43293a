//! The counter that lets a lane go to sleep without losing a message, by itself: `tests/loom.rs`
//! includes this file and runs it under every interleaving.
//!
//! Whoever calls has locked the entry of the map, and each function takes that lock and keeps it
//! to its end. A message is counted and sent in one such step, and a lane is removed in another,
//! only if nothing is counted.

/// A lane that lives, in its entry of the map.
pub(crate) struct Slot<A> {
    /// How it is reached.
    pub(crate) actor: A,
    /// Messages sent and not yet handled to the end.
    pub(crate) pending: usize,
}

/// One entry of the map, locked for as long as this lives.
pub(crate) trait LockedEntry<A> {
    /// The lane in it, if one lives.
    fn slot(&mut self) -> Option<&mut Slot<A>>;

    /// Puts a lane into an entry that has none.
    fn fill(self, slot: Slot<A>);

    /// Takes the lane out of it.
    fn remove(self);
}

/// Counts a message and sends it, to the lane that lives or to one that is started for it.
pub(crate) fn deliver<A, R>(
    mut entry: impl LockedEntry<A>,
    start: impl FnOnce() -> A,
    send: impl FnOnce(&A) -> R,
) -> R {
    if let Some(slot) = entry.slot() {
        slot.pending += 1;
        return send(&slot.actor);
    }
    let actor = start();
    let sent = send(&actor);
    entry.fill(Slot { actor, pending: 1 });
    sent
}

/// Counts a message as handled to its end. True if the lane was removed, because it is idle and no
/// message is on its way to it: its actor must stop.
pub(crate) fn handled<A>(mut entry: impl LockedEntry<A>, idle: bool) -> bool {
    let Some(slot) = entry.slot() else { return false };
    slot.pending -= 1;
    let gone = idle && slot.pending == 0;
    if gone {
        entry.remove();
    }
    gone
}

/// Removes a lane that has nothing to do, unless a message is on its way to it. True if it was
/// removed.
pub(crate) fn remove_idle<A>(mut entry: impl LockedEntry<A>) -> bool {
    let gone = entry.slot().is_some_and(|slot| slot.pending == 0);
    if gone {
        entry.remove();
    }
    gone
}
