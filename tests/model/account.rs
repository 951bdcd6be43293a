//! The account around the lane: its book is the crate's own [`Account`], which reads every list.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use order_router::protocol::account::{Account, AccountRules, Assessment, Contents, OpenLane};
use order_router::protocol::lane::ListView;
use order_router::protocol::listing::{NoEvidence, Sheet};
use order_router::protocol::{
    AttemptSeq, Clause, Fingerprint, Learnt, LeftOut, Moment, Serial, Shape, State,
};
use order_router::store::{Claim, HistoryLine, Known};
use order_router::supplier::Row;
use order_router::{ClientRef, EchoProfile, EchoedItem, Item, ItemsHash, OrderId, TagKey};

use super::setup::{Setup, TICK, base};
use super::steps::Action;
use super::world::{List, Post, Proof, Shared, Stage, Unrest, World, order};

/// How many ticks a list may be on its way.
pub const LIST_AGE_MAX: u8 = 2;
const HISTORY: AttemptSeq = Serial(100);
const KNOWN: u64 = 110;
const STRANGER: u64 = 120;

/// What a run knows of the account.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ledger {
    /// Our orders have two lines, and the list shows the first alone: as it shows the orders of
    /// another lane, where an attempt is in doubt all the time.
    pub echo_is_short: bool,
    /// The list counts as faithful from the start.
    pub trust_echo: bool,
    /// Another lane has bought long ago, and was answered.
    pub known: bool,
    /// Orders carry tags, and somebody else buys the same at any time.
    pub tagged: bool,
    /// What is shown wrongly is shown without its tag, instead of with another quantity.
    pub loses_tags: bool,
}

/// An order on the account that is not of this lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Other {
    pub seq: AttemptSeq,
    pub date: u8,
    /// For so many ticks the router has known of it; no more are counted than matter.
    pub age: u8,
}

impl Other {
    /// It was bought by another lane, and is known by its own answer.
    pub fn is_known(&self) -> bool {
        (KNOWN..STRANGER).contains(&self.seq.0)
    }

    pub fn name(seq: AttemptSeq) -> Option<String> {
        match seq.0 {
            100 => Some("H".to_owned()),
            n @ KNOWN..STRANGER => Some(format!("W{}", n - KNOWN + 1)),
            n @ STRANGER.. => Some(format!("S{}", n - STRANGER + 1)),
            _ => None,
        }
    }
}

/// The crate's book of the account, compared by what it knows.
#[derive(Debug, Clone)]
pub struct Book {
    account: Account,
    contents: Contents,
    /// What its rules are: several runs share one pool of values.
    rules: (LeftOut, bool, u8),
}

impl PartialEq for Book {
    fn eq(&self, other: &Self) -> bool {
        (&self.contents, self.rules) == (&other.contents, other.rules)
    }
}

impl Eq for Book {}

impl Hash for Book {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.contents, self.rules).hash(state);
    }
}

/// The account in the state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Desk {
    pub book: Shared<Book>,
    pub others: Vec<Other>,
    /// What the store keeps of the account.
    pub orphans: BTreeSet<OrderId>,
    echo_seen: BTreeSet<Shape>,
    /// The next order's `createdAt`: they are told apart by rank alone.
    pub date: u8,
    /// The account is to be listed again, for what lands too late.
    pub look_due: bool,
    /// The start has stopped: a person is asked.
    pub stopped: bool,
    /// The store has lost what it had.
    pub rolled_back: bool,
}

fn at(date: u8) -> Timestamp {
    Timestamp::from_second(i64::from(date)).expect("a moment")
}

fn date_of(at: Option<Timestamp>) -> u8 {
    at.map_or(0, |at| u8::try_from(at.as_second()).unwrap_or(u8::MAX))
}

impl Setup {
    fn items(&self) -> Vec<Item> {
        let names = if self.ledger().echo_is_short { &["x", "y"][..] } else { &["x"] };
        names.iter().map(|name| Item::new(name, 1).expect("an item")).collect()
    }

    fn ledger(&self) -> Ledger {
        self.account.unwrap_or_default()
    }

