//! The toy's client: one connection, one question after the other.

use std::sync::OnceLock;

use futures_util::future::ready;
use order_router::protocol::{Change, Serial, Verdict};
use order_router::store::{
    Asked as Moment, Claim, Committed, Durability, IntentStore, Known, Lease, Rehydration,
    SettledRequest, StoreError, StoreStats, Stored,
};
use order_router::{ClientRef, OrderId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

use super::*;

/// Asks the server.
#[derive(Clone)]
pub(super) struct Shared {
    wrong: Wrong,
    state: Arc<Mutex<State>>,
    next: Arc<AtomicU64>,
    at: At,
    node: u64,
    connection: Arc<AsyncMutex<Option<tokio::net::TcpStream>>>,
}

type Result<T> = std::result::Result<T, StoreError>;

impl Shared {
    pub(super) fn new(
        wrong: Wrong,
        state: Arc<Mutex<State>>,
        next: Arc<AtomicU64>,
        at: At,
        node: u64,
    ) -> Self {
        Self { wrong, state, next, at, node, connection: Arc::default() }
    }

    /// Asks until there is an answer or the time is up: under one number, so that it is done once.
    async fn ask<T: Clone + Send + Sync + 'static>(
        &self,
        writes: bool,
        act: impl Fn(&mut Kept) -> T + Send + Sync + 'static,
    ) -> Result<T> {
        let answer = Arc::new(Mutex::new(None));
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let put = answer.clone();
        let act: Act = Arc::new(move |kept| *put.lock().expect("not poisoned") = Some(act(kept)));
        let store = self.at.name.clone();
        locked(&self.state).asked.insert(number, Asked { store, writes, act });
        let began = Instant::now();
        let mut connection = self.connection.lock().await;
        loop {
            let trip =
                tokio::time::timeout(self.at.reply_timeout, self.trip(&mut connection, number));
            if matches!(trip.await, Ok(Ok(()))) {
                let answer = answer.lock().expect("not poisoned");
                return Ok(answer.clone().expect("it was asked"));
            }
            *connection = None;
            let limit = self.at.give_up_after;
            if began.elapsed() > limit || self.wrong == Wrong::GivesUpAtOnce {
                let secret = if self.wrong == Wrong::ShowsASecret { SECRET } else { "" };
                return Err(StoreError::Failed(format!("no answer for {limit:?}{secret}").into()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn trip(
        &self,
        connection: &mut Option<tokio::net::TcpStream>,
        number: u64,
    ) -> std::io::Result<()> {
        let socket = match connection {
            Some(socket) => socket,
            None => connection
                .insert(tokio::net::TcpStream::connect(("127.0.0.1", self.at.port)).await?),
        };
        socket.write_all(&number.to_be_bytes()).await?;
        let mut said = [0; 8];
        socket.read_exact(&mut said).await?;
        match u64::from_be_bytes(said) == number {
            true => Ok(()),
            false => Err(std::io::Error::other("it only reads")),
        }
    }

    /// The lease, if it is free: its epoch, and how many changes there are.
    async fn acquire(&self) -> Result<Option<(u64, u64)>> {
        let (node, length, wrong) = (self.node, self.at.lease.length, self.wrong);
        let let_in = matches!(wrong, Wrong::TwoRouters | Wrong::LeaseForAll);
        self.ask(true, move |kept| {
            if !let_in && kept.holder.is_some() && kept.lasts_until > Instant::now() {
                return None;
            }
            kept.epoch += 1;
            (kept.holder, kept.lasts_until) = (Some(node), Instant::now() + length);
            Some((kept.epoch, kept.changes))
        })
        .await
    }
}

/// Takes the lease and opens the store under it.
pub(super) async fn open(shared: Shared) -> Result<Option<Arc<Toyed>>> {
    let asked = Moment::now();
    let Some((epoch, changes)) = shared.acquire().await? else { return Ok(None) };
    let lease = Lease::taken(shared.at.lease, epoch, asked);
    let next = |kept: &mut Kept| {
        kept.handed = kept.disk.next_serial().0;
        kept.handed + 1
    };
    let next = shared.ask(false, next).await?;
    let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
    tokio::spawn(async move {
        while let Some(job) = queue.recv().await {
            job.await;
        }
    });
    let own = Shared { connection: Arc::default(), ..shared.clone() };
    let renewing = tokio::spawn(renew(own, lease.clone()));
    Ok(Some(Arc::new(Toyed {
        shared,
        lease,
        jobs,
        next: AtomicU64::new(next),
        seen: Arc::new(AtomicU64::new(changes)),
        latched: Arc::default(),
        renewing,
    })))
}

async fn renew(mut shared: Shared, lease: Arc<Lease>) {
    let (length, epoch) = (lease.terms().length, lease.epoch());
    shared.at.give_up_after = Duration::ZERO;
    shared.at.reply_timeout = length / 3;
    loop {
        tokio::time::sleep(length / 4).await;
        let asked = Moment::now();
        let prolong = move |kept: &mut Kept| {
            let ours = kept.epoch == epoch;
            if ours {
                kept.lasts_until = Instant::now() + length;
            }
            ours
        };
        match (shared.wrong, shared.ask(true, prolong).await) {
            (Wrong::LeaseNotProlonged, _) => {}
            (Wrong::LeaseForEver, _) | (_, Ok(true)) => lease.renewed(asked),
            (_, Ok(false)) => return lease.lose(),
            (_, Err(_)) => {}
        }
    }
}

type Job = BoxFuture<'static, ()>;

/// The store of one router.
pub(super) struct Toyed {
    shared: Shared,
    lease: Arc<Lease>,
    jobs: mpsc::UnboundedSender<Job>,
    next: AtomicU64,
    /// How many changes the server was seen to hold.
    seen: Arc<AtomicU64>,
    latched: Arc<OnceLock<StoreError>>,
    renewing: tokio::task::JoinHandle<()>,
}

impl Drop for Toyed {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Toyed {
    /// Asks in the order of the calls; `Err` is why it is not this router's store any more.
    fn queued<T: Clone + Send + Sync + 'static>(
        &self,
        writes: bool,
        act: impl Fn(&mut Kept) -> std::result::Result<T, &'static str> + Send + Sync + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        if let Some(error) = self.latched.get() {
            return ready(Err(error.clone())).boxed();
        }
        let (shared, latched, seen) =
            (self.shared.clone(), self.latched.clone(), self.seen.clone());
        let (answer, answered) = oneshot::channel();
        let job = async move {
            let expected = seen.load(Ordering::SeqCst);
            let goes_on = shared.wrong == Wrong::GoesOn;
            let act = move |kept: &mut Kept| {
                if kept.changes < expected && !goes_on {
                    return Err("acknowledged changes are gone");
                }
                act(kept).map(|told| (told, kept.changes))
            };
            let told = match latched.get() {
                Some(error) => Err(error.clone()),
                None => shared.ask(writes, act).await.and_then(|told| {
                    told.map_err(|why| StoreError::Failed(format!("toy: {why}").into()))
                }),
            };
            match &told {
                Ok((_, changes)) => seen.store(*changes, Ordering::SeqCst),
                Err(_) if shared.wrong == Wrong::NotLatched => {}
                Err(error) => drop(latched.set(error.clone())),
            }
            let _ = answer.send(told.map(|(told, _)| told));
        };
        let closed = self.jobs.send(job.boxed()).is_err();
        async move {
            match answered.await {
                Ok(told) if !closed => told,
                _ => Err(StoreError::Closed),
            }
        }
        .boxed()
    }

    /// A question, of this router's store alone.
    fn question<T: Clone + Send + Sync + 'static>(
        &self,
        act: impl Fn(&MemoryStore) -> Result<T> + Send + Sync + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let asked = self.queued(false, move |kept| act(&kept.disk).map_err(|_| "a question"));
        asked.boxed()
    }
}

/// What is asked of memory is answered at once.
fn now<T>(answer: BoxFuture<'static, Result<T>>) -> Result<T> {
    answer.now_or_never().expect("at once")
}

impl IntentStore for Toyed {
    fn next_serial(&self) -> Serial {
        Serial(self.next.fetch_add(1, Ordering::SeqCst))
    }

    fn commit(&self, change: Change) -> BoxFuture<'static, Result<Committed>> {
        let (wrong, epoch) = (self.shared.wrong, self.lease.epoch());
        if let (Wrong::ClaimsFirst, Change::Decide { verdict: Verdict::Placed { id, .. }, .. }) =
            (wrong, &change)
        {
            let id = id.to_string();
            drop(self.queued(true, move |kept| {
                kept.claimed_early.insert(id.clone());
                Ok(())
            }));
        }
        let fenced = !matches!(wrong, Wrong::NoFence | Wrong::GoesOn);
        let next = self.next.load(Ordering::SeqCst);
        let told = self.queued(wrong != Wrong::SaysDone, move |kept| {
            let disk = kept.disk.clone();
            let joins = || match &change {
                Change::Accept { intent, .. } => {
                    matches!(now(disk.find(intent.client_ref.clone())), Ok(Some(_)))
                }
                _ => false,
            };
            let free = wrong == Wrong::JoinsUnfenced && joins();
            if fenced && kept.epoch != epoch && !free {
                return Err("another router has the store");
            }
            while kept.handed + 1 < next {
                kept.handed = disk.next_serial().0;
            }
            let told = now(disk.commit(change.clone()));
            kept.changes += u64::from(matches!(told, Ok(Committed::Done)));
            Ok(told)
        });
        if wrong == Wrong::TellsEarly {
            return ready(Ok(Committed::Done)).boxed();
        }
        async move { told.await? }.boxed()
    }

    fn find(&self, client_ref: ClientRef) -> BoxFuture<'static, Result<Option<Stored>>> {
        let found = self.question(move |disk| now(disk.find(client_ref.clone())));
        if self.shared.wrong == Wrong::AsksOnce {
            let limit = Duration::from_millis(3);
            return async move { tokio::time::timeout(limit, found).await.unwrap_or(Ok(None)) }
                .boxed();
        }
        found
    }

    fn claims(&self, ids: Vec<OrderId>) -> BoxFuture<'static, Result<Vec<Option<Claim>>>> {
        self.queued(false, move |kept| {
            let mut claims = now(kept.disk.claims(ids.clone())).map_err(|_| "a question")?;
            let early = ids.iter().zip(&mut claims);
            for (id, claim) in early.filter(|(id, _)| kept.claimed_early.contains(id.as_str())) {
                let some = || Claim {
                    id: id.clone(),
                    intent: Serial(0),
                    lane: order_router::ItemsHash::of(&[], order_router::EchoProfile::default()),
                    learnt: order_router::protocol::Learnt::Answer,
                };
                claim.get_or_insert_with(some);
            }
            Ok(claims)
        })
    }

    fn rehydrate(&self) -> BoxFuture<'static, Result<Rehydration>> {
        self.question(|disk| now(disk.rehydrate()))
    }

    fn known_since(&self, since: Serial) -> BoxFuture<'static, Result<Vec<Known>>> {
        self.question(move |disk| now(disk.known_since(since)))
    }

    fn stats(&self) -> StoreStats {
        let state = locked(&self.shared.state);
        state.stores.get(&self.shared.at.name).map(|kept| kept.disk.stats()).unwrap_or_default()
    }

    fn durability(&self) -> Durability {
        Durability::Unsynced
    }

    fn lease(&self) -> Option<Arc<Lease>> {
        Some(self.lease.clone())
    }

    fn close(&self) -> BoxFuture<'static, Result<()>> {
        self.renewing.abort();
        let epoch = self.lease.epoch();
        let released = self.queued(true, move |kept| {
            if kept.epoch == epoch {
                kept.holder = None;
            }
            Ok(())
        });
        let closed = self.latched.clone();
        async move {
            let released = released.await;
            let _ = closed.set(StoreError::Closed);
            released
        }
        .boxed()
    }
}

