//! The rules, model-checked: every order of events that the bounds allow, against the crate's own
//! [`Lane::step`](order_router::protocol::lane::Lane::step). `lease` has several routers on one store.

/// Lanes and states come and go by the million.
#[cfg(feature = "cli")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod model {
    mod account;
    mod clauses;
    mod deep;
    mod driver;
    mod edge;
    mod fold;
    mod happen;
    mod hunt;
    mod large;
    mod lease;
    mod marks;
    mod memo;
    mod payment;
    mod props;
    mod reduce;
    mod runs;
    mod setup;
    mod steps;
    mod words;
    mod world;
}
