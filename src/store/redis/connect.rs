//! Connections: made when they are wanted, looked around on, thrown away when something is odd.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, Pipeline, RedisResult, Value};

use super::error::{code, judged};
use super::{RedisConfig, RedisError};
use crate::store::ledger::Fault;
use crate::store::{Durability, Grade};

/// The oldest server that is taken: since then, what a script writes is one transaction of the log
/// in every configuration.
const MAJOR_MIN: u32 = 7;

/// How many redirections of a cluster are followed.
const HOPS_MAX: usize = 5;

/// Connections of different runtimes that are kept: a connection works only while its runtime does.
const KEPT_MAX: usize = 4;

/// Connections to the server for one purpose.
pub(super) struct Link {
    config: Arc<RedisConfig>,
    /// The key that is asked for at a connect, so that a cluster tells who has it.
    probed: String,
    kept: Mutex<Vec<Live>>,
    /// Held while one is made: whoever comes meanwhile waits for it.
    making: tokio::sync::Mutex<()>,
}

/// A connection and whose it is.
#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    runtime: tokio::runtime::Id,
    number: u64,
}

/// Throws a connection away unless the answer came: also when nobody waits for it any more, for one
/// that hangs is to keep nobody else waiting.
struct Use<'a> {
    link: &'a Link,
    number: u64,
    answered: bool,
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.link.kept().retain(|live| live.number != self.number);
        }
    }
}

impl Link {
    pub(super) fn new(config: Arc<RedisConfig>, probed: String) -> Self {
        Self { config, probed, kept: Mutex::default(), making: tokio::sync::Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Live>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self, runtime: tokio::runtime::Id) -> Option<Live> {
        self.kept().iter().find(|live| live.runtime == runtime).cloned()
    }

    /// The connection that there is, or a new one.
    async fn connection(&self) -> Result<Live, RedisError> {
        let runtime = tokio::runtime::Handle::current().id();
        if let Some(live) = self.live(runtime) {
            return Ok(live);
        }
        let _making = self.making.lock().await;
        if let Some(live) = self.live(runtime) {
            return Ok(live);
        }
        let (connection, _) = connect(&self.config, &self.probed).await?;
        let mut kept = self.kept();
        let number = kept.last().map_or(0, |live| live.number + 1);
        let live = Live { connection, runtime, number };
        if kept.len() >= KEPT_MAX {
            kept.remove(0);
        }
        kept.push(live.clone());
        Ok(live)
    }

    /// Asks all of these in one trip. `Err` of one is its own error.
    pub(super) async fn ask_each(
        &self,
        pipeline: &mut Pipeline,
    ) -> Result<Vec<RedisResult<Value>>, Fault> {
        pipeline.ignore_errors();
        self.ask(pipeline).await
    }

    /// Asks all of these in one trip.
    pub(super) async fn ask<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, Fault> {
        let mut live = self.connection().await?;
        let mut used = Use { link: self, number: live.number, answered: false };
        let answer = pipeline.query_async(&mut live.connection).await;
        let answer = answer.map_err(|error| self.judged(&error));
        used.answered = !matches!(&answer, Err((_, true)));
        answer.map_err(|(fault, _)| fault)
    }

    /// What an error means, and whether it is the connection's.
    fn judged(&self, error: &redis::RedisError) -> (Fault, bool) {
        judged(&self.config, error)
    }

    /// What an error of one question among several means.
    pub(super) fn fault(&self, error: &redis::RedisError) -> Fault {
        let (fault, elsewhere) = self.judged(error);
        if elsewhere {
            self.kept().clear();
        }
        fault
    }
}

/// Connects, and looks whether the server may be used; how durable it is.
pub(super) async fn connect(
    config: &RedisConfig,
    probed: &str,
) -> Result<(MultiplexedConnection, Durability), RedisError> {
    let (mut host, mut port) = (config.host.clone(), config.port);
    for _ in 0..HOPS_MAX {
        let failed = |error: redis::RedisError| RedisError::of(config, &error);
        let waits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.reply_timeout));
        let client = config.client(&host, port).map_err(failed)?;
        let connecting = client.get_multiplexed_async_connection_with_config(&waits);
        let mut connection = connecting.await.map_err(failed)?;
        let seen = look(config, probed, &mut connection).await.map_err(failed)?;
        let Some((to_host, to_port)) = seen.moved else {
            return Ok((connection, seen.judged(config)?));
        };
        if !to_host.is_empty() {
            host = to_host;
        }
        port = to_port;
    }
    let why = "the nodes of the cluster send on from one to the next".to_owned();
    Err(RedisError::Unreachable { place: config.place(), why })
}

