//! States folded: what differs only in names, or in what nothing reads any more, is one state.
//!
//! *Names.* Attempts are compared by age alone and are numbered from 1 in that order; of intents
//! not even the order is ever asked for, but by a restart, which takes every order
//! ([`Action::CrashAs`](super::steps::Action::CrashAs)); orders are compared for being the same.
//! *What is over.* An intent that has ended, whose POST and order nothing can name any more, is
//! one less to come; it takes its order along. *Settled POSTs* are written down for the next
//! restart: without one to come, that write and what it says are left out.

use order_router::OrderId;
use order_router::protocol::lane::{Names, Write};
use order_router::protocol::{Attempt, AttemptSeq, IntentId, Serial, State};

use super::driver::About;
use super::marks::mark;
use super::setup::{Faults, Setup};
use super::steps::in_every_order;
use super::world::{Caller, End, List, Post, Row, Shared, Stage, World, maker, order};

/// The numbers of orders that no attempt of the lane is behind any more: by who has them, and by age.
const OWNED: u64 = 32;
const LOOSE: u64 = 64;

/// What a POST is still there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It may be heard of, it may land, or its intent is not placed.
    Live,
    /// It is an order that this intent has, and nothing more.
    Owned(IntentId),
    /// It is an order, and nothing more: its own intent has another one.
    Loose,
}

/// What a state is folded by.
#[derive(Clone)]
struct Fold {
    last: bool,
    attempts: Vec<AttemptSeq>,
    kinds: Vec<Kind>,
    intents: Vec<IntentId>,
    gone: Vec<IntentId>,
}

impl Setup {
    /// The folded state in the place of this one: the same happens from it, under other names.
    pub fn folded(&self, mut world: World) -> World {
        world.leave_out_settled();
        Fold::of(&world).apply(self, world)
    }

    /// The mark of a folded state, whatever its intents are called: a search takes one order of
    /// them, which is not always the same.
    pub fn form(&self, mut world: World) -> u64 {
        world.leave_out_settled();
        let fold = Fold::of(&world);
        let orders = in_every_order(&fold.intents).into_iter();
        let folds = orders.map(|intents| Fold { intents, ..fold.clone() });
        folds.map(|fold| mark(&fold.apply(self, world.clone()))).min().unwrap_or_default()
    }

    /// Whether states of this run may be folded.
    pub fn may_fold(&self) -> bool {
        let only = Faults { crashes: self.faults.crashes, ..Faults::default() };
        let alike = !self.two_kinds && self.good_for.is_none() && !self.late_answers;
        let alike = alike && !self.partial && self.window.is_none();
        alike && self.faults == only && self.account.is_none() && !self.fairness
    }

    /// In how many orders a restart may find what was being sent.
    pub fn orders_of_restart(&self, world: &World) -> u8 {
        let sent = world.rows.iter().filter(|row| is_sent(row)).count();
        if self.folds { (1..=sent as u8).product() } else { 1 }
    }
}

fn is_sent(row: &Row) -> bool {
    matches!(row.restored.state, State::Sending(_))
}

impl World {
    /// Where the list that is on its way has an order.
    fn place_in_list(&self, order: &OrderId) -> Option<u64> {
        let Some(List::Read { rows, .. }) = &self.list else { return None };
        rows.iter().position(|id| id == order).map(|at| at as u64 + 1)
    }

    /// That a POST is settled is written down for the next restart alone.
    pub fn leave_out_settled(&mut self) {
        if self.faults.crashes == 0 {
            self.writes.retain(|pending| !matches!(pending.write, Write::Settle { .. }));
        }
    }

    /// Puts what is being sent in another order.
    pub fn shuffle(&mut self, order: u8) {
        let mut rows = Vec::clone(&self.rows);
        let at: Vec<_> = (0..rows.len()).filter(|at| is_sent(&rows[*at])).collect();
        let mut left = usize::from(order);
        let mut sent: Vec<_> = at.iter().map(|at| rows[*at].clone()).collect();
        for place in at {
            let next = sent.remove(left % sent.len());
            left /= sent.len() + 1;
            rows[place] = next;
        }
        self.rows = Shared::new(rows);
    }

    fn attempt_of(&self, id: IntentId) -> Option<AttemptSeq> {
        let row = self.row(id).and_then(|row| {
            let open = row.restored.state.attempt().map(|attempt| attempt.seq);
            let follows = row.restored.unsettled && self.faults.crashes > 0;
            open.or(row.restored.last_attempt.filter(|_| follows))
        });
        let written = self.writes.iter().find_map(|pending| match &pending.write {
            Write::Accept { intent, attempt } if *intent == id => attempt.map(|a| a.seq),
            Write::Record { intent, attempt } if *intent == id => Some(attempt.seq),
            _ => None,
        });
        written.or(row)
    }
}

