use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

mod admin;
mod contract;
mod lists;
mod pays;
mod posts;

/// One order of two `a`, as it is posted.
const ORDER: &str = r#"{"items":[{"itemId":"a","quantity":2}]}"#;

/// What a client saw of one exchange.
#[derive(Debug, PartialEq)]
enum Seen {
    Answer {
        status: u16,
        head: String,
        body: String,
    },
    /// The head announced more than came before the end.
    Cut {
        status: u16,
        body: String,
    },
    Closed,
    Reset,
}

impl Seen {
    #[track_caller]
    fn answer(self, expected: u16) -> String {
        match self {
            Self::Answer { status, body, .. } if status == expected => body,
            other => panic!("{expected} expected, but {other:?}"),
        }
    }

    #[track_caller]
    fn json(self, expected: u16) -> Value {
        let body = self.answer(expected);
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}"))
    }

    #[track_caller]
    fn header(&self, name: &str) -> Option<&str> {
        let Self::Answer { head, .. } = self else { panic!("an answer expected, but {self:?}") };
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| *found == name).map(|(_, value)| value)
    }
}

/// A client on a bare socket: it retries nothing, follows nothing and hides nothing.
struct Client {
    stream: TcpStream,
}

impl Client {
    async fn to(url: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap();
        Self { stream: TcpStream::connect(address).await.unwrap() }
    }

    async fn send(&mut self, method: &str, target: &str, body: &str) {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all((head + body).as_bytes()).await.unwrap();
    }

    async fn seen(&mut self) -> Seen {
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, self.read()).await.expect("something is seen in 20 s")
    }

    async fn read(&mut self) -> Seen {
        let mut input = Vec::new();
        let mut ended = false;
        loop {
            if let Some(seen) = understood(&input, ended) {
                return seen;
            }
            match self.stream.read_buf(&mut input).await {
                Ok(read) => ended = read == 0,
                Err(_) => return Seen::Reset,
            }
        }
    }

    async fn ask(&mut self, method: &str, target: &str, body: &str) -> Seen {
        self.send(method, target, body).await;
        self.seen().await
    }

    async fn get(&mut self, target: &str) -> Seen {
        self.ask("GET", target, "").await
    }

    async fn post(&mut self, body: &str) -> Seen {
        self.ask("POST", "/api/orders", body).await
    }

    /// Whether nothing has come yet.
    fn nothing_came(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

fn understood(input: &[u8], ended: bool) -> Option<Seen> {
    if input.is_empty() {
        return ended.then_some(Seen::Closed);
    }
    let text = std::str::from_utf8(input).unwrap();
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let status = head["HTTP/1.1 ".len()..][..3].parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let body = match length.map(|length| length.parse::<usize>().unwrap()) {
        Some(length) => rest.get(..length).map(str::to_owned),
        None => {
            let mut decoded = Vec::new();
            let end = head::chunked(rest.as_bytes(), &mut decoded).unwrap();
            end.map(|_| String::from_utf8(decoded).unwrap())
        }
    };
    match body {
        Some(body) => Some(Seen::Answer { status, head: head.to_owned(), body }),
        None => ended.then(|| Seen::Cut { status, body: rest.to_owned() }),
    }
}

/// Waits for what the supplier's own tasks bring about.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| panic!("not within 20 s: {what}"));
}

async fn start(contract: Contract, faults: Faults) -> (Simulator, Client) {
    let config = SimulatorConfig { contract, faults, ..SimulatorConfig::default() };
    let simulator = Simulator::start(config).await.unwrap();
    let client = Client::to(&simulator.url()).await;
    (simulator, client)
}

/// A supplier that meets its POSTs with these faults, one after the other.
async fn scripted<const N: usize>(script: [Option<PostFault>; N]) -> (Simulator, Client) {
    let faults = Faults { script: script.into(), ..Faults::default() };
    start(Contract::default(), faults).await
}

fn id(order: &Value) -> &str {
    order["id"].as_str().unwrap()
}

/// The ids of the rows under one key of a list.
fn ids(list: &Value, key: &str) -> Vec<String> {
    list[key].as_array().unwrap().iter().map(|row| id(row).to_owned()).collect()
}