impl SharedStore for Shared {
    fn open(&self) -> BoxFuture<'static, Result<Option<Arc<dyn IntentStore>>>> {
        let shared = self.clone();
        async move { Ok(open(shared).await?.map(|store| store as Arc<dyn IntentStore>)) }.boxed()
    }

    fn find(&self, refs: Vec<ClientRef>) -> BoxFuture<'static, Result<Vec<Option<Stored>>>> {
        let (shared, blind) = (self.clone(), self.wrong == Wrong::OthersFindNothing);
        async move {
            let find = move |kept: &mut Kept| {
                let find = |one: &ClientRef| now(kept.disk.find(one.clone())).ok().flatten();
                refs.iter().map(|one| find(one).filter(|_| !blind)).collect::<Vec<_>>()
            };
            shared.ask(false, find).await
        }
        .boxed()
    }

    fn put_requests(&self, requests: Vec<Request>) -> BoxFuture<'static, Result<()>> {
        let (shared, twice) = (self.clone(), self.wrong == Wrong::RequestsTwice);
        async move {
            let put = move |kept: &mut Kept| {
                for one in &requests {
                    let known = kept.requests.iter().any(|known| known.key == one.key);
                    kept.replies.remove(&one.key);
                    if twice || !known {
                        kept.requests.push(one.clone());
                    }
                }
            };
            shared.ask(true, put).await
        }
        .boxed()
    }

    fn requests(&self, most: usize) -> BoxFuture<'static, Result<Vec<Request>>> {
        let shared = self.clone();
        let some = move |kept: &mut Kept| kept.requests.iter().take(most).cloned().collect();
        async move { shared.ask(false, some).await }.boxed()
    }

    fn settle_requests(&self, settled: Vec<SettledRequest>) -> BoxFuture<'static, Result<()>> {
        let shared = self.clone();
        let settle = move |kept: &mut Kept| {
            for (key, reply) in &settled {
                kept.requests.retain(|one| one.key != *key);
                if let Some(reply) = reply {
                    kept.replies.insert(key.clone(), reply.clone());
                }
            }
        };
        async move { shared.ask(true, settle).await }.boxed()
    }

    fn replies(&self, keys: Vec<String>) -> BoxFuture<'static, Result<Vec<Option<Vec<u8>>>>> {
        let shared = self.clone();
        let replies = move |kept: &mut Kept| {
            keys.iter().map(|key| kept.replies.get(key).cloned()).collect::<Vec<_>>()
        };
        async move { shared.ask(false, replies).await }.boxed()
    }

    fn place(&self) -> String {
        format!("toy {}", self.at.name)
    }
}
