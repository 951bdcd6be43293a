//! One order that is paid later: every order of events, against the crate's own
//! [`Bill::step`](order_router::protocol::payment::Bill::step).
//!
//! Around the bill the model plays store, dispatcher, supplier, looks and clock. A payment leaves
//! within its send window, lands at any time up to wire bound plus landing bound after its report, or
//! never, and shows as late as that at most; its answer comes, is lost, or comes late; the supplier may
//! refuse it. A look is as of a moment between its request and its arrival. The order may expire. The
//! process may die between any two steps.

use std::time::Duration;

use order_router::protocol::lane::Rules;
use order_router::protocol::payment::{
    Bill, PayDecision, PayEffect, PayEvent, PayOutcome, PayTold, PayVerdict, Payment, Saw,
};
use order_router::protocol::{Clause, LeftOut, Moment};
use stateright::{Model, Property};

mod runs;

const WIRE: u8 = 1;
const LANDING: u8 = 2;
const WINDOW: u8 = 1;
/// A task reports no later than this after its bytes have left.
const REPORT: u8 = 1;

fn at(tick: u8) -> Moment {
    Moment::after_origin(Duration::from_secs(tick.into()))
}

/// One payment that was handed to the dispatcher.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Post {
    pays: u32,
    /// Its gate closes then.
    closes: u8,
    left: Option<u8>,
    reported: Option<u8>,
    fate: Fate,
    /// Its process is dead: nobody hears of it.
    alone: bool,
    answered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fate {
    /// It may still land.
    Open,
    /// It has debited, and shows from then on.
    Landed {
        shows: u8,
    },
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    now: u8,
    bill: Option<Bill>,
    stored: Payment,
    end: Option<End>,
    told: Option<End>,
    told_twice: bool,
    /// A write that is under way, and whether it is durable by now.
    write: Option<(PayVerdict, bool)>,
    permit: bool,
    posts: Vec<Post>,
    look: Option<(u8, Option<Saw>)>,
    debits: u8,
    expired: bool,
    crashes: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum End {
    Paid,
    Unpaid,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Act {
    Tick,
    Permit,
    Durable,
    Acknowledged,
    Leaves(usize),
    GateCloses(usize),
    Lands(usize, u8),
    /// It never lands, and the supplier says so.
    Refused(usize),
    AnswerPaid(usize),
    TimesOut(usize),
    Seen,
    LookArrives,
    Expires,
    Dies,
    Starts,
}

#[derive(Clone)]
struct Pays {
    ticks: u8,
    crashes: u8,
    expires: bool,
    without: Option<Clause>,
    ends: bool,
}

impl Pays {
    fn rules(&self) -> Rules {
        Rules {
            tries_max: 2,
            wire_bound: Duration::from_secs(WIRE.into()),
            landing_bound: Some(Duration::from_secs(LANDING.into())),
            look_again_min: Duration::from_secs(1),
            look_again_max: Duration::from_secs(2),
            left_out: self.without.map(LeftOut::only).unwrap_or_default(),
            ..Rules::default()
        }
    }

    fn feed(&self, world: &mut World, event: PayEvent) {
        let Some(bill) = &mut world.bill else { return };
        let effects = bill.step(&self.rules(), event, at(world.now));
        self.carry_out(world, effects);
    }

    fn carry_out(&self, world: &mut World, effects: Vec<PayEffect>) {
        for effect in effects {
            match effect {
                PayEffect::AskPermit => world.permit = true,
                PayEffect::ReturnPermit | PayEffect::Alarm(_) => {}
                PayEffect::Write { was, to } => {
                    assert_eq!(was, world.stored, "the guard of a write");
                    assert!(world.write.is_none(), "one write at a time");
                    world.write = Some((to, false));
                }
                PayEffect::Send { pays } => world.posts.push(Post {
                    pays,
                    closes: world.now + WINDOW,
                    left: None,
                    reported: None,
                    fate: Fate::Open,
                    alone: false,
                    answered: false,
                }),
                PayEffect::Look => world.look = Some((world.now, None)),
                PayEffect::Tell(told) => {
                    let end = match told {
                        PayTold::Paid => End::Paid,
                        PayTold::Unpaid(_) => End::Unpaid,
                        PayTold::Due | PayTold::InDoubt | PayTold::Held(_) => continue,
                    };
                    world.told_twice |= world.told.is_some_and(|before| before != end);
                    world.told = Some(end);
                }
            }
        }
    }

    fn shows_paid(world: &World) -> bool {
        let shown = |post: &Post| matches!(post.fate, Fate::Landed { shows } if shows <= world.now);
        world.posts.iter().any(shown)
    }

    /// The last moment at which a payment may land and show: counted from its report, or, where its
    /// process died before, from when it left.
    fn limit(post: &Post) -> Option<u8> {
        let left = post.left?;
        let reported = post.reported.unwrap_or(if post.alone { left } else { left + REPORT });
        // Just before it counts as settled.
        Some(reported + WIRE + LANDING - 1)
    }

    /// Every bound is kept: what has to happen by now has happened.
    fn may_tick(world: &World) -> bool {
        world.posts.iter().all(|post| {
            let unreported = post.left.is_some_and(|left| {
                !post.alone && post.reported.is_none() && world.now >= left + REPORT
            });
            let unsent = post.left.is_none() && !post.alone && post.reported.is_none();
            !(unreported || unsent && world.now >= post.closes)
        })
    }

    fn happens(&self, world: &World, acts: &mut Vec<Act>) {
        if world.write.as_ref().is_some_and(|(_, durable)| !durable) {
            acts.push(Act::Durable);
        }
        if let Some(bill) = &world.bill {
            if world.write.as_ref().is_some_and(|(_, durable)| *durable) {
                acts.push(Act::Acknowledged);
            }
            if world.permit {
                acts.push(Act::Permit);
            }
            if let Some((_, seen)) = &world.look {
                acts.push(if seen.is_some() { Act::LookArrives } else { Act::Seen });
            }
            if world.crashes < self.crashes && !bill.has_ended() {
                acts.push(Act::Dies);
            }
        } else {
            acts.push(Act::Starts);
        }
        for (n, post) in world.posts.iter().enumerate() {
            let hears = !post.alone && world.bill.is_some();
            match (post.left, post.reported) {
                (None, None) if hears => {
                    if world.now < post.closes {
                        acts.push(Act::Leaves(n));
                    }
                    // Once, by chance; what is late is never sent, however often.
                    if world.now >= post.closes || world.posts.len() == 1 {
                        acts.push(Act::GateCloses(n));
                    }
                }
                (Some(_), None) if hears => acts.push(Act::TimesOut(n)),
                _ => {}
            }
            if post.left.is_none() {
                continue;
            }
            let landed = matches!(post.fate, Fate::Landed { .. });
            if landed && hears && !post.answered {
                acts.push(Act::AnswerPaid(n));
            }
            if post.fate == Fate::Open {
                let limit = Self::limit(post).unwrap_or(0);
                acts.extend((world.now..=limit).map(|shows| Act::Lands(n, shows)));
                if hears && !post.answered {
                    acts.push(Act::Refused(n));
                }
            }
        }
        if self.expires && !world.expired && world.debits == 0 {
            acts.push(Act::Expires);
        }
    }

    fn apply(&self, world: &mut World, act: &Act) {
        match act {
            Act::Tick => {
                world.now += 1;
                for post in &mut world.posts {
                    // What has not landed by its bound never will.
                    let over = Self::limit(post).is_some_and(|limit| limit < world.now);
                    if over && post.fate == Fate::Open {
                        post.fate = Fate::Nothing;
                    }
                }
                self.feed(world, PayEvent::Woke);
            }
            Act::Permit => {
                world.permit = false;
                self.feed(world, PayEvent::Permitted);
            }
            Act::Durable => {
                let Some((to, durable)) = &mut world.write else { return };
                *durable = true;
                match to {
                    PayVerdict::Open { payment, .. } => world.stored = *payment,
                    PayVerdict::Paid => world.end = Some(End::Paid),
                    PayVerdict::Unpaid(_) => world.end = Some(End::Unpaid),
                }
                if world.bill.is_none() {
                    world.write = None;
                }
            }
            Act::Acknowledged => {
                world.write = None;
                self.feed(world, PayEvent::Written);
            }
            Act::Leaves(n) => world.posts[*n].left = Some(world.now),
            Act::GateCloses(n) => {
                let post = &mut world.posts[*n];
                (post.reported, post.fate) = (Some(world.now), Fate::Nothing);
                let (pays, outcome) = (post.pays, PayOutcome::NotSent("closed".into()));
                self.feed(world, PayEvent::Answered { pays, outcome, left: None });
            }
            Act::Lands(n, shows) => {
                world.posts[*n].fate = match world.expired {
                    true => Fate::Nothing,
                    false => Fate::Landed { shows: *shows },
                };
                world.debits += u8::from(!world.expired);
            }
            Act::Refused(n) => {
                world.posts[*n].fate = Fate::Nothing;
                self.answer(world, *n, PayOutcome::Refused("NO".into()));
            }
            Act::AnswerPaid(n) => self.answer(world, *n, PayOutcome::Paid),
            Act::TimesOut(n) => {
                let post = &mut world.posts[*n];
                post.reported = Some(world.now);
                let (pays, outcome) = (post.pays, PayOutcome::Unknown("timeout".into()));
                let left = Some(at(world.now));
                self.feed(world, PayEvent::Answered { pays, outcome, left });
            }
            Act::Seen => {
                let saw = match Self::shows_paid(world) {
                    true => Saw::Paid,
                    false if world.expired => Saw::Cancelled(Some("payment_expiration".into())),
                    false => Saw::Unpaid,
                };
                if let Some((_, seen)) = &mut world.look {
                    *seen = Some(saw);
                }
            }
            Act::LookArrives => {
                let Some((requested, Some(saw))) = world.look.take() else { return };
                self.feed(world, PayEvent::Looked { requested: at(requested), saw });
            }
            Act::Expires => world.expired = true,
            Act::Dies => {
                world.crashes += 1;
                (world.bill, world.permit, world.look) = (None, false, None);
                // What is under way may be in the store's hands, or lost with the process.
                world.posts.retain(|post| post.left.is_some());
                world.posts.iter_mut().for_each(|post| post.alone = true);
                if world.write.as_ref().is_some_and(|(_, durable)| *durable) {
                    world.write = None;
                }
            }
            Act::Starts => {
                // What was not durable by then is lost.
                world.write = None;
                if world.end.is_some() {
                    world.bill = None;
                    world.told = world.told.or(world.end);
                    world.told_twice |= world.told != world.end;
                    // There is nothing to do any more.
                    world.bill = Some(ended(world.end));
                    return;
                }
                let (now, rules) = (at(world.now), self.rules());
                world.bill = Some(Bill::restored(world.stored, None, false, &rules, now, now));
                self.feed(world, PayEvent::Woke);
            }
        }
    }

    fn answer(&self, world: &mut World, n: usize, outcome: PayOutcome) {
        let now = world.now;
        let post = &mut world.posts[n];
        post.answered = true;
        post.reported.get_or_insert(now);
        let pays = post.pays;
        self.feed(world, PayEvent::Answered { pays, outcome, left: Some(at(now)) });
    }

    /// Whether it ends once nothing goes wrong any more.
    fn ends(&self, world: &World) -> bool {
        let mut world = world.clone();
        for _ in 0..200 {
            if world.told.is_some() {
                return true;
            }
            let mut acts = Vec::new();
            self.happens(&world, &mut acts);
            let calm = |act: &&Act| {
                !matches!(
                    act,
                    Act::Dies
                        | Act::Expires
                        | Act::Refused(_)
                        | Act::GateCloses(_)
                        | Act::TimesOut(_)
                )
            };
            let act = match acts.iter().find(calm) {
                Some(act) => act.clone(),
                None if Self::may_tick(&world) => Act::Tick,
                None => acts.into_iter().next().expect("something has to happen"),
            };
            self.apply(&mut world, &act);
        }
        false
    }
}

/// A bill that has ended as the store says.
fn ended(end: Option<End>) -> Bill {
    let (mut bill, _) = Bill::created(None, &Rules::default(), at(0));
    let decision = match end {
        Some(End::Paid) => PayDecision::Paid,
        _ => PayDecision::Unpaid,
    };
    bill.step(&Rules::default(), PayEvent::Decided(decision), at(0));
    bill.step(&Rules::default(), PayEvent::Written, at(0));
    bill
}

impl Model for Pays {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        let (bill, effects) = Bill::created(None, &self.rules(), at(0));
        let mut world = World {
            now: 0,
            bill: Some(bill),
            stored: Payment::NEW,
            end: None,
            told: None,
            told_twice: false,
            write: None,
            permit: false,
            posts: Vec::new(),
            look: None,
            debits: 0,
            expired: false,
            crashes: 0,
        };
        self.carry_out(&mut world, effects);
        vec![world]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        self.happens(world, acts);
        if world.now < self.ticks && Self::may_tick(world) {
            acts.push(Act::Tick);
        }
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        let mut world = world.clone();
        self.apply(&mut world, &act);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("debited once at most", |_: &Self, w: &World| w.debits <= 1),
            Property::always("the budget", |_: &Self, w: &World| {
                let open = w.posts.iter().filter(|p| p.left.is_some() && p.fate == Fate::Open);
                usize::from(w.debits) + open.count() <= 1
            }),
            Property::always("stored as paid is paid", |_: &Self, w: &World| {
                w.end != Some(End::Paid) || w.debits == 1
            }),
            Property::always("told unpaid is never paid", |_: &Self, w: &World| {
                w.told != Some(End::Unpaid) || w.debits == 0
            }),
            Property::always("told after durable, once", |_: &Self, w: &World| {
                !w.told_twice && (w.told.is_none() || w.told == w.end)
            }),
            Property::sometimes("paid", |_: &Self, w: &World| w.told == Some(End::Paid)),
            Property::sometimes("unpaid", |_: &Self, w: &World| w.told == Some(End::Unpaid)),
            Property::sometimes("a second payment", |_: &Self, w: &World| {
                w.posts.iter().any(|post| post.pays == 2 && post.left.is_some())
            }),
            Property::sometimes("paid by a look", |_: &Self, w: &World| {
                w.told == Some(End::Paid) && w.posts.iter().all(|post| !post.answered)
            }),
        ];
        if self.ends {
            properties.push(Property::always("it ends", |pays: &Self, w: &World| pays.ends(w)));
        }
        properties
    }
}
