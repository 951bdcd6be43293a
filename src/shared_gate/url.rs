//! Where a gate is: `memcached://` or `redis://`, as people write it.

use std::sync::Arc;

use secrecy::SecretString;

use super::{GateError, GateServer};
use crate::tls::Wanted;
use crate::url::{is_plain_name, unescaped};

/// What is wrong with a namespace that is none.
pub(super) const NAMESPACE_WRONG: &str = "the namespace is not 1 to 48 of a-z, 0-9, _ and -";

/// The namespace where none is named.
const NAMESPACE: &str = "order_router";

/// A server, and how to log in there.
#[cfg_attr(
    not(any(feature = "memcached", feature = "redis")),
    allow(dead_code, reason = "no gate is in this build")
)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<SecretString>,
    pub(super) database: u32,
    /// Redis alone has it.
    #[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "no Redis is in this build"))]
    pub(super) tls: Option<Wanted>,
}

#[cfg_attr(
    not(any(feature = "memcached", feature = "redis")),
    allow(dead_code, reason = "no gate is in this build")
)]
impl Address {
    /// For people: no user and no password.
    pub(super) fn place(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// A text of others, which may repeat what it was sent: one line, without the password.
    pub(super) fn clean(&self, text: &str) -> String {
        use secrecy::ExposeSecret;
        let line = text.lines().next().unwrap_or_default();
        match self.password.as_ref().map(SecretString::expose_secret) {
            Some(password) if !password.is_empty() => line.replace(password, "***"),
            _ => line.to_owned(),
        }
    }
}

/// Says what is wrong with the URL of a gate, or that it is not in this build. Nothing is started.
///
/// # Errors
/// [`GateError::Url`]; nothing of the URL is shown.
#[cfg(feature = "cli")]
pub(crate) fn read_url(url: &str) -> Result<(), GateError> {
    parse(url).map(drop)
}

/// The gate's server that a URL names, and the namespace of its keys. Nothing is connected yet.
///
/// `memcached://USER:PASSWORD@HOST:PORT?namespace=NAME` (port 11211) or
/// `redis://USER:PASSWORD@HOST:PORT/DB?namespace=NAME` (port 6379), or over TLS `rediss://` and the same,
/// where `sslrootcert=FILE` names the certificates in PEM that alone are trusted; user and password only where they
/// are wanted, with `%XX` for what a URL has no room for. A Memcached that wants a password takes it as
/// text (`memcached -Y`); it is sent as it is, so only over a network of your own.
///
/// # Errors
/// [`GateError::Url`]; nothing of the URL is shown. [`GateError::Tls`].
pub fn connect(url: &str) -> Result<(Arc<dyn GateServer>, String), GateError> {
    let (kind, address, namespace) = parse(url)?;
    Ok((server(kind, address)?, namespace))
}

fn server(kind: Kind, address: Address) -> Result<Arc<dyn GateServer>, GateError> {
    match kind {
        #[cfg(feature = "memcached")]
        Kind::Memcached => super::memcached::server(address),
        #[cfg(feature = "redis")]
        Kind::Redis => super::redis::server(address),
        #[cfg(not(all(feature = "memcached", feature = "redis")))]
        _ => {
            drop(address);
            Err(NOT_IN_BUILD)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memcached,
    Redis,
}

const NOT_IN_BUILD: GateError =
    GateError::Url("it is not in this build: build it with the feature `memcached` or `redis`");

fn parse(url: &str) -> Result<(Kind, Address, String), GateError> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (kind, port, built) = match scheme {
        "memcached" => (Kind::Memcached, 11_211, cfg!(feature = "memcached")),
        "redis" => (Kind::Redis, 6_379, cfg!(feature = "redis")),
        "rediss" => (Kind::Redis, 6_379, cfg!(feature = "redis")),
        _ => return Err(GateError::Url("a gate is in Memcached or in Redis")),
    };
    if !built {
        return Err(NOT_IN_BUILD);
    }
    let (address, namespace) = read(rest, port, scheme == "rediss")?;
    if kind == Kind::Memcached && address.database != 0 {
        return Err(GateError::Url("Memcached has no databases"));
    }
    if kind == Kind::Memcached && address.user.as_deref().is_some_and(|user| user.contains(' ')) {
        return Err(GateError::Url("a user of Memcached has no space in its name"));
    }
    Ok((kind, address, namespace))
}

fn read(rest: &str, port: u16, over_tls: bool) -> Result<(Address, String), GateError> {
    // Before anything is split: a password may have any of these in it only as %XX.
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(l, r)| (Some(l), r));
    let (address, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = host_and_port(address, port)?;
    let plain = |text| unescaped(text).map_err(GateError::Url);
    let (user, password) = match login.map(|login| login.split_once(':')) {
        None => (None, None),
        Some(None) => return Err(GateError::Url("what stands before @ is not USER:PASSWORD")),
        Some(Some((user, password))) => (Some(plain(user)?), Some(plain(password)?)),
    };
    let (mut namespace, mut roots) = (NAMESPACE.to_owned(), None);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("namespace", name)) => name.clone_into(&mut namespace),
            Some(("sslrootcert", file)) if over_tls => roots = Some(file),
            _ => {
                let why = "its parameters are namespace, and with rediss:// sslrootcert";
                return Err(GateError::Url(why));
            }
        }
    }
    if !is_plain_name(&namespace) {
        return Err(GateError::Url(NAMESPACE_WRONG));
    }
    let database = if database.is_empty() { "0" } else { database };
    let database = database.parse().map_err(|_| GateError::Url("the database is not a number"))?;
    let user = user.filter(|user| !user.is_empty());
    let password = password.map(SecretString::from);
    let tls = over_tls.then(|| Wanted::new(roots)).transpose().map_err(GateError::Tls)?;
    Ok((Address { host, port, user, password, database, tls }, namespace))
}

