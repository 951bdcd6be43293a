//! Keys, notes, codes and addresses of proxies show up nowhere.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use order_router::runtime::SystemClock;
use order_router::supplier::foxreload::Settings;
use order_router::supplier::{ApiKey, FoxReload, PageRequest, Supplier};
use order_router::{Item, Note, OrderId};
use secrecy::SecretString;
use tracing::field::{Field, Visit};
use tracing::span;

use super::fake::{Fake, Reply, answer};
use super::open;

/// Keeps every span and event, at every level, as text.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<String>>);

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").expect("memory");
    }
}

impl tracing::Subscriber for Capture {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span.record(&mut Text(&mut self.0.lock().expect("text")));
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Text(&mut self.0.lock().expect("text")));
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Text(&mut self.0.lock().expect("text")));
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn canary_is_nowhere() {
    let capture = Capture::default();
    // With a single subscriber in the process, events that another thread was first to reach would
    // be off for good. With two, all are asked.
    let _second = tracing::Dispatch::new(Capture::default());
    let _guard = tracing::subscriber::set_default(capture.clone());
    tracing::callsite::rebuild_interest_cache();
    let mut shown = String::new();
    let key = ApiKey::new("CANARY-key").expect("a key");
    let note = Note::new(&serde_json::json!({"player": "CANARY-note"})).expect("a note");
    let items: Arc<[Item]> = Arc::new([Item::new("p-1", 1).expect("an item").note(note)]);
    let detail = r#"{"code":"X","detail":"CANARY-detail"}"#;
    let order = r#"{"id":"o-1","status":"completed","createdAt":"2026-01-31T12:00:00Z",
        "items":[{"itemId":"p-1","externalData":["CANARY-code"]}]}"#;
    let replies = [
        Reply::Keep(answer(422, "x: CANARY-header\r\n", detail)),
        Reply::Close("CANARY nonsense\r\n\r\n".to_owned()),
        Reply::Keep(answer(200, "", order)),
        Reply::Keep(answer(200, "", &format!(r#"{{"orders":[{order}]}}"#))),
        Reply::Keep(answer(200, "", r#"{"orders":"CANARY"}"#)),
    ];
    let mut fake = Fake::start(replies).await;
    let settings = Settings::default();
    let clock = Arc::new(SystemClock::start());
    let client = FoxReload::new(&fake.http(), &key, settings, clock.clone()).expect("a client");
    client.place(items.clone(), open()).await;
    let (head, body) = fake.request().await;
    assert!(head.contains("CANARY-key") && body.contains("CANARY-note"), "they were sent");
    let broken = client.place(items.clone(), open()).await;
    let fetched = client.fetch(OrderId::new("o-1").expect("an id")).await.expect("an order");
    assert!(String::from_utf8_lossy(&fetched.raw).contains("CANARY-code"));
    let first = PageRequest { offset: 0, limit: 1 };
    let page = client.list(first).await.expect("a page");
    let spoilt = client.list(first).await.expect_err("no page");
    write!(shown, "{client:?} {key:?} {items:?} {broken:?} {fetched:?} {page:?} {spoilt:?}")
        .expect("memory");

    // A proxy that is not there: its address has a password in it.
    let mut settings = Settings::default();
    settings.proxy = Some(SecretString::from("http://u:CANARY-proxy@127.0.0.1:1"));
    settings.allow_http = true;
    write!(shown, "{settings:?}").expect("memory");
    let client = FoxReload::new("http://a.invalid", &key, settings, clock).expect("a client");
    let broken = client.place(items, open()).await;
    let spoilt = client.list(first).await;
    write!(shown, "{broken:?} {spoilt:?} {client:?}").expect("memory");

    let traced = capture.0.lock().expect("text").clone();
    assert!(traced.contains("an order was answered"), "something was captured");
    assert!(!shown.contains("CANARY"), "{shown}");
    assert!(!traced.contains("CANARY"), "{traced}");
}
