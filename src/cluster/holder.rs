//! Takes the lease, runs the router under it, and serves what other nodes pass on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::request::{PassedOn, Reply, decode, encode_reply};
use super::told::Told;
use super::{ACQUIRE_EVERY, ALONE, OTHER_ACCOUNT, Role, Shared, find};
use crate::config::StartAnswer;
use crate::error::SubmitError;
use crate::protocol::Moment;
use crate::router::{OrderRouter, Progress};
use crate::store::{Holder, IntentStore, Lease, Request, SettledRequest, StoreError};
use crate::supplier::AccountId;

/// How often the holder looks for requests, and the longest wait while that fails.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);
/// Requests that are taken up at once.
const REQUESTS_MAX: usize = 512;
/// How long a node that could not start its router waits before it asks for the lease again.
const TROUBLE: Duration = Duration::from_secs(2);

/// How long a node waits to be told who has the store.
const HOLDER_PATIENCE: Duration = Duration::from_secs(2);
/// For how long a router may have a store to itself before orders are refused: a person's decision
/// takes a moment, and the lease of one that was killed lasts on.
const ALONE_PATIENCE: Duration = Duration::from_secs(20);

/// Asks for the lease and holds it, again and again, until the node stops.
pub(super) async fn drive(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let (mut told, mut alone_since) = (Told::default(), None);
    while !shared.stopping.load(Ordering::SeqCst) {
        let wait = match shared.store.open().await {
            Ok(Some(store)) => match hold(&shared, store).await {
                Ok(()) => ACQUIRE_EVERY,
                Err(why) => {
                    tracing::error!(why, "this node cannot send");
                    shared.role.send_replace(Role::Trouble(why));
                    TROUBLE
                }
            },
            Ok(None) => {
                stand_by(&shared, &mut told, &mut alone_since).await;
                ACQUIRE_EVERY
            }
            Err(error) => {
                let why = error.to_string();
                if told.is_due(&why, shared.runtime.clock.now()) {
                    tracing::warn!(why, "the lease cannot be asked for");
                }
                shared.role.send_replace(Role::Trouble(why));
                ACQUIRE_EVERY
            }
        };
        tokio::select! {
            () = shared.runtime.sleep(wait) => {}
            _ = stop.wait_for(Option::is_some) => {}
        }
    }
}

/// Another router has the store: whether it buys what is passed on.
async fn stand_by(shared: &Shared, told: &mut Told, alone_since: &mut Option<Moment>) {
    let holder = match tokio::time::timeout(HOLDER_PATIENCE, shared.store.holder()).await {
        Ok(Ok(holder)) => holder,
        Ok(Err(error)) => return tracing::debug!(%error, "it is not known who has the store"),
        Err(_) => return tracing::debug!("it is not known who has the store"),
    };
    let (ours, now) = (shared.supplier.account(), shared.runtime.clock.now());
    let (why, refused) = match holder {
        Some(holder) if holder.alone => {
            let since = *alone_since.get_or_insert(now);
            (Some(ALONE), now.since(since) >= ALONE_PATIENCE)
        }
        Some(Holder { account: Some(account), .. }) if account != ours => {
            (Some(OTHER_ACCOUNT), true)
        }
        _ => (None, false),
    };
    if why != Some(ALONE) {
        *alone_since = None;
    }
    // Before the role: whoever sees that knows this.
    shared.refused.send_replace(why.filter(|_| refused));
    match why {
        Some(why) => {
            if told.is_due(why, now) {
                tracing::error!(why, "this node cannot pass orders on");
            }
            shared.role.send_replace(Role::Trouble(why.to_owned()));
        }
        None => drop(shared.role.send_replace(Role::Standby)),
    }
}

