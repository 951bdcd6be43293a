//! Callers: they hand their orders over, repeat, vanish and change their mind.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use order_router::{ClientRef, Item, Order, OrderRouter, Progress, SubmitError};

use crate::kinds::IN_CHAIN;
use crate::world::World;

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Hands one order over, again and again, until it is told an end.
pub async fn caller(
    world: Arc<World>,
    router: OrderRouter,
    order: Order,
    mut rng: Rng,
    last: bool,
) {
    let name = order.client_ref().clone();
    let number: u64 = name.as_str().trim_start_matches("ref-").parse().unwrap_or(0);
    let first = if rng.bool() { 50 } else { 20_000 };
    let (bugs, bursts, again, chained) = {
        let p = &world.inner.lock().unwrap().profile;
        (p.panics > 0.0, p.bursts, p.call_again_ms, p.chained)
    };
    let burst = number.checked_div(bursts).map(|n| millis(n * 30_000 + rng.u64(..50)));
    let first = burst.unwrap_or_else(|| millis(rng.u64(..first)));
    if chained {
        await_the_one_before(&world, number).await;
    }
    let first = if chained { millis(rng.u64(..250)) } else { first };
    tokio::time::sleep(world.ticks(first)).await;
    loop {
        match if last { 9 } else { rng.u8(..10) } {
            // Goes away in the middle.
            0 | 1 => {
                let span = millis(rng.u64(..3000));
                if let Ok(Ok(end)) = tokio::time::timeout(span, router.submit(order.clone())).await
                {
                    world.told(&name, &end);
                }
            }
            // Uses its reference for something else.
            2 => {
                let items = vec![Item::new("something-else", 1).unwrap()];
                let other = Order::new(name.clone(), items).unwrap();
                // Where the first has not been taken, this one would be the order.
                let taken = world.inner.lock().unwrap().oracle.kept.contains_key(&name);
                if taken && let Ok(end) = router.submit(other).await {
                    let mut inner = world.inner.lock().unwrap();
                    inner.oracle.violated(format!("{name} with other items is told {end:?}"));
                }
            }
            // Follows it for a while.
            3 => follow(&world, &router, &order).await,
            // Asks twice at once.
            4 => {
                let both = [router.submit(order.clone()), router.submit(order.clone())];
                let both = futures_util::future::join_all(both).await;
                for end in both.into_iter().flatten() {
                    world.told(&name, &end);
                }
            }
            _ => match router.submit(order.clone()).await {
                Ok(end) => {
                    world.told(&name, &end);
                    if last || rng.bool() {
                        return;
                    }
                }
                // Its lane was rebuilt before it was durable: that happens to a bug, and else never.
                Err(SubmitError::Unknown { .. }) if !bugs => {
                    let what = format!("{name} was handed over and nobody knows it");
                    return world.inner.lock().unwrap().oracle.violated(what);
                }
                Err(SubmitError::Conflict { .. }) => {
                    let what = format!("{name} is refused as a conflict with itself");
                    return world.inner.lock().unwrap().oracle.violated(what);
                }
                Err(_) => {}
            },
        }
        tokio::time::sleep(world.ticks(millis(rng.u64(200..again)))).await;
    }
}

async fn await_the_one_before(world: &World, number: u64) {
    let Some(before) = number.checked_sub(IN_CHAIN.into()) else { return };
    let before = ClientRef::new(format!("ref-{before}")).unwrap();
    while !world.inner.lock().unwrap().oracle.was_told(&before) {
        tokio::time::sleep(world.ticks(millis(1))).await;
    }
}

async fn follow(world: &World, router: &OrderRouter, order: &Order) {
    let name = order.client_ref();
    let Ok(mut ticket) = router.track(order.clone()) else { return };
    while let Ok(Some(progress)) =
        tokio::time::timeout(Duration::from_secs(30), ticket.next()).await
    {
        match progress {
            Progress::Accepted => world.told_accepted(name),
            Progress::Ended(end) => return world.told(name, &end),
            Progress::Failed(_) => return,
            _ => {}
        }
    }
}