/// What a server says of itself.
struct Seen {
    /// Who has the keys, if it is another node of a cluster.
    moved: Option<(String, u16)>,
    /// Why the keys cannot be asked for.
    refused: Option<redis::RedisError>,
    info: String,
    settings: Settings,
}

/// How it writes its log.
pub(super) enum Settings {
    Told {
        appendonly: String,
        appendfsync: String,
        no_fsync_on_rewrite: String,
    },
    /// It does not tell, and why.
    Hidden(String),
}

/// The questions of [`Settings`].
pub(super) fn ask_settings(pipeline: &mut Pipeline) {
    for name in ["appendonly", "appendfsync", "no-appendfsync-on-rewrite"] {
        pipeline.cmd("CONFIG").arg("GET").arg(name);
    }
}

impl Settings {
    /// Reads the answers.
    pub(super) fn read(answers: &[RedisResult<Value>]) -> Self {
        let mut values = Vec::new();
        for answer in answers {
            let pair = match answer {
                Ok(value) => Vec::<String>::from_redis_value(value.clone()).unwrap_or_default(),
                Err(error) => {
                    let code = code(error).unwrap_or_else(|| "no answer".to_owned());
                    return Self::Hidden(format!(
                        "settings that it does not tell (CONFIG: {code})"
                    ));
                }
            };
            values.extend(pair.into_iter().nth(1));
        }
        match <[String; 3]>::try_from(values) {
            Ok([appendonly, appendfsync, no_fsync_on_rewrite]) => {
                Self::Told { appendonly, appendfsync, no_fsync_on_rewrite }
            }
            Err(_) => Self::Hidden("settings that it does not know".to_owned()),
        }
    }

    /// The setting by which it may lose what it acknowledged, and what.
    pub(super) fn weak(&self) -> Option<(String, &'static str)> {
        let named = |name: &str, value: &str| format!("{name} {value}");
        match self {
            Self::Hidden(why) => Some((why.clone(), "an amount that nobody can tell")),
            Self::Told { appendonly, .. } if appendonly != "yes" => {
                Some((named("appendonly", appendonly), "everything since its last snapshot"))
            }
            Self::Told { appendfsync, .. } if appendfsync == "everysec" => {
                Some((named("appendfsync", appendfsync), "up to two seconds"))
            }
            Self::Told { appendfsync, .. } if appendfsync != "always" => Some((
                named("appendfsync", appendfsync),
                "what the system had not written yet, half a minute or more,",
            )),
            Self::Told { no_fsync_on_rewrite, .. } if no_fsync_on_rewrite != "no" => Some((
                named("no-appendfsync-on-rewrite", no_fsync_on_rewrite),
                "everything since the rewrite of its log began",
            )),
            Self::Told { .. } => None,
        }
    }

    /// What they are worth, in words.
    pub(super) fn words(&self) -> Grade {
        match self {
            _ if self.weak().is_none() => Grade::REDIS,
            Self::Told { appendonly, appendfsync, .. }
                if appendonly == "yes" && appendfsync == "everysec" =>
            {
                Grade::REDIS_EVERYSEC
            }
            Self::Told { .. } | Self::Hidden(_) => Grade::REDIS_WEAK,
        }
    }

    /// What is answered survives, or why not.
    pub(super) fn grade(&self, config: &RedisConfig) -> Result<Durability, RedisError> {
        match self.weak() {
            None => Ok(Durability::Synced),
            Some(_) if config.accept_unsynced => Ok(Durability::Unsynced),
            Some((setting, window)) => {
                Err(RedisError::Unsynced { place: config.place(), setting, window })
            }
        }
    }
}

