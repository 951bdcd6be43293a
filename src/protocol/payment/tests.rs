//! One test per rule of a payment, named for it, and the table of what answers prove.

use std::time::Duration;

use super::evidence::{PayJudgement, judge_pay, look};
use super::*;
use crate::order::OrderId;
use crate::protocol::Moment;
use crate::protocol::evidence::{
    AccountEffect, Alarm, EvidencePolicy, GateState, Means, PauseWhy, Seen,
};
use crate::protocol::lane::Rules;

mod late;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Moment {
    Moment::after_origin(Duration::from_secs(seconds))
}

/// Wire bound 10 s, landing bound 60 s: what is reported at 0 is settled at 70 s.
fn rules() -> Rules {
    Rules {
        tries_max: 2,
        wire_bound: 10 * SECOND,
        landing_bound: Some(60 * SECOND),
        look_again_min: 2 * SECOND,
        look_again_max: 30 * SECOND,
        ..Rules::default()
    }
}

fn answered(pays: u32, outcome: PayOutcome, left: u64) -> PayEvent {
    PayEvent::Answered { pays, outcome, left: Some(at(left)) }
}

fn unknown() -> PayOutcome {
    PayOutcome::Unknown("timeout".into())
}

fn looked(requested: u64, saw: Saw) -> PayEvent {
    PayEvent::Looked { requested: at(requested), saw }
}

fn cancelled(reason: &'static str) -> Saw {
    Saw::Cancelled(Some(reason.into()))
}

/// An effect in a word.
fn word(effect: &PayEffect) -> String {
    match effect {
        PayEffect::AskPermit => "ask".into(),
        PayEffect::ReturnPermit => "return".into(),
        PayEffect::Write { to: PayVerdict::Open { payment, .. }, .. } => {
            format!("write {} {}/{}", payment.step.name(), payment.tries, payment.pays)
        }
        PayEffect::Write { to: PayVerdict::Paid, .. } => "write paid".into(),
        PayEffect::Write { to: PayVerdict::Unpaid(_), .. } => "write unpaid".into(),
        PayEffect::Send { pays } => format!("send {pays}"),
        PayEffect::Look => "look".into(),
        PayEffect::Tell(told) => match told {
            PayTold::Due => "told due".into(),
            PayTold::InDoubt => "told in doubt".into(),
            PayTold::Held(_) => "told held".into(),
            PayTold::Paid => "told paid".into(),
            PayTold::Unpaid(why) => format!("told unpaid: {why}"),
        },
        PayEffect::Alarm(alarm) => format!("alarm {alarm:?}"),
    }
}

#[track_caller]
fn step(bill: &mut Bill, now: u64, event: PayEvent, expected: &str) {
    let effects = bill.step(&rules(), event, at(now));
    let words: Vec<_> = effects.iter().map(word).collect();
    assert_eq!(words.join(", "), expected);
}

/// A bill whose first payment has just left, at 0.
fn sent() -> Bill {
    let (mut bill, effects) = Bill::created(None, &rules(), at(0));
    assert_eq!(effects, [PayEffect::AskPermit]);
    step(&mut bill, 0, PayEvent::Permitted, "write sending 0/1");
    step(&mut bill, 0, PayEvent::Written, "send 1");
    bill
}

/// A bill whose first payment, reported at 0, is in doubt.
fn in_doubt() -> Bill {
    let mut bill = sent();
    step(&mut bill, 0, answered(1, unknown(), 0), "write in_doubt 0/1");
    step(&mut bill, 0, PayEvent::Written, "told in doubt");
    bill
}

#[test]
fn a_payment_is_durable_before_it_is_sent_and_told_paid_after_that_is_durable() {
    let mut bill = sent();
    step(&mut bill, 1, answered(1, PayOutcome::Paid, 1), "write paid");
    assert!(!bill.has_ended());
    step(&mut bill, 1, PayEvent::Written, "told paid");
    assert!(bill.has_ended() && bill.wakes_at().is_none());
}

#[test]
fn what_never_left_is_sent_again_at_once_and_counts_no_try() {
    let mut bill = sent();
    step(&mut bill, 1, answered(1, PayOutcome::NotSent("too late".into()), 0), "write due 0/1");
    step(&mut bill, 1, PayEvent::Written, "ask");
    step(&mut bill, 1, PayEvent::Permitted, "write sending 0/2");
    step(&mut bill, 1, PayEvent::Written, "send 2");
}

