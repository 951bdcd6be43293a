//! Payments and what goes wrong with them: what is answered, and what is debited.

use super::*;

fn paying(script: &[PayFault]) -> (Contract, Faults) {
    let at_once = Duration::ZERO;
    let contract = Contract {
        pays_on: PayTime::Pay,
        paid_after: at_once,
        processing_after: at_once,
        completed_after: at_once,
        ..Contract::default()
    };
    let faults = Faults {
        pay_script: script.iter().copied().map(Some).collect(),
        late_after: Duration::from_millis(100),
        withhold_for: Duration::from_millis(50),
        ..Faults::default()
    };
    (contract, faults)
}

#[tokio::test]
async fn every_fault_of_a_payment_debits_or_not_as_it_says_and_is_counted() {
    for fault in PayFault::ALL {
        let (contract, faults) = paying(&[*fault]);
        let (simulator, mut client) = start(contract, faults).await;
        let order = client.post(ORDER).await.json(201);
        let pay = format!("/api/orders/{}/pay", id(&order));
        let seen = client.ask("POST", &pay, "{}").await;
        let status = match fault {
            PayFault::Status500Before | PayFault::Status500After => 500,
            PayFault::Conflict409After => 409,
            PayFault::RateLimited429 => 429,
            PayFault::NotFound404 => 404,
            PayFault::Refused422 => 422,
            PayFault::Late => 200,
            PayFault::WithheldAfter
            | PayFault::WithheldNever
            | PayFault::ResetBefore
            | PayFault::ResetAfter => 0,
        };
        match status {
            0 => assert!(matches!(seen, Seen::Closed | Seen::Reset), "{fault}: {seen:?}"),
            status => drop(seen.json(status)),
        }
        assert_eq!(simulator.ledger()[0].debits, u32::from(fault.pays()), "{fault}");
        assert_eq!(simulator.stats().pay_faults, [(*fault, 1)].into());
    }
}

#[tokio::test]
async fn a_late_payment_lands_although_the_client_has_gone() {
    let (contract, faults) = paying(&[PayFault::Late]);
    let (simulator, mut client) = start(contract, faults).await;
    let order = client.post(ORDER).await.json(201);
    client.send("POST", &format!("/api/orders/{}/pay", id(&order)), "{}").await;
    until("the payment came in", || simulator.stats().pays == 1).await;
    drop(client);
    assert_eq!(simulator.ledger()[0].debits, 0);
    until("it has landed", || simulator.ledger()[0].debits == 1).await;
}

#[tokio::test]
async fn a_repeated_payment_is_refused_accepted_or_debits_again() {
    for (debits, accepted, status, wanted) in
        [(false, false, 409, 1), (false, true, 200, 1), (true, false, 200, 2)]
    {
        let (contract, faults) = paying(&[]);
        let contract =
            Contract { repeated_pay_debits: debits, repeated_pay_accepted: accepted, ..contract };
        let (simulator, mut client) = start(contract, faults).await;
        let order = client.post(ORDER).await.json(201);
        let pay = format!("/api/orders/{}/pay", id(&order));
        client.ask("POST", &pay, "{}").await.json(200);
        client.ask("POST", &pay, "{}").await.json(status);
        assert_eq!(simulator.ledger()[0].debits, wanted);
    }
}
