//! The administration port, somebody else's orders, and the handle.

use serde_json::json;

use super::*;

#[tokio::test]
async fn faults_are_changed_by_name_and_the_others_stay() {
    let faults = Faults { reset_before: 0.25, ..Faults::default() };
    let (simulator, mut client) = start(Contract::default(), faults).await;
    let mut admin = Client::to(&simulator.admin_url()).await;
    let change = json!({
        "status_500_after": 0.5, "late_after": "1.5s", "list_lag": "300ms", "list_empty": 1,
        "latency_shape": "exponential", "script": ["status_503_before", null],
        "budget": {"status_500_after": 3}, "list_stale_age_header": true,
    });
    admin.ask("POST", "/admin/faults", &change.to_string()).await.json(200);
    let expected = Faults {
        reset_before: 0.25,
        status_500_after: 0.5,
        late_after: Duration::from_millis(1500),
        list_lag: Duration::from_millis(300),
        list_empty: 1.0,
        latency_shape: LatencyShape::Exponential,
        script: [Some(PostFault::Status503Before), None].into(),
        budget: [(PostFault::Status500After, 3)].into(),
        list_stale_age_header: true,
        ..Faults::default()
    };
    assert_eq!(simulator.faults(), expected);
    client.post(ORDER).await.json(503);
    let left = admin.get("/admin/faults").await.json(200);
    assert_eq!(left["script"], json!([null]));
    // What is shown can be set again as it is.
    admin.ask("POST", "/admin/faults", &left.to_string()).await.json(200);
    assert_eq!(simulator.faults(), Faults { script: [None].into(), ..expected });
}

