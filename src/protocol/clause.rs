//! The clauses of the rules by name, and a switch that leaves one out.
//!
//! A rule whose absence nobody notices proves nothing. Each clause is asked for by name where it
//! is kept ([`LeftOut::keeps`]); in an ordinary build that is the constant `true`. A test build
//! (feature `testing`) can leave out one clause, and the model and the simulation must then find
//! the double purchase, the lost order or the changed answer that the clause is there against.

/// One clause of the rules of a lane, or of what it stands on.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clause {
    /// Rule 1: an intent is durable before its caller is told that it is accepted.
    AcceptBeforeTold,
    /// Rule 1: the same reference again joins the existing intent.
    ReferenceUnique,
    /// Rule 1: the same reference with another order is a conflict.
    ConflictRefused,
    /// Rule 2: an attempt is durable before its POST.
    RecordBeforeSend,
    /// Rule 2: the gate yields its bytes only within the send window, and while they are worth sending.
    GateCloses,
    /// Rule 2: from the record until the outcome is durable an attempt is in flight, sent or not.
    UnsentInFlight,
    /// Rule 3: an outcome is written only for the attempt that it is of, while that is open.
    OutcomeGuarded,
    /// Rule 3: a supplier order is claimed once in the whole store.
    ClaimedOnce,
    /// Rule 3: `Placed` and its claim are one write.
    ClaimWithPlaced,
    /// Rule 4: callers are told after the end is durable.
    ToldAfterDurable,
    /// Rule 5: a late answer is written only while its attempt is the newest.
    LateAnswerGuarded,
    /// Rule 5: late answers count.
    LateAnswerCounts,
    /// Rule 6: `Refused` and `NotSent` only where the evidence says so.
    RefusedByEvidence,
    /// Rule 7: settled counts from the sending task's report, not from the record.
    SettledFromReport,
    /// Rule 7: after a panic of its lane an attempt settles from its task's report as well.
    ReportAwaited,
    /// Rule 7: the wire bound is waited for.
    WireBound,
    /// Rule 7: the landing bound is waited for.
    LandingBound,
    /// Rule 7: after a restart settled counts from when the new process held the lock.
    SettledFromLock,
    /// Rule 8: a row counts whatever its status.
    AnyStatus,
    /// Rule 8: rows go to the oldest attempts in doubt.
    OldestFirst,
    /// Rule 8: the first list that has not been used is kept, newer ones are ignored.
    FirstListKept,
    /// Rule 8: a list is used when every attempt below its number has ended or is in doubt.
    ListWaits,
    /// Rule 8: a row that somebody has is no candidate.
    CandidateUnclaimed,
    /// Rule 9: the attempt itself was settled before the list was requested.
    SettledItself,
    /// Rule 9: so was every older attempt of the lane still in doubt.
    SettledOlder,
    /// Rule 9: so was the POST of every intent placed with a row of an earlier list.
    SettledPlaced,
    /// Rule 9: so was the POST of every intent placed with a row of this very list.
    SettledPlacedNow,
    /// Rule 9: and those that an intent was placed with by an answer, up to the first complete list
    /// that was requested after the attempt was settled.
    SettledAnswered,
    /// Rule 9: the list reaches back before the POST of every intent that the attempt can have
    /// exchanged orders with.
    PlacedInReach,
    /// Rule 9: what is settled is noted when the list is requested, and never judged later.
    JudgedAtRequest,
    /// Rule 9: intents placed from a list, with their POSTs, are remembered over a crash.
    PlacedRemembered,
    /// Rule 9: absence is proved by a complete list only.
    ListComplete,
    /// Rule 9: a near miss is never absence.
    NearMissHeld,
    /// Assumption A2, iii: a list shows what it must show.
    Witnesses,
    /// Assumption A2, iv: a list of another key, address or account is no evidence.
    SameFingerprint,
    /// Assumption A4: no release before the echo of such an order was seen.
    EchoSeen,
    /// Tags: where orders carry tags, a row is an order's only if it shows that order's tag.
    TagDecides,
    /// Tags: a row without a tag may be an order of ours all the same: it is no candidate, and where it
    /// names a product of one in doubt it is a near miss.
    UntaggedHeld,
    /// Tags: a row with the tag of an order in doubt and other items is a near miss.
    OwnTagHeld,
    /// Tags: nothing is released before a tag was seen in the row of an order known by its own answer.
    TagSeen,
    /// Rule 10: more candidates than doubts hold the lane.
    SurplusHolds,
    /// Rule 11: after a restart every attempt without a durable outcome is in doubt.
    RestartInDoubt,
    /// Rule 12: an order that no intent can have is never a candidate again.
    OrphansExcluded,
    /// Rule 12: after an absence the account is listed again.
    ListedAgain,
    /// Rule 13: intents that are not interchangeable are never open together.
    NotTogether,
    /// Rule 14: rows from before the first start are no candidates.
    HistoryExcluded,
    /// Rule 15: the start stops where the list knows more than the store.
    StartStops,
    /// Rule 16: a gate yields its bytes only while the lease that its attempt was recorded under
    /// lasts, less a margin.
    LeaseChecked,
    /// Rule 16: a write is refused in its own transaction once a newer epoch was given out.
    Fenced,
    /// Rule 16: who takes over counts settled from the longest pause after the lease's end.
    PauseCovered,
    /// Pay later: a payment is durable before it is sent.
    PayRecorded,
    /// Pay later: a payment is repeated only once the last one is settled.
    PaySettled,
    /// Pay later: and only when a look that was requested after that says that it is not paid.
    PayLookedAfter,
    /// The store answers a change after the sync that makes it durable.
    AnswerAfterSync,
    /// A lane is put to sleep only if no message is on its way to it.
    PassivationCounted,
    /// A lane notes what is settled before its list is requested, not after.
    ListAfterNote,
}

/// The clause that a test build leaves out, or two. Of no size in an ordinary build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LeftOut {
    #[cfg(any(test, feature = "testing"))]
    clauses: [Option<Clause>; 2],
}

impl LeftOut {
    /// Leaves out one clause: money is lost.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn only(clause: Clause) -> Self {
        Self { clauses: [Some(clause), None] }
    }

    /// Leaves out another one with it: one may stand behind the other. A third takes the place of
    /// the second.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn and(self, clause: Clause) -> Self {
        let [first, _] = self.clauses;
        first.map_or(Self::only(clause), |first| Self { clauses: [Some(first), Some(clause)] })
    }

    /// Whether a clause is kept.
    #[must_use]
    pub fn keeps(self, clause: Clause) -> bool {
        #[cfg(any(test, feature = "testing"))]
        return !self.clauses.contains(&Some(clause));
        #[cfg(not(any(test, feature = "testing")))]
        {
            let _ = clause;
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_kept_but_the_one_left_out() {
        assert!(LeftOut::default().keeps(Clause::GateCloses));
        let without = LeftOut::only(Clause::GateCloses);
        assert!(!without.keeps(Clause::GateCloses) && without.keeps(Clause::ClaimedOnce));
        let both = without.and(Clause::ReportAwaited);
        assert!(!both.keeps(Clause::GateCloses) && !both.keeps(Clause::ReportAwaited));
        assert!(both.keeps(Clause::ClaimedOnce));
        assert_eq!(LeftOut::default().and(Clause::GateCloses), without);
    }
}
