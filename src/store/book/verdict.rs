//! What a verdict needs, and what it does to an intent.

use crate::protocol::{AttemptSeq, Learnt, State, Verdict};
use crate::store::Stored;

/// Rule 3, and rule 5 for an answer that comes after its intent was queued again.
pub(super) fn decidable(stored: &Stored, attempt: AttemptSeq, verdict: &Verdict) -> bool {
    let late = matches!(verdict, Verdict::Placed { learnt: Learnt::Answer, .. })
        && stored.state == State::Queued
        && stored.last_attempt == Some(attempt);
    late || stored.state.attempt().is_some_and(|open| open.seq == attempt)
}

/// Every verdict but `Placed`.
pub(super) fn undo_or_end(stored: &mut Stored, verdict: Verdict) {
    let open = stored.state.attempt().copied();
    match (verdict, open) {
        (Verdict::Refused(why), _) => stored.state = State::Refused(why),
        (Verdict::NotSent(_), _) => stored.state = State::Queued,
        (Verdict::InDoubt(why), Some(open)) => stored.state = State::InDoubt(open, why),
        (Verdict::Held(why), Some(open)) => stored.state = State::Held(open, why),
        (Verdict::Absent, _) => {
            stored.tries = stored.tries.saturating_add(1);
            stored.state = State::Queued;
        }
        (Verdict::NotPlaced(why), _) => {
            stored.tries = stored.tries.saturating_add(1);
            stored.state = State::NotPlaced(why);
        }
        (Verdict::InDoubt(_) | Verdict::Held(_), None) | (Verdict::Placed { .. }, _) => {}
    }
}
