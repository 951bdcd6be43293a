//! Where the server is, and how long to wait for it.

use std::fmt;
use std::time::Duration;

use redis::RedisConnectionInfo;
use secrecy::{ExposeSecret, SecretString};

use super::RedisError;
use crate::store::LeaseTerms;
use crate::store::ledger::GIVE_UP_AFTER;
use crate::tls::{self, Wanted};
use crate::url::{is_plain_name, unescaped};

/// Where a Redis store is and how it waits. Every field but the URL has a default.
///
/// The password is in here and nowhere else: `Debug` does not show it.
#[derive(Clone)]
pub struct RedisConfig {
    pub(super) host: String,
    pub(super) port: u16,
    user: Option<String>,
    password: Option<SecretString>,
    database: u32,
    tls: Option<Wanted>,
    pub(super) namespace: String,
    /// The lease that one router at a time has. Default: [`LeaseTerms::default`].
    pub lease: LeaseTerms,
    /// How the holder of the lease is called, for people and for itself: a process that asks under
    /// the name that has the lease gets it at once, so no two that run may have the same. Default:
    /// process, host and a random part, so that a process that was killed is waited for.
    pub node: String,
    /// How long connecting may take, with the password. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long the server may take to answer. Default: 10 s. After that the connection is given up
    /// and the same is asked over a new one.
    pub reply_timeout: Duration,
    /// How long a batch or a question is tried for, over any number of connections. Default: 30 s.
    /// After that the store is latched and the router stops: longer rides out longer failovers,
    /// and callers wait for as long.
    pub give_up_after: Duration,
    /// How long the items of an ended order are kept. Default: 24 h. Its reference, its end and its
    /// claim are kept for ever; zero: the items are not kept beyond the end.
    pub retention: Duration,
    /// How many replicas must have a batch before it is answered (`WAIT`). Default: 0. They have it
    /// in memory then, not on disk, and a failover must pick one of them: see the module.
    pub replicas_min: u32,
    /// A server that may lose what it acknowledged is accepted: its log is synced once a second or
    /// never, or it has none, or does not tell. Default: no. What is lost is bought again.
    pub accept_unsynced: bool,
}

/// The namespace when the URL names none.
const NAMESPACE: &str = "order_router";
const PORT: u16 = 6379;

impl RedisConfig {
    /// Reads a URL: `redis://[USER:PASSWORD@]HOST[:PORT][/DB][?namespace=NAME]`. Special characters
    /// in user and password are written `%XX`; without a user it is `redis://:PASSWORD@HOST`.
    ///
    /// All keys begin with `{NAME}`; one namespace is one account. Default: `order_router`.
    ///
    /// `rediss://` is the same over TLS: the server's certificate and name are checked, against the
    /// system's roots, or with `sslrootcert=FILE` against those of that PEM file alone. The file is
    /// read here.
    ///
    /// # Errors
    /// [`RedisError::Url`], which shows nothing of the URL, and [`RedisError::Tls`].
    pub fn new(url: &str) -> Result<Self, RedisError> {
        let wrong = RedisError::Url;
        let (over_tls, rest) = match url.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            _ => return Err(wrong("it does not begin with redis:// or rediss://")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(l, r)| (Some(l), r));
        let (address, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = host_and_port(address)?;
        let (user, password) = login.map_or(Ok((None, None)), user_and_password)?;
        let (mut namespace, mut roots) = (NAMESPACE.to_owned(), None);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("namespace", name)) => name.clone_into(&mut namespace),
                Some(("sslrootcert", file)) if over_tls => roots = Some(file),
                _ => {
                    let why = "its parameters are namespace, and with rediss:// sslrootcert";
                    return Err(wrong(why));
                }
            }
        }
        if !is_plain_name(&namespace) {
            return Err(wrong("the namespace is not 1 to 48 of a-z, 0-9, _ and -"));
        }
        let database = if database.is_empty() { "0" } else { database };
        Ok(Self {
            host,
            port,
            user,
            password,
            database: database.parse().map_err(|_| wrong("the database is not a number"))?,
            tls: over_tls.then(|| Wanted::new(roots)).transpose().map_err(RedisError::Tls)?,
            namespace,
            lease: LeaseTerms::default(),
            node: this_process(),
            connect_timeout: Duration::from_secs(5),
            reply_timeout: Duration::from_secs(10),
            give_up_after: GIVE_UP_AFTER,
            retention: Duration::from_secs(24 * 60 * 60),
            replicas_min: 0,
            accept_unsynced: false,
        })
    }

    /// Where it is, for people: host, database and namespace; no user and no password.
    #[must_use]
    pub fn place(&self) -> String {
        let Self { host, port, database, namespace, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{host}:{port}/{database}, namespace {namespace}")
    }

    /// The URL without user and password.
    #[must_use]
    pub fn url(&self) -> String {
        let place = self.place().replace(", namespace ", "?namespace=");
        match &self.tls {
            Some(tls) => format!("rediss://{place}{}", tls.parameter()),
            None => format!("redis://{place}"),
        }
    }

    /// A client of one of its servers, which logs in.
    pub(super) fn client(&self, host: &str, port: u16) -> redis::RedisResult<redis::Client> {
        let mut settings =
            RedisConnectionInfo::default().set_db(self.database.into()).set_skip_set_lib_name();
        if let Some(password) = &self.password {
            settings = settings.set_password(password.expose_secret());
        }
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        tls::redis_client((host, port), self.tls.as_ref(), settings)
    }

    /// A text of others, which may repeat what it was sent: without the password.
    pub(super) fn without_password(&self, text: String) -> String {
        match self.password.as_ref().map(SecretString::expose_secret) {
            Some(password) if !password.is_empty() => text.replace(password, "***"),
            _ => text,
        }
    }
}