    /// What the list shows of items.
    fn shows(&self) -> EchoProfile {
        let tag = TagKey::new("tag").ok().filter(|_| self.ledger().tagged);
        EchoProfile { tag, ..EchoProfile::default() }
    }

    /// The same, as orders are told apart by it.
    fn echo(&self) -> EchoProfile {
        let keeps = self.keeps(Clause::TagDecides);
        EchoProfile { tag: self.shows().tag.filter(|_| keeps), ..EchoProfile::default() }
    }

    /// The lines as they are sent: all intents of a lane are one order to the list.
    fn sent(&self) -> Arc<[Item]> {
        let client_ref = ClientRef::new("ref").expect("a reference");
        self.shows().as_sent(&client_ref, &self.items().into())
    }

    fn lane(&self) -> ItemsHash {
        ItemsHash::of(&self.sent(), self.echo())
    }

    fn lane_of(product: &str) -> ItemsHash {
        ItemsHash::of(&[Item::new(product, 1).expect("an item")], EchoProfile::default())
    }

    fn account_rules(&self) -> AccountRules {
        AccountRules {
            landing_bound: Some(TICK * u32::from(self.bound())),
            request_timeout: TICK / 4,
            list_margin: Default::default(),
            clock_margin: Default::default(),
            trust_echo: self.ledger().trust_echo,
            echo: self.echo(),
            fingerprint: Fingerprint(1),
            left_out: self.without.map(LeftOut::only).unwrap_or_default(),
        }
    }

    /// Longer than anything is asked to have been known.
    fn oldest(&self) -> Duration {
        TICK * u32::from(self.bound() + LIST_AGE_MAX + 2)
    }

    fn book(&self, account: Account, now: Moment) -> Shared<Book> {
        let account = account.rebased(now, base(), self.oldest());
        let left_out = self.without.map(LeftOut::only).unwrap_or_default();
        let rules = (left_out, self.ledger().trust_echo, self.bound());
        Shared::new(Book { contents: account.contents(), account, rules })
    }

    /// The account as it is met at the very first start: one order is there (rule 14).
    pub fn desk(&self) -> Desk {
        let history = Other { seq: HISTORY, date: 0, age: 0 };
        let (_, mut account) = self.history();
        let mut others = vec![history];
        let old = self.oldest();
        if self.ledger().known {
            let (seq, date) = (Serial(KNOWN), 1);
            account.learnt(known_of(seq, date), Moment::after_origin(base().since_origin() - old));
            others.push(Other { seq, date, age: self.bound() + 1 });
        }
        Desk {
            book: self.book(account, base()),
            others,
            orphans: BTreeSet::new(),
            echo_seen: BTreeSet::new(),
            date: 1 + u8::from(self.ledger().known),
            look_due: false,
            stopped: false,
            rolled_back: false,
        }
    }

    fn history(&self) -> (HistoryLine, Account) {
        let mut account = self.account_anew(None, &[], &[], Vec::new(), None);
        let rows = vec![row(order(HISTORY, false), 0, "completed", &[("x", 1)])];
        let line = account.draw_history(&Sheet { rows, ..sheet(Ok(None)) });
        (line, account)
    }

    fn account_anew(
        &self,
        history: Option<HistoryLine>,
        orphans: &[OrderId],
        echo_seen: &[Shape],
        known: Vec<Known>,
        newest: Option<Timestamp>,
    ) -> Account {
        let (orphans, echo_seen) = (orphans.to_vec(), echo_seen.to_vec());
        Account::new(self.account_rules(), history, orphans, echo_seen, known, newest, base())
    }

    /// Orders carry tags.
    pub fn has_tags(&self) -> bool {
        self.ledger().tagged
    }

    /// What is open when a list has arrived.
    fn open_lanes(&self, world: &World) -> BTreeMap<ItemsHash, OpenLane> {
        let products = self.items().iter().map(|item| item.id().into()).collect();
        let mine = OpenLane { attempts: world.lane.open_attempts(), products };
        let mut open = BTreeMap::from([(self.lane(), mine)]);
        if self.ledger().echo_is_short {
            let beside = OpenLane { attempts: 1, products: vec!["x".into()] };
            open.insert(Self::lane_of("x"), beside);
        }
        open
    }
}

