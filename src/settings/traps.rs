//! What is configured wrong first, and what of it can be seen before a start.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::values::nearest;
use super::{Loaded, Problem, Setting, TABLE};

/// What is configured wrong first: title, and what to do instead.
pub(super) const WRONG_FIRST: [(&str, &str); 8] = [
    (
        "Two replicas with two directories",
        "One account has one data directory, and one process owns it. A second replica with a \
         directory of its own does not know what the first has sent, and buys it again. Run one \
         replica; keep a standby that is started when it is gone, on the same volume (`Recreate`, \
         not a rolling deploy).",
    ),
    (
        "Data on a container's own disk",
        "`data` must outlive the container and stand on a local disk that honours `fdatasync`: a \
         volume, not the container's own layer, not memory, not a network share. A lost directory \
         looks like a new account. Never keep `--accept-new-account` in a start script: it would \
         answer for the lost volume too.",
    ),
    (
        "A new reference per try",
        "`client_ref` is the same for every try of one purchase, and another for every other \
         purchase: a column of the order's table, not a fresh UUID in the request handler. A new \
         reference is a new purchase, and is bought.",
    ),
    (
        "Buying by hand on the same account",
        "The same products bought on the account by other programs, in the dashboard or by a \
         colleague look like the answers to orders in doubt. Give the router an account of its \
         own.",
    ),
    (
        "A key rotated with doubts open",
        "An order in doubt is decided only by a list that was read with the same key, URL and \
         `account`. Rotate when `order-router orders list --state in-doubt --state sending` shows \
         none; else a person has to decide what is left.",
    ),
    (
        "Timeouts in front shorter than ours",
        "A load balancer, gateway or HTTP client in front of the router must wait longer than \
         `answer_within` (the request timeout and 10 s). Else callers see a timeout for orders \
         that are bought, and try again; under the same reference that is harmless, under a new \
         one it buys again.",
    ),
    (
        "A bound copied from a demo",
        "`landing_bound` of a few seconds is for a simulated supplier. In earnest it covers queues \
         and retries inside the supplier and in every gateway before it: leave 15m, or set \
         `never`. Too short is the one setting that buys twice.",
    ),
    (
        "A wrong base path",
        "`supplier` is the address before `orders_path`, so `https://host` and not \
         `https://host/api` or `https://host/api/orders`. A slash too many at the end of \
         `orders_path` is answered with a redirect, which is never followed and pauses the \
         account.",
    ),
];

/// Below it a landing bound is one of a demo, where the supplier is not on this machine.
const DEMO_BOUND: Duration = Duration::from_secs(5 * 60);

/// What looks wrong, and may be right.
#[must_use]
pub fn traps(loaded: &Loaded, variables: &[String]) -> Vec<Problem> {
    let mut found = Vec::new();
    base_path(loaded, &mut found);
    limits(loaded, &mut found);
    supplier(loaded, &mut found);
    data(loaded, &mut found);
    for name in variables {
        if let Some(text) = unknown_variable(name) {
            found.push(Problem { line: 0, place: name.clone(), text });
        }
    }
    found
}

fn base_path(loaded: &Loaded, found: &mut Vec<Problem>) {
    let client = loaded.draft.client();
    let url = loaded.base_url().trim_end_matches('/');
    let after_host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = after_host.split_once('/').map_or("", |(_, path)| path);
    let first = client.orders_path.split('/').find(|part| !part.is_empty()).unwrap_or_default();
    if !path.is_empty() && path.split('/').any(|part| part == first) {
        let text = format!(
            "a wrong base path? Orders would go to {url}{}; the base is the address before \
             `orders_path`",
            client.orders_path
        );
        found.push(loaded.problem("supplier", text));
    }
    if client.orders_path.ends_with('/') {
        let text = "ends with a slash: if the supplier answers with a redirect, the account is \
            paused";
        found.push(loaded.problem("orders_path", text));
    }
}

fn limits(loaded: &Loaded, found: &mut Vec<Problem>) {
    let config = loaded.config(64);
    if config.landing_bound.is_some_and(|bound| bound < DEMO_BOUND) && !loaded.is_loopback() {
        let text = "a bound copied from a demo? Too short is the one setting that buys twice: \
            leave 15m, or set `never`";
        found.push(loaded.problem("landing_bound", text));
    }
}

