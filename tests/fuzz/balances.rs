//! The balances of an account: what is written is read to the last digit, and nothing else is a balance.

use std::collections::BTreeMap;

use order_router::testing::readers;
use order_router::{Amount, Balance, Currency};
use serde_json::value::RawValue;

use super::dice::{Dice, SECRET};

/// An amount as suppliers write it: a number or a string, of any sign.
fn written(dice: &mut Dice<'_>) -> (String, Amount) {
    let sign = if dice.one_in(4) { "-" } else { "" };
    let text = format!("{sign}{}", dice.price());
    let amount = text.parse().expect("a plain decimal");
    (if dice.one_in(2) { format!("\"{text}\"") } else { text }, amount)
}

#[test]
fn balances_are_read_to_the_last_digit_or_not_at_all() {
    bolero::check!().for_each(|input: &[u8]| {
        let told = |read: &Result<Vec<Balance>, _>| format!("{read:?}");
        let raw = readers::balances(input);
        assert!(raw.as_ref().map_or(true, |all| !all.is_empty()), "nothing is no balance");

        let mut dice = Dice(input);
        let rows: Vec<_> = (0..dice.below(70))
            .map(|_| {
                let name = dice.text(1);
                let (text, amount) = written(&mut dice);
                let key = dice.of(&["amount", "balance"]);
                let json = serde_json::to_string(&name).expect("a string");
                let row = format!(r#"{{"x":["{SECRET}"],"currency":{json},"{key}":{text}}}"#);
                (Currency::new(&name), amount, row)
            })
            .collect();
        let bodies: Vec<_> = rows.iter().map(|(.., row)| row.as_str()).collect();
        let body = format!("[{}]", bodies.join(","));
        serde_json::from_str::<&RawValue>(&body).expect("JSON");
        let read = readers::balances(body.as_bytes());
        assert!(!told(&read).contains(SECRET));
        let known: BTreeMap<_, _> =
            rows.iter().filter_map(|(name, amount, _)| Some((name.clone()?, *amount))).collect();
        // Each row names a currency that no other names.
        let good = known.len() == rows.len() && (1..=64).contains(&rows.len());
        match read {
            Ok(read) => {
                let read: BTreeMap<_, _> =
                    read.into_iter().map(|b| (b.currency, b.amount)).collect();
                assert!(good && read == known, "{body}");
            }
            Err(_) => assert!(!good || body.len() > 64 << 10, "{body}"),
        }
    });
}
