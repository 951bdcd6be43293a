//! Orders that carry tags, beside somebody else who buys the same.

use order_router::protocol::Clause;
use order_router::simulator::{Contract, PostFault};
use order_router::{Note, OrderId, Resolution, StartError, SubmitError, Tag, TagKey};

use super::*;

fn world(faults: Faults) -> World {
    let contract = Contract { foreign_without_note: true, ..Contract::default() };
    let config = SimulatorConfig { faults, contract, ..SimulatorConfig::default() };
    let mut world = World::with(config);
    world.settings.echo.tag = Some(TagKey::new("order_ref").expect("a key"));
    world
}

/// Follows an order to its end, or until a person is asked.
async fn end_or_hold(router: &OrderRouter, order: Order) -> Result<End, String> {
    let mut ticket = router.track(order).expect("taken");
    loop {
        match ticket.next().await.expect("an end comes") {
            Progress::Ended(end) => return Ok(end),
            Progress::Held(why) => return Err(why.to_string()),
            Progress::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
}

async fn set(world: &World, faults: Faults) {
    world.simulator.set_faults(faults).expect("faults");
}

fn ours(world: &World) -> usize {
    world.simulator.ledger().iter().filter(|row| !row.foreign).count()
}

/// A supplier at which one order has been bought, and then loses its answers.
async fn after_a_witness(world: &World, faults: Faults) -> OrderRouter {
    let router = world.ready().await;
    placed(&buy(&router, order("witness", "x", 1)).await);
    set(world, faults).await;
    router
}

#[tokio::test(flavor = "multi_thread")]
async fn identical_orders_get_each_its_own_beside_strangers_who_buy_the_same() {
    let world = world(Faults::default());
    let faults = Faults {
        withheld_after_creation: 0.5,
        foreign_identical: 0.5,
        list_lag: Duration::from_millis(100),
        ..Faults::default()
    };
    let router = after_a_witness(&world, faults).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..30 {
        let (router, order) = (router.clone(), order(&format!("same-{n}"), "x", 1));
        tasks.spawn(async move { (order.clone(), buy(&router, order).await) });
    }
    let notes: BTreeMap<_, _> = {
        let bought = tasks.join_all().await;
        let rows = world.simulator.ledger();
        assert!(rows.iter().filter(|row| row.foreign).count() > 5, "strangers bought");
        assert_eq!(ours(&world), 31, "each once, and the witness");
        bought.into_iter().map(|(order, end)| (placed(&end), order.client_ref().clone())).collect()
    };
    assert_eq!(notes.len(), 30, "no order is two customers'");
    // Each has the order that carries its own tag, not only one with its items.
    for row in world.simulator.ledger() {
        let Some(client_ref) = notes.get(&row.id) else { continue };
        let tag = Tag::of(client_ref).to_string();
        assert_eq!(row.items[0].note, Some(serde_json::json!({"order_ref": tag})), "{client_ref}");
    }
}

/// One order that is not created and not answered, while somebody else buys the same.
async fn beside_a_stranger(world: World) -> (Result<End, String>, usize) {
    let faults =
        Faults { withheld_never_created: 1.0, foreign_identical: 1.0, ..Faults::default() };
    let router = after_a_witness(&world, faults).await;
    let end = end_or_hold(&router, order("ours", "x", 1)).await;
    (end, ours(&world))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_order_is_never_ours_and_only_a_person_says_that_it_is_not() {
    let (end, bought) = beside_a_stranger(world(Faults::default())).await;
    assert_eq!(end, Err("a similar order is there".to_owned()));
    assert_eq!(bought, 1, "the witness");
    // Told apart by items alone, the stranger's is taken for ours.
    let mut without = world(Faults::default());
    without.config = without.config.leave_out(Clause::TagDecides);
    let (end, bought) = beside_a_stranger(without).await;
    assert!(matches!(end, Ok(End::Placed { .. })), "{end:?}");
    assert_eq!(bought, 1, "ours was never bought, and is said to be");
}

/// One order that lands, is not answered, and shows no note.
async fn with_its_note_lost(world: &World) -> (OrderRouter, Result<End, String>) {
    let faults = Faults { withheld_after_creation: 1.0, note_lost: 1.0, ..Faults::default() };
    let router = after_a_witness(world, faults).await;
    let end = end_or_hold(&router, order("ours", "x", 1)).await;
    (router, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_tag_is_lost_is_held_and_not_bought_again_until_a_person_tells_it() {
    let world = world(Faults::default());
    let (router, end) = with_its_note_lost(&world).await;
    assert_eq!(end, Err("a similar order is there".to_owned()));
    assert_eq!(ours(&world), 2, "the witness, and it");
    let reference = ClientRef::new("ours").expect("a reference");
    let rows = world.simulator.ledger();
    let of = |n: usize| OrderId::new(&rows[n].id).expect("an id");
    let decision = |id| order_router::ResolveError::OtherItems { id };
    // The witness has another's tag: a person cannot give it away.
    let resolved =
        async |id| router.resolve(&reference, Resolution::Placed(id), "I have looked").await;
    let error = resolved(of(0)).await.expect_err("another's");
    assert_eq!(error.to_string(), decision(of(0)).to_string());
    resolved(of(1)).await.expect("it is the one");
    assert_eq!(ours(&world), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_hold_an_order_whose_tag_is_lost_is_bought_again() {
    let mut without = world(Faults::default());
    without.config = without.config.leave_out(Clause::UntaggedHeld).tries_max(2);
    let (_router, end) = with_its_note_lost(&without).await;
    assert!(matches!(end, Ok(End::NotPlaced { .. })), "{end:?}");
    assert_eq!(ours(&without), 3, "twice, and the witness");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_cannot_come_go_or_change_their_key_while_orders_are_open() {
    let mut world = world(Faults::default().with_post(PostFault::WithheldAfterCreation, 1.0));
    let router = world.ready().await;
    let mut ticket = router.track(order("ours", "x", 1)).expect("taken");
    while !matches!(ticket.next().await, Some(Progress::InDoubt)) {}
    drop((router, ticket));
    let former = world.settings.echo.tag;
    for other in [None, Some(TagKey::new("ref").expect("a key"))] {
        world.settings.echo.tag = other;
        let start = OrderRouter::builder(world.supplier(), world.store.clone())
            .config(world.config.clone())
            .start();
        let error = start.await.map(|_| ()).expect_err("its row would not be recognised");
        assert!(matches!(error, StartError::EchoChanged { open: 1 }), "{error}");
    }
    world.settings.echo.tag = former;
    let router = world.ready().await;
    let end = router.wait(&ClientRef::new("ours").expect("one"), Duration::from_secs(20)).await;
    placed(&end.expect("found by its tag"));
    assert_eq!(ours(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_note_has_the_key_already_is_not_taken() {
    let world = world(Faults::default());
    let router = world.ready().await;
    let note = Note::new(&serde_json::json!({"order_ref": "mine"})).expect("a note");
    let item = Item::new("x", 1).expect("an item").note(note);
    let client_ref = ClientRef::new("ours").expect("a reference");
    let order = Order::new(client_ref.clone(), vec![item]).expect("an order");
    let error = router.submit(order).await.expect_err("refused");
    assert!(matches!(error, SubmitError::NoRoomForTag { .. }), "{error}");
    assert!(router.status(&client_ref).await.expect("read").is_none() && ours(&world) == 0);
}
