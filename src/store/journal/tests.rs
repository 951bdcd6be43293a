//! The tail rules: every cut and every flipped bit is told for what it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::SEGMENT_HEADER_BYTES;
use super::*;
use crate::protocol::{Change, Why};
use crate::runtime::disk::Disk;
use crate::store::OpenError;
use crate::store::book::Book;
use crate::testing::disk::ForgetfulDisk;

mod edges;

const SEGMENT_BYTES: u64 = 700;

fn dir() -> &'static Path {
    Path::new("/store/journal")
}

fn disk() -> (ForgetfulDisk, Arc<dyn Disk>) {
    let forgetful = ForgetfulDisk::new();
    forgetful.create_dir(dir()).expect("creates");
    (forgetful.clone(), Arc::new(forgetful))
}

fn recovered(disk: &Arc<dyn Disk>, from: Position) -> Result<(Journal, Vec<u64>), OpenError> {
    let mut seen = Vec::new();
    let sizes = (SEGMENT_BYTES, 10_000);
    let journal = recover(disk, dir(), from, sizes, &mut |position, frame| {
        assert_eq!(position.seq, frame.seq);
        frame.decode().expect("decodes");
        seen.push(frame.seq);
        Ok(())
    })?;
    Ok((journal, seen))
}

/// Writes frames of one change each and says where each ended.
fn write(disk: &Arc<dyn Disk>, frames: u64) -> Vec<Position> {
    let (mut journal, _) = recovered(disk, Position::default()).expect("opens");
    let mut book = Book::new(false);
    let mut positions = Vec::new();
    for at in 0..frames {
        let change = Change::Pause { why: Why::Owned(format!("frame {at}")) };
        journal.add(&change).expect("fits");
        book.apply(change).expect("follows");
        journal.write(book.standing()).expect("writes");
        positions.push(journal.last());
    }
    positions
}

fn segment(number: u64) -> PathBuf {
    dir().join(format!("{number:016}.seg"))
}

/// One segment with three frames, without the room ahead, and where each begins.
fn three_frames() -> (ForgetfulDisk, Arc<dyn Disk>, Vec<Position>, usize) {
    let (forgetful, disk) = disk();
    let positions = write(&disk, 3);
    drop(recovered(&disk, Position::default()).expect("opens"));
    let bytes = forgetful.contents(&segment(1)).expect("there").len();
    (forgetful, disk, positions, bytes)
}

fn is_lost(result: &Result<(Journal, Vec<u64>), OpenError>) -> bool {
    matches!(result, Err(OpenError::Corrupt { .. }))
}

#[test]
fn frames_come_back_in_order_over_segments_and_appending_goes_on() {
    let (forgetful, disk) = disk();
    let positions = write(&disk, 20);
    assert!(forgetful.paths().len() > 3, "{:?}", forgetful.paths());
    let (_, seen) = recovered(&disk, Position::default()).expect("opens");
    assert_eq!(seen, (1..=20).collect::<Vec<_>>());
    let (_, seen) = recovered(&disk, positions[16]).expect("opens");
    assert_eq!(seen, [17, 18, 19, 20], "from the watermark on, its own frame first");
    let (mut journal, _) = recovered(&disk, positions[19]).expect("opens");
    journal.add(&Change::Resume).expect("fits");
    journal.write(&crate::store::book::Standing::default()).expect("writes");
    let (_, seen) = recovered(&disk, positions[19]).expect("opens");
    assert_eq!(seen, [20, 21]);
}

#[test]
fn every_cut_of_the_last_frame_is_torn_and_cut_off() {
    let (_, _, positions, bytes) = three_frames();
    let start = usize::try_from(positions[2].offset).expect("small");
    for cut in start..bytes {
        let (forgetful, disk, ..) = three_frames();
        forgetful.damage(&segment(1), |file| file.truncate(cut));
        let (_, seen) = recovered(&disk, Position::default()).expect("opens");
        assert_eq!(seen, [1, 2], "cut at {cut}");
        assert_eq!(forgetful.contents(&segment(1)).expect("there").len(), start);
        // The same with room ahead: zeros where the rest of the frame should be.
        let (forgetful, disk, ..) = three_frames();
        forgetful.damage(&segment(1), |file| {
            file[cut..].fill(0);
            file.resize(bytes + 4096, 0);
        });
        let kept = if recovered(&disk, Position::default()).expect("opens").1.len() == 3 {
            // Cutting zeros changes nothing.
            let (whole, ..) = three_frames();
            whole.contents(&segment(1)).expect("there")[cut..].iter().all(|byte| *byte == 0)
        } else {
            true
        };
        assert!(kept, "zeros from {cut}");
    }
}

#[test]
fn every_flipped_bit_of_the_last_frame_makes_it_torn() {
    let (_, _, positions, bytes) = three_frames();
    let start = usize::try_from(positions[2].offset).expect("small");
    for bit in start * 8..bytes * 8 {
        let (forgetful, disk, ..) = three_frames();
        forgetful.damage(&segment(1), |file| file[bit / 8] ^= 1 << (bit % 8));
        let (_, seen) = recovered(&disk, Position::default()).expect("opens");
        assert_eq!(seen, [1, 2], "bit {bit}");
    }
}