#[test]
fn a_doubt_ends_with_a_look_that_shows_it_paid_at_any_time() {
    let mut bill = in_doubt();
    step(&mut bill, 2, PayEvent::Woke, "look");
    step(&mut bill, 3, looked(2, Saw::Paid), "write paid");
    step(&mut bill, 3, PayEvent::Written, "told paid");
    let mut bill = in_doubt();
    step(&mut bill, 2, PayEvent::SeenPaid, "write paid");
}

#[test]
fn an_order_that_waits_for_its_permit_is_looked_at_for_it_may_expire() {
    let (mut bill, _) = Bill::created(None, &rules(), at(0));
    assert_eq!(bill.wakes_at(), Some(at(30)));
    step(&mut bill, 30, PayEvent::Woke, "look");
    step(&mut bill, 31, looked(30, Saw::Unpaid), "");
    step(&mut bill, 61, PayEvent::Woke, "look");
    step(&mut bill, 61, looked(61, cancelled("payment_expiration")), "write unpaid");
    step(&mut bill, 61, PayEvent::Permitted, "return");
    let (mut bill, _) = Bill::created(None, &rules(), at(0));
    step(&mut bill, 30, PayEvent::Woke, "look");
    step(&mut bill, 31, PayEvent::Permitted, "write sending 0/1");
    step(&mut bill, 31, looked(30, cancelled("payment_expiration")), "");
}

#[test]
fn a_payment_is_repeated_only_when_it_is_settled_and_seen_unpaid_after_that() {
    let mut bill = in_doubt();
    step(&mut bill, 2, PayEvent::Woke, "look");
    // Requested a moment before it was settled, come after.
    step(&mut bill, 80, looked(69, Saw::Unpaid), "");
    step(&mut bill, 84, PayEvent::Woke, "look");
    step(&mut bill, 85, looked(70, Saw::Unpaid), "write due 1/1");
    step(&mut bill, 85, PayEvent::Written, "told due, ask");
    step(&mut bill, 86, PayEvent::Permitted, "write sending 1/2");
    step(&mut bill, 86, PayEvent::Written, "send 2");
}

#[test]
fn a_look_comes_no_later_than_the_payment_is_settled() {
    let mut bill = in_doubt();
    let mut looks = Vec::new();
    while let Some(next) = bill.wakes_at().filter(|next| *next <= at(70)) {
        let effects = bill.step(&rules(), PayEvent::Woke, next);
        assert_eq!(effects, [PayEffect::Look]);
        looks.push(next.since_origin().as_secs());
        let saw = Saw::Unpaid;
        let effects = bill.step(&rules(), PayEvent::Looked { requested: next, saw }, next);
        assert_eq!(effects.is_empty(), next < at(70));
    }
    assert_eq!(looks, [2, 6, 14, 30, 60, 70]);
}

#[test]
fn what_cannot_be_relied_on_is_no_evidence_and_is_asked_of_a_person_in_the_end() {
    let nothing = || Saw::Nothing("not found".into());
    let mut bill = in_doubt();
    step(&mut bill, 2, PayEvent::Woke, "look");
    step(&mut bill, 130, looked(130, nothing()), "");
    step(&mut bill, 134, PayEvent::Woke, "look");
    step(&mut bill, 135, looked(134, nothing()), "write held 0/1");
    step(&mut bill, 135, PayEvent::Written, "told held");
    // It is looked at on, and what can be read ends the hold.
    step(&mut bill, 137, PayEvent::Woke, "look");
    step(&mut bill, 137, looked(137, nothing()), "");
    step(&mut bill, 141, PayEvent::Woke, "look");
    step(&mut bill, 141, looked(141, Saw::Unpaid), "write due 1/1");
}

