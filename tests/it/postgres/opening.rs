//! What is met when a store is opened: each thing has its own message, none shows the password.

use super::*;

/// The error of opening; it never shows the password.
async fn refused(config: PostgresConfig) -> PostgresError {
    let error = PostgresStore::open(config).await.expect_err("it does not open");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(PASSWORD) && !shown.contains("canary"), "{shown}");
    error
}

#[tokio::test]
async fn server_that_is_down_or_refuses_is_told_apart() {
    let Some(server) = Postgres::shared() else { return };
    let nobody = config(&server.url_at(free_port(), "s"));
    let down = refused(nobody).await;
    assert!(matches!(&down, PostgresError::Unreachable { .. }), "{down:?}");
    assert!(down.to_string().contains("127.0.0.1"), "{down}");
    let url = server.url("s");
    for (from, to) in
        [(PASSWORD, "canary-wrong"), ("router:", "nobody:"), ("/postgres?", "/no_such_database?")]
    {
        let error = refused(config(&url.replace(from, to))).await;
        assert!(matches!(error, PostgresError::Refused { .. }), "{to}: {error:?}");
    }
    assert_eq!(server.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 's'"), "0");
}

#[tokio::test]
async fn server_that_does_not_answer_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut config = config(&format!("postgres://u:{PASSWORD}@127.0.0.1:{port}/d"));
    config.reply_timeout = Duration::from_millis(200);
    let error = refused(config).await;
    assert!(matches!(&error, PostgresError::Unreachable { why, .. } if why.contains("200ms")));
}

#[tokio::test]
async fn second_router_on_a_schema_is_refused_and_another_schema_is_not() {
    let Some(server) = Postgres::shared() else { return };
    let (name, other) = (schema(), schema());
    let first = open(&server.url(&name)).await;
    let second = refused(config(&server.url(&name))).await;
    assert!(matches!(second, PostgresError::InUse { pid: Some(_), .. }), "{second:?}");
    let beside = open(&server.url(&other)).await;
    for store in [&first, &beside] {
        let told = store.commit(accept(store, "same").0).await.expect("works");
        assert_eq!(told, Committed::Done);
    }
    first.close().await.expect("closes");
    open(&server.url(&name)).await;
}

#[tokio::test]
async fn tables_of_an_older_version_are_migrated_and_of_a_newer_refused() {
    let Some(server) = Postgres::shared() else { return };
    let name = schema();
    let store = open(&server.url(&name)).await;
    let (change, id, seq) = accept(&store, "kept");
    assert_eq!(store.commit(change).await.expect("works"), Committed::Done);
    assert_eq!(store.commit(placed((id, seq), "o1")).await.expect("works"), Committed::Done);
    drop(store);
    // Version 2 brought an index, version 3 the lease and requests, version 4 a migration's mark,
    // version 5 payments, version 6 what is spent.
    server.sql(&format!(
        "DROP INDEX {name}.order_intents_claimed; DROP TABLE {name}.order_router_requests; \
         ALTER TABLE {name}.order_router DROP COLUMN epoch, DROP COLUMN lease_until, \
         DROP COLUMN lease_pause, DROP COLUMN mark, DROP COLUMN mark_place, \
         DROP COLUMN spent_now, DROP COLUMN spent_wall, DROP COLUMN spent_supplier; \
         DROP TABLE {name}.order_router_spent; \
         ALTER TABLE {name}.order_intents DROP COLUMN pay_step, DROP COLUMN pays, \
         DROP COLUMN pay_tries; DELETE FROM {name}.order_router_schema WHERE version > 1"
    ));
    let store = open(&server.url(&name)).await;
    let versions = format!("SELECT max(version) FROM {name}.order_router_schema");
    assert_eq!(server.sql(&versions), "6");
    let index = format!(
        "SELECT count(*) FROM pg_indexes WHERE schemaname = '{name}' \
        AND indexname = 'order_intents_claimed'"
    );
    assert_eq!(server.sql(&index), "1");
    assert_eq!(store.known_since(Serial(0)).await.expect("works").len(), 1);
    drop(store);
    server.sql(&format!("INSERT INTO {name}.order_router_schema VALUES (7)"));
    let error = refused(config(&server.url(&name))).await;
    let newer = matches!(error, PostgresError::NewerVersion { found: 7, known: 6 });
    assert!(newer, "{error:?}");
}

#[tokio::test]
async fn tables_that_are_missing_or_emptied_are_not_made_anew() {
    let Some(server) = Postgres::shared() else { return };
    for damage in ["DROP TABLE NAME.order_intents", "DELETE FROM NAME.order_router"] {
        let name = schema();
        drop(open(&server.url(&name)).await);
        server.sql(&damage.replace("NAME", &name));
        let error = refused(config(&server.url(&name))).await;
        assert!(matches!(error, PostgresError::Unusable { .. }), "{damage}: {error:?}");
    }
}

#[tokio::test]
async fn database_that_is_read_only_or_of_another_encoding_is_refused() {
    let Some(server) = Postgres::shared() else { return };
    server.sql("CREATE DATABASE readonly");
    server.sql("ALTER DATABASE readonly SET default_transaction_read_only = on");
    server.sql(
        "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    );
    let at =
        |database: &str| config(&server.url("s").replace("/postgres?", &format!("/{database}?")));
    let error = refused(at("readonly")).await;
    assert!(matches!(error, PostgresError::ReadOnly { .. }), "{error:?}");
    let error = refused(at("latin")).await;
    assert!(
        matches!(&error, PostgresError::Unusable { why, .. } if why.contains("UTF8")),
        "{error:?}"
    );
}

/// A user without rights, and what the weaker settings of a session become.
#[tokio::test]
async fn user_without_rights_is_told_what_is_missing() {
    let Some(server) = Postgres::shared() else { return };
    server.sql(&format!("CREATE ROLE weak LOGIN PASSWORD '{PASSWORD}'"));
    let url = server.url(&schema()).replace("router:", "weak:");
    let error = refused(config(&url)).await;
    assert!(
        matches!(&error, PostgresError::Unusable { why, .. } if why.contains("CREATE")),
        "{error:?}"
    );
}

#[tokio::test]
async fn weaker_commits_are_forced_to_be_synced() {
    let Some(server) = Postgres::shared() else { return };
    server.sql("CREATE DATABASE lazy");
    server.sql("ALTER DATABASE lazy SET synchronous_commit = off");
    let name = schema();
    let store = open(&server.url(&name).replace("/postgres?", "/lazy?")).await;
    assert_eq!(store.durability(), Durability::Synced);
    assert_eq!(store.commit(accept(&store, "a").0).await.expect("works"), Committed::Done);
}

#[tokio::test]
async fn server_that_does_not_sync_is_refused_unless_that_is_accepted() {
    let Some(server) = Postgres::start(&["fsync = off"]) else { return };
    let error = refused(config(&server.url("s"))).await;
    let named = matches!(&error, PostgresError::Unsynced { setting, .. } if setting == "fsync=off");
    assert!(named, "{error:?}");
    let mut config = config(&server.url("s"));
    config.accept_unsynced = true;
    let store = PostgresStore::open(config).await.expect("opens");
    assert_eq!(store.durability(), Durability::Unsynced);
}
