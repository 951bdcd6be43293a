//! One test per clause. Seconds are the supplier's clock, minutes this machine's.

use super::*;
use crate::order::{EchoedItem, Item};
use crate::protocol::Serial;

mod attribution;
mod edges;
mod proof;
mod tags;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("second")
}

fn minute(n: u64) -> Moment {
    Moment::after_origin(Duration::from_secs(60 * n))
}

fn id(n: i64) -> OrderId {
    OrderId::new(format!("#{n}")).expect("id")
}

fn ids(list: &[OrderId]) -> Vec<&str> {
    list.iter().map(OrderId::as_str).collect()
}

/// The lane of one piece of a product.
fn lane(product: &str) -> ItemsHash {
    lane_of(&[(product, 1)])
}

fn lane_of(items: &[(&str, u32)]) -> ItemsHash {
    let items: Vec<_> = items.iter().map(|(p, n)| Item::new(p, *n).expect("item")).collect();
    ItemsHash::of(&items, EchoProfile::default())
}

/// An order of one piece of a product, created in second `second`.
fn row(n: i64, second: i64, product: &str) -> Row {
    row_of(n, second, &[(product, 1)])
}

fn row_of(n: i64, second: i64, items: &[(&str, u32)]) -> Row {
    let line = |(product, quantity): &(&str, u32)| EchoedItem {
        id: (*product).to_owned(),
        quantity: Some(*quantity),
        note: None,
    };
    let items = Some(items.iter().map(line).collect());
    Row { id: id(n), status: "active".into(), created_at: at(second), items, cost: None }
}

fn unreadable(n: i64, second: i64) -> Row {
    Row { items: None, ..row(n, second, "") }
}

fn sheet(since: Option<i64>, rows: &[Row]) -> Sheet {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| std::cmp::Reverse(row.created_at));
    Sheet { rows, reach: Ok(since.map(at)), date: None, checkpoint: None }
}

fn answered(n: i64, second: i64, product: &str) -> Known {
    Known {
        id: id(n),
        lane: lane(product),
        shape: Shape::default(),
        learnt: Learnt::Answer,
        created_at: Some(at(second)),
    }
}

fn claim(n: i64, product: &str, learnt: Learnt) -> Claim {
    Claim { id: id(n), intent: Serial(1), lane: lane(product), learnt }
}

/// Lanes of one piece of a product, with so many open attempts.
fn open(lanes: &[(&str, usize)]) -> BTreeMap<ItemsHash, OpenLane> {
    let each = |(product, attempts): &(&str, usize)| {
        (lane(product), OpenLane { attempts: *attempts, products: vec![(*product).into()] })
    };
    lanes.iter().map(each).collect()
}

fn rules() -> AccountRules {
    AccountRules {
        landing_bound: Some(Duration::from_secs(15 * 60)),
        request_timeout: Duration::from_secs(30),
        list_margin: Duration::from_secs(10),
        clock_margin: Duration::from_secs(3600),
        trust_echo: false,
        echo: EchoProfile::default(),
        fingerprint: Fingerprint(7),
        left_out: LeftOut::default(),
    }
}

fn account() -> Account {
    account_with(rules())
}

fn account_with(rules: AccountRules) -> Account {
    Account::new(rules, None, Vec::new(), Vec::new(), Vec::new(), None, minute(0))
}

fn account_since(newest: Option<i64>, ids: &[i64]) -> Account {
    let ids = ids.iter().map(|n| id(*n)).collect();
    let line = HistoryLine { newest: newest.map(at), ids };
    Account::new(rules(), Some(line), Vec::new(), Vec::new(), Vec::new(), None, minute(0))
}

impl Account {
    /// Assesses a sheet requested in one minute and arrived in the next; every product is ours but
    /// `alien`.
    fn see(&mut self, sheet: Sheet, open: &BTreeMap<ItemsHash, OpenLane>, at: u64) -> Assessment {
        self.see_claims(sheet, Vec::new(), open, at)
    }

    fn see_claims(
        &mut self,
        sheet: Sheet,
        claims: Vec<Claim>,
        open: &BTreeMap<ItemsHash, OpenLane>,
        at: u64,
    ) -> Assessment {
        let products = |product: &str| product != "alien";
        self.assess(sheet, claims, open, &products, minute(at), minute(at + 1))
    }
}

impl Assessment {
    fn view_of(&self, product: &str) -> ListView {
        self.view(3, lane(product), &[product.into()], &BTreeSet::new())
    }

    #[track_caller]
    fn check_near_miss(&self, product: &str, near_miss: Option<i64>) {
        assert_eq!(self.view_of(product).near_miss, near_miss.map(id));
    }
}

#[test]
fn floor_is_the_newest_order_known_by_history_answers_and_lists() {
    assert_eq!(account().floor(Moment::ORIGIN), None);
    // The line may be drawn without an order: by a clock that is off by up to the margin, an hour.
    let mut account = account_since(Some(3_650), &[]);
    assert_eq!(account.floor(Moment::ORIGIN), Some(at(50)));
    account.learnt(answered(1, 60, "card"), minute(1));
    assert_eq!(account.floor(Moment::ORIGIN), Some(at(60)));
    account.learnt(answered(2, 55, "card"), minute(1));
    assert_eq!(account.floor(Moment::ORIGIN), Some(at(60)));
    account.see(sheet(None, &[row(3, 70, "card")]), &open(&[]), 2);
    assert_eq!(account.floor(Moment::ORIGIN), Some(at(70)));
    let restored =
        Account::new(rules(), None, Vec::new(), Vec::new(), Vec::new(), Some(at(9)), minute(0));
    assert_eq!(restored.floor(Moment::ORIGIN), Some(at(9)));
}

