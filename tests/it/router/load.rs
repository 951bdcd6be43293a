use super::*;

/// Orders with hot items and repeats: `n` of them over `kinds` kinds.
fn orders(n: usize, kinds: usize) -> Vec<Order> {
    let kind = |i: usize| (i * i + i / 3) % kinds;
    (0..n).map(|i| order(&format!("ref-{i}"), &format!("item-{}", kind(i)), 1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_faults_every_order_is_bought_once() {
    let world = World::new(Faults::default());
    let router = world.ready().await;
    buy_all(&world, &router, orders(500, 40)).await;
    assert_eq!(router.stats().open, 0);
    router.shutdown(Duration::from_secs(1)).await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_late_cut_and_refused_answers_buy_nothing_twice() {
    let faults = Faults {
        withheld_after_creation: 0.05,
        created_late: 0.03,
        late_after: Duration::from_millis(500),
        withheld_never_created: 0.02,
        status_500_before: 0.01,
        status_500_after: 0.03,
        status_502_after: 0.01,
        reset_before: 0.01,
        reset_after: 0.03,
        cut_201: 0.02,
        rate_limited_429: 0.002,
        list_lag: Duration::from_millis(100),
        ..Faults::default()
    };
    let world = World::new(faults);
    let router = world.ready().await;
    buy_all(&world, &router, orders(600, 40)).await;
    router.shutdown(Duration::from_secs(1)).await.expect("stopped");
}
