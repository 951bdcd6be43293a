//! What the client sees of each fault of a POST, and what the ledger says.

use std::time::Instant;

use super::*;

/// Posts into one fault and checks how many orders exist afterwards.
#[track_caller]
fn sold(simulator: &Simulator, fault: PostFault, orders: usize) {
    let ledger = simulator.ledger();
    assert_eq!((ledger.len(), fault.creates()), (orders, orders == 1), "{fault}");
    for entry in &ledger {
        assert_eq!((entry.fault, entry.debits), (Some(fault), 1));
    }
    assert_eq!(simulator.stats().faults.into_iter().collect::<Vec<_>>(), [(fault, 1)]);
}

async fn check(fault: PostFault, status: u16, orders: usize) -> Seen {
    let (simulator, mut client) = scripted([Some(fault)]).await;
    let seen = client.post(ORDER).await;
    assert!(matches!(seen, Seen::Answer { status: s, .. } if s == status), "{fault}: {seen:?}");
    sold(&simulator, fault, orders);
    // The connection is as good as before, and the next order is bought.
    client.post(ORDER).await.json(201);
    assert_eq!(simulator.ledger().len(), orders + 1);
    seen
}

#[tokio::test]
async fn errors_come_before_or_after_the_creation() {
    for (fault, status, orders) in [
        (PostFault::Status500Before, 500, 0),
        (PostFault::Status502Before, 502, 0),
        (PostFault::Status503Before, 503, 0),
        (PostFault::Status500After, 500, 1),
        (PostFault::Status502After, 502, 1),
        (PostFault::Status408After, 408, 1),
        (PostFault::Conflict409After, 409, 1),
        (PostFault::RateLimited429After, 429, 1),
    ] {
        let seen = check(fault, status, orders).await;
        assert!(seen.json(status)["code"].is_string());
    }
}

#[tokio::test]
async fn a_rate_limit_creates_nothing_and_says_when_to_come_back() {
    let seen = check(PostFault::RateLimited429, 429, 0).await;
    assert_eq!(seen.header("retry-after"), Some("1"));
    assert_eq!(seen.json(429)["code"], "RATE_LIMITED");
}

#[tokio::test]
async fn a_gateway_page_is_html_and_creates_nothing() {
    for (fault, status) in [(PostFault::GatewayPage403, 403), (PostFault::GatewayPage502, 502)] {
        let seen = check(fault, status, 0).await;
        assert_eq!(seen.header("content-type"), Some("text/html"));
        assert!(seen.answer(status).starts_with("<!DOCTYPE html>"));
    }
}

#[tokio::test]
async fn a_redirect_creates_nothing_and_leads_to_itself() {
    let seen = check(PostFault::Redirect, 307, 0).await;
    assert_eq!(seen.header("location"), Some("/api/orders"));
}

#[tokio::test]
async fn a_201_without_an_id_or_without_a_body_was_created() {
    let order = check(PostFault::NoId201, 201, 1).await.json(201);
    assert_eq!((order.get("id"), &order["status"]), (None, &Value::from("active")));
    assert_eq!(check(PostFault::Empty201, 201, 1).await.answer(201), "");
}

#[tokio::test]
async fn a_cut_201_announces_more_than_comes_and_closes() {
    let (simulator, mut client) = scripted([Some(PostFault::Cut201)]).await;
    let Seen::Cut { status: 201, body } = client.post(ORDER).await else {
        panic!("a cut 201 expected")
    };
    assert!(serde_json::from_str::<Value>(&body).is_err() && !body.is_empty());
    sold(&simulator, PostFault::Cut201, 1);
}

#[tokio::test]
async fn a_reset_comes_before_or_after_the_creation() {
    for (fault, orders) in [(PostFault::ResetBefore, 0), (PostFault::ResetAfter, 1)] {
        let (simulator, mut client) = scripted([Some(fault)]).await;
        assert_eq!(client.post(ORDER).await, Seen::Reset);
        sold(&simulator, fault, orders);
    }
}

#[tokio::test]
async fn a_withheld_answer_never_comes_while_the_client_waits() {
    for (fault, orders) in
        [(PostFault::WithheldAfterCreation, 1), (PostFault::WithheldNeverCreated, 0)]
    {
        let (simulator, mut client) = scripted([Some(fault)]).await;
        client.send("POST", "/api/orders", ORDER).await;
        until("the POST arrives", || simulator.stats().posts == 1).await;
        let mut other = Client::to(&simulator.url()).await;
        other.get("/api/orders").await.json(200);
        assert!(client.nothing_came());
        sold(&simulator, fault, orders);
        assert_eq!(simulator.stats().open_connections, 2);
        drop(client);
        until("the held one is given up", || simulator.stats().open_connections == 1).await;
    }
}

#[tokio::test]
async fn a_withheld_connection_is_closed_in_the_end() {
    let mut faults = Faults { withhold_for: Duration::from_millis(20), ..Faults::default() };
    faults.script.push_back(Some(PostFault::WithheldAfterCreation));
    let (simulator, mut client) = start(Contract::default(), faults).await;
    assert_eq!(client.post(ORDER).await, Seen::Closed);
    sold(&simulator, PostFault::WithheldAfterCreation, 1);
}

const LATE: Duration = Duration::from_millis(80);

