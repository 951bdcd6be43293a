//! The start: one list must be understood, and the account must not know more than the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{Arrived, LookoutMessage, arrive};
use crate::actors::{LaneMessage, Shared};
use crate::config::StartAnswer;
use crate::crash;
use crate::error::StartError;
use crate::order::ItemsHash;
use crate::protocol::account::{LANDING_BOUND, OpenLane};
use crate::protocol::listing::Sheet;
use crate::protocol::{Change, Clause, IDS_PER_RECORD_MAX, Shape};
use crate::store::{Claim, HistoryLine};
use crate::supplier::{PageRequest, ReadError};

mod restored;

/// How far back an account is read that an empty store meets (rule 15).
const EMPTY_STORE: Duration = Duration::from_secs(24 * 60 * 60);
/// How many lanes are woken before others get their turn.
const WAKES_AT_ONCE: usize = 256;

/// The first reading of the account.
pub(crate) struct Start {
    /// The newest order that any intent has, or else the history line.
    pub(crate) newest_known: Option<Timestamp>,
    /// The newest order that any intent has: the list must show that it is this account's.
    pub(crate) newest_order: Option<Timestamp>,
    /// The history line was drawn before.
    pub(crate) has_history: bool,
    /// Shapes of open orders whose echo was never seen (A4).
    pub(crate) unseen: BTreeSet<Shape>,
    pub(crate) answer: oneshot::Sender<Result<(), StartError>>,
}

/// Reads the account, then begins to send; or says why not, and sends nothing.
pub(super) async fn prepare(shared: Arc<Shared>, start: Start) {
    let ready = read_account(&shared, &start).await;
    crash::point("start.listed");
    let ok = ready.is_ok();
    // Nobody waits for it if this fails; what it says stands in the log as well.
    if let Err(Err(error)) = start.answer.send(ready) {
        tracing::error!(%error, "the router does not send");
    }
    if ok {
        if start.has_history {
            // What a former process released may still land too late (rule 12).
            let bound = shared.config.landing_bound.unwrap_or(LANDING_BOUND);
            let floor = shared
                .account()
                .floor(shared.runtime.now())
                .and_then(|at| at.checked_sub(bound).ok());
            shared.look(LookoutMessage::Released { floor });
        }
        shared.dispatch.open(&shared);
        wake_all(&shared).await;
    }
}

/// Wakes the lanes of a former process, a few at a time.
async fn wake_all(shared: &Arc<Shared>) {
    for lanes in shared.registry.dormant_lanes().chunks(WAKES_AT_ONCE) {
        for lane in lanes {
            shared.deliver(*lane, LaneMessage::Wake);
        }
        tokio::task::yield_now().await;
    }
}

async fn read_account(shared: &Arc<Shared>, start: &Start) -> Result<(), StartError> {
    first_list(shared).await?;
    if shared.config.start == StartAnswer::Restored {
        return restored::settle(shared, start).await;
    }
    if !start.has_history {
        // Nothing is sent before the line is drawn, so nothing on the account is ours.
        return meet_account(shared).await;
    }
    let (sheet, open, claims) = complete_list(shared, start).await?;
    see_echo(shared, start, &open).await?;
    let unexplained = shared.account().unexplained(&sheet, &claims, &open);
    match (unexplained.first(), shared.config.start) {
        (None, _) => {}
        _ if !shared.config.left_out.keeps(Clause::StartStops) => {}
        (Some(_), StartAnswer::Adopt) => {
            let why = "a person says that they are somebody else's";
            shared.keep_orphans(unexplained, why).await?;
        }
        (Some(example), StartAnswer::Ask | StartAnswer::NewAccount | StartAnswer::Restored) => {
            return Err(StartError::UnknownOrders {
                count: unexplained.len(),
                example: example.clone(),
                store_is_empty: false,
            });
        }
    }
    Ok(())
}

/// Looks how orders are echoed that a former process had answers for, where no list has shown one yet.
/// Else what is in doubt would wait for the next order that is answered, and where nothing can be
/// sent but what is in doubt, for ever.
async fn see_echo(
    shared: &Arc<Shared>,
    start: &Start,
    open: &BTreeMap<ItemsHash, OpenLane>,
) -> Result<(), StartError> {
    let Some(back) = shared.account().echo_back(&start.unseen) else { return Ok(()) };
    let sheet = super::sheet(shared, Some(back)).await;
    let (seen, alarms) = shared.account().see_echo(&sheet, open);
    alarms.iter().for_each(|alarm| shared.alarm(&alarm.to_string()));
    for shape in seen {
        shared.store.commit(Change::EchoSeen { shape }).await?;
    }
    Ok(())
}

