//! The book of the money: what the balances of the account say, and what they must say.
//!
//! It watches and tells. No balance ever decides an attempt: it says that money is gone, not for what.
//!
//! *The equation*: opening − bought + refunded = closing. Between a reading that was requested at *a* and
//! one that had arrived at *b*, if nobody else spends, the balance falls by at most
//!
//! > what ended as bought between *a* and *b* + what is open at *b* + what was bought in the last lag before *a*
//!
//! whatever is in flight or in doubt. What is open is counted from before its attempt is recorded until its
//! end is durable. A fall beyond that, confirmed by the next reading, is money that no order of ours explains.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{IntentId, Moment};
use crate::money::{Amount, Balance, Currency};
use crate::order::Price;

#[cfg(test)]
mod tests;

/// How finely what was bought just now is dated.
const BUCKET: Duration = Duration::from_secs(1);
/// A low balance is over from this share of `lasts` and of the floor on: tenths.
const LASTS_TENTHS: u64 = 15;
const FLOOR_TENTHS: u64 = 11;

/// What a balance is watched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceRules {
    /// The currency in which orders are paid; `None`: the only one that is shown.
    pub currency: Option<Currency>,
    /// The span over which spending is measured.
    pub window: Duration,
    /// A balance that lasts for less than this is low.
    pub lasts: Duration,
    /// A balance below this is low.
    pub floor: Option<Price>,
    /// How late a debit may show.
    pub lag: Duration,
}

impl Default for BalanceRules {
    fn default() -> Self {
        Self {
            currency: None,
            window: Duration::from_secs(15 * 60),
            lasts: Duration::from_secs(60 * 60),
            floor: None,
            lag: Duration::from_secs(60),
        }
    }
}

/// Money that may be, or was, spent, and how many orders have no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sum {
    amount: Amount,
    unpriced: u64,
}

impl Sum {
    fn of(price: Option<Price>) -> Self {
        let unpriced = u64::from(price.is_none());
        Self { amount: price.map(Amount::from).unwrap_or_default(), unpriced }
    }

    fn plus(self, other: Self) -> Self {
        let amount = self.amount.plus(other.amount);
        Self { amount, unpriced: self.unpriced + other.unpriced }
    }

    fn minus(self, other: Self) -> Self {
        let amount = self.amount.minus(other.amount);
        Self { amount, unpriced: self.unpriced.saturating_sub(other.unpriced) }
    }
}

/// How the book stood when a reading was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requested {
    at: Moment,
    bought: Sum,
    recent: Sum,
    open: Sum,
}

impl Requested {
    /// By how much the balance may still fall for what is known by now.
    fn slack(&self) -> Sum {
        self.recent.plus(self.open)
    }
}

/// What there is to tell after a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The balance is low since this reading.
    Low {
        /// In which currency.
        balance: Balance,
        /// Why.
        why: String,
    },
    /// It is not low any more.
    NotLow {
        /// In which currency.
        balance: Balance,
    },
    /// The account spent so much more than the orders that are known.
    Unexplained {
        /// In which currency.
        currency: Currency,
        /// How much.
        amount: Amount,
    },
}

/// How one currency stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What was read last.
    pub balance: Balance,
    /// What it lost in the window.
    pub spent: Amount,
    /// For how long it lasts at that rate; `None`: nothing was spent.
    pub lasts: Option<Duration>,
    /// Whether it is low.
    pub low: bool,
    /// All that no order of ours explains, since the start.
    pub unexplained: Amount,
    /// Top-ups and refunds that were seen between quiet points, since the start.
    pub credited: Amount,
}

/// The reading that a span begins with.
#[derive(Debug, Clone, Copy)]
struct Opening {
    amount: Amount,
    requested: Requested,
}

#[derive(Debug)]
struct Account {
    standing: Standing,
    /// By how much it fell from reading to reading, in the window.
    falls: VecDeque<(Moment, Amount)>,
    /// What was bought when it was read last.
    bought: Amount,
    /// The last reading was above the one before.
    risen: bool,
    opening: Option<Opening>,
    /// By how much the last reading was too low.
    suspected: Option<Amount>,
}

/// See the module.
#[derive(Debug)]
pub struct BalanceBook {
    rules: BalanceRules,
    /// A span begins no earlier.
    from: Moment,
    /// What the open attempts, or payments, may cost.
    open: BTreeMap<IntentId, Option<Price>>,
    open_sum: Sum,
    /// All that ended as bought.
    bought: Sum,
    /// The same of the last lag, by when.
    recent: VecDeque<(Moment, Sum)>,
    accounts: BTreeMap<Currency, Account>,
}

