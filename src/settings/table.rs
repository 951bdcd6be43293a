//! The table of settings. Nothing else lists them.

use std::borrow::Cow;
use std::path::PathBuf;

use secrecy::SecretString;

use super::Unset::{Is, Says};
use super::draft::StorePlace;
use super::values::{amount, bound, bytes, count, currency, duration, pair, rate, switch, word};
use super::{Draft, Kind, Places, Setting, Unset};
use crate::order::TagKey;
use crate::protocol::PaysOn;
use crate::protocol::evidence::Means;
use crate::protocol::format::TimestampFormat;
use crate::shared_gate::{self, NodeName, OnFailure, StoreMark};
use crate::supplier::ListEnvelope;
use crate::supplier::foxreload;

const GENERAL: &str = "General";
const SUPPLIER: &str = "Supplier";
const FORMAT: &str = "How the supplier writes an order";
const CONNECTIONS: &str = "Connections";
const LIMITS: &str = "Limits (durations such as 300ms, 1.5s, 15m)";
const START: &str = "Answers to what the account shows at start";

const TIMESTAMPS: &[&str] = &["rfc3339", "utc-without-zone", "unix-seconds", "unix-millis"];
const TIMESTAMP_WORDS: [(&str, TimestampFormat); 4] = [
    (TIMESTAMPS[0], TimestampFormat::Rfc3339),
    (TIMESTAMPS[1], TimestampFormat::UtcWithoutZone),
    (TIMESTAMPS[2], TimestampFormat::UnixSeconds),
    (TIMESTAMPS[3], TimestampFormat::UnixMillis),
];

const GATE_FAILURES: &[&str] = &["closed", "open"];
const GATE_FAILURE_WORDS: [(&str, OnFailure); 2] =
    [(GATE_FAILURES[0], OnFailure::Closed), (GATE_FAILURES[1], OnFailure::Open)];
const PAYS: &[&str] = &["create", "pay"];
const PAY_WORDS: [(&str, PaysOn); 2] = [(PAYS[0], PaysOn::Create), (PAYS[1], PaysOn::Pay)];

type Set = fn(&mut Draft, &str) -> Result<(), String>;

const fn row(
    group: &'static str,
    name: &'static str,
    kind: Kind,
    default: Unset,
    help: &'static str,
    set: Set,
) -> Setting {
    Setting { name, group, kind, places: Places::All, default, help, secret: false, set }
}

impl Setting {
    const fn on_flag_alone(self) -> Self {
        Self { places: Places::Flag, ..self }
    }

    const fn in_environment_alone(self) -> Self {
        Self { places: Places::Environment, secret: true, ..self }
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }
}