impl Fold {
    fn of(world: &World) -> Self {
        let last = world.faults.crashes == 0;
        let mut attempts: Vec<_> = world.lane.attempts_followed().collect();
        let kinds: Vec<_> = world.posts.iter().map(|post| kind(world, post)).collect();
        let live = world.posts.iter().zip(&kinds).filter(|(_, kind)| **kind == Kind::Live);
        attempts.extend(live.map(|(post, _)| post.seq));
        attempts
            .extend(world.rows.iter().filter_map(|row| Some(row.restored.state.attempt()?.seq)));
        // A restart follows these again.
        let unsettled = world.rows.iter().filter(|row| row.restored.unsettled && !last);
        attempts.extend(unsettled.filter_map(|row| row.restored.last_attempt));
        attempts.extend(world.writes.iter().filter_map(|pending| match &pending.write {
            Write::Accept { attempt, .. } => attempt.map(|attempt| attempt.seq),
            Write::Record { attempt, .. } => Some(attempt.seq),
            Write::Decide { seq, .. } => Some(*seq),
            _ => None,
        }));
        attempts.sort_unstable();
        attempts.dedup();
        let mut fold = Self { last, attempts, kinds, intents: Vec::new(), gone: Vec::new() };
        let (gone, mut stay): (Vec<_>, Vec<_>) =
            world.callers.iter().partition(|caller| fold.is_gone(world, caller));
        fold.gone = gone.into_iter().map(|caller| caller.intent).collect();
        stay.sort_by_cached_key(|caller| {
            let id = caller.intent;
            let row = world.row(id);
            let seq = world.attempt_of(id).map_or(u64::MAX, |seq| seq.0);
            let order = row.and_then(Row::end).map_or(0, |end| match end {
                End::Placed(id) => fold.place(world, &id),
                End::Refused | End::NotPlaced => 0,
            });
            let tries = row.map_or(u8::MAX, |row| row.restored.tries);
            (seq, tries, order, world.permits.contains(&id), id)
        });
        fold.intents = stay.into_iter().map(|caller| caller.intent).collect();
        fold
    }

    /// What tells an order from others, whatever it is called.
    fn place(&self, world: &World, order: &OrderId) -> u64 {
        let seq = maker(order);
        let mut posts = world.posts.iter().zip(&self.kinds);
        let is_live = posts.any(|(post, kind)| post.seq == seq && *kind == Kind::Live);
        let named = if is_live { 100 + seq.0 } else { u64::MAX };
        world.place_in_list(order).unwrap_or(named)
    }

    /// Whether nothing can happen to an intent any more, and nothing depends on it.
    fn is_gone(&self, world: &World, caller: &Caller) -> bool {
        let id = caller.intent;
        let lane = &world.lane;
        let follows = if self.last { lane.standing(id).is_some() } else { lane.follows(id) };
        let is_written = |p: &super::world::Pending| p.write.is_about(id);
        let mut posts = world.posts.iter().zip(&self.kinds);
        if follows
            || world.permits.contains(&id)
            || world.writes.iter().any(is_written)
            || posts.any(|(post, kind)| post.intent == id && *kind == Kind::Live)
        {
            return false;
        }
        let Some(row) = world.row(id) else { return !caller.accepted };
        let Some(end) = row.end() else { return false };
        let is_settled = !row.unclaimed && (self.last || !row.restored.unsettled);
        let is_told = caller.end.as_ref().is_none_or(|told| *told == end);
        is_settled && is_told && self.is_forgotten(world, id, &end)
    }

    /// Whether the order that an intent has is named nowhere else.
    fn is_forgotten(&self, world: &World, id: IntentId, end: &End) -> bool {
        let End::Placed(order) = end else { return true };
        let owned = |kind: &Kind| *kind == Kind::Owned(id);
        let is_listed =
            matches!(&world.list, Some(List::Read { rows, .. }) if rows.contains(order));
        let is_claimed = world.writes.iter().any(|pending| match &pending.write {
            Write::Decide { verdict, .. } => verdict.order().is_some_and(|it| it.0 == order),
            _ => false,
        });
        self.kinds.iter().any(owned) && !is_listed && !is_claimed && !world.lane.names_order(order)
    }

    fn apply(self, setup: &Setup, mut world: World) -> World {
        let before = u64::from(world.gone) + self.gone.len() as u64;
        let listed = match &world.list {
            Some(List::Read { rows, .. }) => rows.clone(),
            Some(List::Asked { .. }) | None => Vec::new(),
        };
        let new_seqs = self.new_seqs(&world, before);
        let named = mark(&(&self.attempts, &self.intents, before, &new_seqs, &listed));
        let new_order = |id: &OrderId| {
            let seq = maker(id);
            let found = new_seqs.iter().find(|(old, _)| *old == seq);
            let is_second = *id == order(seq, true);
            found.map_or_else(|| id.clone(), |(_, new)| order(*new, is_second))
        };
        let names = Names {
            intents: &self.intents,
            intents_before: before,
            attempts: &self.attempts,
            order: &new_order,
            is_listed: &|id| listed.contains(id),
        };
        world.lane = setup.renamed(&world.lane, &names, named);
        self.apply_to_store(&mut world, &names);
        self.apply_to_posts(&mut world, &names, &new_seqs);
        if let Some(List::Read { rows, .. }) = &mut world.list {
            rows.iter_mut().for_each(|id| *id = new_order(id));
        }
        world.permits.iter_mut().for_each(|id| *id = names.intent(*id));
        world.writes.iter_mut().for_each(|pending| rename_write(&mut pending.write, &names));
        world.gone = before as u8;
        world.serial = self.attempts.len() as u64 + 1;
        world.put_in_order(setup);
        world
    }

