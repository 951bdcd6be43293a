//! Pages of the supplier's list, single orders, and headers.

use std::time::Duration;

use jiff::Timestamp;
use order_router::protocol::format::OrderFormat;
use order_router::protocol::listing::{Listing, Next};
use order_router::supplier::{Capabilities, ListEnvelope, Page, PageRequest, Row};
use order_router::testing::readers;
use order_router::{EchoProfile, EchoedItem, OrderId};
use serde_json::{Value, json};

use super::dice::{Dice, SECRET};

const ECHO: EchoProfile = EchoProfile { quantity: true, note: false, tag: None };

fn row(dice: &mut Dice<'_>, at: usize) -> Row {
    let items = dice.items().into_iter().map(|item| {
        let (id, quantity) = (item.id().to_owned(), Some(item.quantity()));
        EchoedItem { id, quantity, note: None }
    });
    Row {
        id: OrderId::new(format!("{at}-{}", dice.byte())).expect("short"),
        status: dice.text(1),
        created_at: dice.moment(),
        items: dice.one_in(2).then(|| items.collect()),
        cost: None,
    }
}

fn written(row: &Row) -> Value {
    let lines = row.items.as_ref().map(|lines| {
        let line = |line: &EchoedItem| {
            json!({ "product": { "id": line.id, "name": SECRET }, "quantity": line.quantity,
                "note": SECRET, "codes": [SECRET] })
        };
        lines.iter().map(line).collect::<Vec<_>>()
    });
    json!({ "id": row.id.as_str(), "status": row.status, "items": lines,
        "createdAt": row.created_at.to_string(), "userGuide": SECRET })
}

fn page(body: &[u8], offset: u64, bare: bool) -> Option<Page> {
    let envelope = if bare { ListEnvelope::Bare } else { ListEnvelope::Key("orders".into()) };
    match readers::page(body, offset, envelope, &OrderFormat::default(), ECHO) {
        Ok(page) => {
            let ids: std::collections::BTreeSet<_> = page.rows.iter().map(|row| &row.id).collect();
            assert_eq!(ids.len(), page.rows.len(), "a row twice in a page");
            assert!(page.rows.len() <= body.len() / 8, "more rows than the body can hold");
            Some(page)
        }
        Err(error) => {
            let told = format!("{error} {error:?}");
            assert!(!told.contains(SECRET), "{told}");
            None
        }
    }
}

/// A page is read to the last field or not at all.
#[test]
fn pages_come_back_and_anything_else_is_no_list() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut dice = Dice(input);
        let (offset, total) = (dice.number(), dice.maybe(Dice::number));
        let count = dice.below(5);
        let rows: Vec<_> = (0..count).map(|at| row(&mut dice, at)).collect();
        let list: Vec<_> = rows.iter().map(written).collect();
        let bare = dice.one_in(3);
        let body = match bare {
            true => json!(list),
            false => json!({ "orders": list, "total": total, "offset": offset }),
        };
        let mut bytes = body.to_string().into_bytes();
        let wanted = Page { rows, total: total.filter(|_| !bare), date: None };
        assert_eq!(page(&bytes, offset, bare), Some(wanted.clone()));
        if !bare {
            let other = offset.wrapping_add(dice.number().saturating_add(1));
            assert!(other == offset || page(&bytes, other, bare).is_none(), "another page");
        }
        for at in 0..list.len() {
            without_a_field(&mut dice, &body, bare, offset, at);
        }
        let cut = dice.below(bytes.len());
        assert_eq!(page(&bytes[..cut], offset, bare), None, "a page that was cut off");
        dice.damage(&mut bytes);
        page(&bytes, offset, bare);
        page(dice.rest(), offset, bare);
    });
}

/// A row without one of its fields makes the page unreadable: a row that is passed over would be
/// taken for an order that is not there.
fn without_a_field(dice: &mut Dice<'_>, body: &Value, bare: bool, offset: u64, at: usize) {
    let mut body = body.clone();
    let rows = if bare { &mut body } else { &mut body["orders"] };
    let field = dice.of(&["id", "status", "createdAt"]);
    rows[at][field] = dice.of(&[Value::Null, json!({}), json!([]), json!(true)].each_ref()).clone();
    assert_eq!(page(body.to_string().as_bytes(), offset, bare), None, "without {field}");
}

#[test]
fn a_single_order_is_the_one_that_was_asked_for() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut dice = Dice(input);
        let (format, asked) = (OrderFormat::default(), row(&mut dice, 0));
        let mut bytes = written(&asked).to_string().into_bytes();
        let read = readers::order(&bytes, &asked.id, &format, ECHO);
        assert_eq!(read.as_ref().ok(), Some(&asked));
        let other = OrderId::new(format!("x{}", asked.id)).expect("short");
        assert!(readers::order(&bytes, &other, &format, ECHO).is_err(), "another order");
        dice.damage(&mut bytes);
        for body in [&bytes[..], dice.rest()] {
            match readers::order(body, &asked.id, &format, ECHO) {
                Ok(row) => assert_eq!(row.id, asked.id),
                Err(error) => assert!(!format!("{error} {error:?}").contains(SECRET)),
            }
        }
    });
}

