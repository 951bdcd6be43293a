//! The list: paging, lag, and what can go wrong with it.

use super::*;

const LONG: Duration = Duration::from_secs(3600);

/// A supplier with so many orders, their ids from the oldest on.
async fn with_orders(contract: Contract, count: usize) -> (Simulator, Client, Vec<String>) {
    let (simulator, mut client) = start(contract, Faults::default()).await;
    for _ in 0..count {
        client.post(ORDER).await.json(201);
    }
    let ids = simulator.ledger().into_iter().map(|entry| entry.id).collect();
    (simulator, client, ids)
}

#[tokio::test]
async fn pages_go_from_the_newest_or_the_oldest_to_an_empty_one() {
    for list_order in [ListOrder::Newest, ListOrder::Oldest] {
        let contract = Contract { list_order, ..Contract::default() };
        let (simulator, mut client, mut expected) = with_orders(contract, 25).await;
        if list_order == ListOrder::Newest {
            expected.reverse();
        }
        let mut read = Vec::new();
        loop {
            let page = format!("/api/orders?limit=7&offset={}", read.len());
            let page = ids(&client.get(&page).await.json(200), "orders");
            if page.is_empty() {
                break;
            }
            read.extend(page);
        }
        assert_eq!(read, expected);
        let stats = simulator.stats();
        assert_eq!((stats.listings, stats.list_pages), (1, 5));
        let first = client.get("/api/orders").await.json(200);
        assert_eq!(ids(&first, "orders"), expected[..10]);
    }
}

#[tokio::test]
async fn a_limit_is_clamped_without_a_word() {
    let (_simulator, mut client, _) = with_orders(Contract::default(), 105).await;
    let page = client.get("/api/orders?limit=1000").await.json(200);
    assert_eq!(ids(&page, "orders").len(), 100);
    for wrong in ["limit=0", "limit=x", "offset=-1"] {
        client.get(&format!("/api/orders?{wrong}")).await.json(422);
    }
    let past = client.get("/api/orders?offset=18446744073709551615").await.json(200);
    assert_eq!(ids(&past, "orders").len(), 0);
}

#[tokio::test]
async fn the_other_envelope_counts_its_rows() {
    let contract = Contract { envelope: Envelope::Items, ..Contract::default() };
    let (_simulator, mut client, expected) = with_orders(contract, 3).await;
    let page = client.get("/api/orders?limit=2&offset=1").await.json(200);
    assert_eq!(ids(&page, "items"), [&*expected[1], &*expected[0]]);
    assert_eq!(
        (&page["limit"], &page["offset"], &page["total"]),
        (&2.into(), &1.into(), &3.into())
    );
}

#[tokio::test]
async fn a_lagging_list_shows_the_next_orders_before_the_lagging_one() {
    let faults = Faults { list_lag: LONG, ..Faults::default() };
    let (simulator, mut client) = start(Contract::default(), faults).await;
    let hidden = client.post(ORDER).await.json(201);
    assert_eq!(ids(&client.get("/api/orders").await.json(200), "orders").len(), 0);
    client.get(&format!("/api/orders/{}", id(&hidden))).await.json(200);
    assert!(simulator.ledger()[0].visible > simulator.ledger()[0].created);
    simulator.set_faults(Faults::default()).unwrap();
    let (second, third) = (client.post(ORDER).await.json(201), client.post(ORDER).await.json(201));
    let page = client.get("/api/orders").await.json(200);
    assert_eq!(ids(&page, "orders"), [id(&third), id(&second)]);
    let page = client.get("/api/orders?offset=1").await.json(200);
    assert_eq!(ids(&page, "orders"), [id(&second)]);
}

#[tokio::test]
async fn a_lagging_order_appears_when_its_lag_is_over() {
    let lag = Duration::from_millis(60);
    let faults = Faults { list_lag: lag, ..Faults::default() };
    let (_simulator, mut client) = start(Contract::default(), faults).await;
    let asked = std::time::Instant::now();
    client.post(ORDER).await.json(201);
    while ids(&client.get("/api/orders").await.json(200), "orders").is_empty() {}
    assert!(asked.elapsed() >= lag);
}

