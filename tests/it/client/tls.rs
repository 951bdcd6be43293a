//! The same over TLS.

use std::sync::Arc;

use order_router::supplier::foxreload::Settings;
use order_router::supplier::{GateState, Supplier};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::fake::{Fake, Reply, Seen, answer};
use super::{CREATED, SENT, answered, broken, client_with, closed, has_yielded, items, open};

/// A certificate of its own for `localhost`: the acceptor, and the PEM to trust.
pub fn certificate() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a server");
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

fn trusting(pem: String) -> Settings {
    let mut settings = Settings::default();
    settings.root_certificates = Some(pem);
    settings
}

#[tokio::test]
async fn closed_gate_lets_nothing_out_over_tls() {
    let (tls, pem) = certificate();
    let mut fake = Fake::start_with([], Some(tls)).await;
    let gate = closed();
    let client = client_with(&fake.https(), trusting(pem));
    let why = broken(client.place(items(), gate.clone()).await);
    assert_eq!((why.as_str(), gate.state()), ("too late", GateState::Closed));
    assert_eq!(fake.next().await, Seen::Ended(0));
}

#[tokio::test]
async fn closed_gate_lets_nothing_out_over_a_reused_tls_connection() {
    let (tls, pem) = certificate();
    let mut fake = Fake::start_with([Reply::Keep(answer(201, "", CREATED))], Some(tls)).await;
    let client = client_with(&fake.https(), trusting(pem));
    let gate = open();
    let first = answered(client.place(items(), gate.clone()).await);
    assert_eq!(first.body.as_deref(), Some(CREATED.as_bytes()));
    assert!(has_yielded(&gate));
    let (head, body) = fake.request().await;
    assert_eq!(body, SENT);
    let gate = closed();
    broken(client.place(items(), gate.clone()).await);
    assert_eq!(gate.state(), GateState::Closed);
    drop(client);
    assert_eq!(fake.next().await, Seen::Ended(head.len() + 4 + body.len()));
    assert!(fake.is_quiet(), "the connection was reused");
}

#[tokio::test]
async fn close_over_tls_breaks_and_sends_once() {
    let (tls, pem) = certificate();
    let mut fake = Fake::start_with([Reply::Close(String::new())], Some(tls)).await;
    let gate = open();
    let client = client_with(&fake.https(), trusting(pem));
    assert_eq!(broken(client.place(items(), gate.clone()).await), "closed");
    assert!(has_yielded(&gate));
    fake.request().await;
    assert!(matches!(fake.next().await, Seen::Ended(_)));
    drop(client);
    assert!(fake.is_quiet(), "one connection, one request");
}

#[tokio::test]
async fn certificate_that_is_not_trusted_never_asks_the_gate() {
    let (tls, _) = certificate();
    let (_, other) = certificate();
    let mut fake = Fake::start_with([], Some(tls)).await;
    let gate = open();
    let client = client_with(&fake.https(), trusting(other));
    let why = broken(client.place(items(), gate.clone()).await);
    assert_eq!((why.as_str(), gate.state()), ("tls", GateState::Closed));
    assert_eq!(fake.next().await, Seen::Ended(0));
}

#[tokio::test]
async fn certificate_of_another_host_never_asks_the_gate() {
    let (tls, pem) = certificate();
    let fake = Fake::start_with([], Some(tls)).await;
    let gate = open();
    let client = client_with(&format!("https://{}", fake.address), trusting(pem));
    let why = broken(client.place(items(), gate.clone()).await);
    assert_eq!((why.as_str(), gate.state()), ("tls", GateState::Closed));
}
