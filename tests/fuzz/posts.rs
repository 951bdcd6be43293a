//! Answers to a POST: what they may prove, and what they never may.

use std::time::Duration;

use order_router::protocol::evidence::{
    Evidence, EvidencePolicy, GateState, Judgement, Means, Seen, judge,
};
use order_router::protocol::format::OrderFormat;
use order_router::protocol::{Moment, Outcome, Why};
use order_router::{EchoProfile, Item};
use serde_json::{Map, Value, json};

use super::dice::{Dice, SECRET};

const STATUSES: [u16; 30] = [
    0, 100, 101, 200, 201, 202, 204, 301, 302, 307, 400, 401, 402, 403, 404, 405, 408, 409, 413,
    415, 422, 425, 429, 460, 499, 500, 502, 503, 504, 600,
];

const CODES: [&str; 10] = [
    "OFFER_PRICE_NOT_MATCHED",
    "ORDER_ALREADY_EXISTS",
    "BALANCE_TOO_LOW",
    "VALIDATION",
    "x",
    "ORDER_PAYMENT_NOT_POSSIBLE",
    "already_exists",
    "",
    "A sentence.",
    "RATE_LIMITED",
];

struct Case {
    items: Vec<Item>,
    policy: EvidencePolicy,
    echo: EchoProfile,
    gate: GateState,
    status: u16,
    retry_after: Option<Duration>,
    body: Option<Vec<u8>>,
    seen_before: bool,
}

impl Case {
    fn roll(dice: &mut Dice<'_>) -> Self {
        let items = dice.items();
        let means = [Means::NotSent, Means::Unknown];
        let policy = EvidencePolicy {
            ok_and_accepted_create: dice.one_in(2),
            rate_limited: dice.of(&means),
            balance: dice.of(&means),
            format: OrderFormat {
                envelope: dice.one_in(3).then(|| "order".into()),
                ..OrderFormat::default()
            },
            ..EvidencePolicy::default()
        };
        let yielded = GateState::Yielded(Moment::default());
        let gates = [yielded, yielded, yielded, yielded, GateState::Unasked, GateState::Closed];
        Self {
            echo: EchoProfile { quantity: dice.one_in(2), note: dice.one_in(2), tag: None },
            gate: dice.of(&gates),
            status: if dice.one_in(8) { dice.number() as u16 } else { dice.of(&STATUSES) },
            retry_after: dice.maybe(|dice| Duration::from_secs(dice.number())),
            body: if dice.one_in(8) { None } else { Some(body(dice, &items)) },
            seen_before: dice.one_in(8),
            items,
            policy,
        }
    }

    fn judge(&self) -> Judgement {
        let (status, retry_after) = (self.status, self.retry_after);
        let exchange = Seen::Answer { status, retry_after, body: self.body.as_deref() };
        let (gate, items, echo) = (self.gate, &self.items, self.echo);
        judge(&Evidence { gate, exchange, items, echo }, &self.policy, |_| self.seen_before)
    }
}

fn body(dice: &mut Dice<'_>, items: &[Item]) -> Vec<u8> {
    if dice.one_in(8) {
        return dice.bytes(64).to_vec();
    }
    let mut object = Map::new();
    if dice.one_in(2) {
        object.extend(order(dice, items));
    }
    for field in ["code", "error", "detail", "message"] {
        if dice.one_in(2) {
            let code: Value = match dice.below(5) {
                0 => json!({ "code": dice.of(&CODES), "text": SECRET }),
                1 => json!([{ "code": dice.of(&CODES) }, SECRET]),
                2 => json!(format!("{SECRET} {}", dice.of(&CODES))),
                3 => json!(dice.number()),
                _ => json!(dice.of(&CODES)),
            };
            object.insert(field.to_owned(), code);
        }
    }
    let wrap = dice.of(&["order", "data", "result"]);
    match dice.below(4) {
        0 => drop(object.insert(wrap.to_owned(), Value::Object(order(dice, items)))),
        1 => {
            let orders = vec![Value::Object(order(dice, items))];
            object.insert(wrap.to_owned(), Value::Array(orders));
        }
        _ => {}
    }
    let mut bytes = Value::Object(object).to_string().into_bytes();
    match dice.below(8) {
        0 => drop(dice.damage(&mut bytes)),
        1 => bytes.truncate(dice.below(bytes.len() + 1)),
        _ => {}
    }
    bytes
}