impl BalanceBook {
    /// An empty book: what an earlier process bought is not known to it, but for what is open.
    #[must_use]
    pub fn new(rules: BalanceRules, now: Moment) -> Self {
        let from = now.plus(rules.lag);
        Self {
            rules,
            from,
            open: BTreeMap::new(),
            open_sum: Sum::default(),
            bought: Sum::default(),
            recent: VecDeque::new(),
            accounts: BTreeMap::new(),
        }
    }

    /// From now on an attempt, or a payment, of this intent may be debited. To be said before it can leave.
    pub fn begun(&mut self, intent: IntentId, price: Option<Price>) {
        if let Some(before) = self.open.insert(intent, price) {
            self.open_sum = self.open_sum.minus(Sum::of(before));
        }
        self.open_sum = self.open_sum.plus(Sum::of(price));
    }

    /// It has ended, durably: bought, or nothing was debited and nothing will be.
    pub fn ended(&mut self, intent: IntentId, bought: bool, now: Moment) {
        let Some(price) = self.open.remove(&intent) else { return };
        let sum = Sum::of(price);
        self.open_sum = self.open_sum.minus(sum);
        if !bought {
            return;
        }
        self.bought = self.bought.plus(sum);
        match self.recent.back_mut() {
            // Dated by its last: it stays rather too long than too short.
            Some((at, all)) if now.since(*at) < BUCKET => {
                *all = all.plus(sum);
                *at = now.max(*at);
            }
            _ => self.recent.push_back((now, sum)),
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Moment) {
        while self.recent.front().is_some_and(|(at, _)| now.since(*at) > self.rules.lag) {
            self.recent.pop_front();
        }
    }

    /// To be asked for right before a reading is requested.
    #[must_use]
    pub fn requested(&mut self, now: Moment) -> Requested {
        self.forget(now);
        let recent = self.recent.iter().fold(Sum::default(), |sum, (_, more)| sum.plus(*more));
        Requested { at: now, bought: self.bought, recent, open: self.open_sum }
    }

    /// Takes a reading that has arrived.
    pub fn read(&mut self, requested: Requested, now: Moment, balances: &[Balance]) -> Vec<Note> {
        let watched = self.watched(balances);
        let mut notes = Vec::new();
        for balance in balances {
            let is_watched = watched.as_ref() == Some(&balance.currency);
            let known = self.accounts.remove(&balance.currency);
            let mut account = known.unwrap_or_else(|| Account::new(balance.clone(), requested));
            account.read(balance, requested, now, is_watched, &self.rules);
            notes.extend(account.judge_low(&self.rules, is_watched));
            if is_watched {
                notes.extend(self.judge(&mut account, requested));
            }
            self.accounts.insert(balance.currency.clone(), account);
        }
        notes
    }

    /// The currency in which orders are paid, as far as that is known.
    #[must_use]
    pub fn watched(&self, balances: &[Balance]) -> Option<Currency> {
        match (&self.rules.currency, balances) {
            (Some(currency), _) => Some(currency.clone()),
            (None, [only]) => Some(only.currency.clone()),
            (None, _) => None,
        }
    }

    /// Whether a reading covers this: of the currency in which orders are paid, or of any where that is
    /// not known. What has no price is covered by anything above zero.
    #[must_use]
    pub fn covers(&self, balances: &[Balance], needed: Option<Price>) -> bool {
        let watched = self.watched(balances);
        let counts = |balance: &&Balance| watched.as_ref().is_none_or(|w| *w == balance.currency);
        balances.iter().filter(counts).any(|balance| match needed {
            Some(price) => balance.amount >= price.into(),
            None => balance.amount.is_positive(),
        })
    }

    /// How each currency stands.
    #[must_use]
    pub fn standing(&self) -> Vec<Standing> {
        self.accounts.values().map(|account| account.standing.clone()).collect()
    }

    /// The equation, for one reading.
    fn judge(&self, account: &mut Account, requested: Requested) -> Option<Note> {
        let closing = account.standing.balance.amount;
        let Some(opening) = account.opening else {
            account.open(closing, requested, self.from);
            return None;
        };
        // What has no price can be any amount.
        let began = opening.requested;
        let sum = self.bought.minus(began.bought).plus(began.recent).plus(self.open_sum);
        if sum.unpriced > 0 {
            (account.opening, account.suspected) = (None, None);
            account.open(closing, requested, self.from);
            return None;
        }
        let left = closing.minus(opening.amount.minus(sum.amount));
        if left < Amount::ZERO {
            let excess = Amount::ZERO.minus(left);
            // One reading may be wrong.
            let before = account.suspected.replace(excess)?;
            let amount = before.min(excess);
            account.standing.unexplained = account.standing.unexplained.plus(amount);
            (account.opening, account.suspected) = (None, None);
            account.open(closing, requested, self.from);
            let currency = account.standing.balance.currency.clone();
            return Some(Note::Unexplained { currency, amount });
        }
        account.suspected = None;
        let nothing = Sum::default();
        let is_quiet = requested.slack() == nothing;
        let nothing_since = self.open_sum == nothing && self.bought == requested.bought;
        if began.slack() == nothing && is_quiet && nothing_since {
            account.standing.credited = account.standing.credited.plus(left);
        }
        // A span that is not quiet hides as much as its slack: the narrowest is kept.
        if is_quiet || account.risen || requested.slack().amount < began.slack().amount {
            account.open(closing, requested, self.from);
        }
        None
    }
}

impl Account {
    fn new(balance: Balance, requested: Requested) -> Self {
        let standing = Standing {
            balance,
            spent: Amount::ZERO,
            lasts: None,
            low: false,
            unexplained: Amount::ZERO,
            credited: Amount::ZERO,
        };
        let bought = requested.bought.amount;
        let falls = VecDeque::new();
        Self { standing, falls, bought, risen: false, opening: None, suspected: None }
    }