#[test]
fn a_row_dated_in_the_future_does_not_raise_the_floor_beyond_the_suppliers_clock() {
    let mut account = account();
    account.learnt(answered(1, 9_999, "card"), minute(0));
    let mut shown = sheet(None, &[row(2, 5_000, "card"), row(3, 990, "card")]);
    shown.date = Some(at(1_000));
    account.see(shown, &open(&[]), 1);
    assert_eq!(account.floor(Moment::ORIGIN), Some(at(1_000)));
    // The clock goes on: a minute later nothing can be dated later than that.
    account.learnt(answered(4, 8_000, "card"), minute(3));
    assert_eq!(account.floor(minute(3)), Some(at(1_060)));
    account.learnt(answered(5, 1_050, "card"), minute(3));
    assert_eq!(account.floor(minute(3)), Some(at(1_060)));
}

#[test]
fn a_history_line_dated_in_the_future_does_not_raise_the_floor_beyond_the_suppliers_clock() {
    let mut account = account_since(Some(9_000), &[]);
    account.read_clock(Some(at(1_000)), minute(1));
    assert_eq!(account.floor(minute(1)), Some(at(1_000)));
    assert_eq!(account.floor(minute(2)), Some(at(1_060)));
    assert_eq!(account.floor(minute(1_000)), Some(at(5_400)), "by then it is past");
}

#[test]
fn prune_forgets_what_no_listing_reaches_and_keeps_the_margin() {
    let mut account = account();
    for n in 0..200 {
        account.learnt(answered(n, n, "card"), minute(0));
    }
    account.see(sheet(None, &[row(500, 3, "card"), row(501, 180, "card")]), &open(&[]), 1);
    assert_eq!(account.remembered(), 202);
    account.prune(None);
    assert_eq!(account.remembered(), 202);
    account.prune(Some(at(110)));
    assert_eq!(account.remembered(), 101);
    assert!(account.book.values().all(|entry| entry.created_at >= at(100)));
    assert_eq!(account.by_age.len(), account.book.len());
    // What is forgotten is asked of the store again, and no witness any more.
    assert_eq!(account.unknown_ids(&sheet(None, &[row(5, 5, "card")])), [id(5)]);
}

#[test]
fn prune_forgets_undated_orders_with_those_of_their_time() {
    let mut account = account();
    account.learnt(answered(1, 100, "card"), minute(0));
    account.learnt(Known { created_at: None, ..answered(2, 0, "card") }, minute(0));
    account.prune(Some(at(110)));
    assert_eq!(account.remembered(), 2);
    account.prune(Some(at(111)));
    assert_eq!(account.remembered(), 0);
}

#[test]
fn unknown_ids_are_the_rows_that_are_neither_claimed_nor_orphans_nor_history() {
    let mut account = account_since(Some(10_000), &[1]);
    account.learnt(answered(2, 10_001, "card"), minute(0));
    account.orphan([id(3)]);
    let rows = [
        row(1, 9_999, "card"),
        row(2, 10_001, "card"),
        row(3, 10_002, "card"),
        row(4, 6_399, "card"),
        row(5, 10_003, "card"),
        unreadable(6, 10_004),
    ];
    assert_eq!(ids(&account.unknown_ids(&sheet(None, &rows))), ["#6", "#5"]);
    // A claim that was read is not asked for again.
    account.see_claims(
        sheet(None, &rows),
        vec![claim(5, "card", Learnt::List)],
        &open(&[("card", 1)]),
        1,
    );
    assert_eq!(ids(&account.unknown_ids(&sheet(None, &rows))), ["#6"]);
}

#[test]
fn nobodys_are_orphans_and_history_unless_claimed() {
    let mut account = account_since(Some(10_000), &[1]);
    account.orphan([id(2)]);
    account.see(
        sheet(None, &[row(3, 6_000, "card"), row(4, 9_000, "card")]),
        &open(&[("card", 1)]),
        1,
    );
    assert!([1, 2, 3].into_iter().all(|n| account.is_nobodys(&id(n))));
    assert!(!account.is_nobodys(&id(4)));
    assert!(!account.is_nobodys(&id(5)));
    account.learnt(answered(2, 10_001, "card"), minute(2));
    assert!(!account.is_nobodys(&id(2)));
}

#[test]
fn views_of_500_lanes_over_50_000_rows_are_cheap() {
    let names: Vec<String> = (0..500).map(|n| format!("card{n}")).collect();
    let lanes: Vec<_> = names.iter().map(|name| (name.as_str(), 10)).collect();
    let open = open(&lanes);
    let mut account = account();
    let mut rows = Vec::new();
    for n in 0..50_000 {
        let name = &names[usize::try_from(n).expect("n") % 500];
        if n >= 5_000 {
            account.learnt(answered(n, n, name), minute(0));
        }
        rows.push(row(n, n, name));
    }
    let assessment = account.see(sheet(Some(0), &rows), &open, 30);
    assert_eq!(assessment.rows, 50_000);
    assert!(assessment.evidence.is_ok());
    let mut candidates = 0;
    for name in &names {
        let view = assessment.view_of(name);
        assert_eq!(view.near_miss, None);
        candidates += view.candidates.len();
    }
    assert_eq!(candidates, 5_000);
}
