//! Follows placed orders until their status is terminal: one list refreshes many of them.
//!
//! An order that somebody asked for is followed on when nobody waits for it any more: faster at first,
//! slowly once the limit has passed, which rings an alarm, and for ever. Nothing of it buys again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{Lookout, read};
use crate::actors::Shared;
use crate::order::{ClientRef, OrderId};
use crate::protocol::Moment;
use crate::protocol::fulfilment::{Stage, delivery, stage};
use crate::router::{Fulfilment, RouterEvent};
use crate::supplier::{ReadError, Row};

/// Up to so many orders are fetched one by one; more are looked up in a list first.
const FETCH_AT_MOST: usize = 3;
/// How the pause between two looks at one order grows: by half, up to five times the first.
const PAUSE_MAX: u32 = 5;
/// How often an order is looked at once the limit has passed, in first pauses.
const PAUSE_SLOW: u32 = 100;
/// Most orders that are followed; beyond it, those that nobody waits for are let go.
const FOLLOWED_MAX: usize = 100_000;
/// Orders that ended lately, whose status should not change any more.
const ENDED_MAX: usize = 10_000;

/// Somebody follows a placed order.
pub(crate) struct Follow {
    pub(crate) order_id: OrderId,
    pub(crate) client_ref: ClientRef,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) answer: oneshot::Sender<Fulfilment>,
}

/// A placed order that has not ended at the supplier.
struct Followed {
    client_ref: ClientRef,
    created_at: Option<Timestamp>,
    answers: Vec<oneshot::Sender<Fulfilment>>,
    since: Moment,
    due: Moment,
    pause: Duration,
    late: bool,
    /// The unknown status that was told last.
    unknown: Option<String>,
}

/// All that is followed, and what ended lately.
#[derive(Default)]
pub(super) struct Follows {
    open: BTreeMap<OrderId, Followed>,
    polling: bool,
    timer: Option<(Moment, actix::SpawnHandle)>,
    ended: BTreeMap<OrderId, String>,
    ended_order: VecDeque<OrderId>,
}

impl Follows {
    /// The status of orders that had ended, where a list shows another one now.
    pub(super) fn reversed(&mut self, rows: &[Row]) -> Vec<(OrderId, String, String)> {
        if self.ended.is_empty() {
            return Vec::new();
        }
        let mut changed = Vec::new();
        for row in rows {
            if let Some(was) = self.ended.get_mut(&row.id)
                && *was != row.status
                // A list may be older than the look that showed the end.
                && stage(&row.status) != Stage::UnderWay
            {
                let was = std::mem::replace(was, row.status.clone());
                changed.push((row.id.clone(), was, row.status.clone()));
            }
        }
        changed
    }

    fn remember(&mut self, id: OrderId, status: String) {
        if self.ended.insert(id.clone(), status).is_none() {
            self.ended_order.push_back(id);
        }
        while self.ended_order.len() > ENDED_MAX {
            if let Some(oldest) = self.ended_order.pop_front() {
                self.ended.remove(&oldest);
            }
        }
    }
}

/// What a look at one order showed.
struct Looked {
    id: OrderId,
    status: String,
    fulfilment: Option<Fulfilment>,
}

impl Lookout {
    /// Begins to follow an order.
    pub(super) fn follow(&mut self, follow: Follow, ctx: &mut Context<Self>) {
        let Follow { order_id, client_ref, created_at, answer } = follow;
        let now = self.shared.runtime.now();
        let pause = self.shared.config.poll_interval;
        if self.follows.open.len() >= FOLLOWED_MAX {
            let waits = |followed: &Followed| followed.answers.iter().any(|a| !a.is_closed());
            self.follows.open.retain(|_, followed| waits(followed));
        }
        let followed = self.follows.open.entry(order_id).or_insert_with(|| Followed {
            client_ref,
            created_at,
            answers: Vec::new(),
            since: now,
            due: now,
            pause,
            late: false,
            unknown: None,
        });
        followed.answers.push(answer);
        // Somebody waits for it: not as slowly as one that nobody asks for.
        followed.due = followed.due.min(now.plus(pause));
        self.poll(ctx);
    }

