//! Stores and the gate over TLS, with the servers' own.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use order_router::shared_gate;
use order_router::store::IntentStore;
use order_router::store::postgres::{PostgresConfig, PostgresError, PostgresStore};
use order_router::store::redis::{RedisConfig, RedisError, RedisStore};
use tempfile::TempDir;

use super::postgres::{accept, find};
use super::servers::{PASSWORD, Postgres, Redis, as_servers, unprivileged_dir};

/// A server's certificate and key, in files that the servers may read.
struct Certificate {
    dir: TempDir,
}

impl Certificate {
    fn of(name: &str) -> Self {
        let dir = unprivileged_dir();
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let this = Self { dir };
        for (file, text) in [("cert", made.cert.pem()), ("key", made.signing_key.serialize_pem())] {
            let path = this.path(file);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            as_servers(&path);
        }
        this
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// The parameter that trusts it alone.
    fn trusted(&self) -> String {
        format!("sslrootcert={}", self.path("cert").display())
    }
}

#[tokio::test]
async fn postgres_over_tls_is_checked_by_certificate_and_name() {
    let (good, other) = (Certificate::of("127.0.0.1"), Certificate::of("127.0.0.1"));
    let [cert, key] = ["cert", "key"].map(|file| good.path(file).display().to_string());
    let files = [format!("ssl_cert_file = '{cert}'"), format!("ssl_key_file = '{key}'")];
    let Some(server) = Postgres::start(&["ssl = on", &files[0], &files[1]]) else { return };
    let over_tls = || {
        let text = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                    WHERE ssl AND application_name LIKE 'order-router%'";
        server.sql(text).parse::<u32>().unwrap()
    };
    let plain = PostgresConfig::new(&server.url("plain")).expect("a URL");
    let store = PostgresStore::open(plain).await.expect("opens");
    assert_eq!(over_tls(), 0);
    drop(store);
    let url = format!("{}&sslmode=verify-full&{}", server.url("tls"), good.trusted());
    let store = PostgresStore::open(PostgresConfig::new(&url).expect("a URL")).await;
    let store = store.expect("opens");
    store.commit(accept(&store, "r1").0).await.expect("works");
    assert!(find(&store, "r1").await.is_some());
    assert!(over_tls() > 0);
    drop(store);
    // Somebody else's certificate, nobody's that the system trusts, another name.
    let url = server.url("tls");
    for url in [
        format!("{url}&sslmode=require&{}", other.trusted()),
        format!("{url}&sslmode=require"),
        format!("{url}&sslmode=require&{}", good.trusted()).replace("127.0.0.1", "localhost"),
    ] {
        let error = PostgresStore::open(PostgresConfig::new(&url).expect("a URL")).await;
        let Err(PostgresError::Unreachable { why, .. }) = error else { panic!("{url} opens") };
        assert!(why.contains("certificate"), "{why}");
        assert!(!why.contains(PASSWORD));
    }
}

#[tokio::test]
async fn postgres_without_tls_is_not_talked_to_where_tls_is_wanted() {
    let Some(server) = Postgres::start(&[]) else { return };
    let url = format!("{}&sslmode=require", server.url("tls"));
    let error = PostgresStore::open(PostgresConfig::new(&url).expect("a URL")).await;
    let Err(PostgresError::Unreachable { why, .. }) = error else { panic!("it opens") };
    assert!(why.contains("TLS"), "{why}");
}

/// A Redis with TLS on its second port.
fn redis(certificate: &Certificate) -> Option<Redis> {
    let [cert, key] = ["cert", "key"].map(|file| certificate.path(file).display().to_string());
    Redis::start(&[
        "tls-port BUS",
        &format!("tls-cert-file {cert}"),
        &format!("tls-key-file {key}"),
        &format!("tls-ca-cert-file {cert}"),
        "tls-auth-clients no",
    ])
}

#[tokio::test]
async fn redis_over_tls_is_checked_by_certificate_and_name() {
    let (good, other) = (Certificate::of("127.0.0.1"), Certificate::of("127.0.0.1"));
    let Some(server) = redis(&good) else { return };
    let url = server.url_at(server.bus, "tls").replace("redis://", "rediss://");
    let open = async |url: &str| RedisStore::open(RedisConfig::new(url).expect("a URL")).await;
    let store = open(&format!("{url}&{}", good.trusted())).await.expect("opens");
    store.commit(accept(&*store, "r1").0).await.expect("works");
    assert!(find(&*store, "r1").await.is_some());
    drop(store);
    for url in [
        format!("{url}&{}", other.trusted()),
        url.clone(),
        format!("{url}&{}", good.trusted()).replace("127.0.0.1", "localhost"),
        // No TLS is spoken on the other port, and nothing else on this one.
        format!("{}&{}", server.url("tls"), good.trusted()).replace("redis://", "rediss://"),
        server.url_at(server.bus, "tls"),
    ] {
        let error = open(&url).await.map(drop).expect_err("a store that must not open");
        let passes = matches!(error, RedisError::Unreachable { .. } | RedisError::Unusable { .. });
        assert!(passes, "{url}: {error:?}");
        assert!(!error.to_string().contains(PASSWORD));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gate_in_redis_over_tls_is_checked_too() {
    let (good, other) = (Certificate::of("127.0.0.1"), Certificate::of("127.0.0.1"));
    let Some(server) = redis(&good) else { return };
    let url = server.url_at(server.bus, "tls").replace("redis://", "rediss://");
    for (certificate, answers) in [(&good, true), (&other, false)] {
        let (gate, namespace) =
            shared_gate::connect(&format!("{url}&{}", certificate.trusted())).expect("a URL");
        assert_eq!(namespace, "tls");
        let question = shared_gate::Question::Add("here".into());
        let asked = gate.ask("key".to_owned(), question, Duration::from_secs(60)).await;
        assert_eq!(asked.is_ok(), answers, "{asked:?}");
    }
}
