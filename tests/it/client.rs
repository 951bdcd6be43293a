//! The supplier's client on real sockets: what leaves, what never does, what is made of answers.

mod fake;
mod reads;
mod secrets;
mod settings;
mod tls;
#[cfg(target_os = "linux")]
mod wire_bound;

use std::sync::Arc;
use std::time::Duration;

use order_router::protocol::evidence::{Evidence, Judgement, judge};
use order_router::protocol::{Moment, Outcome};
use order_router::runtime::{Clock, SystemClock};
use order_router::supplier::foxreload::Settings;
use order_router::supplier::{Answer, ApiKey, Exchange, FoxReload, Gate, GateState, Supplier};
use order_router::{EchoProfile, Item, OrderId};
use tokio::sync::Notify;

use fake::{Fake, Reply, Seen, answer, header};

const CREATED: &str = r#"{"id":"o-1"}"#;
const SENT: &str = r#"{"items":[{"itemId":"p-1","quantity":2}]}"#;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

fn client(base_url: &str) -> FoxReload {
    client_with(base_url, Settings::default())
}

fn client_with(base_url: &str, settings: Settings) -> FoxReload {
    let key = ApiKey::new("key-1").expect("a key");
    FoxReload::new(base_url, &key, settings, Arc::new(SystemClock::start())).expect("a client")
}

fn items() -> Arc<[Item]> {
    Arc::new([Item::new("p-1", 2).expect("an item")])
}

fn open() -> Arc<Gate> {
    Arc::new(Gate::new(Moment::ORIGIN.plus(Duration::from_secs(3600))))
}

fn closed() -> Arc<Gate> {
    Arc::new(Gate::new(Moment::ORIGIN))
}

fn has_yielded(gate: &Gate) -> bool {
    matches!(gate.state(), GateState::Yielded(_))
}

#[track_caller]
fn answered(exchange: Exchange) -> Answer {
    match exchange {
        Exchange::Answer(answer) => answer,
        Exchange::Broken { why } => panic!("no answer: {why}"),
    }
}

#[track_caller]
fn broken(exchange: Exchange) -> String {
    match exchange {
        Exchange::Broken { why } => why.into_owned(),
        Exchange::Answer(answer) => panic!("answered: {}", answer.status),
    }
}

/// Sends an order through an open gate to a supplier with one reply; says what came of it.
async fn place_once(reply: Reply, settings: Settings) -> (Exchange, Fake) {
    let mut fake = Fake::start([reply]).await;
    let gate = open();
    let exchange = client_with(&fake.http(), settings).place(items(), gate.clone()).await;
    assert!(has_yielded(&gate));
    let (_, body) = fake.request().await;
    assert_eq!(body, SENT);
    assert!(matches!(fake.next().await, Seen::Ended(_)));
    assert!(fake.is_quiet(), "one connection, one request");
    (exchange, fake)
}