/// A list that tells the truth, in pages of any size, while orders come in and others go.
struct Shop {
    rows: Vec<Row>,
    newest_first: bool,
    clamp: usize,
}

impl Shop {
    fn page(&self, request: PageRequest) -> Page {
        let from = usize::try_from(request.offset).expect("fits").min(self.rows.len());
        let most = (request.limit as usize).min(self.clamp);
        let to = (from + most).min(self.rows.len());
        let rows = self.rows[from..to].to_vec();
        Page { rows, total: Some(self.rows.len() as u64), date: None }
    }

    fn sells(&mut self, at: usize) {
        let new = plain_row(1_000_000 + at, 3_000_000_000 + at as i64);
        let place = if self.newest_first { 0 } else { self.rows.len() };
        self.rows.insert(place, new);
    }
}

fn plain_row(at: usize, second: i64) -> Row {
    Row {
        id: OrderId::new(format!("o{at}")).expect("short"),
        status: "completed".to_owned(),
        created_at: Timestamp::from_second(second).expect("in range"),
        items: None,
        cost: None,
    }
}

/// A listing that says how far back it reaches has every row that was there from before it to its
/// end, whatever came and went meanwhile, and ends after a bounded number of pages.
#[test]
fn a_listing_that_is_evidence_lacks_no_row() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut dice = Dice(input);
        let count = dice.below(40);
        let (newest_first, limit) = (dice.one_in(2), 1 + dice.below(8));
        let mut rows: Vec<_> = (0..count).map(|at| plain_row(at, 1_000 - at as i64)).collect();
        if !newest_first {
            rows.reverse();
        }
        let before = rows.clone();
        let clamp = 1 + dice.below(8);
        let mut shop = Shop { rows, newest_first, clamp };
        let page_limit = u32::try_from(limit).expect("small");
        let capabilities = Capabilities { echo: ECHO, newest_first, page_limit };
        let since = dice.maybe(|dice| 960 + dice.below(50) as i64);
        let since = since.map(|second| Timestamp::from_second(second).expect("in range"));
        let (mut listing, mut request) =
            Listing::start(&capabilities, since, Duration::from_secs(2), None);
        listing.limit_pages(300);
        let (mut sold, lies) = (0, dice.one_in(3));
        while let Next::More(next) = {
            let mut page = shop.page(request);
            if lies && !page.rows.is_empty() {
                tamper(&mut dice, &mut page);
            }
            listing.page(page)
        } {
            request = next;
            let orders = if dice.one_in(4) { 1 + dice.below(12) } else { 0 };
            for _ in 0..orders.min(60 - sold) {
                sold += 1;
                shop.sells(sold);
            }
            if dice.one_in(4) {
                let some = (1 + dice.below(9)).min(shop.rows.len());
                let from = dice.below(shop.rows.len() - some + 1);
                shop.rows.drain(from..from + some);
            }
        }
        assert!(listing.pages() <= 300, "more pages than may be read");
        let sheet = listing.finish();
        let ids: std::collections::BTreeSet<_> = sheet.rows.iter().map(|row| &row.id).collect();
        assert_eq!(ids.len(), sheet.rows.len(), "a row twice in a sheet");
        if let (Ok(reach), false) = (&sheet.reach, lies) {
            let in_reach = |row: &&Row| reach.is_none_or(|reach| row.created_at > reach);
            let stayed = before.iter().filter(|row| shop.rows.contains(row)).filter(in_reach);
            let missing = stayed.into_iter().find(|row| !ids.contains(&row.id));
            assert_eq!(missing, None, "evidence of absence, and it was there: {reach:?}");
        }
    });
}

fn tamper(dice: &mut Dice<'_>, page: &mut Page) {
    let at = dice.below(page.rows.len());
    match dice.below(6) {
        0 => drop(page.rows.remove(at)),
        1 => page.rows[at].status = "other".to_owned(),
        2 => page.rows.reverse(),
        3 => page.total = Some(dice.number()),
        4 => page.rows.clear(),
        _ => page.rows[at].created_at = dice.moment(),
    }
}

#[test]
fn headers_and_ids_in_paths_are_read_or_left() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut dice = Dice(input);
        let (id, wall) = (dice.id(), dice.moment());
        if let Some(segment) = readers::path_segment(&id) {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~%".contains(&b);
            assert!(segment.bytes().all(plain) && segment != "." && segment != "..", "{segment}");
        }
        let dates = [&b"Sun, 06 Nov 1994 08:49:37 GMT"[..], dice.bytes(40), b"120", b""];
        let (date, retry, age) =
            (dice.of(&dates), dice.of(&dates), dice.of(&[&b"0"[..], b" 0 ", b"1"]));
        if let Some((_, _, cached)) = readers::headers(date, retry, age, wall) {
            assert_eq!(cached, age == b"1", "an answer out of a cache counts as fresh");
        }
        let items = dice.items();
        let body: Value = serde_json::from_slice(&readers::order_body(&items)).expect("JSON");
        assert_eq!(body["items"].as_array().map(Vec::len), Some(items.len()));
        for (line, item) in body["items"].as_array().expect("an array").iter().zip(&items) {
            assert_eq!(line["itemId"].as_str(), Some(item.id()));
            assert_eq!(line["quantity"].as_u64(), Some(u64::from(item.quantity())));
        }
    });
}
