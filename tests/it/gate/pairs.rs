//! Two nodes, one gate, the same references.

use std::collections::BTreeMap;

use super::*;

with_each_server! {
    one_of_two_nodes_buys_each_reference,
    a_caller_at_the_other_node_is_told_who_has_it,
    a_key_whose_answer_is_lost_is_this_nodes_own,
    keys_of_open_orders_last_and_those_of_ended_ones_expire,
    what_a_flush_takes_is_written_again_while_it_is_open,
}

async fn one_of_two_nodes_buys_each_reference(live: Live) {
    const ORDERS: usize = 60;
    let faults = Faults {
        reset_after: 0.1,
        reset_before: 0.1,
        withheld_after_creation: 0.05,
        withheld_never_created: 0.05,
        status_500_after: 0.1,
        list_lag: 30 * MILLIS,
        ..Faults::default()
    };
    let one = Node::start("one", &live.url(), terms(), faults.clone()).await;
    let two = Node::start("two", &live.url(), terms(), faults).await;
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..ORDERS {
        for (name, node) in [("one", &one), ("two", &two)] {
            let (router, order) =
                (node.router.clone(), order(&format!("r{at}"), &format!("p{at}"), 1));
            tasks.spawn(async move { (name, order.clone(), attempt(&router, order).await) });
        }
    }
    let mut bought: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut refused = 0;
    for (name, order, told) in tasks.join_all().await {
        match told {
            Ok(end) => bought.entry(name).or_default().push((order, end)),
            told => {
                is_elsewhere(&told, if name == "one" { "two" } else { "one" });
                refused += 1;
            }
        }
    }
    let bought = |name| bought.get(name).map_or(&[][..], Vec::as_slice);
    assert_eq!((bought("one").len() + bought("two").len(), refused), (ORDERS, ORDERS));
    check_books(bought("one"), &one.world.simulator.ledger());
    check_books(bought("two"), &two.world.simulator.ledger());
    assert_eq!(one.ledger() + two.ledger(), ORDERS, "one order each");
    assert_eq!(one.stats().elsewhere + two.stats().elsewhere, ORDERS as u64);
    assert_eq!(one.stats().doubled + two.stats().doubled, 0);
    eprintln!("{} at one, {} at two", one.ledger(), two.ledger());
}

async fn a_caller_at_the_other_node_is_told_who_has_it(live: Live) {
    let one = Node::start("one", &live.url(), terms(), Faults::default()).await;
    let two = Node::start("two", &live.url(), terms(), Faults::default()).await;
    let end = buy(&one.router, order("r", "p", 1)).await;
    // What was bought is written there a moment after it was told.
    one.router.shutdown(Duration::from_secs(5)).await.unwrap();
    let told = attempt(&two.router, order("r", "p", 1)).await;
    assert!(is_elsewhere(&told, "one"), "it has recorded it");
    let shown = told.unwrap_err().to_string();
    assert!(shown.contains("is with node one/"), "{shown}");
    let other = attempt(&two.router, order("r", "p", 2)).await;
    assert!(matches!(other, Err(SubmitError::Conflict { .. })), "{other:?}");
    assert_eq!((one.ledger(), two.ledger()), (1, 0), "{end:?}");
    assert_eq!(two.router.stats().open, 0, "what was refused counts no more");
    assert!(two.router.status(order("r", "p", 1).client_ref()).await.unwrap().is_none());
}

async fn a_key_whose_answer_is_lost_is_this_nodes_own(live: Live) {
    let proxy = Proxy::start(live.port());
    let one = Node::start("one", &live.url_at(proxy.port()), terms(), Faults::default()).await;
    let two = Node::start("two", &live.url(), terms(), Faults::default()).await;
    buy(&one.router, order("first", "p", 1)).await;
    two.until_recorded("one", &order("first", "p", 1)).await;
    proxy.lose(Direction::Answer, 0);
    // Where asking once more is too late as well, the caller is told that nothing was bought, and comes again.
    let mut told = attempt(&one.router, order("r", "p", 1)).await;
    for _ in 0..50 {
        if matches!(told, Err(SubmitError::GateDown { .. })) {
            tokio::time::sleep(100 * MILLIS).await;
            told = attempt(&one.router, order("r", "p", 1)).await;
        }
    }
    placed(&told.unwrap());
    assert_eq!(proxy.lost(), 1, "nothing was lost");
    is_elsewhere(&attempt(&two.router, order("r", "p", 1)).await, "one");
    assert_eq!((one.ledger(), two.ledger()), (2, 0));
}

async fn keys_of_open_orders_last_and_those_of_ended_ones_expire(live: Live) {
    let short = GateTerms { ttl: Duration::from_secs(4), ..terms() };
    let one = Node::patient("one", &live.url(), short).await;
    let two = Node::start("two", &live.url(), terms(), Faults::default()).await;
    buy(&one.router, order("ended", "p", 1)).await;
    one.leave_open(order("open", "q", 1)).await;
    is_elsewhere(&attempt(&two.router, order("ended", "p", 1)).await, "one");
    tokio::time::sleep(Duration::from_millis(7_500)).await;
    is_elsewhere(&attempt(&two.router, order("open", "q", 1)).await, "one");
    // That is what a gate that forgets promises, and no more.
    placed(&attempt(&two.router, order("ended", "p", 1)).await.unwrap());
}

async fn what_a_flush_takes_is_written_again_while_it_is_open(live: Live) {
    let short = GateTerms { ttl: Duration::from_secs(3), ..terms() };
    let one = Node::patient("one", &live.url(), short).await;
    let two = Node::start("two", &live.url(), terms(), Faults::default()).await;
    buy(&one.router, order("ended", "p", 1)).await;
    one.leave_open(order("open", "q", 1)).await;
    live.flush();
    let again = async {
        while one.stats().forgotten == 0 {
            tokio::time::sleep(10 * MILLIS).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.expect("it is written again");
    is_elsewhere(&attempt(&two.router, order("open", "q", 1)).await, "one");
    let mut events = one.router.events();
    placed(&attempt(&two.router, order("ended", "p", 1)).await.unwrap());
    // The first node answers from its own store, and says that both have it.
    placed(&attempt(&one.router, order("ended", "p", 1)).await.unwrap());
    let alarm = Node::alarm(&mut events, "it may be bought twice").await;
    assert!(alarm.contains("order ended ") && alarm.contains("node two/"), "{alarm}");
    assert_eq!((one.stats().doubled, one.ledger(), two.ledger()), (1, 1, 1));
}
