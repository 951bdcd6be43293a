//! The lines of `submit`: CSV and JSON.

use order_router::{ClientRef, Item, Order};

use super::commands::{input::Line, lines};
use super::dice::{Dice, SECRET};

fn hides_secrets(text: &str) {
    assert!(!text.contains(SECRET), "{text}");
}

/// Every line is told once, in order, and no message repeats a note.
fn sound(bytes: &[u8], csv: Option<bool>) -> Option<Vec<Line>> {
    let lines = lines(bytes, csv, hides_secrets)?;
    let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
    assert!(lines.len() <= ends + 1, "more lines than there are");
    assert!(lines.windows(2).all(|two| two[0].number < two[1].number), "a line twice");
    for bad in lines.iter().filter_map(|line| line.order.as_ref().err()) {
        hides_secrets(&bad.why);
    }
    if let Some(csv) = csv {
        lacks_none(bytes, csv, &lines);
    }
    Some(lines)
}

/// What is wrong with one line of CSV alone: those that a quote had swallowed are read again.
const OF_ONE_LINE: [&str; 3] = [
    "a quote is not closed",
    "text follows a closing quote",
    "a carriage return is inside of the line",
];

/// Every line that is not blank is told, but for those that belong to the one before.
fn lacks_none(bytes: &[u8], csv: bool, lines: &[Line]) {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let is_blank = |line: &[u8]| line.trim_ascii().is_empty();
    let physical = bytes.split(|byte| *byte == b'\n').zip(1..);
    let there: Vec<u64> =
        physical.filter(|(line, _)| !is_blank(line)).map(|(_, number)| number).collect();
    if !csv || !bytes.contains(&b'"') {
        // The first line of CSV is the header.
        let told = lines.iter().map(|line| &line.number);
        return assert!(there.iter().skip(usize::from(csv)).eq(told), "a line was passed over");
    }
    for (at, line) in lines.iter().enumerate() {
        if line.order.as_ref().is_err_and(|bad| OF_ONE_LINE.contains(&&*bad.why)) {
            let after = there.iter().find(|number| **number > line.number);
            let told = lines.get(at + 1).map(|line| &line.number);
            assert_eq!(told, after, "a line was swallowed");
        }
    }
}

fn orders(dice: &mut Dice<'_>, items: fn(&mut Dice<'_>) -> Vec<Item>) -> Vec<Order> {
    let mut orders = dice.some(4, |dice| Order::new(dice.reference(), items(dice)));
    orders.push(Order::new(ClientRef::new("last").expect("valid"), items(dice)));
    // Equal lines may add up to more than an order can have.
    orders.into_iter().flatten().collect()
}

fn read_back(bytes: &[u8], csv: bool, written: &[Order]) {
    let read = sound(bytes, Some(csv)).expect("is taken");
    let read: Vec<_> = read.into_iter().map(|line| line.order).collect();
    let written: Vec<_> = written.iter().cloned().map(Ok).collect();
    assert_eq!(read, written);
}

#[test]
fn lines_of_json_come_back_and_bad_ones_are_told_without_their_notes() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut dice = Dice(input);
        let written = orders(&mut dice, |dice| dice.items());
        let mut bytes = Vec::new();
        for order in &written {
            let items: Vec<_> = order.items().iter().map(json).collect();
            let reference = order.client_ref().as_str();
            let line = serde_json::json!({ "client_ref": reference, "items": items, "also": 1 });
            bytes.extend_from_slice(line.to_string().as_bytes());
            bytes.extend_from_slice(dice.of(&["\n", "\r\n", "\n\n"]).as_bytes());
        }
        if !written.is_empty() {
            read_back(&bytes, false, &written);
        }
        let wrong = dice.of(&["\"S3CR3T-CODE\"", "[\"S3CR3T-CODE\"]", "7", "{\"S3CR3T-CODE\":}"]);
        let line = format!(
            "{{\"client_ref\":\"r\",\"items\":[{{\"itemId\":\"p\",\"quantity\":1,\"note\":{wrong}}}]}}"
        );
        let read = sound(line.as_bytes(), Some(false)).expect("is taken");
        assert!(read[0].order.is_err(), "a note that is none");
        damaged(&mut dice, bytes, false);
    });
}

fn json(item: &Item) -> serde_json::Value {
    let mut line = serde_json::json!({ "itemId": item.id(), "quantity": item.quantity() });
    if let Some(note) = item.note_ref() {
        line["note"] = serde_json::from_str(note.as_json()).expect("JSON");
    }
    if let Some(price) = item.price() {
        line["totalPrice"] = price.to_string().into();
    }
    line
}

#[test]
fn lines_of_csv_come_back_and_bad_ones_are_told_without_their_notes() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut dice = Dice(input);
        // A carriage return inside of a line is refused, and tested by damage.
        let one = |dice: &mut Dice<'_>| {
            let item = dice.item();
            let id = item.id().replace('\r', "");
            let plain = Item::new(&id, item.quantity()).or_else(|_| Item::new("p", 1));
            let mut plain = plain.expect("valid");
            if let Some(note) = item.note_ref() {
                plain = plain.note(note.clone());
            }
            if let Some(price) = item.price() {
                plain = plain.total_price(*price);
            }
            vec![plain]
        };
        let written = orders(&mut dice, one);
        let mut writer = csv::Writer::from_writer(b"\xef\xbb\xbf".to_vec());
        let header = ["also", "client_ref", "quantity", "item_id", "note", "total_price"];
        writer.write_record(header).expect("writes");
        for order in &written {
            let item = &order.items()[0];
            let (quantity, price) =
                (item.quantity().to_string(), item.price().map(ToString::to_string));
            let note = item.note_ref().map_or("", |note| note.as_json());
            let reference = order.client_ref().as_str();
            let price = price.as_deref().unwrap_or_default();
            writer
                .write_record(["", reference, &quantity, item.id(), note, price])
                .expect("writes");
        }
        let bytes = writer.into_inner().expect("whole");
        read_back(&bytes, true, &written);
        damaged(&mut dice, bytes, true);
    });
}

/// The same bytes, damaged, cut and blown up; then bytes that are nothing.
fn damaged(dice: &mut Dice<'_>, mut bytes: Vec<u8>, csv: bool) {
    if !bytes.is_empty() {
        dice.damage(&mut bytes);
        let at = dice.below(bytes.len());
        let more = dice.bytes(16).to_vec();
        bytes.splice(at..at, more);
        bytes.truncate(dice.below(bytes.len()) + 1);
    }
    if dice.below(64) == 63 {
        bytes.resize(bytes.len() + (300 << 10), b'x');
    }
    sound(&bytes, Some(csv));
    sound(&bytes, None);
    let rest = dice.rest();
    sound(rest, Some(csv));
    sound(rest, None);
}