    /// Notes what was read, and how fast it falls.
    fn read(
        &mut self,
        balance: &Balance,
        requested: Requested,
        now: Moment,
        is_watched: bool,
        rules: &BalanceRules,
    ) {
        let fall = self.standing.balance.amount.minus(balance.amount);
        // What orders of ours cost meanwhile, for a top-up hides it.
        let ours = requested.bought.amount.minus(self.bought);
        let ours = if is_watched { ours } else { Amount::ZERO };
        self.bought = requested.bought.amount;
        self.risen = fall < Amount::ZERO;
        self.falls.push_back((now, fall.max(ours).max(Amount::ZERO)));
        self.standing.balance = balance.clone();
        while self.falls.front().is_some_and(|(at, _)| now.since(*at) > rules.window) {
            self.falls.pop_front();
        }
        let spent = self.falls.iter().fold(Amount::ZERO, |sum, (_, fall)| sum.plus(*fall));
        self.standing.spent = spent;
        self.standing.lasts = spent.is_positive().then(|| {
            let windows = balance.amount.max(Amount::ZERO).times(millis(rules.window));
            Duration::from_millis(windows.divided_by(spent).unwrap_or(u64::MAX))
        });
    }

    /// Begins a span with this reading, unless what was bought just before it is not known.
    fn open(&mut self, amount: Amount, requested: Requested, from: Moment) {
        if requested.at >= from {
            self.opening = Some(Opening { amount, requested });
        }
    }

    /// Rings once, and ends with some room.
    fn judge_low(&mut self, rules: &BalanceRules, is_watched: bool) -> Option<Note> {
        let Standing { balance, lasts, low, .. } = &self.standing;
        let floor = rules.floor.filter(|_| is_watched).map(Amount::from);
        let lasts_less = |than: Duration| lasts.is_some_and(|lasts| lasts < than);
        if *low {
            let enough =
                Duration::from_millis(millis(rules.lasts).saturating_mul(LASTS_TENTHS) / 10);
            let below =
                floor.is_some_and(|floor| balance.amount.times(10) < floor.times(FLOOR_TENTHS));
            let ends = !lasts_less(enough) && !below;
            self.standing.low = !ends;
            return ends.then(|| Note::NotLow { balance: self.standing.balance.clone() });
        }
        let Balance { currency, amount } = balance;
        let why = if floor.is_some_and(|floor| *amount < floor) {
            let floor = rules.floor.unwrap_or_default();
            format!("{amount} {currency} is below {floor}")
        } else if lasts_less(rules.lasts) {
            let lasts = lasts.unwrap_or_default().as_secs();
            let (spent, window) = (self.standing.spent, rules.window.as_secs());
            format!("{amount} {currency} lasts for {lasts} s at {spent} in {window} s")
        } else {
            return None;
        };
        self.standing.low = true;
        Some(Note::Low { balance: self.standing.balance.clone(), why })
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
