//! The keys of one namespace, and what is written to and read from them.

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use redis::{FromRedisValue, Pipeline, Script, ToRedisArgs, Value};

use super::connect::{Link, Settings, ask_settings, connect, evicts, millis};
use super::{RedisConfig, RedisError};
use crate::order::{ClientRef, OrderId};
use crate::protocol::Serial;
use crate::store::ledger::{Backend, Batch, Fault, Kept, RowWrite, SealedClaim};
use crate::store::{Bookmark, Durability, Grade, Holder, Lease};

/// The version of the keys.
pub(super) const VERSION: u32 = 1;

/// How many values are asked for at once.
pub(super) const CHUNK: usize = 512;

macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: LazyLock<Program> = LazyLock::new(|| Program::new(include_str!($file)));
    };
}

script!(WRITE, "write.lua");
script!(ACQUIRE, "acquire.lua");
script!(RENEW, "renew.lua");
script!(RELEASE, "release.lua");

/// A script and its hash.
pub(super) struct Program {
    text: &'static str,
    hash: String,
}

impl Program {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text, hash: Script::new(text).get_hash().to_owned() }
    }

    /// Calls it by its hash, or with its text for a server that does not know it.
    fn call(&self, known: bool, keys: &[String], args: &[impl ToRedisArgs]) -> redis::Cmd {
        let mut command = redis::cmd(if known { "EVALSHA" } else { "EVAL" });
        command.arg(if known { self.hash.as_str() } else { self.text });
        command.arg(keys.len()).arg(keys).arg(args);
        command
    }
}

/// The keys of a namespace. All have one hash tag: in a cluster one node has them.
pub(super) struct Keys {
    pub(super) prefix: String,
    /// Version, epoch, holder and its node, count of changes, standing, account.
    pub(super) books: String,
    pub(super) lease: String,
    /// Rows by reference, of those that are active.
    pub(super) active: String,
    /// Orders by when they were claimed.
    claimed: String,
}

impl Keys {
    fn new(namespace: &str) -> Self {
        let named = |name: &str| format!("{{{namespace}}}:{name}");
        Self {
            prefix: named(""),
            books: named("books"),
            lease: named("lease"),
            active: named("active"),
            claimed: named("claimed"),
        }
    }

    /// An ended row, for ever.
    fn row(&self, reference: &ClientRef) -> String {
        format!("{}r:{}", self.prefix, reference.as_str())
    }

    /// The same with its items, for as long as they are kept.
    fn body(&self, reference: &ClientRef) -> String {
        format!("{}b:{}", self.prefix, reference.as_str())
    }

    fn claim(&self, id: &OrderId) -> String {
        format!("{}o:{}", self.prefix, id.as_str())
    }
}

/// The server that has a namespace. See the module above.
#[derive(Clone)]
pub(crate) struct Server(pub(super) Arc<Inner>);

pub(super) struct Inner {
    config: Arc<RedisConfig>,
    pub(super) keys: Keys,
    /// Says that a lease is this process's: epochs alone could be given out twice, by a server that
    /// was rolled back.
    holder: String,
    durability: Durability,
    writes: Link,
    pub(super) questions: Link,
    /// Why the server is not what it was any more.
    worse: OnceLock<String>,
}

/// What came of asking for the lease.
pub(super) enum Given {
    Taken(u64),
    Held { holder: String, left: Duration },
    Newer(u32),
    Gone,
}

/// A reply of a script: words.
type Words = Vec<String>;

pub(super) fn fatal<T>(why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Fatal(why.into()))
}

impl Server {
    /// Connects once, to see whether the server may be used.
    pub(crate) async fn connect(config: &RedisConfig) -> Result<Self, RedisError> {
        if let Some(wrong) = config.lease.wrong() {
            return Err(RedisError::Terms(wrong));
        }
        let (config, keys) = (Arc::new(config.clone()), Keys::new(&config.namespace));
        let (_, durability) = connect(&config, &keys.books).await?;
        let link = || Link::new(config.clone(), keys.books.clone());
        Ok(Self(Arc::new(Inner {
            writes: link(),
            questions: link(),
            holder: uuid::Uuid::new_v4().to_string(),
            worse: OnceLock::new(),
            config: config.clone(),
            durability,
            keys,
        })))
    }

    /// What an answered change survives.
    pub(crate) fn durability(&self) -> Durability {
        self.0.durability
    }

    /// The version of the keys; `None`: there are none.
    pub(super) async fn version(&self) -> Result<Option<u32>, Fault> {
        let mut question = redis::pipe();
        question.cmd("HGET").arg(&self.0.keys.books).arg("version");
        let (version,): (Option<u32>,) = self.0.questions.ask(&question).await?;
        Ok(version)
    }

