//! Everything that needs sockets, files or processes, in one binary.

mod client;
mod examples;
mod router;
mod stores;
mod tidy;
