//! The router's own threads: an actix system, with an arbiter per shard.
//!
//! A host may run any tokio runtime; nothing of the router runs on it, unless a simulation asks for
//! that ([`Threading::Here`]).

use std::io;
use std::sync::Arc;

use actix::{Actor, Addr, Arbiter, ArbiterHandle, System};
use tokio::runtime::Handle;

use super::lookout::{Lookout, LookoutMessage};
use super::{ItemsHash, Shared};
use crate::runtime::Threading;

/// Handles to the threads of one router.
pub(crate) struct Threads {
    /// The router's own; `None`: it runs on one that is not its own to stop.
    system: Option<System>,
    arbiters: Vec<ArbiterHandle>,
    tasks: Handle,
    lookout: Addr<Lookout>,
}

/// What the first thread sends back once it runs.
type Started = (System, Vec<ArbiterHandle>, Handle, Addr<Lookout>);

impl Threads {
    /// Starts the system thread, the shards' arbiters and the lookout.
    ///
    /// # Errors
    /// What the system says about a new thread.
    pub(crate) async fn start(shared: Arc<Shared>) -> io::Result<Self> {
        match shared.runtime.threading {
            Threading::Own => Self::own(shared).await,
            Threading::Here => Self::here(shared),
        }
    }

    fn here(shared: Arc<Shared>) -> io::Result<Self> {
        let system = System::try_current()
            .ok_or_else(|| io::Error::other("there is no actix system on this thread"))?;
        let arbiters = vec![system.arbiter().clone()];
        let lookout = Lookout::new(shared).start();
        Ok(Self { system: None, arbiters, tasks: Handle::current(), lookout })
    }

    async fn own(shared: Arc<Shared>) -> io::Result<Self> {
        let (tell, started) = tokio::sync::oneshot::channel::<Started>();
        let shards = shared.config.shards.max(1);
        std::thread::Builder::new().name("order-router".into()).spawn(move || {
            let runner = System::new();
            let parts = runner.block_on(async move {
                let system = System::current();
                let others = (1..shards).map(|_| Arbiter::new().handle());
                let arbiters = std::iter::once(system.arbiter().clone()).chain(others).collect();
                let lookout = Lookout::new(shared).start();
                (system, arbiters, Handle::current(), lookout)
            });
            if tell.send(parts).is_ok() {
                // Its error is the exit code, which is always 0 here.
                let _ = runner.run();
            }
        })?;
        let (system, arbiters, tasks, lookout) =
            started.await.map_err(|_| io::Error::other("the router's thread did not start"))?;
        Ok(Self { system: Some(system), arbiters, tasks, lookout })
    }

    /// The thread that a lane lives on.
    pub(crate) fn arbiter(&self, lane: &ItemsHash) -> &ArbiterHandle {
        let shard = usize::from(lane.as_bytes()[1]) % self.arbiters.len();
        &self.arbiters[shard]
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // The handle of a task that is not awaited: it reports by message.
        drop(self.tasks.spawn(task));
    }

    pub(crate) fn look(&self, message: LookoutMessage) {
        // Fails only when the system has stopped, and then nobody waits for an answer.
        let _ = self.lookout.try_send(message);
    }

    pub(crate) fn stop(&self) {
        if let Some(system) = &self.system {
            system.stop();
        }
    }
}
