//! The small types that hold the router's concurrency, under every interleaving of their threads
//! that loom distinguishes.
//!
//! What runs here are the very files of `src/`, included, with loom's locks in place of the
//! system's. Each model has a twin that puts a known mistake back and must be seen to fail: a test
//! that is named for the harm, with `should_panic`.

#[path = "loom/passivation.rs"]
mod passivation;
#[path = "loom/store.rs"]
mod store;

/// Runs a model through its interleavings, up to `preemptions` of a thread that could go on
/// (`None`: all there are), and prints how many there were.
fn explore(name: &str, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    use std::sync::atomic::{AtomicU64, Ordering};
    let runs = std::sync::Arc::new(AtomicU64::new(0));
    let counted = runs.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{name}: {} interleavings", runs.load(Ordering::Relaxed));
}
