//! The oracle: three ledgers must agree. Pure counting, no files.
//!
//! What is not known may match one order or none; *placed* exactly one, *refused* and *not placed*
//! none. Orders of the same items are interchangeable, so for those without a customer the oracle
//! counts by items.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::Serialize;

use crate::commands::results::Outcome;

/// Items in a form that is equal for equal orders: sorted, equal lines added up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemsKey(Box<str>);

impl ItemsKey {
    /// Of lines of product and quantity, in any order.
    pub fn new<'a>(lines: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        let mut lines: Vec<(&str, u64)> = lines.into_iter().collect();
        lines.sort_unstable();
        lines.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        let mut text = String::new();
        for (id, quantity) in lines {
            // The length first, so that no id can look like two.
            text.push_str(&format!("{}:{id}*{quantity};", id.len()));
        }
        Self(text.into())
    }
}

/// What the supplier sold and what customers were told.
#[derive(Default)]
pub struct Books {
    sold: HashMap<Box<str>, Sold>,
    told: HashMap<Box<str>, Told>,
    torn_lines: u64,
}

struct Sold {
    items: ItemsKey,
    foreign: bool,
}

/// All that was told about one reference.
struct Told {
    items: ItemsKey,
    placed: BTreeSet<Box<str>>,
    failed: bool,
    /// In doubt or held.
    doubtful: bool,
}

/// What is wrong, counted; with an example each.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// References with an order, each to be bought once at most.
    pub wanted: u64,
    /// Orders that the supplier sold, without those of others.
    pub bought: u64,
    /// References that were told that their order is placed.
    pub placed: u64,
    /// References that were told that nothing was bought.
    pub not_placed: u64,
    /// References in doubt or held.
    pub open: u64,
    /// Orders more than were wanted of the same items.
    pub bought_twice: Defect,
    /// Orders that were bought, and no customer has them or can still get them.
    pub claimed_by_nobody: Defect,
    /// References without an end, or placed without an order of their own.
    pub lost: Defect,
    /// References whose order has other items, or is somebody else's.
    pub wrong_customer: Defect,
    /// Orders that several references were given.
    pub given_twice: Defect,
    /// References that were told that nothing was bought, where something was.
    pub falsely_failed: Defect,
    /// Lines of results that a kill has cut off.
    pub torn_lines: u64,
    /// The ids of the orders that nobody has: what they cost is lost.
    #[serde(skip)]
    pub nobodys: Vec<String>,
}

/// How often something went wrong, and once where.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Defect {
    /// How often.
    pub count: u64,
    /// A reference or an order that shows it.
    pub example: Option<String>,
}

impl Defect {
    fn add(&mut self, count: u64, example: impl FnOnce() -> String) {
        if count > 0 {
            self.count += count;
            self.example.get_or_insert_with(example);
        }
    }
}

impl Books {
    /// An order that the supplier sold.
    pub fn sold(&mut self, id: &str, items: ItemsKey, foreign: bool) {
        self.sold.insert(id.into(), Sold { items, foreign });
    }

    /// A line of results. Without a reference, it is no order and counts for nothing.
    pub fn told(
        &mut self,
        client_ref: &str,
        items: impl FnOnce() -> ItemsKey,
        outcome: Outcome,
        order_id: Option<&str>,
    ) {
        // Nothing was bought for these, and the reference may be another order's or another node's.
        if matches!(outcome, Outcome::Invalid | Outcome::Conflict | Outcome::Elsewhere) {
            return;
        }
        if !self.told.contains_key(client_ref) {
            let told =
                Told { items: items(), placed: BTreeSet::new(), failed: false, doubtful: false };
            self.told.insert(client_ref.into(), told);
        }
        let told = self.told.get_mut(client_ref).expect("it was inserted just now");
        match outcome {
            Outcome::Placed => {
                told.placed.insert(order_id.unwrap_or_default().into());
            }
            Outcome::Refused | Outcome::NotPlaced => told.failed = true,
            Outcome::InDoubt | Outcome::Held => told.doubtful = true,
            Outcome::Accepted | Outcome::Conflict | Outcome::Invalid | Outcome::Elsewhere => {}
        }
    }

    /// A line that cannot be read.
    pub fn torn(&mut self) {
        self.torn_lines += 1;
    }

