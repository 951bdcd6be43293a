//! Where the table is, who asks, and how long to wait for it.

use std::fmt;
use std::time::Duration;

use aws_sdk_dynamodb::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};

use super::DynamoDbError;
use crate::store::LeaseTerms;
use crate::store::ledger::GIVE_UP_AFTER;

/// Where a DynamoDB store is and how it waits. Every field has a default.
///
/// # Credentials
/// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, where there is one, `AWS_SESSION_TOKEN` are
/// read when a store is opened; a profile becomes these by
/// `aws configure export-credentials --format env`. Roles of machines and containers, whose keys
/// change while the router runs, are a host's to bring:
/// [`credentials`](Self::credentials) takes any provider, such as `aws-config`'s. That crate
/// is not built in: it brings clients of further services.
///
/// No key is shown by `Debug` or by an error.
#[derive(Clone)]
pub struct DynamoDbConfig {
    pub(super) table: String,
    pub(super) region: String,
    pub(super) endpoint: Option<String>,
    pub(super) namespace: String,
    pub(super) credentials: Option<SharedCredentialsProvider>,
    /// How long the lease lasts, and what is allowed for. Default: [`LeaseTerms::default`].
    pub lease: LeaseTerms,
    /// How long connecting may take. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long the service may take to answer one request. Default: 5 s. What was under way is
    /// then read back.
    pub reply_timeout: Duration,
    /// How long a batch or a question is tried for, over any number of connections. Default: 30 s.
    /// After that the store is latched and the router stops: longer rides out longer failovers,
    /// and callers wait for as long.
    pub give_up_after: Duration,
    /// For how long the lines of an ended order are kept. Default: 24 h. The service deletes them
    /// within days after that. References, ends and claims are kept for ever. Zero: not at all.
    pub retention: Duration,
}

/// The namespace when the URL names none.
const NAMESPACE: &str = "order_router";

impl DynamoDbConfig {
    /// Reads a URL: `dynamodb://TABLE?region=REGION`, with `&namespace=NAME` (one namespace is one
    /// account; default: `order_router`) and, for another address than the service's own in that
    /// region, `&endpoint=http://127.0.0.1:8000`.
    ///
    /// # Errors
    /// [`DynamoDbError::Url`], which shows nothing of the URL.
    pub fn new(url: &str) -> Result<Self, DynamoDbError> {
        let rest = url.strip_prefix("dynamodb://");
        let rest = rest.ok_or(DynamoDbError::Url("it does not begin with dynamodb://"))?;
        let (table, query) = rest.split_once('?').unwrap_or((rest, ""));
        let plain =
            |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !(3..=255).contains(&table.len()) || !plain(table) {
            let why = "the table's name is not 3 to 255 of a-z, A-Z, 0-9, -, _ and .; keys do not \
                       belong into the URL";
            return Err(DynamoDbError::Url(why));
        }
        let (mut region, mut endpoint, mut namespace) = (None, None, NAMESPACE);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("region", name)) => region = Some(name),
                Some(("endpoint", url)) => endpoint = Some(url),
                Some(("namespace", name)) => namespace = name,
                _ => {
                    let why = "it has a parameter other than region, endpoint and namespace";
                    return Err(DynamoDbError::Url(why));
                }
            }
        }
        let region = region.ok_or(DynamoDbError::Url("it names no region"))?;
        if !(1..=64).contains(&region.len()) || !plain(region) {
            return Err(DynamoDbError::Url("the region is not a name such as eu-central-1"));
        }
        if !(1..=64).contains(&namespace.len()) || !plain(namespace) {
            return Err(DynamoDbError::Url(
                "the namespace is not 1 to 64 of a-z, A-Z, 0-9, -, _ and .",
            ));
        }
        if !endpoint.is_none_or(is_address) {
            return Err(DynamoDbError::Url("the endpoint is not http://HOST:PORT or https://HOST"));
        }
        Ok(Self {
            table: table.to_owned(),
            region: region.to_owned(),
            endpoint: endpoint.map(|url| url.trim_end_matches('/').to_owned()),
            namespace: namespace.to_owned(),
            credentials: None,
            lease: LeaseTerms::default(),
            connect_timeout: Duration::from_secs(5),
            reply_timeout: Duration::from_secs(5),
            give_up_after: GIVE_UP_AFTER,
            retention: Duration::from_secs(24 * 60 * 60),
        })
    }

    /// The URL: there is no key in it.
    #[must_use]
    pub fn url(&self) -> String {
        let Self { table, region, endpoint, namespace, .. } = self;
        let endpoint = endpoint.as_ref().map_or(String::new(), |url| format!("&endpoint={url}"));
        format!("dynamodb://{table}?region={region}&namespace={namespace}{endpoint}")
    }

    /// Takes the keys from this provider, not from the environment.
    #[must_use]
    pub fn credentials(mut self, provider: impl ProvideCredentials + 'static) -> Self {
        self.credentials = Some(SharedCredentialsProvider::new(provider));
        self
    }

    /// Where it is, for people.
    #[must_use]
    pub fn place(&self) -> String {
        let at = self.endpoint.as_deref().unwrap_or(&self.region);
        format!("DynamoDB {at}, table {}, namespace {}", self.table, self.namespace)
    }

    /// The provider that was given, or what the environment has.
    pub(super) fn provider(&self) -> Result<SharedCredentialsProvider, DynamoDbError> {
        if let Some(provider) = &self.credentials {
            return Ok(provider.clone());
        }
        let value = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(id), Some(secret)) = (value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY"))
        else {
            return Err(DynamoDbError::NoCredentials);
        };
        let token = value("AWS_SESSION_TOKEN");
        let keys = Credentials::new(id, secret, token, None, "environment");
        Ok(SharedCredentialsProvider::new(keys))
    }
}

