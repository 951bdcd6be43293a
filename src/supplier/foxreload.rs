//! FoxReload's interface, and any like it: every point where suppliers differ is a setting.
//!
//! # What is set, and why
//! Nobody documents some of what the router must know. Each such point has a field in
//! [`Settings`], with the most careful value that is likely to work as its default:
//!
//! | what | fields | if it is wrong |
//! |---|---|---|
//! | where | [`orders_path`](Settings::orders_path), [`order_path`](Settings::order_path), [`pay_path`](Settings::pay_path), [`balances_path`](Settings::balances_path) | redirects, which are never followed and pause the account |
//! | the list | [`list_envelope`](Settings::list_envelope), [`list_total`](Settings::list_total), [`list_query`](Settings::list_query), [`paging`](Settings::paging), [`page_limit`](Settings::page_limit), [`newest_first`](Settings::newest_first) | pages are not understood: no evidence, never an empty list |
//! | an order | [`evidence`](Settings::evidence) (with its `format`), [`echo`](Settings::echo) | rows are not understood, or answers are `Unknown` until a list decides |
//! | the balances | [`balance_currency`](Settings::balance_currency), [`balance_amount`](Settings::balance_amount) | balances are not understood: an alarm, never zero |
//! | sockets | [`connect_timeout`](Settings::connect_timeout), [`wire_bound`](Settings::wire_bound), [`read_timeout`](Settings::read_timeout), [`pool_idle_timeout`](Settings::pool_idle_timeout), [`pool_max_idle`](Settings::pool_max_idle) | more orders in doubt than necessary |
//! | memory | [`answer_bytes_max`](Settings::answer_bytes_max), [`page_bytes_max`](Settings::page_bytes_max) | answers over the cap are no answers |
//! | the way there | [`root_certificates`](Settings::root_certificates), [`proxy`](Settings::proxy), [`allow_http`](Settings::allow_http) | no connection |
//! | identity | [`account`](Settings::account), [`mock`](Settings::mock) | lists of another account are taken for this one's |
//!
//! # What is not a setting
//! Orders go out over HTTP/1.1, once: no redirect is followed, nothing is sent again, no proxy is
//! taken from the environment, no cookie is kept. Reading requests are not repeated either: whoever
//! asks decides. The key goes into one header and into the fingerprint, nowhere else.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use reqwest::Url;
use secrecy::SecretString;

use super::client::{self, Http, NoBody, TIMEOUT_MAX};
use super::gate::Gate;
use super::key::{ApiKey, account, fingerprint};
use super::wire::{self, ListEnvelope, PageReader};
use super::{
    AccountId, Capabilities, Exchange, Fetched, Page, PageRequest, ReadError, Supplier,
    WIRE_BOUND_WITHOUT_LIMIT,
};
use crate::money::Balance;
use crate::order::{EchoProfile, Item, OrderId};
use crate::protocol::evidence::{EvidencePolicy, is_json_error};
use crate::protocol::{Fingerprint, Why};
use crate::runtime::Clock;

mod posts;
#[cfg(feature = "cli")]
pub(crate) mod raw;

/// FoxReload's public address.
pub const BASE_URL: &str = "https://public-api.foxreload.com";

/// How a page of the list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paging {
    /// By the number of rows to skip.
    Offset {
        /// The parameter of the rows to skip. Default: `offset`.
        offset: Cow<'static, str>,
        /// The parameter of the rows to show. Default: `limit`.
        limit: Cow<'static, str>,
    },
    /// By the number of the page. The page that holds the row asked for is asked for, and all its
    /// rows are handed on: it may begin before that row, never after it.
    Page {
        /// The parameter of the page's number.
        page: Cow<'static, str>,
        /// The parameter of the rows to show.
        limit: Cow<'static, str>,
        /// The number of the first page.
        first: u64,
    },
}

impl Default for Paging {
    fn default() -> Self {
        Self::Offset { offset: "offset".into(), limit: "limit".into() }
    }
}