    /// The numbers of the POSTs and of their orders.
    fn new_seqs(&self, world: &World, before: u64) -> Vec<(AttemptSeq, AttemptSeq)> {
        let place = |id: IntentId| self.intents.iter().position(|other| *other == id);
        let mut loose = 0;
        let new = |(post, kind): (&Post, &Kind)| {
            let new = match kind {
                Kind::Live => {
                    Serial(self.attempts.partition_point(|other| *other <= post.seq) as u64)
                }
                Kind::Owned(id) => Serial(OWNED + before + place(*id)? as u64),
                Kind::Loose => {
                    loose += 1;
                    Serial(LOOSE + loose)
                }
            };
            Some((post.seq, new))
        };
        world.posts.iter().zip(&self.kinds).filter_map(new).collect()
    }

    fn apply_to_store(&self, world: &mut World, names: &Names<'_>) {
        let renamed = |row: &Row| {
            let mut row = row.clone();
            let restored = &mut row.restored;
            restored.intent = names.intent(restored.intent);
            let again = |attempt: Attempt| Attempt { seq: names.attempt(attempt.seq), ..attempt };
            restored.state = match restored.state.clone() {
                State::Sending(attempt) => State::Sending(again(attempt)),
                State::InDoubt(attempt, _) => State::InDoubt(again(attempt), "".into()),
                State::Held(attempt, _) => State::Held(again(attempt), "".into()),
                State::Placed { id, learnt, created_at } => {
                    State::Placed { id: (names.order)(&id), learnt, created_at }
                }
                other => other,
            };
            let has_ended = row.end().is_some();
            let restored = &mut row.restored;
            restored.unsettled &= !self.last;
            let is_over = has_ended && !restored.unsettled;
            let last = restored.last_attempt.filter(|seq| !is_over && names.has(*seq));
            restored.last_attempt = last.map(|seq| names.attempt(seq));
            row
        };
        let rows: Vec<_> =
            self.intents.iter().filter_map(|id| world.row(*id)).map(renamed).collect();
        world.rows = Shared::new(rows);
        let callers = self.intents.iter().filter_map(|id| {
            let mut caller = world.callers.iter().find(|caller| caller.intent == *id)?.clone();
            caller.intent = names.intent(caller.intent);
            if let Some(End::Placed(id)) = &mut caller.end {
                *id = (names.order)(id);
            }
            Some(caller)
        });
        world.callers = callers.collect();
    }

    fn apply_to_posts(
        &self,
        world: &mut World,
        names: &Names<'_>,
        new_seqs: &[(AttemptSeq, AttemptSeq)],
    ) {
        let posts = std::mem::take(&mut world.posts).into_iter().zip(&self.kinds);
        let stay = posts.filter_map(|(post, kind)| {
            let (_, seq) = *new_seqs.iter().find(|(old, _)| *old == post.seq)?;
            let intent = match kind {
                Kind::Live => names.intent(post.intent),
                Kind::Owned(id) => names.intent(*id),
                Kind::Loose => Serial(0),
            };
            Some(Post { seq, intent, ..post })
        });
        world.posts = stay.collect();
    }
}

fn kind(world: &World, post: &Post) -> Kind {
    let is_heard = post.reported && !post.open;
    let is_plain = !post.twice && !post.garbled && post.refused.is_none();
    if !(post.stage == Stage::Landed && is_heard && is_plain) {
        return Kind::Live;
    }
    if let Some(holder) = world.holder(&order(post.seq, false)) {
        return Kind::Owned(holder.restored.intent);
    }
    let is_placed = post.intent == Serial(0)
        || matches!(world.row(post.intent).and_then(Row::end), Some(End::Placed(_)));
    if is_placed { Kind::Loose } else { Kind::Live }
}

fn rename_write(write: &mut Write, names: &Names<'_>) {
    let again = |attempt: &mut Attempt| attempt.seq = names.attempt(attempt.seq);
    match write {
        Write::Accept { intent, attempt } => {
            *intent = names.intent(*intent);
            attempt.iter_mut().for_each(again);
        }
        Write::Record { intent, attempt } => {
            *intent = names.intent(*intent);
            again(attempt);
        }
        Write::Decide { intent, seq, verdict } => {
            *intent = names.intent(*intent);
            *seq = names.attempt(*seq);
            *verdict = names.verdict(verdict.clone());
        }
        Write::Expire { intent, .. } | Write::Settle { intent } => {
            *intent = names.intent(*intent);
        }
        Write::HoldLane { .. } | Write::FreeLane => {}
    }
}
