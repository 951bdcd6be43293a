//! One test per rule of reading, against a shop window that clamps, shifts and lies.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::order::{EchoProfile, EchoedItem};

mod edges;

const MARGIN: Duration = Duration::from_secs(10);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("second")
}

fn id(n: i64) -> OrderId {
    OrderId::new(format!("#{n}")).expect("id")
}

/// The order `n`, created in second `n`.
fn row(n: i64) -> Row {
    let item = EchoedItem { id: "card".into(), quantity: Some(1), note: None };
    Row {
        id: id(n),
        status: "active".into(),
        created_at: at(n),
        items: Some(vec![item]),
        cost: None,
    }
}

/// What the supplier shows.
#[derive(Clone)]
struct Window {
    rows: Vec<Row>,
    newest_first: bool,
    /// What a page is asked for, and what is given at most.
    limit: u32,
    clamp: usize,
    total: Option<u64>,
    asked: Vec<u64>,
}

impl Window {
    /// Orders created in these seconds, in this order.
    fn of(seconds: impl IntoIterator<Item = i64>) -> Self {
        Self {
            rows: seconds.into_iter().map(row).collect(),
            newest_first: true,
            limit: 100,
            clamp: 100,
            total: None,
            asked: Vec::new(),
        }
    }

    fn clamp(mut self, rows: usize) -> Self {
        self.clamp = rows;
        self
    }

    fn oldest_first(mut self) -> Self {
        self.newest_first = false;
        self
    }

    fn page(&mut self, request: PageRequest) -> Page {
        self.asked.push(request.offset);
        let offset = usize::try_from(request.offset).expect("offset");
        let count = self.clamp.min(usize::try_from(request.limit).expect("limit"));
        let rows = self.rows.iter().skip(offset).take(count).cloned().collect();
        Page { rows, total: self.total, date: Some(at(1_000_000)) }
    }

    fn buy(&mut self, seconds: impl IntoIterator<Item = i64>) {
        for second in seconds {
            if self.newest_first {
                self.rows.insert(0, row(second));
            } else {
                self.rows.push(row(second));
            }
        }
    }

    fn start(&self, since: Option<i64>, from: Option<&Checkpoint>) -> (Listing, PageRequest) {
        let capabilities = Capabilities {
            echo: EchoProfile::default(),
            newest_first: self.newest_first,
            page_limit: self.limit,
        };
        Listing::start(&capabilities, since.map(at), MARGIN, from)
    }

    fn read(&mut self, since: Option<i64>) -> Sheet {
        self.read_while(since, None, |_, _| {})
    }

    /// Reads; `meanwhile` happens before each page but the first.
    fn read_while(
        &mut self,
        since: Option<i64>,
        from: Option<&Checkpoint>,
        mut meanwhile: impl FnMut(&mut Self, usize),
    ) -> Sheet {
        let (mut listing, mut request) = self.start(since, from);
        loop {
            match listing.page(self.page(request)) {
                Next::More(next) => request = next,
                Next::Done => return listing.finish(),
            }
            meanwhile(self, self.asked.len());
        }
    }
}

#[track_caller]
fn check(sheet: &Sheet, reach: Result<Option<i64>, NoEvidence>, rows: impl Iterator<Item = i64>) {
    assert_eq!(sheet.reach, reach.map(|since| since.map(at)));
    let shown: Vec<_> = sheet.rows.iter().map(|row| row.id.clone()).collect();
    assert_eq!(shown, rows.map(id).collect::<Vec<_>>());
}

#[test]
fn an_empty_list_is_read_to_its_end_by_one_empty_page() {
    let mut window = Window::of([]);
    let sheet = window.read(Some(5));
    check(&sheet, Ok(None), std::iter::empty());
    assert_eq!(window.asked, [0]);
    assert_eq!(sheet.date, Some(at(1_000_000)));
}

#[test]
fn a_short_page_is_not_the_end() {
    let mut window = Window::of((0..95).rev()).clamp(10);
    check(&window.read(None), Ok(None), (0..95).rev());
    assert!(window.asked.len() > 10, "{:?}", window.asked);
}