/// Runs the router until the lease is lost, the store has failed, or the node stops.
async fn hold(shared: &Arc<Shared>, store: Arc<dyn IntentStore>) -> Result<(), String> {
    let lease = store.lease();
    let builder = OrderRouter::builder(shared.supplier.clone(), store.clone());
    let mut config = shared.config.clone();
    if config.start == StartAnswer::NewAccount && shared.met.load(Ordering::SeqCst) {
        // That was said of the first start, not of a store that has lost what it knew.
        config.start = StartAnswer::Ask;
    }
    let builder = builder.config(config).runtime(shared.runtime.clone());
    let builder = match &shared.gate {
        Some(gate) => builder.gate(gate.clone()),
        None => builder,
    };
    let router = match builder.start().await {
        Ok(router) => router,
        Err(error) => {
            // The lease is given back.
            let _ = store.close().await;
            return Err(told(&error));
        }
    };
    shared.refused.send_replace(None);
    shared.router.send_replace(Some(router.clone()));
    shared.role.send_replace(Role::Holder);
    tracing::info!(place = shared.store.place(), "this node has the lease");
    let lost = async {
        while lease.as_ref().is_none_or(|lease| !lease.is_lost()) {
            tell_whether_it_lasts(shared, lease.as_deref());
            shared.runtime.sleep(ACQUIRE_EVERY).await;
        }
    };
    let not_ready = async {
        match router.ready().await {
            Ok(()) => {
                shared.met.store(true, Ordering::SeqCst);
                std::future::pending().await
            }
            Err(error) => told(&error),
        }
    };
    let mut stop = shared.stop.subscribe();
    let mut grace = Duration::ZERO;
    let outcome = tokio::select! {
        error = router.failed() => Err(error.to_string()),
        () = lost => Err("another node has taken the lease".to_owned()),
        why = not_ready => Err(why),
        () = serve(shared, &router) => Ok(()),
        Ok(limit) = stop.wait_for(Option::is_some) => {
            grace = limit.unwrap_or_default();
            Ok(())
        }
    };
    // From here on callers go through the store.
    shared.router.send_replace(None);
    shared.role.send_replace(Role::Standby);
    if let Err(error) = router.shutdown(grace).await {
        tracing::debug!(%error, "the store was not closed properly");
    }
    outcome
}

/// A holder that is cut off sends nothing once its lease has run out, whether it knows of another or
/// not.
fn tell_whether_it_lasts(shared: &Shared, lease: Option<&Lease>) {
    let lasts = lease.is_none_or(|lease| !lease.left().is_zero());
    let role = match lasts {
        true => Role::Holder,
        false => Role::Trouble(RUN_OUT.to_owned()),
    };
    shared.role.send_if_modified(|now| {
        let changed = *now != role;
        *now = role;
        changed
    });
}

/// Why a holder that is cut off sends nothing.
const RUN_OUT: &str = "its lease has run out and is not prolonged: the store is not reached; nothing is \
    sent until it is";

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Requests that are being submitted.
type UnderWay = Arc<Mutex<BTreeSet<String>>>;

/// Submits what other nodes pass on. It never ends.
async fn serve(shared: &Arc<Shared>, router: &OrderRouter) {
    let under_way = UnderWay::default();
    let (settle, mut settled) = tokio::sync::mpsc::unbounded_channel();
    let (mut wait, mut told) = (LOOK_EVERY, Told::default());
    loop {
        let mut done: Vec<SettledRequest> = Vec::new();
        while let Ok(one) = settled.try_recv() {
            done.push(one);
        }
        let found = async {
            if !done.is_empty() {
                shared.store.settle_requests(done.clone()).await?;
                let mut under_way = under_way.lock().unwrap_or_else(PoisonError::into_inner);
                for (key, _) in done.drain(..) {
                    under_way.remove(&key);
                }
            }
            let mut requests = shared.store.requests(REQUESTS_MAX).await?;
            {
                let under_way = under_way.lock().unwrap_or_else(PoisonError::into_inner);
                requests.retain(|request| !under_way.contains(&request.key));
            }
            let decoded: Vec<_> = requests.into_iter().map(|one| (decode(&one), one)).collect();
            let refs = decoded.iter().filter_map(|(order, _)| order.as_ref().ok());
            let refs: Vec<_> = refs.map(|passed| passed.order.client_ref().clone()).collect();
            // One that cannot be read would stop this router, and every next one.
            let unreadable = match refs.is_empty() {
                true => BTreeMap::new(),
                false => find(&*shared.store, refs).await?.1,
            };
            Ok::<_, StoreError>((decoded, unreadable))
        };
        match found.await {
            Ok((requests, unreadable)) => {
                wait = LOOK_EVERY;
                for (passed, Request { key, .. }) in requests {
                    under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
                    let why = passed.as_ref().ok();
                    let why = why.and_then(|one| unreadable.get(one.order.client_ref()));
                    if let Some(why) = why {
                        let reply = encode_reply(&Reply::Failed(why.clone()));
                        let _ = settle.send((key, Some(reply)));
                        continue;
                    }
                    let (router, settle) = (router.clone(), settle.clone());
                    let account = shared.supplier.account();
                    tokio::spawn(take_up(
                        router,
                        account,
                        (key, passed),
                        settle,
                        under_way.clone(),
                    ));
                }
            }
            Err(error) => {
                if told.is_due(&error.to_string(), shared.runtime.clock.now()) {
                    tracing::warn!(%error, "requests of other nodes cannot be read");
                }
                // What could not be settled is settled next time.
                done.into_iter().for_each(|one| drop(settle.send(one)));
                wait = (wait * 2).min(LOOK_EVERY_MAX);
            }
        }
        shared.runtime.sleep(wait).await;
    }
}