/// Reads until a list is complete and shows an order that the store has, up to the probe limit. One
/// that shows none is stale, or of another account: what it does not show proves nothing (A2).
async fn complete_list(
    shared: &Arc<Shared>,
    start: &Start,
) -> Result<(Sheet, BTreeMap<ItemsHash, OpenLane>, Vec<Claim>), StartError> {
    let (runtime, limit) = (&shared.runtime, shared.config.probe_limit);
    let bound = shared.config.landing_bound.unwrap_or(LANDING_BOUND);
    let shown_by_now = runtime.clock.wall().checked_sub(bound).unwrap_or(Timestamp::MIN);
    let must_show = start.newest_order.is_some_and(|newest| newest < shown_by_now);
    // An order dated in the future must not shorten what is read.
    let since = start.newest_known.min(shared.account().floor(runtime.now()));
    let deadline = runtime.now().plus(limit);
    let mut wait = Duration::from_millis(100);
    loop {
        let Arrived { sheet, arrived, open, claims, .. } = arrive(shared, since, None).await;
        let claims = claims?;
        shared.account().read_clock(sheet.date, arrived);
        let known = {
            let account = shared.account();
            sheet.rows.iter().any(|row| account.is_claimed(&row.id))
        };
        let last = match &sheet.reach {
            Err(why) => why.to_string(),
            // A person who adopts has looked: some suppliers forget what is old.
            Ok(_) if !must_show || known || !claims.is_empty() => return Ok((sheet, open, claims)),
            Ok(_) if shared.config.start == StartAnswer::Adopt => return Ok((sheet, open, claims)),
            Ok(_) => "it shows none of the orders that the store has: it is stale, or of another \
                      account"
                .to_owned(),
        };
        tracing::warn!(last, "no list that shows the account was read yet");
        if runtime.now().plus(wait) >= deadline {
            return Err(StartError::Probe { limit, last });
        }
        runtime.sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}

/// Reads until one list is understood, up to the probe limit.
async fn first_list(shared: &Arc<Shared>) -> Result<(), StartError> {
    let (runtime, limit) = (&shared.runtime, shared.config.probe_limit);
    let deadline = runtime.now().plus(limit);
    let mut wait = Duration::from_millis(50);
    loop {
        let error = match shared.supplier.list(PageRequest { offset: 0, limit: 1 }).await {
            Ok(page) => {
                shared.account().read_clock(page.date, runtime.now());
                shared.dispatch.supplier_says(page.date, runtime.now());
                return Ok(());
            }
            Err(ReadError::KeyRefused(status)) => return Err(StartError::KeyRefused { status }),
            Err(error) => error,
        };
        tracing::warn!(%error, "no list was understood yet");
        if runtime.now().plus(wait) >= deadline {
            return Err(StartError::Probe { limit, last: error.to_string() });
        }
        runtime.sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}

/// The first start on an account: draws the history line (rule 14), if a person says so or nothing
/// was bought there of late (rule 15).
async fn meet_account(shared: &Arc<Shared>) -> Result<(), StartError> {
    let wall = shared.runtime.clock.wall();
    let back = match shared.config.start {
        StartAnswer::Ask | StartAnswer::Restored => EMPTY_STORE,
        StartAnswer::NewAccount | StartAnswer::Adopt => 2 * shared.config.clock_margin,
    };
    let since = wall.checked_sub(back).unwrap_or(Timestamp::MIN);
    let Arrived { sheet, arrived, .. } = arrive(shared, Some(since), None).await;
    shared.account().read_clock(sheet.date, arrived);
    if let Err(why) = &sheet.reach {
        let limit = shared.config.probe_limit;
        return Err(StartError::Probe { limit, last: why.to_string() });
    }
    let recent: Vec<_> = sheet.rows.iter().filter(|row| row.created_at >= since).collect();
    if let (StartAnswer::Ask | StartAnswer::Restored, Some(row)) =
        (shared.config.start, recent.first())
    {
        return Err(StartError::UnknownOrders {
            count: recent.len(),
            example: row.id.clone(),
            store_is_empty: true,
        });
    }
    let line = shared.account().draw_history(&sheet);
    crash::point("history.drawing");
    draw_history(shared, line).await?;
    crash::point("history.drawn");
    Ok(())
}

async fn draw_history(shared: &Arc<Shared>, line: HistoryLine) -> Result<(), StartError> {
    let newest = line.newest;
    let mut chunks = line.ids.chunks(IDS_PER_RECORD_MAX).map(<[_]>::to_vec);
    let first = chunks.next().unwrap_or_default();
    shared.store.commit(Change::History { newest, ids: first }).await?;
    for ids in chunks {
        shared.store.commit(Change::History { newest, ids }).await?;
    }
    Ok(())
}