#[tokio::test]
async fn faults_that_are_not_valid_change_nothing() {
    let (simulator, _client) = scripted([]).await;
    let mut admin = Client::to(&simulator.admin_url()).await;
    for (status, change) in [
        (400, "{"),
        (422, "[]"),
        (422, r#"{"list_lag":"300ms","no_such_fault":0.1}"#),
        (422, r#"{"list_lag":"300ms","reset_after":1.1}"#),
        (422, r#"{"list_lag":"300ms","reset_after":-0.1}"#),
        (422, r#"{"list_lag":"300ms","reset_after":"x"}"#),
        (422, r#"{"reset_after":0.6,"reset_before":0.6}"#),
        (422, r#"{"list_empty":0.6,"list_slow":0.6}"#),
        (422, r#"{"list_lag":"-1s"}"#),
        (422, r#"{"list_lag":300}"#),
        (422, r#"{"script":["none"]}"#),
    ] {
        let error = admin.ask("POST", "/admin/faults", change).await.json(status);
        assert!(error["detail"].is_string(), "{change}: {error}");
        assert_eq!(simulator.faults(), Faults::default(), "{change}");
    }
    let invalid = Faults { cut_201: f64::NAN, ..Faults::default() };
    assert_eq!(simulator.set_faults(invalid).unwrap_err().key, "cut_201");
}

#[tokio::test]
async fn the_ledger_is_the_same_over_the_wire() {
    let (simulator, mut client) = scripted([]).await;
    let mut admin = Client::to(&simulator.admin_url()).await;
    assert_eq!(admin.get("/admin/ledger").await.json(200), json!([]));
    for _ in 0..1100 {
        client.post(ORDER).await.json(201);
    }
    let read = admin.get("/admin/ledger").await.answer(200);
    let read: Vec<LedgerEntry> = serde_json::from_str(&read).unwrap();
    let of = |ledger: &[LedgerEntry]| -> Vec<_> {
        ledger.iter().map(|e| (e.id.clone(), e.created.clone(), e.items.clone())).collect()
    };
    assert_eq!(of(&read), of(&simulator.ledger()));
    assert_eq!(read.len(), 1100);
    let stats: Stats = serde_json::from_str(&admin.get("/admin/stats").await.answer(200)).unwrap();
    assert_eq!(stats, simulator.stats());
    assert_eq!((stats.posts, stats.orders, stats.open_connections), (1100, 1100, 1));
    admin.ask("POST", "/admin/ledger", "").await.json(405);
    admin.get("/api/orders").await.json(404);
}

#[tokio::test]
async fn somebody_else_buys_when_told_to() {
    let (simulator, mut client) = scripted([]).await;
    let mut admin = Client::to(&simulator.admin_url()).await;
    let foreign = admin.ask("POST", "/admin/foreign", ORDER).await.json(201);
    admin.ask("POST", "/admin/foreign", "{}").await.json(422);
    assert_eq!(ids(&client.get("/api/orders").await.json(200), "orders"), [id(&foreign)]);
    let ledger = simulator.ledger();
    assert_eq!((ledger.len(), ledger[0].foreign, ledger[0].debits), (1, true, 1));
    assert_eq!((simulator.stats().posts, simulator.stats().foreign_orders), (0, 1));
}

#[tokio::test]
async fn somebody_else_buys_the_same_or_another_product() {
    let faults = Faults { foreign_identical: 1.0, ..Faults::default() };
    let (simulator, mut client) = start(Contract::default(), faults).await;
    let mut own = Vec::new();
    for _ in 0..20 {
        own.push(id(&client.post(ORDER).await.json(201)).to_owned());
    }
    let ledger = simulator.ledger();
    assert_eq!(ledger.len(), 40);
    assert!(ledger.iter().all(|e| e.items == ledger[0].items));
    assert!(ledger.iter().all(|e| e.foreign != own.contains(&e.id)));
    // Before ours and after ours, by chance.
    let pairs = ledger.chunks(2);
    assert!((1..20).contains(&pairs.filter(|pair| pair[0].foreign).count()));

    let faults = Faults { foreign_other: 1.0, status_500_before: 1.0, ..Faults::default() };
    let (simulator, mut client) = start(Contract::default(), faults).await;
    client.post(ORDER).await.json(500);
    let ledger = simulator.ledger();
    assert_eq!((ledger.len(), ledger[0].foreign), (1, true));
    assert_ne!(ledger[0].items[0].item_id, "a");
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    let listen = "0.0.0.0:0".parse().unwrap();
    let config = SimulatorConfig { listen, ..SimulatorConfig::default() };
    let error = Simulator::start(config).await.err().unwrap();
    assert!(error.to_string().contains("loopback"), "{error}");
    let faults = Faults { redirect: 2.0, ..Faults::default() };
    let config = SimulatorConfig { faults, ..SimulatorConfig::default() };
    assert!(Simulator::start(config).await.is_err());
}

#[test]
fn a_supplier_on_its_own_thread_sells_until_it_is_shut_down() {
    let simulator = Simulator::spawn_thread(SimulatorConfig::default()).unwrap();
    let url = simulator.url();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = Client::to(&url).await;
        client.post(ORDER).await.json(201);
        assert_eq!(simulator.stats().orders, 1);
        assert_eq!(simulator.shutdown().await.len(), 1);
        assert!(matches!(client.seen().await, Seen::Closed | Seen::Reset));
        let address = url.strip_prefix("http://").unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    });
    let config =
        SimulatorConfig { listen: "0.0.0.0:0".parse().unwrap(), ..SimulatorConfig::default() };
    assert!(Simulator::spawn_thread(config).is_err());
}

#[tokio::test]
async fn a_shut_down_supplier_listens_no_more() {
    let (simulator, mut client) = scripted([]).await;
    client.post(ORDER).await.json(201);
    let url = simulator.url();
    assert_eq!(simulator.shutdown().await.len(), 1);
    let address = url.strip_prefix("http://").unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[test]
fn durations_are_read_as_people_write_them() {
    for (text, millis) in
        [("300ms", 300), ("1.5s", 1500), ("15m", 900_000), ("0", 0), ("1h", 3_600_000)]
    {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "5", "-1s", "1 week", "x"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}
