//! What an error may show beside its code.

use super::*;

#[test]
fn refusal_that_shows_an_order_anywhere_is_unknown() {
    for body in [
        r#"{"code":"X","order":{"id":"o-1","items":[]}}"#,
        r#"{"code":"X","data":[{"order":{"id":"o-1","items":null}}]}"#,
        r#"{"code":{"code":"X","id":"o-1","items":[{"itemId":"p"}]}}"#,
        r#"{"code":"X","order":{"id":"","items":[{"id":"o-1","items":0}]}}"#,
    ] {
        check(400, body, "unknown, hint o-1");
    }
    check(400, r#"{"code":"X","order":{"id":17,"items":[]}}"#, "unknown, hint 17");
    // An id alone may be that of the request, and lines alone may be those that were sent.
    for body in [
        r#"{"code":"X","id":"o-1"}"#,
        r#"{"code":"X","order":{"id":"o-1"}}"#,
        r#"{"code":"X","order":{"items":[{"product":{"id":"p"}}]}}"#,
    ] {
        check(400, body, "refused X, CountsAsRefusal");
    }
}

#[test]
fn refusal_with_an_id_in_the_envelope_of_an_order_is_unknown() {
    let mut policy = EvidencePolicy::default();
    policy.format.envelope = Some("order".into());
    let judged = |body| line(&Case { policy: policy.clone(), ..case(400, body) }.judge());
    assert_eq!(judged(r#"{"code":"X","order":{"id":"o-1"}}"#), "unknown, hint o-1");
    assert_eq!(judged(r#"{"code":"X","id":"o-1","items":[]}"#), "unknown, hint o-1");
    assert_eq!(judged(r#"{"code":"X","order":{"id":null}}"#), "refused X, CountsAsRefusal");
}

#[test]
fn the_supplier_speaks_in_a_json_error_alone() {
    assert!(is_json_error(br#"{"code":"X"}"#));
    assert!(is_json_error(br#"{"detail":"a sentence"}"#));
    for body in [&b""[..], b"<html>", b"{}", br#"{"code":""}"#, br#"{"id":"o-1"}"#, b"[]"] {
        assert!(!is_json_error(body), "{body:?}");
    }
}

#[test]
fn a_rate_limit_that_shows_an_order_is_unknown() {
    let judged = |body: &'static str| {
        let retry_after = Some(Duration::from_secs(5));
        line(&Case { retry_after, ..case(429, body) }.judge())
    };
    assert!(judged("").starts_with("not sent"));
    assert!(judged(r#"{"id":"o-1","items":[]}"#).starts_with("unknown"));
    assert!(judged(r#"{"order":{"id":7,"items":[]}}"#).starts_with("unknown"));
    assert!(judged(r#"{"code":"X","order":{"id":"o-1","items":[]}}"#).starts_with("unknown"));
}