    /// Looks at what is due, or sets a timer for it.
    fn poll(&mut self, ctx: &mut Context<Self>) {
        if self.follows.polling {
            return;
        }
        let Some(due) = self.follows.open.values().map(|followed| followed.due).min() else {
            return;
        };
        let now = self.shared.runtime.now();
        if due > now {
            if self.follows.timer.is_some_and(|(set, _)| set <= due) {
                return;
            }
            if let Some((_, later)) = self.follows.timer.take() {
                ctx.cancel_future(later);
            }
            let span = due.since(now) + Duration::from_millis(1);
            let timer = ctx.run_later(span, |lookout, ctx| {
                lookout.follows.timer = None;
                lookout.poll(ctx);
            });
            self.follows.timer = Some((due, timer));
            return;
        }
        self.follows.polling = true;
        let due: Vec<_> = self
            .follows
            .open
            .iter()
            .filter(|(_, followed)| followed.due <= now)
            .map(|(id, followed)| (id.clone(), followed.created_at))
            .collect();
        let shared = self.shared.clone();
        let polling = async move { look_at(&shared, due).await };
        ctx.spawn(polling.into_actor(self).map(|(looked, asked), lookout, ctx| {
            for looked in looked {
                lookout.looked(looked);
            }
            lookout.put_off(&asked);
            // Not at once: the follows share the supplier's rate with everything else.
            let pause = lookout.shared.config.poll_interval;
            ctx.run_later(pause, |lookout, ctx| {
                lookout.follows.polling = false;
                lookout.poll(ctx);
            });
        }));
    }

    /// Takes in what was seen of one order.
    fn looked(&mut self, looked: Looked) {
        let Looked { id, status, fulfilment } = looked;
        let Some(followed) = self.follows.open.get_mut(&id) else { return };
        if stage(&status) == Stage::Unknown && followed.unknown.as_ref() != Some(&status) {
            let known: String = status.chars().filter(|c| !c.is_control()).take(40).collect();
            followed.unknown = Some(status);
            self.shared.alarm(&format!(
                "order {id} has the status {known:?}, which is not known: it is followed on"
            ));
            return;
        }
        let Some(fulfilment) = fulfilment else { return };
        let Some(followed) = self.follows.open.remove(&id) else { return };
        self.follows.remember(id.clone(), status);
        let (client_ref, delivery) = (followed.client_ref, fulfilment.delivery.clone());
        self.shared.tell(|| RouterEvent::Fulfilled { client_ref, order_id: id, delivery });
        for answer in followed.answers {
            // Nobody waits any more if this fails.
            let _ = answer.send(fulfilment.clone());
        }
    }

    /// Says when each of these is looked at again.
    fn put_off(&mut self, asked: &[OrderId]) {
        let now = self.shared.runtime.now();
        let (first, limit) = (self.shared.config.poll_interval, self.shared.config.poll_limit);
        for id in asked {
            let Some(followed) = self.follows.open.get_mut(id) else { continue };
            followed.answers.retain(|answer| !answer.is_closed());
            if now.since(followed.since) >= limit && !std::mem::replace(&mut followed.late, true) {
                self.shared.alarm(&format!(
                    "order {id} of {} has not ended for {} s: it is followed slowly from here on, and \
                     never bought again by itself",
                    followed.client_ref,
                    now.since(followed.since).as_secs()
                ));
            }
            followed.pause = match followed.late {
                true => first * PAUSE_SLOW,
                false => (followed.pause * 3 / 2).min(first * PAUSE_MAX),
            };
            followed.due = now.plus(followed.pause);
        }
    }

    /// Rings for orders that had ended and have another status now.
    pub(super) fn ring_for_reversed(&mut self, rows: &[Row]) {
        for (id, was, now) in self.follows.reversed(rows) {
            let now: String = now.chars().filter(|c| !c.is_control()).take(40).collect();
            self.shared.alarm(&format!("order {id} was {was} and is {now} now: it was reversed"));
        }
    }
}