fn host_and_port(address: &str, usual: u16) -> Result<(String, u16), GateError> {
    let (host, port) = match address.strip_prefix('[') {
        // An address of IPv6.
        Some(rest) => rest.split_once(']').ok_or(GateError::Url("the host is not understood"))?,
        None => address.split_at(address.find(':').unwrap_or(address.len())),
    };
    if host.is_empty() {
        return Err(GateError::Url("it names no host"));
    }
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0),
        None => port.is_empty().then_some(usual),
    };
    Ok((host.to_owned(), port.ok_or(GateError::Url("the port is not a number"))?))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn url_names_server_login_and_namespace() {
        let (address, namespace) =
            read("us%40er:canary%2D7%3a@h.example?namespace=a-1", 7, false).unwrap();
        assert_eq!((address.place(), &*namespace), ("h.example:7".to_owned(), "a-1"));
        assert_eq!(address.user.as_deref(), Some("us@er"));
        assert_eq!(address.password.as_ref().unwrap().expose_secret(), "canary-7:");
        assert_eq!(address.clean("a canary-7: b\nc"), "a *** b");
        let (address, namespace) = read("[::1]:9/3", 7, false).unwrap();
        assert_eq!((address.place(), &*namespace), ("[::1]:9".to_owned(), NAMESPACE));
        assert_eq!((address.database, address.password.is_none()), (3, true));
    }

    #[test]
    fn url_that_is_not_understood_is_refused_without_showing_it() {
        for url in [
            "canary",
            "http://u:canary@h",
            "redis://u:canary@h?sslrootcert=/canary",
            "memcached://",
            "memcached://u:canary@",
            "memcached://canary@h",
            "memcached://u:canary@h:port",
            "memcached://u:canary@h:0",
            "memcached://u:canary@h/1",
            "memcached://u:canary%zz@h",
            "memcached://u:canary%ff@h",
            "memcached://h?namespace=A",
            "memcached://h?canary=1",
            "redis://u:canary@h/x",
            "redis://u:canary@[::1",
        ] {
            let Err(error) = connect(url) else { panic!("{url} is understood") };
            assert!(matches!(error, GateError::Url(_)), "{url}: {error:?}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
    }
}
