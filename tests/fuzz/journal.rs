//! Records and frames of the journal.

use order_router::testing::readers::{change, change_bytes, frame, frame_bytes, key_of_change};

use super::dice::{Dice, SECRET};

const STANDING: [u64; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];

/// Bytes of a frame before its body, and of the body before its records.
const HEADER_BYTES: usize = 16;
const FIXED_BYTES: usize = 8 + 8 + 56 + 4;

/// What was written comes back, whole and alone.
#[test]
fn records_come_back_and_anything_else_is_refused() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut dice = Dice(input);
        let written = dice.change();
        let mut bytes = change_bytes(&written);
        assert_eq!(change(&bytes).as_ref(), Ok(&written));
        assert!(key_of_change(&bytes).is_ok());
        let cut = dice.below(bytes.len());
        assert!(change(&bytes[..cut]).is_err(), "a record was read out of its beginning");
        bytes.push(dice.byte());
        assert!(change(&bytes).is_err(), "a byte too many was passed over");
        bytes.pop();
        dice.damage(&mut bytes);
        reread(&bytes);
        reread(dice.rest());
    });
}

/// Whatever is read is written again as the same, and no error tells what it was about.
fn reread(bytes: &[u8]) {
    match change(bytes) {
        Ok(read) => {
            let again = change_bytes(&read);
            assert!(again.len() <= bytes.len() + 64, "reading made it grow");
            assert_eq!(change(&again), Ok(read));
            assert_eq!(key_of_change(&again), key_of_change(bytes));
        }
        Err(error) => assert!(!format!("{error} {error:?}").contains(SECRET)),
    }
}

/// A frame is read as it was written; a damaged one is none, and so is one of another segment.
#[test]
fn a_damaged_frame_is_never_another_one() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut dice = Dice(input);
        let (segment, seq) = (dice.number(), dice.number());
        let changes = dice.some(4, Dice::change);
        let records: Vec<_> = changes.iter().map(change_bytes).collect();
        let records: Vec<_> = records.iter().map(Vec::as_slice).collect();
        let mut bytes = frame_bytes(segment, seq, STANDING, &records);
        let read = frame(&bytes, segment).expect("a whole frame");
        assert_eq!((read.seq, read.bytes), (seq, bytes.len()));
        assert_eq!(read.changes.as_ref(), Ok(&changes));
        assert!(read.keys.is_ok());
        let other = segment ^ (1 << dice.below(64));
        assert_eq!(frame(&bytes, other), None, "a frame of another segment");
        let cut = dice.below(bytes.len());
        assert_eq!(frame(&bytes[..cut], segment), None, "a frame that is cut off");
        if dice.damage(&mut bytes) {
            assert_eq!(frame(&bytes, segment), None, "a damaged frame");
        }
        // Behind a frame anything may follow.
        let mut longer = frame_bytes(segment, seq, STANDING, &records);
        longer.extend_from_slice(dice.rest());
        assert_eq!(frame(&longer, segment), Some(read));
    });
}

/// Behind a CRC that is right, a body may still be anything: it is read or refused.
#[test]
fn a_body_behind_a_right_checksum_is_read_or_refused() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut dice = Dice(input);
        let mut bytes = if dice.one_in(3) {
            let mut bytes = vec![0; HEADER_BYTES + FIXED_BYTES];
            bytes.extend_from_slice(dice.rest());
            bytes
        } else {
            let records: Vec<_> = dice.some(3, |dice| match dice.one_in(3) {
                true => dice.bytes(64).to_vec(),
                false => change_bytes(&dice.change()),
            });
            let records: Vec<_> = records.iter().map(Vec::as_slice).collect();
            let mut bytes = frame_bytes(1, 1, STANDING, &records);
            let body = bytes.len() - HEADER_BYTES;
            let cut = if dice.one_in(4) { dice.below(body - FIXED_BYTES + 1) } else { 0 };
            bytes.truncate(bytes.len() - cut);
            dice.damage(&mut bytes[HEADER_BYTES..]);
            bytes
        };
        seal(&mut bytes, 1);
        let read = frame(&bytes, 1).expect("its checksum is right");
        if let Ok(changes) = &read.changes {
            assert!(read.keys.is_ok(), "read, and its keys cannot be told");
            assert!(changes.len() <= bytes.len() / 6, "more changes than bytes can hold");
            for read in changes {
                assert_eq!(change(&change_bytes(read)).as_ref(), Ok(read));
            }
        }
    });
}

/// Puts length and checksum of a frame right, as the journal's documentation says they are.
fn seal(bytes: &mut [u8], segment: u64) {
    let length = u32::try_from(bytes.len() - HEADER_BYTES).expect("short");
    let mut sealed = segment.to_le_bytes().to_vec();
    sealed.extend_from_slice(&bytes[8..16]);
    sealed.extend_from_slice(&length.to_le_bytes());
    sealed.extend_from_slice(&bytes[HEADER_BYTES..]);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4..8].copy_from_slice(&crc32c::crc32c(&sealed).to_le_bytes());
}
