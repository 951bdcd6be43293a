//! One test per row of the table, and the sweeps that say: nothing else.

use proptest::prelude::*;

use super::*;

mod shown;
mod tags;

const OURS: &str = r#"{"id":"o-1","status":"active","createdAt":"2026-01-31T12:00:00Z"}"#;

fn items() -> Vec<Item> {
    vec![
        Item::new("p-1", 2).expect("an item"),
        Item::new("p-2", 1).expect("an item"),
        Item::new("p-1", 1).expect("an item"),
    ]
}

fn yielded() -> GateState {
    GateState::Yielded(Moment::ORIGIN)
}

struct Case<'a> {
    gate: GateState,
    status: u16,
    retry_after: Option<Duration>,
    body: Option<&'a [u8]>,
    policy: EvidencePolicy,
    echo: EchoProfile,
    known: Option<&'a str>,
}

impl Case<'_> {
    fn judge(&self) -> Judgement {
        let items = items();
        let evidence = Evidence {
            gate: self.gate,
            exchange: Seen::Answer {
                status: self.status,
                retry_after: self.retry_after,
                body: self.body,
            },
            items: &items,
            echo: self.echo,
        };
        judge(&evidence, &self.policy, |id| self.known == Some(id.as_str()))
    }
}

fn case(status: u16, body: &str) -> Case<'_> {
    Case {
        gate: yielded(),
        status,
        retry_after: None,
        body: Some(body.as_bytes()),
        policy: EvidencePolicy::default(),
        echo: EchoProfile::default(),
        known: None,
    }
}

/// The judgement in one line: outcome, account, hint.
fn line(judgement: &Judgement) -> String {
    let outcome = match &judgement.outcome {
        Outcome::Created { id, created_at } => {
            format!("created {id}{}", created_at.map_or(String::new(), |at| format!(" {at}")))
        }
        Outcome::Refused(why) => format!("refused {why}"),
        Outcome::NotSent(why) => format!("not sent {why}"),
        Outcome::Unknown(_) => "unknown".to_owned(),
    };
    let account = match judgement.account {
        AccountEffect::None => String::new(),
        other => format!(", {other:?}"),
    };
    let hint = judgement.hint.as_ref().map_or(String::new(), |id| format!(", hint {id}"));
    format!("{outcome}{account}{hint}")
}

#[track_caller]
fn check(status: u16, body: &str, expected: &str) {
    assert_eq!(line(&case(status, body).judge()), expected, "{status} {body}");
}

