//! The supplier's contract and its switches.

use super::*;

#[tokio::test]
async fn every_post_creates_an_order_of_its_own() {
    let (simulator, mut client) = scripted([]).await;
    let seen = client.ask("POST", "/api/orders/", ORDER).await;
    let date = seen.header("date").unwrap().to_owned();
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(&date).unwrap();
    let first = seen.json(201);
    let second = client.post(ORDER).await.json(201);
    assert_ne!(id(&first), id(&second));
    assert_eq!(first["status"], "active");
    assert_eq!(first["items"][0]["product"]["id"], "a");
    assert_eq!(first["items"][0]["quantity"], 2);
    uuid::Uuid::try_parse(id(&first)).unwrap();
    let created = first["createdAt"].as_str().unwrap();
    assert!(created.len() == 24 && created.ends_with('Z'), "{created}");
    let at: jiff::Timestamp = created.parse().unwrap();
    let expires: jiff::Timestamp = first["paymentExpiresAt"].as_str().unwrap().parse().unwrap();
    assert_eq!(expires.duration_since(at), jiff::SignedDuration::from_mins(15));
    let ledger = simulator.ledger();
    assert_eq!(ledger.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), [id(&first), id(&second)]);
    assert_eq!((&*ledger[0].created, ledger[0].fault, ledger[0].foreign), (created, None, false));
}

