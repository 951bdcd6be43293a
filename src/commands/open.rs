//! Builds supplier, store and router from the flags, and says what to do when that fails.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(any(feature = "dynamodb", feature = "postgres", feature = "redb", feature = "redis"))]
use order_router::cluster::Node;
use order_router::protocol::State;
use order_router::runtime::Runtime;
use order_router::settings::Loaded;
use order_router::store::{
    EmbeddedConfig, EmbeddedStore, IntentStore, Mark, OnProgress, OpenError, StoreError, Stored,
};
use order_router::supplier::foxreload::InvalidSetting;
use order_router::supplier::{FoxReload, Supplier};
use order_router::{Builder, ClientRef, Config, OrderRouter, StartAnswer, StartError};

use super::buyer::Buyer;
use super::failure::{Failure, chain};
use super::output::errln;
use super::settings;

/// Starts a router, or where the store is shared, a node. A router is not ready yet: see [`ready`].
pub async fn buyer(args: &Loaded, posts: usize) -> Result<Buyer, Failure> {
    #[cfg(any(feature = "dynamodb", feature = "postgres", feature = "redb", feature = "redis"))]
    if let (Some(terms), Some(url)) = (args.shared(), args.database()) {
        let (config, supplier, runtime) = parts(args, posts)?;
        let store = super::database::shared(url, terms, args.accept_unsynced())?;
        if let Some(mark) = super::looking::mark(url).await {
            return Err(not_started(args, &StartError::Marked { mark }));
        }
        let gate = super::gate::open(args).await?;
        return Ok(Buyer::Node(Node::start_with_gate(supplier, store, gate, config, runtime)));
    }
    open(args, posts).await.map(Buyer::Router)
}

/// Starts a router. It is not ready yet: see [`ready`].
pub async fn open(args: &Loaded, posts: usize) -> Result<OrderRouter, Failure> {
    let builder = builder(args, posts).await?;
    let builder = match super::gate::open(args).await? {
        Some(gate) => builder.gate(gate),
        None => builder,
    };
    start(builder, args).await
}

/// Starts a router for one order alone, with another client of the same account. A store with other open
/// orders is refused: they would be driven on by rules that are not theirs. It is not ready yet: see
/// [`ready`].
pub async fn open_for(
    only: &ClientRef,
    args: &Loaded,
    supplier: Arc<dyn Supplier>,
    config: Config,
    runtime: Runtime,
) -> Result<OrderRouter, Failure> {
    let store = remembered(args, &runtime).await?;
    let found = store.rehydrate().await.map_err(|error| {
        Failure::nothing_sent(
            format!("the store cannot be read: {}", chain(&error)),
            "see that its disk or its server is in order, then run again",
        )
    })?;
    let is_other = |stored: &&Stored| {
        stored.client_ref != *only && !matches!(stored.state, State::Placed { .. })
    };
    let others = found.intents.iter().filter(is_other).count();
    if others > 0 {
        let what = format!("{others} other orders of this store are open");
        let next = "let `order-router submit` drive them to their ends, or decide them with \
            `order-router orders resolve`, then run again";
        return Err(Failure::nothing_sent(what, next));
    }
    start(OrderRouter::builder(supplier, store).config(config).runtime(runtime), args).await
}

/// Starts a router that sends nothing: for a person's decisions.
pub async fn open_without_sending(args: &Loaded) -> Result<OrderRouter, Failure> {
    start(builder(args, 1).await?.without_sending(), args).await
}

/// Settles a store that was put back from an older state. Nothing is sent.
pub async fn settle(args: &Loaded) -> Result<(), Failure> {
    let (config, supplier, runtime) = parts(args, 1)?;
    let config = config.start(StartAnswer::Restored);
    let store = remembered(args, &runtime).await?;
    let builder = OrderRouter::builder(supplier, store).config(config).runtime(runtime);
    let router = start(builder, args).await?;
    ready(&router, args).await?;
    stop(&router, Duration::ZERO).await;
    Ok(())
}

async fn start(builder: Builder, args: &Loaded) -> Result<OrderRouter, Failure> {
    builder.start().await.map_err(|error| not_started(args, &error))
}

async fn builder(args: &Loaded, posts: usize) -> Result<Builder, Failure> {
    let (config, supplier, runtime) = parts(args, posts)?;
    let store = remembered(args, &runtime).await?;
    Ok(OrderRouter::builder(supplier, store).config(config).runtime(runtime))
}

/// What a router is made of, but for its store.
pub fn parts(args: &Loaded, posts: usize) -> Result<(Config, Arc<FoxReload>, Runtime), Failure> {
    let config = args.config(posts).stop_file(args.stop_file());
    config.check().map_err(|error| {
        let next = "change --landing-bound, --request-timeout or the limit that is named";
        Failure::nothing_sent(error.to_string(), next)
    })?;
    let key = settings::key(args)?;
    let settings = args.client().map_err(|problem| {
        Failure::nothing_sent(problem.to_string(), "name a PEM file that can be read")
    })?;
    let runtime = Runtime::system();
    let clock = Arc::clone(&runtime.clock);
    let supplier = FoxReload::new(args.base_url(), &key, settings, clock).map_err(|error| {
        let what = match error {
            // It may have a password in it.
            InvalidSetting::BaseUrl => format!("--supplier: {error}"),
            _ => format!("--supplier {}: {}", args.base_url(), chain(&error)),
        };
        Failure::nothing_sent(what, "correct the setting that is named; --help lists them")
    })?;
    Ok((config, Arc::new(supplier), runtime))
}

