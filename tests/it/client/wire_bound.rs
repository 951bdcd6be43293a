//! The limit on what the kernel does with an order after we have let go of it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use order_router::supplier::foxreload::Settings;
use order_router::supplier::{Supplier, WIRE_BOUND_WITHOUT_LIMIT};
use rustix::net::sockopt;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use secrecy::SecretString;

use super::fake::{Fake, Reply, answer};
use super::{CREATED, answered, client_with, items, open};

/// Second handles of this process's sockets that are connected to `peer`.
fn sockets_to(peer: SocketAddr) -> Vec<OwnedFd> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("a table");
    let to_peer = format!(":{:04X}", peer.port());
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let inodes = lines.filter(|line| line[2].ends_with(&to_peer)).map(|line| line[9].to_owned());
    let wanted: Vec<_> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    let me = pidfd_open(getpid(), PidfdFlags::empty()).expect("this process");
    let list = std::fs::read_dir("/proc/self/fd").expect("a list").filter_map(Result::ok);
    list.filter(|entry| {
        let link = std::fs::read_link(entry.path());
        link.is_ok_and(|link| wanted.iter().any(|socket| link.as_os_str() == &**socket))
    })
    .map(|entry| {
        let fd = entry.file_name().to_str().and_then(|name| name.parse().ok()).expect("a number");
        pidfd_getfd(&me, fd, PidfdGetfdFlags::empty()).expect("a process may copy its own")
    })
    .collect()
}

#[tokio::test]
async fn order_socket_has_the_wire_bound() {
    let mut fake = Fake::start([Reply::Keep(answer(201, "", CREATED))]).await;
    let mut settings = Settings::default();
    settings.wire_bound = Duration::from_millis(4321);
    let client = client_with(&fake.http(), settings);
    answered(client.place(items(), open()).await);
    fake.request().await;
    let sockets = sockets_to(fake.address);
    assert_eq!(sockets.len(), 1, "one idle connection");
    assert_eq!(sockopt::tcp_user_timeout(&sockets[0]), Ok(4321));
    assert_eq!(client.wire_bound(), Duration::from_millis(4321));
}

#[test]
fn wire_bound_is_not_ours_behind_a_proxy() {
    let mut settings = Settings::default();
    settings.proxy = Some(SecretString::from("http://127.0.0.1:1"));
    settings.root_certificates = Some(super::tls::certificate().1);
    let client = client_with("http://127.0.0.1:2", settings);
    assert_eq!(client.wire_bound(), WIRE_BOUND_WITHOUT_LIMIT);
}