fn host_and_port(address: &str) -> Result<(String, u16), RedisError> {
    let (host, port) = match address.strip_prefix('[') {
        // An address of IPv6.
        Some(rest) => rest.split_once(']').ok_or(RedisError::Url("the host is not understood"))?,
        None => address.split_at(address.find(':').unwrap_or(address.len())),
    };
    if host.is_empty() {
        return Err(RedisError::Url("it names no host"));
    }
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0),
        None => port.is_empty().then_some(PORT),
    };
    Ok((host.to_owned(), port.ok_or(RedisError::Url("the port is not a number"))?))
}

type Login = (Option<String>, Option<SecretString>);

fn user_and_password(login: &str) -> Result<Login, RedisError> {
    let (user, password) = login
        .split_once(':')
        .ok_or(RedisError::Url("what stands before @ is not USER:PASSWORD"))?;
    let read = |text| unescaped(text).map_err(RedisError::Url);
    let (user, password) = (read(user)?, read(password)?);
    Ok(((!user.is_empty()).then_some(user), Some(password.into())))
}

/// A name that no other process has.
fn this_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "this machine" } else { host.trim() };
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("process {} on {host} ({})", std::process::id(), &random[..8])
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("place", &self.place())
            .field("lease", &self.lease)
            .field("node", &self.node)
            .field("connect_timeout", &self.connect_timeout)
            .field("reply_timeout", &self.reply_timeout)
            .field("give_up_after", &self.give_up_after)
            .field("retention", &self.retention)
            .field("replicas_min", &self.replicas_min)
            .field("accept_unsynced", &self.accept_unsynced)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_names_place_and_namespace_and_shows_no_password() {
        let url = "redis://user:canary%2D7%3a@db.example:6000/3?namespace=acme-2";
        let config = RedisConfig::new(url).expect("understood");
        assert_eq!(config.place(), "db.example:6000/3, namespace acme-2");
        assert_eq!(config.url(), "redis://db.example:6000/3?namespace=acme-2");
        assert!(!format!("{config:?}").contains("canary"));
        assert_eq!(config.user.as_deref(), Some("user"));
        assert_eq!(config.password.as_ref().map(|p| p.expose_secret()), Some("canary-7:"));
        assert_eq!(config.without_password("a canary-7: b".into()), "a *** b");
        let config = RedisConfig::new("redis://:p@[::1]").expect("understood");
        assert_eq!(config.place(), "[::1]:6379/0, namespace order_router");
        assert_eq!((config.user.is_none(), config.password.is_some()), (true, true));
        assert_eq!(RedisConfig::new("redis://h").expect("understood").place()[..8], *"h:6379/0");
        assert_ne!(this_process(), this_process());
    }

    #[test]
    fn url_that_is_not_understood_is_refused_without_showing_it() {
        for url in [
            "http://u:canary@h",
            "redis://",
            "redis://u:canary@",
            "redis://canary@h",
            "redis://u:canary@h:port",
            "redis://u:canary@h:0",
            "redis://u:canary@h:70000",
            "redis://u:canary@[::1",
            "redis://u:canary@[::1]6379",
            "redis://u:canary%4@h",
            "redis://u:canary%zz@h",
            "redis://u:canary%ff@h",
            "redis://u:canary@h/x",
            "redis://u:canary@h/-1",
            "redis://u:canary@h?namespace=",
            "redis://u:canary@h?namespace=Upper",
            "redis://u:canary@h?namespace=a}b",
            "redis://u:canary@h?canary=1",
            "redis://u:canary@h?sslrootcert=/canary",
            "rediss://u:canary@h?canary=1",
        ] {
            let error = RedisConfig::new(url).expect_err(url);
            assert!(matches!(error, RedisError::Url(_)), "{url}: {error:?}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
        for file in ["/none/such", "%zz", "/proc/self/cmdline"] {
            let error = RedisConfig::new(&format!("rediss://u:canary@h?sslrootcert={file}"));
            let Err(RedisError::Tls(why)) = error else { panic!("{error:?}") };
            assert!(!why.contains("canary"), "{why}");
        }
        let tls = RedisConfig::new("rediss://u:canary@h").expect("the system's roots");
        assert_eq!(tls.url(), "rediss://h:6379/0?namespace=order_router");
    }
}
