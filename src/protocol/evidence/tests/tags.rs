//! Answers to orders that carry tags.

use std::sync::Arc;

use super::*;
use crate::order::{ClientRef, Tag, TagKey};

fn reference(name: &str) -> ClientRef {
    ClientRef::new(name).expect("a reference")
}

/// What an answer proves that shows these notes, of one line each.
#[track_caller]
fn check_tags(notes: [&str; 2], expected: &str) {
    let key = TagKey::new("ref").expect("a key");
    let echo = EchoProfile { tag: Some(key), ..EchoProfile::default() };
    let line = |product: &str, quantity| Item::new(product, quantity).expect("an item");
    let items: Arc<[Item]> = [line("p-1", 3), line("p-2", 1)].into();
    let sent = echo.as_sent(&reference("mine"), &items);
    let [one, two] = notes;
    let body = format!(
        r#"{{"id":"o-1","items":[{{"itemId":"p-1","quantity":3,"note":{one}}},
        {{"itemId":"p-2","quantity":1,"note":{two}}}]}}"#
    );
    let exchange = Seen::Answer { status: 201, retry_after: None, body: Some(body.as_bytes()) };
    let evidence = Evidence { gate: yielded(), exchange, items: &sent, echo };
    let judgement = judge(&evidence, &EvidencePolicy::default(), |_| false);
    assert_eq!(super::line(&judgement), expected, "{notes:?}");
}

#[test]
fn an_answer_that_shows_another_orders_tag_names_another_order() {
    let note = |name: &str| format!(r#"{{"x":1,"ref":"{}"}}"#, Tag::of(&reference(name)));
    let (mine, other) = (note("mine"), note("other"));
    check_tags([&mine, &mine], "created o-1");
    let alarm = "unknown, Alarm(OtherItems), hint o-1";
    check_tags([&other, &other], alarm);
    check_tags([&mine, &other], alarm);
    check_tags([&mine, "null"], alarm);
    // Answers need not show it; lists do.
    for none in ["null", "{}", r#"{"x":1}"#, r#"{"ref":"cut o"}"#, r#"{"ref":7}"#, "\"text\""] {
        check_tags([none, none], "created o-1");
    }
}
