//! Batches, the lease and requests against a local server; what is asked how often, against one
//! that only answers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::store::Asked;
use crate::store::Request;
use crate::store::ledger::{ClaimWrite, Meeting, RowWrite};

#[allow(dead_code, reason = "the tests' server can more")]
#[path = "../../../tests/it/servers/dynamodb.rs"]
mod server;

use server::DynamoDb;

pub(crate) fn skipped(what: &str) {
    let wanted = std::env::var_os("TEST_STORES").is_some_and(|value| !value.is_empty());
    assert!(!wanted, "{what}, and skipping is not allowed here");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn config(port: u16, table: &str) -> DynamoDbConfig {
    let url = format!("dynamodb://{table}?region=eu-central-1&endpoint=http://127.0.0.1:{port}");
    let keys = Credentials::new("id", "key", None, None, "tests");
    DynamoDbConfig::new(&url).unwrap().credentials(keys)
}

/// A table that nobody had before, seen by so many nodes.
async fn nodes<const N: usize>() -> Option<(Arc<DynamoDb>, [Table; N])> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let server = DynamoDb::shared()?;
    let config = config(server.port, &format!("unit_{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    create_table(&config).await.unwrap();
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Table::connect(&config).await.unwrap());
    }
    Some((server, all.try_into().ok().unwrap()))
}

fn row(name: &str, new: bool, active: bool) -> RowWrite {
    RowWrite {
        client_ref: ClientRef::new(name).unwrap(),
        new,
        active,
        row: format!("row of {name}").into_bytes(),
        full: (!active).then(|| vec![7; 20 << 10]),
        claim: (!active).then(|| ClaimWrite {
            id: OrderId::new(format!("o-{name}")).unwrap(),
            ended_at: Serial(9),
            claim: format!("claim of {name}").into_bytes(),
        }),
    }
}

fn batch(epoch: u64, from: u64, to: u64, rows: Vec<RowWrite>) -> Batch {
    let standing = format!("after {to}").into_bytes();
    Batch { epoch, from, to, standing, account: None, rows }
}

const LENGTH: Duration = Duration::from_millis(1_000);

#[tokio::test]
async fn largest_batch_is_one_transaction_and_a_repeated_one_is_in_once() {
    let Some((_server, [table, other])) = nodes().await else { return };
    assert_eq!(table.acquire("a", LENGTH).await.unwrap(), Some(1));
    let names: Vec<_> = (0..Table::ROWS_MAX).map(|at| format!("r{at}")).collect();
    let all = |new, active| names.iter().map(|name| row(name, new, active)).collect();
    let accepted = batch(1, 0, 24, all(true, true));
    table.write(&accepted).await.unwrap();
    table.write(&accepted).await.unwrap();
    // Another process repeats it under another token: its count tells.
    other.write(&accepted).await.unwrap();
    assert_eq!(table.load().await.unwrap().active.len(), names.len());
    let mut ended = batch(1, 24, 48, all(false, false));
    ended.account = Some(vec![3; 700 << 10]);
    table.write(&ended).await.unwrap();
    let kept = table.load().await.unwrap();
    assert_eq!((kept.active.len(), kept.account.unwrap().len()), (0, 700 << 10));
    assert_eq!(kept.standing.unwrap(), b"after 48");
    let refs: Vec<_> = ["r3", "none", "r3"].map(|name| ClientRef::new(name).unwrap()).into();
    let found = table.rows(&refs).await.unwrap();
    assert_eq!(found, [Some(vec![7; 20 << 10]), None, Some(vec![7; 20 << 10])]);
    assert_eq!(table.claims_since(Serial(9)).await.unwrap().len(), names.len());
    assert_eq!(table.claims_since(Serial(10)).await.unwrap(), []);
    // The same again, but for one that is there already: nothing of it is written.
    let twice = batch(1, 48, 50, vec![row("new", true, true), row("r3", true, true)]);
    let refused = table.write(&twice).await;
    assert!(matches!(&refused, Err(Fault::Fatal(why)) if why.contains("r3")), "{refused:?}");
    assert_eq!(table.load().await.unwrap().active.len(), 0);
    let mut stolen = row("thief", true, false);
    stolen.claim.as_mut().unwrap().id = OrderId::new("o-r3").unwrap();
    let refused = table.write(&batch(1, 48, 49, vec![stolen])).await;
    assert!(matches!(&refused, Err(Fault::Fatal(why)) if why.contains("claimed")), "{refused:?}");
    let gap = table.write(&batch(1, 49, 50, vec![])).await;
    assert!(matches!(&gap, Err(Fault::Fatal(why)) if why.contains("holds 48")), "{gap:?}");
    table.write(&batch(1, 48, 49, vec![row("new", true, true)])).await.unwrap();
}

#[tokio::test]
async fn lease_is_taken_only_after_it_was_watched_for_as_long_as_it_lasts() {
    let Some((_server, [a, b])) = nodes().await else { return };
    let asked = Asked::now();
    assert_eq!(a.acquire("a", LENGTH).await.unwrap(), Some(1));
    let lease = Lease::taken(crate::store::LeaseTerms::default(), 1, asked);
    assert_eq!(b.acquire("b", LENGTH).await.unwrap(), None);
    tokio::time::sleep(LENGTH / 2).await;
    assert!(a.renew(&lease).await.unwrap());
    // Over since it was taken, but renewed since: it begins anew, from when that was seen.
    tokio::time::sleep(LENGTH * 3 / 4).await;
    assert_eq!(b.acquire("b", LENGTH).await.unwrap(), None, "it was renewed");
    tokio::time::sleep(LENGTH / 2).await;
    assert_eq!(b.acquire("b", LENGTH).await.unwrap(), None, "it was not watched for long enough");
    tokio::time::sleep(LENGTH).await;
    assert_eq!(b.acquire("b", LENGTH).await.unwrap(), Some(2));
    assert!(!a.renew(&lease).await.unwrap(), "another has it");
    a.release(1).await;
    let late = a.write(&batch(1, 0, 1, vec![row("late", true, true)])).await;
    assert!(matches!(&late, Err(Fault::Fatal(why)) if why.contains("taken")), "{late:?}");
    assert_eq!(a.acquire("a", LENGTH).await.unwrap(), None, "a release of epoch 1 frees no other");
    // A node that was started anew, and one that gave it back.
    assert_eq!(b.acquire("b", LENGTH).await.unwrap(), Some(3));
    b.release(3).await;
    assert_eq!(a.acquire("a", LENGTH).await.unwrap(), Some(4));
}

