//! How it is usually written, at the same supplier under the same faults: send, and after an error
//! send again, blindly or after a look at the recent orders.

use std::sync::Arc;
use std::time::Duration;

use order_router::protocol::{LeftOut, Moment};
use order_router::runtime::Clock;
use order_router::supplier::{Exchange, Gate, PageRequest, Supplier};
use order_router::{Item, OrderId};

use crate::kinds::Kind;
use crate::profile::Bounds;
use crate::supplier::SimSupplier;
use crate::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    BlindRetry,
    CheckThenRetry,
}

/// What a buyer did to the orders of one seed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Harm {
    pub orders: usize,
    /// Orders bought beyond those that customers were told of.
    pub bought_too_many: usize,
    /// Customers who were told an order that another one has as well.
    pub told_anothers: usize,
}

async fn buy(world: &Arc<World>, pattern: Pattern, item: &str) -> Option<OrderId> {
    let supplier = SimSupplier { world: world.clone(), left_out: LeftOut::default() };
    for _ in 0..3 {
        let items: Arc<[Item]> = vec![Item::new(item, 1).unwrap()].into();
        let closes = Moment::after_origin(Duration::MAX);
        let post = supplier.place(items, Arc::new(Gate::new(closes)));
        if let Ok(Exchange::Answer(answer)) =
            tokio::time::timeout(Bounds::USUAL.request_timeout, post).await
            && answer.status == 201
            && let Some(body) = answer.body
            && let Ok(body) = serde_json::from_slice::<serde_json::Value>(&body)
            && let Some(id) = body["id"].as_str().and_then(OrderId::new)
        {
            return Some(id);
        }
        let page = PageRequest { offset: 0, limit: 10 };
        if pattern == Pattern::CheckThenRetry
            && let Ok(page) = supplier.list(page).await
        {
            let recent = page.rows.into_iter().find(|row| {
                let has = row.items.iter().flatten().any(|line| line.id == item);
                let age = world.clock.wall().duration_since(row.created_at);
                has && age.unsigned_abs() < Duration::from_secs(120)
            });
            if let Some(row) = recent {
                return Some(row.id);
            }
        }
    }
    None
}

/// Buys the orders of a seed.
pub fn run(seed: u64, pattern: Pattern) -> Harm {
    let world = World::new(seed, Kind::Usual, false);
    world.clock.stall(Duration::from_secs(3 * 3600));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let count = 10;
    let told = runtime.block_on(async {
        world.clock.begin();
        let buys = (0..count).map(|n| {
            let world = world.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(n * 700)).await;
                buy(&world, pattern, &format!("item-{}", n % 3)).await
            }
        });
        let told = futures_util::future::join_all(buys).await;
        // What is still under way lands.
        tokio::time::sleep(Duration::from_secs(60)).await;
        world.clock.end();
        told
    });
    let (inner, _) = world.now();
    let ours = inner.orders.iter().filter(|o| !inner.oracle.foreign.contains(&o.id)).count();
    let ids: Vec<_> = told.into_iter().flatten().collect();
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    Harm {
        orders: usize::try_from(count).unwrap(),
        bought_too_many: ours.saturating_sub(distinct.len()),
        told_anothers: ids.len() - distinct.len(),
    }
}
