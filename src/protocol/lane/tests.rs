//! One test per rule, named for what it defends. The harness plays store, dispatcher and lookout.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use super::*;
use crate::order::{Item, ItemsDigest};
use crate::protocol::{Serial, State};

mod canonical;
mod chaos;
mod driven;
mod edges;
mod eras;
mod found;
mod left_out;
mod rules;

const MIN: Duration = Duration::from_secs(60);

fn at(second: i64) -> Option<Timestamp> {
    Some(Timestamp::from_second(second).expect("a moment"))
}

fn digest(word: &str) -> ItemsDigest {
    ItemsDigest::delivered(&[Item::new(word, 1).expect("item")], false)
}

fn order(n: u64) -> OrderId {
    OrderId::new(format!("#{n}")).expect("id")
}

fn candidate(n: u64) -> Candidate {
    Candidate { id: order(n), created_at: Timestamp::UNIX_EPOCH }
}

fn created(n: u64) -> Outcome {
    Outcome::Created { id: order(n), created_at: None }
}

fn lost() -> Outcome {
    Outcome::Unknown("timeout".into())
}

fn alarm(effect: &Effect) -> Option<&Alarm> {
    match effect {
        Effect::Alarm(alarm) => Some(alarm),
        _ => None,
    }
}

fn told_to(effect: &Effect, whom: IntentId) -> Option<&Told> {
    match effect {
        Effect::Tell { intent, told } if *intent == whom => Some(told),
        _ => None,
    }
}

/// The floor with which the newest attempt was recorded.
fn recorded_floor(bench: &Bench) -> Option<Timestamp> {
    let recorded = bench.seen.iter().rev().find_map(|effect| match effect {
        Effect::Write(Write::Accept { attempt, .. }) => *attempt,
        Effect::Write(Write::Record { attempt, .. }) => Some(*attempt),
        _ => None,
    });
    recorded.expect("an attempt").floor
}

/// A lane whose writes are durable at once unless told otherwise, and whose permits are free.
struct Bench {
    rules: Rules,
    lane: Lane,
    now: Moment,
    serial: u64,
    /// The newest order that is known when an attempt is recorded.
    floor: Option<Timestamp>,
    /// Effects that have not been looked at.
    seen: Vec<Effect>,
    /// Writes that are held back while `slow` is set.
    slow: bool,
    pending: VecDeque<Write>,
    claimed: BTreeMap<OrderId, (IntentId, Learnt)>,
}

impl Bench {
    fn new() -> Self {
        let rules = Rules { wire_bound: MIN, landing_bound: Some(15 * MIN), ..Rules::default() };
        Self {
            rules,
            lane: Lane::default(),
            now: Moment::after_origin(MIN),
            serial: 0,
            floor: None,
            seen: Vec::new(),
            slow: false,
            pending: VecDeque::new(),
            claimed: BTreeMap::new(),
        }
    }

    fn serial(&mut self) -> Serial {
        self.serial += 1;
        Serial(self.serial)
    }

    fn attempt(&mut self) -> Attempt {
        Attempt { seq: self.serial(), fingerprint: Fingerprint(1), floor: self.floor }
    }

    fn feed(&mut self, event: Event) {
        let effects = self.lane.step(&self.rules, event, self.now);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        self.seen.push(effect.clone());
        match effect {
            Effect::Write(write) if self.slow => self.pending.push_back(write),
            Effect::Write(write) => self.write(write),
            Effect::AskPermit { intent } => {
                let attempt = self.attempt();
                self.feed(Event::Permitted { intent, attempt });
            }
            _ => {}
        }
    }

    fn write(&mut self, write: Write) {
        let (intent, written) = match write {
            Write::Accept { intent, .. } | Write::Record { intent, .. } => (intent, Written::Done),
            Write::Expire { intent, .. } => (intent, Written::Done),
            Write::Decide { intent, verdict: Verdict::Placed { id, learnt, .. }, .. } => {
                match self.claimed.get(&id) {
                    Some((holder, learnt)) => {
                        let (holder, learnt) = (*holder, *learnt);
                        (intent, Written::IdTaken { holder, learnt, same_lane: true })
                    }
                    None => {
                        self.claimed.insert(id, (intent, learnt));
                        (intent, Written::Done)
                    }
                }
            }
            Write::Decide { intent, .. } => (intent, Written::Done),
            Write::Settle { .. } | Write::HoldLane { .. } | Write::FreeLane => return,
        };
        self.feed(Event::Written { intent, written });
    }

