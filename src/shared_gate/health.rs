//! Whether the gate answers; while it does not, nobody waits for it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{GateError, OnFailure, Question, Reply, SharedGate};
use crate::actors::Shared;
use crate::protocol::Moment;

/// How often a gate that is down is asked.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Health {
    down: Option<Down>,
}

#[derive(Debug)]
struct Down {
    why: GateError,
    since: Moment,
    ask_again_at: Moment,
    /// Orders taken without it before this outage.
    unguarded_before: u64,
}

impl Health {
    pub(super) fn why_down(&self) -> Option<String> {
        self.down.as_ref().map(|down| down.why.to_string())
    }

    /// Says why nobody should ask now; lets one through from time to time.
    fn closed(&mut self, now: Moment, patience: Duration) -> Option<GateError> {
        let down = self.down.as_mut()?;
        if now < down.ask_again_at {
            return Some(down.why.clone());
        }
        down.ask_again_at = now.plus(ASK_AGAIN + patience);
        None
    }
}

impl SharedGate {
    /// Asks the server, within the limit.
    pub(super) async fn ask(
        &self,
        shared: &Shared,
        key: &str,
        question: Question,
    ) -> Result<Reply, GateError> {
        if let Some(why) = self.health().closed(shared.runtime.now(), self.terms.timeout) {
            return Err(why);
        }
        let asked = self.server.ask(key.to_owned(), question, self.terms.ttl);
        let answer = tokio::time::timeout(self.terms.timeout, asked).await;
        let answer = answer.unwrap_or_else(|_| Err(self.slow()));
        match &answer {
            Ok(_) => self.answers(shared),
            Err(why) => self.fails(shared, why),
        }
        answer
    }

    fn answers(&self, shared: &Shared) {
        let Some(down) = self.health().down.take() else { return };
        let unguarded = self.counts.unguarded.load(Ordering::Relaxed);
        let (span, unguarded) =
            (shared.runtime.now().since(down.since), unguarded - down.unguarded_before);
        shared.alarm(&format!(
            "the shared gate at {} answers again, after {span:.1?}; {unguarded} orders were taken without it",
            self.server.place()
        ));
        // What is open may have lost its keys.
        self.back.notify_one();
    }

    fn fails(&self, shared: &Shared, why: &GateError) {
        let now = shared.runtime.now();
        let mut health = self.health();
        if let Some(down) = &mut health.down {
            down.why = why.clone();
            down.ask_again_at = now.plus(ASK_AGAIN);
            return;
        }
        let unguarded_before = self.counts.unguarded.load(Ordering::Relaxed);
        let ask_again_at = now.plus(ASK_AGAIN);
        health.down = Some(Down { why: why.clone(), since: now, ask_again_at, unguarded_before });
        drop(health);
        let meaning = match self.terms.on_failure {
            OnFailure::Closed => "new orders are refused until it answers (closed)",
            OnFailure::Open => {
                "new orders are taken without it, and nothing stops a duplicate at another node (open)"
            }
        };
        shared.alarm(&format!("{why}: {meaning}"));
    }
}
