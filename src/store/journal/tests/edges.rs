//! What the journal says of itself, and where exactly its bounds are.

use super::super::frame::SegmentHeader;
use super::super::writer::{AHEAD_BYTES, FRAME_BYTES_FULL};
use super::*;
use crate::store::StoreError;
use crate::store::book::Standing;
use crate::store::record::{JournalKey, encode_change};
use crate::testing::conformance::{Bench, decide, placed};

fn pause(text: &str) -> Change {
    Change::Pause { why: Why::Owned(text.to_owned()) }
}

fn open(disk: &Arc<dyn Disk>, segment_bytes: u64, record_bytes_max: usize) -> Journal {
    let sizes = (segment_bytes, record_bytes_max);
    recover(disk, dir(), Position::default(), sizes, &mut |_, _| Ok(())).expect("opens")
}

fn header(segment: u64, first_seq: u64) -> Vec<u8> {
    SegmentHeader { segment, first_seq }.encode()
}

#[test]
fn a_frame_shows_the_standing_the_changes_and_the_keys_that_it_was_written_with() {
    let (_, disk) = disk();
    let (mut journal, mut book) = (open(&disk, 1 << 20, 10_000), Book::new(false));
    let bench = Bench::new(Arc::new(crate::store::MemoryStore::new()));
    let (intent, attempt) = (bench.intent("ref-1", "p"), bench.attempt());
    let ids = (intent.id, attempt.seq);
    let end = placed("order-1", crate::protocol::Learnt::Answer);
    let changes =
        vec![Change::Accept { intent, attempt: Some(attempt) }, decide(ids, end), Change::Resume];
    for change in &changes {
        journal.add(change).expect("fits");
        book.apply(change.clone()).expect("follows");
    }
    assert_eq!(journal.records(), 3);
    journal.write(book.standing()).expect("writes");
    assert_eq!(journal.records(), 0);
    let wanted = Standing { newest_known: None, ..*book.standing() };
    assert_ne!(wanted, Standing::default());
    let segments = Segments::find(disk, dir()).expect("finds");
    let mut frames = 0;
    let tail = segments.read_all(&mut |_, frame| {
        frames += 1;
        assert_eq!(frame.decode(), Ok((wanted, changes.clone())));
        assert_eq!(frame.standing(), Ok(wanted));
        let mut keys = Vec::new();
        let seen = frame.keys(&mut |key| {
            keys.push(match key {
                JournalKey::Reference(key) => format!("reference {key}"),
                JournalKey::Order(key) => format!("order {key}"),
            });
        });
        assert_eq!((seen, keys), (Ok(()), vec!["reference ref-1".into(), "order order-1".into()]));
        Ok(())
    });
    assert_eq!((tail.expect("whole"), frames), (Tail::Clean, 1));
    let newest = segments.newest_standing().expect("reads").expect("there is one");
    assert_eq!(newest, wanted);
}

#[test]
fn newest_standing_is_of_the_segment_before_where_the_last_has_no_frame_yet() {
    let (forgetful, disk, ..) = three_frames();
    let before = Segments::find(disk.clone(), dir()).expect("finds");
    let standing = before.newest_standing().expect("reads");
    let file = forgetful.open(&segment(2), true).expect("creates");
    file.write_at(&header(2, 4), 0).expect("writes");
    let segments = Segments::find(disk.clone(), dir()).expect("finds");
    assert!(standing.is_some_and(|standing| standing.changes == 3));
    assert_eq!(segments.newest_standing().expect("reads"), standing);
    // A power cut between the header and the first frame: appending goes on there.
    let (mut journal, seen) = recovered(&disk, Position::default()).expect("opens");
    assert_eq!(seen, [1, 2, 3]);
    journal.add(&Change::Resume).expect("fits");
    journal.write(&Standing::default()).expect("writes");
    assert_eq!((journal.last().segment, journal.last().seq), (2, 4));
    assert_eq!(recovered(&disk, Position::default()).expect("opens").1, [1, 2, 3, 4]);
}

#[test]
fn bytes_are_those_of_all_segments() {
    let (forgetful, disk) = disk();
    let (mut journal, _) = recovered(&disk, Position::default()).expect("opens");
    let mut wanted = SEGMENT_HEADER_BYTES as u64;
    assert_eq!(journal.bytes(), wanted);
    for at in 0..20 {
        journal.add(&pause(&format!("frame {at:03}"))).expect("fits");
        let before = journal.last().segment.max(1);
        journal.write(&Standing::default()).expect("writes");
        let Position { segment: number, offset, .. } = journal.last();
        let file = forgetful.contents(&segment(number)).expect("there");
        let frame = &file[usize::try_from(offset).expect("small")..];
        wanted += Frame::parse(frame, number).expect("whole").bytes as u64;
        wanted += (number - before) * SEGMENT_HEADER_BYTES as u64;
        assert_eq!(journal.bytes(), wanted, "frame {at}");
    }
    let lengths = || -> u64 {
        let contents = |path: &PathBuf| forgetful.contents(path).expect("there").len() as u64;
        forgetful.paths().iter().map(contents).sum()
    };
    let segments = Segments::find(disk.clone(), dir()).expect("finds");
    assert_eq!(segments.bytes().expect("reads"), lengths());
    drop(segments);
    // Opened again: whole files before the last one, and of that what is in use.
    let (journal, _) = recovered(&disk, Position::default()).expect("opens");
    assert_eq!(journal.bytes(), lengths());
}

