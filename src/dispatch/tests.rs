use super::*;

fn price(text: &str) -> Option<Price> {
    Some(text.parse().expect("a price"))
}

/// What a balance has to cover after these refusals.
fn wanted(refusals: &[Option<Option<Price>>]) -> Option<Wanted> {
    let (now, switch) = (Moment::ORIGIN, Arc::new(Switch::default()));
    let dispatch = Dispatch::new(&Config::default(), true, now, None, switch, Found::default());
    for refusal in refusals {
        let wants = refusal.map(|price| Wanted { price });
        dispatch.permits().pause("refused".into(), now, wants);
    }
    dispatch.wanted()
}

#[test]
fn a_balance_must_cover_the_smallest_order_that_was_refused() {
    assert_eq!(wanted(&[]), None);
    let least = wanted(&[Some(price("10")), Some(price("2.50")), Some(price("7"))]);
    assert_eq!(least, Some(Wanted { price: price("2.50") }));
    // One without a price says nothing.
    let least = wanted(&[Some(None), Some(price("3")), Some(None)]);
    assert_eq!(least, Some(Wanted { price: price("3") }));
    assert_eq!(wanted(&[Some(None)]), Some(Wanted { price: None }));
    // A pause for another reason ends by a list, whatever comes after it.
    assert_eq!(wanted(&[None, Some(price("3"))]), None);
}