#[test]
fn pages_of_one_row_cannot_overlap_and_are_no_evidence() {
    let mut window = Window::of((0..5).rev()).clamp(1);
    assert_eq!(window.read(None).reach, Err(NoEvidence::Gap));
    assert!(window.asked.len() < 30);
    check(&Window::of((0..5).rev()).clamp(2).read(None), Ok(None), (0..5).rev());
}

#[test]
fn newest_first_stops_once_a_row_is_older_than_since_and_margin() {
    let mut window = Window::of((0..1000).rev().map(|n| n * 5));
    let sheet = window.read(Some(4000));
    assert_eq!(sheet.reach, Ok(Some(at(4000))));
    assert_eq!(window.asked, [0, 99, 198]);
    assert!(sheet.rows.iter().any(|row| row.created_at < at(3990)));
}

#[test]
fn rows_that_shift_while_others_buy_are_found_again_by_their_overlap() {
    let mut window = Window::of((0..300).rev());
    let sheet = window.read_while(None, None, |window, page| {
        let first = 1000 + 10 * i64::try_from(page).expect("page");
        if page < 5 {
            window.buy(first..first + 7);
        }
    });
    assert_eq!(sheet.reach, Ok(None));
    let shown: BTreeSet<_> = sheet.rows.iter().map(|row| row.id.clone()).collect();
    assert!((0..300).all(|n| shown.contains(&id(n))));
    assert_eq!(shown.len(), sheet.rows.len());
}

#[test]
fn a_whole_page_of_known_rows_is_followed_to_where_the_last_row_went() {
    let mut window = Window::of((0..300).rev()).clamp(20);
    let sheet = window.read_while(None, None, |window, page| {
        if page == 3 {
            window.buy(1000..1050);
        }
    });
    assert_eq!(sheet.reach, Ok(None));
    let old = sheet.rows.iter().filter(|row| row.created_at < at(1000)).count();
    assert_eq!(old, 300);
}

#[test]
fn rows_pushed_faster_than_they_are_read_are_a_gap() {
    let mut next = 10_000;
    let sheet = Window::of((0..300).rev()).clamp(10).read_while(None, None, |window, _| {
        window.buy(next..next + 500);
        next += 500;
    });
    assert_eq!(sheet.reach, Err(NoEvidence::Gap));
}

#[test]
fn a_row_taken_away_makes_the_reading_step_back() {
    let mut window = Window::of((0..300).rev());
    let sheet = window.read_while(None, None, |window, page| {
        if page == 1 {
            window.rows.remove(50);
        }
    });
    check(&sheet, Ok(None), (0..300).rev());
    assert_eq!(window.asked[..3], [0, 99, 0]);
}

#[test]
fn a_list_out_of_order_by_more_than_the_margin_is_read_to_its_end() {
    let mixed = (0..500).map(|n| (n * 77) % 500 * 20);
    let sheet = Window::of(mixed).read(Some(9_000));
    assert_eq!(sheet.reach, Ok(None));
    assert_eq!(sheet.rows.len(), 500);
}

#[test]
fn a_list_out_of_order_within_the_margin_is_sorted() {
    let jumbled = (0..500).rev().map(|n| n * 5 + if n % 2 == 0 { 8 } else { 0 });
    let mut window = Window::of(jumbled);
    assert_eq!(window.read(Some(2_000)).reach, Ok(Some(at(2_000))));
    assert!(window.asked.len() < 5);
}

#[test]
fn a_list_that_runs_the_other_way_does_not_stop_at_its_old_rows() {
    for clamp in [2, 3, 100] {
        let sheet = Window::of((0..50).map(|n| n * 4)).clamp(clamp).read(Some(150));
        check(&sheet, Ok(None), (0..50).rev().map(|n| n * 4));
    }
    // All of one moment: nothing shows which way it runs.
    let mut window = Window::of([]);
    window.rows = (0..50).map(|n| Row { created_at: at(7), ..row(n) }).collect();
    window.rows.push(row(500));
    let sheet = window.clamp(10).read(Some(400));
    assert_eq!((sheet.reach, sheet.rows.len()), (Ok(None), 51));
}

