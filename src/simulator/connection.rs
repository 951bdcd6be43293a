//! HTTP/1.1 on one connection, written by hand: a fault has to say when bytes leave, how many of
//! them, and how the socket ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use super::account::Shared;
use super::api::{self, Reply, Step, Then};
use super::head::{Body, Head, chunked};
use super::order::write_number;
use super::time::DateHeader;
use super::{admin, head};

const HEAD_BYTES_MAX: usize = 32 * 1024;
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Entries of the ledger that are made under one lock.
const LEDGER_CHUNK: usize = 512;

/// Which of the two ports a connection came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Supplier,
    Admin,
}

/// Counts a connection as open while it lives.
struct Open(Arc<Shared>);

impl Open {
    fn count(shared: &Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        shared.open_connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What follows after one request.
enum Next {
    Request,
    Close,
    /// The client has gone; its order is yet to be created.
    Land(Instant, api::Landing),
}

struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
    side: Side,
    input: Vec<u8>,
    /// The body of a chunked request.
    decoded: Vec<u8>,
    output: Vec<u8>,
    reply: Reply,
    date: DateHeader,
}

/// Serves one connection until it ends, and lands what was still to land.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>, side: Side) {
    let open = (side == Side::Supplier).then(|| Open::count(&shared));
    // An answer that waits for its acknowledgement would only look like latency.
    let _ = stream.set_nodelay(true);
    let mut connection = Connection {
        stream,
        shared: Arc::clone(&shared),
        side,
        input: Vec::with_capacity(4096),
        decoded: Vec::new(),
        output: Vec::with_capacity(4096),
        reply: Reply::default(),
        date: DateHeader::new(),
    };
    loop {
        // An error on the socket is the client's leaving: there is nobody to tell.
        match connection.exchange().await.unwrap_or(Next::Close) {
            Next::Request => {}
            Next::Close => return,
            Next::Land(at, landing) => {
                drop(connection);
                drop(open);
                sleep_until(at).await;
                api::land(&shared, landing, &mut Reply::default());
                return;
            }
        }
    }
}

impl Connection {
    /// Reads one request and does what it brings about.
    async fn exchange(&mut self) -> io::Result<Next> {
        let Some(head) = self.read_head().await? else {
            return Ok(Next::Close);
        };
        let consumed = match self.read_body(&head).await? {
            Some(consumed) => consumed,
            None => {
                self.reply.reset();
                self.reply.error(413, "TOO_LARGE", "the body is malformed or too large");
                self.send(false, None).await?;
                return Ok(Next::Close);
            }
        };
        let step = self.handle(&head, consumed);
        self.input.drain(..consumed);
        if !step.delay.is_zero() {
            sleep(step.delay).await;
        }
        match step.then {
            Then::Send => self.send(head.keep_alive, None).await?,
            Then::Ledger => self.send_ledger(head.keep_alive).await?,
            Then::Cut => {
                let half = self.reply.body.len() / 2;
                self.send(head.keep_alive, Some(half)).await?;
                self.stream.shutdown().await?;
                return Ok(Next::Close);
            }
            Then::Reset => {
                self.stream.set_zero_linger()?;
                return Ok(Next::Close);
            }
            Then::Hold(limit) => {
                tokio::select! {
                    () = sleep(limit) => {}
                    () = self.client_gone() => {}
                }
                return Ok(Next::Close);
            }
            Then::Land(after, landing) => {
                let at = Instant::now() + after;
                let gone = tokio::select! {
                    () = sleep_until(at) => false,
                    () = self.client_gone() => true,
                };
                if gone {
                    return Ok(Next::Land(at, landing));
                }
                api::land(&self.shared, landing, &mut self.reply);
                self.send(head.keep_alive, None).await?;
            }
        }
        Ok(if head.keep_alive { Next::Request } else { Next::Close })
    }

    fn handle(&mut self, head: &Head, consumed: usize) -> Step {
        let body = match head.body {
            Body::Length(_) => &self.input[head.bytes..consumed],
            Body::Chunked => &self.decoded,
        };
        let Some(request) = head.request(&self.input, body) else {
            self.reply.reset();
            self.reply.error(400, "BAD_REQUEST", "the request target is no text");
            return Step::now();
        };
        match self.side {
            Side::Supplier => api::handle(&self.shared, &request, &mut self.reply),
            Side::Admin => admin::handle(&self.shared, &request, &mut self.reply),
        }
    }

