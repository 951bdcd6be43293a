//! A proxy on loopback between a client and a server, which can lose what either says.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};

/// See the module.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

/// What becomes of the next message that contains the marker.
#[derive(Clone, Copy)]
enum Fault {
    /// It reaches the server and takes effect; its answer, which these bytes tell, is lost, and the
    /// connection with it.
    LoseAnswer(&'static [u8]),
    /// It is lost, and the connection with it.
    LoseMessage,
}

#[derive(Default)]
struct State {
    fault: Option<(Fault, &'static [u8])>,
    silent: bool,
    refuse: bool,
    sockets: Vec<TcpStream>,
    lost: usize,
}

fn locked(state: &Arc<(Mutex<State>, Condvar)>) -> MutexGuard<'_, State> {
    state.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Proxy {
    /// Listens on a free port for the server at `to`.
    pub(crate) fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if !locked(&shared).refuse
                    && let Ok(server) = TcpStream::connect(("127.0.0.1", to))
                {
                    relay(&client, &server, &shared);
                }
            }
        });
        Self { port, state }
    }

    /// The next `COMMIT` reaches the server and takes effect, and its answer reaches nobody.
    pub(crate) fn lose_answer_to_commit(&self) {
        self.lose_answer(b"COMMIT\0", b"COMMIT\0");
    }

    /// The next message with these bytes reaches the server and takes effect, and its answer, which
    /// has those bytes, reaches nobody.
    pub(crate) fn lose_answer(&self, marker: &'static [u8], answer: &'static [u8]) {
        locked(&self.state).fault = Some((Fault::LoseAnswer(answer), marker));
    }

    /// The next message with these bytes reaches nobody.
    pub(crate) fn lose_message(&self, marker: &'static [u8]) {
        locked(&self.state).fault = Some((Fault::LoseMessage, marker));
    }

    /// How many were lost.
    pub(crate) fn lost(&self) -> usize {
        locked(&self.state).lost
    }

    /// Holds back what the server says, or lets it through again.
    pub(crate) fn silence(&self, silent: bool) {
        locked(&self.state).silent = silent;
        self.state.1.notify_all();
    }

    /// Refuses new connections, or takes them again.
    pub(crate) fn refuse(&self, refuse: bool) {
        locked(&self.state).refuse = refuse;
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        for socket in locked(&self.state).sockets.drain(..) {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn relay(client: &TcpStream, server: &TcpStream, state: &Arc<(Mutex<State>, Condvar)>) {
    for socket in [client, server] {
        socket.set_nodelay(true).unwrap();
        locked(state).sockets.push(socket.try_clone().unwrap());
    }
    let losing = Arc::new(OnceLock::new());
    let both = || (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut from, mut to) = both();
    let (shared, lose) = (state.clone(), losing.clone());
    std::thread::spawn(move || {
        let mut buffer = [0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let mut state = locked(&shared);
            let bytes = &buffer[..count];
            let here = |marker: &[u8]| bytes.windows(marker.len()).any(|part| part == marker);
            let fault = state.fault.take_if(|(_, marker)| here(marker));
            state.lost += usize::from(fault.is_some());
            drop(state);
            match fault {
                Some((Fault::LoseMessage, _)) => break,
                // A connection has one answer that is lost: it ends with it.
                Some((Fault::LoseAnswer(answer), _)) => drop(lose.set(answer)),
                None => {}
            }
            if to.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
    let (mut to, mut from) = both();
    let shared = state.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if let Some(answer) = losing.get() {
                // The command has taken effect once the server names it done.
                match buffer[..count].windows(answer.len()).any(|part| part == *answer) {
                    true => break,
                    false => continue,
                }
            }
            let silent = shared.1.wait_while(locked(&shared), |state| state.silent);
            drop(silent.unwrap_or_else(|poisoned| poisoned.into_inner()));
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
