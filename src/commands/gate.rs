//! The shared gate that the settings name, if they name one.

use std::sync::Arc;

use order_router::settings::Loaded;
use order_router::shared_gate::{GateError, NodeName, OnFailure, SharedGate, StoreMark, connect};
use secrecy::ExposeSecret;

use super::failure::Failure;
use super::output::errln;

/// Makes the gate and sees that it answers. The store is open: its directory is there.
pub async fn open(args: &Loaded) -> Result<Option<Arc<SharedGate>>, Failure> {
    let Some(url) = args.gate() else { return Ok(None) };
    let mark = mark(args)?;
    let node = NodeName::new(&args.node(), &mark)
        .map_err(|error| Failure::nothing_sent(format!("--node: {error}"), "name another"))?;
    let made = connect(url.expose_secret()).and_then(|(server, namespace)| {
        SharedGate::new(server, &namespace, node, args.gate_terms())
    });
    let gate = made.map_err(|error| failed(&error))?;
    match gate.check().await {
        Ok(()) => {}
        // It may come back, and orders are taken without it until then.
        Err(error @ (GateError::Unreachable { .. } | GateError::Slow { .. }))
            if args.gate_terms().on_failure == OnFailure::Open =>
        {
            errln!("{error}: orders are taken without it until it answers (--gate-failure open)");
        }
        Err(error) => return Err(failed(&error)),
    }
    Ok(Some(Arc::new(gate)))
}

/// What tells this node's store from those of others.
fn mark(args: &Loaded) -> Result<StoreMark, Failure> {
    if let Some(url) = args.database() {
        let url = url.expose_secret();
        let (scheme, rest) = url.split_once(':').unwrap_or_default();
        // Without user and password: both may change.
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        return Ok(StoreMark::of_place(&format!("{scheme}:{place}")));
    }
    let dir = args.data().unwrap_or(std::path::Path::new(""));
    StoreMark::of_directory(dir).map_err(|error| {
        let what = format!("the mark of the data directory {} failed: {error}", dir.display());
        Failure::nothing_sent(what, "see that the directory can be written")
    })
}

fn failed(error: &GateError) -> Failure {
    let next = match error {
        GateError::Tls(_) => "name a PEM file that can be read",
        GateError::Url(_) => "name it as the message says, with --gate or ORDER_ROUTER_GATE",
        GateError::Refused { .. } => "correct user and password of the URL",
        GateError::Unreachable { .. } | GateError::Slow { .. } => {
            "start it and see that it is reached from here; or accept that duplicates at other nodes \
             are not stopped while it is down, with --gate-failure open"
        }
        _ => "see the message",
    };
    Failure::nothing_sent(error.to_string(), next)
}