fn supplier(loaded: &Loaded, found: &mut Vec<Problem>) {
    let client = &loaded.draft.client;
    if client.list_query.iter().any(|(name, _)| name.to_ascii_lowercase().contains("status")) {
        let text = "a status filter hides orders that were bought, and they would be bought again";
        found.push(loaded.problem("list_query", text));
    }
    if client.proxy.is_some() {
        let text = "a proxy that repeats requests buys twice: see that it does not";
        found.push(loaded.problem("proxy", text));
    }
    if client.mock && !loaded.is_loopback() {
        let text = "orders are sent as test orders: nobody gets anything for them";
        found.push(loaded.problem("mock", text));
    }
    if client.evidence.balance == crate::protocol::evidence::Means::NotSent {
        let text = "buys twice where the supplier keeps an order that it answered with 402";
        found.push(loaded.problem("balance_not_sent", text));
    }
}

fn data(loaded: &Loaded, found: &mut Vec<Problem>) {
    let stop = loaded.draft.config.stop_file.as_deref();
    if stop.is_some_and(Path::is_relative) && !loaded.is_loopback() {
        let text = "is relative: `stop`, called elsewhere, makes another file than the router looks for, and \
            stops nothing; write the whole path";
        found.push(loaded.problem("stop_file", text));
    }
    let Some(dir) = loaded.data() else { return };
    let host = std::env::var("HOSTNAME").unwrap_or_default();
    let has_host = |part: Component<'_>| part.as_os_str().to_string_lossy().contains(&host);
    if host.len() > 3 && dir.components().any(has_host) {
        let text = "two replicas with two directories? It has the name of this host in it, so \
            that another host has another one, and buys again";
        found.push(loaded.problem("data", text));
    }
    if dir.is_relative() && !loaded.is_loopback() {
        let text = "is relative: started elsewhere, the router has another directory and buys \
            again; write the whole path";
        found.push(loaded.problem("data", text));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let real = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let real = real.ancestors().find_map(|dir| dir.canonicalize().ok()).unwrap_or(real);
    let what = match file_system(&mounts, &real).as_deref() {
        Some("overlay" | "aufs") => "data on a container's own disk: it is gone with the container",
        Some("tmpfs" | "ramfs") => "data in memory: it is gone with the next start of the machine",
        Some("nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" | "fuse.sshfs") => {
            "data on a network share: its locks and its `fdatasync` cannot be relied upon"
        }
        _ => return,
    };
    let text = format!("{what}. Name a directory on a local disk or a volume that stays");
    found.push(loaded.problem("data", text));
}

/// The kind of file system below a path, by the text of `/proc/self/mountinfo`.
fn file_system(mounts: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (left.split(' ').nth(4), right.split(' ').next()) else {
            continue;
        };
        let point = PathBuf::from(point.replace("\\040", " "));
        let depth = point.components().count();
        // Of two at one point, the later lies over the earlier.
        if path.starts_with(&point) && best.is_none_or(|(known, _)| depth >= known) {
            best = Some((depth, kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

/// A variable that was meant for the router and is none of its settings.
fn unknown_variable(variable: &str) -> Option<String> {
    let name = variable.strip_prefix("ORDER_ROUTER_")?.to_ascii_lowercase();
    // A container platform sets these for a service that is named order-router.
    let of_platform = name == "port" || name.starts_with("port_") || name.starts_with("service_");
    if name == "config" || Setting::find(&name).is_some() || of_platform {
        return None;
    }
    Some(match nearest(&name, TABLE.iter().map(|setting| setting.name)) {
        Some(near) => {
            format!("is no setting, did you mean ORDER_ROUTER_{}?", near.to_ascii_uppercase())
        }
        None => "is no setting, and is not read".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 0:21 / / rw - overlay overlay rw,lowerdir=/a
23 22 8:1 / /var/lib/data rw shared:1 - ext4 /dev/sda1 rw
24 22 0:40 / /var/lib/data/mem rw - tmpfs tmpfs rw
25 22 0:41 / /with\\040space rw - nfs4 server:/x rw";

    #[test]
    fn the_file_system_is_that_of_the_deepest_mount() {
        let kind = |path: &str| file_system(MOUNTS, Path::new(path)).unwrap();
        assert_eq!(kind("/app/order-router-data"), "overlay");
        assert_eq!(kind("/var/lib/data/journal"), "ext4");
        assert_eq!(kind("/var/lib/data/mem/x"), "tmpfs");
        assert_eq!(kind("/var/lib/database"), "overlay");
        assert_eq!(kind("/with space/x"), "nfs4");
        assert_eq!(file_system("nonsense", Path::new("/")), None);
    }

    #[test]
    fn a_variable_that_is_mistyped_is_told_and_those_of_a_platform_are_not() {
        let text = unknown_variable("ORDER_ROUTER_LANDINGBOUND").unwrap();
        assert!(text.contains("ORDER_ROUTER_LANDING_BOUND"), "{text}");
        for name in ["ORDER_ROUTER_PORT_80_TCP", "ORDER_ROUTER_SERVICE_HOST", "PATH"] {
            assert_eq!(unknown_variable(name), None, "{name}");
        }
    }
}