/// Submits one request; it is settled once the store knows it, or has to say something else.
async fn take_up(
    router: OrderRouter,
    ours: AccountId,
    (key, passed): (String, Result<PassedOn, String>),
    settle: tokio::sync::mpsc::UnboundedSender<SettledRequest>,
    under_way: UnderWay,
) {
    let reply = match passed {
        Ok(PassedOn { account, .. }) if account != ours => {
            tracing::error!(
                request = key,
                "another router on this store passes on orders for another account: refused"
            );
            Settled::Reply(Reply::OtherAccount)
        }
        Ok(PassedOn { order, .. }) => match router.track(order) {
            Ok(mut ticket) => match ticket.next().await {
                // Where the shared gate says so, the store has no other order to see.
                Some(Progress::Failed(SubmitError::Conflict { client_ref }))
                    if matches!(router.status(&client_ref).await, Ok(None)) =>
                {
                    Settled::Reply(Reply::Conflict)
                }
                Some(Progress::Failed(error)) => reply_to(&error),
                Some(_) => Settled::Known,
                None => Settled::Later,
            },
            Err(error) => reply_to(&error),
        },
        Err(why) => Settled::Reply(Reply::Failed(format!("the request was not understood: {why}"))),
    };
    let settled = match reply {
        Settled::Known => (key, None),
        Settled::Reply(reply) => (key, Some(encode_reply(&reply))),
        Settled::Later => {
            let mut under_way = under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.remove(&key);
            return;
        }
    };
    // Nobody receives once this node has lost the lease; the next holder settles it.
    let _ = settle.send(settled);
}

enum Settled {
    /// The store says all there is to say.
    Known,
    Reply(Reply),
    /// It stays, for this holder or the next.
    Later,
}

fn reply_to(error: &SubmitError) -> Settled {
    match error {
        SubmitError::LaneHeld { why } => Settled::Reply(Reply::LaneHeld(why.to_string())),
        SubmitError::OverLimit { why, .. } => Settled::Reply(Reply::OverLimit(why.to_string())),
        SubmitError::Overloaded { .. } | SubmitError::Stopped | SubmitError::Store { .. } => {
            Settled::Later
        }
        SubmitError::GateDown { .. } => Settled::Later,
        SubmitError::Elsewhere { node, recorded, .. } => {
            Settled::Reply(Reply::Elsewhere { node: node.clone(), recorded: *recorded })
        }
        SubmitError::Forgotten { node, .. } => {
            Settled::Reply(Reply::Forgotten { node: node.clone() })
        }
        SubmitError::NotReplaceable { why, .. } => {
            Settled::Reply(Reply::NotReplaceable { why: why.to_string() })
        }
        // Whoever asked sees the other order under the reference.
        SubmitError::Conflict { .. } => Settled::Known,
        other => Settled::Reply(Reply::Failed(other.to_string())),
    }
}
