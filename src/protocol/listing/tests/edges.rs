//! Ends, overlaps and limits to the row: what a listing may take for the end of a list.

use super::*;

/// Every row that is there from before the first page to after the last is in the sheet, or the
/// sheet is no evidence.
#[track_caller]
fn lacks_none(sheet: &Sheet, stayed: impl IntoIterator<Item = i64>) {
    let shown: BTreeSet<_> = sheet.rows.iter().map(|row| row.id.clone()).collect();
    let missing: Vec<_> = stayed.into_iter().filter(|n| !shown.contains(&id(*n))).collect();
    assert!(missing.is_empty() || sheet.reach.is_err(), "{:?} without {missing:?}", sheet.reach);
}

#[test]
fn a_page_of_known_rows_and_an_empty_one_behind_it_are_not_the_end() {
    // The third page comes from a replica that does not have the two newest orders.
    let mut window = Window::of([5, 4, 3, 2, 1]).clamp(3);
    let sheet = window.read_while(None, None, |window, page| match page {
        1 => window.buy([6, 7]),
        2 => drop(window.rows.drain(..2)),
        _ => {}
    });
    lacks_none(&sheet, 1..=5);
}

#[test]
fn one_row_and_an_empty_page_behind_it_are_not_the_end_where_the_row_is_gone() {
    let mut window = Window::of([2, 1]).clamp(1);
    let sheet = window.read_while(None, None, |window, page| {
        if page == 2 {
            window.rows.remove(0);
        }
    });
    lacks_none(&sheet, [1]);
}

#[test]
fn a_list_of_one_row_is_read_to_its_end() {
    let mut window = Window::of([7]);
    check(&window.read(None), Ok(None), [7].into_iter());
    assert_eq!(window.read(Some(3)).reach, Ok(None));
}