#[test]
fn a_header_that_says_another_number_or_another_beginning_is_refused() {
    for (wrong, what) in [(header(3, 4), "number"), (header(2, 5), "beginning")] {
        let (forgetful, disk, ..) = three_frames();
        let file = forgetful.open(&segment(2), true).expect("creates");
        file.write_at(&wrong, 0).expect("writes");
        assert!(is_lost(&recovered(&disk, Position::default())), "another {what}");
    }
}

#[test]
fn segment_that_was_being_created_may_have_room_behind_it() {
    let (forgetful, disk, ..) = three_frames();
    let file = forgetful.open(&segment(2), true).expect("creates");
    file.write_at(&[b"ord".to_vec(), vec![0; 500]].concat(), 0).expect("writes");
    assert_eq!(recovered(&disk, Position::default()).expect("opens").1, [1, 2, 3]);
    assert!(!forgetful.paths().contains(&segment(2)));
}

#[test]
fn torn_bytes_are_counted_to_the_last_that_is_not_zero() {
    for (rest, wanted) in [
        (&[0; 9][..], Tail::Clean),
        (&[1], Tail::Torn { bytes: 1 }),
        (&[1, 0, 0], Tail::Torn { bytes: 1 }),
        (&[0, 0, 7, 0], Tail::Torn { bytes: 3 }),
    ] {
        let (forgetful, disk, ..) = three_frames();
        forgetful.damage(&segment(1), |file| file.extend_from_slice(rest));
        let segments = Segments::find(disk, dir()).expect("finds");
        assert_eq!(segments.read_all(&mut |_, _| Ok(())).expect("reads"), wanted, "{rest:?}");
    }
}

#[test]
fn a_record_of_the_largest_size_fits_and_one_byte_more_does_not() {
    let (_, disk) = disk();
    let mut bytes = Vec::new();
    encode_change(&pause("1234"), &mut bytes);
    let mut journal = open(&disk, 1 << 20, bytes.len());
    journal.add(&pause("1234")).expect("fits");
    for larger in ["12345", "123456"] {
        let refused = journal.add(&pause(larger)).expect_err("does not fit");
        let StoreError::TooLarge { bytes: found, bytes_max } = refused else {
            panic!("{refused}");
        };
        assert_eq!((found, bytes_max), (bytes.len() + larger.len() - 4, bytes.len()));
    }
    assert_eq!(journal.records(), 1);
    journal.write(&Standing::default()).expect("writes");
    let segments = Segments::find(disk, dir()).expect("finds");
    let read = segments.read_all(&mut |_, frame| {
        assert_eq!(frame.decode().expect("reads").1, [pause("1234")]);
        Ok(())
    });
    assert_eq!(read.expect("reads"), Tail::Clean);
}

#[test]
fn a_frame_is_full_from_its_bound_on() {
    let (_, disk) = disk();
    let mut journal = open(&disk, 1 << 30, 10_000);
    let change = pause(&"x".repeat(9_000));
    let mut bytes = 0;
    while bytes < FRAME_BYTES_FULL {
        assert!(!journal.is_full(), "at {bytes} of {FRAME_BYTES_FULL}");
        journal.add(&change).expect("fits");
        bytes = usize::try_from(journal.records()).expect("few") * 9_000;
    }
    assert!(journal.is_full());
    assert_eq!(FRAME_BYTES_FULL, 1 << 20);
    journal.write(&Standing::default()).expect("writes");
    assert!(!journal.is_full());
}

#[test]
fn room_is_allocated_ahead_once_and_again_when_it_is_used_up() {
    let (forgetful, disk) = disk();
    let mut journal = open(&disk, 1 << 30, 10_000);
    let length = || forgetful.contents(&segment(1)).expect("there").len();
    let mut write = |text: &str| {
        journal.add(&pause(text)).expect("fits");
        journal.write(&Standing::default()).expect("writes");
        usize::try_from(journal.bytes()).expect("small")
    };
    assert_eq!(AHEAD_BYTES, 256 << 10);
    let mut allocated = write("first") + AHEAD_BYTES;
    assert_eq!(length(), allocated);
    for round in 0..2 {
        let end = loop {
            let end = write(&"x".repeat(9_000));
            if end > allocated {
                break end;
            }
            assert_eq!(length(), allocated, "round {round}: there is room");
        };
        allocated = end + AHEAD_BYTES;
        assert_eq!(length(), allocated, "round {round}");
    }
}

#[test]
fn a_segment_is_filled_to_its_last_byte_and_takes_one_frame_of_any_size() {
    let (_, roomy) = disk();
    let mut journal = open(&roomy, 1 << 20, 10_000);
    let mut ends = Vec::new();
    for _ in 0..3 {
        journal.add(&pause("same")).expect("fits");
        journal.write(&Standing::default()).expect("writes");
        ends.push(journal.bytes());
    }
    let (_, exact) = disk();
    let mut journal = open(&exact, ends[1], 10_000);
    let mut segments = Vec::new();
    for _ in 0..3 {
        journal.add(&pause("same")).expect("fits");
        journal.write(&Standing::default()).expect("writes");
        segments.push(journal.last().segment);
    }
    assert_eq!(segments, [1, 1, 2]);
    let (forgetful, tiny) = disk();
    let mut journal = open(&tiny, 50, 10_000);
    journal.add(&pause("larger than its segment")).expect("fits");
    journal.write(&Standing::default()).expect("writes");
    assert_eq!((journal.last().segment, forgetful.paths().len()), (1, 1));
}