#[test]
fn tries_are_used_up_by_payments_that_did_nothing() {
    let mut bill = in_doubt();
    step(&mut bill, 70, PayEvent::Woke, "look");
    step(&mut bill, 70, looked(70, Saw::Unpaid), "write due 1/1");
    step(&mut bill, 70, PayEvent::Written, "told due, ask");
    step(&mut bill, 70, PayEvent::Permitted, "write sending 1/2");
    step(&mut bill, 70, PayEvent::Written, "send 2");
    step(&mut bill, 70, answered(2, unknown(), 70), "write in_doubt 1/2");
    step(&mut bill, 70, PayEvent::Written, "told in doubt");
    step(&mut bill, 140, PayEvent::Woke, "look");
    step(&mut bill, 140, looked(140, Saw::Unpaid), "write unpaid");
    let told = "told unpaid: 2 payments were proved to have done nothing";
    step(&mut bill, 140, PayEvent::Written, told);
}

#[test]
fn a_refusal_ends_it_only_once_it_is_seen_unpaid() {
    let refused = || PayOutcome::Refused("PAYMENT_REFUSED".into());
    let mut bill = sent();
    step(&mut bill, 1, answered(1, refused(), 1), "write in_doubt 0/1");
    step(&mut bill, 1, PayEvent::Written, "told in doubt, look");
    step(&mut bill, 1, looked(1, Saw::Unpaid), "write unpaid");
    step(&mut bill, 1, PayEvent::Written, "told unpaid: PAYMENT_REFUSED");
    let mut bill = sent();
    step(&mut bill, 1, answered(1, refused(), 1), "write in_doubt 0/1");
    step(&mut bill, 1, PayEvent::Written, "told in doubt, look");
    step(&mut bill, 1, looked(1, Saw::Paid), "write paid");
}

#[test]
fn what_the_supplier_says_may_be_repeated_is_looked_at_first() {
    let again = |counts| PayOutcome::Again { why: "RATE_LIMITED".into(), counts };
    for (counts, tries) in [(false, 0), (true, 1)] {
        let mut bill = sent();
        step(&mut bill, 1, answered(1, again(counts), 1), "write in_doubt 0/1");
        step(&mut bill, 1, PayEvent::Written, "told in doubt, look");
        step(&mut bill, 2, looked(1, Saw::Unpaid), &format!("write due {tries}/1"));
        step(&mut bill, 2, PayEvent::Written, "told due, ask");
    }
}

#[test]
fn an_order_that_was_cancelled_for_want_of_payment_was_never_paid() {
    for reason in ["payment_expiration", "payment_failure"] {
        let mut bill = in_doubt();
        step(&mut bill, 2, PayEvent::Woke, "look");
        step(&mut bill, 2, looked(2, cancelled(reason)), "write unpaid");
        let told = format!("told unpaid: the supplier cancelled it: {reason}");
        step(&mut bill, 2, PayEvent::Written, &told);
    }
}

#[test]
fn an_order_cancelled_for_another_reason_may_have_been_paid_before() {
    for saw in [cancelled("user_request"), Saw::Cancelled(None)] {
        let mut bill = in_doubt();
        step(&mut bill, 2, PayEvent::Woke, "look");
        step(&mut bill, 2, looked(2, saw.clone()), "write held 0/1");
        step(&mut bill, 2, PayEvent::Written, "told held");
        step(&mut bill, 9, PayEvent::Woke, "look");
        step(&mut bill, 9, looked(9, saw), "");
        step(&mut bill, 9, PayEvent::Decided(PayDecision::Unpaid), "write unpaid");
        step(&mut bill, 9, PayEvent::Written, "told unpaid: a person says so");
    }
    // Nothing of ours could have paid it, but creating it may have (A6).
    let (mut bill, _) = Bill::created(Some(at(5)), &rules(), at(0));
    step(&mut bill, 5, PayEvent::Woke, "look");
    step(&mut bill, 5, looked(5, cancelled("user_request")), "write held 0/0");
    step(&mut bill, 5, PayEvent::Written, "told held");
    step(&mut bill, 9, PayEvent::Woke, "look");
    step(&mut bill, 9, looked(9, cancelled("user_request")), "");
    let (mut bill, _) = Bill::created(Some(at(5)), &rules(), at(0));
    step(&mut bill, 5, PayEvent::Woke, "look");
    step(&mut bill, 5, looked(5, cancelled("payment_expiration")), "write unpaid");
}

