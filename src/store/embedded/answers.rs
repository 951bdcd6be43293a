//! Answers that wait for the sync, by themselves: `tests/loom.rs` includes this file and runs it
//! under every interleaving.

/// Answers that rest on changes which are not durable yet.
pub(super) struct Answers<A>(Vec<A>);

impl<A> Answers<A> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Keeps an answer back until the next [`settle`](Self::settle).
    pub(super) fn hold(&mut self, answer: A) {
        self.0.push(answer);
    }

    /// Writes and syncs, and only then gives every answer kept back, with what came of it.
    pub(super) fn settle<E>(
        &mut self,
        sync: impl FnOnce() -> Result<(), E>,
        mut give: impl FnMut(A, Result<(), &E>),
    ) -> Result<(), E> {
        let synced = sync();
        for answer in self.0.drain(..) {
            give(answer, synced.as_ref().copied());
        }
        synced
    }
}
