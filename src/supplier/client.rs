//! The two HTTP clients: one that sends orders, one that reads. The only code that opens sockets
//! to a supplier.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method};
use http_body::{Body, Frame, SizeHint};
use reqwest::{Client, Request, Response, Url, redirect, retry};
use secrecy::ExposeSecret;

use super::foxreload::{InvalidSetting, Settings};
use super::gate::Gate;
use super::key::ApiKey;
use crate::protocol::Why;
use crate::runtime::Clock;
use crate::tls::{NoTls, Roots};

/// The bytes of one order, behind their gate.
///
/// hyper asks a body for its first bytes before it flushes the head. A body that answers with an
/// error there leaves nothing on the wire.
struct GatedBody {
    bytes: Option<Bytes>,
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    done: bool,
}

/// The gate yielded nothing.
#[derive(Debug, thiserror::Error)]
#[error("the gate is closed")]
struct TooLate;

impl Body for GatedBody {
    type Data = Bytes;
    type Error = TooLate;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TooLate>>> {
        if self.done {
            return Poll::Ready(None);
        }
        match self.bytes.take() {
            Some(bytes) if self.gate.ask(self.clock.now()) => {
                self.done = true;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            // Asked again after a refusal it refuses again: it never looks like an empty body.
            Some(_) | None => Poll::Ready(Some(Err(TooLate))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Sends requests with one set of headers.
pub(super) struct Http {
    client: Client,
    headers: HeaderMap,
    clock: Arc<dyn Clock>,
}

impl Http {
    /// The client of orders: no time limit but that of connecting, nothing repeated or followed.
    pub(super) fn orders(
        settings: &Settings,
        tls: rustls::ClientConfig,
        key: &ApiKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidSetting> {
        let mut headers = common_headers(key)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let client = plain(settings, tls)?;
        #[cfg(target_os = "linux")]
        let client = client.tcp_user_timeout(settings.wire_bound);
        Ok(Self { client: build(client)?, headers, clock })
    }

    /// The client of reading requests: past caches, with a total time limit.
    pub(super) fn reads(
        settings: &Settings,
        tls: rustls::ClientConfig,
        key: &ApiKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidSetting> {
        let mut headers = common_headers(key)?;
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let client = plain(settings, tls)?.timeout(settings.read_timeout);
        Ok(Self { client: build(client)?, headers, clock })
    }

    /// Sends one order through its gate.
    pub(super) async fn post(
        &self,
        url: &Url,
        bytes: Bytes,
        gate: Arc<Gate>,
    ) -> Result<Response, reqwest::Error> {
        let clock = Arc::clone(&self.clock);
        let body = GatedBody { bytes: Some(bytes), gate, clock, done: false };
        let mut request = Request::new(Method::POST, url.clone());
        *request.headers_mut() = self.headers.clone();
        *request.body_mut() = Some(reqwest::Body::wrap(body));
        self.client.execute(request).await
    }

    /// Asks for something.
    pub(super) async fn get(&self, url: Url) -> Result<Response, reqwest::Error> {
        let mut request = Request::new(Method::GET, url);
        *request.headers_mut() = self.headers.clone();
        self.client.execute(request).await
    }

    /// The wall clock, for a `Retry-After` that is a date.
    pub(super) fn wall(&self) -> jiff::Timestamp {
        self.clock.wall()
    }
}

fn common_headers(key: &ApiKey) -> Result<HeaderMap, InvalidSetting> {
    let mut value = HeaderValue::from_str(key.expose()).map_err(|_| InvalidSetting::Key)?;
    value.set_sensitive(true);
    let mut headers = HeaderMap::with_capacity(5);
    headers.insert(HeaderName::from_static("x-api-key"), value);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let agent = concat!("order-router/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    Ok(headers)
}

/// What both clients have in common.
fn plain(
    settings: &Settings,
    tls: rustls::ClientConfig,
) -> Result<reqwest::ClientBuilder, InvalidSetting> {
    let mut client = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .http1_only()
        .tcp_nodelay(true)
        .no_proxy()
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(settings.pool_idle_timeout)
        .pool_max_idle_per_host(settings.pool_max_idle);
    if let Some(proxy) = &settings.proxy {
        // Of another kind it would be left out in silence, and the key would go straight there.
        let url = reqwest::Url::parse(proxy.expose_secret()).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let proxy = reqwest::Proxy::all(url.ok_or(InvalidSetting::Proxy)?);
        client = client.proxy(proxy.map_err(|_| InvalidSetting::Proxy)?);
    }
    Ok(client)
}

fn build(client: reqwest::ClientBuilder) -> Result<Client, InvalidSetting> {
    client.build().map_err(|error| InvalidSetting::Client(reason(&error)))
}

/// TLS by rustls over ring, with the system's roots, or with the given ones alone.
///
/// Without TLS in sight the system's roots are not read.
pub(super) fn tls(
    settings: &Settings,
    needed: bool,
) -> Result<rustls::ClientConfig, InvalidSetting> {
    let roots = match &settings.root_certificates {
        Some(pem) => Roots::Pem(pem),
        None if needed => Roots::System,
        None => Roots::None,
    };
    let mut config = crate::tls::client(roots).map_err(|error| match error {
        NoTls::Roots => InvalidSetting::RootCertificates,
        NoTls::Rustls(error) => InvalidSetting::Tls(error),
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Why a body is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoBody {
    /// Longer than the cap.
    TooLong,
    /// It ended before its end.
    Cut(Why),
}

/// Reads a body by chunks, up to the cap.
pub(super) async fn body(mut response: Response, bytes_max: usize) -> Result<Bytes, NoBody> {
    if response.content_length().is_some_and(|length| length > bytes_max as u64) {
        return Err(NoBody::TooLong);
    }
    let mut whole = Bytes::new();
    let mut more = BytesMut::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| NoBody::Cut(reason(&error)))?;
        let Some(chunk) = chunk else {
            break;
        };
        if whole.len() + more.len() + chunk.len() > bytes_max {
            return Err(NoBody::TooLong);
        }
        // Most bodies come in one chunk, which need not be copied.
        if whole.is_empty() && more.is_empty() {
            whole = chunk;
        } else {
            more.extend_from_slice(&std::mem::take(&mut whole));
            more.extend_from_slice(&chunk);
        }
    }
    Ok(if more.is_empty() { whole } else { more.freeze() })
}

/// What the causes of an error have in them.
#[derive(Default)]
struct Causes {
    too_late: bool,
    tls: bool,
    dns: bool,
    incomplete: bool,
    kind: Option<io::ErrorKind>,
}

impl Causes {
    fn of(error: &reqwest::Error) -> Self {
        let mut causes = Self::default();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.look_at(cause);
            source = cause.source();
        }
        causes
    }

    fn look_at(&mut self, cause: &(dyn Error + 'static)) {
        self.too_late |= cause.is::<TooLate>();
        self.tls |= cause.is::<rustls::Error>();
        let words = cause.to_string();
        self.dns |= words.starts_with("dns error");
        self.incomplete |= words.starts_with("connection closed before message completed");
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            self.kind = Some(error.kind());
            // What an I/O error wraps is not its source.
            if let Some(inner) = error.get_ref() {
                self.look_at(inner);
            }
        }
    }
}

/// What broke, in a word of our own. Errors of libraries are never shown: they hold addresses.
pub(super) fn reason(error: &reqwest::Error) -> Why {
    let causes = Causes::of(error);
    let word = match causes.kind {
        _ if causes.too_late => "too late",
        _ if causes.tls => "tls",
        _ if causes.dns => "dns",
        _ if error.is_timeout() && error.is_connect() => "connect timeout",
        Some(io::ErrorKind::ConnectionRefused) => "connection refused",
        _ if error.is_connect() => "connect",
        _ if error.is_timeout() => "timeout",
        Some(io::ErrorKind::TimedOut) => "timeout",
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted) => "reset",
        Some(io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof) => "closed",
        _ if causes.incomplete => "closed",
        _ if error.is_body() || error.is_decode() => "cut",
        _ => "no understandable answer",
    };
    word.into()
}

/// The longest time limit that is taken: a day. Longer ones are typing errors.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
