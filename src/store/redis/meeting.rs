//! What several routers that share a namespace have beside: the lease, and requests of those that do
//! not have it.

use std::sync::LazyLock;
use std::time::Duration;

use super::backend::{CHUNK, Given, Program, Server, VERSION, fatal};
use super::connect::millis;
use super::{GONE, RedisError};
use crate::store::Request;
use crate::store::ledger::{Fault, Meeting};

/// How long a reply to a request is kept.
const REPLY_KEPT: Duration = Duration::from_secs(600);

static PUT: LazyLock<Program> = LazyLock::new(|| Program::new(include_str!("put.lua")));
static ASKED: LazyLock<Program> = LazyLock::new(|| Program::new(include_str!("asked.lua")));
static SETTLE: LazyLock<Program> = LazyLock::new(|| Program::new(include_str!("settle.lua")));

impl Server {
    fn meeting_keys(&self) -> Vec<String> {
        ["queue", "asked"].map(|name| format!("{}{name}", self.0.keys.prefix)).to_vec()
    }

    fn reply_key(&self, key: &str) -> String {
        format!("{}p:{key}", self.0.keys.prefix)
    }
}

impl Meeting for Server {
    async fn acquire(&self, node: &str, length: Duration) -> Result<Option<u64>, Fault> {
        match self.ask_lease(node, length).await? {
            Given::Taken(epoch) => Ok(Some(epoch)),
            Given::Held { .. } => Ok(None),
            Given::Newer(found) => {
                Err(Fault::from(RedisError::NewerVersion { found, known: VERSION }))
            }
            Given::Gone => fatal(GONE),
        }
    }

    async fn holder(&self) -> Result<Option<String>, Fault> {
        let mut question = redis::pipe();
        question.atomic().cmd("EXISTS").arg(&self.0.keys.lease);
        question.cmd("HGET").arg(&self.0.keys.books).arg("node");
        let (lasts, node): (bool, Option<String>) = self.0.questions.ask(&question).await?;
        Ok(node.filter(|_| lasts))
    }

    async fn put_requests(&self, requests: &[Request]) -> Result<(), Fault> {
        for chunk in requests.chunks(CHUNK) {
            let (mut keys, mut args) = (self.meeting_keys(), Vec::new());
            for request in chunk {
                keys.push(self.reply_key(&request.key));
                args.extend([request.key.as_bytes(), &request.order]);
            }
            let _: u64 = self.run(&self.0.questions, &PUT, &keys, &args).await?;
        }
        Ok(())
    }

    async fn requests(&self, most: usize) -> Result<Vec<Request>, Fault> {
        // A range of Redis ends with its last.
        let Some(last) = most.min(i32::MAX as usize).checked_sub(1) else { return Ok(Vec::new()) };
        let (keys, last) = (self.meeting_keys(), last.to_string());
        type Pairs = Vec<(String, Vec<u8>)>;
        let pairs: Pairs = self.run(&self.0.questions, &ASKED, &keys, &[last]).await?;
        Ok(pairs.into_iter().map(|(key, order)| Request { key, order }).collect())
    }

    async fn settle_requests(&self, settled: &[(String, Option<Vec<u8>>)]) -> Result<(), Fault> {
        let kept = millis(REPLY_KEPT).to_string();
        for chunk in settled.chunks(CHUNK) {
            let (mut keys, mut args) = (self.meeting_keys(), vec![kept.as_bytes()]);
            for (key, reply) in chunk {
                keys.push(self.reply_key(key));
                let replied: &[u8] = if reply.is_some() { b"1" } else { b"0" };
                args.extend([key.as_bytes(), replied, reply.as_deref().unwrap_or_default()]);
            }
            let _: u64 = self.run(&self.0.questions, &SETTLE, &keys, &args).await?;
        }
        Ok(())
    }

    async fn replies(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let keys: Vec<_> = keys.iter().map(|key| self.reply_key(key)).collect();
        self.values(&keys).await
    }
}
