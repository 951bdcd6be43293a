//! A lane against a supplier that loses, delays and hides, with crashes, from a seed.
//!
//! The oracle is the supplier's own book. Unknown may match none or one order, `Placed` exactly
//! one that nobody else has, `Refused` and `NotPlaced` none; nothing accepted disappears.

use super::*;

/// SplitMix64: a seed replays a run exactly.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

/// One intent as the store holds it.
#[derive(Clone)]
struct Row {
    restored: Restored,
    ends: Vec<Told>,
}

/// A POST that has left and may still land, or answer.
struct Flying {
    intent: IntentId,
    seq: AttemptSeq,
    left: Moment,
    /// Unknown to the router: whether and when it lands.
    lands: Option<Moment>,
    landed: Option<OrderId>,
    told_unknown: bool,
    answers: bool,
    /// The supplier says that it creates nothing, and does not.
    refusal: Option<Outcome>,
    shown: BTreeSet<OrderId>,
}

/// What may go wrong in a world beside losses, delays and crashes.
#[derive(Clone, Copy, Default)]
struct Trouble {
    /// Two kinds of order that the list cannot tell apart (rule 13).
    two_kinds: bool,
    /// One 201 names another order than it made, which may be still to come.
    wrong_ids: bool,
    /// A person decides now and then.
    person: bool,
    /// The lane panics and is rebuilt; POSTs go on.
    panics: bool,
}

struct World {
    dice: Dice,
    rules: Rules,
    lane: Lane,
    now: Moment,
    serial: u64,
    store: BTreeMap<IntentId, Row>,
    submitted: BTreeMap<IntentId, (ItemsDigest, Moment)>,
    claims: BTreeMap<OrderId, (IntentId, Learnt)>,
    held: bool,
    writes: VecDeque<Write>,
    flying: Vec<Flying>,
    /// Every order at the supplier, with the intent whose POST made it.
    orders: BTreeMap<OrderId, IntentId>,
    /// Lists under way: question, when it is read.
    lists: Vec<u64>,
    permits: Vec<IntentId>,
    /// Permits that were given and not given back.
    permits_out: i64,
    trouble: Trouble,
    calm: bool,
    /// A 201 has named another order.
    mixed_up: bool,
    shown: BTreeSet<OrderId>,
}

const UNIT: Duration = Duration::from_secs(1);

impl World {
    fn new(seed: u64) -> Self {
        let rules = Rules {
            tries_max: 3,
            wire_bound: UNIT,
            landing_bound: Some(10 * UNIT),
            in_flight_max: 3,
            look_again_min: 2 * UNIT,
            look_again_max: 8 * UNIT,
            left_out: LeftOut::default(),
        };
        let mut dice = Dice(seed);
        let mut one_in = |n| dice.roll(n) == 0;
        let trouble = Trouble {
            two_kinds: one_in(3),
            wrong_ids: one_in(5),
            person: one_in(3),
            panics: one_in(3),
        };
        Self {
            dice,
            rules,
            lane: Lane::default(),
            now: Moment::after_origin(100 * UNIT),
            serial: 0,
            store: BTreeMap::new(),
            submitted: BTreeMap::new(),
            claims: BTreeMap::new(),
            held: false,
            writes: VecDeque::new(),
            flying: Vec::new(),
            orders: BTreeMap::new(),
            lists: Vec::new(),
            permits: Vec::new(),
            permits_out: 0,
            trouble,
            calm: false,
            mixed_up: false,
            shown: BTreeSet::new(),
        }
    }

    fn serial(&mut self) -> Serial {
        self.serial += 1;
        Serial(self.serial)
    }

    fn attempt(&mut self) -> Attempt {
        Attempt { seq: self.serial(), fingerprint: Fingerprint(1), floor: None }
    }