async fn late() -> (Simulator, Client) {
    // The latency is not added to it.
    let latency = Duration::from_secs(3600);
    let mut faults = Faults { late_after: LATE, latency, ..Faults::default() };
    faults.script.push_back(Some(PostFault::CreatedLate));
    start(Contract::default(), faults).await
}

#[tokio::test]
async fn a_late_order_is_answered_when_it_is_created() {
    let (simulator, mut client) = late().await;
    let asked = Instant::now();
    client.send("POST", "/api/orders", ORDER).await;
    until("the POST arrives", || simulator.stats().posts == 1).await;
    assert_eq!(simulator.ledger(), []);
    let order = client.seen().await.json(201);
    assert!(asked.elapsed() >= LATE);
    assert_eq!(simulator.ledger()[0].id, id(&order));
    sold(&simulator, PostFault::CreatedLate, 1);
    // The connection is as good as before.
    client.get("/api/orders").await.json(200);
}

#[tokio::test]
async fn a_late_order_is_created_though_the_client_has_gone() {
    let (simulator, mut client) = late().await;
    let asked = Instant::now();
    client.send("POST", "/api/orders", ORDER).await;
    until("the POST arrives", || simulator.stats().posts == 1).await;
    drop(client);
    until("the client is gone", || simulator.stats().open_connections == 0).await;
    assert_eq!(simulator.ledger(), []);
    until("the order lands", || !simulator.ledger().is_empty()).await;
    assert!(asked.elapsed() >= LATE);
    sold(&simulator, PostFault::CreatedLate, 1);
}

#[tokio::test]
async fn a_wrong_id_is_the_newest_other_orders() {
    let wrong = Some(PostFault::WrongId201);
    let (simulator, mut client) = scripted([wrong, None, wrong]).await;
    // With nothing else on the account there is no wrong id to give.
    let first = client.post(ORDER).await.json(201);
    assert_eq!(simulator.ledger()[0].fault, None);
    let second = client.post(ORDER).await.json(201);
    assert_ne!(id(&first), id(&second));
    let third = client.post(r#"{"items":[{"itemId":"b","quantity":1}]}"#).await.json(201);
    assert_eq!(id(&third), id(&second));
    assert_eq!(third["items"][0]["product"]["id"], "b");
    let ledger = simulator.ledger();
    assert_eq!((ledger.len(), ledger[2].fault), (3, wrong));
    assert_ne!(ledger[2].id, id(&second));
    assert_eq!(ledger[2].items[0].item_id, "b");
}

#[tokio::test]
async fn a_script_is_followed_in_order_and_then_chance_takes_over() {
    let faults = Faults {
        script: [Some(PostFault::Status500After), None].into(),
        status_503_before: 1.0,
        budget: [(PostFault::Status503Before, 2)].into(),
        ..Faults::default()
    };
    let (simulator, mut client) = start(Contract::default(), faults).await;
    for expected in [500, 201, 503, 503, 201] {
        client.post(ORDER).await.answer(expected);
    }
    assert_eq!(simulator.ledger().len(), 3);
    assert_eq!(simulator.faults().budget[&PostFault::Status503Before], 0);
}

/// Statuses and ids of a run of POSTs.
async fn run(seed: u64, list_often: bool) -> (Vec<u16>, Vec<String>) {
    let faults = Faults {
        status_500_before: 0.2,
        status_500_after: 0.2,
        wrong_id_201: 0.1,
        foreign_identical: 0.2,
        list_empty: 0.5,
        ..Faults::default()
    };
    let config = SimulatorConfig { seed, faults, ..SimulatorConfig::default() };
    let simulator = Simulator::start(config).await.unwrap();
    let mut client = Client::to(&simulator.url()).await;
    let mut statuses = Vec::new();
    for _ in 0..60 {
        match client.post(ORDER).await {
            Seen::Answer { status, .. } => statuses.push(status),
            other => panic!("{other:?}"),
        }
        if list_often {
            client.get("/api/orders").await.json(200);
        }
    }
    (statuses, simulator.ledger().into_iter().map(|entry| entry.id).collect())
}

#[tokio::test]
async fn one_seed_is_one_fate_however_often_is_listed() {
    let first = run(7, false).await;
    assert!(first.0.contains(&500) && first.0.contains(&201));
    assert_eq!(first, run(7, true).await);
    assert_ne!(first, run(8, false).await);
}

#[tokio::test]
async fn each_probability_is_met() {
    let (simulator, mut client) = scripted([]).await;
    let faults = PostFault::ALL.iter().fold(Faults::default(), |faults, fault| match fault {
        // These end the connection or hold it.
        PostFault::WithheldAfterCreation | PostFault::WithheldNeverCreated => faults,
        PostFault::CreatedLate | PostFault::Cut201 => faults,
        PostFault::ResetBefore | PostFault::ResetAfter => faults,
        _ => faults.with_post(*fault, 1.0 / 24.0),
    });
    simulator.set_faults(faults).unwrap();
    for _ in 0..4800 {
        client.send("POST", "/api/orders", ORDER).await;
        assert!(matches!(client.seen().await, Seen::Answer { .. }));
    }
    let faults = simulator.stats().faults;
    assert_eq!(faults.len(), 15);
    for (fault, count) in faults {
        // 200 expected, a standard deviation of 14.
        assert!((130..=270).contains(&count), "{fault}: {count} of 4800");
    }
}
