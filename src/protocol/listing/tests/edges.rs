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

#[test]
fn an_empty_page_where_the_last_row_was_is_not_the_end() {
    let mut window = Window::of([4, 3, 2, 1]).clamp(2);
    let sheet = window.read_while(None, None, |window, page| {
        if page == 1 {
            window.rows.drain(..3);
        }
    });
    lacks_none(&sheet, [1]);
}

#[test]
fn a_checkpoint_is_its_id_and_its_moment() {
    let mut window = Window::of(0..250).oldest_first();
    let from = window.read(Some(200)).checkpoint.expect("checkpoint");
    for other in [
        Checkpoint { id: id(1_000), ..from.clone() },
        Checkpoint { created_at: at(188), ..from.clone() },
    ] {
        window.asked.clear();
        let sheet = window.read_while(Some(205), Some(&other), |_, _| {});
        check(&sheet, Ok(None), (0..250).rev());
        assert_eq!(window.asked[..2], [189, 0]);
    }
}

#[test]
fn the_end_is_seen_where_others_have_pushed_the_last_row() {
    let mut window = Window::of([2, 1]);
    let sheet = window.read_while(None, None, |window, page| {
        if page == 2 {
            window.buy([3]);
        }
    });
    check(&sheet, Ok(None), [2, 1].into_iter());
    assert_eq!(window.asked, [0, 1, 2]);
    // A page as full as others are may have more behind it.
    let mut window = Window::of([2, 1]).clamp(2);
    let sheet = window.read_while(None, None, |window, page| {
        if page == 2 {
            window.buy([3, 4]);
        }
    });
    assert_eq!(sheet.reach, Ok(None));
    assert_eq!(window.asked, [0, 1, 2, 3, 4]);
}

#[test]
fn pages_may_fail_to_overlap_eight_times_for_one_that_brings_the_listing_on() {
    let alone = |n| Page { rows: vec![row(n)], total: None, date: None };
    for misses in [8, 9] {
        let (mut listing, _) = Window::of([]).start(None, None);
        assert_ne!(listing.page(Page { rows: vec![row(9), row(8)], ..alone(0) }), Next::Done);
        for n in 0..misses {
            let is_done = listing.page(alone(100 + n)) == Next::Done;
            assert_eq!(is_done, n == 8, "after {n}");
        }
        let next = listing.page(Page { rows: vec![row(8), row(7)], ..alone(0) });
        assert_eq!(next == Next::Done, misses == 9);
    }
}

#[test]
fn the_last_row_is_looked_for_where_it_was_and_then_further_ahead() {
    // It is gone: what is left of the sequence says where it would be, and it is not there.
    let mut window = Window::of((0..10).rev()).clamp(4);
    let sheet = window.read_while(None, None, |window, page| {
        if page == 1 {
            window.rows.remove(3);
        }
    });
    assert_eq!(sheet.reach, Err(NoEvidence::Gap));
    assert_eq!(window.asked[..4], [0, 3, 0, 0]);
    // More were pushed than a page holds, when what comes after it was asked for.
    let mut window = Window::of([2, 1]).clamp(2);
    let sheet = window.read_while(None, None, |window, page| {
        if page == 2 {
            window.buy(10..20);
        }
    });
    lacks_none(&sheet, [2, 1]);
    assert_eq!(window.asked[..4], [0, 1, 2, 1]);
}

#[test]
fn rows_out_of_sequence_do_not_tell_how_far_back_a_list_was_read() {
    // 20 rows go from its head: a page far below is read, and the rows before it are not.
    let mut window = Window::of((0..60).rev().map(|n| n * 20)).clamp(10);
    let sheet = window.read_while(Some(150), None, |window, page| {
        if page == 3 {
            window.rows.drain(..20);
        }
    });
    lacks_none(&sheet, (0..40).map(|n| n * 20).filter(|second| *second >= 150));
    let far = Window::of((0..60).rev().map(|n| n * 20)).clamp(10).read(Some(150));
    assert_eq!(far.reach, Ok(Some(at(150))));
}

#[test]
fn a_list_may_be_out_of_order_by_exactly_the_margin() {
    let stops = |off: i64| Window::of([200, 100, off, 50, 40]).clamp(4).read(Some(90)).reach;
    assert_eq!(stops(110), Ok(Some(at(90))));
    assert_eq!(stops(111), Ok(None));
    let checkpoint =
        |off: i64| Window::of([100, 200, off, 300]).oldest_first().read(None).checkpoint;
    assert!(checkpoint(190).is_some());
    assert_eq!(checkpoint(189), None);
}

#[test]
fn a_list_is_read_until_a_row_is_older_than_since_and_margin() {
    let mut window = Window::of([200, 90, 89, 1]).clamp(2);
    assert_eq!(window.read(Some(100)).reach, Ok(Some(at(100))));
    assert_eq!(window.asked, [0, 1], "a row of exactly then may have another of its moment behind");
    // It runs back once its rows are further apart than the margin.
    let mut window = Window::of([20, 10, 9, 1]).clamp(2);
    assert_eq!(window.read(Some(1_000)).reach, Ok(Some(at(1_000))));
    assert_eq!(window.asked, [0, 1]);
}

#[test]
fn a_list_whose_only_row_goes_is_no_evidence() {
    let mut window = Window::of([1]);
    let sheet = window.read_while(None, None, |window, _| window.rows.clear());
    assert_eq!(sheet.reach, Err(NoEvidence::Gap));
    assert!(window.asked.len() < 30);
}

/// Reads a list whose pages are asked for by number: a page begins where its number says.
fn read_by_number(window: &mut Window, since: Option<i64>) -> Sheet {
    let (mut listing, mut request) = window.start(since, None);
    loop {
        let offset = request.offset - request.offset % u64::from(request.limit);
        match listing.page(window.page(PageRequest { offset, ..request })) {
            Next::More(next) => request = next,
            Next::Done => return listing.finish(),
        }
    }
}

#[test]
fn pages_by_number_do_not_overlap_and_prove_nothing_beyond_the_first() {
    for newest in 0..130 {
        let mut window = Window::of((1..=newest).rev());
        (window.limit, window.clamp) = (30, 30);
        let sheet = read_by_number(&mut window, None);
        lacks_none(&sheet, 1..=newest);
        // A single row is asked for again until an empty page is behind it.
        assert_eq!(sheet.reach.is_ok(), newest <= 1, "{newest} rows: {:?}", sheet.reach);
        assert!(window.asked.len() < 10 * 30, "{newest} rows: {} pages", window.asked.len());
    }
    let mut window = Window::of((1..=100).rev());
    (window.limit, window.clamp) = (30, 30);
    assert_eq!(read_by_number(&mut window, Some(90)).reach, Ok(Some(at(90))));
    assert_eq!(window.asked, [0]);
    assert_eq!(read_by_number(&mut window, Some(70)).reach, Err(NoEvidence::Gap));
}
