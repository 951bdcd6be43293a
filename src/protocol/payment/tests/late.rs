//! What comes after a look has decided, and what no look decides.

use super::*;

#[test]
fn an_answer_that_says_paid_counts_also_after_a_look_said_that_it_did_nothing() {
    // While what the look said is written, and after it.
    for before in [true, false] {
        let mut bill = in_doubt();
        step(&mut bill, 70, PayEvent::Woke, "look");
        step(&mut bill, 71, looked(70, Saw::Unpaid), "write due 1/1");
        if before {
            step(&mut bill, 71, answered(1, PayOutcome::Paid, 71), "");
            let then = "told due, ask, alarm PaidLate, write paid";
            step(&mut bill, 71, PayEvent::Written, then);
        } else {
            step(&mut bill, 71, PayEvent::Written, "told due, ask");
            let then = "alarm PaidLate, write paid";
            step(&mut bill, 71, answered(1, PayOutcome::Paid, 71), then);
        }
        // The permit that was asked for goes back: it is not paid again.
        step(&mut bill, 72, PayEvent::Permitted, "return");
        step(&mut bill, 72, PayEvent::Written, "told paid");
    }
}

#[test]
fn an_answer_that_says_paid_while_unpaid_is_written_rings() {
    let mut bill = in_doubt();
    step(&mut bill, 1, answered(1, PayOutcome::Refused("no".into()), 1), "look");
    step(&mut bill, 2, looked(1, Saw::Unpaid), "write unpaid");
    step(&mut bill, 2, answered(1, PayOutcome::Paid, 2), "");
    let told = bill.step(&rules(), PayEvent::Written, at(2));
    let words: Vec<_> = told.iter().map(word).collect();
    assert_eq!(words, ["alarm PaidLate", "told unpaid: no"]);
}

#[test]
fn what_a_person_alone_may_call_unpaid_is_not_sent_again_whatever_is_seen() {
    let stored = Payment { pays: 1, ..Payment::NEW }.for_a_person();
    let mut bill = Bill::restored(stored, None, false, &rules(), at(0), at(0));
    step(&mut bill, 0, PayEvent::Woke, "look");
    step(&mut bill, 100, looked(100, Saw::Unpaid), "");
    assert!(bill.wakes_at() > Some(at(100)) && bill.is_decidable());
    let mut paid = bill.clone();
    step(&mut paid, 130, looked(130, Saw::Paid), "write paid");
    let mut expired = bill.clone();
    step(&mut expired, 130, looked(130, cancelled("payment_expiration")), "write unpaid");
    step(&mut bill, 130, PayEvent::Decided(PayDecision::Unpaid), "write unpaid");
}

#[test]
fn an_order_that_fails_while_it_waits_for_its_permit_is_not_paid() {
    let (mut bill, _) = Bill::created(None, &rules(), at(0));
    step(&mut bill, 30, PayEvent::Woke, "look");
    step(&mut bill, 30, looked(30, Saw::Failed), "write held 0/0");
    step(&mut bill, 31, PayEvent::Permitted, "return");
    step(&mut bill, 31, PayEvent::Written, "told held");
    step(&mut bill, 40, looked(40, Saw::Failed), "");
}