    /// The next head; `None` when the client closed in between, or sent what is no head.
    async fn read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if !self.input.is_empty() {
                match head::parse(&self.input) {
                    Ok(Some(head)) => return Ok(Some(head)),
                    Ok(None) if self.input.len() <= HEAD_BYTES_MAX => {}
                    Ok(None) | Err(()) => {
                        self.reply.reset();
                        self.reply.error(400, "BAD_REQUEST", "this is no HTTP/1.1 request");
                        self.send(false, None).await?;
                        return Ok(None);
                    }
                }
            }
            if self.read().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads the whole body and says where the request ends; `None` when it is none, or too long.
    async fn read_body(&mut self, head: &Head) -> io::Result<Option<usize>> {
        let mut asked_for = !head.expects_continue;
        loop {
            let end = match head.body {
                Body::Length(length) if length > BODY_BYTES_MAX => return Ok(None),
                Body::Length(length) => {
                    Some(head.bytes + length).filter(|end| *end <= self.input.len())
                }
                Body::Chunked => match chunked(&self.input[head.bytes..], &mut self.decoded) {
                    Ok(end) => end.map(|end| head.bytes + end),
                    Err(()) => return Ok(None),
                },
            };
            if end.is_some() {
                return Ok(end);
            }
            if self.input.len() > head.bytes + 2 * BODY_BYTES_MAX {
                return Ok(None);
            }
            if !asked_for {
                asked_for = true;
                self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            if self.read().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        if self.input.capacity() - self.input.len() < 1024 {
            self.input.reserve(4096);
        }
        self.stream.read_buf(&mut self.input).await
    }

    /// Comes back when the client has closed or reset the connection.
    async fn client_gone(&mut self) {
        loop {
            match self.read().await {
                Ok(0) | Err(_) => return,
                Ok(_) if self.input.len() > BODY_BYTES_MAX => return,
                Ok(_) => {}
            }
        }
    }

    /// Sends the reply, or only so many bytes of the body that its head announces.
    async fn send(&mut self, keep_alive: bool, cut: Option<usize>) -> io::Result<()> {
        self.write_head(keep_alive, Some(self.reply.body.len()));
        let body = &self.reply.body[..cut.unwrap_or(self.reply.body.len())];
        self.output.extend_from_slice(body);
        self.stream.write_all(&self.output).await
    }

    fn write_head(&mut self, keep_alive: bool, length: Option<usize>) {
        let (out, reply) = (&mut self.output, &self.reply);
        out.clear();
        out.extend_from_slice(b"HTTP/1.1 ");
        write_number(out, u64::from(reply.status));
        out.push(b' ');
        out.extend_from_slice(reason(reply.status).as_bytes());
        out.extend_from_slice(b"\r\ndate: ");
        out.extend_from_slice(self.date.at(self.shared.clock.now()));
        out.extend_from_slice(match reply.html {
            true => b"\r\ncontent-type: text/html".as_slice(),
            false => b"\r\ncontent-type: application/json",
        });
        if let Some(seconds) = reply.retry_after {
            out.extend_from_slice(b"\r\nretry-after: ");
            write_number(out, u64::from(seconds));
        }
        if let Some(seconds) = reply.age {
            out.extend_from_slice(b"\r\nage: ");
            write_number(out, seconds);
        }
        if let Some(requests) = self.shared.contract.rate_limit_header {
            out.extend_from_slice(b"\r\nx-ratelimit-limit: ");
            write_number(out, u64::from(requests));
        }
        if let Some(location) = reply.location {
            out.extend_from_slice(b"\r\nlocation: ");
            out.extend_from_slice(location.as_bytes());
        }
        if !keep_alive {
            out.extend_from_slice(b"\r\nconnection: close");
        }
        match length {
            Some(length) => {
                out.extend_from_slice(b"\r\ncontent-length: ");
                write_number(out, length as u64);
            }
            None => out.extend_from_slice(b"\r\ntransfer-encoding: chunked"),
        }
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// Streams the ledger as one JSON array, with the lock held for a part of it at a time.
    async fn send_ledger(&mut self, keep_alive: bool) -> io::Result<()> {
        let total = self.shared.account().rows.len();
        self.write_head(keep_alive, None);
        self.stream.write_all(&self.output).await?;
        for from in (0..total).step_by(LEDGER_CHUNK) {
            let entries = self.shared.ledger(from, LEDGER_CHUNK.min(total - from));
            let body = &mut self.reply.body;
            body.clear();
            for (n, entry) in entries.iter().enumerate() {
                body.extend_from_slice(if from + n == 0 { b"[\n" } else { b",\n" });
                serde_json::to_writer(&mut *body, entry)
                    .expect("an entry has only text keys, and a Vec takes every write");
            }
            self.send_chunk().await?;
        }
        self.reply.body.clear();
        self.reply.body.extend_from_slice(if total == 0 { b"[]\n" } else { b"\n]\n" });
        self.send_chunk().await?;
        self.stream.write_all(b"0\r\n\r\n").await
    }

    async fn send_chunk(&mut self) -> io::Result<()> {
        self.output.clear();
        self.output.extend_from_slice(format!("{:x}\r\n", self.reply.body.len()).as_bytes());
        self.output.extend_from_slice(&self.reply.body);
        self.output.extend_from_slice(b"\r\n");
        self.stream.write_all(&self.output).await
    }
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("")
}

/// Serves every connection of one port; ends, with all of them, when it is aborted.
pub(super) async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>, side: Side) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&shared), side));
                }
                // Out of file descriptors: they come back as connections end.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