    /// What the server's settings are worth now.
    pub(super) async fn grade(&self) -> Grade {
        let mut question = redis::pipe();
        ask_settings(&mut question);
        match self.0.questions.ask_each(&mut question).await {
            Ok(answers) => Settings::read(&answers).words(),
            Err(_) => Grade::REDIS_WEAK,
        }
    }

    /// Runs a script.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        link: &Link,
        program: &Program,
        keys: &[String],
        args: &[impl ToRedisArgs],
    ) -> Result<T, Fault> {
        let answer = self.run_with(link, program, keys, args, |_| {}).await?.remove(0);
        T::from_redis_value(answer).map_err(|error| Fault::Fatal(error.to_string()))
    }

    /// Runs a script and what is asked after it, in one trip. The script's answer comes first.
    async fn run_with(
        &self,
        link: &Link,
        program: &Program,
        keys: &[String],
        args: &[impl ToRedisArgs],
        more: impl Fn(&mut Pipeline),
    ) -> Result<Vec<Value>, Fault> {
        let mut known = true;
        loop {
            let mut pipeline = redis::pipe();
            pipeline.add_command(program.call(known, keys, args));
            more(&mut pipeline);
            let answers = link.ask_each(&mut pipeline).await?;
            let unknown = redis::ErrorKind::Server(redis::ServerErrorKind::NoScript);
            if known && matches!(answers.first(), Some(Err(error)) if error.kind() == unknown) {
                known = false;
                continue;
            }
            let answers: Result<Vec<_>, _> = answers.into_iter().collect();
            let answers = answers.map_err(|error| link.fault(&error))?;
            return if answers.is_empty() { fatal("no answer to a script") } else { Ok(answers) };
        }
    }

    /// Asks for the lease.
    pub(super) async fn ask_lease(&self, node: &str, length: Duration) -> Result<Given, Fault> {
        let Inner { keys, holder, questions, .. } = &*self.0;
        let named = [&keys.books, &keys.lease, &keys.active, &keys.claimed].map(String::clone);
        let args = [node, holder, &millis(length).to_string(), &VERSION.to_string()];
        let words: Words = self.run(questions, &ACQUIRE, &named, &args).await?;
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["taken", epoch] if epoch.parse().is_ok_and(|epoch: u64| epoch > 0) => {
                Ok(Given::Taken(epoch.parse().unwrap_or_default()))
            }
            ["held", holder, left] => {
                let left = Duration::from_millis(left.parse().unwrap_or(0));
                Ok(Given::Held { holder: Holder::shown(holder).to_owned(), left })
            }
            ["newer", version] => Ok(Given::Newer(version.parse().unwrap_or(u32::MAX))),
            ["gone"] => Ok(Given::Gone),
            _ => fatal(format!("the lease is answered with {words:?}")),
        }
    }

    /// Reads values in chunks, in the order of the question.
    pub(super) async fn values(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let mut found = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK) {
            let mut question = redis::pipe();
            question.cmd("MGET").arg(chunk);
            let (values,): (Vec<Option<Vec<u8>>>,) = self.0.questions.ask(&question).await?;
            if values.len() != chunk.len() {
                return fatal("fewer values than were asked for");
            }
            found.extend(values);
        }
        Ok(found)
    }

    /// What a refused batch means.
    fn refused(&self, batch: &Batch, words: &[&str]) -> String {
        match *words {
            ["gone"] => "acknowledged changes are gone: its keys were deleted".to_owned(),
            ["epoch", epoch, node] => match epoch.parse().unwrap_or(0) {
                epoch if epoch >= batch.epoch => {
                    let node = Holder::shown(node);
                    format!("another router has taken the store over ({node}, epoch {epoch})")
                }
                epoch => format!(
                    "acknowledged changes are gone: it is at epoch {epoch} and was at {}; it was \
                     rolled back, or failed over to a replica that was behind",
                    batch.epoch
                ),
            },
            ["count", count] if count.parse().unwrap_or(0) > batch.from => format!(
                "it holds {count} changes and not {}: something else writes there",
                batch.from
            ),
            ["count", count] => format!(
                "acknowledged changes are gone: it holds {count} and not {}; it was rolled back, \
                 or failed over to a replica that was behind",
                batch.from
            ),
            ["there", reference] => format!("the reference {reference} is there already"),
            ["absent", reference] => format!("the open order {reference} is gone"),
            ["claimed", id] => format!("the order {id} is claimed already"),
            _ => format!("a batch is answered with {words:?}"),
        }
    }
}

/// A batch as the keys and arguments of its script.
struct Parts<'a> {
    keys: Vec<String>,
    args: Vec<Argument<'a>>,
}

enum Argument<'a> {
    Text(String),
    Bytes(&'a [u8]),
}