#[tokio::test]
async fn a_lagging_fetch_is_404_though_the_list_shows_the_order() {
    let faults = Faults { fetch_lag: LONG, ..Faults::default() };
    let (simulator, mut client) = start(Contract::default(), faults).await;
    let order = client.post(ORDER).await.json(201);
    let fetch = format!("/api/orders/{}", id(&order));
    client.get(&fetch).await.json(404);
    assert_eq!(ids(&client.get("/api/orders").await.json(200), "orders"), [id(&order)]);
    simulator.set_faults(Faults::default()).unwrap();
    client.get(&fetch).await.json(200);
}

/// Makes the next list request meet one fault, and asks for it.
async fn faulty(simulator: &Simulator, client: &mut Client, fault: ListFault) -> Seen {
    let faults = Faults {
        list_script: [Some(fault)].into(),
        list_stale_by: LONG,
        list_stale_age_header: true,
        list_slow_by: Duration::from_millis(40),
        ..Faults::default()
    };
    simulator.set_faults(faults).unwrap();
    let seen = client.get("/api/orders").await;
    assert_eq!(simulator.stats().list_faults[&fault], 1);
    seen
}

#[tokio::test]
async fn each_list_fault_is_seen_once_and_then_the_list_is_right_again() {
    let (simulator, mut client, mut expected) = with_orders(Contract::default(), 8).await;
    expected.reverse();
    for fault in ListFault::ALL {
        let asked = std::time::Instant::now();
        let seen = faulty(&simulator, &mut client, *fault).await;
        match fault {
            ListFault::Stale => {
                assert_eq!(seen.header("age"), Some("3600"));
                assert_eq!(ids(&seen.json(200), "orders").len(), 0);
            }
            ListFault::Empty => {
                assert_eq!(seen.header("age"), None);
                assert_eq!(ids(&seen.json(200), "orders").len(), 0);
            }
            ListFault::Slow => {
                assert_eq!(ids(&seen.json(200), "orders"), expected);
                assert!(asked.elapsed() >= Duration::from_millis(40));
            }
            ListFault::Status500 => assert!(seen.json(500)["code"].is_string()),
            ListFault::Status429 => {
                assert_eq!(seen.header("retry-after"), Some("1"));
                seen.json(429);
            }
            ListFault::Malformed => {
                assert!(serde_json::from_str::<Value>(&seen.answer(200)).is_err());
            }
            ListFault::WrongEnvelope => {
                let page = seen.json(200);
                assert_eq!((page.get("orders"), ids(&page, "data").len()), (None, 8));
            }
            ListFault::Unsorted => {
                let mut read = ids(&seen.json(200), "orders");
                assert_ne!(read, expected);
                read.sort();
                let mut sorted = expected.clone();
                sorted.sort();
                assert_eq!(read, sorted);
            }
        }
        let next = client.get("/api/orders").await.json(200);
        assert_eq!(ids(&next, "orders"), expected, "after {fault}");
    }
}

#[tokio::test]
async fn rows_go_missing_with_their_probability() {
    let (simulator, mut client, expected) = with_orders(Contract::default(), 100).await;
    simulator.set_faults(Faults { list_missing_row: 0.3, ..Faults::default() }).unwrap();
    let read = ids(&client.get("/api/orders?limit=100").await.json(200), "orders");
    assert!((45..=95).contains(&read.len()), "{} of 100 rows", read.len());
    assert!(read.iter().all(|id| expected.contains(id)));
}

#[tokio::test]
async fn test_orders_are_listed_where_the_contract_says_so() {
    for (list_mock, shown) in [(true, 2), (false, 1)] {
        let contract = Contract { list_mock, ..Contract::default() };
        let (_simulator, mut client, _) = with_orders(contract, 1).await;
        client.post(r#"{"isMock":true,"items":[{"itemId":"a","quantity":1}]}"#).await.json(201);
        let page = client.get("/api/orders").await.json(200);
        assert_eq!(ids(&page, "orders").len(), shown);
    }
}

#[tokio::test]
async fn a_list_can_carry_the_codes() {
    let zero = Duration::ZERO;
    let contract = Contract {
        list_codes: true,
        paid_after: zero,
        processing_after: zero,
        completed_after: zero,
        ..Contract::default()
    };
    let (_simulator, mut client, expected) = with_orders(contract, 1).await;
    let page = client.get("/api/orders").await.json(200);
    let fetched = client.get(&format!("/api/orders/{}", expected[0])).await.json(200);
    assert_eq!(page["orders"][0]["items"], fetched["items"]);
    assert_eq!(fetched["items"][0]["externalData"].as_array().unwrap().len(), 2);
}