    fn feed(&mut self, event: Event) {
        let rebased = !self.serial.is_multiple_of(7)
            || self.lane.rebased_does_the_same(&self.rules, &event, self.now);
        assert!(rebased, "{event:?} {:#?}", self.lane);
        let effects = self.lane.step(&self.rules, event, self.now);
        assert!(self.lane.index_agrees(), "{:#?}", self.lane);
        effects.into_iter().for_each(|effect| self.carry_out(effect));
        self.check_budget();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Write(write) => self.writes.push_back(write),
            Effect::AskPermit { intent } => self.permits.push(intent),
            Effect::Send { intent, seq } => self.send(intent, seq),
            Effect::List { ask, .. } => self.lists.push(ask),
            Effect::Tell { intent, told } => self.tell(intent, told),
            Effect::Alarm(Alarm::IdTaken { .. } | Alarm::LandedAfterAbsent { .. })
                if self.trouble.wrong_ids => {}
            Effect::Alarm(Alarm::NearMiss { .. }) => {}
            Effect::Alarm(Alarm::IdTaken { .. } | Alarm::Surplus { .. }) => {
                panic!("no foreign order and no mixed answer: {effect:?}")
            }
            Effect::Alarm(_) | Effect::Orphans { .. } => {
                panic!("every assumption holds here: {effect:?}")
            }
            // The exchange of identical orders: the end counts the books.
            Effect::Stray { .. } => {}
            Effect::ReturnPermit { .. } => self.permits_out -= 1,
            Effect::Released { .. } => {}
        }
    }

    fn send(&mut self, intent: IntentId, seq: AttemptSeq) {
        let recorded = self.store[&intent].restored.state.attempt().map(|a| a.seq);
        assert_eq!(recorded, Some(seq), "sent without a durable record");
        let kind = self.store[&intent].restored.delivered;
        let mut open = self.store.values().filter(|row| row.restored.state.attempt().is_some());
        assert!(open.all(|row| row.restored.delivered == kind), "rule 13: open together");
        let left = self.now.plus(UNIT * self.dice.roll(2) as u32);
        let refusal = match self.dice.roll(16) {
            _ if self.calm => None,
            0 => Some(Outcome::NotSent("429".into())),
            1 => Some(Outcome::Refused("NO".into())),
            _ => None,
        };
        let lands = (refusal.is_none() && (self.dice.roll(3) > 0 || self.calm))
            .then(|| left.plus(UNIT * self.dice.roll(if self.calm { 1 } else { 12 }) as u32));
        let answers = self.calm || self.dice.roll(2) == 0;
        let (landed, told_unknown, shown) = (None, false, self.shown.clone());
        let flying =
            Flying { intent, seq, left, lands, landed, told_unknown, answers, refusal, shown };
        self.flying.push(flying);
    }

    fn tell(&mut self, intent: IntentId, told: Told) {
        let is_end = matches!(told, Told::Placed { .. } | Told::Refused(_) | Told::NotPlaced(_));
        let row = self.store.get_mut(&intent).expect("told of what is stored");
        if is_end {
            assert!(row.restored.state.is_end(), "told before durable: {told:?}");
            assert!(row.ends.iter().all(|end| *end == told), "changed its mind: {told:?}");
            row.ends.push(told);
        }
    }

    /// orders + POSTs that may still land <= Placed + open attempts.
    fn check_budget(&self) {
        let may_land = |f: &&Flying| f.landed.is_none() && f.lands.is_some();
        let left = self.orders.len() + self.flying.iter().filter(may_land).count();
        let states = self.store.values().map(|row| &row.restored.state);
        let right =
            states.filter(|s| matches!(s, State::Placed { .. }) || s.attempt().is_some()).count();
        assert!(left <= right, "the budget is broken: {left} > {right}");
    }

    /// Makes the oldest write durable and answers it.
    fn sync(&mut self) {
        let Some(write) = self.writes.pop_front() else { return };
        let (intent, written) = match write {
            Write::Accept { intent, .. } if self.dice.roll(8) == 0 => (intent, Written::NotNew),
            Write::Accept { intent, attempt } => {
                let (delivered, good_until) = self.submitted[&intent];
                let restored = Restored {
                    intent,
                    delivered,
                    good_until,
                    tries: 0,
                    state: attempt.map_or(State::Queued, State::Sending),
                    last_attempt: attempt.map(|a| a.seq),
                    unsettled: false,
                    unreported: false,
                };
                self.store.insert(intent, Row { restored, ends: vec![] });
                (intent, Written::Done)
            }
            Write::Record { intent, attempt } => {
                let row = &mut self.store.get_mut(&intent).expect("accepted").restored;
                assert_eq!(row.state, State::Queued);
                row.state = State::Sending(attempt);
                row.last_attempt = Some(attempt.seq);
                (intent, Written::Done)
            }
            Write::Decide { intent, seq, verdict } => (intent, self.decide(intent, seq, verdict)),
            Write::Expire { intent, why } => {
                let row = &mut self.store.get_mut(&intent).expect("accepted").restored;
                assert_eq!(row.state, State::Queued);
                row.state = State::NotPlaced(why);
                (intent, Written::Done)
            }
            Write::Settle { intent } => {
                self.store.get_mut(&intent).expect("stored").restored.unsettled = false;
                return;
            }
            Write::HoldLane { .. } => {
                self.held = true;
                return;
            }
            Write::FreeLane => return,
        };
        self.feed(Event::Written { intent, written });
    }

    fn decide(&mut self, intent: IntentId, seq: AttemptSeq, verdict: Verdict) -> Written {
        let row = &mut self.store.get_mut(&intent).expect("accepted").restored;
        let open = row.state.attempt().copied();
        let late = row.state == State::Queued && matches!(verdict, Verdict::Placed { .. });
        assert_eq!(row.last_attempt, Some(seq), "not the newest attempt");
        let none = Attempt { seq, fingerprint: Fingerprint(1), floor: None };
        let attempt = open.or(late.then_some(none)).expect("a decision about an open attempt");
        row.state = match verdict {
            Verdict::Placed { id, learnt, created_at }
            | Verdict::Created { id, learnt, created_at } => {
                if let Some((holder, learnt)) = self.claims.get(&id).copied() {
                    return Written::IdTaken { holder, learnt, same_lane: true };
                }
                self.claims.insert(id.clone(), (intent, learnt));
                row.unsettled = learnt != Learnt::Answer;
                State::Placed { id, learnt, created_at }
            }
            Verdict::Refused(why) => State::Refused(why),
            Verdict::NotSent(_) => State::Queued,
            Verdict::Absent => {
                row.tries += 1;
                State::Queued
            }
            Verdict::NotPlaced(why) => State::NotPlaced(why),
            Verdict::InDoubt(why) => State::InDoubt(attempt, why),
            Verdict::Held(why) => State::Held(attempt, why),
        };
        Written::Done
    }

    /// POSTs land, answer, time out.
    fn fly(&mut self) {
        for flying in &mut self.flying {
            if flying.landed.is_none() && flying.lands.is_some_and(|at| at <= self.now) {
                let id = order(1000 + flying.seq.0);
                self.orders.insert(id.clone(), flying.intent);
                flying.landed = Some(id);
            }
        }
        let Some(at) = self.pick_flying() else { return };
        let mixed_up = self.trouble.wrong_ids && !self.mixed_up && self.dice.roll(4) == 0;
        let other = self.dice.roll(self.orders.len().max(1) as u64) as usize;
        let other = self.orders.keys().nth(other).cloned().filter(|_| mixed_up);
        let flying = &mut self.flying[at];
        let (intent, seq, left) = (flying.intent, flying.seq, Some(self.now));
        // An order that a list had shown before the attempt is not taken for its own.
        let other = other.filter(|id| flying.refusal.is_none() && !flying.shown.contains(id));
        self.mixed_up |= other.is_some() && flying.answers;
        let outcome = match other.or(flying.landed.clone()).filter(|_| flying.answers) {
            Some(id) => Outcome::Created { id, created_at: None },
            None => match flying.refusal.clone().filter(|_| flying.answers) {
                Some(refusal) => refusal,
                None if flying.told_unknown => return,
                None => lost(),
            },
        };
        self.permits_out -= i64::from(!std::mem::replace(&mut flying.told_unknown, true));
        if !matches!(outcome, Outcome::Unknown(_)) {
            self.flying.remove(at);
        }
        self.feed(Event::Answered { intent, seq, outcome, left });
    }

    fn pick_flying(&mut self) -> Option<usize> {
        let sent = |f: &Flying| f.left <= self.now;
        let ready: Vec<_> = (0..self.flying.len()).filter(|i| sent(&self.flying[*i])).collect();
        let n = ready.len() as u64;
        (n > 0).then(|| ready[self.dice.roll(n) as usize])
    }

    /// A list arrives: what is at the supplier now, less what is claimed durably. Sometimes it is
    /// no proof, and hides rows.
    fn list(&mut self) {
        if self.lists.is_empty() {
            return;
        }
        let ask = self.lists.remove(0);
        let partial = !self.calm && self.dice.roll(4) == 0;
        let mut rows: Vec<_> =
            self.orders.keys().filter(|id| !self.claims.contains_key(*id)).cloned().collect();
        if partial {
            rows.retain(|_| self.dice.roll(2) == 0);
        }
        self.shown.extend(rows.iter().cloned());
        let created_at = Timestamp::UNIX_EPOCH;
        let candidates = rows.into_iter().map(|id| Candidate { id, created_at }).collect();
        let proof = (!partial).then_some(Reach { since: None, fingerprint: Fingerprint(1) });
        let near_miss = (!self.calm && self.dice.roll(8) == 0).then(|| order(9_999));
        self.feed(Event::Listed(ListView { ask, candidates, proof, near_miss }));
    }

    fn permit(&mut self) {
        if let Some(intent) = self.permits.pop() {
            let attempt = self.attempt();
            self.permits_out += 1;
            self.feed(Event::Permitted { intent, attempt });
        }
    }

    fn submit(&mut self) {
        let intent = self.serial();
        let permit = (self.dice.roll(2) == 0).then(|| self.attempt());
        self.permits_out += i64::from(permit.is_some());
        let good_for = if self.dice.roll(4) == 0 { self.dice.roll(20) } else { 1_000_000 };
        let good_until = self.now.plus(UNIT * good_for as u32);
        let kinds = if self.trouble.two_kinds { 2 } else { 1 };
        let delivered = digest(["x", "y"][self.dice.roll(kinds) as usize]);
        self.submitted.insert(intent, (delivered, good_until));
        self.feed(Event::Submitted { intent, delivered, good_until, permit });
    }

    /// A person decides something in doubt, and is right.
    fn decide_by_hand(&mut self) {
        let doubts: Vec<_> = self.lane.doubts().map(|(id, sent)| (id, sent.attempt.seq)).collect();
        let Some((intent, seq)) = doubts.get(self.dice.roll(5) as usize).copied() else { return };
        let of = self.flying.iter().find(|f| f.seq == seq);
        let came_of_it = of.is_some_and(|f| f.landed.is_some() || f.lands.is_some());
        let own = self.orders.keys().find(|id| **id == order(1000 + seq.0));
        let decision = match own.filter(|id| !self.claims.contains_key(*id)).cloned() {
            Some(id) => Decision::Placed { id, created_at: None },
            None if own.is_none() && !came_of_it => Decision::Absent,
            None => return,
        };
        self.feed(Event::Resolved { intent, decision });
    }

    /// The lane panics: what it has written is waited for, then it is rebuilt; POSTs go on.
    fn rebuild(&mut self) {
        self.permits_out -= self.lane.permits_held().count() as i64;
        self.lane = Lane::default();
        // Its own writes have nobody to tell; what they would have sent is in doubt.
        while !self.writes.is_empty() {
            let permits = self.permits_out;
            self.sync();
            self.permits_out = permits;
        }
        self.lists.clear();
        let gates_closed = self.now.plus(2 * UNIT);
        self.rehydrate(gates_closed);
    }

    fn rehydrate(&mut self, left: Moment) {
        let open = |r: &Restored| !r.state.is_end() || r.unsettled;
        let rows = self.store.values().map(|row| row.restored.clone());
        let restored: Vec<_> = rows.filter(|r| open(r)).collect();
        let (lane, effects) = Lane::rehydrate(&self.rules, &restored, None, left, self.now);
        self.lane = lane;
        effects.into_iter().for_each(|effect| self.carry_out(effect));
    }

    /// The process dies: memory and unwritten changes are gone, what has left has left.
    fn crash(&mut self) {
        self.writes.clear();
        self.lists.clear();
        self.permits.clear();
        self.permits_out = 0;
        let now = self.now;
        self.flying.iter_mut().for_each(|f| {
            f.answers = false;
            f.told_unknown = true;
            // What its gate had not yielded never leaves.
            if f.left > now {
                f.lands = None;
            }
        });
        self.rehydrate(self.now);
    }

    fn wake(&mut self) {
        self.now = self.now.plus(UNIT);
        self.fly();
        self.feed(Event::Woke);
    }

    fn run(&mut self) {
        let intents = 1 + self.dice.roll(5);
        let mut submitted = 0;
        for _ in 0..200 {
            match self.dice.roll(24) {
                0..2 if submitted < intents => {
                    submitted += 1;
                    self.submit();
                }
                0..10 => self.sync(),
                10..14 => self.fly(),
                14..16 => self.permit(),
                16..18 => self.list(),
                18 if self.dice.roll(4) == 0 => self.crash(),
                19 if self.trouble.person => self.decide_by_hand(),
                20 if self.trouble.panics && self.dice.roll(4) == 0 => self.rebuild(),
                _ => self.wake(),
            }
        }
        self.calm = true;
        for _ in 0..400 {
            (0..8).for_each(|_| self.sync());
            self.permit();
            self.fly();
            self.list();
            self.wake();
        }
    }

    /// Faults are over: everything has ended, and the books agree.
    fn check_end(&self) {
        let mut wanted = 0;
        for (id, row) in &self.store {
            let bought = self.orders.values().filter(|by| *by == id).count();
            match &row.restored.state {
                State::Placed { id: order, .. } => {
                    wanted += 1;
                    let by = &self.store[&self.orders[order]].restored;
                    let is_its_own = by.delivered == row.restored.delivered;
                    assert!(is_its_own || self.trouble.wrong_ids, "rule 13: another's goods");
                }
                State::NotPlaced(why) if why == "too late to send" => {}
                State::NotPlaced(_) => assert!(row.restored.tries == 2, "{bought}"),
                State::Refused(_) => {}
                state => panic!("{id:?} has not ended: {state:?}\n{:#?}", self.lane),
            }
        }
        assert_eq!(self.orders.len(), wanted, "bought twice, or claimed by nobody");
        assert_eq!(self.claims.len(), wanted);
        assert!(self.lane.is_idle(), "{:#?}", self.lane);
        assert_eq!(self.permits_out, 0, "permits leak");
    }
}

#[test]
fn whatever_is_lost_delayed_or_crashed_every_intent_gets_exactly_its_own_order() {
    let of = |name| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let first = of("CHAOS_SEED").unwrap_or(0);
    for seed in first..first + of("CHAOS_SEEDS").unwrap_or(5_000) {
        let mut world = World::new(seed);
        let run = std::panic::AssertUnwindSafe(|| {
            world.run();
            world.check_end();
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed} fails");
            std::panic::resume_unwind(panic);
        }
    }
}