#[test]
fn an_order_that_failed_was_paid_unless_nothing_of_ours_can_have_paid_it() {
    let mut bill = in_doubt();
    step(&mut bill, 2, PayEvent::Woke, "look");
    step(&mut bill, 2, looked(2, Saw::Failed), "write paid");
    let (mut bill, _) = Bill::created(Some(at(5)), &rules(), at(0));
    step(&mut bill, 5, PayEvent::Woke, "look");
    step(&mut bill, 5, looked(5, Saw::Failed), "write held 0/0");
    step(&mut bill, 5, PayEvent::Written, "told held");
    let held = Payment::NEW.at(PayStep::Held);
    let mut bill = Bill::restored(held, None, false, &rules(), at(0), at(0));
    step(&mut bill, 1, PayEvent::Woke, "look");
    step(&mut bill, 1, looked(1, Saw::Failed), "");
}

#[test]
fn a_late_answer_counts_while_its_payment_is_the_newest() {
    let mut bill = in_doubt();
    step(&mut bill, 40, answered(1, PayOutcome::Paid, 40), "write paid");
    let mut bill = in_doubt();
    step(&mut bill, 70, PayEvent::Woke, "look");
    step(&mut bill, 70, looked(70, Saw::Unpaid), "write due 1/1");
    step(&mut bill, 70, PayEvent::Written, "told due, ask");
    step(&mut bill, 71, answered(1, PayOutcome::Paid, 71), "alarm PaidLate, write paid");
    // A refusal that comes late settles it.
    let mut bill = in_doubt();
    step(&mut bill, 40, answered(1, PayOutcome::Refused("NO".into()), 40), "look");
    step(&mut bill, 41, looked(40, Saw::Unpaid), "write unpaid");
}

#[test]
fn an_answer_that_comes_while_a_write_is_under_way_is_kept_for_after_it() {
    let mut bill = sent();
    step(&mut bill, 0, answered(1, unknown(), 0), "write in_doubt 0/1");
    step(&mut bill, 1, answered(1, PayOutcome::Paid, 1), "");
    step(&mut bill, 2, PayEvent::Written, "told in doubt, write paid");
}

#[test]
fn after_a_restart_every_recorded_payment_is_in_doubt_and_settles_from_the_lock() {
    for step_stored in [PayStep::Sending, PayStep::InDoubt] {
        let stored = Payment { step: step_stored, pays: 1, tries: 0 };
        let mut bill = Bill::restored(stored, None, false, &rules(), at(5), at(20));
        assert!(bill.is_in_doubt() && !bill.holds_permit());
        step(&mut bill, 20, PayEvent::Woke, "look");
        step(&mut bill, 74, looked(74, Saw::Unpaid), "");
        step(&mut bill, 76, PayEvent::Woke, "look");
        step(&mut bill, 76, looked(75, Saw::Unpaid), "write due 1/1");
    }
}

#[test]
fn what_was_due_before_a_restart_is_looked_at_before_it_is_paid() {
    let mut bill = Bill::restored(Payment::NEW, None, false, &rules(), at(0), at(3));
    step(&mut bill, 3, PayEvent::Woke, "look");
    step(&mut bill, 3, looked(2, Saw::Unpaid), "");
    step(&mut bill, 7, PayEvent::Woke, "look");
    step(&mut bill, 7, looked(7, Saw::Unpaid), "ask");
}

#[test]
fn a_bill_that_is_read_again_waits_for_the_report_of_its_task() {
    let stored = Payment { step: PayStep::Sending, pays: 1, tries: 0 };
    let mut bill = Bill::restored(stored, None, true, &rules(), at(0), at(0));
    assert!(!bill.is_in_doubt() && bill.wakes_at().is_none());
    step(&mut bill, 9, answered(1, unknown(), 9), "write in_doubt 0/1");
}

#[test]
fn a6_an_order_is_looked_at_until_one_was_seen_unpaid_that_was_old_enough() {
    let (mut bill, effects) = Bill::created(Some(at(10)), &rules(), at(0));
    assert_eq!((effects.len(), bill.wakes_at()), (0, Some(at(10))));
    assert!(!bill.is_checked_by(at(9)) && bill.is_checked_by(at(10)));
    step(&mut bill, 5, PayEvent::Trusted, "ask");
    let (mut bill, _) = Bill::created(Some(at(10)), &rules(), at(0));
    step(&mut bill, 10, PayEvent::Woke, "look");
    step(&mut bill, 11, looked(10, Saw::Unpaid), "ask");
}

