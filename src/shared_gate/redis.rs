//! A gate in Redis: `SET NX`, and two scripts that compare before they write.

use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisConnectionInfo, RedisResult};
use secrecy::ExposeSecret;

use super::threads::{self, Connection, PATIENCE};
use super::url::Address;
use super::{GateError, GateServer, Question, Reply};

/// Puts ARGV[2] in the place of ARGV[1], for ARGV[3] ms. What stands there otherwise.
const SWAP: &str = "local there = redis.call('GET', KEYS[1]) \
    if there == ARGV[1] or there == ARGV[2] then \
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1 end \
    return there";

/// Takes ARGV[1] away. What stands there otherwise.
const REMOVE: &str = "local there = redis.call('GET', KEYS[1]) \
    if there == ARGV[1] then redis.call('DEL', KEYS[1]) return 1 end \
    return there";

/// How often a key may go between the try to add it and the look at it.
const TRIES: usize = 8;

/// The server at an address. Nothing is connected yet.
pub(super) fn server(address: Address) -> Result<Arc<dyn GateServer>, GateError> {
    threads::start::<Redis>(address)
}

struct Redis(redis::Connection);

impl Connection for Redis {
    fn open(address: &Address) -> Result<Self, GateError> {
        open(address).map(Self).map_err(|error| judged(address, &error))
    }

    fn ask(
        &mut self,
        address: &Address,
        key: &str,
        question: &Question,
        ttl: Duration,
    ) -> Result<Reply, GateError> {
        match self.answer(key, question, ttl) {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => {
                let why = "a key changes all the time".to_owned();
                Err(GateError::Unusable { place: address.place(), why })
            }
            Err(error) => Err(judged(address, &error)),
        }
    }
}

fn open(address: &Address) -> RedisResult<redis::Connection> {
    let mut settings =
        RedisConnectionInfo::default().set_db(address.database.into()).set_skip_set_lib_name();
    if let Some(password) = &address.password {
        settings = settings.set_password(password.expose_secret());
    }
    if let Some(user) = &address.user {
        settings = settings.set_username(user);
    }
    let place = (&*address.host, address.port);
    let client = crate::tls::redis_client(place, address.tls.as_ref(), settings)?;
    let connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

impl Redis {
    fn answer(
        &mut self,
        key: &str,
        question: &Question,
        ttl: Duration,
    ) -> RedisResult<Option<Reply>> {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Ok(Some(match question {
            Question::Get => self.get(key)?.map_or(Reply::Nothing, Reply::Other),
            Question::Add(value) => return self.add(key, value, ttl),
            Question::Swap { old, new } => {
                let mut swap = redis::cmd("EVAL");
                swap.arg(SWAP).arg(1).arg(key).arg(old).arg(new).arg(ttl);
                reply(swap.query(&mut self.0)?)
            }
            Question::Remove(old) => {
                let mut remove = redis::cmd("EVAL");
                remove.arg(REMOVE).arg(1).arg(key).arg(old);
                reply(remove.query(&mut self.0)?)
            }
        }))
    }

    fn get(&mut self, key: &str) -> RedisResult<Option<String>> {
        let found: Option<Vec<u8>> = redis::cmd("GET").arg(key).query(&mut self.0)?;
        Ok(found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn add(&mut self, key: &str, value: &str, ttl: u64) -> RedisResult<Option<Reply>> {
        for _ in 0..TRIES {
            let mut add = redis::cmd("SET");
            add.arg(key).arg(value).arg("NX").arg("PX").arg(ttl);
            if add.query::<Option<String>>(&mut self.0)?.is_some() {
                return Ok(Some(Reply::Done));
            }
            if let Some(there) = self.get(key)? {
                return Ok(Some(Reply::Other(there)));
            }
        }
        Ok(None)
    }
}

/// What a script returns: 1, nothing, or what stands there.
fn reply(value: redis::Value) -> Reply {
    match value {
        redis::Value::Int(_) => Reply::Done,
        redis::Value::BulkString(bytes) => {
            Reply::Other(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => Reply::Nothing,
    }
}

/// What an error means. What the server repeats of what it was sent is left out.
fn judged(address: &Address, error: &redis::RedisError) -> GateError {
    let place = address.place();
    let mut text = error.to_string();
    if let Some(at) = text.find(", with args beginning with") {
        text.truncate(at);
    }
    let why = address.clean(&text);
    let refused = ["NOAUTH", "WRONGPASS", "NOPERM"];
    match error.code() {
        _ if error.kind() == ErrorKind::AuthenticationFailed => GateError::Refused { place, why },
        Some(code) if refused.contains(&code) => GateError::Refused { place, why },
        Some("READONLY") => {
            let why = "it is a replica and read-only: name the primary".to_owned();
            GateError::Unusable { place, why }
        }
        Some("MOVED" | "ASK") => {
            let why = "it is one of a cluster, which a gate cannot be on".to_owned();
            GateError::Unusable { place, why }
        }
        None if error.is_io_error() => GateError::Unreachable { place, why },
        _ => GateError::Unusable { place, why },
    }
}