#[tokio::test]
async fn what_is_not_valid_is_refused_and_creates_nothing() {
    let (simulator, mut client) = scripted([]).await;
    let item = r#"{"itemId":"a","quantity":1}"#;
    let eleven = format!(r#"{{"items":[{}]}}"#, [item; 11].join(","));
    let cases = [
        (400, "{\"items\":["),
        (400, ""),
        (422, "[]"),
        (422, "{}"),
        (422, r#"{"items":[]}"#),
        (422, &eleven),
        (422, r#"{"items":[{"itemId":"","quantity":1}]}"#),
        (422, r#"{"items":[{"itemId":7,"quantity":1}]}"#),
        (422, r#"{"items":[{"quantity":1}]}"#),
        (422, r#"{"items":[{"itemId":"a"}]}"#),
        (422, r#"{"items":[{"itemId":"a","quantity":0}]}"#),
        (422, r#"{"items":[{"itemId":"a","quantity":-1}]}"#),
        (422, r#"{"items":[{"itemId":"a","quantity":1.5}]}"#),
        (422, r#"{"items":[{"itemId":"a","quantity":"1"}]}"#),
        (422, r#"{"items":[{"itemId":"a","quantity":1,"note":"x"}]}"#),
        (422, r#"{"items":[{"itemId":"a","quantity":1,"totalPrice":"x"}]}"#),
    ];
    for (status, body) in cases {
        let error = client.post(body).await.json(status);
        assert!(error["code"].is_string() && error["detail"].is_string(), "{body}: {error}");
    }
    let ten = format!(r#"{{"items":[{}]}}"#, [item; 10].join(","));
    client.post(&ten).await.json(201);
    let stats = simulator.stats();
    assert_eq!((stats.posts, stats.refused, stats.orders), (17, 16, 1));
}

#[tokio::test]
async fn a_total_price_is_held_against_a_known_price() {
    let amount = |text: &str| text.parse().unwrap();
    let contract = Contract {
        prices: vec![UnitPrice { item_id: "a".to_owned(), amount: amount("4.95") }],
        refused_products: vec!["gone".to_owned()],
        ..Contract::default()
    };
    let (simulator, mut client) = start(contract, Faults::default()).await;
    let order = |item: &str, price: &str| {
        format!(r#"{{"items":[{{"itemId":"{item}","quantity":2,"totalPrice":{price}}}]}}"#)
    };
    let refused = client.post(&order("a", "9.89")).await.json(422);
    assert_eq!(refused["code"], "OFFER_PRICE_NOT_MATCHED");
    client.post(&order("a", "9.9")).await.json(201);
    client.post(&order("a", "\"9.90\"")).await.json(201);
    client.post(&order("b", "1")).await.json(201);
    let gone = client.post(r#"{"items":[{"itemId":"gone","quantity":1}]}"#).await.json(422);
    assert_eq!(gone["code"], "PRODUCT_NOT_FOUND");
    assert_eq!(simulator.ledger().len(), 3);
    let balances = client.get("/api/access/me/balances/").await.json(200);
    assert_eq!(balances[0]["amount"], "999999978.20");
    let product = client.get("/api/products/a").await.json(200);
    assert_eq!((&product["id"], &product["price"]), (&Value::from("a"), &Value::from("4.95")));
    client.get("/api/products/gone").await.json(404);
}

#[tokio::test]
async fn only_the_right_key_opens() {
    let required_key = Some("right".to_owned());
    let config = SimulatorConfig { required_key, ..SimulatorConfig::default() };
    assert!(!format!("{config:?}").contains("right"));
    let simulator = Simulator::start(config).await.unwrap();
    let mut client = Client::to(&simulator.url()).await;
    assert_eq!(client.post(ORDER).await.json(401)["code"], "UNAUTHORIZED");
    client.get("/api/orders").await.json(401);
    let request = "GET /api/orders HTTP/1.1\r\nX-API-KEY: right\r\n\r\n";
    client.stream.write_all(request.as_bytes()).await.unwrap();
    client.seen().await.json(200);
    client.stream.write_all(b"GET /api/orders HTTP/1.1\r\n\r\n").await.unwrap();
    client.seen().await.json(401);
    assert_eq!((simulator.stats().unauthorized, simulator.ledger().len()), (3, 0));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_json_errors() {
    let (_simulator, mut client) = scripted([]).await;
    client.get("/api/other").await.json(404);
    client.get("/").await.json(404);
    client.ask("PUT", "/api/orders", ORDER).await.json(405);
    client.ask("DELETE", "/api/orders/x", "").await.json(405);
    client.get("/api/orders/6e0e2c5e-0000-4000-8000-000000000000").await.json(404);
    client.get("/api/orders/none").await.json(404);
}

#[tokio::test]
async fn a_note_is_kept_byte_for_byte_and_echoed_where_the_contract_says_so() {
    let order = r#"{"items":[{"itemId":"ü\"","quantity":3,"note":{"player": "é", "n":1.0}}]}"#;
    let (simulator, mut client) = scripted([]).await;
    let body = client.post(order).await.answer(201);
    assert!(body.contains(r#""note":{"player": "é", "n":1.0}"#), "{body}");
    assert!(body.contains(r#""product":{"id":"ü\""},"quantity":3"#), "{body}");
    let item = &simulator.ledger()[0].items[0];
    assert_eq!(item.note.as_ref().unwrap()["player"], "é");
    assert!(!format!("{item:?}").contains('é'));
    let contract = Contract { echo_note: false, echo_quantity: false, ..Contract::default() };
    let (_simulator, mut client) = start(contract, Faults::default()).await;
    let item = &client.post(order).await.json(201)["items"][0];
    assert_eq!((item.get("note"), item.get("quantity")), (None, None));
    let listed = client.get("/api/orders").await.json(200);
    assert_eq!(listed["orders"][0]["items"][0], *item);
}

fn at_once(contract: Contract) -> Contract {
    let zero = Duration::ZERO;
    Contract { paid_after: zero, processing_after: zero, completed_after: zero, ..contract }
}

#[tokio::test]
async fn an_order_goes_forward_with_its_age_and_ends_with_codes() {
    let hour = Duration::from_secs(3600);
    let stages = [
        ("active", hour, hour, hour),
        ("paid", Duration::ZERO, hour, hour),
        ("processing", Duration::ZERO, Duration::ZERO, hour),
        ("completed", Duration::ZERO, Duration::ZERO, Duration::ZERO),
    ];
    for (status, paid_after, processing_after, completed_after) in stages {
        let contract =
            Contract { paid_after, processing_after, completed_after, ..Contract::default() };
        let (simulator, mut client) = start(contract, Faults::default()).await;
        let order = client.post(ORDER).await.json(201);
        let fetched = client.get(&format!("/api/orders/{}", id(&order))).await.json(200);
        assert_eq!((&order["status"], &fetched["status"]), (&"active".into(), &status.into()));
        assert_eq!(simulator.ledger()[0].status, status);
        let codes = fetched["items"][0]["externalData"].as_array();
        assert_eq!(codes.map(Vec::len), (status == "completed").then_some(2));
        let listed = client.get(&format!("/api/orders?status={status}")).await.json(200);
        assert_eq!(ids(&listed, "orders"), [id(&order)]);
        assert_eq!(listed["orders"][0]["items"][0].get("externalData"), None);
        let none = client.get("/api/orders?status=cancelled").await.json(200);
        assert_eq!(ids(&none, "orders"), [""; 0]);
    }
}

#[tokio::test]
async fn orders_end_badly_where_they_are_told_to() {
    let two = r#"{"items":[{"itemId":"a","quantity":1},{"itemId":"b","quantity":1}]}"#;
    let faults = [
        Faults { order_failed: 1.0, ..Faults::default() },
        Faults { order_cancelled: 1.0, ..Faults::default() },
        Faults { order_partial: 1.0, ..Faults::default() },
    ];
    let mut ends = Vec::new();
    for faults in faults {
        let (_simulator, mut client) = start(at_once(Contract::default()), faults).await;
        let order = client.post(two).await.json(201);
        ends.push(client.get(&format!("/api/orders/{}", id(&order))).await.json(200));
    }
    assert_eq!(ends[0]["status"], "failed");
    assert_eq!(ends[1]["status"], "cancelled");
    assert!(ends[1]["cancelReason"].is_string());
    assert_eq!(ends[2]["status"], "completed");
    let with = |key: &str| {
        ends[2]["items"].as_array().unwrap().iter().filter(|i| i.get(key).is_some()).count()
    };
    assert_eq!((with("error"), with("externalData")), (1, 1));
    let contract = Contract { completed_after: Duration::from_secs(3600), ..Contract::default() };
    let contract =
        Contract { paid_after: Duration::ZERO, processing_after: Duration::ZERO, ..contract };
    let faults = Faults { order_unknown_status: 1.0, ..Faults::default() };
    let (_simulator, mut client) = start(contract, faults).await;
    let order = client.post(ORDER).await.json(201);
    let fetched = client.get(&format!("/api/orders/{}", id(&order))).await.json(200);
    assert_eq!(fetched["status"], "awaiting_stock");
}

#[tokio::test]
async fn under_create_then_pay_an_order_is_free_until_it_is_paid() {
    let contract = at_once(Contract { pays_on: PayTime::Pay, ..Contract::default() });
    let (simulator, mut client) = start(contract.clone(), Faults::default()).await;
    let order = client.post(ORDER).await.json(201);
    let pay = format!("/api/orders/{}/pay", id(&order));
    assert_eq!((simulator.ledger()[0].debits, &*simulator.ledger()[0].status), (0, "active"));
    client.ask("POST", &pay, r#"{"paymentProvider":"card"}"#).await.json(422);
    let paid = client.ask("POST", &pay, r#"{"paymentProvider":null}"#).await.json(200);
    assert_eq!(paid["status"], "completed");
    assert_eq!(client.ask("POST", &pay, "").await.json(409)["code"], "ORDER_ALREADY_PAID");
    assert_eq!(simulator.ledger()[0].debits, 1);

    let contract = Contract { repeated_pay_debits: true, ..contract };
    let (simulator, mut client) = start(contract.clone(), Faults::default()).await;
    let order = client.post(ORDER).await.json(201);
    let pay = format!("/api/orders/{}/pay", id(&order));
    client.ask("POST", &pay, "").await.json(200);
    client.ask("POST", &pay, "").await.json(200);
    assert_eq!(simulator.ledger()[0].debits, 2);

    let contract = Contract { payment_expires_after: Duration::ZERO, ..contract };
    let (simulator, mut client) = start(contract, Faults::default()).await;
    let order = client.post(ORDER).await.json(201);
    let expired = client.get(&format!("/api/orders/{}", id(&order))).await.json(200);
    assert_eq!(expired["cancelReason"], "payment_expiration");
    let refused = client.ask("POST", &format!("/api/orders/{}/pay", id(&order)), "").await;
    assert_eq!(refused.json(409)["code"], "ORDER_PAYMENT_NOT_POSSIBLE");
    assert_eq!(simulator.ledger()[0].debits, 0);
}

#[tokio::test]
async fn a_balance_that_does_not_suffice_creates_nothing() {
    let contract = Contract { balance: 3.into(), enforce_balance: true, ..Contract::default() };
    let (simulator, mut client) = start(contract, Faults::default()).await;
    client.post(ORDER).await.json(201);
    assert_eq!(client.post(ORDER).await.json(402)["code"], "BALANCE_INSUFFICIENT");
    let mock = r#"{"isMock":true,"items":[{"itemId":"a","quantity":9}]}"#;
    assert_eq!(client.post(mock).await.json(201)["isMock"], true);
    let debits: Vec<_> = simulator.ledger().iter().map(|e| (e.mock, e.debits)).collect();
    assert_eq!(debits, [(false, 1), (true, 0)]);
}

#[tokio::test]
async fn a_body_may_be_chunked_and_come_byte_by_byte() {
    let (simulator, mut client) = scripted([]).await;
    let head = "POST /api/orders HTTP/1.1\r\nx-api-key: k\r\ntransfer-encoding: chunked\r\n\r\n";
    let (first, second) = ORDER.split_at(9);
    let request = format!(
        "{head}{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    );
    client.stream.set_nodelay(true).unwrap();
    for byte in request.as_bytes() {
        client.stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    client.seen().await.json(201);
    assert_eq!(simulator.ledger().len(), 1);
    let close = "GET /api/orders HTTP/1.1\r\nx-api-key: k\r\nconnection: close\r\n\r\n";
    client.stream.write_all(close.as_bytes()).await.unwrap();
    let seen = client.seen().await;
    assert_eq!(seen.header("connection"), Some("close"));
    assert_eq!(client.seen().await, Seen::Closed);
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let (simulator, mut client) = scripted([]).await;
    let length = ORDER.len();
    let head = format!(
        "POST /api/orders HTTP/1.1\r\nx-api-key: k\r\nexpect: 100-continue\r\n\
         content-length: {length}\r\n\r\n"
    );
    client.stream.write_all(head.as_bytes()).await.unwrap();
    let mut told = [0; 25];
    client.stream.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(simulator.stats().posts, 0);
    client.stream.write_all(ORDER.as_bytes()).await.unwrap();
    client.seen().await.json(201);
}

#[tokio::test]
async fn half_a_request_creates_nothing() {
    let (simulator, mut client) = scripted([]).await;
    let head = "POST /api/orders HTTP/1.1\r\nx-api-key: k\r\ncontent-length: 99\r\n\r\n{";
    client.stream.write_all(head.as_bytes()).await.unwrap();
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.seen().await, Seen::Closed);
    assert_eq!(simulator.stats().posts, 0);
    let mut client = Client::to(&simulator.url()).await;
    client.stream.write_all(b"\x16\x03\x01 no http\r\n\r\n").await.unwrap();
    client.seen().await.json(400);
}

#[tokio::test]
async fn latency_delays_the_answer_and_not_the_order() {
    let latency = Duration::from_millis(60);
    let faults = Faults { latency, get_latency: latency, ..Faults::default() };
    let (simulator, mut client) = start(Contract::default(), faults).await;
    let asked = std::time::Instant::now();
    client.send("POST", "/api/orders", ORDER).await;
    until("the order is created", || simulator.ledger().len() == 1).await;
    client.seen().await.json(201);
    assert!(asked.elapsed() >= latency);
    client.get("/api/orders").await.json(200);
    assert!(asked.elapsed() >= latency * 2);
}
