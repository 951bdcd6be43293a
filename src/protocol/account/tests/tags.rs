//! Where orders carry tags.

use std::sync::Arc;

use super::*;
use crate::order::{ClientRef, Tag, TagKey};

fn key() -> TagKey {
    TagKey::new("order_ref").expect("a key")
}

fn echo() -> EchoProfile {
    EchoProfile { tag: Some(key()), ..EchoProfile::default() }
}

fn reference(name: &str) -> ClientRef {
    ClientRef::new(name).expect("a reference")
}

fn lane_of_order(name: &str) -> ItemsHash {
    let items: Arc<[Item]> = [Item::new("card", 1).expect("an item")].into();
    echo().lane(&reference(name), &items)
}

/// A row of one card, with an order's tag or without.
fn tagged(n: i64, second: i64, name: Option<&str>, quantity: u32) -> Row {
    let mut row = row_of(n, second, &[("card", quantity)]);
    let note = name.map(|name| key().alone(Tag::of(&reference(name))));
    row.items.iter_mut().flatten().for_each(|line| line.note = note.clone());
    row
}

fn known(n: i64, second: i64, name: &str) -> Known {
    Known { lane: lane_of_order(name), ..answered(n, second, "card") }
}

fn account(left_out: LeftOut) -> Account {
    account_with(AccountRules { echo: echo(), trust_echo: false, left_out, ..rules() })
}

/// One with a tagged order that was answered long ago.
fn with_witness(left_out: LeftOut) -> Account {
    let mut account = account(left_out);
    account.learnt(known(1, 100, "witness"), minute(0));
    account
}

fn open_orders(names: &[&str]) -> BTreeMap<ItemsHash, OpenLane> {
    let each = |name: &&str| {
        (lane_of_order(name), OpenLane { attempts: 1, products: vec!["card".into()] })
    };
    names.iter().map(each).collect()
}

/// What a list with the witness and these rows shows to the order `a`, which is in doubt beside `b`.
fn view(account: &mut Account, rows: &[Row]) -> ListView {
    let rows: Vec<_> = [tagged(1, 100, Some("witness"), 1)].iter().chain(rows).cloned().collect();
    let seen = account.see(sheet(None, &rows), &open_orders(&["a", "b"]), 30);
    seen.view(1, lane_of_order("a"), &["card".into()], &BTreeSet::from([Shape::default()]))
}

fn candidates(view: &ListView) -> Vec<&str> {
    view.candidates.iter().map(|row| row.id.as_str()).collect()
}

#[test]
fn a_row_is_a_candidate_of_the_order_whose_tag_it_shows_and_of_no_other() {
    let mut account = with_witness(LeftOut::default());
    let rows = [
        tagged(2, 200, Some("b"), 1),
        tagged(3, 201, Some("a"), 1),
        tagged(4, 202, Some("somebody"), 1),
        tagged(5, 203, Some("a"), 1),
    ];
    let view = view(&mut account, &rows);
    assert_eq!(candidates(&view), ["#3", "#5"], "the second one is a surplus: rule 10");
    assert_eq!(view.near_miss, None, "the others are known to be others'");
    assert!(view.proof.is_some());
    assert!(account.is_nobodys(&id(4)) && !account.is_nobodys(&id(2)));
}

#[test]
fn a_row_without_a_tag_is_no_candidate_and_no_absence_either() {
    let mut account = with_witness(LeftOut::default());
    let shown = view(&mut account, &[tagged(2, 200, None, 1)]);
    assert!(shown.candidates.is_empty() && shown.near_miss == Some(id(2)));
    let mut account = with_witness(LeftOut::only(Clause::UntaggedHeld));
    let shown = view(&mut account, &[tagged(2, 200, None, 1)]);
    assert!(shown.near_miss.is_none() && shown.proof.is_some(), "it is bought again");
}

#[test]
fn a_row_with_the_tag_of_an_order_in_doubt_and_other_items_is_a_near_miss() {
    let mut account = with_witness(LeftOut::default());
    let shown = view(&mut account, &[tagged(2, 200, Some("a"), 7)]);
    assert!(shown.candidates.is_empty() && shown.near_miss == Some(id(2)));
    let mut account = with_witness(LeftOut::only(Clause::OwnTagHeld));
    let shown = view(&mut account, &[tagged(2, 200, Some("a"), 7)]);
    assert!(shown.near_miss.is_none() && shown.proof.is_some(), "it is bought again");
}

#[test]
fn nothing_is_released_before_a_tag_was_seen_whatever_was_seen_without_tags() {
    // The store has seen the echo of such orders, from before they carried tags.
    let anew = |left_out| {
        let rules = AccountRules { echo: echo(), left_out, ..rules() };
        let seen = vec![Shape::default()];
        let mut account = Account::new(rules, None, Vec::new(), seen, Vec::new(), None, minute(0));
        // A witness that is not of this kind.
        account.learnt(answered(9, 50, "card"), minute(0));
        account
    };
    let proof = |account: &mut Account, rows: &[Row]| {
        let seen = account.see(sheet(None, rows), &open_orders(&["a"]), 30);
        let shapes = BTreeSet::from([Shape::default()]);
        seen.view(1, lane_of_order("a"), &["card".into()], &shapes).proof
    };
    let untagged = tagged(9, 50, None, 1);
    assert_eq!(proof(&mut anew(LeftOut::default()), std::slice::from_ref(&untagged)), None);
    let mut without = anew(LeftOut::only(Clause::TagSeen));
    assert!(proof(&mut without, std::slice::from_ref(&untagged)).is_some());
    let mut account = anew(LeftOut::default());
    account.learnt(known(1, 100, "witness"), minute(0));
    assert!(proof(&mut account, &[untagged, tagged(1, 100, Some("witness"), 1)]).is_some());
}

#[test]
fn an_answered_order_whose_row_has_lost_its_tag_ends_all_releases() {
    let mut account = account(LeftOut::default());
    account.learnt(known(1, 100, "witness"), minute(0));
    let seen = account.see(sheet(None, &[tagged(1, 100, None, 1)]), &open_orders(&["a"]), 30);
    assert_eq!(seen.evidence, Err(NoEvidence::EchoDiffers(id(1))));
    let alarm = AccountAlarm::EchoDiffers { id: id(1), lane: lane_of_order("witness") };
    assert_eq!(seen.alarms, [alarm]);
}