fn sheet(reach: Result<Option<Timestamp>, NoEvidence>) -> Sheet {
    Sheet { rows: Vec::new(), reach, date: None, checkpoint: None }
}

fn row(id: OrderId, date: u8, status: &str, items: &[(&str, u32)]) -> Row {
    let item = |(id, quantity): &(&str, u32)| EchoedItem {
        id: (*id).to_owned(),
        quantity: Some(*quantity),
        note: None,
    };
    let items = Some(items.iter().map(item).collect());
    Row { id, status: status.to_owned(), created_at: at(date), items, cost: None }
}

impl World {
    fn desk_mut(&mut self) -> &mut Desk {
        self.desk.as_mut().expect("an account")
    }

    /// What an attempt that is recorded now cannot be older than.
    pub fn floor(&self) -> Option<Timestamp> {
        self.desk.as_ref()?.book.account.floor(base())
    }

    /// Whether the run is over, for a person is asked.
    pub fn is_stopped(&self) -> bool {
        self.desk.as_ref().is_some_and(|desk| desk.stopped)
    }

    pub fn is_rolled_back(&self) -> bool {
        self.desk.as_ref().is_some_and(|desk| desk.rolled_back)
    }

    /// An order of this lane is an intent's, durably.
    pub fn learnt(&mut self, setup: &Setup, id: &OrderId, learnt: Learnt) {
        if self.desk.is_none() {
            return;
        }
        let known = self.known(setup, id, learnt);
        let desk = self.desk_mut();
        let mut account = desk.book.account.clone();
        account.learnt(known, base());
        desk.book = setup.book(account, base());
    }

    fn known(&self, setup: &Setup, id: &OrderId, learnt: Learnt) -> Known {
        let shape = Shape::of(&setup.items());
        let created_at = self.date(id).map(at);
        Known { id: id.clone(), lane: setup.lane(), shape, learnt, created_at }
    }

    fn date(&self, id: &OrderId) -> Option<u8> {
        let mine = self.orders().find(|(mine, _)| mine == id).map(|(_, post)| post.date);
        let others = self.desk.iter().flat_map(|desk| &desk.others);
        let mut others = others.filter(|other| order(other.seq, false) == *id);
        mine.or_else(|| others.next().map(|other| other.date))
    }

    /// The next order's `createdAt`.
    pub fn next_date(&mut self) -> u8 {
        let Some(desk) = &mut self.desk else { return 0 };
        desk.date += 1;
        desk.date - 1
    }

    /// Another lane buys, and is answered.
    pub fn known_order(&mut self, setup: &Setup) {
        self.faults.knowns -= 1;
        let date = self.next_date();
        let desk = self.desk_mut();
        let number = desk.others.iter().filter(|other| other.is_known()).count() as u64;
        let seq = Serial(KNOWN + number);
        desk.others.push(Other { seq, date, age: 0 });
        let mut account = desk.book.account.clone();
        account.learnt(known_of(seq, date), base());
        desk.book = setup.book(account, base());
    }

    /// Somebody else buys the same, while nothing is open; a list shows it before anything is.
    pub fn stranger(&mut self, setup: &Setup) {
        self.faults.strangers -= 1;
        let date = self.next_date();
        let seq = Serial(STRANGER + u64::from(self.faults.strangers));
        self.desk_mut().others.push(Other { seq, date, age: 0 });
        if !setup.has_tags() {
            self.look(setup);
        }
    }

    /// The account is listed; no lane has asked for it.
    pub fn look(&mut self, setup: &Setup) {
        let rows = self.everything(setup);
        self.assess(setup, rows, Ok(None), 0);
        // The last look, a day later, comes after all of these.
        let may_come =
            self.posts.iter().any(|post| post.stage == Stage::Out) || self.lane.has_open_attempt();
        self.desk_mut().look_due &= may_come;
    }