/// Opens the store that the settings name.
async fn remembered(args: &Loaded, runtime: &Runtime) -> Result<Arc<dyn IntentStore>, Failure> {
    #[cfg(any(feature = "dynamodb", feature = "postgres", feature = "redb", feature = "redis"))]
    if let Some(url) = args.database() {
        return super::database::open(url, args.lease(), args.accept_unsynced()).await;
    }
    let dir = args.data().unwrap_or(Path::new("")).to_owned();
    let (place, runtime) = (dir.clone(), runtime.clone());
    let store = tokio::task::spawn_blocking(move || {
        let mut config = EmbeddedConfig { on_progress: Some(told()), ..EmbeddedConfig::default() };
        config.segment_bytes = small_segments().unwrap_or(config.segment_bytes);
        EmbeddedStore::open(&place, config, &runtime)
    });
    let store = store.await.expect("opening a store does not panic");
    Ok(Arc::new(store.map_err(|error| not_opened(&dir, &error))?))
}

/// A test build takes the size of a journal segment from a variable, so that a short run crosses
/// many of them.
fn small_segments() -> Option<u64> {
    #[cfg(feature = "testing")]
    return std::env::var("TEST_SEGMENT_BYTES").ok()?.parse().ok();
    #[cfg(not(feature = "testing"))]
    None
}

/// Waits until the router may send. On failure it is shut down.
pub async fn ready(router: &OrderRouter, args: &Loaded) -> Result<(), Failure> {
    let Err(error) = router.ready().await else { return Ok(()) };
    stop(router, Duration::ZERO).await;
    Err(not_started(args, &error))
}

/// Stops a router; POSTs that are under way may still be answered within `limit`.
pub async fn stop(router: &OrderRouter, limit: Duration) {
    match router.shutdown(limit).await {
        // A router that is stopped twice.
        Ok(_) | Err(StoreError::Closed) => {}
        Err(error) => errln!(
            "error: the store was not closed properly: {}\n  bought: what was told as bought; the \
             store has every order that was told of\n  to do: look at the disk, run `order-router \
             store verify`, then the same command again",
            chain(&error)
        ),
    }
}

/// Shows on standard error how a long reading of the journal comes along.
pub fn told() -> OnProgress {
    Arc::new(|progress| {
        let percent = (progress.bytes * 100).checked_div(progress.bytes_total).unwrap_or(100);
        errln!("reading the journal: {percent}%, {} changes", progress.changes);
    })
}

/// Why the data directory was not opened, and what to do.
pub fn not_opened(dir: &Path, error: &OpenError) -> Failure {
    let dir = dir.display();
    let what = format!("the data directory {dir} was not opened: {}", chain(error));
    let next = match error {
        OpenError::InUse { .. } => {
            "wait for the other process to end, or stop it; one directory is one account, so a \
             second directory for the same account is no way out: it would buy again"
        }
        OpenError::NotWritable { .. } => {
            "give this user the right to read and write the directory and the files in it"
        }
        OpenError::Full { .. } => "make room on the disk, then run again",
        OpenError::NewerVersion { .. } => {
            "run the version of order-router that wrote it, or a newer"
        }
        OpenError::Corrupt { .. } => {
            "keep a copy of the directory, then run `order-router store verify` to see how far it \
             is whole, and restore it from where it is; what the account shows and the restored \
             directory does not know, the start will ask about"
        }
        OpenError::Io { .. } => "look at the disk; what was acknowledged is in the journal",
        _ => "see the message",
    };
    Failure::nothing_sent(what, next)
}

fn not_started(args: &Loaded, error: &StartError) -> Failure {
    let supplier = args.base_url();
    let what = format!("the router was not started: {}", chain(error));
    let next = match error {
        StartError::EchoChanged { .. } => {
            "start with the former setting and let the router run on until they have ended; one that was \
             found in the list after its answer was lost counts for two landing bounds more, in which a \
             router is at work"
                .to_owned()
        }
        StartError::Marked { mark } => match mark {
            Mark::MovedTo(place) => format!(
                "use {place}; to move the orders back, `order-router store migrate` with --from and \
                 --to exchanged"
            ),
            Mark::Restored(_) => format!(
                "make sure that no router is at work with the state that was lost, then run `order-router \
                 store settle --supplier {supplier}`: it holds for you what was bought since the \
                 backup was made, for without it the same orders would be bought again"
            ),
            Mark::MovingTo(_) | Mark::FilledFrom(_) => {
                "run the same `order-router store migrate` again to finish, or, to give it up, \
                 `order-router store reopen` with the store that the orders come from"
                    .to_owned()
            }
        },
        StartError::Config(_) => "change the setting that is named".to_owned(),
        StartError::Store(_) => "look at the disk, then run `order-router store verify`".to_owned(),
        StartError::Probe { .. } => format!(
            "see that {supplier} is reached from here and that its list is described rightly: \
             --orders-path, --list-envelope, --list-query, --page-parameter; then run again"
        ),
        StartError::KeyRefused { .. } => format!(
            "see that the key is one of {supplier}, is not expired, and may read and place \
             orders; then run again"
        ),
        StartError::UnknownOrders { store_is_empty: true, .. } => format!(
            "if {} was never used with this account, run again with --accept-new-account; if it \
             was, its contents are lost: put them back, for without them the same orders would be \
             bought again",
            args.data().map_or("the store".into(), |dir| dir.display().to_string())
        ),
        StartError::UnknownOrders { .. } => {
            "look at these orders: if somebody else bought them, run again with \
             --adopt-unknown-orders; if an older state of the store was restored, run `order-router store \
             settle`, for what was bought since would be bought again"
                .to_owned()
        }
        StartError::Thread(_) => "raise the limit of threads, then run again".to_owned(),
        _ => "see the message".to_owned(),
    };
    Failure::nothing_sent(what, next)
}
