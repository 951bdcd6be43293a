//! `order-router status`, `order-router orders …`: what the journal says of orders, and a person's
//! decisions.

mod decide;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use order_router::ClientRef;
use order_router::protocol::{Learnt, State};
use order_router::settings::StorePlace;
use order_router::store::Stored;
use order_router::store::tools::Snapshot;
use serde::Serialize;

use super::failure::Failure;
use super::looking::{self, Wanted};
use super::output::{errln, outln};
use super::settings::DataArgs;

/// Show, list and decide orders
#[derive(Args, Clone, Debug)]
pub struct OrdersArgs {
    #[command(subcommand)]
    command: OrdersCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum OrdersCommand {
    /// List orders, oldest first; also while a router is at work
    List(ListArgs),
    /// Show one order; also while a router is at work
    Show(ShowArgs),
    Resolve(Box<decide::ResolveArgs>),
    Free(Box<decide::FreeArgs>),
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  order-router orders list --state held --state in-doubt
  order-router orders list --open --json | jq -r .client_ref")]
struct ListArgs {
    /// Only orders in this state (repeatable)
    #[arg(long, value_enum, value_name = "STATE")]
    state: Vec<StateName>,
    /// Only orders that have not ended
    #[arg(long)]
    open: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Show where one order stands
///
/// Reads the store without its lock or lease, also while a router is at work there; but for a file of
/// redb, which is one process's.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit code: 0 it is known, 1 no order has this reference, 2 the store \
    cannot be read.")]
pub struct ShowArgs {
    /// The caller's reference
    #[arg(value_name = "REF")]
    client_ref: ClientRefArg,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// A reference, checked while the flags are parsed.
#[derive(Clone, Debug)]
struct ClientRefArg(ClientRef);

impl std::str::FromStr for ClientRefArg {
    type Err = order_router::InvalidOrder;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ClientRef::new(text).map(Self)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StateName {
    Queued,
    Sending,
    #[value(alias = "in_doubt")]
    InDoubt,
    Held,
    /// Created at the supplier, and to be paid yet
    Created,
    Placed,
    Refused,
    #[value(alias = "not_placed")]
    NotPlaced,
    /// Created, never paid, and it will not be
    Unpaid,
}

impl StateName {
    fn of(state: &State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Sending(_) => Self::Sending,
            State::InDoubt(..) => Self::InDoubt,
            State::Held(..) => Self::Held,
            State::Created { .. } => Self::Created,
            State::Placed { .. } => Self::Placed,
            State::Refused(_) => Self::Refused,
            State::NotPlaced(_) => Self::NotPlaced,
            State::Unpaid { .. } => Self::Unpaid,
        }
    }
}

/// Runs one of the commands below `orders`.
pub fn run(args: OrdersArgs) -> ExitCode {
    match args.command {
        OrdersCommand::List(args) => list(&args).unwrap_or_else(|failure| failure.report()),
        OrdersCommand::Show(args) => show(&args),
        OrdersCommand::Resolve(args) => decide::resolve(*args),
        OrdersCommand::Free(args) => decide::free(*args),
    }
}

/// Shows one order.
pub fn show(args: &ShowArgs) -> ExitCode {
    let client_ref = &args.client_ref.0;
    let read = args.data.place().and_then(|place| looking::orders(&place, Wanted::One(client_ref)));
    let (place, snapshot) = match read {
        Ok(read) => read,
        Err(failure) => return failure.report(),
    };
    tell_mark(&snapshot);
    let Some(stored) = snapshot.find(client_ref) else {
        errln!(
            "no order in {place} has the reference {client_ref}: nothing was bought under it from \
             here"
        );
        return ExitCode::from(1);
    };
    let mut shown = Shown::of(stored);
    shown.replaced_by = match replaced_by(args, &snapshot, stored) {
        Ok(replaced_by) => replaced_by,
        Err(failure) => return failure.report(),
    };
    match args.json {
        true => outln!("{}", shown.json()),
        false => outln!("{}", shown.text(&snapshot).trim_end()),
    }
    ExitCode::SUCCESS
}

/// The order that was bought in the place of one that has ended.
fn replaced_by(
    args: &ShowArgs,
    snapshot: &Snapshot,
    stored: &Stored,
) -> Result<Option<String>, Failure> {
    let Ok(replacement) = stored.client_ref.replacement() else { return Ok(None) };
    if !stored.state.is_end() {
        return Ok(None);
    }
    let found = match args.data.place()? {
        // A snapshot of a directory has all of its orders.
        StorePlace::Directory(_) => snapshot.find(&replacement).is_some(),
        place @ StorePlace::Database(_) => {
            let wanted = Wanted::One(&replacement);
            looking::orders(&place, wanted)?.1.find(&replacement).is_some()
        }
    };
    Ok(found.then(|| replacement.into()))
}

/// Says so where orders have gone elsewhere.
fn tell_mark(snapshot: &Snapshot) {
    if let Some(mark) = &snapshot.rehydration.mark {
        errln!("this store is not to be used: {mark}");
    }
}

fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let ended = [StateName::Placed, StateName::Refused, StateName::NotPlaced];
    let only_open = args.open
        || (!args.state.is_empty() && !args.state.iter().any(|state| ended.contains(state)));
    let wanted = if only_open { Wanted::Open } else { Wanted::All };
    let (_, snapshot) = looking::orders(&args.data.place()?, wanted)?;
    tell_mark(&snapshot);
    let shown = snapshot.intents.values().filter(|stored| {
        let state = StateName::of(&stored.state);
        (args.state.is_empty() || args.state.contains(&state))
            && !(args.open && stored.state.is_end())
    });
    let mut out = BufWriter::new(io::stdout().lock());
    let mut count = 0_u64;
    let written = (|| {
        for stored in shown {
            count += 1;
            let shown = Shown::of(stored);
            match args.json {
                true => writeln!(out, "{}", shown.json())?,
                false => writeln!(out, "{}", shown.line())?,
            }
        }
        out.flush()
    })();
    // A reader that has seen enough closes its end: no reason to complain.
    if written.is_ok() && !args.json {
        let of = if only_open { "open orders" } else { "orders" };
        errln!("{count} of {} {of}", snapshot.intents.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// An order as it is shown: without its notes.
#[derive(Serialize)]
struct Shown<'a> {
    client_ref: &'a str,
    state: &'static str,
    items: Vec<ShownItem<'a>>,
    order_id: Option<&'a str>,
    learnt: Option<&'static str>,
    /// Where the payment of a created order stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<&'static str>,
    /// The order in whose place it was bought.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    /// The order that was bought in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced_by: Option<String>,
    reason: Option<&'a str>,
    tries: u8,
    accepted_at: String,
    good_until: String,
    items_hash: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownItem<'a> {
    item_id: &'a str,
    quantity: u32,
    has_note: bool,
    total_price: Option<String>,
}

impl<'a> Shown<'a> {
    fn of(stored: &'a Stored) -> Self {
        let items = stored.items.iter().map(|item| ShownItem {
            item_id: item.id(),
            quantity: item.quantity(),
            has_note: item.note_ref().is_some(),
            total_price: item.price().map(ToString::to_string),
        });
        let order = stored.state.order();
        let (order_id, learnt) =
            (order.map(|order| order.id.as_str()), order.map(|order| name_of(order.learnt)));
        let payment = match &stored.state {
            State::Created { payment, .. } => Some(payment.step.name()),
            _ => None,
        };
        let reason = match &stored.state {
            State::InDoubt(_, why)
            | State::Held(_, why)
            | State::Refused(why)
            | State::NotPlaced(why)
            | State::Unpaid { why, .. } => Some(&**why),
            State::Created { why, .. } => Some(&**why).filter(|why| !why.is_empty()),
            State::Queued | State::Sending(_) | State::Placed { .. } => None,
        };
        Self {
            client_ref: stored.client_ref.as_str(),
            state: stored.state.name(),
            items: items.collect(),
            order_id,
            learnt,
            payment,
            replaces: stored.client_ref.replaces().map(String::from),
            replaced_by: None,
            reason,
            tries: stored.tries,
            accepted_at: stored.accepted_at.to_string(),
            good_until: stored.good_until.to_string(),
            items_hash: stored.lane.to_string(),
        }
    }

    fn json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are plain JSON")
    }

    /// One line of a list: reference, state, and what is worth knowing of that state.
    fn line(&self) -> String {
        let known = self.order_id.or(self.reason).unwrap_or_default();
        let replaces = self.replaces.as_ref().map(|replaced| format!("\treplaces {replaced}"));
        let replaces = replaces.unwrap_or_default();
        format!("{}\t{}\t{known}{replaces}", self.client_ref, self.state)
    }

    fn text(&self, snapshot: &Snapshot) -> String {
        let mut text = format!("{}: {}\n", self.client_ref, self.state);
        let mut row = |name: &str, value: &str| {
            text.push_str(&format!("  {name:<12}{value}\n"));
        };
        for item in &self.items {
            let note = if item.has_note { " with a note" } else { "" };
            let price = item.total_price.as_ref().map_or(String::new(), |p| format!(" for {p}"));
            row("item", &format!("{} × {}{price}{note}", item.quantity, item.item_id));
        }
        if let (Some(id), Some(learnt)) = (self.order_id, self.learnt) {
            row("order", &format!("{id}, learnt from {learnt}"));
        }
        if let Some(payment) = self.payment {
            row("payment", payment);
        }
        for (name, other) in [("replaces", &self.replaces), ("replaced by", &self.replaced_by)] {
            if let Some(other) = other {
                row(name, other);
            }
        }
        if let Some(reason) = self.reason {
            row("reason", reason);
        }
        row("accepted", &self.accepted_at);
        row("tries", &format!("{} proved absent", self.tries));
        let held = snapshot
            .rehydration
            .held_lanes
            .iter()
            .find(|(lane, _)| lane.to_string() == self.items_hash);
        if let Some((_, why)) = held {
            row("identical", &format!("orders are held: {why}; see `orders free --help`"));
        }
        row("bought", self.bought());
        text
    }

    /// What the state means for money.
    fn bought(&self) -> &'static str {
        match self.state {
            "placed" => "yes, once",
            "refused" | "not_placed" | "unpaid" => "no, and it will not be",
            "created" if self.payment == Some("due") => "not yet; the next `submit` pays it",
            "queued" => "not yet; the next `submit` sends it",
            _ => "perhaps; the next `submit` finds out, or `orders resolve` decides",
        }
    }
}

fn name_of(learnt: Learnt) -> &'static str {
    match learnt {
        Learnt::Answer => "the supplier's answer",
        Learnt::List => "the supplier's list",
        Learnt::Person => "a person",
    }
}
