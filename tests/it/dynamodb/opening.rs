//! What is met when a store is opened: each thing has its own message, none shows a key.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

/// The error of opening; it never shows a key.
async fn refused(config: DynamoDbConfig) -> DynamoDbError {
    assert!(!format!("{config:?}").contains("canary"), "{config:?}");
    let error = dynamodb::open(config).await.map(|_| ()).expect_err("it does not open");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(SECRET_KEY) && !shown.contains("canary"), "{shown}");
    error
}

/// A server that answers everything so.
fn answering(answer: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 8192];
            let _ = client.read(&mut request);
            let _ = client.write_all(answer.as_bytes());
        }
    });
    port
}

fn http(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}

/// What the service says of a request that it refuses.
fn refusing(code: &str, message: &str) -> u16 {
    let body =
        format!("{{\"__type\":\"com.amazon.coral.service#{code}\",\"message\":\"{message}\"}}");
    answering(http("400 Bad Request", "application/x-amz-json-1.0", &body))
}

#[tokio::test]
async fn table_that_is_missing_is_told_with_the_command_that_makes_it() {
    let Some(server) = DynamoDb::shared() else { return };
    let (name, url) = {
        let name = table();
        (name.clone(), server.url(&name))
    };
    let error = refused(config(&url)).await;
    assert!(matches!(error, DynamoDbError::MissingTable { .. }), "{error:?}");
    let shown = error.to_string();
    let (_, command) = shown.split_once("order-router store create --store \"").expect("a command");
    // What it names is this table.
    let named = config(command.trim_end_matches(['"', '`']));
    create_table(&named).await.expect("makes it");
    create_table(&named).await.expect("it is there already");
    dynamodb::open(named).await.expect("opens").close().await.expect("closes");
    let raw = Raw::at(server.port, &name);
    let told = raw.0.describe_time_to_live().table_name(&name).send().await.expect("works");
    let told = told.time_to_live_description.expect("told");
    assert_eq!(told.attribute_name(), Some("expires_at"));
    assert_eq!(told.time_to_live_status().expect("one").as_str(), "ENABLED");
}

#[tokio::test]
async fn table_with_other_keys_is_refused() {
    use aws_sdk_dynamodb::types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    };
    let Some(server) = DynamoDb::shared() else { return };
    let (name, url) = {
        let name = table();
        (name.clone(), server.url(&name))
    };
    let raw = Raw::at(server.port, &name);
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash);
    let attribute = AttributeDefinition::builder().attribute_name("id");
    let attribute = attribute.attribute_type(ScalarAttributeType::S).build().unwrap();
    let made = raw.0.create_table().table_name(&name).billing_mode(BillingMode::PayPerRequest);
    let made = made.key_schema(key.build().unwrap()).attribute_definitions(attribute);
    made.send().await.expect("made");
    let error = create_table(&config(&url)).await.expect_err("another table");
    let named = matches!(&error, DynamoDbError::Unusable { why, .. } if why.contains("other keys"));
    assert!(named, "{error:?}");
    let error = refused(config(&url)).await;
    assert!(matches!(error, DynamoDbError::Unusable { .. }), "{error:?}");
}

#[tokio::test]
async fn server_that_is_down_or_silent_is_not_reached() {
    let nobody = config(&dynamodb_at(free_port(), "nobody"));
    let down = refused(nobody).await;
    assert!(matches!(down, DynamoDbError::Unreachable { .. }), "{down:?}");
    assert!(down.to_string().contains("127.0.0.1"), "{down}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut silent = config(&dynamodb_at(listener.local_addr().unwrap().port(), "silent"));
    silent.reply_timeout = Duration::from_millis(200);
    let silent = refused(silent).await;
    assert!(matches!(silent, DynamoDbError::Unreachable { .. }), "{silent:?}");
}

#[tokio::test]
async fn server_of_another_kind_is_no_store() {
    for answer in [
        http("404 Not Found", "text/html", "<html>nginx</html>"),
        http("200 OK", "text/html", "<html>hello</html>"),
        "-ERR unknown command\r\n".to_owned(),
    ] {
        let error = refused(config(&dynamodb_at(answering(answer.clone()), "other"))).await;
        let told =
            matches!(error, DynamoDbError::Unusable { .. } | DynamoDbError::Unreachable { .. });
        assert!(told, "{answer}: {error:?}");
    }
}

#[tokio::test]
async fn keys_that_are_refused_are_told_by_the_code_alone() {
    // The service repeats the headers that it was sent.
    let canonical = "The Canonical String was x-amz-security-token:canary-token canary-53cr3t";
    for code in
        ["UnrecognizedClientException", "InvalidSignatureException", "AccessDeniedException"]
    {
        let error = refused(config(&dynamodb_at(refusing(code, canonical), "closed"))).await;
        let told = matches!(&error, DynamoDbError::Refused { why, .. } if why == code);
        assert!(told, "{code}: {error:?}");
    }
}

#[tokio::test]
async fn newer_version_is_refused_and_left_as_it_is() {
    let Some(server) = DynamoDb::shared() else { return };
    let (name, url) = {
        let name = table();
        (name.clone(), server.url(&name))
    };
    made(&url).await.close().await.expect("closes");
    let raw = Raw::at(server.port, &name);
    raw.set("meta", "format_version", 2).await;
    let error = refused(config(&url)).await;
    let newer = matches!(error, DynamoDbError::NewerVersion { found: 2, known: 1 });
    assert!(newer, "{error:?}");
    assert_eq!(raw.number("meta", "lease_epoch").await, 1);
}

#[tokio::test]
async fn lease_whose_terms_leave_no_time_to_send_is_refused() {
    let mut config = config(&dynamodb_at(1, "orders"));
    config.lease.margin = config.lease.length;
    assert!(matches!(refused(config).await, DynamoDbError::Terms(_)));
}

/// The holder lives: whoever comes second sees it renew, and is refused before a lease is over.
#[tokio::test]
async fn second_router_is_refused_while_the_first_renews_and_let_in_after_it_closed() {
    let Some(server) = DynamoDb::shared() else { return };
    let url = server.url(&table());
    create_table(&config(&url)).await.expect("makes the table");
    let mut terms = config(&url);
    terms.lease.length = Duration::from_secs(3);
    let first = dynamodb::open(terms.clone()).await.expect("opens");
    let begun = std::time::Instant::now();
    let error = refused(config(&url)).await;
    let DynamoDbError::InUse { holder, .. } = &error else { panic!("{error:?}") };
    assert!(holder.contains(&format!("process {}", std::process::id())), "{error}");
    assert!(begun.elapsed() < terms.lease.length, "{:?}", begun.elapsed());
    done(&*first, accept(&*first, "mine").0).await;
    first.close().await.expect("closes");
    let begun = std::time::Instant::now();
    let second = dynamodb::open(config(&url)).await.expect("it was given back");
    assert!(begun.elapsed() < terms.lease.length, "{:?}", begun.elapsed());
    assert!(find(&*second, "mine").await.is_some());
    assert_eq!(second.durability(), Durability::Synced);
}