#[test]
fn a6_an_order_that_was_paid_before_any_payment_of_ours_rings_and_counts_as_paid() {
    let (mut bill, _) = Bill::created(Some(at(10)), &rules(), at(0));
    step(&mut bill, 10, PayEvent::Woke, "look");
    step(&mut bill, 11, looked(10, Saw::Paid), "alarm PaidUnasked, write paid");
    let (mut bill, _) = Bill::created(None, &rules(), at(0));
    step(&mut bill, 11, PayEvent::SeenPaid, "alarm PaidUnasked, write paid");
    step(&mut bill, 11, PayEvent::Permitted, "return");
    // From then on the others are looked at, although they waited for their permit already.
    let (mut bill, _) = Bill::created(None, &rules(), at(0));
    step(&mut bill, 11, PayEvent::Distrusted { from: at(20) }, "");
    step(&mut bill, 12, PayEvent::Permitted, "return");
    step(&mut bill, 20, PayEvent::Woke, "look");
    step(&mut bill, 20, looked(20, Saw::Unpaid), "ask");
}

#[test]
fn a1_an_order_paid_after_its_payments_were_proved_to_do_nothing_rings() {
    let mut bill = in_doubt();
    step(&mut bill, 70, PayEvent::Woke, "look");
    step(&mut bill, 70, looked(70, Saw::Unpaid), "write due 1/1");
    step(&mut bill, 70, PayEvent::Written, "told due, ask");
    step(&mut bill, 71, PayEvent::SeenPaid, "alarm PaidLate, write paid");
}

#[test]
fn without_a_landing_bound_a_person_decides() {
    let rules = Rules { landing_bound: None, ..rules() };
    let mut bill = in_doubt();
    // Made under the other rules: a restart is what makes it unsettled for ever.
    bill = Bill::restored(bill.payment(), None, false, &rules, at(0), at(0));
    let late = at(2000);
    assert_eq!(bill.step(&rules, PayEvent::Woke, late), [PayEffect::Look]);
    let event = PayEvent::Looked { requested: late, saw: Saw::Unpaid };
    let effects = bill.step(&rules, event, late);
    assert_eq!(effects.iter().map(word).collect::<Vec<_>>(), ["write held 0/1"]);
    let effects = bill.step(&rules, PayEvent::Written, late);
    assert_eq!(effects.iter().map(word).collect::<Vec<_>>(), ["told held"]);
    let effects = bill.step(&rules, PayEvent::Decided(PayDecision::Paid), late);
    assert_eq!(effects.iter().map(word).collect::<Vec<_>>(), ["write paid"]);
}

fn order() -> OrderId {
    OrderId::new("o-1").expect("an id")
}

#[track_caller]
fn proves(status: u16, body: &str, expected: PayOutcome, account: AccountEffect) {
    let gate = GateState::Yielded(at(1));
    let seen = Seen::Answer { status, retry_after: None, body: Some(body.as_bytes()) };
    let judged = judge_pay(gate, &seen, &order(), &EvidencePolicy::default());
    let named = |outcome: &PayOutcome| match outcome {
        PayOutcome::Paid => "paid",
        PayOutcome::NotSent(_) => "not sent",
        PayOutcome::Again { counts: true, .. } => "again, a try",
        PayOutcome::Again { counts: false, .. } => "again",
        PayOutcome::Refused(_) => "refused",
        PayOutcome::Unknown(_) => "unknown",
    };
    assert_eq!(named(&judged.outcome), named(&expected), "{status} {body}: {judged:?}");
    assert_eq!(judged.account, account, "{status} {body}");
}

