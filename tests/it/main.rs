//! Everything that needs sockets, files or processes, in one binary.

#![allow(clippy::disallowed_methods, reason = "tests measure real time; `tidy` bans the rest")]

mod client;
mod cluster;
mod command;
mod conformance;
mod dynamodb;
mod examples;
mod networked;
mod postgres;
mod redb;
mod redis;
mod router;
mod servers;
mod stores;
mod tidy;