/// Scheme, host and port; nothing that could be a password.
fn is_address(url: &str) -> bool {
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = host.map(|host| host.strip_suffix('/').unwrap_or(host));
    host.is_some_and(|host| {
        !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:[]".contains(&b))
    })
}

impl fmt::Debug for DynamoDbConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoDbConfig")
            .field("place", &self.place())
            .field("region", &self.region)
            .field("lease", &self.lease)
            .field("connect_timeout", &self.connect_timeout)
            .field("reply_timeout", &self.reply_timeout)
            .field("give_up_after", &self.give_up_after)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_names_table_region_endpoint_and_namespace() {
        let config = DynamoDbConfig::new("dynamodb://orders?region=eu-central-1").expect("a URL");
        let place = "DynamoDB eu-central-1, table orders, namespace order_router";
        assert_eq!(config.place(), place);
        let url = "dynamodb://orders?region=local&endpoint=http://127.0.0.1:8000/&namespace=a.b";
        let config = DynamoDbConfig::new(url).expect("a URL");
        let place = "DynamoDB http://127.0.0.1:8000, table orders, namespace a.b";
        assert_eq!(config.place(), place);
        assert_eq!(config.region, "local");
        let keys = Credentials::new("canary-id", "canary-key", None, None, "test");
        let shown = format!("{:?}", config.credentials(keys));
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn url_that_is_not_understood_is_refused_without_showing_it() {
        for url in [
            "redis://canary",
            "dynamodb://",
            "dynamodb://canary",
            "dynamodb://ca?region=eu-central-1",
            "dynamodb://canary:canary@orders?region=eu-central-1",
            "dynamodb://canary?region=",
            "dynamodb://canary?region=eu central",
            "dynamodb://canary?region=a&namespace=",
            "dynamodb://canary?region=a&namespace=a/b",
            "dynamodb://canary?region=a&canary=1",
            "dynamodb://canary?region=a&endpoint=127.0.0.1:8000",
            "dynamodb://canary?region=a&endpoint=http://",
            "dynamodb://canary?region=a&endpoint=http://canary:canary@h",
            "dynamodb://canary?region=a&endpoint=http://h/canary",
        ] {
            let error = DynamoDbConfig::new(url).expect_err(url);
            assert!(matches!(error, DynamoDbError::Url(_)), "{url}: {error:?}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
    }
}