impl ToRedisArgs for Argument<'_> {
    fn write_redis_args<W: ?Sized + redis::RedisWrite>(&self, out: &mut W) {
        match self {
            Self::Text(text) => out.write_arg(text.as_bytes()),
            Self::Bytes(bytes) => out.write_arg(bytes),
        }
    }
}

impl<'a> Parts<'a> {
    fn new(inner: &'a Inner, batch: &'a Batch) -> Self {
        let names = &inner.keys;
        let keys = vec![names.books.clone(), names.active.clone(), names.claimed.clone()];
        let mut parts = Self { keys, args: Vec::with_capacity(8 + 8 * batch.rows.len()) };
        parts.text(batch.epoch).text(&inner.holder).text(batch.from).text(batch.to);
        parts.bytes(&batch.standing).text(u8::from(batch.account.is_some()));
        parts.bytes(batch.account.as_deref().unwrap_or_default());
        let retention = inner.config.retention;
        parts.text(if retention.is_zero() { 0 } else { millis(retention) });
        batch.rows.iter().for_each(|row| parts.row(names, row));
        parts
    }

    fn text(&mut self, text: impl ToString) -> &mut Self {
        self.args.push(Argument::Text(text.to_string()));
        self
    }

    fn bytes(&mut self, bytes: &'a [u8]) -> &mut Self {
        self.args.push(Argument::Bytes(bytes));
        self
    }

    fn row(&mut self, names: &Keys, row: &'a RowWrite) {
        let reference = &row.client_ref;
        self.keys.extend([names.row(reference), names.body(reference)]);
        let flags = [
            ("n", row.new),
            ("a", row.active),
            ("f", row.full.is_some()),
            ("c", row.claim.is_some()),
        ];
        let flags: String = flags.iter().filter(|(_, set)| *set).map(|(flag, _)| *flag).collect();
        self.bytes(reference.as_str().as_bytes()).text(flags).bytes(&row.row);
        if let Some(full) = &row.full {
            self.bytes(full);
        }
        if let Some(claim) = &row.claim {
            self.keys.push(names.claim(&claim.id));
            self.bytes(claim.id.as_str().as_bytes()).text(claim.ended_at.0).bytes(&claim.claim);
        }
    }
}

impl Backend for Server {
    const ROWS_MAX: usize = 256;

    async fn write(&self, batch: &Batch) -> Result<(), Fault> {
        let inner = &*self.0;
        if let Some(worse) = inner.worse.get() {
            return fatal(worse);
        }
        let parts = Parts::new(inner, batch);
        let replicas = inner.config.replicas_min;
        // The server answers before the client gives the connection up.
        let patience = millis(inner.config.reply_timeout / 2);
        let wait = |pipeline: &mut Pipeline| {
            if replicas > 0 {
                pipeline.cmd("WAIT").arg(replicas).arg(patience);
            }
        };
        let answers = self.run_with(&inner.writes, &WRITE, &parts.keys, &parts.args, wait).await?;
        let mut answers = answers.into_iter();
        let words = Words::from_redis_value(answers.next().unwrap_or(Value::Nil));
        let words = words.map_err(|error| Fault::Fatal(error.to_string()))?;
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        if words != ["in"] {
            return fatal(self.refused(batch, &words));
        }
        let have = answers.next().map(u32::from_redis_value).transpose();
        match have.map_err(|error| Fault::Fatal(error.to_string()))? {
            Some(have) if have < replicas => {
                Err(Fault::Passes(format!("{have} replicas have the batch and not {replicas}")))
            }
            _ => Ok(()),
        }
    }

    async fn is_ours(&self, epoch: u64) -> Result<bool, Fault> {
        let mut question = redis::pipe();
        question.cmd("HMGET").arg(&self.0.keys.books).arg(&["epoch", "holder"]);
        let ((newest, holder),): ((Option<u64>, Option<String>),) =
            self.0.questions.ask(&question).await?;
        Ok(newest == Some(epoch) && holder.as_ref() == Some(&self.0.holder))
    }

    async fn load(&self) -> Result<Kept, Fault> {
        let keys = &self.0.keys;
        let mut question = redis::pipe();
        question.atomic().cmd("HMGET").arg(&keys.books).arg(&["standing", "account", "changes"]);
        question.cmd("HVALS").arg(&keys.active);
        type Books = (Option<Vec<u8>>, Option<Vec<u8>>, Option<u64>);
        let (books, active): (Books, Vec<Vec<u8>>) = self.0.questions.ask(&question).await?;
        let (standing, account, changes) = books;
        if standing.is_none() && (changes.is_some() || !active.is_empty()) {
            return fatal("acknowledged changes are gone: its standing is missing");
        }
        Ok(Kept { standing, account, active })
    }

