//! Makes of the bytes of one input whatever a target needs. Bytes that are used up are zeros.

use jiff::Timestamp;
use order_router::protocol::limits::{Clocks, Spend, Spent, Sum};
use order_router::protocol::{
    Attempt, Change, Fingerprint, IDS_PER_RECORD_MAX, Learnt, NewIntent, PayStep, PayVerdict,
    Payment, Serial, Shape, State, Verdict, Why,
};
use order_router::store::{Adopted, Mark, Stored};
use order_router::{ClientRef, EchoProfile, Item, ItemsDigest, ItemsHash, Note, OrderId, Price};

/// What no message may ever show. It is in every note, and wherever else a target puts it.
pub const SECRET: &str = "S3CR3T-CODE";

pub struct Dice<'a>(pub &'a [u8]);

impl<'a> Dice<'a> {
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn number(&mut self) -> u64 {
        // Short ones are as likely as long ones.
        let bytes = self.byte() % 9;
        (0..bytes).fold(0, |number, _| (number << 8) | u64::from(self.byte()))
    }

    pub fn below(&mut self, sides: usize) -> usize {
        let wide = u16::from_le_bytes([self.byte(), if sides > 256 { self.byte() } else { 0 }]);
        usize::from(wide) % sides.max(1)
    }

    pub fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }

    pub fn of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len())]
    }

    pub fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.byte() & 1 == 1).then(|| make(self))
    }

    pub fn some<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|_| make(self)).collect()
    }

    /// What is left, as it is.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let count = self.below(most + 1).min(self.0.len());
        let (head, rest) = self.0.split_at(count);
        self.0 = rest;
        head
    }

    /// Any text, of `least` to some bytes.
    pub fn text(&mut self, least: usize) -> String {
        let text = match self.below(4) {
            0 => String::from_utf8_lossy(self.bytes(24)).into_owned(),
            1 => "é\"\\\u{0}\u{feff},✨\r\n".chars().take(self.below(10)).collect(),
            2 => "x".repeat(self.below(256)),
            _ => format!("p-{}", self.byte()),
        };
        let text = if text.len() < least { "z".repeat(least) } else { text };
        let mut end = text.len().min(255);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text[..end].to_owned()
    }

    pub fn reference(&mut self) -> ClientRef {
        let text: String = self.text(1).chars().filter(char::is_ascii_graphic).collect();
        ClientRef::new(text).unwrap_or_else(|_| ClientRef::new("r-1").expect("valid"))
    }

    pub fn id(&mut self) -> OrderId {
        OrderId::new(self.text(1)).expect("1 to 255 bytes")
    }

    pub fn note(&mut self) -> Note {
        let value = serde_json::json!({ "player": format!("{SECRET}{}", self.text(0)) });
        Note::new(&value)
            .unwrap_or_else(|_| Note::new(&serde_json::json!({ "player": SECRET })).expect("short"))
    }

    pub fn price(&mut self) -> Price {
        let (whole, digits) = (self.number() % 1_000_000, self.byte());
        format!("{whole}.{digits:02}").parse().expect("a plain decimal")
    }

    pub fn item(&mut self) -> Item {
        let quantity = u32::try_from(self.number() % 400_000_000).expect("fits") + 1;
        let mut item = Item::new(self.text(1), quantity).expect("valid");
        if let Some(note) = self.maybe(Self::note) {
            item = item.note(note);
        }
        if let Some(price) = self.maybe(Self::price) {
            item = item.total_price(price);
        }
        item
    }

    pub fn items(&mut self) -> Vec<Item> {
        let mut items = self.some(9, Self::item);
        items.push(self.item());
        items
    }

    pub fn moment(&mut self) -> Timestamp {
        let (second, nanos) = (self.number() % 4_000_000_000, self.number() % 1_000_000_000);
        let nanos = i32::try_from(nanos).expect("fits");
        Timestamp::new(i64::try_from(second).expect("fits"), nanos).expect("in range")
    }

    pub fn why(&mut self) -> Why {
        Why::Owned(self.text(0))
    }

    pub fn attempt(&mut self) -> Attempt {
        let (seq, fingerprint) = (Serial(self.number()), Fingerprint(self.number()));
        Attempt { seq, fingerprint, floor: self.maybe(Self::moment) }
    }

    pub fn shape(&mut self) -> Shape {
        let bits = self.byte();
        Shape { several_lines: bits & 1 != 0, with_note: bits & 2 != 0 }
    }

    pub fn lane(&mut self) -> ItemsHash {
        ItemsHash::of(
            &self.items(),
            EchoProfile { quantity: true, note: self.byte() & 1 == 1, tag: None },
        )
    }

    pub fn verdict(&mut self) -> Verdict {
        match self.below(8) {
            7 => Verdict::Created {
                id: self.id(),
                learnt: self.of(&[Learnt::Answer, Learnt::List, Learnt::Person]),
                created_at: self.maybe(Self::moment),
            },
            0 => Verdict::Placed {
                id: self.id(),
                learnt: self.of(&[Learnt::Answer, Learnt::List, Learnt::Person]),
                created_at: self.maybe(Self::moment),
            },
            1 => Verdict::Refused(self.why()),
            2 => Verdict::NotSent(self.why()),
            3 => Verdict::InDoubt(self.why()),
            4 => Verdict::Held(self.why()),
            5 => Verdict::Absent,
            _ => Verdict::NotPlaced(self.why()),
        }
    }

    pub fn payment(&mut self) -> Payment {
        let steps = [PayStep::Due, PayStep::Sending, PayStep::InDoubt, PayStep::Held];
        let pays = u32::try_from(self.number() & 0xffff_ffff).unwrap_or(u32::MAX);
        Payment { step: self.of(&steps), pays, tries: self.byte() }
    }

    pub fn pay_verdict(&mut self) -> PayVerdict {
        match self.below(3) {
            0 => PayVerdict::Open { payment: self.payment(), why: self.why() },
            1 => PayVerdict::Paid,
            _ => PayVerdict::Unpaid(self.why()),
        }
    }

    pub fn intent(&mut self) -> NewIntent {
        let items = self.items();
        NewIntent {
            id: Serial(self.number()),
            client_ref: self.reference(),
            lane: ItemsHash::of(&items, EchoProfile::default()),
            as_sent: ItemsDigest::as_sent(&items),
            delivered: ItemsDigest::delivered(&items, false),
            items: items.into(),
            good_until: self.moment(),
            accepted_at: self.moment(),
        }
    }

    pub fn change(&mut self) -> Change {
        let intent = Serial(self.number());
        match self.below(13) {
            12 => Change::Pay { intent, was: self.payment(), to: self.pay_verdict() },
            0 => Change::Accept { intent: self.intent(), attempt: self.maybe(Self::attempt) },
            1 => Change::Record { intent, attempt: self.attempt() },
            2 => Change::Decide { intent, attempt: Serial(self.number()), verdict: self.verdict() },
            3 => Change::Expire { intent, why: self.why() },
            4 => Change::Settle { intent },
            5 => Change::HoldLane { lane: self.lane(), why: self.why() },
            6 => Change::FreeLane { lane: self.lane() },
            7 => {
                let ids = self.some(IDS_PER_RECORD_MAX.min(8), Self::id);
                Change::Orphans { ids, why: self.why() }
            }
            8 => Change::History { newest: self.maybe(Self::moment), ids: self.some(8, Self::id) },
            9 => Change::EchoSeen { shape: self.shape() },
            10 => Change::Pause { why: self.why() },
            _ => match self.below(5) {
                0 => Change::Resume,
                3 => Change::Spend(self.spend()),
                4 => Change::Spent(self.spent()),
                1 => Change::Mark { mark: self.maybe(Self::mark) },
                _ => Change::Adopt {
                    intent: Box::new(self.adopted()),
                    handed_out: Serial(self.number()),
                },
            },
        }
    }

    fn sum(&mut self) -> Sum {
        let amount = format!("{}.{}", self.below(1_000), self.below(1_000));
        Sum { orders: self.number() % 1_000, amount: amount.parse().expect("an amount") }
    }

    fn clocks(&mut self) -> Clocks {
        Clocks { wall: self.moment(), supplier: self.maybe(Self::moment) }
    }

    fn spend(&mut self) -> Spend {
        let (now, at, sum) = (self.number(), self.number(), self.sum());
        let back = self.some(8, |dice| (dice.number(), dice.sum()));
        Spend { now, at, sum, back, clocks: self.clocks() }
    }

    fn spent(&mut self) -> Spent {
        let slots = self.some(8, |dice| (dice.number(), dice.sum()));
        let clocks = self.maybe(Self::clocks);
        Spent::of(slots, self.number(), clocks)
    }

    fn mark(&mut self) -> Mark {
        let place = self.text(0);
        match self.below(3) {
            0 => Mark::MovingTo(place),
            1 => Mark::MovedTo(place),
            _ => Mark::FilledFrom(place),
        }
    }

    fn state(&mut self) -> State {
        match self.below(9) {
            7 => State::Created {
                id: self.id(),
                learnt: self.of(&[Learnt::Answer, Learnt::List, Learnt::Person]),
                created_at: self.maybe(Self::moment),
                payment: self.payment(),
                why: self.why(),
            },
            8 => State::Unpaid {
                id: self.id(),
                learnt: self.of(&[Learnt::Answer, Learnt::List, Learnt::Person]),
                created_at: self.maybe(Self::moment),
                why: self.why(),
            },
            0 => State::Queued,
            1 => State::Sending(self.attempt()),
            2 => State::InDoubt(self.attempt(), self.why()),
            3 => State::Held(self.attempt(), self.why()),
            4 => State::Refused(self.why()),
            5 => State::NotPlaced(self.why()),
            _ => State::Placed {
                id: self.id(),
                learnt: self.of(&[Learnt::Answer, Learnt::List, Learnt::Person]),
                created_at: self.maybe(Self::moment),
            },
        }
    }

    fn adopted(&mut self) -> Adopted {
        let NewIntent { id, client_ref, lane, as_sent, delivered, items, good_until, accepted_at } =
            self.intent();
        let stored = Stored {
            id,
            client_ref,
            lane,
            as_sent,
            delivered,
            items,
            good_until,
            accepted_at,
            state: self.state(),
            tries: self.byte(),
            last_attempt: self.maybe(|dice| Serial(dice.number())),
            unsettled: self.byte() & 1 == 1,
        };
        Adopted { stored, shape: self.shape(), ended_at: Serial(self.number()) }
    }

    /// Damages some bytes that follow one another, four at most, which a CRC of 32 bits always
    /// tells. Whether anything changed.
    pub fn damage(&mut self, bytes: &mut [u8]) -> bool {
        let before = bytes.to_vec();
        let at = self.below(bytes.len());
        for byte in bytes.iter_mut().skip(at).take(1 + self.below(4)) {
            *byte ^= self.byte();
        }
        before != bytes
    }
}
