//! The gate is gone, stands still, is cut off, or refuses.

use std::time::Instant;

use order_router::shared_gate::GateError;

use super::*;

with_each_server! {
    a_gate_that_is_gone_refuses_new_orders_and_answers_known_ones,
    a_gate_that_is_gone_may_be_done_without,
    a_gate_that_stands_still_costs_nobody_more_than_its_limit,
    a_node_that_is_cut_off_takes_nothing_new_and_the_other_goes_on,
}

fn is_down(told: &Result<End, SubmitError>) {
    let Err(SubmitError::GateDown { source, .. }) = told else { panic!("{told:?}") };
    let shown = format!("{source} {source:?}");
    assert!(shown.contains("127.0.0.1") && !shown.contains(PASSWORD), "{shown}");
}

async fn a_gate_that_is_gone_refuses_new_orders_and_answers_known_ones(live: Live) {
    let one = Node::patient("one", &live.url(), terms()).await;
    let two = Node::start("two", &live.url(), terms(), Faults::default()).await;
    let end = buy(&one.router, order("known", "p", 1)).await;
    one.leave_open(order("open", "q", 1)).await;
    let mut events = one.router.events();
    live.kill();
    is_down(&attempt(&one.router, order("new", "p", 1)).await);
    let alarm = Node::alarm(&mut events, "no gate is reached").await;
    assert!(alarm.contains("refused until it answers (closed)"), "{alarm}");
    assert!(one.stats().down.is_some());
    assert_eq!(attempt(&one.router, order("known", "p", 1)).await.unwrap(), end);
    live.run();
    // Whoever asks first finds out; the keys of open orders come back by themselves.
    while attempt(&one.router, order("new", "p", 1)).await.is_err() {
        tokio::time::sleep(20 * MILLIS).await;
    }
    let alarm = Node::alarm(&mut events, "answers again").await;
    assert!(alarm.contains("0 orders were taken without it"), "{alarm}");
    // This Redis keeps a log, Memcached nothing.
    let forgotten = u64::from(matches!(live, Live::Memcached(_)));
    let again = async {
        while one.stats().forgotten < forgotten {
            tokio::time::sleep(5 * MILLIS).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("it is written again");
    two.until_recorded("one", &order("open", "q", 1)).await;
    assert_eq!((one.stats().unguarded, one.stats().forgotten), (0, forgotten));
    assert!(one.stats().down.is_none());
}

async fn a_gate_that_is_gone_may_be_done_without(live: Live) {
    let one = Node::start("one", &live.url(), open(), Faults::default()).await;
    let two = Node::start("two", &live.url(), open(), Faults::default()).await;
    let mut events = one.router.events();
    live.kill();
    placed(&attempt(&one.router, order("r", "p", 1)).await.unwrap());
    let alarm = Node::alarm(&mut events, "no gate is reached").await;
    assert!(alarm.contains("nothing stops a duplicate at another node (open)"), "{alarm}");
    // Nor does it, which is what was asked for; this node's own store still buys once.
    placed(&attempt(&two.router, order("r", "p", 1)).await.unwrap());
    placed(&attempt(&one.router, order("r", "p", 1)).await.unwrap());
    assert_eq!((one.ledger(), two.ledger()), (1, 1));
    assert_eq!((one.stats().unguarded, two.stats().unguarded), (1, 1));
    live.run();
    let up = async {
        while one.stats().down.is_some() {
            let _ = attempt(&one.router, order("r", "p", 1)).await;
            tokio::time::sleep(20 * MILLIS).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), up).await.expect("it answers again");
    let alarm = Node::alarm(&mut events, "answers again").await;
    assert!(alarm.contains("1 orders were taken without it"), "{alarm}");
}

async fn a_gate_that_stands_still_costs_nobody_more_than_its_limit(live: Live) {
    let one = Node::start("one", &live.url(), terms(), Faults::default()).await;
    buy(&one.router, order("r0", "p", 1)).await;
    live.pause(true);
    let begun = Instant::now();
    is_down(&attempt(&one.router, order("r1", "p", 1)).await);
    let first = begun.elapsed();
    let begun = Instant::now();
    for at in 2..22 {
        is_down(&attempt(&one.router, order(&format!("r{at}"), "p", 1)).await);
    }
    let others = begun.elapsed();
    live.pause(false);
    // Its limit, and what a busy machine takes.
    assert!(first >= Duration::from_secs(1) && first < Duration::from_secs(6), "{first:?}");
    assert!(others < Duration::from_secs(6), "nobody waits for a gate that is down: {others:?}");
    let bought = async {
        while attempt(&one.router, order("r1", "p", 1)).await.is_err() {
            tokio::time::sleep(20 * MILLIS).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), bought).await.expect("it answers again");
    assert_eq!(one.ledger(), 2);
}

async fn a_node_that_is_cut_off_takes_nothing_new_and_the_other_goes_on(live: Live) {
    let proxy = Proxy::start(live.port());
    let one = Node::start("one", &live.url_at(proxy.port()), terms(), Faults::default()).await;
    let two = Node::start("two", &live.url(), terms(), Faults::default()).await;
    buy(&one.router, order("r0", "p", 1)).await;
    proxy.refuse(true);
    proxy.cut();
    is_down(&attempt(&one.router, order("r1", "p", 1)).await);
    placed(&attempt(&two.router, order("r1", "p", 1)).await.unwrap());
    proxy.refuse(false);
    let told = loop {
        match attempt(&one.router, order("r1", "p", 1)).await {
            Err(SubmitError::GateDown { .. }) => tokio::time::sleep(20 * MILLIS).await,
            told => break told,
        }
    };
    is_elsewhere(&told, "two");
    // Silence is worse than a cut: it is heard only when the limit is over.
    proxy.silence(true);
    is_down(&attempt(&one.router, order("r2", "p", 1)).await);
    match attempt(&two.router, order("r2", "p", 1)).await {
        Ok(end) => drop(placed(&end)),
        // The key was added, and only its answer held back: the first node may go on.
        told => assert!(!is_elsewhere(&told, "one"), "it has recorded nothing"),
    }
    proxy.silence(false);
    let told = loop {
        match attempt(&one.router, order("r2", "p", 1)).await {
            Err(SubmitError::GateDown { .. }) => tokio::time::sleep(20 * MILLIS).await,
            told => break told,
        }
    };
    assert!(told.is_ok() || matches!(told, Err(SubmitError::Elsewhere { .. })), "{told:?}");
    assert_eq!(one.ledger() + two.ledger(), 3, "one order each");
}

async fn asked(url: &str) -> Result<(), GateError> {
    gate("n", &StoreMark::of_place("x"), url, GateTerms::default()).check().await
}

#[track_caller]
fn shows_no_password(error: &GateError) {
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(PASSWORD) && !shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn wrong_address_and_wrong_password_are_said_and_no_password_is_shown() {
    let nobody = free_port();
    let supplier = World::new(Faults::default());
    let other: u16 = supplier.simulator.url().rsplit_once(':').unwrap().1.parse().unwrap();
    for scheme in ["memcached", "redis"] {
        let url = format!("{scheme}://u:canary@127.0.0.1:{nobody}");
        let error = asked(&url).await.unwrap_err();
        assert!(matches!(error, GateError::Unreachable { .. }), "{error:?}");
        shows_no_password(&error);
        for login in ["", "u:canary@"] {
            let url = format!("{scheme}://{login}127.0.0.1:{other}");
            let error = asked(&url).await.unwrap_err();
            assert!(!matches!(error, GateError::Url(_)), "{error:?}");
            shows_no_password(&error);
        }
    }
    let urls = |port: u16| {
        ["", "router:canary-wrong@", "other:x@"]
            .map(|login| format!("memcached://{login}127.0.0.1:{port}"))
    };
    if let Some(server) = Memcached::start(true) {
        for url in urls(server.port) {
            let error = asked(&url).await.unwrap_err();
            assert!(matches!(error, GateError::Refused { .. }), "{url}: {error:?}");
            shows_no_password(&error);
        }
        asked(&format!("memcached://router:{PASSWORD}@127.0.0.1:{}", server.port)).await.unwrap();
    }
    if let Some(server) = Redis::shared() {
        for url in urls(server.port) {
            let error = asked(&url.replace("memcached", "redis")).await.unwrap_err();
            assert!(matches!(error, GateError::Refused { .. }), "{url}: {error:?}");
            shows_no_password(&error);
        }
        asked(&server.url("checked")).await.unwrap();
    }
    if let Some(server) = Memcached::start(false) {
        // A password that nobody wants does not stay there for others to read.
        asked(&format!("memcached://router:{PASSWORD}@127.0.0.1:{}", server.port)).await.unwrap();
        assert_eq!(server.say("get auth").trim_end(), "END");
    }
}