    fn everything(&self, setup: &Setup) -> Vec<Row> {
        let others = self.desk.iter().flat_map(|desk| &desk.others);
        let others = others.map(|other| (order(other.seq, false), other.date));
        let mine = self.orders().map(|(id, post)| (id, post.date));
        let mut rows: Vec<_> = others.chain(mine).collect();
        rows.sort_by_key(|(_, date)| std::cmp::Reverse(*date));
        rows.into_iter().map(|(id, date)| self.shown(setup, id, date)).collect()
    }

    /// How the list shows an order.
    fn shown(&self, setup: &Setup, id: OrderId, date: u8) -> Row {
        let Some((_, post)) = self.orders().find(|(mine, _)| *mine == id) else {
            let is_known = (0..STRANGER - KNOWN).any(|n| id == known_id(n));
            return row(id, date, "completed", &[(if is_known { "z" } else { "x" }, 1)]);
        };
        let status = if post.failed { "failed" } else { "completed" };
        let loses = post.garbled && setup.ledger().loses_tags;
        let quantity = if post.garbled && !loses { 2 } else { 1 };
        let mut row = row(id, date, status, &[("x", quantity)]);
        let note = setup.sent()[0].note_ref().filter(|_| !loses).cloned();
        row.items.iter_mut().flatten().for_each(|line| line.note = note.clone());
        row
    }

    /// The list arrives, and the book reads it.
    fn assess(
        &mut self,
        setup: &Setup,
        rows: Vec<Row>,
        reach: Result<Option<Timestamp>, NoEvidence>,
        age: u8,
    ) -> Option<Assessment> {
        let sheet = Sheet { rows, ..sheet(reach) };
        let desk = self.desk.as_ref()?;
        let mut account = desk.book.account.clone();
        let claims = self.claims(setup, account.unknown_ids(&sheet));
        let requested = Moment::after_origin(base().since_origin() - TICK * u32::from(age));
        let open = setup.open_lanes(self);
        let names = |product: &str| ["x", "y", "z"].contains(&product);
        let assessment = account.assess(sheet, claims, &open, &names, requested, base());
        if !assessment.alarms.is_empty() {
            self.unrest = Some(Unrest::Alarm);
        }
        let desk = self.desk_mut();
        desk.orphans.extend(assessment.orphans.iter().cloned());
        desk.echo_seen.extend(assessment.echo_seen.iter().copied());
        desk.book = setup.book(account, base());
        Some(assessment)
    }

    /// What the store says of these orders.
    fn claims(&self, setup: &Setup, ids: Vec<OrderId>) -> Vec<Claim> {
        let claim = |id: OrderId| {
            let holder = &self.holder(&id)?.restored;
            let State::Placed { learnt, .. } = holder.state else {
                return None;
            };
            Some(Claim { id, intent: holder.intent, lane: setup.lane(), learnt })
        };
        ids.into_iter().filter_map(claim).collect()
    }

    /// What the lane is shown of the list that arrives.
    pub fn view(&mut self, setup: &Setup, list: List) -> Option<ListView> {
        let List::Read { rows, proof, since, age, .. } = list else { return None };
        let reach = match proof {
            Proof::Partial => Err(NoEvidence::Unfinished),
            Proof::Complete | Proof::OtherKey | Proof::Stale => Ok(since),
        };
        let rows = rows.into_iter().map(|id| {
            let date = self.date(&id).unwrap_or_default();
            self.shown(setup, id, date)
        });
        let rows = rows.rev().collect();
        let assessment = self.assess(setup, rows, reach, age)?;
        let items = setup.items();
        let products: Vec<_> = items.iter().map(|item| item.id().into()).collect();
        let shapes = BTreeSet::from([Shape::of(&items)]);
        Some(assessment.view(1, setup.lane(), &products, &shapes))
    }

