//! Values of the index.

use order_router::testing::readers::{change_bytes, index_value, reread_index_value};

use super::dice::{Dice, SECRET};

/// Writes the fields of a row as the index has them: from their description, not by its code.
struct Fields(Vec<u8>);

impl Fields {
    fn new() -> Self {
        Self(vec![1])
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.put(&u16::try_from(text.len()).expect("short").to_le_bytes());
        self.put(text.as_bytes());
    }

    fn number(&mut self, dice: &mut Dice<'_>) {
        self.put(&dice.number().to_le_bytes());
    }

    fn flag(&mut self, dice: &mut Dice<'_>) -> bool {
        // Now and then a flag that is none.
        let flag = if dice.one_in(32) { dice.byte() } else { dice.byte() & 1 };
        self.put(&[flag]);
        flag == 1
    }

    fn moment(&mut self, dice: &mut Dice<'_>) {
        let moment = dice.moment();
        self.put(&moment.as_second().to_le_bytes());
        self.put(&moment.subsec_nanosecond().to_le_bytes());
    }

    fn attempt(&mut self, dice: &mut Dice<'_>) {
        self.number(dice);
        self.number(dice);
        if self.flag(dice) {
            self.moment(dice);
        }
    }

    fn state(&mut self, dice: &mut Dice<'_>) {
        let kind = u8::try_from(dice.below(8)).expect("small");
        self.put(&[kind]);
        match kind {
            1 => self.attempt(dice),
            2 | 3 => {
                self.attempt(dice);
                self.text(&dice.text(0));
            }
            4 => {
                self.text(&dice.text(1));
                self.put(&[dice.byte() % 4]);
                if self.flag(dice) {
                    self.moment(dice);
                }
            }
            5 | 6 => self.text(&dice.text(0)),
            _ => {}
        }
    }

    fn row(dice: &mut Dice<'_>) -> Vec<u8> {
        let mut fields = Self::new();
        // The beginning of an intent's row is that of the change that accepted it.
        let accepted =
            order_router::protocol::Change::Accept { intent: dice.intent(), attempt: None };
        let record = change_bytes(&accepted);
        fields.put(&record[2..record.len() - 1]);
        fields.state(dice);
        fields.put(&[dice.byte()]);
        if fields.flag(dice) {
            fields.number(dice);
        }
        fields.flag(dice);
        fields.put(&[dice.byte() % 5]);
        fields.number(dice);
        fields.number(dice);
        fields.0
    }

    fn claim(dice: &mut Dice<'_>) -> Vec<u8> {
        let mut fields = Self::new();
        fields.number(dice);
        fields.put(dice.lane().as_bytes());
        fields.put(&[dice.byte() % 5, dice.byte() % 4]);
        if fields.flag(dice) {
            fields.moment(dice);
        }
        fields.number(dice);
        fields.0
    }

    fn ids(&mut self, dice: &mut Dice<'_>) {
        let ids = dice.some(4, |dice| dice.text(1));
        let claimed =
            if dice.one_in(16) { u32::MAX } else { u32::try_from(ids.len()).expect("few") };
        self.put(&claimed.to_le_bytes());
        ids.iter().for_each(|id| self.text(id));
    }

    fn account(dice: &mut Dice<'_>) -> Vec<u8> {
        let mut fields = Self::new();
        let lanes = dice.some(3, |dice| (dice.lane(), dice.text(0)));
        fields.put(&u32::try_from(lanes.len()).expect("few").to_le_bytes());
        for (lane, why) in lanes {
            fields.put(lane.as_bytes());
            fields.text(&why);
        }
        fields.ids(dice);
        if fields.flag(dice) {
            if fields.flag(dice) {
                fields.moment(dice);
            }
            fields.ids(dice);
        }
        let shapes = dice.some(4, |dice| dice.byte() % 5);
        fields.put(&[u8::try_from(shapes.len()).expect("few")]);
        fields.put(&shapes);
        if fields.flag(dice) {
            fields.text(&dice.text(0));
        }
        fields.0
    }

    fn watermark(dice: &mut Dice<'_>) -> Vec<u8> {
        let mut fields = Self::new();
        (0..12).for_each(|_| fields.number(dice));
        fields.put(&dice.byte().to_le_bytes().repeat(4));
        if fields.flag(dice) {
            fields.moment(dice);
        }
        fields.0
    }
}

/// A value is read and written again as the same, or refused; a damaged one, or one that stands
/// under another key, is always refused.
#[test]
fn values_of_the_index_are_read_or_refused_and_never_taken_for_others() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut dice = Dice(input);
        let (key, record) = match dice.below(5) {
            0 => (b"a\0\0\0\0\0\0\0\x01".to_vec(), Fields::row(&mut dice)),
            1 => ([b"r", dice.reference().as_str().as_bytes()].concat(), Fields::row(&mut dice)),
            2 => ([b"o", dice.text(1).as_bytes()].concat(), Fields::claim(&mut dice)),
            3 => (b"m\0\0\0\0".to_vec(), Fields::watermark(&mut dice)),
            _ => (b"m\0\0\0\x01".to_vec(), Fields::account(&mut dice)),
        };
        reread(&key, &record);
        let value = index_value(&key, &record);
        let mut other = key.clone();
        if dice.damage(&mut other) {
            assert!(reread_index_value(&other, &value).is_err(), "a value under another key");
        }
        let mut damaged = value;
        if dice.damage(&mut damaged) {
            assert!(reread_index_value(&key, &damaged).is_err(), "a damaged value");
        }
        let mut record = record;
        dice.damage(&mut record);
        reread(&key, &record);
        record.truncate(dice.below(record.len() + 1));
        reread(&key, &record);
        reread(&key, dice.rest());
    });
}

fn reread(key: &[u8], record: &[u8]) {
    match reread_index_value(key, &index_value(key, record)) {
        Ok(again) => {
            let twice = reread_index_value(key, &index_value(key, &again));
            assert_eq!(twice.as_ref(), Ok(&again), "written again it is another");
        }
        Err(error) => assert!(!error.contains(SECRET), "{error}"),
    }
}
