//! An order's way past the gate to its lane.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::entry::{Entry, Found, Phase, Refusal, Verdict, decide};
use super::{GateError, Question, Reply, SharedGate};
use crate::actors::{Handover, LaneMessage, Shared};
use crate::error::SubmitError;
use crate::order::{ClientRef, ItemsDigest, ItemsHash};
use crate::router::{Progress, Reader, slot};

/// How often a key may change under our eyes before that counts as no answer.
const TRIES: usize = 4;

impl Shared {
    /// Hands an order to its lane, past the gate where there is one.
    pub(crate) fn past_gate(self: &Arc<Self>, lane: ItemsHash, handover: Box<Handover>) {
        let Some(gate) = self.gate.clone() else {
            return self.deliver(lane, LaneMessage::Submit(handover));
        };
        let caller = Caller::new(&gate, gate.key(handover.order.client_ref()));
        let shared = self.clone();
        self.spawn(async move { caller.pass(&shared, lane, handover).await });
    }
}

/// One caller of this node under a key, until what came of it is written there.
struct Caller {
    gate: Arc<SharedGate>,
    key: String,
}

/// What the gate let through.
#[derive(Debug, Clone, Copy)]
struct Pass {
    /// The key was added for this caller.
    added: bool,
    /// The key says that the intent is recorded, or is another node's.
    settled: bool,
}

impl Caller {
    fn new(gate: &Arc<SharedGate>, key: String) -> Self {
        gate.busy.fetch_add(1, Ordering::SeqCst);
        *gate.callers().entry(key.clone()).or_default() += 1;
        Self { gate: gate.clone(), key }
    }

    fn is_alone(&self) -> bool {
        self.gate.callers().get(&self.key).is_none_or(|callers| *callers <= 1)
    }

    async fn pass(self, shared: &Arc<Shared>, lane: ItemsHash, mut handover: Box<Handover>) {
        let client_ref = handover.order.client_ref().clone();
        let order = ItemsDigest::as_sent(handover.order.items());
        match self.admit(shared, &client_ref, order).await {
            Ok(pass) => {
                let (seen, news) = slot(Progress::Submitted, false);
                handover.seen = Some(seen);
                shared.deliver(lane, LaneMessage::Submit(handover));
                self.note(shared, &client_ref, order, pass, news).await;
            }
            Err(error) => {
                tracing::info!(%client_ref, %error, key = self.key, "not taken at the gate");
                shared.open.fetch_sub(1, Ordering::Relaxed);
                handover.progress.tell(Progress::Failed(error));
            }
        }
    }

    /// Asks the gate, and where it says no, this node's store.
    async fn admit(
        &self,
        shared: &Shared,
        client_ref: &ClientRef,
        order: ItemsDigest,
    ) -> Result<Pass, SubmitError> {
        let gate = &self.gate;
        loop {
            let asked_at = shared.runtime.now();
            let (found, why) = gate.find(shared, &self.key, order).await;
            let decided = |in_store| {
                decide(&found, gate.node.as_str(), order, in_store, gate.terms.on_failure)
            };
            let mut verdict = decided(None);
            if verdict == Verdict::AskStore {
                let stored = shared.store.find(client_ref.clone()).await;
                let stored =
                    stored.map_err(|source| SubmitError::Store { may_exist: false, source })?;
                verdict = decided(Some(stored.is_some()));
            }
            let pass = Pass { added: found == Found::Added, settled: is_settled(&found) };
            match verdict {
                // The key may be gone already: this process was stopped.
                Verdict::Go
                    if pass.added && shared.runtime.now().since(asked_at) > gate.terms.ttl / 2 => {}
                Verdict::Go | Verdict::AskStore => return Ok(pass),
                Verdict::GoUnguarded => {
                    gate.counts.unguarded.fetch_add(1, Ordering::Relaxed);
                    return Ok(pass);
                }
                Verdict::GoBoth(node) => {
                    gate.doubled(shared, client_ref, &node);
                    return Ok(Pass { settled: true, ..pass });
                }
                Verdict::Refuse(refusal) => return Err(gate.refused(client_ref, refusal, why)),
            }
        }
    }

