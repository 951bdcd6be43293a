//! Where the database is, and how long to wait for it.

use std::fmt;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::PostgresError;
use crate::store::LeaseTerms;

/// Where a Postgres store is and how it waits. Every field but the URL has a default.
///
/// The password is in here and nowhere else: `Debug` does not show it.
#[derive(Clone)]
pub struct PostgresConfig {
    pub(super) client: tokio_postgres::Config,
    pub(super) schema: String,
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
    /// # Errors
    /// [`PostgresError::Url`], which shows nothing of the URL, and [`PostgresError::Tls`].
    pub fn new(url: &str) -> Result<Self, PostgresError> {
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(PostgresError::Url("it does not begin with postgres://"));
        }
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut schema, mut kept) = (SCHEMA.to_owned(), Vec::new());
        for parameter in query.split('&').filter(|p| !p.is_empty()) {
            match parameter.split_once('=') {
                Some(("schema", name)) => name.clone_into(&mut schema),
                Some(("sslmode", mode)) if mode.starts_with("verify") => {
                    return Err(PostgresError::Tls);
                }
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
        if client.get_ssl_mode() == SslMode::Require {
            return Err(PostgresError::Tls);
        }
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
        format!("postgres://{}", self.place().replace(", schema ", "?schema="))
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
        for mode in ["require", "verify-ca", "verify-full"] {
            let error = PostgresConfig::new(&format!("postgres://u:canary@h/d?sslmode={mode}"));
            assert!(matches!(error, Err(PostgresError::Tls)), "{mode}");
        }
    }
}
