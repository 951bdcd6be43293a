//! A proxy on loopback between a client and a server, which can lose, delay and hold back what either
//! says, and cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Stands between a store and its server. It knows nothing of what they say: a *message* is what one
/// read brings, so that a loss at each message in turn is a loss at every point of a conversation.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client: it does not reach the server.
    Request,
    /// The server: what it did is done, and nobody is told.
    Answer,
}

#[derive(Debug, Default)]
struct State {
    to: u16,
    /// Which message is lost, counted down.
    lose: Option<(Direction, usize)>,
    lost: usize,
    silent: bool,
    refuse: bool,
    delay: Duration,
    sockets: Vec<TcpStream>,
}

fn locked(state: &(Mutex<State>, Condvar)) -> MutexGuard<'_, State> {
    state.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 for the server at `to`, in threads of its own.
    ///
    /// # Panics
    /// If there is no port or no thread.
    #[must_use]
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        locked(&state).to = to;
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (refuse, to) = {
                    let state = locked(&shared);
                    (state.refuse, state.to)
                };
                if !refuse && let Ok(server) = TcpStream::connect(("127.0.0.1", to)) {
                    // A socket that is closed already ends by itself.
                    let _ = relay(&client, &server, &shared);
                }
            }
        });
        Self { port, state }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Loses one message, and the connection with it: the next one, if `nth` is zero.
    pub fn lose(&self, direction: Direction, nth: usize) {
        locked(&self.state).lose = Some((direction, nth));
    }

    /// Loses nothing any more. False if what was to be lost has not come.
    pub fn has_lost(&self) -> bool {
        locked(&self.state).lose.take().is_none()
    }

    /// How many messages were lost.
    #[must_use]
    pub fn lost(&self) -> usize {
        locked(&self.state).lost
    }

    /// Holds back what the server says, or lets it through again.
    pub fn silence(&self, silent: bool) {
        locked(&self.state).silent = silent;
        self.state.1.notify_all();
    }

    /// Everything that the server says comes later by this.
    pub fn delay(&self, delay: Duration) {
        locked(&self.state).delay = delay;
    }

    /// New connections reach another server.
    pub fn turn_to(&self, to: u16) {
        locked(&self.state).to = to;
    }

    /// Refuses new connections, or takes them again.
    pub fn refuse(&self, refuse: bool) {
        locked(&self.state).refuse = refuse;
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        for socket in locked(&self.state).sockets.drain(..) {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn relay(
    client: &TcpStream,
    server: &TcpStream,
    state: &Arc<(Mutex<State>, Condvar)>,
) -> std::io::Result<()> {
    for socket in [client, server] {
        socket.set_nodelay(true)?;
        locked(state).sockets.push(socket.try_clone()?);
    }
    for (from, to, direction) in
        [(client, server, Direction::Request), (server, client, Direction::Answer)]
    {
        let (from, to, state) = (from.try_clone()?, to.try_clone()?, state.clone());
        std::thread::spawn(move || pump(from, to, direction, &state));
    }
    Ok(())
}

fn pump(
    mut from: TcpStream,
    mut to: TcpStream,
    direction: Direction,
    state: &(Mutex<State>, Condvar),
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if is_lost(&mut locked(state), direction) {
            break;
        }
        if direction == Direction::Answer {
            wait(state);
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    for socket in [from, to] {
        let _ = socket.shutdown(Shutdown::Both);
    }
}

fn is_lost(state: &mut State, direction: Direction) -> bool {
    match &mut state.lose {
        Some((lost, 0)) if *lost == direction => {
            state.lose = None;
            state.lost += 1;
            true
        }
        Some((lost, left)) if *lost == direction => {
            *left -= 1;
            false
        }
        _ => false,
    }
}

/// Waits for as long as answers are delayed or held back.
fn wait(state: &(Mutex<State>, Condvar)) {
    let delay = locked(state).delay;
    if !delay.is_zero() {
        let waited = state.1.wait_timeout_while(locked(state), delay, |_| true);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
    let silent = state.1.wait_while(locked(state), |state| state.silent);
    drop(silent.unwrap_or_else(PoisonError::into_inner));
}