    /// Waits for the first that is known of the order, and writes it at the gate.
    async fn note(
        &self,
        shared: &Shared,
        client_ref: &ClientRef,
        order: ItemsDigest,
        pass: Pass,
        mut news: Reader,
    ) {
        let gate = &self.gate;
        let order = match news.next().await {
            // Whether it was recorded is not known: the key stays as it is.
            None
            | Some(Progress::Failed(
                SubmitError::Store { may_exist: true, .. } | SubmitError::Stopped,
            )) => return,
            Some(Progress::Failed(SubmitError::Conflict { .. })) => {
                // This node has another order under the reference.
                match shared.store.find(client_ref.clone()).await {
                    Ok(Some(stored)) => stored.as_sent,
                    Ok(None) | Err(_) => return,
                }
            }
            Some(Progress::Failed(_)) => {
                // Nothing was recorded. Whoever else asks here may be about to record it.
                if pass.added && self.is_alone() {
                    let mine = gate.entry(Phase::Recording, order).to_string();
                    // If that fails, the key stays until its TTL is over.
                    let _ = gate.ask(shared, &self.key, Question::Remove(mine)).await;
                }
                return;
            }
            Some(_) => order,
        };
        if !pass.settled {
            // If that fails, the key is written with those of all open orders.
            let _ = gate.hold(shared, &self.key, client_ref, order).await;
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut callers = self.gate.callers();
        if let Some(count) = callers.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                callers.remove(&self.key);
            }
        }
        drop(callers);
        self.gate.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

fn is_settled(found: &Found) -> bool {
    matches!(found, Found::Held(Entry { phase: Phase::Recorded, .. }))
}

/// What was found of a key of this node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// It was there.
    There,
    /// It was gone, and is there again.
    Again,
    /// Another node has the reference.
    Lost,
}

impl SharedGate {
    pub(super) fn entry(&self, phase: Phase, order: ItemsDigest) -> Entry {
        Entry { node: self.node.as_str().to_owned(), phase, order }
    }

    /// Adds the key, or finds who has it; with the reason, if that is not known.
    async fn find(
        &self,
        shared: &Shared,
        key: &str,
        order: ItemsDigest,
    ) -> (Found, Option<GateError>) {
        let mine = self.entry(Phase::Recording, order).to_string();
        match self.ask(shared, key, Question::Add(mine)).await {
            Ok(Reply::Done) => (Found::Added, None),
            Ok(Reply::Other(text)) => match Entry::read(&text) {
                Some(entry) => (Found::Held(entry), None),
                None => (Found::Unknown, Some(self.not_ours())),
            },
            Ok(Reply::Nothing) => (Found::Unknown, Some(self.not_ours())),
            Err(why) => (Found::Unknown, Some(why)),
        }
    }

    fn not_ours(&self) -> GateError {
        let why = "something else stands under its keys: another program has the namespace, or a \
            newer version of this one";
        GateError::Unusable { place: self.server.place(), why: why.to_owned() }
    }

    /// Says that this node has recorded the order, for a whole TTL from now.
    pub(super) async fn hold(
        &self,
        shared: &Shared,
        key: &str,
        client_ref: &ClientRef,
        order: ItemsDigest,
    ) -> Result<Kept, GateError> {
        let new = self.entry(Phase::Recorded, order).to_string();
        let mut old = self.entry(Phase::Recording, order).to_string();
        let mut kept = Kept::There;
        for _ in 0..TRIES {
            let swap = Question::Swap { old: old.clone(), new: new.clone() };
            match self.ask(shared, key, swap).await? {
                Reply::Done => return Ok(kept),
                Reply::Nothing => match self.ask(shared, key, Question::Add(new.clone())).await? {
                    Reply::Done => return Ok(Kept::Again),
                    Reply::Other(_) | Reply::Nothing => kept = Kept::Again,
                },
                Reply::Other(text) => match Entry::read(&text) {
                    // Of another caller here, or of an order that was never recorded.
                    Some(entry) if entry.node == self.node.as_str() => old = text,
                    Some(entry) => {
                        self.doubled(shared, client_ref, &entry.node);
                        return Ok(Kept::Lost);
                    }
                    None => return Err(self.not_ours()),
                },
            }
        }
        Err(self.not_ours())
    }

    fn doubled(&self, shared: &Shared, client_ref: &ClientRef, node: &str) {
        self.counts.doubled.fetch_add(1, Ordering::Relaxed);
        shared.alarm(&format!(
            "order {client_ref} is this node's, and the shared gate says that node {node} has it too: \
             it may be bought twice"
        ));
    }

    fn refused(
        &self,
        client_ref: &ClientRef,
        refusal: Refusal,
        why: Option<GateError>,
    ) -> SubmitError {
        let client_ref = client_ref.clone();
        match refusal {
            Refusal::Elsewhere { node, recorded } => {
                self.counts.elsewhere.fetch_add(1, Ordering::Relaxed);
                SubmitError::Elsewhere { client_ref, node, recorded }
            }
            Refusal::Conflict => SubmitError::Conflict { client_ref },
            Refusal::Forgotten => {
                SubmitError::Forgotten { client_ref, node: self.node.to_string() }
            }
            Refusal::NoAnswer => {
                let source = why.unwrap_or_else(|| self.not_ours());
                SubmitError::GateDown { client_ref, source }
            }
        }
    }
}