    /// Every list that may be read now: `None` where there is no account.
    pub fn sheets(&self, setup: &Setup, since: Option<Timestamp>) -> Option<Vec<Action>> {
        let desk = self.desk.as_ref()?;
        let since = date_of(since);
        let others = desk.others.iter().map(|other| (other.date, order(other.seq, false), None));
        let mine = self.orders().map(|(id, post)| (post.date, id, Some(post)));
        let mut all: Vec<_> = others.chain(mine).collect();
        all.sort_by_key(|(date, id, _)| (*date, id.clone()));
        let mut actions = Vec::new();
        let in_span = |date: &u8| *date >= since;
        // A cached one: what was there some time ago. It must not hide the order in doubt alone.
        for then in 0..desk.date {
            let is_told = |o: &Other| o.is_known() && o.date >= then && o.age > setup.bound();
            if self.faults.stale == 0 || then < since || !desk.others.iter().any(is_told) {
                continue;
            }
            let old = all.iter().filter(|(date, ..)| in_span(date) && *date < then);
            let rows = old.map(|(_, id, _)| id.clone()).collect();
            actions.push(Action::ListRead { rows, proof: Proof::Stale });
        }
        all.retain(|(date, ..)| in_span(date));
        let hides = |post: &&Post| setup.lag && post.until > 0;
        let young: Vec<_> = all
            .iter()
            .enumerate()
            .filter(|(_, (_, _, post))| post.as_ref().is_some_and(hides))
            .map(|(place, _)| place)
            .collect();
        for mask in 0..1_u32 << young.len() {
            let has = |place: usize| match young.iter().position(|young| *young == place) {
                Some(bit) => mask & (1 << bit) != 0,
                None => true,
            };
            let rows = all.iter().enumerate().filter(|(place, _)| has(*place));
            let rows = rows.map(|(_, (_, id, _))| id.clone()).collect();
            actions.push(Action::ListRead { rows, proof: Proof::Complete });
        }
        if setup.partial {
            let newest = all.last().into_iter();
            let rows = newest.map(|(_, id, _)| id.clone()).collect();
            actions.push(Action::ListRead { rows, proof: Proof::Partial });
        }
        Some(actions)
    }

    /// The book is read from the store again, and the account is compared with it (rule 15).
    pub fn reopen(&mut self, setup: &Setup) {
        let Some(desk) = &self.desk else { return };
        let placed = self.rows.iter().filter(|row| !row.unclaimed).filter_map(|row| {
            let State::Placed { id, learnt, .. } = &row.restored.state else {
                return None;
            };
            Some(self.known(setup, id, *learnt))
        });
        let others = desk.others.iter().filter(|other| other.is_known());
        let known: Vec<_> = placed.chain(others.map(|o| known_of(o.seq, o.date))).collect();
        let newest = known.iter().filter_map(|known| known.created_at).max();
        let orphans: Vec<_> = desk.orphans.iter().cloned().collect();
        let seen: Vec<_> = desk.echo_seen.iter().copied().collect();
        let line = setup.history().0;
        let account = setup.account_anew(Some(line), &orphans, &seen, known, newest);
        let rows = self.everything(setup);
        let floor = account.floor(base()).map_or(0, |at| date_of(Some(at)));
        let rows = rows.into_iter().filter(|row| date_of(Some(row.created_at)) >= floor).collect();
        let sheet = Sheet { rows, ..sheet(Ok(Some(at(floor)))) };
        let claims = self.claims(setup, account.unknown_ids(&sheet));
        let unexplained = account.unexplained(&sheet, &claims, &setup.open_lanes(self));
        let late = setup.listed_again();
        let desk = self.desk_mut();
        desk.book = setup.book(account, base());
        desk.stopped = !unexplained.is_empty();
        desk.look_due |= late;
    }

    /// A tick passes for the account.
    pub fn account_ages(&mut self, setup: &Setup) {
        let Some(desk) = &mut self.desk else { return };
        desk.book = setup.book(desk.book.account.clone(), base().plus(TICK));
        for other in &mut desk.others {
            other.age = (other.age + 1).min(setup.bound() + 1);
        }
    }
}

fn known_id(n: u64) -> OrderId {
    order(Serial(KNOWN + n), false)
}

fn known_of(seq: AttemptSeq, date: u8) -> Known {
    Known {
        id: order(seq, false),
        lane: Setup::lane_of("z"),
        shape: Shape::default(),
        learnt: Learnt::Answer,
        created_at: Some(at(date)),
    }
}
