//! The orders of the demo: a third identical, the others different but often with the same
//! products.

use crate::commands::check::verdict::ItemsKey;

/// How many there are.
const ORDERS: usize = 330;

/// Products and their prices in cents.
const PRODUCTS: [(&str, u64); 8] = [
    ("gift-card-25", 2500),
    ("gift-card-10", 1000),
    ("gift-card-50", 5000),
    ("game-key-sky", 1999),
    ("game-key-sea", 2999),
    ("top-up-600", 599),
    ("top-up-1200", 1199),
    ("season-pass", 999),
];

/// One order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DemoOrder {
    pub(super) client_ref: String,
    pub(super) items: Vec<(&'static str, u64)>,
}

impl DemoOrder {
    pub(super) fn key(&self) -> ItemsKey {
        ItemsKey::new(self.items.iter().copied())
    }

    /// The body of its POST.
    pub(super) fn body(&self) -> String {
        serde_json::json!({ "items": self.json_items() }).to_string()
    }

    fn json_items(&self) -> Vec<serde_json::Value> {
        let item = |(id, quantity): &(&str, u64)| serde_json::json!({ "itemId": id, "quantity": quantity });
        self.items.iter().map(item).collect()
    }
}

/// What something costs, in cents.
pub(super) fn price<'a>(items: impl Iterator<Item = (&'a str, u64)>) -> u64 {
    let one =
        |id: &str| PRODUCTS.iter().find(|(name, _)| *name == id).map_or(0, |(_, cents)| *cents);
    items.map(|(id, quantity)| one(id) * quantity).sum()
}

/// The orders of a seed.
pub(super) fn generate(seed: u64) -> Vec<DemoOrder> {
    let mut chance = Chance(seed);
    (0..ORDERS)
        .map(|number| {
            let client_ref = format!("demo-{number:03}");
            if number % 3 == 0 {
                return DemoOrder { client_ref, items: vec![(PRODUCTS[0].0, 1)] };
            }
            let mut items: Vec<(&'static str, u64)> = Vec::new();
            for _ in 0..=chance.below(3) {
                let id = PRODUCTS[chance.below(PRODUCTS.len() as u64) as usize].0;
                if items.iter().all(|(known, _)| *known != id) {
                    items.push((id, 1 + chance.below(4)));
                }
            }
            DemoOrder { client_ref, items }
        })
        .collect()
}

/// The file that `submit` reads.
pub(super) fn json_lines(orders: &[DemoOrder]) -> String {
    let line = |order: &DemoOrder| {
        let items = order.json_items();
        serde_json::json!({ "client_ref": order.client_ref, "items": items }).to_string() + "\n"
    };
    orders.iter().map(line).collect()
}

/// SplitMix64: enough chance for a list of orders.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_is_identical_and_a_seed_gives_the_same_orders() {
        let orders = generate(7);
        let hot = orders[0].key();
        assert!(orders.len() >= 300);
        assert!(orders.iter().filter(|o| o.key() == hot).count() * 3 >= orders.len());
        assert_eq!(orders, generate(7));
        assert_ne!(orders, generate(8));
        assert!(orders.iter().all(|o| (1..=10).contains(&o.items.len())));
    }
}