#[test]
fn every_flipped_bit_before_the_last_frame_is_refused() {
    let (_, _, positions, _) = three_frames();
    let end = usize::try_from(positions[2].offset).expect("small");
    for bit in 0..end * 8 {
        let (forgetful, disk, ..) = three_frames();
        forgetful.damage(&segment(1), |file| file[bit / 8] ^= 1 << (bit % 8));
        let result = recovered(&disk, Position::default());
        assert!(is_lost(&result), "bit {bit}: {:?}", result.map(|(_, seen)| seen));
    }
}

#[test]
fn damaged_tail_of_an_earlier_segment_is_refused() {
    let (forgetful, disk) = disk();
    write(&disk, 20);
    forgetful.damage(&segment(1), |file| {
        let last = file.iter().rposition(|byte| *byte != 0).expect("not empty");
        file[last] ^= 1;
    });
    assert!(is_lost(&recovered(&disk, Position::default())));
}

#[test]
fn missing_segment_and_gap_are_refused() {
    for gone in 1..=3 {
        let (forgetful, disk) = disk();
        write(&disk, 20);
        forgetful.remove(&segment(gone)).expect("removes");
        assert!(is_lost(&recovered(&disk, Position::default())), "segment {gone}");
    }
    let (forgetful, disk, positions, _) = three_frames();
    let (two, three) = (positions[1].offset, positions[2].offset);
    forgetful.damage(&segment(1), |file| {
        let (two, three) = (usize::try_from(two), usize::try_from(three));
        file.drain(two.expect("small")..three.expect("small"));
    });
    assert!(is_lost(&recovered(&disk, Position::default())), "frame 3 where 2 must come");
}

#[test]
fn watermark_beyond_the_end_is_refused() {
    let (forgetful, disk, positions, _) = three_frames();
    let start = usize::try_from(positions[2].offset).expect("small");
    forgetful.damage(&segment(1), |file| file.truncate(start));
    assert!(is_lost(&recovered(&disk, positions[2])));
    let beyond = Position { segment: 2, ..positions[2] };
    assert!(is_lost(&recovered(&disk, beyond)));
    forgetful.remove(&segment(1)).expect("removes");
    assert!(is_lost(&recovered(&disk, positions[0])));
}

#[test]
fn segment_that_was_being_created_is_dropped_and_made_again() {
    for bytes in 0..SEGMENT_HEADER_BYTES {
        let (forgetful, disk, ..) = three_frames();
        let file = forgetful.open(&segment(2), true).expect("creates");
        file.write_at(&vec![b'o'; bytes], 0).expect("writes");
        let (_, seen) = recovered(&disk, Position::default()).expect("opens");
        assert_eq!(seen, [1, 2, 3]);
        assert!(!forgetful.paths().contains(&segment(2)));
    }
}

#[test]
fn segment_with_a_damaged_header_and_anything_behind_it_is_refused() {
    // A header is synced before the first frame is written: a segment with a frame was never
    // one that was being created, however many frames it has and whether the last is whole.
    for frames in 1..=2 {
        for torn in [false, true] {
            for bit in 0..SEGMENT_HEADER_BYTES * 8 {
                let (forgetful, disk) = disk();
                write(&disk, frames);
                forgetful.damage(&segment(1), |file| {
                    file[bit / 8] ^= 1 << (bit % 8);
                    let last = file.iter().rposition(|byte| *byte != 0).expect("not empty");
                    file.truncate(last + 1 - usize::from(torn));
                });
                let result = recovered(&disk, Position::default());
                assert!(is_lost(&result), "{frames} frames, bit {bit}");
                assert!(forgetful.paths().contains(&segment(1)), "nothing is removed");
            }
        }
    }
}

#[test]
fn frame_that_was_written_while_its_segment_was_read_is_no_damage() {
    let (forgetful, disk, positions, _) = three_frames();
    let whole = forgetful.contents(&segment(1)).expect("there");
    // A reader that was stopped between two pages: the second frame not there yet, the third is.
    forgetful.damage(&segment(1), |file| {
        let [from, to] = [1, 2].map(|at| usize::try_from(positions[at].offset).expect("small"));
        file[from..to].fill(0);
    });
    let segments = Segments::find(disk, dir()).expect("finds");
    let mut seen = Vec::new();
    let tail = segments.read_all(&mut |position, _| {
        forgetful.damage(&segment(1), |file| file.clone_from(&whole));
        seen.push(position.seq);
        Ok(())
    });
    assert_eq!((tail.expect("whole"), seen), (Tail::Clean, vec![1, 2, 3]));
}

#[test]
fn segment_of_a_newer_version_is_named() {
    let (forgetful, disk, ..) = three_frames();
    forgetful.damage(&segment(1), |file| {
        file[8] = 2;
        let crc = crc32c::crc32c(&file[..SEGMENT_HEADER_BYTES - 4]);
        file[SEGMENT_HEADER_BYTES - 4..SEGMENT_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    });
    match recovered(&disk, Position::default()) {
        Err(OpenError::NewerVersion { found: 2, known: 1 }) => {}
        other => panic!("{:?}", other.map(|(_, seen)| seen)),
    }
}

#[test]
fn frame_copied_from_another_segment_is_no_frame() {
    let (forgetful, disk) = disk();
    let positions = write(&disk, 20);
    let first = positions.iter().find(|p| p.segment == 2).expect("two segments");
    let at = usize::try_from(first.offset).expect("small");
    let copied = forgetful.contents(&segment(2)).expect("there")[at..].to_vec();
    assert!(Frame::parse(&copied, 2).is_some());
    assert!(Frame::parse(&copied, 1).is_none());
}
