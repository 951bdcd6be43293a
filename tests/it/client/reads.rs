//! Lists and single orders: read strictly or not at all, past caches, never repeated.

use std::time::Duration;

use order_router::supplier::foxreload::{Paging, Settings};
use order_router::supplier::{ListEnvelope, Page, PageRequest, ReadError, Supplier};
use order_router::{EchoProfile, EchoedItem, OrderId};

use super::fake::{Fake, Reply, answer, header};
use super::{LONG, client, client_with};

const FIRST: PageRequest = PageRequest { offset: 0, limit: 100 };
const AT: &str = r#""createdAt":"2026-01-31T12:00:00Z""#;

fn row(id: &str, items: &str) -> String {
    format!(r#"{{"id":"{id}","status":"paid",{AT},"items":{items}}}"#)
}

fn orders(rows: &[String]) -> String {
    format!(r#"{{"orders":[{}]}}"#, rows.join(","))
}

async fn list_of(reply: String, settings: Settings) -> Result<Page, ReadError> {
    let mut fake = Fake::start([Reply::Close(reply)]).await;
    let page = client_with(&fake.http(), settings).list(FIRST).await;
    fake.request().await;
    fake.next().await;
    assert!(fake.is_quiet(), "nothing is asked again");
    page
}

async fn list(body: &str) -> Result<Page, ReadError> {
    list_of(answer(200, "", body), Settings::default()).await
}

#[track_caller]
fn not_understood(page: Result<Page, ReadError>, what: &str) {
    assert!(matches!(page, Err(ReadError::NotUnderstood(_))), "{what}: {page:?}");
}

#[tokio::test]
async fn page_is_read_with_its_rows_total_and_date() {
    let items = r#"[{"product":{"id":"p-1"},"quantity":"2.0","externalData":null}]"#;
    let rows = [row("o-2", items), row("o-1", "[{}]")].join(",");
    let body = format!(r#"{{"orders":[{rows}],"total":7,"offset":0,"limit":100}}"#);
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nage: 0\r\n";
    let page = list_of(answer(200, date, &body), Settings::default()).await.expect("a page");
    assert_eq!(page.total, Some(7));
    assert_eq!(page.date, Some("1994-11-06T08:49:37Z".parse().expect("a moment")));
    let [first, second] = &*page.rows else { panic!("two rows") };
    assert_eq!((first.id.as_str(), &*first.status), ("o-2", "paid"));
    assert_eq!(first.created_at, "2026-01-31T12:00:00Z".parse().expect("a moment"));
    let echoed = EchoedItem { id: "p-1".to_owned(), quantity: Some(2), note: None };
    assert_eq!(first.items, Some(vec![echoed]));
    assert_eq!((second.id.as_str(), &second.items), ("o-1", &None));
}

#[tokio::test]
async fn empty_page_is_empty_only_in_its_envelope() {
    assert_eq!(list(r#"{"orders":[]}"#).await.expect("a page").rows, []);
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "<html>",
        r#"{"items":[]}"#,
        r#"{"orders":null}"#,
        r#"{"orders":{}}"#,
        r#"{"orders":"x"}"#,
        r#"{"orders":[],"orders":[]}"#,
        r#"{"orders":[]"#,
        r#"{"orders":[],"total":"many"}"#,
        r#"{"orders":[],"offset":5}"#,
    ] {
        not_understood(list(body).await, body);
    }
}

#[tokio::test]
async fn row_that_is_not_understood_spoils_its_page() {
    let good = row("o-1", "[]");
    assert_eq!(list(&orders(std::slice::from_ref(&good))).await.expect("a page").rows.len(), 1);
    for bad in [
        "{}".to_owned(),
        "null".to_owned(),
        "7".to_owned(),
        format!(r#"{{"status":"paid",{AT}}}"#),
        format!(r#"{{"id":"","status":"paid",{AT}}}"#),
        format!(r#"{{"id":"o-2",{AT}}}"#),
        format!(r#"{{"id":"o-2","status":1,{AT}}}"#),
        r#"{"id":"o-2","status":"paid"}"#.to_owned(),
        r#"{"id":"o-2","status":"paid","createdAt":"2026-01-31T12:00:00"}"#.to_owned(),
        r#"{"id":"o-2","status":"paid","createdAt":1769860800}"#.to_owned(),
        format!(r#"{{"id":"o-2","id":"o-3","status":"paid",{AT}}}"#),
        good.clone(),
    ] {
        not_understood(list(&orders(&[good.clone(), bad.clone()])).await, &bad);
    }
}

#[tokio::test]
async fn items_that_cannot_be_read_spoil_only_their_row() {
    for items in [
        "null",
        "[]",
        "{}",
        "[7]",
        r#"[{"quantity":1}]"#,
        r#"[{"itemId":"p","quantity":1.5}]"#,
        r#"[{"itemId":"p","quantity":0}]"#,
        r#"[{"itemId":"p","product":{"id":"q"},"quantity":1}]"#,
    ] {
        let page = list(&orders(&[row("o-1", items)])).await.expect("a page");
        assert_eq!(page.rows[0].items, None, "{items}");
    }
}

#[tokio::test]
async fn note_is_read_only_where_it_is_echoed() {
    let body = orders(&[row("o-1", r#"[{"itemId":"p","quantity":1,"note":"text"}]"#)]);
    let read = |note| {
        let mut settings = Settings::default();
        settings.echo = EchoProfile { quantity: true, note, tag: None };
        list_of(answer(200, "", &body), settings)
    };
    assert!(read(false).await.expect("a page").rows[0].items.is_some());
    assert!(read(true).await.expect("a page").rows[0].items.is_none());
}

#[tokio::test]
async fn envelope_and_timestamps_are_settings() {
    use order_router::protocol::format::TimestampFormat;
    let mut settings = Settings::default();
    settings.list_envelope = ListEnvelope::Bare;
    settings.evidence.format.timestamps = TimestampFormat::UnixSeconds;
    settings.evidence.format.id = "uuid".into();
    let body = r#"[{"uuid":17,"status":"paid","createdAt":1769860800}]"#;
    let page = list_of(answer(200, "", body), settings.clone()).await.expect("a page");
    assert_eq!(page.rows[0].id.as_str(), "17");
    let in_envelope = answer(200, "", &format!(r#"{{"items":{body}}}"#));
    not_understood(list_of(in_envelope.clone(), settings.clone()).await, "bare");
    settings.list_envelope = ListEnvelope::Key("items".into());
    assert_eq!(list_of(in_envelope, settings).await.expect("a page").rows.len(), 1);
}

async fn request_line(settings: Settings, page: PageRequest) -> String {
    let mut fake = Fake::start([Reply::Keep(answer(200, "", r#"{"orders":[]}"#))]).await;
    client_with(&fake.http(), settings).list(page).await.expect("a page");
    let (head, _) = fake.request().await;
    assert_eq!(header(&head, "cache-control"), Some("no-cache"));
    head.lines().next().expect("a line").to_owned()
}

#[tokio::test]
async fn page_is_asked_for_as_set() {
    let page = |offset, limit| PageRequest { offset, limit };
    let line = request_line(Settings::default(), page(30, 10)).await;
    assert_eq!(line, "GET /api/orders?limit=10&offset=30 HTTP/1.1");
    let mut settings = Settings::default();
    settings.list_query = vec![("sort".into(), "-createdAt&x".into())];
    let (page_name, limit) = ("page".into(), "size".into());
    settings.paging = Paging::Page { page: page_name, limit, first: 1 };
    // A row in the midst of a page: the page is read from its beginning, nothing is left out.
    for (offset, number) in [(0, 1), (10, 2), (15, 2), (19, 2), (20, 3)] {
        let line = request_line(settings.clone(), page(offset, 10)).await;
        let sort = "sort=-createdAt%26x";
        assert_eq!(line, format!("GET /api/orders?{sort}&size=10&page={number} HTTP/1.1"));
    }
}

#[tokio::test]
async fn cached_answer_is_no_evidence() {
    let reply = answer(200, "age: 1\r\n", r#"{"orders":[]}"#);
    assert_eq!(list_of(reply, Settings::default()).await, Err(ReadError::Cached));
}

#[tokio::test]
async fn status_other_than_200_is_no_page() {
    let body = r#"{"orders":[]}"#;
    for status in [201, 204, 206, 301, 302, 304, 307, 404, 500, 503] {
        let body = if matches!(status, 204 | 304) { "" } else { body };
        let page = list_of(answer(status, "location: /\r\n", body), Settings::default()).await;
        assert_eq!(page, Err(ReadError::Status(status)));
    }
    for status in [401, 403] {
        let page = list_of(answer(status, "", r#"{"error":"no"}"#), Settings::default()).await;
        assert_eq!(page, Err(ReadError::KeyRefused(status)));
        let page = list_of(answer(status, "", "<html>"), Settings::default()).await;
        assert_eq!(page, Err(ReadError::Status(status)));
    }
    let page = list_of(answer(429, "retry-after: 9\r\n", ""), Settings::default()).await;
    assert_eq!(page, Err(ReadError::RateLimited(Some(Duration::from_secs(9)))));
}

#[tokio::test]
async fn page_cut_off_or_over_the_cap_is_no_page() {
    let whole = answer(200, "", r#"{"orders":[]}"#);
    let cut = list_of(whole[..whole.len() - 1].to_owned(), Settings::default()).await;
    assert!(matches!(cut, Err(ReadError::Broken(_))), "{cut:?}");
    let silent = list_of(String::new(), Settings::default()).await;
    assert_eq!(silent, Err(ReadError::Broken("closed".into())));
    let mut settings = Settings::default();
    settings.page_bytes_max = 12;
    not_understood(list_of(whole, settings).await, "over the cap");
}

#[tokio::test]
async fn reading_has_a_time_limit() {
    let wait = std::sync::Arc::new(tokio::sync::Notify::new());
    let head = "HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\n".to_owned();
    let fake = Fake::start([Reply::Slow(head, wait, String::new())]).await;
    let mut settings = Settings::default();
    settings.read_timeout = Duration::from_millis(50);
    let page = client_with(&fake.http(), settings).list(FIRST);
    let page = tokio::time::timeout(LONG, page).await.expect("a time limit");
    assert_eq!(page, Err(ReadError::Broken("timeout".into())));
}

async fn fetch(id: &str, status: u16, body: &str) -> (Result<(), ReadError>, String) {
    let mut fake = Fake::start([Reply::Keep(answer(status, "", body))]).await;
    let client = client(&fake.http());
    let fetched = client.fetch(OrderId::new(id).expect("an id")).await;
    let (head, _) = fake.request().await;
    let checked = fetched.map(|fetched| {
        assert_eq!(fetched.raw, body.as_bytes());
        assert_eq!(fetched.row.id.as_str(), id);
    });
    (checked, head.lines().next().expect("a line").to_owned())
}

#[tokio::test]
async fn order_is_fetched_by_one_segment_of_the_path() {
    let (fetched, line) = fetch("a/b?é", 200, &row("a/b?é", "[]")).await;
    assert_eq!(fetched, Ok(()));
    assert_eq!(line, "GET /api/orders/a%2Fb%3F%C3%A9 HTTP/1.1");
    let (fetched, _) = fetch("o-1", 200, &row("o-2", "[]")).await;
    assert!(matches!(fetched, Err(ReadError::NotUnderstood(_))), "another order");
    let (fetched, _) = fetch("o-1", 404, "").await;
    assert_eq!(fetched, Err(ReadError::NotFound));
    let up = client("http://127.0.0.1:9").fetch(OrderId::new("..").expect("an id")).await;
    assert!(matches!(up, Err(ReadError::NotUnderstood(_))));
}

#[tokio::test]
async fn balances_are_an_array() {
    let balances = |body: String| async move {
        let mut fake = Fake::start([Reply::Keep(answer(200, "", &body))]).await;
        let balances = client(&fake.http()).balances().await;
        let (head, _) = fake.request().await;
        assert!(head.starts_with("GET /api/access/me/balances/ HTTP/1.1\r\n"));
        let text = |b: &order_router::Balance| format!("{} {}", b.amount, b.currency);
        balances.map(|all| all.iter().map(text).collect::<Vec<_>>().join(", "))
    };
    let digits = "12345678901234567890.12345678";
    for (body, expected) in [
        (r#"[{"currency":"USD","amount":"12.50"}]"#.to_owned(), "12.50 USD"),
        // A float would make 0.1 and 0.30000000000000004 of it.
        (r#"[{"currency":"usd","balance":0.10000000000000000001}]"#.to_owned(), "0.10000000000000000001 USD"),
        (format!(r#"[{{"currency":"USD","amount":{digits}}}]"#), "12345678901234567890.12345678 USD"),
        // What is not known is no matter, and an amount may be said twice if it is the same.
        (r#"[{"id":{"x":[]},"amount":1.50,"balance":"1.5","currency":"RUB","held":null},{"currency":"EUR","amount":-3}]"#.to_owned(), "-3 EUR, 1.50 RUB"),
    ] {
        assert_eq!(balances(body.clone()).await.as_deref(), Ok(expected), "{body}");
    }
    let many: Vec<_> = (0..65).map(|n| format!(r#"{{"currency":"C{n}","amount":1}}"#)).collect();
    for body in [
        "{}",
        "[",
        "[]",
        "null",
        "0",
        "[[]]",
        "[1]",
        r#"{"balances":[]}"#,
        r#"[{"currency":"USD"}]"#,
        r#"[{"amount":"1"}]"#,
        r#"[{"currency":1,"amount":"1"}]"#,
        r#"[{"currency":"USD","amount":null}]"#,
        r#"[{"currency":"USD","amount":""}]"#,
        r#"[{"currency":"USD","amount":"1,50"}]"#,
        r#"[{"currency":"USD","amount":"1e3"}]"#,
        r#"[{"currency":"USD","amount":{"value":1}}]"#,
        r#"[{"currency":"USD","amount":true}]"#,
        r#"[{"currency":"USD","amount":1e99}]"#,
        r#"[{"currency":"USD","amount":0.00000000000000000000000000001}]"#,
        r#"[{"currency":"USD","amount":1,"balance":2}]"#,
        r#"[{"currency":"USD","amount":1,"amount":1}]"#,
        r#"[{"currency":"USD","amount":1},{"currency":"usd","amount":2}]"#,
        r#"[{"currency":"USD","amount":1},{}]"#,
        &format!("[{}]", many.join(",")),
        &format!(r#"[{{"currency":"USD","amount":1,"x":"{}"}}]"#, "x".repeat(70_000)),
    ] {
        let read = balances(body.to_owned()).await;
        assert!(matches!(read, Err(ReadError::NotUnderstood(_))), "{body:.80}: {read:?}");
    }
}