/// Every setting of the command, in the order in which they are told.
pub static TABLE: &[Setting] = &[
    row(
        GENERAL,
        "data",
        Kind::File,
        Is("./order-router-data"),
        "The directory of the journal; one process, one account. It must outlive the \
            container, on a disk that honours fdatasync",
        |d, t| put(&mut d.data, path(t)),
    ),
    row(
        GENERAL,
        "store",
        Kind::Url,
        Says("embedded:DIR, with the directory of data"),
        "Where orders are remembered, instead of data: `embedded:DIR`, `redb:FILE`, \
            `postgres://USER:PASSWORD@HOST:PORT/DATABASE?schema=NAME`, \
            `redis://USER:PASSWORD@HOST:PORT/DB?namespace=NAME` or \
            `dynamodb://TABLE?region=REGION&namespace=NAME`; one file, schema or namespace for one \
            account. With a password in it, in the environment alone",
        |d, t| put(&mut d.store, place(t).map(Some)),
    )
    .secret(),
    row(
        GENERAL,
        "stop_file",
        Kind::File,
        Says("the file STOP in the data directory; none for another store"),
        "The kill switch: while this file is there no order leaves, over restarts too. Its first line \
            is shown as the reason; `order-router stop` makes it",
        |d, t| put(&mut d.config.stop_file, path(t).map(Some)),
    ),
    row(
        GENERAL,
        "name",
        Kind::Text,
        Is(""),
        "A name for this router, the label `router` of its metrics",
        |d, t| put(&mut d.config.name, owned(t)),
    ),
    row(
        GENERAL,
        "share",
        Kind::Switch,
        Is("false"),
        "Share the store with other routers: one at a time has its lease and sends, the others pass \
            their orders on to it and take over when it is gone. Needs a store on a server",
        |d, t| put(&mut d.share, switch(t)),
    ),
    row(
        GENERAL,
        "lease",
        Kind::Duration,
        Is("10s"),
        "How long the lease lasts without being renewed: how long others wait when its holder is gone. \
            Nothing is sent in its last tenth",
        |d, t| put(&mut d.lease, duration(t)),
    ),
    row(
        GENERAL,
        "pause_max",
        Kind::Duration,
        Is("30s"),
        "The longest time for which a process may be stopped while it sends an order. Whoever takes \
            over waits for as long before it takes an order of the former holder for not bought",
        |d, t| put(&mut d.pause_max, duration(t)),
    ),
    row(
        GENERAL,
        "accept_unsynced",
        Kind::Switch,
        Is("false"),
        "Take a store on a server that answers before it is on disk (Redis without appendfsync \
            always, Postgres with fsync off). What it forgets in a power cut is bought again",
        |d, t| put(&mut d.accept_unsynced, switch(t)),
    ),
    row(
        GENERAL,
        "gate",
        Kind::Url,
        Says("none"),
        "A gate that all nodes ask before they take an order, so that a reference that comes to nodes \
            with different stores is bought by one of them: `memcached://HOST:PORT?namespace=NAME` or \
            `redis://USER:PASSWORD@HOST:PORT/DB?namespace=NAME`. It forgets, so it comes in front of a \
            store and never in its place; each node has an account of its own. With a password in it, \
            in the environment alone",
        |d, t| put(&mut d.gate, gate(t).map(Some)),
    )
    .secret(),
    row(
        GENERAL,
        "gate_failure",
        Kind::Word(GATE_FAILURES),
        Is("closed"),
        "What holds while the gate does not answer: `closed`, new orders are refused and can be \
            submitted again; `open`, they are taken, and nothing stops a duplicate at another node",
        |d, t| put(&mut d.gate_terms.on_failure, word(t, &GATE_FAILURE_WORDS)),
    ),
    row(
        GENERAL,
        "gate_ttl",
        Kind::Duration,
        Is("24h"),
        "How long the gate keeps a reference, 1s to 30 days; those of open orders are kept longer. \
            Later duplicates at another node are not stopped",
        |d, t| put(&mut d.gate_terms.ttl, duration(t)),
    ),
    row(
        GENERAL,
        "gate_timeout",
        Kind::Duration,
        Is("500ms"),
        "How long an answer of the gate is waited for, before it counts as down",
        |d, t| put(&mut d.gate_terms.timeout, duration(t)),
    ),
    row(
        GENERAL,
        "node",
        Kind::Text,
        Says("this machine's name"),
        "This node's name at the gate, shown to callers elsewhere: 1 to 64 letters, digits, `.`, `_` \
            and `-`. The same for all nodes that share a store; changed, orders that were begun under \
            the old name are refused until the gate has forgotten them",
        |d, t| put(&mut d.node, node(t).map(Some)),
    ),
    row(
        SUPPLIER,
        "supplier",
        Kind::Url,
        Says("none, it must be set"),
        "The supplier's base URL, without the path of the orders; https, unless it is on this \
            machine",
        |d, t| put(&mut d.base_url, url(t).map(Some)),
    ),
    row(
        SUPPLIER,
        "api_key",
        Kind::Text,
        Says("none"),
        "The supplier's key. In the environment alone: whoever sees a command line or a file \
            of settings has it",
        |_, _| Ok(()),
    )
    .in_environment_alone(),
    row(
        SUPPLIER,
        "api_key_file",
        Kind::File,
        Says("none: the variable ORDER_ROUTER_API_KEY"),
        "Read the key from this file instead of ORDER_ROUTER_API_KEY; only its owner may read \
            it (mode 600)",
        |d, t| put(&mut d.api_key_file, path(t).map(Some)),
    ),
    row(
        SUPPLIER,
        "account",
        Kind::Text,
        Is(""),
        "A name for the account; change it when the same URL and key come to mean another \
            one, or lists of the other are taken for proof. Routers that share a store need the same \
            one, or the same key",
        |d, t| put(&mut d.client.account, owned(t)),
    ),
    row(
        SUPPLIER,
        "orders_path",
        Kind::Text,
        Is("/api/orders"),
        "Path of the POST and of the list, to the letter: a slash too many is answered with a \
            redirect, which pauses the account",
        |d, t| put(&mut d.client.orders_path, text(t)),
    ),
    row(SUPPLIER, "order_path", Kind::Text, Is("/api/orders/{id}"), "Path of one order", |d, t| {
        put(&mut d.client.order_path, text(t))
    }),
    row(
        SUPPLIER,
        "pay_path",
        Kind::Text,
        Is("/api/orders/{id}/pay"),
        "Path of the payment of one order, with `{id}` in it",
        |d, t| put(&mut d.client.pay_path, text(t)),
    ),
    row(
        SUPPLIER,
        "balances_path",
        Kind::Text,
        Is("/api/access/me/balances/"),
        "Path of the balances",
        |d, t| put(&mut d.client.balances_path, text(t)),
    ),
    row(
        SUPPLIER,
        "balance_currency_field",
        Kind::Text,
        Is("currency"),
        "Where a balance names its currency: keys joined by a dot; wrong, no balance is understood",
        |d, t| put(&mut d.client.balance_currency, text(t)),
    ),
    row(
        SUPPLIER,
        "balance_amount_field",
        Kind::List(','),
        Is("amount,balance"),
        "Where a balance has its amount: keys joined by a dot; all that are present must say the same \
            (repeatable)",
        balance_amount_field,
    ),
    row(
        SUPPLIER,
        "list_envelope",
        Kind::Text,
        Is("orders"),
        "Key of the rows in a list, or `-` when the list is a bare array; wrong, no list is \
            understood and nothing is sent",
        |d, t| put(&mut d.client.list_envelope, envelope(t)),
    ),
    row(
        SUPPLIER,
        "list_total",
        Kind::Text,
        Is("total"),
        "Key of the number of all rows in a list",
        |d, t| put(&mut d.client.list_total, text(t)),
    ),
    row(
        SUPPLIER,
        "list_query",
        Kind::List('&'),
        Says("none"),
        "A further parameter of the list; never a status filter, which hides orders \
            (repeatable)",
        list_query,
    ),
    row(
        SUPPLIER,
        "page_parameter",
        Kind::Text,
        Says("none: pages by offset"),
        "Ask for pages by number with this parameter, instead of by offset. Pages by number do not \
            overlap, so only a list whose first page reaches back far enough is complete: where it \
            does not, nothing in doubt is declared absent, and no start succeeds",
        |d, t| put(&mut d.page_parameter, owned(t).map(Some)),
    ),
    row(
        SUPPLIER,
        "first_page",
        Kind::Count,
        Is("1"),
        "Number of the first page, where pages are asked for by number; wrong, pages are \
            skipped or the list is not understood",
        |d, t| put(&mut d.first_page, count(t)),
    ),
    row(
        SUPPLIER,
        "offset_parameter",
        Kind::Text,
        Is("offset"),
        "Parameter of the rows to skip, where pages are asked for by offset",
        |d, t| put(&mut d.offset_parameter, text(t)),
    ),
    row(
        SUPPLIER,
        "limit_parameter",
        Kind::Text,
        Is("limit"),
        "Parameter of the rows to show",
        |d, t| put(&mut d.limit_parameter, text(t)),
    ),
    row(
        SUPPLIER,
        "oldest_first",
        Kind::Switch,
        Is("false"),
        "The list begins with the oldest order",
        |d, t| put(&mut d.client.newest_first, no(t)),
    ),
    row(
        SUPPLIER,
        "page_limit",
        Kind::Count,
        Is("100"),
        "Rows asked for at once; a supplier that shows fewer costs requests only",
        |d, t| put(&mut d.client.page_limit, count(t)),
    ),
    row(
        SUPPLIER,
        "no_echo_quantity",
        Kind::Switch,
        Is("false"),
        "The list does not show quantities. Not to be changed while orders are in doubt",
        |d, t| put(&mut d.client.echo.quantity, no(t)),
    ),
    row(
        SUPPLIER,
        "echo_note",
        Kind::Switch,
        Is("false"),
        "The list shows notes; without it, orders that differ in the note alone are bought \
            one after the other. Not to be changed while orders are in doubt",
        |d, t| put(&mut d.client.echo.note, switch(t)),
    ),
    row(
        SUPPLIER,
        "tag_key",
        Kind::Text,
        Says("none: orders carry no tags"),
        "Send with every line, in its note under this key, a tag that is worked out from the order's \
            reference, and tell orders apart by it. Only where `order-router probe` has seen such a key \
            kept and shown. Not to be changed while orders are open",
        |d, t| put(&mut d.client.echo.tag, tag_key(t).map(Some)),
    ),
    row(
        SUPPLIER,
        "ok_creates",
        Kind::Switch,
        Is("false"),
        "A 200 or 202 with an id proves an order, as a 201 does",
        |d, t| put(&mut d.client.evidence.ok_and_accepted_create, switch(t)),
    ),
    row(
        SUPPLIER,
        "rate_limited_unknown",
        Kind::Switch,
        Is("false"),
        "A 429 leaves an order in doubt, for suppliers that create some all the same",
        |d, t| put(&mut d.client.evidence.rate_limited, means(t, Means::Unknown, Means::NotSent)),
    ),
    row(
        SUPPLIER,
        "balance_not_sent",
        Kind::Switch,
        Is("false"),
        "A refusal for want of balance (402) proves that nothing was bought; wrong, it buys \
            twice",
        |d, t| put(&mut d.client.evidence.balance, means(t, Means::NotSent, Means::Unknown)),
    ),
    row(
        SUPPLIER,
        "mock",
        Kind::Switch,
        Is("false"),
        "Send test orders (isMock), which cost nothing",
        |d, t| put(&mut d.client.mock, switch(t)),
    ),
    row(
        FORMAT,
        "order_envelope",
        Kind::Text,
        Says("none: the answer is the order"),
        "Key that holds the order in the answer to a POST and to a GET of one order; wrong, \
            every answer leaves an order in doubt",
        |d, t| put(&mut d.client.evidence.format.envelope, text(t).map(Some)),
    ),
    row(
        FORMAT,
        "order_id_field",
        Kind::Text,
        Is("id"),
        "Field of the id; wrong, rows and answers are not understood",
        |d, t| put(&mut d.client.evidence.format.id, text(t)),
    ),
    row(
        FORMAT,
        "order_status_field",
        Kind::Text,
        Is("status"),
        "Field of the status; wrong, rows and answers are not understood",
        |d, t| put(&mut d.client.evidence.format.status, text(t)),
    ),
    row(
        FORMAT,
        "order_created_field",
        Kind::Text,
        Is("createdAt"),
        "Field of the moment of creation; wrong, rows and answers are not understood",
        |d, t| put(&mut d.client.evidence.format.created_at, text(t)),
    ),
    row(
        FORMAT,
        "order_total_field",
        Kind::Text,
        Says("none: nobody documents one"),
        "Where an order says what it cost: keys joined by a dot; for `audit` alone, which knows the cost of \
            orders by their price guards otherwise",
        |d, t| put(&mut d.client.evidence.format.total, text(t).map(Some)),
    ),
    row(
        FORMAT,
        "order_currency_field",
        Kind::Text,
        Says("none"),
        "Where an order names the currency of that: keys joined by a dot",
        |d, t| put(&mut d.client.evidence.format.currency, text(t).map(Some)),
    ),
    row(
        FORMAT,
        "order_items_field",
        Kind::Text,
        Is("items"),
        "Field of the lines, an array of objects; wrong, rows and answers are not understood",
        |d, t| put(&mut d.client.evidence.format.items, text(t)),
    ),
    row(
        FORMAT,
        "order_quantity_field",
        Kind::Text,
        Is("quantity"),
        "Field of the quantity of a line; wrong, rows and answers are not understood",
        |d, t| put(&mut d.client.evidence.format.quantity, text(t)),
    ),
    row(
        FORMAT,
        "order_note_field",
        Kind::Text,
        Is("note"),
        "Field of the note of a line; wrong, rows and answers are not understood",
        |d, t| put(&mut d.client.evidence.format.note, text(t)),
    ),
    row(
        FORMAT,
        "order_product_field",
        Kind::List(','),
        Is("product.id,itemId"),
        "Where a line names its product: keys joined by a dot; all that are present must say \
            the same (repeatable)",
        product_field,
    ),
    row(
        FORMAT,
        "order_timestamps",
        Kind::Word(TIMESTAMPS),
        Is("rfc3339"),
        "How moments are written: with a zone, without one but in UTC, or as seconds or \
            milliseconds since 1970. Wrong by a zone, orders are taken for history or the \
            reverse",
        |d, t| put(&mut d.client.evidence.format.timestamps, word(t, &TIMESTAMP_WORDS)),
    ),
    row(
        CONNECTIONS,
        "connect_timeout",
        Kind::Duration,
        Says("5s, at most half the request timeout"),
        "How long connecting may take; an order that gets no connection was not sent",
        |d, t| put(&mut d.connect_timeout, duration(t).map(Some)),
    ),
    row(
        CONNECTIONS,
        "read_timeout",
        Kind::Duration,
        Is("30s"),
        "How long reading the list may take, for each page",
        |d, t| put(&mut d.client.read_timeout, duration(t)),
    ),
    row(
        CONNECTIONS,
        "wire_bound",
        Kind::Duration,
        Says("10s, at most the request timeout"),
        "How long unacknowledged bytes of an order may stay on the wire; long, doubts last as \
            long",
        |d, t| put(&mut d.wire_bound, duration(t).map(Some)),
    ),
    row(
        CONNECTIONS,
        "pool_idle_timeout",
        Kind::Duration,
        Is("4s"),
        "How long a connection may be idle before it is not used again; longer than the \
            supplier keeps it, orders come into doubt",
        |d, t| put(&mut d.client.pool_idle_timeout, duration(t)),
    ),
    row(
        CONNECTIONS,
        "pool_max_idle",
        Kind::Count,
        Is("1024"),
        "Most idle connections that are kept",
        |d, t| put(&mut d.client.pool_max_idle, count(t)),
    ),
    row(
        CONNECTIONS,
        "answer_bytes_max",
        Kind::Bytes,
        Is("1MiB"),
        "Longest answer to an order; a longer one is no answer and leaves it in doubt",
        |d, t| put(&mut d.client.answer_bytes_max, bytes(t)),
    ),
    row(
        CONNECTIONS,
        "page_bytes_max",
        Kind::Bytes,
        Is("16MiB"),
        "Longest page of a list; a longer one proves nothing",
        |d, t| put(&mut d.client.page_bytes_max, bytes(t)),
    ),
    row(
        CONNECTIONS,
        "root_certificates",
        Kind::File,
        Says("those of the system"),
        "Trust only the certificate authorities of this PEM file",
        |d, t| put(&mut d.root_certificates, path(t).map(Some)),
    ),
    row(
        CONNECTIONS,
        "proxy",
        Kind::Url,
        Says("none"),
        "Go through this proxy; those of other environment variables are never used, and one \
            that repeats requests buys twice. With a password in it, in the environment alone",
        |d, t| put(&mut d.client.proxy, Ok(Some(SecretString::from(t)))),
    )
    .secret(),
    row(
        CONNECTIONS,
        "allow_http",
        Kind::Switch,
        Is("false"),
        "Send the key over http to another machine: whoever listens has it",
        |d, t| put(&mut d.client.allow_http, switch(t)),
    ),
    row(
        LIMITS,
        "request_timeout",
        Kind::Duration,
        Is("30s"),
        "After how long without an answer an order counts as in doubt; too short costs \
            doubts, never money",
        |d, t| put(&mut d.config.request_timeout, duration(t)),
    ),
    row(
        LIMITS,
        "landing_bound",
        Kind::Bound,
        Is("15m"),
        "Within how long after it was sent an order takes effect and shows in the list, or \
            `never`: then a person decides. Too short is the one setting that buys twice",
        |d, t| put(&mut d.config.landing_bound, bound(t)),
    ),
    row(
        LIMITS,
        "rate",
        Kind::Rate,
        Says("none; a 429 is obeyed"),
        "Most orders sent a minute, such as 60 or 60/min",
        |d, t| put(&mut d.config.rate_per_minute, rate(t)),
    ),
    row(
        LIMITS,
        "doubts_max",
        Kind::Count,
        Is("100"),
        "Most orders in doubt; at it, nothing more is sent until some are decided",
        |d, t| put(&mut d.config.doubts_max, count(t)),
    ),
    row(
        LIMITS,
        "posts_max",
        Kind::Count,
        Says("512, or the concurrency if that is more"),
        "Most POSTs at once; each needs a socket",
        |d, t| put(&mut d.posts_max, count(t).map(Some)),
    ),
    row(
        LIMITS,
        "lane_posts_max",
        Kind::Count,
        Says("as posts_max"),
        "Most POSTs of identical orders at once; 1 is strictly one after the other",
        |d, t| put(&mut d.lane_posts_max, count(t).map(Some)),
    ),
    row(
        LIMITS,
        "tries",
        Kind::Count,
        Is("3"),
        "How often an order that proved absent is sent before it ends not placed",
        |d, t| put(&mut d.config.tries_max, count(t)),
    ),
    row(
        LIMITS,
        "good_for",
        Kind::Duration,
        Is("1h"),
        "For how long an order is worth sending; unsent by then, it ends not placed",
        |d, t| put(&mut d.config.good_for, duration(t)),
    ),
    row(
        LIMITS,
        "answer_within",
        Kind::Duration,
        Says("the request timeout and 10s"),
        "How long a caller of the library waits for the end before it is told \"in doubt, ask \
            again\"; keep the timeouts in front of it longer",
        |d, t| put(&mut d.config.answer_within, duration(t).map(Some)),
    ),
    row(
        LIMITS,
        "send_window",
        Kind::Duration,
        Is("2s"),
        "How long after it was recorded an order may begin to leave; a process that was \
            stopped for longer sends nothing",
        |d, t| put(&mut d.config.send_window, duration(t)),
    ),
    row(
        LIMITS,
        "open_max",
        Kind::Count,
        Is("1000000"),
        "Most orders that have not ended; over it, callers are refused at once",
        |d, t| put(&mut d.config.open_max, count(t)),
    ),
    row(
        LIMITS,
        "callers_max",
        Kind::Count,
        Is("1000000"),
        "Most callers that wait at once; over it, callers are refused at once",
        |d, t| put(&mut d.config.callers_max, count(t)),
    ),
    row(
        LIMITS,
        "late_sockets_max",
        Kind::Count,
        Is("1024"),
        "Most sockets that are read on after their request timeout; the oldest is dropped, \
            which costs time, not money",
        |d, t| put(&mut d.config.late_sockets_max, count(t)),
    ),
    row(
        LIMITS,
        "doubts_amount_max",
        Kind::Amount,
        Says("none"),
        "Most money in doubt, orders and payments together, as the total prices of the orders say; reached, \
            nothing more is sent until some are decided. One order in doubt without a total price on every line is too much",
        |d, t| put(&mut d.config.doubts_amount_max, amount(t).map(Some)),
    ),
    row(
        LIMITS,
        "balance_interval",
        Kind::Bound,
        Is("60s"),
        "How often the balance is read, or `never`; it decides nothing, and is for the alarms of a low balance \
            and of spending that no order explains",
        |d, t| put(&mut d.config.balance_interval, bound(t)),
    ),
    row(
        LIMITS,
        "balance_currency",
        Kind::Text,
        Says("the only one that the supplier shows"),
        "The currency in which orders are paid; with several and none named, there is no floor, and no \
            spending is held against orders",
        |d, t| put(&mut d.config.balance_rules.currency, currency(t).map(Some)),
    ),
    row(
        LIMITS,
        "balance_lasts",
        Kind::Duration,
        Is("1h"),
        "A balance that lasts for less, at the spending of `balance_window`, rings",
        |d, t| put(&mut d.config.balance_rules.lasts, duration(t)),
    ),
    row(
        LIMITS,
        "balance_window",
        Kind::Duration,
        Is("15m"),
        "The span over which spending is measured; a burst is told this much late at most, so it is shorter \
            than `balance_lasts`, and no shorter than `balance_interval`",
        |d, t| put(&mut d.config.balance_rules.window, duration(t)),
    ),
    row(
        LIMITS,
        "balance_floor",
        Kind::Amount,
        Says("none"),
        "A balance below this rings, whatever is spent",
        |d, t| put(&mut d.config.balance_rules.floor, amount(t).map(Some)),
    ),
    row(
        LIMITS,
        "balance_lag",
        Kind::Duration,
        Is("60s"),
        "How late a debit may show in the balance; too short, an alarm of spending that no order explains may \
            be false",
        |d, t| put(&mut d.config.balance_rules.lag, duration(t)),
    ),
    row(
        LIMITS,
        "order_quantity_max",
        Kind::Count,
        Says("none"),
        "Most pieces in one order, all lines together; an order of more is refused at once",
        |d, t| put(&mut d.config.order_quantity_max, count(t).map(Some)),
    ),
    row(
        LIMITS,
        "order_amount_max",
        Kind::Amount,
        Says("none"),
        "Most money for one order, as its total prices say; an order of more, or without a total price on \
            every line, is refused at once",
        |d, t| put(&mut d.config.order_amount_max, amount(t).map(Some)),
    ),
    row(
        LIMITS,
        "orders_per_minute_max",
        Kind::Count,
        Says("none"),
        "Most orders that are sent in any 60 seconds, over restarts too; what is over it waits as long as it \
            is good, and what is behind it",
        |d, t| put(&mut d.config.limits.minute.orders, count(t).map(Some)),
    ),
    row(
        LIMITS,
        "amount_per_minute_max",
        Kind::Amount,
        Says("none"),
        "Most money that is sent in any 60 seconds, likewise. Every line needs a total price",
        |d, t| put(&mut d.config.limits.minute.amount, amount(t).map(Some)),
    ),
    row(
        LIMITS,
        "orders_per_day_max",
        Kind::Count,
        Says("none"),
        "Most orders that are sent in any 24 hours, over restarts too; what is over it waits as long as it is \
            good",
        |d, t| put(&mut d.config.limits.day.orders, count(t).map(Some)),
    ),
    row(
        LIMITS,
        "amount_per_day_max",
        Kind::Amount,
        Says("none"),
        "Most money that is sent in any 24 hours, likewise. Every line needs a total price",
        |d, t| put(&mut d.config.limits.day.amount, amount(t).map(Some)),
    ),
    row(
        LIMITS,
        "resend_without_guard",
        Kind::Switch,
        Is("false"),
        "Send an order whose total price was not met again without it, at whatever it costs, instead of \
            ending it as refused. Not together with a limit of money",
        |d, t| put(&mut d.config.resend_without_guard, switch(t)),
    ),
    row(
        LIMITS,
        "list_interval",
        Kind::Duration,
        Is("500ms"),
        "Least time between two listings",
        |d, t| put(&mut d.config.list_interval, duration(t)),
    ),
    row(
        LIMITS,
        "list_margin",
        Kind::Duration,
        Is("10s"),
        "How much further back than the oldest order in doubt a listing reads. An order that the \
            supplier dates earlier than this before orders that were known when it was sent can \
            be bought twice: an alarm rings, and nothing is released, from half of it on",
        |d, t| put(&mut d.config.list_margin, duration(t)),
    ),
    row(
        LIMITS,
        "look_again",
        Kind::Duration,
        Is("2s"),
        "First pause between two looks for an order in doubt; each is twice as long as the \
            last",
        |d, t| put(&mut d.config.look_again.0, duration(t)),
    ),
    row(
        LIMITS,
        "look_again_max",
        Kind::Duration,
        Says("60s, or the first if that is longer"),
        "Longest pause between two looks for an order in doubt",
        |d, t| put(&mut d.look_again_max, duration(t).map(Some)),
    ),
    row(
        LIMITS,
        "clock_margin",
        Kind::Duration,
        Is("1h"),
        "By how much the supplier's clock may be off; beyond half of it nothing is released",
        |d, t| put(&mut d.config.clock_margin, duration(t)),
    ),
    row(
        LIMITS,
        "probe_limit",
        Kind::Duration,
        Is("60s"),
        "How long the start tries to read one list that is understood",
        |d, t| put(&mut d.config.probe_limit, duration(t)),
    ),
    row(
        LIMITS,
        "poll_interval",
        Kind::Duration,
        Is("3s"),
        "How often the status of placed orders that somebody follows is read, in bulk",
        |d, t| put(&mut d.config.poll_interval, duration(t)),
    ),
    row(
        LIMITS,
        "poll_limit",
        Kind::Duration,
        Is("10m"),
        "How long a placed order may take to end at the supplier before an alarm rings; it is followed \
            slowly from then on, and never bought again by itself",
        |d, t| put(&mut d.config.poll_limit, duration(t)),
    ),
    row(
        LIMITS,
        "pays_on",
        Kind::Word(PAYS),
        Is("create"),
        "When the supplier debits the balance: with the POST that creates an order, or with one of \
            its own that pays it. Wrong, orders are never paid, or paid twice",
        |d, t| put(&mut d.config.pays_on, word(t, &PAY_WORDS)),
    ),
    row(
        LIMITS,
        "pay_watch",
        Kind::Duration,
        Is("10s"),
        "With pays_on = pay: how old an order must be before its being unpaid says that creating it \
            did not pay it. Until one was seen so, orders are looked at before they are paid",
        |d, t| put(&mut d.config.pay_watch, duration(t)),
    ),
    row(
        LIMITS,
        "guard_distinguishes",
        Kind::Switch,
        Is("false"),
        "Orders that differ in the price guard alone are not interchangeable",
        |d, t| put(&mut d.config.guard_distinguishes, switch(t)),
    ),
    row(
        LIMITS,
        "trust_echo",
        Kind::Switch,
        Is("false"),
        "Trust the list to show items as they were sent before that was seen",
        |d, t| put(&mut d.config.trust_echo, switch(t)),
    ),
    row(
        LIMITS,
        "shards",
        Kind::Count,
        Is("1"),
        "Threads that the orders are spread over",
        |d, t| put(&mut d.config.shards, count(t)),
    ),
    row(
        LIMITS,
        "events_max",
        Kind::Count,
        Is("4096"),
        "How many events a slow reader may lag behind before it misses some",
        |d, t| put(&mut d.config.events_max, count(t)),
    ),
    row(
        START,
        "accept_new_account",
        Kind::Switch,
        Is("false"),
        "The account is new to this data directory: what is on it is history. Only while the \
            directory is empty; a supplier on this machine counts as new by itself",
        |d, t| put(&mut d.accept_new_account, switch(t)),
    )
    .on_flag_alone(),
    row(
        START,
        "adopt_unknown_orders",
        Kind::Switch,
        Is("false"),
        "Orders that the data directory does not know are somebody else's. Wrong after a \
            backup was restored: what was bought since would be bought again",
        |d, t| put(&mut d.adopt_unknown_orders, switch(t)),
    )
    .on_flag_alone(),
];

fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    value.map(|value| *place = value)
}

fn owned(value: &str) -> Result<String, String> {
    Ok(value.to_owned())
}

fn text(value: &str) -> Result<Cow<'static, str>, String> {
    match value.is_empty() || value.chars().any(char::is_control) {
        true => Err("must be text on one line, and not empty".to_owned()),
        false => Ok(Cow::Owned(value.to_owned())),
    }
}

fn path(value: &str) -> Result<PathBuf, String> {
    text(value).map(|text| PathBuf::from(text.into_owned()))
}

/// The kinds of stores that there are, and the feature that each is built with.
const SCHEMES: [(&str, &str, bool); 5] = [
    ("postgres", "postgres", cfg!(feature = "postgres")),
    ("postgresql", "postgres", cfg!(feature = "postgres")),
    ("redis", "redis", cfg!(feature = "redis")),
    ("dynamodb", "dynamodb", cfg!(feature = "dynamodb")),
    ("redb", "redb", cfg!(feature = "redb")),
];

/// A store by its URL. It may have a password in it: no error shows it.
///
/// # Errors
/// Why it is none, in words that follow on the name of what was set.
pub fn place(value: &str) -> Result<StorePlace, String> {
    let not_one = "is not a store that there is: embedded:DIR, redb:FILE, postgres://..., \
        redis://... or dynamodb://...";
    let (scheme, rest) = value.split_once(':').ok_or(not_one)?;
    if scheme == "embedded" {
        return path(rest).map(StorePlace::Directory);
    }
    if scheme == "memcached" {
        return Err("is no store: Memcached forgets, by eviction, at a restart and when a TTL is over, \
            and what it forgets would be bought again. Name it with --gate, in front of a store that \
            remembers: embedded:DIR, redb:FILE, postgres://..., redis://... or dynamodb://..."
            .to_owned());
    }
    let (_, feature, built) = SCHEMES.iter().find(|(name, ..)| *name == scheme).ok_or(not_one)?;
    match built {
        true => Ok(StorePlace::Database(SecretString::from(value))),
        false => Err(format!("is not in this build: build it with the feature `{feature}`")),
    }
}