    async fn rows(&self, refs: &[ClientRef]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        type Values = Vec<Option<Vec<u8>>>;
        let keys = &self.0.keys;
        let mut found = Vec::with_capacity(refs.len());
        for chunk in refs.chunks(CHUNK) {
            // In this order no row is missed that ends meanwhile. A transaction would be refused
            // where memory is full.
            let mut question = redis::pipe();
            question.cmd("HMGET").arg(&keys.active);
            for reference in chunk {
                question.arg(reference.as_str());
            }
            question.cmd("MGET").arg(chunk.iter().map(|r| keys.body(r)).collect::<Vec<_>>());
            question.cmd("MGET").arg(chunk.iter().map(|r| keys.row(r)).collect::<Vec<_>>());
            let (active, bodies, rows): (Values, Values, Values) =
                self.0.questions.ask(&question).await?;
            if [active.len(), bodies.len(), rows.len()] != [chunk.len(); 3] {
                return fatal("fewer rows than were asked for");
            }
            let fullest = active.into_iter().zip(bodies).zip(rows);
            found.extend(fullest.map(|((active, body), row)| active.or(body).or(row)));
        }
        Ok(found)
    }

    async fn claims(&self, ids: &[OrderId]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let keys: Vec<_> = ids.iter().map(|id| self.0.keys.claim(id)).collect();
        self.values(&keys).await
    }

    async fn claims_since(&self, since: Serial) -> Result<Vec<SealedClaim>, Fault> {
        let key = &self.0.keys.claimed;
        let mut question = redis::pipe();
        question.cmd("ZCOUNT").arg(key).arg("-inf").arg(format!("({}", since.0));
        let (mut at,): (usize,) = self.0.questions.ask(&question).await?;
        let mut found = Vec::new();
        // Claims are never taken away, and new ones come at the end: no page misses one.
        loop {
            let mut question = redis::pipe();
            question.cmd("ZRANGE").arg(key).arg(at).arg(at + CHUNK - 1);
            let (ids,): (Vec<String>,) = self.0.questions.ask(&question).await?;
            let read: Option<Vec<_>> = ids.iter().map(|id| OrderId::new(id.as_str())).collect();
            let Some(read) = read else { return fatal("the name of a claimed order is damaged") };
            for (id, claim) in read.iter().zip(self.claims(&read).await?) {
                let Some(claim) = claim else {
                    return fatal(format!("the claim of the order {} is gone", id.as_str()));
                };
                found.push((id.clone(), claim));
            }
            at += ids.len();
            if ids.len() < CHUNK {
                return Ok(found);
            }
        }
    }

    async fn some(&self, from: &Bookmark) -> Result<(Vec<Vec<u8>>, Option<Bookmark>), Fault> {
        self.read_some(from).await
    }

    async fn renew(&self, lease: &Lease) -> Result<bool, Fault> {
        let Inner { keys, holder, questions, config, .. } = &*self.0;
        let named = [keys.books.clone(), keys.lease.clone()];
        let (epoch, length) = (lease.epoch().to_string(), millis(lease.terms().length));
        let args = [&epoch, holder, &length.to_string()];
        let renewed = self.run::<u64>(questions, &RENEW, &named, &args).await? == 1;
        // Somebody may change it while it runs.
        let mut question = redis::pipe();
        question.cmd("INFO").arg("memory");
        if let Ok(answers) = questions.ask_each(&mut question).await
            && let Some(policy) = evicts(&answers)
        {
            tracing::error!(place = config.place(), policy, "the server may throw orders away");
            let _ = self.0.worse.set(format!("it runs with maxmemory-policy {policy} by now"));
        }
        let mut question = redis::pipe();
        ask_settings(&mut question);
        if self.0.durability == Durability::Synced
            && let Ok(answers) = questions.ask_each(&mut question).await
            && let Some((setting, _)) = Settings::read(&answers).weak()
            && !config.accept_unsynced
        {
            tracing::error!(place = config.place(), setting, "the server may lose what it answers");
            let _ = self.0.worse.set(format!("it runs with {setting} by now"));
        }
        Ok(renewed)
    }

    async fn release(&self, epoch: u64) {
        let Inner { keys, holder, questions, config, .. } = &*self.0;
        let named = [keys.books.clone(), keys.lease.clone()];
        let args = [&epoch.to_string(), holder];
        let released = self.run::<u64>(questions, &RELEASE, &named, &args).await;
        if let Err(Fault::Passes(why) | Fault::Fatal(why)) = released {
            tracing::warn!(place = config.place(), why, "the lease was not given back: it ends");
        }
    }

    fn place(&self) -> String {
        self.0.config.place()
    }

    fn give_up_after(&self) -> Duration {
        self.0.config.give_up_after
    }
}
