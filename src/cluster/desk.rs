//! The desk of a standby: passes requests on in batches, and looks for all waiting callers at once.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::request::{Reply, decode_reply, encode, key_of};
use super::told::Told;
use super::{Shared, find};
use crate::order::{ClientRef, Order};
use crate::store::{Request, StoreError, Stored};
use crate::supplier::AccountId;

/// How often the store is looked into while somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The longest wait while it fails.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);
/// How many are asked for in one question.
const AT_ONCE: usize = 256;
/// After how many looks that found nothing a request is passed on again: its holder may have lost it.
const PUT_AGAIN: u32 = 250;

/// What was found of one request.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) stored: Option<Stored>,
    pub(super) reply: Option<Reply>,
}

struct Waiting {
    client_ref: ClientRef,
    request: Request,
    put: bool,
    empty_looks: u32,
    callers: Vec<mpsc::Sender<Look>>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Desk {
    waiting: Mutex<BTreeMap<String, Waiting>>,
    came: Notify,
}

impl Desk {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes an order on. What is found of it comes until the receiver is dropped.
    pub(super) fn enter(&self, order: &Order, account: AccountId) -> mpsc::Receiver<Look> {
        let (sender, looks) = mpsc::channel(1);
        let mut waiting = self.waiting();
        let entry = waiting.entry(key_of(order, account)).or_insert_with(|| Waiting {
            client_ref: order.client_ref().clone(),
            request: encode(order, account),
            put: false,
            empty_looks: 0,
            callers: Vec::new(),
        });
        entry.callers.push(sender);
        drop(waiting);
        self.came.notify_one();
        looks
    }

    /// Requests to pass on, and keys with references to look for; callers that have gone are let
    /// go of.
    fn due(&self) -> (Vec<Request>, Vec<(String, ClientRef)>) {
        let mut waiting = self.waiting();
        waiting.retain(|_, entry| {
            entry.callers.retain(|caller| !caller.is_closed());
            !entry.callers.is_empty()
        });
        let put = waiting.values().filter(|entry| !entry.put).take(AT_ONCE);
        let put = put.map(|entry| entry.request.clone()).collect();
        let look = waiting.iter().filter(|(_, entry)| entry.put);
        (put, look.map(|(key, entry)| (key.clone(), entry.client_ref.clone())).collect())
    }

    fn was_put(&self, requests: &[Request]) {
        let mut waiting = self.waiting();
        for request in requests {
            if let Some(entry) = waiting.get_mut(&request.key) {
                (entry.put, entry.empty_looks) = (true, 0);
            }
        }
    }

    fn tell(&self, key: &str, look: Look) {
        let mut waiting = self.waiting();
        let Some(entry) = waiting.get_mut(key) else { return };
        if look.stored.is_none() && look.reply.is_none() {
            entry.empty_looks += 1;
            entry.put = entry.empty_looks < PUT_AGAIN;
            return;
        }
        entry.empty_looks = 0;
        for caller in &entry.callers {
            // One that has not read the last look reads the next one.
            let _ = caller.try_send(look.clone());
        }
        if look.stored.is_none() {
            // Whoever asks the same from now on is told of what becomes of it then.
            waiting.remove(key);
        }
    }
}

/// Serves the desk until the node stops and nobody waits.
pub(super) async fn serve(shared: Arc<Shared>) {
    let (mut wait, mut told) = (LOOK_EVERY, Told::default());
    let mut stop = shared.stop.subscribe();
    loop {
        if shared.desk.waiting().is_empty() {
            tokio::select! {
                () = shared.desk.came.notified() => {}
                _ = stop.wait_for(Option::is_some) => return,
            }
        }
        match round(&shared).await {
            Ok(()) => wait = LOOK_EVERY,
            Err(error) => {
                if told.is_due(&error.to_string(), shared.runtime.clock.now()) {
                    tracing::warn!(%error, "the shared store is not reached");
                }
                wait = (wait * 2).min(LOOK_EVERY_MAX);
            }
        }
        if shared.stopping.load(Ordering::SeqCst) {
            // Those who wait are told that it stops.
            shared.desk.waiting().clear();
            return;
        }
        shared.runtime.sleep(wait).await;
    }
}

async fn round(shared: &Shared) -> Result<(), StoreError> {
    let (put, look) = shared.desk.due();
    if !put.is_empty() {
        shared.store.put_requests(put.clone()).await?;
        shared.desk.was_put(&put);
    }
    for some in look.chunks(AT_ONCE) {
        let refs = some.iter().map(|(_, client_ref)| client_ref.clone()).collect();
        let (found, unreadable) = find(&*shared.store, refs).await?;
        if found.iter().any(Option::is_some) {
            shared.met.store(true, Ordering::SeqCst);
        }
        let without = some.iter().zip(&found).filter(|(_, stored)| stored.is_none());
        let keys: Vec<String> = without.map(|((key, _), _)| key.clone()).collect();
        let mut replies = BTreeMap::new();
        if !keys.is_empty() {
            let found = shared.store.replies(keys.clone()).await?;
            let found = keys.into_iter().zip(found);
            replies.extend(found.filter_map(|(key, reply)| Some((key, decode_reply(&reply?)))));
        }
        for ((key, client_ref), stored) in some.iter().zip(found) {
            let unreadable = unreadable.get(client_ref).cloned().map(Reply::Failed);
            let reply = unreadable.or_else(|| replies.remove(key));
            shared.desk.tell(key, Look { stored, reply });
        }
    }
    Ok(())
}
