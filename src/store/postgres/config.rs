//! Where the database is, and how long to wait for it.

use std::fmt;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::PostgresError;
use crate::store::LeaseTerms;
use crate::tls::Wanted;

/// Where a Postgres store is and how it waits. Every field but the URL has a default.
///
/// The password is in here and nowhere else: `Debug` does not show it.
#[derive(Clone)]
pub struct PostgresConfig {
    pub(super) client: tokio_postgres::Config,
    pub(super) schema: String,
    pub(super) tls: Option<Wanted>,
    /// How long connecting to one host may take. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long the server may take to answer a batch or a question. Default: 10 s. After that the
    /// connection is given up, and what was under way is read back over a new one.
    pub reply_timeout: Duration,
    /// How long a batch or a question is tried for, over any number of connections. Default: 30 s.
    /// After that the store is latched and the router stops: longer rides out longer failovers,
    /// and callers wait for as long.
    pub give_up_after: Duration,
    /// Most changes in one transaction. Default: 256.
    pub batch_max: usize,
    /// A server that does not sync its log (`fsync=off`, `full_page_writes=off`) is accepted.
    /// Default: no. What it acknowledged can be gone after a power cut, and is bought again.
    pub accept_unsynced: bool,
    /// The lease under which the schema is written (rule 16). Default: [`LeaseTerms::default`].
    ///
    /// Without one, the server's lock and the connection alone keep others out. They do not keep a
    /// router from sending that was stopped, or cut off, for so long that the server gave its session
    /// up and another router began: what was about to leave it may be bought twice.
    pub lease: Option<LeaseTerms>,
}

/// The schema when the URL names none.
const SCHEMA: &str = "order_router";

impl PostgresConfig {
    /// Reads a URL: `postgres://USER:PASSWORD@HOST:PORT/DATABASE?schema=NAME`, with the parameters
    /// of libpq that the client knows. Special characters in the password are written `%XX`.
    ///
    /// `schema` is where the tables are; one schema is one account. Default: `order_router`.
    ///
    /// `sslmode=require`, `verify-ca` and `verify-full` are one here, and stricter than libpq's first
    /// two: TLS, with the server's certificate and name checked, against the system's roots, or with
    /// `sslrootcert=FILE` against those of that PEM file alone, which is read here. Without, and with
    /// `disable`, `allow` and `prefer`: no TLS.
    ///
    /// # Errors
    /// [`PostgresError::Url`], which shows nothing of the URL, and [`PostgresError::Tls`].
    pub fn new(url: &str) -> Result<Self, PostgresError> {
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(PostgresError::Url("it does not begin with postgres://"));
        }
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut schema, mut kept) = (SCHEMA.to_owned(), Vec::new());
        let (mut over_tls, mut roots) = (false, None);
        for parameter in query.split('&').filter(|p| !p.is_empty()) {
            match parameter.split_once('=') {
                Some(("schema", name)) => name.clone_into(&mut schema),
                Some(("sslmode", "require" | "verify-ca" | "verify-full")) => over_tls = true,
                Some(("sslmode", "disable" | "allow" | "prefer")) => over_tls = false,
                Some(("sslmode", _)) => return Err(PostgresError::Url("sslmode is not known")),
                Some(("sslrootcert", file)) => roots = Some(file),
                _ => kept.push(parameter),
            }
        }
        if !is_plain_name(&schema) {
            let why = "the schema's name is not 1 to 48 of a-z, 0-9 and _, beginning with a letter";
            return Err(PostgresError::Url(why));
        }
        // The client's own message is left out: it may quote parts of a mistyped URL.
        let mut client: tokio_postgres::Config = format!("{address}?{}", kept.join("&"))
            .parse()
            .map_err(|_| PostgresError::Url("it is not understood"))?;
        if roots.is_some() && !over_tls {
            return Err(PostgresError::Url("sslrootcert is given without sslmode=require"));
        }
        client.ssl_mode(if over_tls { SslMode::Require } else { SslMode::Disable });
        if client.get_hosts().is_empty() {
            return Err(PostgresError::Url("it names no host"));
        }
        if client.get_hosts().len() > 1
            && client.get_target_session_attrs() == TargetSessionAttrs::Any
        {
            client.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        client.keepalives_idle(Duration::from_secs(15));
        Ok(Self {
            client,
            schema,
            tls: over_tls.then(|| Wanted::new(roots)).transpose().map_err(PostgresError::Tls)?,
            connect_timeout: Duration::from_secs(5),
            reply_timeout: Duration::from_secs(10),
            give_up_after: Duration::from_secs(30),
            batch_max: 256,
            accept_unsynced: false,
            lease: Some(LeaseTerms::default()),
        })
    }

    /// The URL without user and password.
    #[must_use]
    pub fn url(&self) -> String {
        let mut url = format!("postgres://{}", self.place().replace(", schema ", "?schema="));
        if let Some(tls) = &self.tls {
            url += "&sslmode=require";
            url += &tls.parameter();
        }
        url
    }

    /// Where it is, for people: hosts, database and schema; no user and no password.
    #[must_use]
    pub fn place(&self) -> String {
        let mut hosts = Vec::new();
        for (at, host) in self.client.get_hosts().iter().enumerate() {
            let ports = self.client.get_ports();
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            hosts.push(match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                Host::Unix(path) => format!("{}:{port}", path.display()),
            });
        }
        let database = self.client.get_dbname().or(self.client.get_user()).unwrap_or("");
        format!("{}/{database}, schema {}", hosts.join(","), self.schema)
    }
}