#[test]
fn answers_to_a_payment_prove_what_the_table_says() {
    let none = AccountEffect::None;
    let why = || "".into();
    let again = |counts| PayOutcome::Again { why: why(), counts };
    let pause = |why| AccountEffect::Pause(why);
    let drain = AccountEffect::Drain { retry_after: None };
    let error = r#"{"code":"NO"}"#;
    for word in ["paid", "processing", "completed"] {
        proves(200, &format!(r#"{{"id":"o-1","status":"{word}"}}"#), PayOutcome::Paid, none);
    }
    for body in [
        r#"{"id":"o-1","status":"active"}"#,
        r#"{"id":"o-1","status":"cancelled"}"#,
        r#"{"id":"o-1","status":"?"}"#,
        r#"{"id":"o-1"}"#,
        r#"{"status":"paid"}"#,
        "{}",
        "",
        r#"{"id":"o-1","status":"paid""#,
    ] {
        proves(200, body, unknown(), none);
    }
    let other = AccountEffect::Alarm(Alarm::OtherOrder);
    proves(200, r#"{"id":"o-2","status":"paid"}"#, unknown(), other);
    proves(200, "<html>", unknown(), pause(PauseWhy::NotTheSupplier(200)));
    for status in [400, 405, 413, 415, 422] {
        proves(status, error, PayOutcome::Refused(why()), none);
        proves(status, r#"{"code":"ORDER_ALREADY_PAID"}"#, unknown(), none);
        proves(status, r#"{"detail":"the order is Already paid"}"#, unknown(), none);
        proves(status, "<html>", unknown(), pause(PauseWhy::NotTheSupplier(status)));
    }
    proves(404, error, again(true), none);
    for status in [401, 403] {
        proves(status, error, again(false), pause(PauseWhy::KeyRefused(status)));
    }
    proves(429, error, again(false), drain);
    for status in [402, 403, 422] {
        let broke = r#"{"code":"BALANCE_INSUFFICIENT"}"#;
        proves(status, broke, unknown(), pause(PauseWhy::Balance));
    }
    let possible = r#"{"code":"ORDER_PAYMENT_NOT_POSSIBLE"}"#;
    proves(409, possible, unknown(), pause(PauseWhy::Balance));
    proves(409, error, unknown(), none);
    for status in [500, 502, 503, 504] {
        proves(status, error, unknown(), none);
    }
    proves(307, "", unknown(), pause(PauseWhy::Redirected(307)));
    proves(408, error, unknown(), pause(PauseWhy::NotTheSupplier(408)));
}

#[test]
fn a_gate_that_never_yielded_is_the_only_proof_that_nothing_left() {
    let why = "reset".into();
    let seen = Seen::Broken { why: &why };
    let policy = EvidencePolicy::default();
    let judged = |gate| judge_pay(gate, &seen, &order(), &policy).outcome;
    assert!(matches!(judged(GateState::Closed), PayOutcome::NotSent(_)));
    assert!(matches!(judged(GateState::Yielded(at(1))), PayOutcome::Unknown(_)));
    assert!(matches!(judged(GateState::Unasked), PayOutcome::Unknown(_)));
}

#[test]
fn settings_say_what_a_lack_of_money_and_a_rate_limit_mean() {
    let policy = EvidencePolicy {
        rate_limited: Means::Unknown,
        balance: Means::NotSent,
        ..EvidencePolicy::default()
    };
    let judged = |status, body: &str| -> PayJudgement {
        let seen = Seen::Answer { status, retry_after: None, body: Some(body.as_bytes()) };
        judge_pay(GateState::Yielded(at(1)), &seen, &order(), &policy)
    };
    let broke = judged(402, r#"{"code":"BALANCE_INSUFFICIENT"}"#).outcome;
    assert!(matches!(broke, PayOutcome::Again { counts: false, .. }), "{broke:?}");
    let limited = judged(429, r#"{"code":"RATE"}"#).outcome;
    assert!(matches!(limited, PayOutcome::Unknown(_)), "{limited:?}");
}

#[test]
fn looks_show_what_the_state_says_and_nothing_else() {
    let seen = |status: &str, raw: &str| look(status, raw.as_bytes(), &EvidencePolicy::default());
    for word in ["paid", "processing", "completed"] {
        assert_eq!(seen(word, "{}"), Saw::Paid);
    }
    assert_eq!(seen("active", "{}"), Saw::Unpaid);
    assert_eq!(seen("failed", "{}"), Saw::Failed);
    assert_eq!(seen("cancelled", "{}"), Saw::Cancelled(None));
    let raw = r#"{"id":"o-1","cancelReason":"payment_expiration"}"#;
    assert_eq!(seen("cancelled", raw), cancelled("payment_expiration"));
    assert_eq!(seen("cancelled", r#"{"cancelReason":"a sentence, long"}"#), Saw::Cancelled(None));
    for word in ["", "Paid", "awaiting_stock", "refunded"] {
        assert!(matches!(seen(word, "{}"), Saw::Nothing(_)), "{word}");
    }
}
