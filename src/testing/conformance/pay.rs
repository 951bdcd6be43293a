//! Orders that are paid later: the payment of a created order, and what a start gets back of it.

use futures_util::future::join_all;

use super::{Bench, MakeStore, Store, WHY, decide, order, placed};
use crate::protocol::{
    Change, IntentId, Learnt, PayStep, PayVerdict, Payment, State, Verdict, Why,
};
use crate::store::Committed;

fn created(id: &str, learnt: Learnt) -> Verdict {
    Verdict::Created { id: order(id), learnt, created_at: None }
}

fn pay(intent: IntentId, was: Payment, to: PayVerdict) -> Change {
    Change::Pay { intent, was, to }
}

fn open(payment: Payment) -> PayVerdict {
    PayVerdict::Open { payment, why: WHY }
}

fn sent(pays: u32) -> Payment {
    Payment { pays, ..Payment::NEW.at(PayStep::Sending) }
}

fn payment_of(state: &State) -> Option<Payment> {
    match state {
        State::Created { payment, .. } => Some(*payment),
        _ => None,
    }
}

/// A created order is claimed as a placed one, has not ended, and is handed to actors.
pub async fn created_is_claimed_and_has_not_ended(store: Store) {
    let bench = Bench::new(store);
    let first = bench.sending("r1", "a").await;
    bench.done(decide(first, created("o1", Learnt::Answer))).await;
    let stored = bench.find("r1").await.expect("there");
    assert_eq!(payment_of(&stored.state), Some(Payment::NEW));
    assert!(!stored.state.is_end() && !stored.unsettled);
    let second = bench.sending("r2", "b").await;
    for verdict in [created("o1", Learnt::List), placed("o1", Learnt::Answer)] {
        let taken = bench.commit(decide(second, verdict)).await;
        assert!(matches!(taken, Committed::IdTaken(claim) if claim.intent == first.0));
    }
    bench.stale(decide(first, created("o2", Learnt::Answer))).await;
    bench.stale(decide(first, Verdict::Absent)).await;
    let known = bench.store.known_since(first.1).await.expect("works");
    assert_eq!(known.iter().map(|known| known.id.as_str()).collect::<Vec<_>>(), ["o1"]);
    let intents = bench.store.rehydrate().await.expect("works").intents;
    assert_eq!(intents.iter().map(|s| s.id).collect::<Vec<_>>(), [first.0, second.0]);
    assert!(!intents[0].items.is_empty());
}

/// `Pay` wants the payment to stand exactly where it says.
pub async fn pay_wants_the_payment_to_stand_where_it_says(store: Store) {
    let bench = Bench::new(store);
    let ids = bench.sending("r1", "a").await;
    bench.stale(pay(ids.0, Payment::NEW, open(sent(1)))).await;
    bench.done(decide(ids, created("o1", Learnt::Answer))).await;
    bench.stale(pay(ids.0, sent(1), PayVerdict::Paid)).await;
    bench.done(pay(ids.0, Payment::NEW, open(sent(1)))).await;
    bench.stale(pay(ids.0, Payment::NEW, open(sent(1)))).await;
    let doubt = sent(1).at(PayStep::InDoubt);
    bench.done(pay(ids.0, sent(1), open(doubt))).await;
    let again = Payment { tries: 1, ..doubt.at(PayStep::Due) };
    bench.done(pay(ids.0, doubt, open(again))).await;
    let others = [doubt, again.at(PayStep::Held), Payment { tries: 0, ..again }, Payment::NEW];
    for was in others {
        bench.stale(pay(ids.0, was, PayVerdict::Paid)).await;
    }
    let second = Payment { pays: 2, ..again.at(PayStep::Sending) };
    bench.done(pay(ids.0, again, open(second))).await;
    let state = bench.state("r1").await;
    assert!(
        matches!(&state, State::Created { payment, why, .. } if *payment == second && *why == WHY)
    );
    bench.done(pay(ids.0, second, PayVerdict::Paid)).await;
    let state = bench.state("r1").await;
    assert!(
        matches!(&state, State::Placed { id, learnt: Learnt::Answer, .. } if id.as_str() == "o1")
    );
}