#[test]
fn a_row_shown_twice_with_the_same_content_counts_once() {
    let mut window = Window::of([5, 4, 4, 3]);
    window.rows[2].status = "paid".into();
    let sheet = window.read(None);
    check(&sheet, Ok(None), [5, 4, 3].into_iter());
    assert_eq!(sheet.rows[1].status, "paid");
}

#[test]
fn a_row_shown_twice_with_different_content_is_no_evidence() {
    let mut window = Window::of([5, 4, 4, 3]);
    window.rows[2].items = None;
    assert_eq!(window.read(None).reach, Err(NoEvidence::Contradiction(id(4))));
    let mut window = Window::of([5, 4, 4, 3]);
    window.rows[2].created_at = at(9);
    assert_eq!(window.read(None).reach, Err(NoEvidence::Contradiction(id(4))));
}

#[test]
fn a_list_that_ends_before_its_own_total_is_partial() {
    let mut window = Window::of((0..30).rev());
    window.total = Some(31);
    let partial = NoEvidence::Partial { offset: 30, total: 31 };
    assert_eq!(window.read(None).reach, Err(partial));
    window.total = Some(30);
    assert_eq!(window.read(None).reach, Ok(None));
    let mut window = Window::of([]);
    window.total = Some(1);
    assert_eq!(window.read(None).reach, Err(NoEvidence::Partial { offset: 0, total: 1 }));
}

#[test]
fn a_listing_has_a_bound_of_pages_and_keeps_its_rows() {
    let mut window = Window::of((0..1000).rev());
    let (mut listing, mut request) = window.start(None, None);
    listing.limit_pages(3);
    while let Next::More(next) = listing.page(window.page(request)) {
        request = next;
    }
    assert_eq!(listing.pages(), 3);
    let sheet = listing.finish();
    assert_eq!(sheet.reach, Err(NoEvidence::TooLong));
    assert_eq!(sheet.rows.len(), 298);
}

#[test]
fn a_listing_that_breaks_off_is_no_evidence_and_keeps_its_rows() {
    let mut window = Window::of((0..300).rev());
    let (mut listing, request) = window.start(None, None);
    assert_eq!(listing.clone().finish().reach, Err(NoEvidence::Unfinished));
    assert_ne!(listing.page(window.page(request)), Next::Done);
    let sheet = listing.broken_off("timeout".into());
    assert_eq!(sheet.reach, Err(NoEvidence::Broken("timeout".into())));
    assert_eq!(sheet.rows.len(), 100);
}

#[test]
fn a_row_whose_items_cannot_be_read_stays_in() {
    let mut window = Window::of([2, 1]);
    window.rows[1].items = None;
    let sheet = window.read(None);
    assert_eq!(sheet.reach, Ok(None));
    assert_eq!(sheet.rows[1].items, None);
}

#[test]
fn oldest_first_is_read_forward_to_an_empty_page() {
    let mut window = Window::of(0..250).oldest_first();
    let sheet = window.read(Some(200));
    check(&sheet, Ok(None), (0..250).rev());
    assert_eq!(window.asked, [0, 99, 198, 249, 250]);
    let checkpoint = Checkpoint { offset: 189, id: id(189), created_at: at(189) };
    assert_eq!(sheet.checkpoint, Some(checkpoint));
}

#[test]
fn oldest_first_goes_on_from_a_checkpoint() {
    let mut window = Window::of(0..250).oldest_first();
    let from = window.read(Some(200)).checkpoint.expect("checkpoint");
    window.asked.clear();
    let sheet = window.read_while(Some(205), Some(&from), |window, page| {
        if page == 1 {
            window.buy(250..255);
        }
    });
    check(&sheet, Ok(Some(205)), (189..255).rev());
    assert_eq!(window.asked[0], 189);
    assert_eq!(sheet.checkpoint.map(|c| c.offset), Some(194));
}

