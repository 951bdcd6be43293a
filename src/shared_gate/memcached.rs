//! A gate in Memcached 1.6: its meta protocol, by the crate `memcache`.
//!
//! Of that crate the newer half is used (`exp`), whose connections know whether an answer belongs to
//! a question; it may change without notice, so its version is pinned. The login by text
//! (`memcached -Y`) is not in it and is done here, on the socket that it then gets.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use memcache::exp::{
    DeleteOptions, Error, GetOptions, MetaCommand, MetaCommandResult, MetaConnection, ReturnCode,
    SetMode, SetOptions, build_delete, build_get, build_set, parse_meta_result,
};
use secrecy::ExposeSecret;

use super::threads::{self, Connection, PATIENCE};
use super::url::Address;
use super::{GateError, GateServer, Question, Reply};

/// How often a key may change between a look and what follows from it.
const TRIES: usize = 8;

/// The server at an address. Nothing is connected yet.
pub(super) fn server(address: Address) -> Result<Arc<dyn GateServer>, GateError> {
    threads::start::<Memcached>(address)
}

struct Memcached(MetaConnection);

impl Connection for Memcached {
    fn open(address: &Address) -> Result<Self, GateError> {
        let stream = dial(address).map_err(|error| unreachable(address, &error))?;
        if let Some(password) = &address.password {
            let user = address.user.as_deref().unwrap_or_default();
            let login = format!("{user} {}", password.expose_secret());
            log_in(&stream, address, &login)?;
        }
        let mut connection = MetaConnection::from_stream(stream);
        connection.set_io_timeout(Some(PATIENCE));
        Ok(Self(connection))
    }

    fn ask(
        &mut self,
        address: &Address,
        key: &str,
        question: &Question,
        ttl: Duration,
    ) -> Result<Reply, GateError> {
        self.answer(key, question, seconds(ttl)).map_err(|error| judged(address, &error))
    }
}

/// What stands under a key, and the number of that version of it.
type Standing = Option<(String, u64)>;

impl Memcached {
    fn answer(&mut self, key: &str, question: &Question, ttl: u32) -> Result<Reply, Error> {
        for _ in 0..TRIES {
            let standing = match question {
                Question::Add(value) if self.add(key, value, ttl)? => return Ok(Reply::Done),
                _ => self.get(key)?,
            };
            let Some((value, version)) = standing else {
                match question {
                    // Between the try to add and the look it has gone.
                    Question::Add(_) => continue,
                    _ => return Ok(Reply::Nothing),
                }
            };
            let done = match question {
                Question::Swap { old, new } if value == *old || value == *new => {
                    self.swap(key, new, ttl, version)?
                }
                Question::Remove(old) if value == *old => self.remove(key, version)?,
                _ => return Ok(Reply::Other(value)),
            };
            // Else it has changed since it was looked at.
            if done {
                return Ok(Reply::Done);
            }
        }
        Err(Error::Conflict)
    }

    fn run(&mut self, command: &MetaCommand) -> Result<MetaCommandResult, Error> {
        parse_meta_result(self.0.execute(command)?)
    }

    fn get(&mut self, key: &str) -> Result<Standing, Error> {
        let mut options = GetOptions::default();
        options.return_cas = true;
        let found = self.run(&build_get(key, &options)?)?;
        match (found.rc, found.value, found.cas) {
            (ReturnCode::En, ..) => Ok(None),
            (_, Some(value), Some(version)) => {
                Ok(Some((String::from_utf8_lossy(&value).into_owned(), version)))
            }
            _ => Err(Error::Protocol("a value without its cas: is it run with -C?".to_owned())),
        }
    }

    fn add(&mut self, key: &str, value: &str, ttl: u32) -> Result<bool, Error> {
        let mut options = SetOptions::default();
        (options.mode, options.ttl) = (SetMode::Add, Some(ttl));
        Ok(self.run(&build_set(key, value, &options)?)?.rc == ReturnCode::Hd)
    }

    fn swap(&mut self, key: &str, value: &str, ttl: u32, version: u64) -> Result<bool, Error> {
        let mut options = SetOptions::default();
        (options.compare_cas, options.ttl) = (Some(version), Some(ttl));
        Ok(self.run(&build_set(key, value, &options)?)?.rc == ReturnCode::Hd)
    }

    fn remove(&mut self, key: &str, version: u64) -> Result<bool, Error> {
        let mut options = DeleteOptions::default();
        options.compare_cas = Some(version);
        Ok(self.run(&build_delete(key, &options)?)?.rc == ReturnCode::Hd)
    }
}

/// Whole seconds, never fewer than asked; the limits of a gate keep them below 30 days.
fn seconds(ttl: Duration) -> u32 {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

fn dial(address: &Address) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("its name has no address");
    for socket in (&*address.host, address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket, PATIENCE) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Logs in as `memcached -Y` wants it. To a server that wants no login this is an item, which has
/// expired when it is stored: nobody reads it there.
fn log_in(stream: &TcpStream, address: &Address, login: &str) -> Result<(), GateError> {
    let failed = |error: std::io::Error| unreachable(address, &error);
    let text = format!("set auth 0 -1 {}\r\n{login}\r\n", login.len());
    (&*stream).write_all(text.as_bytes()).map_err(failed)?;
    let mut said = String::new();
    // The server says one line and then waits: nothing behind it is read.
    BufReader::with_capacity(512, stream).read_line(&mut said).map_err(failed)?;
    match said.trim_end() {
        "STORED" => Ok(()),
        "" => Err(unreachable(address, &std::io::ErrorKind::UnexpectedEof.into())),
        said => Err(GateError::Refused { place: address.place(), why: address.clean(said) }),
    }
}

fn unreachable(address: &Address, error: &std::io::Error) -> GateError {
    let why = match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => address.clean(&error.to_string()),
    };
    GateError::Unreachable { place: address.place(), why }
}

/// What an error means. The key is no secret, but its name helps nobody.
fn judged(address: &Address, error: &Error) -> GateError {
    let place = address.place();
    match error {
        Error::Ambiguous { source, .. } => judged(address, source),
        Error::Io(error) => unreachable(address, error),
        Error::Timeout { .. } => GateError::Unreachable { place, why: "no answer".to_owned() },
        Error::Rejected(said) if said.contains("unauthenticated") => {
            GateError::Refused { place, why: "it wants user and password".to_owned() }
        }
        Error::Rejected(_) => {
            let why = "it does not know the commands of Memcached 1.6".to_owned();
            GateError::Unusable { place, why }
        }
        Error::Conflict => {
            GateError::Unusable { place, why: "a key changes all the time".to_owned() }
        }
        other => GateError::Unusable { place, why: address.clean(&other.to_string()) },
    }
}