#[track_caller]
fn check_items(shown: &str, echo: EchoProfile, expected: &str) {
    let body = format!(r#"{{"id":"o-1","items":{shown}}}"#);
    assert_eq!(line(&Case { echo, ..case(201, &body) }.judge()), expected, "{shown}");
}

fn broken(gate: GateState) -> Judgement {
    let items = items();
    let why = "reset".into();
    let evidence = Evidence {
        gate,
        exchange: Seen::Broken { why: &why },
        items: &items,
        echo: EchoProfile::default(),
    };
    judge(&evidence, &EvidencePolicy::default(), |_| false)
}

#[test]
fn closed_gate_proves_not_sent_whatever_came_back() {
    assert_eq!(line(&broken(GateState::Closed)), "not sent reset");
    for status in 0..=1000 {
        let judgement = Case { gate: GateState::Closed, ..case(status, OURS) }.judge();
        assert_eq!(line(&judgement), "not sent answered before it was sent", "{status}");
    }
}

#[test]
fn open_gate_proves_nothing() {
    assert_eq!(line(&broken(GateState::Unasked)), "unknown");
    let judgement = Case { gate: GateState::Unasked, ..case(400, r#"{"code":"X"}"#) }.judge();
    assert_eq!(line(&judgement), "unknown");
}

#[test]
fn nothing_back_after_the_gate_yielded_is_unknown() {
    assert_eq!(line(&broken(yielded())), "unknown");
    assert_eq!(broken(yielded()).outcome, Outcome::Unknown("reset".into()));
}

#[test]
fn created_with_a_new_id_is_created() {
    check(201, OURS, "created o-1 2026-01-31T12:00:00Z");
    check(201, r#"{"id":"o-1","createdAt":"yesterday"}"#, "created o-1");
    check(201, r#"{"id":17}"#, "created 17");
    check(201, r#" {"id":"\u00e9","items":null} "#, "created é");
}

#[test]
fn created_that_a_list_had_shown_before_is_an_alarm() {
    let judgement = Case { known: Some("o-1"), ..case(201, OURS) }.judge();
    assert_eq!(line(&judgement), "unknown, Alarm(IdSeenBefore), hint o-1");
    let judgement = Case { known: Some("o-1"), ..case(202, OURS) }.judge();
    assert_eq!(line(&judgement), "unknown, Alarm(IdSeenBefore), hint o-1");
}

#[test]
fn created_with_the_items_sent_is_ours_in_any_order_and_spelling() {
    let echo = EchoProfile::default();
    for shown in [
        r#"[{"product":{"id":"p-1"},"quantity":3},{"product":{"id":"p-2"},"quantity":1}]"#,
        r#"[{"itemId":"p-2","quantity":"1.0"},{"itemId":"p-1","quantity":3.0,"note":5}]"#,
        r#"[{"itemId":"p-1","product":{"id":"p-1"},"quantity":2},{"itemId":"p-1","quantity":"1"},
            {"product":{"id":"p-2","name":"x"},"quantity":1,"error":null}]"#,
        r#"[{"itemId":"p-1"},{"itemId":"p-1"},{"itemId":"p-2"}]"#,
        "null",
    ] {
        check_items(shown, echo, "created o-1");
    }
}

#[test]
fn created_with_other_items_is_an_alarm() {
    let echo = EchoProfile::default();
    for shown in [
        r#"[{"itemId":"p-1","quantity":2},{"itemId":"p-2","quantity":1}]"#,
        r#"[{"itemId":"p-9","quantity":1}]"#,
        r#"[{"itemId":"p-1"},{"itemId":"p-1"},{"itemId":"p-3"}]"#,
    ] {
        check_items(shown, echo, "unknown, Alarm(OtherItems), hint o-1");
    }
}

#[test]
fn created_with_items_that_cannot_be_read_is_unknown() {
    let echo = EchoProfile::default();
    for shown in [
        "[]",
        "{}",
        r#""p-1""#,
        r#"[{"quantity":1}]"#,
        r#"[{"itemId":"p-1","product":{"id":"p-2"},"quantity":3}]"#,
        r#"[{"itemId":"p-1","quantity":1.5}]"#,
        r#"[{"itemId":"p-1","quantity":-1}]"#,
        r#"[{"itemId":"p-1","quantity":1e0}]"#,
        r#"[{"itemId":"p-1","quantity":99999999999}]"#,
        r#"[{"itemId":"p-1","quantity":3},{"itemId":"p-2"}]"#,
    ] {
        check_items(shown, echo, "unknown, hint o-1");
    }
}

#[test]
fn created_with_another_note_is_an_alarm_where_notes_are_echoed() {
    let echo = EchoProfile { note: true, quantity: true, tag: None };
    let shown = r#"[{"itemId":"p-1","quantity":3,"note":{"player":"x"}},
        {"itemId":"p-2","quantity":1}]"#;
    check_items(shown, echo, "unknown, Alarm(OtherItems), hint o-1");
    check_items(shown, EchoProfile::default(), "created o-1");
    let no_quantity = EchoProfile { note: false, quantity: false, tag: None };
    let shown = r#"[{"itemId":"p-1","quantity":9},{"itemId":"p-1"},{"itemId":"p-2"}]"#;
    check_items(shown, no_quantity, "created o-1");
}

#[test]
fn success_without_a_readable_id_is_unknown() {
    for body in [
        "",
        " ",
        "{}",
        r#"{"id":null}"#,
        r#"{"id":""}"#,
        r#"{"id":{"x":1}}"#,
        r#"{"id":-4}"#,
        r#"{"id":"o-1","id":"o-2"}"#,
        r#"{"id":"o-1""#,
        r#"{"id":"o-1"} trailing"#,
        r#"[{"id":"o-1"}]"#,
        r#"{"order":{"id":"o-1"}}"#,
    ] {
        for status in [200, 201, 202, 204] {
            check(status, body, "unknown");
        }
    }
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(256));
    check(201, &long, "unknown");
}

#[test]
fn success_with_a_page_is_not_the_supplier() {
    check(201, "<html>", "unknown, Pause(NotTheSupplier(201))");
    check(200, "\n OK", "unknown, Pause(NotTheSupplier(200))");
}

#[test]
fn success_cut_off_is_unknown() {
    assert_eq!(line(&Case { body: None, ..case(201, "") }.judge()), "unknown");
}

#[test]
fn ok_and_accepted_create_only_by_setting() {
    let policy = EvidencePolicy { ok_and_accepted_create: true, ..EvidencePolicy::default() };
    for status in [200, 202] {
        check(status, OURS, "unknown, hint o-1");
        let judgement = Case { policy: policy.clone(), ..case(status, OURS) }.judge();
        assert_eq!(line(&judgement), "created o-1 2026-01-31T12:00:00Z");
    }
    for status in [203, 204, 206, 299] {
        let judgement = Case { policy: policy.clone(), ..case(status, OURS) }.judge();
        assert_eq!(line(&judgement), "unknown, hint o-1", "{status}");
    }
}

#[test]
fn order_inside_an_envelope_is_found_where_the_setting_says() {
    let format = OrderFormat { envelope: Some("order".into()), ..OrderFormat::default() };
    let policy = EvidencePolicy { format, ..EvidencePolicy::default() };
    let inside = format!(r#"{{"order":{OURS}}}"#);
    let judgement = Case { policy: policy.clone(), ..case(201, &inside) }.judge();
    assert_eq!(line(&judgement), "created o-1 2026-01-31T12:00:00Z");
    assert_eq!(line(&Case { policy, ..case(201, OURS) }.judge()), "unknown");
}

#[test]
fn refusal_in_the_suppliers_words_is_refused() {
    for status in [400, 404, 405, 413, 415, 422] {
        for (body, why) in [
            (r#"{"code":"OFFER_NOT_FOUND","detail":"secret player 7"}"#, "OFFER_NOT_FOUND"),
            (r#"{"error":{"code":"BAD_NOTE"}}"#, "BAD_NOTE"),
            (r#"{"error":"VALIDATION"}"#, "VALIDATION"),
            (r#"{"code":"no such player 7"}"#, &*format!("status {status}")),
            (r#"{"detail":"PLAYER_7"}"#, &*format!("status {status}")),
            (r#"{"message":["x"]}"#, &*format!("status {status}")),
        ] {
            check(status, body, &format!("refused {why}, CountsAsRefusal"));
        }
        let page = format!("unknown, Pause(NotTheSupplier({status}))");
        for body in ["", "<html>", "{}", "[]", r#"{"error":null}"#, r#"{"code":""}"#, r#""no""#] {
            check(status, body, &page);
        }
        assert_eq!(line(&Case { body: None, ..case(status, "") }.judge()), page);
    }
}

#[test]
fn code_that_is_too_long_or_no_code_is_not_shown() {
    let long = format!(r#"{{"code":"{}"}}"#, "X".repeat(65));
    check(422, &long, "refused status 422, CountsAsRefusal");
    check(422, r#"{"code":"A-B"}"#, "refused status 422, CountsAsRefusal");
    check(422, r#"{"code":17}"#, "refused 17, CountsAsRefusal");
}

#[test]
fn refusal_that_shows_an_order_is_unknown() {
    let body = r#"{"code":"X","id":"o-1","items":[]}"#;
    check(400, body, "unknown, hint o-1");
    check(404, body, "unknown, hint o-1");
    check(401, body, "unknown, hint o-1");
    check(429, body, "unknown, hint o-1");
}

#[test]
fn price_guard_is_refused_and_is_nobodys_fault() {
    let body = r#"{"code":"OFFER_PRICE_NOT_MATCHED"}"#;
    for status in [400, 404, 405, 409, 413, 415, 422] {
        check(status, body, "refused OFFER_PRICE_NOT_MATCHED");
    }
    check(500, body, "unknown");
    check(418, body, "unknown, Pause(NotTheSupplier(418))");
}

#[test]
fn balance_is_unknown_and_pauses() {
    check(402, "", "unknown, Pause(Balance)");
    check(402, "<html>", "unknown, Pause(Balance)");
    check(402, r#"{"code":"X"}"#, "unknown, Pause(Balance)");
    for code in ["BALANCE_NOT_ENOUGH", "ORDER_PAYMENT_NOT_POSSIBLE", "balance_low"] {
        for field in ["code", "error", "message", "detail"] {
            for status in [400, 401, 402, 403, 404, 409, 422, 429] {
                let body = format!(r#"{{"{field}":"{code}"}}"#);
                check(status, &body, "unknown, Pause(Balance)");
            }
        }
    }
}

#[test]
fn balance_is_seen_wherever_the_code_is_and_not_in_the_name_of_a_product() {
    for body in [
        r#"{"message":"no","errors":[{"code":"BALANCE_LOW"}]}"#,
        r#"{"detail":[{"x":{"y":"insufficient_balance"}}]}"#,
        r#"{"code":"InsufficientBalance"}"#,
        r#"{"message":"BALANCE_NOT_ENOUGH: please top up"}"#,
    ] {
        check(400, body, "unknown, Pause(Balance)");
    }
    let body = r#"{"message":"no offer for Steam Balance 5","slug":"steam-balance-5"}"#;
    check(400, body, "refused status 400, CountsAsRefusal");
}

#[test]
fn balance_is_not_sent_only_by_setting_and_in_the_suppliers_words() {
    let policy = EvidencePolicy { balance: Means::NotSent, ..EvidencePolicy::default() };
    let judged =
        |status, body| line(&Case { policy: policy.clone(), ..case(status, body) }.judge());
    let body = r#"{"code":"BALANCE_NOT_ENOUGH"}"#;
    for status in [400, 402, 403, 409, 422] {
        assert_eq!(judged(status, body), "not sent BALANCE_NOT_ENOUGH, Pause(Balance)");
    }
    assert_eq!(judged(402, "<html>"), "unknown, Pause(Balance)");
    assert_eq!(judged(408, body), "unknown, Pause(Balance)");
    assert_eq!(judged(500, body), "unknown");
}

#[test]
fn conflict_is_unknown() {
    check(409, r#"{"code":"ORDER_ALREADY_EXISTS"}"#, "unknown");
    check(409, r#"{"code":"X"}"#, "unknown");
    check(409, "", "unknown");
    check(400, r#"{"code":"ORDER_ALREADY_EXISTS"}"#, "unknown");
    check(422, r#"{"code":"X","error":{"code":"order_already_exists"}}"#, "unknown");
}

#[test]
fn refused_key_is_not_sent_and_pauses() {
    for status in [401, 403] {
        let body = r#"{"message":"Invalid API key"}"#;
        check(status, body, &format!("not sent status {status}, Pause(KeyRefused({status}))"));
        check(status, "<html>", &format!("unknown, Pause(NotTheSupplier({status}))"));
    }
}

#[test]
fn rate_limit_is_not_sent_and_drains() {
    let body = r#"{"code":"TOO_MANY"}"#;
    check(429, body, "not sent TOO_MANY, Drain { retry_after: None }");
    check(429, "<html>", "unknown, Pause(NotTheSupplier(429))");
    let retry_after = Some(Duration::from_secs(7));
    let judgement = Case { retry_after, body: None, ..case(429, "") }.judge();
    assert_eq!(line(&judgement), "not sent status 429, Drain { retry_after: Some(7s) }");
    let policy = EvidencePolicy { rate_limited: Means::Unknown, ..EvidencePolicy::default() };
    let judgement = Case { retry_after, policy, ..case(429, body) }.judge();
    assert_eq!(line(&judgement), "unknown, Drain { retry_after: Some(7s) }");
}

#[test]
fn any_other_client_error_is_unknown_and_pauses() {
    for status in [406, 407, 408, 410, 412, 418, 423, 424, 425, 426, 428, 431, 451, 460, 499] {
        let expected = format!("unknown, Pause(NotTheSupplier({status}))");
        check(status, r#"{"code":"X"}"#, &expected);
        check(status, "", &expected);
    }
}

#[test]
fn server_error_is_unknown() {
    for status in 500..=599 {
        check(status, r#"{"code":"X"}"#, "unknown");
        check(status, "<html>", "unknown");
        check(status, OURS, "unknown");
    }
}

#[test]
fn redirect_and_switch_of_protocols_are_unknown_and_pause() {
    for status in [100, 101, 199, 300, 301, 302, 303, 304, 307, 308, 399] {
        check(status, OURS, &format!("unknown, Pause(Redirected({status}))"));
    }
}

#[test]
fn status_outside_the_protocol_is_unknown_and_pauses() {
    for status in [0, 99, 600, 999] {
        check(status, OURS, &format!("unknown, Pause(NotTheSupplier({status}))"));
    }
}

/// The whitelist, written a second time and by other means.
fn may_be_refused(status: u16, body: &serde_json::Value) -> bool {
    let says = |field| body.get(field).is_some_and(|v: &serde_json::Value| !v.is_null());
    [400, 404, 405, 409, 413, 415, 422].contains(&status)
        && ["code", "detail", "message", "error"].into_iter().any(says)
}

fn bodies() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        Just("id"),
        Just("items"),
        Just("code"),
        Just("detail"),
        Just("message"),
        Just("error"),
        Just("status"),
        Just("x"),
    ];
    let value = prop_oneof![
        Just("null"),
        Just("\"\""),
        Just("\"o-1\""),
        Just("\"X\""),
        Just("7"),
        Just("[]"),
        Just("\"BALANCE_LOW\""),
        Just("\"ORDER_ALREADY_EXISTS\""),
        Just("{\"code\":\"Y\"}"),
        Just("\"OFFER_PRICE_NOT_MATCHED\""),
        Just("false"),
    ];
    let object = proptest::collection::vec((field, value), 0..4).prop_map(|fields| {
        let fields: Vec<_> = fields.iter().map(|(f, v)| format!("\"{f}\":{v}")).collect();
        format!("{{{}}}", fields.join(","))
    });
    let cut = (object.clone(), 0usize..40).prop_map(|(o, n)| o[..n.min(o.len())].to_owned());
    prop_oneof![4 => object, 1 => cut, 1 => "\\PC{0,40}", 1 => Just("<html>".to_owned())]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4096,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn nothing_outside_the_whitelist_is_refused_not_sent_or_created(
        status in prop_oneof![4 => 400u16..=429, 1 => 200u16..=202, 1 => 0u16..=1000],
        body in bodies(),
        whole in any::<bool>(),
        retry_after in prop_oneof![Just(None), Just(Some(Duration::from_secs(1)))],
    ) {
        let body_seen = whole.then_some(body.as_bytes());
        let judgement = Case { body: body_seen, retry_after, ..case(status, "") }.judge();
        let parsed = serde_json::from_str::<serde_json::Value>(&body).ok().filter(|_| whole);
        let json = parsed.unwrap_or_default();
        let text = body.to_uppercase();
        match judgement.outcome {
            Outcome::Created { id, .. } => {
                prop_assert_eq!(status, 201);
                let shown = json["id"].to_string();
                prop_assert_eq!(shown.trim_matches('"'), id.as_str());
            }
            Outcome::Refused(_) => {
                prop_assert!(may_be_refused(status, &json));
                prop_assert!(status != 409 || text.contains("OFFER_PRICE_NOT_MATCHED"));
                prop_assert!(!text.contains("BALANCE_") && !text.contains("ALREADY_EXISTS"));
            }
            Outcome::NotSent(_) => {
                let words = may_be_refused(400, &json);
                let listed = match status {
                    401 | 403 => words,
                    429 => words || retry_after.is_some(),
                    _ => false,
                };
                prop_assert!(listed);
            }
            Outcome::Unknown(_) => {}
        }
    }
}