#[test]
fn a_checkpoint_that_is_not_older_than_since_and_margin_is_not_used() {
    let mut window = Window::of(0..250).oldest_first();
    let from = window.read(Some(200)).checkpoint.expect("checkpoint");
    let (_, first) = window.start(Some(199), Some(&from));
    assert_eq!(first.offset, 0);
    let (_, first) = window.start(None, Some(&from));
    assert_eq!(first.offset, 0);
}

#[test]
fn a_checkpoint_that_is_not_where_it_was_is_read_from_the_first_row() {
    let mut window = Window::of(0..250).oldest_first();
    let from = window.read(Some(200)).checkpoint.expect("checkpoint");
    window.rows.remove(3);
    let rows = window.rows.clone();
    check(
        &window.read_while(Some(200), Some(&from), |_, _| {}),
        Ok(None),
        (0..250).rev().filter(|n| *n != 3),
    );
    assert_eq!(rows.len(), 249);
    // The list has become shorter than the checkpoint's offset.
    window.rows.truncate(100);
    assert_eq!(window.read_while(Some(200), Some(&from), |_, _| {}).reach, Ok(None));
}

#[test]
fn from_a_checkpoint_a_list_out_of_order_is_read_from_the_first_row() {
    let mut window = Window::of(0..250).oldest_first();
    let from = window.read(Some(200)).checkpoint.expect("checkpoint");
    window.rows.swap(200, 240);
    let sheet = window.read_while(Some(200), Some(&from), |_, _| {});
    check(&sheet, Ok(None), (0..250).rev());
    assert_eq!(sheet.checkpoint, None);
}

proptest! {
    #[test]
    fn insertions_never_lose_a_row(
        count in 0_i64..400,
        clamp in 1_usize..40,
        since in proptest::option::of(0_i64..900),
        bought in proptest::collection::vec(0_i64..60, 0..60),
        newest_first: bool,
    ) {
        let seconds = (0..count).map(|n| n * 2);
        let mut window = if newest_first {
            Window::of(seconds.rev()).clamp(clamp)
        } else {
            Window::of(seconds).clamp(clamp).oldest_first()
        };
        let mut next = 1000;
        let sheet = window.read_while(since, None, |window, page| {
            let some = bought.get(page).copied().unwrap_or(0);
            window.buy(next..next + some);
            next += some;
        });
        let shown: BTreeSet<_> = sheet.rows.iter().map(|row| row.id.clone()).collect();
        prop_assert_eq!(shown.len(), sheet.rows.len());
        match sheet.reach {
            Ok(reach) => {
                let must = (0..count).map(|n| n * 2).filter(|n| Some(at(*n)) >= reach);
                for n in must {
                    prop_assert!(shown.contains(&id(n)), "{} is lost", n);
                }
            }
            Err(why) => prop_assert_eq!(why, NoEvidence::Gap),
        }
    }

    #[test]
    fn changes_of_any_kind_lose_no_row_that_stays(
        count in 1_i64..200,
        clamp in 1_usize..40,
        changes in proptest::collection::vec((0_usize..200, 0_i64..8, any::<bool>()), 0..30),
    ) {
        let mut window = Window::of((0..count).rev().map(|n| n * 2)).clamp(clamp);
        let mut gone = BTreeSet::new();
        let mut next = 1000;
        let sheet = window.read_while(None, None, |window, page| {
            let Some((index, some, remove)) = changes.get(page).copied() else { return };
            window.buy(next..next + some);
            next += some;
            if remove && index < window.rows.len() {
                gone.insert(window.rows.remove(index).id);
            }
        });
        let shown: BTreeSet<_> = sheet.rows.iter().map(|row| row.id.clone()).collect();
        if sheet.reach == Ok(None) {
            for n in (0..count).map(|n| id(n * 2)).filter(|n| !gone.contains(n)) {
                prop_assert!(shown.contains(&n), "{} is lost", n);
            }
        }
    }
}