async fn look(
    config: &RedisConfig,
    probed: &str,
    connection: &mut MultiplexedConnection,
) -> RedisResult<Seen> {
    let mut questions = redis::pipe();
    questions.ignore_errors().cmd("INFO").cmd("HGET").arg(probed).arg("version");
    ask_settings(&mut questions);
    let mut answers: Vec<RedisResult<Value>> = questions.query_async(connection).await?;
    let settings = Settings::read(answers.get(2..).unwrap_or_default());
    let mut next = || if answers.is_empty() { Ok(Value::Nil) } else { answers.remove(0) };
    let info = String::from_redis_value(next()?)?;
    let refused = next().err();
    let moved = refused.as_ref().and_then(redis::RedisError::redirect_node);
    let moved = moved.and_then(|(address, _)| {
        let (host, port) = address.rsplit_once(':')?;
        Some((host.to_owned(), port.parse().ok()?))
    });
    if moved.is_some() {
        tracing::debug!(place = config.place(), ?moved, "another node of the cluster has the keys");
    }
    Ok(Seen { moved, refused, info, settings })
}

impl Seen {
    /// A field of what it says.
    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.info.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
    }

    fn judged(&self, config: &RedisConfig) -> Result<Durability, RedisError> {
        let place = config.place();
        let version = self.field("redis_version").unwrap_or("unknown");
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < MAJOR_MIN) {
            let why = format!("its version is {version}, and {MAJOR_MIN}.0 is wanted");
            return Err(RedisError::Unusable { place, why });
        }
        if self.field("loading").is_some_and(|loading| loading != "0") {
            let why = "it is still loading its data".to_owned();
            return Err(RedisError::Unreachable { place, why });
        }
        if self.field("role") != Some("master") {
            return Err(RedisError::ReadOnly { place });
        }
        if let Some(error) = &self.refused {
            return Err(RedisError::of(config, error));
        }
        let policy = self.field("maxmemory_policy").unwrap_or("unknown");
        if policy != "noeviction" {
            return Err(RedisError::Evicts { place, policy: policy.to_owned() });
        }
        self.settings.grade(config)
    }
}

/// Milliseconds, at least one.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).clamp(1, u64::MAX >> 12)
}

/// The policy by which a server throws keys away, if it does.
pub(super) fn evicts(answers: &[redis::RedisResult<Value>]) -> Option<String> {
    let told = answers.first()?.as_ref().ok()?;
    let told = String::from_redis_value(told.clone()).ok()?;
    let mut fields = told.lines().filter_map(|line| line.split_once(':'));
    let (_, policy) = fields.find(|(name, _)| *name == "maxmemory_policy")?;
    (policy.trim() != "noeviction").then(|| policy.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(appendonly: &str, appendfsync: &str, no_fsync_on_rewrite: &str) -> Settings {
        Settings::Told {
            appendonly: appendonly.to_owned(),
            appendfsync: appendfsync.to_owned(),
            no_fsync_on_rewrite: no_fsync_on_rewrite.to_owned(),
        }
    }

    #[test]
    fn each_weak_setting_is_named_and_refused_unless_accepted() {
        let mut config = RedisConfig::new("redis://h").expect("a URL");
        assert_eq!(told("yes", "always", "no").grade(&config).ok(), Some(Durability::Synced));
        let weak = [
            (told("no", "always", "no"), "appendonly no"),
            (told("yes", "everysec", "no"), "appendfsync everysec"),
            (told("yes", "no", "no"), "appendfsync no"),
            (told("yes", "always", "yes"), "no-appendfsync-on-rewrite yes"),
            (Settings::read(&[]), "settings that it does not know"),
        ];
        for (settings, name) in weak {
            config.accept_unsynced = false;
            let error = settings.grade(&config).expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
            config.accept_unsynced = true;
            assert_eq!(settings.grade(&config).ok(), Some(Durability::Unsynced));
        }
    }
}
