//! What the crate itself decides at the edge of a lane: what an answer proves, and whether a
//! reference is new.

use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use order_router::protocol::evidence::{Evidence, EvidencePolicy, GateState, Seen, judge};
use order_router::protocol::{Change, IntentId, LeftOut, NewIntent, Outcome, Serial};
use order_router::store::{Committed, IntentStore, MemoryStore};
use order_router::{ClientRef, EchoProfile, Item, ItemsDigest, ItemsHash};

use super::setup::{Setup, base};
use super::world::World;

impl Setup {
    /// What an answer proves, by the crate's evidence; its words are left out.
    pub fn judged(&self, status: u16, retry_after: Option<Duration>, body: &[u8]) -> Outcome {
        let items = [Item::new("x", 1).expect("an item")];
        let evidence = Evidence {
            gate: GateState::Yielded(base()),
            exchange: Seen::Answer { status, retry_after, body: Some(body) },
            items: &items,
            echo: EchoProfile::default(),
        };
        // What a list had shown before is left out by the run itself.
        let left_out = self.without.map(LeftOut::only).unwrap_or_default();
        let policy = EvidencePolicy { left_out, ..EvidencePolicy::default() };
        match judge(&evidence, &policy, |_| false).outcome {
            Outcome::Created { id, .. } => Outcome::Created { id, created_at: None },
            Outcome::Refused(_) => Outcome::Refused("".into()),
            Outcome::NotSent(_) => Outcome::NotSent("".into()),
            Outcome::Unknown(_) => Outcome::Unknown("".into()),
        }
    }

    /// Another order comes under the reference of the first one, which the store has: the crate's
    /// own store says what becomes of it.
    pub fn conflicts(&self, world: &mut World) {
        world.faults.conflicts -= 1;
        let left_out = self.without.map(LeftOut::only).unwrap_or_default();
        let store = MemoryStore::leaving_out(left_out);
        let accept = |id, product| {
            let change = Change::Accept { intent: intent(Serial(id), product), attempt: None };
            store.commit(change).now_or_never().and_then(Result::ok)
        };
        let first = accept(1, "x");
        let second = accept(2, "y");
        assert_eq!(first, Some(Committed::Done), "the first is new");
        world.misled |= matches!(second, Some(Committed::Joined(_) | Committed::Done));
    }
}

fn intent(id: IntentId, product: &str) -> NewIntent {
    let items = [Item::new(product, 1).expect("an item")];
    NewIntent {
        id,
        client_ref: ClientRef::new("A").expect("a reference"),
        lane: ItemsHash::of(&items, EchoProfile::default()),
        as_sent: ItemsDigest::as_sent(&items),
        delivered: ItemsDigest::delivered(&items, false),
        items: items.into(),
        good_until: Timestamp::MAX,
        accepted_at: Timestamp::UNIX_EPOCH,
    }
}
