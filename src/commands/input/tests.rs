use super::*;

#[track_caller]
fn read(format: Option<Format>, text: &[u8]) -> Vec<(u64, Result<String, String>)> {
    let source = std::io::Cursor::new(text.to_vec());
    let mut input = match Input::new("input", format, Box::new(source)) {
        Ok(input) => input,
        Err(failure) => panic!("{failure}"),
    };
    let mut lines = Vec::new();
    while let Some(line) = input.next().unwrap() {
        let told = match line.order {
            Ok(order) => {
                let items = order.items().iter().map(|i| {
                    let note = i.note_ref().map_or("", |n| n.as_json());
                    let price = i.price().map_or(String::new(), |p| format!("@{p}"));
                    format!(" {}x{}{note}{price}", i.quantity(), i.id())
                });
                Ok(format!("{}:{}", order.client_ref(), items.collect::<String>()))
            }
            Err(bad) => Err(format!("{}: {}", bad.client_ref.unwrap_or_default(), bad.why)),
        };
        lines.push((line.number, told));
    }
    lines
}

#[track_caller]
fn check(text: &str, expected: &[(u64, Result<&str, &str>)]) {
    let lines = read(None, text.as_bytes());
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for ((number, told), (expected_number, expected)) in lines.iter().zip(expected) {
        assert_eq!(number, expected_number, "{told:?}");
        match (told, expected) {
            (Ok(told), Ok(expected)) => assert_eq!(told, expected),
            (Err(told), Err(expected)) => assert!(told.contains(expected), "{told}"),
            _ => panic!("line {number}: {told:?}, expected {expected:?}"),
        }
    }
}

#[track_caller]
fn refused(format: Option<Format>, text: &str, expected: &str) {
    let source = std::io::Cursor::new(text.as_bytes().to_vec());
    match Input::new("input", format, Box::new(source)) {
        Ok(_) => panic!("{text:?} was taken"),
        Err(failure) => {
            let told = failure.to_string();
            assert!(told.contains(expected) && told.contains("nothing was bought"), "{told}");
        }
    }
}

#[test]
fn csv_columns_are_found_by_name_and_others_ignored() {
    let text = "placed_at,quantity, client_ref ,item_id,unit_price\nnow,12,a-1,pot,2.10\n";
    check(text, &[(2, Ok("a-1: 12xpot"))]);
}

#[test]
fn csv_takes_a_byte_order_mark_crlf_blank_lines_and_a_missing_last_end() {
    let text = "\u{feff}client_ref,item_id,quantity\r\na,x,1\r\n\r\nb,\"x, \"\"y\"\"\",2";
    check(text, &[(2, Ok("a: 1xx")), (4, Ok("b: 2xx, \"y\""))]);
}

#[test]
fn csv_notes_and_prices_are_optional() {
    let text = "client_ref,item_id,quantity,note,total_price\n\
        a,x,1,\"{\"\"player\"\":\"\"7\"\"}\",4.95\nb,x,1,,\nc,x,1,[],\nd,x,1,,1e3\n";
    let expected = [
        (2, Ok("a: 1xx{\"player\":\"7\"}@4.95")),
        (3, Ok("b: 1xx")),
        (4, Err("note must be a JSON object")),
        (5, Err("total price must be")),
    ];
    check(text, &expected);
}

#[test]
fn a_bad_csv_line_is_told_with_its_number_and_the_others_go_on() {
    let long = "r".repeat(256);
    let text = format!(
        "client_ref,item_id,quantity\na,x,0\nb,x,-1\nc,x,1.5\nd,x,4294967296\ne,x\n,x,1\n{long},x,1\n\
         f,,1\ng,x,+1\nh,x,4294967295\nsome ref,x,1\n"
    );
    let expected = [
        (2, Err("a: quantity")),
        (3, Err("not \"-1\"")),
        (4, Err("not \"1.5\"")),
        (5, Err("not \"4294967296\"")),
        (6, Err("e: 2 columns, where the header has 3")),
        (7, Err("there is no client_ref")),
        (8, Err("client reference must be")),
        (9, Err("item id must be")),
        (10, Err("not \"+1\"")),
        (11, Ok("h: 4294967295xx")),
        (12, Err("client reference must be")),
    ];
    check(&text, &expected);
}

#[test]
fn a_quoted_line_end_is_part_of_the_field_and_an_open_quote_spoils_one_line_only() {
    let text = "client_ref,item_id,quantity\na,\"x\ny\",1\nb,\"x,1\nc,z,1\nd,z,2\n";
    let expected = [
        (2, Ok("a: 1xx\ny")),
        (4, Err("a quote is not closed")),
        (5, Ok("c: 1xz")),
        (6, Ok("d: 2xz")),
    ];
    check(text, &expected);
}