    /// Compares.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict {
            wanted: self.told.len() as u64,
            bought: self.sold.values().filter(|sold| !sold.foreign).count() as u64,
            torn_lines: self.torn_lines,
            ..Verdict::default()
        };
        let mut references: Vec<_> = self.told.iter().map(|(name, told)| (&**name, told)).collect();
        references.sort_unstable_by_key(|(client_ref, _)| *client_ref);
        let owners = self.claims(&references, &mut verdict);
        self.by_items(&references, &owners, &mut verdict);
        verdict
    }

    /// Goes through what every reference was told; returns the orders that somebody has.
    fn claims<'a>(
        &'a self,
        references: &[(&'a str, &'a Told)],
        verdict: &mut Verdict,
    ) -> HashSet<&'a str> {
        let mut owners: HashMap<&str, u64> = HashMap::new();
        for (client_ref, told) in references {
            match (told.placed.is_empty(), told.failed, told.doubtful) {
                (false, ..) => verdict.placed += 1,
                (true, true, _) => verdict.not_placed += 1,
                (true, false, true) => verdict.open += 1,
                (true, false, false) => verdict.lost.add(1, || client_ref.to_string()),
            }
            if told.failed && !told.placed.is_empty() {
                verdict.falsely_failed.add(1, || client_ref.to_string());
            }
            for id in &told.placed {
                let known = self.sold.get(id);
                let own = known.is_some_and(|s| !s.foreign && s.items == told.items);
                if known.is_none() {
                    verdict.lost.add(1, || client_ref.to_string());
                } else if !own {
                    verdict.wrong_customer.add(1, || client_ref.to_string());
                }
                let owners = owners.entry(id).or_default();
                *owners += 1;
                // Whoever comes second has the codes of the first, and none of its own.
                if known.is_some() && *owners > 1 {
                    verdict.lost.add(1, || client_ref.to_string());
                }
                if *owners == 2 {
                    verdict.given_twice.add(1, || id.to_string());
                }
            }
        }
        owners.into_keys().collect()
    }

    /// Counts, for each kind of items, what cannot be told from one reference alone.
    fn by_items(&self, references: &[(&str, &Told)], owned: &HashSet<&str>, verdict: &mut Verdict) {
        let mut kinds: HashMap<&ItemsKey, Kind<'_>> = HashMap::new();
        for (client_ref, told) in references {
            let kind = kinds.entry(&told.items).or_default();
            kind.wanted += 1;
            // An order of one who was told two different ends was counted above.
            match (told.placed.is_empty(), told.failed) {
                (false, _) => {}
                (true, true) => kind.failed.push(client_ref),
                (true, false) => kind.open += 1,
            }
        }
        for (id, sold) in &self.sold {
            if !sold.foreign {
                let kind = kinds.entry(&sold.items).or_default();
                kind.sold += 1;
                if !owned.contains(&**id) {
                    kind.unclaimed.push(id);
                }
            }
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_unstable_by_key(|(items, _)| *items);
        for (_, mut kind) in kinds {
            kind.unclaimed.sort_unstable();
            // Each that is still open may have one of them.
            let nobodys = &kind.unclaimed[kind.open.min(kind.unclaimed.len())..];
            let count = nobodys.len() as u64;
            verdict.nobodys.extend(nobodys.iter().map(|id| (*id).to_owned()));
            verdict.claimed_by_nobody.add(count, || nobodys[0].to_owned());
            let failed = count.min(kind.failed.len() as u64);
            verdict.falsely_failed.add(failed, || kind.failed[0].to_owned());
            let more = kind.sold.saturating_sub(kind.wanted);
            let example = || kind.unclaimed.last().copied().unwrap_or("an order").to_owned();
            verdict.bought_twice.add(more, example);
        }
    }
}

/// Everything about orders of the same items.
#[derive(Default)]
struct Kind<'a> {
    wanted: u64,
    sold: u64,
    open: usize,
    failed: Vec<&'a str>,
    unclaimed: Vec<&'a str>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.defects().iter().all(|(_, defect)| defect.count == 0)
    }

    fn defects(&self) -> [(&'static str, &Defect); 6] {
        [
            ("bought twice", &self.bought_twice),
            ("claimed by nobody", &self.claimed_by_nobody),
            ("lost", &self.lost),
            ("wrong customer", &self.wrong_customer),
            ("given to two customers", &self.given_twice),
            ("falsely failed", &self.falsely_failed),
        ]
    }

    /// What a table shows: name, count, example.
    pub fn rows(&self) -> Vec<(&'static str, u64, Option<String>)> {
        let counts = [
            ("wanted", self.wanted),
            ("bought", self.bought),
            ("told: placed", self.placed),
            ("told: not bought", self.not_placed),
            ("in doubt or held", self.open),
        ];
        let counts = counts.into_iter().map(|(name, count)| (name, count, None));
        let defects = self.defects().map(|(name, defect)| {
            let example = defect.example.as_ref().map(|e| format!("for instance {e:.40}"));
            (name, defect.count, example)
        });
        counts.chain(defects).collect()
    }
}

#[cfg(test)]
mod tests;