/// Every point where suppliers differ or nobody documents what holds; see the module.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct Settings {
    /// Path of the POST and of the list, to the letter. Default: `/api/orders`. A slash too many is
    /// answered with a redirect, which pauses the account.
    pub orders_path: Cow<'static, str>,
    /// Path of one order, with `{id}` in it. Default: `/api/orders/{id}`.
    pub order_path: Cow<'static, str>,
    /// Path of the payment of one order, with `{id}` in it. Default: `/api/orders/{id}/pay`.
    pub pay_path: Cow<'static, str>,
    /// Path of the balances. Default: `/api/access/me/balances/`.
    pub balances_path: Cow<'static, str>,
    /// Where a balance names its currency: keys joined by a dot. Default: `currency`.
    pub balance_currency: Cow<'static, str>,
    /// Where a balance has its amount, a number or a string: keys joined by a dot. All that are present
    /// must say the same. Default: `amount` and `balance`.
    pub balance_amount: Vec<Cow<'static, str>>,
    /// Where the rows are in a page. Default: under `orders`.
    pub list_envelope: ListEnvelope,
    /// The key of the number of all rows, where a page shows it. Default: `total`.
    pub list_total: Cow<'static, str>,
    /// Further parameters of the list, a sort order for instance. Default: none. A status filter
    /// hides orders that were bought: never set one.
    pub list_query: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// How pages are asked for. Default: `offset` and `limit`.
    pub paging: Paging,
    /// Rows asked for at once. Default: 100. A supplier that shows fewer costs requests only.
    pub page_limit: u32,
    /// The list begins with the newest order. Default: yes.
    pub newest_first: bool,
    /// Which fields of the items the list shows again. Default: quantities, no notes. It cannot
    /// change while attempts are open.
    pub echo: EchoProfile,
    /// How an order is written and what doubtful answers mean. Whoever judges answers must use
    /// the same: [`Supplier::evidence_policy`] hands it out.
    pub evidence: EvidencePolicy,
    /// Orders are sent as test orders (`isMock`), which cost nothing. Default: no.
    pub mock: bool,
    /// How long connecting may take, TLS included. Default: 5 s. An order that gets no connection
    /// was not sent. Keep it below the request timeout.
    pub connect_timeout: Duration,
    /// How long bytes of an order may stay unacknowledged before the kernel gives the connection
    /// up (`TCP_USER_TIMEOUT`, Linux only). Default: 10 s. At most the request timeout: without it
    /// the kernel goes on sending for minutes, and doubts last as long, as they do behind a proxy:
    /// see [`Supplier::wire_bound`].
    pub wire_bound: Duration,
    /// How long a reading request may take in all. Default: 30 s.
    pub read_timeout: Duration,
    /// How long a connection may be idle before it is not used again. Default: 4 s, under the
    /// 5 s of the shortest common server default: an order sent into a connection that the
    /// supplier is closing is in doubt although it never landed.
    pub pool_idle_timeout: Duration,
    /// How many idle connections are kept. Default: 1,024.
    pub pool_max_idle: usize,
    /// Longest answer to an order, in bytes. Default: 1 MiB. A longer one is no answer: in doubt.
    pub answer_bytes_max: usize,
    /// Longest answer to a reading request, in bytes. Default: 16 MiB.
    pub page_bytes_max: usize,
    /// The only certificate authorities that are trusted, as PEM. Default: those of the system.
    pub root_certificates: Option<String>,
    /// The proxy that everything goes through, an http or https URL. Default: none; those of the environment are never
    /// used. A proxy that repeats requests buys twice.
    pub proxy: Option<SecretString>,
    /// Takes a base URL without TLS although it is not this machine. Default: no. Whoever listens
    /// then has the key and the codes.
    pub allow_http: bool,
    /// A name for the account, part of the fingerprint. Default: empty. Change it when the same
    /// address and key come to mean another account. Routers that share a store take each other's
    /// orders if they have the same address and name; without a name, only if they have the same key.
    pub account: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            orders_path: "/api/orders".into(),
            order_path: "/api/orders/{id}".into(),
            pay_path: "/api/orders/{id}/pay".into(),
            balances_path: "/api/access/me/balances/".into(),
            balance_currency: "currency".into(),
            balance_amount: vec!["amount".into(), "balance".into()],
            list_envelope: ListEnvelope::Key("orders".into()),
            list_total: "total".into(),
            list_query: Vec::new(),
            paging: Paging::default(),
            page_limit: 100,
            newest_first: true,
            echo: EchoProfile::default(),
            evidence: EvidencePolicy::default(),
            mock: false,
            connect_timeout: Duration::from_secs(5),
            wire_bound: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            pool_idle_timeout: Duration::from_secs(4),
            pool_max_idle: 1024,
            answer_bytes_max: 1 << 20,
            page_bytes_max: 16 << 20,
            root_certificates: None,
            proxy: None,
            allow_http: false,
            account: String::new(),
        }
    }
}