/// `Paid` and `Unpaid` end the intent, and nothing changes it any more; its order stays its own.
pub async fn paid_and_unpaid_are_ends(store: Store) {
    let bench = Bench::new(store);
    for (name, to) in [("paid", PayVerdict::Paid), ("unpaid", PayVerdict::Unpaid(WHY))] {
        let ids = bench.sending(name, "a").await;
        bench.done(decide(ids, created(name, Learnt::Answer))).await;
        bench.done(pay(ids.0, Payment::NEW, to)).await;
        let stored = bench.find(name).await.expect("there");
        assert!(stored.state.is_end(), "{name}");
        for to in [PayVerdict::Paid, PayVerdict::Unpaid(WHY), open(Payment::NEW)] {
            bench.stale(pay(ids.0, Payment::NEW, to)).await;
        }
        bench.stale(decide(ids, Verdict::Absent)).await;
        assert_eq!(bench.find(name).await, Some(stored));
        let claims = bench.store.claims(vec![order(name)]).await.expect("works");
        assert_eq!(claims[0].as_ref().map(|claim| claim.intent), Some(ids.0), "{name}");
    }
    assert!(bench.store.rehydrate().await.expect("works").intents.is_empty());
}

/// Of several that record a payment at once one succeeds.
pub async fn one_payment_is_recorded_at_a_time(store: Store) {
    let bench = Bench::new(store);
    let ids = bench.sending("r1", "a").await;
    bench.done(decide(ids, created("o1", Learnt::Answer))).await;
    let record = || bench.store.commit(pay(ids.0, Payment::NEW, open(sent(1))));
    let answers = join_all([record(), record(), record(), record()]).await;
    let done = answers.iter().filter(|a| matches!(a, Ok(Committed::Done))).count();
    assert_eq!(done, 1, "{answers:?}");
}

/// One that was learnt from a list stays for its payment, and for its own POST, each by itself.
pub async fn created_from_a_list_is_settled_and_paid_apart(store: Store) {
    let bench = Bench::new(store);
    let both = async |name: &str| {
        let ids = bench.sending(name, "a").await;
        bench.done(decide(ids, Verdict::InDoubt(WHY))).await;
        bench.done(decide(ids, created(name, Learnt::List))).await;
        ids.0
    };
    let is_active = async |id: IntentId| {
        let intents = bench.store.rehydrate().await.expect("works").intents;
        intents.iter().any(|stored| stored.id == id)
    };
    let paid_first = both("paid-first").await;
    bench.done(pay(paid_first, Payment::NEW, PayVerdict::Paid)).await;
    assert!(is_active(paid_first).await);
    bench.done(Change::Settle { intent: paid_first }).await;
    assert!(!is_active(paid_first).await);
    let settled_first = both("settled-first").await;
    bench.done(Change::Settle { intent: settled_first }).await;
    assert!(is_active(settled_first).await);
    bench.done(pay(settled_first, Payment::NEW, PayVerdict::Unpaid(WHY))).await;
    assert!(!is_active(settled_first).await);
}

/// Payments, and how they ended, are there after the store was closed and opened.
pub async fn payments_survive_reopening(maker: &dyn MakeStore) {
    let bench = Bench::new(maker.make().await);
    let steps = [PayStep::Due, PayStep::Sending, PayStep::InDoubt, PayStep::Held];
    for (pays, step) in (1..).zip(steps) {
        let ids = bench.sending(step.name(), "a").await;
        bench.done(decide(ids, created(step.name(), Learnt::Answer))).await;
        let to = Payment { pays, tries: 2, step };
        bench.done(pay(ids.0, Payment::NEW, open(to))).await;
    }
    for (name, to) in [("paid", PayVerdict::Paid), ("unpaid", PayVerdict::Unpaid(WHY))] {
        let ids = bench.sending(name, "a").await;
        bench.done(decide(ids, created(name, Learnt::Answer))).await;
        bench.done(pay(ids.0, Payment::NEW, to)).await;
    }
    let names = || steps.iter().map(|step| step.name()).chain(["paid", "unpaid"]);
    let before = bench.store.rehydrate().await.expect("works").intents;
    assert_eq!(before.len(), steps.len());
    let mut all = Vec::new();
    for name in names() {
        all.push(bench.find(name).await.expect("there"));
    }
    bench.store.close().await.expect("closes");
    drop(bench);
    let Some(store) = maker.reopen().await else { return };
    let bench = Bench::new(store);
    assert_eq!(bench.store.rehydrate().await.expect("works").intents, before);
    assert_eq!(bench.store.stats().open, steps.len() as u64);
    for (name, stored) in names().zip(all) {
        let found = bench.find(name).await.expect("there");
        assert_eq!(found.state, stored.state, "{name}");
    }
    let due = before[0].id;
    let was = Payment { pays: 1, tries: 2, step: PayStep::Due };
    bench.stale(pay(due, Payment::NEW, PayVerdict::Paid)).await;
    bench.done(pay(due, was, PayVerdict::Unpaid(Why::Borrowed("late")))).await;
}