#[test]
fn no_csv_line_is_swallowed_by_the_one_before_it() {
    let text = "client_ref,item_id,quantity\na,5\" pipe,1\nb,6\" pipe,1\nc,\"x,1\nd,\"y,1\ne,z,1\n\
        f,x,1\rg,x,1\nh,\"x\"y,1\ni,\"x\n\"\"\",1\r\n";
    let expected = [
        (2, Ok("a: 1x5\" pipe")),
        (3, Ok("b: 1x6\" pipe")),
        (4, Err("text follows a closing quote")),
        (5, Err("text follows a closing quote")),
        (6, Ok("e: 1xz")),
        (7, Err("a carriage return is inside of the line")),
        (8, Err("text follows a closing quote")),
        (9, Ok("i: 1xx\n\"")),
    ];
    check(text, &expected);
    refused(None, "client_ref,item_id,quantity\ra,x,1\r", "a carriage return is inside");
}

#[test]
fn text_that_is_no_utf_8_spoils_one_line_only() {
    let text = b"client_ref,item_id,quantity\na,\xff,1\nb,x,1\n";
    let lines = read(None, text);
    assert_eq!(lines[0], (2, Err(": the line is no UTF-8".to_owned())));
    assert_eq!(lines[1], (3, Ok("b: 1xx".to_owned())));
}

#[test]
fn an_endless_line_is_skipped_in_bounded_memory() {
    let text = format!("client_ref,item_id,quantity\n{}\nb,x,1\n", "x".repeat(1 << 20));
    check(&text, &[(2, Err("longer than")), (3, Ok("b: 1xx"))]);
}

#[test]
fn json_lines_hold_several_items_with_notes_and_prices() {
    let text = "{\"client_ref\":\"a\",\"items\":[{\"itemId\":\"x\",\"quantity\":2,\
        \"note\":{\"b\":1,\"a\":2},\"totalPrice\":4.950},{\"itemId\":\"y\",\"quantity\":1,\
        \"totalPrice\":\"0.1\"}],\"other\":1}\n\n";
    check(text, &[(1, Ok("a: 2xx{\"a\":2,\"b\":1}@4.950 1xy@0.1"))]);
}

#[test]
fn a_bad_json_line_is_told_with_its_number_and_the_others_go_on() {
    let item = "{\"itemId\":\"x\",\"quantity\":1}";
    let eleven = [item; 11].join(",");
    let line = |r: &str, items: &str| format!("{{\"client_ref\":\"{r}\",\"items\":[{items}]}}\n");
    let with = |field: &str| line("w", &format!("{{\"itemId\":\"x\",{field}}}"));
    let text = [
        line("a", item),
        "{\"client_ref\":\"b\",\"items\":\n".to_owned(),
        line("c", ""),
        line("d", &eleven),
        with("\"quantity\":1.0"),
        with("\"quantity\":\"1\""),
        with("\"quantity\":-3"),
        with("\"quantity\":1e2"),
        with("\"quantity\":1,\"totalPrize\":3"),
        with("\"quantity\":1,\"note\":\"secret\""),
        "{\"items\":[]}\n".to_owned(),
        line("z", item),
    ];
    let expected = [
        (1, Ok("a: 1xx")),
        (2, Err("no JSON")),
        (3, Err("c: an order has 1 to 10 items, this one has 0")),
        (4, Err("d: an order has 1 to 10 items, this one has 11")),
        (5, Err("not 1.0")),
        (6, Err("not \"1\"")),
        (7, Err("not -3")),
        (8, Err("not 1e2")),
        (9, Err("unknown field `totalPrize`")),
        (10, Err("w: a value has the wrong type")),
        (11, Err("there is no client_ref")),
        (12, Ok("z: 1xx")),
    ];
    check(&text.concat(), &expected);
    assert!(
        !read(None, text.concat().as_bytes()).iter().any(|l| format!("{l:?}").contains("secret"))
    );
}

#[test]
fn a_file_that_is_no_list_of_orders_is_refused_before_anything_starts() {
    refused(None, "client_ref,quantity\na,1\n", "there is no column item_id");
    refused(None, "client_ref,client_ref,item_id,quantity\n", "two columns client_ref");
    refused(None, "", "empty");
    refused(Some(Format::Csv), "", "empty");
    refused(Some(Format::Json), "[{}]", "one JSON array");
}

#[test]
fn a_first_line_that_is_too_long_is_one_line_behind_a_byte_order_mark_too() {
    // The rest of it looks like an order of its own.
    let order = r#"{"client_ref":"b","items":[{"itemId":"x","quantity":1}]}"#;
    for mark in ["", "\u{feff}"] {
        let cut = records::RECORD_BYTES_MAX + 1 - mark.len();
        let text = format!("{mark}{}{order}\n{order}\n", "x".repeat(cut));
        let lines = read(Some(Format::Json), text.as_bytes());
        let told: Vec<_> = lines.iter().map(|(number, order)| (*number, order.is_ok())).collect();
        assert_eq!(told, [(1, false), (2, true)], "{mark:?}");
    }
}
