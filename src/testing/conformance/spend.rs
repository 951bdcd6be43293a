//! What is counted against limits of orders and money.

use futures_util::future::join_all;
use jiff::Timestamp;

use super::{Bench, MakeStore, Store};
use crate::protocol::Change;
use crate::protocol::limits::{Clocks, Spend, Spent, Sum};

/// The limit clock when the tests begin.
const NOON: u64 = 1_900_000_800;

fn sum(orders: u64, amount: &str) -> Sum {
    Sum { orders, amount: amount.parse().expect("an amount") }
}

fn spend(after: u64, one: Sum, back: &[(u64, Sum)]) -> Spend {
    let now = NOON + after;
    let at =
        |nanos| Timestamp::new(i64::try_from(now).expect("in range"), nanos).expect("in range");
    let clocks = Clocks { wall: at(7), supplier: after.is_multiple_of(2).then(|| at(0)) };
    Spend { now, at: now + 31, sum: one, back: back.to_vec(), clocks }
}

/// Commits reservations one after the other, and says what they come to.
async fn made(bench: &Bench, spends: &[Spend]) -> Spent {
    let mut expected = Spent::default();
    for spend in spends {
        expected.apply(spend);
        bench.done(Change::Spend(spend.clone())).await;
    }
    expected
}

/// Three days of reservations, some taken back.
fn three_days() -> Vec<Spend> {
    let back = |after: u64, one| (NOON + after + 31, one);
    let mut all = vec![
        spend(0, sum(3, "4.005"), &[]),
        spend(0, sum(1, "0.10"), &[]),
        spend(9, sum(2, "7"), &[back(0, sum(1, "1.005")), back(555, sum(1, "1"))]),
        spend(40, sum(1, "7922816251426433.335"), &[back(9, sum(0, "7"))]),
    ];
    all.extend((1..20).map(|n| spend(n * 3_600 * 4 - n, sum(n, "0.000000001"), &[])));
    all.push(spend(300_000, sum(0, "5"), &[back(2, sum(9, "9"))]));
    all
}

async fn found(bench: &Bench) -> Spent {
    bench.store.rehydrate().await.expect("works").spent
}

/// Reservations add up exactly, also those of one moment; what is taken back is taken back where it was
/// counted, and of what is old nothing stays.
pub async fn reservations_add_up_and_are_taken_back(store: Store) {
    let bench = Bench::new(store);
    assert_eq!(found(&bench).await, Spent::default());
    let first = three_days();
    let expected = made(&bench, &first[..4]).await;
    assert_eq!(found(&bench).await, expected);
    let all: Vec<_> = expected.slots().collect();
    assert_eq!(all[0], (NOON + 31, sum(3, "3.1")));
    assert_eq!(all[1], (NOON + 40, sum(2, "0")));
    let mut expected = made(&bench, &first[4..]).await;
    let once = spend(300_001, sum(1, "0.3"), &[]);
    let many = join_all((0..16).map(|_| bench.store.commit(Change::Spend(once.clone())))).await;
    assert!(many.iter().all(Result::is_ok), "{many:?}");
    (0..16).for_each(|_| expected.apply(&once));
    let there = found(&bench).await;
    assert_eq!(there.slots().last(), Some((NOON + 300_032, sum(16, "4.8"))));
    assert_eq!(there.now(), NOON + 300_001);
    assert_eq!(there.clocks(), Some(once.clocks));
    assert!(there.slots().all(|(at, _)| at > NOON + 300_001 - 90_000), "{there:?}");
    let replaced = Spent::of([(NOON + 300_000, sum(5, "6"))], NOON + 300_001, Some(once.clocks));
    bench.done(Change::Spent(replaced.clone())).await;
    assert_eq!(found(&bench).await, replaced);
    bench.done(Change::Spent(Spent::default())).await;
    assert_eq!(found(&bench).await, Spent::default());
}

/// A store that was closed and opened again has counted the same. Does nothing for stores that cannot be
/// opened again.
pub async fn what_was_spent_survives_reopening(maker: &dyn MakeStore) {
    let bench = Bench::new(maker.make().await);
    let expected = made(&bench, &three_days()).await;
    // Beside an order, which is fed to an index with it.
    bench.queued("r1", "a").await;
    assert_eq!(found(&bench).await, expected);
    bench.store.close().await.expect("closes");
    drop(bench);
    let Some(store) = maker.reopen().await else { return };
    let bench = Bench::new(store);
    assert_eq!(found(&bench).await, expected);
    bench.done(Change::Spend(spend(300_002, sum(1, "1"), &[]))).await;
    let mut expected = expected;
    expected.apply(&spend(300_002, sum(1, "1"), &[]));
    assert_eq!(found(&bench).await, expected);
}