/// Why a client cannot be built. Nothing was sent.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum InvalidSetting {
    /// The base URL is no `http` or `https` address without user, query and fragment.
    #[error("base URL must be http or https, with a host, without user, query and fragment")]
    BaseUrl,
    /// The base URL has no TLS and is not this machine.
    #[error("base URL must be https: over http the key and the codes can be read by others")]
    HttpsRequired,
    /// A path does not begin with a slash, has a query, or the path of one order has no `{id}`.
    #[error("{0} must begin with a slash and have no query, and that of one order an {{id}}")]
    Path(&'static str),
    /// A limit is zero or absurd.
    #[error("{0} is out of range")]
    Range(&'static str),
    /// The key cannot be sent in a header.
    #[error("the key cannot be sent in a header")]
    Key,
    /// The proxy is no http or https URL.
    #[error("the proxy is no http or https URL")]
    Proxy,
    /// The root certificates are no PEM, or there is none in it.
    #[error("the root certificates cannot be read")]
    RootCertificates,
    /// TLS cannot be set up, for want of the system's roots for instance.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(Why),
}

/// One account at FoxReload, or at a supplier like it.
#[derive(Clone)]
pub struct FoxReload(Arc<Inner>);

struct Inner {
    base: String,
    orders_url: Url,
    settings: Settings,
    reader: PageReader,
    fingerprint: Fingerprint,
    account: AccountId,
    orders: Http,
    reads: Http,
}

impl fmt::Debug for FoxReload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FoxReload({}, {:?})", self.0.base, self.0.fingerprint)
    }
}

