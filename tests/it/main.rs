//! Everything that needs sockets, files or processes, in one binary.

#![allow(clippy::disallowed_methods, reason = "tests measure real time; `tidy` bans the rest")]

mod client;
mod cluster;
mod command;
mod conformance;
mod dynamodb;
mod examples;
mod gate;
mod migrate;
mod networked;
mod nodes;
mod policies;
mod postgres;
mod redb;
mod redis;
mod router;
mod servers;
mod standbys;
mod stores;
mod tidy;
mod tls;