/// A name that needs no quoting anywhere.
fn is_plain_name(name: &str) -> bool {
    (1..=48).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && name.starts_with(|c: char| c.is_ascii_lowercase())
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("place", &self.place())
            .field("connect_timeout", &self.connect_timeout)
            .field("reply_timeout", &self.reply_timeout)
            .field("give_up_after", &self.give_up_after)
            .field("batch_max", &self.batch_max)
            .field("accept_unsynced", &self.accept_unsynced)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_names_place_and_schema_and_shows_no_password() {
        let url = "postgres://user:canary-7@db.example:6000/shop?schema=acme_2&application_name=x";
        let config = PostgresConfig::new(url).expect("understood");
        assert_eq!(config.place(), "db.example:6000/shop, schema acme_2");
        assert!(!format!("{config:?}").contains("canary"));
        let config = PostgresConfig::new("postgresql://a,b/shop").expect("understood");
        assert_eq!(config.place(), "a:5432,b:5432/shop, schema order_router");
        assert_eq!(config.client.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }

    #[test]
    fn url_that_is_not_understood_is_refused_without_showing_it() {
        for url in [
            "mysql://u:canary@h/d",
            "postgres://u:canary@h:port/d",
            "postgres://u:p/canary@h/d?canary=1",
            "postgres://u:canary@h/d?nonsense=1",
            "postgres://u:canary@h/d?schema=Upper",
            "postgres://u:canary@h/d?schema=a;b",
            "postgres://u:canary@h/d?schema=",
            "postgres://",
        ] {
            let error = PostgresConfig::new(url).expect_err(url);
            assert!(matches!(error, PostgresError::Url(_)), "{url}: {error:?}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
        for rest in ["sslmode=canary", "sslrootcert=/canary", "sslmode=prefer&sslrootcert=/x"] {
            let error = PostgresConfig::new(&format!("postgres://u:canary@h/d?{rest}"));
            let Err(PostgresError::Url(why)) = error else { panic!("{rest}: {error:?}") };
            assert!(!why.contains("canary"), "{why}");
        }
    }

    #[test]
    fn tls_is_as_the_url_says() {
        for (mode, tls) in [
            ("require", true),
            ("verify-ca", true),
            ("verify-full", true),
            ("disable", false),
            ("allow", false),
            ("prefer", false),
        ] {
            let url = format!("postgres://u:canary@h/d?sslmode={mode}");
            let config = PostgresConfig::new(&url).expect("understood");
            assert_eq!(config.tls.is_some(), tls, "{mode}");
            let wanted = if tls { SslMode::Require } else { SslMode::Disable };
            assert_eq!(config.client.get_ssl_mode(), wanted);
            assert_eq!(config.url().contains("sslmode=require"), tls);
        }
        for file in ["/none/such", "%zz", "/proc/self/cmdline"] {
            let url = format!("postgres://u:canary@h/d?sslmode=require&sslrootcert={file}");
            let Err(PostgresError::Tls(why)) = PostgresConfig::new(&url) else { panic!("{file}") };
            assert!(!why.contains("canary"), "{why}");
        }
    }
}
