//! stub
#![allow(missing_docs, unused)]
use crate::supplier::*;
use jiff::Timestamp;
use std::time::Duration;
#[derive(Debug, Clone)]
pub struct Checkpoint;
pub struct Listing;
pub enum Next {
    More(PageRequest),
    Done,
}
pub struct Sheet {
    pub rows: Vec<Row>,
    pub reach: Result<Option<Timestamp>, NoEvidence>,
    pub date: Option<Timestamp>,
    pub checkpoint: Option<Checkpoint>,
}
#[derive(Debug, Clone, thiserror::Error)]
#[error("x")]
pub struct NoEvidence;
impl Listing {
    pub fn start(
        capabilities: &Capabilities,
        since: Option<Timestamp>,
        margin: Duration,
        checkpoint: Option<&Checkpoint>,
    ) -> (Self, PageRequest) {
        todo!()
    }
    pub fn page(&mut self, page: Page) -> Next {
        todo!()
    }
    pub fn finish(self) -> Sheet {
        todo!()
    }
    pub fn broken_off(self, why: String) -> Sheet {
        todo!()
    }
}