/// It may have a password in it: no error shows it.
fn gate(value: &str) -> Result<SecretString, String> {
    shared_gate::read_url(value).map_err(|error| error.to_string())?;
    Ok(SecretString::from(value))
}

fn node(value: &str) -> Result<String, String> {
    NodeName::new(value, &StoreMark::of_place("")).map_err(|error| error.to_string())?;
    Ok(value.to_owned())
}

/// It may have a password in it: no error shows it.
fn url(value: &str) -> Result<String, String> {
    foxreload::base(value, true).map_err(|error| error.to_string())?;
    Ok(value.to_owned())
}

fn envelope(value: &str) -> Result<ListEnvelope, String> {
    match value {
        "-" => Ok(ListEnvelope::Bare),
        key => text(key).map(ListEnvelope::Key),
    }
}

fn tag_key(value: &str) -> Result<TagKey, String> {
    TagKey::new(value).map_err(|error| error.to_string())
}

fn no(value: &str) -> Result<bool, String> {
    switch(value).map(|yes| !yes)
}

fn means(value: &str, yes: Means, no: Means) -> Result<Means, String> {
    switch(value).map(|is| if is { yes } else { no })
}

fn list_query(draft: &mut Draft, value: &str) -> Result<(), String> {
    let (name, value) = pair(value)?;
    draft.client.list_query.push((name.into(), value.into()));
    Ok(())
}

fn balance_amount_field(draft: &mut Draft, value: &str) -> Result<(), String> {
    let field = text(value)?;
    let fields = &mut draft.client.balance_amount;
    // The first that is named takes the place of the default.
    if !std::mem::replace(&mut draft.balance_amount_is_set, true) {
        fields.clear();
    }
    fields.push(field);
    Ok(())
}

fn product_field(draft: &mut Draft, value: &str) -> Result<(), String> {
    let field = text(value)?;
    let fields = &mut draft.client.evidence.format.product;
    // The first that is named takes the place of the default.
    if !std::mem::replace(&mut draft.product_is_set, true) {
        fields.clear();
    }
    fields.push(field);
    Ok(())
}
