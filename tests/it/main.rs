//! Everything that needs sockets, files or processes, in one binary.

mod client;
mod command;
mod router;
mod stores;