    /// Makes the oldest write that was held back durable.
    fn sync_one(&mut self) {
        let write = self.pending.pop_front().expect("a pending write");
        self.write(write);
    }

    fn submit(&mut self, word: &str) -> IntentId {
        let intent = self.serial();
        let attempt = self.attempt();
        self.submit_with(word, intent, attempt)
    }

    /// The same, with the attempt's number right after the last one.
    fn submit_next(&mut self, word: &str) -> IntentId {
        let attempt = self.attempt();
        let intent = self.serial();
        self.submit_with(word, intent, attempt)
    }

    fn submit_with(&mut self, word: &str, intent: IntentId, attempt: Attempt) -> IntentId {
        let permit = Some(attempt);
        let good_until = self.now.plus(600 * MIN);
        self.feed(Event::Submitted { intent, delivered: digest(word), good_until, permit });
        intent
    }

    /// The attempt that is open or was the newest.
    fn seq(&self, intent: IntentId) -> AttemptSeq {
        self.lane.intents[&intent].attempt.expect("an attempt").attempt.seq
    }

    fn answer(&mut self, intent: IntentId, outcome: Outcome) {
        let seq = self.seq(intent);
        self.answer_to(intent, seq, outcome);
    }

    fn answer_to(&mut self, intent: IntentId, seq: AttemptSeq, outcome: Outcome) {
        let left = Some(self.now);
        self.feed(Event::Answered { intent, seq, outcome, left });
    }

    fn wait(&mut self, span: Duration) {
        self.now = self.now.plus(span);
        self.feed(Event::Woke);
    }

    /// The question that is open.
    fn ask(&self) -> u64 {
        self.lane.asked.as_ref().expect("a list was asked for").ask
    }

    fn list(&mut self, rows: &[u64]) {
        let ask = self.ask();
        self.list_as(ask, rows, None);
    }

    fn list_as(&mut self, ask: u64, rows: &[u64], near: Option<u64>) {
        let proof = Some(Reach { since: None, fingerprint: Fingerprint(1) });
        let candidates = rows.iter().map(|n| candidate(*n)).collect();
        self.feed(Event::Listed(ListView { ask, candidates, proof, near_miss: near.map(order) }));
    }

    /// A list without a row for this lane, as the answer to the question that is open.
    fn list_none(&mut self, proof: Option<Reach>, near: Option<u64>) {
        let view =
            ListView { ask: self.ask(), candidates: vec![], proof, near_miss: near.map(order) };
        self.feed(Event::Listed(view));
    }

    /// An intent with an attempt, as the store gives it back.
    fn stored(&mut self, attempt: Attempt, state: State) -> Restored {
        Restored {
            intent: self.serial(),
            delivered: digest("x"),
            good_until: self.now.plus(600 * MIN),
            tries: 0,
            state,
            last_attempt: Some(attempt.seq),
            unsettled: false,
            unreported: false,
        }
    }

    /// Takes in what the store holds.
    fn rehydrate(&mut self, restored: &[Restored]) {
        let (lane, effects) = Lane::rehydrate(&self.rules, restored, None, self.now, self.now);
        self.lane = lane;
        effects.into_iter().for_each(|effect| self.carry_out(effect));
    }

    fn told(&self, intent: IntentId) -> Vec<&Told> {
        self.seen.iter().filter_map(|e| told_to(e, intent)).collect()
    }

    fn sends(&self) -> usize {
        self.seen.iter().filter(|e| matches!(e, Effect::Send { .. })).count()
    }

    fn placed_with(&self, intent: IntentId) -> Option<OrderId> {
        self.told(intent).into_iter().find_map(|told| match told {
            Told::Placed { id, .. } => Some(id.clone()),
            _ => None,
        })
    }

    fn alarms(&self) -> Vec<&Alarm> {
        self.seen.iter().filter_map(|e| alarm(e)).collect()
    }
}