#[tokio::test]
async fn order_leaves_once_with_exact_length_and_key() {
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let mut fake = Fake::start([Reply::Keep(answer(201, date, CREATED))]).await;
    let gate = open();
    let answer = answered(client(&fake.http()).place(items(), gate.clone()).await);
    assert_eq!((answer.status, answer.body.as_deref()), (201, Some(CREATED.as_bytes())));
    assert_eq!(answer.date, Some("1994-11-06T08:49:37Z".parse().expect("a moment")));
    assert!(has_yielded(&gate));
    let (head, body) = fake.request().await;
    assert_eq!(body, SENT);
    assert!(head.starts_with("POST /api/orders HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "x-api-key"), Some("key-1"));
    assert_eq!(header(&head, "content-type"), Some("application/json"));
    assert_eq!(header(&head, "content-length"), Some(&*SENT.len().to_string()));
    assert_eq!(header(&head, "host"), Some(&*fake.address.to_string()));
    for absent in ["cookie", "referer", "accept-encoding"] {
        assert_eq!(header(&head, absent), None);
    }
}

#[tokio::test]
async fn closed_gate_lets_nothing_out_on_a_fresh_connection() {
    let mut fake = Fake::start([]).await;
    let gate = closed();
    let why = broken(client(&fake.http()).place(items(), gate.clone()).await);
    assert_eq!((why.as_str(), gate.state()), ("too late", GateState::Closed));
    assert_eq!(fake.next().await, Seen::Ended(0));
}

#[tokio::test]
async fn closed_gate_lets_nothing_out_on_a_reused_connection() {
    let mut fake = Fake::start([Reply::Keep(answer(201, "", CREATED))]).await;
    let client = client(&fake.http());
    answered(client.place(items(), open()).await);
    let (head, body) = fake.request().await;
    let first = head.len() + 4 + body.len();
    let gate = closed();
    let why = broken(client.place(items(), gate.clone()).await);
    assert_eq!((why.as_str(), gate.state()), ("too late", GateState::Closed));
    drop(client);
    assert_eq!(fake.next().await, Seen::Ended(first));
    assert!(fake.is_quiet(), "the connection was reused");
}

#[tokio::test]
async fn dropped_order_closes_its_gate_and_its_socket() {
    let wait = Arc::new(Notify::new());
    let mut fake = Fake::start([Reply::Slow(String::new(), wait.clone(), String::new())]).await;
    let client = client(&fake.http());
    let never_polled = open();
    drop(client.place(items(), never_polled.clone()));
    let gate = open();
    let place = tokio::spawn(client.place(items(), gate.clone()));
    fake.request().await;
    assert!(has_yielded(&gate));
    place.abort();
    assert!(place.await.expect_err("aborted").is_cancelled());
    wait.notify_one();
    assert!(matches!(fake.next().await, Seen::Ended(_)));
}

#[tokio::test]
async fn redirect_is_an_answer_and_never_followed() {
    for status in [301, 302, 303, 307, 308] {
        let mut other = Fake::start([]).await;
        let to = format!("location: {}/api/orders/\r\n", other.http());
        let reply = Reply::Keep(answer(status, &to, ""));
        let (exchange, _) = place_once(reply, Settings::default()).await;
        assert_eq!(answered(exchange).status, status);
        assert!(other.is_quiet(), "{status}");
    }
}

#[tokio::test]
async fn close_or_reset_after_the_whole_order_breaks_and_sends_once() {
    let close = Reply::Close(String::new());
    for (reply, words) in [
        (close, &["closed"][..]),
        (Reply::Reset, &["reset", "closed"]),
        (Reply::Close("HTTP/1.1 201".to_owned()), &["closed"]),
        (Reply::Close("nonsense\r\n\r\n".to_owned()), &["no understandable answer"]),
    ] {
        let (exchange, _) = place_once(reply, Settings::default()).await;
        let why = broken(exchange);
        assert!(words.contains(&why.as_str()), "{why}");
    }
}

#[tokio::test]
async fn close_or_reset_on_a_reused_connection_breaks_and_sends_once() {
    for reply in [Reply::Close(String::new()), Reply::Reset] {
        let mut fake = Fake::start([Reply::Keep(answer(201, "", CREATED)), reply]).await;
        let client = client(&fake.http());
        answered(client.place(items(), open()).await);
        let gate = open();
        broken(client.place(items(), gate.clone()).await);
        assert!(has_yielded(&gate));
        fake.request().await;
        fake.request().await;
        assert!(matches!(fake.next().await, Seen::Ended(_)));
        drop(client);
        assert!(fake.is_quiet(), "one connection, two requests");
    }
}

#[tokio::test]
async fn order_into_a_connection_that_the_supplier_closed_is_sent_at_most_once() {
    for _ in 0..50 {
        let first = Reply::Close(answer(201, "", CREATED));
        let mut fake = Fake::start([first, Reply::Keep(answer(201, "", CREATED))]).await;
        let client = client(&fake.http());
        answered(client.place(items(), open()).await);
        let gate = open();
        let exchange = client.place(items(), gate.clone()).await;
        drop(client);
        // In the other case it left into the void, or it never left.
        let requests = match exchange {
            Exchange::Answer(answer) => {
                assert_eq!(answer.status, 201);
                2
            }
            Exchange::Broken { .. } => 1,
        };
        let mut seen = Vec::new();
        for _ in 0..2 * requests {
            seen.push(fake.next().await);
        }
        assert!(fake.is_quiet());
        let posts = seen.iter().filter(|seen| matches!(seen, Seen::Request(..)));
        assert_eq!(posts.count(), requests);
    }
}

#[tokio::test]
async fn server_error_is_an_answer_and_nothing_is_sent_again() {
    for status in [408, 421, 425, 429, 500, 502, 503, 504] {
        let reply = Reply::Keep(answer(status, "retry-after: 3\r\n", "{}"));
        let (exchange, _) = place_once(reply, Settings::default()).await;
        let answer = answered(exchange);
        assert_eq!((answer.status, answer.retry_after), (status, Some(Duration::from_secs(3))));
    }
}

#[tokio::test]
async fn order_without_a_connection_never_asks_its_gate() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let gate = open();
    let why = broken(client(&format!("http://{address}")).place(items(), gate.clone()).await);
    assert_eq!((why.as_str(), gate.state()), ("connection refused", GateState::Closed));

    let settings = || {
        let mut settings = Settings::default();
        settings.allow_http = true;
        settings
    };
    let gate = open();
    let nowhere = client_with("http://supplier.invalid", settings());
    broken(nowhere.place(items(), gate.clone()).await);
    assert_eq!(gate.state(), GateState::Closed);
}

#[tokio::test]
async fn connecting_has_a_time_limit_and_then_the_gate_was_never_asked() {
    // The kernel connects for a listener that never accepts; TLS then waits for a hello.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let mut settings = Settings::default();
    settings.connect_timeout = Duration::from_millis(50);
    let gate = open();
    let client = client_with(&format!("https://localhost:{port}"), settings);
    let place = tokio::time::timeout(LONG, client.place(items(), gate.clone()));
    let why = broken(place.await.expect("a time limit"));
    assert_eq!((why.as_str(), gate.state()), ("connect timeout", GateState::Closed));
}

#[tokio::test]
async fn body_cut_off_leaves_the_status() {
    let chunked = "HTTP/1.1 201 X\r\ntransfer-encoding: chunked\r\n\r\nc\r\n{\"id\":\"o-1\"}\r\n";
    let short = "HTTP/1.1 201 X\r\ncontent-length: 100\r\n\r\n{\"id\":\"o-1\"}";
    for reply in [chunked, short] {
        let (exchange, _) = place_once(Reply::Close(reply.to_owned()), Settings::default()).await;
        let answer = answered(exchange);
        assert_eq!((answer.status, answer.body), (201, None));
    }
}

#[tokio::test]
async fn body_over_the_cap_leaves_the_status() {
    let long = "x".repeat(65);
    let chunks = format!("20\r\n{0}\r\n21\r\n{0}y\r\n0\r\n\r\n", &long[..32]);
    let chunked = format!("HTTP/1.1 201 X\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
    let mut settings = Settings::default();
    settings.answer_bytes_max = 64;
    for reply in [answer(201, "", &long), chunked] {
        let (exchange, _) = place_once(Reply::Keep(reply), settings.clone()).await;
        let answer = answered(exchange);
        assert_eq!((answer.status, answer.body), (201, None));
    }
    let (exchange, _) = place_once(Reply::Keep(answer(201, "", &long[..64])), settings).await;
    assert_eq!(answered(exchange).body.expect("at the cap").len(), 64);
}

#[tokio::test]
async fn body_in_chunks_is_joined() {
    let chunked = "HTTP/1.1 201 X\r\ntransfer-encoding: chunked\r\n\r\n\
        3\r\n{\"i\r\n4\r\nd\":\"\r\n5\r\no-1\"}\r\n0\r\n\r\n";
    let (exchange, _) = place_once(Reply::Keep(chunked.to_owned()), Settings::default()).await;
    assert_eq!(answered(exchange).body.as_deref(), Some(CREATED.as_bytes()));
}

#[tokio::test]
async fn slow_answer_is_read_on_for_as_long_as_anybody_waits() {
    let whole = answer(201, "", CREATED);
    // Before the head, in its midst, in the midst of the body.
    for at in [0, 9, whole.len() - 5] {
        let wait = Arc::new(Notify::new());
        let (first, second) = whole.split_at(at);
        let reply = Reply::Slow(first.to_owned(), wait.clone(), second.to_owned());
        let mut fake = Fake::start([reply]).await;
        let place = tokio::spawn(client(&fake.http()).place(items(), open()));
        fake.request().await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(15 * 60)).await;
        tokio::time::resume();
        wait.notify_one();
        let answer = answered(place.await.expect("no panic"));
        assert_eq!(answer.body.as_deref(), Some(CREATED.as_bytes()));
    }
}

/// What an exchange proves, judged as the supplier says.
async fn judged(reply: Reply, gate: Arc<Gate>) -> Judgement {
    let fake = Fake::start([reply]).await;
    let client = client(&fake.http());
    let exchange = client.place(items(), gate.clone()).await;
    let (items, echo) = (items(), EchoProfile::default());
    let evidence = Evidence { gate: gate.state(), exchange: exchange.seen(), items: &items, echo };
    judge(&evidence, &client.evidence_policy(), |_| false)
}

#[tokio::test]
async fn exchange_is_judged_by_its_gate_and_its_answer() {
    let created = answer(201, "", CREATED);
    let id = OrderId::new("o-1").expect("an id");
    let outcome = judged(Reply::Keep(created.clone()), open()).await.outcome;
    assert_eq!(outcome, Outcome::Created { id, created_at: None });
    let outcome = judged(Reply::Close(created[..created.len() - 1].to_owned()), open()).await;
    assert_eq!(outcome.outcome, Outcome::Unknown("status 201, body cut off".into()));
    let outcome = judged(Reply::Reset, open()).await.outcome;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    let outcome = judged(Reply::Keep(created), closed()).await.outcome;
    assert_eq!(outcome, Outcome::NotSent("too late".into()));
}

#[tokio::test]
async fn named_proxy_is_used_and_the_gate_holds_behind_it_too() {
    let mut proxy = Fake::start([Reply::Keep(answer(201, "", CREATED))]).await;
    let mut settings = Settings::default();
    settings.allow_http = true;
    settings.proxy = Some(proxy.http().into());
    settings.root_certificates = Some(tls::certificate().1);
    let client = client_with("http://supplier.invalid", settings);
    answered(client.place(items(), open()).await);
    let (head, body) = proxy.request().await;
    assert!(head.starts_with("POST http://supplier.invalid/api/orders HTTP/1.1\r\n"), "{head}");
    assert_eq!(body, SENT);
    let gate = closed();
    assert_eq!(broken(client.place(items(), gate.clone()).await), "too late");
    drop(client);
    assert_eq!(proxy.next().await, Seen::Ended(head.len() + 4 + body.len()));
}

#[tokio::test]
async fn gate_notes_the_moment_by_the_given_clock() {
    struct Fixed;
    impl Clock for Fixed {
        fn now(&self) -> Moment {
            Moment::ORIGIN.plus(Duration::from_millis(17))
        }
        fn wall(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }
    }
    let fake = Fake::start([Reply::Keep(answer(201, "", CREATED))]).await;
    let key = ApiKey::new("key-1").expect("a key");
    let client = FoxReload::new(&fake.http(), &key, Settings::default(), Arc::new(Fixed));
    let gate = open();
    answered(client.expect("a client").place(items(), gate.clone()).await);
    assert_eq!(gate.state(), GateState::Yielded(Fixed.now()));
}

#[tokio::test]
async fn connection_that_was_idle_for_too_long_is_not_used_again() {
    let created = || Reply::Keep(answer(201, "", CREATED));
    let mut fake = Fake::start([created(), created()]).await;
    let mut settings = Settings::default();
    settings.pool_idle_timeout = Duration::from_millis(50);
    let client = client_with(&fake.http(), settings);
    answered(client.place(items(), open()).await);
    let (head, body) = fake.request().await;
    let one = Seen::Ended(head.len() + 4 + body.len());
    tokio::time::sleep(Duration::from_millis(200)).await;
    answered(client.place(items(), open()).await);
    drop(client);
    let mut seen = Vec::new();
    let three = async {
        while seen.len() < 3 {
            seen.push(fake.next().await);
        }
    };
    tokio::time::timeout(LONG, three).await.expect("two connections");
    seen.sort_by_key(|seen| matches!(seen, Seen::Request(..)));
    assert_eq!(seen[..2], [one, Seen::Ended(head.len() + 4 + body.len())], "two connections");
}

#[tokio::test]
async fn order_that_is_dropped_while_it_connects_can_never_leave() {
    // The kernel connects for a listener that never accepts; TLS then waits for a hello.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let mut settings = Settings::default();
    settings.root_certificates = Some(tls::certificate().1);
    let gate = open();
    let place =
        client_with(&format!("https://localhost:{port}"), settings).place(items(), gate.clone());
    tokio::time::timeout(Duration::from_millis(50), place).await.expect_err("it connects");
    assert_eq!(gate.state(), GateState::Closed);
}