/// Looks at these orders: what was seen, and which were asked for.
async fn look_at(
    shared: &Arc<Shared>,
    due: Vec<(OrderId, Option<Timestamp>)>,
) -> (Vec<Looked>, Vec<OrderId>) {
    let asked: Vec<_> = due.iter().map(|(id, _)| id.clone()).collect();
    let (fetch, mut looked) = match due.len() <= FETCH_AT_MOST {
        true => (asked.clone(), Vec::new()),
        false => ended_in_list(shared, &due).await,
    };
    for id in fetch {
        match shared.supplier.fetch(id.clone()).await {
            Ok(fetched) => {
                let status = fetched.row.status;
                let delivery = delivery(&status, &fetched.raw, &shared.policy.format);
                let fulfilment = delivery.map(|delivery| Fulfilment {
                    order_id: id.clone(),
                    status: status.clone(),
                    delivery,
                    raw: fetched.raw,
                });
                looked.push(Looked { id, status, fulfilment });
            }
            Err(ReadError::NotFound) => {}
            Err(error) => tracing::debug!(%error, order = %id, "status not read"),
        }
    }
    (looked, asked)
}

/// Splits into those to fetch, because a list shows them as ended or does not show them, and what it
/// shows of the others.
async fn ended_in_list(
    shared: &Arc<Shared>,
    due: &[(OrderId, Option<Timestamp>)],
) -> (Vec<OrderId>, Vec<Looked>) {
    let since = due.iter().map(|(_, created_at)| *created_at).min().flatten();
    let sheet = read::sheet(shared, since, None).await;
    let wanted: BTreeSet<_> = due.iter().map(|(id, _)| id).collect();
    let going_on: BTreeMap<_, _> = sheet
        .rows
        .into_iter()
        .filter(|row| wanted.contains(&row.id) && stage(&row.status) != Stage::Ended)
        .map(|row| (row.id, row.status))
        .collect();
    let fetch = due.iter().map(|(id, _)| id).filter(|id| !going_on.contains_key(id)).cloned();
    let fetch = fetch.collect();
    let looked = going_on.into_iter();
    (fetch, looked.map(|(id, status)| Looked { id, status, fulfilment: None }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, status: &str) -> Row {
        let id = OrderId::new(id).expect("an id");
        Row { id, status: status.into(), created_at: Timestamp::UNIX_EPOCH, items: None }
    }

    #[test]
    fn an_order_that_had_ended_and_shows_another_status_is_told_once() {
        let mut follows = Follows::default();
        follows.remember(row("1", "").id, "completed".into());
        assert_eq!(follows.reversed(&[row("1", "completed"), row("2", "active")]), []);
        let expected = (row("1", "").id, "completed".to_owned(), "cancelled".to_owned());
        assert_eq!(follows.reversed(&[row("1", "cancelled")]), [expected]);
        assert_eq!(follows.reversed(&[row("1", "cancelled")]), []);
    }

    #[test]
    fn a_list_that_is_older_than_the_end_rings_for_nothing() {
        let mut follows = Follows::default();
        follows.remember(row("1", "").id, "completed".into());
        assert_eq!(follows.reversed(&[row("1", "processing")]), []);
        assert_eq!(follows.reversed(&[row("1", "completed")]), []);
        // One that nobody has heard of may well be a reversal.
        assert_eq!(follows.reversed(&[row("1", "refunded")]).len(), 1);
    }

    #[test]
    fn no_more_ended_orders_are_remembered_than_there_is_room_for() {
        let mut follows = Follows::default();
        for n in 0..ENDED_MAX + 5 {
            follows.remember(row(&n.to_string(), "").id, "completed".into());
        }
        assert_eq!((follows.ended.len(), follows.ended_order.len()), (ENDED_MAX, ENDED_MAX));
        assert_eq!(follows.reversed(&[row("3", "failed")]), []);
        assert_eq!(follows.reversed(&[row("7", "failed")]).len(), 1);
    }
}
