//! stub
#![allow(missing_docs, unused)]
use super::lane::*;
use super::listing::*;
use super::*;
use crate::order::*;
use crate::store::*;
use crate::supplier::*;
use jiff::Timestamp;
use std::collections::*;
use std::sync::Arc;
use std::time::Duration;
pub struct AccountRules {
    pub landing_bound: Option<Duration>,
    pub list_margin: Duration,
    pub clock_margin: Duration,
    pub trust_echo: bool,
    pub echo: EchoProfile,
    pub fingerprint: Fingerprint,
}
pub struct Account;
pub struct OpenLane {
    pub attempts: usize,
    pub products: Vec<Arc<str>>,
}
pub struct Assessment {
    pub evidence: Result<Reach, NoEvidence>,
    pub orphans: Vec<OrderId>,
    pub echo_seen: Vec<Shape>,
    pub alarms: Vec<NoEvidence>,
    pub rows: usize,
}
impl Assessment {
    pub fn view(
        &self,
        ask: u64,
        lane: ItemsHash,
        products: &[Arc<str>],
        shapes: &BTreeSet<Shape>,
    ) -> ListView {
        todo!()
    }
    pub fn free_ids(&self) -> Vec<OrderId> {
        todo!()
    }
}
impl Account {
    pub fn new(
        rules: AccountRules,
        history: Option<HistoryLine>,
        orphans: Vec<OrderId>,
        echo_seen: Vec<Shape>,
        known: Vec<Known>,
        newest_known: Option<Timestamp>,
        now: Moment,
    ) -> Self {
        todo!()
    }
    pub fn floor(&self) -> Option<Timestamp> {
        todo!()
    }
    pub fn learnt(&mut self, known: Known, now: Moment) {
        todo!()
    }
    pub fn supplier_clock(&mut self, date: Timestamp, wall: Timestamp) {
        todo!()
    }
    pub fn prune(&mut self, oldest_open_floor: Option<Timestamp>) {
        todo!()
    }
    pub fn unknown_ids(&self, sheet: &Sheet) -> Vec<OrderId> {
        todo!()
    }
    pub fn assess(
        &mut self,
        sheet: Sheet,
        claims: Vec<Claim>,
        open: &BTreeMap<ItemsHash, OpenLane>,
        products: &dyn Fn(&str) -> bool,
        requested: Moment,
        arrived: Moment,
    ) -> Assessment {
        todo!()
    }
    pub fn draw_history(&mut self, sheet: &Sheet) -> HistoryLine {
        todo!()
    }
    pub fn unexplained(
        &self,
        sheet: &Sheet,
        claims: &[Claim],
        open: &BTreeMap<ItemsHash, OpenLane>,
    ) -> Vec<OrderId> {
        todo!()
    }
    pub fn orphan(&mut self, ids: impl IntoIterator<Item = OrderId>) {
        todo!()
    }
    pub fn is_nobodys(&self, id: &OrderId) -> bool {
        todo!()
    }
}
