//! A supplier on a raw socket: answers by a script, keeps what it saw.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;

/// What it does once it has read a whole request.
#[derive(Clone)]
pub enum Reply {
    /// Writes this and goes on with the connection.
    Keep(String),
    /// Writes this and closes the connection.
    Close(String),
    /// Resets the connection.
    Reset,
    /// Writes the first, waits, writes the second.
    Slow(String, Arc<Notify>, String),
}

/// What it has seen.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// A whole request: head and body.
    Request(String, String),
    /// A connection ended, after so many bytes of the client's.
    Ended(usize),
}

/// The supplier.
pub struct Fake {
    pub address: SocketAddr,
    pub seen: mpsc::UnboundedReceiver<Seen>,
}

type Script = Arc<Mutex<VecDeque<Reply>>>;

impl Fake {
    pub async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::start_with(script, None).await
    }

    pub async fn start_with(
        script: impl IntoIterator<Item = Reply>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let script: Script = Arc::new(Mutex::new(script.into_iter().collect()));
        let (tell, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(connection(socket, tls.clone(), script.clone(), tell.clone()));
            }
        });
        Self { address, seen }
    }

    pub fn http(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn https(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// The next thing it sees.
    pub async fn next(&mut self) -> Seen {
        self.seen.recv().await.expect("the supplier goes on")
    }

    /// The next request.
    pub async fn request(&mut self) -> (String, String) {
        match self.next().await {
            Seen::Request(head, body) => (head, body),
            Seen::Ended(bytes) => panic!("no request, but an end after {bytes} bytes"),
        }
    }

    /// Whether it has seen nothing more.
    pub fn is_quiet(&mut self) -> bool {
        self.seen.try_recv().is_err()
    }
}

async fn connection(
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    script: Script,
    tell: mpsc::UnboundedSender<Seen>,
) {
    let bytes = match tls {
        None => {
            let (socket, bytes, reset) = serve(socket, &script, &tell).await;
            if reset {
                socket.set_zero_linger().expect("a socket");
            }
            bytes
        }
        Some(tls) => match tls.accept(socket).await {
            Ok(socket) => serve(socket, &script, &tell).await.1,
            Err(_) => 0,
        },
    };
    let _ = tell.send(Seen::Ended(bytes));
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: S,
    script: &Script,
    tell: &mpsc::UnboundedSender<Seen>,
) -> (S, usize, bool) {
    let mut total = 0;
    let mut buffer = Vec::new();
    loop {
        let Some((head, body)) = request(&mut socket, &mut buffer, &mut total).await else {
            return (socket, total, false);
        };
        let _ = tell.send(Seen::Request(head, body));
        let reply = script.lock().expect("a script").pop_front().expect("a reply for it");
        match reply {
            Reply::Keep(text) => socket.write_all(text.as_bytes()).await.expect("written"),
            Reply::Close(text) => {
                let _ = socket.write_all(text.as_bytes()).await;
                let _ = socket.shutdown().await;
                return (socket, total, false);
            }
            Reply::Reset => return (socket, total, true),
            Reply::Slow(first, wait, second) => {
                socket.write_all(first.as_bytes()).await.expect("written");
                wait.notified().await;
                socket.write_all(second.as_bytes()).await.expect("written");
            }
        }
    }
}

async fn request<S: AsyncRead + Unpin>(
    socket: &mut S,
    buffer: &mut Vec<u8>,
    total: &mut usize,
) -> Option<(String, String)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).expect("ASCII");
            let length =
                header(&head, "content-length").map_or(0, |l| l.parse().expect("a number"));
            assert!(header(&head, "transfer-encoding").is_none(), "an exact length");
            if buffer.len() >= end + 4 + length {
                let rest = buffer.split_off(end + 4 + length);
                let body = String::from_utf8(buffer.split_off(end + 4)).expect("UTF-8");
                *buffer = rest;
                return Some((head, body));
            }
        }
        let read = socket.read_buf(buffer).await.unwrap_or(0);
        if read == 0 {
            return None;
        }
        *total += read;
    }
}

/// A header of a head, by its lower-case name.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        (found.eq_ignore_ascii_case(name)).then_some(value)
    })
}

/// An answer with an exact length.
pub fn answer(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}
