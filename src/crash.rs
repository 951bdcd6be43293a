//! Named points between durable steps, at which a test lets the process die.
//!
//! A test build (feature `testing`) aborts the process when it comes to the point that
//! `ORDER_ROUTER_CRASH_AT` names, as `NAME:N`: at the N-th time. With `NAME:N:MS` the thread stands
//! still there for so many milliseconds before, while all others go on: whatever one of them does
//! without waiting for this one is then seen. In every other build a point is nothing.

/// The environment variable that names the point to die at.
#[cfg(any(test, feature = "testing"))]
pub const CRASH_AT: &str = "ORDER_ROUTER_CRASH_AT";

/// The points that a migration passes, in its order.
#[cfg(any(test, feature = "testing"))]
pub const MIGRATION_POINTS: &[&str] = &[
    "migrate.source_marked",
    "migrate.target_marked",
    "migrate.page",
    "migrate.compared",
    "migrate.source_moved",
    "migrate.done",
];

/// The points of a restore, and of settling what was restored, in order.
#[cfg(any(test, feature = "testing"))]
pub const RESTORE_POINTS: &[&str] =
    &["restore.copied", "restore.marked", "restored.held", "restored.settled"];

/// The points of a compaction, in its order.
#[cfg(any(test, feature = "testing"))]
pub const COMPACTION_POINTS: &[&str] = &[
    "compact.begun",
    "compact.written",
    "compact.verified",
    "compact.condemned",
    "compact.taking_over",
    "compact.took_over",
    "compact.removed",
    "compact.done",
];

/// The points of a reservation against limits of orders and money.
#[cfg(any(test, feature = "testing"))]
pub const LIMIT_POINTS: &[&str] = &["spend.writing", "spend.durable"];

/// Every point that a router passes, in the order in which a start, an order and a doubt come by
/// them.
#[cfg(any(test, feature = "testing"))]
pub const CRASH_POINTS: &[&str] = &[
    // A new store.
    "store.segment_made",
    "store.format_written",
    "store.format_renamed",
    // Recovery of the journal.
    "recover.unborn_found",
    "recover.unborn_removed",
    "recover.read",
    "recover.cut",
    "recover.rewritten",
    "recover.synced",
    "recover.dirs_synced",
    // The index is written anew.
    "rebuild.begun",
    "rebuild.replayed",
    "rebuild.fed",
    "rebuild.synced",
    "rebuild.old_aside",
    "rebuild.swapped",
    "rebuild.done",
    // The start reads the account.
    "start.listed",
    "history.drawing",
    "history.drawn",
    // The journal.
    "journal.appending",
    "journal.appended",
    "journal.synced",
    "journal.answered",
    "segment.rotating",
    "segment.created",
    "segment.header_written",
    "segment.header_synced",
    "segment.dir_synced",
    // The index takes over.
    "index.feeding",
    "index.applied",
    "index.flushed",
    "index.synced",
    "index.noted",
    // A lane writes.
    "accept.writing",
    "accept.durable",
    "record.writing",
    "record.durable",
    "answer.writing",
    "answer.durable",
    "not_sent.writing",
    "not_sent.durable",
    "doubt.writing",
    "doubt.durable",
    "claim.writing",
    "claim.durable",
    "release.writing",
    "release.durable",
    "settle.writing",
    "settle.durable",
    // A POST.
    "post.recorded",
    "post.answered",
    "post.reported",
    "post.late_answer",
    // A payment.
    "pay_record.writing",
    "pay_record.durable",
    "pay.recorded",
    "pay.answered",
    "pay.reported",
    "pay.late_answer",
    "pay_again.writing",
    "pay_again.durable",
    "pay_doubt.writing",
    "pay_doubt.durable",
    "pay.looked",
    "paid.writing",
    "paid.durable",
    "unpaid.writing",
    "unpaid.durable",
    // A list.
    "list.requested",
    "list.arrived",
    "list.claims_read",
    "list.handed_out",
];

/// Dies here if a test says so.
#[cfg(not(any(test, feature = "testing")))]
#[inline(always)]
pub(crate) fn point(_name: &'static str) {}

#[cfg(any(test, feature = "testing"))]
pub(crate) use armed::point;

#[cfg(any(test, feature = "testing"))]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use super::CRASH_AT;

    /// The point to die at, and how often it is passed before.
    struct Armed {
        name: String,
        left: AtomicU64,
        stands_still: Duration,
    }

    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let read = || {
            let at = std::env::var(CRASH_AT).ok()?;
            let mut parts = at.split(':');
            let name = parts.next()?.to_owned();
            let left = AtomicU64::new(parts.next()?.parse().ok()?);
            let millis = parts.next().map_or(Some(0), |millis| millis.parse().ok())?;
            Some(Armed { name, left, stands_still: Duration::from_millis(millis) })
        };
        ARMED.get_or_init(read).as_ref()
    }

    #[allow(clippy::disallowed_methods, reason = "real time, in a process that is about to die")]
    fn stand_still(span: Duration) {
        let until = Instant::now() + span;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
    }

    pub(crate) fn point(name: &'static str) {
        let Some(armed) = armed().filter(|armed| armed.name == name) else { return };
        if armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            stand_still(armed.stands_still);
            eprintln!("crash point {name}");
            std::process::abort();
        }
    }
}

/// Dies before or after a lane's change, by what it is.
pub(crate) mod change {
    use crate::protocol::{Change, Learnt, PayStep, PayVerdict, Verdict};

    /// The points before and after a change; `None` for those that no order depends on.
    pub(crate) fn points(change: &Change) -> Option<(&'static str, &'static str)> {
        Some(match change {
            Change::Accept { .. } => ("accept.writing", "accept.durable"),
            Change::Record { .. } => ("record.writing", "record.durable"),
            Change::Settle { .. } => ("settle.writing", "settle.durable"),
            Change::Pay { to, .. } => match to {
                PayVerdict::Open { payment, .. } => match payment.step {
                    PayStep::Sending => ("pay_record.writing", "pay_record.durable"),
                    PayStep::Due => ("pay_again.writing", "pay_again.durable"),
                    PayStep::InDoubt | PayStep::Held => ("pay_doubt.writing", "pay_doubt.durable"),
                },
                PayVerdict::Paid => ("paid.writing", "paid.durable"),
                PayVerdict::Unpaid(_) => ("unpaid.writing", "unpaid.durable"),
            },
            Change::Decide { verdict, .. } => match verdict {
                Verdict::Placed { learnt: Learnt::Answer, .. }
                | Verdict::Created { learnt: Learnt::Answer, .. } => {
                    ("answer.writing", "answer.durable")
                }
                Verdict::Placed { .. } | Verdict::Created { .. } => {
                    ("claim.writing", "claim.durable")
                }
                Verdict::NotSent(_) => ("not_sent.writing", "not_sent.durable"),
                Verdict::InDoubt(_) | Verdict::Held(_) => ("doubt.writing", "doubt.durable"),
                Verdict::Absent | Verdict::NotPlaced(_) => ("release.writing", "release.durable"),
                Verdict::Refused(_) => return None,
            },
            _ => return None,
        })
    }
}