#[tokio::test]
async fn of_many_that_take_a_free_lease_at_once_one_gets_it() {
    let Some((_server, tables)) = nodes::<6>().await else { return };
    for round in 1..=3 {
        let names: Vec<_> = (0..tables.len()).map(|at| format!("node-{at}")).collect();
        let asked = tables.iter().zip(&names).map(|(table, name)| table.acquire(name, LENGTH));
        let told = futures_util::future::join_all(asked).await;
        let won: Vec<_> = told.iter().filter_map(|told| told.as_ref().ok()?.as_ref()).collect();
        assert_eq!(won, [&round], "{told:?}");
        tables[0].release(round).await;
    }
}

#[tokio::test]
async fn requests_are_put_once_read_in_turn_and_settled_with_their_replies() {
    let Some((_server, [a, b])) = nodes().await else { return };
    let request = |at: usize| Request { key: format!("k{at:03}"), order: vec![1; 100] };
    let all: Vec<_> = (0..60).map(request).collect();
    a.put_requests(&all).await.unwrap();
    b.put_requests(&[Request { key: "k000".into(), order: vec![2] }]).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(b.requests(25).await.unwrap());
    }
    assert_eq!(seen.len(), 75);
    assert_eq!(seen[..60], all, "each in its turn, none put twice");
    assert_eq!(seen[60..], all[..15], "and from the first again");
    let settled = all.iter().take(40).enumerate().map(|(at, request)| {
        (request.key.clone(), (at % 2 == 0).then(|| request.key.clone().into_bytes()))
    });
    let settled = settled.collect::<Vec<_>>();
    b.settle_requests(&settled).await.unwrap();
    assert_eq!(a.requests(100).await.unwrap(), all[40..]);
    let keys = ["k002", "k003", "k050", "k002"].map(str::to_owned);
    let replies = a.replies(&keys).await.unwrap();
    assert_eq!(replies, [Some(b"k002".to_vec()), None, None, Some(b"k002".to_vec())]);
    // The service deletes in its own time: what has expired is not given out meanwhile.
    let key = a.keys.reply("k002");
    let old = a.client.update_item().table_name(&a.name).set_key(Some(key.item()));
    let old = old.update_expression("SET expires_at = :old");
    old.expression_attribute_values(":old", items::number(1)).send().await.unwrap();
    assert_eq!(a.replies(&keys[..1]).await.unwrap(), [None]);
}

/// Answers every request so; counts them.
fn answering(status: &'static str, body: String) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 16 << 10];
            if matches!(client.read(&mut request), Ok(1..)) {
                count.fetch_add(1, Ordering::SeqCst);
            }
            let length = body.len();
            let head = "content-type: application/x-amz-json-1.0\r\nconnection: close";
            let _ = write!(
                client,
                "HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}"
            );
        }
    });
    (port, asked)
}

/// What the service says when it is busy passes; and the client asks once, whatever it says.
#[tokio::test]
async fn each_write_is_one_request_and_what_passes_is_told_from_what_does_not() {
    let error = |code: &str, more: &str| {
        format!(
            "{{\"__type\":\"com.amazonaws.dynamodb.v20120810#{code}\",\"message\":\"m\"{more}}}"
        )
    };
    let canceled = |reasons: &[&str]| {
        let reasons: Vec<_> = reasons.iter().map(|r| format!("{{\"Code\":\"{r}\"}}")).collect();
        let more = format!(",\"CancellationReasons\":[{}]", reasons.join(","));
        error("TransactionCanceledException", &more)
    };
    let bad = "400 Bad Request";
    for (status, body, passes) in [
        ("500 Internal Server Error", error("InternalServerError", ""), true),
        ("503 Service Unavailable", String::new(), true),
        (bad, error("ThrottlingException", ""), true),
        (bad, error("ProvisionedThroughputExceededException", ""), true),
        (bad, error("TransactionInProgressException", ""), true),
        (bad, error("ExpiredTokenException", ""), true),
        (bad, canceled(&["TransactionConflict", "None"]), true),
        (bad, canceled(&["TransactionConflict", "ConditionalCheckFailed"]), true),
        (bad, canceled(&["None", "ThrottlingError"]), true),
        ("200 OK", "{\"half".into(), true),
        (bad, canceled(&["None", "ConditionalCheckFailed"]), false),
        (bad, canceled(&["ValidationError", "None"]), false),
        (bad, error("ValidationException", ""), false),
        (bad, error("AccessDeniedException", ""), false),
        (bad, error("ResourceNotFoundException", ""), false),
    ] {
        let (port, asked) = answering(status, body.clone());
        let table = Table::at(&config(port, "orders")).unwrap();
        let told = table.write(&batch(1, 0, 1, vec![row("a", true, true)])).await;
        let as_told = match &told {
            Err(Fault::Passes(_)) => passes,
            Err(Fault::Fatal(_)) => !passes,
            Ok(()) => false,
        };
        assert!(as_told, "{status} {body}: {told:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{status} {body} was asked again");
    }
}