impl FoxReload {
    /// A client of the account that `key` opens. Opens no connection.
    ///
    /// `clock` must be the clock that the gates' windows are counted by.
    ///
    /// # Errors
    /// [`InvalidSetting`], which says what to change.
    pub fn new(
        base_url: &str,
        key: &ApiKey,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidSetting> {
        let base = base(base_url, settings.allow_http)?;
        check(&settings)?;
        let orders_url = join(&base, &settings.orders_path)?;
        let over_tls = base.starts_with("https") || settings.proxy.is_some();
        let tls = client::tls(&settings, over_tls)?;
        let orders = Http::orders(&settings, tls.clone(), key, Arc::clone(&clock))?;
        let reads = Http::reads(&settings, tls, key, clock)?;
        let reader = PageReader {
            envelope: settings.list_envelope.clone(),
            total: settings.list_total.clone(),
            offset: match &settings.paging {
                Paging::Offset { offset, .. } => Some(offset.clone()),
                Paging::Page { .. } => None,
            },
            format: settings.evidence.format.clone(),
            echo: settings.echo,
        };
        let fingerprint = fingerprint(key, &base, &settings.account);
        let account = account(&base, &settings.account, fingerprint);
        let inner =
            Inner { base, orders_url, settings, reader, fingerprint, account, orders, reads };
        Ok(Self(Arc::new(inner)))
    }
}

pub(crate) fn base(base_url: &str, allow_http: bool) -> Result<String, InvalidSetting> {
    let url = Url::parse(base_url).map_err(|_| InvalidSetting::BaseUrl)?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    if !url.has_host() || has_user || url.query().is_some() || url.fragment().is_some() {
        return Err(InvalidSetting::BaseUrl);
    }
    match url.scheme() {
        "https" => {}
        "http" if allow_http || is_on_this_machine(&url) => {}
        "http" => return Err(InvalidSetting::HttpsRequired),
        _ => return Err(InvalidSetting::BaseUrl),
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Whether a base URL names this machine, as those read it who connect to it.
#[cfg(feature = "cli")]
pub(crate) fn is_loopback(base_url: &str) -> bool {
    Url::parse(base_url).is_ok_and(|url| is_on_this_machine(&url))
}

fn is_on_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
}

fn join(base: &str, path: &str) -> Result<Url, InvalidSetting> {
    Url::parse(&format!("{base}{path}")).map_err(|_| InvalidSetting::BaseUrl)
}

pub(crate) fn check(settings: &Settings) -> Result<(), InvalidSetting> {
    let paths = [
        ("orders_path", &settings.orders_path),
        ("order_path", &settings.order_path),
        ("pay_path", &settings.pay_path),
        ("balances_path", &settings.balances_path),
    ];
    for (name, path) in paths {
        let wants_id = matches!(name, "order_path" | "pay_path");
        let plain = path.starts_with('/') && !path.contains(['?', '#']) && !path.contains("/../");
        if !plain || path.contains("{id}") != wants_id {
            return Err(InvalidSetting::Path(name));
        }
    }
    let spans = [
        ("connect_timeout", settings.connect_timeout),
        ("wire_bound", settings.wire_bound),
        ("read_timeout", settings.read_timeout),
    ];
    for (name, span) in spans {
        // The kernel counts the wire bound in whole milliseconds, and zero means for ever.
        if span < Duration::from_millis(1) || span > TIMEOUT_MAX {
            return Err(InvalidSetting::Range(name));
        }
    }
    let numbers = [
        ("page_limit", settings.page_limit as usize),
        ("answer_bytes_max", settings.answer_bytes_max),
        ("page_bytes_max", settings.page_bytes_max),
    ];
    match numbers.iter().find(|(_, number)| *number == 0) {
        Some((name, _)) => Err(InvalidSetting::Range(name)),
        None => Ok(()),
    }
}

impl Inner {
    fn url(&self, path: &str) -> Result<Url, ReadError> {
        join(&self.base, path).map_err(|_| ReadError::NotUnderstood("no address".into()))
    }

    /// Reads something, if it is understood as an answer at all.
    async fn read(&self, url: Url) -> Result<(HeaderMap, Bytes), ReadError> {
        let mut response =
            self.reads.get(url).await.map_err(|error| ReadError::Broken(client::reason(&error)))?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        tracing::debug!(status = status.as_u16(), "a reading request was answered");
        let body = client::body(response, self.settings.page_bytes_max).await;
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(ReadError::RateLimited(wire::retry_after(&headers, || self.reads.wall())));
        }
        let body = body.map_err(|no_body| match no_body {
            NoBody::TooLong => ReadError::NotUnderstood("an answer over the cap".into()),
            NoBody::Cut(why) => ReadError::Broken(why),
        });
        match status {
            StatusCode::OK if wire::is_cached(&headers) => Err(ReadError::Cached),
            StatusCode::OK => Ok((headers, body?)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => match is_json_error(&body?) {
                true => Err(ReadError::KeyRefused(status.as_u16())),
                false => Err(ReadError::Status(status.as_u16())),
            },
            _ => Err(ReadError::Status(status.as_u16())),
        }
    }

    /// The parameters that ask for a page.
    fn page_query(&self, request: PageRequest) -> [(&str, u64); 2] {
        let rows = u64::from(request.limit);
        match &self.settings.paging {
            Paging::Offset { offset, limit } => [(limit, rows), (offset, request.offset)],
            Paging::Page { page, limit, first } => {
                [(limit, rows), (page, first + request.offset / rows.max(1))]
            }
        }
    }

    fn list_url(&self, request: PageRequest) -> Url {
        let mut url = self.orders_url.clone();
        let mut query = url.query_pairs_mut();
        query.extend_pairs(&self.settings.list_query);
        for (name, value) in self.page_query(request) {
            query.append_pair(name, &value.to_string());
        }
        drop(query);
        url
    }

    async fn balances(&self) -> Result<Vec<Balance>, ReadError> {
        let Settings { balances_path, balance_currency, balance_amount, .. } = &self.settings;
        let (_, body) = self.read(self.url(balances_path)?).await?;
        wire::balances(&body, balance_currency, balance_amount)
    }

    async fn list(&self, request: PageRequest) -> Result<Page, ReadError> {
        let (headers, body) = self.read(self.list_url(request)).await?;
        let page = self.reader.read(&body, request.offset)?;
        Ok(Page { date: wire::date(&headers), ..page })
    }

    async fn fetch(&self, id: &OrderId) -> Result<Fetched, ReadError> {
        let segment = wire::segment(id)
            .ok_or_else(|| ReadError::NotUnderstood("an id that fits no path".into()))?;
        let url = self.url(&self.settings.order_path.replace("{id}", &segment))?;
        let read = self.read(url).await.map_err(|error| match error {
            ReadError::Status(404) => ReadError::NotFound,
            other => other,
        });
        let (_, raw) = read?;
        Ok(Fetched { row: self.reader.order(&raw, id)?, raw })
    }
}

impl Supplier for FoxReload {
    fn capabilities(&self) -> Capabilities {
        let Settings { echo, newest_first, page_limit, .. } = self.0.settings;
        Capabilities { echo, newest_first, page_limit }
    }

    fn wire_bound(&self) -> Duration {
        // Behind a proxy the last socket is not ours.
        match cfg!(target_os = "linux") && self.0.settings.proxy.is_none() {
            true => self.0.settings.wire_bound,
            false => WIRE_BOUND_WITHOUT_LIMIT,
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    fn account(&self) -> AccountId {
        self.0.account
    }

    fn evidence_policy(&self) -> EvidencePolicy {
        self.0.settings.evidence.clone()
    }

    fn place(&self, items: Arc<[Item]>, gate: Arc<Gate>) -> BoxFuture<'static, Exchange> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.place(&items, gate).await })
    }

    fn can_pay(&self) -> bool {
        true
    }

    fn pay(&self, id: OrderId, gate: Arc<Gate>) -> BoxFuture<'static, Exchange> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.pay(&id, gate).await })
    }

    fn has_balances(&self) -> bool {
        true
    }

    fn balances(&self) -> BoxFuture<'static, Result<Vec<Balance>, ReadError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.balances().await })
    }

    fn list(&self, page: PageRequest) -> BoxFuture<'static, Result<Page, ReadError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.list(page).await })
    }

    fn fetch(&self, id: OrderId) -> BoxFuture<'static, Result<Fetched, ReadError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.fetch(&id).await })
    }
}