fn order(dice: &mut Dice<'_>, items: &[Item]) -> Map<String, Value> {
    let lines: Vec<_> = items
        .iter()
        .map(|item| {
            let quantity = if dice.one_in(8) { 7 } else { item.quantity() };
            json!({ "product": { "id": item.id() }, "quantity": quantity, "code": SECRET })
        })
        .collect();
    let id = if dice.one_in(4) { json!(dice.number()) } else { json!("order-77") };
    let mut order = Map::new();
    order.insert("id".to_owned(), id);
    order.insert("status".to_owned(), json!(SECRET));
    order.insert("createdAt".to_owned(), json!(dice.moment().to_string()));
    if !dice.one_in(6) {
        order.insert("items".to_owned(), if dice.one_in(6) { json!(null) } else { json!(lines) });
    }
    order
}

/// Whether a body shows an order: somewhere in it an object with an id and with items.
fn shows_an_order(value: &Value) -> bool {
    let names = |value: Option<&Value>| match value {
        Some(Value::String(text)) => !text.is_empty() && text.len() <= 255,
        Some(Value::Number(number)) => number.is_u64(),
        _ => false,
    };
    match value {
        Value::Object(fields) => {
            (names(fields.get("id")) && fields.contains_key("items"))
                || fields.values().any(shows_an_order)
        }
        Value::Array(values) => values.iter().any(shows_an_order),
        _ => false,
    }
}

#[test]
fn an_answer_proves_no_more_than_it_says() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut dice = Dice(input);
        let case = Case::roll(&mut dice);
        let judged = case.judge();
        assert_eq!(judged, case.judge(), "the same evidence twice");
        let told = format!("{judged:?}");
        assert!(!told.contains(SECRET), "{told}");
        match &judged.outcome {
            Outcome::Created { .. } => creates(&case),
            Outcome::Refused(_) | Outcome::NotSent(_) => proves_absence(&case, &judged),
            Outcome::Unknown(_) => {
                assert_ne!(case.gate, GateState::Closed, "what never left is not in doubt");
            }
        }
    });
}

fn creates(case: &Case) {
    let ok = case.policy.ok_and_accepted_create && matches!(case.status, 200 | 202);
    assert!(case.status == 201 || ok, "created by status {}", case.status);
    assert!(matches!(case.gate, GateState::Yielded(_)) && !case.seen_before);
    let body = case.body.as_deref().expect("created by no body");
    let value: Value = serde_json::from_slice(body).expect("created by what is no JSON");
    let order = match &case.policy.format.envelope {
        Some(key) => &value[&**key],
        None => &value,
    };
    assert!(!order["id"].is_null(), "created without an id");
    let Some(lines) = order["items"].as_array() else { return };
    // As many as were sent, where the answer says how many.
    let mut quantities = lines.iter().map(|line| &line["quantity"]).filter(|q| !q.is_null());
    let sent: u64 = case.items.iter().map(|item| u64::from(item.quantity())).sum();
    let shown: u64 = quantities.clone().filter_map(Value::as_u64).sum();
    let says_nothing = !case.echo.quantity || quantities.next().is_none();
    assert!(says_nothing || shown == sent, "another order was taken for this one: {value}");
}

fn proves_absence(case: &Case, judged: &Judgement) {
    if case.gate == GateState::Closed {
        return;
    }
    assert_ne!(case.gate, GateState::Unasked, "the gate is still open");
    assert!((400..500).contains(&case.status), "status {} proves absence", case.status);
    assert!(!matches!(case.status, 408 | 425 | 460 | 499), "a gateway's word proves absence");
    let Some(value) = case.body.as_deref().and_then(|body| serde_json::from_slice(body).ok())
    else {
        let asked_to_wait = case.status == 429 && case.retry_after.is_some();
        return assert!(asked_to_wait, "absence is proved by what the supplier did not say");
    };
    assert!(!shows_an_order(&value), "{judged:?} by an answer that shows an order: {value}");
    let text = value.to_string();
    assert!(!text.contains("ORDER_ALREADY_EXISTS"), "an order that exists: {judged:?} {value}");
}

#[test]
fn no_answer_at_all_proves_only_what_the_gate_says() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut dice = Dice(input);
        let why: Why = Why::Owned(dice.text(0));
        let case = Case::roll(&mut dice);
        let exchange = Seen::Broken { why: &why };
        let (gate, items, echo) = (case.gate, &case.items, case.echo);
        let evidence = Evidence { gate, exchange, items, echo };
        let judged = judge(&evidence, &case.policy, |_| panic!("there is no id to ask for"));
        match judged.outcome {
            Outcome::NotSent(_) => assert_eq!(gate, GateState::Closed),
            Outcome::Unknown(_) => assert_ne!(gate, GateState::Closed),
            other => panic!("{other:?} by no answer"),
        }
    });
}
