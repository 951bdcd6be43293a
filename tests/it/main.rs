//! Everything that needs sockets, files or processes, in one binary.

mod client;
mod router;
mod stores;
